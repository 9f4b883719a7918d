"""Fixed effects of a fitted model: estimates, standard errors, criteria, t and F tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import chdtrc, fdtrc, ndtr, ndtri, stdtr, stdtrit

from mixedgen.arrays import Array
from mixedgen.errors import require_probability
from mixedgen.estimation.fitted import Fitted
from mixedgen.inference.degrees import ddf_method, f_moments, t_statistics
from mixedgen.inference.fixed_effects import coefficient_names
from mixedgen.inference.inference import Inference


def t_tests(inference: Inference, L: Array, ddf: str, rhs: Array | float = 0.0) -> pd.DataFrame:
    """Columns ``estimate se df t p`` of the rows of L b, tested against `rhs`."""
    b = inference.fitted.system.solution.b
    statistics = t_statistics(inference, L, ddf)
    se = np.sqrt(statistics.variances)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (L @ b - rhs) / se
    return pd.DataFrame({"estimate": L @ b, "se": se, "df": statistics.df, "t": t, "p": t_tail(t, statistics.df)})


def f_test(inference: Inference, L: Array, ddf: str, rhs: Array | float = 0.0) -> dict[str, float]:
    """Joint test of the rows of L b = rhs: ``sumsq meansq numdf dendf f p`` as lmerTest tabulates it.

    Notes
    -----
    `meansq` is the F before Kenward and Roger's scale, times the residual variance.
    """
    ddf_method(ddf)  # raises where there is none, even for no rows
    rhs = np.broadcast_to(np.asarray(rhs, dtype=float), len(L))
    rows, transform = _principal_rows(inference, L)
    if not len(rows):
        return dict.fromkeys(("sumsq", "meansq", "numdf", "dendf", "f", "p"), np.nan)
    delta = rows @ inference.fitted.system.solution.b - transform @ rhs
    moments = f_moments(inference, rows, ddf)
    q, sigma2 = len(rows), _residual_scale(inference.fitted)
    wald = float(delta @ np.linalg.solve(moments.covariance, delta)) / q
    f = wald * moments.scale
    return {
        "sumsq": wald * sigma2 * q,
        "meansq": wald * sigma2,
        "numdf": float(q),
        "dendf": moments.df,
        "f": f,
        "p": float(f_tail(f, q, moments.df)),
    }


def _principal_rows(inference: Inference, L: Array) -> tuple[Array, Array]:
    """Uncorrelated combinations of the rows of L, the largest variance first, and their coefficients on those rows."""
    V = L @ inference.covariance @ L.T
    values, vectors = np.linalg.eigh(0.5 * (V + V.T))
    kept = np.flatnonzero(values > np.sqrt(np.finfo(float).eps) * values.max(initial=0.0))[::-1]
    return vectors[:, kept].T @ L, vectors[:, kept].T


def _residual_scale(fitted: Fitted) -> float:
    """Residual variance, missing where there is more than one."""
    return float(fitted.theta_R[0]) if fitted.design.residual.homogeneous else np.nan


def t_tail(t: Array, df: Array) -> Array:
    """Two-sided p-values of t statistics; normal where df is infinite."""
    finite = np.isfinite(df)
    return np.asarray(2.0 * np.where(finite, stdtr(np.where(finite, df, 1.0), -np.abs(t)), ndtr(-np.abs(t))))


def t_quantile(df: Array, level: Array | float) -> Array:
    """Half-width, in standard errors, of a two-sided interval."""
    finite = np.isfinite(df)
    upper = 0.5 + 0.5 * level
    return np.where(finite, stdtrit(np.where(finite, df, 1.0), upper), ndtri(upper))


def f_tail(f: Array | float, numdf: float, dendf: Array | float) -> Array:
    """P-values of F statistics; of chi-squared / numdf where dendf is infinite."""
    finite = np.isfinite(dendf)
    f = np.maximum(f, 0.0)
    return np.where(finite, fdtrc(numdf, np.where(finite, dendf, 1.0), f), chdtrc(numdf, numdf * f))


def coefficient_table(inference: Inference, ddf: str = "satterthwaite") -> pd.DataFrame:
    """Columns ``estimate se df t p`` of the fixed effects; under Kenward and Roger `se` is the adjusted one."""
    table = t_tests(inference, np.eye(inference.fitted.design.fixed.p), ddf)
    return table.set_axis(coefficient_names(inference.fitted), axis=0)


def intervals(inference: Inference, alpha: float = 0.05, ddf: str = "satterthwaite") -> pd.DataFrame:
    """Wald t intervals of the fixed effects, columns ``lower upper``.

    Raises
    ------
    ArgumentError
        If alpha is no probability.
    """
    require_probability(alpha, "alpha")
    table = coefficient_table(inference, ddf)
    half = t_quantile(table["df"].to_numpy(), 1.0 - alpha) * table["se"]
    return pd.DataFrame({"lower": table["estimate"] - half, "upper": table["estimate"] + half})
