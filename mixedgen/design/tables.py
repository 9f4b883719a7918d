"""Tables of other libraries as pandas frames: narwhals' eager and lazy ones, and Arrow's streams."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import pandas as pd

from mixedgen.errors import DataError, require_package

_INTEGERS = {
    "int8": pd.Int8Dtype(),
    "int16": pd.Int16Dtype(),
    "int32": pd.Int32Dtype(),
    "int64": pd.Int64Dtype(),
    "uint8": pd.UInt8Dtype(),
    "uint16": pd.UInt16Dtype(),
    "uint32": pd.UInt32Dtype(),
    "uint64": pd.UInt64Dtype(),
}


def foreign_table(data: Any) -> pd.DataFrame:
    """Pandas frame of a table that narwhals knows, lazy ones collected, or that speaks Arrow's stream interface.

    Raises
    ------
    DataError
        If it is no table.
    NotAvailableError
        If it needs pyarrow, which is not installed.
    """
    try:
        known: Any = nw.from_native(data)
    except TypeError:
        return _of_stream(data)
    frame = known.collect() if isinstance(known, nw.LazyFrame) else known
    return frame.to_pandas() if frame.implementation.is_pandas_like() else _of_arrow(frame.to_arrow())


def _of_stream(data: Any) -> pd.DataFrame:
    """Pandas frame of what speaks Arrow's stream interface."""
    if getattr(data, "__arrow_c_stream__", None) is None:
        raise DataError(f"data must be a data frame or a path, not {type(data).__name__}.")
    arrow = require_package("pyarrow", "a table of Arrow's stream interface", "mixedgen[io]")
    try:
        table = arrow.RecordBatchReader.from_stream(data).read_all()
    except arrow.ArrowInvalid:
        raise DataError(f"data must be a table, not one column: {type(data).__name__}.") from None
    return _of_arrow(table)


def _of_arrow(table: Any) -> pd.DataFrame:
    """Pandas frame of an Arrow table: whole numbers stay exact beside nulls, and text in a dictionary is sorted."""
    frame: pd.DataFrame = table.to_pandas()
    metadata = table.schema.pandas_metadata or {}
    own = {c["name"] for c in metadata.get("columns", []) if c.get("pandas_type") == "categorical"}
    for field, column in zip(table.schema, table.columns, strict=True):
        if field.name not in frame.columns or (frame.columns == field.name).sum() > 1:
            continue  # the index of a pandas frame; names that repeat are refused later
        if str(field.type) in _INTEGERS and column.null_count:
            frame[field.name] = pd.array(column.to_pylist(), dtype=_INTEGERS[str(field.type)])
        coded = isinstance(frame[field.name].dtype, pd.CategoricalDtype)
        if coded and not field.type.ordered and field.name not in own:
            categories = frame[field.name].cat.categories
            frame[field.name] = frame[field.name].cat.set_categories(categories.sort_values())
    return frame
