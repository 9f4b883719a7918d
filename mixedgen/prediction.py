"""Random effects, fitted values and residuals of a fitted model."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedgen.estimate import Fitted

Array = NDArray[np.float64]


def random_effects(fitted: Fitted, *, cond_var: bool) -> dict[str, pd.DataFrame]:
    """BLUP of each term, levels by effects; with `cond_var`, `frame.attrs["cond_var"]` holds Var(u | y, b).

    Returns
    -------
    dict of str to DataFrame
        `attrs["cond_var"]` has shape (levels, c, c): variances given theta and b, lme4's postVar, not the PEV.
    """
    out = {}
    for k, t in enumerate(fitted.design.terms):
        frame = pd.DataFrame(fitted.system.solution.u[k], index=t.levels, columns=list(t.effects))
        if cond_var:
            frame.attrs["cond_var"] = fitted.system.conditional_variance(k)
        out[t.key] = frame
    return out


def blup(fitted: Fitted, term: str) -> pd.DataFrame:
    """BLUP of one term, a row for each level and effect.

    Returns
    -------
    DataFrame
        Columns ``level effect value se pev reliability n_records``: pev = Var(u_hat - u), se its root,
        reliability = 1 - pev / Var(u) (missing where Var(u) is zero).
    """
    k = fitted.design.term(term)
    t = fitted.design.terms[k]
    s = fitted.design.slices[k]
    pev = np.einsum("qaa->qa", fitted.system.prediction_error(k))
    scale = np.ones(t.q) if t.relationship is None else np.asarray(t.relationship.diagonal)
    variance = np.outer(scale, np.diag(t.structure.matrix(fitted.theta[s])))
    with np.errstate(divide="ignore", invalid="ignore"):
        reliability = np.where(variance > 0, 1.0 - pev / variance, np.nan)
    return pd.DataFrame(
        {
            "level": t.levels.repeat(t.c),
            "effect": list(t.effects) * t.q,
            "value": fitted.system.solution.u[k].ravel(),
            "se": np.sqrt(np.maximum(pev, 0.0)).ravel(),
            "pev": pev.ravel(),
            "reliability": reliability.ravel(),
            "n_records": np.repeat(t.counts, t.c),
        }
    )


def on_data(fitted: Fitted, values: Array, name: str) -> pd.Series:
    """Values of the records on the index of the data; rows left out are absent, or NaN where they are excluded."""
    design = fitted.design
    series = pd.Series(values, index=design.index[design.kept], name=name)
    if design.na_action == "omit":
        return series
    full = np.full(len(design.index), np.nan)
    full[design.kept] = values
    return pd.Series(full, index=design.index, name=name)


def residuals(fitted: Fitted) -> pd.Series:
    """Conditional residuals y - Xb - Zu."""
    return on_data(fitted, fitted.system.solution.e, "resid")


def fitted_values(fitted: Fitted) -> pd.Series:
    """Conditional fitted values Xb + Zu, and the offset."""
    design = fitted.design
    values = design.y - fitted.system.solution.e
    return on_data(fitted, values if design.offset is None else values + design.offset, "fitted")


def scaled_residuals(fitted: Fitted) -> Array:
    """Residuals divided by the residual standard deviation of their record, shape (n,)."""
    design = fitted.design
    r = design.residual.diagonal(fitted.theta[design.slices[-1]])
    return fitted.system.solution.e / np.sqrt(r)
