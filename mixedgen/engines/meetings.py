"""Where the levels of two terms meet in a record, once for all theta."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedgen.arrays import IntArray
from mixedgen.design.loads import load_ranges
from mixedgen.engines.components import Component


@dataclass(frozen=True)
class Block:
    """Place in C of two components: one dense block for each pair of columns that meet in a record.

    Attributes
    ----------
    a, b : int
        Components, a after b in the equations, or a = b.
    i, j : ndarray of int, shape (m,)
        Columns of each; i >= j where a = b.
    meetings : Meetings
        Levels and loads that meet.
    at : ndarray of int, shape (m, width a, width b)
        Places of the block's elements among the values of C.
    """

    a: int
    b: int
    i: IntArray
    j: IntArray
    meetings: Meetings
    at: IntArray


def _loads_that_meet(
    a: Component, b: Component, pairs: tuple[IntArray, IntArray] | None
) -> tuple[IntArray | None, IntArray | None, IntArray | None]:
    """Loads of a and b that meet in R^-1, and the element of R^-1 (or record) where they do; None for all in turn."""
    if a.record is None and b.record is None:
        return (None, None, None) if pairs is None else (*pairs, None)
    if pairs is None and b.record is None:
        return np.arange(len(a.level)), a.record, a.record
    if pairs is None and a.record is None:
        return b.record, np.arange(len(b.level)), b.record
    n = 1 + max(int(c.record[-1]) if c.record is not None else len(c.level) - 1 for c in (a, b))
    first, second = (np.arange(n), np.arange(n)) if pairs is None else pairs
    count_a, start_a = load_ranges(a.record, n)
    count_b, start_b = load_ranges(b.record, n)
    times = count_a[first] * count_b[second]
    which = np.repeat(np.arange(len(first)), times)
    within = np.arange(len(which)) - np.repeat(np.cumsum(times) - times, times)
    there = count_b[second[which]]
    return start_a[first[which]] + within // there, start_b[second[which]] + within % there, which


def take(values: NDArray[Any], which: IntArray | None) -> NDArray[Any]:
    """Rows of an array; all of them for None."""
    return values if which is None else values[which]


@dataclass(frozen=True)
class Meetings:
    """Pairs of levels of two components that meet, and the loads in which they do.

    Attributes
    ----------
    i, j : ndarray of int, shape (pairs,)
        Levels.
    code : ndarray of int
        Which pair each meeting belongs to.
    first, second, which : ndarray of int or None
        Loads of either, and the element of R^-1 between them.
    """

    i: IntArray
    j: IntArray
    code: IntArray
    first: IntArray | None
    second: IntArray | None
    which: IntArray | None


def meet(a: Component, b: Component, same: bool, pairs: tuple[IntArray, IntArray] | None) -> Meetings:
    """Levels of two components that meet; `pairs` are the records of each element of R^-1, where it is not diagonal."""
    if b.levels == 1 and a.record is None:
        # with X as it stands: its part of R^-1 is applied first
        return Meetings(np.arange(a.levels), np.zeros(a.levels, dtype=np.intp), a.level, None, None, None)
    first, second, which = _loads_that_meet(a, b, pairs)
    la, lb = take(a.level, first), take(b.level, second)
    if b.levels == 1:
        return Meetings(np.arange(a.levels), np.zeros(a.levels, dtype=np.intp), la, first, second, which)
    if a.term == b.term >= 0 and a.record is None and pairs is None:
        # every level keeps its block, records or not: its prediction-error covariance is read there
        every = np.arange(a.levels)
        return Meetings(every, every, la, first, second, which)
    if same:
        keep = np.flatnonzero(la >= lb)
        la, lb = la[keep], lb[keep]
        first, second, which = (keep if f is None else f[keep] for f in (first, second, which))
    met = la * b.levels + lb
    own = np.arange(a.levels) * (b.levels + 1) if a.term == b.term >= 0 else np.zeros(0, dtype=np.intp)
    present, code = np.unique(np.concatenate([met, own]), return_inverse=True)
    i, j = np.divmod(present, b.levels)
    return Meetings(i, j, code[: len(met)], first, second, which)
