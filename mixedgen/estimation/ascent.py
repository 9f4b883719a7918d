"""One ascent loop for REML and ML, whatever the steps.

The steps are those of a curvature of the registry; the start, the end and the evidence are the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mixedgen.arrays import Array
from mixedgen.covariance.triangle import square, triangle
from mixedgen.engines.system import Engine
from mixedgen.errors import EngineError
from mixedgen.estimation.control import Control
from mixedgen.estimation.optimum import NULL, Optimum, Step, conclude
from mixedgen.estimation.point import (
    Point,
    Problem,
    point_at,
    pushed_inside,
    typical_units,
)

# A way of more steps than this is a hard one: most take five to eight.
_HARD = 14
_HARD_NEWTON = 8  # with Newton's steps, of which each does the work of several
_SLOW = 0.2  # of a decrement: what is left of it after a step is little, or the average information misleads
_BOUNDARY_VARIANCE = 1e-5  # variances (eigenvalues) below are candidates for an exact zero


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
    best = _climb(problem, theta, control, watch)
    if _was_hard(best):
        for start in others:
            try:
                other = _climb(problem, start, control, watch)
            except EngineError:  # at the start itself, which this one of several may be too poor for
                continue
            if other.deviance < best.deviance - 1e-6 - 10 * problem.noise(best.deviance):
                best = other
    return best


def _was_hard(found: Optimum) -> bool:
    """Whether the way was one on which others may lead higher."""
    newton = any(s.kind == "newton" for s in found.history)
    return len(found.history) > (_HARD_NEWTON if newton else _HARD) or found.flat is not None or not found.finished


def _climb(problem: Problem, theta: Array, control: Control, watch: Callable[[Step], None] | None) -> Optimum:
    """The loop, from one start."""
    point = last = Point(problem, pushed_inside(problem, problem.to_units(theta)))
    history: list[Step] = []
    finished = arrived = False
    while len(history) < control.iterations and not finished:
        enough = point.decrement < max(control.tol, problem.noise(point.deviance))
        new, kind = control.curvature.step(problem, point)
        if new is None:  # no step improves: rounding noise has been reached
            finished = enough or point.decrement < 1e3 * problem.noise(point.deviance)
            last = point
            break
        history.append(Step(new.theta, new.deviance, kind, point.decrement))
        if watch is not None:
            watch(history[-1])
        # beside a boundary, where the approach is linear, one step more than elsewhere
        finished = (enough and (arrived or not point.on_floor)) or _stalled(problem, history)
        arrived = enough
        if not finished and control.curvature.bends:
            _look_closer(problem, history, point, new)
        last, point = point, new
    if not finished:
        last, finished = point, point.decrement < max(control.tol, problem.noise(point.deviance))
    settled = _settle(problem, point) if finished else point
    return conclude(problem, settled, last, tuple(history), finished)


def _look_closer(problem: Problem, history: Sequence[Step], point: Point, new: Point) -> None:
    """Give the next point more than the average information where that misleads: observed information, or secants."""
    if (_slow(history, new) and not problem.learns) or (point.observed and new.exact):
        new.observe()
    elif problem.learns or point.observed:
        new.learn(point)


def _slow(history: Sequence[Step], point: Point) -> bool:
    """Whether the decrement has fallen by little in two steps running: the data do not look like the model."""
    last = [*(s.decrement for s in history[-2:]), point.decrement]
    return len(last) == 3 and last[1] > _SLOW * last[0] and last[2] > _SLOW * last[1]


def _stalled(problem: Problem, history: Sequence[Step]) -> bool:
    """Whether the last steps moved the criterion by no more than rounding does."""
    return (
        len(history) > 3
        and history[-1].decrement < 1e-7
        and abs(history[-4].deviance - history[-1].deviance) <= problem.noise(history[-1].deviance)
    )


def _settle(problem: Problem, point: Point) -> Point:
    """The exact boundary point next to an iterate, where the likelihood does not suffer from it."""
    n_residual = len(problem.engine.design.residual.structure.blocks)
    candidates = [k for k in range(len(problem.blocks) - n_residual) if _rounded(problem, point, k) is not None]
    groups = [candidates, *([k] for k in candidates)] if len(candidates) > 1 else [[k] for k in candidates]
    for group in groups:
        x = point.x.copy()
        for k in group:
            new = _rounded(problem, point, k)
            if new is not None:
                x[problem.blocks[k]] = new
        there = point_at(problem, x)
        if there is not None and there.deviance <= point.deviance + 10.0 * problem.noise(point.deviance) + 1e-9:
            point = there
    return point


def _rounded(problem: Problem, point: Point, k: int) -> Array | None:
    """Block k with its vanishing eigenvalues set to zero; None when it has none."""
    values, vectors = np.linalg.eigh(square(point.x[problem.blocks[k]]))
    gone = values < _BOUNDARY_VARIANCE
    if not gone.any() or np.all(np.abs(values[gone]) < NULL):
        return None
    kept = vectors[:, ~gone] * np.sqrt(values[~gone])
    return triangle(kept @ kept.T)
