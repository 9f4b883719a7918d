"""Columns of a file as they were written: 007 is not 7, though both are the number seven."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|Inf|INF|infinity|Infinity)")
_WHOLE = re.compile(r"[+-]?\d+")
_TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_LONGEST = 2**53  # whole numbers up to here are exact as float64
_ATTRIBUTE = "written"  # of a frame: columns whose numbers do not tell how they were written


class Written(dict[str, list[Any]]):
    """Fields of the columns of a file, by row of the file; carried, not copied, from frame to frame."""

    def __deepcopy__(self, memo: object) -> Written:
        """The same fields: nothing changes them."""
        return self


def typed_columns(text: pd.DataFrame, decimal: str) -> pd.DataFrame:
    """Frame of text with numbers where every field of a column is a plain number, and their text beside it."""
    columns, written = [], Written()
    for k, name in enumerate(text.columns):
        column, kept = _typed(text.iloc[:, k], decimal)
        columns.append(column)
        if kept is not None:
            written[str(name)] = kept
    frame = pd.concat(columns, axis=1) if columns else text
    if written:
        frame.attrs[_ATTRIBUTE] = written
    return frame


def _typed(text: pd.Series[Any], decimal: str) -> tuple[pd.Series[Any], list[Any] | None]:
    """A column as numbers or truth values where all its fields are, else as it is; and its fields if they tell more."""
    if not (pd.api.types.is_string_dtype(text.dtype) or text.dtype == object):
        return text, None
    codes, found = pd.factorize(text)
    fields = [str(field) for field in found]
    if not fields:
        return pd.Series(np.full(len(text), np.nan), index=text.index, name=text.name), None
    missing = bool(np.any(codes < 0))
    if all(field in _TRUTH for field in fields):
        truth = np.array([*(_TRUTH[field] for field in fields), None], dtype=object)[codes]
        return pd.Series(truth if missing else truth.astype(bool), index=text.index, name=text.name), None
    numbers = [plain(field, decimal) for field in fields]
    if not all(_NUMBER.fullmatch(number) for number in numbers):
        return text, None
    whole = all(_WHOLE.fullmatch(number) for number in numbers)
    exact = [int(number) for number in numbers] if whole else []
    if whole and not missing and all(-(2**63) <= value < 2**63 for value in exact):
        values = np.array(exact, dtype=np.int64)[codes]
        same = all(str(value) == field for value, field in zip(exact, fields, strict=True))
    else:
        floats = [float(number) for number in numbers]
        values = np.array([*floats, np.nan])[codes]
        same = all(repr(value) == field for value, field in zip(floats, fields, strict=True))
        if whole:
            same = all(str(v) == f and abs(v) <= _LONGEST for v, f in zip(exact, fields, strict=True))
    column = pd.Series(values, index=text.index, name=text.name)
    return column, None if same else np.array([*fields, None], dtype=object)[codes].tolist()


def plain(field: str, decimal: str) -> str:
    """A field with a point for its decimal sign, without blanks around it."""
    field = field.strip()
    return field if decimal == "." else field.replace(".", "?").replace(decimal, ".")


def is_plain_number(field: str, decimal: str = ".") -> bool:
    """Whether a field is a plain number."""
    return _NUMBER.fullmatch(plain(field, decimal)) is not None


def as_written(frame: pd.DataFrame, name: Any) -> pd.Series[Any]:
    """A column that holds ids or levels: the text of its file where the numbers do not tell it, else the column.

    Parameters
    ----------
    frame : DataFrame
        From a file or not, some or all of its rows.
    name : str
        Column.

    Returns
    -------
    Series
        Categories of text in the order of the numbers, or the column as it is. A column that was changed since it was
        read is what it was changed to.

    Examples
    --------
    >>> frame = typed_columns(pd.DataFrame({"id": ["7", "007"]}), ".")
    >>> frame["id"].tolist(), as_written(frame, "id").tolist()
    ([7, 7], ['7', '007'])
    """
    column = frame[name]
    fields = frame.attrs.get(_ATTRIBUTE, {}).get(str(name))
    index = frame.index
    if fields is None or not pd.api.types.is_integer_dtype(index.dtype) or not pd.api.types.is_numeric_dtype(column):
        return column
    place = index.to_numpy()
    if len(place) and (place.min() < 0 or place.max() >= len(fields)):
        return column
    text = pd.Series(np.array(fields, dtype=object)[place], index=index, name=column.name)
    codes, found = pd.factorize(text)
    numbers = np.array([*(_value(field) for field in found), np.nan])
    if not np.array_equal(numbers[codes], column.to_numpy(dtype=float), equal_nan=True):
        return column
    order = sorted(range(len(found)), key=lambda k: (numbers[k], found[k]))
    return text.astype(pd.CategoricalDtype([found[k] for k in order]))


def _value(field: str) -> float:
    """Number of a field, whichever its decimal sign."""
    return float(plain(field, "," if "," in field else "."))


def with_written(frame: pd.DataFrame, names: Sequence[Any]) -> pd.DataFrame:
    """The frame with these columns as they were written, as text."""
    there = frame.attrs.get(_ATTRIBUTE, {})
    changed = {}
    for name in names:
        if str(name) in there and name in frame.columns:
            column = as_written(frame, name)
            changed[name] = column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column
    return frame.assign(**changed) if changed else frame
