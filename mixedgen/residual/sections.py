"""Residuals in sections: R of each trial, sex or group with parameters of its own, `at(trial):ar1(row):ar1(col)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.sections import Sections, consecutive
from mixedgen.residual.residual import Residual, some


@dataclass(frozen=True)
class SectionResidual(Residual):
    """R of sections of the records.

    Attributes
    ----------
    parts : tuple of Residual
        R of each section.
    rows : tuple of ndarray of int
        Records of each, increasing.
    """

    structure: Sections
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None
    parts: tuple[Residual, ...]
    rows: tuple[IntArray, ...]

    words = "independent between sections, each with parameters of its own"

    @property
    def multiplicity(self) -> tuple[float, ...]:
        """Records or units behind each block, one section after the other."""
        return tuple(m for r in self.parts for m in r.multiplicity)

    @cached_property
    def pairs(self) -> tuple[IntArray, IntArray] | None:
        """Records of each element of R^-1; None where no section has correlations."""
        if all(r.pairs is None for r in self.parts):
            return None
        own = [r.pairs or (np.arange(len(rows)),) * 2 for r, rows in zip(self.parts, self.rows, strict=True)]
        first, second = (
            np.concatenate([rows[p[side]] for p, rows in zip(own, self.rows, strict=True)]) for side in (0, 1)
        )
        return first, second

    def _assemble(self, theta: Array, values: Callable[[Residual, Array, IntArray], Array], like: Array) -> Array:
        """Values of each section at its records."""
        out = np.empty_like(like)
        for r, rows, at in zip(self.parts, self.rows, self.structure.slices, strict=True):
            out[rows] = values(r, theta[at], rows)
        return out

    def _owner(self, k: int) -> tuple[int, int]:
        """Section of a parameter, and its number there."""
        a = next(a for a, s in enumerate(self.structure.slices) if s.start <= k < s.stop)
        return a, k - self.structure.slices[a].start

    def variances(self, theta: Array) -> Array:
        """Diagonal of R."""
        return self._assemble(theta, lambda r, own, rows: r.variances(own), np.empty(len(self.position)))

    def solve(self, theta: Array, V: Array) -> Array:
        """R^-1 V, shape of V."""
        return self._assemble(theta, lambda r, own, rows: r.solve(own, V[rows]), V)

    def multiply(self, theta: Array, V: Array) -> Array:
        """R V, shape of V."""
        return self._assemble(theta, lambda r, own, rows: r.multiply(own, V[rows]), V)

    def multiply_derivative(self, theta: Array, k: int, V: Array) -> Array:
        """(dR/dtheta_k) V, shape of V."""
        a, i = self._owner(k)
        out = np.zeros_like(V)
        rows = self.rows[a]
        out[rows] = self.parts[a].multiply_derivative(theta[self.structure.slices[a]], i, V[rows])
        return out

    def logdet(self, theta: Array) -> float:
        """log|R|."""
        return sum(r.logdet(theta[at]) for r, at in zip(self.parts, self.structure.slices, strict=True))

    def logdet_derivative(self, theta: Array, k: int) -> float:
        """tr(R^-1 dR/dtheta_k)."""
        a, i = self._owner(k)
        return self.parts[a].logdet_derivative(theta[self.structure.slices[a]], i)

    def precision(self, theta: Array) -> Array:
        """R^-1: its diagonal, or its elements at `pairs`."""
        if self.pairs is None:
            return 1.0 / self.variances(theta)
        return np.concatenate([r.precision(theta[at]) for r, at in zip(self.parts, self.structure.slices, strict=True)])

    def precision_derivative(self, theta: Array, k: int) -> Array:
        """d(R^-1)/dtheta_k, as `precision`."""
        a, i = self._owner(k)
        own = self.parts[a].precision_derivative(theta[self.structure.slices[a]], i)
        if self.pairs is None:
            out = np.zeros(len(self.position))
            out[self.rows[a]] = own
            return out
        sizes = [
            len(rows) if r.pairs is None else len(r.pairs[0]) for r, rows in zip(self.parts, self.rows, strict=True)
        ]
        out = np.zeros(sum(sizes))
        out[consecutive(sizes)[a]] = own
        return out

    def draw(self, theta: Array, rng: np.random.Generator, n: int) -> Array:
        """Draws from N(0, R)."""
        return self._assemble(theta, lambda r, own, rows: r.draw(own, rng, n), np.empty((len(self.position), n)))

    def select(self, rows: IntArray) -> SectionResidual:
        """R of some records, increasing; sections that lose all of theirs stay."""
        new = np.full(len(self.position), -1, dtype=np.intp)
        new[rows] = np.arange(len(rows))
        kept = [np.flatnonzero(new[own] >= 0) for own in self.rows]
        return replace(
            self,
            position=self.position[rows],
            inverse_weights=some(self.inverse_weights, rows),
            parts=tuple(r.select(k) for r, k in zip(self.parts, kept, strict=True)),
            rows=tuple(new[own[k]] for own, k in zip(self.rows, kept, strict=True)),
        )
