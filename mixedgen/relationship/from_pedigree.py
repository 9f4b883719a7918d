"""Relationships that need no matrix: those of a pedigree, and none at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import pandas as pd
import scipy.linalg as la
import scipy.sparse as sp

from mixedgen.arrays import Array, Positions, SparseArray
from mixedgen.errors import public
from mixedgen.genetics.pedigree import (
    GeneFlow,
    Pedigree,
    ancestors,
    diagonal,
    inverse_relationship,
    log_determinant,
    mendelian_covariance,
    mendelian_variances,
)
from mixedgen.relationship.form import Form, by_columns
from mixedgen.relationship.forms import identity_form
from mixedgen.relationship.relationship import Relationship

_LARGEST_FACTOR = 20_000  # animals of a singular A: its dense factor then takes 3 GB


@public
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
        With the sparse inverse of Henderson and Quaas; where both parents of an animal are completely inbred, A is
        singular and serves a model by its factor, which its `kind` says.

    Notes
    -----
    A = T D T' [1]_, A^-1 = (I - P)' D^-1 (I - P) [2]_ [3]_. Where d_i = 0 the factor is the other columns of T D^1/2.

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
    shares = ped.Q if ped.groups else None
    form = _PedigreeForm(ped, inbreeding)
    kind = "additive" if form.determined == 0 else f"additive, singular: {form.determined} determined by their parents"
    return Relationship(ped.ids, kind, form, group_names=ped.groups, group_shares=shares)


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
    labels = pd.Index(list(ids))
    return Relationship(labels, "identity", identity_form(len(labels)))


@final
@dataclass(frozen=True, eq=False, repr=False)
class _PedigreeForm(Form):
    """A of a pedigree: T D T'."""

    pedigree: Pedigree
    inbreeding: bool

    @property
    def size(self) -> int:
        return self.pedigree.n

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

    @property
    def determined(self) -> int:
        """Number of animals without a Mendelian term of their own, which make A singular."""
        return int(np.sum(self._mendelian <= 0))

    @cached_property
    def basis(self) -> Array | None:
        """Factor of a singular A, shape (q, q - determined), up to a size that can be held dense."""
        if self.determined == 0 or self.size > _LARGEST_FACTOR:
            return None
        D, g = self._mendelian, self.pedigree.metafounders
        terms = np.diag(np.sqrt(np.maximum(D, 0.0)))
        if g:
            terms[:g, :g] = la.cholesky(self.pedigree.Gamma, lower=True)
        return np.ascontiguousarray(self._gene_flow.down(terms[:, D > 0]))

    @property
    def precision(self) -> SparseArray:
        return self.inverse if self.basis is None else sp.csc_array(sp.eye_array(self.basis.shape[1]))

    @property
    def logdet0(self) -> float:
        return self.logdet if self.basis is None else 0.0

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

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        z, g = rng.standard_normal((self.size, n)), self.pedigree.metafounders
        terms = np.sqrt(np.maximum(self._mendelian, 0.0))[:, None] * z
        if g:
            terms[:g] = la.cholesky(self.pedigree.Gamma, lower=True) @ z[:g]
        return self._gene_flow.down(terms)

    def block(self, rows: Positions, columns: Positions) -> Array:
        founders = np.arange(self.pedigree.metafounders)
        kept = ancestors(self.pedigree, np.concatenate([founders, rows, columns]))
        flow, D = GeneFlow(self.pedigree, kept), self._mendelian[kept]
        rows, columns = np.searchsorted(kept, rows), np.searchsorted(kept, columns)
        return by_columns(
            len(kept), lambda E: flow.down(mendelian_covariance(self.pedigree, D, flow.up(E))), rows, columns
        )
