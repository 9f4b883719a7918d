"""From a parsed formula, a frame and relationships to a `Design`: the model as data.

y = X b + sum_k Z_k u_k + e,   Var(u_k) = Sigma_k(theta) (x) K_k,   Var(e) = R(theta).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import Structure
from mixedgen.design.arguments import NaAction
from mixedgen.design.coding import Operand, variables_in
from mixedgen.design.fixed import FixedPart
from mixedgen.design.records import OneResponse, Records, SeveralResponses
from mixedgen.design.terms import INTERCEPT_NAMES, Term, normal_key
from mixedgen.design.traits import Traits
from mixedgen.errors import ArgumentError, examples, suggestion
from mixedgen.formula.parts import ParsedFormula, ResidualTerm
from mixedgen.genetics.ids import IdReport, reconcile
from mixedgen.residual.residual import Residual


@dataclass(frozen=True)
class Design:
    """A linear mixed model as data.

    Attributes
    ----------
    parsed : ParsedFormula
        The formula.
    y : ndarray, shape (n,)
        Response less offset.
    offset : ndarray, shape (n,), or None
        Sum of the offsets.
    fixed : FixedPart
        X.
    terms : tuple of Term
        Random terms, most levels first (lme4's order).
    residual : Residual
        R.
    kept : ndarray of int
        Rows of the data that are used.
    index : Index
        Index of the data, all rows.
    offsets : tuple of Operand
        The offsets as written.
    frame : DataFrame
        Columns that the model needs, in the rows that are used.
    na_action : str
        ``"omit"`` or ``"exclude"``.
    lost : dict
        Rows lost to missing values, by variable.
    parents : tuple of str
        Columns in which a record may name nobody, and then loads no level of their terms.
    unknown : dict
        Number of records that do, by column.
    linked : dict
        Ids in the data, all rows, of each term with a relationship.
    traits : Traits or None
        Row and trait of each value, for several responses.
    residual_parts : tuple of ResidualTerm
        The residual as written.
    weights : tuple of str
        The column of weights; none where all are one.
    """

    parsed: ParsedFormula
    y: Array
    offset: Array | None
    fixed: FixedPart
    terms: tuple[Term, ...]
    residual: Residual
    kept: IntArray
    index: pd.Index
    offsets: tuple[Operand, ...]
    frame: pd.DataFrame = field(repr=False, compare=False)
    na_action: NaAction
    lost: dict[str, int] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    unknown: dict[str, int] = field(default_factory=dict)
    linked: dict[str, pd.Series] = field(default_factory=dict, repr=False)
    traits: Traits | None = None
    residual_parts: tuple[ResidualTerm, ...] = ()
    weights: tuple[str, ...] = ()

    @cached_property
    def id_reports(self) -> dict[str, IdReport]:
        """How the ids of the data, all rows, meet the levels of each term with a relationship."""
        return {
            t.key: reconcile(self.linked[t.key], t.relationship.labels, name=t.key)
            for t in self.terms
            if t.relationship is not None
        }

    @property
    def response(self) -> Array:
        """Response as observed, shape (n,): `y`, which the equations see, with the offset added back."""
        return self.y if self.offset is None else self.y + self.offset

    @cached_property
    def records(self) -> Records:
        """Where the values of the response lie in the data."""
        padded = self.na_action == "exclude"
        if self.traits is None:
            return OneResponse(self.index, self.kept, padded)
        return SeveralResponses(self.index, self.kept, padded, self.traits)

    @property
    def as_written(self) -> tuple[Term, ...]:
        """Random terms in the order of the formula."""
        return tuple(sorted(self.terms, key=lambda t: t.place))

    @property
    def n(self) -> int:
        """Number of records."""
        return len(self.y)

    @cached_property
    def variables(self) -> pd.DataFrame:
        """Variables of the fixed part in the rows used, counted anew; numbers that stand for levels are categories."""
        return variables_in(self.fixed.coder, self.frame)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where the parameters of each term, and last those of R, stand in theta."""
        sizes = [t.structure.size for t in self.terms] + [self.residual.structure.size]
        ends = np.cumsum(sizes)
        return tuple(slice(int(e - s), int(e)) for s, e in zip(sizes, ends, strict=True))

    @cached_property
    def theta_names(self) -> tuple[str, ...]:
        """Name of each variance parameter."""
        out: list[str] = []
        for t in self.terms:
            short = ["1" if e in INTERCEPT_NAMES else e for e in t.effects]
            out += [t.key + suffix for suffix in t.structure.names(short)]
        return tuple(out + ["residual" + s for s in self.residual.structure.names(self.residual.classes or ("",))])

    @property
    def structures(self) -> tuple[Structure, ...]:
        """Structure of each term, and last that of R."""
        return (*(t.structure for t in self.terms), self.residual.structure)

    @cached_property
    def multiplicity(self) -> tuple[float, ...]:
        """Number of levels (records for R) behind each positive semi-definite block of theta."""
        out = [float(t.q) * m for t in self.terms for m in t.structure.multiplicity]
        return (*out, *self.residual.multiplicity)

    @cached_property
    def blocks(self) -> tuple[IntArray, ...]:
        """Parameters of each positive semi-definite block of theta: a lower triangle, row by row."""
        return tuple(s.start + b for s, x in zip(self.slices, self.structures, strict=True) for b in x.blocks)

    @cached_property
    def free(self) -> tuple[tuple[int, float, float], ...]:
        """Parameters of theta outside the blocks, with their bounds."""
        parts = zip(self.slices, self.structures, strict=True)
        return tuple((s.start + i, low, high) for s, x in parts for i, low, high in x.free)

    def term(self, name: str) -> int:
        """Position of the term of a name; the parts of an interaction may come in either order.

        Raises
        ------
        ArgumentError
            If there is no such term.
        """
        wanted = normal_key(str(name))
        for k, t in enumerate(self.terms):
            if normal_key(t.key) == wanted:
                return k
        keys = [t.key for t in self.terms]
        raise ArgumentError(
            f"there is no random term {name!r}; the terms are {examples(keys)}.{suggestion(name, keys)}"
        )

    def with_response(self, values: Array) -> Design:
        """The same model of other values, as observed, shape (n,)."""
        traits = None if self.traits is None else replace(self.traits, y=values)
        return replace(self, y=values if self.offset is None else values - self.offset, traits=traits)

    def select(self, records: IntArray) -> Design:
        """The same model on some of its records, increasing: the same effects and parameters.

        Raises
        ------
        DesignError
            If the columns of X are no longer independent.
        """
        traits = self.traits
        return replace(
            self,
            y=self.y[records],
            offset=None if self.offset is None else self.offset[records],
            fixed=self.fixed.select(records),
            terms=tuple(t.select(records) for t in self.terms),
            residual=self.residual.select(records),
            # of several traits a row stays among those used, with fewer values
            kept=self.kept[records] if traits is None else self.kept,
            frame=self.frame.iloc[records] if traits is None else self.frame,
            traits=None if traits is None else traits.select(records),
        )
