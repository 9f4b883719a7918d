"""Contact with formulaic's specs: variables, columns, coding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mixedgen.arrays import Array
from mixedgen.design.columns import as_variable, is_number
from mixedgen.design.frame import numeric, recode, require_columns
from mixedgen.design.materializer import Columns, Operands
from mixedgen.errors import DataError, MixedgenError, examples
from mixedgen.formula.functions import CONTEXT
from mixedgen.formula.sides import check_factor, factor_variables
from mixedgen.formula.summands import model_spec
from mixedgen.genetics.written import as_written

_FACTORS = ("C(", "factor(")  # make levels of a column
Functions = Mapping[str, Callable[..., Any]]

# X goes sparse above this many columns and elements, if it is mostly zeros: below, dense arithmetic is faster, and its
# rank is found as R finds it; above, its zeros would be stored and multiplied.
DENSE_COLUMNS, DENSE_ELEMENTS = 20, 100_000


@dataclass(frozen=True)
class Side:
    """One right-hand side, read.

    Attributes
    ----------
    text : str
        The side, its intercept stated.
    formula : Formula
        What formulaic reads in it.
    variables : tuple of str
        Columns of the data that it needs, each once.
    terms : tuple of str
        Its terms, without the contrasts chosen for columns.
    functions : mapping of str to callable
        The user's functions that it may call.
    """

    text: str
    formula: Any = field(repr=False, compare=False)
    variables: tuple[str, ...]
    terms: tuple[str, ...]
    functions: Functions = field(default_factory=dict, repr=False, compare=False)

    @property
    def context(self) -> dict[str, Any]:
        """What its expressions may call beside formulaic's transforms."""
        return {**CONTEXT, **self.functions}


def read_side(
    rhs: str,
    frame: pd.DataFrame,
    contrasts: Mapping[str, str] | None = None,
    functions: Functions | None = None,
) -> Side:
    """A right-hand side, whose columns are in the frame, and in which nothing but known functions is called."""
    formula = model_spec(rhs)
    for factor in (factor for term in formula for factor in term.factors):
        check_factor(factor, functions or {}, rhs)
    names = [v for term in formula for factor in term.factors for v in factor_variables(factor, frame.columns)]
    require_columns(frame, list(dict.fromkeys(names)), f"in {rhs!r}")
    coded = model_spec(rhs, contrasts) if contrasts else formula
    return Side(rhs, coded, tuple(dict.fromkeys(names)), tuple(str(term) for term in formula), functions or {})


@dataclass(frozen=True)
class Operand:
    """A response or an offset: a column, or an expression of columns."""

    text: str
    side: Side | None  # None for a column

    @property
    def variables(self) -> tuple[str, ...]:
        """Columns of the data that it needs."""
        return (self.text,) if self.side is None else self.side.variables


def read_operand(expression: str, frame: pd.DataFrame, functions: Functions | None = None) -> Operand:
    """A response or an offset, whose columns are in the frame."""
    if expression in frame.columns:
        return Operand(expression, None)
    return Operand(expression, read_side(f"0 + {expression}", frame, functions=functions))


def operand_values(operand: Operand, frame: pd.DataFrame, name: str) -> Array:
    """Values of a response or an offset, shape (n,); `name` is what errors call it."""
    if operand.side is None:
        return numeric(frame[operand.text], name, frame.index)
    X = dense(_model_matrix(operand.side, frame, Operands)[0])
    if X.shape[1] != 1:
        raise DataError(f"{name!r} must be one numeric column, but {operand.text!r} makes {X.shape[1]}.")
    return numeric(X.ravel(), name, frame.index)


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


def _origins(spec: Any) -> tuple[Origin, ...]:
    """Origin of each column of a model matrix."""
    out: list[Origin] = []
    for entry in spec.structure:
        name = str(entry.term)
        parts = frozenset(str(f.expr) for f in entry.term.factors) if name != "1" else frozenset()
        variables = frozenset(v for f in entry.term.factors for v in factor_variables(f, ()))
        out += [Origin(name, parts, variables)] * len(entry.columns)
    return tuple(out)


@dataclass(frozen=True)
class Input:
    """A column of the data that a coding takes as it is: a factor with its categories, or a number."""

    variable: str
    categories: pd.Index | None


@dataclass(frozen=True)
class Coder:
    """How the columns of one right-hand side were made, so that other data are coded alike.

    Attributes
    ----------
    side : Side
        The right-hand side.
    spec : ModelSpec or None
        formulaic's, with the categories and bases that it learnt; None for an intercept alone.
    """

    side: Side
    spec: Any = field(repr=False, compare=False)

    @property
    def size(self) -> int:
        """Number of columns."""
        return 1 if self.spec is None else len(self.spec.column_names)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Columns of the data that stand in the side by themselves, or as factors in ``C(...)``."""
        if self.spec is None:
            return ()
        factors = {str(f.expr): f for term in self.spec.terms for f in term.factors}
        out = []
        for name, (kind, state) in self.spec.encoder_state.items():
            text = str(name)
            names = factor_variables(factors[text], self.side.variables) if text in factors else []
            if kind.value == "numerical" and text in self.side.variables:
                out.append(Input(text, None))
            plain = text in self.side.variables or text.startswith("C(")
            if kind.value == "categorical" and len(names) == 1 and "categories" in state and plain:
                out.append(Input(names[0], pd.Index(state["categories"])))
        return tuple(out)

    def code(self, frame: pd.DataFrame) -> Array | sp.csr_array:
        """Columns of other data with these categories and bases, shape (m, size); sparse where it was sparse.

        A copy of the specification is used up, for formulaic keeps in it what it learns from data.
        """
        if self.spec is None:
            return np.ones((len(frame), 1))
        matrix = copy.deepcopy(self.spec).get_model_matrix(
            as_levels(self.side, frame), na_action="ignore", context=self.side.context
        )
        return _sparse(matrix.__wrapped__) if sp.issparse(matrix.__wrapped__) else dense(matrix.__wrapped__)


@dataclass(frozen=True)
class Coded:
    """Columns of one right-hand side, shape (n, m), with their names, their origins, and how they were made."""

    X: Array | sp.csr_array
    names: tuple[str, ...]
    origins: tuple[Origin, ...]
    coder: Coder


def code(side: Side, frame: pd.DataFrame) -> Coded:
    """Columns of a right-hand side, all finite."""
    X, spec = _model_matrix(side, frame)
    names = tuple(str(c) for c in spec.column_names)
    _check_finite(X, names)
    return Coded(X, names, _origins(spec), Coder(side, spec))


def intercept(side: Side, n: int) -> Coded:
    """The column of an intercept alone, which needs no coding."""
    return Coded(np.ones((n, 1)), ("Intercept",), (INTERCEPT,), Coder(side, None))


def variables_in(coder: Coder, frame: pd.DataFrame) -> pd.DataFrame:
    """Variables of a right-hand side; numbers that stand for levels become categories."""
    names = list(coder.side.variables)
    variables = recode(as_levels(coder.side, frame)[names].reset_index(drop=True))
    factors = {
        str(e)
        for e, (kind, _) in coder.spec.encoder_state.items()
        if kind.value == "categorical" and (str(e) in names or str(e).startswith(_FACTORS))
    }
    terms = coder.spec.terms
    levels = {v for t in terms for f in t.factors if str(f.expr) in factors for v in factor_variables(f, names)}
    numbers = [v for v in names if is_number(variables[v])]
    days = {v: as_variable(variables[v]) for v in numbers if v not in levels and variables[v].dtype.kind in "mM"}
    return variables.assign(**days).astype({v: "category" for v in levels if v in numbers})


def as_levels(side: Side, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with columns of numbers as they were written where they stand in ``C(...)`` alone."""
    levels, numbers = set[str](), set[str]()
    for factor in (factor for term in side.formula for factor in term.factors):
        made_levels = str(factor.expr).startswith(_FACTORS)
        (levels if made_levels else numbers).update(factor_variables(factor, frame.columns))
    changed = {name: as_written(frame, name) for name in levels - numbers}
    return frame.assign(**{name: column for name, column in changed.items() if column is not frame[name]})


def _expected_columns(formula: Any, frame: pd.DataFrame) -> int:
    """Upper bound of the number of columns a formulaic formula makes of a frame."""
    total = 0
    for term in formula:
        product = 1
        for factor in term.factors:
            names = factor_variables(factor, frame.columns)
            for name in names:
                if not is_number(frame[name]) or str(factor).startswith("C("):
                    product *= max(1, frame[name].nunique())
        total += product
    return total


def _model_matrix(
    side: Side, frame: pd.DataFrame, materializer: type[Columns] = Columns
) -> tuple[Array | sp.csr_array, Any]:
    """Columns of a right-hand side, sparse when they are many and mostly zeros, and formulaic's specification.

    Raises
    ------
    DataError
        If formulaic cannot evaluate it.
    """
    output = "numpy" if side.text == "1" else "pandas"
    frame = as_levels(side, frame)
    columns = _expected_columns(side.formula, frame)
    if columns > DENSE_COLUMNS and columns * len(frame) > DENSE_ELEMENTS:
        output = "sparse"
    try:
        matrix = side.formula.get_model_matrix(
            frame, output=output, na_action="ignore", context=side.context, materializer=materializer
        )
    except MixedgenError:
        raise
    except Exception as err:
        raise DataError(f"the model matrix of {side.text!r} cannot be made: {err}.") from err
    return _dense_or_sparse(matrix.__wrapped__), matrix.model_spec


def dense(X: Any) -> Array:
    """Values as a dense float array."""
    made_sparse: bool = sp.issparse(X)
    return np.asarray(X.toarray() if made_sparse else X, dtype=float)


def _sparse(X: Any) -> sp.csr_array:
    """Values that formulaic made sparse, as CSR of floats."""
    return sp.csr_array(X, dtype=np.float64)


def _dense_or_sparse(values: Any) -> Array | sp.csr_array:
    """Values as a dense float array, or CSR when they were made sparse and are mostly zeros."""
    if sp.issparse(values):
        X = _sparse(values)
        crowded = X.nnz > 0.2 * X.shape[0] * X.shape[1]
        return X.toarray() if crowded else X
    return np.asarray(values, dtype=float)


def _check_finite(X: Array | sp.csr_array, names: Sequence[str]) -> None:
    """Raise a DataError that names the columns of X with infinite or undefined values."""
    if sp.issparse(X):
        bad = np.unique(X.tocoo().col[~np.isfinite(X.data)])
    else:
        bad = np.array([]) if np.isfinite(X.sum()) else np.flatnonzero(~np.isfinite(X).all(axis=0))
    if len(bad):
        raise DataError(f"columns of X are infinite or undefined: {examples([names[int(j)] for j in bad])}.")
