"""A relationship: how the levels of a random effect are related, Var(u) = Sigma (x) K."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mixedgen.arrays import Array, Positions, SparseArray
from mixedgen.definite import definite_factor
from mixedgen.errors import RelationshipError, examples, public_class
from mixedgen.genetics.ids import positions_of
from mixedgen.relationship.form import Form
from mixedgen.relationship.forms import factor_form, inverse_form, matrix_form
from mixedgen.relationship.matrix import named, semidefinite_factor, symmetric, unique_labels


@public_class
@final
@dataclass(frozen=True, eq=False, repr=False)
class Relationship:
    """Known covariance matrix K between the levels of a random effect, up to the scale Sigma.

    Parameters
    ----------
    labels : Index, shape (q,)
        The levels, unique, in the order of the rows of K.
    kind : str
        Where K comes from, for messages and reports.
    form : Form
        K itself, held in whatever form its source makes cheap.
    loadings : ndarray, shape (q, m), optional
        Coded markers W with K = W W', where the effects reported are those of the markers.
    markers : Index, shape (m,)
        Names of the columns of `loadings`; empty without.
    group_names : tuple of str
        Unknown-parent groups, whose effects enter the model as columns Z Q of X; empty without.
    group_shares : sparse array, shape (q, groups), optional
        Shares of the groups in the levels.
    unit : float, default 1.0
        Diagonal of K that stands for no inbreeding: that of A is 1.

    Raises
    ------
    RelationshipError
        If labels are missing, repeat or are not one for each row of K.

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
    form: Form
    loadings: Array | None = None
    markers: pd.Index[Any] = field(default_factory=lambda: pd.Index([]))
    group_names: tuple[str, ...] = ()
    group_shares: sp.csr_array | None = None
    unit: float = 1.0

    def __post_init__(self) -> None:
        """Check the labels."""
        if len(unique_labels(self.labels)) != self.form.size:
            raise RelationshipError(
                f"{len(self.labels)} labels do not name the {self.form.size} rows of K ({self.kind}). Name each."
            )

    @staticmethod
    def from_matrix(K: Any, ids: Iterable[Any] | None = None, *, kind: str = "matrix") -> Relationship:
        """Relationship held as the matrix K itself.

        Parameters
        ----------
        K : array, sparse array or DataFrame, shape (q, q)
            Symmetric, positive semi-definite. A sparse K of small blocks keeps a sparse inverse; a singular one is held
            by a factor, which the `kind` says: it serves in a model, but has neither inverse nor determinant.
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
            If K is not square, finite, symmetric and positive semi-definite to rounding, or ids repeat or do not match
            it.

        Examples
        --------
        >>> Relationship.from_matrix(np.diag([1.0, 4.0]), [1, 2]).logdet
        1.3862943611198906
        """
        labels, matrix = symmetric(K, ids)
        form = matrix_form(matrix, labels)
        rank = len(labels) if form.basis is None else form.basis.shape[1]
        return Relationship(labels, kind if rank == len(labels) else f"{kind}, singular, of rank {rank}", form)

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
        return Relationship(labels, kind, inverse_form(matrix, labels))

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
        return Relationship(labels, kind, factor_form(matrix, labels))

    @property
    def size(self) -> int:
        """Number of levels, q."""
        return len(self.labels)

    @property
    def inverse(self) -> SparseArray | Array:
        """Inverse of K, shape (q, q); RelationshipError if K is singular."""
        return self.form.inverse

    @property
    def logdet(self) -> float:
        """Logarithm of the determinant of K; RelationshipError if K is singular."""
        return self.form.logdet

    @property
    def diagonal(self) -> Array:
        """Diagonal of K, shape (q,)."""
        return self.form.diagonal

    @property
    def inbreeding(self) -> Array:
        """Diagonal of K on the scale of A, less 1, shape (q,)."""
        return self.diagonal / self.unit - 1.0

    @property
    def basis(self) -> SparseArray | Array | None:
        """Factor F of K = F K0 F', shape (q, r); None for the identity."""
        return self.form.basis

    @property
    def precision(self) -> SparseArray | Array:
        """Inverse of K0, shape (r, r)."""
        return self.form.precision

    @property
    def logdet0(self) -> float:
        """Logarithm of the determinant of K0."""
        return self.form.logdet0

    @property
    def dense_blocks(self) -> tuple[tuple[Positions, Array], ...]:
        """Dense parts of `precision`, to be added to it: positions and values of each."""
        return self.form.dense_blocks

    @property
    def Q(self) -> sp.csr_array:
        """Shares of the groups in the levels, shape (q, groups)."""
        return sp.csr_array((self.size, 0)) if self.group_shares is None else self.group_shares

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
        return self.form.multiply(V)

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
        return self.form.sample(rng, n)

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
        return self.form.block(self._positions(new), self._positions(old))

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
        kept = unique_labels(pd.Index(list(labels)))
        rows = self._positions(kept)
        form = self.form.part(rows, kept)
        if form is None:
            return Relationship.from_matrix(self.form.block(rows, rows), kept, kind=self.kind)
        W = None if self.loadings is None else self.loadings[rows]
        return Relationship(kept, self.kind, form, W, self.markers, unit=self.unit)

    def _positions(self, labels: Iterable[Any]) -> Positions:
        """Positions of the labels in K."""
        wanted = pd.Index(list(labels))
        found = positions_of(wanted, self.labels)
        unknown = wanted[found < 0]
        if len(unknown):
            raise RelationshipError(
                f"{len(unknown)} labels are not in the relationship ({self.kind}): {examples(unknown)}. "
                "Check their type and spelling, or build the relationship with them.",
                labels=unknown.tolist(),
            )
        return found

    def __repr__(self) -> str:
        """One line: where K comes from and its order."""
        return f"Relationship ({self.kind}) of {self.size} levels"


def semidefinite(K: Array, labels: pd.Index[Any], kind: str) -> Relationship:
    """Relationship of a K that is positive semi-definite by construction: by its factor where it is singular."""
    K = 0.5 * (K + K.T)
    if definite_factor(K) is not None:
        return Relationship.from_matrix(K, labels, kind=kind)
    return Relationship.from_factor(semidefinite_factor(K), labels, kind=kind)
