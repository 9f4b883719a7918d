"""Marginal means and their contrasts: emmeans' answers, averages written out, and what cannot be estimated."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.inference.means import contrasts, emmeans

FROZEN = json.loads((Path(__file__).parent / "reference" / "inference.json").read_text())

# degrees of freedom move the intervals, and come from numerical derivatives in lmerTest (tests/test_inference.py)
DF_RTOL = 1e-6
# R's ptukey and qtukey are good to some 1e-6 of a probability
TUKEY_ATOL = 1e-5

FITS = {f["model"]: f for f in FROZEN["fits"] if "means" in f}
COLUMNS = ["emmean", "se", "df", "lower", "upper"]
CONTRAST = ["estimate", "se", "df", "lower", "upper", "t", "p"]


@cache
def frame(name: str) -> pd.DataFrame:
    """The frames of tests/reference/inference.R."""
    if name in FROZEN["data"]:
        return pd.DataFrame(FROZEN["data"][name])
    data = mg.data.load("cake")
    data["temperature"] = data["temperature"].astype(str)
    data = data.iloc[[k for k in range(len(data)) if name == "cake" or k % FROZEN["every"]]]
    if name == "cake_empty_cell":
        data = data[~((data["recipe"] == "B") & (data["temperature"] == "185"))]
    return data


@cache
def fit_of(model: str) -> mg.Fit:
    return mg.lmm(FITS[model]["formula"], frame(FITS[model]["data"]))


def means_of(model: str, **options: Any) -> Any:
    want = FITS[model]["means"]
    return emmeans(fit_of(model), want["factor"], at=want.get("at"), **options)


CAKE = "angle ~ recipe * temperature + (1|recipe:replicate)"


# Emmeans


@pytest.mark.parametrize("model", FITS)
def test_means(model: str) -> None:
    want = FITS[model]["means"]
    np.testing.assert_allclose(means_of(model)[COLUMNS], want["satterthwaite"], rtol=DF_RTOL)
    np.testing.assert_allclose(means_of(model, ddf="kenward-roger")[COLUMNS], want["kenward_roger"], rtol=DF_RTOL)


@pytest.mark.parametrize("weights", ["proportional", "cells"])
@pytest.mark.parametrize("model", FITS)
def test_weights(model: str, weights: Any) -> None:
    np.testing.assert_allclose(means_of(model, weights=weights)[COLUMNS], FITS[model]["means"][weights], rtol=DF_RTOL)


@pytest.mark.parametrize("adjust", ["tukey", "holm", "bonferroni", "sidak", "none"])
@pytest.mark.parametrize("model", FITS)
def test_pairs(model: str, adjust: Any) -> None:
    want = np.array(FITS[model]["means"]["pairs"][adjust])
    got = means_of(model).contrasts(adjust=adjust)[CONTRAST]
    # intervals beside their own width, for an end may be near zero
    np.testing.assert_allclose(got, want, rtol=DF_RTOL, atol=TUKEY_ATOL if adjust == "tukey" else 1e-6)


@pytest.mark.parametrize("model", FITS)
def test_polynomials(model: str) -> None:
    got = means_of(model).contrasts("poly")
    assert got["contrast"].tolist() == ["linear", "quadratic"]
    np.testing.assert_allclose(got[CONTRAST], FITS[model]["means"]["poly"], rtol=DF_RTOL, atol=1e-6)


# The grid


def test_means_are_averages_of_predictions() -> None:
    fit = mg.lmm(CAKE, frame("cake_unbalanced"))
    means = emmeans(fit, ["recipe", "temperature"])
    assert len(means) == 18
    assert means["recipe"].tolist()[:4] == ["A", "B", "C", "A"]  # the first runs fastest
    averaged = means.groupby("recipe")["emmean"].mean()
    np.testing.assert_allclose(emmeans(fit, "recipe")["emmean"], averaged, rtol=1e-10)
    within = emmeans(fit, "recipe", by="temperature")
    np.testing.assert_allclose(within["emmean"], means["emmean"], rtol=1e-10)


def test_levels_keep_their_order() -> None:
    data = frame("cake").assign(recipe=pd.Categorical(frame("cake")["recipe"], categories=["C", "A", "B", "unused"]))
    means = emmeans(mg.lmm("angle ~ recipe + (1|recipe:replicate)", data), "recipe")
    assert means["recipe"].tolist() == ["C", "A", "B"]


@pytest.mark.parametrize("contrast", ["sum", "helmert", "poly"])
def test_coding_does_not_matter(contrast: str) -> None:
    data = frame("cake_unbalanced")
    want = emmeans(mg.lmm(CAKE, data), "recipe")
    got = emmeans(mg.lmm(CAKE, data, contrasts={"recipe": contrast}), "recipe")
    np.testing.assert_allclose(got[COLUMNS], want[COLUMNS], rtol=1e-6)


def test_covariate_at_its_mean_or_where_asked() -> None:
    fit = mg.lmm("y ~ t + x + (1|a)", frame("crossed"))
    b = fit.params
    mean = emmeans(fit, "t")["emmean"].iloc[0]
    assert mean == pytest.approx(b["Intercept"] + b["x"] * frame("crossed")["x"].mean())
    moved = emmeans(fit, "t", at={"x": 2.0})["emmean"].iloc[0]
    assert moved == pytest.approx(b["Intercept"] + 2.0 * b["x"])
    line = emmeans(fit, "x", at={"x": [0.0, 1.0], "t": "v"})
    assert np.diff(line["emmean"])[0] == pytest.approx(b["x"])
    assert line["emmean"].iloc[0] == pytest.approx(b["Intercept"] + b["t[T.v]"])


def test_covariate_of_two_values_is_averaged_over() -> None:
    data = frame("crossed").assign(z=(np.arange(140) % 5 == 0).astype(float))
    fit = mg.lmm("y ~ t + z + (1|a)", data)
    assert emmeans(fit, "t")["emmean"].iloc[0] == pytest.approx(fit.params["Intercept"] + 0.5 * fit.params["z"])
    assert emmeans(fit, "z")["z"].tolist() == [0.0, 1.0]


def test_transformed_covariate() -> None:
    data = frame("crossed").assign(x=frame("crossed")["x"] + 5.0)
    fit = mg.lmm("y ~ t + poly(x, 2) + (1|a)", data)
    direct = mg.lmm("y ~ t + x + I(x**2) + (1|a)", data)
    np.testing.assert_allclose(emmeans(fit, "t")["emmean"], emmeans(direct, "t")["emmean"], rtol=1e-8)


def test_numeric_factor_and_boolean() -> None:
    data = frame("crossed").assign(g=np.arange(140) % 3, flag=np.arange(140) % 4 == 0)
    fit = mg.lmm("y ~ C(g) + flag + (1|a)", data)
    assert emmeans(fit, "g", at={"g": [0, 1, 2]})["g"].tolist() == [0, 1, 2]
    assert emmeans(fit, "flag")["flag"].tolist() == [False, True]


def test_offset_counts_with_its_mean() -> None:
    data = frame("crossed").assign(off=np.linspace(0, 4, 140))
    with_offset = emmeans(mg.lmm("y ~ t + offset(off) + (1|a)", data), "t")["emmean"]
    without = emmeans(mg.lmm("z ~ t + (1|a)", data.assign(z=data["y"] - data["off"])), "t")["emmean"]
    np.testing.assert_allclose(with_offset, without + 2.0, rtol=1e-8)


def test_means_of_an_empty_cell() -> None:
    fit = mg.lmm(CAKE, frame("cake_empty_cell"))
    with pytest.warns(UserWarning, match="1 of 3 means are not estimable"):
        means = emmeans(fit, "recipe")
    assert means["emmean"].isna().tolist() == [False, True, False]
    table = means.contrasts()
    assert table["estimate"].isna().tolist() == [True, False, True]
    assert emmeans(fit, "recipe", weights="cells")["emmean"].notna().all()


def cells_of(cells: list[tuple[str, ...]], names: list[str], blocks: int = 6) -> pd.DataFrame:
    """Each cell once in each block, so that its mean is its estimate."""
    rng = np.random.default_rng(52)
    d = pd.DataFrame([(*c, k) for k in range(blocks) for c in cells], columns=[*names, "block"])
    return d.assign(y=rng.normal(size=len(d)) + np.arange(len(d)) % len(cells))


def test_cells_that_occur_have_means_where_another_is_empty() -> None:
    d = cells_of([("a0", "b0"), ("a1", "b0"), ("a1", "b1")], ["A", "B"])
    for contrast in ("treatment", "sum", "helmert"):
        fit = mg.lmm("y ~ A*B + (1|block)", d, contrasts={"A": contrast, "B": contrast})
        with pytest.warns(UserWarning, match="1 of 4"):
            means = emmeans(fit, ["A", "B"], nesting={}).set_index(["A", "B"])["emmean"]
        want = d.groupby(["A", "B"])["y"].mean().reindex(means.index)
        np.testing.assert_allclose(means, want, rtol=1e-9)


def test_units_do_not_decide_what_is_estimable() -> None:
    d = cells_of([("a0", "b0"), ("a1", "b0"), ("a1", "b1")], ["A", "B"])
    d["x"] = np.linspace(0, 1, len(d))
    for scale in (1e-8, 1.0, 1e8):
        fit = mg.lmm("y ~ A*B + x + (1|block)", d.assign(x=d["x"] * scale))
        with pytest.warns(UserWarning, match="1 of 4"):
            means = emmeans(fit, ["A", "B"])["emmean"]
        assert means.isna().tolist() == [False, False, True, False]


FORMS = [("control", "none", "0"), *(("treated", f, d) for f in "AB" for d in ("10", "20"))]


@pytest.mark.parametrize("formula", ["group/(form*dose)", "group + group:form + group:dose + group:form:dose"])
def test_nested_factors_are_averaged_over_the_levels_that_occur(formula: str) -> None:
    d = cells_of(FORMS, ["group", "form", "dose"])
    fit = mg.lmm(f"y ~ {formula} + (1|block)", d)
    want = d.groupby(["group", "form"])["y"].mean()
    np.testing.assert_allclose(emmeans(fit, "group")["emmean"], d.groupby("group")["y"].mean(), rtol=1e-9)
    means = emmeans(fit, "form").set_index(["group", "form"])["emmean"]
    np.testing.assert_allclose(means, want[means.index], rtol=1e-9)
    assert emmeans(fit, "form").contrasts()["contrast"].tolist()[-1] == "A treated - B treated"


def test_nested_means_where_a_cell_is_empty() -> None:
    """As emmeans 1.8.4: forms are averaged after their doses, and the form that lacks a dose has no mean of its own."""
    d = cells_of(FORMS[:-1], ["group", "form", "dose"])
    fit = mg.lmm("y ~ group/(form*dose) + (1|block)", d)
    cell = d.groupby(["form", "dose"])["y"].mean()
    want = ((cell["A", "10"] + cell["A", "20"]) / 2 + cell["B", "10"]) / 2
    assert emmeans(fit, "group")["emmean"].iloc[1] == pytest.approx(want)
    with pytest.warns(UserWarning, match="1 of 3"):
        assert emmeans(fit, "form").set_index("form")["emmean"].isna().to_dict() == {"none": 0, "A": 0, "B": 1}


def test_levels_within_others_weigh_alike_or_by_their_records() -> None:
    """As emmeans 1.8.4: the means of c are those of a1 and a2, or of the five b."""
    b = [("a1", "b1"), ("a1", "b2"), ("a2", "b3"), ("a2", "b4"), ("a2", "b5")]
    d = cells_of([(*x, c) for c in ("c1", "c2") for x in b], ["a", "b", "c"], 4)
    fit = mg.lmm("y ~ a/b + c + (1|block)", d)
    each = emmeans(fit, "b", by="c")
    assert each.columns[:3].tolist() == ["b", "a", "c"]
    assert len(each) == 10
    by_a = each.groupby(["c", "a"])["emmean"].mean().groupby("c").mean()
    np.testing.assert_allclose(emmeans(fit, "c")["emmean"], by_a, rtol=1e-9)
    alike = each.groupby("c")["emmean"].mean()
    np.testing.assert_allclose(emmeans(fit, "c", weights="proportional")["emmean"], alike, rtol=1e-9)
    given = mg.lmm("y ~ b + c + (1|block)", d)
    assert emmeans(given, "b").columns[:2].tolist() == ["b", "emmean"]


def test_nesting_may_be_given() -> None:
    d = cells_of(FORMS, ["group", "form", "dose"])
    fit = mg.lmm("y ~ group + form:dose + (1|block)", d)
    given = emmeans(fit, "group", nesting={"form": "group", "dose": ["group"]})["emmean"]
    np.testing.assert_allclose(given, d.groupby("group")["y"].mean(), rtol=1e-9)
    with pytest.warns(UserWarning, match="not estimable"):
        assert emmeans(fit, "group", nesting={})["emmean"].isna().all()
    with pytest.raises(mg.ArgumentError, match="'plot'"):
        emmeans(fit, "group", nesting={"form": "plot"})


@pytest.mark.parametrize("adjust", ["tukey", "sidak", "bonferroni", "holm"])
def test_a_family_counts_what_is_not_estimable(adjust: Any) -> None:
    """As emmeans 1.8.4: all but the p-values of Bonferroni and Holm, which `p.adjust` counts by those there are."""
    from scipy.stats import studentized_range

    d = cells_of([(a, b) for a in "abc" for b in "12" if (a, b) != ("a", "2")], ["A", "year"])
    fit = mg.lmm("y ~ A*year + (1|block)", d)
    with pytest.warns(UserWarning, match="1 of 6"):
        means = emmeans(fit, "A", by="year")
    table, plain = (means.contrasts(adjust=how).dropna().query("year == '2'").iloc[0] for how in (adjust, "none"))
    tukey = studentized_range.sf(np.sqrt(2) * abs(plain["t"]), 3, plain["df"])
    want = {"tukey": tukey, "sidak": 1 - (1 - plain["p"]) ** 3}.get(adjust, plain["p"])
    assert table["p"] == pytest.approx(want, rel=1e-6)
    assert table["upper"] - table["lower"] > 1.1 * (plain["upper"] - plain["lower"])


def test_records_left_out_do_not_weigh() -> None:
    data = frame("crossed").copy()
    data.loc[:20, "y"] = np.nan
    fit = mg.lmm("y ~ t + x + (1|a)", data)
    want = fit.params["Intercept"] + fit.params["x"] * data["x"][21:].mean()
    assert emmeans(fit, "t")["emmean"].iloc[0] == pytest.approx(want)


def test_later_changes_of_the_data_do_not_matter() -> None:
    data = frame("crossed").copy()
    fit = mg.lmm("y ~ t + x + (1|a)", data)
    want = emmeans(fit, "t")["emmean"].tolist()
    data["x"] += 100.0
    assert emmeans(fit, "t")["emmean"].tolist() == want


# Contrasts


def test_contrasts_within_levels() -> None:
    fit = mg.lmm(CAKE, frame("cake"))
    means = emmeans(fit, "recipe", by="temperature")
    table = means.contrasts()
    assert len(table) == 18
    assert table.columns[:2].tolist() == ["contrast", "temperature"]
    first = emmeans(fit, "recipe", at={"temperature": "175"}).contrasts()
    np.testing.assert_allclose(table[CONTRAST].iloc[:3], first[CONTRAST], rtol=1e-8)


def test_differences_from_a_control() -> None:
    table = contrasts(means_of("cake_unbalanced"), "trt.vs.ctrl")
    assert table["contrast"].tolist() == ["B - A", "C - A"]
    # emmeans with adjust = "mvt", whose own quadrature is good to 1e-4
    np.testing.assert_allclose(table["p"], [0.7797, 0.8994], atol=2e-4)
    np.testing.assert_allclose(table["upper"], [4.1546, 4.6652], atol=2e-3)


def test_mvt_of_all_pairs_is_tukey() -> None:
    """In a balanced design, whose contrasts have the correlations that Tukey's range assumes."""
    means = means_of("cake")
    a, b = (means.contrasts(adjust=how) for how in ("mvt", "tukey"))
    np.testing.assert_allclose(a["p"], b["p"], atol=1e-4)
    np.testing.assert_allclose(a["upper"], b["upper"], atol=1e-3)


def test_mvt_of_one_contrast_is_plain() -> None:
    means = emmeans(mg.lmm("y ~ t + (1|a)", frame("crossed")[frame("crossed")["t"] != "w"]), "t")
    a, b = (means.contrasts(adjust=how)["p"].iloc[0] for how in ("mvt", "none"))
    assert a == pytest.approx(b)


def test_adjustments_are_ordered() -> None:
    means = means_of("crossed")
    p = {how: means.contrasts(adjust=how)["p"].to_numpy() for how in ("none", "tukey", "sidak", "bonferroni", "holm")}
    assert (p["none"] <= p["tukey"]).all()
    assert (p["tukey"] <= p["sidak"] + 1e-9).all()
    assert (p["sidak"] <= p["bonferroni"]).all()
    assert (p["holm"] <= p["bonferroni"]).all()


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"specs": "Recipe"}, "no variable 'Recipe'"),
        ({"specs": ["recipe", "recipe"]}, "once"),
        ({"specs": "recipe", "at": {"oven": 1}}, "'oven'"),
        ({"specs": "recipe", "at": {"temperature": "999"}}, "no level '999'"),
        ({"specs": "recipe", "weights": "some"}, "weights must be"),
        ({"specs": "recipe", "level": 95}, "level must lie"),
        ({"specs": "recipe", "ddf": "kr"}, "no ddf='kr'"),
    ],
)
def test_what_does_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(mg.ArgumentError, match=message):
        emmeans(fit_of("cake"), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "all"}, "no method 'all'"),
        ({"adjust": "fdr"}, "no adjustment 'fdr'"),
        ({"method": "poly", "adjust": "tukey"}, "all pairs"),
    ],
)
def test_contrasts_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(mg.ArgumentError, match=message):
        means_of("cake").contrasts(**options)
