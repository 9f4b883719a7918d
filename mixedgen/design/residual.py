"""The residual of a model, from its text and the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.sections import Sections
from mixedgen.covariance.structure import Structure
from mixedgen.covariance.variances import Diagonal, Identity, LogLinear
from mixedgen.design.frame import numeric
from mixedgen.design.levels import codes_of
from mixedgen.design.positions import places, residual_structure
from mixedgen.design.products import build_product
from mixedgen.errors import DesignError, FormulaError, MixedgenError, examples
from mixedgen.formula.parts import ResidualTerm
from mixedgen.residual.diagonal import ClassResidual, LogLinearResidual
from mixedgen.residual.residual import Residual
from mixedgen.residual.sections import SectionResidual
from mixedgen.residual.units import UnitResidual


def residual_columns(parts: Sequence[ResidualTerm]) -> list[str]:
    """Columns a residual structure needs."""
    return [c for part in parts for c in (part.positions, part.unit) if c is not None]


def build_residual(parts: Sequence[ResidualTerm], frame: pd.DataFrame, weights: Array | None) -> Residual:
    """R of a residual structure on a frame."""
    inverse_weights = None if weights is None else 1.0 / weights
    every = np.zeros(len(frame), dtype=np.intp)
    if not parts or parts[0].structure == "idv":
        return ClassResidual(Identity(1), (), every, inverse_weights)
    part = parts[0]
    if part.structure == "exp":
        x = numeric(frame[part.positions], part.positions, frame.index)
        return LogLinearResidual(LogLinear(part.positions), (), every, inverse_weights, x)
    position, levels, place = places(frame[part.positions])
    classes = tuple(str(v) for v in levels)
    options = dict(part.options)
    if part.structure == "diag":
        if part.unit is not None:
            raise FormulaError(f"diag({part.positions}) has no units: leave out '|{part.unit}'.")
        hom = len(levels) == 1 or bool(options.get("hom"))
        structure: Structure = Identity(1) if hom else Diagonal(len(levels))
        return ClassResidual(structure, () if hom else classes, every if hom else position, inverse_weights)
    if part.unit is None:
        raise FormulaError(
            f"{part.structure}({part.positions}) needs units: write {part.structure}({part.positions}|unit)."
        )
    unit, units = codes_of(frame[part.unit])
    check_once(unit, position, units, levels, part)
    structure = residual_structure(part, levels, place)
    return UnitResidual(structure, classes, position, inverse_weights, unit)


def check_once(unit: IntArray, position: IntArray, units: pd.Index, levels: pd.Index, part: ResidualTerm) -> None:
    """Raise a DesignError where a unit has two records at one position."""
    key = unit * len(levels) + position
    values, times = np.unique(key, return_counts=True)
    twice = values[times > 1]
    if len(twice):
        shown = [f"{units[k // len(levels)]} at {levels[k % len(levels)]}" for k in twice[:5]]
        raise DesignError(
            f"{len(twice)} units of {part.unit!r} have several records at one {part.positions!r}: {examples(shown)}. "
            "A residual covariance matrix needs one record for each position of a unit."
        )


def residual_of(parts: Sequence[ResidualTerm], frame: pd.DataFrame, weights: Array | None) -> Residual:
    """R of any residual structure on a frame."""
    sections = [p for p in parts if p.structure == "at"]
    if not sections:
        return (build_product if len(parts) > 1 else build_residual)(parts, frame, weights)
    rest = [p for p in parts if p.structure != "at"]
    column = sections[0].positions
    if len(sections) > 1 or not rest:
        raise FormulaError(
            f"at({column}) says whose residuals have parameters of their own, and stands once beside their structure: "
            f"at({column}):ar1(row):ar1(col), at({column}):us(time|subject)."
        )
    return build_sections(column, rest, frame, weights)


def build_sections(
    column: str, parts: Sequence[ResidualTerm], frame: pd.DataFrame, weights: Array | None
) -> SectionResidual:
    """R of the sections that the levels of a column make."""
    code, levels = codes_of(frame[column])
    rows = [np.flatnonzero(code == k) for k in range(len(levels))]
    residuals = [section(column, str(v), parts, frame, weights, own) for v, own in zip(levels, rows, strict=True)]
    structure = Sections([str(v) for v in levels], [r.structure for r in residuals], [r.classes for r in residuals])
    position = np.empty(len(frame), dtype=np.intp)
    starts = np.cumsum([0, *(r.structure.dim for r in residuals)])
    for r, own, start in zip(residuals, rows, starts, strict=False):
        position[own] = start + np.minimum(r.position, r.structure.dim - 1)
    classes = [c for v, r in zip(levels, residuals, strict=True) for c in classes_of(str(v), r)]
    return SectionResidual(
        structure=structure,
        classes=tuple(classes),
        position=position,
        inverse_weights=None if weights is None else 1.0 / weights,
        parts=tuple(residuals),
        rows=tuple(rows),
    )


def classes_of(level: str, residual: Residual) -> list[str]:
    """Names of the positions of a section."""
    return [f"{level},{c}" for c in residual.classes] if residual.classes else [level]


def section(
    column: str, level: str, parts: Sequence[ResidualTerm], frame: pd.DataFrame, weights: Array | None, rows: IntArray
) -> Residual:
    """R of one section; an error in it says which."""
    own: Any = frame.iloc[rows]
    own = own.assign(
        **{c: own[c].cat.remove_unused_categories() for c in own if isinstance(own[c].dtype, pd.CategoricalDtype)}
    )
    try:
        return residual_of(parts, own, None if weights is None else weights[rows])
    except MixedgenError as err:
        err.args = (f"{column} {level}: {err}", *err.args[1:])
        raise
