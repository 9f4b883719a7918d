"""R = sigma^2 R0 with a known matrix R0, such as the covariance of estimates from an analysis before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.sparse.csgraph import connected_components

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import Structure
from mixedgen.covariance.variances import Identity
from mixedgen.errors import ArgumentError, DataError, examples
from mixedgen.residual.residual import Residual

_SYMMETRY = 1e-8  # of the geometric mean of two variances


@dataclass(frozen=True)
class KnownResidual(Residual):
    """R = sigma^2 R0, blocks of R0 inverted once.

    Attributes
    ----------
    R0, inverse : csr_array, shape (n, n)
        The matrix, and its inverse with the same blocks.
    log_determinant : float
        log|R0|.
    """

    structure: Structure
    position: IntArray
    R0: sp.csr_array
    inverse: sp.csr_array
    log_determinant: float
    classes: tuple[str, ...] = ()
    inverse_weights: Array | None = None

    words = "a known matrix times one variance"

    def over(self, structure: Structure) -> KnownResidual:
        """R of another structure of the variance."""
        return replace(self, structure=structure)

    @property
    def pairs(self) -> tuple[IntArray, IntArray]:
        """Records of each element of R^-1."""
        first = np.repeat(np.arange(len(self.position)), np.diff(self.inverse.indptr))
        return first, self.inverse.indices.astype(np.intp)

    @property
    def multiplicity(self) -> tuple[float, ...]:
        """All records share the variance."""
        return tuple(float(len(self.position)) * m for m in self.structure.multiplicity)

    def _variance(self, theta: Array) -> float:
        return float(self.structure.matrix(theta)[0, 0])

    def variances(self, theta: Array) -> Array:
        """Diagonal of R."""
        return self._variance(theta) * self.R0.diagonal()

    def solve(self, theta: Array, V: Array) -> Array:
        """R^-1 V, shape of V."""
        return np.asarray(self.inverse @ V) / self._variance(theta)

    def multiply(self, theta: Array, V: Array) -> Array:
        """R V, shape of V."""
        return np.asarray(self.R0 @ V) * self._variance(theta)

    def multiply_derivative(self, theta: Array, k: int, V: Array) -> Array:
        """R0 V: the derivative by sigma^2."""
        return np.asarray(self.R0 @ V)

    def logdet(self, theta: Array) -> float:
        """log|R|."""
        return self.log_determinant + len(self.position) * float(np.log(self._variance(theta)))

    def logdet_derivative(self, theta: Array, k: int) -> float:
        """N / sigma^2."""
        return len(self.position) / self._variance(theta)

    def precision(self, theta: Array) -> Array:
        """R^-1 at `pairs`."""
        return self.inverse.data / self._variance(theta)

    def precision_derivative(self, theta: Array, k: int) -> Array:
        """d(R^-1)/d sigma^2 at `pairs`."""
        return -self.inverse.data / self._variance(theta) ** 2

    def draw(self, theta: Array, rng: np.random.Generator, n: int) -> Array:
        """Draws from N(0, R)."""
        out = np.empty((len(self.position), n))
        for own in _connected_blocks(self.R0):
            out[own] = np.linalg.cholesky(self.R0[own][:, own].toarray()) @ rng.standard_normal((len(own), n))
        return out * np.sqrt(self._variance(theta))

    def select(self, rows: IntArray) -> KnownResidual:
        """R of some records."""
        R0 = sp.csr_array(self.R0[rows][:, rows])
        inverse, logdet = _block_inverse(R0, pd.RangeIndex(len(rows)))
        return replace(self, position=self.position[rows], R0=R0, inverse=inverse, log_determinant=logdet)


def known_residual(matrix: Any, index: pd.Index, kept: IntArray) -> KnownResidual:
    """R of a known matrix.

    Parameters
    ----------
    matrix : DataFrame, array_like or sparse array, shape (rows, rows)
        R0, in the order of the data; a frame is brought into that order by its labels.
    index : Index
        Labels of the rows of the data.
    kept : ndarray of int
        Rows that are used.

    Raises
    ------
    ArgumentError
        If it is no square matrix with a row for each row of the data.
    DataError
        If its labels are not those of the data, it is not symmetric, or not positive definite.
    """
    whole = _in_order(matrix, index)
    R0 = sp.csr_array(whole)[kept][:, kept]
    R0.sum_duplicates()
    _require_symmetric(R0, index[kept])
    inverse, logdet = _block_inverse(R0, index[kept])
    return KnownResidual(Identity(1), np.zeros(len(kept), dtype=np.intp), R0, inverse, logdet)


def _in_order(matrix: Any, index: pd.Index) -> Any:
    """The matrix in the order of the data, sparse or dense."""
    if isinstance(matrix, pd.DataFrame):
        if not index.is_unique:
            raise DataError("the rows of the data need different labels for a residual covariance matrix with labels.")
        lacking = index.difference(matrix.index).union(index.difference(matrix.columns), sort=False)
        if len(lacking):
            raise DataError(
                f"{len(lacking)} rows of the data are not in the residual covariance matrix: {examples(list(lacking))}."
            )
        matrix = matrix.loc[index, index].to_numpy(dtype=float)
    matrix = matrix if sp.issparse(matrix) else np.asarray(matrix, dtype=float)
    if matrix.shape != (len(index), len(index)):
        raise ArgumentError(
            f"residual= has shape {matrix.shape}; a covariance matrix of the {len(index)} rows of the data is wanted."
        )
    return matrix


def _require_symmetric(R0: sp.csr_array, labels: pd.Index) -> None:
    """Raise a DataError for a matrix that is not symmetric and finite with positive variances."""
    if not np.all(np.isfinite(R0.data)):
        raise DataError("the residual covariance matrix has missing or infinite elements.")
    d = R0.diagonal()
    bad = np.flatnonzero(d <= 0)
    if len(bad):
        raise DataError(f"{len(bad)} records have no positive residual variance: {examples(list(labels[bad]))}.")
    odd = sp.coo_array(R0 - R0.T)
    bad = np.flatnonzero(np.abs(odd.data) > _SYMMETRY * np.sqrt(d[odd.row] * d[odd.col]))
    if len(bad):
        where = [f"{labels[odd.row[k]]}, {labels[odd.col[k]]}" for k in bad]
        raise DataError(f"the residual covariance matrix is not symmetric in {len(bad)} places: {examples(where)}.")


def _connected_blocks(R0: sp.csr_array) -> list[IntArray]:
    """Records of each block of a matrix."""
    label = connected_components(R0, directed=False)[1]
    order = np.argsort(label, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(label[order])) + 1)


def _block_inverse(R0: sp.csr_array, labels: pd.Index) -> tuple[sp.csr_array, float]:
    """Inverse by connected blocks, and the log-determinant."""
    rows, columns, values = [], [], []
    logdet = 0.0
    for own in _connected_blocks(R0):
        block = R0[own][:, own].toarray()
        try:
            factor = cho_factor(0.5 * (block + block.T), lower=True)
        except LinAlgError as err:
            raise DataError(
                f"the residual covariance matrix of {len(own)} records is not positive definite: "
                f"{examples(list(labels[own]))}."
            ) from err
        logdet += 2.0 * float(np.log(np.diag(factor[0])).sum())
        inverse = cho_solve(factor, np.eye(len(own)))
        rows.append(np.repeat(own, len(own)))
        columns.append(np.tile(own, len(own)))
        values.append((0.5 * (inverse + inverse.T)).ravel())
    triplets = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sp.csr_array(sp.coo_array(triplets, shape=R0.shape)), logdet
