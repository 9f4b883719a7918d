"""Forms of K: a matrix, families, an inverse or a factor."""

from __future__ import annotations

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
from mixedgen.relationship.form import Form, by_columns
from mixedgen.relationship.matrix import (
    cholesky,
    dense,
    family_blocks,
    family_cholesky,
    inverse_from_cholesky,
    is_sparse,
    row_sums,
    semidefinite_factor,
    symmetric,
)
from mixedgen.sparse import analyse
from mixedgen.sparse.contract import CholeskyFactor

_ROUNDING = 1e-10  # negative eigenvalue, as a share of the largest, that products of double precision may leave
_SPARSE_FILL = 0.25  # an inverse with more entries than this share of q^2 is kept dense


def matrix_form(K: Any, labels: pd.Index[Any]) -> Form:
    """Form of a symmetric K, shape (q, q): dense, by families where it is sparse and they are small, else by a factor.

    Raises
    ------
    RelationshipError
        If K is indefinite beyond rounding.
    """
    try:
        return _definite_form(K, labels)
    except RelationshipError as error:
        smallest, largest = getattr(error, "smallest_eigenvalue", -np.inf), getattr(error, "largest_eigenvalue", 0.0)
        if smallest < -_ROUNDING * largest or largest <= 0.0:
            raise
        return _FactorForm(semidefinite_factor(dense(K)), labels, whole=dense(K))


def _definite_form(K: Any, labels: pd.Index[Any]) -> Form:
    """Form of a K that is positive definite beyond rounding; RelationshipError, with the eigenvalues, if it is not."""
    return _sparse_matrix(sp.csc_array(K), labels) if is_sparse(K) else _MatrixForm(K, cholesky(K, labels))


def inverse_form(Kinv: Any, labels: pd.Index[Any]) -> Form:
    """Form of a symmetric K^-1, shape (q, q)."""
    if is_sparse(Kinv):
        return _checked(_SparseInverseForm(sp.csc_array(Kinv)), labels)
    return _InverseForm(Kinv, cholesky(Kinv, labels))


def factor_form(F: SparseArray | Array, labels: pd.Index[Any]) -> Form:
    """Form of K = F F', F of shape (q, r)."""
    return _FactorForm(F, labels)


def identity_form(q: int) -> Form:
    """Form of K = I."""
    eye = sp.csc_array(sp.eye_array(q))
    return _FamiliesForm(eye, eye, eye)


@final
@dataclass(frozen=True, eq=False, repr=False)
class _MatrixForm(Form):
    """Dense K with its Cholesky factor."""

    K: Array
    L: Array

    @property
    def size(self) -> int:
        return len(self.K)

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

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        return np.asarray(self.L @ rng.standard_normal((self.size, n)))

    def block(self, rows: Positions, columns: Positions) -> Array:
        return self.K[np.ix_(rows, columns)]


@final
@dataclass(frozen=True, eq=False, repr=False)
class _FamiliesForm(Form):
    """Sparse K of unrelated families, with its Cholesky factor and inverse."""

    K: SparseArray
    L: SparseArray
    Kinv: SparseArray

    @property
    def size(self) -> int:
        return self.K.shape[0]

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

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        return np.asarray(self.L @ rng.standard_normal((self.size, n)))

    def block(self, rows: Positions, columns: Positions) -> Array:
        return np.asarray(self.K.tocsr()[rows][:, columns].toarray())


@final
@dataclass(frozen=True, eq=False, repr=False)
class _InverseForm(Form):
    """Dense K^-1 = L L'."""

    Kinv: Array
    L: Array

    @property
    def size(self) -> int:
        return len(self.Kinv)

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

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        return np.asarray(la.solve_triangular(self.L, rng.standard_normal((self.size, n)), lower=True, trans="T"))

    def block(self, rows: Positions, columns: Positions) -> Array:
        return self._matrix[np.ix_(rows, columns)]


@final
@dataclass(frozen=True, eq=False, repr=False)
class _SparseInverseForm(Form):
    """Sparse K^-1; products with K are solves."""

    Kinv: SparseArray

    @property
    def size(self) -> int:
        return self.Kinv.shape[0]

    @cached_property
    def _lower(self) -> SparseArray:
        """Lower triangle with its full diagonal."""
        lower = sp.csc_array(sp.tril(self.Kinv))
        lower.sum_duplicates()
        return lower

    @cached_property
    def _factor(self) -> CholeskyFactor:
        """Cholesky factor of K^-1."""
        lower = self._lower
        if np.any(self.Kinv.diagonal() <= 0):
            worst = int(np.argmin(self.Kinv.diagonal()))
            raise EngineError(f"the diagonal of column {worst} is not positive.", column=worst)
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

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        # K^-1 = Pr' L U Pc with U = D L' where no pivot is moved; x = Pr' L sqrt(D) z has covariance K^-1, K x then K
        options = {"SymmetricMode": True, "Equil": False}
        lu = splu(self.Kinv, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
        x = lu.L @ (np.sqrt(lu.U.diagonal())[:, None] * rng.standard_normal((self.size, n)))
        return self.multiply(x[lu.perm_r])

    def block(self, rows: Positions, columns: Positions) -> Array:
        return by_columns(self.size, self.multiply, rows, columns)


def _checked(form: _SparseInverseForm, labels: pd.Index[Any]) -> _SparseInverseForm:
    """The form, if its K^-1 is positive definite beyond rounding."""
    try:
        # 1 / (k_ii k^ii) is the share of level i that the others leave: rounding, in a singular matrix
        share = 1.0 / (form.diagonal * form.Kinv.diagonal())
        culprits = np.flatnonzero(~(share > form.size * np.finfo(float).eps))
    except EngineError as error:
        culprits = np.array([getattr(error, "column", 0)])
    if len(culprits):
        raise RelationshipError(
            f"the inverse of order {form.size} is not positive definite, first seen at {labels[culprits[0]]}. "
            "Check its signs, that it is the inverse and not the matrix itself, and that it is not singular: "
            "add w to its diagonal where it is.",
            ids=labels[culprits].tolist(),
        )
    return form


@final
@dataclass(frozen=True, eq=False, repr=False)
class _FactorForm(Form):
    """K = F F', singular or not."""

    F: SparseArray | Array
    labels: pd.Index[Any]  # of the rows, for the message where K is singular
    whole: Array | None = None  # the K that was given, for the same message

    @property
    def size(self) -> int:
        return self.F.shape[0]

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
    def _regular(self) -> Form:
        """Matrix form of K, which raises where K is singular."""
        q, r = self.F.shape
        if self.whole is not None:
            return _definite_form(self.whole, self.labels)
        if r < q:
            raise RelationshipError(
                f"K = F F' of order {q} has rank {r} at most, so it has neither inverse nor determinant. "
                "In a model it serves as it is. For an inverse blend it, blend(K, w), or pass ridge= to genomic(); "
                "markers() and Relationship.from_factor need none.",
                rank=r,
            )
        labels, K = symmetric(self.F @ self.F.T, self.labels)
        return _definite_form(K, labels)

    @cached_property
    def diagonal(self) -> Array:
        return row_sums(self.F * self.F)

    def multiply(self, V: Any) -> Array:
        return np.asarray(self.F @ (self.F.T @ np.asarray(V, dtype=np.float64)))

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        return np.asarray(self.F @ rng.standard_normal((self.F.shape[1], n)))

    def part(self, rows: Positions, labels: pd.Index[Any]) -> Form:
        return _FactorForm(self._rows(rows), labels)

    def _rows(self, rows: Positions) -> SparseArray | Array:
        """Positions of F."""
        return sp.csc_array(self.F.tocsr()[rows]) if sp.issparse(self.F) else self.F[rows]

    def block(self, rows: Positions, columns: Positions) -> Array:
        return dense(self._rows(rows) @ self._rows(columns).T)


def _sparse_matrix(K: SparseArray, labels: pd.Index[Any]) -> Form:
    """Sparse K: family by family if the families are small, else dense."""
    K.eliminate_zeros()  # a stored zero relates nobody
    _, family = connected_components(K, directed=False)
    sizes = np.bincount(family)
    if np.square(sizes.astype(np.float64)).sum() > _SPARSE_FILL * len(labels) ** 2:
        full = K.toarray()
        return _MatrixForm(full, cholesky(full, labels))
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
    return _FamiliesForm(K, L_all, sp.csc_array((inverse, (rows, columns)), shape=K.shape))
