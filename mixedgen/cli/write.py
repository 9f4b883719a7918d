"""Results of the shell as text, CSV, Parquet and JSON."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from mixedgen import __version__
from mixedgen.cli.sources import require_parquet_support
from mixedgen.errors import ArgumentError
from mixedgen.model import Fit


def write_table_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV."""
    frame.to_csv(path, index=False)


def write_table_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet."""
    frame.to_parquet(path, index=False)


def write_table_json(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as a JSON list of its rows."""
    path.write_text(json.dumps(records(frame), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


TABLE_WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": write_table_csv,
    ".json": write_table_json,
    ".parquet": write_table_parquet,
}


def writer(path: Path) -> Callable[[Fit, Path], None]:
    """Choose how to write results by the suffix of the file, before time is spent on the fit.

    Raises
    ------
    ArgumentError
        If the suffix is none of .csv, .json and .parquet, the folder does not exist, or Parquet support is lacking.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise ArgumentError(f"results can be written to {', '.join(WRITERS)} files, not to {str(path)!r}.")
    if not path.parent.is_dir():
        raise ArgumentError(f"there is no folder {str(path.parent)!r} for the results: make it first.")
    require_parquet_support(path)
    return WRITERS[suffix]


def write_csv(fit: Fit, path: Path) -> None:
    """Write the tidy table of results as CSV."""
    tidy(fit).to_csv(path, index=False)


def write_parquet(fit: Fit, path: Path) -> None:
    """Write the tidy table of results as Parquet."""
    tidy(fit).to_parquet(path, index=False)


def write_json(fit: Fit, path: Path) -> None:
    """Write the results as one JSON document."""
    path.write_text(json.dumps(document(fit), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


WRITERS: dict[str, Callable[[Fit, Path], None]] = {
    ".csv": write_csv,
    ".json": write_json,
    ".parquet": write_parquet,
}


def criteria(fit: Fit) -> dict[str, float | int]:
    """Criteria of a fit by name; ``reml_criterion`` or ``deviance``, as the method has it."""
    name = "reml_criterion" if fit.method == "reml" else "deviance"
    return {
        name: float(-2.0 * fit.llf),
        "llf": float(fit.llf),
        "aic": float(fit.aic),
        "bic": float(fit.bic),
        "nobs": int(fit.nobs),
        "npar": int(fit.npar),
    }


def terms(fit: Fit) -> list[str]:
    """Names of the random terms."""
    return list(fit.ranef(cond_var=False))


def tidy(fit: Fit) -> pd.DataFrame:
    """All results in one table: a row for each criterion, fixed effect, variance component and random effect.

    Returns
    -------
    DataFrame
        Columns ``part term level effect value se sdcor bound pev reliability n_records``; what a part does not have
        is missing. `part` is ``criterion``, ``fixed``, ``varcomp`` or ``blup``.
    """
    scalars = pd.DataFrame({"part": "criterion", "term": list(criteria(fit)), "value": list(criteria(fit).values())})
    fixed = pd.DataFrame({"part": "fixed", "effect": list(fit.params.index), "value": fit.params.values})
    fixed["se"] = fit.bse.to_numpy()
    varcomp = fit.varcomp.rename(columns={"grp": "term", "vcov": "value"}).assign(part="varcomp")
    varcomp["effect"] = [pair(a, b) for a, b in zip(varcomp["var1"], varcomp["var2"], strict=True)]
    blups = [fit.blup(term).assign(part="blup", term=term) for term in terms(fit)]
    parts = [scalars, fixed, varcomp, *blups]
    return pd.concat([frame.reindex(columns=list(TIDY)).astype(TIDY) for frame in parts], ignore_index=True)


TIDY = {
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


def pair(first: Any, second: Any) -> str | None:
    """Name of a variance or covariance by its effects: "a", or "a,b"."""
    named = [str(effect) for effect in (first, second) if not pd.isna(effect)]
    return ",".join(named) or None


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame as plain values for JSON."""
    return [{str(k): plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def plain(value: Any) -> Any:
    """Value that JSON knows: numpy's numbers become Python's, missing and infinite ones None, all else text."""
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return None if pd.isna(value) else str(value)


def document(fit: Fit) -> dict[str, Any]:
    """Structured results: formula, method, criteria, coefficients, variances, predictions and certificate."""
    coefficients = pd.DataFrame({"estimate": fit.params, "se": fit.bse, "t": fit.tvalues})
    return {
        "package": {"name": "mixedgen", "version": __version__},
        "formula": fit.formula,
        "method": fit.method,
        "engine": fit.engine,
        "criteria": criteria(fit),
        "coefficients": records(coefficients.rename_axis("name").reset_index()),
        "varcomp": records(fit.varcomp),
        "theta": {str(name): plain(value) for name, value in fit.theta.items()},
        "blups": {term: records(fit.blup(term)) for term in terms(fit)},
        "certificate": None if fit.certificate is None else {k: plain(v) for k, v in asdict(fit.certificate).items()},
    }
