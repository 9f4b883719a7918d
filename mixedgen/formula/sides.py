"""Contact with formulaic's parser: tokens, terms, right-hand sides, errors; all else asks here."""

# formulaic has no type information.

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from formulaic import Formula as Formula
from formulaic.errors import FormulaicError
from formulaic.parser import DefaultFormulaParser
from formulaic.parser.algos.sanitize_tokens import sanitize_python_code
from formulaic.parser.algos.tokenize import tokenize
from formulaic.parser.types import Factor as TermFactor
from formulaic.parser.types import Term
from formulaic.transforms import TRANSFORMS
from formulaic.utils.variables import get_expression_variables

from mixedgen.errors import FormulaError
from mixedgen.formula.expansion import Operators
from mixedgen.formula.expressions import check_form, check_functions, in_python, quoted_columns

# Names that are written like a number, the intercept, a term, a level or an expression.
_AMBIGUOUS = re.compile(r"^[\d.]+$|^\(?Intercept\)?$|[:()\[\]{}\"']|\s[-+*/%<>=!&|]+\s|\*\*")

_PARSER = DefaultFormulaParser(Operators(), feature_flags={"twosided"})


class Token(NamedTuple):
    """A token of formulaic's and its span in the source, quotes at its end left out: source[start:end]."""

    kind: str  # name | value | python | operator | context
    text: str
    start: int
    end: int


def tokens(part: str, source: str) -> list[Token]:
    """Formulaic's tokens of a part of the source, which errors show whole."""
    try:
        return [Token(t.kind.value, t.token, t.source_start, t.source_end + 1) for t in tokenize(part)]
    except FormulaicError as error:
        raise _wrapped(error, source) from error


def canonical(code: str) -> str:
    """An expression in Python's words with canonical spacing; a FormulaError where it is none."""
    code = in_python(code)
    check_form(code)
    try:
        return str(sanitize_python_code(code))
    except SyntaxError:
        raise FormulaError(f"'{code}': a column whose name is a word of Python stands by itself: rename it") from None


def quoted_name(name: str) -> str:
    """Column name as formulaic reads it back; one that formulaic would take for something else as an expression."""
    if _AMBIGUOUS.search(name):
        return f"{{`{name}`}}"
    plain = name != "." and name.replace(".", "_").isidentifier()
    return name if plain else f"`{name}`"


def terms_of(rhs: str, source: str) -> tuple[Term, ...]:
    """Terms of a right-hand side as formulaic expands them; errors show the source."""
    try:
        return _terms(rhs)
    except (FormulaicError, SyntaxError) as error:
        raise _wrapped(error, source) from error
    except RecursionError:
        raise FormulaError("the formula has too many operators: make the columns before", formula=source) from None


def formula_of(rhs: str, source: str) -> Formula:
    """Formulaic's formula of a right-hand side, its terms sorted by degree; errors show the source."""
    return Formula(list(terms_of(rhs, source)))


@lru_cache(maxsize=128)
def _terms(rhs: str) -> tuple[Term, ...]:
    """Terms of a right-hand side, its expressions checked first: formulaic looks up their functions as it reads."""
    for token in tokenize(rhs):
        if token.kind is token.Kind.PYTHON:
            check_form(token.token)
    return tuple(_PARSER.get_terms(rhs))


def term_text(term: Term) -> str:
    """Term as formulaic reads it back."""
    return ":".join(_factor_text(factor) for factor in term.factors)


def _factor_text(factor: TermFactor) -> str:
    """Factor of a formulaic term as formulaic reads it back."""
    if factor.eval_method is TermFactor.EvalMethod.LOOKUP:
        return quoted_name(factor.expr)
    plain = factor.eval_method is TermFactor.EvalMethod.LITERAL or factor.expr.endswith(")")
    return str(factor.expr) if plain else f"{{{factor.expr}}}"


def check_factor(factor: TermFactor, own: Collection[str], source: str) -> None:
    """Raise a FormulaError unless one factor has only what may be evaluated; `own` are the functions of the user's."""
    if factor.eval_method is not TermFactor.EvalMethod.PYTHON:
        return
    try:
        check_functions(factor.expr, own)
    except FormulaError as error:
        raise FormulaError(f"{error}\n  {' '.join(source.split())}", formula=source) from None


def factor_variables(factor: TermFactor, columns: Collection[str]) -> list[str]:
    """Columns that one factor of a formulaic term needs.

    Parameters
    ----------
    factor : formulaic Factor
        From the terms of `model_spec`.
    columns : collection of str
        Columns of the data; one of them may bear the name of a function of formulaic's.
    """
    if factor.eval_method == TermFactor.EvalMethod.LOOKUP:
        return [str(factor.expr)]
    code, quoted = quoted_columns(factor.expr)
    try:
        found = get_expression_variables(code)
    except SyntaxError:
        return []  # told where the expression is checked
    roots = [(str(v.root), "callable" in v.roles) for v in found]
    names = [r for r, called in roots if (r in columns or r not in TRANSFORMS or r in quoted) and not called]
    return [quoted.get(name, name) for name in names]


def _wrapped(error: Exception, source: str) -> FormulaError:
    """Formulaic's error without its colours, with the source."""
    return FormulaError(f"{str(error).splitlines()[0]}\n  {' '.join(source.split())}", formula=source)
