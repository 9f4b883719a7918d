"""One ascent loop for REML and ML: average information on the natural scale, the factor scale at the boundary, or EM.

Inside the cone of positive semi-definite matrices a step is theta + AI^-1 score. A step that would leave the cone, or
that does not improve, is taken on the factor scale instead, Sigma = L L': there the boundary is an ordinary point, and
with D = dl/dSigma the Hessian J'AI J - 2 D_- makes the approach to it faster than linear, where an EM step creeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mixedgen.covariance.structure import lower_factor, lower_indices, square, tangent_columns, trapezoid, triangle
from mixedgen.design.restrictions import Restrictions
from mixedgen.engines import Engine, System
from mixedgen.errors import ArgumentError, EngineError
from mixedgen.estimation.likelihood import average_information, deviance, score, working_variates

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

# A way of more steps than this is a hard one: most take five to eight.
HARD = 14
# All of these are beside the typical variance of each coefficient, so that units do not matter.
SMALLEST_FACTOR = 1e-6  # an iterate stays this far inside the cone, on the scale of standard deviations
CORRELATION_MARGIN = 1e-9  # a correlation of exactly one would make R singular
SMALLEST_START = 1e-8  # a start is pushed this far inside the cone
NULL = 1e-13  # an eigenvalue below is zero but for rounding
WORTH = 0.01  # of the gain that the factor scale promises: an average-information step that promises less is none
SMALLEST_CURVATURE = 1e-10  # below, an eigenvalue of such a matrix is rounding
FLAT_CURVATURE = 1e-8  # an information matrix, scaled to unit diagonal, with a smaller eigenvalue says nothing there
# Of a typical variance: what is left of one beside others when a matrix is made singular. Iterates stay above.
TRACE = 0.5 * SMALLEST_FACTOR**2
# What secants learn: not from steps that are far from the optimum, nor from those so near that the score is rounding,
# nor along a direction that they say nothing about, nor so much that little of the average information is left.
FARTHEST_SECANT, NEAREST_SECANT, SECANT, LEAST_KEPT = 1.0, 1e-7, 1e-6, 0.1
BOUNDARY_VARIANCE = 1e-5  # variances (eigenvalues) below are candidates for an exact zero
# Rounding noise of the deviance beside its size: that of its parts, and that of sums over n records, which
# reaches 1e-11 (1e-5 in all) at 10^6 records.
NOISE, NOISE_OF_RECORD = 1e-13, 1e-17
DEFAULT_ITERATIONS = {"ai": 100, "em": 20_000}


@dataclass(frozen=True)
class Control:
    """How to estimate.

    Parameters
    ----------
    optimiser : {"ai", "em"}
        Average information, or expectation-maximisation.
    engine : str
        ``"auto"``, ``"henderson"`` or ``"dense"``.
    start : mapping, optional
        Start values by term: a variance, or a covariance matrix; ``"residual"`` too. The rest start at their defaults.
    tol : float
        Stop when the Newton decrement, twice the expected gain in log-likelihood, is below this (or below the rounding
        noise of the criterion); one more step is then taken.
    max_iter : int, optional
        Steps at most: 100 for AI, 20,000 for EM by default.
    constraints : tuple of str
        Columns of X to set to zero where X is not of full rank.
    fix : mapping of str to float
        Variance parameters with a known value, by their names in `theta`: ``{"residual[a,a]": 1.0}``.
    equate : sequence of sequences of str
        Variance parameters of one term that are the same, named by the first.
    bound : mapping of str to (low, high)
        Variance parameters that lie between bounds.
    progress : bool
        Show a progress line for long fits.
    seed : int
        Of the starts drawn at random where the first one led a hard way.

    Raises
    ------
    ArgumentError
        If the optimiser is unknown, or a number is not positive.
    """

    optimiser: Literal["ai", "em"] = "ai"
    engine: str = "auto"
    start: Mapping[str, Any] | None = None
    tol: float = 1e-11
    max_iter: int | None = None
    constraints: tuple[str, ...] = ()
    fix: Mapping[str, float] = field(default_factory=dict)
    equate: Sequence[Sequence[str]] = ()
    bound: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    progress: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        if isinstance(self.constraints, str):
            raise ArgumentError(f"constraints are a sequence of names: write constraints=({self.constraints!r},).")
        if self.optimiser not in DEFAULT_ITERATIONS:
            raise ArgumentError(f"optimiser must be 'ai' or 'em', not {self.optimiser!r}.")
        self.restrictions  # noqa: B018  checks what it is made of
        if not self.tol > 0:
            raise ArgumentError(f"tol must be positive, not {self.tol}.")
        if self.max_iter is not None and self.max_iter < 1:
            raise ArgumentError(f"max_iter must be at least 1, not {self.max_iter}.")

    @property
    def restrictions(self) -> Restrictions:
        """What is known of the variance parameters."""
        return Restrictions(self.fix, self.equate, self.bound)

    @property
    def iterations(self) -> int:
        """Steps at most."""
        return DEFAULT_ITERATIONS[self.optimiser] if self.max_iter is None else self.max_iter


@dataclass(frozen=True)
class Step:
    """One line of the history: where the step led, how it was made, and the decrement before it."""

    theta: Array
    deviance: float
    kind: str
    decrement: float


@dataclass(frozen=True)
class Boundary:
    """A random term whose covariance matrix is singular at the optimum.

    Attributes
    ----------
    parameters : tuple of int
        The block of theta.
    direction : ndarray
        Combination of the coefficients without variance (one row for each).
    multiplier : float
        Decrease of the log-likelihood for each unit of typical variance in that direction; positive at an optimum.
    """

    parameters: tuple[int, ...]
    direction: Array
    multiplier: float


@dataclass(frozen=True)
class Optimum:
    """Where the loop ended.

    Attributes
    ----------
    theta : ndarray
        Variance parameters, exactly on the boundary where the optimum is.
    system : System
        Equations there.
    deviance : float
        Minus twice the log-likelihood there.
    decrement : float
        Newton decrement on the factor scale.
    gradient : float
        Largest element of the gradient on the factor scale, in standard errors.
    curvature : float
        Smallest eigenvalue of the information of the free parameters, each on its own scale (1 = best conditioned).
    flat : int or None
        The parameter most at fault when the curvature vanishes.
    boundaries : tuple of Boundary
        Terms on the boundary.
    history : tuple of Step
        All steps.
    finished : bool
        Whether the decrement came below the tolerance.
    at_bounds : tuple of int
        Parameters outside the blocks at a bound of theirs.
    """

    theta: Array
    system: System
    deviance: float
    decrement: float
    gradient: float
    curvature: float
    flat: int | None
    boundaries: tuple[Boundary, ...]
    history: tuple[Step, ...] = field(repr=False)
    finished: bool = True
    at_bounds: tuple[int, ...] = ()


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
            margin = 0.0 if np.isinf(high) else CORRELATION_MARGIN * (high - low)
            out.append((i, (low + margin) / self.units[i, i], (high - margin) / self.units[i, i]))
        return tuple(out)

    @cached_property
    def learns(self) -> bool:
        """Whether secants correct the average information: it lacks the second derivatives of V by correlations."""
        return bool(self.free) and all(np.isfinite(high - low) for _, low, high in self.free)

    def noise(self, deviance: float) -> float:
        """Change of the deviance that rounding alone may make."""
        return rounding_noise(deviance, self.engine.design.n)

    @cached_property
    def traces(self) -> list[tuple[IntArray, Array]]:
        """Covariance matrices of theta, and below which of their variances there is nothing but rounding."""
        several = [b for b in self.blocks if len(b) > 1]
        return [(b, TRACE * np.diag(typical_matrix(self.units, b))) for b in several]

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
    return (NOISE + NOISE_OF_RECORD * n) * (1.0 + abs(deviance))


class Point:
    """The likelihood at one x, each part computed when it is first asked for.

    The derivatives spend the factor, which holds most of the memory: a point keeps its system only until then.
    """

    def __init__(self, problem: Problem, x: Array) -> None:
        self.problem, self.x = problem, x
        self.theta = problem.natural(x)
        self._system: System | None = problem.engine.at(self.theta)
        self.correction = np.zeros((len(x), len(x)))

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
        self.correction = before.correction
        if not NEAREST_SECANT < before.decrement < FARTHEST_SECANT:
            return
        step = self.x - before.x
        left = before.score - self.score - (self.information + before.correction) @ step
        along = float(left @ step)
        if abs(along) <= SECANT * float(np.linalg.norm(left) * np.linalg.norm(step)):
            return
        correction = before.correction + np.outer(left, left) / along
        if keeps_enough(self.information, correction):
            self.correction = correction

    @cached_property
    def factors(self) -> list[Array]:
        """L of each block."""
        return [lower_factor(square(self.x[b])) for b in self.problem.blocks]

    @cached_property
    def newton(self) -> tuple[Array, Array, Array]:
        """Step, gradient and Hessian on the factor scale, all blocks after each other."""
        gradient, hessian = factor_scale(self)
        return newton_step(hessian, gradient, floor=True), gradient, hessian

    @cached_property
    def decrement(self) -> float:
        """Twice the gain in log-likelihood that the factor-scale Newton step promises."""
        step, gradient, _ = self.newton
        return float(step @ gradient)


def keeps_enough(information: Array, correction: Array) -> bool:
    """Whether a corrected information is positive definite, by a share of the information itself."""
    try:
        L = np.linalg.cholesky(information)
    except np.linalg.LinAlgError:
        return False
    inner = np.linalg.solve(L, np.linalg.solve(L, correction).T)
    return bool(np.linalg.eigvalsh(0.5 * (inner + inner.T))[0] > LEAST_KEPT - 1.0)


def newton_step(hessian: Array, gradient: Array, *, floor: bool) -> Array:
    """hessian^-1 gradient, each parameter on its own scale; directions without curvature are floored, or left out."""
    diagonal = np.diag(hessian)
    known = diagonal > 1e-30 * float(diagonal.max())
    if not known.all():
        step = np.zeros(len(gradient))
        if known.any():
            step[known] = newton_step(hessian[np.ix_(known, known)], gradient[known], floor=floor)
        return step
    d = np.sqrt(diagonal)
    values, vectors = np.linalg.eigh(hessian / np.outer(d, d))
    along = vectors.T @ (gradient / d)
    usable = values > SMALLEST_CURVATURE
    along = along / np.where(usable, values, SMALLEST_CURVATURE)
    return (vectors @ (along if floor else np.where(usable, along, 0.0))) / d


def gradient_matrix(lower: Array) -> Array:
    """D = dl/dSigma as a symmetric matrix: the derivatives by covariances are halved."""
    D = square(lower)
    return 0.5 * (D + np.diag(np.diag(D)))


def factor_jacobian(L: Array) -> Array:
    """Derivatives of the lower triangle of L L' by that of L, shape (m, m)."""
    rows, cols = lower_indices(len(L))
    J = np.empty((len(rows), len(rows)))
    for k, (a, b) in enumerate(zip(rows, cols, strict=True)):
        d = np.zeros_like(L)
        d[a] = L[:, b]
        J[:, k] = triangle(d + d.T)
    return J


def negative_part(D: Array) -> Array:
    """The negative semi-definite part of a symmetric matrix."""
    values, vectors = np.linalg.eigh(D)
    return (vectors * np.minimum(values, 0.0)) @ vectors.T


def factor_scale(point: Point) -> tuple[Array, Array]:
    """Gradient and Hessian (sign changed) of the log-likelihood by the elements of L."""
    size = len(point.x)
    J, curvature = np.zeros((size, size)), np.zeros((size, size))
    for i, _, _ in point.problem.free:
        J[i, i] = 1.0
    for b, L in zip(point.problem.blocks, point.factors, strict=True):
        if len(b) == 1:
            J[b[0], b[0]] = 2.0 * L[0, 0]
            curvature[b[0], b[0]] = -2.0 * min(float(point.score[b[0]]), 0.0)
            continue
        at = np.ix_(b, b)
        J[at] = factor_jacobian(L)
        rows, cols = lower_indices(len(L))
        D = negative_part(gradient_matrix(point.score[b]))
        curvature[at] = -2.0 * D[np.ix_(rows, rows)] * (cols[:, None] == cols)
    gradient, hessian = J.T @ point.score, J.T @ point.information @ J + curvature
    for i, low, high in point.problem.free:
        outward = (point.x[i] <= low and gradient[i] < 0) or (point.x[i] >= high and gradient[i] > 0)
        if outward:
            gradient[i] = 0.0
            hessian[i, :] = hessian[:, i] = 0.0
    return gradient, hessian


def factor_move(point: Point, length: float) -> Array:
    """X after a step of some length on the factor scale, kept a little inside the cone."""
    x = point.x.copy()
    step = point.newton[0]
    for b, L in zip(point.problem.blocks, point.factors, strict=True):
        new = L.copy()
        new[lower_indices(len(L))] += length * step[b]
        d = np.diag(new)
        np.fill_diagonal(new, np.where(np.abs(d) < SMALLEST_FACTOR, SMALLEST_FACTOR, d))
        x[b] = triangle(new @ new.T)
    for i, low, high in point.problem.free:
        x[i] = min(max(x[i] + length * step[i], low), high)
    return x


def inside(problem: Problem, x: Array) -> bool:
    """Whether every block is positive definite by a margin."""
    for b in problem.blocks:
        smallest = x[b[0]] if len(b) == 1 else np.linalg.eigvalsh(square(x[b]))[0]
        if smallest <= SMALLEST_FACTOR**2:
            return False
    return all(low < x[i] < high for i, low, high in problem.free)


def pushed_inside(problem: Problem, x: Array) -> Array:
    """A start with the eigenvalues of every block at a distance from zero, where no optimiser can move."""
    x = x.copy()
    for b in problem.blocks:
        values, vectors = np.linalg.eigh(square(x[b]))
        if values[0] < SMALLEST_START:
            x[b] = triangle((vectors * np.maximum(values, SMALLEST_START)) @ vectors.T)
    return x


def evaluate(problem: Problem, x: Array) -> Point | None:
    """The point at x, or None where the equations break down or the value is not finite."""
    try:
        point = Point(problem, x)
        return point if np.isfinite(point.deviance) else None
    except (EngineError, np.linalg.LinAlgError):
        return None


def average_information_step(problem: Problem, point: Point) -> tuple[Point | None, str]:
    """An average-information step on the natural scale, or one on the factor scale where that leaves the cone."""
    step = newton_step(point.information + point.correction, point.score, floor=False)
    target = point.x + step
    # where all effects of a term are predicted as zero its information vanishes, and only the factor scale leads down
    worth = float(step @ point.score) > WORTH * point.decrement
    if worth and inside(problem, target):
        new = evaluate(problem, target)
        if new is not None and new.deviance <= point.deviance + problem.noise(point.deviance):
            return new, "ai"
    return factor_step(problem, point), "factor"


def factor_step(problem: Problem, point: Point) -> Point | None:
    """A Newton step on the factor scale, shortened until it improves; None when nothing does."""
    length = 1.0
    for _ in range(30):
        new = evaluate(problem, factor_move(point, length))
        if new is not None and new.deviance <= point.deviance - 1e-4 * length * point.decrement + problem.noise(
            point.deviance
        ):
            return new
        length *= 0.5 if length > 0.1 else 0.2
    return None


def expectation_step(problem: Problem, point: Point) -> tuple[Point | None, str]:
    """One EM step, Sigma + (2 / q) Sigma D Sigma, with q the number of levels behind the block."""
    if problem.free:
        raise ArgumentError("EM has no step for correlations and slopes of variances: use optimiser='ai'.")
    x = point.x.copy()
    for b, q in zip(problem.blocks, problem.engine.design.multiplicity, strict=True):
        Sigma = square(x[b])
        x[b] = triangle(Sigma + (2.0 / q) * (Sigma @ gradient_matrix(point.score[b]) @ Sigma))
    return evaluate(problem, x), "em"


STEPS: dict[str, Callable[[Problem, Point], tuple[Point | None, str]]] = {
    "ai": average_information_step,
    "em": expectation_step,
}


def maximise(
    engine: Engine,
    theta: Array,
    *,
    reml: bool,
    control: Control,
    others: Sequence[Array] = (),
    watch: Callable[[Step], None] | None = None,
) -> Optimum:
    """Variance parameters that maximise the (restricted) likelihood.

    Parameters
    ----------
    engine : Engine
        Analysed equations.
    theta : ndarray, shape (n_theta,)
        Start, inside the cone.
    reml : bool
        Restricted likelihood or not.
    control : Control
        Optimiser, tolerance and number of steps.
    others : sequence of ndarray
        More starts, tried when the way from the first was a hard one, as it is where there are several optima.
    watch : callable, optional
        Called with each step.

    Returns
    -------
    Optimum
        Where the loop ended and the evidence that it is an optimum, or is not.

    Raises
    ------
    EngineError
        If the equations cannot be solved at the start.
    """
    problem = Problem(engine, reml, typical_units(engine))
    best = climb(problem, theta, control, watch)
    if len(best.history) > HARD or best.flat is not None or not best.finished:
        for start in others:
            other = climb(problem, start, control, watch)
            if other.deviance < best.deviance - 1e-6 - 10 * problem.noise(best.deviance):
                best = other
    return best


def climb(problem: Problem, theta: Array, control: Control, watch: Callable[[Step], None] | None) -> Optimum:
    """The loop, from one start."""
    point = last = Point(problem, pushed_inside(problem, problem.to_units(theta)))
    history: list[Step] = []
    finished = False
    while len(history) < control.iterations and not finished:
        enough = point.decrement < max(control.tol, problem.noise(point.deviance))
        new, kind = STEPS[control.optimiser](problem, point)
        if new is None:  # no step improves: rounding noise has been reached
            finished = enough or point.decrement < 1e3 * problem.noise(point.deviance)
            last = point
            break
        history.append(Step(new.theta, new.deviance, kind, point.decrement))
        if watch is not None:
            watch(history[-1])
        finished = enough or stalled(problem, history)
        if problem.learns:
            new.learn(point)
        last, point = point, new
    if not finished:
        last, finished = point, point.decrement < max(control.tol, problem.noise(point.deviance))
    settled = settle(problem, point) if finished else point
    return conclude(problem, settled, last, tuple(history), finished)


def stalled(problem: Problem, history: Sequence[Step]) -> bool:
    """Whether the last steps moved the criterion by no more than rounding does."""
    return (
        len(history) > 3
        and history[-1].decrement < 1e-7
        and abs(history[-4].deviance - history[-1].deviance) <= problem.noise(history[-1].deviance)
    )


def typical_units(engine: Engine) -> Array:
    """Linear map from x to theta that takes the identity of each block to a covariance matrix of typical size."""
    design = engine.design
    units = np.eye(design.slices[-1].stop)
    structures = [*((t.structure, engine.typical_covariance(t)) for t in design.terms)]
    structures.append((design.residual.structure, engine.typical_residual))
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


def settle(problem: Problem, point: Point) -> Point:
    """The exact boundary point next to an iterate, where the likelihood does not suffer from it."""
    n_residual = len(problem.engine.design.residual.structure.blocks)
    candidates = [k for k in range(len(problem.blocks) - n_residual) if rounded(problem, point, k) is not None]
    groups = [candidates, *([k] for k in candidates)] if len(candidates) > 1 else [[k] for k in candidates]
    for group in groups:
        x = point.x.copy()
        for k in group:
            new = rounded(problem, point, k)
            if new is not None:
                x[problem.blocks[k]] = new
        there = evaluate(problem, x)
        if there is not None and there.deviance <= point.deviance + 10.0 * problem.noise(point.deviance) + 1e-9:
            point = there
    return point


def rounded(problem: Problem, point: Point, k: int) -> Array | None:
    """Block k with its vanishing eigenvalues set to zero; None when it has none."""
    values, vectors = np.linalg.eigh(square(point.x[problem.blocks[k]]))
    gone = values < BOUNDARY_VARIANCE
    if not gone.any() or np.all(np.abs(values[gone]) < NULL):
        return None
    kept = vectors[:, ~gone] * np.sqrt(values[~gone])
    return triangle(kept @ kept.T)


def tangent_basis(theta: Array, blocks: Sequence[IntArray], bounds: Collection[int]) -> Array:
    """Directions in which theta can move and keep what is at the boundary, shape (n_theta, k).

    A singular matrix keeps its rank; a vanishing variance and a parameter at a bound have no direction.
    """
    unit = np.eye(len(theta))
    columns = [np.zeros((len(theta), 0))]
    for b in blocks:
        if int(b[0]) not in bounds:
            columns.append(unit[:, b])
            continue
        tangent = tangent_columns(trapezoid(theta[b], boundary=True))
        columns.append(unit[:, b] @ tangent)
    blocked = {int(i) for b in blocks for i in b}
    columns.append(unit[:, [i for i in range(len(theta)) if i not in blocked and i not in bounds]])
    return np.hstack(columns)


def least_curvature(information: Array, basis: Array) -> tuple[float, int | None]:
    """Smallest eigenvalue of the scaled information along a basis, and the parameter at fault where it vanishes."""
    if not basis.shape[1]:
        return 1.0, None
    AI = basis.T @ information @ basis
    d = np.sqrt(np.maximum(np.diag(AI), 1e-300))
    scaled = AI / np.outer(d, d)
    if not np.all(np.isfinite(scaled)):
        return np.nan, int(np.argmax(np.diag(information)))
    values, vectors = np.linalg.eigh(scaled)
    if values[0] >= FLAT_CURVATURE:
        return float(values[0]), None
    worst = basis[:, np.argmax(np.abs(vectors[:, 0]))]
    return float(values[0]), int(np.argmax(np.abs(worst)))


def conclude(problem: Problem, point: Point, evidence: Point, history: tuple[Step, ...], finished: bool) -> Optimum:
    """Optimum with its evidence: gradient, curvature of the free parameters, and multipliers of the active bounds."""
    boundaries = []
    for b in problem.blocks:
        values, vectors = np.linalg.eigh(square(point.x[b]))
        null = vectors[:, values < NULL * max(1.0, float(values[-1]))]
        if null.shape[1]:
            D = gradient_matrix(evidence.score[b])
            # Sigma = L X L' has the null vectors L'^-1 n
            L = np.linalg.cholesky(typical_matrix(problem.units, b))
            direction = np.linalg.solve(L.T, null).T
            boundaries.append(
                Boundary(tuple(int(i) for i in b), direction, -float(np.linalg.eigvalsh(null.T @ D @ null)[-1]))
            )
    held = tuple(i for i, low, high in problem.free if not low < point.x[i] < high)
    bounds = {i for x in boundaries for i in x.parameters} | set(held)
    curvature, flat = least_curvature(evidence.information, tangent_basis(point.x, problem.blocks, bounds))
    _, gradient, hessian = evidence.newton
    size = np.sqrt(np.maximum(np.diag(hessian), 1e-30 * max(float(np.diag(hessian).max()), 1e-270)))
    return Optimum(
        theta=point.theta,
        system=point.system,
        deviance=point.deviance,
        decrement=evidence.decrement,
        gradient=float(np.max(np.abs(gradient / size))),
        curvature=curvature,
        flat=flat,
        boundaries=tuple(boundaries),
        history=history,
        finished=finished,
        at_bounds=held,
    )
