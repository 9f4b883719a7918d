"""One point of the ascent: likelihood, gradient, curvature and its scales."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.triangle import (
    descending,
    lower_factor,
    lower_indices,
    ordered_jacobian,
    square,
    triangle,
)
from mixedgen.engines.system import Engine, System
from mixedgen.errors import EngineError
from mixedgen.estimation.expected import expected_information, has_exact_information, n_effects
from mixedgen.estimation.likelihood import average_information, deviance, score, working_variates

# All of these are beside the typical variance of each coefficient, so that units do not matter.
_SMALLEST_FACTOR = 1e-6  # an iterate stays this far inside the cone, on the scale of standard deviations

_AT_FLOOR = _SMALLEST_FACTOR * (1.0 + 1e-6)

# Without residuals the equations lose digits: their variance goes down by no more in a step, and not on where the rest
# of the way is worth nothing.
_SMALLEST_SHARE, _SMALL_RESIDUAL, _NOTHING_LEFT = 0.3, 1e-6, 3e-7

_CORRELATION_MARGIN = 1e-9  # a correlation of exactly one would make R singular

_SMALLEST_START = 1e-8  # a start is pushed this far inside the cone

_SMALLEST_CURVATURE = 1e-10  # below, an eigenvalue of such a matrix is rounding

# Of a typical variance: what is left of one beside others when a matrix is made singular. Iterates stay above.
_TRACE = 0.5 * _SMALLEST_FACTOR**2

# What secants learn: not from steps that are far from the optimum, nor from those so near that the score is rounding,
# nor along a direction that they say nothing about, nor so much that little of the average information is left.
_FARTHEST_SECANT, _NEAREST_SECANT, _SECANT, _LEAST_KEPT = 1.0, 1e-7, 1e-6, 0.1

_EXACT_WORK = 200_000  # records times effects up to which the expected information is cheap
_DIFFERENCE = 1e-3  # standard errors, in central differences of the score

# Rounding noise of the deviance beside its size: that of its parts, and that of sums over n records, which
# reaches 1e-11 (1e-5 in all) at 10^6 records.
_NOISE, _NOISE_OF_RECORD = 1e-13, 1e-17


@dataclass(frozen=True)
class Problem:
    """What does not change along the way.

    Attributes
    ----------
    engine : Engine
        Analysed equations.
    reml : bool
        Restricted likelihood or not.
    units : ndarray, shape (n_theta, n_theta)
        theta = units @ x: in x, a covariance matrix of typical size is the identity.
    """

    engine: Engine
    reml: bool
    units: Array

    @cached_property
    def blocks(self) -> tuple[IntArray, ...]:
        """Parameters of each block."""
        return self.engine.design.blocks

    @cached_property
    def free(self) -> tuple[tuple[int, float, float], ...]:
        """Parameters outside the blocks with their bounds, a little inside where they are finite, in units of x."""
        out = []
        for i, low, high in self.engine.design.free:
            margin = 0.0 if np.isinf(high) else _CORRELATION_MARGIN * (high - low)
            out.append((i, (low + margin) / self.units[i, i], (high - margin) / self.units[i, i]))
        return tuple(out)

    @cached_property
    def learns(self) -> bool:
        """Whether secants correct the average information: it lacks the second derivatives of V by correlations."""
        return bool(self.free) and all(np.isfinite(high - low) for _, low, high in self.free)

    @cached_property
    def residual_variances(self) -> frozenset[int]:
        """Variances of the residuals that are parameters by themselves."""
        first = self.engine.design.slices[-1].start
        return frozenset(int(b[0]) for b in self.blocks if len(b) == 1 and b[0] >= first)

    def noise(self, deviance: float) -> float:
        """Change of the deviance that rounding alone may make."""
        return rounding_noise(deviance, self.engine.design.n)

    @cached_property
    def traces(self) -> list[tuple[IntArray, Array]]:
        """Covariance matrices of theta, and below which of their variances there is nothing but rounding."""
        several = [b for b in self.blocks if len(b) > 1]
        return [(b, _TRACE * np.diag(typical_matrix(self.units, b))) for b in several]

    def natural(self, x: Array) -> Array:
        """Theta of an x; a variance that is rounding beside a typical one is zero, and so are its covariances."""
        theta = np.asarray(self.units @ x)
        for b, least in self.traces:
            Sigma = square(theta[b])
            gone = np.diag(Sigma) < least
            if gone.any():
                Sigma[gone, :] = Sigma[:, gone] = 0.0
                theta[b] = triangle(Sigma)
        return theta

    def to_units(self, theta: Array) -> Array:
        """X of a theta."""
        return np.asarray(np.linalg.solve(self.units, theta))


def rounding_noise(deviance: float, n: int) -> float:
    """Change of the deviance of n records that rounding alone may make."""
    return (_NOISE + _NOISE_OF_RECORD * n) * (1.0 + abs(deviance))


class Point:
    """The likelihood at one x, each part computed when it is first asked for.

    The derivatives spend the factor, which holds most of the memory: a point keeps its system only until then.
    """

    def __init__(self, problem: Problem, x: Array) -> None:
        self.problem, self.x = problem, x
        self.theta = problem.natural(x)
        self._system: System | None = problem.engine.at(self.theta)
        self.correction = np.zeros((len(x), len(x)))
        self.observed = False

    @property
    def system(self) -> System:
        """Equations at x, made again where they were spent."""
        if self._system is None:
            self._system = self.problem.engine.at(self.theta)
        return self._system

    @cached_property
    def deviance(self) -> float:
        """Minus twice the log-likelihood."""
        return deviance(self.system, self.problem.reml)

    @cached_property
    def _derivatives(self) -> tuple[Array, Array]:
        units, reml = self.problem.units, self.problem.reml
        self.deviance  # noqa: B018  taken while the factor is there
        F, quadratics = working_variates(self.system)
        information = units.T @ average_information(self.system, F) @ units
        del F
        gradient = units.T @ score(self.system, reml, quadratics, spend=True)
        self._system = None
        return gradient, information

    @property
    def score(self) -> Array:
        """Gradient of the log-likelihood by x."""
        return self._derivatives[0]

    @property
    def information(self) -> Array:
        """Average information of x."""
        return self._derivatives[1]

    def vanishes(self, i: int) -> bool:
        """Whether nothing is left to gain on the way of a residual variance to zero, where its limit is finite.

        Where the other effects fit the records exactly the gain is the same however near it comes.
        """
        return self.x[i] < _SMALL_RESIDUAL and 0.0 < -self.score[i] * self.x[i] < _NOTHING_LEFT

    def learn(self, before: Point) -> None:
        """Correct the information by the secant from the point before.

        Notes
        -----
        The symmetric rank-one update of what the average information lacks, as structured secants do for sums of
        squares [1]_; the convergence is then faster than linear where the model is not the true one, too.

        References
        ----------
        .. [1] Dennis, Gay & Welsch (1981) ACM Trans. Math. Software 7:348.
        """
        self._correct(before.correction, before.observed)
        if not self.observed and not _NEAREST_SECANT < before.decrement < _FARTHEST_SECANT:
            return
        step = self.x - before.x
        left = before.score - self.score - (self.information + before.correction) @ step
        along = float(left @ step)
        if abs(along) <= _SECANT * float(np.linalg.norm(left) * np.linalg.norm(step)):
            return
        correction = before.correction + np.outer(left, left) / along
        if self.observed or _keeps_enough(self.information, correction):
            self.correction = correction

    def _correct(self, correction: Array, observed: bool) -> None:
        """Take a correction of the information, and whether the sum is the observed one."""
        self.correction, self.observed = correction, observed
        for name in ("factors", "newton", "decrement"):  # follow from it
            self.__dict__.pop(name, None)

    def observe(self) -> None:
        """Correct the information to the observed one: twice the average less the expected, or from differences."""
        found = observed_information(self) if self.exact else self._slopes()
        if found is None or not np.all(np.isfinite(found)):
            return
        self._correct(0.5 * (found + found.T) - self.information, True)

    @property
    def exact(self) -> bool:
        """Whether the expected information is exact, and cheap."""
        d = self.problem.engine.design
        return has_exact_information(d) and d.n * n_effects(d) <= _EXACT_WORK

    def _slopes(self) -> Array | None:
        """Observed information from central differences of the score, each along a direction of one standard error.

        None where the point is too near the boundary for a step either way.
        """
        d = np.sqrt(np.maximum(np.diag(self.information), np.finfo(float).tiny))
        values, vectors = np.linalg.eigh(self.information / np.outer(d, d))
        directions = vectors / np.sqrt(np.maximum(values, _SMALLEST_CURVATURE)) / d[:, None]
        slopes = np.empty_like(directions)
        for k, direction in enumerate(directions.T):
            ends = [
                point_at(self.problem, self.x + h * direction)
                for h in (_DIFFERENCE, -_DIFFERENCE)
                if inside(self.problem, self.x + h * direction)
            ]
            if len(ends) < 2 or ends[0] is None or ends[1] is None:
                return None
            slopes[:, k] = (ends[0].score - ends[1].score) / (2.0 * _DIFFERENCE)
        return -np.linalg.solve(directions.T, slopes.T)

    @cached_property
    def factors(self) -> list[tuple[IntArray, Array]]:
        """Order of the coefficients of each block and L of the block in that order.

        On a hard way larger variances come first: a small one is then what the large ones leave of it, which the data
        tell apart from its covariances.
        """
        out = []
        for b in self.problem.blocks:
            Sigma = square(self.x[b])
            order = descending(Sigma) if self.observed else np.arange(len(Sigma))
            out.append((order, lower_factor(Sigma[np.ix_(order, order)])))
        return out

    @property
    def on_floor(self) -> bool:
        """Whether an element of L is as small as an iterate may have it."""
        return any(bool(np.any(np.diag(L) < _AT_FLOOR)) for _, L in self.factors)

    @cached_property
    def newton(self) -> tuple[Array, Array, Array]:
        """Step, gradient and Hessian on the factor scale, all blocks after each other."""
        gradient, hessian = _factor_scale(self)
        return newton_step(hessian, gradient, floor=True), gradient, hessian

    @cached_property
    def decrement(self) -> float:
        """Twice the gain in log-likelihood that the factor-scale Newton step promises."""
        step, gradient, _ = self.newton
        return float(step @ gradient)


def observed_information(point: Point) -> Array:
    """-d2l of x where V is linear in it: y'P V_i P V_j P y - tr(P V_i P V_j) / 2."""
    units, reml = point.problem.units, point.problem.reml
    return 2.0 * point.information - units.T @ expected_information(point.system, reml)[0] @ units


def _keeps_enough(information: Array, correction: Array) -> bool:
    """Whether a corrected information is positive definite, by a share of the information itself."""
    try:
        L = np.linalg.cholesky(information)
    except np.linalg.LinAlgError:
        return False
    inner = np.linalg.solve(L, np.linalg.solve(L, correction).T)
    return bool(np.linalg.eigvalsh(0.5 * (inner + inner.T))[0] > _LEAST_KEPT - 1.0)


def newton_step(hessian: Array, gradient: Array, *, floor: bool) -> Array:
    """hessian^-1 gradient, each parameter on its own scale; directions without curvature are floored, or left out.

    Where the criterion bends the wrong way the step goes up by as much as it would go down.
    """
    diagonal = np.abs(np.diag(hessian))
    known = diagonal > 1e-30 * float(diagonal.max())
    if not known.all():
        step = np.zeros(len(gradient))
        if known.any():
            step[known] = newton_step(hessian[np.ix_(known, known)], gradient[known], floor=floor)
        return step
    d = np.sqrt(diagonal)
    values, vectors = np.linalg.eigh(hessian / np.outer(d, d))
    along = vectors.T @ (gradient / d)
    values = np.abs(values)
    usable = values > _SMALLEST_CURVATURE
    along = along / np.where(usable, values, _SMALLEST_CURVATURE)
    return (vectors @ (along if floor else np.where(usable, along, 0.0))) / d


def gradient_matrix(lower: Array) -> Array:
    """D = dl/dSigma as a symmetric matrix: the derivatives by covariances are halved."""
    D = square(lower)
    return 0.5 * (D + np.diag(np.diag(D)))


def _negative_part(D: Array) -> Array:
    """The negative semi-definite part of a symmetric matrix."""
    values, vectors = np.linalg.eigh(D)
    return (vectors * np.minimum(values, 0.0)) @ vectors.T


def _factor_scale(point: Point) -> tuple[Array, Array]:
    """Gradient and Hessian (sign changed) of the log-likelihood by the elements of L."""
    size = len(point.x)
    J, curvature = np.zeros((size, size)), np.zeros((size, size))
    for i, _, _ in point.problem.free:
        J[i, i] = 1.0
    for b, (order, L) in zip(point.problem.blocks, point.factors, strict=True):
        if len(b) == 1:
            J[b[0], b[0]] = 2.0 * L[0, 0]
            D = point.score[b]
            curvature[b[0], b[0]] = -2.0 * float(D[0] if point.observed else min(D[0], 0.0))
            continue
        at = np.ix_(b, b)
        J[at] = ordered_jacobian(L, order)
        rows, cols = lower_indices(len(L))
        D = gradient_matrix(point.score[b])
        D = (D if point.observed else _negative_part(D))[np.ix_(order, order)]
        curvature[at] = -2.0 * D[np.ix_(rows, rows)] * (cols[:, None] == cols)
    information = point.information + point.correction if point.observed else point.information
    gradient, hessian = J.T @ point.score, J.T @ information @ J + curvature
    for i, low, high in point.problem.free:
        outward = (point.x[i] <= low and gradient[i] < 0) or (point.x[i] >= high and gradient[i] > 0)
        if outward:
            gradient[i] = 0.0
            hessian[i, :] = hessian[:, i] = 0.0
    held = _at_floor(point, gradient)
    gradient[held] = 0.0
    hessian[held, :] = hessian[:, held] = 0.0
    return gradient, hessian


def _at_floor(point: Point, gradient: Array) -> IntArray:
    """Elements of L as small as an iterate may have them, from which the likelihood rises only further down."""
    held = []
    for b, (_, L) in zip(point.problem.blocks, point.factors, strict=True):
        rows, cols = lower_indices(len(L))
        pivots = b[rows == cols]
        held.extend(pivots[(np.diag(L) < _AT_FLOOR) & (gradient[pivots] < 0)])
    held.extend(i for i in point.problem.residual_variances if point.vanishes(i))
    return np.array(held, dtype=np.intp)


def factor_move(point: Point, length: float) -> Array:
    """X after a step of some length on the factor scale, kept a little inside the cone."""
    x = point.x.copy()
    step = point.newton[0]
    for b, (order, L) in zip(point.problem.blocks, point.factors, strict=True):
        new = L.copy()
        new[lower_indices(len(L))] += length * step[b]
        d, least = np.diag(new), _SMALLEST_FACTOR
        if b[0] in point.problem.residual_variances:
            least = max(least, _SMALLEST_SHARE * float(L[0, 0]))
        np.fill_diagonal(new, np.where(np.abs(d) < least, least, d))
        back = np.argsort(order)
        x[b] = triangle((new @ new.T)[np.ix_(back, back)])
    for i, low, high in point.problem.free:
        x[i] = min(max(x[i] + length * step[i], low), high)
    return x


def inside(problem: Problem, x: Array) -> bool:
    """Whether every block is positive definite by a margin."""
    for b in problem.blocks:
        smallest = x[b[0]] if len(b) == 1 else np.linalg.eigvalsh(square(x[b]))[0]
        if smallest <= _SMALLEST_FACTOR**2:
            return False
    return all(low < x[i] < high for i, low, high in problem.free)


def pushed_inside(problem: Problem, x: Array) -> Array:
    """A start with the eigenvalues of every block at a distance from zero, where no optimiser can move."""
    x = x.copy()
    for b in problem.blocks:
        values, vectors = np.linalg.eigh(square(x[b]))
        if values[0] < _SMALLEST_START:
            x[b] = triangle((vectors * np.maximum(values, _SMALLEST_START)) @ vectors.T)
    return x


def point_at(problem: Problem, x: Array) -> Point | None:
    """The point at x, or None where the equations break down or the value is not finite."""
    try:
        point = Point(problem, x)
        return point if np.isfinite(point.deviance) else None
    except (EngineError, np.linalg.LinAlgError):
        return None


def has_derivatives(point: Point) -> bool:
    """Whether the equations give the derivatives at a point, which they do not where only bounds keep V definite."""
    try:
        return bool(np.all(np.isfinite(point.score)))
    except (EngineError, np.linalg.LinAlgError):
        return False


def typical_units(engine: Engine) -> Array:
    """Linear map from x to theta that takes the identity of each block to a covariance matrix of typical size."""
    design = engine.design
    units = np.eye(design.slices[-1].stop)
    structures = [*((t.structure, engine.scales.covariance(t)) for t in design.terms)]
    structures.append((design.residual.structure, engine.scales.residual))
    for (structure, typical), s in zip(structures, design.slices, strict=True):
        diagonal = structure.start(np.diag(np.diag(typical)))
        for b, effects in zip(structure.blocks, structure.block_effects, strict=True):
            if len(b) == 1:
                units[s.start + b[0], s.start + b[0]] = diagonal[b[0]]
                continue
            L = np.linalg.cholesky(typical[np.ix_(effects, effects)])
            columns = [triangle(L @ square(e) @ L.T) for e in np.eye(len(b))]
            units[np.ix_(s.start + b, s.start + b)] = np.stack(columns, axis=1)
    return units


def typical_matrix(units: Array, block: IntArray) -> Array:
    """Covariance matrix of typical size of a block, shape (c, c)."""
    c = math.isqrt(2 * len(block))
    return square(units[np.ix_(block, block)] @ triangle(np.eye(c)))
