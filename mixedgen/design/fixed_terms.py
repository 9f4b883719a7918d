"""Contact with formulaic's specs: which columns of X belong to which term, and how they are coded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.formula.sides import factor_variables


@dataclass(frozen=True)
class ColumnCoding:
    """One column of X: a function of the levels of factors, times a column of covariates.

    Attributes
    ----------
    weights : dict of str to ndarray
        For each factor its value at each level.
    covariate : tuple of (str, int)
        Expressions of the covariates, and which column of each.
    """

    weights: dict[str, Array]
    covariate: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class FixedTerm:
    """One term of the fixed part.

    Attributes
    ----------
    name : str
        As written.
    prefix : str
        What the names of its columns begin with: those of one trait.
    columns : ndarray of int
        Its columns among those of X that are kept.
    every : ndarray of int
        Its columns among all of X.
    factors : tuple of str
        Expressions of its factors, in the order written.
    covariates : frozenset of str
        Expressions of its covariates.
    coding : tuple of ColumnCoding
        All its columns as coded, aliased ones too.
    reduced : frozenset of str
        Factors that are coded by contrasts.
    complete : bool
        Whether each column is made of all factors of the term.
    """

    name: str
    prefix: str
    columns: NDArray[np.intp]
    every: NDArray[np.intp]
    factors: tuple[str, ...]
    covariates: frozenset[str]
    coding: tuple[ColumnCoding, ...]
    reduced: frozenset[str]
    complete: bool

    @property
    def label(self) -> str:
        """Its name, with the trait before it where there are several."""
        return self.prefix + self.name

    @property
    def variables(self) -> frozenset[str]:
        """Expressions of its factors and covariates."""
        return self.covariates.union(self.factors)

    def contains(self, other: FixedTerm) -> bool:
        """Whether another term of the trait is marginal to this one: fewer factors, the same covariates."""
        less = set(other.factors) < set(self.factors) and other.covariates == self.covariates
        return less and other.prefix == self.prefix

    def holds(self, other: FixedTerm) -> bool:
        """Whether another term of the trait has some of its variables and no others."""
        return other.variables < self.variables and other.prefix == self.prefix


def fixed_terms(design: Design) -> list[FixedTerm]:
    """Terms of the fixed part in order, the intercept first where there is one; with several traits those of each."""
    coder = design.fixed.coder
    structure = coder.spec.structure
    names = coder.side.terms if len(coder.side.terms) == len(structure) else [str(e.term) for e in structure]
    sizes = _covariate_sizes(coder.spec)
    ends = np.cumsum([0, *(len(e.columns) for e in structure)])
    first = [_fixed_term(name, entry, coder.spec, sizes) for name, entry in zip(names, structure, strict=True)]
    at = np.full(len(design.fixed.all_names), -1, dtype=np.intp)
    at[design.fixed.kept] = np.arange(design.fixed.p)
    out = []
    for k, prefix in enumerate(design.fixed.prefixes):
        for term, start, end in zip(first, ends, ends[1:], strict=False):
            every = k * coder.size + np.arange(start, end)
            out.append(replace(term, prefix=prefix, every=every, columns=at[every][at[every] >= 0]))
    return out


def _fixed_term(name: str, entry: Any, spec: Any, sizes: dict[str, int]) -> FixedTerm:
    """One term of the fixed part without its columns, from its entry in the structure that formulaic gave X."""
    scoped = [[(str(f.factor.expr), bool(f.reduced)) for f in s.factors] for s in entry.scoped_terms]
    every = [str(f.expr) for f in entry.term.factors if str(entry.term) != "1"]
    kinds = {e: spec.encoder_state[e][0].value == "categorical" for e in every}
    return FixedTerm(
        name=name,
        prefix="",
        columns=np.zeros(0, dtype=np.intp),
        every=np.zeros(0, dtype=np.intp),
        factors=tuple(e for e in every if kinds[e]),
        covariates=frozenset(e for e in every if not kinds[e]),
        coding=tuple(c for factors in scoped for c in _codings(spec, factors, sizes)),
        reduced=frozenset(e for factors in scoped for e, reduced in factors if reduced),
        complete=len(scoped) == 1 and len(scoped[0]) == len(every),
    )


def _codings(spec: Any, factors: Sequence[tuple[str, bool]], sizes: dict[str, int]) -> list[ColumnCoding]:
    """Columns of a product of factors, the first running fastest, as formulaic orders them."""
    parts: list[list[ColumnCoding]] = []
    for name, reduced in factors:
        if name in sizes:
            parts.append([ColumnCoding({}, ((name, j),)) for j in range(sizes[name])])
        elif name != "1":
            matrix = np.asarray(spec.encoder_state[name][1]["contrasts"].get_coding_matrix(reduced_rank=reduced))
            parts.append([ColumnCoding({name: column}, ()) for column in matrix.T])
    return [_product_of(reversed(choice)) for choice in product(*reversed(parts))]


def _product_of(parts: Iterable[ColumnCoding]) -> ColumnCoding:
    """Product of columns."""
    out = ColumnCoding({}, ())
    for part in parts:
        out = ColumnCoding(out.weights | part.weights, tuple(sorted(out.covariate + part.covariate)))
    return out


def _covariate_sizes(spec: Any) -> dict[str, int]:
    """Number of columns of each covariate expression: what the factors beside it leave of the columns of a term."""
    sizes: dict[str, int] = {}
    for entry in sorted(spec.structure, key=lambda e: len(e.term.factors)):
        unknown, others = set(), 0
        for scoped in entry.scoped_terms:
            count = 1
            for f in scoped.factors:
                name = str(f.factor.expr)
                kind, state = spec.encoder_state.get(name, (None, {}))
                if kind is not None and kind.value == "categorical":
                    count *= state["contrasts"].get_coding_matrix(reduced_rank=bool(f.reduced)).shape[1]
                elif kind is not None and name not in sizes:
                    unknown.add(name)
                else:
                    count *= sizes.get(name, 1)
            others += count
        for k, name in enumerate(sorted(unknown)):
            sizes[name] = len(entry.columns) // others if k == 0 else 1
    return sizes


def nested_as_written(design: Design) -> dict[str, tuple[str, ...]]:
    """Variables that the formula nests in others, as in ``a/b``, and those others.

    Notes
    -----
    A factor of a product is coded by contrasts where the product without it is a term: it is nested in the factors of
    the product that are not.
    """
    coder = design.fixed.coder
    names = coder.side.variables
    terms = [{str(f.expr): factor_variables(f, names) for f in t.factors} for t in coder.spec.terms]
    written = {frozenset(t) for t in terms}
    out: dict[str, tuple[str, ...]] = {}
    for t in (t for t in terms if len(t) > 1):
        outer = [e for e in t if frozenset(t) - {e} not in written]
        if outer and len(outer) < len(t):
            above = tuple(dict.fromkeys(v for e in outer for v in t[e]))
            out |= {v: above for e in t if e not in outer for v in t[e] if v not in above}
    return out


def level_counts(design: Design, terms: Sequence[FixedTerm]) -> dict[str, int]:
    """Number of levels of each factor."""
    states = design.fixed.coder.spec.encoder_state
    return {e: len(states[e][1]["contrasts"].levels) for t in terms for e in t.factors}
