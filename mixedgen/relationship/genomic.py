"""Relationships computed from pedigrees pair by pair, from genotypes, or from both.

p is the frequency of the allele counted, q = 1 - p, and Z the genotypes less 2p, animals by markers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd

from mixedgen.errors import ArgumentError
from mixedgen.genetics.genotypes import Genotypes, Scale
from mixedgen.genetics.pedigree import Pedigree
from mixedgen.relationship import RELATIONSHIPS
from mixedgen.relationship.combine import check_dense, epistatic
from mixedgen.relationship.dominance import dominance
from mixedgen.relationship.form import Relationship
from mixedgen.relationship.forms import semidefinite, with_markers
from mixedgen.relationship.from_pedigree import additive
from mixedgen.relationship.single_step import single_step
from mixedgen.relationship.vanraden import _checked_weights, _genomic_matrix, _ridged, _varying


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
