"""Degrees of freedom of the fixed effects: Satterthwaite, Kenward and Roger, containment; any n, no n x n matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mixedgen.covariance.structure import tangent_columns, trapezoid
from mixedgen.design.design import Design
from mixedgen.design.terms import unique_keys
from mixedgen.engines import System
from mixedgen.errors import ArgumentError, NotAvailableError
from mixedgen.estimation.estimate import Fitted
from mixedgen.estimation.likelihood import score, working_variates
from mixedgen.formula.parse import factor_variables, model_spec
from mixedgen.inference.hull import linear_hull

Array = NDArray[np.float64]
Ddf = Literal["satterthwaite", "kenward-roger", "containment", "z"]

MEMORY_LIMIT = 4 * 2**30  # bytes of the largest matrix of levels by levels
WORKSPACE = 2**28  # bytes of one block of records by right-hand sides
# Records times effects up to which Z'PZ, as many solves as there are effects, costs less than the dozen factorisations
# of the differences.
EXACT_WORK = 2_000_000
STEP = 5e-5  # of a standard deviation, in central differences, whose error is some eight times its square
AUTOMATIC_WORK = 2e11  # floating-point operations of the differences that a summary spends unasked
AUTOMATIC_WEIGHTS = 2e9  # and elements of the weights of the records in the estimates
FLAT = 1e-8  # eigenvalue of the scaled information below which the data tell nothing: lmerTest's tolerance
MAX_RANKED = 6000  # columns of [X Z] whose ranks containment counts


@dataclass(frozen=True)
class Inference:
    """A fitted model with what its small-sample tests share, computed when first asked for.

    Attributes
    ----------
    fitted : Fitted
        The model.
    """

    fitted: Fitted

    @cached_property
    def covariance(self) -> Array:
        """(X'V^-1 X)^-1, shape (p, p)."""
        return self.fitted.system.fixed_covariance()

    @cached_property
    def directions(self) -> Directions:
        """Directions in which theta can move at the optimum."""
        return free_directions(self.fitted)

    @cached_property
    def theta_covariance(self) -> Array:
        """Covariance of the free directions from the observed information of the fit's own criterion."""
        return pseudo_inverse(observed_information(self.fitted, self.directions))

    @cached_property
    def expected_covariance(self) -> Array:
        """Inverse of the expected REML information of theta, the W of Kenward and Roger, shape (n_theta, n_theta)."""
        return kenward_roger_weights(self.fitted)

    @cached_property
    def contained(self) -> Array:
        """Containment degrees of freedom of each coefficient, shape (p,)."""
        return containment_df(self.fitted.design)

    @property
    def known(self) -> bool:
        """Whether the variances were given: t is then normal, F a chi-squared."""
        return self.fitted.optimum is None

    @property
    def least_squares(self) -> bool:
        """Whether the residual variance is the only one, whose degrees of freedom are exact."""
        return not self.fitted.design.terms and self.fitted.design.residual.homogeneous


def is_linear(design: Design) -> bool:
    """Whether V is linear in theta: its parameters are elements of covariance matrices, none of them a correlation."""
    return sum(len(b) for b in design.blocks) == design.slices[-1].stop


def moved_weights(fitted: Fitted, W: Array) -> Iterator[Array]:
    """(dV/dtheta_i) W for each parameter i; W and each of them of shape (n, m)."""
    d, theta = fitted.design, fitted.theta
    for t, s in zip(d.terms, d.slices, strict=False):
        S = np.asarray(t.Zt @ W).reshape(t.c, t.q, -1)
        KS = np.stack([t.multiply_relationship(S[a]) for a in range(t.c)])
        for D in t.structure.derivatives(theta[s]):
            yield np.asarray(t.Z @ np.einsum("ab,bqm->aqm", D, KS).reshape(t.c * t.q, -1))
    s = d.slices[-1]
    for k in range(d.residual.structure.size):
        yield d.residual.multiply_derivative(theta[s], k, W)


# ------------------------------------------------------------------------------------- information of theta
@dataclass(frozen=True)
class Directions:
    """Coordinates of theta at the optimum that keep every covariance matrix positive semi-definite.

    Attributes
    ----------
    factors : tuple of (ndarray, ndarray)
        For each block of theta its parameters and a lower trapezoidal L with Sigma = L L', one column for each
        dimension that is not at the boundary; its entries on and below the diagonal are the coordinates.
    others : ndarray of int
        Parameters in no block and not at a bound, coordinates themselves.
    scale : ndarray, shape (n_theta,)
        Typical size of a displacement of each of them.
    jacobian : ndarray, shape (n_theta, k)
        Derivative of theta by the coordinates.
    """

    factors: tuple[tuple[NDArray[np.intp], Array], ...]
    others: NDArray[np.intp]
    scale: Array
    jacobian: Array

    def curvature(self, g: Array) -> Array:
        """Sum of g_i times the second derivatives of theta_i by the coordinates, shape (k, k)."""
        out = np.zeros((self.jacobian.shape[1],) * 2)
        at = 0
        for b, L in self.factors:
            G = np.zeros((len(L),) * 2)
            G[np.tril_indices(len(L))] = g[b]
            for j in range(L.shape[1]):
                size = len(L) - j
                out[at : at + size, at : at + size] = G[j:, j:] + G[j:, j:].T
                at += size
        return out

    def steps(self, theta: Array) -> list[tuple[float, Callable[[float], Array]]]:
        """For each coordinate its typical size, and theta as a function of its displacement."""
        out: list[tuple[float, Callable[[float], Array]]] = []
        for b, L in self.factors:
            size = np.sqrt(np.sum(L**2, axis=1))
            for j in range(L.shape[1]):
                for i in range(j, len(L)):
                    out.append((float(size[i] or size.max()), _moved_factor(theta, b, L, i, j)))
        for i in self.others:
            out.append((float(self.scale[i]), _moved_parameter(theta, int(i))))
        return out


def _moved_factor(theta: Array, b: NDArray[np.intp], L: Array, i: int, j: int) -> Callable[[float], Array]:
    """Theta as a function of the displacement of one entry of one factor."""

    def at(h: float) -> Array:
        moved, out = L.copy(), theta.copy()
        moved[i, j] += h
        out[b] = (moved @ moved.T)[np.tril_indices(len(L))]
        return out

    return at


def _moved_parameter(theta: Array, i: int) -> Callable[[float], Array]:
    """Theta as a function of the displacement of one parameter."""
    unit = np.eye(len(theta))[i]
    return lambda h: theta + h * unit


def free_directions(fitted: Fitted) -> Directions:
    """Coordinates along which theta can move: a vanishing variance has none, a singular matrix keeps its rank.

    Notes
    -----
    These are the directions that count in lme4's relative factor, which at the boundary is stationary in the others.
    """
    theta, d = fitted.theta, fitted.design
    factors, columns = [], []
    for b in d.blocks:
        L = trapezoid(theta[b], boundary=any(int(i) in fitted.bounds for i in b))
        factors.append((b, L))
        tangent = np.zeros((len(theta), L.shape[1] * len(L) - L.shape[1] * (L.shape[1] - 1) // 2))
        tangent[b] = tangent_columns(L)
        columns.append(tangent)
    blocked = np.concatenate([b for b, _ in factors]) if factors else np.zeros(0, dtype=np.intp)
    others = np.setdiff1d(np.arange(len(theta)), np.concatenate([blocked, list(fitted.bounds)]).astype(np.intp))
    se = np.sqrt(np.diag(fitted.theta_covariance)) if len(others) else np.zeros(len(theta))
    scale = 10.0 * np.where(np.isfinite(se) & (se > 0), se, np.maximum(np.abs(theta), STEP))
    jacobian = np.column_stack([np.zeros((len(theta), 0)), *columns, np.eye(len(theta))[:, others]])
    return Directions(tuple(factors), others, scale, jacobian)


def observed_information(fitted: Fitted, directions: Directions) -> Array:
    """Observed information of the fit's own criterion in the free directions, shape (k, k).

    Notes
    -----
    Where V is linear in theta, -d2l = y'P V_i P V_j P y - tr(P V_i P V_j) / 2: twice the average less the expected
    information, V^-1 for P in the trace under ML. The coordinates bend, which the score accounts for.
    """
    if exact_possible(fitted):
        E, traces = expected_information(fitted, fitted.reml)
        g = 0.5 * (working_variates(fitted.system)[1] - traces)
        J = directions.jacobian
        return J.T @ (2.0 * fitted.information - E) @ J - directions.curvature(g)
    return observed_by_differences(fitted, directions)


def observed_by_differences(fitted: Fitted, directions: Directions) -> Array:
    """`observed_information` from central differences of the exact score."""
    J = directions.jacobian
    slopes = differences(fitted, directions, lambda system: score(system, fitted.reml))
    information = -J.T @ slopes - directions.curvature(score(fitted.system, fitted.reml))
    return 0.5 * (information + information.T)


def differences(fitted: Fitted, directions: Directions, function: Callable[[System], Array]) -> Array:
    """Derivative of a function of the system along each coordinate, shape (values, k), by central differences."""
    columns = []
    for size, at in directions.steps(fitted.theta):
        h = STEP * size
        ahead, behind = (function(fitted.engine.at(at(x))) for x in (h, -h))
        columns.append((ahead - behind) / (2.0 * h))
    return np.stack(columns, axis=1)


def automatic(fitted: Fitted) -> bool:
    """Whether Satterthwaite's degrees of freedom cost so little that a summary may give them unasked."""
    if fitted.design.n * fitted.design.fixed.p > AUTOMATIC_WEIGHTS:
        return False
    return exact_possible(fitted) or 2 * len(fitted.theta) * fitted.engine.forecast().flops < AUTOMATIC_WORK


def exact_possible(fitted: Fitted) -> bool:
    """Whether the information follows from Z'PZ, and that is cheaper than differences."""
    return fitted.design.n * n_effects(fitted.design) <= EXACT_WORK and has_exact_information(fitted)


def has_exact_information(fitted: Fitted) -> bool:
    """Whether V is linear in theta with one residual variance."""
    return fitted.design.residual.homogeneous and is_linear(fitted.design)


def n_effects(design: Design) -> int:
    """Number of random effects."""
    return sum(t.q * t.c for t in design.terms)


def level_precision(system: System, reml: bool) -> Array:
    """Z'PZ, or Z'V^-1 Z under ML, shape (Q, Q), in blocks of columns that fit the workspace.

    Notes
    -----
    V^-1 = P + B (X'V^-1 X) B' with B = V^-1 X (X'V^-1 X)^-1.
    """
    d = system.design
    Z = sp.hstack([t.Z for t in d.terms], format="csc") if d.terms else sp.csc_array((d.n, 0))
    M = np.empty((Z.shape[1],) * 2)
    Zt = Z.T.tocsr()
    width = max(1, min(256, WORKSPACE // (8 * d.n)))
    for start in range(0, Z.shape[1], width):
        M[:, start : start + width] = Zt @ system.project(Z[:, start : start + width].toarray())
    if not reml and d.fixed.p:
        ZB: Array = np.asarray(Zt @ system.blue_weights(np.eye(d.fixed.p)))
        M += ZB @ np.linalg.solve(system.fixed_covariance(), ZB.T)
    return M


def expected_information(fitted: Fitted, reml: bool) -> tuple[Array, Array]:
    """Expected information tr(P V_i P V_j) / 2 and traces tr(P V_i), V^-1 for P under ML; one residual variance.

    Returns
    -------
    information : ndarray, shape (n_theta, n_theta)
        For V linear in theta.
    traces : ndarray, shape (n_theta,)
        Exact on the boundary too.

    Notes
    -----
    From M = Z'PZ: tr(P V_i P V_j) = tr(D_i K M D_j K M'). The rows of the residual variance follow from
    sum_j theta_j V_j = V: sum_j theta_j tr(P V_i P V_j) = tr(P V_i), sum_j theta_j tr(P V_j) = n - p.
    """
    d, theta = fitted.design, fitted.theta
    M = level_precision(fitted.system, reml)
    ends = np.cumsum([0, *(t.q * t.c for t in d.terms)])
    for t, a in zip(d.terms, ends, strict=False):
        for r in range(t.c):
            rows = slice(a + r * t.q, a + (r + 1) * t.q)
            M[rows] = t.multiply_relationship(M[rows])
    size, last = len(theta), len(theta) - 1
    E, traces = np.zeros((size, size)), np.zeros(size)
    derivatives = [t.structure.derivatives(theta[s]) for t, s in zip(d.terms, d.slices, strict=False)]
    for k, t in enumerate(d.terms):
        own = M[ends[k] : ends[k + 1], ends[k] : ends[k + 1]].reshape(t.c, t.q, t.c, t.q)
        traces[d.slices[k]] = np.einsum("iab,braR,rR->i", derivatives[k], own, np.eye(t.q), optimize=True)
        for m in range(k + 1):
            o = d.terms[m]
            left = M[ends[k] : ends[k + 1], ends[m] : ends[m + 1]].reshape(t.c, t.q, o.c, o.q)
            right = M[ends[m] : ends[m + 1], ends[k] : ends[k + 1]].reshape(o.c, o.q, t.c, t.q)
            cross = np.tensordot(left, right, axes=([1, 3], [3, 1]))  # coefficients b x y a of levels summed out
            block = 0.5 * np.einsum("iab,jxy,bxya->ij", derivatives[k], derivatives[m], cross, optimize=True)
            E[d.slices[k], d.slices[m]], E[d.slices[m], d.slices[k]] = block, block.T
    freedom = d.n - (d.fixed.p if reml else 0)
    traces[last] = (freedom - theta[:last] @ traces[:last]) / theta[last]
    E[last, :last] = E[:last, last] = (0.5 * traces[:last] - E[:last, :last] @ theta[:last]) / theta[last]
    E[last, last] = (0.5 * traces[last] - E[last, :last] @ theta[:last]) / theta[last]
    return E, traces


def pseudo_inverse(information: Array) -> Array:
    """Inverse of a symmetric matrix without the directions the data tell nothing about."""
    d = np.sqrt(np.maximum(np.abs(np.diag(information)), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(information / np.outer(d, d))
    kept = vectors[:, values > FLAT]
    return (kept / values[values > FLAT]) @ kept.T / np.outer(d, d)


def kenward_roger_weights(fitted: Fitted) -> Array:
    """Inverse of the expected REML information of all parameters, on the boundary too, as pbkrtest keeps them.

    Raises
    ------
    NotAvailableError
        If the model is an ML fit, V has no linear parameters, or the information does not fit into memory.

    Notes
    -----
    tr(P V_i P V_j) / 2 follows from that of the elements sigma of the covariance matrices, in which V is linear, by
    V_i = sum_k (dsigma_k / dtheta_i) V_k.
    """
    if not fitted.reml:
        raise NotAvailableError("Kenward-Roger is defined for REML fits; fit with method='reml', or ask for 'z'.")
    if is_linear(fitted.design):
        return pseudo_inverse(reml_information(fitted))
    hull = linear_hull(fitted)
    return pseudo_inverse(hull.jacobian.T @ reml_information(hull.fitted) @ hull.jacobian)


def reml_information(fitted: Fitted) -> Array:
    """Expected REML information of a V that is linear in theta, shape (n_theta, n_theta)."""
    if exact_possible(fitted):
        return expected_information(fitted, True)[0]
    directions = free_directions(fitted)
    if directions.jacobian.shape[1] == len(fitted.theta):
        slopes = differences(fitted, directions, lambda system: system.traces(True))
        E = -0.5 * np.linalg.solve(directions.jacobian.T, slopes.T)
        return 0.5 * (E + E.T)
    Q = n_effects(fitted.design)
    if 8 * Q**2 > MEMORY_LIMIT or not has_exact_information(fitted):
        raise NotAvailableError(
            f"Kenward-Roger at a boundary needs a matrix of {Q} x {Q} effects ({8 * Q**2 / 1e9:.1f} GB), which is "
            f"beyond {MEMORY_LIMIT / 1e9:.1f} GB, and one residual variance; use ddf='satterthwaite'."
        )
    return expected_information(fitted, True)[0]


# ----------------------------------------------------------------------------------------------- containment
def containment_df(design: Design) -> Array:
    """Degrees of freedom of each coefficient by containment, shape (p,).

    Notes
    -----
    Of the random effects whose variables comprise those of the fixed effect, the smallest contribution to the rank of
    [X Z], coarse effects first; n - rank [X Z] where there is none: SAS's DDFM=CONTAIN.

    Raises
    ------
    NotAvailableError
        If [X Z] has too many columns to count ranks.
    """
    blocks = random_effect_blocks(design)
    size = design.fixed.p + sum(Z.shape[1] for _, Z in blocks)
    if size > MAX_RANKED:
        raise NotAvailableError(f"containment ranks {size} columns of X and Z; the limit is {MAX_RANKED}.")
    W = sp.csc_array(sp.hstack([sp.csr_array(design.fixed.X), *(Z for _, Z in blocks)]))
    norms = np.sqrt(np.asarray(W.multiply(W).sum(axis=0)).ravel())
    W = W @ sp.diags_array(1.0 / np.where(norms > 0, norms, 1.0))
    gram = np.asarray((W.T @ W).todense())
    ends = np.cumsum([design.fixed.p, *(Z.shape[1] for _, Z in blocks)])
    ranks = np.array([np.linalg.matrix_rank(gram[:e, :e], tol=1e-9 * e, hermitian=True) if e else 0 for e in ends])
    gains = np.diff(ranks)
    out = []
    for variables in coefficient_variables(design):
        holding = [gain for (has, _), gain in zip(blocks, gains, strict=True) if variables <= has and gain > 0]
        out.append(min(holding, default=design.n - ranks[-1]))
    return np.array(out, dtype=float)


def random_effect_blocks(design: Design) -> list[tuple[set[str], sp.csr_array]]:
    """Variables and columns of Z of each random effect (one left-hand term over one grouping), coarse ones first."""
    parsed = dict(zip(unique_keys(design.parsed.terms), design.parsed.terms, strict=True))
    out: list[tuple[int, set[str], sp.csr_array]] = []
    for t in design.terms:
        groups = {str(getattr(f.source, "name", f.source)) for f in parsed[t.key].factors}
        for term in model_spec(parsed[t.key].effects):
            names = {v for f in term.factors for v in factor_variables(f, ())}
            wanted = "(Intercept)" if str(term) == "1" else str(term)
            mine = [a for a, e in enumerate(t.effects) if plain_name(e) == wanted]
            if mine:
                columns = sp.hstack([t.Z[:, a * t.q : (a + 1) * t.q] for a in mine])
                out.append((t.q, names | groups, sp.csr_array(columns)))
    return [(names, Z) for _, names, Z in sorted(out, key=lambda x: x[0])]


def plain_name(column: str) -> str:
    """Term that a column of formulaic belongs to: its name without the levels in brackets."""
    out, depth = "", 0
    for character in column:
        depth += character == "["
        out += character if depth == 0 else ""
        depth -= character == "]"
    return out


def coefficient_variables(design: Design) -> list[set[str]]:
    """Variables of the term of each column of X that is kept."""
    of = {}
    for entry in design.fixed.spec.structure:
        names = {v for f in entry.term.factors for v in factor_variables(f, ())}
        of.update({str(c): names for c in entry.columns})
    return [of.get(name, set()) for name in design.fixed.names]


# --------------------------------------------------------------------------------------------- tests of L b
@dataclass(frozen=True)
class TStatistics:
    """Variances and degrees of freedom of the rows of L b, shape (m,) each."""

    variances: Array
    df: Array


def row_blocks(fitted: Fitted, L: Array, copies: int) -> Iterator[slice]:
    """Rows of L whose weights, and `copies` matrices like them, fit the workspace."""
    width = max(1, WORKSPACE // (8 * fitted.design.n * copies))
    for start in range(0, len(L), width):
        yield slice(start, start + width)


def satterthwaite_t(inference: Inference, L: Array) -> TStatistics:
    """Satterthwaite's degrees of freedom of each row of L b.

    Notes
    -----
    df = 2 v^2 / (g'A g), v = L Cov L', g_i = dv/dtheta_i = w'V_i w with w = V^-1 X (X'V^-1 X)^-1 L' [1]_, and A the
    inverse of the observed information, as lmerTest has it [2]_.

    References
    ----------
    .. [1] Giesbrecht & Burns (1985) Biometrics 41:477.
    .. [2] Kuznetsova, Brockhoff & Christensen (2017) J Stat Softw 82(13).
    """
    fitted = inference.fitted
    v = np.einsum("ij,jk,ik->i", L, inference.covariance, L, optimize=True)
    g = np.zeros((len(fitted.theta), len(L)))
    for rows in row_blocks(fitted, L, 3):
        W = fitted.system.blue_weights(L[rows])
        for i, VW in enumerate(moved_weights(fitted, W)):
            g[i, rows] = np.einsum("nm,nm->m", W, VW)
    slopes = inference.directions.jacobian.T @ g
    spread = np.einsum("im,ij,jm->m", slopes, inference.theta_covariance, slopes, optimize=True)
    return TStatistics(v, ratio(2.0 * v**2, spread))


def ratio(a: Array, b: Array) -> Array:
    """Elements of a / b, infinite where b vanishes and a does not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b > 0, a / b, np.where(a > 0, np.inf, np.nan))


def kenward_roger_moments(inference: Inference, L: Array) -> tuple[Array, Array, Array]:
    """Covariance of L b, its derivatives by theta, and Kenward and Roger's adjusted covariance.

    Returns
    -------
    V : ndarray, shape (m, m)
        L Phi L' with Phi = (X'V^-1 X)^-1.
    derivatives : ndarray, shape (n_theta, m, m)
        w'V_i w = -L Phi P_i Phi L', with w = V^-1 X Phi L'.
    adjusted : ndarray, shape (m, m)
        L (Phi + 2 Phi [sum_ij W_ij (Q_ij - P_i Phi P_j - R_ij / 4)] Phi) L' [1]_.

    Notes
    -----
    Phi (Q_ij - P_i Phi P_j) Phi = (V_i w)' P (V_j w): one solve with m n_theta right-hand sides, and no cancellation.
    Phi R_ij Phi = w' V_ij w, which vanishes where V is linear in theta.

    References
    ----------
    .. [1] Kenward & Roger (1997) Biometrics 53:983; Halekoh & Hojsgaard (2014) J Stat Softw 59(9).
    """
    fitted = inference.fitted
    V = L @ inference.covariance @ L.T
    w = fitted.system.blue_weights(L)
    moved = np.stack(list(moved_weights(fitted, w)))
    derivatives = np.einsum("na,inb->iab", w, moved, optimize=True)
    size, n, m = moved.shape
    projected = fitted.system.project(np.moveaxis(moved, 0, 1).reshape(n, size * m)).reshape(n, size, m)
    # sum_ij W_ij (V_i w)' P (V_j w), the sum over j first
    mixed = np.einsum("ij,njm->inm", inference.expected_covariance, projected, optimize=True)
    adjustment = np.einsum("ina,inb->ab", moved, mixed, optimize=True)
    adjusted = V + adjustment + adjustment.T
    if not is_linear(fitted.design):
        adjusted -= 0.5 * second_order(fitted, w, inference.expected_covariance)
    return V, derivatives, adjusted


def second_order(fitted: Fitted, w: Array, W: Array) -> Array:
    """Sum of W_ij w' V_ij w, V_ij the second derivatives of V by central differences, shape (m, m)."""
    size = STEP * np.where(np.diag(W) > 0, np.sqrt(np.diag(W)), np.maximum(np.abs(fitted.theta), 1.0))

    def weighted(j: int) -> Callable[[Array], Array]:
        return lambda theta: np.einsum(
            "i,na,inb->ab", W[j], w, np.stack(list(moved_weights(replace(fitted, theta=theta), w))), optimize=True
        )

    out = np.zeros((w.shape[1],) * 2)
    for j, h in enumerate(size):
        step = h * np.eye(len(size))[j]
        out += (weighted(j)(fitted.theta + step) - weighted(j)(fitted.theta - step)) / (2.0 * h)
    return 0.5 * (out + out.T)


def kenward_roger_t(inference: Inference, L: Array) -> TStatistics:
    """Kenward and Roger's adjusted variance and degrees of freedom of each row of L b."""
    variances, df = np.empty(len(L)), np.empty(len(L))
    for rows in row_blocks(inference.fitted, L, 3 * len(inference.fitted.theta)):
        V, derivatives, adjusted = kenward_roger_moments(inference, L[rows])
        variances[rows] = np.diag(adjusted)
        for k, row in enumerate(range(*rows.indices(len(L)))):
            one = derivatives[:, k : k + 1, k : k + 1]
            df[row] = kenward_roger_scale(V[k : k + 1, k : k + 1], one, inference.expected_covariance)[1]
    return TStatistics(variances, df)


def kenward_roger_scale(V: Array, derivatives: Array, W: Array) -> tuple[float, float]:
    """Scale and denominator degrees of freedom of F, with pbkrtest's conventions near its singular points."""
    q = len(V)
    U = np.stack([np.linalg.solve(V, D) for D in derivatives])
    traces = np.einsum("iaa->i", U)
    A1 = float(traces @ W @ traces)
    A2 = float(np.einsum("ij,iab,jba->", W, U, U, optimize=True))
    if A2 == 0.0:
        return 1.0, np.inf
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    c1, c2, c3 = (x / (3.0 * q + 2.0 * (1.0 - g)) for x in (g, q - g, q + 2 - g))
    V0, V1, V2 = 1.0 + c1 * B, 1.0 - c2 * B, 1.0 - c3 * B
    V0 = 0.0 if abs(V0) < 1e-10 else V0
    E = 1.0 - A2 / q
    root = 1.0 if abs(E) < 1e-14 and abs(V1) < 1e-14 else E / V1
    rho = root**2 * V0 / V2 / q
    df = 4.0 + (q + 2) / (q * rho - 1.0)
    return (1.0 if abs(df - 2.0) < 0.01 else df * E / (df - 2.0)), df


def containment_t(inference: Inference, L: Array) -> TStatistics:
    """Containment degrees of freedom of each row of L b: the least of the coefficients in it."""
    df = np.where(L != 0.0, inference.contained, np.inf).min(axis=1, initial=np.inf)
    return TStatistics(np.einsum("ij,jk,ik->i", L, inference.covariance, L, optimize=True), df)


def normal_t(inference: Inference, L: Array) -> TStatistics:
    """Infinite degrees of freedom."""
    variances = np.einsum("ij,jk,ik->i", L, inference.covariance, L, optimize=True)
    return TStatistics(variances, np.full(len(L), np.inf))


METHODS: dict[str, Callable[[Inference, Array], TStatistics]] = {
    "satterthwaite": satterthwaite_t,
    "kenward-roger": kenward_roger_t,
    "containment": containment_t,
    "z": normal_t,
}


def require_ddf(ddf: str) -> None:
    """Raise an ArgumentError for a method of degrees of freedom that does not exist."""
    if ddf not in METHODS:
        raise ArgumentError(f"there is no ddf={ddf!r}; choose one of: {', '.join(METHODS)}.")


def t_statistics(inference: Inference, L: Array, ddf: str) -> TStatistics:
    """Variances and degrees of freedom of the rows of L b by a method; exact where the model makes them so.

    Parameters
    ----------
    inference : Inference
        The model.
    L : ndarray, shape (m, p)
        Over the columns of X that are kept.
    ddf : {"satterthwaite", "kenward-roger", "containment", "z"}
        Method.

    Raises
    ------
    ArgumentError, NotAvailableError
        If there is no such method, or it does not apply.
    """
    require_ddf(ddf)
    if inference.known or not len(L):
        return normal_t(inference, L)
    if inference.least_squares and ddf != "z":
        fixed = inference.fitted.design.fixed
        return TStatistics(
            normal_t(inference, L).variances, np.full(len(L), float(inference.fitted.design.n - fixed.p))
        )
    return METHODS[ddf](inference, L)
