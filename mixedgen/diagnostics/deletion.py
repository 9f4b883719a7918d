"""Estimates without some records, by the equations of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp

from mixedgen.arrays import Array
from mixedgen.diagnostics.cases import Cases
from mixedgen.estimation.fitted import Fitted

LARGEST_GROUP = 256  # right-hand sides solved at once; without a larger group the equations are set up anew

BLOCK_ELEMENTS = 2**27  # elements of one block of records by right-hand sides

UNDETERMINED = 1e-9  # share of the precision of a record that is left for it where the fixed effects fit it alone


@dataclass(frozen=True)
class Deletion:
    """Estimates without one case.

    Attributes
    ----------
    dfbeta, se : ndarray, shape (p,)
        b_hat less the estimate without the case, and the standard errors of that.
    cooks_distance, covratio, covtrace : float
        See `influence`.
    theta : ndarray, shape (n_theta,), or None
        Variance parameters, where they were estimated anew.
    converged : bool
        Whether that fit did.
    """

    dfbeta: Array
    se: Array
    cooks_distance: float
    covratio: float
    covtrace: float
    theta: Array | None = None
    converged: bool = True


class Precision:
    """What the diagnostics of a fit share.

    Attributes
    ----------
    C, weights : ndarray, shapes (p, p) and (n, p)
        (X'V^-1 X)^-1 and V^-1 X C.
    P, RP, RPR : ndarray, shape (n,)
        Diagonals of P, R P and R P R.
    """

    def __init__(self, fitted: Fitted) -> None:
        self.C = fitted.system.fixed_covariance()
        self.weights = fitted.system.blue_weights(np.eye(len(self.C)))
        self.P, self.RP, self.RPR = _diagonals(fitted)


def _diagonals(fitted: Fitted) -> tuple[Array, Array, Array]:
    """Diagonals of P, R P and R P R from M = R - R P R, which is needed only where R^-1 is not zero."""
    residual, theta = fitted.design.residual, fitted.theta_R
    M, precision, r = fitted.system.fitted_covariance(), residual.precision(theta), residual.variances(theta)
    if residual.pairs is None:
        return precision - precision**2 * M, 1.0 - precision * M, r - M
    shape = (len(r), len(r))
    Rinv, left = (sp.csr_array((v, residual.pairs), shape=shape) for v in (precision, M))
    weighted = Rinv @ left
    return (Rinv - weighted @ Rinv).diagonal(), 1.0 - weighted.diagonal(), r - left.diagonal()


def batches(cases: Cases, which: Sequence[int], width: int) -> Iterator[list[int]]:
    """Cases whose records are solved together."""
    some: list[int] = []
    size = 0
    for k in which:
        if some and size + len(cases.members[k]) > width:
            yield some
            some, size = [], 0
        some.append(k)
        size += len(cases.members[k])
    if some:
        yield some


def case_blocks(fitted: Fitted, cases: Cases, some: list[int]) -> Iterator[tuple[int, Array]]:
    """P of the records of each of some cases, from right-hand sides that are one in a record."""
    records = np.concatenate([cases.members[k] for k in some])
    E = np.zeros((fitted.design.n, len(records)))
    E[records, np.arange(len(records))] = 1.0
    P = fitted.system.project(E)
    stop = 0
    for k in some:
        start, stop = stop, stop + len(cases.members[k])
        block = P[cases.members[k], start:stop]
        yield k, 0.5 * (block + block.T)


def deletion(P: Array, W: Array, Py: Array, C: Array, factor: Array) -> Deletion | str:
    """Estimates without some records at the same variances, or why there are none.

    Parameters
    ----------
    P : ndarray, shape (m, m)
        P of the records.
    W : ndarray, shape (m, p)
        Their rows of V^-1 X C.
    Py : ndarray, shape (m,)
        Their elements of P y.
    C, factor : ndarray, shape (p, p)
        (X'V^-1 X)^-1 and its lower Cholesky factor.

    Notes
    -----
    With Q = V^-1_II = P + W C^-1 W' = L L' and A = L^-1 P L^-T: COVRATIO = 1 / det A, COVTRACE = tr A^-1 - m, and a
    vanishing eigenvalue of A is a direction in which the fixed effects fit the records alone.
    """
    half = la.solve_triangular(factor, W.T, lower=True)  # C^-1/2 W'
    L = la.cholesky(P + half.T @ half, lower=True)
    A = la.solve_triangular(L, la.solve_triangular(L, P, lower=True).T, lower=True)
    values, vectors = np.linalg.eigh(0.5 * (A + A.T))
    if values[0] < UNDETERMINED:
        return "the other records do not determine the fixed effects"
    root = la.solve_triangular(L, vectors, lower=True, trans="T") / np.sqrt(values)  # root root' = P_II^-1
    g = root @ (root.T @ Py)
    variances = np.diag(C) + np.sum((W.T @ root) ** 2, axis=1)
    step = half @ g
    return Deletion(
        dfbeta=W.T @ g,
        se=np.sqrt(variances),
        cooks_distance=float(step @ step) / len(C),
        covratio=float(np.exp(-np.sum(np.log(values)))),
        covtrace=float(np.sum(1.0 / values - 1.0)),
    )
