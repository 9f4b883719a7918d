"""Direct products of covariance matrices over the cells of a grid, some of them empty, by their sparse inverse.

The inverse of a product is the product of the inverses, and that of an ar1 matrix is tridiagonal: nine elements to a
cell of a row-by-column grid. Cells without a record are taken out by a Schur complement, which joins the cells around
each hole and leaves all others as they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from mixedgen.covariance.structure import Autoregressive, Correlated, Structure
from mixedgen.errors import DesignError
from mixedgen.sparse import Factor, Symbolic, analyse

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]
Parameters = Sequence[Array]  # of each margin

MOST_ELEMENTS = 50_000_000  # of the inverse around holes, or of the solves for them: 0.4 GB each


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
    held : int
        Number of leading parameters, variances, that are held at one.
    """

    structure: Structure
    held: int

    @property
    def size(self) -> int:
        """Parameters that are not held."""
        return self.structure.size - self.held

    def _all(self, theta: Array) -> Array:
        return np.concatenate([np.ones(self.held), theta])

    def matrix(self, theta: Array, at: IntArray) -> Array:
        """C of the levels."""
        return self.structure.matrix(self._all(theta))[np.ix_(at, at)]

    def derivative(self, theta: Array, k: int, at: IntArray) -> Array:
        """DC/dtheta_k."""
        return np.asarray(self.structure.derivatives(self._all(theta))[self.held + k][np.ix_(at, at)])

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


def correlation_margin(structure: Correlated) -> Margin:
    """Margin of a structure whose one variance is held at one."""
    return Chain(structure) if isinstance(structure, Autoregressive) else FullMargin(structure, 1)


@dataclass(frozen=True)
class Holes:
    """How cells without a record are taken out of the inverse Q of a grid.

    Attributes
    ----------
    inner, lower : ndarray of int
        Elements of Q between holes: all, and those on and below the diagonal, by columns.
    row, column : ndarray of int
        Holes of `inner`.
    symbolic : Symbolic
        Pattern of Q between holes, and its analysis.
    diagonal : ndarray of bool
        Which of `lower` are on the diagonal.
    border : ndarray of int
        Elements of Q between a cell (row) and a hole (column).
    hole, beside : ndarray of int
        The hole of each of `border`, and its cell among all pairs of a patch of holes and a cell beside it.
    slot : ndarray of int
        Place of each of `border` among the cells beside its patch.
    first, second : ndarray of int
        Cells of each new element of the inverse.
    at : tuple of ndarray of int
        Where it is found: pair of a patch and a cell, and slot.
    count, width : int
        Number of holes; most cells beside a patch.
    """

    inner: IntArray
    lower: IntArray
    row: IntArray
    column: IntArray
    symbolic: Symbolic
    diagonal: NDArray[np.bool_]
    border: IntArray
    hole: IntArray
    beside: IntArray
    slot: IntArray
    first: IntArray
    second: IntArray
    at: tuple[IntArray, IntArray]
    count: int
    width: int

    def factor(self, q: Array) -> Factor:
        """Factor of Q between holes."""
        return self.symbolic.factor(q[self.lower])

    def right(self, q: Array) -> Array:
        """Q of the holes by the cells beside their patch, shape (holes, width)."""
        out = np.zeros((self.count, self.width))
        out[self.hole, self.slot] = q[self.border]
        return out

    def left(self, q: Array) -> sp.csr_array:
        """Q of the cells beside a patch by its holes, one row for each pair."""
        shape = (int(self.beside.max()) + 1, self.count)
        return sp.csr_array(sp.coo_array((q[self.border], (self.beside, self.hole)), shape=shape))

    def between(self, q: Array) -> sp.csr_array:
        """Q between holes."""
        return sp.csr_array(sp.coo_array((q[self.inner], (self.row, self.column)), shape=(self.count,) * 2))

    def change(self, q: Array) -> Array:
        """-Q_ch Q_hh^-1 Q_hc at `first`, `second`."""
        return -np.asarray(self.left(q) @ self.factor(q).solve(self.right(q)))[self.at]

    def change_derivative(self, q: Array, dq: Array) -> Array:
        """Its derivative for that of Q."""
        factor = self.factor(q)
        X = factor.solve(self.right(q))
        dX = factor.solve(self.right(dq) - self.between(dq) @ X)
        return -np.asarray(self.left(dq) @ X + self.left(q) @ dX)[self.at]

    def logdet_derivative(self, q: Array, dq: Array) -> float:
        """tr(Q_hh^-1 dQ_hh)."""
        inverse, _ = self.factor(q).selected_inverse(overwrite=True)
        return float((np.where(self.diagonal, 1.0, 2.0) * inverse) @ dq[self.lower])


def find_holes(rows: IntArray, cols: IntArray, cell: IntArray) -> Holes:
    """Holes of a grid.

    Parameters
    ----------
    rows, cols : ndarray of int
        Elements of Q.
    cell : ndarray of int
        Number of each place of the grid among those with a record; -1 for a hole.

    Raises
    ------
    DesignError
        If the inverse would be too full.
    """
    number = np.cumsum(cell < 0) - 1
    count = int(number[-1]) + 1
    empty_row, empty_col = cell[rows] < 0, cell[cols] < 0
    inner, border = np.flatnonzero(empty_row & empty_col), np.flatnonzero(~empty_row & empty_col)
    row, column, hole = number[rows[inner]], number[cols[inner]], number[cols[border]]
    graph = sp.coo_array((np.ones(len(inner), dtype=bool), (row, column)), shape=(count, count))
    patch = connected_components(graph, directed=False)[1]
    n = int(cell.max()) + 1
    pairs, beside = np.unique(patch[hole] * np.int64(n) + cell[rows[border]], return_inverse=True)
    owner, around = np.divmod(pairs, n)
    size = np.bincount(owner, minlength=int(patch.max()) + 1)
    start = np.cumsum(size) - size
    width, elements = int(size.max()), int(np.sum(size**2))
    if max(elements, width * count) > MOST_ELEMENTS:
        raise DesignError(
            f"{count} places of the grid have no record, and up to {width} plots lie around a patch of them: the "
            f"inverse of R would have {elements:,} elements. Give parts of the field that lie apart a unit of their "
            "own, as ar1(row|field):ar1(col|field)."
        )
    pair = np.repeat(np.arange(len(pairs)), size[owner])
    slot = np.arange(len(pair)) - np.repeat(np.cumsum(size[owner]) - size[owner], size[owner])
    lower = np.flatnonzero(row >= column)
    lower = lower[np.lexsort((row[lower], column[lower]))]
    indptr = np.searchsorted(column[lower], np.arange(count + 1))
    return Holes(
        inner=inner,
        lower=inner[lower],
        row=row,
        column=column,
        symbolic=analyse(indptr, row[lower], count),
        diagonal=row[lower] == column[lower],
        border=border,
        hole=hole,
        beside=beside,
        slot=beside - start[owner[beside]],
        first=around[pair].astype(np.intp),
        second=around[start[owner[pair]] + slot].astype(np.intp),
        at=(pair, slot),
        count=count,
        width=width,
    )


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
