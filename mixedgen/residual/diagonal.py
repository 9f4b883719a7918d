"""Independent residuals: one variance, classes of variances, variances log-linear in a covariate."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import Structure
from mixedgen.residual.residual import Residual, columns, take


class DiagonalResidual(Residual):
    """Independent residuals."""

    @abstractmethod
    def _derivative(self, theta: Array, k: int) -> Array:
        """Derivative of `variances`, shape (n,)."""

    def solve(self, theta: Array, V: Array) -> Array:
        """R^-1 V."""
        return V / columns(self.variances(theta), V)

    def multiply(self, theta: Array, V: Array) -> Array:
        """R V."""
        return V * columns(self.variances(theta), V)

    def multiply_derivative(self, theta: Array, k: int, V: Array) -> Array:
        """(dR/dtheta_k) V."""
        return V * columns(self._derivative(theta, k), V)

    def logdet(self, theta: Array) -> float:
        """log|R|."""
        return float(np.log(self.variances(theta)).sum())

    def logdet_derivative(self, theta: Array, k: int) -> float:
        """tr(R^-1 dR/dtheta_k)."""
        return float(np.sum(self._derivative(theta, k) / self.variances(theta)))

    def precision(self, theta: Array) -> Array:
        """Diagonal of R^-1."""
        return 1.0 / self.variances(theta)

    def precision_derivative(self, theta: Array, k: int) -> Array:
        """Diagonal of d(R^-1)/dtheta_k."""
        return -self._derivative(theta, k) / self.variances(theta) ** 2

    def draw(self, theta: Array, rng: np.random.Generator, n: int) -> Array:
        """Draws from N(0, R)."""
        return np.sqrt(self.variances(theta))[:, None] * rng.standard_normal((len(self.position), n))

    def _weighted(self, values: Array) -> Array:
        return values if self.inverse_weights is None else values * self.inverse_weights


@dataclass(frozen=True)
class ClassResidual(DiagonalResidual):
    """A variance for each class of records, divided by their weights."""

    structure: Structure
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None

    @property
    def homogeneous(self) -> bool:
        """Whether there is one class, with a variance that is not fixed."""
        return self.structure.dim == self.structure.size == 1

    @property
    def multiplicity(self) -> tuple[float, ...]:
        """Records of each class."""
        return tuple(np.bincount(self.position, minlength=self.structure.dim).astype(float))

    def variances(self, theta: Array) -> Array:
        """Diagonal of R."""
        return self._weighted(np.diag(self.structure.matrix(theta))[self.position])

    def _derivative(self, theta: Array, k: int) -> Array:
        return self._weighted(np.diag(self.structure.derivatives(theta)[k])[self.position])

    def select(self, rows: IntArray) -> ClassResidual:
        """R of some records."""
        return replace(self, position=self.position[rows], inverse_weights=take(self.inverse_weights, rows))


@dataclass(frozen=True)
class LogLinearResidual(DiagonalResidual):
    """Var(e_i) = exp(level + slope x_i) / w_i."""

    structure: Structure
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None
    x: Array

    def variances(self, theta: Array) -> Array:
        """Diagonal of R."""
        return self._weighted(np.exp(theta[0] + theta[1] * self.x))

    def _derivative(self, theta: Array, k: int) -> Array:
        return self.variances(theta) * (1.0 if k == 0 else self.x)

    def select(self, rows: IntArray) -> LogLinearResidual:
        """R of some records."""
        weights = take(self.inverse_weights, rows)
        return replace(self, position=self.position[rows], inverse_weights=weights, x=self.x[rows])
