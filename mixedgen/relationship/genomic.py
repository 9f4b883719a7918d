"""Relationships computed from genotypes.

p is the frequency of the allele counted, q = 1 - p, and Z the genotypes less 2p, animals by markers.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from mixedgen.errors import ArgumentError, public
from mixedgen.genetics.genotypes import Genotypes, Scale
from mixedgen.relationship.combine import check_dense
from mixedgen.relationship.forms import factor_form
from mixedgen.relationship.matrix import named
from mixedgen.relationship.relationship import Relationship, semidefinite
from mixedgen.relationship.vanraden import _checked_weights, _genomic_matrix, _ridged, _varying


@public
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


@public
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
        raise ArgumentError("dominance needs whole genotypes, not dosages.")
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


@public
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
    d = np.ones(M.m) if weights is None else _checked_weights(weights, M)
    if weights is not None:
        W *= np.sqrt(d)
    p = M.checked_frequencies(None if isinstance(center, bool) else center)
    unit = float(np.sum(2.0 * p * (1.0 - p) * d)) if scale is None else float(np.sum(d))
    coding = {None: "", "2pq": ", scaled by 2pq", "sd": ", scaled by their SD"}[scale]
    labels, W = named(W, M.ids, square=False)
    kind = f"markers{' not centred' if center is False else ''}{coding}"
    return Relationship(labels, kind, factor_form(W, labels), W, M.markers, unit=unit)
