"""Residuals that covary within units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import Structure
from mixedgen.covariance.variances import Unstructured
from mixedgen.errors import examples
from mixedgen.residual.residual import Residual, columns, some


@dataclass(frozen=True)
class UnitPattern:
    """Units that have records of the same positions.

    Attributes
    ----------
    rows : ndarray of int, shape (units, m)
        Their records.
    positions : ndarray of int, shape (m,)
        The positions.
    """

    rows: IntArray
    positions: IntArray


@dataclass(frozen=True)
class UnitResidual(Residual):
    """One covariance matrix over positions within units; a unit without some position has the rest of the matrix.

    Attributes
    ----------
    unit : ndarray of int, shape (n,)
        Unit of each record.
    """

    structure: Structure
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None
    unit: IntArray

    @property
    def words(self) -> str:
        """Its structure over the positions."""
        s = self.structure
        return f"one {s.tag} covariance matrix of {s.dim} positions ({examples(self.classes)}) within units"

    @property
    def linear(self) -> Structure:
        """Any covariance matrix of the positions."""
        return Unstructured(self.structure.dim)

    def over(self, structure: Structure) -> UnitResidual:
        """R of another covariance matrix of the same positions."""
        return replace(self, structure=structure)

    @property
    def multiplicity(self) -> tuple[float, ...]:
        """Number of units, times the positions that share a variance."""
        units = float(sum(len(p.rows) for p in self.patterns))
        return tuple(units * m for m in self.structure.multiplicity)

    @cached_property
    def patterns(self) -> tuple[UnitPattern, ...]:
        """Units by the positions they have."""
        order = np.lexsort((self.position, self.unit))
        size = np.bincount(self.unit)
        start = np.cumsum(size) - size
        out = []
        for m in np.unique(size[size > 0]):
            units = np.flatnonzero(size == m)
            rows = order[start[units][:, None] + np.arange(m)]
            which, code = np.unique(self.position[rows], axis=0, return_inverse=True)
            out += [UnitPattern(rows[code.ravel() == k], which[k]) for k in range(len(which))]
        return tuple(out)

    @cached_property
    def pairs(self) -> tuple[IntArray, IntArray]:
        """Records of each element of R^-1."""
        shapes = [(len(p.rows), len(p.positions), len(p.positions)) for p in self.patterns]
        first = [np.broadcast_to(p.rows[:, :, None], s).ravel() for p, s in zip(self.patterns, shapes, strict=True)]
        second = [np.broadcast_to(p.rows[:, None, :], s).ravel() for p, s in zip(self.patterns, shapes, strict=True)]
        return np.concatenate(first), np.concatenate(second)

    @cached_property
    def _root_weights(self) -> Array:
        return np.ones(len(self.position)) if self.inverse_weights is None else 1.0 / np.sqrt(self.inverse_weights)

    def _block(self, matrix: Array, p: UnitPattern) -> Array:
        return matrix[np.ix_(p.positions, p.positions)]

    def _inverses(self, theta: Array) -> list[Array]:
        Sigma = self.structure.matrix(theta)
        return [np.asarray(np.linalg.inv(self._block(Sigma, p))) for p in self.patterns]

    def _apply(self, blocks: Sequence[Array], V: Array, root: Array) -> Array:
        """Blocks between two scalings by `root`, times V."""
        scaled = V * columns(root, V)
        out = np.empty_like(scaled)
        for p, B in zip(self.patterns, blocks, strict=True):
            out[p.rows] = np.einsum("ab,ub...->ua...", B, scaled[p.rows])
        return out * columns(root, V)

    def variances(self, theta: Array) -> Array:
        """Diagonal of R."""
        return np.diag(self.structure.matrix(theta))[self.position] / self._root_weights**2

    def solve(self, theta: Array, V: Array) -> Array:
        """R^-1 V, shape of V."""
        return self._apply(self._inverses(theta), V, self._root_weights)

    def multiply(self, theta: Array, V: Array) -> Array:
        """R V, shape of V."""
        Sigma = self.structure.matrix(theta)
        return self._apply([self._block(Sigma, p) for p in self.patterns], V, 1.0 / self._root_weights)

    def multiply_derivative(self, theta: Array, k: int, V: Array) -> Array:
        """(dR/dtheta_k) V, shape of V."""
        D = self.structure.derivatives(theta)[k]
        return self._apply([self._block(D, p) for p in self.patterns], V, 1.0 / self._root_weights)

    def logdet(self, theta: Array) -> float:
        """log|R|; infinite where a block is not positive definite."""
        Sigma = self.structure.matrix(theta)
        value = -2.0 * float(np.log(self._root_weights).sum())
        for p in self.patterns:
            try:  # an even number of negative eigenvalues has a positive determinant too
                root = np.linalg.cholesky(self._block(Sigma, p))
            except np.linalg.LinAlgError:
                return np.inf
            value += 2.0 * len(p.rows) * float(np.log(np.diag(root)).sum())
        return value

    def logdet_derivative(self, theta: Array, k: int) -> float:
        """tr(R^-1 dR/dtheta_k)."""
        D = self.structure.derivatives(theta)[k]
        blocks = zip(self.patterns, self._inverses(theta), strict=True)
        return float(sum(len(p.rows) * np.sum(B * self._block(D, p)) for p, B in blocks))

    def _elements(self, blocks: Sequence[Array]) -> Array:
        parts = [
            np.broadcast_to(B, (len(p.rows), *B.shape)).ravel() for p, B in zip(self.patterns, blocks, strict=True)
        ]
        first, second = self.pairs
        return np.concatenate(parts) * self._root_weights[first] * self._root_weights[second]

    def precision(self, theta: Array) -> Array:
        """R^-1 at `pairs`."""
        return self._elements(self._inverses(theta))

    def precision_derivative(self, theta: Array, k: int) -> Array:
        """d(R^-1)/dtheta_k at `pairs`."""
        D = self.structure.derivatives(theta)[k]
        blocks = zip(self.patterns, self._inverses(theta), strict=True)
        return self._elements([-B @ self._block(D, p) @ B for p, B in blocks])

    def select(self, rows: IntArray) -> UnitResidual:
        """R of some records; the units keep the positions that are left."""
        weights = some(self.inverse_weights, rows)
        return replace(self, position=self.position[rows], inverse_weights=weights, unit=self.unit[rows])

    def draw(self, theta: Array, rng: np.random.Generator, n: int) -> Array:
        """Draws from N(0, R)."""
        Sigma = self.structure.matrix(theta)
        out = np.empty((len(self.position), n))
        for p in self.patterns:
            L = np.linalg.cholesky(self._block(Sigma, p))
            out[p.rows] = L @ rng.standard_normal((*p.rows.shape, n))
        return out / self._root_weights[:, None]
