"""V written out, P and the BLUE as matrices: what follows from them for any engine that can solve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg as la

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.design.terms import Term


def _related_loads(t: Term, W: Array) -> Array:
    """K Z_a' W of each coefficient a of a term, shape (c, q, m) for W of shape (n, m)."""
    loads = np.asarray(t.Zt @ W).reshape(t.c, t.q, -1)
    return np.stack([t.multiply_relationship(loads[a]) for a in range(t.c)])


def _over_records(t: Term, Sigma: Array, KZW: Array) -> Array:
    """Z (Sigma (x) K) Z' W from `_related_loads`, for any Sigma of shape (c, c), shape (n, m)."""
    return np.asarray(t.Z @ np.tensordot(Sigma, KZW, axes=1).reshape(t.c * t.q, -1))


def marginal(design: Design, theta: Array, W: Array) -> Array:
    """V W for W of shape (n, m)."""
    out = np.array(design.residual.multiply(theta[design.slices[-1]], W))
    for t, s in zip(design.terms, design.slices, strict=False):
        out += _over_records(t, t.structure.matrix(theta[s]), _related_loads(t, W))
    return out


def marginal_derivatives(design: Design, theta: Array, W: Array) -> Iterator[Array]:
    """(dV/dtheta_i) W for each parameter i; W and each of them of shape (n, m)."""
    for t, s in zip(design.terms, design.slices, strict=False):
        KZW = _related_loads(t, W)
        for D in t.structure.derivatives(theta[s]):
            yield _over_records(t, D, KZW)
    for k in range(design.residual.structure.size):
        yield np.asarray(design.residual.multiply_derivative(theta[design.slices[-1]], k, W))


@dataclass(frozen=True)
class Explicit:
    """Matrices of a system.

    Attributes
    ----------
    design : Design
        The model.
    theta : ndarray
        Variance parameters.
    V, P : ndarray, shape (n, n)
        Var(y), and V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1.
    B : ndarray, shape (p, n)
        BLUE = B y: (X'V^-1 X)^-1 X'V^-1.
    """

    design: Design
    theta: Array
    V: Array
    P: Array
    B: Array

    @cached_property
    def C(self) -> Array:
        """(X'V^-1 X)^-1 = B V B', shape (p, p)."""
        return self.B @ self.V @ self.B.T

    @cached_property
    def Vinv(self) -> Array:
        """V^-1 = P + B'C^-1 B, shape (n, n)."""
        return self.P + self.B.T @ np.linalg.solve(self.C, self.B) if len(self.B) else self.P

    def logdet(self, reml: bool) -> float:
        """log|V|, less log|C| under REML."""
        value = float(np.linalg.slogdet(self.V)[1])
        return value - float(np.linalg.slogdet(self.C)[1]) if reml and len(self.C) else value

    def traces(self, reml: bool) -> Array:
        """tr(P dV), or tr(V^-1 dV) under ML, shape (n_theta,)."""
        A = self.P if reml else self.Vinv
        changes = marginal_derivatives(self.design, self.theta, np.eye(self.design.n))
        return np.array([float(np.vdot(A, change)) for change in changes])

    @cached_property
    def G(self) -> tuple[Array, ...]:
        """Sigma (x) K of each term, shape (c q, c q) each."""
        both = zip(self.design.terms, self.design.slices, strict=False)
        return tuple(
            np.asarray(np.kron(t.structure.matrix(self.theta[s]), t.multiply_relationship(np.eye(t.q))))
            for t, s in both
        )

    def level_blocks(self, term: int, *, reml: bool) -> Array:
        """Level-diagonal blocks of G - G Z'P Z G, or with V^-1 in the place of P, shape (q, c, c)."""
        t, G = self.design.terms[term], self.G[term]
        GZ = G @ t.Zt.toarray()
        full = G - GZ @ (self.P if reml else self.Vinv) @ GZ.T
        return np.asarray(np.einsum("aibi->iab", full.reshape(t.c, t.q, t.c, t.q)))

    def joint_covariance(self) -> Array:
        """Covariance of (b_hat, u_hat - u)."""
        G = la.block_diag(np.zeros((0, 0)), *self.G)
        ZG = np.hstack([np.zeros((self.design.n, 0)), *(t.Z.toarray() for t in self.design.terms)]) @ G
        cross = -self.B @ ZG
        return np.block([[self.C, cross], [cross.T, G - ZG.T @ self.P @ ZG]])

    def fitted_covariance(self) -> Array:
        """R - R P R: its diagonal, or its elements at `Residual.pairs`."""
        residual, theta = self.design.residual, self.theta[self.design.slices[-1]]
        R, pairs = residual.multiply(theta, np.eye(self.design.n)), residual.pairs
        M = R - R @ self.P @ R
        return np.asarray(np.diag(M) if pairs is None else M[pairs])
