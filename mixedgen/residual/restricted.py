"""A residual some of whose parameters are fixed, equal or bounded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.restricted import Restricted
from mixedgen.residual.residual import Residual


@dataclass(frozen=True)
class RestrictedResidual(Residual):
    """R of a residual that reads its own parameters, as a function of those that are left.

    Attributes
    ----------
    base : Residual
        R as a function of all its parameters.
    """

    base: Residual
    structure: Restricted

    @property
    def words(self) -> str:
        """What the base is."""
        return self.base.words

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the positions of the base."""
        return self.base.classes

    @property
    def position(self) -> IntArray:  # type: ignore[override]
        """Position of each record in the base."""
        return self.base.position

    @property
    def inverse_weights(self) -> Array | None:  # type: ignore[override]
        """1 / w of the base."""
        return self.base.inverse_weights

    @property
    def pairs(self) -> tuple[IntArray, IntArray] | None:
        """Records of each element of R^-1: a restriction leaves the pattern."""
        return self.base.pairs

    @property
    def multiplicity(self) -> tuple[float, ...]:
        """Number of records behind each block that is left."""
        return tuple(float(len(self.position)) * m for m in self.structure.multiplicity)

    def on_records_of(self, other: Residual) -> RestrictedResidual:
        """R of the records of another residual like the base, with these parameters."""
        return replace(self, base=other)

    def _members(self, k: int) -> list[int]:
        """Parameters of the base that parameter k stands for."""
        return [int(i) for i in np.flatnonzero(self.structure.owner == k)]

    def variances(self, theta: Array) -> Array:
        """Diagonal of R."""
        return self.base.variances(self.structure.full(theta))

    def solve(self, theta: Array, V: Array) -> Array:
        """R^-1 V, shape of V."""
        return self.base.solve(self.structure.full(theta), V)

    def multiply(self, theta: Array, V: Array) -> Array:
        """R V, shape of V."""
        return self.base.multiply(self.structure.full(theta), V)

    def multiply_derivative(self, theta: Array, k: int, V: Array) -> Array:
        """(dR/dtheta_k) V, shape of V."""
        full = self.structure.full(theta)
        return np.sum([self.base.multiply_derivative(full, i, V) for i in self._members(k)], axis=0)

    def logdet(self, theta: Array) -> float:
        """log|R|."""
        return self.base.logdet(self.structure.full(theta))

    def logdet_derivative(self, theta: Array, k: int) -> float:
        """tr(R^-1 dR/dtheta_k)."""
        return sum(self.base.logdet_derivative(self.structure.full(theta), i) for i in self._members(k))

    def precision(self, theta: Array) -> Array:
        """R^-1."""
        return self.base.precision(self.structure.full(theta))

    def precision_derivative(self, theta: Array, k: int) -> Array:
        """d(R^-1)/dtheta_k."""
        full = self.structure.full(theta)
        return np.sum([self.base.precision_derivative(full, i) for i in self._members(k)], axis=0)

    def draw(self, theta: Array, rng: np.random.Generator, n: int) -> Array:
        """Draws from N(0, R)."""
        return self.base.draw(self.structure.full(theta), rng, n)

    def select(self, rows: IntArray) -> RestrictedResidual:
        """R of some records."""
        return replace(self, base=self.base.select(rows))
