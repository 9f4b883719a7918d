"""Random terms: which levels a record loads with what weight, and how levels and coefficients are related."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from mixedgen.covariance.structure import Identity, Structure, make_structure
from mixedgen.design.frame import check_finite, dense_or_sparse, materialise, numeric
from mixedgen.errors import DesignError, FormulaError, RelationshipError, examples
from mixedgen.formula.parse import Column, Factor, Mates, Members, MultiMembership, ParsedFormula, RandomTerm
from mixedgen.genetics.ids import near_misses
from mixedgen.relationship import Relationship, product_of_pairs

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

INTERCEPT_NAMES = ("1", "Intercept", "(Intercept)")


@dataclass(frozen=True)
class Term:
    """One random term: Z, the structure of its coefficients and the relationship of its levels.

    Attributes
    ----------
    key : str
        Name of the term: what stands right of the bar, made unique by ``.1``, ``.2``.
    effects : tuple of str
        Names of the c coefficients of one level.
    structure : Structure
        Sigma(theta), c x c.
    relationship : Relationship or None
        K of the levels; None for independent levels.
    levels : Index, length q
        Labels of the levels.
    record, level : ndarray of int, shape (m,), or None
        Record and level of each load; `record` is None when each record loads one level, in order.
    values : ndarray, shape (m, c)
        Weight of each coefficient in the load.
    n_records : int
        Number of records.
    spec : ModelSpec or None
        How formulaic coded what stands left of the bar; None for an intercept.
    """

    key: str
    effects: tuple[str, ...]
    structure: Structure
    relationship: Relationship | None
    levels: pd.Index
    record: IntArray | None
    level: IntArray
    values: Array
    n_records: int
    spec: Any = field(default=None, repr=False, compare=False)

    @property
    def q(self) -> int:
        """Number of levels."""
        return len(self.levels)

    @property
    def c(self) -> int:
        """Number of coefficients of one level."""
        return len(self.effects)

    @cached_property
    def Z(self) -> sp.csr_array:
        """Incidence of u, shape (n, c q), coefficient-major: column a q + i is coefficient a of level i."""
        m = len(self.level)
        cols = (self.level[:, None] + self.q * np.arange(self.c)).ravel()
        if self.record is None:
            indptr = np.arange(m + 1) * self.c
            return sp.csr_array((self.values.ravel(), cols, indptr), shape=(self.n_records, self.q * self.c))
        rows = np.repeat(self.record, self.c)
        coo = sp.coo_array((self.values.ravel(), (rows, cols)), shape=(self.n_records, self.q * self.c))
        return coo.tocsr()

    @cached_property
    def Zt(self) -> sp.csr_array:
        """Z', by rows: loads of each coefficient."""
        return self.Z.T.tocsr()

    @cached_property
    def counts(self) -> IntArray:
        """Number of records that load each level, shape (q,)."""
        return np.bincount(self.level, minlength=self.q)

    def multiply_relationship(self, U: Array) -> Array:
        """K U for U of shape (q, any)."""
        return U if self.relationship is None else self.relationship.multiply(U)

    def select(self, rows: IntArray) -> Term:
        """The term of some records, increasing; independent levels that lose all of theirs go."""
        record, load = None, rows
        if self.record is not None:
            place = np.full(self.n_records, -1, dtype=np.intp)
            place[rows] = np.arange(len(rows))
            load = np.flatnonzero(place[self.record] >= 0)
            record = place[self.record[load]]
        level, levels = self.level[load], self.levels
        if self.relationship is None:
            present, level = np.unique(level, return_inverse=True)
            levels = levels[present]
        return replace(self, levels=levels, record=record, level=level, values=self.values[load], n_records=len(rows))


def codes_of(column: pd.Series) -> tuple[IntArray, pd.Index]:
    """Level of each row and the levels present, in category order or sorted."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        used = column.cat.remove_unused_categories()
        return np.asarray(used.cat.codes, dtype=np.intp), pd.Index(used.cat.categories)
    codes, levels = pd.factorize(column)
    try:
        order = np.argsort(levels.to_numpy() if isinstance(levels, pd.Index) else levels, kind="stable")
    except TypeError:
        order = np.argsort(np.asarray(levels).astype(str), kind="stable")
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    return rank[codes], pd.Index(levels)[order]


def interaction(columns: Sequence[pd.Series]) -> tuple[IntArray, pd.Index]:
    """Combinations that occur, in the level order of the first column, then the next; labels joined by a colon."""
    codes, levels = codes_of(columns[0])
    for column in columns[1:]:
        more, others = codes_of(column)
        pairs = codes * len(others) + more
        present, codes = np.unique(pairs, return_inverse=True)
        left, right = np.divmod(present, len(others))
        levels = pd.Index([f"{a}:{b}" for a, b in zip(levels[left], others[right], strict=True)])
    return codes.astype(np.intp), levels


def level_positions(column: pd.Series, relationship: Relationship) -> IntArray:
    """Position of each record's id in the labels of a relationship, -1 where it is not there."""
    values = column.astype(column.cat.categories.dtype) if isinstance(column.dtype, pd.CategoricalDtype) else column
    return relationship.labels.get_indexer(pd.Index(values))


def match_levels(column: pd.Series, relationship: Relationship, key: str, name: str) -> IntArray:
    """Position of each record's id in the labels of a relationship.

    Raises
    ------
    RelationshipError
        If some ids are not there; the message says how many and whether they differ only in type or spelling.
    """
    at = level_positions(column, relationship)
    if np.any(at < 0):
        unknown = pd.unique(np.asarray(column.astype(object))[at < 0])
        near = near_misses(unknown, relationship.labels)
        hint = "Add them to the pedigree or matrix, or leave their records out with unmatched='omit'."
        if near:
            hint = f"Some would match under another spelling ({'; '.join(map(str, near))}): convert one side."
        raise RelationshipError(
            f"{len(unknown)} levels of {name!r} ({int((at < 0).sum())} records) are not in the relationship {key!r}: "
            f"{examples(list(unknown))}. {hint}",
            levels=list(unknown),
        )
    return at


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


def effect_columns(effects: str, frame: pd.DataFrame) -> tuple[Array, tuple[str, ...], Any]:
    """Columns left of the bar, their names, the intercept named as lme4 names it, and how they are coded."""
    if effects == "1":
        return np.ones((len(frame), 1)), ("(Intercept)",), None
    matrix = materialise(effects, frame)
    names = tuple(str(c) for c in matrix.model_spec.column_names)
    values = dense_or_sparse(matrix)
    dense = values.toarray() if sp.issparse(values) else values
    check_finite(dense, names)
    shown = tuple("(Intercept)" if e in INTERCEPT_NAMES else e for e in names)
    return np.ascontiguousarray(dense), shown, matrix.model_spec


@dataclass(frozen=True)
class Loads:
    """Which levels the records load, through which entry, with what weight.

    Attributes
    ----------
    record : ndarray of int, shape (m,), or None
        Record of each load, in order; None when each record loads one level, in order.
    level, entry : ndarray of int, shape (m,)
        Level, and position among the entries of `members`.
    weight : ndarray, shape (m,), or None
        Weights; None for ones.
    entries : tuple of str
        Names of the entries; one for a plain column.
    """

    record: IntArray | None
    level: IntArray
    entry: IntArray
    weight: Array | None
    entries: tuple[str, ...]


def load_ranges(record: IntArray | None, n: int) -> tuple[IntArray, IntArray]:
    """How many loads each of n records has, and its first; `record` is None for one load each, in order."""
    if record is None:
        return np.ones(n, dtype=np.intp), np.arange(n)
    count = np.bincount(record, minlength=n)
    return count, np.cumsum(count) - count


def build_term(
    term: RandomTerm,
    key: str,
    frame: pd.DataFrame,
    relationships: Mapping[str, Relationship],
    *,
    several_traits: bool = False,
) -> Term:
    """Z, structure and relationship of one random term; with several traits the structure is still to be spanned."""
    factor = term.factors[-1]
    relationship = None if factor.link is None else relationships[factor.link]
    if len(term.factors) == 2 and all(f.link is not None and isinstance(f.source, Column) for f in term.factors):
        return build_pairs(term, key, frame, relationships, several_traits=several_traits)
    if len(term.factors) > 1 and any(f.link is not None or not isinstance(f.source, Column) for f in term.factors):
        nearest = nearest_factor(term, frame)
        return build_term(nearest, key, frame, relationships, several_traits=several_traits)
    if isinstance(factor.source, Column):
        loads, levels = plain_loads(term, frame, relationship)
    else:
        loads, levels = several_loads(factor, frame, relationship)
    if len(levels) < 2:
        raise DesignError(
            f"the grouping factor {key!r} has one level only ({examples(list(levels))}): "
            "its variance cannot be estimated."
        )
    columns, names, spec = effect_columns(term.effects, frame)
    values, effects = spread(loads, columns, names)
    structure = own_structure(term, effects, several_traits=several_traits)
    return Term(key, effects, structure, relationship, levels, loads.record, loads.level, values, len(frame), spec)


def own_structure(term: RandomTerm, effects: tuple[str, ...], *, several_traits: bool) -> Structure:
    """Structure of the effects of one trait; one that takes their place until the traits span it."""
    if several_traits:
        return Identity(len(effects))
    return make_structure(term.structure, len(effects), dict(term.options), effects)


def build_pairs(
    term: RandomTerm,
    key: str,
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
    values, effects, spec = effect_columns(term.effects, frame)
    structure = own_structure(term, effects, several_traits=several_traits)
    return Term(key, effects, structure, K, labels, None, code, values, len(frame), spec)


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


def plain_loads(term: RandomTerm, frame: pd.DataFrame, relationship: Relationship | None) -> tuple[Loads, pd.Index]:
    """One level for each record: that of a column, or of an interaction."""
    names = [str(f.source) for f in term.factors]
    if relationship is None:
        level, levels = interaction([frame[c] for c in names])
    else:
        level = match_levels(frame[names[0]], relationship, str(term.factors[0].link), names[0])
        levels = relationship.labels
    return Loads(None, level, np.zeros(len(level), dtype=np.intp), None, ("",)), levels


def several_loads(factor: Factor, frame: pd.DataFrame, relationship: Relationship | None) -> tuple[Loads, pd.Index]:
    """Several levels for each record: the entries of `members`, or the columns of `mm`."""
    source = factor.source
    names = source_columns(source)
    if relationship is None:
        stacked, levels = codes_of(pd.concat([frame[c].astype(object) for c in names], ignore_index=True))
        codes = dict(zip(names, np.split(stacked, len(names)), strict=True))
    else:
        codes = {c: match_levels(frame[c], relationship, str(factor.link), c) for c in names}
        levels = relationship.labels
    if isinstance(source, MultiMembership):
        return membership_loads(source, codes, frame), levels
    assert isinstance(source, Members)
    parts = [entry_loads(e, codes, frame) for e in source.entries]
    record = np.concatenate([r for r, _ in parts])
    level = np.concatenate([v for _, v in parts])
    entry = np.repeat(np.arange(len(parts)), [len(r) for r, _ in parts])
    order = np.argsort(record, kind="stable")
    return Loads(record[order], level[order], entry[order], None, tuple(str(e) for e in source.entries)), levels


def entry_loads(entry: Column | Mates, codes: Mapping[str, IntArray], frame: pd.DataFrame) -> tuple[IntArray, IntArray]:
    """Records and levels that one entry of `members` loads."""
    n = len(frame)
    if isinstance(entry, Column):
        return np.arange(n), codes[entry.name]
    own = codes[entry.column]
    unit, units = codes_of(frame[entry.unit])
    # each unit's different members once, then every record meets all of its unit but itself
    present = np.unique(np.stack([unit, own]), axis=1)
    size = np.bincount(present[0], minlength=len(units))
    start = np.cumsum(size) - size
    times = size[unit]
    record = np.repeat(np.arange(n), times)
    within = np.arange(len(record)) - np.repeat(np.cumsum(times) - times, times)
    level = present[1][start[unit[record]] + within]
    mate = level != own[record]
    return record[mate], level[mate]


def membership_loads(source: MultiMembership, codes: Mapping[str, IntArray], frame: pd.DataFrame) -> Loads:
    """Loads of `mm`: every column with its weight, or all with equal weights that sum to one."""
    n, k = len(frame), len(source.columns)
    if source.weights:
        columns = [numeric(frame[w], w, frame.index) for w in source.weights]
        weight = np.stack(columns * (k if len(columns) == 1 else 1), axis=1)
    else:
        weight = np.full((n, k), 1.0 / k)
    level = np.stack([codes[c] for c in source.columns], axis=1)
    return Loads(np.repeat(np.arange(n), k), level.ravel(), np.zeros(n * k, dtype=np.intp), weight.ravel(), ("",))


def spread(loads: Loads, columns: Array, names: tuple[str, ...]) -> tuple[Array, tuple[str, ...]]:
    """Weights of the loads, a column for each entry and effect, and their names.

    Returns
    -------
    values : ndarray, shape (m, entries x effects)
        Entry by entry.
    effects : tuple of str
        The entry, the effect, or both where there are several of each.
    """
    values = columns if loads.record is None else columns[loads.record]
    if loads.weight is not None:
        values = values * loads.weight[:, None]
    if len(loads.entries) == 1:
        return values, names
    k = len(names)
    out = np.zeros((len(values), len(loads.entries) * k))
    out[np.arange(len(values))[:, None], loads.entry[:, None] * k + np.arange(k)] = values
    if k == 1:
        return out, loads.entries
    return out, tuple(f"{e}:{name}" for e in loads.entries for name in names)


def source_columns(source: Column | Members | MultiMembership) -> list[str]:
    """Columns that hold levels, each once."""
    if isinstance(source, Column):
        return [source.name]
    if isinstance(source, MultiMembership):
        return list(source.columns)
    return list(dict.fromkeys(e.name if isinstance(e, Column) else e.column for e in source.entries))


def other_columns(source: Column | Members | MultiMembership) -> list[str]:
    """Columns that hold units or weights."""
    if isinstance(source, Members):
        return [e.unit for e in source.entries if isinstance(e, Mates)]
    return list(source.weights) if isinstance(source, MultiMembership) else []


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


def linked_ids(parsed: ParsedFormula, keys: Sequence[str], frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Ids of the terms with a relationship, by the key of the term; those of several columns after each other."""
    out = {}
    for key, term in zip(keys, parsed.terms, strict=True):
        if len(term.factors) > 1 and all(f.link is not None for f in term.factors):
            parts = [frame[str(f.source)] for f in term.factors]
            labels = [":".join(map(str, row)) for row in zip(*parts, strict=True)]
            out[key] = pd.Series(labels, dtype=object).where(np.all([c.notna() for c in parts], axis=0))
        elif term.factors[-1].link is not None:
            columns = [frame[c] for c in source_columns(term.factors[-1].source)]
            out[key] = columns[0] if len(columns) == 1 else pd.concat(columns, ignore_index=True)
    return out


def normal_key(name: str) -> tuple[str, ...]:
    """Parts of a term's name in a fixed order, so that `a:b` and `b:a` are one."""
    return tuple(sorted(name.replace(" ", "").split(":")))
