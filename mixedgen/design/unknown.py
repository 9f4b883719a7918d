"""Unknown parents of records: their row of Z is zero, and the record stays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedgen.errors import DataError
from mixedgen.formula.parts import Column, Mates, Members, ParsedFormula
from mixedgen.genetics.ids import id_text, positions_of
from mixedgen.genetics.written import as_written
from mixedgen.relationship.relationship import Relationship

_UNKNOWN_CODES = ("0", "")  # beside missing ones, as in a pedigree


def parent_columns(parsed: ParsedFormula) -> dict[str, str | None]:
    """Columns in which a record may name nobody, and the relationship that each links to.

    Notes
    -----
    Of `members` the entries after the first, and the units of `mates`; of terms over one column each that link to one
    relationship, as in ``(1|animal:A) + (1|dam:A)``, those after the first. The first says whose record it is.
    """
    optional: dict[str, str | None] = {}
    needed: set[str] = set()
    linked: set[str] = set()
    for term in parsed.terms:
        factor = term.factors[-1]
        if isinstance(factor.source, Members):
            first, *others = factor.source.entries
            needed.add(_column_of(first))
            optional.update({_column_of(e): factor.link for e in others if isinstance(e, Column)})
            optional.update({e.unit: None for e in factor.source.entries if isinstance(e, Mates)})
        elif factor.link is not None and isinstance(factor.source, Column):
            pair = sum(f.link is not None for f in term.factors) > 1
            if pair or factor.link not in linked:
                needed.update(str(f.source) for f in term.factors if f.link is not None)
            else:
                optional[factor.source.name] = factor.link
        linked.update(f.link for f in term.factors if f.link is not None)
    return {name: link for name, link in optional.items() if name not in needed}


def _column_of(entry: Column | Mates) -> str:
    """Column of an entry of `members`."""
    return entry.name if isinstance(entry, Column) else entry.column


def blank_unknown(
    frame: pd.DataFrame, parents: Mapping[str, str | None], relationships: Mapping[str, Relationship]
) -> pd.DataFrame:
    """The frame with codes of unknown parents missing, unless an animal has that name."""
    changed = {}
    for name, link in parents.items():
        if link is None or link not in relationships or name not in frame:
            continue
        codes = [code for code in _UNKNOWN_CODES if positions_of([code], relationships[link].labels)[0] < 0]
        column = as_written(frame, name)
        unknown = column.map(id_text, na_action="ignore").isin(codes).to_numpy()
        if unknown.any():
            changed[name] = column.astype(object).mask(unknown)
    return frame.assign(**changed) if changed else frame


def unknown_counts(frame: pd.DataFrame, columns: Collection[str]) -> dict[str, int]:
    """Number of records that name nobody, by column.

    Raises
    ------
    DataError
        If no record names anybody.
    """
    counts = {name: int(frame[name].isna().sum()) for name in columns}
    empty = [name for name, count in counts.items() if count == len(frame)]
    if empty:
        raise DataError(f"column {empty[0]!r} has no value at all: every row is missing.", columns=empty)
    return {name: count for name, count in counts.items() if count}


def known(columns: Sequence[pd.Series]) -> NDArray[np.bool_]:
    """Whether each record names somebody in every column, shape (n,)."""
    return np.asarray(np.all([c.notna().to_numpy() for c in columns], axis=0))
