"""Symmetric and positive definite: how both are judged wherever a matrix comes in."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg as la
from numpy.typing import NDArray
from scipy.linalg.lapack import dpocon


def asymmetry(K: Any) -> tuple[float, int, int]:
    """Largest |k_ij - k_ji| as a share of the largest entry, and its i and j.

    Parameters
    ----------
    K : ndarray or sparse array, shape (q, q)
        Finite.

    Returns
    -------
    share : float
        0 for a symmetric matrix.
    i, j : int
        Where it is.

    Examples
    --------
    >>> asymmetry(np.array([[2.0, 0.5], [0.0, 1.0]]))
    (0.25, 0, 1)
    """
    difference = abs(K - K.T)
    i, j = divmod(int(difference.argmax()), K.shape[0])
    largest = float(abs(K).max())
    return (float(difference.max()) / largest if largest > 0.0 else 0.0), i, j


def definite_factor(K: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Cholesky factor of a matrix that is positive definite beyond rounding.

    Parameters
    ----------
    K : ndarray, shape (q, q)
        Symmetric.

    Returns
    -------
    ndarray, shape (q, q), or None
        Lower triangular L of K = L L'; None where K is not positive definite, or 1 / condition <= q eps.

    Examples
    --------
    >>> definite_factor(np.ones((2, 2))) is None
    True
    """
    try:
        L = np.asarray(la.cholesky(K, lower=True, check_finite=False))
    except la.LinAlgError:
        return None
    reciprocal, _ = dpocon(L, np.abs(K).sum(axis=0).max(), uplo="L")
    return L if reciprocal > len(K) * np.finfo(float).eps else None
