"""Independent residuals: one variance, classes of variances, variances log-linear in a covariate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import Structure
from mixedgen.covariance.variances import Diagonal
from mixedgen.errors import examples
from mixedgen.residual.residual import Residual, columns, some


class DiagonalResidual(Residual):
    """Independent residuals."""

    @abstractmethod
    def _derivative(self, theta: Array, k: int) -> Array:
        """Derivative of `variances`, shape (n,)."""

    def solve(self, theta: Array, V: Array) -> Array:
        """R^-1 V, shape of V."""
        return V / columns(self.variances(theta), V)

    def multiply(self, theta: Array, V: Array) -> Array:
        """R V, shape of V."""
        return V * columns(self.variances(theta), V)

    def multiply_derivative(self, theta: Array, k: int, V: Array) -> Array:
        """(dR/dtheta_k) V, shape of V."""
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
    def words(self) -> str:
        """One variance, or one for each class."""
        if self.structure.scalar:
            return "independent, one variance"
        return f"independent, a variance for each of {self.structure.dim} classes ({examples(self.classes)})"

    @property
    def linear(self) -> Structure:
        """A variance for each class."""
        return Diagonal(self.structure.dim)

    def over(self, structure: Structure) -> ClassResidual:
        """R of other variances of the same classes."""
        return replace(self, structure=structure)

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
        return replace(self, position=self.position[rows], inverse_weights=some(self.inverse_weights, rows))


@dataclass(frozen=True)
class LogLinearResidual(DiagonalResidual):
    """Var(e_i) = exp(level + slope x_i) / w_i."""

    structure: Structure
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None
    x: Array
    covariates: tuple[str, ...] = ()
    restrictable = False

    def at_points(self, theta: Array, covariates: Mapping[str, Array], n: int) -> tuple[Array, Array]:
        """Variance at values of the covariate, and its derivatives."""
        (x,) = (covariates[name] for name in self.covariates)
        value = np.exp(theta[0] + theta[1] * x)
        return value, value[:, None] * np.column_stack([np.ones(n), x])

    def variances(self, theta: Array) -> Array:
        """Diagonal of R."""
        return self._weighted(np.exp(theta[0] + theta[1] * self.x))

    def _derivative(self, theta: Array, k: int) -> Array:
        return self.variances(theta) * (1.0 if k == 0 else self.x)

    def select(self, rows: IntArray) -> LogLinearResidual:
        """R of some records."""
        weights = some(self.inverse_weights, rows)
        return replace(self, position=self.position[rows], inverse_weights=weights, x=self.x[rows])
