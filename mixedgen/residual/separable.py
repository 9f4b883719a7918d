"""Residuals of plots: direct products of structures over the columns that say where a record stands.

R = D^1/2 [blocks of C_1 (x) C_2 (x) ...] D^1/2. One structure of the product may have variances of its own; without one
there is a common variance. The other structures are correlations. Structures without correlations (`idv`, `diag`) and
the units divide the records into independent blocks; a place without a record is no part of its block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.margins import Margin
from mixedgen.covariance.product import Product
from mixedgen.residual.grid import Grid
from mixedgen.residual.residual import Residual, columns, some


@dataclass(frozen=True)
class Blocks:
    """Blocks with records at the same places.

    Attributes
    ----------
    rows : ndarray of int, shape (blocks, m)
        Their records.
    grid : Grid
        The places.
    """

    rows: IntArray
    grid: Grid


@dataclass(frozen=True)
class SeparableResidual(Residual):
    """Direct product of structures within independent blocks.

    Attributes
    ----------
    margins : tuple of Margin
        Structures with correlations.
    slices : tuple of slice
        Where the parameters of each stand in theta.
    outside : bool
        Whether the variances stand outside of the margins; else one margin holds them.
    block : ndarray of int, shape (n,)
        Block of each record.
    levels : ndarray of int, shape (n, margins)
        Level of each margin.
    """

    structure: Product
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None
    margins: tuple[Margin, ...]
    slices: tuple[slice, ...]
    outside: bool
    block: IntArray
    levels: IntArray

    words = "correlated within units by a product of structures over the places of a grid"

    @property
    def multiplicity(self) -> tuple[float, ...]:
        """Records for each variance."""
        return tuple(float(len(self.position)) * m for m in self.structure.multiplicity)

    @cached_property
    def grids(self) -> tuple[Blocks, ...]:
        """Blocks by the places they have."""
        shape = self.levels.max(axis=0) + 1
        place = np.ravel_multi_index(tuple(self.levels.T), tuple(shape))
        order = np.lexsort((place, self.block))
        size = np.bincount(self.block)
        start = np.cumsum(size) - size
        out = []
        for m in np.unique(size[size > 0]):
            rows = order[start[size == m][:, None] + np.arange(m)]
            which, code = np.unique(place[rows], axis=0, return_inverse=True)
            code = code.ravel()
            out += [Blocks(rows[code == k], self._grid(rows[code == k][0])) for k in range(len(which))]
        return tuple(out)

    def _grid(self, rows: IntArray) -> Grid:
        """Grid of the records of one block, in the order of their places."""
        there = [np.unique(levels, return_inverse=True) for levels in self.levels[rows].T]
        cells = np.ravel_multi_index(tuple(code for _, code in there), tuple(len(at) for at, _ in there))
        return Grid(self.margins, tuple(at for at, _ in there), np.asarray(cells, dtype=np.intp))

    @cached_property
    def pairs(self) -> tuple[IntArray, IntArray]:
        """Records of each element of R^-1; the elements of a pair that stands twice add."""
        first, second = (np.concatenate([b.rows[:, b.grid.pairs[side]].ravel() for b in self.grids]) for side in (0, 1))
        return first, second

    def _parts(self, theta: Array) -> list[Array]:
        return [theta[s] for s in self.slices]

    def _owner(self, k: int) -> tuple[int, int] | None:
        """Margin of a parameter and its number there; None for a variance outside."""
        return next(((a, k - s.start) for a, s in enumerate(self.slices) if s.start <= k < s.stop), None)

    def _spread(self, theta: Array) -> Array:
        """What stands outside of the margins: variances over weights, shape (n,)."""
        spread = np.diag(self.structure.matrix(theta))[self.position] if self.outside else np.ones(len(self.position))
        return spread if self.inverse_weights is None else spread * self.inverse_weights

    def _relative_change(self, theta: Array, k: int) -> Array:
        """Half of d log(spread)/dtheta_k of each record, shape (n,)."""
        change = np.diag(self.structure.derivatives(theta)[k]) / np.diag(self.structure.matrix(theta))
        return 0.5 * change[self.position]

    def _elements(self, theta: Array, values: Callable[[Grid], Array]) -> Array:
        """Elements of the blocks at `pairs`, scaled to R^-1."""
        each = [np.broadcast_to(v := values(b.grid), (len(b.rows), len(v))).ravel() for b in self.grids]
        root = 1.0 / np.sqrt(self._spread(theta))
        first, second = self.pairs
        return np.concatenate(each) * root[first] * root[second]

    def _apply(self, theta: Array, V: Array, derivative: tuple[int, int] | None = None) -> Array:
        """R V, or the derivative of R by a parameter of a margin times V."""
        root = columns(np.sqrt(self._spread(theta)), V)
        scaled = (root * V).reshape(len(V), -1)
        out = np.empty_like(scaled)
        for b in self.grids:
            matrices = b.grid.matrices(self._parts(theta), derivative)
            out[b.rows] = b.grid.multiply(matrices, scaled[b.rows])
        return out.reshape(V.shape) * root

    def variances(self, theta: Array) -> Array:
        """Diagonal of R."""
        own = np.diag(self.structure.matrix(theta))[self.position]
        return own if self.inverse_weights is None else own * self.inverse_weights

    def solve(self, theta: Array, V: Array) -> Array:
        """R^-1 V, shape of V."""
        n = len(self.position)
        return np.asarray(sp.csr_array((self.precision(theta), self.pairs), shape=(n, n)) @ V)

    def multiply(self, theta: Array, V: Array) -> Array:
        """R V, shape of V."""
        return self._apply(theta, V)

    def multiply_derivative(self, theta: Array, k: int, V: Array) -> Array:
        """(dR/dtheta_k) V, shape of V."""
        owner = self._owner(k)
        if owner is not None:
            return self._apply(theta, V, owner)
        h = columns(self._relative_change(theta, k), V)
        return h * self._apply(theta, V) + self._apply(theta, h * V)

    def logdet(self, theta: Array) -> float:
        """log|R|; infinite where it is not positive definite."""
        parts = self._parts(theta)
        return float(np.log(self._spread(theta)).sum()) + sum(len(b.rows) * b.grid.logdet(parts) for b in self.grids)

    def logdet_derivative(self, theta: Array, k: int) -> float:
        """tr(R^-1 dR/dtheta_k)."""
        owner = self._owner(k)
        if owner is None:
            return 2.0 * float(self._relative_change(theta, k).sum())
        parts = self._parts(theta)
        return sum(len(b.rows) * b.grid.logdet_derivative(parts, *owner) for b in self.grids)

    def precision(self, theta: Array) -> Array:
        """R^-1 at `pairs`."""
        parts = self._parts(theta)
        return self._elements(theta, lambda grid: grid.precision(parts))

    def precision_derivative(self, theta: Array, k: int) -> Array:
        """d(R^-1)/dtheta_k at `pairs`."""
        owner, parts = self._owner(k), self._parts(theta)
        if owner is not None:
            return self._elements(theta, lambda grid: grid.precision_derivative(parts, *owner))
        h = self._relative_change(theta, k)
        first, second = self.pairs
        return -(h[first] + h[second]) * self.precision(theta)

    def draw(self, theta: Array, rng: np.random.Generator, n: int) -> Array:
        """Draws from N(0, R), shape (records, n)."""
        out = np.empty((len(self.position), n))
        for b in self.grids:
            out[b.rows] = b.grid.draw(self._parts(theta), rng, len(b.rows), n)
        return out * np.sqrt(self._spread(theta))[:, None]

    def select(self, rows: IntArray) -> SeparableResidual:
        """R of some records; the others leave holes."""
        weights = some(self.inverse_weights, rows)
        return replace(
            self,
            position=self.position[rows],
            inverse_weights=weights,
            block=self.block[rows],
            levels=self.levels[rows],
        )
