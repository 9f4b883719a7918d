"""Precision matrices of the correlations of one factor of a product."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.correlated import Autoregressive
from mixedgen.covariance.structure import Structure


class Margin(ABC):
    """Covariance or correlation matrix of the levels of one column; `at` are the levels that are there, increasing."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of parameters."""

    @abstractmethod
    def matrix(self, theta: Array, at: IntArray) -> Array:
        """C, shape (m, m)."""

    @abstractmethod
    def derivative(self, theta: Array, k: int, at: IntArray) -> Array:
        """dC/dtheta_k, shape (m, m)."""

    @abstractmethod
    def pattern(self, m: int) -> tuple[IntArray, IntArray]:
        """Rows and columns of the elements of C^-1."""

    @abstractmethod
    def precision(self, theta: Array, at: IntArray) -> Array:
        """C^-1 on its pattern."""

    @abstractmethod
    def precision_derivative(self, theta: Array, k: int, at: IntArray) -> Array:
        """d(C^-1)/dtheta_k on its pattern."""

    @abstractmethod
    def logdet(self, theta: Array, at: IntArray) -> float:
        """log|C|; infinite where C is not positive definite."""

    @abstractmethod
    def logdet_derivative(self, theta: Array, k: int, at: IntArray) -> float:
        """tr(C^-1 dC/dtheta_k)."""


@dataclass(frozen=True)
class Chain(Margin):
    """`ar1`: rho to the power of the distance; levels that are apart give a chain with longer steps.

    Attributes
    ----------
    structure : Autoregressive
        The correlation matrix of all levels, with a variance that is held at one.
    """

    structure: Autoregressive

    @property
    def size(self) -> int:
        """Rho."""
        return 1

    def matrix(self, theta: Array, at: IntArray) -> Array:
        """rho^|i - j|."""
        return self.structure.correlation(theta)[np.ix_(at, at)]

    def derivative(self, theta: Array, k: int, at: IntArray) -> Array:
        """|i - j| rho^(|i - j| - 1)."""
        return np.asarray(self.structure.correlation_derivatives(theta)[k][np.ix_(at, at)])

    def pattern(self, m: int) -> tuple[IntArray, IntArray]:
        """Diagonal, below it, above it."""
        i = np.arange(m)
        return np.concatenate([i, i[1:], i[:-1]]), np.concatenate([i, i[:-1], i[1:]])

    def _steps(self, theta: Array, at: IntArray) -> tuple[Array, Array]:
        """Correlation r of neighbours, and dr/drho."""
        step = np.diff(self.structure.place[at])
        return np.asarray(theta[0] ** step, dtype=float), np.asarray(step * theta[0] ** (step - 1), dtype=float)

    @staticmethod
    def _tridiagonal(own: Array, off: Array, first: float) -> Array:
        """Values on the pattern: each step adds `own` to the diagonal of both its ends."""
        diagonal = np.full(len(own) + 1, first)
        diagonal[1:] += own
        diagonal[:-1] += own
        return np.concatenate([diagonal, off, off])

    def precision(self, theta: Array, at: IntArray) -> Array:
        """1 + r^2 / (1 - r^2) for each neighbour on the diagonal, -r / (1 - r^2) beside it."""
        r, _ = self._steps(theta, at)
        return self._tridiagonal(r**2 / (1.0 - r**2), -r / (1.0 - r**2), 1.0)

    def precision_derivative(self, theta: Array, k: int, at: IntArray) -> Array:
        """Its derivative by rho."""
        r, dr = self._steps(theta, at)
        square = (1.0 - r**2) ** 2
        return self._tridiagonal(2.0 * r * dr / square, -(1.0 + r**2) * dr / square, 0.0)

    def logdet(self, theta: Array, at: IntArray) -> float:
        """Sum of log(1 - r^2)."""
        r, _ = self._steps(theta, at)
        return float(np.log1p(-(r**2)).sum()) if np.all(np.abs(r) < 1.0) else np.inf

    def logdet_derivative(self, theta: Array, k: int, at: IntArray) -> float:
        """Its derivative by rho."""
        r, dr = self._steps(theta, at)
        return float(np.sum(-2.0 * r * dr / (1.0 - r**2)))


@dataclass(frozen=True)
class FullMargin(Margin):
    """Any structure over few levels, its inverse a full matrix.

    Attributes
    ----------
    structure : Structure
        The matrix of all levels.
    held : sequence of int
        Parameters, variances, that are held at one.
    """

    structure: Structure
    held: tuple[int, ...] = ()

    @cached_property
    def _left(self) -> IntArray:
        """Parameters that are not held."""
        return np.setdiff1d(np.arange(self.structure.size), self.held)

    @property
    def size(self) -> int:
        """Parameters that are not held."""
        return len(self._left)

    def _all(self, theta: Array) -> Array:
        out = np.ones(self.structure.size)
        out[self._left] = theta
        return out

    def matrix(self, theta: Array, at: IntArray) -> Array:
        """C of the levels."""
        return self.structure.matrix(self._all(theta))[np.ix_(at, at)]

    def derivative(self, theta: Array, k: int, at: IntArray) -> Array:
        """dC/dtheta_k at the levels."""
        return np.asarray(self.structure.derivatives(self._all(theta))[self._left[k]][np.ix_(at, at)])

    def pattern(self, m: int) -> tuple[IntArray, IntArray]:
        """All elements."""
        return np.repeat(np.arange(m), m), np.tile(np.arange(m), m)

    def precision(self, theta: Array, at: IntArray) -> Array:
        """C^-1."""
        return np.asarray(np.linalg.inv(self.matrix(theta, at))).ravel()

    def precision_derivative(self, theta: Array, k: int, at: IntArray) -> Array:
        """-C^-1 dC C^-1."""
        inverse = np.linalg.inv(self.matrix(theta, at))
        return np.asarray(-inverse @ self.derivative(theta, k, at) @ inverse).ravel()

    def logdet(self, theta: Array, at: IntArray) -> float:
        """log|C|."""
        sign, value = np.linalg.slogdet(self.matrix(theta, at))
        return float(value) if sign > 0 else np.inf

    def logdet_derivative(self, theta: Array, k: int, at: IntArray) -> float:
        """tr(C^-1 dC)."""
        return float(np.trace(np.linalg.solve(self.matrix(theta, at), self.derivative(theta, k, at))))


def full_margin(structure: Structure) -> Margin:
    """Correlations of any structure with one variance, which is held at one."""
    return FullMargin(structure, structure.variances)
