"""The deviance minimised where one variance parameter has a value, and extremes where the deviance is small.

These are not the ascent of `estimation`, which moves all of theta inside a cone. Here theta stays on a surface where a
standard deviation or a correlation is fixed: in the coordinates of `Block` that is a plain space and no cone, in which
the average information is not the curvature, for the surface bends; BFGS needs the gradient alone. The extreme of a
function under a bound on the deviance (`Region`) has that bound as a curved constraint, which sequential quadratic
programming (scipy's SLSQP) takes as it is. Both start at the optimum, a few steps away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import optimize

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.triangle import factor_jacobian, lower_factor, lower_indices, square, triangle
from mixedgen.engines.system import Engine
from mixedgen.errors import MixedgenError, NotAvailableError
from mixedgen.estimation.likelihood import average_information, deviance, score
from mixedgen.estimation.point import rounding_noise

_ENOUGH = 1e-11  # of the deviance, expected from one more step
_MAX_STEPS = 200  # of one minimum
_LEAST_EIGENVALUE = 1e-3  # eigenvalue, beside the largest, of the information that scales the coordinates
# Of a typical standard deviation: a factor starts this far from zero, where its gradient vanishes whatever the slope.
OFF_BOUNDARY = 0.03
_BREAKDOWN = 1e8  # beside the drop of a region, where the equations break down
_ON_LEVEL = 1e-6  # of the drop: what an end may be off
_MAX_ROUNDS, _RESTARTS = 60, 8  # of one search, and searches with new scales
_FLAT = 1e-3  # slope of a function where it is least inside a region; it is a square on the scale of factors


@dataclass(frozen=True)
class Block:
    """A covariance matrix of theta, Sigma = L L' in some order of its effects, and how L follows from coordinates.

    Attributes
    ----------
    parameters : ndarray of int, shape (m,)
        Its lower triangle in theta.
    order : ndarray of int, shape (c,)
        Effects as L takes them: those of the profiled parameter first.
    kind : str or None
        ``"sd"`` of the first effect fixed, ``"cor"`` of the first two, or nothing.
    typical : ndarray, shape (c,)
        Typical standard deviations, in that order.
    """

    parameters: IntArray
    order: IntArray
    kind: str | None
    typical: Array

    @cached_property
    def place(self) -> IntArray:
        """Where each element of the lower triangle in order stands in that of the block, shape (m,)."""
        c = len(self.order)
        at = np.empty((c, c), dtype=np.intp)
        rows, cols = lower_indices(c)
        at[rows, cols] = at[cols, rows] = np.arange(len(rows))
        return at[self.order[rows], self.order[cols]]

    def linear(self, value: float) -> tuple[Array, Array]:
        """B and a with B x + a the lower triangle of L, shapes (m, number of coordinates) and (m,)."""
        m = len(self.parameters)
        B, a = np.eye(m), np.zeros(m)
        if self.kind == "sd":
            a[0] = value
            return B[:, 1:], a
        if self.kind == "cor":  # second row of L: the standard deviation of that effect times (r, sqrt(1 - r^2))
            B[1, 1], B[2, 1] = value, math.sqrt(max(1.0 - value**2, 0.0))
            return np.delete(B, 2, axis=1), a
        return B, a

    def start(self, theta: Array) -> Array:
        """Coordinates of theta, off the boundary."""
        Sigma = square(theta[self.parameters])[np.ix_(self.order, self.order)]
        L = lower_factor(Sigma)
        x = triangle(L).copy()
        if self.kind == "cor":
            x[1] = math.hypot(L[1, 0], L[1, 1])
        rows, cols = lower_indices(len(L))
        sizes = np.flatnonzero((rows == cols) | ((self.kind == "cor") & (rows == 1)))
        floor = OFF_BOUNDARY * self.typical[rows[sizes]]
        x[sizes] = np.where(np.abs(x[sizes]) < floor, floor, x[sizes])
        dropped = {"sd": [0], "cor": [2]}.get(self.kind or "", [])
        return np.delete(x, dropped)

    def factor(self, x: Array, value: float) -> Array:
        """L at coordinates x, shape (c, c)."""
        B, a = self.linear(value)
        L = np.zeros((len(self.order),) * 2)
        L[lower_indices(len(L))] = B @ x + a
        return L

    def move(self, theta: Array, x: Array, value: float) -> None:
        """Put L L' into theta."""
        L = self.factor(x, value)
        theta[self.parameters[self.place]] = triangle(L @ L.T)

    def jacobian(self, x: Array, value: float) -> Array:
        """Derivatives of its parameters, in the order of `parameters`, by x."""
        J = np.empty((len(self.parameters), len(x)))
        J[self.place] = factor_jacobian(self.factor(x, value)) @ self.linear(value)[0]
        return J


@dataclass(frozen=True)
class Bounded:
    """A parameter outside the blocks, such as a correlation of `ar1`: a logistic curve of its coordinate.

    Attributes
    ----------
    parameter : int
        Its place in theta.
    low, high : float
        Its bounds; infinite ones leave it as it is.
    fixed : bool
        Whether it is the one profiled.
    """

    parameter: int
    low: float
    high: float
    fixed: bool

    @property
    def parameters(self) -> IntArray:
        """Its place in theta, shape (1,)."""
        return np.array([self.parameter])

    def start(self, theta: Array) -> Array:
        """Coordinate of theta, none where it is fixed."""
        if self.fixed:
            return np.zeros(0)
        if not np.isfinite(self.high - self.low):
            return theta[self.parameters]
        share = np.clip((theta[self.parameters] - self.low) / (self.high - self.low), 1e-6, 1.0 - 1e-6)
        return np.asarray(np.log(share / (1.0 - share)))

    def move(self, theta: Array, x: Array, value: float) -> None:
        """Put the parameter into theta."""
        if self.fixed:
            theta[self.parameter] = value
        elif np.isfinite(self.high - self.low):
            theta[self.parameter] = self.low + (self.high - self.low) * 0.5 * (1.0 + math.tanh(0.5 * float(x[0])))
        else:
            theta[self.parameter] = x[0]

    def jacobian(self, x: Array, value: float) -> Array:
        """Derivative of the parameter by its coordinate, shape (1, 1), or (1, 0) where it is fixed."""
        if not np.isfinite(self.high - self.low):
            return np.ones((1, len(x)))
        return np.full((1, len(x)), (self.high - self.low) * 0.25) / np.cosh(0.5 * x) ** 2


@dataclass(frozen=True)
class Coordinates:
    """Unconstrained coordinates of theta on the surface where one parameter has a value."""

    parts: tuple[Block | Bounded, ...]
    size: int
    value: float

    def split(self, x: Array) -> Iterator[tuple[Block | Bounded, Array, slice]]:
        """Each part with its coordinates and where they stand."""
        at = 0
        for part in self.parts:
            length = len(part.start(np.zeros(self.size)))
            yield part, x[at : at + length], slice(at, at + length)
            at += length

    def start(self, theta: Array) -> Array:
        """Coordinates next to theta."""
        return np.concatenate([part.start(theta) for part in self.parts])

    def theta(self, x: Array) -> Array:
        """Theta at x."""
        out = np.empty(self.size)
        for part, own, _ in self.split(x):
            part.move(out, own, self.value)
        return out

    def jacobian(self, x: Array) -> Array:
        """Derivative of theta by x, shape (n_theta, number of coordinates)."""
        J = np.zeros((self.size, len(x)))
        for part, own, at in self.split(x):
            J[part.parameters, at] = part.jacobian(own, self.value)
        return J


def minimise(engine: Engine, coordinates: Coordinates, theta: Array) -> tuple[float, Array]:
    """Smallest ML deviance on a surface, and the theta there.

    Notes
    -----
    BFGS with exact gradients, in coordinates that make the average information at the start the identity; a step is
    halved until it improves.
    """
    x = coordinates.start(theta)
    here, g = value_of(engine, coordinates, x)
    if not len(x) or not np.isfinite(here):
        return here, coordinates.theta(x)
    H = _inverse_curvature(engine, coordinates, x)
    for _ in range(_MAX_STEPS):
        step = -H @ g
        promised = float(-step @ g)
        noise = rounding_noise(here, engine.design.n)
        if promised < max(_ENOUGH, noise):
            break
        new, gain, length = x, np.inf, 1.0
        for _ in range(40):
            new = x + length * step
            gain, slope = value_of(engine, coordinates, new)
            if gain <= here - 1e-4 * length * promised + noise:
                break
            length *= 0.5 if length > 0.1 else 0.2
        else:
            break
        H = _bfgs_update(H, new - x, slope - g)
        x, here, g = new, gain, slope
    return here, coordinates.theta(x)


def value_of(engine: Engine, coordinates: Coordinates, x: Array, reml: bool = False) -> tuple[float, Array]:
    """Deviance, that of ML by default, and its gradient at x; infinite where the equations break down."""
    try:
        with np.errstate(all="ignore"):
            system = engine.at(coordinates.theta(x))
            value = deviance(system, reml)
            gradient = -2.0 * coordinates.jacobian(x).T @ score(system, reml) if len(x) else np.zeros(0)
    except (MixedgenError, np.linalg.LinAlgError, ValueError):
        return np.inf, np.zeros(len(x))
    good = np.isfinite(value) and np.all(np.isfinite(gradient))
    return (value, gradient) if good else (np.inf, np.zeros(len(x)))


def _inverse_curvature(engine: Engine, coordinates: Coordinates, x: Array) -> Array:
    """Inverse Hessian of the deviance by x from the average information, its small eigenvalues raised."""
    J = coordinates.jacobian(x)
    H = 2.0 * J.T @ average_information(engine.at(coordinates.theta(x))) @ J
    d = np.sqrt(np.maximum(np.diag(H), 1e-12 * max(float(np.diag(H).max()), 1e-300)))
    values, vectors = np.linalg.eigh(H / np.outer(d, d))
    root = vectors / np.sqrt(np.maximum(values, _LEAST_EIGENVALUE)) / d[:, None]
    return root @ root.T


def _bfgs_update(H: Array, s: Array, y: Array) -> Array:
    """BFGS update of an inverse Hessian for a step s that changed the gradient by y."""
    sy = float(s @ y)
    if sy <= 1e-12 * float(np.linalg.norm(s) * np.linalg.norm(y)):
        return H
    A = np.eye(len(s)) - np.outer(s, y) / sy
    return A @ H @ A.T + np.outer(s, s) / sy


class Region:
    """Variance parameters whose deviance is below a level.

    Parameters
    ----------
    engine : Engine
        Analysed equations.
    coordinates : Coordinates
        Of all of theta.
    theta : ndarray
        The optimum.
    reml : bool
        Whether the deviance is the restricted one.
    drop : float
        How far the level is above that of the optimum.
    """

    def __init__(self, engine: Engine, coordinates: Coordinates, theta: Array, reml: bool, drop: float) -> None:
        self.engine, self.coordinates, self.reml, self.drop = engine, coordinates, reml, drop
        self.centre = coordinates.start(theta)
        self.level = deviance(engine.at(theta), reml) + drop
        H = _inverse_curvature(engine, coordinates, self.centre)
        self.root = np.linalg.cholesky(H)  # x = centre + root z: in z the deviance is near |z|^2 / 2 above the optimum
        self._last: tuple[bytes, float, Array] = (b"", np.nan, np.zeros(0))

    def theta(self, z: Array) -> Array:
        """Theta at z."""
        return self.coordinates.theta(self.centre + self.root @ z)

    def on_boundary(self, z: Array) -> Array:
        """Coordinates z with those that are all but zero at zero."""
        x = self.centre + self.root @ z
        x[np.abs(x) < _FLAT * np.linalg.norm(self.root, axis=1)] = 0.0
        return np.linalg.solve(self.root, x - self.centre)

    def room(self, z: Array) -> tuple[float, Array]:
        """How far the deviance is below the level, in units of the drop, and its gradient by z."""
        key = z.tobytes()
        if key != self._last[0]:
            value, gradient = value_of(self.engine, self.coordinates, self.centre + self.root @ z, self.reml)
            room = (self.level - value) / self.drop if np.isfinite(value) else -_BREAKDOWN
            self._last = (key, max(room, -_BREAKDOWN), -self.root.T @ gradient / self.drop)
        return self._last[1], self._last[2]

    def recentred(self, z: Array) -> Region:
        """The same region in coordinates scaled by the information at z."""
        out = copy(self)
        out.centre = self.centre + self.root @ z
        out.root = np.linalg.cholesky(_inverse_curvature(self.engine, self.coordinates, out.centre))
        out._last = (b"", np.nan, np.zeros(0))
        return out

    def least(self, value: Callable[[Array], float], gradient: Callable[[Array], Array], scale: float) -> float:
        """Smallest value of a function of theta in the region.

        Raises
        ------
        NotAvailableError
            If it has none there, or the search does not end.

        Notes
        -----
        Sequential quadratic programming with exact gradients, from where a straight function and a quadratic deviance
        have the answer, then from the optimum; a search that does not end goes on with the scales of where it is. The
        deviance is on the level at the answer, or the function is flat.
        """
        search = Search(self, value, gradient, scale)
        down = -search.slope(np.zeros(len(self.centre)))
        length = float(np.linalg.norm(down))
        starts = [down * np.sqrt(2.0 * self.drop) / length] if length > 0 else []
        for start in [*starts, np.zeros(len(self.centre))]:
            search, z = Search(self, value, gradient, scale), start
            for _ in range(_RESTARTS):
                z, answer = search.run(z)
                if answer is not None:
                    return answer * scale
                search = Search(search.region.recentred(z), value, gradient, scale)
                z = np.zeros(len(z))
        raise NotAvailableError("the search for an end of the interval does not end.")


@dataclass(frozen=True)
class Search:
    """A function of theta to be made small in a region, in units of `scale`."""

    region: Region
    value: Callable[[Array], float]
    gradient: Callable[[Array], Array]
    scale: float

    def slope(self, z: Array) -> Array:
        """Derivative of the function by z."""
        r = self.region
        J = r.root.T @ r.coordinates.jacobian(r.centre + r.root @ z).T
        return np.asarray(J @ self.gradient(r.theta(z)) / self.scale)

    def objective(self, z: Array) -> float:
        """The function; large where it has no value."""
        at = self.value(self.region.theta(z)) / self.scale
        return at if np.isfinite(at) else _BREAKDOWN

    def run(self, start: Array) -> tuple[Array, float | None]:
        """Where a search from a start ends, and the smallest value where that is the answer."""
        r = self.region
        # the search ends when the level is met this closely, which rounding of level and deviance may prevent
        accuracy = max(_ENOUGH, 2.0 * rounding_noise(r.level, r.engine.design.n) / r.drop)
        constraint: Any = {"type": "ineq", "fun": lambda z: r.room(z)[0], "jac": lambda z: r.room(z)[1]}
        found = optimize.minimize(
            self.objective,
            start,
            jac=self.slope,
            constraints=constraint,
            method="SLSQP",
            options={"ftol": accuracy, "maxiter": _MAX_ROUNDS},
        )
        z = found.x
        left = r.room(z)[0]
        if abs(left) < _ON_LEVEL and found.success:
            return z, self.objective(z)
        if left > 0 and np.linalg.norm(self.slope(z)) < _FLAT:
            return z, min(self.objective(z), self.objective(r.on_boundary(z)))
        return z, None
