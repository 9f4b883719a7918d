"""Henderson's mixed-model equations with a sparse factor: the engine for data of any size.

With Sigma = L L' and K = F K0 F', u = (L (x) F) v, Var(v) = I (x) K0 and W = [X, Z (L (x) F)], the equations are

    C s = W'R^-1 y,    C = W'R^-1 W + blockdiag(0, I (x) K0^-1).

Sigma is never inverted, so a singular Sigma is an ordinary point. The pattern of C does not depend on theta: it is
analysed once. Coefficients of one level that are independent at every theta are separate components, so that no
zero of Sigma enters the pattern.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.triangle import INDEFINITE, lower_factor
from mixedgen.design.design import Design
from mixedgen.design.terms import Term
from mixedgen.engines.components import Component, mix, orthonormal_unit
from mixedgen.engines.meetings import Pairs, meet, take
from mixedgen.engines.system import Engine, Forecast, Solution, System
from mixedgen.errors import EngineError
from mixedgen.sparse import analyse
from mixedgen.sparse.contract import Factor, Symbolic

# Distance from a singular L at which the derivative across the boundary is taken, beside the term's own scale: the
# score is smooth there, so the error is of this order squared, and its rounding error that of 1e-16 / this.
BOUNDARY_STEP = 1e-5


class HendersonEngine(Engine):
    """Henderson's sparse equations of one design: pattern, cross-products and symbolic factor, found once."""

    def __init__(self, design: Design) -> None:
        self.design = design
        self.N = 0
        self.components: list[Component] = []
        self._scale_fixed_effects()
        for k, t in enumerate(design.terms):
            for coefs in t.structure.components:
                self._append(k, t, coefs)
        self.pairs: list[Pairs] = []
        self._pattern()
        self._products: list[Array] | None = None
        if design.residual.homogeneous:
            w = design.residual.inverse_weights
            self._products = self.cross_products(None if w is None else 1.0 / w)
        base = self.solve_fixed(design.y)
        self.b0, self.y0 = base

    # -------------------------------------------------------------------------------------------- X
    def _scale_fixed_effects(self) -> None:
        """Orthonormal columns for a dense X, columns of length sqrt(n) for a sparse one; `to_b` maps back."""
        fixed, n = self.design.fixed, self.design.n
        X = fixed.X
        if sp.issparse(X):
            norms = np.sqrt(np.asarray(X.multiply(X).sum(axis=0)).ravel() / n)
            self.X: Any = sp.csr_array(X @ sp.diags_array(1.0 / norms))
            self.scale: Array | None = 1.0 / norms
            self.R: Array = np.zeros((0, 0))
            self.log_jacobian = 2.0 * float(np.log(norms).sum())
            coo = self.X.tocoo()
            order = np.argsort(coo.row, kind="stable")
            one = Component(
                -1,
                np.arange(1),
                fixed.p,
                0,
                coo.row[order].astype(np.intp),
                coo.col[order].astype(np.intp),
                coo.data[order][:, None],
                fixed.p,
                None,
            )
        else:
            self.R = fixed.R / np.sqrt(n)
            self.scale = None
            self.Rinv = np.linalg.inv(self.R)
            self.X = np.asarray(X) @ self.Rinv
            self.log_jacobian = 2.0 * float(np.log(np.abs(np.diag(self.R))).sum())
            one = Component(-1, np.arange(fixed.p), 1, 0, None, np.zeros(n, dtype=np.intp), self.X, 1, None)
        if fixed.p:
            self.components.append(one)
        self.N = fixed.p

    def to_b(self, b: Array) -> Array:
        """Coefficients of the design's X from those of the scaled X."""
        if self.scale is not None:
            return b * (self.scale if b.ndim == 1 else self.scale[:, None])
        return self.Rinv @ b

    def solve_fixed(self, y: Array) -> tuple[Array, Array]:
        """Least squares on X alone, refined once: coefficients of the scaled X and residuals."""
        if not self.design.fixed.p:
            return np.zeros(0), y.copy()
        if self.scale is None:
            b = self.X.T @ y / self.design.n
            e = y - self.X @ b
            more = self.X.T @ e / self.design.n
            return b + more, e - self.X @ more
        gram = sp.csc_array(sp.tril(self.X.T @ self.X))
        gram.sort_indices()
        factor = analyse(gram.indptr, gram.indices, gram.shape[0]).factor(gram.data)
        b = factor.solve(self.X.T @ y)
        e = y - self.X @ b
        more = factor.solve(self.X.T @ e)
        return b + more, e - self.X @ more

    # -------------------------------------------------------------------------------------- pattern
    def _append(self, k: int, t: Term, coefs: IntArray) -> None:
        basis = None if t.relationship is None else t.relationship.basis
        size = t.q if basis is None else basis.shape[1]
        values = t.values if len(coefs) == t.c else t.values[:, coefs]
        dense = basis.toarray() if sp.issparse(basis) else basis
        unit = None if len(coefs) == 1 else orthonormal_unit(values, self.design.n)
        if unit is not None:
            values = np.asarray(np.linalg.solve(unit.T, values.T)).T
        self.components.append(Component(k, coefs, size, self.N, t.record, t.level, values, t.q, dense, unit))
        self.N += size * len(coefs)

    def _pattern(self) -> None:
        """Pairs, penalties and the symbolic factor."""
        found = []
        for a, ca in enumerate(self.components):
            for b in range(a + 1):
                cb = self.components[b]
                found.append((a, b, meet(ca, cb, a == b, self.design.residual.pairs)))
        blocks = [self._equation_pairs(a, b, *self._columns(a, b, m.i, m.j)) for a, b, m in found]
        penalties = [p for k in range(len(self.components)) if (p := self._penalty(k)) is not None]
        rows = np.concatenate([r.ravel() for r, _ in blocks] + [p[0] for p in penalties])
        cols = np.concatenate([c.ravel() for _, c in blocks] + [p[1] for p in penalties])
        lower, upper = np.maximum(rows, cols), np.minimum(rows, cols)
        places, at = np.unique(upper * np.int64(self.N) + lower, return_inverse=True)
        upper, self.indices = np.divmod(places, np.int64(self.N))
        self.indptr = np.searchsorted(upper, np.arange(self.N + 1))
        self.diagonal = self.indptr[:-1]
        start = 0
        for (a, b, m), (r, _) in zip(found, blocks, strict=True):
            ci, cj = self._columns(a, b, m.i, m.j)
            self.pairs.append(Pairs(a, b, ci, cj, m, at[start : start + r.size].reshape(r.shape)))
            start += r.size
        self.penalty_at = at[start:]
        self.penalty = np.concatenate([p[2] for p in penalties]) if penalties else np.zeros(0)
        self.penalty_weight = self.penalty * np.where(self.indices[self.penalty_at] == upper[self.penalty_at], 1.0, 2.0)
        self.cliques = [(e, K) for k in range(len(self.components)) for e, K in self._dense_penalty(k)]
        self.symbolic: Symbolic = analyse(self.indptr, self.indices, self.N, [e for e, _ in self.cliques])

    @cached_property
    def random_symbolic(self) -> Symbolic:
        """Symbolic factor of the equations of the random effects alone."""
        p = self.design.fixed.p
        start = self.indptr[p]
        cliques = [e - p for e, _ in self.cliques]
        return analyse(self.indptr[p:] - start, self.indices[start:] - p, self.N - p, cliques)

    def _columns(self, a: int, b: int, i: IntArray, j: IntArray) -> tuple[IntArray, IntArray]:
        """Columns that meet, which are all of them where a component has a basis F."""
        ca, cb = self.components[a], self.components[b]
        if ca.basis is None and cb.basis is None:
            return i, j
        ci, cj = np.divmod(np.arange(ca.size * cb.size), cb.size)
        if a == b:
            keep = ci >= cj
            return ci[keep], cj[keep]
        return ci, cj

    def _equation_pairs(self, a: int, b: int, i: IntArray, j: IntArray) -> tuple[IntArray, IntArray]:
        shape = (len(i), self.components[a].width, self.components[b].width)
        rows = np.broadcast_to(self.components[a].equations(i)[:, :, None], shape)
        cols = np.broadcast_to(self.components[b].equations(j)[:, None, :], shape)
        return rows, cols

    def precision(self, c: Component) -> sp.csc_array | Array | None:
        """K0^-1 of a component; None where it is the identity."""
        relationship = self.design.terms[c.term].relationship
        return None if relationship is None or relationship.basis is not None else relationship.precision

    def dense_precision(self, c: Component) -> Sequence[tuple[IntArray, Array]]:
        """Dense parts of K0^-1: positions and values."""
        if c.term < 0 or c.basis is not None:
            return ()
        relationship = self.design.terms[c.term].relationship
        if relationship is None:
            return ()
        K = self.precision(c)
        own = ((np.arange(c.size), K),) if isinstance(K, np.ndarray) else ()
        return (*own, *relationship.dense_blocks)

    def penalty_product(self, c: Component, v: Array) -> Array:
        """K0^-1 v for v of shape (width, size)."""
        K = self.precision(c)
        out = v.copy() if K is None else np.zeros_like(v) if isinstance(K, np.ndarray) else (K @ v.T).T
        for positions, block in self.dense_precision(c):
            out[:, positions] += v[:, positions] @ block
        return out

    def _penalty(self, k: int) -> tuple[IntArray, IntArray, Array] | None:
        """Rows, columns and values of I (x) K0^-1, lower triangle, for a sparse K0^-1."""
        c = self.components[k]
        if c.term < 0:
            return None
        K = self.precision(c)
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

    def _dense_penalty(self, k: int) -> Iterator[tuple[IntArray, Array]]:
        """Equations and values of each copy of a dense K0^-1."""
        c = self.components[k]
        for positions, K in self.dense_precision(c):
            for a in range(c.width):
                yield c.offset + a * c.size + positions, K

    # ------------------------------------------------------------------------------- cross-products
    def cross_products(self, weight: Array | None) -> list[Array]:
        """Blocks of [X, Z F]' diag(weight) [X, Z F], one array (m, width a, width b) for each of `pairs`."""
        out = []
        for p in self.pairs:
            ca, cb = self.components[p.a], self.components[p.b]
            G = self._level_products(p, weight)
            out.append(G if ca.basis is None and cb.basis is None else self._through_basis(p, G))
        return out

    def _weighted(self, values: Array, weight: Array | None) -> Array:
        """R^-1 (its diagonal or its elements) times values, shape (n, k); None for the identity."""
        if weight is None:
            return values
        pairs = self.design.residual.pairs
        if pairs is None:
            return values * weight[:, None]
        n = self.design.n
        return np.asarray(sp.csr_array((weight, pairs), shape=(n, n)) @ values)

    def _level_products(self, p: Pairs, weight: Array | None) -> Array:
        ca, cb, met = self.components[p.a], self.components[p.b], p.meetings
        if ca.levels == cb.levels == 1:
            return np.asarray(ca.values.T @ self._weighted(cb.values, weight))[None]
        if cb.levels == 1 and ca.record is None:
            n = len(ca.level)
            Z = sp.csr_array((np.ones(n), ca.level, np.arange(n + 1)), shape=(n, ca.levels))
            right = self._weighted(cb.values, weight)
            return np.stack([np.asarray(Z.T @ (right * ca.values[:, [a]])) for a in range(ca.width)], axis=1)
        left, right = take(ca.values, met.first), take(cb.values, met.second)
        if weight is not None:
            left = left * take(weight, met.which)[:, None]
        G = np.empty((len(met.i), ca.width, cb.width))
        for a in range(ca.width):
            for b in range(cb.width):
                G[:, a, b] = np.bincount(met.code, weights=left[:, a] * right[:, b], minlength=len(met.i))
        return G

    def _through_basis(self, p: Pairs, G: Array) -> Array:
        """F_a' G F_b, as blocks of the columns of F."""
        ca, cb = self.components[p.a], self.components[p.b]
        full = np.zeros((ca.levels, cb.levels, ca.width, cb.width))
        full[p.meetings.i, p.meetings.j] = G
        if p.a == p.b:
            full[p.meetings.j, p.meetings.i] = G.transpose(0, 2, 1)
        if ca.basis is not None:
            full = np.tensordot(ca.basis.T, full, axes=1)
        if cb.basis is not None:
            full = np.moveaxis(np.tensordot(full, cb.basis, axes=(1, 0)), -1, 1)
        return full[p.i, p.j]

    def moments(self) -> tuple[list[Array], float] | None:
        """Henderson's method 1 for every (orthonormal) coefficient, as if coefficients and levels were independent.

        Notes
        -----
        With s = z'y0 of one level and m = z'z, the mean of sum s^2 / m over the levels is linear in the variances: the
        coefficients are sums of squared cross-products over the same m [1]_.

        References
        ----------
        .. [1] Henderson (1953) Biometrics 9:226.
        """
        w = self.design.residual.inverse_weights
        products = self._products
        if products is None or any(c.basis is not None for c in self.components):
            return None
        weighted = self.y0 if w is None else self.y0 / w
        sizes = {
            p.a: np.einsum("maa->ma", G[p.i == p.j]) for p, G in zip(self.pairs, products, strict=True) if p.a == p.b
        }
        start = np.cumsum([0] + [t.c for t in self.design.terms])
        left = np.zeros((start[-1] + 1,) * 2)
        right = np.zeros(start[-1] + 1)
        left[-1, -1], right[-1] = self.design.n - self.design.fixed.p, float(self.y0 @ weighted)
        for k, c in enumerate(self.components):
            if c.term >= 0:
                at = start[c.term] + c.coefs
                sums = (self.design.terms[c.term].Zt @ weighted).reshape(-1, c.size)[c.coefs].T
                if c.unit is not None:
                    sums = np.linalg.solve(c.unit.T, sums.T).T
                inverse = np.divide(1.0, sizes[k], out=np.zeros_like(sizes[k]), where=sizes[k] > 0)
                right[at] = np.sum(sums**2 * inverse, axis=0)
                left[at, -1] = np.sum(inverse > 0, axis=0)
                left[-1, at] = np.sum(sizes[k], axis=0)
                sizes[k] = inverse
        for p, G in zip(self.pairs, products, strict=True):
            self._add_squares(left, p, G, sizes, start)
        found = np.linalg.lstsq(left, right, rcond=1e-8)[0]
        matrices = [np.zeros((t.c, t.c)) for t in self.design.terms]
        for c in self.components:
            if c.term >= 0:
                inner = np.diag(found[start[c.term] + c.coefs])
                if c.unit is not None:
                    inner = np.linalg.solve(c.unit, np.linalg.solve(c.unit, inner).T)
                matrices[c.term][np.ix_(c.coefs, c.coefs)] = inner
        return matrices, float(found[-1])

    def _add_squares(self, left: Array, p: Pairs, G: Array, inverse: dict[int, Array], start: IntArray) -> None:
        """Sums of squared cross-products of two components, each over the sizes of the other's levels."""
        ca, cb = self.components[p.a], self.components[p.b]
        if cb.term < 0:
            return
        rows, cols = start[ca.term] + ca.coefs, start[cb.term] + cb.coefs
        squares = G**2
        left[np.ix_(rows, cols)] += np.einsum("mab,ma->ab", squares, inverse[p.a][p.i])
        if p.a != p.b or np.any(p.i != p.j):
            off = slice(None) if p.a != p.b else p.i != p.j
            left[np.ix_(cols, rows)] += np.einsum("mab,mb->ba", squares[off], inverse[p.b][p.j[off]])

    def products_at(self, theta: Array, sigma2: float | None) -> tuple[list[Array], float]:
        """Cross-products with R^-1, as blocks and a common factor."""
        if self._products is not None and sigma2 is not None:
            return self._products, 1.0 / sigma2
        return self.cross_products(self.design.residual.precision(theta)), 1.0

    def assemble(self, products: list[Array], factor: float, L: list[Array]) -> Array:
        """Values of W'R^-1 W on the pattern of C."""
        data = np.zeros(len(self.indices))
        for p, G in zip(self.pairs, products, strict=True):
            La, Lb = L[p.a], L[p.b]
            if La.size == Lb.size == 1:
                data[p.at] = G * (factor * La[0, 0] * Lb[0, 0])
            else:
                data[p.at] = (La.T * factor) @ (G @ Lb)
        return data

    # ---------------------------------------------------------------------------------------- engine
    def forecast(self) -> Forecast:
        """Cost of one evaluation."""
        f = self.symbolic.forecast
        return Forecast(order=self.N, nonzeros=f.nnz_factor, flops=f.flops, bytes=f.peak_bytes)

    def at(self, theta: Array) -> HendersonSystem:
        """Equations at theta."""
        return HendersonSystem(self, np.asarray(theta, dtype=float))


class HendersonSystem(System):
    """The factorised equations at one theta."""

    def __init__(self, engine: HendersonEngine, theta: Array) -> None:
        self.engine, self.design, self.theta = engine, engine.design, theta
        residual = self.design.residual
        self.sigma2 = float(self.theta_R[0]) if residual.homogeneous else None
        self.inner = [self._factor(c) for c in engine.components]  # of T Sigma T', in the equations
        both = zip(engine.components, self.inner, strict=True)
        self.L = [
            L if c.unit is None else np.asarray(np.linalg.solve(c.unit, L)) for c, L in both
        ]  # of Sigma, between v and u
        self.products, self.product_factor = engine.products_at(self.theta_R, self.sigma2)
        self.data = engine.assemble(self.products, self.product_factor, self.inner)
        self.data[engine.penalty_at] += engine.penalty
        self._inverses: dict[bool, tuple[Array, tuple[Array, ...]]] = {}
        self.factor: Factor = engine.symbolic.factor(self.data, [K for _, K in engine.cliques])

    def _factor(self, c: Component) -> Array:
        if c.term < 0:
            return np.eye(c.width)
        Sigma = self.Sigma[c.term][np.ix_(c.coefs, c.coefs)]
        structure, s = self.design.terms[c.term].structure, self.design.slices[c.term]
        if structure.factor_derivatives(self.theta[s]) is not None:
            L = structure.factor(self.theta[s])
            return L if c.unit is None else c.unit @ L
        try:
            if c.unit is None:
                return lower_factor(Sigma)
            # what Sigma lost to rounding comes back larger by the square of the columns' dependence, and proves nothing
            return lower_factor(c.unit @ Sigma @ c.unit.T, INDEFINITE if structure.free else np.inf)
        except ValueError as err:
            raise EngineError(f"Sigma of {self.design.terms[c.term].key} is not positive semi-definite here.") from err

    # ---------------------------------------------------------------------------------------- solve
    def solve(self, Y: Array) -> Solution:
        """BLUE, BLUP and residuals if the data were Y, shape (n,) or (n, m)."""
        v, u, e = self._solve(Y)
        return Solution(self.engine.to_b(v[: self.design.fixed.p]), u, e)

    def _solve(self, Y: Array) -> tuple[Array, tuple[Array, ...], Array]:
        engine, p = self.engine, self.design.fixed.p
        weighted = self.design.residual.solve(self.theta_R, Y)
        rhs = np.empty((engine.N, *Y.shape[1:]))
        if p:
            rhs[:p] = engine.X.T @ weighted
        loads = [(t.Zt @ weighted).reshape(t.c, t.q, *Y.shape[1:]) for t in self.design.terms]
        for c, L in zip(engine.components, self.L, strict=True):
            if c.term >= 0:
                part = mix(L.T, loads[c.term][c.coefs])
                if c.basis is not None:
                    part = np.moveaxis(np.tensordot(c.basis.T, part, axes=(1, 1)), 0, 1)
                rhs[c.offset : c.stop] = part.reshape(-1, *Y.shape[1:])
        s = self.factor.solve(rhs)
        u = self._effects(s)
        e = Y - engine.X @ s[:p] if p else Y.copy()
        for t, effect in zip(self.design.terms, u, strict=True):
            e -= t.Z @ np.moveaxis(effect, 1, 0).reshape(t.q * t.c, *Y.shape[1:])
        return s, u, e

    def _effects(self, s: Array) -> tuple[Array, ...]:
        """U = (L (x) F) v of each term, shape (q, c) or (q, c, m)."""
        u = [np.zeros((t.q, t.c, *s.shape[1:])) for t in self.design.terms]
        for c, L in zip(self.engine.components, self.L, strict=True):
            if c.term >= 0:
                v = s[c.offset : c.stop].reshape(c.width, c.size, *s.shape[1:])
                part = mix(L, v)
                if c.basis is not None:
                    part = np.moveaxis(np.tensordot(c.basis, part, axes=(1, 1)), 0, 1)
                u[c.term][:, c.coefs] = np.moveaxis(part, 0, 1)
        return tuple(u)

    @cached_property
    def _own(self) -> tuple[Array, tuple[Array, ...], Array]:
        """Solutions for the least-squares residuals of y: P annihilates X, so nothing is lost, and no digits are."""
        return self._solve(self.engine.y0)

    @cached_property
    def solution(self) -> Solution:
        """Solution for the data of the design."""
        s, u, e = self._own
        return Solution(self.engine.to_b(s[: self.design.fixed.p] + self.engine.b0), u, e)

    @cached_property
    def quadratic(self) -> float:
        """Y'Py = e'R^-1 e + v'(I (x) K0^-1) v."""
        s, _, e = self._own
        value = float(e @ self.design.residual.solve(self.theta_R, e))
        for c in self.engine.components:
            if c.term >= 0:
                v = s[c.offset : c.stop].reshape(c.width, c.size)
                value += float(np.vdot(v, self.engine.penalty_product(c, v)))
        return value

    # ---------------------------------------------------------------------------------- determinants
    def logdet(self, reml: bool) -> float:
        """log|V|, and under REML log|V| + log|X'V^-1 X|."""
        value = self.design.residual.logdet(self.theta_R)
        for t in self.design.terms:
            if t.relationship is not None:
                value += t.c * t.relationship.logdet0
        if reml:
            return value + self.factor.logdet + self.engine.log_jacobian
        return value + self.random_factor.logdet

    @cached_property
    def random_factor(self) -> Factor:
        """Factor of the equations of the random effects alone, C_vv: the tail of C, whose fixed effects come first."""
        engine, p = self.engine, self.design.fixed.p
        if not p:
            return self.factor
        return engine.random_symbolic.factor(self.data[engine.indptr[p] :], [K for _, K in engine.cliques])

    def _inverse(self, reml: bool, *, spend: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """C^-1 on the pattern of C and on the cliques; for ML C_vv^-1, with zeros in the columns of X."""
        if reml not in self._inverses:
            self._inverses[reml] = self._invert(reml, spend)
        return self._inverses[reml]

    def _invert(self, reml: bool, spend: bool) -> tuple[Array, tuple[Array, ...]]:
        if reml:
            return self.factor.selected_inverse(overwrite=spend)
        values = np.zeros(len(self.engine.indices))
        blocks: tuple[Array, ...] = ()
        if self.design.terms:
            tail, blocks = self.random_factor.selected_inverse(overwrite=spend)
            values[self.engine.indptr[self.design.fixed.p] :] = tail
        return values, blocks

    # ----------------------------------------------------------------------------------------- traces
    def traces(self, reml: bool, *, spend: bool = False) -> Array:
        """tr(P dV/dtheta_i), or tr(V^-1 dV/dtheta_i) under ML, shape (n_theta,).

        Notes
        -----
        tr(P dV) = tr(S dSigma) with M = S L and M_ab = sum over the pattern of (F'Z_a'R^-1 W) o C^-1[v_b, .]. Across a
        singular L, S is read a small step inside the cone.
        """
        inside = self._inside()
        if inside is not None:
            return inside.traces(reml, spend=True)
        Cinv, _ = self._inverse(reml, spend=spend)
        out = np.zeros(len(self.theta))
        M = self._moments(Cinv)
        for k, (c, L) in enumerate(zip(self.engine.components, self.inner, strict=True)):
            if c.term < 0:
                continue
            s, structure = self.design.slices[c.term], self.design.terms[c.term].structure
            dL = structure.factor_derivatives(self.theta[s])
            if dL is not None:
                out[s] += 2.0 * np.einsum("tab,ab->t", dL if c.unit is None else c.unit @ dL, M[k])
                continue
            S = np.linalg.solve(L.T, M[k].T).T
            if c.unit is not None:
                S = c.unit.T @ S @ c.unit
            D = structure.derivatives(self.theta[s])
            out[s] += np.einsum("tab,ab->t", D[:, c.coefs[:, None], c.coefs], S)
        out[self.design.slices[-1]] = self._residual_traces(Cinv, reml)
        return out

    def _inside(self) -> HendersonSystem | None:
        """The system a small step inside the cone, where some L is singular; None where none is."""
        singular = {
            c.term
            for c, L in zip(self.engine.components, self.inner, strict=True)
            if c.term >= 0 and np.any(np.diag(L) == 0) and not self._singular_by_nature(c)
        }
        if not singular:
            return None
        theta = self.theta.copy()
        for k in singular:
            t, s = self.design.terms[k], self.design.slices[k]
            size = np.maximum(np.diag(self.engine.typical_covariance(t)), np.diag(self.Sigma[k]))
            theta[s] = t.structure.start(self.Sigma[k] + BOUNDARY_STEP**2 * np.diag(size))
        inside = self.engine.at(theta)
        both = zip(self.engine.components, inside.inner, strict=True)
        if any(np.any(np.diag(L) == 0) for c, L in both if c.term >= 0 and not self._singular_by_nature(c)):
            raise EngineError("a covariance matrix is singular, and stays so a small step inside its bounds.")
        return inside

    def _singular_by_nature(self, c: Component) -> bool:
        """Whether the structure of a component has fewer factors than effects."""
        structure, s = self.design.terms[c.term].structure, self.design.slices[c.term]
        return structure.factor_derivatives(self.theta[s]) is not None

    def _moments(self, Cinv: Array) -> list[Array]:
        """M of each component, (width, width)."""
        engine = self.engine
        M = [np.zeros((c.width, c.width)) for c in engine.components]
        for p, G in zip(engine.pairs, self.products, strict=True):
            La, Lb = self.inner[p.a], self.inner[p.b]
            inverse = Cinv[p.at]
            if p.a == p.b:
                self._add_own(M[p.a], p, G, La, inverse)
                continue
            if La.size == Lb.size == 1:
                total = float(np.vdot(G, inverse))
                M[p.a] += total * Lb[0, 0]
                M[p.b] += total * La[0, 0]
                continue
            if engine.components[p.a].term >= 0:
                M[p.a] += np.tensordot(G @ Lb, inverse, axes=((0, 2), (0, 2)))
            if engine.components[p.b].term >= 0:
                M[p.b] += np.tensordot(La.T @ G, inverse, axes=((0, 1), (0, 1)))
        return [m * self.product_factor for m in M]

    def _add_own(self, M: Array, p: Pairs, G: Array, L: Array, inverse: Array) -> None:
        """Pairs within a component: those off the diagonal stand for their transpose too."""
        if self.engine.components[p.a].term < 0:
            return
        M += np.tensordot(G @ L, inverse, axes=((0, 2), (0, 2)))
        off = p.i != p.j
        if off.any():
            M += np.tensordot(L.T @ G[off], inverse[off], axes=((0, 1), (0, 1)))

    def _residual_traces(self, Cinv: Array, reml: bool) -> Array:
        """tr(R^-1 dR) + tr(C^-1 W' d(R^-1) W) for each parameter of R."""
        residual, engine = self.design.residual, self.engine
        if self.sigma2 is not None:
            # W'R^-1 W is C less the penalty, so that only the trace of the penalty is left to find
            order = engine.N if reml else engine.N - self.design.fixed.p
            return np.array([(self.design.n - order + self._penalty_trace(Cinv, reml)) / self.sigma2])
        out = np.empty(residual.structure.size)
        for k in range(len(out)):
            change = residual.precision_derivative(self.theta_R, k)
            data = engine.assemble(engine.cross_products(change), 1.0, self.inner)
            d = engine.diagonal
            through = 2.0 * float(data @ Cinv) - float(data[d] @ Cinv[d])
            out[k] = residual.logdet_derivative(self.theta_R, k) + through
        return out

    def _penalty_trace(self, Cinv: Array, reml: bool) -> float:
        """tr(C^-1 (I (x) K0^-1))."""
        engine = self.engine
        value = float(engine.penalty_weight @ Cinv[engine.penalty_at])
        _, blocks = self._inverse(reml)
        return value + sum(float(np.vdot(K, B)) for (_, K), B in zip(engine.cliques, blocks, strict=True))

    # ------------------------------------------------------------------------------------ covariances
    def _level_blocks(self, term: int, Cinv: Array) -> Array:
        t, engine = self.design.terms[term], self.engine
        out = np.zeros((t.q, t.c, t.c))
        for p in engine.pairs:
            ca, cb = engine.components[p.a], engine.components[p.b]
            if ca.term != term or cb.term != term:
                continue
            if ca.basis is None:
                own = p.i == p.j
                block = np.zeros((t.q, ca.width, cb.width))
                block[p.i[own]] = Cinv[p.at[own]]
            else:
                block = self._through_basis(p, Cinv)
            block = self.L[p.a] @ block @ self.L[p.b].T
            out[np.ix_(np.arange(t.q), ca.coefs, cb.coefs)] = block
            if p.a != p.b:
                out[np.ix_(np.arange(t.q), cb.coefs, ca.coefs)] = block.transpose(0, 2, 1)
        return out

    def _through_basis(self, p: Pairs, Cinv: Array) -> Array:
        """Level-diagonal blocks of F C^-1 F'."""
        c = self.engine.components[p.a]
        other = self.engine.components[p.b]
        full = np.zeros((c.size, c.size, c.width, other.width))
        full[p.i, p.j] = Cinv[p.at]
        if p.a == p.b:
            full[p.j, p.i] = Cinv[p.at].transpose(0, 2, 1)
        half = np.tensordot(c.basis, full, axes=1)
        return np.einsum("lsab,ls->lab", half, c.basis)

    def prediction_error(self, term: int) -> Array:
        """Var(u_hat - u) of each level of a term, shape (q, c, c)."""
        return self._level_blocks(term, self._inverse(reml=True)[0])

    def conditional_variance(self, term: int) -> Array:
        """Var(u | y, b) of each level of a term, shape (q, c, c)."""
        return self._level_blocks(term, self._inverse(reml=False)[0])

    def fixed_covariance(self) -> Array:
        """Covariance matrix of the BLUE, shape (p, p)."""
        p = self.design.fixed.p
        if not p:
            return np.zeros((0, 0))
        inner = self.factor.solve(np.eye(self.engine.N, p))[:p]
        half = self.engine.to_b(0.5 * (inner + inner.T))
        return self.engine.to_b(half.T)

    def fixed_variances(self) -> Array:
        """Its diagonal, shape (p,)."""
        if self.engine.scale is None:
            return np.diag(self.fixed_covariance())
        return self._inverse(reml=True)[0][self.engine.diagonal[: self.design.fixed.p]] * self.engine.scale**2

    def blue_weights(self, L: Array) -> Array:
        """V^-1 X (X'V^-1 X)^-1 L', shape (n, m): R^-1 W C^-1 of L in the place of the right-hand sides of X."""
        p = self.design.fixed.p
        rhs = np.zeros((self.engine.N, len(L)))
        rhs[:p] = self.engine.to_b(np.eye(p)).T @ np.asarray(L).T
        s = self.factor.solve(rhs)
        out = np.asarray(self.engine.X @ s[:p])
        for t, u in zip(self.design.terms, self._effects(s), strict=True):
            out += t.Z @ np.moveaxis(u, 1, 0).reshape(t.q * t.c, -1)
        return self.design.residual.solve(self.theta_R, out)

    def fitted_covariance(self) -> Array:
        """W C^-1 W': its diagonal, or its elements at `Residual.pairs`.

        Notes
        -----
        What two records of one unit load meets in W'R^-1 W, so that the inverse on the pattern of C has all it needs.
        """
        pairs = self.design.residual.pairs
        size = self.design.n if pairs is None else len(pairs[0])
        own, half = np.zeros(size), np.zeros(size)
        Cinv = self._inverse(reml=True)[0]
        for p in self.engine.pairs:
            code, which, values = self._met_covariances(p, Cinv)
            once = p.meetings.i[code] == p.meetings.j[code] if p.a == p.b else np.zeros(len(code), dtype=bool)
            own += np.bincount(which, weights=np.where(once, values, 0.0), minlength=size)
            half += np.bincount(which, weights=np.where(once, 0.0, values), minlength=size)
        if pairs is None:
            return own + 2.0 * half
        mirrored = np.empty(size)
        mirrored[np.lexsort(pairs)] = half[np.lexsort(pairs[::-1])]
        return own + half + mirrored

    def _met_covariances(self, p: Pairs, Cinv: Array) -> tuple[IntArray, IntArray, Array]:
        """For each meeting of two components its pair of levels, its element of R, and w_a' C^-1 w_b of its loads."""
        met, pairs = p.meetings, self.design.residual.pairs
        ca, cb = self.engine.components[p.a], self.engine.components[p.b]
        first, second, code = met.first, met.second, met.code
        if pairs is not None and first is None:  # R^-1 is elsewhere applied to X before they meet
            first, second, code = pairs[0], pairs[1], met.code[pairs[0]]
        left, right = take(ca.values, first) @ self.inner[p.a], take(cb.values, second) @ self.inner[p.b]
        blocks = Cinv[p.at] if ca.basis is None and cb.basis is None else self._between_levels(p, Cinv)
        values = np.einsum("ka,kab,kb->k", left, blocks[code], right, optimize=True)
        return code, np.arange(len(code)) if met.which is None else met.which, values

    def _between_levels(self, p: Pairs, Cinv: Array) -> Array:
        """F_a C^-1 F_b' of the pairs of levels that meet, shape (pairs, width a, width b)."""
        ca, cb = self.engine.components[p.a], self.engine.components[p.b]
        full = np.zeros((ca.size, cb.size, ca.width, cb.width))
        full[p.i, p.j] = Cinv[p.at]
        if p.a == p.b:
            full[p.j, p.i] = Cinv[p.at].transpose(0, 2, 1)
        if ca.basis is not None:
            full = np.tensordot(ca.basis, full, axes=1)
        if cb.basis is not None:
            full = np.moveaxis(np.tensordot(full, cb.basis, axes=(1, 1)), -1, 1)
        return np.asarray(full[p.meetings.i, p.meetings.j])

    def joint_covariance(self) -> Array:
        """Covariance of (b_hat, u_hat - u), term by term and coefficient-major."""
        p = self.design.fixed.p
        full = self.factor.solve(np.eye(self.engine.N))
        half = self._map_rows(full, p)
        return self._map_rows(half.T, p)

    def _map_rows(self, full: Array, p: int) -> Array:
        u = [np.moveaxis(e, 1, 0).reshape(-1, e.shape[2]) for e in self._effects(full)]
        return np.vstack([self.engine.to_b(full[:p]), *u])
