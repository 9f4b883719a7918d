"""Small or nearly full systems: one dense LAPACK Cholesky, with little else around it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

from mixedgen.arrays import Array, Ints
from mixedgen.errors import EngineError
from mixedgen.sparse.contract import CholeskyFactor, FactorCost, Symbolic, not_positive, overwritten
from mixedgen.sparse.threads import one_thread, paced

_TINY_ORDER = 64  # up to it LAPACK factorises and solves with one thread of itself
_TINY_INVERSE = 16  # the same for inverses
_THREADED_ORDER = 400  # from it on more threads than one pay


def _threads(n: int, tiny: int) -> AbstractContextManager[Any]:
    """One BLAS thread for small orders; setting it costs more than a tiny factorisation."""
    if n >= _THREADED_ORDER:
        return paced(n**3 / 3.0)
    return one_thread() if n > tiny else nullcontext()


class DenseSymbolic(Symbolic):
    """Places of the entries in a dense lower triangle.

    Parameters
    ----------
    indptr, indices : ndarray
        Lower triangle by columns.
    n : int
        Order.
    blocks : sequence of ndarray
        Variables of each dense block.
    """

    def __init__(self, indptr: Ints, indices: Ints, n: int, blocks: Sequence[Ints]) -> None:
        self.n = n
        columns = np.repeat(np.arange(n, dtype=np.int64), np.diff(indptr))
        # Fortran order: entry (row, column) of the n x n array is element column * n + row
        self._places = columns * n + indices
        # both triangles of a block may be added: LAPACK reads the lower one only
        self._block_places = tuple(b[None, :].astype(np.int64) * n + b[:, None] for b in blocks)
        self.forecast = FactorCost(n * (n + 1) // 2, n**3 / 3.0, 2 * 8 * n * n)

    def factor(self, data: Array, blocks: Sequence[Array] = ()) -> DenseFactor:
        """Factorise the matrix with these values; see `Symbolic.factor`."""
        n = self.n
        flat = np.zeros(n * n)
        flat[self._places] = data
        for places, values in zip(self._block_places, blocks, strict=True):
            flat[places] += values
        with _threads(n, _TINY_ORDER):
            L, info = dpotrf(flat.reshape((n, n), order="F"), lower=1, clean=0, overwrite_a=1)
        if info != 0:
            raise not_positive(info - 1)
        return DenseFactor(self, L)


class DenseFactor(CholeskyFactor):
    """Factor in the lower triangle of a dense array; the upper one holds anything.

    Parameters
    ----------
    symbolic : DenseSymbolic
        Places of the entries.
    L : ndarray, shape (n, n), Fortran order
        Lower Cholesky factor.
    """

    def __init__(self, symbolic: DenseSymbolic, L: Array) -> None:
        self._symbolic = symbolic
        self._L: Array | None = L
        self.logdet = 2.0 * float(np.log(L.diagonal()).sum())
        if not np.isfinite(self.logdet):
            raise EngineError("the equations hold values that are not finite.")

    def solve(self, B: npt.ArrayLike) -> Array:
        """Solve ``A X = B``; see `CholeskyFactor.solve`."""
        if self._L is None:
            raise overwritten()
        right = np.asarray(B, dtype=np.float64)
        if right.size == 0:
            return np.zeros(right.shape)
        with _threads(self._symbolic.n, _TINY_ORDER if right.ndim == 1 else _TINY_INVERSE):
            X: Array = dpotrs(self._L, right, lower=1)[0]
        return X

    def selected_inverse(self, overwrite: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """Entries of the inverse on the pattern; see `CholeskyFactor.selected_inverse`."""
        if self._L is None:
            raise overwritten()
        with _threads(self._symbolic.n, _TINY_INVERSE):
            inverse, info = dpotri(self._L, lower=1, overwrite_c=overwrite)
        if info != 0:
            raise not_positive(info - 1)
        flat = inverse.ravel(order="K")
        if overwrite:
            self._L = None
        blocks = []
        for places in self._symbolic._block_places:
            half = np.tril(flat[places])
            half += np.tril(half, -1).T
            blocks.append(half)
        return flat[self._symbolic._places], tuple(blocks)
