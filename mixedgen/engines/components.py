"""A term's coefficients in coordinates in which they are far from dependent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from mixedgen.arrays import Array, IntArray
from mixedgen.design.design import Design

_DEPENDENT = 1e-9  # effects of a term whose columns leave less than this of each other keep their own units


@dataclass(frozen=True)
class Component:
    """Coefficients that share one L: those of X (L = I), or a group of one term.

    Attributes
    ----------
    term : int
        Position of the term; -1 for X.
    coefs : ndarray of int
        Coefficients of the term.
    size : int
        Number of columns of F (levels of u where F = I; columns of a sparse X).
    offset : int
        First equation; equation offset + a size + i is coefficient a of column i.
    record, level, values : ndarray
        Loads, as in `Term`, with the group's coefficients only.
    levels : int
        Number of levels of u.
    basis : ndarray or sparse array, shape (levels, size), or None
        F.
    unit : ndarray, shape (width, width), or None
        T of z = z~ T, where z~ has orthonormal columns; None for the identity. The equations hold z~ and T Sigma T', so
        that a covariate far from zero costs no digits.
    """

    term: int
    coefs: IntArray
    size: int
    offset: int
    record: IntArray | None
    level: IntArray
    values: Array
    levels: int
    basis: Any
    unit: Array | None = None

    @property
    def width(self) -> int:
        """Number of coefficients."""
        return len(self.coefs)

    @property
    def stop(self) -> int:
        """One past the last equation."""
        return self.offset + self.size * self.width

    def equations(self, columns: IntArray) -> IntArray:
        """Equations of some columns, shape (len(columns), width)."""
        return self.offset + columns[:, None] + self.size * np.arange(self.width)


def components_of(design: Design, X: Any) -> tuple[Component, ...]:
    """The scaled columns of X, where there are any, then the coefficients of each term that share one L."""
    p, n = design.fixed.p, design.n
    out = [_fixed_component(X)] if p else []
    offset = p
    for k, t in enumerate(design.terms):
        basis = None if t.relationship is None else t.relationship.basis
        size = t.q if basis is None else basis.shape[1]
        dense = basis.toarray() if sp.issparse(basis) else basis
        for coefs in t.structure.components:
            values = t.values if len(coefs) == t.c else t.values[:, coefs]
            unit = None if len(coefs) == 1 else _orthonormal_unit(values, n)
            if unit is not None:
                values = np.asarray(np.linalg.solve(unit.T, values.T)).T
            out.append(Component(k, coefs, size, offset, t.record, t.level, values, t.q, dense, unit))
            offset += size * len(coefs)
    return tuple(out)


def _fixed_component(X: Any) -> Component:
    """The columns of X: coefficients of one level, or levels of one coefficient where X is sparse."""
    n, p = X.shape
    if isinstance(X, np.ndarray):
        return Component(-1, np.arange(p), 1, 0, None, np.zeros(n, dtype=np.intp), X, 1, None)
    coo = X.tocoo()
    order = np.argsort(coo.row, kind="stable")
    record, level = coo.row[order].astype(np.intp), coo.col[order].astype(np.intp)
    return Component(-1, np.arange(1), p, 0, record, level, coo.data[order][:, None], p, None)


def mix(L: Array, v: Array) -> Array:
    """L times the coefficients of every level, v of shape (width, levels[, m])."""
    return v * L[0, 0] if L.size == 1 else np.tensordot(L, v, axes=1)


def _orthonormal_unit(values: Array, n: int) -> Array | None:
    """Upper triangular T with values = z~ T and z~'z~ = n I; None where the columns are dependent."""
    T = np.asarray(np.linalg.qr(values, mode="r")) / np.sqrt(n)
    d = np.abs(np.diag(T))
    return T if len(T) == values.shape[1] and np.all(d > _DEPENDENT * np.linalg.norm(T, axis=0)) else None
