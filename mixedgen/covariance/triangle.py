"""Symmetric matrices by their lower triangles, and their factors where they are singular."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from mixedgen.arrays import Array, IntArray

# A pivot this small beside its own diagonal element is rounding of an exact zero: twice the unit roundoff for each
# of the few operations that make it.
_PIVOT_TOLERANCE = 1e-14

_RANK = 1e-10  # an eigenvalue of a scaled matrix at the boundary below this is zero

INDEFINITE = 1e-8  # an eigenvalue of a correlation matrix below minus this is no rounding


@lru_cache(maxsize=64)
def lower_indices(c: int) -> tuple[IntArray, IntArray]:
    """Rows and columns of a lower triangle, row by row: the order of theta."""
    rows, cols = np.tril_indices(c)
    rows.setflags(write=False)
    cols.setflags(write=False)
    return rows, cols


def square(lower: Array) -> Array:
    """Symmetric matrix from its lower triangle, row by row."""
    c = int((math.sqrt(8 * len(lower) + 1) - 1) / 2)
    out = np.empty((c, c))
    rows, cols = lower_indices(c)
    out[rows, cols] = out[cols, rows] = lower
    return out


def triangle(matrix: Array) -> Array:
    """Lower triangle of a matrix, row by row."""
    return matrix[lower_indices(len(matrix))]


def lower_factor(Sigma: Array, indefinite: float = INDEFINITE) -> Array:
    """Lower triangular L with L L' = Sigma for a positive semi-definite Sigma.

    Parameters
    ----------
    Sigma : ndarray, shape (c, c)
        Symmetric positive semi-definite matrix, possibly singular.
    indefinite : float
        An eigenvalue of its correlation matrix below minus this is no rounding.

    Returns
    -------
    ndarray, shape (c, c)
        Cholesky factor; the column of a vanishing pivot is zero.

    Raises
    ------
    ValueError
        If Sigma is not positive semi-definite.
    """
    c = len(Sigma)
    if c == 1 and Sigma[0, 0] >= 0:
        return np.sqrt(Sigma)
    L = np.zeros((c, c))
    for j in range(c):
        column = Sigma[j:, j] - L[j:, :j] @ L[j, :j]
        if column[0] > _PIVOT_TOLERANCE * c * Sigma[j, j]:
            L[j:, j] = column / np.sqrt(column[0])
        elif column[0] != 0.0 or column.any():
            return _semidefinite_factor(Sigma, indefinite)
    return L


def _semidefinite_factor(Sigma: Array, indefinite: float) -> Array:
    """`lower_factor` by eigenvalues, which rounding in a small pivot does not hurt."""
    d = np.abs(np.diag(Sigma))
    scale = np.sqrt(np.where(d > 0, d, np.abs(Sigma).max()))
    values, vectors = np.linalg.eigh(Sigma / np.outer(scale, scale))
    if values[0] < -indefinite:
        raise ValueError("the matrix is not positive semi-definite")
    root = np.sqrt(np.where(values > _PIVOT_TOLERANCE * len(Sigma), values, 0.0))[:, None] * vectors.T * scale
    L = np.zeros_like(root)
    basis = np.zeros((len(root), 0))
    for j in range(len(root)):  # root'root = Sigma: its columns on an orthonormal basis of those before them are L
        left = root[:, j]
        for _ in range(2):
            left = left - basis @ (basis.T @ left)
        size = np.linalg.norm(left)
        if size > np.sqrt(_PIVOT_TOLERANCE) * scale[j]:
            L[j:, j] = root[:, j:].T @ (left / size)
            basis = np.column_stack([basis, left / size])
    return L


def trapezoid(lower: Array, *, boundary: bool) -> Array:
    """Lower trapezoidal L with L L' = Sigma, from Sigma's lower triangle; as many columns as its rank."""
    Sigma = square(lower)
    if not boundary:
        return np.asarray(np.linalg.cholesky(Sigma), dtype=float)
    scale = np.sqrt(np.maximum(np.diag(Sigma), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(Sigma / np.outer(scale, scale))
    kept = values > _RANK * max(float(values[-1]), 1.0) if np.diag(Sigma).any() else np.zeros(len(Sigma), dtype=bool)
    if kept.all():
        kept[0] = False
    root = np.sqrt(values[kept])[:, None] * vectors[:, kept].T * scale
    return np.asarray(np.linalg.qr(root, mode="r")).T if kept.any() else np.zeros((len(Sigma), 0))


def tangent_columns(L: Array) -> Array:
    """Derivatives of the lower triangle of L L' by the entries of a lower trapezoidal L, column by column of L."""
    rows, cols = lower_indices(len(L))
    columns = [(rows == i) * L[cols, j] + (cols == i) * L[rows, j] for j in range(L.shape[1]) for i in range(j, len(L))]
    return np.column_stack([np.zeros((len(rows), 0)), *columns])


def factor_jacobian(L: Array) -> Array:
    """Derivatives of the lower triangle of L L' by that of L, shape (m, m)."""
    rows, cols = lower_indices(len(L))
    J = np.empty((len(rows), len(rows)))
    for k, (a, b) in enumerate(zip(rows, cols, strict=True)):
        d = np.zeros_like(L)
        d[a] = L[:, b]
        J[:, k] = triangle(d + d.T)
    return J


def descending(Sigma: Array) -> IntArray:
    """Order of the coefficients of a matrix, larger variances first."""
    return np.argsort(-np.diag(Sigma), kind="stable")


def ordered_jacobian(L: Array, order: IntArray) -> Array:
    """Derivatives by the lower triangle of L of that of Sigma, with L L' = Sigma in another order, shape (m, m)."""
    rows, cols = lower_indices(len(L))
    place = square(np.arange(float(len(rows))))[np.ix_(order, order)][rows, cols].astype(np.intp)
    J = np.empty((len(rows), len(rows)))
    J[place] = factor_jacobian(L)
    return J
