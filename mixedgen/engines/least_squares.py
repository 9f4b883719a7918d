"""Columns of X scaled once for all, and least squares on X alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from mixedgen.arrays import Array
from mixedgen.design.fixed import FixedPart
from mixedgen.sparse import analyse


@dataclass(frozen=True)
class ScaledColumns:
    """Orthogonal columns of length sqrt(n) for a dense X, columns of that length for a sparse one.

    Attributes
    ----------
    X : ndarray or csr_array, shape (n, p)
        Scaled columns.
    back : ndarray, shape (p, p) or (p,)
        Coefficients of the design's X are back @ b, or back * b for a sparse X.
    log_jacobian : float
        log|X'X| of the design less that of the scaled columns.
    """

    X: Any
    back: Array
    log_jacobian: float

    @property
    def n(self) -> int:
        """Records."""
        return int(self.X.shape[0])

    def to_b(self, b: Array) -> Array:
        """Coefficients of the design's X, from those of the scaled columns, shape (p,) or (p, m)."""
        if self.back.ndim == 2:
            return self.back @ b
        return b * (self.back if b.ndim == 1 else self.back[:, None])

    @cached_property
    def _gram_factor(self) -> Any:
        gram = sp.csc_array(sp.tril(self.X.T @ self.X))
        gram.sort_indices()
        return analyse(gram.indptr, gram.indices, gram.shape[0]).factor(gram.data)

    def fit(self, y: Array) -> tuple[Array, Array]:
        """Least squares, refined once: coefficients of the scaled columns and residuals."""
        if not self.X.shape[1]:
            return np.zeros(0), y.copy()
        b = self._once(y)
        e = y - self.X @ b
        more = self._once(e)
        return b + more, e - self.X @ more

    def _once(self, y: Array) -> Array:
        load = self.X.T @ y
        return load / self.n if self.back.ndim == 2 else np.asarray(self._gram_factor.solve(load))


def scaled_columns(fixed: FixedPart) -> ScaledColumns:
    """The columns of X, scaled."""
    X, n = fixed.X, fixed.X.shape[0]
    if sp.issparse(X):
        norms = np.sqrt(np.asarray(X.multiply(X).sum(axis=0)).ravel() / n)
        return ScaledColumns(
            sp.csr_array(X @ sp.diags_array(1.0 / norms)), 1.0 / norms, 2.0 * float(np.log(norms).sum())
        )
    assert fixed.R is not None
    R = fixed.R / np.sqrt(n)
    back = np.linalg.inv(R)
    return ScaledColumns(np.asarray(X) @ back, back, 2.0 * float(np.log(np.abs(np.diag(R))).sum()))


def least_squares(fixed: FixedPart, y: Array) -> tuple[Array, Array]:
    """Coefficients of X and residuals."""
    scaled = scaled_columns(fixed)
    b, e = scaled.fit(y)
    return scaled.to_b(b), e
