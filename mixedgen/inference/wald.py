"""Fixed effects of a fitted model: estimates, standard errors, criteria, t and F tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc, fdtrc, ndtr, ndtri, stdtr, stdtrit

from mixedgen.errors import ArgumentError, NotAvailableError, require_probability
from mixedgen.estimation.estimate import Fitted
from mixedgen.inference.degrees import (
    FLAT,
    Inference,
    kenward_roger_moments,
    kenward_roger_scale,
    require_ddf,
    t_statistics,
)

Array = NDArray[np.float64]


def coefficient_names(fitted: Fitted) -> pd.Index:
    """Names of the fixed effects, without the aliased ones."""
    return pd.Index(fitted.design.fixed.names)


def estimates(fitted: Fitted) -> pd.Series:
    """BLUE of the fixed effects."""
    return pd.Series(fitted.system.solution.b, index=coefficient_names(fitted), name="estimate")


def standard_errors(fitted: Fitted) -> pd.Series:
    """Standard errors of the BLUE at the variance parameters."""
    return pd.Series(np.sqrt(fitted.system.fixed_variances()), index=coefficient_names(fitted), name="se")


def covariance(fitted: Fitted) -> pd.DataFrame:
    """Covariance matrix of the BLUE, (X'V^-1 X)^-1."""
    names = coefficient_names(fitted)
    return pd.DataFrame(fitted.system.fixed_covariance(), index=names, columns=names)


def joint_covariance(fitted: Fitted) -> pd.DataFrame:
    """Covariance matrix of (b_hat, u_hat - u); random effects are labelled (term, level, effect).

    Raises
    ------
    NotAvailableError
        If the matrix would take more than 2 GB.
    """
    design = fitted.design
    labels: list[object] = list(design.fixed.names)
    size = design.fixed.p + sum(t.q * t.c for t in design.terms)
    if 8 * size**2 > 2**31:
        raise NotAvailableError(
            f"the joint covariance of {size} effects would take {8 * size**2 / 1e9:.0f} GB; "
            "blup(term) gives each effect's own variance."
        )
    for t in design.terms:
        labels += [(t.key, level, effect) for effect in t.effects for level in t.levels]
    index = pd.Index(labels, tupleize_cols=False)
    return pd.DataFrame(fitted.system.joint_covariance(), index=index, columns=index)


def n_parameters(fitted: Fitted) -> int:
    """Number of parameters as lme4 counts them: fixed effects, variance parameters, residual variance."""
    return fitted.design.fixed.p + len(fitted.theta)


def aic(fitted: Fitted) -> float:
    """Akaike's criterion, from the restricted likelihood under REML, as lme4 has it."""
    return fitted.deviance + 2.0 * n_parameters(fitted)


def bic(fitted: Fitted) -> float:
    """Schwarz's criterion with the number of records, as lme4 has it."""
    return fitted.deviance + n_parameters(fitted) * float(np.log(fitted.design.n))


def criterion(fitted: Fitted, method: str) -> float:
    """Minus twice the log-likelihood of one method.

    Raises
    ------
    NotAvailableError
        If the model was fitted by the other.
    """
    if fitted.method != method:
        other = "reml_criterion" if fitted.method == "reml" else "deviance"
        raise NotAvailableError(
            f"the model was fitted by {fitted.method.upper()}: its criterion is `{other}`. "
            f"Fit with method={method!r} for this one."
        )
    return fitted.deviance


def estimable(fitted: Fitted, L: np.ndarray) -> np.ndarray:
    """Whether each row of L, over all columns of X as coded, is an estimable function.

    Raises
    ------
    ArgumentError
        If L has another number of columns than X.
    """
    fixed = fitted.design.fixed
    L = np.atleast_2d(np.asarray(L, dtype=float))
    if L.shape[1] != len(fixed.all_names):
        raise ArgumentError(f"L has {L.shape[1]} columns; X has {len(fixed.all_names)}.")
    size = np.abs(L) @ np.abs(fixed.null_space)
    return np.all(np.abs(L @ fixed.null_space) <= 1e-8 * np.maximum(size, 1e-300), axis=1)


# ------------------------------------------------------------------------------------------------------ tests
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
    require_ddf(ddf)
    rhs = np.broadcast_to(np.asarray(rhs, dtype=float), len(L))
    rows, transform = principal_rows(inference, L)
    if not len(rows):
        return dict.fromkeys(("sumsq", "meansq", "numdf", "dendf", "f", "p"), np.nan)
    delta = rows @ inference.fitted.system.solution.b - transform @ rhs
    plain = inference.known or inference.least_squares or ddf != "kenward-roger"
    wald, scale, dendf = (row_by_row if plain else kenward_roger_f)(inference, rows, delta, ddf)
    q, sigma2 = len(rows), residual_scale(inference.fitted)
    f = wald * scale
    return {
        "sumsq": wald * sigma2 * q,
        "meansq": wald * sigma2,
        "numdf": float(q),
        "dendf": dendf,
        "f": f,
        "p": float(f_tail(f, q, dendf)),
    }


def principal_rows(inference: Inference, L: Array) -> tuple[Array, Array]:
    """Uncorrelated combinations of the rows of L, the largest variance first, and their coefficients on those rows."""
    V = L @ inference.covariance @ L.T
    values, vectors = np.linalg.eigh(0.5 * (V + V.T))
    kept = np.flatnonzero(values > np.sqrt(np.finfo(float).eps) * max(float(values[-1]), 0.0))[::-1]
    return vectors[:, kept].T @ L, vectors[:, kept].T


def row_by_row(inference: Inference, L: Array, delta: Array, ddf: str) -> tuple[float, float, float]:
    """Wald F of uncorrelated rows, scale 1, and its denominator degrees of freedom from those of the rows."""
    statistics = t_statistics(inference, L, ddf)
    return float(np.mean(delta**2 / statistics.variances)), 1.0, fai_cornelius(statistics.df)


def kenward_roger_f(inference: Inference, L: Array, delta: Array, ddf: str) -> tuple[float, float, float]:
    """Wald F with the adjusted covariance, its scale and its denominator degrees of freedom."""
    V, derivatives, adjusted = kenward_roger_moments(inference, L)
    scale, dendf = kenward_roger_scale(V, derivatives, inference.expected_covariance)
    return float(delta @ np.linalg.solve(adjusted, delta)) / len(L), scale, dendf


def fai_cornelius(nu: Array) -> float:
    """Denominator degrees of freedom of a sum of squared t of nu degrees each, by lmerTest's rules.

    Notes
    -----
    2 E / (E - q) with E = sum nu / (nu - 2), the mean of F [1]_.

    References
    ----------
    .. [1] Fai & Cornelius (1996) J Stat Comput Simul 54:363.
    """
    if len(nu) == 1 or np.all(np.abs(np.diff(nu)) < FLAT):
        return float(np.mean(nu))
    if np.any(nu <= 2):
        return 2.0
    E = float(np.sum(1.0 / (1.0 - 2.0 / nu)))
    return 2.0 * E / (E - len(nu)) if len(nu) < E else np.inf


def residual_scale(fitted: Fitted) -> float:
    """Residual variance, missing where there is more than one."""
    return float(fitted.theta[-1]) if fitted.design.residual.homogeneous else np.nan


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


# ------------------------------------------------------------------------------------------ the coefficients
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
