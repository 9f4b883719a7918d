"""From the text of a model to its parts: responses, fixed part, offsets and random terms.

The token stream of formulaic is the only source: random terms are cut out by the spans of its tokens, and what remains
is handed back as right-hand sides for formulaic. Nothing here looks at data.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mixedgen.errors import FormulaError, RelationshipError, examples
from mixedgen.formula.lexemes import Lexeme, Summand, Text, as_written, has_sign, operand, sides, split_at, summands_of
from mixedgen.formula.parts import ParsedFormula, RandomTerm, Tags
from mixedgen.formula.random import _random_terms
from mixedgen.formula.sides import terms_of
from mixedgen.formula.summands import _right_hand_side


def parse(
    formula: str,
    tags: Tags,
    *,
    relationships: Collection[str] = (),
    columns: Collection[str] | None = None,
) -> ParsedFormula:
    """Read a model formula.

    Parameters
    ----------
    formula : str
        lme4's syntax with links, ``members``, ``mm``, structure tags and ``cbind``.
    tags : Tags
        The structures of terms.
    relationships : collection of str
        Names that may stand as links right of a bar.
    columns : collection of str, optional
        Columns of the data; given, links are checked against them.

    Returns
    -------
    ParsedFormula
        All parts, nothing evaluated.

    Raises
    ------
    FormulaError
        If the text is no formula, or a term has no meaning.
    RelationshipError
        If a relationship is used by no term.

    Notes
    -----
    ``(x||g)`` is split on terms, and ``(1|a/b)`` gives ``b:a`` before ``a``, both as lme4 does it.

    Examples
    --------
    >>> from mixedgen.formula.parts import Tag
    >>> tags = Tags({"us": Tag({})}, {}, default="us")
    >>> parsed = parse("Reaction ~ Days + (Days|Subject)", tags)
    >>> parsed.fixed, parsed.terms[0].effects, parsed.terms[0].label
    ('1 + Days', '1 + Days', 'Subject')
    """
    names = None if columns is None else frozenset(columns)
    text = Text(formula, frozenset(relationships), names, tags=tags)
    left, right = sides(text, text.all_lexemes())
    fixed: list[Summand] = []
    offsets: list[str] = []
    terms: list[RandomTerm] = []
    for summand in summands_of(text, right):
        if has_sign(text, summand.lexemes, "|"):
            terms.extend(_random_terms(text, summand))
        elif any(lexeme.function == "offset" for lexeme in summand.lexemes):
            offsets.append(_offset(text, summand))
        else:
            fixed.append(summand)
    _refuse_repeated(text, terms)
    _refuse_unused(text, terms)
    responses, rhs = _responses(text, left), _right_hand_side(text, fixed)
    terms_of(rhs, formula)
    return ParsedFormula(formula, responses, rhs, tuple(offsets), tuple(terms))


def _responses(text: Text, lexemes: list[Lexeme]) -> tuple[str, ...]:
    """Expressions of the traits."""
    first = lexemes[0]
    if len(lexemes) != 1 or first.function != "cbind":
        return (_response(text, lexemes, first.start),)
    responses = tuple(_response(text, part, first.start) for part in text.arguments(first))
    if not responses:
        raise text.error("cbind() names no trait", first.start)
    if len(set(responses)) < len(responses):
        raise text.error("a trait stands twice in cbind()", first.start)
    return responses


def _response(text: Text, lexemes: list[Lexeme], position: int) -> str:
    """One response: a column, a call, or an expression in braces."""
    signs = [lexeme for lexeme in lexemes if lexeme.kind == "operator"]
    if signs and signs[0].text in "+,":
        traits = ", ".join(as_written(text, part) for _, part in split_at(lexemes, ("+", ",")))
        raise text.error(f"several traits are written cbind({traits}) ~ ...", signs[0].start)
    if signs or len(lexemes) != 1 or lexemes[0].kind == "value" or has_sign(text, lexemes, "|"):
        raise text.error("a response is a column, a call such as log(y), or an expression in braces: {y / 2}", position)
    return operand(text, lexemes[0])


def _offset(text: Text, summand: Summand) -> str:
    """Expression inside `offset(...)`."""
    call = next(lexeme for lexeme in summand.lexemes if lexeme.function == "offset")
    if summand.negative or len(summand.lexemes) != 1:
        raise text.error("offset() is a term of its own, added with '+'", call.start)
    arguments = text.arguments(call)
    if len(arguments) != 1 or not arguments[0]:
        raise text.error("offset() takes one expression", call.start)
    if len(arguments[0]) == 1 and arguments[0][0].kind != "value":
        return operand(text, arguments[0][0])
    code = operand(text, call)
    return f"{{{code[code.index('(') + 1 : -1]}}}"


def _refuse_repeated(text: Text, terms: Sequence[RandomTerm]) -> None:
    """Raise if two blocks are the same."""
    seen: dict[tuple[object, ...], RandomTerm] = {}
    for term in terms:
        key = (term.effects, term.structure, term.options, frozenset(term.factors))
        if key in seen:
            raise FormulaError(
                f"the random term ({term.effects}|{term.label}) stands twice, in {seen[key].source} and in "
                f"{term.source}: leave one out\n  {' '.join(text.source.split())}",
                formula=text.source,
            )
        seen[key] = term


def _refuse_unused(text: Text, terms: Sequence[RandomTerm]) -> None:
    """Raise if a relationship is used by no term."""
    unused = sorted(text.relationships - {factor.link for term in terms for factor in term.factors})
    if unused:
        raise RelationshipError(
            f"no random term uses {examples(unused)} of relationships: write (1|column:{unused[0]}), or leave it out",
            relationships=unused,
        )
