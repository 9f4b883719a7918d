"""The fixed part: X of full column rank, and what was aliased."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from mixedgen.arrays import Array, IntArray
from mixedgen.design.aliased import dense_null_space, last_pivots, sparse_null_space, triangular_factor
from mixedgen.design.coding import INTERCEPT, Coded, Coder, Origin, Side, code, dense
from mixedgen.design.terms import Term
from mixedgen.design.traits import Traits
from mixedgen.errors import DesignError, examples

_ESTIMABLE = 1e-8  # of the length of a linear function: what it may have along the null space of X


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
    kept : ndarray of int, shape (p,)
        Positions of the columns kept among all columns.
    origins : tuple of Origin
        Term of the formula that each of all columns was made of; the columns of unknown-parent groups have that of the
        intercept.
    coder : Coder
        How X was coded, but for unknown-parent groups, for new data.
    prefixes : tuple of str
        What the names of each block of coded columns begin with: a block for each trait, or one without a prefix.
    """

    X: Array | sp.csr_array
    R: Array | None
    names: tuple[str, ...]
    aliased: tuple[str, ...]
    null_space: Array
    all_names: tuple[str, ...]
    kept: IntArray
    origins: tuple[Origin, ...]
    coder: Coder
    prefixes: tuple[str, ...]

    @property
    def p(self) -> int:
        """Rank of X."""
        return len(self.names)

    @cached_property
    def from_kept(self) -> Array:
        """T with X_all = X T for the columns X that are kept, shape (p, number of all columns)."""
        gone = np.setdiff1d(np.arange(len(self.all_names)), self.kept)
        T = np.zeros((self.p, len(self.all_names)))
        T[np.arange(self.p), self.kept] = 1.0
        if len(gone):
            # X_all N = 0 and N[gone] is invertible: X_gone = -X_kept N[kept] N[gone]^-1
            T[:, gone] = -self.null_space[self.kept] @ np.linalg.inv(self.null_space[gone])
        return T

    def estimable(self, L: Array | sp.csr_array) -> NDArray[np.bool_]:
        """Whether each row of L, over all columns of X as coded, is estimable: orthogonal to the null space of X.

        Lengths are those for columns of X of length one, so that neither units nor rounding decide.
        """
        if not self.null_space.shape[1]:
            return np.ones(L.shape[0], dtype=bool)
        squares: Array = np.asarray(
            self.X.multiply(self.X).sum(axis=0) if sp.issparse(self.X) else np.sum(self.X**2, axis=0)
        )
        length = np.sqrt(squares.ravel() @ self.from_kept**2)
        scale = np.where(length > 0, length, length.max(initial=0.0) or 1.0)
        null = self.null_space * scale[:, None]
        along = np.abs(L @ (null / np.linalg.norm(null, axis=0) / scale[:, None])).max(axis=1)
        size = np.sqrt(np.asarray((L * L) @ scale**-2.0).ravel())
        return np.asarray(along <= _ESTIMABLE * size)

    def column(self, j: int) -> Array:
        """Column j of X, dense, shape (n,)."""
        return dense(self.X[:, [j]]).ravel()

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


def _group_columns(terms: Sequence[Term]) -> tuple[sp.csr_array, tuple[str, ...]] | None:
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
    side: Side,
    frame: pd.DataFrame,
    constraints: Sequence[str],
    terms: Sequence[Term] = (),
    traits: Traits | None = None,
) -> FixedPart:
    """Fixed part of full column rank: aliased columns are dropped, the later ones, or those that `constraints` name.

    Raises
    ------
    DesignError
        If a constraint names no column of X, or a column that the others do not determine.
    """
    columns = code(side, frame)
    if traits is not None:
        columns = _for_each_trait(columns, traits)
    columns = _with_groups(columns, terms)
    unknown = [c for c in constraints if c not in columns.names]
    if unknown:
        raise DesignError(
            f"constraints name no column of X: {examples(unknown)}; the columns are {examples(columns.names)}."
        )
    prefixes = ("",) if traits is None else tuple(f"{t}:" for t in traits.names)
    return _independent(columns, constraints, prefixes)


def _for_each_trait(columns: Coded, traits: Traits) -> Coded:
    """A block of columns for each trait."""
    X, names = traits.fixed(columns.X, columns.names)
    own = tuple(traits.own(o) for _ in traits.names for o in columns.origins)
    return replace(columns, X=X, names=names, origins=own)


def _with_groups(columns: Coded, terms: Sequence[Term]) -> Coded:
    """Columns of unknown-parent groups after the others."""
    groups = _group_columns(terms)
    if groups is None:
        return columns
    Q, names = groups
    X = sp.csr_array(sp.hstack([columns.X, Q])) if sp.issparse(columns.X) else np.hstack([columns.X, Q.toarray()])
    return replace(columns, X=X, names=(*columns.names, *names), origins=(*columns.origins, *[INTERCEPT] * len(names)))


def _independent(columns: Coded, constraints: Sequence[str], prefixes: tuple[str, ...]) -> FixedPart:
    """Columns that the others do not determine, those that `constraints` name last.

    Raises
    ------
    DesignError
        If a constraint names a column that the others do not determine.
    """
    names, X = columns.names, columns.X
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
        kept=np.array(kept, dtype=np.intp),
        origins=columns.origins,
        coder=columns.coder,
        prefixes=prefixes,
    )
