"""Columns of X that depend on others."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from mixedgen.arrays import Array, IntArray
from mixedgen.sparse import analyse

# A column is aliased when what the columns before it leave of it is this small beside its own length: lme4's
# tolerance (qr.default of R).
ALIAS_TOLERANCE = 1e-7

# Smallest pivot of the unit-length columns of X at which X'X may stand for X: it costs the square of the digits.
_WELL_CONDITIONED = 1e-3


def triangular_factor(X: Array) -> Array:
    """Upper triangular R with R'R = X'X, shape (p, p), for n >= p.

    Notes
    -----
    From the Cholesky factor of X'X where its columns are far from dependent, which costs least; otherwise by QR.
    """
    norms = np.sqrt(np.einsum("ij,ij->j", X, X))
    scale = np.where(norms > 0, norms, 1.0)
    try:
        R = np.linalg.cholesky((X.T @ X) / np.outer(scale, scale)).T
        if np.all(np.diag(R) > _WELL_CONDITIONED):
            return R * scale
    except np.linalg.LinAlgError:
        pass
    return np.asarray(np.linalg.qr(X / scale, mode="r")) * scale


def dense_null_space(R: Array) -> Array:
    """Null space of a dense X by R's rule: a column is aliased when the columns before it leave nothing of it.

    Parameters
    ----------
    R : ndarray, shape (m, p)
        `triangular_factor` of X, or X itself.

    Returns
    -------
    ndarray, shape (p, d)
        One column for each aliased column j, which has 1 in row j and minus its coefficients on the kept columns.
    """
    p = R.shape[1]
    norms = np.sqrt(np.einsum("ij,ij->j", R, R))
    if len(R) == p and np.all(np.abs(np.diag(R)) > ALIAS_TOLERANCE * norms):
        return np.zeros((p, 0))
    unit = R / np.where(norms > 0, norms, 1.0)
    kept: list[int] = []
    null: list[Array] = []
    for j in range(p):
        basis = unit[:, kept]
        coefficients = np.linalg.lstsq(basis, unit[:, j], rcond=None)[0] if kept else np.zeros(0)
        left = unit[:, j] - basis @ coefficients
        if norms[j] > 0 and np.linalg.norm(left) > ALIAS_TOLERANCE:
            kept.append(j)
            continue
        vector = np.zeros(p)
        vector[j] = 1.0
        if norms[j] > 0:
            vector[kept] = -coefficients * norms[j] / norms[kept]
        null.append(vector)
    return np.stack(null, axis=1) if null else np.zeros((p, 0))


def sparse_null_space(X: sp.csr_array) -> Array:
    """Null space of a sparse X in the echelon form of `dense_null_space`.

    Notes
    -----
    With unit columns and a small eps, eps (X'X + eps I)^-1 is, up to O(eps), the projector on the null space: its trace
    is the dimension, and its image of that many random vectors is a basis, which is then verified on X itself.
    """
    eps, p = 1e-10, X.shape[1]
    norms = np.sqrt(np.asarray(X.multiply(X).sum(axis=0)).ravel())
    scale = np.where(norms > 0, norms, 1.0)
    unit = X @ sp.diags_array(1.0 / scale)
    gram = sp.csc_array(sp.tril(unit.T @ unit + eps * sp.eye_array(p)))
    gram.sort_indices()
    factor = analyse(gram.indptr, gram.indices, p).factor(gram.data)
    inverse, _ = factor.selected_inverse()
    dimension = eps * float(inverse[gram.indptr[:-1]].sum())
    if dimension < 0.5:
        return np.zeros((p, 0))
    block = np.random.default_rng(0).standard_normal((p, round(dimension) + 5))
    for _ in range(3):
        block = np.linalg.qr(eps * factor.solve(block))[0]
    _, singular, right = np.linalg.svd(unit @ block, full_matrices=False)
    null = block @ right[singular < ALIAS_TOLERANCE * np.sqrt(p)].T
    return _echelon_from_last(null) / scale[:, None] * scale[last_pivots(null)]


def last_pivots(null: Array) -> IntArray:
    """Rows that pivot in a column echelon form worked from the last row up, increasing."""
    N, pivots = null.copy(), []
    for k in range(N.shape[1]):
        j = int(np.flatnonzero(np.abs(N[:, k:]).max(axis=1) > 1e-6)[-1])
        best = k + int(np.argmax(np.abs(N[j, k:])))
        N[:, [k, best]] = N[:, [best, k]]
        N[:, k + 1 :] -= np.outer(N[:, k], N[j, k + 1 :] / N[j, k])
        pivots.append(j)
    return np.sort(np.array(pivots, dtype=np.intp))


def _echelon_from_last(null: Array) -> Array:
    """Null space with an identity in the rows of `last_pivots`."""
    return null @ np.linalg.inv(null[last_pivots(null)])
