"""Which levels a record loads, and with what weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedgen.arrays import Array, IntArray
from mixedgen.design.frame import numeric
from mixedgen.design.levels import codes_of, interaction, match_levels
from mixedgen.design.unknown import known
from mixedgen.formula.parts import Column, Factor, Mates, Members, MultiMembership, RandomTerm
from mixedgen.genetics.written import as_written
from mixedgen.relationship.relationship import Relationship


@dataclass(frozen=True)
class Loads:
    """Which levels the records load, through which entry, with what weight.

    Attributes
    ----------
    record : ndarray of int, shape (m,), or None
        Record of each load, in order; None when each record loads one level, in order.
    level, entry : ndarray of int, shape (m,)
        Level, and position among the entries of `members`.
    weight : ndarray, shape (m,), or None
        Weights; None for ones.
    entries : tuple of str
        Names of the entries; one for a plain column.
    """

    record: IntArray | None
    level: IntArray
    entry: IntArray
    weight: Array | None
    entries: tuple[str, ...]


def load_ranges(record: IntArray | None, n: int) -> tuple[IntArray, IntArray]:
    """How many loads each of n records has, and its first; `record` is None for one load each, in order."""
    if record is None:
        return np.ones(n, dtype=np.intp), np.arange(n)
    count = np.bincount(record, minlength=n)
    return count, np.cumsum(count) - count


def one_load(level: IntArray) -> Loads:
    """One level for each record, with weight one."""
    return Loads(None, level, np.zeros(len(level), dtype=np.intp), None, ("",))


def some_loads(level: IntArray, there: NDArray[np.bool_]) -> Loads:
    """One level for each record that has one, with weight one; nothing for the others."""
    if there.all():
        return one_load(level)
    return Loads(np.flatnonzero(there), level, np.zeros(len(level), dtype=np.intp), None, ("",))


def plain_loads(term: RandomTerm, frame: pd.DataFrame, relationship: Relationship | None) -> tuple[Loads, pd.Index]:
    """One level for each record: that of a column, or of an interaction."""
    names = [str(f.source) for f in term.factors]
    columns = [as_written(frame, c) for c in names]
    there = known(columns)
    columns = columns if there.all() else [c[there] for c in columns]
    if relationship is None:
        level, levels = interaction(columns)
    else:
        level = match_levels(columns[0], relationship, str(term.factors[0].link), names[0])
        levels = relationship.labels
    return some_loads(level, there), levels


def several_loads(factor: Factor, frame: pd.DataFrame, relationship: Relationship | None) -> tuple[Loads, pd.Index]:
    """Several levels for each record: the entries of `members`, or the columns of `mm`."""
    source = factor.source
    names = source_columns(source)
    if relationship is None:
        stack = pd.concat([as_written(frame, c).astype(object) for c in names], ignore_index=True)
        there = known([stack])
        stacked = np.full(len(stack), -1, dtype=np.intp)
        stacked[there], levels = codes_of(stack[there])
        codes = dict(zip(names, np.split(stacked, len(names)), strict=True))
    else:
        codes = {c: _known_levels(as_written(frame, c), relationship, str(factor.link), c) for c in names}
        levels = relationship.labels
    if isinstance(source, MultiMembership):
        return membership_loads(source, codes, frame), levels
    assert isinstance(source, Members)
    return members_loads(source, codes, frame), levels


def _known_levels(column: pd.Series, relationship: Relationship, link: str, name: str) -> IntArray:
    """Position of each record's id in the labels of a relationship, -1 where it names nobody."""
    there = known([column])
    level = np.full(len(column), -1, dtype=np.intp)
    level[there] = match_levels(column[there], relationship, link, name)
    return level


def members_loads(source: Members, codes: Mapping[str, IntArray], frame: pd.DataFrame) -> Loads:
    """Loads of the entries of `members`, in the order of the records."""
    parts = [_entry_loads(e, codes, frame) for e in source.entries]
    record = np.concatenate([r for r, _ in parts])
    level = np.concatenate([v for _, v in parts])
    entry = np.repeat(np.arange(len(parts)), [len(r) for r, _ in parts])
    order = np.argsort(record, kind="stable")
    return Loads(record[order], level[order], entry[order], None, tuple(str(e) for e in source.entries))


def _entry_loads(
    entry: Column | Mates, codes: Mapping[str, IntArray], frame: pd.DataFrame
) -> tuple[IntArray, IntArray]:
    """Records and levels that one entry of `members` loads."""
    if isinstance(entry, Column):
        rows = np.flatnonzero(codes[entry.name] >= 0)
        return rows, codes[entry.name][rows]
    rows = np.flatnonzero((codes[entry.column] >= 0) & known([frame[entry.unit]]))
    own, n = codes[entry.column][rows], len(rows)
    unit, units = codes_of(as_written(frame, entry.unit).iloc[rows])
    # each unit's different members once, then every record meets all of its unit but itself
    present = np.unique(np.stack([unit, own]), axis=1)
    size = np.bincount(present[0], minlength=len(units))
    start = np.cumsum(size) - size
    times = size[unit]
    record = np.repeat(np.arange(n), times)
    within = np.arange(len(record)) - np.repeat(np.cumsum(times) - times, times)
    level = present[1][start[unit[record]] + within]
    mate = level != own[record]
    return rows[record[mate]], level[mate]


def membership_loads(source: MultiMembership, codes: Mapping[str, IntArray], frame: pd.DataFrame) -> Loads:
    """Loads of `mm`: every column with its weight, or all with equal weights that sum to one."""
    n, k = len(frame), len(source.columns)
    if source.weights:
        columns = [numeric(frame[w], w, frame.index) for w in source.weights]
        weight = np.stack(columns * (k if len(columns) == 1 else 1), axis=1)
    else:
        weight = np.full((n, k), 1.0 / k)
    level = np.stack([codes[c] for c in source.columns], axis=1)
    return Loads(np.repeat(np.arange(n), k), level.ravel(), np.zeros(n * k, dtype=np.intp), weight.ravel(), ("",))


def spread(loads: Loads, columns: Array, names: tuple[str, ...]) -> tuple[Array, tuple[str, ...]]:
    """Weights of the loads, a column for each entry and effect, and their names.

    Returns
    -------
    values : ndarray, shape (m, entries x effects)
        Entry by entry.
    effects : tuple of str
        The entry, the effect, or both where there are several of each.
    """
    values = columns if loads.record is None else columns[loads.record]
    if loads.weight is not None:
        values = values * loads.weight[:, None]
    if len(loads.entries) == 1:
        return values, names
    k = len(names)
    out = np.zeros((len(values), len(loads.entries) * k))
    out[np.arange(len(values))[:, None], loads.entry[:, None] * k + np.arange(k)] = values
    if k == 1:
        return out, loads.entries
    return out, tuple(f"{e}:{name}" for e in loads.entries for name in names)


def source_columns(source: Column | Members | MultiMembership) -> list[str]:
    """Columns that hold levels, each once."""
    if isinstance(source, Column):
        return [source.name]
    if isinstance(source, MultiMembership):
        return list(source.columns)
    return list(dict.fromkeys(e.name if isinstance(e, Column) else e.column for e in source.entries))


def other_columns(source: Column | Members | MultiMembership) -> list[str]:
    """Columns that hold units or weights."""
    if isinstance(source, Members):
        return [e.unit for e in source.entries if isinstance(e, Mates)]
    return list(source.weights) if isinstance(source, MultiMembership) else []
