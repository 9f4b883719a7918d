"""Residuals of plots: direct products of structures over the columns that say where a record stands.

R = D^1/2 [blocks of C_1 (x) C_2 (x) ...] D^1/2. One structure of the product may have variances of its own; without one
there is a common variance. The other structures are correlations. Structures without correlations (`idv`, `diag`) and
the units divide the records into independent blocks; a place without a record is no part of its block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from mixedgen.covariance.structure import Correlated, Diagonal, Identity, Structure
from mixedgen.design.terms import codes_of
from mixedgen.errors import DesignError, FormulaError, examples
from mixedgen.formula.parse import ResidualTerm
from mixedgen.residual.grid import FullMargin, Grid, Margin, correlation_margin
from mixedgen.residual.residual import Residual, columns, places, residual_structure

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

START_CORRELATION = 0.3  # at zero a correlation cannot be told from the variance of a term with one level per record


class Product(Structure):
    """Variances of the product and the correlations of its structures.

    Parameters
    ----------
    carrier : Structure
        The structure with variances; `Identity(1)` for a common one.
    correlations : sequence of (str, Correlated)
        Column and structure of the others, whose variance is held at one.
    """

    tag = "product"

    def __init__(self, carrier: Structure, correlations: Sequence[tuple[str, Correlated]]) -> None:
        super().__init__(carrier.dim)
        self.carrier, self.correlations = carrier, tuple(correlations)

    @property
    def _ends(self) -> list[int]:
        """Where the correlations of each structure begin, and where the last ones end."""
        sizes = [self.carrier.size, *(s.n_correlations for _, s in self.correlations)]
        return [int(e) for e in np.cumsum(sizes)]

    @property
    def size(self) -> int:
        """Variances and correlations."""
        return self._ends[-1]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the correlations of each structure stand."""
        return tuple(slice(a, b) for a, b in zip(self._ends[:-1], self._ends[1:], strict=True))

    @property
    def unseen(self) -> tuple[int, ...]:  # type: ignore[override]
        """The correlations."""
        return tuple(range(self.carrier.size, self.size))

    @property
    def blocks(self) -> tuple[IntArray, ...]:
        """Those of the structure with variances."""
        return self.carrier.blocks

    @property
    def block_effects(self) -> tuple[IntArray, ...]:
        """Those of the structure with variances."""
        return self.carrier.block_effects

    @property
    def free(self) -> tuple[tuple[int, float, float], ...]:
        """Correlations with their bounds."""
        own = [(i, s.lowest, 1.0) for at, (_, s) in zip(self.slices, self.correlations, strict=True) for i in at_of(at)]
        return (*self.carrier.free, *own)

    @property
    def components(self) -> tuple[IntArray, ...]:
        """Those of the structure with variances."""
        return self.carrier.components

    @property
    def multiplicity(self) -> Array:
        """That of the structure with variances."""
        return self.carrier.multiplicity

    def names(self, effects: Sequence[str]) -> tuple[str, ...]:
        """`[variance]` or those of the structure with variances, then `[rho,row]`."""
        out = ["[variance]"] if self.carrier.names(effects) == ("",) else list(self.carrier.names(effects))
        for column, s in self.correlations:
            inner = s.names([str(k) for k in range(s.dim)])[s.n_variances :]
            out += [f"{name[:-1]},{column}]" for name in inner]
        return tuple(out)

    def matrix(self, theta: Array) -> Array:
        """Variances, and covariances of the structure that has them, shape (dim, dim)."""
        return self.carrier.matrix(theta[: self.carrier.size])

    def derivatives(self, theta: Array) -> Array:
        """Derivatives of `matrix`, shape (size, dim, dim)."""
        D = np.zeros((self.size, self.dim, self.dim))
        D[: self.carrier.size] = self.carrier.derivatives(theta[: self.carrier.size])
        return D

    def start(self, S0: Array) -> Array:
        """Variances of S0, and the same correlation everywhere."""
        rest = np.full(self.size - self.carrier.size, START_CORRELATION)
        return np.concatenate([self.carrier.start(S0), rest])


def at_of(s: slice) -> range:
    """Positions of a slice."""
    return range(s.start, s.stop)


@dataclass(frozen=True)
class Blocks:
    """Blocks with records at the same places.

    Attributes
    ----------
    rows : ndarray of int, shape (blocks, m)
        Their records.
    grid : Grid
        The places.
    """

    rows: IntArray
    grid: Grid


@dataclass(frozen=True)
class SeparableResidual(Residual):
    """Direct product of structures within independent blocks.

    Attributes
    ----------
    margins : tuple of Margin
        Structures with correlations.
    slices : tuple of slice
        Where the parameters of each stand in theta.
    outside : bool
        Whether the variances stand outside of the margins; else one margin holds them.
    block : ndarray of int, shape (n,)
        Block of each record.
    levels : ndarray of int, shape (n, margins)
        Level of each margin.
    """

    structure: Product
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None
    margins: tuple[Margin, ...]
    slices: tuple[slice, ...]
    outside: bool
    block: IntArray
    levels: IntArray

    @property
    def multiplicity(self) -> tuple[float, ...]:
        """Records for each variance."""
        return tuple(float(len(self.position)) * m for m in self.structure.multiplicity)

    @cached_property
    def grids(self) -> tuple[Blocks, ...]:
        """Blocks by the places they have."""
        shape = self.levels.max(axis=0) + 1
        place = np.ravel_multi_index(tuple(self.levels.T), tuple(shape))
        order = np.lexsort((place, self.block))
        size = np.bincount(self.block)
        start = np.cumsum(size) - size
        out = []
        for m in np.unique(size[size > 0]):
            rows = order[start[size == m][:, None] + np.arange(m)]
            which, code = np.unique(place[rows], axis=0, return_inverse=True)
            code = code.ravel()
            out += [Blocks(rows[code == k], self._grid(rows[code == k][0])) for k in range(len(which))]
        return tuple(out)

    def _grid(self, rows: IntArray) -> Grid:
        """Grid of the records of one block, in the order of their places."""
        there = [np.unique(levels, return_inverse=True) for levels in self.levels[rows].T]
        cells = np.ravel_multi_index(tuple(code for _, code in there), tuple(len(at) for at, _ in there))
        return Grid(self.margins, tuple(at for at, _ in there), np.asarray(cells, dtype=np.intp))

    @cached_property
    def pairs(self) -> tuple[IntArray, IntArray]:
        """Records of each element of R^-1; the elements of a pair that stands twice add."""
        first, second = (np.concatenate([b.rows[:, b.grid.pairs[side]].ravel() for b in self.grids]) for side in (0, 1))
        return first, second

    def _parts(self, theta: Array) -> list[Array]:
        return [theta[s] for s in self.slices]

    def _owner(self, k: int) -> tuple[int, int] | None:
        """Margin of a parameter and its number there; None for a variance outside."""
        return next(((a, k - s.start) for a, s in enumerate(self.slices) if s.start <= k < s.stop), None)

    def _spread(self, theta: Array) -> Array:
        """What stands outside of the margins: variances over weights, shape (n,)."""
        spread = np.diag(self.structure.matrix(theta))[self.position] if self.outside else np.ones(len(self.position))
        return spread if self.inverse_weights is None else spread * self.inverse_weights

    def _relative_change(self, theta: Array, k: int) -> Array:
        """Half of d log(spread)/dtheta_k of each record, shape (n,)."""
        change = np.diag(self.structure.derivatives(theta)[k]) / np.diag(self.structure.matrix(theta))
        return 0.5 * change[self.position]

    def _elements(self, theta: Array, values: Callable[[Grid], Array]) -> Array:
        """Elements of the blocks at `pairs`, scaled to R^-1."""
        each = [np.broadcast_to(v := values(b.grid), (len(b.rows), len(v))).ravel() for b in self.grids]
        root = 1.0 / np.sqrt(self._spread(theta))
        first, second = self.pairs
        return np.concatenate(each) * root[first] * root[second]

    def _apply(self, theta: Array, V: Array, derivative: tuple[int, int] | None = None) -> Array:
        """R V, or the derivative of R by a parameter of a margin times V."""
        root = columns(np.sqrt(self._spread(theta)), V)
        scaled = (root * V).reshape(len(V), -1)
        out = np.empty_like(scaled)
        for b in self.grids:
            matrices = b.grid.matrices(self._parts(theta), derivative)
            out[b.rows] = b.grid.multiply(matrices, scaled[b.rows])
        return out.reshape(V.shape) * root

    def variances(self, theta: Array) -> Array:
        """Diagonal of R."""
        own = np.diag(self.structure.matrix(theta))[self.position]
        return own if self.inverse_weights is None else own * self.inverse_weights

    def solve(self, theta: Array, V: Array) -> Array:
        """R^-1 V."""
        n = len(self.position)
        return np.asarray(sp.csr_array((self.precision(theta), self.pairs), shape=(n, n)) @ V)

    def multiply(self, theta: Array, V: Array) -> Array:
        """R V."""
        return self._apply(theta, V)

    def multiply_derivative(self, theta: Array, k: int, V: Array) -> Array:
        """(dR/dtheta_k) V."""
        owner = self._owner(k)
        if owner is not None:
            return self._apply(theta, V, owner)
        h = columns(self._relative_change(theta, k), V)
        return h * self._apply(theta, V) + self._apply(theta, h * V)

    def logdet(self, theta: Array) -> float:
        """log|R|; infinite where it is not positive definite."""
        parts = self._parts(theta)
        return float(np.log(self._spread(theta)).sum()) + sum(len(b.rows) * b.grid.logdet(parts) for b in self.grids)

    def logdet_derivative(self, theta: Array, k: int) -> float:
        """tr(R^-1 dR/dtheta_k)."""
        owner = self._owner(k)
        if owner is None:
            return 2.0 * float(self._relative_change(theta, k).sum())
        parts = self._parts(theta)
        return sum(len(b.rows) * b.grid.logdet_derivative(parts, *owner) for b in self.grids)

    def precision(self, theta: Array) -> Array:
        """R^-1 at `pairs`."""
        parts = self._parts(theta)
        return self._elements(theta, lambda grid: grid.precision(parts))

    def precision_derivative(self, theta: Array, k: int) -> Array:
        """d(R^-1)/dtheta_k at `pairs`."""
        owner, parts = self._owner(k), self._parts(theta)
        if owner is not None:
            return self._elements(theta, lambda grid: grid.precision_derivative(parts, *owner))
        h = self._relative_change(theta, k)
        first, second = self.pairs
        return -(h[first] + h[second]) * self.precision(theta)

    def draw(self, theta: Array, rng: np.random.Generator, n: int) -> Array:
        """Draws from N(0, R), shape (records, n)."""
        out = np.empty((len(self.position), n))
        for b in self.grids:
            out[b.rows] = b.grid.draw(self._parts(theta), rng, len(b.rows), n)
        return out * np.sqrt(self._spread(theta))[:, None]

    def select(self, rows: IntArray) -> SeparableResidual:
        """R of some records; the others leave holes."""
        weights = None if self.inverse_weights is None else self.inverse_weights[rows]
        return replace(
            self,
            position=self.position[rows],
            inverse_weights=weights,
            block=self.block[rows],
            levels=self.levels[rows],
        )


# From the formula


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
