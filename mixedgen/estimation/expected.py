"""Expected information of the variance parameters, exact where V is linear in them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.engines.system import System

WORKSPACE = 2**28  # bytes of one block of records by right-hand sides


def is_linear(design: Design) -> bool:
    """Whether V is linear in theta: its parameters are elements of covariance matrices, none of them a correlation."""
    return sum(len(b) for b in design.blocks) == design.slices[-1].stop


def has_exact_information(design: Design) -> bool:
    """Whether V is linear in theta, all of it and not more than a known part, with one residual variance."""
    structures = [*(t.structure for t in design.terms), design.residual.structure]
    return design.residual.homogeneous and is_linear(design) and not any(s.restricted for s in structures)


def n_effects(design: Design) -> int:
    """Number of random effects."""
    return sum(t.q * t.c for t in design.terms)


def _level_precision(system: System, reml: bool) -> Array:
    """Z'PZ, or Z'V^-1 Z under ML, shape (Q, Q), in blocks of columns that fit the workspace.

    Notes
    -----
    V^-1 = P + B (X'V^-1 X) B' with B = V^-1 X (X'V^-1 X)^-1.
    """
    d = system.design
    Z = sp.hstack([t.Z for t in d.terms], format="csc") if d.terms else sp.csc_array((d.n, 0))
    M = np.empty((Z.shape[1],) * 2)
    Zt = Z.T.tocsr()
    width = max(1, min(256, WORKSPACE // (8 * d.n)))
    for start in range(0, Z.shape[1], width):
        M[:, start : start + width] = Zt @ system.project(Z[:, start : start + width].toarray())
    if not reml and d.fixed.p:
        ZB: Array = np.asarray(Zt @ system.blue_weights(np.eye(d.fixed.p)))
        M += ZB @ np.linalg.solve(system.fixed_covariance(), ZB.T)
    return M


def expected_information(system: System, reml: bool) -> tuple[Array, Array]:
    """Expected information tr(P V_i P V_j) / 2 and traces tr(P V_i), V^-1 for P under ML; one residual variance.

    Returns
    -------
    information : ndarray, shape (n_theta, n_theta)
        For V linear in theta.
    traces : ndarray, shape (n_theta,)
        Exact on the boundary too.

    Notes
    -----
    From M = Z'PZ: tr(P V_i P V_j) = tr(D_i K M D_j K M'). The rows of the residual variance follow from
    sum_j theta_j V_j = V: sum_j theta_j tr(P V_i P V_j) = tr(P V_i), sum_j theta_j tr(P V_j) = n - p.
    """
    d, theta = system.design, system.theta
    M = _level_precision(system, reml)
    ends = np.cumsum([0, *(t.q * t.c for t in d.terms)])
    for t, a in zip(d.terms, ends, strict=False):
        for r in range(t.c):
            rows = slice(a + r * t.q, a + (r + 1) * t.q)
            M[rows] = t.multiply_relationship(M[rows])
    size, last = len(theta), len(theta) - 1
    E, traces = np.zeros((size, size)), np.zeros(size)
    derivatives = [t.structure.derivatives(theta[s]) for t, s in zip(d.terms, d.slices, strict=False)]
    for k, t in enumerate(d.terms):
        own = M[ends[k] : ends[k + 1], ends[k] : ends[k + 1]].reshape(t.c, t.q, t.c, t.q)
        traces[d.slices[k]] = np.einsum("iab,braR,rR->i", derivatives[k], own, np.eye(t.q), optimize=True)
        for m in range(k + 1):
            o = d.terms[m]
            left = M[ends[k] : ends[k + 1], ends[m] : ends[m + 1]].reshape(t.c, t.q, o.c, o.q)
            right = M[ends[m] : ends[m + 1], ends[k] : ends[k + 1]].reshape(o.c, o.q, t.c, t.q)
            cross = np.tensordot(left, right, axes=([1, 3], [3, 1]))  # coefficients b x y a of levels summed out
            block = 0.5 * np.einsum("iab,jxy,bxya->ij", derivatives[k], derivatives[m], cross, optimize=True)
            E[d.slices[k], d.slices[m]], E[d.slices[m], d.slices[k]] = block, block.T
    freedom = d.n - (d.fixed.p if reml else 0)
    traces[last] = (freedom - theta[:last] @ traces[:last]) / theta[last]
    E[last, :last] = E[:last, last] = (0.5 * traces[:last] - E[:last, :last] @ theta[:last]) / theta[last]
    E[last, last] = (0.5 * traces[last] - E[last, :last] @ theta[:last]) / theta[last]
    return E, traces
