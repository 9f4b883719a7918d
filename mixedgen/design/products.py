"""Residuals over products of factors, such as the rows and columns of a trial, from text and frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.margins import FullMargin, Margin
from mixedgen.covariance.product import Product
from mixedgen.covariance.registry import STRUCTURES, entry_of
from mixedgen.covariance.structure import Structure
from mixedgen.covariance.variances import Identity
from mixedgen.design.levels import codes_of
from mixedgen.design.positions import places, residual_structure
from mixedgen.errors import DesignError, FormulaError, examples
from mixedgen.formula.parts import ResidualTerm
from mixedgen.genetics.written import as_written
from mixedgen.residual.residual import Residual
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


def build_product(terms: Sequence[ResidualTerm], frame: pd.DataFrame, inverse_weights: Array | None) -> Residual:
    """R of a direct product of structures on a frame.

    Raises
    ------
    FormulaError
        If the product has two structures with variances, no correlation, or a part that has no place in it.
    DesignError
        If several records stand at one place, or a column of places is text.
    """
    parts = [_build_part(t, frame) for t in terms]
    carrier = _carrier_of(parts)
    correlated = [p for p in parts if not p.structure.independent]
    if not correlated:
        raise FormulaError(
            f"{_product_text(parts)} has no correlation: write one structure such as diag(column), or leave it out."
        )
    units = [codes_of(as_written(frame, c))[0] for c in dict.fromkeys(t.unit for t in terms if t.unit is not None)]
    _check_places(terms, [*units, *(p.code for p in parts)], frame)
    others = [(p.term.positions, p.structure) for p in correlated if p is not carrier]
    structure = Product(Identity(1) if carrier is None else carrier.structure, others)
    rest = iter(structure.slices)
    return SeparableResidual(
        structure=structure,
        classes=() if carrier is None else carrier.levels,
        position=np.zeros(len(frame), dtype=np.intp) if carrier is None else carrier.code,
        inverse_weights=inverse_weights,
        margins=tuple(FullMargin(p.structure) if p is carrier else _margin(p) for p in correlated),
        slices=tuple(slice(0, p.structure.size) if p is carrier else next(rest) for p in correlated),
        outside=carrier is None or carrier.structure.independent,
        block=_joint_codes([*units, *(p.code for p in parts if p.structure.independent)], len(frame)),
        levels=np.stack([p.code for p in correlated], axis=1),
    )


def _carrier_of(parts: Sequence[Part]) -> Part | None:
    """The part whose variances differ by level; None where one variance serves all.

    Raises
    ------
    FormulaError
        If there are several.
    """
    carriers = [p for p in parts if not p.structure.homogeneous]
    if len(carriers) > 1:
        raise FormulaError(
            f"{_product_text(parts)}: {_written(carriers[0].term)} and {_written(carriers[1].term)} both have "
            "variances, of which only products can be estimated. Make one of them a correlation: ar1(...), "
            "cs(..., hom=True), idv(...)."
        )
    return carriers[0] if carriers else None


def _margin(part: Part) -> Margin:
    """Correlations of a part."""
    return entry_of(part.term.structure, part.term.entry).margin(part.structure)


def _written(term: ResidualTerm) -> str:
    """A structure as it is written."""
    return f"{term.structure}({term.positions}{'' if term.unit is None else '|' + term.unit})"


def _product_text(parts: Sequence[Part]) -> str:
    """A product as it is written."""
    return ":".join(_written(p.term) for p in parts)


def _build_part(term: ResidualTerm, frame: pd.DataFrame) -> Part:
    """One structure of a product on a frame."""
    if term.structure not in STRUCTURES and term.entry is None:
        raise FormulaError(f"{term.structure}({term.positions}) has no place in a product of structures.")
    code, levels, place = places(frame[term.positions])
    text = pd.api.types.infer_dtype(frame[term.positions]) == "string"
    if text and entry_of(term.structure, term.entry).placed:
        raise DesignError(
            f"{_written(term)}: column {term.positions!r} is text, whose order is alphabetical, and would put 10 "
            "before 2. Make it numeric, or an ordered categorical."
        )
    return Part(term, residual_structure(term, levels, place), code, tuple(str(v) for v in levels))


def _joint_codes(codes: Sequence[IntArray], n: int) -> IntArray:
    """Number of each combination of codes that occurs, shape (n,)."""
    out = np.zeros(n, dtype=np.intp)
    for code in codes:
        out = np.unique(out * (int(code.max()) + 1) + code, return_inverse=True)[1].ravel().astype(np.intp)
    return out


def _check_places(terms: Sequence[ResidualTerm], codes: Sequence[IntArray], frame: pd.DataFrame) -> None:
    """Raise a DesignError where several records stand at one place."""
    place = _joint_codes(codes, len(frame))
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
