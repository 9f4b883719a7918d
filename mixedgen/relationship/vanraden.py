"""VanRaden's genomic relationship matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixedgen.arrays import Array
from mixedgen.errors import ArgumentError, DataError
from mixedgen.genetics.genotypes import Genotypes
from mixedgen.relationship.combine import check_dense

_ROWS_AT_ONCE = 512


def _genomic_matrix(M: Genotypes, method: int, p: Any, weights: Any, ridge: float) -> Array:
    """G of VanRaden's first or second method, shape (n, n)."""
    check_dense(M.n, "G")
    frequencies = M.checked_frequencies(p)
    d = None if weights is None else _checked_weights(weights, M)
    G = np.zeros((M.n, M.n))
    for columns, Z in M.blocks(True if p is None else frequencies, "2pq" if method == 2 else None):
        G += Z @ Z.T if d is None else (Z * d[columns]) @ Z.T
    _varying(float(np.trace(G)))
    G /= M.m if method == 2 else _varying(float(np.sum(2.0 * frequencies * (1.0 - frequencies))))
    return _ridged(G, ridge)


def _checked_weights(weights: Any, M: Genotypes) -> Array:
    """Weights of the markers, one each, not negative."""
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (M.m,) or not np.all(values >= 0.0):
        raise ArgumentError(f"weights are {M.m} numbers, one per marker and none negative or missing.")
    return values


def _varying(total: float) -> float:
    """Sum of the variances of the markers, if any varies."""
    if not total > 0.0:
        raise DataError("no marker varies among the animals, or by the frequencies given. Check the genotypes.")
    return total


def _ridged(K: Array, ridge: float) -> Array:
    """K with the ridge on its diagonal."""
    K.flat[:: len(K) + 1] += ridge
    return K
