"""Residuals over products of factors, such as the rows and columns of a trial, from text and frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.correlated import Correlated
from mixedgen.covariance.product import Product
from mixedgen.covariance.structure import Structure
from mixedgen.covariance.variances import Diagonal, Identity
from mixedgen.design.levels import codes_of
from mixedgen.design.positions import places, residual_structure
from mixedgen.errors import DesignError, FormulaError, examples
from mixedgen.formula.parts import ResidualTerm
from mixedgen.residual.margins import FullMargin, correlation_margin
from mixedgen.residual.separable import SeparableResidual


@dataclass(frozen=True)
class Part:
    """One structure of a product on the data.

    Attributes
    ----------
    term : ResidualTerm
        As written.
    structure : Structure
        Of its levels, with variances.
    code : ndarray of int, shape (n,)
        Level of each record.
    levels : tuple of str
        Names of the levels.
    """

    term: ResidualTerm
    structure: Structure
    code: IntArray
    levels: tuple[str, ...]

    @property
    def independent(self) -> bool:
        """Whether its levels have no correlations."""
        return isinstance(self.structure, Identity | Diagonal)

    @property
    def has_variances(self) -> bool:
        """Whether its variances differ by level."""
        return self.structure.size > 1 and not (
            isinstance(self.structure, Correlated) and self.structure.n_variances == 1
        )


def build_product(terms: Sequence[ResidualTerm], frame: pd.DataFrame, weights: Array | None) -> SeparableResidual:
    """R of a direct product of structures on a frame.

    Raises
    ------
    FormulaError
        If the product has two structures with variances, no correlation, or a part that has no place in it.
    DesignError
        If several records stand at one place, or a column of places is text.
    """
    text = ":".join(written(t) for t in terms)
    parts = [build_part(t, frame) for t in terms]
    carriers = [p for p in parts if p.has_variances]
    if len(carriers) > 1:
        raise FormulaError(
            f"{text}: {written(carriers[0].term)} and {written(carriers[1].term)} both have variances, of which only "
            "products can be estimated. Make one of them a correlation: ar1(...), cs(..., hom=True), idv(...)."
        )
    correlated = [p for p in parts if not p.independent]
    if not correlated:
        raise FormulaError(f"{text} has no correlation: write one structure such as diag(column), or leave it out.")
    units = [codes_of(frame[c])[0] for c in dict.fromkeys(t.unit for t in terms if t.unit is not None)]
    block = combined([*units, *(p.code for p in parts if p.independent)], len(frame))
    check_places(terms, parts, [*units, *(p.code for p in parts)], frame)
    carrier = carriers[0] if carriers else None
    others = [(p.term.positions, p.structure) for p in correlated if p is not carrier]
    structure = Product(
        Identity(1) if carrier is None else carrier.structure,
        [(column, s) for column, s in others if isinstance(s, Correlated)],
    )
    slices, rest = [], iter(structure.slices)
    for p in correlated:
        slices.append(slice(0, p.structure.size) if p is carrier else next(rest))
    return SeparableResidual(
        structure=structure,
        classes=() if carrier is None else carrier.levels,
        position=np.zeros(len(frame), dtype=np.intp) if carrier is None else carrier.code,
        inverse_weights=None if weights is None else 1.0 / weights,
        margins=tuple(
            FullMargin(p.structure, 0)
            if p is carrier or not isinstance(p.structure, Correlated)
            else correlation_margin(p.structure)
            for p in correlated
        ),
        slices=tuple(slices),
        outside=carrier is None or carrier.independent,
        block=block,
        levels=np.stack([p.code for p in correlated], axis=1),
    )


def written(term: ResidualTerm) -> str:
    """A structure as it is written."""
    return f"{term.structure}({term.positions}{'' if term.unit is None else '|' + term.unit})"


def build_part(term: ResidualTerm, frame: pd.DataFrame) -> Part:
    """One structure of a product on a frame."""
    if term.structure == "exp":
        raise FormulaError(f"exp({term.positions}) has no place in a product of structures.")
    code, levels, place = places(frame[term.positions])
    if term.structure == "ar1" and pd.api.types.infer_dtype(frame[term.positions]) == "string":
        raise DesignError(
            f"{written(term)}: column {term.positions!r} is text, whose order is alphabetical, and would put 10 before "
            "2. Make it numeric, or an ordered categorical."
        )
    structure = (
        Identity(1)
        if len(levels) == 1 and term.structure in ("idv", "diag")
        else residual_structure(term, levels, place)
    )
    return Part(term, structure, code, tuple(str(v) for v in levels))


def combined(codes: Sequence[IntArray], n: int) -> IntArray:
    """Number of each combination of codes that occurs, shape (n,)."""
    out = np.zeros(n, dtype=np.intp)
    for code in codes:
        out = np.unique(out * (int(code.max()) + 1) + code, return_inverse=True)[1].ravel().astype(np.intp)
    return out


def check_places(
    terms: Sequence[ResidualTerm], parts: Sequence[Part], codes: Sequence[IntArray], frame: pd.DataFrame
) -> None:
    """Raise a DesignError where several records stand at one place."""
    place = combined(codes, len(frame))
    times = np.bincount(place)
    twice = np.flatnonzero(times > 1)
    if len(twice):
        names = list(dict.fromkeys([*(t.unit for t in terms if t.unit), *(t.positions for t in terms)]))
        first = [int(np.flatnonzero(place == k)[0]) for k in twice[:5]]
        shown = [", ".join(f"{name} {frame[name].iloc[i]}" for name in names) for i in first]
        units = "" if any(t.unit for t in terms) else " Trials that share numbers are units: ar1(row|trial)."
        raise DesignError(
            f"{len(twice)} places have several records: {examples(shown)}. A product of residual structures needs one "
            f"record for each place at most.{units}"
        )
