"""Relationships: how the levels of a random effect are related, Var(u) = Sigma (x) K.

Each final class holds K in one form: a pedigree, a matrix, an inverse or a factor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, final

import numpy as np
import pandas as pd
import scipy.linalg as la
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from mixedgen.covariance import (
    cholesky,
    dense,
    family_blocks,
    family_cholesky,
    inverse_from_cholesky,
    is_sparse,
    named,
    row_sums,
    symmetric,
    unique_labels,
)
from mixedgen.errors import EngineError, RelationshipError, examples
from mixedgen.pedigree import (
    GeneFlow,
    Pedigree,
    ancestors,
    diagonal,
    inverse_relationship,
    log_determinant,
    mendelian_covariance,
    mendelian_variances,
)
from mixedgen.sparse import Factor, analyse

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
SparseArray = sp.csc_array

_COLUMNS_AT_ONCE = 256  # of unit vectors in a product, which bounds its memory
_SPARSE_FILL = 0.25  # an inverse with more entries than this share of q^2 is kept dense


@dataclass(frozen=True, eq=False)
class Relationship(ABC):
    """Known covariance matrix K between the levels of a random effect, up to the scale Sigma.

    Attributes
    ----------
    labels : Index, shape (q,)
        The levels, unique, in the order of the rows of K.
    kind : str
        Where K comes from, for messages and reports.

    Notes
    -----
    The equations use K = F K0 F' with `basis` F (None for the identity), `precision` K0^-1 and `logdet0` log|K0|.

    Examples
    --------
    >>> K = Relationship.from_matrix(np.array([[1.0, 0.5], [0.5, 1.0]]), ["a", "b"])
    >>> K.multiply(np.array([1.0, 0.0])).tolist()
    [1.0, 0.5]
    """

    labels: pd.Index[Any]
    kind: str

    @staticmethod
    def from_matrix(K: Any, ids: Iterable[Any] | None = None, *, kind: str = "matrix") -> Relationship:
        """Relationship held as the matrix K itself.

        Parameters
        ----------
        K : array, sparse array or DataFrame, shape (q, q)
            Symmetric, positive definite. A sparse K of small blocks keeps a sparse inverse.
        ids : iterable, optional
            Names of the rows; taken from the index of a frame.
        kind : str, default "matrix"
            Name of the source.

        Returns
        -------
        Relationship
            With q levels.

        Raises
        ------
        RelationshipError
            If K is not square, finite, symmetric and positive definite, or ids repeat or do not match it.

        Examples
        --------
        >>> Relationship.from_matrix(np.diag([1.0, 4.0]), [1, 2]).logdet
        1.3862943611198906
        """
        labels, matrix = symmetric(K, ids)
        if is_sparse(matrix):
            return _sparse_matrix(labels, kind, sp.csc_array(matrix))
        return _Matrix(labels, kind, matrix, cholesky(matrix, labels))

    @staticmethod
    def from_inverse(Kinv: Any, ids: Iterable[Any] | None = None, *, kind: str = "inverse") -> Relationship:
        """Relationship held as the inverse of K.

        Parameters
        ----------
        Kinv : array, sparse array or DataFrame, shape (q, q)
            Symmetric, positive definite.
        ids : iterable, optional
            Names of the rows; taken from the index of a frame.
        kind : str, default "inverse"
            Name of the source.

        Returns
        -------
        Relationship
            With q levels.

        Raises
        ------
        RelationshipError
            If the inverse is not square, finite, symmetric and positive definite, or ids repeat or do not match it.

        Examples
        --------
        >>> Relationship.from_inverse(np.diag([1.0, 0.25]), [1, 2]).diagonal.tolist()
        [1.0, 4.0]
        """
        labels, matrix = symmetric(Kinv, ids)
        if is_sparse(matrix):
            return _SparseInverse(labels, kind, sp.csc_array(matrix)).checked()
        return _Inverse(labels, kind, matrix, cholesky(matrix, labels))

    @staticmethod
    def from_factor(F: Any, ids: Iterable[Any] | None = None, *, kind: str = "factor") -> Relationship:
        """Relationship K = F F', which may be singular.

        Parameters
        ----------
        F : array, sparse array or DataFrame, shape (q, r)
            Any factor of K; r may be less or more than q.
        ids : iterable, optional
            Names of the rows; taken from the index of a frame.
        kind : str, default "factor"
            Name of the source.

        Returns
        -------
        Relationship
            With q levels.

        Raises
        ------
        RelationshipError
            If F is not finite, or ids repeat or do not match it.

        Examples
        --------
        >>> K = Relationship.from_factor(np.array([[1.0], [2.0]]), ["a", "b"])
        >>> K.diagonal.tolist()
        [1.0, 4.0]
        """
        labels, matrix = named(F, ids, square=False)
        return _Factor(labels, kind, matrix)

    @property
    def size(self) -> int:
        """Number of levels, q."""
        return len(self.labels)

    @property
    @abstractmethod
    def inverse(self) -> SparseArray | Array:
        """Inverse of K, shape (q, q); RelationshipError if K is singular."""

    @property
    @abstractmethod
    def logdet(self) -> float:
        """Logarithm of the determinant of K; RelationshipError if K is singular."""

    @property
    @abstractmethod
    def diagonal(self) -> Array:
        """Diagonal of K, shape (q,)."""

    @abstractmethod
    def multiply(self, V: Any) -> Array:
        """Product K V.

        Parameters
        ----------
        V : array, shape (q,) or (q, m)
            One row per level.

        Returns
        -------
        ndarray, shape of V
            K V.
        """

    @abstractmethod
    def sample(self, rng: np.random.Generator, n: int = 1) -> Array:
        """Draws from N(0, K).

        Parameters
        ----------
        rng : Generator
            Source of random numbers.
        n : int, default 1
            Number of draws.

        Returns
        -------
        ndarray, shape (q, n)
            One draw per column.
        """

    @property
    def basis(self) -> SparseArray | Array | None:
        """Factor F of K = F K0 F', shape (q, r); None for the identity."""
        return None

    @property
    def precision(self) -> SparseArray | Array:
        """Inverse of K0, shape (r, r)."""
        return self.inverse

    @property
    def logdet0(self) -> float:
        """Logarithm of the determinant of K0."""
        return self.logdet

    @property
    def dense_blocks(self) -> tuple[tuple[Rows, Array], ...]:
        """Dense parts of `precision`, to be added to it: positions and values of each."""
        return ()

    @property
    def loadings(self) -> Array | None:
        """Coded markers W with K = W W', shape (q, m), where the effects reported are those of the markers."""
        return None

    @property
    def markers(self) -> pd.Index[Any]:
        """Names of the columns of `loadings`."""
        return pd.Index([])

    @property
    def group_names(self) -> tuple[str, ...]:
        """Unknown-parent groups, whose effects enter the model as columns Z Q of X."""
        return ()

    @property
    def Q(self) -> sp.csr_array:
        """Shares of the groups in the levels, shape (q, groups)."""
        return sp.csr_array((self.size, 0))

    def cross(self, new: Iterable[Any], old: Iterable[Any]) -> Array:
        """Block of K between two sets of levels.

        Parameters
        ----------
        new, old : iterable
            Labels of rows and columns.

        Returns
        -------
        ndarray, shape (len(new), len(old))
            K[new, old].

        Raises
        ------
        RelationshipError
            If a label is not among the levels.
        """
        return self._block(self._positions(new), self._positions(old))

    def submatrix(self, labels: Iterable[Any]) -> Relationship:
        """Relationship among some of the levels only.

        Parameters
        ----------
        labels : iterable
            Levels to keep, in the order wanted.

        Returns
        -------
        Relationship
            Its K is `cross(labels, labels)`.

        Raises
        ------
        RelationshipError
            If a label is not among the levels, or is repeated.
        """
        kept = pd.Index(list(labels))
        return Relationship.from_matrix(self.cross(kept, kept), kept, kind=self.kind)

    def _positions(self, labels: Iterable[Any]) -> Rows:
        """Rows of the labels in K."""
        wanted = pd.Index(list(labels))
        found = np.asarray(self.labels.get_indexer(wanted), dtype=np.int64)
        unknown = wanted[found < 0]
        if len(unknown):
            raise RelationshipError(
                f"{len(unknown)} labels are not in the relationship ({self.kind}): {examples(unknown)}. "
                "Check their type and spelling, or build the relationship with them.",
                labels=unknown.tolist(),
            )
        return found

    @abstractmethod
    def _block(self, rows: Rows, columns: Rows) -> Array:
        """K[rows, columns], dense."""

    def __getstate__(self) -> dict[str, Any]:
        """Only what defines the relationship: cached factors are neither copied nor pickled."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the fields past the frozen dataclass."""
        self.__dict__.update(state)


def additive(ped: Pedigree, *, inbreeding: bool = True) -> Relationship:
    """Additive relationship of all members of a pedigree, without forming A.

    Parameters
    ----------
    ped : Pedigree
        Its ids become the levels.
    inbreeding : bool, default True
        Whether the Mendelian variances allow for the inbreeding of the parents; without, A^-1 is that of Henderson's
        rules for non-inbred parents.

    Returns
    -------
    Relationship
        With the sparse inverse of Henderson and Quaas.

    Notes
    -----
    A = T D T' [1]_, A^-1 = (I - P)' D^-1 (I - P) [2]_ [3]_.

    References
    ----------
    .. [1] Colleau (2002) Genet Sel Evol 34:409-421.
    .. [2] Henderson (1976) Biometrics 32:69-83.
    .. [3] Quaas (1976) Biometrics 32:949-953.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": [1, 2, 3], "sire": [0, 0, 1], "dam": [0, 0, 2]})
    >>> additive(Pedigree(frame)).cross([3], [1, 2]).tolist()
    [[0.5, 0.5]]
    """
    return _Additive(ped.ids, "additive", ped, inbreeding)


def identity(ids: Iterable[Any]) -> Relationship:
    """Unrelated levels, K = I.

    Parameters
    ----------
    ids : iterable
        The levels.

    Returns
    -------
    Relationship
        With the sparse identity as its inverse.

    Raises
    ------
    RelationshipError
        If ids repeat or are missing.

    Examples
    --------
    >>> identity(["a", "b"]).logdet
    0.0
    """
    labels = unique_labels(pd.Index(list(ids)))
    eye = sp.csc_array(sp.eye_array(len(labels)))
    return _Blocks(labels, "identity", eye, eye, eye)


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
@dataclass(frozen=True, eq=False)
class _Additive(Relationship):
    """A of a pedigree: T D T'."""

    pedigree: Pedigree
    inbreeding: bool

    @cached_property
    def inverse(self) -> SparseArray:
        return inverse_relationship(self.pedigree, self.inbreeding)

    @cached_property
    def logdet(self) -> float:
        return log_determinant(self.pedigree, self.inbreeding)

    @cached_property
    def _mendelian(self) -> Array:
        """D, shape (q,)."""
        return mendelian_variances(self.pedigree, self.inbreeding)

    @cached_property
    def _gene_flow(self) -> GeneFlow:
        """Products with T."""
        return GeneFlow(self.pedigree)

    @cached_property
    def diagonal(self) -> Array:
        return diagonal(self.pedigree, self.inbreeding)

    def multiply(self, V: Any) -> Array:
        up = self._gene_flow.up(np.asarray(V, dtype=np.float64))
        return self._gene_flow.down(mendelian_covariance(self.pedigree, self._mendelian, up))

    def sample(self, rng: np.random.Generator, n: int = 1) -> Array:
        z, g = rng.standard_normal((self.size, n)), self.pedigree.metafounders
        terms = np.sqrt(self._mendelian)[:, None] * z
        if g:
            terms[:g] = la.cholesky(self.pedigree.Gamma, lower=True) @ z[:g]
        return self._gene_flow.down(terms)

    def _block(self, rows: Rows, columns: Rows) -> Array:
        founders = np.arange(self.pedigree.metafounders)
        kept = ancestors(self.pedigree, np.concatenate([founders, rows, columns]))
        flow, D = GeneFlow(self.pedigree, kept), self._mendelian[kept]
        rows, columns = np.searchsorted(kept, rows), np.searchsorted(kept, columns)
        return _by_columns(
            len(kept), lambda E: flow.down(mendelian_covariance(self.pedigree, D, flow.up(E))), rows, columns
        )

    @property
    def group_names(self) -> tuple[str, ...]:
        return self.pedigree.groups

    @property
    def Q(self) -> sp.csr_array:
        return self.pedigree.Q


@final
@dataclass(frozen=True, eq=False)
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

    def _block(self, rows: Rows, columns: Rows) -> Array:
        return self.K[np.ix_(rows, columns)]


@final
@dataclass(frozen=True, eq=False)
class _Blocks(Relationship):
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

    def _block(self, rows: Rows, columns: Rows) -> Array:
        return np.asarray(self.K.tocsr()[rows][:, columns].toarray())


@final
@dataclass(frozen=True, eq=False)
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

    def _block(self, rows: Rows, columns: Rows) -> Array:
        return self._matrix[np.ix_(rows, columns)]


@final
@dataclass(frozen=True, eq=False)
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

    def _block(self, rows: Rows, columns: Rows) -> Array:
        return _by_columns(self.size, self.multiply, rows, columns)


@final
@dataclass(frozen=True, eq=False)
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

    def _rows(self, rows: Rows) -> SparseArray | Array:
        """Rows of F."""
        return sp.csc_array(self.F.tocsr()[rows]) if sp.issparse(self.F) else self.F[rows]

    def _block(self, rows: Rows, columns: Rows) -> Array:
        return dense(self._rows(rows) @ self._rows(columns).T)


def _by_columns(q: int, product: Callable[[Array], Array], rows: Rows, columns: Rows) -> Array:
    """K[rows, columns] from products of K with unit vectors, some columns at a time to bound the memory."""
    out = np.empty((len(rows), len(columns)))
    for start in range(0, len(columns), _COLUMNS_AT_ONCE):
        chosen = columns[start : start + _COLUMNS_AT_ONCE]
        E = np.zeros((q, len(chosen)))
        E[chosen, np.arange(len(chosen))] = 1.0
        out[:, start : start + len(chosen)] = product(E)[rows]
    return out


def _sparse_matrix(labels: pd.Index[Any], kind: str, K: SparseArray) -> Relationship:
    """Sparse K: family by family if the families are small, else dense."""
    K.eliminate_zeros()  # a stored zero relates nobody
    _, family = connected_components(K, directed=False)
    sizes = np.bincount(family)
    if np.square(sizes.astype(np.float64)).sum() > _SPARSE_FILL * len(labels) ** 2:
        full = K.toarray()
        return _Matrix(labels, kind, full, cholesky(full, labels))
    entries: list[tuple[Rows, Rows, Array, Array]] = []
    for size in np.unique(sizes):
        members = np.argsort(family, kind="stable")[np.repeat(sizes == size, sizes)].reshape(-1, size)
        blocks = family_blocks(K, members)
        L = family_cholesky(blocks, members, labels)
        half = np.linalg.inv(L)
        rows, columns = np.repeat(members, size, axis=1).ravel(), np.tile(members, size).ravel()
        entries.append((rows, columns, L.ravel(), (half.transpose(0, 2, 1) @ half).ravel()))
    rows, columns, lower, inverse = (np.concatenate(part) for part in zip(*entries, strict=True))
    L_all = sp.csc_array((lower, (rows, columns)), shape=K.shape)
    return _Blocks(labels, kind, K, L_all, sp.csc_array((inverse, (rows, columns)), shape=K.shape))


def _example_pedigree() -> Pedigree:
    """Two founders, their litter, and an inbred animal."""
    return Pedigree(pd.DataFrame({"id": [1, 2, 3, 4, 5], "sire": [0, 0, 1, 1, 3], "dam": [0, 0, 2, 2, 4]}))


def _example_matrix() -> Array:
    """Correlations falling with distance, of order 4."""
    distance = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    return np.asarray(0.5**distance)


# one small example of every kind; the laws in the tests run over all of them
RELATIONSHIPS: dict[str, Callable[[], Relationship]] = {
    "additive": lambda: additive(_example_pedigree()),
    "additive without inbreeding": lambda: additive(_example_pedigree(), inbreeding=False),
    "identity": lambda: identity("abc"),
    "matrix": lambda: Relationship.from_matrix(_example_matrix(), "abcd"),
    "sparse matrix": lambda: Relationship.from_matrix(
        sp.block_diag([_example_matrix(), [[2.0]], _example_matrix(), [[1.0]], np.eye(8)]), range(18)
    ),
    "inverse": lambda: Relationship.from_inverse(np.linalg.inv(_example_matrix()), "abcd"),
    "sparse inverse": lambda: Relationship.from_inverse(inverse_relationship(_example_pedigree()), range(5)),
    "factor": lambda: Relationship.from_factor(np.array([[1.0, 0.0], [0.5, 0.5], [1.5, -1.0]]), "abc"),
    "wide factor": lambda: Relationship.from_factor(np.vander(np.arange(1.0, 6.0) / 5.0, 3).T, "abc"),
    "sparse factor": lambda: Relationship.from_factor(sp.csc_array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), "abc"),
}
