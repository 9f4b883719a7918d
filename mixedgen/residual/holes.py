"""Holes in a grid of records, filled by columns without penalty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from mixedgen.arrays import Array, IntArray
from mixedgen.errors import DesignError
from mixedgen.sparse import analyse
from mixedgen.sparse.contract import CholeskyFactor, Symbolic

_MOST_ELEMENTS = 50_000_000  # of the inverse around holes, or of the solves for them: 0.4 GB each


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

    def factor(self, q: Array) -> CholeskyFactor:
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
    rims = _find_rims(patch[hole], cell[rows[border]], int(patch.max()) + 1)
    _require_room(count, rims)
    lower = np.flatnonzero(row >= column)
    lower = lower[np.lexsort((row[lower], column[lower]))]
    indptr = np.searchsorted(column[lower], np.arange(count + 1))
    first, second, at = rims.squares()
    return Holes(
        inner=inner,
        lower=inner[lower],
        row=row,
        column=column,
        symbolic=analyse(indptr, row[lower], count),
        diagonal=row[lower] == column[lower],
        border=border,
        hole=hole,
        beside=rims.beside,
        slot=rims.beside - rims.start[rims.owner[rims.beside]],
        first=first,
        second=second,
        at=at,
        count=count,
        width=int(rims.size.max()),
    )


@dataclass(frozen=True)
class Rims:
    """The cells beside each patch of holes.

    Attributes
    ----------
    owner, around : ndarray of int, shape (pairs,)
        Patch and cell of each pair that lies side by side, by patches.
    beside : ndarray of int
        Pair of each element between a cell and a hole.
    size, start : ndarray of int, shape (patches,)
        Number of cells beside each patch, and its first pair.
    """

    owner: IntArray
    around: IntArray
    beside: IntArray
    size: IntArray
    start: IntArray

    def squares(self) -> tuple[IntArray, IntArray, tuple[IntArray, IntArray]]:
        """Cells of each element among the cells of a rim, and its pair and slot."""
        times = self.size[self.owner]
        pair = np.repeat(np.arange(len(self.owner)), times)
        slot = np.arange(len(pair)) - np.repeat(np.cumsum(times) - times, times)
        second = self.around[self.start[self.owner[pair]] + slot]
        return self.around[pair].astype(np.intp), second.astype(np.intp), (pair, slot)


def _find_rims(patch: IntArray, cell: IntArray, patches: int) -> Rims:
    """Rims from the patch and the cell of each element between them."""
    n = int(cell.max(initial=-1)) + 1
    pairs, beside = np.unique(patch * np.int64(n) + cell, return_inverse=True)
    owner, around = np.divmod(pairs, n)
    size = np.bincount(owner, minlength=patches)
    return Rims(owner, around, beside, size, np.cumsum(size) - size)


def _require_room(count: int, rims: Rims) -> None:
    """Raise a DesignError where the inverse would be too full."""
    width, elements = int(rims.size.max()), int(np.sum(rims.size**2))
    if max(elements, width * count) > _MOST_ELEMENTS:
        raise DesignError(
            f"{count} places of the grid have no record, and up to {width} plots lie around a patch of them: the "
            f"inverse of R would have {elements:,} elements. Give parts of the field that lie apart a unit of their "
            "own, as ar1(row|field):ar1(col|field)."
        )
