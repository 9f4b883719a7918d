"""From the text of a model to its parts: responses, fixed part, offsets and random terms.

The token stream of formulaic is the only source: random terms are cut out by the spans of its tokens, and what remains
is handed back as right-hand sides for formulaic. Nothing here looks at data.
"""

# formulaic has no type information.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

from formulaic import Formula
from formulaic.errors import FormulaicError
from formulaic.parser import DefaultFormulaParser
from formulaic.parser.types import Factor as TermFactor
from formulaic.parser.types import Term
from formulaic.transforms import TRANSFORMS
from formulaic.utils.variables import get_expression_variables

from mixedgen.errors import FormulaError, RelationshipError, examples
from mixedgen.formula.lexemes import (
    BARS,
    Lexeme,
    Summand,
    Text,
    as_written,
    has_sign,
    is_group,
    operand,
    operators_outside,
    quoted_name,
    sides,
    split_at,
    summands_of,
    wrapped,
)

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
# A reduced-rank residual covariance is singular; `exp` is the log-linear variance; `at` divides the records.
RESIDUAL_STRUCTURES: dict[str, dict[str, object]] = {k: v for k, v in STRUCTURES.items() if k != "rr"}
RESIDUAL_STRUCTURES |= {"exp": {}, "at": {}}

CONTRASTS = ("treatment", "sum", "helmert", "poly", "diff")

_PARSER = DefaultFormulaParser(feature_flags={"twosided"})
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
    formula: str,
    *,
    relationships: Collection[str] = (),
    columns: Collection[str] | None = None,
    structures: Mapping[str, object] | None = None,
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
    structures : mapping of str to object, optional
        Structures of the user's by their names in formulas; the object becomes the option ``source`` of the term.

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
    text = Text(formula, frozenset(relationships), names, structures=tuple((structures or {}).items()))
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
    _formulaic_terms(text, rhs)
    return ParsedFormula(formula, responses, rhs, tuple(offsets), tuple(terms))


def parse_residual(residual: str, structures: Mapping[str, object] | None = None) -> tuple[ResidualTerm, ...]:
    """Read the structure of the residual.

    Parameters
    ----------
    residual : str
        Such as ``"diag(site)"``, ``"us(trait|unit)"``, ``"ar1(row):ar1(col)"``, ``"exp(x)"``.
    structures : mapping of str to object, optional
        As in `parse`.

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
    text = Text(residual, structures=tuple((structures or {}).items()))
    parts = split_at(text.all_lexemes(), (":",))
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
    text, contrasts = Text(rhs), dict(choices)
    lexemes = text.all_lexemes()
    for lexeme in lexemes:
        if lexeme.kind == "operator" and lexeme.text in ("~", *BARS):
            raise text.error(f"'{lexeme.text}' has no place in one side of a formula", lexeme.start)
    coded = as_written(text, [_coded(lexeme, contrasts) for lexeme in lexemes]) if contrasts else rhs
    try:
        return Formula(coded, _parser=_PARSER)
    except (FormulaicError, SyntaxError) as error:
        raise wrapped(error, rhs) from error


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


def _formulaic_terms(text: Text, rhs: str) -> list[Term]:
    """Terms as formulaic expands them."""
    try:
        return list(_PARSER.get_terms(rhs))
    except (FormulaicError, SyntaxError) as error:
        raise wrapped(error, text.source) from error


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


# Random terms


def _random_terms(text: Text, summand: Summand) -> list[RandomTerm]:
    """Blocks of one bar: effects (several for `||`) times groups (several for `/ * +`)."""
    lexemes = summand.lexemes
    _refuse_operators(text, summand)
    tagged = lexemes[0].kind == "call"
    structure, options, inside = _tag(text, lexemes[0]) if tagged else ("us", (), list(lexemes[1:-1]))
    bar, left, right = _bar(text, inside)
    if bar.text == "||" and tagged:
        raise text.error(f"'||' has no place in {structure}(): write diag(...|...) for uncorrelated effects", bar.start)
    source = as_written(text, lexemes)
    effects = _uncorrelated_effects(text, left) if bar.text == "||" else [_effects(text, left)]
    groups = _groups(text, right, as_written(text, left))
    return [
        RandomTerm(effect, structure, options, factors, ":".join(map(str, factors)), source)
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


def _tag(text: Text, call: Lexeme) -> tuple[str, Options, list[Lexeme]]:
    """Structure, options and lexemes around the bar of `us(...|..., hom=True)`."""
    structure = call.function or ""
    known_here = STRUCTURES | own_structures(text)
    if structure not in known_here:
        known = ", ".join(known_here)
        raise text.error(
            f"'{structure}(...|...)' is no structure; known are {known} (was a '+' forgotten before the parenthesis?)",
            call.start,
        )
    first, *rest = text.arguments(call)
    return structure, _with_source(text, structure, _options(text, call, known_here[structure], rest)), first


def own_structures(text: Text) -> dict[str, dict[str, object]]:
    """Structures of the user's and their arguments with defaults."""
    return {name: {"hom": True} for name, _ in text.structures}


def _with_source(text: Text, structure: str, options: Options) -> Options:
    """Options of a structure of the user's with the object that makes it."""
    own = dict(text.structures)
    return (*options, ("source", own[structure])) if structure in own else options


def _options(text: Text, call: Lexeme, defaults: dict[str, object], arguments: list[list[Lexeme]]) -> Options:
    """Arguments of a structure over its defaults, sorted."""
    given: dict[str, object] = {}
    for argument in arguments:
        name, value = _literal_argument(argument)
        written = as_written(text, argument)
        if name not in defaults or name in given:
            allowed = f"takes {examples(defaults)}" if defaults else "takes no argument"
            raise text.error(f"'{written}' in {call.function}(): it {allowed}", call.start)
        if type(value) is not type(defaults[name]) or (name == "k" and value == 0):
            wanted = "True or False" if isinstance(defaults[name], bool) else "a positive integer"
            raise text.error(f"'{written}' in {call.function}(): {name} is {wanted}, written out", call.start)
        given[name] = value
    return tuple(sorted({**defaults, **given}.items()))


def _literal_argument(argument: Sequence[Lexeme]) -> tuple[str | None, object]:
    """Name and value of `hom=True` or `k=2`; None for a name or value that is no literal of this form."""
    if len(argument) < 3 or argument[0].kind != "name" or argument[1].text != "=":
        return None, None
    name, value = argument[0].text, argument[2]
    if len(argument) == 3 and value.kind == "value" and value.text.isdecimal():
        return name, int(value.text)
    if len(argument) == 3 and value.kind == "name" and value.text in ("True", "False"):
        return name, value.text == "True"
    return name, None


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


def _uncorrelated_effects(text: Text, lexemes: Sequence[Lexeme]) -> list[str]:
    """Effects of each block of `||`: one per term, not per column."""
    terms = sorted(_formulaic_terms(text, _effects(text, lexemes)), key=lambda term: term.degree)
    return ["1" if str(term) == "1" else f"0 + {_term(term)}" for term in terms]


def _term(term: Term) -> str:
    """Term as formulaic reads it back."""
    return ":".join(_factor_text(factor) for factor in term.factors)


def _factor_text(factor: TermFactor) -> str:
    """Factor of a formulaic term as formulaic reads it back."""
    if factor.eval_method is TermFactor.EvalMethod.LOOKUP:
        return quoted_name(factor.expr)
    plain = factor.eval_method is TermFactor.EvalMethod.LITERAL or factor.expr.endswith(")")
    return str(factor.expr) if plain else f"{{{factor.expr}}}"


# Grouping


_Groups = list[tuple[Factor, ...]]


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


# Checks over all terms


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


# Residual


def _residual_term(text: Text, lexemes: Sequence[Lexeme]) -> ResidualTerm:
    """One factor such as `us(trait|unit)`."""
    structure = lexemes[0].function if len(lexemes) == 1 else None
    known_here = RESIDUAL_STRUCTURES | own_structures(text)
    if structure not in known_here:
        known = ", ".join(f"{name}()" for name in known_here)
        what = f"'{as_written(text, lexemes)}' is no" if lexemes else "missing is a"
        raise text.error(f"{what} residual structure; known are {known}", lexemes[0].start if lexemes else 0)
    assert structure is not None
    call = lexemes[0]
    first, *rest = text.arguments(call) or [[]]
    names = _names([part for _, part in split_at(first, ("|",))])
    if names is None or len(names) > (1 if structure in ("exp", "at") else 2):
        form = (
            f"{structure}(column)"
            if structure in ("exp", "at")
            else f"{structure}(positions) or {structure}(positions|unit)"
        )
        raise text.error(f"'{call.text}' is not of the form {form} with names of columns", call.start)
    options = _with_source(text, structure, _options(text, call, known_here[structure], rest))
    return ResidualTerm(structure, options, *names)
