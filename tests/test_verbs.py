"""Every verb of the fixed effects and of prediction on every kind of model: an answer, or a MixedgenError."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg


@cache
def data() -> pd.DataFrame:
    """Two factors, one cell of which is empty, a nested one, covariates, two traits, of 12 groups."""
    rng = np.random.default_rng(11)
    d = pd.DataFrame({"g": np.repeat(np.arange(12), 6), "A": np.tile(list("aabbcc"), 12), "t": np.tile([1, 2] * 3, 12)})
    d["B"] = np.where(d["A"] == "a", "x", np.where(d["t"] == 1, "x", "y"))
    d["within"] = d["A"] + d["t"].astype(str)
    d["u"] = np.arange(72)
    d["z"], d["w"] = rng.normal(size=72), 1.0 + d["u"] % 3
    d["y"], d["y2"] = rng.normal(size=(2, 72)) + rng.normal(size=(2, 12))[:, d["g"]]
    d["copy"] = 2.0 * d["z"]
    return d


@cache
def animals() -> mg.Relationship:
    """Two parents of unknown-parent groups, and ten offspring."""
    ids = [f"i{k}" for k in range(12)]
    frame = pd.DataFrame({"id": ids, "sire": ["G", "H", *["i0"] * 10], "dam": ["G", "H", *["i1"] * 10]})
    return mg.additive(mg.Pedigree(frame, groups=["G", "H"]))


KINDS: dict[str, dict[str, Any]] = {
    "crossed": {"formula": "y ~ A + t + z + (1|g)"},
    "empty cell": {"formula": "y ~ A * B + (1|g)"},
    "nested": {"formula": "y ~ A / within + (1|g)"},
    "aliased covariate": {"formula": "y ~ A + z + copy + (1|g)"},
    "intercept": {"formula": "y ~ 1 + (1|g)"},
    "nothing fixed": {"formula": "y ~ 0 + (1|g)"},
    "no intercept": {"formula": "y ~ 0 + A + (1|g)"},
    "least squares": {"formula": "y ~ A * z"},
    "weights and classes": {"formula": "y ~ A + (1|g)", "weights": "w", "residual": "diag(t)"},
    "offset": {"formula": "y ~ A + offset(z) + (1|g)"},
    "units": {"formula": "y ~ A + z", "residual": "cs(within|g)"},
    "bases": {"formula": "y ~ A + poly(z, 2) + (z|g)"},
    "traits": {"formula": "cbind(y, y2) ~ A + z + (1|g)"},
    "traits, empty cell": {"formula": "cbind(y, y2) ~ A * B + (1|g)"},
    "traits, aliased": {"formula": "cbind(y, y2) ~ A + z + copy + (1|g)"},
    "traits, intercept": {"formula": "cbind(y, y2) ~ 1 + (1|g)"},
    "traits, offset": {"formula": "cbind(y, y2) ~ A + offset(z) + (1|g)"},
    "by moments": {"formula": "y ~ A + (1|g)", "method": "mivque0"},
    "unknown parents": {"formula": "y ~ A * t + (1|animal:K)"},
}


@cache
def fit_of(kind: str) -> mg.Fit:
    frame = data().assign(animal="i" + data()["g"].astype(str))
    related = {"relationships": {"K": animals()}} if ":K" in KINDS[kind]["formula"] else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mg.lmm(data=frame, **KINDS[kind], **related)


def new() -> pd.DataFrame:
    """Rows of the data, one of a new group and one without."""
    rows = data().iloc[:3].assign(u=[100, 101, 102], animal=["i0", "i1", "i2"])
    return rows.assign(g=pd.array([3, 99, None], dtype="Int64"))


VERBS: dict[str, Callable[[mg.Fit], Any]] = {
    **{f"anova {kind}": lambda fit, kind=kind: fit.anova(type=kind) for kind in (1, 2, 3)},
    "drop1": lambda fit: fit.drop1(),
    "contest": lambda fit: fit.contest(np.eye(len(fit.params))),
    "each coefficient": lambda fit: fit.contest(np.eye(len(fit.params)), joint=False),
    "means": lambda fit: mg.emmeans(fit, "A"),
    "pairs": lambda fit: mg.emmeans(fit, "A").contrasts(),
    "means of a covariate": lambda fit: mg.emmeans(fit, "z", at={"z": [0.0, 1.0]}),
    "cells": lambda fit: mg.emmeans(fit, ["A", "B"]),
    "power": lambda fit: fit.power("A", n=2, seed=1, ddf="z"),
    "own rows": lambda fit: fit.predict(data().assign(animal="i" + data()["g"].astype(str))),
    "new rows": lambda fit: fit.predict(new(), new_levels="population"),
    "new records": lambda fit: fit.predict(new(), new_levels="population", interval="prediction"),
    "interval": lambda fit: fit.predict(interval="prediction"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", VERBS)
def test_an_answer_or_a_refusal(verb: str, kind: str) -> None:
    fit = fit_of(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            out = VERBS[verb](fit)
        except mg.MixedgenError as err:
            assert str(err)
            return
    assert isinstance(out, pd.DataFrame | pd.Series)
    if verb.startswith("anova") and "traits" in kind:
        terms = [name for name in out.index if not name.startswith(("y:", "y2:"))]
        assert out.index.tolist() == [f"{t}:{term}" for t in ("y", "y2") for term in terms] + terms
    if verb in ("means", "pairs") and "traits" in kind:
        assert out["trait"].unique().tolist() == ["y", "y2"]


@pytest.mark.parametrize("kind", [k for k in KINDS if "traits" not in k and k != "unknown parents"])
def test_own_rows_are_known_again(kind: str) -> None:
    fit = fit_of(kind)
    np.testing.assert_allclose(VERBS["own rows"](fit), fit.fittedvalues, rtol=1e-8, atol=1e-10)
