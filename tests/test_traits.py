"""Several traits in `cbind` beside their long form: every verb of the fixed effects gives the same numbers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg

TABLE = ["numdf", "dendf", "f", "p"]
MEANS = ["emmean", "se", "df", "lower", "upper"]
RTOL = 1e-4  # two ascents end within their tolerance of each other, degrees of freedom further apart


@cache
def wide() -> pd.DataFrame:
    """Two traits of 60 animals in 12 nests, one of them missing in some."""
    rng = np.random.default_rng(54)
    d = pd.DataFrame({"sex": np.tile(["F", "M"], 30), "nest": np.repeat(np.arange(12), 5), "unit": np.arange(60)})
    d["a"], d["b"] = rng.normal(size=(2, 60)) + rng.normal(size=(2, 12))[:, d["nest"]] + (d["sex"] == "M").to_numpy()
    d["x"] = rng.normal(size=60)
    d.loc[[3, 17, 40], "b"] = np.nan
    return d


@cache
def both() -> tuple[mg.Fit, mg.Fit]:
    long = wide().melt(["sex", "nest", "unit", "x"], ["a", "b"], "trait", "y").dropna()
    fixed = "0 + trait + trait:sex + trait:x + trait:sex:x"
    return (
        mg.lmm("cbind(a, b) ~ sex * x + (1|nest)", wide()),
        mg.lmm(f"y ~ {fixed} + (0 + trait|nest)", long, residual="us(trait|unit)"),
    )


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_tests_over_traits_are_those_of_the_long_form(kind: int) -> None:
    short, long = (fit.anova(type=kind) for fit in both())
    assert short.index.tolist() == ["a:sex", "a:x", "a:sex:x", "b:sex", "b:x", "b:sex:x", "sex", "x", "sex:x"]
    terms = ["sex", "sex:x"] if kind == 1 else ["sex", "x", "sex:x"]  # the sequential x is after all of trait:sex
    np.testing.assert_allclose(short.loc[terms, TABLE], long.loc[[f"trait:{t}" for t in terms], TABLE], rtol=RTOL)


def test_dropping_a_term_from_one_trait_or_from_all() -> None:
    short, long = (fit.drop1() for fit in both())
    assert short.index.tolist() == ["a:sex:x", "b:sex:x", "sex:x"]
    np.testing.assert_allclose(short.loc["sex:x", TABLE], long.loc["trait:sex:x", TABLE], rtol=RTOL)
    one = both()[0].contest(pd.Series({"b:sex[T.M]:x": 1.0}))
    np.testing.assert_allclose(short.loc["b:sex:x", TABLE], one[TABLE].iloc[0], rtol=1e-9)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger", "containment", "z"])
def test_means_are_those_of_the_long_form(ddf: str) -> None:
    short, long = both()
    one, other = mg.emmeans(short, "sex", ddf=ddf), mg.emmeans(long, "sex", by="trait", ddf=ddf)
    assert one[["sex", "trait"]].to_numpy().tolist() == other[["sex", "trait"]].to_numpy().tolist()
    np.testing.assert_allclose(one[MEANS], other[MEANS], rtol=RTOL)
    np.testing.assert_allclose(one.contrasts()["p"], other.contrasts()["p"], rtol=10 * RTOL)


@pytest.mark.parametrize("weights", ["equal", "proportional", "outer", "cells"])
def test_means_of_traits_are_compared(weights: str) -> None:
    one, other = (mg.emmeans(fit, "trait", weights=weights).contrasts() for fit in both())
    assert one["contrast"].tolist() == ["a - b"]
    np.testing.assert_allclose(one[["estimate", "se", "p"]], other[["estimate", "se", "p"]], rtol=RTOL)


def test_means_of_uncorrelated_traits_are_those_of_each() -> None:
    fit = mg.lmm("cbind(a, b) ~ sex + diag(1|nest)", wide(), residual="diag(trait)")
    means = mg.emmeans(fit, "sex", ddf="z").set_index("trait")["emmean"]
    for trait in "ab":
        alone = mg.emmeans(mg.lmm(f"{trait} ~ sex + (1|nest)", wide()), "sex", ddf="z")
        np.testing.assert_allclose(means[trait], alone["emmean"], rtol=1e-6)


def test_power_of_one_trait_and_of_all() -> None:
    fit = mg.lmm("cbind(a, b) ~ sex + (1|nest)", wide())
    for term in ("a:sex", "sex"):
        assert fit.power(term, n=3, seed=1, ddf="z")["n"].item() == 3


def test_a_column_named_trait_is_told_apart() -> None:
    fit = mg.lmm("cbind(a, b) ~ trait + (1|nest)", wide().rename(columns={"sex": "trait"}))
    with pytest.raises(mg.MixedgenError, match="rename"):
        mg.emmeans(fit, "trait")
