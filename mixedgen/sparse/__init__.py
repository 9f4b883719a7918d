"""Sparse symmetric positive definite systems: ordering, factor, solves and selected inverse.

Small systems go to dense LAPACK; numba is imported when the first larger one is analysed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mixedgen.arrays import Ints
from mixedgen.sparse.contract import CholeskyFactor, FactorCost, Symbolic
from mixedgen.sparse.dense import DenseSymbolic

__all__ = ["SMALL_ORDER", "CholeskyFactor", "FactorCost", "Symbolic", "analyse", "compile_kernels"]

SMALL_ORDER = 300  # below it the fixed costs of sparse kernels exceed a dense Cholesky
NEARLY_FULL_ORDER = 1500  # up to it a dense Cholesky wins where most entries are there anyway
NEARLY_FULL = 0.3


def analyse(indptr: Ints, indices: Ints, n: int, blocks: Sequence[Ints] = ()) -> Symbolic:
    """Analyse the pattern of a symmetric positive definite matrix.

    Parameters
    ----------
    indptr, indices : ndarray of int
        Lower triangle with its full diagonal, by columns, rows sorted within each column.
    n : int
        Order of the matrix.
    blocks : sequence of ndarray of int
        Sorted variables of dense blocks, whose entries need not be listed; where they are, the values add.

    Returns
    -------
    Symbolic

    Notes
    -----
    A block enters the ordering as one element of the quotient graph and the factorisation as one front, so it
    costs its own order there, and not the square of it.

    Examples
    --------
    >>> import numpy as np
    >>> from mixedgen.sparse import analyse
    >>> symbolic = analyse(np.array([0, 2, 3]), np.array([0, 1, 1]), 2)
    >>> factor = symbolic.factor(np.array([2.0, 1.0, 2.0]))
    >>> factor.solve(np.array([3.0, 3.0]))
    array([1., 1.])
    """
    return _analyse(indptr, indices, n, blocks, _choose(indices, n, blocks))


def compile_kernels() -> None:
    """Compile all numba kernels, or load them from the cache, on a tiny system."""
    from mixedgen.sparse.multifrontal import exercise_kernels

    exercise_kernels()


def _choose(indices: Ints, n: int, blocks: Sequence[Ints]) -> Literal["dense", "sparse"]:
    """Choose dense for small systems, and for moderate ones that are nearly full."""
    if n <= SMALL_ORDER:
        return "dense"
    entries = len(indices) + sum(len(b) * (len(b) + 1) // 2 for b in blocks)
    full = entries > NEARLY_FULL * n * (n + 1) / 2
    return "dense" if full and n <= NEARLY_FULL_ORDER else "sparse"


def _analyse(indptr: Ints, indices: Ints, n: int, blocks: Sequence[Ints], kind: Literal["dense", "sparse"]) -> Symbolic:
    """Analyse for the implementation that is named."""
    if kind == "dense":
        return DenseSymbolic(indptr, indices, n, blocks)
    from mixedgen.sparse.multifrontal import SparseSymbolic  # numba is needed from here on

    return SparseSymbolic(indptr, indices, n, blocks)
