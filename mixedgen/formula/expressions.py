"""Expressions in a formula are data: what may stand in one is checked on its syntax tree, before it is evaluated.

An expression has columns, numbers, operators and calls of known functions. Nothing else is evaluated: no other
attribute, no subscript, lambda, comprehension or f-string.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import Any

from mixedgen.errors import FormulaError, examples
from mixedgen.formula.functions import ARGUMENTS, CONTRAST_CODINGS, COUNTERPARTS, KNOWN, NUMPY

DEPTH = 50  # of brackets
_TREE_DEPTH = 100
_TOO_DEEP = f"the expression has more than {_TREE_DEPTH} operations within each other: make the column before"
_LENGTH = 10_000
_LARGEST_DEGREE = 1_000  # of a polynomial or a spline

_QUOTED = r"\"[^\"]*\"|'[^']*'|`[^`]*`"
_COLUMN = re.compile(r"(\"[^\"]*\"|'[^']*')|`([^`]+)`")
_POWER = re.compile(rf"({_QUOTED})|\^")
_TRUTH = re.compile(rf"({_QUOTED})|(?<![\w.])(TRUE|FALSE)(?![\w.(])")
_FACTOR = re.compile(rf"({_QUOTED})|(?<![\w.])(?:as\.factor|factor)(?=\s*\()")
_DOTTED = re.compile(rf"(?:{_QUOTED})|(?<![\w.])((?:as|is)\.\w+)(?=\s*\()")
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_LOGIC = (ast.BitAnd, ast.BitOr)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_ALLOWED = "an expression has columns, numbers, operators, known functions and those of functions={...}"


def in_python(code: str) -> str:
    """R's everyday words in Python's: ``^``, ``TRUE``, ``factor()``; a FormulaError for those without an equal."""
    for found in _DOTTED.finditer(code):
        name = found[1]
        if name and name != "as.factor":
            raise FormulaError(f"{name}() is no function here: {COUNTERPARTS.get(name, 'make the column before')}")
    code = _POWER.sub(lambda m: m[1] or "**", code)
    code = _TRUTH.sub(lambda m: m[1] or m[2].title(), code)
    return _FACTOR.sub(lambda m: m[1] or "C", code)


def check_form(code: str) -> ast.expr:
    """Syntax tree of an expression in which nothing could run but calls by name.

    Raises
    ------
    FormulaError
        If something else stands in it: what, and what to do.
    """
    tree = syntax_tree(code)
    _Checker().visit(tree)
    return tree


def check_functions(code: str, own: Collection[str]) -> None:
    """Raise a FormulaError unless the form is right, and the functions are known or among the user's `own`."""
    for node in ast.walk(check_form(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in own:
            _check_call(node, node.func.id)


def quoted_columns(code: str) -> tuple[str, dict[str, str]]:
    """An expression with plain names for the columns in backticks, and the column that each stands for."""
    columns: dict[str, str] = {}

    def plain(found: re.Match[str]) -> str:
        if found[1]:
            return found[1]
        columns[f"quoted_column_{len(columns)}"] = found[2]
        return next(reversed(columns))

    return _COLUMN.sub(plain, code), columns


def syntax_tree(code: str, aliases: MutableMapping[str, str] | None = None) -> ast.expr:
    """Syntax tree of Python code with names in backticks; a FormulaError where it is none, or too deep to walk.

    The names that stand for those in backticks are entered in `aliases`.
    """
    if len(code) > _LENGTH:
        raise FormulaError(f"an expression of {len(code)} characters is too long: make the column before")
    if not all(char.isprintable() or char in "\n\t\r" for char in code):
        raise FormulaError("a character that cannot be printed stands in the expression: take it out")
    try:
        plain, quoted = quoted_columns(code)
        tree = ast.parse(plain.strip(), mode="eval").body
    except (RecursionError, MemoryError):
        raise FormulaError(_TOO_DEEP) from None
    except (SyntaxError, ValueError, IndexError, TypeError):
        raise FormulaError(f"'{code}' is not a valid expression") from None
    if aliases is not None:
        aliases.update(quoted)
    below: list[ast.AST] = [tree]
    for _ in range(_TREE_DEPTH):
        below = [child for node in below for child in ast.iter_child_nodes(node)]
    if below:
        raise FormulaError(_TOO_DEEP)
    return tree


class _Checker:
    """Walks a syntax tree; anything that is not listed is refused."""

    def visit(self, node: ast.AST, *, argument: bool = False) -> None:
        """Check a node; an `argument` may be text, a list or a coding as well."""
        if isinstance(node, ast.Constant):
            _check_constant(node.value, argument)
        elif isinstance(node, ast.Name):
            if "__" in node.id:
                raise FormulaError(f"'{node.id}' cannot be used: {_ALLOWED}")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, _ARITHMETIC + _LOGIC):
            self.visit(node.left)
            self.visit(node.right)
            _constant(node)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub | ast.Invert):
            self.visit(node.operand)
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], _COMPARISONS):
            self.visit(node.left, argument=True)
            self.visit(node.comparators[0], argument=True)
        elif isinstance(node, ast.Call):
            self._call(node)
        elif isinstance(node, ast.Attribute):
            if dotted(node) not in ("np.pi", "np.e") and not (argument and _is_coding(node)):
                raise FormulaError(_refusal(node))
        elif argument and isinstance(node, ast.List | ast.Tuple):
            for element in node.elts:
                self.visit(element, argument=True)
        else:
            raise FormulaError(_refusal(node))

    def _call(self, node: ast.Call) -> None:
        """Check a call: of a plain name, of numpy, or of a coding."""
        if isinstance(node.func, ast.Attribute):
            name = dotted(node.func)
            if not _is_coding(node.func) and not (name.startswith("np.") and name[3:] in NUMPY):
                raise FormulaError(_refusal(node.func))
            if name.startswith("np."):
                check_elementwise(node, name, NUMPY[name[3:]])
        elif not isinstance(node.func, ast.Name) or "__" in node.func.id:
            raise FormulaError(_refusal(node.func))
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg.startswith("_") or keyword.arg in ("hash_func", "out"):
                raise FormulaError(f"'{keyword.arg or '**'}' cannot be an argument in a formula: {_ALLOWED}")
        for value in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.visit(value, argument=True)


def _check_call(node: ast.Call, name: str) -> None:
    """Raise unless a function is known and has arguments that end in a reasonable time."""
    if name in ARGUMENTS:
        check_elementwise(node, name, ARGUMENTS[name])
    elif name in COUNTERPARTS:
        raise FormulaError(f"{name}() is no function here: {COUNTERPARTS[name]}")
    elif name not in KNOWN:
        raise FormulaError(
            f"{name}() is no known function: make the column before, or pass functions={{'{name}': {name}}}"
        )
    elif name not in ("C", "I", "Q", "hashed"):
        sizes = [k.value for k in node.keywords if k.arg in ("df", "degree")] + node.args[1:2]
        for size in sizes:
            value = _constant(size)
            if value is not None and abs(value) > _LARGEST_DEGREE:
                raise FormulaError(f"{name}(): a degree above {_LARGEST_DEGREE} is not possible")


def check_elementwise(node: ast.Call, name: str, most: int) -> None:
    """Raise for keywords of numpy's, and for more arguments than the function reads."""
    keywords = [k.arg or "**" for k in node.keywords if (name.removeprefix("np."), k.arg) != ("round", "decimals")]
    if keywords or len(node.args) > most:
        what = examples(keywords) if keywords else f"{len(node.args)} arguments"
        raise FormulaError(f"{name}() takes {most} argument{'s' * (most > 1)} in a formula, not {what}")


def _check_constant(value: object, argument: bool) -> None:
    """Raise for a literal that is neither a number, nor plain text as an argument."""
    if isinstance(value, str):
        if not argument:
            raise FormulaError(f"text such as {value!r} cannot be computed with: {_ALLOWED}")
        if any(char in "\\\"'`" or not char.isprintable() for char in value):
            raise FormulaError(f"text in an expression cannot have quotes or backslashes: {value!r}")
    elif isinstance(value, bool | int | float):
        if not abs(_as_float(value)) < math.inf:
            raise FormulaError("a number in the expression is too large")
    elif value is not None or not argument:
        raise FormulaError(f"{value!r} cannot stand in an expression: {_ALLOWED}")


def _constant(node: ast.AST) -> float | None:
    """Value of an expression of numbers alone, None with anything else; an error where it is no number or too large."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return _as_float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        inner = _constant(node.operand)
        return -inner if inner is not None and isinstance(node.op, ast.USub) else inner
    if not isinstance(node, ast.BinOp):
        return None
    left, right = _constant(node.left), _constant(node.right)
    if left is None or right is None or isinstance(node.op, _LOGIC):
        return None
    try:
        value = _OPERATIONS[type(node.op)](left, right)
        if isinstance(value, complex) or not math.isfinite(value):
            raise OverflowError
    except (ArithmeticError, ValueError):
        raise FormulaError(f"'{ast.unparse(node)}' is no number, or too large a one") from None
    return value


_OPERATIONS: Mapping[type[ast.operator], Callable[[float, float], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
    ast.Pow: lambda a, b: a**b,
}


def _as_float(value: float) -> float:
    """A number as a float, infinite where it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def dotted(node: ast.AST) -> str:
    """``np.sqrt`` of an attribute of a plain name; empty for any other."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


def _is_coding(node: ast.Attribute) -> bool:
    """Whether an attribute is one of the codings, such as ``contr.sum``."""
    return dotted(node) in {f"contr.{name}" for name in CONTRAST_CODINGS}


def _refusal(node: ast.AST) -> str:
    """What is not allowed, and what to do."""
    try:
        text = ast.unparse(node)
    except RecursionError:
        text = "..."
    text = text if len(text) <= 60 else f"{text[:60]}..."
    if isinstance(node, ast.Attribute):
        known = dotted(node).startswith("np.")
        what = f"'{text}' is no elementwise function of numpy" if known else f"'{text}' is an attribute or a method"
        return f"{what}: make the column before, or pass functions={{'f': f}} and write f(...)"
    if isinstance(node, ast.Compare):
        return f"'{text}' is no single comparison: write (a < b) & (b < c)"
    if isinstance(node, ast.BoolOp) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)):
        return f"'{text}': write & for and, | for or, ~ for not, each side in parentheses"
    return f"'{text}' cannot be evaluated: {_ALLOWED}"
