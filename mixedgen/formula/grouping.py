"""What stands right of a bar."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from mixedgen.errors import FormulaError, examples
from mixedgen.formula.lexemes import Lexeme, Text, as_written, is_group, operators_outside, split_at
from mixedgen.formula.parts import Column, Factor, Mates, Members, MultiMembership

_Groups = list[tuple[Factor, ...]]
_MOST_GROUPS, _MOST_NESTED = 1_000, 50


def _groups(text: Text, lexemes: Sequence[Lexeme], effects: str) -> _Groups:
    """Interactions right of the bar in the order and with the names of lme4.

    R sorts terms by degree; a slash anywhere makes lme4 reverse each name and the list.
    """
    _refuse_dangling(text, lexemes)
    groups = sorted((_in_written_order(text, lexemes, group) for group in _sum(text, lexemes)), key=len)
    slash = next((lexeme for lexeme in lexemes if lexeme.text == "/" and lexeme.kind == "operator"), None)
    if slash is None:
        return groups
    if any(factor.link for group in groups for factor in group):
        parts = [as_written(text, part) for _, part in split_at(lexemes, ("/",))]
        separate = " + ".join(f"({effects}|{part})" for part in parts)
        nested = f"({effects}|{':'.join(parts)})"
        raise text.error(f"'/' does not go with a relationship: write {separate}, or {nested}", slash.start)
    return [group[::-1] for group in groups[::-1]]


def _in_written_order(text: Text, lexemes: Sequence[Lexeme], group: tuple[Factor, ...]) -> tuple[Factor, ...]:
    """Factors by their first place right of the bar, as R writes the labels of terms."""
    if len(group) == 1:
        return group
    sources = [_source(text, lexeme) for lexeme in lexemes if lexeme.kind in ("name", "call")]
    return tuple(sorted(group, key=lambda factor: sources.index(factor.source)))


def _refuse_dangling(text: Text, lexemes: Sequence[Lexeme]) -> None:
    """Raise at an operator without a column on either side, and at empty parentheses."""
    outside = Lexeme("operator", "", lexemes[0].start, lexemes[0].start)
    for before, lexeme in zip([outside, *lexemes], [*lexemes, outside], strict=True):
        if before.kind in ("operator", "open") and lexeme.kind in ("operator", "close"):
            place = lexeme if before is outside else before
            raise text.error("a grouping column is missing here", place.start)


def _union(*parts: _Groups) -> _Groups:
    """Interactions of all parts, each once."""
    unique: dict[frozenset[Factor], tuple[Factor, ...]] = {}
    for part in parts:
        for group in part:
            unique.setdefault(frozenset(group), group)
    return list(unique.values())


def _cross(left: _Groups, right: _Groups) -> _Groups:
    """Interactions of each left one with each right one."""
    if len(left) * len(right) > _MOST_GROUPS:
        raise FormulaError(f"right of a bar stand more than {_MOST_GROUPS} interactions: write out those meant")
    return _union([tuple(dict.fromkeys(a + b)) for a in left for b in right])


def _sum(text: Text, lexemes: Sequence[Lexeme]) -> _Groups:
    """Interactions of `a + b`."""
    return _union(*(_product(text, part) for _, part in split_at(lexemes, ("+",))))


def _product(text: Text, lexemes: Sequence[Lexeme]) -> _Groups:
    """Interactions of `a * b` and `a / b`."""
    (_, first), *rest = split_at(lexemes, ("*", "/"))
    groups = _interaction(text, first)
    for operator, part in rest:
        nested = _interaction(text, part)
        if operator is None or operator.text == "*":
            groups = _union(groups, nested, _cross(groups, nested))
            continue
        if len(groups) > 1 and len(nested) > 1:
            raise text.error("several factors cannot be nested in several: write the terms one by one", operator.start)
        whole = tuple(dict.fromkeys(factor for group in groups for factor in group))
        if len(whole) > _MOST_NESTED:
            raise text.error(f"more than {_MOST_NESTED} factors are nested in each other", operator.start)
        groups = _union(groups, _cross([whole], nested))
    return groups


def _interaction(text: Text, lexemes: Sequence[Lexeme]) -> _Groups:
    """Interactions of `a:b`, links bound to the factor before them."""
    parts: list[_Groups] = []
    before: list[Lexeme] = []
    for colon, part in split_at(lexemes, (":",)):
        if colon is not None and _is_link(text, part):
            parts[-1] = _linked(text, parts[-1], part[0], before)
        else:
            parts.append(_sum(text, part[1:-1]) if is_group(part) else [(_factor(text, part),)])
        before = part
    return reduce(_cross, parts)


def _is_link(text: Text, part: Sequence[Lexeme]) -> bool:
    """Whether a part after a colon names a relationship."""
    name = part[0].text
    if len(part) != 1 or part[0].kind != "name":
        return False
    known = text.columns is None or name in text.columns
    if name in text.relationships and text.columns is not None and known:
        raise text.error(f"'{name}' is both a relationship and a column: rename one of them", part[0].start)
    if name not in text.relationships and not known:
        keys = examples(sorted(text.relationships)) or "none is given"
        raise text.error(
            f"'{name}' is neither a relationship (keys: {keys}) nor a column of the data: pass "
            f"relationships={{'{name}': ...}}, or correct the name",
            part[0].start,
        )
    return name in text.relationships


def _linked(text: Text, groups: _Groups, link: Lexeme, before: Sequence[Lexeme]) -> _Groups:
    """Bind a link to the factor before it."""
    if len(before) != 1:
        raise text.error(f"relationship '{link.text}' follows one factor: write one term for each", link.start)
    ((factor,),) = groups
    if factor.link is not None:
        raise text.error(
            f"'{factor}:{link.text}' has two relationships: write (1|{factor}) + (1|{factor.source}:{link.text})",
            link.start,
        )
    return [(Factor(factor.source, link.text),)]


def _factor(text: Text, part: Sequence[Lexeme]) -> Factor:
    """Build the unlinked factor of a part between colons."""
    operators = operators_outside(part)
    if operators:
        raise text.error(f"'{operators[0].text}' has no meaning right of the bar", operators[0].start)
    if len(part) > 1:
        raise text.error("an operator is missing right of the bar", part[1].start)
    name = part[0].text
    if name in text.relationships and (text.columns is None or name not in text.columns):
        raise text.error(
            f"relationship '{name}' needs the column of its levels before it: write (1|column:{name})", part[0].start
        )
    return Factor(_source(text, part[0]))


def _source(text: Text, lexeme: Lexeme) -> Column | Members | MultiMembership:
    """Source of levels: a column, `members(...)` or `mm(...)`."""
    if lexeme.kind == "name":
        return Column(lexeme.text)
    if lexeme.function == "members":
        return _members(text, lexeme)
    if lexeme.function == "mm":
        return _multi_membership(text, lexeme)
    advice = f"write members({lexeme.text}):..." if lexeme.function == "mates" else "make the column first"
    raise text.error(f"'{lexeme.text}' is no grouping column: {advice}", lexeme.start)


def _members(text: Text, call: Lexeme) -> Members:
    """Entries of `members(animal, mates(animal, pen))`."""
    entries = tuple(_member(text, call, argument) for argument in text.arguments(call))
    if not entries or len(set(entries)) < len(entries):
        raise text.error(f"'{call.text}' needs columns, each once", call.start)
    return Members(entries)


def _member(text: Text, call: Lexeme, argument: Sequence[Lexeme]) -> Column | Mates:
    """Column or `mates(column, unit)`."""
    names = _names([argument])
    if names is not None:
        return Column(names[0])
    if len(argument) == 1 and argument[0].function == "mates":
        names = _names(text.arguments(argument[0]))
        if names is not None and len(names) == 2:
            return Mates(*names)
    raise text.error(f"'{call.text}': members() takes columns and mates(column, unit)", call.start)


def _multi_membership(text: Text, call: Lexeme) -> MultiMembership:
    """Columns and weights of `mm(g1, g2, weights=w)`."""
    arguments = text.arguments(call)
    weights: tuple[str, ...] | None = ()
    if arguments and len(arguments[-1]) > 2 and [lexeme.text for lexeme in arguments[-1][:2]] == ["weights", "="]:
        values = arguments.pop()[2:]
        weights = _names([part for _, part in split_at(values[1:-1] if is_group(values) else values, (",",))])
    columns = _names(arguments)
    if columns is None or weights is None or len(columns) < 2 or len(weights) not in (0, 1, len(columns)):
        raise text.error(
            f"'{call.text}': mm() takes two or more columns and weights=w or weights=(w1, w2), all names of columns",
            call.start,
        )
    return MultiMembership(columns, weights)


def _names(arguments: Sequence[Sequence[Lexeme]]) -> tuple[str, ...] | None:
    """Names of arguments that are plain columns; None if one is not."""
    if all(len(argument) == 1 and argument[0].kind == "name" for argument in arguments):
        return tuple(argument[0].text for argument in arguments)
    return None
