"""R(theta): which records share a residual, and how.

R = W^-1/2 [blocks] W^-1/2 with the weights W; a block is a variance (by class, or log-linear in a covariate), or the
part of one covariance matrix that belongs to the positions a unit has records of. One inverse serves all units with the
same positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedgen.covariance.structure import Autoregressive, Diagonal, Identity, LogLinear, Structure, make_structure
from mixedgen.design.frame import numeric
from mixedgen.design.terms import codes_of
from mixedgen.errors import DesignError, FormulaError, examples
from mixedgen.formula.parse import ResidualTerm

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


class Residual(ABC):
    """Covariance matrix of the residuals.

    Attributes
    ----------
    structure : Structure
        Parameters of R.
    classes : tuple of str
        Names of the positions; empty when all records share one variance.
    position : ndarray of int, shape (n,)
        Position of each record.
    inverse_weights : ndarray, shape (n,), or None
        1 / w; None when all weights are one.
    """

    structure: Structure
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None

    @property
    def homogeneous(self) -> bool:
        """Whether R is known up to one variance."""
        return False

    @property
    def pairs(self) -> tuple[IntArray, IntArray] | None:
        """Records of each element of R^-1 (both triangles); None where R is diagonal."""
        return None

    @property
    def multiplicity(self) -> tuple[float, ...]:
        """Number of records or units behind each block of the structure: the divisors of an EM step."""
        return ()

    @abstractmethod
    def variances(self, theta: Array) -> Array:
        """Diagonal of R, shape (n,)."""

    @abstractmethod
    def solve(self, theta: Array, V: Array) -> Array:
        """R^-1 V, shape of V: (n,) or (n, m)."""

    @abstractmethod
    def multiply(self, theta: Array, V: Array) -> Array:
        """R V, shape of V."""

    @abstractmethod
    def multiply_derivative(self, theta: Array, k: int, V: Array) -> Array:
        """(dR/dtheta_k) V, shape of V."""

    @abstractmethod
    def logdet(self, theta: Array) -> float:
        """log|R|."""

    @abstractmethod
    def logdet_derivative(self, theta: Array, k: int) -> float:
        """tr(R^-1 dR/dtheta_k)."""

    @abstractmethod
    def precision(self, theta: Array) -> Array:
        """R^-1: its diagonal, shape (n,), or its elements at `pairs`."""

    @abstractmethod
    def precision_derivative(self, theta: Array, k: int) -> Array:
        """d(R^-1)/dtheta_k, as `precision`."""

    @abstractmethod
    def select(self, rows: IntArray) -> Residual:
        """R of some records; classes that lose all of theirs stay."""

    @abstractmethod
    def draw(self, theta: Array, rng: np.random.Generator, n: int) -> Array:
        """Draws from N(0, R), shape (records, n)."""


def take(values: Array | None, rows: IntArray) -> Array | None:
    """Some elements of an array; None of None."""
    return None if values is None else values[rows]


def columns(values: Array, V: Array) -> Array:
    """A factor for each record, to be multiplied with V of shape (n,) or (n, m)."""
    return values if V.ndim == 1 else values[:, None]


class DiagonalResidual(Residual):
    """Independent residuals."""

    @abstractmethod
    def _derivative(self, theta: Array, k: int) -> Array:
        """Derivative of `variances`, shape (n,)."""

    def solve(self, theta: Array, V: Array) -> Array:
        """R^-1 V."""
        return V / columns(self.variances(theta), V)

    def multiply(self, theta: Array, V: Array) -> Array:
        """R V."""
        return V * columns(self.variances(theta), V)

    def multiply_derivative(self, theta: Array, k: int, V: Array) -> Array:
        """(dR/dtheta_k) V."""
        return V * columns(self._derivative(theta, k), V)

    def logdet(self, theta: Array) -> float:
        """log|R|."""
        return float(np.log(self.variances(theta)).sum())

    def logdet_derivative(self, theta: Array, k: int) -> float:
        """tr(R^-1 dR/dtheta_k)."""
        return float(np.sum(self._derivative(theta, k) / self.variances(theta)))

    def precision(self, theta: Array) -> Array:
        """Diagonal of R^-1."""
        return 1.0 / self.variances(theta)

    def precision_derivative(self, theta: Array, k: int) -> Array:
        """Diagonal of d(R^-1)/dtheta_k."""
        return -self._derivative(theta, k) / self.variances(theta) ** 2

    def draw(self, theta: Array, rng: np.random.Generator, n: int) -> Array:
        """Draws from N(0, R)."""
        return np.sqrt(self.variances(theta))[:, None] * rng.standard_normal((len(self.position), n))

    def _weighted(self, values: Array) -> Array:
        return values if self.inverse_weights is None else values * self.inverse_weights


@dataclass(frozen=True)
class ClassResidual(DiagonalResidual):
    """A variance for each class of records, divided by their weights."""

    structure: Structure
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None

    @property
    def homogeneous(self) -> bool:
        """Whether there is one class, with a variance that is not fixed."""
        return self.structure.dim == self.structure.size == 1

    @property
    def multiplicity(self) -> tuple[float, ...]:
        """Records of each class."""
        return tuple(np.bincount(self.position, minlength=self.structure.dim).astype(float))

    def variances(self, theta: Array) -> Array:
        """Diagonal of R."""
        return self._weighted(np.diag(self.structure.matrix(theta))[self.position])

    def _derivative(self, theta: Array, k: int) -> Array:
        return self._weighted(np.diag(self.structure.derivatives(theta)[k])[self.position])

    def select(self, rows: IntArray) -> ClassResidual:
        """R of some records."""
        return replace(self, position=self.position[rows], inverse_weights=take(self.inverse_weights, rows))


@dataclass(frozen=True)
class LogLinearResidual(DiagonalResidual):
    """Var(e_i) = exp(level + slope x_i) / w_i."""

    structure: Structure
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None
    x: Array

    def variances(self, theta: Array) -> Array:
        """Diagonal of R."""
        return self._weighted(np.exp(theta[0] + theta[1] * self.x))

    def _derivative(self, theta: Array, k: int) -> Array:
        return self.variances(theta) * (1.0 if k == 0 else self.x)

    def select(self, rows: IntArray) -> LogLinearResidual:
        """R of some records."""
        weights = take(self.inverse_weights, rows)
        return replace(self, position=self.position[rows], inverse_weights=weights, x=self.x[rows])


@dataclass(frozen=True)
class UnitPattern:
    """Units that have records of the same positions.

    Attributes
    ----------
    rows : ndarray of int, shape (units, m)
        Their records.
    positions : ndarray of int, shape (m,)
        The positions.
    """

    rows: IntArray
    positions: IntArray


@dataclass(frozen=True)
class UnitResidual(Residual):
    """One covariance matrix over positions within units; a unit without some position has the rest of the matrix.

    Attributes
    ----------
    unit : ndarray of int, shape (n,)
        Unit of each record.
    """

    structure: Structure
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None
    unit: IntArray

    @property
    def multiplicity(self) -> tuple[float, ...]:
        """Number of units, times the positions that share a variance."""
        units = float(sum(len(p.rows) for p in self.patterns))
        return tuple(units * m for m in self.structure.multiplicity)

    @cached_property
    def patterns(self) -> tuple[UnitPattern, ...]:
        """Units by the positions they have."""
        order = np.lexsort((self.position, self.unit))
        size = np.bincount(self.unit)
        start = np.cumsum(size) - size
        out = []
        for m in np.unique(size[size > 0]):
            units = np.flatnonzero(size == m)
            rows = order[start[units][:, None] + np.arange(m)]
            which, code = np.unique(self.position[rows], axis=0, return_inverse=True)
            out += [UnitPattern(rows[code.ravel() == k], which[k]) for k in range(len(which))]
        return tuple(out)

    @cached_property
    def pairs(self) -> tuple[IntArray, IntArray]:
        """Records of each element of R^-1."""
        shapes = [(len(p.rows), len(p.positions), len(p.positions)) for p in self.patterns]
        first = [np.broadcast_to(p.rows[:, :, None], s).ravel() for p, s in zip(self.patterns, shapes, strict=True)]
        second = [np.broadcast_to(p.rows[:, None, :], s).ravel() for p, s in zip(self.patterns, shapes, strict=True)]
        return np.concatenate(first), np.concatenate(second)

    @cached_property
    def _root_weights(self) -> Array:
        return np.ones(len(self.position)) if self.inverse_weights is None else 1.0 / np.sqrt(self.inverse_weights)

    def _block(self, matrix: Array, p: UnitPattern) -> Array:
        return matrix[np.ix_(p.positions, p.positions)]

    def _inverses(self, theta: Array) -> list[Array]:
        Sigma = self.structure.matrix(theta)
        return [np.asarray(np.linalg.inv(self._block(Sigma, p))) for p in self.patterns]

    def _apply(self, blocks: Sequence[Array], V: Array, root: Array) -> Array:
        """Blocks between two scalings by `root`, times V."""
        scaled = V * columns(root, V)
        out = np.empty_like(scaled)
        for p, B in zip(self.patterns, blocks, strict=True):
            out[p.rows] = np.einsum("ab,ub...->ua...", B, scaled[p.rows])
        return out * columns(root, V)

    def variances(self, theta: Array) -> Array:
        """Diagonal of R."""
        return np.diag(self.structure.matrix(theta))[self.position] / self._root_weights**2

    def solve(self, theta: Array, V: Array) -> Array:
        """R^-1 V."""
        return self._apply(self._inverses(theta), V, self._root_weights)

    def multiply(self, theta: Array, V: Array) -> Array:
        """R V."""
        Sigma = self.structure.matrix(theta)
        return self._apply([self._block(Sigma, p) for p in self.patterns], V, 1.0 / self._root_weights)

    def multiply_derivative(self, theta: Array, k: int, V: Array) -> Array:
        """(dR/dtheta_k) V."""
        D = self.structure.derivatives(theta)[k]
        return self._apply([self._block(D, p) for p in self.patterns], V, 1.0 / self._root_weights)

    def logdet(self, theta: Array) -> float:
        """log|R|; infinite where a block is not positive definite."""
        Sigma = self.structure.matrix(theta)
        value = -2.0 * float(np.log(self._root_weights).sum())
        for p in self.patterns:
            try:  # an even number of negative eigenvalues has a positive determinant too
                root = np.linalg.cholesky(self._block(Sigma, p))
            except np.linalg.LinAlgError:
                return np.inf
            value += 2.0 * len(p.rows) * float(np.log(np.diag(root)).sum())
        return value

    def logdet_derivative(self, theta: Array, k: int) -> float:
        """tr(R^-1 dR/dtheta_k)."""
        D = self.structure.derivatives(theta)[k]
        blocks = zip(self.patterns, self._inverses(theta), strict=True)
        return float(sum(len(p.rows) * np.sum(B * self._block(D, p)) for p, B in blocks))

    def _elements(self, blocks: Sequence[Array]) -> Array:
        parts = [
            np.broadcast_to(B, (len(p.rows), *B.shape)).ravel() for p, B in zip(self.patterns, blocks, strict=True)
        ]
        first, second = self.pairs
        return np.concatenate(parts) * self._root_weights[first] * self._root_weights[second]

    def precision(self, theta: Array) -> Array:
        """R^-1 at `pairs`."""
        return self._elements(self._inverses(theta))

    def precision_derivative(self, theta: Array, k: int) -> Array:
        """d(R^-1)/dtheta_k at `pairs`."""
        D = self.structure.derivatives(theta)[k]
        blocks = zip(self.patterns, self._inverses(theta), strict=True)
        return self._elements([-B @ self._block(D, p) @ B for p, B in blocks])

    def select(self, rows: IntArray) -> UnitResidual:
        """R of some records; the units keep the positions that are left."""
        weights = take(self.inverse_weights, rows)
        return replace(self, position=self.position[rows], inverse_weights=weights, unit=self.unit[rows])

    def draw(self, theta: Array, rng: np.random.Generator, n: int) -> Array:
        """Draws from N(0, R)."""
        Sigma = self.structure.matrix(theta)
        out = np.empty((len(self.position), n))
        for p in self.patterns:
            L = np.linalg.cholesky(self._block(Sigma, p))
            out[p.rows] = L @ rng.standard_normal((*p.rows.shape, n))
        return out / self._root_weights[:, None]


# From the formula


def residual_columns(parts: Sequence[ResidualTerm]) -> list[str]:
    """Columns a residual structure needs."""
    return [c for part in parts for c in (part.positions, part.unit) if c is not None]


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
    dim, options = len(levels), dict(part.options)
    if part.structure == "ar1" and dim > 1:
        return Autoregressive(dim, bool(options.get("hom", True)), place)
    return make_structure(part.structure, dim, options, list(levels))


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
