"""What the package maketables asks a result for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedgen.estimation.fitted import Fitted
from mixedgen.inference import criteria, fixed_effects
from mixedgen.inference import wald as inference
from mixedgen.inference.degrees import ddf_method
from mixedgen.inference.inference import Result
from mixedgen.output.report import random_rows, statistic_rows


def maketables_coefficients(model: Result) -> pd.DataFrame:
    """Columns ``b se t p df ci95l ci95u``, as maketables asks for; without tests for lack of degrees of freedom."""
    if not model.fitted.outcome.has_df:
        b, se = fixed_effects.estimates(model.fitted), fixed_effects.standard_errors(model.fitted)
        out = pd.DataFrame({"b": b, "se": se, "t": b / se, "p": np.nan})
    else:
        out = inference.coefficient_table(model.inference).rename(columns={"estimate": "b"})[
            ["b", "se", "t", "p", "df"]
        ]
        half = inference.t_quantile(out["df"].to_numpy(), 0.95) * out["se"]
        out = out.assign(ci95l=out["b"] - half, ci95u=out["b"] + half)
    return out.rename_axis("Coefficient")


@dataclass(frozen=True)
class ForMaketables:
    """A fit of which nothing can be seen but what maketables asks for, `Fit.__maketables_coef_table__` and the others.

    Notes
    -----
    maketables 0.2 looks for `params`, `bse` and `pvalues` first, and takes what has them for a result of statsmodels.
    """

    fit: Result

    def __getattr__(self, name: str) -> Any:
        """What the fit answers to maketables."""
        if name.startswith("__maketables_"):
            return getattr(self.fit, name)
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}: it is for maketables.")


MAKETABLES_KEYS = {
    "N": "Records",
    "ll": "log-likelihood",
    "aic": "AIC",
    "bic": "BIC",
    "r2m": "R² marginal",
    "r2c": "R² conditional",
    "method": "Method",
    "converged": "Converged",
}


def maketables_statistic(model: Result, key: str) -> Any:
    """A statistic by maketables' key or by the label of a row of `table`; None where there is none."""
    if key == "reml":
        return criteria.criterion(model.fitted, "reml") if model.fitted.reml else None
    rows = statistic_rows(model) | random_rows(model.fitted)
    return rows.get(MAKETABLES_KEYS.get(key, key))


def maketables_keys(fitted: Fitted) -> list[str]:
    """Statistics that maketables shows unasked."""
    levels = [f"Levels of {t.key}" for t in fitted.design.terms]
    criteria = ["ll", "aic", "bic"] if fitted.outcome.has_likelihood else []
    shares = ["r2m", "r2c"] if fitted.solved and not fitted.design.records.several else []
    return ["N", *levels, *criteria, *shares, "method", *random_rows(fitted)]


def maketables_terms(fitted: Fitted) -> str | None:
    """Random terms, joined by plus signs; marked, because maketables puts them in its block of fixed effects."""
    return "+".join(f"{t.key} (random)" for t in fitted.design.terms) or None


def maketables_vcov(fitted: Fitted) -> dict[str, str | None]:
    """How standard errors and p-values were made."""
    outcome = fitted.outcome
    tests = ddf_method("satterthwaite" if outcome.maximised else "z").label if outcome.has_df else "moments"
    return {"vcov_type": f"model-based, {tests}", "clustervar": None}


def maketables_labels(fitted: Fitted) -> dict[str, str] | None:
    """Labels of the variables, where the data frame carries them as maketables keeps them."""
    labels = fitted.design.variables.attrs.get("variable_labels")
    return dict(labels) if labels else None
