"""Residuals in sections: R of each trial, sex or group with parameters of its own, `at(trial):ar1(row):ar1(col)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import block_diag

from mixedgen.covariance.structure import Structure
from mixedgen.design.terms import codes_of
from mixedgen.errors import FormulaError, MixedgenError
from mixedgen.formula.parse import ResidualTerm
from mixedgen.residual.residual import Residual, build_residual
from mixedgen.residual.separable import build_product

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


class Sections(Structure):
    """Structures of sections that are independent of each other.

    Parameters
    ----------
    levels : sequence of str
        Name of each section.
    residuals : sequence of Residual
        R of each.
    """

    tag = "at"

    def __init__(self, levels: Sequence[str], residuals: Sequence[Residual]) -> None:
        self.levels, self.parts = tuple(levels), tuple(r.structure for r in residuals)
        self.effects = tuple(r.classes or ("",) for r in residuals)
        super().__init__(sum(s.dim for s in self.parts))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the parameters of each section stand."""
        return consecutive([s.size for s in self.parts])

    @property
    def _dims(self) -> tuple[slice, ...]:
        return consecutive([s.dim for s in self.parts])

    @property
    def size(self) -> int:
        """Parameters of all sections."""
        return sum(s.size for s in self.parts)

    @property
    def unseen(self) -> tuple[int, ...]:  # type: ignore[override]
        """Those of each section."""
        return tuple(at.start + i for at, s in zip(self.slices, self.parts, strict=True) for i in s.unseen)

    @property
    def blocks(self) -> tuple[IntArray, ...]:
        """Those of each section."""
        return tuple(at.start + b for at, s in zip(self.slices, self.parts, strict=True) for b in s.blocks)

    @property
    def free(self) -> tuple[tuple[int, float, float], ...]:
        """Those of each section."""
        return tuple(
            (at.start + i, *ends) for at, s in zip(self.slices, self.parts, strict=True) for i, *ends in s.free
        )

    @property
    def components(self) -> tuple[IntArray, ...]:
        """Those of each section."""
        return tuple(at.start + c for at, s in zip(self._dims, self.parts, strict=True) for c in s.components)

    @property
    def multiplicity(self) -> Array:
        """Those of each section."""
        return np.concatenate([s.multiplicity for s in self.parts])

    @property
    def block_effects(self) -> tuple[IntArray, ...]:
        """Those of each section."""
        return tuple(at.start + e for at, s in zip(self._dims, self.parts, strict=True) for e in s.block_effects)

    def names(self, effects: Sequence[str]) -> tuple[str, ...]:
        """`[trial,variance]`: the section before the name it has there."""
        out = []
        for level, s, own in zip(self.levels, self.parts, self.effects, strict=True):
            out += [f"[{level},{name[1:]}" if name else f"[{level}]" for name in s.names(own)]
        return tuple(out)

    def matrix(self, theta: Array) -> Array:
        """Matrices of the sections on the diagonal, shape (dim, dim)."""
        return np.asarray(block_diag(*(s.matrix(theta[at]) for at, s in zip(self.slices, self.parts, strict=True))))

    def derivatives(self, theta: Array) -> Array:
        """Derivatives of `matrix`, shape (size, dim, dim)."""
        D = np.zeros((self.size, self.dim, self.dim))
        for at, own, s in zip(self.slices, self._dims, self.parts, strict=True):
            D[at, own, own] = s.derivatives(theta[at])
        return D

    def start(self, S0: Array) -> Array:
        """Starts of the sections."""
        return np.concatenate([s.start(S0[own, own]) for own, s in zip(self._dims, self.parts, strict=True)])


def consecutive(sizes: Sequence[int]) -> tuple[slice, ...]:
    """Slices of some sizes, one after the other."""
    ends = np.cumsum(sizes)
    return tuple(slice(int(e - s), int(e)) for s, e in zip(sizes, ends, strict=True))


@dataclass(frozen=True)
class SectionResidual(Residual):
    """R of sections of the records.

    Attributes
    ----------
    parts : tuple of Residual
        R of each section.
    rows : tuple of ndarray of int
        Records of each, increasing.
    """

    structure: Sections
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None
    parts: tuple[Residual, ...]
    rows: tuple[IntArray, ...]

    @property
    def multiplicity(self) -> tuple[float, ...]:
        """Those of each section."""
        return tuple(m for r in self.parts for m in r.multiplicity)

    @cached_property
    def pairs(self) -> tuple[IntArray, IntArray] | None:
        """Records of each element of R^-1; None where no section has correlations."""
        if all(r.pairs is None for r in self.parts):
            return None
        own = [r.pairs or (np.arange(len(rows)),) * 2 for r, rows in zip(self.parts, self.rows, strict=True)]
        first, second = (
            np.concatenate([rows[p[side]] for p, rows in zip(own, self.rows, strict=True)]) for side in (0, 1)
        )
        return first, second

    def _assemble(self, theta: Array, values: Callable[[Residual, Array, IntArray], Array], like: Array) -> Array:
        """Values of each section at its records."""
        out = np.empty_like(like)
        for r, rows, at in zip(self.parts, self.rows, self.structure.slices, strict=True):
            out[rows] = values(r, theta[at], rows)
        return out

    def _owner(self, k: int) -> tuple[int, int]:
        """Section of a parameter, and its number there."""
        a = next(a for a, s in enumerate(self.structure.slices) if s.start <= k < s.stop)
        return a, k - self.structure.slices[a].start

    def variances(self, theta: Array) -> Array:
        """Diagonal of R."""
        return self._assemble(theta, lambda r, own, rows: r.variances(own), np.empty(len(self.position)))

    def solve(self, theta: Array, V: Array) -> Array:
        """R^-1 V."""
        return self._assemble(theta, lambda r, own, rows: r.solve(own, V[rows]), V)

    def multiply(self, theta: Array, V: Array) -> Array:
        """R V."""
        return self._assemble(theta, lambda r, own, rows: r.multiply(own, V[rows]), V)

    def multiply_derivative(self, theta: Array, k: int, V: Array) -> Array:
        """(dR/dtheta_k) V."""
        a, i = self._owner(k)
        out = np.zeros_like(V)
        rows = self.rows[a]
        out[rows] = self.parts[a].multiply_derivative(theta[self.structure.slices[a]], i, V[rows])
        return out

    def logdet(self, theta: Array) -> float:
        """log|R|."""
        return sum(r.logdet(theta[at]) for r, at in zip(self.parts, self.structure.slices, strict=True))

    def logdet_derivative(self, theta: Array, k: int) -> float:
        """tr(R^-1 dR/dtheta_k)."""
        a, i = self._owner(k)
        return self.parts[a].logdet_derivative(theta[self.structure.slices[a]], i)

    def precision(self, theta: Array) -> Array:
        """R^-1: its diagonal, or its elements at `pairs`."""
        if self.pairs is None:
            return 1.0 / self.variances(theta)
        return np.concatenate([r.precision(theta[at]) for r, at in zip(self.parts, self.structure.slices, strict=True)])

    def precision_derivative(self, theta: Array, k: int) -> Array:
        """d(R^-1)/dtheta_k, as `precision`."""
        a, i = self._owner(k)
        own = self.parts[a].precision_derivative(theta[self.structure.slices[a]], i)
        if self.pairs is None:
            out = np.zeros(len(self.position))
            out[self.rows[a]] = own
            return out
        sizes = [
            len(rows) if r.pairs is None else len(r.pairs[0]) for r, rows in zip(self.parts, self.rows, strict=True)
        ]
        out = np.zeros(sum(sizes))
        out[consecutive(sizes)[a]] = own
        return out

    def draw(self, theta: Array, rng: np.random.Generator, n: int) -> Array:
        """Draws from N(0, R)."""
        return self._assemble(theta, lambda r, own, rows: r.draw(own, rng, n), np.empty((len(self.position), n)))

    def select(self, rows: IntArray) -> SectionResidual:
        """R of some records, increasing; sections that lose all of theirs stay."""
        new = np.full(len(self.position), -1, dtype=np.intp)
        new[rows] = np.arange(len(rows))
        kept = [np.flatnonzero(new[own] >= 0) for own in self.rows]
        return replace(
            self,
            position=self.position[rows],
            inverse_weights=None if self.inverse_weights is None else self.inverse_weights[rows],
            parts=tuple(r.select(k) for r, k in zip(self.parts, kept, strict=True)),
            rows=tuple(new[own[k]] for own, k in zip(self.rows, kept, strict=True)),
        )


# From the formula


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
    structure = Sections([str(v) for v in levels], residuals)
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
