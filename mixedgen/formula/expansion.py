"""The products and powers of a formula as terms, each distinct term once, and no more terms than a model could have."""

# formulaic has no type information.

# mypy: disable-error-code="import-untyped,misc"

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

from formulaic.errors import FormulaParsingError
from formulaic.parser.parser import DefaultOperatorResolver
from formulaic.parser.types import Operator, OrderedSet, Term

_MOST_TERMS = 10_000
_MOST_PARENTS = 50  # before a slash, which multiplies them all
_IN_PRECEDENCE = 250  # of %in%: below ':' and above '*', as in R


class Operators(DefaultOperatorResolver):
    """Formulaic's operators; products and powers end at once."""

    @property
    def operators(self) -> list[Operator]:
        """Each operator with what it makes of terms."""
        return [_bounded(operator) for operator in super().operators]


def _bounded(operator: Operator) -> Operator:
    """An operator, its products of terms counted before they are made."""
    if operator.symbol in ("**", "^"):
        return _with_terms(operator, _power)
    if operator.symbol == "in":
        return _with_terms(operator, _counted(_nested), precedence=_IN_PRECEDENCE)
    if operator.symbol == "/":
        return _with_terms(operator, _counted(operator.to_terms, most_parents=_MOST_PARENTS))
    if operator.symbol in ("*", ":") and operator.arity == 2:
        return _with_terms(operator, _counted(operator.to_terms))
    return operator


def _with_terms(operator: Operator, to_terms: Callable[..., Any], precedence: float | None = None) -> Operator:
    """The operator with another expansion."""
    return Operator(
        operator.symbol,
        arity=operator.arity,
        precedence=operator.precedence if precedence is None else precedence,
        associativity=operator.associativity,
        fixity=operator.fixity,
        to_terms=to_terms,
    )


def _nested(left: OrderedSet[Term], right: OrderedSet[Term]) -> OrderedSet[Term]:
    """Each term on the left within all of those on the right: ``a %in% b`` is a:b, as in R."""
    return OrderedSet(reduce(lambda a, b: a * b, right, term) for term in left)


def _counted(to_terms: Callable[..., Any], most_parents: int = _MOST_TERMS) -> Callable[..., Any]:
    """The expansion of two operands, refused when it has too many terms."""

    def expand(left: Iterable[Term], right: Iterable[Term]) -> Any:
        lefts, rights = OrderedSet(left), OrderedSet(right)
        _check_count(len(lefts) * len(rights))
        if len(lefts) > most_parents:
            raise FormulaParsingError(f"more than {most_parents} terms stand before '/': write out those meant")
        return to_terms(lefts, rights)

    return expand


def _power(terms: Iterable[Term], exponent: Iterable[Term]) -> OrderedSet[Term]:
    """Products of up to `exponent` terms; as in R they stop at the number of distinct factors."""
    text = ":".join(str(term) for term in exponent)
    if not text.isdecimal() or int(text[:9]) < 1:
        raise FormulaParsingError(f"a power in a formula is a whole number from 1, not {text}")
    base = OrderedSet(terms)
    out = base
    for _ in range(int(text[:9]) - 1):
        _check_count(len(out) * len(base))
        more = OrderedSet(reduce(lambda a, b: a * b, pair) for pair in ((a, b) for a in out for b in base))
        if len(more) == len(out):
            break
        out = more
    return out


def _check_count(count: int) -> None:
    """Raise for more terms than a model could have."""
    if count > _MOST_TERMS:
        raise FormulaParsingError(f"the formula has more than {_MOST_TERMS} products of terms: write out those meant")
