"""Degrees of freedom of the fixed effects: Satterthwaite, Kenward and Roger, containment; any n, no n x n matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mixedgen.arrays import Array
from mixedgen.errors import ArgumentError
from mixedgen.estimation.expected import WORKSPACE
from mixedgen.estimation.fitted import Fitted
from mixedgen.inference.inference import Inference
from mixedgen.inference.information import moved_weights
from mixedgen.inference.kenward_roger import AdjustedMoments, kenward_roger_moments, kenward_roger_scale

_SAME_DF = 1e-8  # difference below which lmerTest takes degrees of freedom for equal


@dataclass(frozen=True)
class TStatistics:
    """Variances and degrees of freedom of the rows of L b, shape (m,) each."""

    variances: Array
    df: Array


@dataclass(frozen=True)
class FMoments:
    """Covariance of the rows of L b, shape (q, q), and the scale and denominator degrees of freedom of their F."""

    covariance: Array
    scale: float
    df: float


@dataclass(frozen=True)
class DdfMethod:
    """A way to give tests of L b their degrees of freedom.

    Attributes
    ----------
    label : str
        Its name in running text.
    text : str
        What p-values are made by, in the notes of a report.
    t : callable
        Of the `Inference` and L, shape (m, p), over the columns of X that are kept: `TStatistics` of the rows.
    f : callable, optional
        Of the same for uncorrelated rows: `FMoments`; by default those that follow from `t` of each row [1]_.
    normal : bool
        Whether it ignores that variances are estimated, even where the degrees of freedom are known.

    References
    ----------
    .. [1] Fai & Cornelius (1996) J Stat Comput Simul 54:363.
    """

    label: str
    text: str
    t: Callable[[Inference, Array], TStatistics]
    f: Callable[[Inference, Array], FMoments] | None = None
    normal: bool = False


def _row_blocks(fitted: Fitted, L: Array, copies: int) -> Iterator[slice]:
    """Rows of L whose weights, and `copies` matrices like them, fit the workspace."""
    width = max(1, WORKSPACE // (8 * fitted.design.n * copies))
    for start in range(0, len(L), width):
        yield slice(start, start + width)


def _satterthwaite_t(inference: Inference, L: Array) -> TStatistics:
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
    for rows in _row_blocks(fitted, L, 3):
        W = fitted.system.blue_weights(L[rows])
        for i, VW in enumerate(moved_weights(fitted, W)):
            g[i, rows] = np.einsum("nm,nm->m", W, VW)
    slopes = inference.directions.jacobian.T @ g
    spread = np.einsum("im,ij,jm->m", slopes, inference.theta_covariance, slopes, optimize=True)
    return TStatistics(v, _ratio(2.0 * v**2, spread))


def _ratio(a: Array, b: Array) -> Array:
    """Elements of a / b, infinite where b vanishes and a does not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b > 0, a / b, np.where(a > 0, np.inf, np.nan))


def adjusted_moments(inference: Inference, L: Array) -> AdjustedMoments:
    """Kenward and Roger's moments of L b."""
    return kenward_roger_moments(inference.fitted, inference.covariance, inference.expected_covariance, L)


def _kenward_roger_t(inference: Inference, L: Array) -> TStatistics:
    """Kenward and Roger's adjusted variance and degrees of freedom of each row of L b."""
    variances, df = np.empty(len(L)), np.empty(len(L))
    for rows in _row_blocks(inference.fitted, L, 3 * len(inference.fitted.theta)):
        moments = adjusted_moments(inference, L[rows])
        V, derivatives = moments.covariance, moments.derivatives
        variances[rows] = np.diag(moments.adjusted)
        for k, row in enumerate(range(*rows.indices(len(L)))):
            one = derivatives[:, k : k + 1, k : k + 1]
            df[row] = kenward_roger_scale(V[k : k + 1, k : k + 1], one, inference.expected_covariance)[1]
    return TStatistics(variances, df)


def _kenward_roger_f(inference: Inference, L: Array) -> FMoments:
    """Kenward and Roger's adjusted covariance of the rows of L b, scale and denominator degrees of freedom."""
    moments = adjusted_moments(inference, L)
    scale = kenward_roger_scale(moments.covariance, moments.derivatives, inference.expected_covariance)
    return FMoments(moments.adjusted, *scale)


def _containment_t(inference: Inference, L: Array) -> TStatistics:
    """Containment degrees of freedom of each row of L b: the least of the coefficients in it."""
    df = np.where(L != 0.0, inference.contained, np.inf).min(axis=1, initial=np.inf)
    return TStatistics(np.einsum("ij,jk,ik->i", L, inference.covariance, L, optimize=True), df)


def normal_t(inference: Inference, L: Array) -> TStatistics:
    """Infinite degrees of freedom."""
    variances = np.einsum("ij,jk,ik->i", L, inference.covariance, L, optimize=True)
    return TStatistics(variances, np.full(len(L), np.inf))


DDF_METHODS: dict[str, DdfMethod] = {
    "satterthwaite": DdfMethod("Satterthwaite", "Satterthwaite's degrees of freedom", _satterthwaite_t),
    "kenward-roger": DdfMethod(
        "Kenward-Roger", "Kenward and Roger's covariance and degrees of freedom", _kenward_roger_t, _kenward_roger_f
    ),
    "containment": DdfMethod("containment", "containment degrees of freedom", _containment_t),
    "z": DdfMethod("normal", "the normal distribution", normal_t, normal=True),
}


def ddf_method(name: str) -> DdfMethod:
    """A method of degrees of freedom by its name; an ArgumentError where there is none."""
    if name not in DDF_METHODS:
        raise ArgumentError(f"there is no ddf={name!r}; choose one of: {', '.join(DDF_METHODS)}.")
    return DDF_METHODS[name]


def t_statistics(inference: Inference, L: Array, ddf: str) -> TStatistics:
    """Variances and degrees of freedom of the rows of L b by a method; exact where the model makes them so.

    Parameters
    ----------
    inference : Inference
        The model.
    L : ndarray, shape (m, p)
        Over the columns of X that are kept.
    ddf : str
        Method, one of `DDF_METHODS`.

    Raises
    ------
    ArgumentError, NotAvailableError
        If there is no such method, or it does not apply.
    """
    method = ddf_method(ddf)
    if inference.known or not len(L):
        return normal_t(inference, L)
    if inference.least_squares and not method.normal:
        design = inference.fitted.design
        return TStatistics(normal_t(inference, L).variances, np.full(len(L), float(design.n - design.fixed.p)))
    return method.t(inference, L)


def f_moments(inference: Inference, L: Array, ddf: str) -> FMoments:
    """Covariance, scale and degrees of freedom of the F of uncorrelated rows of L b; arguments as in `t_statistics`."""
    method = ddf_method(ddf)
    if method.f is None or inference.known or inference.least_squares:
        statistics = t_statistics(inference, L, ddf)
        return FMoments(np.diag(statistics.variances), 1.0, _fai_cornelius(statistics.df))
    return method.f(inference, L)


def _fai_cornelius(nu: Array) -> float:
    """Denominator degrees of freedom of a sum of squared t of nu degrees each, by lmerTest's rules.

    Notes
    -----
    2 E / (E - q) with E = sum nu / (nu - 2), the mean of F [1]_.

    References
    ----------
    .. [1] Fai & Cornelius (1996) J Stat Comput Simul 54:363.
    """
    if np.all(np.isinf(nu)):
        return np.inf
    if len(nu) == 1 or np.all(np.abs(np.diff(np.minimum(nu, np.finfo(float).max))) < _SAME_DF):
        return float(np.mean(nu))
    if np.any(nu <= 2):
        return 2.0
    E = float(np.sum(1.0 / (1.0 - 2.0 / nu)))
    return 2.0 * E / (E - len(nu)) if len(nu) < E else np.inf
