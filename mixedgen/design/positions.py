"""The positions of records within their units."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedgen.arrays import IntArray
from mixedgen.covariance.registry import Levels, make_structure
from mixedgen.covariance.structure import Structure
from mixedgen.design.levels import codes_of
from mixedgen.formula.parts import ResidualTerm


def places(column: pd.Series) -> tuple[IntArray, pd.Index, IntArray]:
    """Level of each record, the levels present, and where each level stands.

    Notes
    -----
    Whole numbers, also as categories in increasing order, stand where they say, in steps of the greatest common divisor
    of their distances: 1, 2, 4 has a gap that counts as a step; 10, 20, 30 has none. Other levels stand next to each
    other, in the order of the categories, or sorted.
    """
    code, levels = codes_of(column)
    if pd.api.types.is_numeric_dtype(levels.dtype) and not pd.api.types.is_bool_dtype(levels.dtype):
        values = levels.to_numpy(dtype=float)
        if np.all(values == np.round(values)) and np.all(np.diff(values) > 0):
            distance = (values - values[0]).astype(np.intp)
            return code, levels, distance // max(int(np.gcd.reduce(distance)), 1)
    return code, levels, np.arange(len(levels))


def residual_structure(part: ResidualTerm, levels: pd.Index, place: IntArray) -> Structure:
    """Structure over the positions of a residual."""
    return make_structure(part.structure, Levels(tuple(levels), place), dict(part.options), part.entry)
