"""Structure tags and their options, of terms and of residuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mixedgen.errors import examples
from mixedgen.formula.grouping import _names
from mixedgen.formula.lexemes import Lexeme, Text, as_written, split_at
from mixedgen.formula.parts import Options, ResidualTerm, Tags


def parse_residual(residual: str, tags: Tags) -> tuple[ResidualTerm, ...]:
    """Read the structure of the residual.

    Parameters
    ----------
    residual : str
        Such as ``"diag(site)"``, ``"us(trait|unit)"``, ``"ar1(row):ar1(col)"``, ``"exp(x)"``.
    tags : Tags
        The structures.

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
    >>> from mixedgen.formula.parts import Tag
    >>> ar1 = Tag({"hom": True})
    >>> parse_residual("ar1(time|subject)", Tags({}, {"ar1": ar1}, default=""))
    (ResidualTerm(structure='ar1', options=(('hom', True),), positions='time', unit='subject'),)
    """
    text = Text(residual, tags=tags)
    parts = split_at(text.all_lexemes(), (":",))
    return tuple(_residual_term(text, part) for _, part in parts)


def _tag(text: Text, call: Lexeme) -> tuple[str, Options, list[Lexeme]]:
    """Structure, options and lexemes around the bar of `us(...|..., hom=True)`."""
    structure = call.function or ""
    known_here = text.tags.terms
    if structure not in known_here:
        known = ", ".join(known_here)
        raise text.error(
            f"'{structure}(...|...)' is no structure; known are {known} (was a '+' forgotten before the parenthesis?)",
            call.start,
        )
    first, *rest = text.arguments(call)
    return structure, _options(text, call, known_here[structure].options, rest), first


def _options(text: Text, call: Lexeme, defaults: Mapping[str, object], arguments: list[list[Lexeme]]) -> Options:
    """Arguments of a structure over its defaults, sorted."""
    given: dict[str, object] = {}
    for argument in arguments:
        name, value = _literal_argument(argument)
        written = as_written(text, argument)
        if name is None or name not in defaults or name in given:
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


def _residual_term(text: Text, lexemes: Sequence[Lexeme]) -> ResidualTerm:
    """One factor such as `us(trait|unit)`."""
    structure = lexemes[0].function if len(lexemes) == 1 else None
    known_here = text.tags.residuals
    if structure not in known_here:
        known = ", ".join(f"{name}()" for name in known_here)
        what = f"'{as_written(text, lexemes)}' is no" if lexemes else "missing is a"
        raise text.error(f"{what} residual structure; known are {known}", lexemes[0].start if lexemes else 0)
    assert structure is not None
    call, tag = lexemes[0], known_here[structure]
    first, *rest = text.arguments(call) or [[]]
    names = _names([part for _, part in split_at(first, ("|",))])
    if names is None or len(names) > (2 if tag.units else 1):
        form = f"{structure}(positions) or {structure}(positions|unit)" if tag.units else f"{structure}(column)"
        raise text.error(f"'{call.text}' is not of the form {form} with names of columns", call.start)
    unit = names[1] if len(names) == 2 else None
    return ResidualTerm(structure, _options(text, call, tag.options, rest), names[0], unit, tag.entry)
