"""Random terms from a parsed formula and a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mixedgen.arrays import IntArray
from mixedgen.covariance.registry import DEFAULT, ONE_VARIANCE, Levels, make_structure
from mixedgen.covariance.structure import Structure
from mixedgen.covariance.variances import Identity
from mixedgen.design.coding import Coded, Functions, Side, code, dense, intercept, read_side
from mixedgen.design.columns import is_number
from mixedgen.design.levels import interaction, joined_labels, level_positions, match_levels
from mixedgen.design.loads import Loads, one_load, other_columns, plain_loads, several_loads, source_columns, spread
from mixedgen.design.terms import INTERCEPT_NAMES, Term, normal_key
from mixedgen.design.traits import Traits
from mixedgen.errors import DesignError, FormulaError, RelationshipError
from mixedgen.formula.parts import Column, Members, ParsedFormula, RandomTerm
from mixedgen.genetics.written import as_written
from mixedgen.relationship.combine import product_of_pairs
from mixedgen.relationship.relationship import Relationship


def drop_unmatched(
    parsed: ParsedFormula,
    frame: pd.DataFrame,
    relationships: Mapping[str, Relationship],
    kept: IntArray,
    lost: dict[str, int],
) -> tuple[IntArray, dict[str, int]]:
    """Rows whose ids are all in the relationships they link to, and the rows lost for want of it."""
    keep = np.ones(len(kept), dtype=bool)
    links = [(f.source, f.link) for t in parsed.terms for f in t.factors if f.link is not None]
    for name, link in ((c, link) for source, link in links for c in source_columns(source)):
        column = as_written(frame, name).iloc[kept]
        there = (level_positions(column, relationships[link]) >= 0) | column.isna().to_numpy()
        if not there.all():
            lost = lost | {f"{name} (not in {link})": int((~there).sum())}
        keep &= there
    if not keep.any():
        raise RelationshipError("no record is left: none has an id that is in the relationship it links to.")
    return kept[keep], lost


@dataclass(frozen=True)
class TermText:
    """A random term before its levels: its name, its place in the formula, the term as the model takes it, its effects.

    Attributes
    ----------
    key : str
        Its name.
    place : int
        Position among the terms of the formula.
    written : RandomTerm
        The term, rewritten where a relationship binds the last factor of an interaction.
    left : Side
        What stands left of the bar.
    """

    key: str
    place: int
    written: RandomTerm
    left: Side


def term_texts(parsed: ParsedFormula, frame: pd.DataFrame, functions: Functions | None = None) -> tuple[TermText, ...]:
    """The random terms of a formula as the model takes them."""
    taken = [t if _is_plain(t) or _is_pair(t) else _nearest_factor(t, frame) for t in parsed.terms]
    keys = _unique_keys(parsed.terms)
    return tuple(
        TermText(key, place, t, read_side(t.effects, frame, functions=functions))
        for place, (key, t) in enumerate(zip(keys, taken, strict=True))
    )


def _is_plain(term: RandomTerm) -> bool:
    """Whether the term is over one factor, or an interaction of plain columns."""
    return len(term.factors) == 1 or all(f.link is None and isinstance(f.source, Column) for f in term.factors)


def _is_pair(term: RandomTerm) -> bool:
    """Whether the term is over the pairs of two related factors."""
    return len(term.factors) == 2 and all(f.link is not None and isinstance(f.source, Column) for f in term.factors)


def _groups_right(term: RandomTerm) -> list[frozenset[str]]:
    """What the levels of a term vary over, for each entry of `members`; one set for any other term."""
    source = term.factors[-1].source
    if isinstance(source, Members):
        return [frozenset([str(e)]) for e in source.entries]
    return [frozenset(str(f.source) for f in term.factors)]


def _effects_left(side: Side, frame: pd.DataFrame) -> Coded:
    """Columns left of the bar, dense, the intercept named as lme4 names it."""
    coded = intercept(side, len(frame)) if side.text == "1" else code(side, frame)
    names = tuple("(Intercept)" if e in INTERCEPT_NAMES else e for e in coded.names)
    return replace(coded, X=np.ascontiguousarray(dense(coded.X)), names=names)


def build_term(
    text: TermText, frame: pd.DataFrame, relationships: Mapping[str, Relationship], traits: Traits | None
) -> Term:
    """Z, structure and relationship of one random term."""
    written = text.written
    levels = _pair_levels if _is_pair(written) else _several_levels
    loads, labels, relationship = levels(written, frame, relationships)
    left = _effects_left(text.left, frame)
    values, effects = spread(loads, np.asarray(left.X), left.names)
    several = traits is not None
    # with several traits this one takes the place of the structure that spans them all
    structure = Identity(len(effects)) if several else _own_structure(written, effects)
    groups = _groups_right(written)
    term = Term(
        key=text.key,
        effects=effects,
        structure=structure,
        relationship=relationship,
        levels=labels,
        record=loads.record,
        level=loads.level,
        values=values,
        n_records=len(frame),
        origins=tuple(replace(o, variables=o.variables | g) for g in groups for o in left.origins),
        written=written,
        place=text.place,
        coder=left.coder,
        pools=tuple(relationships[str(f.link)] for f in written.factors) if _is_pair(written) else (),
    )
    return term if traits is None else traits.term(term)


def _own_structure(written: RandomTerm, effects: tuple[str, ...]) -> Structure:
    """Structure of the effects of a term."""
    return make_structure(written.structure, Levels(effects), dict(written.options), written.entry)


def _several_levels(
    term: RandomTerm, frame: pd.DataFrame, relationships: Mapping[str, Relationship]
) -> tuple[Loads, pd.Index, Relationship | None]:
    """Loads, levels and relationship of a term over one factor, or over an interaction of plain ones."""
    factor = term.factors[-1]
    relationship = None if factor.link is None else relationships[factor.link]
    if isinstance(factor.source, Column):
        return *plain_loads(term, frame, relationship), relationship
    return *several_loads(factor, frame, relationship), relationship


def _pair_levels(
    term: RandomTerm, frame: pd.DataFrame, relationships: Mapping[str, Relationship]
) -> tuple[Loads, pd.Index, Relationship | None]:
    """Loads, levels and relationship of two related factors, such as the crosses of two pools: the pairs that occur."""
    names, links = [str(f.source) for f in term.factors], [str(f.link) for f in term.factors]
    for name, link in zip(names, links, strict=True):
        match_levels(as_written(frame, name), relationships[link], link, name)
    columns = [as_written(frame, name).astype(object) for name in names]
    level, labels = interaction(columns)
    where = np.unique(level, return_index=True)[1]
    pairs = pd.DataFrame({k: column.to_numpy()[where] for k, column in enumerate(columns)}, index=labels)
    return one_load(level), labels, product_of_pairs(relationships[links[0]], relationships[links[1]], pairs)


def _nearest_factor(term: RandomTerm, frame: pd.DataFrame) -> RandomTerm:
    """`(1|site:animal:A)` as `diag(0 + site|animal:A, hom=True)`: the relationship binds the nearest factor.

    Raises
    ------
    FormulaError
        If the term has other effects than the intercept, or a relationship before its last factor.
    """
    *others, last = term.factors
    plain = all(isinstance(f.source, Column) and f.link is None for f in others)
    if not plain or term.effects != "1" or term.structure != DEFAULT:
        raise FormulaError(
            f"{term.source}: a relationship over an interaction is estimated for an intercept and one relationship, "
            "that of the last factor; write the effects of each level out, as in us(0 + site|animal:A)."
        )
    names = [str(f.source) for f in others]
    cells = ":".join(f"C(`{c}`)" if is_number(frame[c]) else f"`{c}`" for c in names)
    tag, options = ONE_VARIANCE
    return replace(term, effects=f"0 + {cells}", structure=tag, options=options, factors=(last,))


def grouping_columns(parsed: ParsedFormula) -> list[str]:
    """Columns right of the bars."""
    sources = [f.source for t in parsed.terms for f in t.factors]
    return [c for s in sources for c in (*source_columns(s), *other_columns(s))]


def _unique_keys(terms: Sequence[RandomTerm]) -> list[str]:
    """Names of the terms: the label, with .1, .2 where it has occurred before, as in lme4."""
    seen: dict[str, int] = {}
    keys = []
    for t in terms:
        count = seen.get(t.label, 0)
        if normal_key(t.label) == ("residual",):
            raise DesignError(f"{t.source}: 'residual' is the name of the residual variance; rename the column.")
        keys.append(f"{t.label}.{count}" if count else t.label)
        seen[t.label] = count + 1
    return keys


def linked_ids(terms: Sequence[Term], frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Ids of the terms with a relationship, by the key of the term; those of several columns after each other."""
    out = {}
    for key, term in ((t.key, t.written) for t in terms):
        if len(term.factors) > 1 and all(f.link is not None for f in term.factors):
            parts = [as_written(frame, str(f.source)) for f in term.factors]
            out[key] = pd.Series(joined_labels(parts), dtype=object).where(np.all([c.notna() for c in parts], axis=0))
        elif term.factors[-1].link is not None:
            columns = [as_written(frame, c) for c in source_columns(term.factors[-1].source)]
            out[key] = columns[0] if len(columns) == 1 else pd.concat(columns, ignore_index=True)
    return out
