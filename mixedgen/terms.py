"""Random terms: which levels a record loads with what weight, and how levels and coefficients are related."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from mixedgen.errors import DesignError, FormulaError, RelationshipError, examples
from mixedgen.formula import Column, ParsedFormula, RandomTerm
from mixedgen.frame import check_finite, dense_or_sparse, materialise
from mixedgen.reconcile import near_misses
from mixedgen.relationship import Relationship
from mixedgen.structure import Structure, make_structure

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
    for source, link in links:
        name = plain_column(source, str(source))
        there = level_positions(frame[name].iloc[kept], relationships[link]) >= 0
        if not there.all():
            lost = lost | {f"{name} (not in {link})": int((~there).sum())}
        keep &= there
    if not keep.any():
        raise RelationshipError("no record is left: none has an id that is in the relationship it links to.")
    return kept[keep], lost


def effect_columns(effects: str, frame: pd.DataFrame) -> tuple[Array, tuple[str, ...]]:
    """Columns left of the bar and their names; the intercept is named as lme4 names it."""
    if effects == "1":
        return np.ones((len(frame), 1)), ("(Intercept)",)
    matrix = materialise(effects, frame)
    names = tuple(str(c) for c in matrix.model_spec.column_names)
    values = dense_or_sparse(matrix)
    dense = values.toarray() if sp.issparse(values) else values
    check_finite(dense, names)
    return np.ascontiguousarray(dense), tuple("(Intercept)" if e in INTERCEPT_NAMES else e for e in names)


def build_term(term: RandomTerm, key: str, frame: pd.DataFrame, relationships: Mapping[str, Relationship]) -> Term:
    """Z, structure and relationship of one random term."""
    columns = [plain_column(f.source, term.source) for f in term.factors]
    links = [f.link for f in term.factors if f.link is not None]
    relationship = None
    if links:
        if len(term.factors) > 1:
            other = ":".join(c for c, f in zip(columns, term.factors, strict=True) if f.link is None)
            raise FormulaError(
                f"{term.source}: a relationship over an interaction of levels cannot be estimated; for one "
                f"variance and independent effects of each level of {other} write "
                f"diag(0 + {other}|{columns[-1]}:{links[-1]}, hom=True)."
            )
        relationship = relationships[links[0]]
        level = match_levels(frame[columns[0]], relationship, links[0], columns[0])
        levels = relationship.labels
    else:
        level, levels = interaction([frame[c] for c in columns])
    if len(levels) < 2:
        raise DesignError(
            f"the grouping factor {key!r} has one level only ({examples(list(levels))}): "
            "its variance cannot be estimated."
        )
    values, effects = effect_columns(term.effects, frame)
    structure = make_structure(term.structure, len(effects), dict(term.options))
    return Term(key, effects, structure, relationship, levels, None, level, values, len(frame))


def plain_column(source: object, text: str) -> str:
    """Name of a plain grouping column; several columns on one term have no implementation."""
    if not isinstance(source, Column):
        raise FormulaError(
            f"{text}: {str(source).partition('(')[0]}(...) is understood, but cannot be estimated by this version."
        )
    return source.name


def grouping_columns(parsed: ParsedFormula) -> list[str]:
    """Columns right of the bars."""
    return [plain_column(f.source, t.source) for t in parsed.terms for f in t.factors]


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
    """Columns that hold the ids of the terms with a relationship, by the key of the term."""
    links = [(k, t.factors[-1], t.source) for t, k in zip(parsed.terms, keys, strict=True)]
    return {k: frame[plain_column(f.source, text)] for k, f, text in links if f.link is not None}


def normal_key(name: str) -> tuple[str, ...]:
    """Parts of a term's name in a fixed order, so that `a:b` and `b:a` are one."""
    return tuple(sorted(name.replace(" ", "").split(":")))
