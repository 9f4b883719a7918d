"""Intervals by profile likelihood."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import ndtri

from mixedgen.arrays import Array
from mixedgen.errors import (
    ArgumentError,
    ConvergenceWarning,
    NotAvailableError,
    examples,
    outside,
    require_count,
    require_probability,
)
from mixedgen.estimation.estimate import fit
from mixedgen.estimation.expression import Expression, expression
from mixedgen.estimation.fitted import Fitted
from mixedgen.estimation.variances import variance_function
from mixedgen.intervals.constrained import Region
from mixedgen.intervals.targets import FIRST_STEP, Target, coordinates, targets

_OVERSHOOT = 1.15  # of the step at which a straight zeta reaches its target
_MAX_EXPANSIONS = 60
_END_TOLERANCE = 1e-9  # of an end, beside its distance from the estimate
_IMPOSSIBLE = 1e6  # zeta where the equations break down
_LOWER_DEVIANCE = 1e-4  # a profile this much below the optimum shows another one
INTERVAL_COLUMNS = ["estimate", "lower", "upper"]


class Profile:
    """Profile of one parameter: signed roots of the increase of the deviance, each value evaluated once.

    Parameters
    ----------
    fitted : Fitted
        ML fit.
    target : Target
        The parameter.
    """

    def __init__(self, fitted: Fitted, target: Target) -> None:
        self.fitted, self.target = fitted, target
        self.estimate = target.estimate(fitted)
        self.points: dict[float, tuple[float, Array]] = {self.estimate: (fitted.deviance, fitted.theta)}

    def zeta(self, value: float) -> float:
        """Signed root of the increase of the deviance."""
        if value not in self.points:
            nearest = min(self.points, key=lambda v: abs(v - value))
            self.points[value] = self.target.minimum(self.fitted, value, self.points[nearest][1])
        increase = self.points[value][0] - self.fitted.deviance
        if not np.isfinite(increase):
            return math.copysign(_IMPOSSIBLE, value - self.estimate)
        return math.copysign(math.sqrt(max(increase, 0.0)), value - self.estimate)

    def end(self, side: int, z: float) -> float:
        """Where zeta is `side` times z; the bound of the parameter where it does not get there."""
        bound = self.target.high if side > 0 else self.target.low
        last = bound if side > 0 else bound + self.target.margin
        inner, step = self.estimate, FIRST_STEP * self.target.size(self.fitted)
        for _ in range(_MAX_EXPANSIONS):
            outer = self.estimate + side * step
            outer = min(outer, last) if side > 0 else max(outer, last)
            if outer == inner:
                return bound
            reached = abs(self.zeta(outer))
            if reached >= z:
                return self.root(inner, outer, side * z)
            if outer == last:
                return bound
            inner = outer
            step *= min(max(_OVERSHOOT * z / max(reached, 1e-3), 1.2), 4.0)
        return side * np.inf

    def root(self, inner: float, outer: float, target: float) -> float:
        """Where zeta is `target` between two values."""
        tolerance = _END_TOLERANCE * abs(outer - self.estimate)
        return float(brentq(lambda v: self.zeta(v) - target, inner, outer, xtol=tolerance))

    def interval(self, level: float) -> tuple[float, float, float]:
        """Estimate and both ends."""
        z = float(ndtri(0.5 + 0.5 * level))
        if np.isnan(self.estimate):
            return self.estimate, self.target.low, self.target.high
        return self.estimate, self.end(-1, z), self.end(1, z)

    def curve(self, level: float, points: int) -> pd.DataFrame:
        """Columns ``parameter value zeta deviance`` at the estimate, and so many values to the end on either side."""
        _, *ends = self.interval(level)
        first, last = self.target.low + self.target.margin, self.target.high
        steps = [np.linspace(self.estimate, np.clip(end, first, last), points + 1) for end in ends if np.isfinite(end)]
        values = np.unique(np.concatenate([[self.estimate], *steps]))
        zeta = np.array([self.zeta(float(v)) for v in values])
        deviance = np.array([self.points[float(v)][0] for v in values])
        frame = pd.DataFrame({"parameter": self.target.name, "value": values, "zeta": zeta, "deviance": deviance})
        return frame[np.isfinite(deviance)]

    @property
    def lowest(self) -> float:
        """How far the profile comes below the optimum."""
        return self.fitted.deviance - min(value for value, _ in self.points.values())


def profile(fitted: Fitted, parameters: str | Sequence[str] | None = None, level: float = 0.95) -> pd.DataFrame:
    """Profile likelihood intervals, as lme4's ``confint(method = "profile")``.

    Parameters
    ----------
    fitted : Fitted
        The model; a REML fit is refitted by ML, as lme4 does.
    parameters : str or sequence of str, optional
        Names among those of `profiled_names`; all of these by default. Expressions in the names of `theta` too, such as
        ``"h2 = animal:A / (animal:A + residual)"``.
    level : float
        Confidence level.

    Returns
    -------
    DataFrame
        By parameter, columns ``estimate lower upper``; the estimates are those of the ML fit. Standard deviations and
        correlations are on their own scale. An end is the bound of the parameter where the likelihood does not fall
        enough before it: 0 for standard deviations, -1 and 1 for correlations. Expressions are those of the fit itself:
        after REML their estimate and profile are of the restricted likelihood.

    Raises
    ------
    ArgumentError
        If a name is unknown, an expression cannot be read or has no value, or the level is no probability.
    NotAvailableError
        If the variances were given, or estimated by moments.

    Warns
    -----
    ConvergenceWarning
        If a profile comes below the optimum of the fit.

    Notes
    -----
    The ends of psi solve D(psi) - D(psi_hat) = z^2, z the normal quantile, with D(psi) the minimum of -2 log L over all
    other parameters [1]_ [2]_. For a coefficient, that is the fit of y - x_j b_j without x_j; a standard deviation or
    correlation is held by the factor L of its covariance matrix, whose other elements are free. The ends of a function
    of the variances are its extremes where D <= D(theta_hat) + z^2, which is the same.

    References
    ----------
    .. [1] Bates, Maechler, Bolker & Walker (2015) J Stat Softw 67(1), section 5.1.
    .. [2] Venzon & Moolgavkar (1988) Appl Statist 37:87.
    """
    require_probability(level)
    _require_estimated(fitted)
    known = {t.name: t for t in targets(fitted)}
    functions = expressions_among(parameters, known, fitted)
    wanted = requested(parameters, {**known, **functions}, known)
    ml = _maximum_likelihood(fitted) if any(name in known for name in wanted) else fitted
    rows = {}
    for name in wanted:
        if name in functions:
            rows[functions[name].name] = _function_interval(fitted, functions[name], level)
            continue
        along = Profile(ml, known[name])
        rows[name] = along.interval(level)
        _warn_of_lower(along)
    return pd.DataFrame.from_dict(rows, orient="index", columns=INTERVAL_COLUMNS).rename_axis("parameter")


def _warn_of_lower(along: Profile) -> None:
    """Warn of a profile that comes below the optimum of the fit."""
    if along.lowest > _LOWER_DEVIANCE:
        warnings.warn(
            f"the profile of {along.target.name} comes {along.lowest:.3g} below the deviance of the fit, which is no "
            "global optimum: fit again with other start values.",
            ConvergenceWarning,
            stacklevel=outside(),
        )


def profile_points(
    fitted: Fitted, parameters: str | Sequence[str] | None = None, level: float = 0.99, points: int = 8
) -> pd.DataFrame:
    """Points of the profile likelihood between the ends of an interval, as lme4's ``profile``.

    Parameters
    ----------
    fitted : Fitted
        The model; a REML fit is refitted by ML.
    parameters : str or sequence of str, optional
        Names among those of `profiled_names`; all by default.
    level : float
        Confidence level of the interval.
    points : int
        Values on either side of the estimate, equally spaced, the end the last of them.

    Returns
    -------
    DataFrame
        Columns ``parameter value zeta deviance``, by value. A profile that meets the bound of its parameter ends there.
        A correlation without an estimate, of an effect without variance, is left out.

    Raises
    ------
    ArgumentError
        If a name is unknown, the level no probability, or `points` no whole number from 1.
    NotAvailableError
        If the variances were given, or estimated by moments, or no parameter asked for has an estimate.

    Warns
    -----
    ConvergenceWarning
        If a profile comes below the optimum of the fit.

    Notes
    -----
    zeta = sign(psi - psi_hat) sqrt(D(psi) - D(psi_hat)), D as in `profile`: the straighter it is, the nearer the
    likelihood is to that of a normal estimate.
    """
    require_probability(level)
    require_count(points, "points")
    ml = _maximum_likelihood(fitted)
    known = {t.name: t for t in targets(ml)}
    curves = []
    for name in requested(parameters, known):
        along = Profile(ml, known[name])
        if np.isfinite(along.estimate):
            curves.append(along.curve(level, points))
            _warn_of_lower(along)
    if not curves:
        raise NotAvailableError("no parameter asked for has an estimate, and so none has a profile.")
    return pd.concat(curves, ignore_index=True)


def expressions_among(
    parameters: str | Sequence[str] | None, known: Collection[str], fitted: Fitted
) -> dict[str, Expression]:
    """Those of the parameters asked for that are expressions, by their text."""
    return {f: g for f in _listed(parameters) or () if f not in known and (g := _as_expression(f, fitted))}


def _as_expression(text: str, fitted: Fitted) -> Expression | None:
    """An expression in the names of `theta`, None where it is none; raises for one with an unknown name.

    A single word is taken for the misspelled name of a parameter.
    """
    if text in fitted.design.theta_names or set(text) & set("=/*-+("):
        return expression(text, fitted.design.theta_names)
    return None


def _function_interval(fitted: Fitted, f: Expression, level: float) -> tuple[float, float, float]:
    """Estimate and ends of a function of the variances, by the criterion of the fit."""
    estimate = variance_function(fitted, f.text).estimate
    drop = float(ndtri(0.5 + 0.5 * level)) ** 2
    region = Region(fitted.engine, coordinates(fitted), fitted.theta, fitted.reml, drop)
    scale = float(np.abs(f.gradient(fitted.theta) * fitted.theta).max())
    scale = max(scale, abs(estimate)) or 1.0
    lower = region.least(f.value, f.gradient, scale)
    upper = -region.least(lambda theta: -f.value(theta), lambda theta: -f.gradient(theta), scale)
    return estimate, min(lower, estimate), max(upper, estimate)


def _listed(parameters: str | Sequence[str] | None) -> list[str] | None:
    """Parameters asked for, as a list."""
    return [parameters] if isinstance(parameters, str) else None if parameters is None else list(parameters)


def requested(
    parameters: str | Sequence[str] | None, known: Iterable[str], default: Iterable[str] | None = None
) -> list[str]:
    """Parameters asked for; by default all of the known ones, or those given."""
    wanted = _listed(parameters)
    unknown = [name for name in wanted or () if name not in set(known)]
    if unknown:
        raise ArgumentError(f"no parameter {examples(unknown)} with an interval; there are {', '.join(known)}.")
    return list(known if default is None else default) if wanted is None else wanted


def profiled_names(fitted: Fitted) -> tuple[str, ...]:
    """Names of the parameters that `profile` knows."""
    return tuple(t.name for t in targets(fitted))


def _maximum_likelihood(fitted: Fitted) -> Fitted:
    """The fit, by ML.

    Raises
    ------
    NotAvailableError
        If its variances were given, or estimated by moments.
    """
    _require_estimated(fitted)
    return fit(fitted.design, fitted.engine, "ml", fitted.control) if fitted.reml else fitted


def _require_estimated(fitted: Fitted) -> None:
    """Raise for given variances, and for estimates that maximise no likelihood."""
    if not fitted.outcome.estimated:
        raise NotAvailableError("the variances were given, not estimated: there is nothing to profile over.")
    if not fitted.outcome.maximised:
        raise _no_maximum(fitted.method)


def require_likelihood(fitted: Fitted) -> None:
    """Raise for a method without a likelihood."""
    if not fitted.outcome.has_likelihood:
        raise _no_maximum(fitted.method)


def _no_maximum(method: str) -> NotAvailableError:
    """The error for a method that maximises no likelihood."""
    return NotAvailableError(
        f"method={method!r} maximises no likelihood: intervals are those of method='reml' or 'ml'."
    )
