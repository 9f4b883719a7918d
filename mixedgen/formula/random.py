"""Random terms: what stands in parentheses with a bar."""

from __future__ import annotations

from collections.abc import Sequence

from mixedgen.formula.basis import BASES
from mixedgen.formula.grouping import _groups
from mixedgen.formula.lexemes import (
    BARS,
    Lexeme,
    Summand,
    Text,
    as_written,
    has_sign,
    is_group,
    operators_outside,
    split_at,
    summands_of,
)
from mixedgen.formula.parts import RandomTerm
from mixedgen.formula.sides import term_text, terms_of
from mixedgen.formula.structures import _tag
from mixedgen.formula.summands import _intercept, _right_hand_side


def _random_terms(text: Text, summand: Summand) -> list[RandomTerm]:
    """Blocks of one bar: effects (several for `||`) times groups (several for `/ * +`)."""
    lexemes = summand.lexemes
    _refuse_operators(text, summand)
    tagged = lexemes[0].kind == "call"
    structure, options, inside = _tag(text, lexemes[0]) if tagged else (text.tags.default, (), list(lexemes[1:-1]))
    bar, left, right = _bar(text, inside)
    if bar.text == "||" and tagged:
        raise text.error(f"'||' has no place in {structure}(): write diag(...|...) for uncorrelated effects", bar.start)
    source = as_written(text, lexemes)
    effects = _uncorrelated_effects(text, left) if bar.text == "||" else [_effects(text, left)]
    groups = _groups(text, right, as_written(text, left))
    entry = text.tags.terms[structure].entry
    return [
        RandomTerm(effect, structure, options, factors, ":".join(map(str, factors)), source, entry)
        for effect in effects
        for factors in groups
    ]


def _refuse_operators(text: Text, summand: Summand) -> None:
    """Raise unless the random term is simply added."""
    lexemes = summand.lexemes
    if summand.negative:
        raise text.error("a random term cannot be subtracted with '-': leave it out", lexemes[0].start)
    if is_group(lexemes) or (len(lexemes) == 1 and lexemes[0].kind == "call"):
        return
    operators = operators_outside(lexemes)
    if operators:
        raise text.error(f"a random term cannot stand under '{operators[0].text}': add it with '+'", operators[0].start)
    raise text.error("'+' is missing before this term", lexemes[1].start)


def _bar(text: Text, inside: list[Lexeme]) -> tuple[Lexeme, list[Lexeme], list[Lexeme]]:
    """Find the one bar, and the lexemes left and right of it."""
    parts = split_at(inside, BARS)
    bar = parts[1][0] if len(parts) > 1 else None
    if bar is None:
        raise text.error("a random term has its bar directly inside its parentheses", inside[0].start)
    if len(parts) > 2 or has_sign(text, parts[0][1] + parts[1][1], "|"):
        raise text.error("a random term has one bar", bar.start)
    left, right = parts[0][1], parts[1][1]
    if not left:
        raise text.error("the effects are missing left of the bar: write (1|group)", bar.start)
    if not right:
        raise text.error("the group is missing right of the bar", bar.start)
    return bar, left, right


def _effects(text: Text, lexemes: Sequence[Lexeme]) -> str:
    """Effects of one block, for formulaic."""
    summands = summands_of(text, lexemes)
    basis = next((lexeme for lexeme in lexemes if lexeme.function in BASES), None)
    if basis and _intercept(text, summands)[0]:
        raise text.error(f"{basis.function}() has the constant as its degree 0: leave the '1' out", basis.start)
    for lexeme in lexemes:
        if lexeme.function == "offset":
            raise text.error("offset() has no place in a random term", lexeme.start)
    effects = _right_hand_side(text, summands, intercept=basis is None)
    if not terms_of(effects, text.source):
        raise text.error("no effect is left of the bar: write (1|group)", lexemes[0].start)
    return effects


def _uncorrelated_effects(text: Text, lexemes: Sequence[Lexeme]) -> list[str]:
    """Effects of each block of `||`: one per term, not per column."""
    terms = sorted(terms_of(_effects(text, lexemes), text.source), key=lambda term: term.degree)
    return ["1" if str(term) == "1" else f"0 + {term_text(term)}" for term in terms]
