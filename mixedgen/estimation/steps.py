"""Ways of one step towards larger likelihood, and their registry.

Inside the cone of positive semi-definite matrices a step is theta + AI^-1 score. A step that would leave the cone, or
that does not improve, is taken on the factor scale instead, Sigma = L L': there the boundary is an ordinary point, and
with D = dl/dSigma the Hessian J'AI J - 2 D_- makes the approach to it faster than linear, where an EM step creeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mixedgen.covariance.triangle import square, triangle
from mixedgen.errors import ArgumentError
from mixedgen.estimation.point import (
    Point,
    Problem,
    factor_move,
    gradient_matrix,
    has_derivatives,
    inside,
    newton_step,
    point_at,
)

_WORTH = 0.01  # of the gain that the factor scale promises: an average-information step that promises less is none


@dataclass(frozen=True)
class Curvature:
    """A way of one step, which is what tells optimisers apart.

    Attributes
    ----------
    step : callable
        From the problem and a point to the next point, or None where no step improves, and the kind of step it was.
    iterations : int
        Steps at most, by default.
    text : str
        What it is, in words.
    bends : bool
        Whether it takes corrections of the information.
    """

    step: Callable[[Problem, Point], tuple[Point | None, str]]
    iterations: int
    text: str
    bends: bool = True


def average_information_step(problem: Problem, point: Point) -> tuple[Point | None, str]:
    """An average-information step on the natural scale, or one on the factor scale where that leaves the cone."""
    step = newton_step(point.information + point.correction, point.score, floor=False)
    target = point.x + step
    # where all effects of a term are predicted as zero its information vanishes, and only the factor scale leads down
    worth = float(step @ point.score) > _WORTH * point.decrement
    if worth and not point.observed and inside(problem, target):
        new = point_at(problem, target)
        if new is not None and new.deviance <= point.deviance + problem.noise(point.deviance) and has_derivatives(new):
            return new, "ai"
    return _factor_step(problem, point), "newton" if point.observed else "factor"


def _factor_step(problem: Problem, point: Point) -> Point | None:
    """A Newton step on the factor scale, shortened until it improves; None when nothing does."""
    length = 1.0
    for _ in range(30):
        new = point_at(problem, factor_move(point, length))
        least = point.deviance - 1e-4 * length * point.decrement + problem.noise(point.deviance)
        if new is not None and new.deviance <= least and has_derivatives(new):
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
    return point_at(problem, x), "em"


CURVATURES: dict[str, Curvature] = {
    "ai": Curvature(average_information_step, 100, "average information"),
    "em": Curvature(expectation_step, 20_000, "expectation-maximisation", False),
}
