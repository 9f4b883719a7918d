"""Variance parameters by name, and functions of them with their delta-method standard errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedgen.arrays import Array
from mixedgen.covariance.structure import Structure
from mixedgen.covariance.triangle import lower_factor
from mixedgen.errors import ArgumentError, NotAvailableError
from mixedgen.estimation.expression import expression
from mixedgen.estimation.fitted import Fitted


def parameters(fitted: Fitted) -> pd.Series:
    """Variance parameters on the natural scale, by name."""
    return pd.Series(fitted.theta, index=pd.Index(fitted.design.theta_names), name="theta")


def components(fitted: Fitted) -> pd.DataFrame:
    """Variances and covariances as lme4 tabulates them, with standard errors.

    Returns
    -------
    DataFrame
        Columns ``grp var1 var2 vcov sdcor se bound``: `sdcor` is the standard deviation, or the correlation on rows of
        two effects; `se`, that of `vcov`, comes from the inverse average information; `bound` says what is at its
        boundary. A correlation in a product of residual structures has a row of its own, `var1` the parameter and
        `var2` its column, without `vcov`: `se` is then that of the correlation.
    """
    design = fitted.design
    H = fitted.theta_covariance
    rows: list[dict[str, Any]] = []
    for t, s in zip(design.terms, design.slices, strict=False):
        rows += _block_rows(t.key, t.effects, t.structure, fitted.theta[s], H[s, s], _bounds_in(fitted, s))
    s = design.slices[-1]
    classes: tuple[str | None, ...] = design.residual.classes or (None,)
    structure, bounds = design.residual.structure, _bounds_in(fitted, s)
    rows += _block_rows("Residual", classes, structure, fitted.theta[s], H[s, s], bounds)
    rows += _correlation_rows("Residual", structure, design.residual.classes, fitted.theta[s], H[s, s], bounds)
    return pd.DataFrame(rows, columns=["grp", "var1", "var2", "vcov", "sdcor", "se", "bound"])


def history(fitted: Fitted) -> pd.DataFrame:
    """Steps of the optimiser: columns ``criterion step decrement`` and the parameters by name."""
    names = fitted.design.theta_names
    rows = [
        {"criterion": s.deviance, "step": s.kind, "decrement": s.decrement, **dict(zip(names, s.theta, strict=True))}
        for s in fitted.outcome.history
    ]
    return pd.DataFrame(rows)


def scale(fitted: Fitted) -> float:
    """The residual variance; a NotAvailableError where there is more than one."""
    if not fitted.design.residual.homogeneous:
        raise NotAvailableError("there is not one residual variance, or residuals are correlated: see `varcomp`.")
    return float(fitted.theta_R[0])


def _bounds_in(fitted: Fitted, s: slice) -> dict[int, str]:
    """What is at its boundary, by the number of the parameter within its structure."""
    return {i - s.start: kind for i, kind in fitted.bounds.items() if s.start <= i < s.stop}


def _block_rows(
    grp: str, effects: Any, structure: Any, theta: Array, H: Array, bounds: dict[int, str]
) -> list[dict[str, Any]]:
    """Rows of one term: the variances, then the covariances that the structure does not fix at zero; SE by delta."""
    Sigma, D = structure.matrix(theta), structure.derivatives(theta)
    with np.errstate(invalid="ignore"):  # estimates by moments may be negative
        sd = np.sqrt(np.diag(Sigma))
    pairs = [(a, a) for a in range(len(sd))] + [
        (a, b) for b in range(len(sd)) for a in range(b + 1, len(sd)) if np.any(D[:, a, b]) or Sigma[a, b]
    ]
    rows = []
    for a, b in pairs:
        own = np.flatnonzero(D[:, a, b])
        d = D[own, a, b]
        with np.errstate(invalid="ignore", divide="ignore"):
            sdcor = sd[a] if a == b else Sigma[a, b] / (sd[a] * sd[b])
        rows.append(
            {
                "grp": grp,
                "var1": effects[b],
                "var2": None if a == b else effects[a],
                "vcov": Sigma[a, b],
                "sdcor": sdcor,
                "se": float(np.sqrt(d @ H[np.ix_(own, own)] @ d)) if len(own) else np.nan,
                "bound": next((bounds[int(i)] for i in own if int(i) in bounds), None) if len(own) else "fixed",
            }
        )
    return rows


def _correlation_rows(
    grp: str, structure: Structure, classes: tuple[str, ...], theta: Array, H: Array, bounds: dict[int, str]
) -> list[dict[str, Any]]:
    """Rows of correlations that are no elements of one matrix: of a product of structures."""
    parameters = structure.parameters(classes or ("",))
    rows = []
    for i in structure.unseen:
        *words, column = parameters[i].label
        row = {"grp": grp, "var1": ",".join(words), "var2": column, "vcov": np.nan, "sdcor": theta[i]}
        rows.append({**row, "se": float(np.sqrt(H[i, i])), "bound": bounds.get(i)})
    return rows


def relative_factor(fitted: Fitted) -> pd.Series:
    """lme4's theta: the lower triangle, by columns, of the Cholesky factor of Sigma / sigma^2, terms in order.

    Raises
    ------
    NotAvailableError
        If there is more than one residual variance.
    """
    design = fitted.design
    if not design.residual.homogeneous:
        raise NotAvailableError("the relative factor is defined for one residual variance only.")
    values: list[float] = []
    names: list[str] = []
    for k, t in enumerate(design.terms):
        L = lower_factor(fitted.Sigma(k) / fitted.theta_R)
        for b in range(t.c):
            for a in range(b, t.c):
                values.append(float(L[a, b]))
                names.append(f"{t.key}[{t.effects[a]}]" if a == b else f"{t.key}[{t.effects[a]},{t.effects[b]}]")
    return pd.Series(values, index=pd.Index(names), name="relative_factor", dtype=float)


@dataclass(frozen=True)
class VarianceFunction:
    """A function of the variance parameters.

    Attributes
    ----------
    name : str
        Left of the ``=``, or the expression itself.
    expression : str
        The expression.
    estimate, se : float
        Its value, and its standard error by the delta method from the inverse average information.
    """

    name: str
    expression: str
    estimate: float
    se: float


def variance_function(fitted: Fitted, text: str) -> VarianceFunction:
    """Value and delta-method standard error of an expression in the names of `theta`.

    Parameters
    ----------
    fitted : Fitted
        The model.
    text : str
        Such as ``"h2 = animal:A / (animal:A + residual)"``: names of `theta`, numbers, ``+ - * / **``, parentheses,
        ``sqrt log exp``.

    Raises
    ------
    ArgumentError
        If it cannot be read, or names something that is no variance parameter.

    Notes
    -----
    Var f = g' H g with g the gradient of f and H the inverse average information; a variance at zero counts as known.
    """
    f = expression(text, fitted.design.theta_names)
    estimate = f.value(fitted.theta)
    if np.isnan(estimate):
        raise ArgumentError(
            f"{f.text!r} has no value at these variances: a division by zero, or a root or log of a negative number."
        )
    (se,) = delta_errors(f.gradient(fitted.theta)[None], fitted)
    return VarianceFunction(f.name, f.text, estimate, float(se))


def delta_errors(gradients: Array, fitted: Fitted) -> Array:
    """Delta-method standard errors of functions of theta, gradients (m, n_theta); NaN where theta has none."""
    H = fitted.theta_covariance.copy()
    known = [i for i, kind in fitted.bounds.items() if kind == "zero variance"]
    H[known, :] = H[:, known] = 0.0
    used = [np.flatnonzero(g) for g in gradients]  # what a function does not depend on may have no standard error
    variances = [g[u] @ H[np.ix_(u, u)] @ g[u] for g, u in zip(gradients, used, strict=True)]
    return np.sqrt(np.maximum(variances, 0.0))
