"""A formula revised by another one in which a dot stands for what was there, as R's ``update``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mixedgen.errors import FormulaError, examples
from mixedgen.formula.lexemes import Lexeme, Summand, Text, as_written, has_sign, sides, summands_of

_DOT = re.compile(r"(?<![\w.)\]])\.(?![\w.])")


def revise(old: str, new: str) -> str:
    """The new formula with its dots replaced by the parts of the old one.

    Parameters
    ----------
    old : str
        A formula without dots.
    new : str
        Left of the ``~`` a dot is the old response; right of it, the old terms, fixed and random. A random term or
        offset with a minus before it is taken out; so is a fixed term that stands in the old formula.

    Returns
    -------
    str
        A formula without dots.

    Raises
    ------
    FormulaError
        If it is no formula, or takes out a random term or offset that is not there.

    Examples
    --------
    >>> revise("Reaction ~ Days + (Days|Subject)", ". ~ . - (Days|Subject) + (1|Subject)")
    'Reaction ~ Days + (1|Subject)'
    >>> revise("y ~ a + b + (1|g)", "log(.) ~ . - b")
    'log(y) ~ a + (1|g)'
    """
    was = Text(old)
    left, right = sides(was, was.all_lexemes())
    response = as_written(was, left)
    begin, tilde, end = new.partition("~")
    now = Text(_DOT.sub(lambda _: response, begin) + tilde + end, dots=True)
    new_left, new_right = sides(now, now.all_lexemes())
    there = [(_signed(was, s), _apart(was, s.lexemes)) for s in summands_of(was, right)]
    fixed = _sum([part for part, apart in there if not apart])
    parts: list[str] = []
    for summand in summands_of(now, new_right):
        text = as_written(now, summand.lexemes)
        if text == "." and not summand.negative:
            parts += [part for part, _ in there if part not in parts]
        elif not summand.negative:
            parts.append(_DOT.sub(lambda _: f"({fixed})", text))
        elif text in parts:
            parts.remove(text)
        elif text == "." or _apart(now, summand.lexemes):
            what = f"what is there is {examples(parts)}" if parts else "nothing is there"
            raise FormulaError(f"{text} cannot be taken out in {new!r}: {what}.")
        else:
            parts.append(f"- {text}")
    return f"{as_written(now, new_left)} ~ {_sum(parts)}"


def _apart(text: Text, lexemes: Sequence[Lexeme]) -> bool:
    """Whether a summand is a random term or an offset."""
    return has_sign(text, lexemes, "|") or any(lexeme.function == "offset" for lexeme in lexemes)


def _signed(text: Text, summand: Summand) -> str:
    """A summand with its minus."""
    return ("- " if summand.negative else "") + as_written(text, summand.lexemes)


def _sum(parts: Sequence[str]) -> str:
    """Parts with the signs between them; the mean alone for none."""
    out = " ".join(part if part.startswith("- ") else f"+ {part}" for part in parts)
    return out.removeprefix("+ ") or "1"
