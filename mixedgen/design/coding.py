"""Contact with formulaic's specs: variables, columns, coding."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mixedgen.arrays import Array
from mixedgen.design.frame import numeric, require_columns
from mixedgen.errors import DataError, examples
from mixedgen.formula.basis import BASES
from mixedgen.formula.sides import factor_variables, model_spec

# X goes sparse above this many columns and elements, if it is mostly zeros: below, dense arithmetic is faster, and its
# rank is found as R finds it; above, its zeros would be stored and multiplied.
DENSE_COLUMNS, DENSE_ELEMENTS = 20, 100_000


@dataclass(frozen=True)
class Origin:
    """The term of a formula that a column was made of.

    Attributes
    ----------
    name : str
        The term, ``"1"`` for the intercept.
    parts : frozenset of str
        Expressions of its factors.
    variables : frozenset of str
        Columns of the data that it needs; of a random effect its grouping factors too.
    """

    name: str
    parts: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()


INTERCEPT = Origin("1")


def origins(spec: Any) -> tuple[Origin, ...]:
    """Origin of each column of a model matrix."""
    out: list[Origin] = []
    for entry in spec.structure:
        name = str(entry.term)
        parts = frozenset(str(f.expr) for f in entry.term.factors) if name != "1" else frozenset()
        variables = frozenset(v for f in entry.term.factors for v in factor_variables(f, ()))
        out += [Origin(name, parts, variables)] * len(entry.columns)
    return tuple(out)


def variables_of(rhs: str, frame: pd.DataFrame) -> list[str]:
    """Columns of the frame that a formulaic right-hand side needs."""
    names = [v for term in model_spec(rhs) for factor in term.factors for v in factor_variables(factor, frame.columns)]
    require_columns(frame, names, f"in {rhs!r}")
    return names


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
