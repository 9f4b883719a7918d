"""What the ascent hands on, and the curvature there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.triangle import (
    descending,
    lower_factor,
    ordered_jacobian,
    square,
    tangent_columns,
    trapezoid,
)
from mixedgen.engines.system import System
from mixedgen.estimation.point import Point, Problem, gradient_matrix, typical_matrix

NULL = 1e-13  # an eigenvalue below is zero but for rounding

FLAT_CURVATURE = 1e-8  # an information matrix, scaled to unit diagonal, with a smaller eigenvalue says nothing there


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


def _tangent_basis(theta: Array, blocks: Sequence[IntArray], bounds: Collection[int]) -> Array:
    """Directions in which theta can move and keep what is at the boundary, shape (n_theta, k).

    A matrix moves by its factor, in which near singular ones are as well conditioned as others. A singular matrix keeps
    its rank; a vanishing variance and a parameter at a bound have no direction.
    """
    unit = np.eye(len(theta))
    columns = [np.zeros((len(theta), 0))]
    for b in blocks:
        if int(b[0]) not in bounds:
            Sigma = square(theta[b])
            order = descending(Sigma)
            columns.append(unit[:, b] @ ordered_jacobian(lower_factor(Sigma[np.ix_(order, order)]), order))
            continue
        tangent = tangent_columns(trapezoid(theta[b], boundary=True))
        columns.append(unit[:, b] @ tangent)
    blocked = {int(i) for b in blocks for i in b}
    columns.append(unit[:, [i for i in range(len(theta)) if i not in blocked and i not in bounds]])
    return np.hstack(columns)


def _least_curvature(information: Array, basis: Array) -> tuple[float, int | None]:
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
    for i in problem.residual_variances:
        if evidence.vanishes(i):
            boundaries.append(Boundary((i,), np.array([[1.0]]), -float(evidence.score[i])))
    held = tuple(i for i, low, high in problem.free if not low < point.x[i] < high)
    bounds = {i for x in boundaries for i in x.parameters} | set(held)
    curvature, flat = _least_curvature(evidence.information, _tangent_basis(point.x, problem.blocks, bounds))
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
