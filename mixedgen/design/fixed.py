"""The fixed part: X of full column rank, and what was aliased."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from mixedgen.design.frame import check_finite, dense_or_sparse, materialise
from mixedgen.design.terms import Term
from mixedgen.errors import DesignError, examples
from mixedgen.sparse import analyse

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

# A column is aliased when what the columns before it leave of it is this small beside its own length: lme4's
# tolerance (qr.default of R).
ALIAS_TOLERANCE = 1e-7
# Smallest pivot of the unit-length columns of X at which X'X may stand for X: it costs the square of the digits.
WELL_CONDITIONED = 1e-3


@dataclass(frozen=True)
class FixedPart:
    """Fixed effects: the columns that are kept, their names, and what was aliased.

    Attributes
    ----------
    X : ndarray or csr_array, shape (n, p)
        Full column rank.
    R : ndarray, shape (p, p), or None
        Triangular factor of X, X'X = R'R; None for a sparse X.
    names, aliased : tuple of str
        Columns kept and columns dropped because earlier columns (or constraints) determine them.
    null_space : ndarray, shape (p + number aliased, number aliased)
        Null space of the full X, rows in the order of `all_names`: an estimable contrast is orthogonal to it.
    all_names : tuple of str
        All columns of X as coded.
    spec : object
        formulaic's ModelSpec, which codes new data alike.
    """

    X: Array | sp.csr_array
    R: Array | None
    names: tuple[str, ...]
    aliased: tuple[str, ...]
    null_space: Array
    all_names: tuple[str, ...]
    spec: Any

    @property
    def p(self) -> int:
        """Rank of X."""
        return len(self.names)

    def column(self, j: int) -> Array:
        """Column j of X, dense, shape (n,)."""
        x = self.X[:, [j]]
        return np.asarray(x.toarray() if sp.issparse(x) else x).ravel()

    def select(self, rows: IntArray) -> FixedPart:
        """X of some records.

        Raises
        ------
        DesignError
            If its columns are no longer independent, or as many as the records.
        """
        X = self.X[rows]
        if self.p >= len(rows):
            raise DesignError(f"{len(rows)} records are left for {self.p} independent fixed effects.")
        R = None if sp.issparse(X) else triangular_factor(np.asarray(X))
        null = sparse_null_space(sp.csr_array(X)) if R is None else dense_null_space(R)
        if null.shape[1]:
            names = [self.names[j] for j in last_pivots(null)]
            raise DesignError(f"the records left do not determine {len(names)} fixed effects: {examples(names)}.")
        return replace(self, X=X, R=R)


def triangular_factor(X: Array) -> Array:
    """Upper triangular R with R'R = X'X, shape (p, p), for n >= p.

    Notes
    -----
    From the Cholesky factor of X'X where its columns are far from dependent, which costs least; otherwise by QR.
    """
    norms = np.sqrt(np.einsum("ij,ij->j", X, X))
    scale = np.where(norms > 0, norms, 1.0)
    try:
        R = np.linalg.cholesky((X.T @ X) / np.outer(scale, scale)).T
        if np.all(np.diag(R) > WELL_CONDITIONED):
            return R * scale
    except np.linalg.LinAlgError:
        pass
    return np.asarray(np.linalg.qr(X / scale, mode="r")) * scale


def dense_null_space(R: Array) -> Array:
    """Null space of a dense X by R's rule: a column is aliased when the columns before it leave nothing of it.

    Parameters
    ----------
    R : ndarray, shape (m, p)
        `triangular_factor` of X, or X itself.

    Returns
    -------
    ndarray, shape (p, d)
        One column for each aliased column j, which has 1 in row j and minus its coefficients on the kept columns.
    """
    p = R.shape[1]
    norms = np.sqrt(np.einsum("ij,ij->j", R, R))
    if len(R) == p and np.all(np.abs(np.diag(R)) > ALIAS_TOLERANCE * norms):
        return np.zeros((p, 0))
    unit = R / np.where(norms > 0, norms, 1.0)
    kept: list[int] = []
    null: list[Array] = []
    for j in range(p):
        basis = unit[:, kept]
        coefficients = np.linalg.lstsq(basis, unit[:, j], rcond=None)[0] if kept else np.zeros(0)
        left = unit[:, j] - basis @ coefficients
        if norms[j] > 0 and np.linalg.norm(left) > ALIAS_TOLERANCE:
            kept.append(j)
            continue
        vector = np.zeros(p)
        vector[j] = 1.0
        if norms[j] > 0:
            vector[kept] = -coefficients * norms[j] / norms[kept]
        null.append(vector)
    return np.stack(null, axis=1) if null else np.zeros((p, 0))


def sparse_null_space(X: sp.csr_array) -> Array:
    """Null space of a sparse X in the echelon form of `dense_null_space`.

    Notes
    -----
    With unit columns and a small eps, eps (X'X + eps I)^-1 is, up to O(eps), the projector on the null space: its trace
    is the dimension, and its image of that many random vectors is a basis, which is then verified on X itself.
    """
    eps, p = 1e-10, X.shape[1]
    norms = np.sqrt(np.asarray(X.multiply(X).sum(axis=0)).ravel())
    scale = np.where(norms > 0, norms, 1.0)
    unit = X @ sp.diags_array(1.0 / scale)
    gram = sp.csc_array(sp.tril(unit.T @ unit + eps * sp.eye_array(p)))
    gram.sort_indices()
    factor = analyse(gram.indptr, gram.indices, p).factor(gram.data)
    inverse, _ = factor.selected_inverse()
    dimension = eps * float(inverse[gram.indptr[:-1]].sum())
    if dimension < 0.5:
        return np.zeros((p, 0))
    block = np.random.default_rng(0).standard_normal((p, round(dimension) + 5))
    for _ in range(3):
        block = np.linalg.qr(eps * factor.solve(block))[0]
    _, singular, right = np.linalg.svd(unit @ block, full_matrices=False)
    null = block @ right[singular < ALIAS_TOLERANCE * np.sqrt(p)].T
    return echelon_from_last(null) / scale[:, None] * scale[last_pivots(null)]


def last_pivots(null: Array) -> IntArray:
    """Rows that pivot in a column echelon form worked from the last row up, increasing."""
    N, pivots = null.copy(), []
    for k in range(N.shape[1]):
        j = int(np.flatnonzero(np.abs(N[:, k:]).max(axis=1) > 1e-6)[-1])
        best = k + int(np.argmax(np.abs(N[j, k:])))
        N[:, [k, best]] = N[:, [best, k]]
        N[:, k + 1 :] -= np.outer(N[:, k], N[j, k + 1 :] / N[j, k])
        pivots.append(j)
    return np.sort(np.array(pivots, dtype=np.intp))


def echelon_from_last(null: Array) -> Array:
    """Null space with an identity in the rows of `last_pivots`."""
    return null @ np.linalg.inv(null[last_pivots(null)])


def group_columns(terms: Sequence[Term]) -> tuple[sp.csr_array, tuple[str, ...]] | None:
    """Columns Z Q of the unknown-parent groups of all terms, and their names; None without groups.

    Notes
    -----
    As columns of X the groups carry no variance parameter, which they would in K^-1; a* = a + Q g [1]_.

    References
    ----------
    .. [1] Quaas (1988) J Dairy Sci 71:1338.
    """
    blocks: list[sp.csr_array] = []
    names: list[str] = []
    for t in terms:
        if t.relationship is None or not t.relationship.group_names:
            continue
        for a, effect in enumerate(t.effects):
            blocks.append(sp.csr_array(t.Z[:, a * t.q : (a + 1) * t.q] @ t.relationship.Q))
            names += [group_name(t.key, t.effects, effect, g) for g in t.relationship.group_names]
    return (sp.csr_array(sp.hstack(blocks)), tuple(names)) if blocks else None


def group_name(key: str, effects: tuple[str, ...], effect: str, group: str) -> str:
    """Name of the column of X of one unknown-parent group and one effect."""
    return f"{key}:{group}" if len(effects) == 1 else f"{key}:{effect}:{group}"


def build_fixed(
    rhs: str,
    frame: pd.DataFrame,
    contrasts: Mapping[str, str] | None,
    constraints: Sequence[str],
    terms: Sequence[Term] = (),
    spread: Callable[[Array | sp.csr_array, Sequence[str]], tuple[Array | sp.csr_array, tuple[str, ...]]] | None = None,
) -> FixedPart:
    """Fixed part of full column rank: aliased columns are dropped, the later ones, or those that `constraints` name.

    `spread` makes the columns of several traits from those of one.

    Raises
    ------
    DesignError
        If a constraint names no column of X, or a column that the others do not determine.
    """
    matrix = materialise(rhs, frame, contrasts)
    names = tuple(str(c) for c in matrix.model_spec.column_names)
    X = dense_or_sparse(matrix)
    check_finite(X, names)
    if spread is not None:
        X, names = spread(X, names)
    groups = group_columns(terms)
    if groups is not None:
        X = sp.csr_array(sp.hstack([X, groups[0]])) if sp.issparse(X) else np.hstack([X, groups[0].toarray()])
        names = (*names, *groups[1])
    unknown = [c for c in constraints if c not in names]
    if unknown:
        raise DesignError(f"constraints name no column of X: {examples(unknown)}; the columns are {examples(names)}.")
    order = sorted(range(len(names)), key=lambda j: names[j] in constraints)
    ordered = X[:, order] if constraints else X
    R = None if sp.issparse(ordered) else triangular_factor(ordered)
    null = sparse_null_space(sp.csr_array(ordered)) if R is None else dense_null_space(R)
    aliased = {order[j] for j in (last_pivots(null) if null.shape[1] else [])}
    free = [c for c in constraints if names.index(c) not in aliased]
    if free:
        raise DesignError(
            f"{examples(free)} cannot be set to zero: the other columns of X do not determine them. "
            "Change the formula instead."
        )
    kept = [j for j in range(len(names)) if j not in aliased]
    full = np.zeros_like(null)
    full[order] = null
    if R is not None and (null.shape[1] or constraints):
        R = np.asarray(np.linalg.qr(R[:, [order.index(j) for j in kept]], mode="r"))
    return FixedPart(
        R=R,
        X=X if len(kept) == len(names) else X[:, kept],
        names=tuple(names[j] for j in kept),
        aliased=tuple(names[j] for j in sorted(aliased)),
        null_space=full,
        all_names=names,
        spec=matrix.model_spec,
    )
