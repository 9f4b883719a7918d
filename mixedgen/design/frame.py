"""The data frame: reading, checking, and the columns that formulaic makes of it."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from mixedgen.errors import ArgumentError, DataError, examples
from mixedgen.formula.basis import BASES
from mixedgen.formula.parse import factor_variables, model_spec

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

# X goes sparse above this many columns and elements, if it is mostly zeros: below, dense arithmetic is faster, and its
# rank is found as R finds it; above, its zeros would be stored and multiplied.
DENSE_COLUMNS, DENSE_ELEMENTS = 20, 100_000


def read_frame(data: Any) -> pd.DataFrame:
    """Pandas frame of a pandas, polars or arrow table, or of the CSV or Parquet file at a path.

    Raises
    ------
    DataError
        If it is none of these, has no rows, or repeats a column name.
    """
    if isinstance(data, str | Path):
        path = Path(data)
        if not path.is_file():
            raise DataError(f"there is no file {str(path)!r}.")
        try:
            frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as err:
            raise DataError(f"{str(path)!r} cannot be read as a table: {err}.") from err
    elif isinstance(data, pd.DataFrame):
        frame = data
    elif isinstance(data, Mapping):
        try:
            frame = pd.DataFrame(dict(data))
        except ValueError as err:
            raise DataError(f"the mapping of columns makes no table: {err}.") from err
    else:
        try:
            frame = nw.from_native(data, eager_only=True).to_pandas()
        except TypeError:
            raise DataError(f"data must be a data frame or a path, not {type(data).__name__}.") from None
    if not len(frame):
        raise DataError("the data frame has no rows.")
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise DataError(f"columns occur twice: {examples(list(repeated))}. Rename or drop them.")
    return frame


def select_rows(frame: pd.DataFrame, subset: Any) -> IntArray:
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
            subset = frame.eval(subset)
        except Exception as err:
            raise ArgumentError(f"{name} cannot be evaluated: {err}.") from err
        if np.asarray(subset).dtype != bool:
            raise ArgumentError(f"{name} is no condition: it must be true or false for each row.")
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
    """Finite float array of one variable.

    Raises
    ------
    DataError
        If it holds text, categories or infinite values.
    """
    series = pd.Series(values)
    if isinstance(series.dtype, pd.CategoricalDtype) or not (
        pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_complex_dtype(series)
    ):
        odd = series[pd.to_numeric(series.astype(object), errors="coerce").isna().to_numpy()]
        shown = examples(list(odd.unique())) if len(odd) else f"dtype {series.dtype}"
        raise DataError(f"{name!r} must be numeric, but holds {shown}. Convert it with pd.to_numeric.", columns=[name])
    out = series.to_numpy(dtype=float)
    bad = np.flatnonzero(~np.isfinite(out))
    if len(bad):
        raise DataError(
            f"{name!r} is infinite or undefined in {len(bad)} rows: {examples(list(index[bad]))}. "
            "Correct or drop them.",
            columns=[name],
        )
    return out


def variables_of(rhs: str, frame: pd.DataFrame) -> list[str]:
    """Columns of the frame that a formulaic right-hand side needs."""
    names = [v for term in model_spec(rhs) for factor in term.factors for v in factor_variables(factor, frame.columns)]
    require_columns(frame, names, f"in {rhs!r}")
    return names


def recode(frame: pd.DataFrame) -> pd.DataFrame:
    """Frame with unused categories dropped, as lme4 does, and pandas' own missing-value types made plain."""
    changes: dict[str, Any] = {}
    for name, column in frame.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            changes[str(name)] = column.cat.remove_unused_categories()
        elif pd.api.types.is_extension_array_dtype(column.dtype) and pd.api.types.is_numeric_dtype(column.dtype):
            changes[str(name)] = column.to_numpy(dtype=float)
    return frame.assign(**changes) if changes else frame


def expected_columns(formula: Any, frame: pd.DataFrame) -> int:
    """Upper bound of the number of columns a formulaic formula makes of a frame."""
    total = 0
    for term in formula:
        product = 1
        for factor in term.factors:
            names = factor_variables(factor, frame.columns)
            for name in names:
                if not pd.api.types.is_numeric_dtype(frame[name]) or str(factor).startswith("C("):
                    product *= max(1, frame[name].nunique())
        total += product
    return total


def materialise(rhs: str, frame: pd.DataFrame, contrasts: Mapping[str, str] | None = None) -> Any:
    """Formulaic's ModelMatrix of a right-hand side: dense, or sparse when it is wide.

    Raises
    ------
    DataError
        If formulaic cannot evaluate it, or a value is infinite.
    """
    formula = model_spec(rhs, contrasts) if contrasts else model_spec(rhs)
    output = "numpy" if len(formula) == 1 and rhs == "1" else "pandas"
    columns = expected_columns(formula, frame)
    if columns > DENSE_COLUMNS and columns * len(frame) > DENSE_ELEMENTS:
        output = "sparse"
    try:
        matrix = formula.get_model_matrix(frame, output=output, na_action="ignore", context=BASES)
    except Exception as err:
        raise DataError(f"the model matrix of {rhs!r} cannot be made: {err}.") from err
    return matrix


def coded_alike(spec: Any, frame: pd.DataFrame) -> Any:
    """Values of other data coded as a model matrix was: its categories, its bases; dense, or sparse as it was.

    A copy of the specification is used up, for formulaic keeps in it what it learns from data.
    """
    return copy.deepcopy(spec).get_model_matrix(frame, na_action="ignore", context=BASES).__wrapped__


def dense_or_sparse(matrix: Any) -> Array | sp.csr_array:
    """Values of a ModelMatrix: dense float array, or CSR when it was made sparse and is mostly zeros."""
    values: Any = matrix.__wrapped__
    if sp.issparse(values):
        sparse = sp.csr_array(matrix.__wrapped__, dtype=np.float64)
        crowded = sparse.nnz > 0.2 * sparse.shape[0] * sparse.shape[1]
        return sparse.toarray() if crowded else sparse
    return np.asarray(values, dtype=float)


def check_finite(X: Array | sp.csr_array, names: Sequence[str]) -> None:
    """Raise a DataError that names the columns of X with infinite or undefined values."""
    if sp.issparse(X):
        bad = np.unique(X.tocoo().col[~np.isfinite(X.data)])
    else:
        bad = np.array([]) if np.isfinite(X.sum()) else np.flatnonzero(~np.isfinite(X).all(axis=0))
    if len(bad):
        raise DataError(f"columns of X are infinite or undefined: {examples([names[int(j)] for j in bad])}.")


def evaluate(expression: str, frame: pd.DataFrame, name: str) -> Array:
    """Values of one numeric expression (a response or an offset), shape (n,)."""
    if expression in frame.columns:
        return numeric(frame[expression], name, frame.index)
    matrix = materialise(f"0 + {expression}", frame)
    values = dense_or_sparse(matrix)
    if values.shape[1] != 1:
        raise DataError(f"{name!r} must be one numeric column, but {expression!r} makes {values.shape[1]}.")
    return numeric(np.asarray(values).ravel(), name, frame.index)


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
