"""The levels of grouping factors, and how records and relationships meet in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixedgen.arrays import IntArray
from mixedgen.errors import RelationshipError, examples
from mixedgen.genetics.ids import near_misses, positions_of
from mixedgen.relationship.relationship import Relationship


def codes_of(column: pd.Series) -> tuple[IntArray, pd.Index]:
    """Level of each row and the levels present, in category order or sorted."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        used = column.cat.remove_unused_categories()
        return np.asarray(used.cat.codes, dtype=np.intp), pd.Index(used.cat.categories)
    codes, levels = pd.factorize(column)
    try:
        order = np.argsort(levels.to_numpy() if isinstance(levels, pd.Index) else levels, kind="stable")
    except TypeError:
        order = np.argsort(np.asarray(levels).astype(str), kind="stable")
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    return rank[codes], pd.Index(levels)[order]


def interaction(columns: Sequence[pd.Series]) -> tuple[IntArray, pd.Index]:
    """Combinations that occur, in the level order of the first column, then the next; labels joined by a colon."""
    codes, levels = codes_of(columns[0])
    parts = [levels]
    for column in columns[1:]:
        more, others = codes_of(column)
        pairs = codes * len(others) + more
        present, codes = np.unique(pairs, return_inverse=True)
        left, right = np.divmod(present, len(others))
        parts = [*(p[left] for p in parts), others[right]]
    return codes.astype(np.intp), parts[0] if len(parts) == 1 else pd.Index(joined_labels(parts), dtype=object)


def joined_labels(columns: Sequence[Iterable[Any]]) -> list[str]:
    """Labels of combinations of levels, joined by colons.

    Notes
    -----
    A level that holds a colon or a backtick itself is written in backticks, so that different combinations have
    different labels; whole floats are written as whole numbers, as in R, for a column is one of either by chance.
    """
    return [":".join(_part(v) for v in row) for row in zip(*columns, strict=True)]


def _part(level: Any) -> str:
    """A level as a part of a joined label."""
    text = str(int(level)) if isinstance(level, float) and level.is_integer() else str(level)
    if ":" in text or "`" in text:
        return f"`{text.replace('`', '``')}`"
    return text


def level_positions(column: pd.Series, relationship: Relationship) -> IntArray:
    """Position of each record's id in the labels of a relationship, -1 where it is not there."""
    values = column.astype(column.cat.categories.dtype) if isinstance(column.dtype, pd.CategoricalDtype) else column
    return positions_of(values, relationship.labels)


def match_levels(column: pd.Series, relationship: Relationship, key: str, name: str) -> IntArray:
    """Position of each record's id in the labels of a relationship.

    Raises
    ------
    RelationshipError
        If some ids are not there; the message says how many and whether they differ only in type or spelling.
    """
    at = level_positions(column, relationship)
    if np.any(at < 0):
        unknown = pd.unique(np.asarray(column.astype(object))[at < 0])
        near = near_misses(unknown, relationship.labels)
        hint = "Add them to the pedigree or matrix, or leave their records out with unmatched='omit'."
        if near:
            hint = f"Some would match under another spelling ({'; '.join(map(str, near))}): convert one side."
        raise RelationshipError(
            f"{len(unknown)} levels of {name!r} ({int((at < 0).sum())} records) are not in the relationship {key!r}: "
            f"{examples(list(unknown))}. {hint}",
            levels=list(unknown),
        )
    return at
