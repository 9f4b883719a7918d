"""Labelled covariance matrices: checked at the boundary, factored, and explained where they are not definite."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import scipy.linalg as la
import scipy.sparse as sp
from scipy.linalg.lapack import dpotri, dpstrf

from mixedgen.arrays import Array, Positions, SparseArray
from mixedgen.definite import asymmetry, definite_factor
from mixedgen.errors import ArgumentError, RelationshipError, examples

_SYMMETRY = 1e-8  # asymmetry allowed, relative to the largest entry: what text files with nine digits leave


def is_sparse(matrix: Any) -> bool:
    """Whether a matrix is a sparse one of scipy; the published type of `issparse` hides all methods."""
    return bool(sp.issparse(matrix))


def dense(matrix: Any) -> Array:
    """Ordinary array of a sparse or dense one."""
    return np.asarray(matrix.toarray() if is_sparse(matrix) else matrix)


def row_sums(matrix: Any) -> Array:
    """Row sums of a sparse or dense matrix, shape (q,)."""
    return np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()


def unique_labels(labels: pd.Index[Any]) -> pd.Index[Any]:
    """Labels that are all there and all different."""
    if labels.hasnans:
        raise RelationshipError(f"{int(np.sum(labels.isna()))} of {len(labels)} ids are missing. Name every level.")
    again = labels[labels.duplicated()].unique()
    if len(again):
        raise RelationshipError(
            f"{len(again)} ids occur more than once: {examples(again)}. Each level has one row; drop or rename them.",
            ids=again.tolist(),
        )
    return labels


def named(matrix: Any, ids: Iterable[Any] | None, square: bool) -> tuple[pd.Index[Any], Any]:
    """Labels and finite float64 values; a frame with names of its own is put into the order of ids."""
    labels = None if ids is None else unique_labels(pd.Index(list(ids)))
    if isinstance(matrix, pd.DataFrame):
        labels, matrix = _framed(matrix, labels, square)
    if labels is None:
        raise ArgumentError("the matrix has no names: pass ids, one per row, or a data frame with an index.")
    kind: Callable[..., Any] = sp.csc_array if sp.issparse(matrix) else np.array
    values = kind(matrix, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != len(labels) or (square and values.shape[1] != len(labels)):
        raise RelationshipError(f"the matrix has shape {values.shape}, but there are {len(labels)} ids.")
    infinite = ~np.isfinite(row_sums(abs(values)))
    if infinite.any():
        wrong = labels[infinite]
        raise RelationshipError(
            f"{len(wrong)} rows have entries that are missing or infinite: {examples(wrong)}. Fill or drop them.",
            ids=wrong.tolist(),
        )
    return labels, values


def _framed(frame: pd.DataFrame, labels: pd.Index[Any] | None, square: bool) -> tuple[pd.Index[Any], Array]:
    """Labels and values of a frame: names of rows and columns must agree, with each other and with ids if given."""
    values = frame.to_numpy(dtype=np.float64)
    columns = np.arange(values.shape[1])
    if square:
        columns = _matched(unique_labels(frame.index), unique_labels(frame.columns), "columns", "index")
    if labels is None:
        return unique_labels(frame.index), values[:, columns]
    unnamed = isinstance(frame.index, pd.RangeIndex) and frame.index.start == 0
    rows = np.arange(len(frame)) if unnamed else _matched(labels, frame.index, "index", "ids")
    return labels, values[np.ix_(rows, columns[rows] if square else columns)]


def _matched(wanted: pd.Index[Any], names: pd.Index[Any], what: str, other: str) -> Positions:
    """Positions in names of each wanted one; names that a text file turned into text still match."""
    found = names.get_indexer(wanted)
    if len(names) == len(wanted) and (found < 0).any():
        found = names.astype(str).get_indexer(wanted.astype(str))
    if len(names) != len(wanted) or (found < 0).any():
        raise RelationshipError(
            f"The {what} of the frame ({examples(names)}) do not agree with its {other} ({examples(wanted)})."
            if other == "index"
            else f"The {what} of the frame ({examples(names)}) does not agree with the {other} ({examples(wanted)}). "
            "Give the same names, or a plain array."
        )
    return np.asarray(found, dtype=np.int64)


def symmetric(matrix: Any, ids: Iterable[Any] | None) -> tuple[pd.Index[Any], Any]:
    """Labels and values of a symmetric matrix; rounding in the input is averaged out."""
    labels, values = named(matrix, ids, square=True)
    share, i, j = asymmetry(values)
    if share > _SYMMETRY:
        raise RelationshipError(
            f"the matrix is not symmetric: [{labels[i]}, {labels[j]}] is {values[i, j]:.6g} and "
            f"[{labels[j]}, {labels[i]}] is {values[j, i]:.6g}. Use (K + K') / 2 if both are meant to be the same.",
            ids=[labels[i], labels[j]],
        )
    return labels, 0.5 * (values + values.T)


def cholesky(K: Array, labels: pd.Index[Any]) -> Array:
    """Lower triangular L of K = L L', for a K that is positive definite beyond rounding."""
    L = definite_factor(K)
    if L is None:
        _raise_not_positive(K, labels)
    return L


def _raise_not_positive(K: Array, labels: pd.Index[Any]) -> NoReturn:
    """Say how far from positive definite K is, which levels cause it, and what may be done."""
    eigenvalues, vectors = la.eigh(K)
    smallest, largest = eigenvalues[0], eigenvalues[-1]
    condition = largest / smallest if smallest > 0 else np.inf
    weight = np.abs(vectors[:, 0])
    involved = labels[np.argsort(-weight)[: np.count_nonzero(weight > 0.1 * weight.max())]]
    raise RelationshipError(
        f"the matrix of order {len(K)} is not positive definite: smallest eigenvalue {smallest:.3g}, largest "
        f"{largest:.3g}, condition number {condition:.3g}; it concerns {examples(involved)}. Choose: "
        "Relationship.from_factor(F, ids) with K = F F', which may be singular; blend(K, w), (1 - w) K + w I; bend(K), "
        "with small eigenvalues raised; or drop the duplicated levels.",
        smallest_eigenvalue=float(smallest),
        largest_eigenvalue=float(largest),
        condition_number=float(condition),
        ids=involved.tolist(),
    )


def inverse_from_cholesky(L: Array) -> Array:
    """Inverse of L L', both triangles filled."""
    inverse, _ = dpotri(L, lower=1)
    upper = np.triu_indices(len(L), 1)
    inverse[upper] = inverse.T[upper]
    return np.asarray(inverse)


def family_blocks(K: SparseArray, members: Positions) -> Array:
    """Diagonal blocks of K, shape (families, size, size), of families of one size."""
    count, size = members.shape
    family, place = np.full(K.shape[0], -1), np.zeros(K.shape[0], dtype=np.int64)
    family[members], place[members] = np.arange(count)[:, None], np.arange(size)
    entries = K.tocoo()
    own = family[entries.row] >= 0
    rows, columns = entries.row[own], entries.col[own]
    blocks = np.zeros((count, size, size))
    blocks[family[rows], place[rows], place[columns]] = entries.data[own]
    return blocks


def family_cholesky(blocks: Array, members: Positions, labels: pd.Index[Any]) -> Array:
    """Lower factors of a stack of blocks; a block that is not positive definite is named."""
    smallest, largest = np.linalg.eigvalsh(blocks)[:, [0, -1]].T
    bad = np.flatnonzero(smallest <= blocks.shape[1] * np.finfo(float).eps * np.abs(largest))
    if len(bad):
        _raise_not_positive(blocks[bad[0]], labels[members[bad[0]]])
    return np.asarray(np.linalg.cholesky(blocks))


def semidefinite_factor(K: Array) -> Array:
    """Factor F, shape (q, rank), of a positive semi-definite K = F F', by Cholesky with complete pivoting.

    Higham (2002) Accuracy and Stability of Numerical Algorithms, section 10.3.
    """
    L, pivots, rank, _ = dpstrf(K, lower=1)
    F = np.zeros((len(K), rank))
    F[pivots - 1] = np.tril(L)[:, :rank]
    return F
