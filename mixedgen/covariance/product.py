"""Kronecker products of structures, one of which may have variances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import Parameter, Structure

_START_CORRELATION = 0.3  # at zero a correlation cannot be told from the variance of a term with one level per record


class Product(Structure):
    """Variances of the product and the correlations of its structures.

    Parameters
    ----------
    carrier : Structure
        The structure with variances; `Identity(1)` for a common one.
    correlations : sequence of (str, Structure)
        Column and structure of the others, whose one variance is held at one.
    """

    tag = "product"

    def __init__(self, carrier: Structure, correlations: Sequence[tuple[str, Structure]]) -> None:
        super().__init__(carrier.dim)
        self.carrier, self.correlations = carrier, tuple(correlations)

    @property
    def _ends(self) -> list[int]:
        """Where the correlations of each structure begin, and where the last ones end."""
        sizes = [self.carrier.size, *(s.size - 1 for _, s in self.correlations)]
        return [int(e) for e in np.cumsum(sizes)]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the correlations of each structure stand."""
        return tuple(slice(a, b) for a, b in zip(self._ends[:-1], self._ends[1:], strict=True))

    @property
    def unseen(self) -> tuple[int, ...]:  # type: ignore[override]
        """The correlations, which stand beside the variances."""
        return tuple(range(self.carrier.size, self._ends[-1]))

    @property
    def blocks(self) -> tuple[IntArray, ...]:
        """Variances and covariances of the structure that has them."""
        return self.carrier.blocks

    @property
    def block_effects(self) -> tuple[IntArray, ...]:
        """Coefficients of each covariance matrix of the structure with variances."""
        return self.carrier.block_effects

    @property
    def components(self) -> tuple[IntArray, ...]:
        """Independent groups of the structure with variances."""
        return self.carrier.components

    @property
    def multiplicity(self) -> Array:
        """How many levels of the structure with variances share each block."""
        return self.carrier.multiplicity

    def parameters(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        """`[variance]` or those of the structure with variances, then `[rho,row]`."""
        own = self.carrier.parameters(effects)
        named = own if any(p.label for p in own) else tuple(replace(p, label=("variance",)) for p in own)
        return (*named, *(p for column, s in self.correlations for p in _correlations_of(column, s)))

    def reduced(self, kept: Sequence[int]) -> Product:
        """Some coefficients of the structure with variances, the same correlations."""
        return Product(self.carrier.reduced(kept), self.correlations)

    def matrix(self, theta: Array) -> Array:
        """Variances, and covariances of the structure that has them, shape (dim, dim)."""
        return self.carrier.matrix(theta[: self.carrier.size])

    def derivatives(self, theta: Array) -> Array:
        """Derivatives of `matrix`, shape (size, dim, dim)."""
        D = np.zeros((self.size, self.dim, self.dim))
        D[: self.carrier.size] = self.carrier.derivatives(theta[: self.carrier.size])
        return D

    def start(self, S0: Array) -> Array:
        """Variances of S0, and the same correlation everywhere; other parameters where they start by themselves."""
        rest = [_START_CORRELATION if p.kind == "correlation" else own for p, own in self._own_starts()]
        return np.concatenate([self.carrier.start(S0), np.array(rest, dtype=float)])

    def _own_starts(self) -> list[tuple[Parameter, float]]:
        """Parameters of the correlations, and where they start without knowledge of S0."""
        out: list[tuple[Parameter, float]] = []
        for column, s in self.correlations:
            out += zip(_correlations_of(column, s), np.delete(s.start(np.eye(s.dim)), s.variances), strict=True)
        return out


def _correlations_of(column: str, structure: Structure) -> list[Parameter]:
    """Parameters of a structure without its variance, named after the column of its levels; they move no element."""
    inner = [p for p in structure.numbered if p.kind != "variance"]
    return [replace(p, effects=(), label=(*p.label, column), column=column) for p in inner]
