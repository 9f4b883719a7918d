"""The text of a formula as lexemes with their places, the parts of a sum, and back to canonical text.

The token stream of formulaic is the only source; its tokens are cut at operators, and calls are kept whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mixedgen.errors import FormulaError
from mixedgen.formula.expressions import DEPTH
from mixedgen.formula.parts import NO_TAGS, Tags
from mixedgen.formula.sides import Token, canonical, quoted_name, tokens

BARS = ("|", "||")
_SPACED = ("+", "-", "*", "%in%")


class Lexeme(NamedTuple):
    """A formulaic token with one operator at most, and its span in the source: source[start:end]."""

    kind: str  # name | value | call | braces | operator | open | close
    text: str
    start: int
    end: int

    @property
    def function(self) -> str | None:
        """Name of the function of a call such as `us(...)`."""
        name, parenthesis, _ = self.text.partition("(")
        return name if self.kind == "call" and parenthesis and self.text.endswith(")") else None


class Summand(NamedTuple):
    """A part between the plus and minus signs of a sum."""

    negative: bool
    lexemes: Sequence[Lexeme]


@dataclass(frozen=True)
class Text:
    """The source with the names its links and groups may refer to."""

    source: str
    relationships: frozenset[str] = frozenset()
    columns: frozenset[str] | None = None
    dots: bool = False  # whether a dot may stand for what was there
    tags: Tags = NO_TAGS  # structures that it may name

    def error(self, message: str, position: int) -> FormulaError:
        """Error with the source and a caret under the place."""
        line = "".join(" " if char.isspace() else char for char in self.source)
        return FormulaError(f"{message}\n  {line}\n  {' ' * position}^", formula=self.source, position=position)

    def lexemes(self, start: int = 0, end: int | None = None) -> list[Lexeme]:
        """Lexemes of source[start:end]."""
        part = self.source[start:end]
        lexemes = [lexeme for token in tokens(part, self.source) for lexeme in _cut(self, token, part, start)]
        return _join_calls(self, lexemes)

    def all_lexemes(self) -> list[Lexeme]:
        """Lexemes of the whole source, its brackets checked."""
        _check_brackets(self)
        lexemes = self.lexemes()
        for lexeme in lexemes:
            if lexeme.text == "[":
                raise self.error("square brackets do not group terms: use parentheses", lexeme.start)
        return lexemes

    def arguments(self, call: Lexeme) -> list[list[Lexeme]]:
        """Lexemes of each argument of a call; no list for `f()`."""
        opening = self.source.index("(", call.start)
        inside = self.lexemes(opening + 1, call.end - 1)
        return [part for _, part in split_at(inside, (",",))] if inside else []


def _check_brackets(text: Text) -> None:
    """Raise at the first bracket or quote without a partner."""
    closers = {"(": ")", "[": "]", "{": "}"}
    stack: list[tuple[str, int]] = []
    quote: tuple[str, int] | None = None
    for position, char in enumerate(text.source):
        if quote:
            quote = None if char == quote[0] else quote
        elif char in "\"'`":
            quote = (char, position)
        elif char in closers:
            stack.append((closers[char], position))
            if len(stack) > DEPTH:
                raise text.error(f"brackets are more than {DEPTH} deep: take some out", position)
        elif char in closers.values() and (not stack or stack.pop()[0] != char):
            raise text.error(f"'{char}' closes nothing that is open here", position)
    if quote:
        raise text.error(f"{quote[0]} is opened but not closed", quote[1])
    if stack:
        raise text.error(f"'{text.source[stack[-1][1]]}' is opened but not closed", stack[-1][1])


def _cut(text: Text, token: Token, part: str, shift: int) -> Iterator[Lexeme]:
    """Lexemes of one token; formulaic lumps neighbouring operators and leaves closing quotes out of its spans."""
    quoted = part[token.start] in "`{%"
    begin, end = shift + token.start, shift + token.end + quoted
    if token.kind == "operator" and quoted:
        yield Lexeme("operator", f"%{token.text}%", begin, end)
    elif token.kind == "operator":
        yield from _operators(part[token.start : token.end], begin)
    elif token.text == "." and not quoted and text.dots:
        yield Lexeme("value", ".", begin, end)
    elif token.text == "." and not quoted:
        raise text.error("'.' (all other columns) is not supported: name the columns", begin)
    elif token.kind == "context":
        yield Lexeme("open" if token.text in "([" else "close", token.text, begin, shift + token.end)
    elif token.kind == "python":
        yield Lexeme("braces" if quoted else "call", token.text, begin, end)
    else:
        yield Lexeme("name" if token.kind == "name" else "value", token.text, begin, end)


def _operators(run: str, begin: int) -> Iterator[Lexeme]:
    """Single operators in a run such as `~-` or `||`."""
    position = 0
    while position < len(run):
        width = 2 if run[position : position + 2] in ("||", "**") else 1
        if not run[position].isspace():
            yield Lexeme("operator", run[position : position + width], begin + position, begin + position + width)
        position += width


def _join_calls(text: Text, lexemes: list[Lexeme]) -> list[Lexeme]:
    """Join calls written with a space before the parenthesis, which formulaic takes for a name and a group."""
    joined: list[Lexeme] = []
    index = 0
    while index < len(lexemes):
        lexeme, step = lexemes[index], 1
        if lexeme.kind == "open" and joined and joined[-1].kind == "name" and text.source[joined[-1].start] != "`":
            step = _closing(lexemes[index:]) + 1
            if step == 0:
                raise text.error("'(' is opened but not closed", lexeme.start)
            name, end = joined.pop(), lexemes[index + step - 1].end
            lexeme = Lexeme("call", name.text + text.source[lexeme.start : end], name.start, end)
        joined.append(lexeme)
        index += step
    return joined


def _depths(lexemes: Iterable[Lexeme]) -> Iterator[tuple[int, Lexeme]]:
    """Each lexeme with the number of parentheses around it; parentheses belong to the outer level."""
    depth = 0
    for lexeme in lexemes:
        depth -= lexeme.kind == "close"
        yield depth, lexeme
        depth += lexeme.kind == "open"


def _closing(lexemes: Sequence[Lexeme]) -> int:
    """Index of the parenthesis that closes the first one; -1 if a stray quote hides it."""
    closers = (i for i, (depth, lexeme) in enumerate(_depths(lexemes)) if depth == 0 and lexeme.kind == "close")
    return next(closers, -1)


def is_group(lexemes: Sequence[Lexeme]) -> bool:
    """Whether one pair of parentheses encloses all."""
    return bool(lexemes) and lexemes[0].kind == "open" and _closing(lexemes) == len(lexemes) - 1


def split_at(lexemes: Sequence[Lexeme], symbols: Collection[str]) -> list[tuple[Lexeme | None, list[Lexeme]]]:
    """Parts between operators outside parentheses, each with the operator before it."""
    parts: list[tuple[Lexeme | None, list[Lexeme]]] = [(None, [])]
    for depth, lexeme in _depths(lexemes):
        if depth == 0 and lexeme.kind == "operator" and lexeme.text in symbols:
            parts.append((lexeme, []))
        else:
            parts[-1][1].append(lexeme)
    return parts


def operators_outside(lexemes: Sequence[Lexeme]) -> list[Lexeme]:
    """Operators outside parentheses."""
    return [lexeme for depth, lexeme in _depths(lexemes) if depth == 0 and lexeme.kind == "operator"]


def operand(text: Text, lexeme: Lexeme) -> str:
    """One operand with canonical spacing."""
    if lexeme.kind == "name":
        return quoted_name(lexeme.text)
    if lexeme.kind not in ("call", "braces"):
        return lexeme.text
    try:
        code = canonical(lexeme.text)
    except FormulaError as error:
        raise text.error(str(error), lexeme.start) from error
    return code if lexeme.kind == "call" else f"{{{code}}}"


def as_written(text: Text, lexemes: Iterable[Lexeme]) -> str:
    """Canonical text of lexemes: `+ - *` spaced, other operators tight."""
    pieces: list[str] = []
    after_operand = False
    for lexeme in lexemes:
        operator = lexeme.kind == "operator"
        if operator and lexeme.text in _SPACED and after_operand:
            pieces.append(f" {lexeme.text} ")
        elif operator and lexeme.text == ",":
            pieces.append(", ")
        else:
            gap = " " if after_operand and not operator and lexeme.kind != "close" else ""
            pieces.append(gap + _source_operand(text, lexeme))
        after_operand = not operator and lexeme.kind != "open"
    return "".join(pieces)


def _source_operand(text: Text, lexeme: Lexeme) -> str:
    """One operand; a call with a bar is written from its own lexemes, as it is no Python."""
    if lexeme.kind == "call" and has_sign(text, [lexeme], "|"):
        return f"{lexeme.function}({', '.join(as_written(text, part) for part in text.arguments(lexeme))})"
    return operand(text, lexeme)


def sides(text: Text, lexemes: list[Lexeme]) -> tuple[list[Lexeme], list[Lexeme]]:
    """Lexemes left and right of the one tilde."""
    tildes = [lexeme for lexeme in lexemes if lexeme.kind == "operator" and lexeme.text == "~"]
    if not tildes:
        raise FormulaError(f"'~' is missing: write 'response ~ terms', not {text.source!r}", formula=text.source)
    if len(tildes) > 1:
        raise text.error("a formula has one '~'", tildes[1].start)
    left = [lexeme for lexeme in lexemes if lexeme.end <= tildes[0].start]
    right = [lexeme for lexeme in lexemes if lexeme.start >= tildes[0].end]
    if not left:
        raise text.error("the response is missing left of '~'", tildes[0].start)
    if not right:
        raise text.error("nothing stands right of '~': write 'y ~ 1' for the mean alone", tildes[0].end)
    for lexeme in operators_outside(right):
        if lexeme.text in BARS:
            raise text.error("random terms are written in parentheses: (1|group)", lexeme.start)
    return left, right


def summands_of(text: Text, lexemes: Sequence[Lexeme]) -> list[Summand]:
    """Parts of a sum with their signs; parentheses around a mere sum are dropped."""
    summands: list[Summand] = []
    negative = False
    for sign, part in split_at(lexemes, ("+", "-")):
        negative ^= sign is not None and sign.text == "-"
        if not part:
            continue
        opened = is_group(part) and not any(op.text in BARS for op in operators_outside(part[1:-1]))
        if opened and not negative:
            summands.extend(summands_of(text, part[1:-1]))
        else:
            summands.append(Summand(negative, part))
        negative = False
    last = lexemes[-1] if lexemes else None
    if last is None or (last.kind == "operator" and last.text in "+-"):
        raise text.error("a term is missing", last.start if last else 0)
    return summands


def has_sign(text: Text, lexemes: Iterable[Lexeme], sign: str) -> bool:
    """Whether an operator with this sign stands anywhere, calls included (braces hold plain Python and are exempt)."""
    for lexeme in lexemes:
        if lexeme.kind == "operator" and sign in lexeme.text:
            return True
        if (
            lexeme.function
            and sign in lexeme.text
            and any(has_sign(text, part, sign) for part in text.arguments(lexeme))
        ):
            return True
    return False
