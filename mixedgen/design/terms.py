"""Random terms: which levels a record loads with what weight, and how levels and coefficients are related."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import Structure
from mixedgen.design.coding import Coder, Origin
from mixedgen.formula.parts import RandomTerm
from mixedgen.relationship.relationship import Relationship

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
    origins : tuple of Origin, length c
        What stands left of the bar for each coefficient, and the variables it varies over, grouping factors included.
    written : RandomTerm
        The term as the model took it: ``(1|site:animal:A)`` is ``diag(0 + site|animal:A, hom=True)``.
    place : int
        Position among the terms of the formula as parsed.
    coder : Coder
        How what stands left of the bar was coded, for new data.
    pools : tuple of Relationship
        Of the two factors whose pairs are the levels; none for any other term.
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
    origins: tuple[Origin, ...]
    written: RandomTerm
    place: int
    coder: Coder = field(repr=False, compare=False)
    pools: tuple[Relationship, ...] = field(default=(), repr=False, compare=False)

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


def normal_key(name: str) -> tuple[str, ...]:
    """Parts of a term's name in a fixed order, so that `a:b` and `b:a` are one."""
    return tuple(sorted(name.replace(" ", "").split(":")))
