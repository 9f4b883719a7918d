"""Relationships computed from pedigrees pair by pair, from genotypes, or from both.

p is the frequency of the allele counted, q = 1 - p, and Z the genotypes less 2p, animals by markers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, final

import numpy as np
import pandas as pd
import scipy.linalg as la
import scipy.sparse as sp
from numpy.typing import NDArray

from mixedgen.errors import ArgumentError, DataError, RelationshipError, examples
from mixedgen.genetics.genotypes import Genotypes, Scale
from mixedgen.genetics.pedigree import Pedigree
from mixedgen.relationship import RELATIONSHIPS, Relationship, additive
from mixedgen.relationship.combine import bend as bend
from mixedgen.relationship.combine import blend as blend
from mixedgen.relationship.combine import check_dense
from mixedgen.relationship.combine import correlation as correlation
from mixedgen.relationship.combine import epistatic as epistatic
from mixedgen.relationship.combine import genomic_inbreeding as genomic_inbreeding
from mixedgen.relationship.forms import semidefinite, with_markers
from mixedgen.relationship.matrix import (
    cholesky,
    inverse_from_cholesky,
    is_positive_definite,
)

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
SparseArray = sp.csc_array

_ROWS_AT_ONCE = 512
_SPARSE_SHARE = 0.1  # with fewer entries than this share of q^2, dominance is handed over as a sparse matrix
_DENSE_PRECISION = 3000  # from so many genotyped animals their block of H^-1 is kept apart from the sparse A^-1


def dominance(ped: Pedigree) -> Relationship:
    """Dominance relationship of all members of a pedigree, for non-inbred animals.

    Parameters
    ----------
    ped : Pedigree
        Of q animals with sire and dam.

    Returns
    -------
    Relationship
        D, of order q.

    Raises
    ------
    RelationshipError
        If D is not positive definite, or there are too many animals for the dense A it is made of.
    ArgumentError
        If the pedigree has maternal grandsires or metafounders.

    Notes
    -----
    d_ij = (a_ss' a_dd' + a_sd' a_ds') / 4 with i from s and d, j from s' and d', and d_ii = 1 [1]_. The formula ignores
    inbreeding, under which more than one dominance variance would be needed.

    References
    ----------
    .. [1] Cockerham (1954) Genetics 39:859-882.

    Examples
    --------
    >>> ped = Pedigree(pd.DataFrame({"id": [1, 2, 3, 4], "sire": [0, 0, 1, 1], "dam": [0, 0, 2, 2]}))
    >>> dominance(ped).cross([3], [3, 4]).tolist()
    [[1.0, 0.25]]
    """
    if ped.maternal_grandsire or ped.metafounders:
        raise ArgumentError("Dominance needs a pedigree of sires and dams, without metafounders.")
    check_dense(ped.n, "D is made of the dense A, which")
    known = np.flatnonzero((ped.sire >= 0) & (ped.dam >= 0))
    s, d = ped.sire[known], ped.dam[known]
    parents = np.unique(np.concatenate([s, d]))
    A = additive(ped).cross(ped.ids[parents], ped.ids[parents])
    s, d = np.searchsorted(parents, s), np.searchsorted(parents, d)
    blocks = [sp.csr_array((0, len(known)))]
    for start in range(0, len(known), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        of_sire, of_dam = A[s[some]], A[d[some]]
        blocks.append(sp.csr_array(0.25 * (of_sire[:, s] * of_dam[:, d] + of_sire[:, d] * of_dam[:, s])))
    among = sp.coo_array(sp.vstack(blocks))
    apart = among.row != among.col
    own = np.arange(ped.n)
    rows, columns = np.concatenate([own, known[among.row[apart]]]), np.concatenate([own, known[among.col[apart]]])
    values = np.concatenate([np.ones(ped.n), among.data[apart]])
    D = sp.csc_array((values, (rows, columns)), shape=(ped.n, ped.n))
    whole = D if D.nnz < _SPARSE_SHARE * ped.n**2 else D.toarray()
    return Relationship.from_matrix(whole, ped.ids, kind="dominance")


def genomic(
    M: Genotypes,
    *,
    method: Literal[1, 2] = 1,
    p: Any = None,
    weights: Any = None,
    ridge: float = 0.0,
) -> Relationship:
    """Genomic relationship G of VanRaden.

    Parameters
    ----------
    M : Genotypes
        Of n animals at m markers; a missing genotype counts as the mean.
    method : {1, 2}, default 1
        1: G = Z Z' / sum 2pq; 2: each marker divided by its own 2pq, G = sum_j z_j z_j' / (2 p_j q_j) / m.
    p : Series or array, shape (m,), optional
        Allele frequencies, e.g. of the base population; by default those of all genotyped animals.
    weights : array, shape (m,), optional
        Weights d of the markers, z_j z_j' entering d_j times; they are not rescaled.
    ridge : float, default 0.0
        Added to the diagonal.

    Returns
    -------
    Relationship
        G itself, held by a factor where it is singular, as it always is with frequencies of the same animals and no
        ridge. It then serves in a model as it is; only its inverse and determinant do not exist.

    Raises
    ------
    DataError
        If markers have no call, none varies, or with method 2 some do not.
    ArgumentError
        If method is not 1 or 2, or weights or ridge are negative.

    Notes
    -----
    [1]_, first and second method.

    References
    ----------
    .. [1] VanRaden (2008) J Dairy Sci 91:4414-4423.

    Examples
    --------
    >>> M = Genotypes(np.array([[0, 1], [2, 1], [1, 0]]), ids=["a", "b", "c"])
    >>> genomic(M, ridge=0.01).size
    3
    """
    if method not in (1, 2):
        raise ArgumentError(f"method is 1 or 2, VanRaden's first or second, not {method!r}.")
    if not ridge >= 0.0:
        raise ArgumentError(f"ridge={ridge} is negative.")
    return semidefinite(_genomic_matrix(M, method, p, weights, ridge), M.ids, f"genomic (VanRaden {method})")


def genomic_dominance(M: Genotypes, *, p: Any = None, ridge: float = 0.0) -> Relationship:
    """Genomic dominance relationship, orthogonal to the additive one in Hardy-Weinberg proportions.

    Parameters
    ----------
    M : Genotypes
        Whole genotypes; a missing one counts as 0, its mean.
    p : Series or array, shape (m,), optional
        Allele frequencies; by default those of all genotyped animals.
    ridge : float, default 0.0
        Added to the diagonal.

    Returns
    -------
    Relationship
        D, held by a factor where it is singular.

    Raises
    ------
    DataError
        If markers have no call, or none varies.
    ArgumentError
        If the genotypes are dosages.

    Notes
    -----
    D = W W' / sum (2pq)^2 with w = -2p^2, 2pq, -2q^2 for 0, 1, 2 copies [1]_.

    References
    ----------
    .. [1] Vitezica, Varona & Legarra (2013) Genetics 195:1223-1230.

    Examples
    --------
    >>> M = Genotypes(np.array([[0, 1], [2, 1], [1, 0]]), ids=["a", "b", "c"])
    >>> genomic_dominance(M).size
    3
    """
    if M.dosages:
        raise ArgumentError("Dominance needs whole genotypes, not dosages.")
    check_dense(M.n, "The genomic dominance matrix")
    frequencies = M.checked_frequencies(p)
    heterozygosity = 2.0 * frequencies * (1.0 - frequencies)
    D = np.zeros((M.n, M.n))
    for columns, copies in M.blocks(center=False):
        f, missing = frequencies[columns], M.missing(columns)
        W = np.where(copies == 0, -2.0 * f**2, np.where(copies == 1, 2.0 * f * (1.0 - f), -2.0 * (1.0 - f) ** 2))
        W[missing] = 0.0
        D += W @ W.T
    D /= _varying(float(np.square(heterozygosity).sum()))
    return semidefinite(_ridged(D, ridge), M.ids, "genomic dominance")


def markers(
    M: Genotypes, *, center: bool | Any = True, scale: Scale | None = None, weights: Any = None
) -> Relationship:
    """Effects of the markers as the random term: `(1|animal:M)` is SNP-BLUP, with levels the markers.

    Parameters
    ----------
    M : Genotypes
        Of n animals at m markers; a missing genotype counts as the mean.
    center : bool or array, default True
        Whether to subtract 2p of all genotyped animals, or frequencies p to use in their place. With an intercept in
        the model, centring changes neither the criterion nor contrasts of genetic values.
    scale : {"2pq", "sd"}, optional
        Divide each marker by the root of 2pq, or by its standard deviation (n - 1).
    weights : array, shape (m,), optional
        Variances of the marker effects relative to each other, as multiples of the variance component.

    Returns
    -------
    Relationship
        K = W W' between the animals, with `loadings` W and `markers`. The variance component is that of one marker's
        effect: of genetic values it is that times the mean diagonal of K.

    Raises
    ------
    DataError
        If markers have no call, or do not vary where they are scaled.

    Notes
    -----
    u = W v, Var(v) = I sigma^2, and v_hat = W' K^-1 u_hat = sigma^2 W' Z' P y [1]_.

    References
    ----------
    .. [1] Stranden & Garrick (2009) J Dairy Sci 92:2971-2975.

    Examples
    --------
    >>> M = Genotypes(np.array([[0, 1], [2, 1], [1, 0]]), ids=["a", "b", "c"], markers=["s1", "s2"])
    >>> K = markers(M)
    >>> K.markers.tolist(), K.loadings.shape
    (['s1', 's2'], (3, 2))
    """
    W = M.coded(center, scale)
    if weights is not None:
        W *= np.sqrt(_checked_weights(weights, M))
    coding = {None: "", "2pq": ", scaled by 2pq", "sd": ", scaled by their SD"}[scale]
    return with_markers(W, M.ids, M.markers, f"markers{' not centred' if center is False else ''}{coding}")


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
    if not is_positive_definite(G):
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
class _SingleStep(Relationship):
    """H: A with the relationship H22 of the genotyped in place of A22."""

    A: Relationship
    genotyped: Rows
    added: Array  # to A^-1 at the genotyped: tau G^-1 - omega A22^-1
    H22: Array
    A22_inverse: Array
    log_determinant: float

    @cached_property
    def inverse(self) -> SparseArray:
        rows, columns = np.broadcast_arrays(self.genotyped[:, None], self.genotyped[None, :])
        block = (self.added.ravel(), (rows.ravel(), columns.ravel()))
        return sp.csc_array(self.A.inverse + sp.csc_array(block, shape=(self.size, self.size)))

    @property
    def precision(self) -> SparseArray | Array:
        return self.A.inverse if len(self.genotyped) > _DENSE_PRECISION else self.inverse

    @property
    def dense_blocks(self) -> tuple[tuple[Rows, Array], ...]:
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

    def sample(self, rng: np.random.Generator, n: int = 1) -> Array:
        u = self.A.sample(rng, n)
        genotyped = la.cholesky(self.H22, lower=True) @ rng.standard_normal((len(self.genotyped), n))
        return u + self.A.multiply(self._spread(self.A22_inverse @ (genotyped - u[self.genotyped])))

    def _block(self, rows: Rows, columns: Rows) -> Array:
        left = self.A._block(rows, self.genotyped)
        right = left if np.array_equal(rows, columns) else self.A._block(columns, self.genotyped)
        return self.A._block(rows, columns) + left @ self._difference @ right.T

    def _spread(self, V: Array) -> Array:
        """Rows of the genotyped among zeros for the others."""
        out = np.zeros((self.size, *V.shape[1:]))
        out[self.genotyped] = V
        return out


def _single_step(
    A: Relationship, genotyped: Rows, A22: Array, G: Array, tau: float, omega: float, kind: str
) -> Relationship:
    """H from its parts; H22^-1 = tau G^-1 + (1 - omega) A22^-1, and |H| = |A| |H22| / |A22|."""
    labels = A.labels[genotyped]
    L, L22 = cholesky(G, labels), cholesky(A22, labels)
    G_inverse, A22_inverse = inverse_from_cholesky(L), inverse_from_cholesky(L22)
    H22_inverse = tau * G_inverse + (1.0 - omega) * A22_inverse
    if not is_positive_definite(H22_inverse):
        raise RelationshipError(
            f"H is not positive definite with tau={tau:g} and omega={omega:g}: tau G^-1 + (1 - omega) A22^-1 must be. "
            "Take omega nearer to 1, or a larger tau."
        )
    LH = la.cholesky(H22_inverse, lower=True)
    logdet = A.logdet - 2.0 * float(np.log(np.diag(LH)).sum() + np.log(np.diag(L22)).sum())
    added = tau * G_inverse - omega * A22_inverse
    if (tau, omega) != (1.0, 1.0):
        kind += f", tau {tau:g}, omega {omega:g}"
    return _SingleStep(A.labels, kind, A, genotyped, added, inverse_from_cholesky(LH), A22_inverse, logdet)


def _in_pedigree(ped: Pedigree, M: Genotypes) -> Rows:
    """Positions of the genotyped animals in the pedigree."""
    found = np.asarray(ped.ids.get_indexer(M.ids), dtype=np.int64)
    absent = M.ids[found < 0]
    if len(absent):
        written = ped.ids.astype(str).str.strip()
        alike = int(np.sum(absent.astype(str).str.strip().isin(written)))
        hint = f" {alike} of them are there in another type or with blanks: write both alike." if alike else ""
        raise RelationshipError(
            f"{len(absent)} genotyped animals are not in the pedigree: {examples(absent)}.{hint} Add them to the "
            "pedigree, or leave them out with select(ids=).",
            ids=absent.tolist(),
        )
    return found


def _genomic_matrix(M: Genotypes, method: int, p: Any, weights: Any, ridge: float) -> Array:
    """G of VanRaden's first or second method, shape (n, n)."""
    check_dense(M.n, "G")
    frequencies = M.checked_frequencies(p)
    d = None if weights is None else _checked_weights(weights, M)
    G = np.zeros((M.n, M.n))
    for columns, Z in M.blocks(True if p is None else frequencies, "2pq" if method == 2 else None):
        G += Z @ Z.T if d is None else (Z * d[columns]) @ Z.T
    _varying(float(np.trace(G)))
    G /= M.m if method == 2 else _varying(float(np.sum(2.0 * frequencies * (1.0 - frequencies))))
    return _ridged(G, ridge)


def _checked_weights(weights: Any, M: Genotypes) -> Array:
    """Weights of the markers, one each, not negative."""
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (M.m,) or not np.all(values >= 0.0):
        raise ArgumentError(f"weights are {M.m} numbers, one per marker and none negative or missing.")
    return values


def _varying(total: float) -> float:
    """Sum of the variances of the markers, if any varies."""
    if not total > 0.0:
        raise DataError("No marker varies among the animals, or by the frequencies given. Check the genotypes.")
    return total


def _ridged(K: Array, ridge: float) -> Array:
    """K with the ridge on its diagonal."""
    K.flat[:: len(K) + 1] += ridge
    return K


def _example_pedigree() -> Pedigree:
    """Two founders, their litter, and half-sibs."""
    return Pedigree(pd.DataFrame({"id": [1, 2, 3, 4, 5, 6], "sire": [0, 0, 1, 1, 0, 5], "dam": [0, 0, 2, 2, 0, 2]}))


def _example_genotypes() -> Genotypes:
    """Four animals of that pedigree at five markers, one call missing."""
    copies = np.array([[0, 1, 2, 1, 0], [1, 1, 0, 2, 0], [2, -9, 1, 1, 1], [0, 2, 1, 1, 2]])
    return Genotypes(copies, ids=[2, 3, 4, 6], markers=[f"s{k}" for k in range(5)])


def _example_metafounders() -> Pedigree:
    """Three animals from two related metafounders."""
    frame = pd.DataFrame({"id": [1, 2, 3], "sire": ["M1", "M1", 1], "dam": ["M1", "M2", 2]})
    return Pedigree(frame, metafounders=pd.DataFrame([[0.6, 0.2], [0.2, 0.8]], ["M1", "M2"], ["M1", "M2"]))


_NEW: dict[str, Callable[[], Relationship]] = {
    "additive with groups": lambda: additive(
        Pedigree(pd.DataFrame({"id": [1, 2, 3], "sire": ["G1", "G1", 1], "dam": ["G2", "G1", 2]}), groups=["G1", "G2"])
    ),
    "additive with metafounders": lambda: additive(_example_metafounders()),
    "sire and maternal grandsire": lambda: additive(
        Pedigree(pd.DataFrame({"id": [1, 2, 3, 4], "sire": [0, 1, 1, 3], "mgs": [0, 0, 2, 1]}), mgs="mgs")
    ),
    "additive with selfing": lambda: additive(
        Pedigree(
            pd.DataFrame({"id": [1, 2, 3], "sire": [0, 0, 1], "dam": [0, 0, 2], "selfed": [5, 0, 2]}), selfing="selfed"
        )
    ),
    "dominance": lambda: dominance(_example_pedigree()),
    "genomic": lambda: genomic(_example_genotypes()),
    "genomic with ridge": lambda: genomic(_example_genotypes(), method=2, ridge=0.01),
    "genomic dominance": lambda: genomic_dominance(_example_genotypes(), ridge=0.01),
    "epistatic": lambda: epistatic(additive(_example_pedigree()), dominance(_example_pedigree())),
    "markers": lambda: markers(_example_genotypes(), scale="sd"),
    "single-step": lambda: single_step(_example_pedigree(), _example_genotypes(), tau=1.1, omega=0.9),
}
RELATIONSHIPS.update(_NEW)  # the laws in the tests run over all of them
