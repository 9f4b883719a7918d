"""P-values of several comparisons at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from mixedgen.arrays import Array
from mixedgen.inference.wald import f_tail, t_quantile

_SOBOL = 15  # log2 of the points of a quadrature over directions: an error of some 1e-5

_NO_VARIANCE = 1e-10  # eigenvalue of a correlation matrix beside its largest


@dataclass(frozen=True)
class Comparison:
    """One family of t statistics.

    Attributes
    ----------
    t, df, p : ndarray, shape (m,)
        Statistics, degrees of freedom and plain p-values.
    size : int
        Number of means, those that are not estimable too.
    tests : int
        Number of contrasts, those that are not estimable too: they count in all intervals, and in Sidak's p-values;
        Bonferroni's and Holm's p-values count those tested, as `p.adjust` of R.
    correlation : ndarray, shape (m, m)
        Of the contrasts.
    level : float
        Of the intervals.
    """

    t: Array
    df: Array
    p: Array
    size: int
    tests: int
    correlation: Array
    level: float


def _unadjusted(c: Comparison) -> tuple[Array, Array]:
    """No adjustment."""
    return c.p, t_quantile(c.df, c.level)


def _bonferroni(c: Comparison) -> tuple[Array, Array]:
    """The number of tests times p."""
    m = len(c.p)
    return np.minimum(1.0, m * c.p), t_quantile(c.df, 1.0 - (1.0 - c.level) / c.tests)


def _sidak(c: Comparison) -> tuple[Array, Array]:
    """One less (1 - p)^m, for m tests."""
    m = c.tests
    with np.errstate(divide="ignore"):
        return -np.expm1(m * np.log1p(-c.p)), t_quantile(c.df, c.level ** (1.0 / m))


def _holm(c: Comparison) -> tuple[Array, Array]:
    """Step-down Bonferroni, whose intervals it takes."""
    order = np.argsort(c.p)
    out = np.empty(len(c.p))
    out[order] = np.minimum(1.0, np.maximum.accumulate((len(c.p) - np.arange(len(c.p))) * c.p[order]))
    return out, _bonferroni(c)[1]


def _tukey(c: Comparison) -> tuple[Array, Array]:
    """Studentized range of all means."""
    from scipy.stats import studentized_range  # half a second to import

    p = studentized_range.sf(np.sqrt(2.0) * np.abs(c.t), c.size, c.df)
    return np.clip(p, 0.0, 1.0), _each_df(c.df, lambda v: float(studentized_range.ppf(c.level, c.size, v))) / np.sqrt(
        2.0
    )


def _each_df(df: Array, function: Callable[[float], float]) -> Array:
    """A function of the degrees of freedom, evaluated once for each distinct value."""
    distinct, which = np.unique(df, return_inverse=True)
    return np.array([function(float(v)) for v in distinct])[which]


def _largest_t(c: Comparison) -> tuple[Array, Array]:
    """Largest |t| of the family under the multivariate t distribution."""
    from scipy.optimize import brentq

    directions = _spread_over_sphere(c.correlation)
    p = [1.0 - _probability_inside(abs(t), df, *directions) for t, df in zip(c.t, c.df, strict=True)]

    def critical(df: float) -> float:
        plain_and_sidak = t_quantile(np.full(2, df), np.array([c.level, c.level ** (1.0 / len(c.t))]))
        low, high = 0.99 * plain_and_sidak[0], 1.01 * plain_and_sidak[1]
        return float(brentq(lambda x: _probability_inside(x, df, *directions) - c.level, low, high, xtol=1e-7))

    return np.clip(p, 0.0, 1.0), _each_df(c.df, critical)


def _spread_over_sphere(correlation: Array) -> tuple[Array, int]:
    """Largest |a'u| over the contrasts a for points u spread evenly over the sphere, and its dimension: the rank."""
    from scipy.stats import qmc

    values, vectors = np.linalg.eigh(correlation)
    A = (vectors * np.sqrt(np.maximum(values, 0.0)))[:, values > _NO_VARIANCE * values[-1]]
    points = qmc.Sobol(A.shape[1], scramble=False).random_base2(_SOBOL)
    z = ndtri((points + 0.5 / len(points)) % 1.0)
    u = z / np.sqrt(np.sum(z**2, axis=1, keepdims=True))
    return np.abs(u @ A.T).max(axis=1), A.shape[1]


def _probability_inside(x: float, df: float, largest: Array, rank: int) -> float:
    """Probability that all |t| are below x.

    Notes
    -----
    t = A z / s with z normal of dimension r and s^2 a chi-squared / df: in the direction u of z, |z|^2 / (r s^2) is
    F(r, df), so the probability is the mean over u of that distribution at x^2 / (r max (a'u)^2).
    """
    return float(np.mean(1.0 - f_tail(x**2 / (rank * largest**2), rank, df)))


ADJUSTMENTS: dict[str, Callable[[Comparison], tuple[Array, Array]]] = {
    "none": _unadjusted,
    "bonferroni": _bonferroni,
    "sidak": _sidak,
    "holm": _holm,
    "tukey": _tukey,
    "mvt": _largest_t,
}
