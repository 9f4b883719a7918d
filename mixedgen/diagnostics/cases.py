"""Records, groups of records and relatives that are left out together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixedgen.arrays import IntArray
from mixedgen.design.design import Design
from mixedgen.design.frame import require_columns
from mixedgen.design.levels import interaction
from mixedgen.errors import ArgumentError, DataError, examples


@dataclass(frozen=True)
class Cases:
    """Records of each case.

    Attributes
    ----------
    labels : Index
        Names of the cases.
    members : list of ndarray of int
        Records of each, increasing.
    """

    labels: pd.Index
    members: list[IntArray]


def cases_of(design: Design, data: pd.DataFrame | None, by: str | ArrayLike | None) -> Cases:
    """Records of each case, in the order of the levels."""
    if by is None:
        return Cases(design.records.labels, [np.array([i]) for i in range(design.n)])
    codes, levels = _codes_by_name(design, data, by) if isinstance(by, str) else _codes_of_rows(design, by)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(levels)))
    if len(levels) < 2:
        raise ArgumentError(f"by has one group only ({examples(list(levels))}): nothing would be left without it.")
    return Cases(levels, [np.sort(rows) for rows in np.split(order, ends[:-1])])


def _codes_by_name(design: Design, data: pd.DataFrame | None, by: str) -> tuple[IntArray, pd.Index]:
    """Group of each record by a column, several joined by a colon, or a random term."""
    for t in design.terms:
        if t.key == by and (data is None or by not in data.columns) and t.record is None:
            present, code = np.unique(t.level, return_inverse=True)
            return code, t.levels[present]
    if data is None:
        raise ArgumentError(
            f"by={by!r} is no random term whose records have one level each; give the groups of the rows."
        )
    names = [by] if by in data.columns else by.split(":")
    require_columns(data, names, "by=")
    return _complete_codes([data[name].iloc[design.records.rows] for name in names], by)


def _codes_of_rows(design: Design, by: ArrayLike) -> tuple[IntArray, pd.Index]:
    """Group of each record from those of all rows of the data."""
    values = by if isinstance(by, pd.Series) else pd.Series(np.asarray(by), index=None)
    if len(values) != len(design.index):
        raise ArgumentError(f"by has {len(values)} groups for {len(design.index)} rows of the data.")
    if isinstance(by, pd.Series) and not by.index.equals(design.index):
        raise ArgumentError("by has other labels than the rows of the data: give it on their index.")
    return _complete_codes([values.iloc[design.records.rows]], "by")


def _complete_codes(columns: Sequence[pd.Series], name: str) -> tuple[IntArray, pd.Index]:
    """Group of each record, none of them missing."""
    gone = np.any([c.isna().to_numpy() for c in columns], axis=0)
    if gone.any():
        labels = list(columns[0].index[gone])
        raise DataError(
            f"{name!r} is missing in {len(labels)} records: {examples(labels)}. Fill it in, or leave them out."
        )
    return interaction(columns)
