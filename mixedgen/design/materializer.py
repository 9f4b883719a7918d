"""How formulaic meets the columns of a frame: each as the table of rules takes it, and products that stay in range."""

# formulaic has no type information.

# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from formulaic.materializers import PandasMaterializer
from formulaic.materializers.types import FactorValues
from formulaic.utils.layered_mapping import LayeredMapping
from interface_meta import override

from mixedgen.design.columns import LOGICAL, as_operand, as_variable, plain_column
from mixedgen.errors import DataError
from mixedgen.formula.expressions import syntax_tree
from mixedgen.formula.functions import NUMPY

_PRODUCTS = ("multiply", "square", "power", "divide")  # ufuncs that make products, as their errors name them


class _View(Mapping[str, Any]):
    """Columns of a frame in the form that one place of a formula takes, made when they are asked for."""

    def __init__(self, frame: pd.DataFrame, form: Callable[[pd.Series], Any]) -> None:
        self._frame, self._form = frame, form

    def __getitem__(self, name: str) -> Any:
        return self._form(self._frame[name])

    def __contains__(self, name: object) -> bool:
        return name in self._frame.columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._frame.columns)

    def __len__(self) -> int:
        return len(self._frame.columns)


class Columns(PandasMaterializer):
    """Model matrices of a frame whose columns are what `columns.py` says.

    Notes
    -----
    ``C(...)`` takes a column in its plain form, whose values name the levels; every other call takes numbers.
    """

    REGISTER_NAME = "mixedgen"
    REGISTER_INPUTS = ()
    layered_context: Any
    logical_levels = True  # whether a comparison gives the levels False and True

    @override
    def _lookup(self, name: str) -> tuple[Any, Any]:
        values, variables = super()._lookup(name)
        return (as_variable(values) if isinstance(values, pd.Series) else values), variables

    @override
    def _evaluate(self, expr: str, metadata: Any, spec: Any) -> tuple[Any, Any]:
        name = expr[1:-1]
        if expr == f"`{name}`" and name in self.data.columns:
            return self._lookup(name)
        layers = self.layered_context
        form = plain_column if expr.startswith("C(") else _as_array if _is_elementwise(expr) else as_operand
        self.layered_context = LayeredMapping(LayeredMapping(_View(self.data, form), name="data"), layers)
        try:
            values, variables = _in_range(expr, lambda: super(Columns, self)._evaluate(expr, metadata, spec))
        finally:
            self.layered_context = layers
        return self._result(values), variables

    def _result(self, values: Any) -> Any:
        """Logical results as levels, whole numbers as floats; what a transform made stays."""
        if isinstance(values, FactorValues) or not isinstance(values, np.ndarray | pd.Series) or values.ndim != 1:
            return values
        series = pd.Series(values, index=self.data.index)
        if series.dtype == bool:
            return series.astype(LOGICAL) if self.logical_levels else series.astype(np.float64)
        return series.astype(np.float64) if series.dtype.kind in "iu" else values

    @override
    def _get_columns_for_term(self, factors: list[dict[str, Any]], spec: Any, scale: float = 1) -> dict[str, Any]:
        what = ":".join(name for factor in factors for name in list(factor)[:1])
        make = super()._get_columns_for_term
        return dict(_in_range(what, lambda: make(factors, spec, scale=scale)))


class Operands(Columns):
    """As `Columns`, for a response or an offset, where a comparison gives 0 and 1."""

    REGISTER_NAME = "mixedgen_operands"
    logical_levels = False


def _is_elementwise(expr: str) -> bool:
    """Whether an expression calls nothing but numpy's functions and ``I``."""
    called = [node.func for node in ast.walk(syntax_tree(expr)) if isinstance(node, ast.Call)]
    return all(isinstance(f, ast.Attribute) or (isinstance(f, ast.Name) and f.id in ("I", *NUMPY)) for f in called)


def _as_array(column: pd.Series) -> Any:
    """Numbers as an array, for pandas would not tell that a product leaves the range; levels as they are."""
    operand = as_operand(column)
    return operand.to_numpy() if operand.dtype == np.float64 else operand


def _in_range(what: str, make: Callable[[], Any]) -> Any:
    """What `make` returns; a product or power beyond float64, or one that vanishes, is a DataError.

    That exp(-1000) is zero is no fault, so that other functions may leave the range.
    """
    try:
        with np.errstate(over="raise", under="raise"):
            return make()
    except FloatingPointError as err:
        if any(word in str(err) for word in _PRODUCTS):
            raise DataError(f"{what!r} leaves the range of numbers: {err}. Scale its columns first.") from err
    with np.errstate(all="ignore"):
        return make()
