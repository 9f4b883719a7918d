"""From the text of a model to its parts: responses, fixed part, offsets and random terms.

The token stream of formulaic is the only source: random terms are cut out by the spans of its tokens, and what remains
is handed back as right-hand sides for formulaic. Nothing here looks at data.
"""

# formulaic has no type information.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import NamedTuple

from formulaic import Formula
from formulaic.errors import FormulaicError
from formulaic.parser import DefaultFormulaParser
from formulaic.parser.algos.sanitize_tokens import sanitize_python_code
from formulaic.parser.algos.tokenize import tokenize
from formulaic.parser.types import Factor as TermFactor
from formulaic.parser.types import Term, Token
from formulaic.transforms import TRANSFORMS
from formulaic.utils.variables import get_expression_variables

from mixedgen.errors import FormulaError, RelationshipError, examples

Options = tuple[tuple[str, object], ...]

# Structures and their arguments with defaults, as in lme4 >= 2 and glmmTMB.
STRUCTURES: dict[str, dict[str, object]] = {
    "us": {},
    "diag": {"hom": False},
    "cs": {"hom": False},
    "ar1": {"hom": True},
    "corh": {},
    "toep": {},
    "fa": {"k": 1},
    "rr": {"k": 1},
    "idv": {},
}
# A reduced-rank residual covariance is singular; `exp` is the log-linear variance.
RESIDUAL_STRUCTURES: dict[str, dict[str, object]] = {k: v for k, v in STRUCTURES.items() if k != "rr"} | {"exp": {}}

CONTRASTS = ("treatment", "sum", "helmert", "poly", "diff")

_PARSER = DefaultFormulaParser(feature_flags={"twosided"})
_BARS = ("|", "||")
_SPACED = ("+", "-", "*", "%in%")
_BASES = ("leg",)  # bases whose first column is the constant: they take the place of the intercept


@dataclass(frozen=True)
class Column:
    """A plain grouping column.

    Parameters
    ----------
    name : str
        Column of the data, without backticks.
    """

    name: str

    def __str__(self) -> str:
        """As written."""
        return self.name


@dataclass(frozen=True)
class Mates:
    """The other members of the same unit: ``mates(animal, pen)``.

    Parameters
    ----------
    column : str
        Column of the individuals.
    unit : str
        Column of the units they share.
    """

    column: str
    unit: str

    def __str__(self) -> str:
        """As written."""
        return f"mates({self.column}, {self.unit})"


@dataclass(frozen=True)
class Members:
    """Several columns that load the same related levels, one effect per entry: ``members(animal, dam)``.

    Parameters
    ----------
    entries : tuple of Column or Mates
        In written order.
    """

    entries: tuple[Column | Mates, ...]

    def __str__(self) -> str:
        """As written."""
        return f"members({', '.join(map(str, self.entries))})"


@dataclass(frozen=True)
class MultiMembership:
    """One effect over several columns: ``mm(g1, g2, weights=w)``.

    Parameters
    ----------
    columns : tuple of str
        Columns of the levels.
    weights : tuple of str
        Columns of the weights: none (equal weights), one, or one per column.
    """

    columns: tuple[str, ...]
    weights: tuple[str, ...]

    def __str__(self) -> str:
        """As written."""
        weights = self.weights[0] if len(self.weights) == 1 else f"({', '.join(self.weights)})"
        return f"mm({', '.join((*self.columns, f'weights={weights}') if self.weights else self.columns)})"


@dataclass(frozen=True)
class Factor:
    """One part right of the bar, with its link.

    Parameters
    ----------
    source : Column, Members or MultiMembership
        Where the levels come from.
    link : str, optional
        Key of the relationships that says how the levels are related.
    """

    source: Column | Members | MultiMembership
    link: str | None = None

    def __str__(self) -> str:
        """As written."""
        return str(self.source) if self.link is None else f"{self.source}:{self.link}"


@dataclass(frozen=True)
class RandomTerm:
    """One block of random effects.

    Parameters
    ----------
    effects : str
        Right-hand side for formulaic with the intercept stated: ``"1"``, ``"1 + Days"``, ``"0 + Machine"``.
    structure : str
        Structure of the covariance of one level's effects, a key of `STRUCTURES`.
    options : tuple of (str, object)
        Arguments of the structure, sorted, defaults filled in.
    factors : tuple of Factor
        Parts of the grouping interaction, in the order of the label.
    label : str
        lme4's name of the term: ``"Subject"``, ``"cask:batch"``, ``"animal:A"``.
    source : str
        The term as written, with white space normalised.
    """

    effects: str
    structure: str
    options: Options
    factors: tuple[Factor, ...]
    label: str
    source: str


@dataclass(frozen=True)
class ParsedFormula:
    """The parts of a model formula.

    Parameters
    ----------
    source : str
        The formula as given.
    responses : tuple of str
        One operand for formulaic per trait: a column, a call, or an expression in braces.
    fixed : str
        Right-hand side for formulaic without random terms and offsets, the intercept stated.
    offsets : tuple of str
        Expressions inside ``offset(...)``, in braces unless a column or a call.
    terms : tuple of RandomTerm
        Expanded, in lme4's order before its sorting by number of levels.
    """

    source: str
    responses: tuple[str, ...]
    fixed: str
    offsets: tuple[str, ...]
    terms: tuple[RandomTerm, ...]


@dataclass(frozen=True)
class ResidualTerm:
    """One structure of the residual, over positions within units.

    Parameters
    ----------
    structure : str
        A key of `RESIDUAL_STRUCTURES`.
    options : tuple of (str, object)
        Arguments of the structure, sorted, defaults filled in.
    positions : str
        Column (or ``trait``) whose levels index the covariance; the covariate of ``exp``.
    unit : str, optional
        Column of the units that share no residual with each other.
    """

    structure: str
    options: Options
    positions: str
    unit: str | None = None


def parse(
    formula: str, *, relationships: Collection[str] = (), columns: Collection[str] | None = None
) -> ParsedFormula:
    """Read a model formula.

    Parameters
    ----------
    formula : str
        lme4's syntax with links, ``members``, ``mm``, structure tags and ``cbind``.
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
    >>> parsed = parse("Reaction ~ Days + (Days|Subject)")
    >>> parsed.fixed, parsed.terms[0].effects, parsed.terms[0].label
    ('1 + Days', '1 + Days', 'Subject')
    """
    names = None if columns is None else frozenset(columns)
    text = _Text(formula, frozenset(relationships), names)
    left, right = _sides(text, text.all_lexemes())
    fixed: list[_Summand] = []
    offsets: list[str] = []
    terms: list[RandomTerm] = []
    for summand in _summands(text, right):
        if _has(text, summand.lexemes, "|"):
            terms.extend(_random_terms(text, summand))
        elif any(lexeme.function == "offset" for lexeme in summand.lexemes):
            offsets.append(_offset(text, summand))
        else:
            fixed.append(summand)
    _refuse_repeated(text, terms)
    _refuse_unused(text, terms)
    responses, rhs = _responses(text, left), _right_hand_side(text, fixed)
    _formulaic_terms(text, rhs)
    return ParsedFormula(formula, responses, rhs, tuple(offsets), tuple(terms))


def parse_residual(residual: str) -> tuple[ResidualTerm, ...]:
    """Read the structure of the residual.

    Parameters
    ----------
    residual : str
        Such as ``"diag(site)"``, ``"us(trait|unit)"``, ``"ar1(row):ar1(col)"``, ``"exp(x)"``.

    Returns
    -------
    tuple of ResidualTerm
        One per factor of the direct product.

    Raises
    ------
    FormulaError
        If the structure or an argument is unknown, or the text is not of this form.

    Examples
    --------
    >>> parse_residual("ar1(time|subject)")
    (ResidualTerm(structure='ar1', options=(('hom', True),), positions='time', unit='subject'),)
    """
    text = _Text(residual)
    parts = _split(text.all_lexemes(), (":",))
    return tuple(_residual_term(text, part) for _, part in parts)


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


@lru_cache(maxsize=128)  # each side is read twice, for its variables and for its matrix, and again in every refit
def _model_spec(rhs: str, choices: tuple[tuple[str, str], ...]) -> Formula:
    """`model_spec` of hashable arguments."""
    text, contrasts = _Text(rhs), dict(choices)
    lexemes = text.all_lexemes()
    for lexeme in lexemes:
        if lexeme.kind == "operator" and lexeme.text in ("~", *_BARS):
            raise text.error(f"'{lexeme.text}' has no place in one side of a formula", lexeme.start)
    coded = _written(text, [_coded(lexeme, contrasts) for lexeme in lexemes]) if contrasts else rhs
    try:
        return Formula(coded, _parser=_PARSER)
    except (FormulaicError, SyntaxError) as error:
        raise _wrapped(error, rhs) from error


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
    try:
        found = get_expression_variables(factor.expr)
    except SyntaxError:  # names in backticks, which formulaic finds by itself
        found = factor.required_variables
    roots = [(str(v.root), "callable" in v.roles) for v in found]
    return [root for root, called in roots if (root in columns or root not in TRANSFORMS) and not called]


def _coded(lexeme: _Lexeme, contrasts: Mapping[str, str]) -> _Lexeme:
    """Column with the contrast chosen for it."""
    if lexeme.kind != "name" or lexeme.text not in contrasts:
        return lexeme
    contrast = contrasts[lexeme.text]
    if contrast not in CONTRASTS:
        raise FormulaError(f"contrast '{contrast}' of column '{lexeme.text}' is unknown: take {', '.join(CONTRASTS)}")
    return lexeme._replace(kind="call", text=f"C({_name(lexeme.text)}, contr.{contrast})")


# Text and lexemes


class _Lexeme(NamedTuple):
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


class _Summand(NamedTuple):
    """A part between the plus and minus signs of a sum."""

    negative: bool
    lexemes: Sequence[_Lexeme]


@dataclass(frozen=True)
class _Text:
    """The source with the names its links and groups may refer to."""

    source: str
    relationships: frozenset[str] = frozenset()
    columns: frozenset[str] | None = None

    def error(self, message: str, position: int) -> FormulaError:
        """Error with the source and a caret under the place."""
        line = "".join(" " if char.isspace() else char for char in self.source)
        return FormulaError(f"{message}\n  {line}\n  {' ' * position}^", formula=self.source, position=position)

    def lexemes(self, start: int = 0, end: int | None = None) -> list[_Lexeme]:
        """Lexemes of source[start:end]."""
        part = self.source[start:end]
        lexemes = [lexeme for token in _tokens(self, part) for lexeme in _cut(self, token, part, start)]
        return _join_calls(self, lexemes)

    def all_lexemes(self) -> list[_Lexeme]:
        """Lexemes of the whole source, its brackets checked."""
        _check_brackets(self)
        lexemes = self.lexemes()
        for lexeme in lexemes:
            if lexeme.text == "[":
                raise self.error("square brackets do not group terms: use parentheses", lexeme.start)
        return lexemes

    def arguments(self, call: _Lexeme) -> list[list[_Lexeme]]:
        """Lexemes of each argument of a call; no list for `f()`."""
        opening = self.source.index("(", call.start)
        inside = self.lexemes(opening + 1, call.end - 1)
        return [part for _, part in _split(inside, (",",))] if inside else []


def _check_brackets(text: _Text) -> None:
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
        elif char in closers.values() and (not stack or stack.pop()[0] != char):
            raise text.error(f"'{char}' closes nothing that is open here", position)
    if quote:
        raise text.error(f"{quote[0]} is opened but not closed", quote[1])
    if stack:
        raise text.error(f"'{text.source[stack[-1][1]]}' is opened but not closed", stack[-1][1])


def _tokens(text: _Text, part: str) -> list[Token]:
    """Formulaic's tokens of a part of the source."""
    try:
        return list(tokenize(part))
    except FormulaicError as error:
        raise _wrapped(error, text.source) from error


def _cut(text: _Text, token: Token, part: str, shift: int) -> Iterator[_Lexeme]:
    """Lexemes of one token; formulaic lumps neighbouring operators and leaves closing quotes out of its spans."""
    start, end = token.source_start, token.source_end + 1
    quoted = part[start] in "`{%"
    begin = shift + start
    if token.kind is Token.Kind.OPERATOR and not quoted:
        yield from _operators(part[start:end], begin)
    elif token.token == "." and not quoted:
        raise text.error("'.' (all other columns) is not supported: name the columns", begin)
    elif token.kind is Token.Kind.CONTEXT:
        yield _Lexeme("open" if token.token in "([" else "close", token.token, begin, shift + end)
    elif token.kind is Token.Kind.PYTHON:
        yield _Lexeme("braces" if quoted else "call", token.token, begin, shift + end + quoted)
    elif token.kind is Token.Kind.OPERATOR:
        yield _Lexeme("operator", f"%{token.token}%", begin, shift + end + quoted)
    else:
        yield _Lexeme("name" if token.kind is Token.Kind.NAME else "value", token.token, begin, shift + end + quoted)


def _operators(run: str, begin: int) -> Iterator[_Lexeme]:
    """Single operators in a run such as `~-` or `||`."""
    position = 0
    while position < len(run):
        width = 2 if run[position : position + 2] in ("||", "**") else 1
        if not run[position].isspace():
            yield _Lexeme("operator", run[position : position + width], begin + position, begin + position + width)
        position += width


def _join_calls(text: _Text, lexemes: list[_Lexeme]) -> list[_Lexeme]:
    """Join calls written with a space before the parenthesis, which formulaic takes for a name and a group."""
    joined: list[_Lexeme] = []
    index = 0
    while index < len(lexemes):
        lexeme, step = lexemes[index], 1
        if lexeme.kind == "open" and joined and joined[-1].kind == "name" and text.source[joined[-1].start] != "`":
            step = _closing(lexemes[index:]) + 1
            if step == 0:
                raise text.error("'(' is opened but not closed", lexeme.start)
            name, end = joined.pop(), lexemes[index + step - 1].end
            lexeme = _Lexeme("call", name.text + text.source[lexeme.start : end], name.start, end)
        joined.append(lexeme)
        index += step
    return joined


def _depths(lexemes: Iterable[_Lexeme]) -> Iterator[tuple[int, _Lexeme]]:
    """Each lexeme with the number of parentheses around it; parentheses belong to the outer level."""
    depth = 0
    for lexeme in lexemes:
        depth -= lexeme.kind == "close"
        yield depth, lexeme
        depth += lexeme.kind == "open"


def _closing(lexemes: Sequence[_Lexeme]) -> int:
    """Index of the parenthesis that closes the first one; -1 if a stray quote hides it."""
    closers = (i for i, (depth, lexeme) in enumerate(_depths(lexemes)) if depth == 0 and lexeme.kind == "close")
    return next(closers, -1)


def _is_group(lexemes: Sequence[_Lexeme]) -> bool:
    """Whether one pair of parentheses encloses all."""
    return bool(lexemes) and lexemes[0].kind == "open" and _closing(lexemes) == len(lexemes) - 1


def _split(lexemes: Sequence[_Lexeme], symbols: Collection[str]) -> list[tuple[_Lexeme | None, list[_Lexeme]]]:
    """Parts between operators outside parentheses, each with the operator before it."""
    parts: list[tuple[_Lexeme | None, list[_Lexeme]]] = [(None, [])]
    for depth, lexeme in _depths(lexemes):
        if depth == 0 and lexeme.kind == "operator" and lexeme.text in symbols:
            parts.append((lexeme, []))
        else:
            parts[-1][1].append(lexeme)
    return parts


def _operators_outside(lexemes: Sequence[_Lexeme]) -> list[_Lexeme]:
    """Operators outside parentheses."""
    return [lexeme for depth, lexeme in _depths(lexemes) if depth == 0 and lexeme.kind == "operator"]


# Writing


def _name(name: str) -> str:
    """Column name as formulaic reads it back."""
    plain = name != "." and name.replace(".", "_").isidentifier()
    return name if plain else f"`{name}`"


def _operand(text: _Text, lexeme: _Lexeme) -> str:
    """One operand with canonical spacing."""
    if lexeme.kind == "name":
        return _name(lexeme.text)
    if lexeme.kind not in ("call", "braces"):
        return lexeme.text
    if _has(text, [lexeme], "^"):
        raise text.error(f"'{lexeme.text}' is Python, where a power is written '**'", lexeme.start)
    try:
        code = sanitize_python_code(lexeme.text)
    except SyntaxError as error:
        raise text.error(f"'{lexeme.text}' is not a valid expression", lexeme.start) from error
    return code if lexeme.kind == "call" else f"{{{code}}}"


def _written(text: _Text, lexemes: Iterable[_Lexeme]) -> str:
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


def _source_operand(text: _Text, lexeme: _Lexeme) -> str:
    """One operand; a call with a bar is written from its own lexemes, as it is no Python."""
    if lexeme.kind == "call" and _has(text, [lexeme], "|"):
        return f"{lexeme.function}({', '.join(_written(text, part) for part in text.arguments(lexeme))})"
    return _operand(text, lexeme)


def _right_hand_side(text: _Text, summands: Sequence[_Summand], *, intercept: bool = True) -> str:
    """Text for formulaic with the intercept stated; the last choice written wins, as in R."""
    chosen, rest = _intercept(text, summands)
    pieces = ["1" if (intercept if chosen is None else chosen) else "0"]
    pieces += [f"{'-' if summand.negative else '+'} {_written(text, summand.lexemes)}" for summand in rest]
    return " ".join(pieces)


def _formulaic_terms(text: _Text, rhs: str) -> list[Term]:
    """Terms as formulaic expands them."""
    try:
        return list(_PARSER.get_terms(rhs))
    except (FormulaicError, SyntaxError) as error:
        raise _wrapped(error, text.source) from error


def _wrapped(error: Exception, source: str) -> FormulaError:
    """Formulaic's error without its colours, with the source."""
    return FormulaError(f"{str(error).splitlines()[0]}\n  {' '.join(source.split())}", formula=source)


# The two sides


def _sides(text: _Text, lexemes: list[_Lexeme]) -> tuple[list[_Lexeme], list[_Lexeme]]:
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
    for lexeme in _operators_outside(right):
        if lexeme.text in _BARS:
            raise text.error("random terms are written in parentheses: (1|group)", lexeme.start)
    return left, right


def _responses(text: _Text, lexemes: list[_Lexeme]) -> tuple[str, ...]:
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


def _response(text: _Text, lexemes: list[_Lexeme], position: int) -> str:
    """One response: a column, a call, or an expression in braces."""
    signs = [lexeme for lexeme in lexemes if lexeme.kind == "operator"]
    if signs and signs[0].text in "+,":
        traits = ", ".join(_written(text, part) for _, part in _split(lexemes, ("+", ",")))
        raise text.error(f"several traits are written cbind({traits}) ~ ...", signs[0].start)
    if signs or len(lexemes) != 1 or lexemes[0].kind == "value" or _has(text, lexemes, "|"):
        raise text.error("a response is a column, a call such as log(y), or an expression in braces: {y / 2}", position)
    return _operand(text, lexemes[0])


def _summands(text: _Text, lexemes: Sequence[_Lexeme]) -> list[_Summand]:
    """Parts of a sum with their signs; parentheses around a mere sum are dropped."""
    summands: list[_Summand] = []
    negative = False
    for sign, part in _split(lexemes, ("+", "-")):
        negative ^= sign is not None and sign.text == "-"
        if not part:
            continue
        opened = _is_group(part) and not any(op.text in _BARS for op in _operators_outside(part[1:-1]))
        if opened and not negative:
            summands.extend(_summands(text, part[1:-1]))
        else:
            summands.append(_Summand(negative, part))
        negative = False
    last = lexemes[-1] if lexemes else None
    if last is None or (last.kind == "operator" and last.text in "+-"):
        raise text.error("a term is missing", last.start if last else 0)
    return summands


def _intercept(text: _Text, summands: Sequence[_Summand]) -> tuple[bool | None, list[_Summand]]:
    """Choice of the intercept (none: None) and the other summands."""
    chosen: bool | None = None
    rest: list[_Summand] = []
    for summand in summands:
        only = summand.lexemes[0]
        if len(summand.lexemes) == 1 and only.kind == "value" and only.text in ("0", "1"):
            chosen = (only.text == "1") != summand.negative
        else:
            _refuse_inner_intercept(text, summand.lexemes)
            rest.append(summand)
    return chosen, rest


def _refuse_inner_intercept(text: _Text, lexemes: Sequence[_Lexeme]) -> None:
    """Raise if 0 or 1 is added inside parentheses, where formulaic and R disagree."""
    for before, lexeme, after in zip(lexemes, lexemes[1:], lexemes[2:], strict=False):
        if lexeme.kind == "value" and lexeme.text in ("0", "1") and before.text in "(+-" and after.text in ")+-":
            raise text.error("the intercept is chosen outside parentheses", lexeme.start)


def _offset(text: _Text, summand: _Summand) -> str:
    """Expression inside `offset(...)`."""
    call = next(lexeme for lexeme in summand.lexemes if lexeme.function == "offset")
    if summand.negative or len(summand.lexemes) != 1:
        raise text.error("offset() is a term of its own, added with '+'", call.start)
    arguments = text.arguments(call)
    if len(arguments) != 1 or not arguments[0]:
        raise text.error("offset() takes one expression", call.start)
    if len(arguments[0]) == 1 and arguments[0][0].kind != "value":
        return _operand(text, arguments[0][0])
    code = _operand(text, call)
    return f"{{{code[code.index('(') + 1 : -1]}}}"


# Random terms


def _has(text: _Text, lexemes: Iterable[_Lexeme], sign: str) -> bool:
    """Whether an operator with this sign stands anywhere, calls included (braces hold plain Python and are exempt)."""
    for lexeme in lexemes:
        if lexeme.kind == "operator" and sign in lexeme.text:
            return True
        if lexeme.function and sign in lexeme.text and any(_has(text, part, sign) for part in text.arguments(lexeme)):
            return True
    return False


def _random_terms(text: _Text, summand: _Summand) -> list[RandomTerm]:
    """Blocks of one bar: effects (several for `||`) times groups (several for `/ * +`)."""
    lexemes = summand.lexemes
    _refuse_operators(text, summand)
    tagged = lexemes[0].kind == "call"
    structure, options, inside = _tag(text, lexemes[0]) if tagged else ("us", (), list(lexemes[1:-1]))
    bar, left, right = _bar(text, inside)
    if bar.text == "||" and tagged:
        raise text.error(f"'||' has no place in {structure}(): write diag(...|...) for uncorrelated effects", bar.start)
    source = _written(text, lexemes)
    effects = _uncorrelated_effects(text, left) if bar.text == "||" else [_effects(text, left)]
    groups = _groups(text, right, _written(text, left))
    return [
        RandomTerm(effect, structure, options, factors, ":".join(map(str, factors)), source)
        for effect in effects
        for factors in groups
    ]


def _refuse_operators(text: _Text, summand: _Summand) -> None:
    """Raise unless the random term is simply added."""
    lexemes = summand.lexemes
    if summand.negative:
        raise text.error("a random term cannot be subtracted with '-': leave it out", lexemes[0].start)
    if _is_group(lexemes) or (len(lexemes) == 1 and lexemes[0].kind == "call"):
        return
    operators = _operators_outside(lexemes)
    if operators:
        raise text.error(f"a random term cannot stand under '{operators[0].text}': add it with '+'", operators[0].start)
    raise text.error("'+' is missing before this term", lexemes[1].start)


def _tag(text: _Text, call: _Lexeme) -> tuple[str, Options, list[_Lexeme]]:
    """Structure, options and lexemes around the bar of `us(...|..., hom=True)`."""
    structure = call.function or ""
    if structure not in STRUCTURES:
        known = ", ".join(STRUCTURES)
        raise text.error(
            f"'{structure}(...|...)' is no structure; known are {known} (was a '+' forgotten before the parenthesis?)",
            call.start,
        )
    first, *rest = text.arguments(call)
    return structure, _options(text, call, STRUCTURES[structure], rest), first


def _options(text: _Text, call: _Lexeme, defaults: dict[str, object], arguments: list[list[_Lexeme]]) -> Options:
    """Arguments of a structure over its defaults, sorted."""
    given: dict[str, object] = {}
    for argument in arguments:
        name, value = _literal_argument(argument)
        written = _written(text, argument)
        if name not in defaults or name in given:
            allowed = f"takes {examples(defaults)}" if defaults else "takes no argument"
            raise text.error(f"'{written}' in {call.function}(): it {allowed}", call.start)
        if type(value) is not type(defaults[name]) or (name == "k" and value == 0):
            wanted = "True or False" if isinstance(defaults[name], bool) else "a positive integer"
            raise text.error(f"'{written}' in {call.function}(): {name} is {wanted}, written out", call.start)
        given[name] = value
    return tuple(sorted({**defaults, **given}.items()))


def _literal_argument(argument: Sequence[_Lexeme]) -> tuple[str | None, object]:
    """Name and value of `hom=True` or `k=2`; None for a name or value that is no literal of this form."""
    if len(argument) < 3 or argument[0].kind != "name" or argument[1].text != "=":
        return None, None
    name, value = argument[0].text, argument[2]
    if len(argument) == 3 and value.kind == "value" and value.text.isdecimal():
        return name, int(value.text)
    if len(argument) == 3 and value.kind == "name" and value.text in ("True", "False"):
        return name, value.text == "True"
    return name, None


def _bar(text: _Text, inside: list[_Lexeme]) -> tuple[_Lexeme, list[_Lexeme], list[_Lexeme]]:
    """Find the one bar, and the lexemes left and right of it."""
    parts = _split(inside, _BARS)
    bar = parts[1][0] if len(parts) > 1 else None
    if bar is None:
        raise text.error("a random term has its bar directly inside its parentheses", inside[0].start)
    if len(parts) > 2 or _has(text, parts[0][1] + parts[1][1], "|"):
        raise text.error("a random term has one bar", bar.start)
    left, right = parts[0][1], parts[1][1]
    if not left:
        raise text.error("the effects are missing left of the bar: write (1|group)", bar.start)
    if not right:
        raise text.error("the group is missing right of the bar", bar.start)
    return bar, left, right


def _effects(text: _Text, lexemes: Sequence[_Lexeme]) -> str:
    """Effects of one block, for formulaic."""
    summands = _summands(text, lexemes)
    basis = next((lexeme for lexeme in lexemes if lexeme.function in _BASES), None)
    if basis and _intercept(text, summands)[0]:
        raise text.error(f"{basis.function}() has the constant as its degree 0: leave the '1' out", basis.start)
    for lexeme in lexemes:
        if lexeme.function == "offset":
            raise text.error("offset() has no place in a random term", lexeme.start)
    effects = _right_hand_side(text, summands, intercept=basis is None)
    if not _formulaic_terms(text, effects):
        raise text.error("no effect is left of the bar: write (1|group)", lexemes[0].start)
    return effects


def _uncorrelated_effects(text: _Text, lexemes: Sequence[_Lexeme]) -> list[str]:
    """Effects of each block of `||`: one per term, not per column."""
    terms = sorted(_formulaic_terms(text, _effects(text, lexemes)), key=lambda term: term.degree)
    return ["1" if str(term) == "1" else f"0 + {_term(term)}" for term in terms]


def _term(term: Term) -> str:
    """Term as formulaic reads it back."""
    return ":".join(_factor_text(factor) for factor in term.factors)


def _factor_text(factor: TermFactor) -> str:
    """Factor of a formulaic term as formulaic reads it back."""
    if factor.eval_method is TermFactor.EvalMethod.LOOKUP:
        return _name(factor.expr)
    plain = factor.eval_method is TermFactor.EvalMethod.LITERAL or factor.expr.endswith(")")
    return str(factor.expr) if plain else f"{{{factor.expr}}}"


# Grouping


_Groups = list[tuple[Factor, ...]]


def _groups(text: _Text, lexemes: Sequence[_Lexeme], effects: str) -> _Groups:
    """Interactions right of the bar in the order and with the names of lme4.

    R sorts terms by degree; a slash anywhere makes lme4 reverse each name and the list.
    """
    _refuse_dangling(text, lexemes)
    groups = sorted((_in_written_order(text, lexemes, group) for group in _sum(text, lexemes)), key=len)
    slash = next((lexeme for lexeme in lexemes if lexeme.text == "/" and lexeme.kind == "operator"), None)
    if slash is None:
        return groups
    if any(factor.link for group in groups for factor in group):
        parts = [_written(text, part) for _, part in _split(lexemes, ("/",))]
        separate = " + ".join(f"({effects}|{part})" for part in parts)
        nested = f"({effects}|{':'.join(parts)})"
        raise text.error(f"'/' does not go with a relationship: write {separate}, or {nested}", slash.start)
    return [group[::-1] for group in groups[::-1]]


def _in_written_order(text: _Text, lexemes: Sequence[_Lexeme], group: tuple[Factor, ...]) -> tuple[Factor, ...]:
    """Factors by their first place right of the bar, as R writes the labels of terms."""
    if len(group) == 1:
        return group
    sources = [_source(text, lexeme) for lexeme in lexemes if lexeme.kind in ("name", "call")]
    return tuple(sorted(group, key=lambda factor: sources.index(factor.source)))


def _refuse_dangling(text: _Text, lexemes: Sequence[_Lexeme]) -> None:
    """Raise at an operator without a column on either side, and at empty parentheses."""
    outside = _Lexeme("operator", "", lexemes[0].start, lexemes[0].start)
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
    return _union([tuple(dict.fromkeys(a + b)) for a in left for b in right])


def _sum(text: _Text, lexemes: Sequence[_Lexeme]) -> _Groups:
    """Interactions of `a + b`."""
    return _union(*(_product(text, part) for _, part in _split(lexemes, ("+",))))


def _product(text: _Text, lexemes: Sequence[_Lexeme]) -> _Groups:
    """Interactions of `a * b` and `a / b`."""
    (_, first), *rest = _split(lexemes, ("*", "/"))
    groups = _interaction(text, first)
    for operator, part in rest:
        nested = _interaction(text, part)
        if operator is None or operator.text == "*":
            groups = _union(groups, nested, _cross(groups, nested))
            continue
        if len(groups) > 1 and len(nested) > 1:
            raise text.error("several factors cannot be nested in several: write the terms one by one", operator.start)
        whole = tuple(dict.fromkeys(factor for group in groups for factor in group))
        groups = _union(groups, _cross([whole], nested))
    return groups


def _interaction(text: _Text, lexemes: Sequence[_Lexeme]) -> _Groups:
    """Interactions of `a:b`, links bound to the factor before them."""
    parts: list[_Groups] = []
    before: list[_Lexeme] = []
    for colon, part in _split(lexemes, (":",)):
        if colon is not None and _is_link(text, part):
            parts[-1] = _linked(text, parts[-1], part[0], before)
        else:
            parts.append(_sum(text, part[1:-1]) if _is_group(part) else [(_factor(text, part),)])
        before = part
    return reduce(_cross, parts)


def _is_link(text: _Text, part: Sequence[_Lexeme]) -> bool:
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


def _linked(text: _Text, groups: _Groups, link: _Lexeme, before: Sequence[_Lexeme]) -> _Groups:
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


def _factor(text: _Text, part: Sequence[_Lexeme]) -> Factor:
    """Build the unlinked factor of a part between colons."""
    operators = _operators_outside(part)
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


def _source(text: _Text, lexeme: _Lexeme) -> Column | Members | MultiMembership:
    """Source of levels: a column, `members(...)` or `mm(...)`."""
    if lexeme.kind == "name":
        return Column(lexeme.text)
    if lexeme.function == "members":
        return _members(text, lexeme)
    if lexeme.function == "mm":
        return _multi_membership(text, lexeme)
    advice = f"write members({lexeme.text}):..." if lexeme.function == "mates" else "make the column first"
    raise text.error(f"'{lexeme.text}' is no grouping column: {advice}", lexeme.start)


def _members(text: _Text, call: _Lexeme) -> Members:
    """Entries of `members(animal, mates(animal, pen))`."""
    entries = tuple(_member(text, call, argument) for argument in text.arguments(call))
    if not entries or len(set(entries)) < len(entries):
        raise text.error(f"'{call.text}' needs columns, each once", call.start)
    return Members(entries)


def _member(text: _Text, call: _Lexeme, argument: Sequence[_Lexeme]) -> Column | Mates:
    """Column or `mates(column, unit)`."""
    names = _names([argument])
    if names is not None:
        return Column(names[0])
    if len(argument) == 1 and argument[0].function == "mates":
        names = _names(text.arguments(argument[0]))
        if names is not None and len(names) == 2:
            return Mates(*names)
    raise text.error(f"'{call.text}': members() takes columns and mates(column, unit)", call.start)


def _multi_membership(text: _Text, call: _Lexeme) -> MultiMembership:
    """Columns and weights of `mm(g1, g2, weights=w)`."""
    arguments = text.arguments(call)
    weights: tuple[str, ...] | None = ()
    if arguments and len(arguments[-1]) > 2 and [lexeme.text for lexeme in arguments[-1][:2]] == ["weights", "="]:
        values = arguments.pop()[2:]
        weights = _names([part for _, part in _split(values[1:-1] if _is_group(values) else values, (",",))])
    columns = _names(arguments)
    if columns is None or weights is None or len(columns) < 2 or len(weights) not in (0, 1, len(columns)):
        raise text.error(
            f"'{call.text}': mm() takes two or more columns and weights=w or weights=(w1, w2), all names of columns",
            call.start,
        )
    return MultiMembership(columns, weights)


def _names(arguments: Sequence[Sequence[_Lexeme]]) -> tuple[str, ...] | None:
    """Names of arguments that are plain columns; None if one is not."""
    if all(len(argument) == 1 and argument[0].kind == "name" for argument in arguments):
        return tuple(argument[0].text for argument in arguments)
    return None


# Checks over all terms


def _refuse_repeated(text: _Text, terms: Sequence[RandomTerm]) -> None:
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


def _refuse_unused(text: _Text, terms: Sequence[RandomTerm]) -> None:
    """Raise if a relationship is used by no term."""
    unused = sorted(text.relationships - {factor.link for term in terms for factor in term.factors})
    if unused:
        raise RelationshipError(
            f"no random term uses {examples(unused)} of relationships: write (1|column:{unused[0]}), or leave it out",
            relationships=unused,
        )


# Residual


def _residual_term(text: _Text, lexemes: Sequence[_Lexeme]) -> ResidualTerm:
    """One factor such as `us(trait|unit)`."""
    structure = lexemes[0].function if len(lexemes) == 1 else None
    if structure not in RESIDUAL_STRUCTURES:
        known = ", ".join(f"{name}()" for name in RESIDUAL_STRUCTURES)
        what = f"'{_written(text, lexemes)}' is no residual structure" if lexemes else "a residual structure is missing"
        raise text.error(f"{what}; known are {known}", lexemes[0].start if lexemes else 0)
    call = lexemes[0]
    first, *rest = text.arguments(call) or [[]]
    names = _names([part for _, part in _split(first, ("|",))])
    if names is None or len(names) > (1 if structure == "exp" else 2):
        form = "exp(column)" if structure == "exp" else f"{structure}(positions) or {structure}(positions|unit)"
        raise text.error(f"'{call.text}' is not of the form {form} with names of columns", call.start)
    options = _options(text, call, RESIDUAL_STRUCTURES[structure], rest)
    return ResidualTerm(structure, options, *names)
