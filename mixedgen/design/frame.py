"""The data frame: reading, checking, and the columns that formulaic makes of it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixedgen.arrays import Array, IntArray
from mixedgen.design.columns import is_logical, numbers_of, plain_column
from mixedgen.design.conditions import rows_where
from mixedgen.design.tables import foreign_table
from mixedgen.errors import ArgumentError, DataError, examples
from mixedgen.genetics.files import table_of


def read_frame(data: Any) -> pd.DataFrame:
    """Pandas frame of a table of any library, of a mapping of columns, or of the file at a path.

    Raises
    ------
    DataError
        If it is none of these, has no rows, or repeats a column name.
    """
    if isinstance(data, str | Path):
        path = Path(data)
        if not path.is_file():
            raise DataError(f"there is no file {str(path)!r}.")
        frame = table_of(path, DataError)
    elif isinstance(data, pd.DataFrame):
        frame = data
    elif isinstance(data, Mapping):
        try:
            frame = pd.DataFrame(dict(data))
        except ValueError as err:
            raise DataError(f"the mapping of columns makes no table: {err}.") from err
    else:
        frame = foreign_table(data)
    if not len(frame):
        raise DataError("the data frame has no rows.")
    if not all(isinstance(name, str) for name in frame.columns):
        frame = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise DataError(f"columns occur twice: {examples(list(repeated))}. Rename or drop them.")
    return frame


def select_rows(
    frame: pd.DataFrame, subset: Any, functions: Mapping[str, Callable[..., Any]] | None = None
) -> IntArray:
    """Positions of the rows that `subset` (an expression, a mask, or positions) keeps.

    Raises
    ------
    ArgumentError
        If it is none of these, or reaches beyond the rows.
    DataError
        If it keeps no row.
    """
    n = len(frame)
    if subset is None:
        return np.arange(n)
    name = f"subset={subset!r}" if isinstance(subset, str) else "subset"
    if isinstance(subset, str):
        try:
            subset = rows_where(frame, subset, functions)
        except Exception as err:
            raise ArgumentError(f"{name} cannot be evaluated: {err}.") from err
    chosen = np.asarray(subset)
    if chosen.dtype == bool:
        if len(chosen) != n:
            raise ArgumentError(f"subset has {len(chosen)} entries for {n} rows.")
        rows = np.flatnonzero(chosen)
    elif np.issubdtype(chosen.dtype, np.integer):
        if np.any((chosen < 0) | (chosen >= n)):
            beyond = chosen[(chosen < 0) | (chosen >= n)]
            raise ArgumentError(f"subset names rows {examples(beyond.tolist())}; the {n} rows are counted from 0.")
        values, times = np.unique(chosen, return_counts=True)
        if np.any(times > 1):
            raise ArgumentError(f"subset names rows {examples(values[times > 1].tolist())} twice.")
        rows = np.sort(chosen)
    else:
        raise ArgumentError("subset must be an expression, a boolean mask or row positions.")
    if not len(rows):
        raise DataError(f"{name} keeps no row.")
    return rows


def require_columns(frame: pd.DataFrame, names: Sequence[str], place: str) -> None:
    """Raise a DataError that names the columns that are absent, with the nearest spelling."""
    absent = [n for n in names if n not in frame.columns]
    if absent:
        near = difflib.get_close_matches(absent[0], [str(c) for c in frame.columns], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise DataError(
            f"no column {examples(absent)} in the data ({place}).{hint} The columns are "
            f"{', '.join(map(str, frame.columns[:20]))}.",
            columns=absent,
        )


def complete_rows(frame: pd.DataFrame, names: Sequence[str]) -> tuple[IntArray, dict[str, int]]:
    """Positions of the rows without a missing value among `names`, and the rows lost by variable."""
    keep = np.ones(len(frame), dtype=bool)
    lost: dict[str, int] = {}
    for name in names:
        gone = frame[name].isna().to_numpy()
        count = int(gone.sum())
        if count == len(frame):
            raise DataError(f"column {name!r} has no value at all: every row is missing.", columns=[name])
        if count:
            lost[name] = count
            keep &= ~gone
    if not keep.any():
        raise DataError(f"no row is complete in all of {examples(list(names))}; rows lost by variable: {lost}.")
    return np.flatnonzero(keep), lost


def numeric(values: Any, name: str, index: pd.Index) -> Array:
    """Finite float array of one variable; dates and durations count days.

    Raises
    ------
    DataError
        If it holds text, categories or infinite values.
    """
    series = plain_column(pd.Series(values), name)
    out = numbers_of(series)
    if out is None:
        odd = series[pd.to_numeric(series.astype(object), errors="coerce").isna().to_numpy()]
        shown = examples(list(odd.unique())) if len(odd) else f"dtype {series.dtype}"
        raise DataError(f"{name!r} must be numeric, but holds {shown}. Convert it with pd.to_numeric.", columns=[name])
    bad = np.flatnonzero(~np.isfinite(out))
    if len(bad):
        raise DataError(
            f"{name!r} is infinite or undefined in {len(bad)} rows: {examples(list(index[bad]))}. "
            "Correct or drop them.",
            columns=[name],
        )
    return out


def recode(frame: pd.DataFrame) -> pd.DataFrame:
    """Frame of plain columns, with unused categories dropped, as lme4 does, but for booleans, which have two levels."""
    changes: dict[str, Any] = {}
    for name, column in frame.items():
        plain = plain_column(column)
        if isinstance(plain.dtype, pd.CategoricalDtype) and not is_logical(plain):
            changes[str(name)] = plain.cat.remove_unused_categories()
        elif plain is not column:
            changes[str(name)] = plain
    return frame.assign(**changes) if changes else frame


def column_or_values(values: str | ArrayLike, frame: pd.DataFrame, name: str) -> str | pd.Series:
    """A column's name as it is; other values as a series on the frame's index."""
    if isinstance(values, str):
        require_columns(frame, [values], f"{name}=")
        return values
    array = np.asarray(values)
    if array.shape != (len(frame),):
        raise ArgumentError(f"{name} has shape {array.shape} for {len(frame)} rows.")
    return pd.Series(array, index=frame.index)


def positive(weights: Array) -> Array:
    """Weights, or a DataError that counts those that are not positive."""
    bad = int((weights <= 0).sum())
    if bad:
        raise DataError(f"weights must be positive; {bad} are not. Leave their rows out with subset=.")
    return weights
