"""Kronecker products of structures, one variance in all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.correlated import Correlated
from mixedgen.covariance.structure import Structure

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
