"""Henderson's mixed-model equations with a sparse factor: the engine for data of any size.

Sigma is never inverted, so a singular Sigma is an ordinary point; `equations.py` has the equations themselves.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.design.design import Design
from mixedgen.engines.components import Component, mix
from mixedgen.engines.equations import equations_of
from mixedgen.engines.factored import factored
from mixedgen.engines.forecast import Forecast
from mixedgen.engines.meetings import Block, take
from mixedgen.engines.method_one import method_one
from mixedgen.engines.system import Engine, Solution, System
from mixedgen.errors import EngineError
from mixedgen.sparse.contract import CholeskyFactor

# Distance from a singular L at which the derivative across the boundary is taken, beside the term's own scale: the
# score is smooth there, so the error is of this order squared, and its rounding error that of 1e-16 / this.
_BOUNDARY_STEP = 1e-5


class HendersonEngine(Engine):
    """Henderson's sparse equations of one design: pattern, cross-products and symbolic factor, found once."""

    name = "henderson"

    def __init__(self, design: Design) -> None:
        super().__init__(design)
        self.equations = equations_of(design)
        self.equations.homogeneous  # noqa: B018  made once, before any theta
        self.b0, self.y0 = self.equations.fixed.fit(design.y)

    def forecast(self) -> Forecast:
        """Cost of one evaluation."""
        f = self.equations.symbolic.forecast
        return Forecast(order=self.equations.N, nonzeros=f.nnz_factor, flops=f.flops, bytes=f.peak_bytes)

    def guess(self) -> tuple[list[Array], float] | None:
        """Henderson's method 1."""
        return method_one(self.equations, self.y0)

    def at(self, theta: Array) -> HendersonSystem:
        """Equations at theta."""
        return HendersonSystem(self, np.asarray(theta, dtype=float))


class HendersonSystem(System):
    """The factorised equations at one theta."""

    def __init__(self, engine: HendersonEngine, theta: Array) -> None:
        super().__init__(engine.design, theta)
        self.engine, self.equations = engine, engine.equations
        self.sigma2 = float(self.theta_R[0]) if self.design.residual.homogeneous else None
        at = factored(self.equations, theta, self.Sigma)
        self.inner, self.L, self.factor = at.inner, at.L, at.factor
        self.products, self.product_factor, self.data = at.products, at.scale, at.values
        self._inverses: dict[bool, tuple[Array, tuple[Array, ...]]] = {}

    def solve(self, Y: Array) -> Solution:
        """BLUE, BLUP and residuals if the data were Y, shape (n,) or (n, m)."""
        v, u, e = self._solve(Y)
        return Solution(self.equations.fixed.to_b(v[: self.design.fixed.p]), u, e)

    def _solve(self, Y: Array) -> tuple[Array, tuple[Array, ...], Array]:
        equations, p = self.equations, self.design.fixed.p
        weighted = self.design.residual.solve(self.theta_R, Y)
        rhs = np.empty((equations.N, *Y.shape[1:]))
        if p:
            rhs[:p] = equations.fixed.X.T @ weighted
        loads = [(t.Zt @ weighted).reshape(t.c, t.q, *Y.shape[1:]) for t in self.design.terms]
        for c, L in zip(equations.components, self.L, strict=True):
            if c.term >= 0:
                part = mix(L.T, loads[c.term][c.coefs])
                if c.basis is not None:
                    part = np.moveaxis(np.tensordot(c.basis.T, part, axes=(1, 1)), 0, 1)
                rhs[c.offset : c.stop] = part.reshape(-1, *Y.shape[1:])
        s = self.factor.solve(rhs)
        u = self._effects(s)
        e = Y - equations.fixed.X @ s[:p] if p else Y.copy()
        for t, effect in zip(self.design.terms, u, strict=True):
            e -= t.Z @ np.moveaxis(effect, 1, 0).reshape(t.q * t.c, *Y.shape[1:])
        return s, u, e

    def _effects(self, s: Array) -> tuple[Array, ...]:
        """U = (L (x) F) v of each term, shape (q, c) or (q, c, m)."""
        u = [np.zeros((t.q, t.c, *s.shape[1:])) for t in self.design.terms]
        for c, L in zip(self.equations.components, self.L, strict=True):
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
        return Solution(self.equations.fixed.to_b(s[: self.design.fixed.p] + self.engine.b0), u, e)

    @cached_property
    def quadratic(self) -> float:
        """Y'Py = e'R^-1 e + v'(I (x) K0^-1) v."""
        s, _, e = self._own
        value = float(e @ self.design.residual.solve(self.theta_R, e))
        for c in self.equations.components:
            if c.term >= 0:
                v = s[c.offset : c.stop].reshape(c.width, c.size)
                value += float(np.vdot(v, self.equations.penalty_product(c, v)))
        return value

    def logdet(self, reml: bool) -> float:
        """log|V|, and under REML log|V| + log|X'V^-1 X|."""
        value = self.design.residual.logdet(self.theta_R)
        for t in self.design.terms:
            if t.relationship is not None:
                value += t.c * t.relationship.logdet0
        if reml:
            return value + self.factor.logdet + self.equations.fixed.log_jacobian
        return value + self.random_factor.logdet

    @cached_property
    def random_factor(self) -> CholeskyFactor:
        """Factor of the equations of the random effects alone, C_vv: the tail of C, whose fixed effects come first."""
        equations, p = self.equations, self.design.fixed.p
        if not p:
            return self.factor
        return equations.random_symbolic.factor(self.data[equations.indptr[p] :], equations.penalty.dense)

    def _inverse(self, reml: bool, *, spend: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """C^-1 on the pattern of C and on the cliques; for ML C_vv^-1, with zeros in the columns of X."""
        if reml not in self._inverses:
            self._inverses[reml] = self._invert(reml, spend)
        return self._inverses[reml]

    def _invert(self, reml: bool, spend: bool) -> tuple[Array, tuple[Array, ...]]:
        if reml:
            return self.factor.selected_inverse(overwrite=spend)
        values = np.zeros(len(self.equations.indices))
        blocks: tuple[Array, ...] = ()
        if self.design.terms:
            tail, blocks = self.random_factor.selected_inverse(overwrite=spend)
            values[self.equations.indptr[self.design.fixed.p] :] = tail
        return values, blocks

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
        M = self._crossed(Cinv)
        for k, (c, L) in enumerate(zip(self.equations.components, self.inner, strict=True)):
            if c.term < 0:
                continue
            s, structure = self.design.slices[c.term], self.design.terms[c.term].structure
            if structure.singular:
                dL = structure.factor_derivatives(self.theta[s])
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
            for c, L in zip(self.equations.components, self.inner, strict=True)
            if c.term >= 0 and np.any(np.diag(L) == 0) and not self._singular_by_nature(c)
        }
        if not singular:
            return None
        theta = self.theta.copy()
        for k in singular:
            t, s = self.design.terms[k], self.design.slices[k]
            size = np.maximum(np.diag(self.engine.scales.covariance(t)), np.diag(self.Sigma[k]))
            theta[s] = t.structure.start(self.Sigma[k] + _BOUNDARY_STEP**2 * np.diag(size))
        inside = self.engine.at(theta)
        both = zip(self.equations.components, inside.inner, strict=True)
        if any(np.any(np.diag(L) == 0) for c, L in both if c.term >= 0 and not self._singular_by_nature(c)):
            raise EngineError("a covariance matrix is singular, and stays so a small step inside its bounds.")
        return inside

    def _singular_by_nature(self, c: Component) -> bool:
        """Whether the structure of a component has fewer factors than effects."""
        return self.design.terms[c.term].structure.singular

    def _crossed(self, Cinv: Array) -> list[Array]:
        """M of each component, (width, width)."""
        equations = self.equations
        M = [np.zeros((c.width, c.width)) for c in equations.components]
        for p, G in zip(equations.blocks, self.products, strict=True):
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
            if equations.components[p.a].term >= 0:
                M[p.a] += np.tensordot(G @ Lb, inverse, axes=((0, 2), (0, 2)))
            if equations.components[p.b].term >= 0:
                M[p.b] += np.tensordot(La.T @ G, inverse, axes=((0, 1), (0, 1)))
        return [m * self.product_factor for m in M]

    def _add_own(self, M: Array, p: Block, G: Array, L: Array, inverse: Array) -> None:
        """Pairs within a component: those off the diagonal stand for their transpose too."""
        if self.equations.components[p.a].term < 0:
            return
        M += np.tensordot(G @ L, inverse, axes=((0, 2), (0, 2)))
        off = p.i != p.j
        if off.any():
            M += np.tensordot(L.T @ G[off], inverse[off], axes=((0, 1), (0, 1)))

    def _residual_traces(self, Cinv: Array, reml: bool) -> Array:
        """tr(R^-1 dR) + tr(C^-1 W' d(R^-1) W) for each parameter of R."""
        residual, equations = self.design.residual, self.equations
        if self.sigma2 is not None:
            # W'R^-1 W is C less the penalty, so that only the trace of the penalty is left to find
            order = equations.N if reml else equations.N - self.design.fixed.p
            return np.array([(self.design.n - order + self._penalty_trace(Cinv, reml)) / self.sigma2])
        out = np.empty(residual.structure.size)
        for k in range(len(out)):
            change = residual.precision_derivative(self.theta_R, k)
            data = equations.assemble(equations.cross_products(change), 1.0, self.inner)
            d = equations.diagonal
            through = 2.0 * float(data @ Cinv) - float(data[d] @ Cinv[d])
            out[k] = residual.logdet_derivative(self.theta_R, k) + through
        return out

    def _penalty_trace(self, Cinv: Array, reml: bool) -> float:
        """tr(C^-1 (I (x) K0^-1))."""
        equations = self.equations
        value = float(equations.penalty.weight @ Cinv[equations.penalty.at])
        _, blocks = self._inverse(reml)
        return value + sum(float(np.vdot(K, B)) for (_, K), B in zip(equations.penalty.cliques, blocks, strict=True))

    def _level_blocks(self, term: int, Cinv: Array) -> Array:
        t, equations = self.design.terms[term], self.equations
        out = np.zeros((t.q, t.c, t.c))
        for p in equations.blocks:
            ca, cb = equations.components[p.a], equations.components[p.b]
            if ca.term != term or cb.term != term:
                continue
            if ca.basis is None:
                own = p.i == p.j
                block = np.zeros((t.q, ca.width, cb.width))
                block[p.i[own]] = Cinv[p.at[own]]
            else:
                block = self._diagonal_through_basis(p, Cinv)
            block = self.L[p.a] @ block @ self.L[p.b].T
            out[np.ix_(np.arange(t.q), ca.coefs, cb.coefs)] = block
            if p.a != p.b:
                out[np.ix_(np.arange(t.q), cb.coefs, ca.coefs)] = block.transpose(0, 2, 1)
        return out

    def _diagonal_through_basis(self, p: Block, Cinv: Array) -> Array:
        """Level-diagonal blocks of F C^-1 F'."""
        c = self.equations.components[p.a]
        other = self.equations.components[p.b]
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
        inner = self.factor.solve(np.eye(self.equations.N, p))[:p]
        half = self.equations.fixed.to_b(0.5 * (inner + inner.T))
        return self.equations.fixed.to_b(half.T)

    def fixed_variances(self) -> Array:
        """Its diagonal, shape (p,)."""
        if self.equations.fixed.back.ndim == 2:
            return np.diag(self.fixed_covariance())
        own = self._inverse(reml=True)[0][self.equations.diagonal[: self.design.fixed.p]]
        return own * self.equations.fixed.back**2

    def blue_weights(self, L: Array) -> Array:
        """V^-1 X (X'V^-1 X)^-1 L', shape (n, m): R^-1 W C^-1 of L in the place of the right-hand sides of X."""
        p = self.design.fixed.p
        rhs = np.zeros((self.equations.N, len(L)))
        rhs[:p] = self.equations.fixed.to_b(np.eye(p)).T @ np.asarray(L).T
        s = self.factor.solve(rhs)
        out = np.asarray(self.equations.fixed.X @ s[:p])
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
        for p in self.equations.blocks:
            code, which, values = self._covariances_of_loads(p, Cinv)
            once = p.meetings.i[code] == p.meetings.j[code] if p.a == p.b else np.zeros(len(code), dtype=bool)
            own += np.bincount(which, weights=np.where(once, values, 0.0), minlength=size)
            half += np.bincount(which, weights=np.where(once, 0.0, values), minlength=size)
        if pairs is None:
            return own + 2.0 * half
        mirrored = np.empty(size)
        mirrored[np.lexsort(pairs)] = half[np.lexsort(pairs[::-1])]
        return own + half + mirrored

    def _covariances_of_loads(self, p: Block, Cinv: Array) -> tuple[IntArray, IntArray, Array]:
        """For each meeting of two components its pair of levels, its element of R, and w_a' C^-1 w_b of its loads."""
        met, pairs = p.meetings, self.design.residual.pairs
        ca, cb = self.equations.components[p.a], self.equations.components[p.b]
        first, second, code = met.first, met.second, met.code
        if pairs is not None and first is None:  # R^-1 is elsewhere applied to X before they meet
            first, second, code = pairs[0], pairs[1], met.code[pairs[0]]
        left, right = take(ca.values, first) @ self.inner[p.a], take(cb.values, second) @ self.inner[p.b]
        blocks = Cinv[p.at] if ca.basis is None and cb.basis is None else self._inverse_at_levels(p, Cinv)
        values = np.einsum("ka,kab,kb->k", left, blocks[code], right, optimize=True)
        return code, np.arange(len(code)) if met.which is None else met.which, values

    def _inverse_at_levels(self, p: Block, Cinv: Array) -> Array:
        """F_a C^-1 F_b' of the pairs of levels that meet, shape (pairs, width a, width b)."""
        ca, cb = self.equations.components[p.a], self.equations.components[p.b]
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
        full = self.factor.solve(np.eye(self.equations.N))
        half = self._map_rows(full, p)
        return self._map_rows(half.T, p)

    def _map_rows(self, full: Array, p: int) -> Array:
        u = [np.moveaxis(e, 1, 0).reshape(-1, e.shape[2]) for e in self._effects(full)]
        return np.vstack([self.equations.fixed.to_b(full[:p]), *u])
