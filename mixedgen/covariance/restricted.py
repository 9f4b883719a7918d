"""A structure some of whose parameters are fixed, equal or bounded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.sparse.csgraph import connected_components

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import Parameter, Structure
from mixedgen.covariance.triangle import lower_indices, square
from mixedgen.errors import NotAvailableError

FIXED = -1


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

    restricted = True

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
        """Tag of the base."""
        return self.base.tag

    @property
    def singular(self) -> bool:  # type: ignore[override]
        """As the base."""
        return self.base.singular

    @property
    def scalar(self) -> bool:  # type: ignore[override]
        """As the base."""
        return self.base.scalar

    @property
    def start_correlation(self) -> float:  # type: ignore[override]
        """As the base: a factor needs one to find a direction."""
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
    def components(self) -> tuple[IntArray, ...]:
        """Groups of the base: a restriction makes no coefficient independent."""
        return self.base.components

    def parameters(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        """Those of the base that are left, of equal ones the first, each within the narrowest of their bounds."""
        base = self.base.parameters(effects)
        out = []
        for k, i in enumerate(self.kept):
            p = base[i].within(*self.limits.get(k, (-np.inf, np.inf)))
            for j in np.flatnonzero(self.owner == k):
                p = p.within(*base[j].bounds)
            out.append(p)
        return tuple(out)

    def reduced(self, kept: Sequence[int]) -> Structure:
        """Refused: the restrictions of effects that go have no meaning for those left."""
        raise NotAvailableError(f"a {self.tag}() structure with restrictions cannot lose some of its effects.")

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

    def factor_derivatives(self, theta: Array) -> Array:
        """dL/dtheta, shape (size, dim, dim), where the base has them."""
        return np.tensordot(self.expand.T, self.base.factor_derivatives(self.full(theta)), axes=1)

    def loadings(self, theta: Array) -> Array | None:
        """Lambda of the base, shape (dim, k)."""
        return self.base.loadings(self.full(theta))

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
            for part, among in _parts_of(self.owner[b], self.constant[b]):
                if set(part) & loose or (len(part) > 1 and set(part) & shared):
                    continue
                before = blocks[part][1] if part in blocks else 0.0
                blocks[part] = (effects[among], before + float(times))
        return (
            tuple(np.array(part, dtype=np.intp) for part in blocks),
            tuple(effects for effects, _ in blocks.values()),
            np.array([times for _, times in blocks.values()]),
        )


def _square_size(block: IntArray) -> int:
    """Number of effects of a lower triangle."""
    return len(square(np.zeros(len(block))))


def _parts_of(owner: IntArray, constant: Array) -> Iterable[tuple[tuple[int, ...], IntArray]]:
    """Covariance matrices into which a block falls apart by covariances fixed at zero, none with a fixed element.

    Yields
    ------
    part : tuple of int
        Parameters of its lower triangle, row by row.
    among : ndarray of int
        Its effects, within the block.
    """
    c = _square_size(owner)
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


def diagonal_places(block: IntArray) -> IntArray:
    """Where the variances stand in a lower triangle."""
    rows, cols = lower_indices(_square_size(block))
    return np.flatnonzero(rows == cols)
