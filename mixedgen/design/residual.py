"""The residual of a model, from its text and the frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.sections import Sections
from mixedgen.covariance.variances import Identity, LogLinear
from mixedgen.design.frame import numeric
from mixedgen.design.levels import codes_of
from mixedgen.design.positions import places, residual_structure
from mixedgen.design.products import build_product
from mixedgen.errors import DesignError, FormulaError, MixedgenError, examples
from mixedgen.formula.parts import ResidualTerm
from mixedgen.genetics.written import as_written
from mixedgen.residual.diagonal import ClassResidual, LogLinearResidual
from mixedgen.residual.residual import Residual, some
from mixedgen.residual.sections import SectionResidual
from mixedgen.residual.units import UnitResidual


def residual_columns(parts: Sequence[ResidualTerm]) -> list[str]:
    """Columns a residual structure needs."""
    return [c for part in parts for c in (part.positions, part.unit) if c is not None]


Reader = Callable[[Sequence[ResidualTerm], pd.DataFrame, Array | None], Residual]


@dataclass(frozen=True)
class ResidualKind:
    """How residuals of one kind are read.

    Attributes
    ----------
    read : callable
        R of the structures written, its own the first and others only where it `divides`, on a frame without missing
        values; 1 / w, shape (n,), or None where all weights are one.
    options : mapping
        Options a formula may give, with their defaults, where the kind is no structure of the registry.
    units : bool
        Whether the formula may name units right of a bar.
    divides : bool
        Whether it says to which records the structures beside it belong, and stands once.
    """

    read: Reader
    options: Mapping[str, Any] = field(default_factory=dict)
    units: bool = True
    divides: bool = False


def residual_of(parts: Sequence[ResidualTerm], frame: pd.DataFrame, inverse_weights: Array | None) -> Residual:
    """R of any residual structure on a frame; one variance where none is written."""
    dividing = [p for p in parts if _kind_of(p).divides]
    if dividing:
        rest = [p for p in parts if not _kind_of(p).divides]
        first = dividing[0]
        if len(dividing) > 1 or not rest:
            here = f"{first.structure}({first.positions})"
            raise FormulaError(
                f"{here} says whose residuals have parameters of their own, and stands once beside their structure: "
                f"{here}:ar1(row):ar1(col), {here}:us(time|subject)."
            )
        return _kind_of(first).read([first, *rest], frame, inverse_weights)
    if len(parts) > 1:
        return build_product(parts, frame, inverse_weights)
    read = _kind_of(parts[0]).read if parts else _one_variance
    return read(parts, frame, inverse_weights)


def _kind_of(part: ResidualTerm) -> ResidualKind:
    """Kind of a residual; a structure that is none is the covariance matrix of the positions of a unit."""
    return KINDS.get(part.structure, UNITS)


def _one_variance(parts: Sequence[ResidualTerm], frame: pd.DataFrame, inverse_weights: Array | None) -> ClassResidual:
    """Independent residuals with one variance."""
    return ClassResidual(Identity(1), (), np.zeros(len(frame), dtype=np.intp), inverse_weights)


def _log_linear(parts: Sequence[ResidualTerm], frame: pd.DataFrame, inverse_weights: Array | None) -> LogLinearResidual:
    """Independent residuals whose log-variance is linear in a column."""
    name = parts[0].positions
    x = numeric(frame[name], name, frame.index)
    every = np.zeros(len(frame), dtype=np.intp)
    return LogLinearResidual(LogLinear(name), (), every, inverse_weights, x, (name,))


def _by_class(parts: Sequence[ResidualTerm], frame: pd.DataFrame, inverse_weights: Array | None) -> ClassResidual:
    """Independent residuals with a variance for each level of a column; one variance for one level or ``hom=True``."""
    (part,) = parts
    if part.unit is not None:
        raise FormulaError(f"{part.structure}({part.positions}) has no units: leave out '|{part.unit}'.")
    position, levels, place = places(frame[part.positions])
    structure = residual_structure(part, levels, place)
    if structure.homogeneous:
        return _one_variance(parts, frame, inverse_weights)
    return ClassResidual(structure, tuple(str(v) for v in levels), position, inverse_weights)


def _within_units(parts: Sequence[ResidualTerm], frame: pd.DataFrame, inverse_weights: Array | None) -> UnitResidual:
    """Residuals with a covariance matrix of the positions of each unit."""
    (part,) = parts
    if part.unit is None:
        raise FormulaError(
            f"{part.structure}({part.positions}) needs units: write {part.structure}({part.positions}|unit)."
        )
    position, levels, place = places(frame[part.positions])
    unit, units = codes_of(as_written(frame, part.unit))
    _check_once(unit, position, units, levels, part)
    structure = residual_structure(part, levels, place)
    return UnitResidual(structure, tuple(str(v) for v in levels), position, inverse_weights, unit)


def _check_once(unit: IntArray, position: IntArray, units: pd.Index, levels: pd.Index, part: ResidualTerm) -> None:
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


def _build_sections(
    parts: Sequence[ResidualTerm], frame: pd.DataFrame, inverse_weights: Array | None
) -> SectionResidual:
    """R of the sections that the levels of the first part's column make, each of the structure of the others."""
    column, rest = parts[0].positions, parts[1:]
    code, levels = codes_of(as_written(frame, column))
    rows = [np.flatnonzero(code == k) for k in range(len(levels))]
    residuals = [
        _section(column, str(v), rest, frame, inverse_weights, own) for v, own in zip(levels, rows, strict=True)
    ]
    structure = Sections([str(v) for v in levels], [r.structure for r in residuals], [r.classes for r in residuals])
    position = np.empty(len(frame), dtype=np.intp)
    starts = np.cumsum([0, *(r.structure.dim for r in residuals)])
    for r, own, start in zip(residuals, rows, starts, strict=False):
        position[own] = start + np.minimum(r.position, r.structure.dim - 1)
    classes = [c for v, r in zip(levels, residuals, strict=True) for c in _classes_of(str(v), r)]
    return SectionResidual(structure, tuple(classes), position, inverse_weights, tuple(residuals), tuple(rows))


def _classes_of(level: str, residual: Residual) -> list[str]:
    """Names of the positions of a section."""
    return [f"{level},{c}" for c in residual.classes] if residual.classes else [level]


def _section(
    column: str,
    level: str,
    parts: Sequence[ResidualTerm],
    frame: pd.DataFrame,
    inverse_weights: Array | None,
    rows: IntArray,
) -> Residual:
    """R of one section; an error in it says which."""
    own: Any = frame.iloc[rows]
    own = own.assign(
        **{c: own[c].cat.remove_unused_categories() for c in own if isinstance(own[c].dtype, pd.CategoricalDtype)}
    )
    try:
        return residual_of(parts, own, some(inverse_weights, rows))
    except MixedgenError as err:
        err.args = (f"{column} {level}: {err}", *err.args[1:])
        raise


UNITS = ResidualKind(_within_units)

# Kinds by the tag that a user writes; a structure of the registry that is not here is a matrix within units.
KINDS: dict[str, ResidualKind] = {
    "idv": ResidualKind(_one_variance),
    "diag": ResidualKind(_by_class),
    "exp": ResidualKind(_log_linear, units=False),
    "at": ResidualKind(_build_sections, units=False, divides=True),
}
