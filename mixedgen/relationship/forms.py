"""Relationships held as a matrix, as families, as an inverse or as a factor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import pandas as pd
import scipy.linalg as la
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from mixedgen.arrays import Array, Positions, SparseArray
from mixedgen.errors import EngineError, RelationshipError
from mixedgen.relationship.form import Relationship
from mixedgen.relationship.matrix import (
    cholesky,
    dense,
    family_blocks,
    family_cholesky,
    inverse_from_cholesky,
    is_positive_definite,
    is_sparse,
    named,
    row_sums,
    semidefinite_factor,
    symmetric,
    unique_labels,
)
from mixedgen.sparse import analyse
from mixedgen.sparse.contract import Factor

_COLUMNS_AT_ONCE = 256  # of unit vectors in a product, which bounds its memory
_SPARSE_FILL = 0.25  # an inverse with more entries than this share of q^2 is kept dense


def from_matrix(K: Any, ids: Iterable[Any] | None, kind: str) -> Relationship:
    """Relationship held as K; see `Relationship.from_matrix`."""
    labels, matrix = symmetric(K, ids)
    if is_sparse(matrix):
        return sparse_matrix(labels, kind, sp.csc_array(matrix))
    return _Matrix(labels, kind, matrix, cholesky(matrix, labels))


def from_inverse(Kinv: Any, ids: Iterable[Any] | None, kind: str) -> Relationship:
    """Relationship held as K^-1; see `Relationship.from_inverse`."""
    labels, matrix = symmetric(Kinv, ids)
    if is_sparse(matrix):
        return _SparseInverse(labels, kind, sp.csc_array(matrix)).checked()
    return _Inverse(labels, kind, matrix, cholesky(matrix, labels))


def from_factor(F: Any, ids: Iterable[Any] | None, kind: str) -> Relationship:
    """Relationship K = F F'; see `Relationship.from_factor`."""
    labels, matrix = named(F, ids, square=False)
    return _Factor(labels, kind, matrix)


def independent(labels: pd.Index[Any]) -> Relationship:
    """Relationship K = I."""
    eye = sp.csc_array(sp.eye_array(len(labels)))
    return _Families(labels, "identity", eye, eye, eye)


def semidefinite(K: Array, labels: pd.Index[Any], kind: str) -> Relationship:
    """Relationship of a K that is positive semi-definite by construction: by its factor where it is singular."""
    K = 0.5 * (K + K.T)
    if is_positive_definite(K):
        return from_matrix(K, labels, kind)
    return from_factor(semidefinite_factor(K), labels, kind)


def with_markers(W: Array, ids: Iterable[Any], markers: pd.Index[Any], kind: str) -> Relationship:
    """Relationship K = W W' that reports the effects of the columns of W.

    Parameters
    ----------
    W : ndarray, shape (q, m)
        Coded markers.
    ids : iterable
        Names of the rows.
    markers : Index, shape (m,)
        Names of the columns.
    kind : str
        Name of the source.

    Returns
    -------
    Relationship
        With `loadings` W.

    Examples
    --------
    >>> with_markers(np.eye(2), "ab", pd.Index(["s1", "s2"]), "markers").markers.tolist()
    ['s1', 's2']
    """
    labels, matrix = named(W, ids, square=False)
    return _Factor(labels, kind, matrix, markers)


@final
@dataclass(frozen=True, eq=False, repr=False)
class _Matrix(Relationship):
    """Dense K with its Cholesky factor."""

    K: Array
    L: Array

    @cached_property
    def inverse(self) -> Array:
        return inverse_from_cholesky(self.L)

    @cached_property
    def logdet(self) -> float:
        return 2.0 * float(np.log(np.diag(self.L)).sum())

    @cached_property
    def diagonal(self) -> Array:
        return np.diag(self.K).copy()

    def multiply(self, V: Any) -> Array:
        return np.asarray(self.K @ np.asarray(V, dtype=np.float64))

    def sample(self, rng: np.random.Generator, n: int = 1) -> Array:
        return np.asarray(self.L @ rng.standard_normal((self.size, n)))

    def _block(self, rows: Positions, columns: Positions) -> Array:
        return self.K[np.ix_(rows, columns)]


@final
@dataclass(frozen=True, eq=False, repr=False)
class _Families(Relationship):
    """Sparse K of unrelated families, with its Cholesky factor and inverse."""

    K: SparseArray
    L: SparseArray
    Kinv: SparseArray

    @property
    def inverse(self) -> SparseArray:
        return self.Kinv

    @cached_property
    def logdet(self) -> float:
        return 2.0 * float(np.log(self.L.diagonal()).sum())

    @cached_property
    def diagonal(self) -> Array:
        return np.asarray(self.K.diagonal())

    def multiply(self, V: Any) -> Array:
        return np.asarray(self.K @ np.asarray(V, dtype=np.float64))

    def sample(self, rng: np.random.Generator, n: int = 1) -> Array:
        return np.asarray(self.L @ rng.standard_normal((self.size, n)))

    def _block(self, rows: Positions, columns: Positions) -> Array:
        return np.asarray(self.K.tocsr()[rows][:, columns].toarray())


@final
@dataclass(frozen=True, eq=False, repr=False)
class _Inverse(Relationship):
    """Dense K^-1 = L L'."""

    Kinv: Array
    L: Array

    @property
    def inverse(self) -> Array:
        return self.Kinv

    @cached_property
    def logdet(self) -> float:
        return -2.0 * float(np.log(np.diag(self.L)).sum())

    @cached_property
    def _matrix(self) -> Array:
        """K itself, shape (q, q)."""
        return inverse_from_cholesky(self.L)

    @cached_property
    def diagonal(self) -> Array:
        return np.diag(self._matrix).copy()

    def multiply(self, V: Any) -> Array:
        return np.asarray(la.cho_solve((self.L, True), np.asarray(V, dtype=np.float64)))

    def sample(self, rng: np.random.Generator, n: int = 1) -> Array:
        return np.asarray(la.solve_triangular(self.L, rng.standard_normal((self.size, n)), lower=True, trans="T"))

    def _block(self, rows: Positions, columns: Positions) -> Array:
        return self._matrix[np.ix_(rows, columns)]


@final
@dataclass(frozen=True, eq=False, repr=False)
class _SparseInverse(Relationship):
    """Sparse K^-1; products with K are solves."""

    Kinv: SparseArray

    def checked(self) -> _SparseInverse:
        """Itself, if K^-1 is positive definite beyond rounding."""
        try:
            # 1 / (k_ii k^ii) is the share of level i that the others leave: rounding, in a singular matrix
            share = 1.0 / (self.diagonal * self.Kinv.diagonal())
            culprits = np.flatnonzero(~(share > self.size * np.finfo(float).eps))
        except EngineError as error:
            culprits = np.array([getattr(error, "column", 0)])
        if len(culprits):
            raise RelationshipError(
                f"The inverse of order {self.size} is not positive definite, first seen at {self.labels[culprits[0]]}. "
                "Check its signs, that it is the inverse and not the matrix itself, and that it is not singular: "
                "add w to its diagonal where it is.",
                ids=self.labels[culprits].tolist(),
            )
        return self

    @cached_property
    def _lower(self) -> SparseArray:
        """Lower triangle with its full diagonal."""
        lower = sp.csc_array(sp.tril(self.Kinv))
        lower.sum_duplicates()
        return lower

    @cached_property
    def _factor(self) -> Factor:
        """Cholesky factor of K^-1."""
        lower = self._lower
        if np.any(self.Kinv.diagonal() <= 0):
            worst = int(np.argmin(self.Kinv.diagonal()))
            raise EngineError(f"The diagonal of column {worst} is not positive.", column=worst)
        return analyse(lower.indptr, lower.indices, self.size).factor(lower.data)

    @property
    def inverse(self) -> SparseArray:
        return self.Kinv

    @cached_property
    def logdet(self) -> float:
        return -self._factor.logdet

    @cached_property
    def diagonal(self) -> Array:
        selected, _ = self._factor.selected_inverse()
        return selected[self._lower.indptr[:-1]]  # the first entry of each column is its diagonal

    def multiply(self, V: Any) -> Array:
        return self._factor.solve(np.asarray(V, dtype=np.float64))

    def sample(self, rng: np.random.Generator, n: int = 1) -> Array:
        # K^-1 = Pr' L U Pc with U = D L' where no pivot is moved; x = Pr' L sqrt(D) z has covariance K^-1, K x then K
        options = {"SymmetricMode": True, "Equil": False}
        lu = splu(self.Kinv, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
        x = lu.L @ (np.sqrt(lu.U.diagonal())[:, None] * rng.standard_normal((self.size, n)))
        return self.multiply(x[lu.perm_r])

    def _block(self, rows: Positions, columns: Positions) -> Array:
        return by_columns(self.size, self.multiply, rows, columns)


@final
@dataclass(frozen=True, eq=False, repr=False)
class _Factor(Relationship):
    """K = F F', singular or not."""

    F: SparseArray | Array
    marker_names: pd.Index[Any] | None = None

    @property
    def markers(self) -> pd.Index[Any]:
        return pd.Index([]) if self.marker_names is None else self.marker_names

    @property
    def loadings(self) -> Array | None:
        return None if self.marker_names is None else dense(self.F)

    @property
    def inverse(self) -> SparseArray | Array:
        return self._regular.inverse

    @property
    def logdet(self) -> float:
        return self._regular.logdet

    @property
    def precision(self) -> SparseArray:
        return sp.csc_array(sp.eye_array(self.basis.shape[1]))

    @property
    def logdet0(self) -> float:
        return 0.0

    @cached_property
    def basis(self) -> SparseArray | Array:
        q, r = self.F.shape
        if r <= q or sp.issparse(self.F):
            return self.F
        # K = F F' = R' R: no more than q unknowns, however many markers
        return np.ascontiguousarray(la.qr(np.asarray(self.F).T, mode="r")[0][:q].T)

    @cached_property
    def _regular(self) -> Relationship:
        """Matrix form of K, which raises where K is singular."""
        q, r = self.F.shape
        if r < q:
            raise RelationshipError(
                f"K = F F' of order {q} has rank {r} at most, so it has neither inverse nor determinant. "
                "In a model it serves as it is. For an inverse blend it, blend(K, w), or pass ridge= to genomic(); "
                "markers() and Relationship.from_factor need none.",
                rank=r,
            )
        return Relationship.from_matrix(self.F @ self.F.T, self.labels, kind=self.kind)

    @cached_property
    def diagonal(self) -> Array:
        return row_sums(self.F * self.F)

    def multiply(self, V: Any) -> Array:
        return np.asarray(self.F @ (self.F.T @ np.asarray(V, dtype=np.float64)))

    def sample(self, rng: np.random.Generator, n: int = 1) -> Array:
        return np.asarray(self.F @ rng.standard_normal((self.F.shape[1], n)))

    def submatrix(self, labels: Iterable[Any]) -> Relationship:
        kept = pd.Index(list(labels))
        rows = self._rows(self._positions(unique_labels(kept)))
        return _Factor(kept, self.kind, rows, self.marker_names)

    def _rows(self, rows: Positions) -> SparseArray | Array:
        """Positions of F."""
        return sp.csc_array(self.F.tocsr()[rows]) if sp.issparse(self.F) else self.F[rows]

    def _block(self, rows: Positions, columns: Positions) -> Array:
        return dense(self._rows(rows) @ self._rows(columns).T)


def by_columns(q: int, product: Callable[[Array], Array], rows: Positions, columns: Positions) -> Array:
    """K[rows, columns] from products of K with unit vectors, some columns at a time to bound the memory."""
    out = np.empty((len(rows), len(columns)))
    for start in range(0, len(columns), _COLUMNS_AT_ONCE):
        chosen = columns[start : start + _COLUMNS_AT_ONCE]
        E = np.zeros((q, len(chosen)))
        E[chosen, np.arange(len(chosen))] = 1.0
        out[:, start : start + len(chosen)] = product(E)[rows]
    return out


def sparse_matrix(labels: pd.Index[Any], kind: str, K: SparseArray) -> Relationship:
    """Sparse K: family by family if the families are small, else dense."""
    K.eliminate_zeros()  # a stored zero relates nobody
    _, family = connected_components(K, directed=False)
    sizes = np.bincount(family)
    if np.square(sizes.astype(np.float64)).sum() > _SPARSE_FILL * len(labels) ** 2:
        full = K.toarray()
        return _Matrix(labels, kind, full, cholesky(full, labels))
    entries: list[tuple[Positions, Positions, Array, Array]] = []
    for size in np.unique(sizes):
        members = np.argsort(family, kind="stable")[np.repeat(sizes == size, sizes)].reshape(-1, size)
        blocks = family_blocks(K, members)
        L = family_cholesky(blocks, members, labels)
        half = np.linalg.inv(L)
        rows, columns = np.repeat(members, size, axis=1).ravel(), np.tile(members, size).ravel()
        entries.append((rows, columns, L.ravel(), (half.transpose(0, 2, 1) @ half).ravel()))
    rows, columns, lower, inverse = (np.concatenate(part) for part in zip(*entries, strict=True))
    L_all = sp.csc_array((lower, (rows, columns)), shape=K.shape)
    return _Families(labels, kind, K, L_all, sp.csc_array((inverse, (rows, columns)), shape=K.shape))
