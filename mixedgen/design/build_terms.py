"""Random terms from a parsed formula and a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.registry import make_structure
from mixedgen.covariance.structure import Structure
from mixedgen.covariance.variances import Identity
from mixedgen.design.coding import INTERCEPT, Origin, check_finite, dense_or_sparse, materialise, origins
from mixedgen.design.levels import interaction, level_positions, match_levels
from mixedgen.design.loads import other_columns, plain_loads, several_loads, source_columns, spread
from mixedgen.design.terms import INTERCEPT_NAMES, Term, normal_key
from mixedgen.errors import DesignError, FormulaError, RelationshipError, examples
from mixedgen.formula.parts import Column, Members, ParsedFormula, RandomTerm
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
        there = level_positions(frame[name].iloc[kept], relationships[link]) >= 0
        if not there.all():
            lost = lost | {f"{name} (not in {link})": int((~there).sum())}
        keep &= there
    if not keep.any():
        raise RelationshipError("no record is left: none has an id that is in the relationship it links to.")
    return kept[keep], lost


@dataclass(frozen=True)
class Effects:
    """What stands left of a bar: values (n, c), names as lme4 has them, origins, and how they are coded."""

    values: Array
    names: tuple[str, ...]
    origins: tuple[Origin, ...]
    spec: Any

    def over(self, groups: Sequence[frozenset[str]]) -> tuple[Origin, ...]:
        """Origins that name the grouping variables too, for each entry right of the bar."""
        return tuple(replace(o, variables=o.variables | g) for g in groups for o in self.origins)


def effects_left(effects: str, frame: pd.DataFrame) -> Effects:
    """Columns left of the bar."""
    if effects == "1":
        return Effects(np.ones((len(frame), 1)), ("(Intercept)",), (INTERCEPT,), None)
    matrix = materialise(effects, frame)
    names = tuple(str(c) for c in matrix.model_spec.column_names)
    values = dense_or_sparse(matrix)
    dense = values.toarray() if sp.issparse(values) else values
    check_finite(dense, names)
    shown = tuple("(Intercept)" if e in INTERCEPT_NAMES else e for e in names)
    return Effects(np.ascontiguousarray(dense), shown, origins(matrix.model_spec), matrix.model_spec)


def groups_right(term: RandomTerm) -> list[frozenset[str]]:
    """What the levels of a term vary over, for each entry of `members`; one set for any other term."""
    source = term.factors[-1].source
    if isinstance(source, Members):
        return [frozenset([str(e)]) for e in source.entries]
    return [frozenset(str(f.source) for f in term.factors)]


def build_term(
    term: RandomTerm,
    key: str,
    place: int,
    frame: pd.DataFrame,
    relationships: Mapping[str, Relationship],
    *,
    several_traits: bool = False,
) -> Term:
    """Z, structure and relationship of one random term; with several traits the structure is still to be spanned."""
    factor = term.factors[-1]
    relationship = None if factor.link is None else relationships[factor.link]
    if len(term.factors) == 2 and all(f.link is not None and isinstance(f.source, Column) for f in term.factors):
        return build_pairs(term, key, place, frame, relationships, several_traits=several_traits)
    if len(term.factors) > 1 and any(f.link is not None or not isinstance(f.source, Column) for f in term.factors):
        nearest = nearest_factor(term, frame)
        return build_term(nearest, key, place, frame, relationships, several_traits=several_traits)
    if isinstance(factor.source, Column):
        loads, levels = plain_loads(term, frame, relationship)
    else:
        loads, levels = several_loads(factor, frame, relationship)
    if len(levels) < 2:
        raise DesignError(
            f"the grouping factor {key!r} has one level only ({examples(list(levels))}): "
            "its variance cannot be estimated."
        )
    left = effects_left(term.effects, frame)
    values, effects = spread(loads, left.values, left.names)
    return Term(
        key=key,
        effects=effects,
        structure=own_structure(term, effects, several_traits=several_traits),
        relationship=relationship,
        levels=levels,
        record=loads.record,
        level=loads.level,
        values=values,
        n_records=len(frame),
        origins=left.over(groups_right(term)),
        written=term,
        place=place,
        spec=left.spec,
    )


def own_structure(term: RandomTerm, effects: tuple[str, ...], *, several_traits: bool) -> Structure:
    """Structure of the effects of one trait; one that takes their place until the traits span it."""
    if several_traits:
        return Identity(len(effects))
    return make_structure(term.structure, len(effects), dict(term.options), effects)


def build_pairs(
    term: RandomTerm,
    key: str,
    place: int,
    frame: pd.DataFrame,
    relationships: Mapping[str, Relationship],
    *,
    several_traits: bool = False,
) -> Term:
    """Term of two related factors, such as the crosses of two pools: the pairs that occur are its levels."""
    names, links = [str(f.source) for f in term.factors], [str(f.link) for f in term.factors]
    for name, link in zip(names, links, strict=True):
        match_levels(frame[name], relationships[link], link, name)
    columns = [frame[name].astype(object) for name in names]
    code, labels = interaction(columns)
    where = np.unique(code, return_index=True)[1]
    pairs = pd.DataFrame({k: column.to_numpy()[where] for k, column in enumerate(columns)}, index=labels)
    K = product_of_pairs(relationships[links[0]], relationships[links[1]], pairs)
    left = effects_left(term.effects, frame)
    return Term(
        key=key,
        effects=left.names,
        structure=own_structure(term, left.names, several_traits=several_traits),
        relationship=K,
        levels=labels,
        record=None,
        level=code,
        values=left.values,
        n_records=len(frame),
        origins=left.over(groups_right(term)),
        written=term,
        place=place,
        spec=left.spec,
    )


def nearest_factor(term: RandomTerm, frame: pd.DataFrame) -> RandomTerm:
    """`(1|site:animal:A)` as `diag(0 + site|animal:A, hom=True)`: the relationship binds the nearest factor.

    Raises
    ------
    FormulaError
        If the term has other effects than the intercept, or a relationship before its last factor.
    """
    *others, last = term.factors
    plain = all(isinstance(f.source, Column) and f.link is None for f in others)
    if not plain or term.effects != "1" or term.structure != "us":
        raise FormulaError(
            f"{term.source}: a relationship over an interaction is estimated for an intercept and one relationship, "
            "that of the last factor; write the effects of each level out, as in us(0 + site|animal:A)."
        )
    names = [str(f.source) for f in others]
    cells = ":".join(f"C(`{c}`)" if pd.api.types.is_numeric_dtype(frame[c]) else f"`{c}`" for c in names)
    return replace(term, effects=f"0 + {cells}", structure="diag", options=(("hom", True),), factors=(last,))


def grouping_columns(parsed: ParsedFormula) -> list[str]:
    """Columns right of the bars."""
    sources = [f.source for t in parsed.terms for f in t.factors]
    return [c for s in sources for c in (*source_columns(s), *other_columns(s))]


def unique_keys(terms: Sequence[RandomTerm]) -> list[str]:
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
            parts = [frame[str(f.source)] for f in term.factors]
            labels = [":".join(map(str, row)) for row in zip(*parts, strict=True)]
            out[key] = pd.Series(labels, dtype=object).where(np.all([c.notna() for c in parts], axis=0))
        elif term.factors[-1].link is not None:
            columns = [frame[c] for c in source_columns(term.factors[-1].source)]
            out[key] = columns[0] if len(columns) == 1 else pd.concat(columns, ignore_index=True)
    return out
