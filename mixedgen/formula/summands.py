"""Sums of effects as right-hand sides for formulaic: the intercept stated, the contrasts chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from mixedgen.errors import FormulaError
from mixedgen.formula.lexemes import BARS, Lexeme, Summand, Text, as_written
from mixedgen.formula.sides import Formula, formula_of, quoted_name

CONTRASTS = ("treatment", "sum", "helmert", "poly", "diff")


def model_spec(rhs: str, contrasts: Mapping[str, str] | None = None) -> Formula:
    """Formulaic's formula of one right-hand side.

    Parameters
    ----------
    rhs : str
        `ParsedFormula.fixed` or `RandomTerm.effects`.
    contrasts : mapping of str to str, optional
        Coding by column, one of `CONTRASTS`, for columns that stand in `rhs` by their plain name.

    Returns
    -------
    formulaic.Formula
        Terms sorted by degree.

    Raises
    ------
    FormulaError
        If formulaic cannot read it, it has a bar or a tilde, or a contrast is unknown.

    Examples
    --------
    >>> [str(term) for term in model_spec("1 + Days")]
    ['1', 'Days']
    >>> [str(term) for term in model_spec("1 + sex", {"sex": "sum"})]
    ['1', 'C(sex, contr.sum)']
    """
    return _model_spec(rhs, tuple(sorted((contrasts or {}).items())))


@lru_cache(maxsize=128)  # the same sides come again in every refit
def _model_spec(rhs: str, choices: tuple[tuple[str, str], ...]) -> Formula:
    """`model_spec` of hashable arguments."""
    text, contrasts = Text(rhs), dict(choices)
    lexemes = text.all_lexemes()
    for lexeme in lexemes:
        if lexeme.kind == "operator" and lexeme.text in ("~", *BARS):
            raise text.error(f"'{lexeme.text}' has no place in one side of a formula", lexeme.start)
    return formula_of(as_written(text, [_coded(lexeme, contrasts) for lexeme in lexemes]) if contrasts else rhs, rhs)


def _coded(lexeme: Lexeme, contrasts: Mapping[str, str]) -> Lexeme:
    """Column with the contrast chosen for it."""
    if lexeme.kind != "name" or lexeme.text not in contrasts:
        return lexeme
    contrast = contrasts[lexeme.text]
    if contrast not in CONTRASTS:
        raise FormulaError(f"contrast '{contrast}' of column '{lexeme.text}' is unknown: take {', '.join(CONTRASTS)}")
    return lexeme._replace(kind="call", text=f"C({quoted_name(lexeme.text)}, contr.{contrast})")


def _right_hand_side(text: Text, summands: Sequence[Summand], *, intercept: bool = True) -> str:
    """Text for formulaic with the intercept stated; the last choice written wins, as in R."""
    chosen, rest = _intercept(text, summands)
    pieces = ["1" if (intercept if chosen is None else chosen) else "0"]
    pieces += [f"{'-' if summand.negative else '+'} {as_written(text, summand.lexemes)}" for summand in rest]
    return " ".join(pieces)


def _intercept(text: Text, summands: Sequence[Summand]) -> tuple[bool | None, list[Summand]]:
    """Choice of the intercept (none: None) and the other summands."""
    chosen: bool | None = None
    rest: list[Summand] = []
    for summand in summands:
        only = summand.lexemes[0]
        if len(summand.lexemes) == 1 and only.kind == "value" and only.text in ("0", "1"):
            chosen = (only.text == "1") != summand.negative
        else:
            _refuse_inner_intercept(text, summand.lexemes)
            rest.append(summand)
    return chosen, rest


def _refuse_inner_intercept(text: Text, lexemes: Sequence[Lexeme]) -> None:
    """Raise if 0 or 1 is added inside parentheses, where formulaic and R disagree."""
    for before, lexeme, after in zip(lexemes, lexemes[1:], lexemes[2:], strict=False):
        if lexeme.kind == "value" and lexeme.text in ("0", "1") and before.text in "(+-" and after.text in ")+-":
            raise text.error("the intercept is chosen outside parentheses", lexeme.start)
