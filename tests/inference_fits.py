"""Frozen answers of lmerTest and pbkrtest, and the fits they belong to."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pandas as pd

import mixedgen as mg

FROZEN = json.loads((Path(__file__).parent / "reference" / "inference.json").read_text())
FITS = {(f["model"], f["method"]): f for f in FROZEN["fits"]}


@cache
def frame(name: str) -> pd.DataFrame:
    """The frames of tests/reference/inference.R."""
    if name in FROZEN["data"]:
        return pd.DataFrame(FROZEN["data"][name])
    data = mg.data.load(name.partition("_")[0].lower())
    if name == "sleepstudy_unbalanced":
        return data.drop(index=[r - 1 for r in FROZEN["gone"]])
    if name.startswith("cake"):
        data["temperature"] = data["temperature"].astype(str)
        data = data.iloc[[k for k in range(len(data)) if name == "cake" or k % FROZEN["every"]]]
    if name == "cake_empty_cell":
        data = data[~((data["recipe"] == "B") & (data["temperature"] == "185"))]
    return data


@cache
def fit_of(model: str, method: str = "reml", engine: str = "auto") -> mg.Fit:
    want = FITS[model, method]
    return mg.lmm(want["formula"], frame(want["data"]), method=method, control=mg.Control(engine=engine))
