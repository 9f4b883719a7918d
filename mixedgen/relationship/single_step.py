"""The single-step relationship H of a pedigree and genotypes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp

from mixedgen.arrays import Array, Positions, SparseArray
from mixedgen.definite import definite_factor
from mixedgen.errors import ArgumentError, RelationshipError, examples, public
from mixedgen.genetics.genotypes import Genotypes
from mixedgen.genetics.ids import near_misses, positions_of
from mixedgen.genetics.pedigree import Pedigree
from mixedgen.relationship.form import Form
from mixedgen.relationship.from_pedigree import additive
from mixedgen.relationship.matrix import cholesky, inverse_from_cholesky
from mixedgen.relationship.relationship import Relationship
from mixedgen.relationship.vanraden import _ROWS_AT_ONCE, _genomic_matrix

_DENSE_PRECISION = 3000  # from so many genotyped animals their block of H^-1 is kept apart from the sparse A^-1


@public
def single_step(
    ped: Pedigree,
    M: Genotypes,
    *,
    tau: float = 1.0,
    omega: float = 1.0,
    blending: float = 0.05,
    tuning: bool = True,
) -> Relationship:
    """Relationship H of genotyped and other animals together.

    Parameters
    ----------
    ped : Pedigree
        Its ids become the levels.
    M : Genotypes
        Of members of the pedigree.
    tau, omega : float, default 1
        Weights of G^-1 and of A22^-1.
    blending : float, default 0.05
        Share of A22 in G, which makes it regular.
    tuning : bool, default True
        Whether G is then moved to the base of A22: a + b G with its mean diagonal and its mean of all entries.

    Returns
    -------
    Relationship
        H of all animals of the pedigree; `kind` states blending and tuning.

    Raises
    ------
    RelationshipError
        If genotyped animals are not in the pedigree, or G (not blended), or H is not positive definite.

    Notes
    -----
    H^-1 = A^-1 + [[0, 0], [0, tau G^-1 - omega A22^-1]] [1]_ [2]_, G of VanRaden's first method with the frequencies
    of the genotyped, blended first and tuned second [3]_ [4]_.

    References
    ----------
    .. [1] Aguilar et al. (2010) J Dairy Sci 93:743-752.
    .. [2] Christensen & Lund (2010) Genet Sel Evol 42:2.
    .. [3] VanRaden (2008) J Dairy Sci 91:4414-4423.
    .. [4] Christensen (2012) Genet Sel Evol 44:37.

    Examples
    --------
    >>> import pandas as pd
    >>> ped = Pedigree(pd.DataFrame({"id": [1, 2, 3], "sire": [0, 0, 1], "dam": [0, 0, 2]}))
    >>> M = Genotypes(np.array([[0, 1, 2], [1, 1, 0]]), ids=[2, 3])
    >>> single_step(ped, M).labels.tolist()
    [1, 2, 3]
    """
    if not 0.0 <= blending <= 1.0:
        raise ArgumentError(f"blending={blending} is a share, between 0 and 1.")
    A = additive(ped)
    genotyped = _in_pedigree(ped, M)
    A22 = A.cross(M.ids, M.ids)
    G = (1.0 - blending) * _genomic_matrix(M, 1, None, None, 0.0) + blending * A22
    kind = f"single-step, {1 - blending:g} G + {blending:g} A22"
    if tuning:
        a, b = tuning_coefficients(G, A22)
        G = a + b * G
        kind += f" tuned to {a:.6g} + {b:.6g} G"
    if definite_factor(G) is None:
        raise RelationshipError(
            f"G of the {M.n} genotyped animals is singular{'' if blending else ' without blending'}, and single-step "
            "needs its inverse. Blend it with blending=0.05, or drop animals with the same genotypes "
            "(quality_control(duplicates='animals')).",
        )
    return _single_step(A, genotyped, A22, G, tau, omega, kind)


def tuning_coefficients(G: Array, A22: Array) -> tuple[float, float]:
    """Coefficients a and b with which a + b G has the mean diagonal and the mean of all entries of A22.

    Parameters
    ----------
    G, A22 : ndarray, shape (n, n)
        Genomic and pedigree relationship of the same animals.

    Returns
    -------
    a, b : float
        Level and slope.

    Raises
    ------
    RelationshipError
        If the two means of G are equal, or b would not be positive.

    Examples
    --------
    >>> tuning_coefficients(2.0 * np.eye(2), np.eye(2))
    (0.0, 0.5)
    """
    spread = np.diag(G).mean() - G.mean()
    b = float((np.diag(A22).mean() - A22.mean()) / spread) if spread > 0 else np.nan
    if not b > 0.0:
        raise RelationshipError(
            f"G cannot be tuned to A22: the mean diagonal less the mean of all entries is {spread:.3g} in G and "
            f"{np.diag(A22).mean() - A22.mean():.3g} in A22; both must be positive. Use tuning=False.",
        )
    return float(A22.mean() - b * G.mean()), b


@final
@dataclass(frozen=True, eq=False, repr=False)
class _SingleStepForm(Form):
    """H: A with the relationship H22 of the genotyped in place of A22."""

    A: Form
    genotyped: Positions
    added: Array  # to A^-1 at the genotyped: tau G^-1 - omega A22^-1
    H22: Array
    A22_inverse: Array
    log_determinant: float

    @property
    def size(self) -> int:
        return self.A.size

    @cached_property
    def inverse(self) -> SparseArray:
        rows, columns = np.broadcast_arrays(self.genotyped[:, None], self.genotyped[None, :])
        block = (self.added.ravel(), (rows.ravel(), columns.ravel()))
        return sp.csc_array(self.A.inverse + sp.csc_array(block, shape=(self.size, self.size)))

    @property
    def precision(self) -> SparseArray | Array:
        return self.A.inverse if len(self.genotyped) > _DENSE_PRECISION else self.inverse

    @property
    def dense_blocks(self) -> tuple[tuple[Positions, Array], ...]:
        return ((self.genotyped, self.added),) if len(self.genotyped) > _DENSE_PRECISION else ()

    @property
    def logdet(self) -> float:
        return self.log_determinant

    @cached_property
    def _difference(self) -> Array:
        """C of H = A + A[:, g] C A[g, :], with A22^-1 (H22 - A22) A22^-1."""
        C = self.A22_inverse @ self.H22 @ self.A22_inverse - self.A22_inverse
        return 0.5 * (C + C.T)

    @cached_property
    def diagonal(self) -> Array:
        values, vectors = la.eigh(self._difference)
        out = np.array(self.A.diagonal)
        for start in range(0, len(values), _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            out += np.square(self.A.multiply(self._spread(vectors[:, some]))) @ values[some]
        return out

    def multiply(self, V: Any) -> Array:
        product = self.A.multiply(V)
        return np.asarray(product + self.A.multiply(self._spread(self._difference @ product[self.genotyped])))

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        u = self.A.sample(rng, n)
        genotyped = la.cholesky(self.H22, lower=True) @ rng.standard_normal((len(self.genotyped), n))
        return u + self.A.multiply(self._spread(self.A22_inverse @ (genotyped - u[self.genotyped])))

    def block(self, rows: Positions, columns: Positions) -> Array:
        left = self.A.block(rows, self.genotyped)
        right = left if np.array_equal(rows, columns) else self.A.block(columns, self.genotyped)
        return self.A.block(rows, columns) + left @ self._difference @ right.T

    def _spread(self, V: Array) -> Array:
        """Positions of the genotyped among zeros for the others."""
        out = np.zeros((self.size, *V.shape[1:]))
        out[self.genotyped] = V
        return out


def _single_step(
    A: Relationship, genotyped: Positions, A22: Array, G: Array, tau: float, omega: float, kind: str
) -> Relationship:
    """H from its parts; H22^-1 = tau G^-1 + (1 - omega) A22^-1, and |H| = |A| |H22| / |A22|."""
    labels = A.labels[genotyped]
    L, L22 = cholesky(G, labels), cholesky(A22, labels)
    G_inverse, A22_inverse = inverse_from_cholesky(L), inverse_from_cholesky(L22)
    H22_inverse = tau * G_inverse + (1.0 - omega) * A22_inverse
    if definite_factor(H22_inverse) is None:
        raise RelationshipError(
            f"H is not positive definite with tau={tau:g} and omega={omega:g}: tau G^-1 + (1 - omega) A22^-1 must be. "
            "Take omega nearer to 1, or a larger tau."
        )
    LH = la.cholesky(H22_inverse, lower=True)
    logdet = A.logdet - 2.0 * float(np.log(np.diag(LH)).sum() + np.log(np.diag(L22)).sum())
    added = tau * G_inverse - omega * A22_inverse
    if (tau, omega) != (1.0, 1.0):
        kind += f", tau {tau:g}, omega {omega:g}"
    form = _SingleStepForm(A.form, genotyped, added, inverse_from_cholesky(LH), A22_inverse, logdet)
    return Relationship(A.labels, kind, form)


def _in_pedigree(ped: Pedigree, M: Genotypes) -> Positions:
    """Positions of the genotyped animals in the pedigree."""
    found = positions_of(M.ids, ped.ids)
    absent = M.ids[found < 0]
    if len(absent):
        near = near_misses(absent, ped.ids)
        alike = "; ".join(map(str, near))
        hint = f" Some would match under another spelling ({alike}): write both alike." if near else ""
        raise RelationshipError(
            f"{len(absent)} genotyped animals are not in the pedigree: {examples(absent)}.{hint} Add them to the "
            "pedigree, or leave them out with select(ids=).",
            ids=absent.tolist(),
        )
    return found
