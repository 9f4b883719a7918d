"""The reference engine: V written out, inverted, and every formula as the textbook prints it. O(n^3)."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.engines.forecast import EVALUATION_FLOPS, Forecast
from mixedgen.engines.system import Engine, Solution, System
from mixedgen.errors import EngineError


class DenseEngine(Engine):
    """V = sum_k Z_k (Sigma_k (x) K_k) Z_k' + R as an n x n matrix."""

    name = "dense"

    def __init__(self, design: Design) -> None:
        super().__init__(design)
        X = design.fixed.X
        # orthonormal columns: X'V^-1 X then has the condition of V, not that of X squared
        self.X, self.R = np.linalg.qr(X.toarray() if sp.issparse(X) else np.asarray(X))
        self.Z = [t.Z.toarray() for t in design.terms]
        self.K = [t.multiply_relationship(np.eye(t.q)) for t in design.terms]
        # P annihilates X, so the least-squares residuals serve as data; a large mean of y then costs no digits
        self.b0 = self.X.T @ design.y
        self.y0 = design.y - self.X @ self.b0

    @classmethod
    def outlook(cls, design: Design) -> Forecast:
        """Cost of one evaluation: V, its factor, inverse and P, and the products that make V and its derivatives."""
        n, widths = design.n, [t.c * t.q for t in design.terms]
        products = [n * m * (m + n) * (1.0 + t.structure.size) for t, m in zip(design.terms, widths, strict=True)]
        elements = 6 * n * n + sum(2 * m * m + 2 * n * m for m in widths)
        flops = (4.0 * n**3 + sum(products)) / EVALUATION_FLOPS
        return Forecast(order=n, nonzeros=n * n, flops=flops, bytes=8 * elements)

    def forecast(self) -> Forecast:
        """Cost of one evaluation."""
        return self.outlook(self.design)

    def at(self, theta: Array) -> DenseSystem:
        """Equations at theta."""
        return DenseSystem(self, np.asarray(theta, dtype=float))


class DenseSystem(System):
    """V, V^-1 and P at one theta."""

    def __init__(self, engine: DenseEngine, theta: Array) -> None:
        super().__init__(engine.design, theta)
        self.engine = engine
        self.R = self.design.residual.multiply(self.theta_R, np.eye(self.design.n))
        self.V = self.R + sum(
            (Z @ np.kron(S, K) @ Z.T for Z, S, K in zip(engine.Z, self.Sigma, engine.K, strict=True)),
            np.zeros_like(self.R),
        )
        try:
            self.cholesky = la.cholesky(self.V, lower=True)
        except la.LinAlgError as err:
            raise EngineError("V is not positive definite at these variances.") from err
        self.Vinv = la.cho_solve((self.cholesky, True), np.eye(self.design.n))
        X = engine.X
        self.XtVinvX = X.T @ self.Vinv @ X
        self.P = self.Vinv - self.Vinv @ X @ np.linalg.solve(self.XtVinvX, X.T @ self.Vinv) if X.shape[1] else self.Vinv

    def solve(self, Y: Array) -> Solution:
        """BLUE, BLUP and residuals if the data were Y, shape (n,) or (n, m)."""
        X = self.engine.X
        b = np.linalg.solve(self.XtVinvX, X.T @ (self.Vinv @ Y)) if X.shape[1] else np.zeros((0, *Y.shape[1:]))
        PY = self.P @ Y
        u = []
        for t, Z, S, K in zip(self.design.terms, self.engine.Z, self.Sigma, self.engine.K, strict=True):
            flat = np.kron(S, K) @ (Z.T @ PY)
            u.append(np.moveaxis(flat.reshape(t.c, t.q, *Y.shape[1:]), 0, 1))
        return Solution(self._to_b(b), tuple(u), self.R @ PY)

    def _to_b(self, b: Array) -> Array:
        """Coefficients of the design's X from those of its orthonormal columns."""
        return la.solve_triangular(self.engine.R, b) if len(b) else b

    @cached_property
    def solution(self) -> Solution:
        """Solution for the data of the design."""
        s = self.solve(self.engine.y0)
        return Solution(s.b + self._to_b(self.engine.b0), s.u, s.e)

    @cached_property
    def quadratic(self) -> float:
        """Y'Py."""
        return float(self.engine.y0 @ self.P @ self.engine.y0)

    def logdet(self, reml: bool) -> float:
        """log|V|, and under REML log|V| + log|X'V^-1 X|."""
        value = 2.0 * float(np.log(np.diag(self.cholesky)).sum())
        if not reml:
            return value
        jacobian = 2.0 * float(np.log(np.abs(np.diag(self.engine.R))).sum())
        return value + float(np.linalg.slogdet(self.XtVinvX)[1]) + jacobian

    def derivative(self, i: int) -> Array:
        """dV/dtheta_i, shape (n, n)."""
        d = self.design
        for k, t in enumerate(d.terms):
            s = d.slices[k]
            if s.start <= i < s.stop:
                D = t.structure.derivatives(self.theta[s])[i - s.start]
                return self.engine.Z[k] @ np.kron(D, self.engine.K[k]) @ self.engine.Z[k].T
        return d.residual.multiply_derivative(self.theta_R, i - d.slices[-1].start, np.eye(d.n))

    def traces(self, reml: bool, *, spend: bool = False) -> Array:
        """tr(P dV/dtheta_i), or tr(V^-1 dV/dtheta_i) under ML."""
        A = self.P if reml else self.Vinv
        return np.array([np.sum(A * self.derivative(i)) for i in range(len(self.theta))])

    def _level_blocks(self, term: int, A: Array) -> Array:
        """Level-diagonal blocks of Sigma (x) K - (Sigma (x) K) Z' A Z (Sigma (x) K)."""
        t, Z = self.design.terms[term], self.engine.Z[term]
        G = np.kron(self.Sigma[term], self.engine.K[term])
        full = (G - G @ Z.T @ A @ Z @ G).reshape(t.c, t.q, t.c, t.q)
        return np.einsum("aibi->iab", full)

    def prediction_error(self, term: int) -> Array:
        """Var(u_hat - u) of each level of a term, shape (q, c, c)."""
        return self._level_blocks(term, self.P)

    def conditional_variance(self, term: int) -> Array:
        """Var(u | y, b) of each level of a term, shape (q, c, c)."""
        return self._level_blocks(term, self.Vinv)

    def fixed_covariance(self) -> Array:
        """Covariance matrix of the BLUE, shape (p, p)."""
        return self._to_b(self._to_b(np.linalg.inv(self.XtVinvX)).T)

    def fixed_variances(self) -> Array:
        """Its diagonal, shape (p,)."""
        return np.diag(self.fixed_covariance())

    def blue_weights(self, L: Array) -> Array:
        """V^-1 X (X'V^-1 X)^-1 L', shape (n, m)."""
        inner = la.solve_triangular(self.engine.R, np.asarray(L).T, trans="T")
        return self.Vinv @ self.engine.X @ np.linalg.solve(self.XtVinvX, inner)

    def fitted_covariance(self) -> Array:
        """R - R P R: its diagonal, or its elements at `Residual.pairs`."""
        M, pairs = self.R - self.R @ self.P @ self.R, self.design.residual.pairs
        return np.diag(M) if pairs is None else M[pairs]

    def joint_covariance(self) -> Array:
        """Covariance of (b_hat, u_hat - u)."""
        G = la.block_diag(*(np.kron(S, K) for S, K in zip(self.Sigma, self.engine.K, strict=True)))
        Z = np.hstack(self.engine.Z)
        cross = -self._to_b(np.linalg.solve(self.XtVinvX, self.engine.X.T @ self.Vinv @ Z @ G))
        return np.block([[self.fixed_covariance(), cross], [cross.T, G - G @ Z.T @ self.P @ Z @ G]])
