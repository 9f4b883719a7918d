"""All results of a fit in one frame, and in one document of plain values."""

from __future__ import annotations

import math
import numbers
from dataclasses import asdict
from typing import Any

import pandas as pd

from mixedgen.estimation import variances
from mixedgen.estimation.fitted import Fitted
from mixedgen.inference import criteria, fixed_effects
from mixedgen.prediction.effects import blup

_RESULTS = {
    "part": "string",
    "term": "string",
    "level": "string",
    "effect": "string",
    "value": "float64",
    "se": "float64",
    "sdcor": "float64",
    "bound": "string",
    "pev": "float64",
    "reliability": "float64",
    "n_records": "Int64",
}


def results_frame(fitted: Fitted) -> pd.DataFrame:
    """All results in one table: a row for each criterion, fixed effect, variance component and random effect.

    Returns
    -------
    DataFrame
        Columns ``part term level effect value se sdcor bound pev reliability n_records``; what a part does not have
        is missing. `part` is ``criterion``, ``fixed``, ``varcomp`` or ``blup``.
    """
    scalars = _named_criteria(fitted)
    criterion = pd.DataFrame({"part": "criterion", "term": list(scalars), "value": list(scalars.values())})
    b = fixed_effects.estimates(fitted)
    fixed = pd.DataFrame({"part": "fixed", "effect": list(b.index), "value": b.to_numpy()})
    fixed["se"] = fixed_effects.standard_errors(fitted).to_numpy()
    varcomp = variances.components(fitted).rename(columns={"grp": "term", "vcov": "value"}).assign(part="varcomp")
    varcomp["effect"] = [_pair(a, b) for a, b in zip(varcomp["var1"], varcomp["var2"], strict=True)]
    blups = [blup(fitted, t.key).assign(part="blup", term=t.key) for t in fitted.design.terms]
    parts = [criterion, fixed, varcomp, *blups]
    return pd.concat([frame.reindex(columns=list(_RESULTS)).astype(_RESULTS) for frame in parts], ignore_index=True)


def document(fitted: Fitted) -> dict[str, Any]:
    """Formula, method, criteria, coefficients, variances, predictions and certificate, in values that JSON knows."""
    b, se = fixed_effects.estimates(fitted), fixed_effects.standard_errors(fitted)
    coefficients = pd.DataFrame({"estimate": b, "se": se, "t": b / se})
    certificate = fitted.outcome.certificate
    return {
        "formula": fitted.design.parsed.source,
        "method": fitted.method,
        "engine": fitted.engine.name,
        "criteria": _named_criteria(fitted),
        "coefficients": plain_rows(coefficients.rename_axis("name").reset_index()),
        "varcomp": plain_rows(variances.components(fitted)),
        "theta": {str(name): _plain_value(value) for name, value in variances.parameters(fitted).items()},
        "blups": {t.key: plain_rows(blup(fitted, t.key)) for t in fitted.design.terms},
        "certificate": None if certificate is None else {k: _plain_value(v) for k, v in asdict(certificate).items()},
    }


def _named_criteria(fitted: Fitted) -> dict[str, float | int]:
    """Criteria of a fit by name; ``reml_criterion`` or ``deviance``, as the method has it."""
    return {
        "reml_criterion" if fitted.reml else "deviance": float(fitted.deviance),
        "llf": -0.5 * float(fitted.deviance),
        "aic": float(criteria.aic(fitted)),
        "bic": float(criteria.bic(fitted)),
        "nobs": int(fitted.design.n),
        "npar": int(criteria.n_parameters(fitted)),
    }


def _pair(first: Any, second: Any) -> str | None:
    """Name of a variance or covariance by its effects: "a", or "a,b"."""
    named = [str(effect) for effect in (first, second) if not pd.isna(effect)]
    return ",".join(named) or None


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame as plain values for JSON."""
    return [{str(k): _plain_value(v) for k, v in row.items()} for row in frame.to_dict("records")]


def _plain_value(value: Any) -> Any:
    """Value that JSON knows: numpy's numbers become Python's, missing and infinite ones None, all else text."""
    if isinstance(value, tuple | list):
        return [_plain_value(v) for v in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return None if pd.isna(value) else str(value)
