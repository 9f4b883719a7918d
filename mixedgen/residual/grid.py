"""Direct products of covariance matrices over the cells of a grid, some of them empty, by their sparse inverse.

The inverse of a product is the product of the inverses, and that of an ar1 matrix is tridiagonal: nine elements to a
cell of a row-by-column grid. Cells without a record are taken out by a Schur complement, which joins the cells around
each hole and leaves all others as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.margins import Margin
from mixedgen.residual.holes import Holes, find_holes

Parameters = Sequence[Array]  # of each margin


@dataclass(frozen=True)
class Grid:
    """A product of margins over the cells that have a record.

    Attributes
    ----------
    margins : tuple of Margin
        Matrices of the product, the last one running fastest.
    at : tuple of ndarray of int
        Levels of each margin that are there.
    cells : ndarray of int, shape (m,)
        Places with a record, increasing.
    """

    margins: tuple[Margin, ...]
    at: tuple[IntArray, ...]
    cells: IntArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of levels of each margin."""
        return tuple(len(a) for a in self.at)

    @property
    def size(self) -> int:
        """Number of places, holes among them."""
        return int(np.prod(self.shape))

    @cached_property
    def _elements(self) -> tuple[IntArray, IntArray]:
        """Places of each element of the inverse of the whole product."""
        rows = cols = np.zeros(1, dtype=np.intp)
        for margin, m in zip(self.margins, self.shape, strict=True):
            r, c = margin.pattern(m)
            rows, cols = (rows[:, None] * m + r).ravel(), (cols[:, None] * m + c).ravel()
        return rows, cols

    @cached_property
    def _cell(self) -> IntArray:
        """Number of each place among the cells; -1 for holes."""
        cell = np.full(self.size, -1, dtype=np.intp)
        cell[self.cells] = np.arange(len(self.cells))
        return cell

    @cached_property
    def _holes(self) -> Holes | None:
        return None if len(self.cells) == self.size else find_holes(*self._elements, self._cell)

    @cached_property
    def _kept(self) -> IntArray | slice:
        """Elements between cells."""
        rows, cols = self._elements
        return slice(None) if self._holes is None else np.flatnonzero((self._cell[rows] >= 0) & (self._cell[cols] >= 0))

    @cached_property
    def pairs(self) -> tuple[IntArray, IntArray]:
        """Cells of each element of the inverse; the elements of a pair that stands twice add."""
        rows, cols = (self._cell[x[self._kept]] for x in self._elements)
        holes = self._holes
        if holes is None:
            return rows, cols
        return np.concatenate([rows, holes.first]), np.concatenate([cols, holes.second])

    def _values(self, parts: Parameters, derivative: tuple[int, int] | None = None) -> Array:
        """Elements of the inverse of the whole product, or their derivative by parameter k of margin a."""
        values = []
        for a, (margin, theta, at) in enumerate(zip(self.margins, parts, self.at, strict=True)):
            own = derivative is not None and derivative[0] == a
            values.append(
                margin.precision_derivative(theta, derivative[1], at)
                if derivative is not None and own
                else margin.precision(theta, at)
            )
        return np.asarray(reduce(np.multiply.outer, values)).ravel()

    def precision(self, parts: Parameters) -> Array:
        """Inverse at `pairs`."""
        q = self._values(parts)
        return q if self._holes is None else np.concatenate([q[self._kept], self._holes.change(q)])

    def precision_derivative(self, parts: Parameters, a: int, k: int) -> Array:
        """Its derivative by parameter k of margin a."""
        dq = self._values(parts, (a, k))
        if self._holes is None:
            return dq
        return np.concatenate([dq[self._kept], self._holes.change_derivative(self._values(parts), dq)])

    def logdet(self, parts: Parameters) -> float:
        """Log-determinant of the cells: that of the product, and of its inverse at the holes."""
        each = zip(self.margins, parts, self.at, strict=True)
        value = sum(self.size / len(at) * margin.logdet(theta, at) for margin, theta, at in each)
        if self._holes is not None and np.isfinite(value):
            value += self._holes.factor(self._values(parts)).logdet
        return float(value)

    def logdet_derivative(self, parts: Parameters, a: int, k: int) -> float:
        """Its derivative by parameter k of margin a."""
        value = self.size / len(self.at[a]) * self.margins[a].logdet_derivative(parts[a], k, self.at[a])
        if self._holes is not None:
            value += self._holes.logdet_derivative(self._values(parts), self._values(parts, (a, k)))
        return float(value)

    def matrices(self, parts: Parameters, derivative: tuple[int, int] | None = None) -> list[Array]:
        """Matrix of each margin, one of them its derivative where that is asked for."""
        out = [m.matrix(theta, at) for m, theta, at in zip(self.margins, parts, self.at, strict=True)]
        if derivative is not None:
            a, k = derivative
            out[a] = self.margins[a].derivative(parts[a], k, self.at[a])
        return out

    def multiply(self, matrices: Sequence[Array], V: Array) -> Array:
        """Product of matrices, on the cells, times V of shape (units, m, r)."""
        full = np.zeros((len(V), self.size, V.shape[2]))
        full[:, self.cells] = V
        return self._product(matrices, full)[:, self.cells]

    def _product(self, matrices: Sequence[Array], full: Array) -> Array:
        shaped = full.reshape(len(full), *self.shape, full.shape[2])
        for axis, M in enumerate(matrices, start=1):
            shaped = np.moveaxis(np.tensordot(M, shaped, axes=(1, axis)), 0, axis)
        return shaped.reshape(full.shape)

    def draw(self, parts: Parameters, rng: np.random.Generator, units: int, n: int) -> Array:
        """Draws for each cell, shape (units, m, n): of the whole grid, of which the holes are left out."""
        roots = [np.asarray(np.linalg.cholesky(M)) for M in self.matrices(parts)]
        return self._product(roots, rng.standard_normal((units, self.size, n)))[:, self.cells]
