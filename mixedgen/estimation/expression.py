"""Arithmetic expressions of variance parameters, with their gradients."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixedgen.arrays import Array
from mixedgen.errors import ArgumentError, FormulaError, examples, suggestion
from mixedgen.formula.expressions import syntax_tree

_FUNCTIONS = {"sqrt": np.sqrt, "log": np.log, "exp": np.exp}

_COMPLEX_STEP = 1e-30  # the derivative's error is its square, below any rounding


@dataclass(frozen=True)
class Expression:
    """An expression in the names of the variance parameters.

    Attributes
    ----------
    name : str
        Left of the ``=``, or the expression itself.
    text : str
        The expression.
    names : tuple of str
        Names of theta.
    tree : ast.expr
        Its syntax tree, with an identifier in the place of each parameter.
    places : dict
        Which parameter each identifier is.
    """

    name: str
    text: str
    names: tuple[str, ...]
    tree: ast.expr
    places: dict[str, int]

    def value(self, theta: Array) -> float:
        """Its value; missing after a division by zero, or a root or log of a negative number."""
        with np.errstate(all="ignore"):
            value = np.complex128(_value_of_node(self.tree, self.places, theta.astype(complex), self.names))
        return float(value.real) if np.isfinite(value) and value.imag == 0 else np.nan

    def gradient(self, theta: Array) -> Array:
        """Its derivative by theta, shape (n_theta,), by a complex step."""
        out = np.zeros(len(theta))
        for i in set(self.places.values()):
            moved = theta.astype(complex)
            size = max(abs(theta[i]), 1e-8 * float(np.abs(theta).max()))
            moved[i] += 1j * _COMPLEX_STEP * size
            with np.errstate(all="ignore"):
                out[i] = _value_of_node(self.tree, self.places, moved, self.names).imag / (_COMPLEX_STEP * size)
        return out


def expression(text: str, names: tuple[str, ...]) -> Expression:
    """Read ``"name = expression"``, or an expression.

    Raises
    ------
    ArgumentError
        If it cannot be read, or names something that is no variance parameter.
    """
    name, _, right = text.partition("=") if "=" in text else (text, "", text)
    tree, places = _read_expression(right.strip(), names)
    out = Expression(name.strip(), right.strip(), names, tree, places)
    try:
        out.value(np.ones(len(names)))  # names and operations are checked where they are used
    except OverflowError:
        raise ArgumentError(f"the expression {text!r} has a number that is too large.") from None
    return out


def _read_expression(text: str, names: tuple[str, ...]) -> tuple[ast.expr, dict[str, int]]:
    """Syntax tree of an expression with a plain identifier in the place of each parameter, and which is which."""
    places: dict[str, int] = {}
    out, at = "", 0
    plain = text.replace(" ", "")
    by_length = sorted(range(len(names)), key=lambda i: -len(names[i]))
    while at < len(plain):
        hit = next((i for i in by_length if plain.startswith(names[i].replace(" ", ""), at)), None)
        if hit is not None and not (out and (out[-1].isalnum() or out[-1] == "_")):
            places[f"theta_{hit}"] = hit
            out += f" theta_{hit} "
            at += len(names[hit].replace(" ", ""))
        else:
            out += plain[at]
            at += 1
    try:
        tree = syntax_tree(out.strip())
    except FormulaError as err:
        raise ArgumentError(f"the expression {text!r} cannot be read; the names are {examples(names)}.") from err
    return tree, places


def _value_of_node(node: ast.expr, places: dict[str, int], values: Any, names: tuple[str, ...]) -> Any:
    """Value of a syntax tree of arithmetic."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return np.complex128(node.value)
    if isinstance(node, ast.Name) and node.id in places:
        return values[places[node.id]]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _value_of_node(node.operand, places, values, names)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left, right = (_value_of_node(side, places, values, names) for side in (node.left, node.right))
        return _OPERATIONS[type(node.op)](left, right)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in _FUNCTIONS
        and len(node.args) == 1
    ):
        return _FUNCTIONS[node.func.id](_value_of_node(node.args[0], places, values, names))
    text = ast.unparse(node)
    for place, i in sorted(places.items(), reverse=True):
        text = text.replace(place, names[i])
    raise ArgumentError(
        f"{text!r} is neither a variance parameter nor arithmetic (+ - * / ** sqrt log exp).{suggestion(text, names)} "
        f"The parameters are {examples(names)}."
    )


_OPERATIONS: dict[type, Any] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}
