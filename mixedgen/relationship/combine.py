"""Relationships made of others: products, mixtures, bent matrices, correlations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.linalg as la

from mixedgen.arrays import Array
from mixedgen.errors import ArgumentError, RelationshipError, examples, public
from mixedgen.relationship.matrix import dense, symmetric
from mixedgen.relationship.relationship import Relationship, semidefinite

DENSE_LEVELS = 40_000  # a dense matrix of more levels takes over 12.8 GB


@public
def epistatic(
    first: Relationship, second: Relationship, *, scale: Literal["diagonal"] | None = "diagonal"
) -> Relationship:
    """Epistatic relationship, the product entry by entry of two relationships: A with A, A with D, D with D.

    Parameters
    ----------
    first, second : Relationship
        Of the same levels, in any order.
    scale : {"diagonal"}, optional
        "diagonal", the default, divides by the mean of the diagonal, so that it becomes 1; None leaves the product.

    Returns
    -------
    Relationship
        In the order of the levels of `first`.

    Raises
    ------
    RelationshipError
        If the levels differ, or are too many for a dense matrix.

    Notes
    -----
    K = (K1 o K2) / mean diag(K1 o K2) [1]_ [2]_.

    References
    ----------
    .. [1] Cockerham (1954) Genetics 39:859-882.
    .. [2] Vitezica, Legarra, Toro & Varona (2017) Genetics 206:1297-1307.

    Examples
    --------
    >>> K = Relationship.from_matrix(np.array([[1.0, 0.5], [0.5, 1.0]]), ["a", "b"])
    >>> epistatic(K, K).cross(["a"], ["b"]).tolist()
    [[0.25]]
    """
    if scale not in ("diagonal", None):
        raise ArgumentError(f"scale is 'diagonal' or None, not {scale!r}.")
    check_dense(first.size, "An epistatic relationship")
    alone = first.labels.symmetric_difference(second.labels, sort=False)
    if len(alone):
        raise RelationshipError(
            f"{len(alone)} levels are in one of the two relationships only: {examples(alone)}. "
            "Take submatrix(labels) of both for the same labels.",
            labels=alone.tolist(),
        )
    K = first.cross(first.labels, first.labels) * second.cross(first.labels, first.labels)
    kind = f"epistatic ({first.kind} x {second.kind})"
    return semidefinite(K if scale is None else K / np.diag(K).mean(), first.labels, kind)


def product_of_pairs(first: Relationship, second: Relationship, pairs: pd.DataFrame) -> Relationship:
    """Relationship of pairs of levels: K of two pairs is the product of the K of their firsts and of their seconds.

    Parameters
    ----------
    first, second : Relationship
        Of the firsts and of the seconds, such as the lines of two pools.
    pairs : DataFrame, shape (q, 2)
        The pairs, each once: levels of `first`, then of `second`; the index names them.

    Returns
    -------
    Relationship
        Of the pairs: the part of the Kronecker product of K1 and K2 that belongs to them [1]_.

    Raises
    ------
    RelationshipError
        If a level is unknown, or the pairs are too many for a dense matrix.

    References
    ----------
    .. [1] Stuber & Cockerham (1966) Genetics 54:1279.

    Examples
    --------
    >>> K = Relationship.from_matrix(np.array([[1.0, 0.5], [0.5, 1.0]]), ["a", "b"])
    >>> pairs = pd.DataFrame({"female": ["a", "b"], "male": ["a", "b"]}, index=["a:a", "b:b"])
    >>> product_of_pairs(K, K, pairs).cross(["a:a"], ["b:b"]).tolist()
    [[0.25]]
    """
    check_dense(len(pairs), "A relationship of pairs")
    K = first.cross(pairs.iloc[:, 0], pairs.iloc[:, 0]) * second.cross(pairs.iloc[:, 1], pairs.iloc[:, 1])
    return semidefinite(K, pairs.index, f"pairs ({first.kind} x {second.kind})")


@public
def blend(K: Any, w: float, other: Relationship | None = None, *, ids: Iterable[Any] | None = None) -> Relationship:
    """Mixture (1 - w) K + w L, which makes a singular K regular.

    Parameters
    ----------
    K : Relationship, array or DataFrame, shape (q, q)
        A relationship, or a matrix that need not be positive definite.
    w : float
        Share of L, between 0 and 1.
    other : Relationship, optional
        L, with all levels of K; by default the identity.
    ids : iterable, optional
        Names of the rows of a matrix.

    Returns
    -------
    Relationship
        Whose `kind` states the blending.

    Raises
    ------
    RelationshipError
        If the mixture is not positive definite, or L does not have the levels.

    Examples
    --------
    >>> blend(np.ones((2, 2)), 0.5, ids=["a", "b"]).cross(["a"], ["a", "b"]).tolist()
    [[1.0, 0.5]]
    """
    if not 0.0 <= w <= 1.0:
        raise ArgumentError(f"w={w} is a share, between 0 and 1.")
    labels, matrix, kind = _raw(K, ids)
    L = np.eye(len(labels)) if other is None else other.cross(labels, labels)
    what = "I" if other is None else other.kind
    return Relationship.from_matrix((1.0 - w) * matrix + w * L, labels, kind=f"{kind}, blended with {w:g} {what}")


@public
def bend(K: Any, tol: float = 1e-4, *, ids: Iterable[Any] | None = None) -> Relationship:
    """Nearest matrix whose eigenvalues are at least a share of the largest.

    Parameters
    ----------
    K : Relationship, array or DataFrame, shape (q, q)
        A relationship, or a symmetric matrix that need not be positive definite.
    tol : float, default 1e-4
        Least eigenvalue, relative to the largest.
    ids : iterable, optional
        Names of the rows of a matrix.

    Returns
    -------
    Relationship
        Whose `kind` states how many eigenvalues were raised.

    Raises
    ------
    RelationshipError
        If no eigenvalue is positive.

    Notes
    -----
    K = U diag(lambda) U', lambda raised to tol * max lambda: nearest in the Frobenius norm [1]_.

    References
    ----------
    .. [1] Higham (1988) Linear Algebra Appl 103:103-118.

    Examples
    --------
    >>> bend(np.ones((2, 2)), 0.01, ids=["a", "b"]).kind
    'matrix, 1 of 2 eigenvalues bent to 0.02'
    """
    if not 0.0 < tol < 1.0:
        raise ArgumentError(f"tol={tol} is a share of the largest eigenvalue, between 0 and 1.")
    labels, matrix, kind = _raw(K, ids)
    values, vectors = la.eigh(matrix)
    floor = tol * values[-1]
    if not floor > 0.0:
        raise RelationshipError(f"the matrix has no positive eigenvalue (largest {values[-1]:.3g}). Check its signs.")
    raised = int(np.sum(values < floor))
    bent = (vectors * np.maximum(values, floor)) @ vectors.T
    kind = f"{kind}, {raised} of {len(values)} eigenvalues bent to {floor:.3g}"
    return Relationship.from_matrix(0.5 * (bent + bent.T), labels, kind=kind)


@public
def genomic_inbreeding(K: Relationship) -> pd.Series[float]:
    """Inbreeding by a relationship, its diagonal less one.

    Parameters
    ----------
    K : Relationship
        Genomic, or any other on the scale of A.

    Returns
    -------
    Series
        Indexed by level.

    Examples
    --------
    >>> genomic_inbreeding(Relationship.from_matrix(np.array([[1.25]]), ["a"])).tolist()
    [0.25]
    """
    return pd.Series(np.asarray(K.diagonal) - 1.0, index=K.labels, name="inbreeding")


@public
def correlation(K: Relationship) -> pd.DataFrame:
    """Relationships as correlations, k_ij / sqrt(k_ii k_jj).

    Parameters
    ----------
    K : Relationship
        With a positive diagonal.

    Returns
    -------
    DataFrame, shape (q, q)
        With ones on the diagonal.

    Raises
    ------
    RelationshipError
        If a level has no variance.

    Examples
    --------
    >>> correlation(Relationship.from_matrix(np.array([[4.0, 1.0], [1.0, 1.0]]), ["a", "b"])).loc["a"].tolist()
    [1.0, 0.5]
    """
    check_dense(K.size, "The matrix of correlations")
    still = K.labels[K.diagonal <= 0]
    if len(still):
        raise RelationshipError(f"{len(still)} levels have no variance: {examples(still)}. Drop them.")
    sd = np.sqrt(K.diagonal)
    return pd.DataFrame(K.cross(K.labels, K.labels) / np.outer(sd, sd), index=K.labels, columns=K.labels)


def _raw(K: Any, ids: Iterable[Any] | None) -> tuple[pd.Index[Any], Array, str]:
    """Labels, matrix and kind of a relationship or a symmetric matrix."""
    if isinstance(K, Relationship):
        check_dense(K.size, "The whole matrix")
        return K.labels, K.cross(K.labels, K.labels), K.kind
    labels, matrix = symmetric(K, ids)
    return labels, dense(matrix), "matrix"


def check_dense(q: int, what: str) -> None:
    """Refuse a dense matrix that would not fit, with its size."""
    if q > DENSE_LEVELS:
        raise RelationshipError(
            f"{what} takes {8e-9 * q * q:.0f} GB for {q} levels, above the limit of {DENSE_LEVELS} levels. "
            "Reduce the levels to those with records and their relatives."
        )
