"""Variance parameters fixed at a value, made equal, or kept between bounds, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from mixedgen.covariance.structure import Structure, lower_indices, square
from mixedgen.design.terms import Term
from mixedgen.errors import ArgumentError, NotAvailableError, examples
from mixedgen.residual.known import KnownResidual
from mixedgen.residual.residual import ClassResidual, Residual, UnitResidual

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

FIXED = -1


@dataclass(frozen=True)
class Restrictions:
    """What is known of the variance parameters beforehand, by their names in `theta`.

    Parameters
    ----------
    fix : mapping of str to float
        Parameters and their values.
    equate : sequence of sequences of str
        Parameters of one term that are the same.
    bound : mapping of str to (low, high)
        Parameters and their bounds.

    Raises
    ------
    ArgumentError
        If a value is no number, a bound no interval, or a parameter restricted twice.
    """

    fix: Mapping[str, float]
    equate: Sequence[Sequence[str]]
    bound: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value in self.fix.items():
            if not np.isfinite(value):
                raise ArgumentError(f"fix: the value of {name!r} is not finite.")
        for name, (low, high) in self.bound.items():
            if not low < high:
                raise ArgumentError(f"bound: {name!r} needs low < high, not {(low, high)}.")
        for group in self.equate:
            if isinstance(group, str) or len(group) < 2:
                raise ArgumentError(f"equate takes groups of two names or more, not {group!r}: write [['a', 'b']].")
        named = [*self.fix, *(name for group in self.equate for name in group)]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ArgumentError(f"{examples(twice)}: fixed or equated more than once.")

    @property
    def names(self) -> list[str]:
        """All parameters mentioned."""
        return list(dict.fromkeys([*self.fix, *(n for group in self.equate for n in group), *self.bound]))


class Restricted(Structure):
    """A structure some of whose parameters are fixed, equal or bounded; its own parameters are those that are left.

    Parameters
    ----------
    base : Structure
        The structure without restrictions.
    fixed : mapping of int to float
        Values of parameters of the base.
    equal : sequence of sequences of int
        Groups of parameters of the base.
    bounds : mapping of int to (float, float)
        Bounds of parameters of the base.
    """

    def __init__(
        self,
        base: Structure,
        fixed: Mapping[int, float],
        equal: Sequence[Sequence[int]],
        bounds: Mapping[int, tuple[float, float]],
    ) -> None:
        super().__init__(base.dim)
        self.base = base
        first = {i: min(group) for group in equal for i in group}
        kept = [i for i in range(base.size) if i not in fixed and first.get(i, i) == i]
        place = {i: k for k, i in enumerate(kept)}
        self.kept = kept
        self.owner = np.array([FIXED if i in fixed else place[first.get(i, i)] for i in range(base.size)])
        self.constant = np.array([fixed.get(i, 0.0) for i in range(base.size)])
        self.limits = {place[first.get(i, i)]: limits for i, limits in bounds.items()}
        self.expand = np.zeros((base.size, len(kept)))
        own = np.flatnonzero(self.owner != FIXED)
        self.expand[own, self.owner[own]] = 1.0
        self._blocks, self._effects, self._multiplicity = self._split()

    @property
    def tag(self) -> str:
        """That of the base."""
        return self.base.tag

    @property
    def start_correlation(self) -> float:  # type: ignore[override]
        """That of the base."""
        return self.base.start_correlation

    @property
    def size(self) -> int:
        """Number of parameters left."""
        return len(self.kept)

    @property
    def unseen(self) -> tuple[int, ...]:  # type: ignore[override]
        """Those of the base that are left."""
        return tuple(k for k, i in enumerate(self.kept) if i in self.base.unseen)

    @property
    def blocks(self) -> tuple[IntArray, ...]:
        """Variances that are left alone, and covariance matrices of which no element is restricted."""
        return self._blocks

    @property
    def block_effects(self) -> tuple[IntArray, ...]:
        """Effects of each block."""
        return self._effects

    @property
    def multiplicity(self) -> Array:
        """Of each block, those of the parameters that were made equal together."""
        return self._multiplicity

    @property
    def free(self) -> tuple[tuple[int, float, float], ...]:
        """Parameters in no block, each with the narrowest of its bounds."""
        natural = {i: (low, high) for i, low, high in self.base.free}
        for b in self.base.blocks:
            rows, cols = lower_indices(square_size(b))
            natural |= {int(i): (0.0 if r == c else -np.inf, np.inf) for i, r, c in zip(b, rows, cols, strict=True)}
        inside = {int(k) for b in self._blocks for k in b}
        out = []
        for k in range(self.size):
            if k not in inside:
                sides = [natural[int(i)] for i in np.flatnonzero(self.owner == k)] + [
                    self.limits.get(k, (-np.inf, np.inf))
                ]
                out.append((k, max(low for low, _ in sides), min(high for _, high in sides)))
        return tuple(out)

    @property
    def components(self) -> tuple[IntArray, ...]:
        """Those of the base."""
        return self.base.components

    def names(self, effects: Sequence[str]) -> tuple[str, ...]:
        """Names of the base; of equal parameters the first."""
        names = self.base.names(effects)
        return tuple(names[i] for i in self.kept)

    def full(self, theta: Array) -> Array:
        """Parameters of the base."""
        return self.expand @ theta + self.constant

    def matrix(self, theta: Array) -> Array:
        """Sigma(theta), shape (dim, dim)."""
        return self.base.matrix(self.full(theta))

    def derivatives(self, theta: Array) -> Array:
        """dSigma/dtheta, shape (size, dim, dim)."""
        return np.tensordot(self.expand.T, self.base.derivatives(self.full(theta)), axes=1)

    def factor(self, theta: Array) -> Array:
        """L with L L' = Sigma(theta), shape (dim, dim)."""
        return self.base.factor(self.full(theta))

    def factor_derivatives(self, theta: Array) -> Array | None:
        """dL/dtheta, shape (size, dim, dim), where the base has them."""
        D = self.base.factor_derivatives(self.full(theta))
        return None if D is None else np.tensordot(self.expand.T, D, axes=1)

    def start(self, S0: Array) -> Array:
        """Means over equal parameters, within the bounds; covariances shrunk until the matrix is positive definite."""
        from_base = self.base.start(S0)
        theta = self.expand.T @ from_base / np.maximum(self.expand.sum(axis=0), 1.0)
        for k, low, high in self.free:
            theta[k] = min(max(theta[k], low), high)
        covariances = [k for k, D in enumerate(self.derivatives(theta)) if not np.diag(D).any()]
        for _ in range(60):
            if not covariances or np.linalg.eigvalsh(self.matrix(theta))[0] > 0:
                break
            theta[covariances] *= 0.7
        return theta

    def _split(self) -> tuple[tuple[IntArray, ...], tuple[IntArray, ...], Array]:
        """Blocks with their effects and multiplicities."""
        blocks: dict[tuple[int, ...], tuple[IntArray, float]] = {}
        loose = {self.owner[i] for i, _, _ in self.base.free} | set(self.limits)
        shared = {k for k in range(self.size) if np.sum(self.owner == k) > 1}
        for b, effects, times in zip(self.base.blocks, self.base.block_effects, self.base.multiplicity, strict=True):
            for part, among in parts_of(self.owner[b], self.constant[b]):
                if set(part) & loose or (len(part) > 1 and set(part) & shared):
                    continue
                before = blocks[part][1] if part in blocks else 0.0
                blocks[part] = (effects[among], before + float(times))
        return (
            tuple(np.array(part, dtype=np.intp) for part in blocks),
            tuple(effects for effects, _ in blocks.values()),
            np.array([times for _, times in blocks.values()]),
        )


@dataclass(frozen=True)
class RestrictedResidual(Residual):
    """R of a residual that reads its own parameters, as a function of those that are left.

    Attributes
    ----------
    base : Residual
        R as a function of all its parameters.
    """

    base: Residual
    structure: Restricted

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the base."""
        return self.base.classes

    @property
    def position(self) -> IntArray:  # type: ignore[override]
        """Those of the base."""
        return self.base.position

    @property
    def inverse_weights(self) -> Array | None:  # type: ignore[override]
        """Those of the base."""
        return self.base.inverse_weights

    @property
    def pairs(self) -> tuple[IntArray, IntArray] | None:
        """Those of the base."""
        return self.base.pairs

    @property
    def multiplicity(self) -> tuple[float, ...]:
        """Number of records behind each block that is left."""
        return tuple(float(len(self.position)) * m for m in self.structure.multiplicity)

    def _members(self, k: int) -> list[int]:
        """Parameters of the base that parameter k stands for."""
        return [int(i) for i in np.flatnonzero(self.structure.owner == k)]

    def variances(self, theta: Array) -> Array:
        """Diagonal of R."""
        return self.base.variances(self.structure.full(theta))

    def solve(self, theta: Array, V: Array) -> Array:
        """R^-1 V."""
        return self.base.solve(self.structure.full(theta), V)

    def multiply(self, theta: Array, V: Array) -> Array:
        """R V."""
        return self.base.multiply(self.structure.full(theta), V)

    def multiply_derivative(self, theta: Array, k: int, V: Array) -> Array:
        """(dR/dtheta_k) V."""
        full = self.structure.full(theta)
        return np.sum([self.base.multiply_derivative(full, i, V) for i in self._members(k)], axis=0)

    def logdet(self, theta: Array) -> float:
        """log|R|."""
        return self.base.logdet(self.structure.full(theta))

    def logdet_derivative(self, theta: Array, k: int) -> float:
        """tr(R^-1 dR/dtheta_k)."""
        return sum(self.base.logdet_derivative(self.structure.full(theta), i) for i in self._members(k))

    def precision(self, theta: Array) -> Array:
        """R^-1."""
        return self.base.precision(self.structure.full(theta))

    def precision_derivative(self, theta: Array, k: int) -> Array:
        """d(R^-1)/dtheta_k."""
        full = self.structure.full(theta)
        return np.sum([self.base.precision_derivative(full, i) for i in self._members(k)], axis=0)

    def draw(self, theta: Array, rng: np.random.Generator, n: int) -> Array:
        """Draws from N(0, R)."""
        return self.base.draw(self.structure.full(theta), rng, n)

    def select(self, rows: IntArray) -> RestrictedResidual:
        """R of some records."""
        return replace(self, base=self.base.select(rows))


def square_size(block: IntArray) -> int:
    """Number of effects of a lower triangle."""
    return len(square(np.zeros(len(block))))


def parts_of(owner: IntArray, constant: Array) -> Iterable[tuple[tuple[int, ...], IntArray]]:
    """Covariance matrices into which a block falls apart by covariances fixed at zero, none with a fixed element.

    Yields
    ------
    part : tuple of int
        Parameters of its lower triangle, row by row.
    among : ndarray of int
        Its effects, within the block.
    """
    c = square_size(owner)
    rows, cols = lower_indices(c)
    own = square(owner.astype(float)).astype(int)
    linked = (own != FIXED) | (square(constant) != 0.0)
    label = connected_components(linked, directed=False)[1]
    for k in range(label.max() + 1):
        among = np.flatnonzero(label == k)
        r, s = lower_indices(len(among))
        part = own[among[r], among[s]]
        if np.all(part != FIXED):
            yield tuple(int(i) for i in part), among


def restrict(
    restrictions: Restrictions, terms: Sequence[Term], residual: Residual, names: Sequence[Sequence[str]]
) -> tuple[tuple[Term, ...], Residual]:
    """Terms and residual with their parameters restricted.

    Parameters
    ----------
    restrictions : Restrictions
        By name.
    terms : sequence of Term
        Random terms.
    residual : Residual
        R.
    names : sequence of sequences of str
        Names of the parameters of each term, then those of R.

    Raises
    ------
    ArgumentError
        If a name is unknown, a value out of its range, or parameters of several terms are equated.
    NotAvailableError
        If a residual structure cannot be restricted.
    """
    known = [name for own in names for name in own]
    unknown = [name for name in restrictions.names if name not in known]
    if unknown:
        raise ArgumentError(f"no variance parameter {examples(unknown)}; there are {', '.join(known)}.")
    structures = [*(t.structure for t in terms), residual.structure]
    new = [restricted(restrictions, s, own) for s, own in zip(structures, names, strict=True)]
    for group in restrictions.equate:
        if not any(set(group) <= set(own) for own in names):
            raise ArgumentError(f"{examples(group)} are parameters of different terms: only those of one can be equal.")
    if not sum(s.size for s in new):
        raise ArgumentError("every variance parameter is fixed: use model.solve(variances).")
    if new[-1] is not residual.structure and residual.structure.tag == "exp":
        raise NotAvailableError("parameters of the residual structure exp() cannot be restricted.")
    out = tuple(t if s is t.structure else replace(t, structure=s) for t, s in zip(terms, new, strict=False))
    if not isinstance(new[-1], Restricted):
        return out, residual
    if isinstance(residual, ClassResidual | UnitResidual | KnownResidual):  # which take all from their structure
        return out, replace(residual, structure=new[-1])
    return out, RestrictedResidual(residual, new[-1])


def restricted(restrictions: Restrictions, structure: Structure, names: Sequence[str]) -> Structure:
    """A structure with its part of the restrictions; itself where there are none."""
    at = {name: i for i, name in enumerate(names)}
    fixed = {at[n]: float(v) for n, v in restrictions.fix.items() if n in at}
    equal = [[at[n] for n in group] for group in restrictions.equate if all(n in at for n in group)]
    bounds = {at[n]: (float(low), float(high)) for n, (low, high) in restrictions.bound.items() if n in at}
    if not fixed and not equal and not bounds:
        return structure
    both = sorted(set(fixed) & set(bounds))
    if both:
        raise ArgumentError(f"{names[both[0]]!r} is fixed and bounded.")
    out = Restricted(structure, fixed, equal, bounds)
    require_possible(out, names)
    return out


def require_possible(structure: Restricted, names: Sequence[str]) -> None:
    """Raise an ArgumentError for fixed values out of their range, and bounds without a value between them."""
    variances = {int(b[r]) for b in structure.base.blocks for r in diagonal_places(b)}
    ranges = {i: (low, high) for i, low, high in structure.base.free} | {i: (0.0, np.inf) for i in variances}
    for i in map(int, np.flatnonzero(structure.owner == FIXED)):
        low, high = ranges.get(i, (-np.inf, np.inf))
        if not low <= structure.constant[i] <= high:
            raise ArgumentError(f"{names[i]!r} cannot be {structure.constant[i]}: it lies between {low} and {high}.")
    for k, low, high in structure.free:
        if not low < high:
            raise ArgumentError(f"the bounds of {names[structure.kept[k]]!r} leave no value between {low} and {high}.")


def diagonal_places(block: IntArray) -> IntArray:
    """Where the variances stand in a lower triangle."""
    rows, cols = lower_indices(square_size(block))
    return np.flatnonzero(rows == cols)
