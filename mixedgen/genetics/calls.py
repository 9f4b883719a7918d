"""What a matrix of genotypes may hold: names of animals and markers, and copies of one allele in two codings."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedgen.arrays import Array, Positions
from mixedgen.errors import ArgumentError, DataError, examples

AlleleCoding = Literal["012", "-101"]

MISSING = -9  # PLINK's code, which files of 0, 1 and 2 also use
MARKERS_AT_ONCE = 2048  # coded as float64 together: 16 kB per animal


def checked_names(names: Any, shape: tuple[int, ...], axis: int, what: str) -> pd.Index[Any]:
    """Names along one axis: all there, all different, as many as the matrix has."""
    if names is None and what == "ids":
        raise ArgumentError("the animals have no names: pass ids=, one per row, or the name of the column with them.")
    labels = pd.Index([str(k + 1) for k in range(shape[1])] if names is None else list(names))
    if len(labels) != shape[axis]:
        turned = " It looks transposed: animals are rows." if len(labels) == shape[1 - axis] else ""
        raise DataError(f"the matrix has shape {shape}, but there are {len(labels)} {what}.{turned}")
    if labels.hasnans:
        raise DataError(f"{int(np.sum(labels.isna()))} of {len(labels)} {what} are missing. Name every one.")
    again = labels[labels.duplicated()].unique()
    if len(again):
        raise DataError(
            f"{len(again)} {what} occur more than once: {examples(again)}. Keep one of each, or rename them.",
            names=again.tolist(),
        )
    return labels


def checked_calls(
    matrix: NDArray[Any], ids: pd.Index[Any], markers: pd.Index[Any], coding: AlleleCoding, dosages: bool
) -> NDArray[Any]:
    """Copies as int8 with -9 for missing, or as float64 dosages with NaN."""
    out = np.empty(matrix.shape, dtype=np.float64 if dosages else np.int8)
    shift = 1.0 if coding == "-101" else 0.0
    wrong: list[tuple[Positions, Positions, list[Any]]] = []
    for start in range(0, matrix.shape[1], MARKERS_AT_ONCE):
        part = matrix[:, start : start + MARKERS_AT_ONCE]
        block = _numbers(part)
        missing = np.isnan(block) | (block == MISSING)
        missing &= pd.isna(part) | (block == MISSING) if part.dtype.kind not in "biuf" else True
        block = block + shift
        inside = (block >= 0) & (block <= 2) if dosages else np.isin(block, (0.0, 1.0, 2.0))
        rows, columns = np.nonzero(~(inside | missing))
        wrong.append((rows, columns + start, [part[i, j] for i, j in zip(rows[:5], columns[:5], strict=True)]))
        block[missing] = np.nan if dosages else MISSING
        if len(rows) == 0:
            out[:, start : start + MARKERS_AT_ONCE] = block
    if any(len(rows) for rows, _, _ in wrong):
        _raise_outside(wrong, ids, markers, coding, dosages)
    return out


def _numbers(part: NDArray[Any]) -> Array:
    """Values as float64, NaN where they are missing or no numbers."""
    if part.dtype.kind in "biuf":
        return part.astype(np.float64)
    columns = [pd.to_numeric(pd.Series(column, dtype=object), errors="coerce") for column in part.T]
    return np.column_stack([c.to_numpy(dtype=np.float64, na_value=np.nan) for c in columns])


def _raise_outside(
    wrong: list[tuple[Positions, Positions, list[Any]]],
    ids: pd.Index[Any],
    markers: pd.Index[Any],
    coding: AlleleCoding,
    dosages: bool,
) -> None:
    """Name markers and animals whose genotypes are outside the coding."""
    rows = np.concatenate([w[0] for w in wrong])
    columns = np.concatenate([w[1] for w in wrong])
    seen = [value for w in wrong for value in w[2]]
    animals, loci = ids[np.unique(rows)], markers[np.unique(columns)]
    allowed = "numbers from 0 to 2" if dosages else "0, 1, 2"
    allowed = ("numbers from -1 to 1" if dosages else "-1, 0, 1") if coding == "-101" else allowed
    other = "'012'" if coding == "-101" else "'-101'"
    raise DataError(
        f"{len(rows)} genotypes are not {allowed} or missing (NaN, -9), e.g. {examples(pd.unique(pd.Series(seen)))}: "
        f"{len(loci)} markers, {examples(loci)}; {len(animals)} animals, {examples(animals)}. Correct them, pass "
        f"coding={other}{'' if dosages else ', or dosages=True'} if that is meant; alleles must be counted first.",
        ids=animals.tolist(),
        markers=loci.tolist(),
    )
