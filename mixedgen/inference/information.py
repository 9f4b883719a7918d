"""Information of the variance parameters, observed and expected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixedgen.arrays import Array
from mixedgen.covariance.triangle import tangent_columns, trapezoid
from mixedgen.engines.explicit import marginal_derivatives
from mixedgen.engines.system import System
from mixedgen.estimation.expected import expected_information, has_exact_information, n_effects
from mixedgen.estimation.fitted import Fitted
from mixedgen.estimation.likelihood import score, working_variates

MEMORY_LIMIT = 4 * 2**30  # bytes of the largest matrix of levels by levels

# Records times effects up to which Z'PZ, as many solves as there are effects, costs less than the dozen factorisations
# of the differences.
EXACT_WORK = 2_000_000

DIFFERENCE_STEP = 5e-5  # of a standard deviation, in central differences, whose error is some eight times its square

_AUTOMATIC_WORK = 2e11  # floating-point operations of the differences that a summary spends unasked

AUTOMATIC_WEIGHTS = 2e9  # and elements of the weights of the records in the estimates

_NO_INFORMATION = 1e-8  # eigenvalue of the scaled information below which the data tell nothing: lmerTest's tolerance


def moved_weights(fitted: Fitted, W: Array) -> Iterator[Array]:
    """(dV/dtheta_i) W for each parameter i; W and each of them of shape (n, m)."""
    return marginal_derivatives(fitted.design, fitted.theta, W)


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
    scale = 10.0 * np.where(np.isfinite(se) & (se > 0), se, np.maximum(np.abs(theta), DIFFERENCE_STEP))
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
        E, traces = expected_information(fitted.system, fitted.reml)
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
        h = DIFFERENCE_STEP * size
        ahead, behind = (function(fitted.engine.at(at(x))) for x in (h, -h))
        columns.append((ahead - behind) / (2.0 * h))
    return np.stack(columns, axis=1)


def automatic(fitted: Fitted) -> bool:
    """Whether Satterthwaite's degrees of freedom cost so little that a summary may give them unasked."""
    if fitted.design.n * fitted.design.fixed.p > AUTOMATIC_WEIGHTS:
        return False
    return exact_possible(fitted) or 2 * len(fitted.theta) * fitted.engine.forecast().flops < _AUTOMATIC_WORK


def exact_possible(fitted: Fitted) -> bool:
    """Whether the information follows from Z'PZ, and that is cheaper than differences."""
    return fitted.design.n * n_effects(fitted.design) <= EXACT_WORK and has_exact_information(fitted.design)


def pseudo_inverse(information: Array) -> Array:
    """Inverse of a symmetric matrix without the directions the data tell nothing about."""
    d = np.sqrt(np.maximum(np.abs(np.diag(information)), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(information / np.outer(d, d))
    kept = vectors[:, values > _NO_INFORMATION]
    return (kept / values[values > _NO_INFORMATION]) @ kept.T / np.outer(d, d)
