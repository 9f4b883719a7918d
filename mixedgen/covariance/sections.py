"""One structure over several sections of the records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import block_diag

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import Structure


class Sections(Structure):
    """Structures of sections that are independent of each other.

    Parameters
    ----------
    levels : sequence of str
        Name of each section.
    parts : sequence of Structure
        Structure of each.
    effects : sequence of sequence of str
        Classes of each; one without a name where it has none.
    """

    tag = "at"

    def __init__(self, levels: Sequence[str], parts: Sequence[Structure], effects: Sequence[Sequence[str]]) -> None:
        self.levels, self.parts = tuple(levels), tuple(parts)
        self.effects = tuple(tuple(own) or ("",) for own in effects)
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
