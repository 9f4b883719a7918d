"""The contract of an engine: equations analysed once, solved at any theta."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.design.terms import Term

PRODUCT_ORDER = 1024
# Factor and inverse on the pattern beside the factor alone; share of a matrix product's speed that fronts reach; and
# the time that an element of the factor costs in assembly: measured on pedigrees of 10^5 and 10^6 animals.
EVALUATION_FLOPS, EFFICIENCY, ELEMENT_SECONDS = 3.0, 0.9, 8e-8


@dataclass(frozen=True)
class Solution:
    """Solutions of the mixed-model equations for one data vector, or for several side by side.

    Attributes
    ----------
    b : ndarray, shape (p,) or (p, m)
        BLUE.
    u : tuple of ndarray, shape (q, c) or (q, c, m)
        BLUP of each term, levels by coefficients.
    e : ndarray, shape (n,) or (n, m)
        Residuals y - Xb - Zu.
    """

    b: Array
    u: tuple[Array, ...]
    e: Array


@dataclass(frozen=True)
class Forecast:
    """What one evaluation will cost.

    Attributes
    ----------
    order : int
        Number of equations.
    nonzeros : int
        Elements of the factor.
    flops : float
        Floating-point operations of one factorisation.
    bytes : int
        Peak memory of one evaluation.
    """

    order: int
    nonzeros: int
    flops: float
    bytes: int

    @cached_property
    def seconds(self) -> float:
        """Time of one step of the optimiser, from the speed of this machine's BLAS, which is measured once.

        Notes
        -----
        A factorisation and an inverse on its pattern take some three times the flops of the first, at the speed of
        matrix products where fronts are large; each element of the factor costs a fixed time besides.
        """
        return EVALUATION_FLOPS * self.flops / (EFFICIENCY * product_speed()) + ELEMENT_SECONDS * self.nonzeros


@cache
def product_speed() -> float:
    """Flops a second of a dense matrix product of some size, the best of three."""
    A = np.ones((PRODUCT_ORDER, PRODUCT_ORDER))
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        A @ A
        seconds.append(time.perf_counter() - start)
    return 2.0 * PRODUCT_ORDER**3 / min(seconds[1:])


class System(ABC):
    """Mixed-model equations of a design at one theta.

    `solve` is the primitive; everything else is what only the engine can do at its price.
    """

    design: Design
    theta: Array

    @property
    def theta_R(self) -> Array:
        """Parameters of the residual structure, the last of theta."""
        return self.theta[self.design.slices[-1]]

    @cached_property
    def Sigma(self) -> tuple[Array, ...]:
        """Covariance matrix of the effects of each term at theta, shape (c, c) each."""
        both = zip(self.design.terms, self.design.slices, strict=False)
        return tuple(t.structure.matrix(self.theta[s]) for t, s in both)

    @abstractmethod
    def solve(self, Y: Array) -> Solution:
        """BLUE, BLUP and residuals if the data were Y, shape (n,) or (n, m)."""

    @cached_property
    @abstractmethod
    def solution(self) -> Solution:
        """Solution for the data of the design."""

    @cached_property
    @abstractmethod
    def quadratic(self) -> float:
        """y'Py, free of cancellation."""

    @abstractmethod
    def logdet(self, reml: bool) -> float:
        """log|V|, and under REML log|V| + log|X'V^-1 X|."""

    @abstractmethod
    def traces(self, reml: bool, *, spend: bool = False) -> Array:
        """tr(P dV/dtheta_i), or tr(V^-1 dV/dtheta_i) under ML, shape (n_theta,).

        With `spend` the system may use up its factor for it; it cannot solve afterwards.
        """

    @abstractmethod
    def prediction_error(self, term: int) -> Array:
        """Var(u_hat - u) of each level of a term, shape (q, c, c)."""

    @abstractmethod
    def conditional_variance(self, term: int) -> Array:
        """Var(u | y, b) of each level of a term, shape (q, c, c): lme4's postVar."""

    @abstractmethod
    def fixed_covariance(self) -> Array:
        """Covariance matrix of the BLUE, shape (p, p)."""

    @abstractmethod
    def fixed_variances(self) -> Array:
        """Its diagonal, shape (p,)."""

    @abstractmethod
    def blue_weights(self, L: Array) -> Array:
        """V^-1 X (X'V^-1 X)^-1 L' for L of shape (m, p): weights of the records in the BLUE of L b, shape (n, m)."""

    @abstractmethod
    def joint_covariance(self) -> Array:
        """Covariance of (b_hat, u_hat - u), u term by term and coefficient-major, shape (p + sum c q, same)."""

    @abstractmethod
    def fitted_covariance(self) -> Array:
        """Covariance of the errors of the fitted values, Var(X b_hat + Z u_hat - X b - Z u), where R may be non-zero.

        Its diagonal, shape (n,), or its elements at `Residual.pairs`. It is R - R P R = W C^-1 W'.
        """

    def project(self, Y: Array) -> Array:
        """P Y, shape of Y: R^-1 times the residuals if the data were Y."""
        return self.design.residual.solve(self.theta_R, self.solve(Y).e)

    @cached_property
    def Py(self) -> Array:
        """P y, shape (n,)."""
        return self.design.residual.solve(self.theta_R, self.solution.e)


class Engine(ABC):
    """A way to solve the equations: analyses a design once, then evaluates it at any theta."""

    design: Design
    y0: Array  # least-squares residuals of y

    @abstractmethod
    def __init__(self, design: Design) -> None:
        """Analyse the design: everything that does not depend on theta."""

    @cached_property
    def spread(self) -> float:
        """Least-squares residual variance of y."""
        return float(self.y0 @ self.y0) / (self.design.n - self.design.fixed.p)

    @cached_property
    def residual_spread(self) -> float:
        """Weighted least-squares residual variance of y: of a record of weight one."""
        w = self.design.residual.inverse_weights
        return self.spread if w is None else float(self.y0 @ (self.y0 / w)) / (self.design.n - self.design.fixed.p)

    def typical_covariance(self, term: Term) -> Array:
        """Covariance matrix at which the effects of a term would make up all of `spread`.

        Notes
        -----
        spread (z'z / n)^-1 with z the weights of the c effects, each over the records that it touches.
        """
        # beside the records that an effect touches, and on the scale of y there (traits differ in both)
        active = (term.values != 0).astype(float)
        counts = np.maximum(active.sum(axis=0), 1.0)
        records = slice(None) if term.record is None else term.record
        scale = np.sqrt(np.maximum((self.y0[records] ** 2) @ active / counts, 1e-12 * (self.spread or 1.0)))
        size = term.values.T @ term.values / np.sqrt(np.outer(counts, counts)) / np.outer(scale, scale)
        if term.relationship is not None:
            size = size * float(np.mean(term.relationship.diagonal))
        d = np.sqrt(np.where(np.diag(size) > 0, np.diag(size), 1.0))
        values, vectors = np.linalg.eigh(size / np.outer(d, d))
        usable = np.maximum(values, 1e-12)
        return ((vectors / usable) @ vectors.T) / np.outer(d, d)

    @cached_property
    def typical_residual(self) -> Array:
        """Diagonal matrix of the (weighted) mean squares of y at each position of R, shape (dim, dim)."""
        residual, p = self.design.residual, self.design.fixed.p
        w = residual.inverse_weights
        square = self.y0**2 if w is None else self.y0**2 / w
        at = np.minimum(residual.position, residual.structure.dim - 1)
        counts = np.bincount(at, minlength=residual.structure.dim)
        mean = np.bincount(at, weights=square, minlength=residual.structure.dim) / np.maximum(counts, 1)
        mean = mean * self.design.n / (self.design.n - p)
        return np.diag(np.maximum(mean, 1e-6 * (self.residual_spread or 1.0)))

    def anew(self, design: Design) -> Engine:
        """The same kind of engine, analysed for another design."""
        return type(self)(design)

    def moments(self) -> tuple[list[Array], float] | None:
        """Cheap estimates of Sigma of every term, not always positive definite, and of the residual variance."""
        return None

    @abstractmethod
    def forecast(self) -> Forecast:
        """Cost of one evaluation."""

    @abstractmethod
    def at(self, theta: Array) -> System:
        """Equations at theta."""
