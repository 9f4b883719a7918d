"""The grid of values over which means are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedgen.arrays import Array
from mixedgen.design.coding import dense
from mixedgen.design.columns import is_number
from mixedgen.design.design import Design
from mixedgen.design.levels import codes_of
from mixedgen.errors import ArgumentError, examples

_MAX_CELLS = 1_000_000  # rows of a reference grid

_KEPT_VALUES = 2  # a covariate of so few values stays as it is, like a factor: emmeans' cov.keep


def grid_values(variables: pd.DataFrame, at: Mapping[str, Any]) -> dict[str, pd.Index]:
    """Values of each variable in the grid: the levels of a factor, the mean of a covariate, or what `at` says.

    Raises
    ------
    ArgumentError
        If `at` names no variable of the fixed part, or a level that does not occur.
    """
    unknown = [name for name in at if name not in variables.columns]
    if unknown:
        raise ArgumentError(f"at names no variable of the fixed part: {examples(unknown)}.")
    return {str(name): _values_of(column, at.get(str(name))) for name, column in variables.items()}


def _values_of(column: pd.Series, wanted: Any) -> pd.Index:
    """Values of one variable in the grid."""
    levels = codes_of(column)[1]
    if wanted is None:
        many = is_number(column) and len(levels) > _KEPT_VALUES
        return pd.Index([float(column.mean())]) if many else levels
    chosen = pd.Index([wanted] if isinstance(wanted, str) or np.ndim(wanted) == 0 else list(wanted))
    absent = [] if is_number(column) else [v for v in chosen if v not in levels]
    if absent:
        raise ArgumentError(f"{column.name!r} has no level {examples(absent)}; it has {examples(levels)}.")
    return chosen


def cells(values: Mapping[str, pd.Index], variables: pd.DataFrame) -> pd.DataFrame:
    """All combinations, the first variable running fastest, each column of the type it has in the data.

    Raises
    ------
    ArgumentError
        If there are too many.
    """
    size = int(np.prod([len(v) for v in values.values()], dtype=float))
    if size > _MAX_CELLS:
        raise ArgumentError(f"the reference grid has {size} cells: fix some variables with at=.")
    rows = list(product(*reversed([list(v) for v in values.values()])))
    frame = pd.DataFrame([row[::-1] for row in rows], columns=list(values))
    for name in values:
        if isinstance(variables[name].dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(variables[name]):
            frame[name] = frame[name].astype(variables[name].dtype)
    return frame


def grid_rows(design: Design, grid: pd.DataFrame) -> Array:
    """Rows of X, all columns as coded, of the cells of a grid; columns of unknown-parent groups at their mean."""
    fixed, variables = design.fixed, list(design.fixed.coder.side.variables)
    own = dense(fixed.coder.code(grid[variables])) if variables else np.ones((len(grid), fixed.coder.size))
    out = np.zeros((len(grid), len(fixed.all_names)))
    place = fixed.coder.size * design.records.blocks(grid)[:, None] + np.arange(own.shape[1])
    out[np.arange(len(grid))[:, None], place] = own
    coded = fixed.coder.size * len(fixed.prefixes)
    if coded < len(fixed.all_names):
        mean = np.asarray(fixed.X.mean(axis=0)).ravel() @ fixed.from_kept
        out[:, coded:] = mean[coded:]
    return out


def cell_weights(
    grid: pd.DataFrame,
    variables: pd.DataFrame,
    wanted: Sequence[str],
    values: Mapping[str, pd.Index],
    how: str,
    nests: Mapping[str, Sequence[str]],
) -> Array:
    """Weight of each cell of the grid in the mean it belongs to, before they are made to sum to one."""
    factors = [str(c) for c in grid.columns if len(codes_of(variables[c])[1]) == len(values[str(c)]) or c in wanted]
    over = [c for c in factors if c not in wanted and len(values[c]) > 1]
    within = _within_nests(grid, variables, {f: above for f, above in nests.items() if f not in wanted})
    if how == "equal" or not (over or how == "cells"):
        return within
    there = np.where(within > 0, 1.0, 0.0)
    if how == "outer":
        return there * np.prod([_frequencies(grid, variables, [c]) for c in over], axis=0)
    names = over if how == "proportional" else [c for c in factors if len(values[c]) > 1]
    return there * _frequencies(grid, variables, names)


def _within_nests(grid: pd.DataFrame, variables: pd.DataFrame, nests: Mapping[str, Sequence[str]]) -> Array:
    """Weights by which nested factors are averaged first over their levels that occur, outer factors first."""
    out = np.ones(len(grid))
    inside: dict[frozenset[str], list[str]] = {}  # factors averaged over already, by what they are nested in
    for factor, above in sorted(nests.items(), key=lambda item: len(item[1])):
        beside = inside.setdefault(frozenset(above), [])
        outer = [*above, *beside]
        cells = variables[[*outer, factor]].drop_duplicates()
        number = _frequencies(grid, cells, outer)  # levels of the factor that occur there
        there = _frequencies(grid, cells, [*outer, factor])
        out *= there / np.where(number > 0, number, 1.0)
        beside.append(factor)
    return out


def occurs(grid: pd.DataFrame, variables: pd.DataFrame, nests: Mapping[str, Sequence[str]]) -> NDArray[np.bool_]:
    """Whether the level of each nested factor in a row of a grid occurs in those it is nested in."""
    out = np.ones(len(grid), dtype=bool)
    for factor, above in nests.items():
        out &= _frequencies(grid, variables, [factor, *above]) > 0
    return out


def found_nests(
    variables: pd.DataFrame, values: Mapping[str, pd.Index], written: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Factors that are nested in others, by the records or the formula, and those others.

    Notes
    -----
    By the records, a factor each of whose levels occurs with one level of another only; of two that are nested in each
    other, the first in the second. Nesting that is written takes its place: the rules of R's emmeans.
    """
    names = [name for name, levels in values.items() if len(levels) > 1]
    rows = variables[names].drop_duplicates()
    out: dict[str, tuple[str, ...]] = {}
    for name in names:
        others = [c for c in names if c != name and name not in out.get(c, ())]
        one = [c for c in others if (rows.groupby(name, observed=True)[c].nunique() == 1).all()]
        if one:
            out[name] = tuple(one)
    for name, above in written.items():
        known = tuple(c for c in above if c in names)
        if name in names and known:
            out[name] = known
    return {name: outermost(name, out) for name in out}


def outermost(name: str, nests: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """All factors that a factor is nested in, outer ones first, through others too."""
    found: dict[str, None] = {}
    waiting = list(nests.get(name, ()))
    while waiting:
        factor = waiting.pop(0)
        if factor not in found and factor != name:
            found[factor] = None
            waiting += nests.get(factor, ())
    return tuple(reversed(found))


def _frequencies(grid: pd.DataFrame, variables: pd.DataFrame, names: Sequence[str]) -> Array:
    """Number of records with the combination of each cell in some variables."""
    if not names:
        return np.full(len(grid), float(len(variables)))
    counts = variables.groupby(list(names), observed=True).size()
    keys = grid[list(names)].itertuples(index=False, name=None)
    table = {(k if isinstance(k, tuple) else (k,)): n for k, n in counts.items()}
    return np.array([float(table.get(key, 0)) for key in keys])
