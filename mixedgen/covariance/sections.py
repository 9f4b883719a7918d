"""One structure over several sections of the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.linalg import block_diag

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import Parameter, Structure


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
    def unseen(self) -> tuple[int, ...]:  # type: ignore[override]
        """Parameters of the sections that their matrices do not show."""
        return tuple(at.start + i for at, s in zip(self.slices, self.parts, strict=True) for i in s.unseen)

    @property
    def blocks(self) -> tuple[IntArray, ...]:
        """Blocks of all sections, one section after the other."""
        return tuple(at.start + b for at, s in zip(self.slices, self.parts, strict=True) for b in s.blocks)

    @property
    def components(self) -> tuple[IntArray, ...]:
        """Groups within sections: coefficients of different sections are independent."""
        return tuple(at.start + c for at, s in zip(self._dims, self.parts, strict=True) for c in s.components)

    @property
    def multiplicity(self) -> Array:
        """How many coefficients of its section share each block."""
        return np.concatenate([s.multiplicity for s in self.parts])

    @property
    def block_effects(self) -> tuple[IntArray, ...]:
        """Coefficients of each block, counted over the sections."""
        return tuple(at.start + e for at, s in zip(self._dims, self.parts, strict=True) for e in s.block_effects)

    def parameters(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        """`[trial,variance]`: the section before the name it has there."""
        out: list[Parameter] = []
        for level, s, own, at in zip(self.levels, self.parts, self.effects, self._dims, strict=True):
            outer = dict(zip(own, effects[at], strict=True))
            for p in s.parameters(own):
                out.append(replace(p, effects=tuple(outer[e] for e in p.effects), label=(level, *p.label)))
        return tuple(out)

    def reduced(self, kept: Sequence[int]) -> Sections:
        """Sections with some of their coefficients; one that loses all of them goes."""
        inside = [[k - at.start for k in kept if at.start <= k < at.stop] for at in self._dims]
        left = [
            (level, s.reduced(own), [effects[k] for k in own])
            for level, s, own, effects in zip(self.levels, self.parts, inside, self.effects, strict=True)
            if own
        ]
        return Sections(*zip(*left, strict=True))

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
