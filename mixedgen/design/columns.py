"""What a column is: a factor, or numbers computed as float64; one table of rules for every door.

A column of any type first takes one of few plain forms (`plain_column`): text, categories, booleans as categories,
whole numbers, floats, dates, durations. As levels it is used in that form, so that ids and names of levels stay as
they are; as numbers (`numbers_of`) it is float64.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from mixedgen.arrays import Array
from mixedgen.errors import DataError, examples

_LARGEST = np.iinfo(np.int64).max
LOGICAL = pd.CategoricalDtype([False, True])


def plain_column(column: pd.Series, name: str | None = None) -> pd.Series:
    """A column in its plain form: text, categories, numbers of numpy's types, dates or durations.

    Raises
    ------
    DataError
        If it holds complex numbers, lists, text among numbers, or anything else that is neither levels nor numbers.
    """
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return column
    name = str(column.name) if name is None else name
    if isinstance(dtype, np.dtype):
        return _PLAIN.get(dtype.kind, _unreadable)(column, name)
    if isinstance(dtype, pd.StringDtype) and column.array.dtype.na_value is not pd.NA:
        return column  # pandas' own text, which has one missing value only
    if isinstance(dtype, pd.DatetimeTZDtype):
        return column.dt.tz_convert(None)
    if pd.api.types.is_bool_dtype(dtype):
        return _of_objects(column.astype(object), name)
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return _of_extension(column)
    return _of_objects(column.astype(object), name)


def _as_it_is(column: pd.Series, name: str) -> pd.Series:
    """A column that has a plain form already."""
    return column


def _logical(column: pd.Series, name: str) -> pd.Series:
    """Booleans as the levels False and True, both whether or not they occur, as in R."""
    return column.astype(LOGICAL)


def _of_extension(column: pd.Series) -> pd.Series:
    """Numbers of pandas' or Arrow's types: whole ones stay so unless one is missing."""
    whole = pd.api.types.is_integer_dtype(column.dtype) and not column.isna().any()
    if whole:
        dtype = np.uint64 if pd.api.types.is_unsigned_integer_dtype(column.dtype) else np.int64
        values = column.to_numpy(dtype=dtype)
    else:
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return pd.Series(values, index=column.index, name=column.name)


def _of_objects(column: pd.Series, name: str) -> pd.Series:
    """A column of Python objects, by what they are."""
    kind = pd.api.types.infer_dtype(column, skipna=True)
    there = column[column.notna().to_numpy()]
    if kind in ("string", "empty"):
        return column.where(column.notna(), None) if len(there) < len(column) else column
    if kind == "boolean":
        return column.where(column.notna(), None).astype(LOGICAL)
    if kind in ("date", "datetime", "datetime64"):
        return pd.Series(pd.to_datetime(column, utc=True).dt.tz_convert(None), name=column.name)
    if kind in ("timedelta", "timedelta64"):
        return pd.Series(pd.to_timedelta(column), name=column.name)
    if all(isinstance(v, Real | Decimal) and not isinstance(v, bool | np.bool_) for v in there):
        return _of_numbers(column, there)
    return _unreadable(column, name)


def _of_numbers(column: pd.Series, there: pd.Series) -> pd.Series:
    """Objects that are numbers: whole ones as integers unless one is missing, for they may be ids, others as floats."""
    if len(there) == len(column) and all(_is_whole(v) for v in there):
        return pd.Series([int(v) for v in there], index=column.index, name=column.name, dtype=np.int64)
    out = np.full(len(column), np.nan)
    out[column.notna().to_numpy()] = [float(v) for v in there]
    return pd.Series(out, index=column.index, name=column.name)


def _is_whole(value: Any) -> bool:
    """Whether an object is a whole number that is no float, and that an integer of 64 bits holds."""
    return not isinstance(value, float | np.floating) and -_LARGEST <= value <= _LARGEST and value == int(value)


def _unreadable(column: pd.Series, name: str) -> pd.Series:
    """Raise a DataError that says which values stand in the way."""
    there = column[column.notna().to_numpy()].astype(object)
    text = [v for v in there if isinstance(v, str)]
    rest = [v for v in there if not isinstance(v, str)]
    if text and rest:
        raise DataError(
            f"column {name!r} mixes text and other values: {len(text)} are text ({examples(_distinct(text))}), "
            f"{len(rest)} are not ({examples(_distinct(rest))}). Make all text, or all numbers with pd.to_numeric.",
            columns=[name],
        )
    kinds = sorted({type(v).__name__ for v in rest})
    raise DataError(
        f"column {name!r} must be numeric or levels, but holds {' and '.join(kinds[:3])}: {examples(_distinct(rest))}. "
        "Make it text, numbers, booleans, dates or durations.",
        columns=[name],
    )


def _distinct(values: list[Any]) -> list[Any]:
    """Values that differ in writing, in order."""
    return list({repr(v): v for v in values}.values())


# Rules by the kind of a numpy type.
_PLAIN: dict[str, Callable[[pd.Series, str], pd.Series]] = {
    "b": _logical,
    "i": _as_it_is,
    "u": _as_it_is,
    "f": _as_it_is,
    "M": _as_it_is,
    "m": _as_it_is,
    "O": _of_objects,
}


def is_number(column: pd.Series) -> bool:
    """Whether a column is numbers, or counts days, and not levels."""
    return _counts(plain_column(column))


def _counts(column: pd.Series) -> bool:
    """Whether a plain column is numbers, dates or durations."""
    return isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufMm"


def is_logical(column: pd.Series) -> bool:
    """Whether a plain column is booleans."""
    return isinstance(column.dtype, pd.CategoricalDtype) and column.cat.categories.inferred_type == "boolean"


def numbers_of(column: pd.Series) -> Array | None:
    """Values of a plain column as float64, dates and durations in days; None for levels that are no booleans.

    Notes
    -----
    Days of dates are counted from 1970-01-01, as R's `Date` does.
    """
    if is_logical(column):
        codes = column.cat.codes.to_numpy()
        values = np.append(column.cat.categories.to_numpy(dtype=float), np.nan)
        return np.asarray(values[codes])
    if not _counts(column):
        return None
    if column.dtype.kind == "M":
        return _days(column - pd.Timestamp(0))
    if column.dtype.kind == "m":
        return _days(column)
    return column.to_numpy(dtype=np.float64)


def _days(durations: pd.Series) -> Array:
    """Durations in days, NaN where they are missing."""
    return np.asarray(durations.to_numpy() / np.timedelta64(1, "D"), dtype=np.float64)


def as_variable(column: pd.Series) -> pd.Series:
    """A column as a formula takes it by its name: levels, or float64."""
    plain = plain_column(column)
    values = numbers_of(plain) if _counts(plain) else None
    return plain if values is None else pd.Series(values, index=plain.index, name=plain.name)


def as_operand(column: pd.Series) -> pd.Series:
    """A column as arithmetic takes it: float64, booleans as 0 and 1; other levels as they are."""
    plain = plain_column(column)
    values = numbers_of(plain)
    return plain if values is None else pd.Series(values, index=plain.index, name=plain.name)
