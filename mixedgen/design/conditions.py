"""Conditions on the rows of a frame, such as ``"Days > 1 & sex == 'f'"``; nothing in one is run."""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedgen.errors import FormulaError
from mixedgen.formula.expressions import check_elementwise, dotted, syntax_tree
from mixedgen.formula.functions import ARGUMENTS, CONTEXT

Truths = NDArray[np.bool_]

_WORDS = re.compile(
    r"(\"[^\"]*\"|'[^']*'|`[^`]*`)|&&?|\|\|?|%in%|!(?!=)|\^|(?<![\w.])(?:is\.na|c)(?=\s*\()|"
    r"(?<![\w.])(?:TRUE|FALSE)(?![\w.])"
)
_PYTHON = {"&": " and ", "&&": " and ", "|": " or ", "||": " or ", "%in%": " in ", "!": " not ", "^": "**", "c": ""}
_PYTHON |= {"TRUE": "True", "FALSE": "False", "is.na": "isna"}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_TESTS: Mapping[str, Callable[[pd.Series], pd.Series]] = {"isna": pd.Series.isna, "notna": pd.Series.notna}
_ALLOWED = "a condition has columns, numbers, text, comparisons, `in`, & | ~, arithmetic and known functions"


def rows_where(frame: pd.DataFrame, text: str, functions: Mapping[str, Callable[..., Any]] | None = None) -> Truths:
    """Whether each row meets a condition, shape (n,); a comparison with a missing value does not hold.

    Parameters
    ----------
    frame : DataFrame
        The data.
    text : str
        The condition, in Python's words or R's.
    functions : mapping of str to callable, optional
        The user's functions that it may call.

    Raises
    ------
    FormulaError
        If it is no condition, or something stands in it that is not evaluated.
    """
    aliases: dict[str, str] = {}
    tree = syntax_tree(_WORDS.sub(lambda m: m[1] or _PYTHON[m[0]], text.strip()), aliases)
    with np.errstate(all="ignore"):
        return _truth(_Reader(frame, aliases, dict(functions or {})).value(tree))


class _Reader:
    """Values of the nodes of a condition: columns as they are in comparisons, float64 in arithmetic."""

    def __init__(self, frame: pd.DataFrame, aliases: Mapping[str, str], own: Mapping[str, Callable[..., Any]]) -> None:
        self._frame, self._aliases, self._own = frame, aliases, own

    def value(self, node: ast.expr) -> Any:
        """Value of a node; a FormulaError for one that is not listed here."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float):
            return node.value
        if isinstance(node, ast.Name | ast.Attribute):
            return self._column(node)
        if isinstance(node, ast.BoolOp):
            join = operator.and_ if isinstance(node.op, ast.And) else operator.or_
            return self._rows(reduce(join, [_truth(self.value(part)) for part in node.values]))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
            return self._rows(~_truth(self.value(node.operand)))
        if isinstance(node, ast.UnaryOp):
            number = _number(self.value(node.operand))
            return -number if isinstance(node.op, ast.USub) else number
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            left, right = _number(self.value(node.left)), _number(self.value(node.right))
            return _ARITHMETIC[type(node.op)](left, right)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        raise FormulaError(f"'{ast.unparse(node)[:60]}' cannot be evaluated: {_ALLOWED}")

    def _rows(self, holds: Truths) -> pd.Series:
        """A truth for each row."""
        return pd.Series(holds, index=self._frame.index)

    def _column(self, node: ast.Name | ast.Attribute) -> Any:
        """The column that is named, its name in backticks or plain, with dots or without."""
        name = self._aliases.get(node.id, node.id) if isinstance(node, ast.Name) else dotted(node)
        if name in self._frame.columns:
            return self._frame[name]
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)[:60]
            raise FormulaError(f"'{text}' is an attribute or a method: {_ALLOWED}, such as x in ['a', 'b']")
        near = difflib.get_close_matches(name, [str(c) for c in self._frame.columns], n=1)
        raise FormulaError(f"no column {name!r} in the data" + (f"; did you mean {near[0]!r}?" if near else ""))

    def _comparison(self, node: ast.Compare) -> pd.Series:
        """Comparisons in a row, which all hold."""
        sides = [self._listed(part) for part in (node.left, *node.comparators)]
        truths = [
            _truth(_compare(op, left, right)) for op, left, right in zip(node.ops, sides, sides[1:], strict=False)
        ]
        return self._rows(reduce(operator.and_, truths))

    def _listed(self, node: ast.expr) -> Any:
        """Value of one side of a comparison, which may be a list of literals."""
        return [self._literal(e) for e in node.elts] if isinstance(node, ast.List | ast.Tuple) else self.value(node)

    def _literal(self, node: ast.expr) -> Any:
        """A number or text in a list."""
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, RecursionError):
            value = None
        if not isinstance(value, str | int | float):
            raise FormulaError(f"'{ast.unparse(node)[:60]}' cannot stand in a list: numbers or text")
        return value

    def _call(self, node: ast.Call) -> Any:
        """A known function of numbers, or whether a column is missing."""
        name = (node.func.id if isinstance(node.func, ast.Name) else dotted(node.func)).removeprefix("np.")
        if name in self._own or name in ARGUMENTS:
            check_elementwise(node, name, ARGUMENTS.get(name, len(node.args)))
            values = [self.value(argument) for argument in node.args]
            own = self._own.get(name)
            result = CONTEXT[name](*map(_number, values)) if own is None else own(*map(_float, values))
            return result if isinstance(result, pd.Series) else pd.Series(result, index=self._frame.index)
        if name in _TESTS and len(node.args) == 1 and not node.keywords:
            return _TESTS[name](pd.Series(self.value(node.args[0]), index=self._frame.index))
        raise FormulaError(f"'{ast.unparse(node.func)[:60]}' is no known function: {_ALLOWED}, such as x in ['a', 'b']")


def _compare(op: ast.cmpop, left: Any, right: Any) -> Any:
    """One comparison; a list is equal to what is in it."""
    if (
        isinstance(right, list)
        and isinstance(left, pd.Series)
        and isinstance(op, ast.In | ast.NotIn | ast.Eq | ast.NotEq)
    ):
        inside = left.isin(right)
        return ~inside if isinstance(op, ast.NotIn | ast.NotEq) else inside
    if type(op) not in _COMPARISONS or isinstance(left, list) or isinstance(right, list):
        raise FormulaError("`in` has a column on its left and a list on its right: x in ['a', 'b']")
    return _COMPARISONS[type(op)](left, right)


def _float(value: Any) -> Any:
    """Numbers as float64; anything else as it is."""
    if isinstance(value, pd.Series) and pd.api.types.is_numeric_dtype(value):
        return pd.Series(value.to_numpy(dtype=np.float64, na_value=np.nan), index=value.index, name=value.name)
    return np.float64(value) if isinstance(value, int | float) else value


def _number(value: Any) -> Any:
    """Numbers as float64; dates and durations as they are; a FormulaError for anything else."""
    number = _float(value)
    kind = number.dtype.kind if isinstance(number, pd.Series | np.generic) else ""
    if kind not in ("f", "m", "M"):
        name = f"column {value.name!r}" if isinstance(value, pd.Series) else repr(value)
        raise FormulaError(f"{name} is no number to compute with")
    return number


def _truth(value: Any) -> Truths:
    """True or false for each row, missing as false."""
    if not isinstance(value, pd.Series):
        raise FormulaError("it must be true or false for each row")
    kind = pd.api.types.infer_dtype(value, skipna=True)
    if kind != "boolean":
        raise FormulaError("it must be true or false for each row")
    return np.asarray(value.astype(object).where(value.notna(), False), dtype=bool)
