"""The grid of values over which means are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mixedgen.arrays import Array
from mixedgen.design.coding import dense
from mixedgen.design.design import Design
from mixedgen.design.frame import is_number
from mixedgen.design.levels import codes_of
from mixedgen.errors import ArgumentError, examples
from mixedgen.inference.hypotheses import kept_from_all

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
    fixed = design.fixed
    own = dense(fixed.coder.code(grid)) if len(grid.columns) else np.ones((1, 1))
    rest = len(fixed.all_names) - own.shape[1]
    if not rest:
        return own
    mean = np.asarray(fixed.X.mean(axis=0)).ravel() @ kept_from_all(fixed)
    return np.hstack([own, np.broadcast_to(mean[-rest:], (len(own), rest))])


def cell_weights(
    grid: pd.DataFrame, variables: pd.DataFrame, wanted: Sequence[str], values: Mapping[str, pd.Index], how: str
) -> Array:
    """Weight of each cell of the grid in the mean it belongs to, before they are made to sum to one."""
    factors = [str(c) for c in grid.columns if len(codes_of(variables[c])[1]) == len(values[str(c)]) or c in wanted]
    over = [c for c in factors if c not in wanted and len(values[c]) > 1]
    if how == "equal" or not (over or how == "cells"):
        return np.ones(len(grid))
    if how == "outer":
        return np.prod([_frequencies(grid, variables, [c]) for c in over], axis=0)
    return _frequencies(grid, variables, over if how == "proportional" else [c for c in factors if len(values[c]) > 1])


def _frequencies(grid: pd.DataFrame, variables: pd.DataFrame, names: Sequence[str]) -> Array:
    """Number of records with the combination of each cell in some variables."""
    counts = variables.groupby(list(names), observed=True).size()
    keys = grid[list(names)].itertuples(index=False, name=None)
    table = {(k if isinstance(k, tuple) else (k,)): n for k, n in counts.items()}
    return np.array([float(table.get(key, 0)) for key in keys])
