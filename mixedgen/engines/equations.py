"""Henderson's equations of one design, frozen: all that does not depend on theta, and the way from theta to C.

With Sigma = L L' and K = F K0 F', u = (L (x) F) v, Var(v) = I (x) K0 and W = [X, Z (L (x) F)], the equations are

    C s = W'R^-1 y,    C = W'R^-1 W + blockdiag(0, I (x) K0^-1).

The pattern of C does not depend on theta: it is analysed once. Coefficients of one level that are independent at every
theta are separate components, so that no zero of Sigma enters the pattern.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from mixedgen.arrays import Array, IntArray
from mixedgen.design.design import Design
from mixedgen.engines.components import Component, components_of
from mixedgen.engines.least_squares import ScaledColumns, scaled_columns
from mixedgen.engines.meetings import Block, Meetings, meet, take
from mixedgen.sparse import analyse
from mixedgen.sparse.contract import Symbolic


@dataclass(frozen=True)
class Penalty:
    """I (x) K0^-1 of all components.

    Attributes
    ----------
    at : ndarray of int
        Places of its sparse part among the values of C.
    values : ndarray
        Those values.
    weight : ndarray
        Values, twice off the diagonal: tr(C^-1 (I (x) K0^-1)) is their product with C^-1 at `at`.
    cliques : tuple of (ndarray of int, ndarray)
        Equations and values of each dense part.
    """

    at: IntArray
    values: Array
    weight: Array
    cliques: tuple[tuple[IntArray, Array], ...]

    @property
    def dense(self) -> list[Array]:
        """Values of the dense parts."""
        return [K for _, K in self.cliques]


@dataclass(frozen=True)
class Equations:
    """Henderson's equations of one design.

    Attributes
    ----------
    design : Design
        The model.
    fixed : ScaledColumns
        The columns of X, scaled.
    components : tuple of Component
        X first, then the coefficients of the terms that share one L.
    N : int
        Number of equations.
    blocks : tuple of Block
        Cross-products between components.
    indptr, indices : ndarray of int
        Lower triangle of C by columns.
    penalty : Penalty
        What is added to the cross-products.
    symbolic : Symbolic
        Symbolic factor of C.
    """

    design: Design
    fixed: ScaledColumns
    components: tuple[Component, ...]
    N: int
    blocks: tuple[Block, ...]
    indptr: IntArray
    indices: IntArray
    penalty: Penalty
    symbolic: Symbolic

    @property
    def diagonal(self) -> IntArray:
        """Places of the diagonal among the values of C."""
        return self.indptr[:-1]

    @property
    def random(self) -> Iterator[tuple[int, Component]]:
        """Components of the random terms with their numbers."""
        return ((k, c) for k, c in enumerate(self.components) if c.term >= 0)

    @cached_property
    def random_symbolic(self) -> Symbolic:
        """Symbolic factor of the equations of the random effects alone."""
        p = self.design.fixed.p
        start = self.indptr[p]
        cliques = [e - p for e, _ in self.penalty.cliques]
        return analyse(self.indptr[p:] - start, self.indices[start:] - p, self.N - p, cliques)

    @cached_property
    def homogeneous(self) -> list[Array] | None:
        """Cross-products with R^-1 of unit variance, where one variance is all that changes; else None."""
        if not self.design.residual.homogeneous:
            return None
        w = self.design.residual.inverse_weights
        return self.cross_products(None if w is None else 1.0 / w)

    def cross_products(self, weight: Array | None) -> list[Array]:
        """Blocks of [X, Z F]' diag(weight) [X, Z F], one array (m, width a, width b) for each of `blocks`."""
        out = []
        for p in self.blocks:
            ca, cb = self.components[p.a], self.components[p.b]
            G = _level_products(self.design, ca, cb, p.meetings, weight)
            out.append(G if ca.basis is None and cb.basis is None else _through_bases(ca, cb, p, G))
        return out

    def products_at(self, theta_R: Array) -> tuple[list[Array], float]:
        """Cross-products with R^-1, as blocks and a common factor."""
        if self.homogeneous is not None:
            return self.homogeneous, 1.0 / float(theta_R[0])
        return self.cross_products(self.design.residual.precision(theta_R)), 1.0

    def assemble(self, products: Sequence[Array], factor: float, L: Sequence[Array]) -> Array:
        """Values of W'R^-1 W on the pattern of C."""
        data = np.zeros(len(self.indices))
        for p, G in zip(self.blocks, products, strict=True):
            La, Lb = L[p.a], L[p.b]
            if La.size == Lb.size == 1:
                data[p.at] = G * (factor * La[0, 0] * Lb[0, 0])
            else:
                data[p.at] = (La.T * factor) @ (G @ Lb)
        return data

    def coefficients(self, products: Sequence[Array], factor: float, L: Sequence[Array]) -> Array:
        """Values of C but for the cliques: L' (cross-products) L, and the penalty, which carries no theta."""
        data = self.assemble(products, factor, L)
        data[self.penalty.at] += self.penalty.values
        return data

    def penalty_product(self, c: Component, v: Array) -> Array:
        """K0^-1 v for v of shape (width, size)."""
        K = _precision(self.design, c)
        out = v.copy() if K is None else np.zeros_like(v) if isinstance(K, np.ndarray) else (K @ v.T).T
        for positions, block in _dense_precision(self.design, c):
            out[:, positions] += v[:, positions] @ block
        return out


def equations_of(design: Design) -> Equations:
    """Analyse a design: scaled columns, components, where they meet, the pattern and its symbolic factor."""
    fixed = scaled_columns(design.fixed)
    components = components_of(design, fixed.X)
    N = components[-1].stop if components else 0
    found = [
        (a, b, meet(ca, components[b], a == b, design.residual.pairs))
        for a, ca in enumerate(components)
        for b in range(a + 1)
    ]
    columns = [_columns_that_meet(components[a], components[b], a == b, m) for a, b, m in found]
    places = [_block_places(components[a], components[b], *c) for (a, b, _), c in zip(found, columns, strict=True)]
    penalties = [p for c in components if (p := _sparse_penalty(design, c)) is not None]
    none = np.zeros(0, dtype=np.intp)
    rows = np.concatenate([none, *(r.ravel() for r, _ in places), *(p[0] for p in penalties)])
    cols = np.concatenate([none, *(c.ravel() for _, c in places), *(p[1] for p in penalties)])
    lower, upper = np.maximum(rows, cols), np.minimum(rows, cols)
    key, at = np.unique(upper * np.int64(max(N, 1)) + lower, return_inverse=True)
    upper, indices = np.divmod(key, np.int64(max(N, 1)))
    indptr = np.searchsorted(upper, np.arange(N + 1))
    blocks, start = [], 0
    for (a, b, m), (i, j), (r, _) in zip(found, columns, places, strict=True):
        blocks.append(Block(a, b, i, j, m, at[start : start + r.size].reshape(r.shape)))
        start += r.size
    values = np.concatenate([np.zeros(0), *(p[2] for p in penalties)])
    weight = values * np.where(indices[at[start:]] == upper[at[start:]], 1.0, 2.0)
    cliques = tuple(clique for c in components for clique in _dense_penalty(design, c))
    symbolic = analyse(indptr, indices, N, [e for e, _ in cliques])
    penalty = Penalty(at[start:], values, weight, cliques)
    return Equations(design, fixed, components, N, tuple(blocks), indptr, indices, penalty, symbolic)


def _columns_that_meet(a: Component, b: Component, same: bool, m: Meetings) -> tuple[IntArray, IntArray]:
    """Columns of two components that meet, which are all of them where one has a basis F."""
    if a.basis is None and b.basis is None:
        return m.i, m.j
    i, j = np.divmod(np.arange(a.size * b.size), b.size)
    keep = i >= j if same else slice(None)
    return i[keep], j[keep]


def _block_places(a: Component, b: Component, i: IntArray, j: IntArray) -> tuple[IntArray, IntArray]:
    """Rows and columns in C of the block of each pair of columns, shape (m, width a, width b)."""
    shape = (len(i), a.width, b.width)
    rows = np.broadcast_to(a.equations(i)[:, :, None], shape)
    cols = np.broadcast_to(b.equations(j)[:, None, :], shape)
    return rows, cols


def _precision(design: Design, c: Component) -> sp.csc_array | Array | None:
    """K0^-1 of a component; None where it is the identity."""
    relationship = design.terms[c.term].relationship
    return None if relationship is None or relationship.basis is not None else relationship.precision


def _dense_precision(design: Design, c: Component) -> Sequence[tuple[IntArray, Array]]:
    """Dense parts of K0^-1: positions and values."""
    if c.term < 0 or c.basis is not None:
        return ()
    relationship = design.terms[c.term].relationship
    if relationship is None:
        return ()
    K = _precision(design, c)
    own = ((np.arange(c.size), K),) if isinstance(K, np.ndarray) else ()
    return (*own, *relationship.dense_blocks)


def _sparse_penalty(design: Design, c: Component) -> tuple[IntArray, IntArray, Array] | None:
    """Rows, columns and values of I (x) K0^-1, lower triangle, for a sparse K0^-1."""
    if c.term < 0:
        return None
    K = _precision(design, c)
    if isinstance(K, np.ndarray):
        return None
    if K is None:
        row = col = np.arange(c.size)
        value = np.ones(c.size)
    else:
        lower = sp.coo_array(sp.tril(K))
        row, col, value = lower.row.astype(np.intp), lower.col.astype(np.intp), lower.data
    rows, cols = c.equations(row), c.equations(col)
    return rows.ravel(), cols.ravel(), np.repeat(value, c.width)


def _dense_penalty(design: Design, c: Component) -> Iterator[tuple[IntArray, Array]]:
    """Equations and values of each copy of a dense K0^-1."""
    for positions, K in _dense_precision(design, c):
        for a in range(c.width):
            yield c.offset + a * c.size + positions, K


def _weighted(design: Design, values: Array, weight: Array | None) -> Array:
    """R^-1 (its diagonal or its elements) times values, shape (n, k); None for the identity."""
    if weight is None:
        return values
    pairs = design.residual.pairs
    if pairs is None:
        return values * weight[:, None]
    return np.asarray(sp.csr_array((weight, pairs), shape=(design.n, design.n)) @ values)


def _level_products(design: Design, ca: Component, cb: Component, met: Meetings, weight: Array | None) -> Array:
    """Z_a' diag(weight) Z_b at the levels that meet, shape (pairs, width a, width b)."""
    if ca.levels == cb.levels == 1:
        return np.asarray(ca.values.T @ _weighted(design, cb.values, weight))[None]
    if cb.levels == 1 and ca.record is None:
        n = len(ca.level)
        Z = sp.csr_array((np.ones(n), ca.level, np.arange(n + 1)), shape=(n, ca.levels))
        right = _weighted(design, cb.values, weight)
        return np.stack([np.asarray(Z.T @ (right * ca.values[:, [a]])) for a in range(ca.width)], axis=1)
    left, right = take(ca.values, met.first), take(cb.values, met.second)
    if weight is not None:
        left = left * take(weight, met.which)[:, None]
    G = np.empty((len(met.i), ca.width, cb.width))
    for a in range(ca.width):
        for b in range(cb.width):
            G[:, a, b] = np.bincount(met.code, weights=left[:, a] * right[:, b], minlength=len(met.i))
    return G


def _through_bases(ca: Component, cb: Component, p: Block, G: Array) -> Array:
    """F_a' G F_b, as blocks of the columns of F."""
    full = np.zeros((ca.levels, cb.levels, ca.width, cb.width))
    full[p.meetings.i, p.meetings.j] = G
    if p.a == p.b:
        full[p.meetings.j, p.meetings.i] = G.transpose(0, 2, 1)
    if ca.basis is not None:
        full = np.tensordot(ca.basis.T, full, axes=1)
    if cb.basis is not None:
        full = np.moveaxis(np.tensordot(full, cb.basis, axes=(1, 0)), -1, 1)
    return full[p.i, p.j]
