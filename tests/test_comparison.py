"""F tests by type, contrasts, and tests between fits: lmerTest's answers, algebra, and invariances."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from inference_fits import FITS, fit_of, frame
from scipy import stats
from scipy.special import chdtrc

import mixedgen as mg
from mixedgen.inference.anova import anova
from mixedgen.inference.exact import exact_p
from mixedgen.inference.hypotheses import hypotheses

# lmerTest's degrees of freedom come from numerical derivatives (tests/test_inference.py); its type III hypotheses are
# rounded to seven digits (zapsmall)
DF_RTOL, F_RTOL = 1e-6, 1e-6
# ranova refits by lme4's default optimiser, which stops some 1e-6 before the optimum of the log-likelihood
LRT_ATOL = 1e-5

FACTORIAL = [key for key, f in FITS.items() if "anova" in f]
SLEEP = "Reaction ~ Days + (Days|Subject)"


def compare(got: pd.DataFrame, want: dict[str, Any]) -> None:
    """A table with lmerTest's; its sums of squares are those of theta, p-values follow from F and df."""
    assert list(got.index) == want["rows"]
    values = np.array(want["values"], dtype=float)
    np.testing.assert_allclose(got[["sumsq", "meansq", "numdf", "f"]], values[:, [0, 1, 2, 4]], rtol=F_RTOL)
    np.testing.assert_allclose(got["dendf"], values[:, 3], rtol=DF_RTOL)
    np.testing.assert_allclose(got["p"], values[:, 5], rtol=1e-5)


# Lmertest


@pytest.mark.parametrize("kind", [1, 2, 3])
@pytest.mark.parametrize(("model", "method"), FACTORIAL)
def test_types_by_satterthwaite(model: str, method: str, kind: int) -> None:
    compare(fit_of(model, method).anova(type=kind), FITS[model, method]["anova"][str(kind)])


@pytest.mark.parametrize("kind", [1, 2, 3])
@pytest.mark.parametrize("model", [model for model, method in FACTORIAL if method == "reml"])
def test_types_by_kenward_roger(model: str, kind: int) -> None:
    table = fit_of(model).anova(type=kind, ddf="kenward-roger")
    compare(table, FITS[model, "reml"]["kenward_roger_anova"][str(kind)])


@pytest.mark.parametrize(("model", "method"), FACTORIAL)
def test_drop1(model: str, method: str) -> None:
    compare(fit_of(model, method).drop1(), FITS[model, method]["drop1"])


@pytest.mark.parametrize(("model", "method"), FACTORIAL)
def test_joint_contest(model: str, method: str) -> None:
    fit, want = fit_of(model, method), FITS[model, method]
    L = np.eye(len(fit.params))[1:]
    columns = ["sumsq", "meansq", "numdf", "dendf", "f", "p"]
    np.testing.assert_allclose(fit.contest(L)[columns].iloc[0], want["contest"], rtol=1e-5)
    if method == "reml":
        got = fit.contest(L, ddf="kenward-roger")[columns].iloc[0]
        np.testing.assert_allclose(got, want["kenward_roger_contest"], rtol=1e-5)


# lmerTest writes (1 | batch/cask) apart in another order, and a singular fit of lme4's is not quite at the boundary
@pytest.mark.parametrize("model", ["sleepstudy", "sleepstudy_unbalanced", "penicillin", "cake", "crossed", "pastes"])
def test_ranova(model: str) -> None:
    table = fit_of(model).ranova()
    want = np.array(FITS[model, "reml"]["ranova"]["values"], dtype=float)
    order = np.argsort(want[1:, 1]) + 1
    got = table[["npar", "loglik", "aic", "lrt", "df"]].iloc[1:].sort_values("loglik")
    np.testing.assert_allclose(got, want[order][:, :5], rtol=1e-6, atol=LRT_ATOL)
    np.testing.assert_allclose(table["loglik"].iloc[0], want[0, 1], rtol=1e-8)


# Hypotheses


CODINGS = [None, {"recipe": "sum"}, {"recipe": "helmert", "temperature": "sum"}, {"temperature": "poly"}]


@pytest.mark.parametrize("data", ["cake_unbalanced", "cake_empty_cell"])
@pytest.mark.parametrize("coding", CODINGS, ids=str)
def test_type_three_does_not_depend_on_the_coding(data: str, coding: dict[str, str] | None) -> None:
    formula = "angle ~ recipe * temperature + temp2 + (1|recipe:replicate)"
    source = frame(data)
    source = source.assign(temp2=np.sin(np.arange(len(source))))
    want = mg.lmm(formula, source).anova()
    got = mg.lmm(formula, source, contrasts=coding).anova()
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_order_of_levels_does_not_matter() -> None:
    data = frame("cake_unbalanced")
    other = data.assign(recipe=pd.Categorical(data["recipe"], categories=["C", "A", "B"]))
    formula = "angle ~ recipe * temperature + (1|recipe:replicate)"
    for kind in (2, 3):
        a, b = (mg.lmm(formula, d).anova(type=kind)[["numdf", "f", "p"]] for d in (data, other))
        np.testing.assert_allclose(a, b, rtol=1e-7)


def test_types_agree_where_they_must() -> None:
    """In a balanced design all three are one; the last term is tested alike by all in any design."""
    balanced = [fit_of("cake").anova(type=kind)[["sumsq", "f"]] for kind in (1, 2, 3)]
    np.testing.assert_allclose(balanced[0], balanced[1], rtol=1e-9)
    np.testing.assert_allclose(balanced[0], balanced[2], rtol=1e-9)
    last = [fit_of("cake_unbalanced").anova(type=kind)["f"].iloc[-1] for kind in (1, 2, 3)]
    np.testing.assert_allclose(last, last[0], rtol=1e-9)


def test_sequential_sums_of_least_squares() -> None:
    """Type I sums of squares are the falls of the residual sum of squares as terms come in."""
    data = frame("crossed")
    left = [float(((data["y"] - data["y"].mean()) ** 2).sum())]
    for formula in ("y ~ t", "y ~ t + x", "y ~ t * x"):
        left.append(float((mg.lmm(formula, data).resid ** 2).sum()))
    np.testing.assert_allclose(mg.lmm("y ~ t * x", data).anova(type=1)["sumsq"], -np.diff(left), rtol=1e-9)


def test_slopes_within_levels() -> None:
    """A model without an intercept: means against zero, slopes against zero."""
    fit = mg.lmm("y ~ 0 + t + t:x + (1|a)", frame("crossed"))
    table = fit.anova(type=3)
    assert table["numdf"].tolist() == [3.0, 3.0]
    assert hypotheses(fit.fitted.design, 3)["t:x"].shape == (3, 6)


def test_types_by_any_name() -> None:
    fit = fit_of("crossed")
    pd.testing.assert_frame_equal(fit.anova(type="II"), fit.anova(type=2))
    pd.testing.assert_frame_equal(anova(fit), fit.anova(type=3))
    with pytest.raises(mg.ArgumentError, match="type must be 1, 2 or 3"):
        fit.anova(type=4)


# Contrasts


def test_rows_one_by_one() -> None:
    fit = fit_of("sleepstudy")
    table = fit.contest([[0, 1], [1, 9]], joint=False, rhs=[10.0, 0.0])
    assert list(table.columns) == ["estimate", "se", "df", "t", "p", "lower", "upper"]
    b, V = fit.params.to_numpy(), fit.cov_params().to_numpy()
    assert table["t"].iloc[0] == pytest.approx((b[1] - 10.0) / V[1, 1] ** 0.5)
    assert table["estimate"].iloc[1] == pytest.approx(b[0] + 9 * b[1])
    assert fit.contest([0, 1])["f"].iloc[0] == pytest.approx(fit.tvalues["Days"] ** 2)


def test_contrast_by_name() -> None:
    fit = fit_of("sleepstudy")
    frame_of_one = pd.DataFrame({"Days": [2.0]}, index=["two days"])
    assert fit.contest(frame_of_one, joint=False).loc["two days", "estimate"] == pytest.approx(2 * fit.params["Days"])
    with pytest.raises(mg.ArgumentError, match="'days'"):
        fit.contest(pd.Series({"days": 1.0}))


def test_dependent_rows_count_once() -> None:
    fit = fit_of("crossed")
    L = np.eye(6)[1:3]
    double = np.vstack([L, L.sum(axis=0)])
    for ddf in ("satterthwaite", "kenward-roger"):
        a, b = fit.contest(L, ddf=ddf), fit.contest(double, ddf=ddf)
        np.testing.assert_allclose(a[["numdf", "f"]], b[["numdf", "f"]], rtol=1e-9)


def test_contrast_that_is_not_estimable() -> None:
    fit = fit_of("cake_empty_cell")
    L = pd.DataFrame(0.0, index=["cell", "alone"], columns=fit.fitted.design.fixed.all_names)
    L.loc["cell", "recipe[T.B]"] = 1.0
    L.loc["alone", fit.fitted.design.fixed.aliased[0]] = 1.0
    table = fit.contest(L, joint=False)
    assert np.isfinite(table.loc["cell"]).all()
    assert table.loc["alone"].isna().all()
    with pytest.raises(mg.ArgumentError, match="'alone' of L are not estimable"):
        fit.contest(L)


@pytest.mark.parametrize(("L", "rhs"), [([[1.0, 0.0, 0.0]], 0.0), ([[0.0, 1.0]], [1.0, 2.0])])
def test_contrast_of_another_shape(L: Any, rhs: Any) -> None:
    with pytest.raises(mg.ArgumentError):
        fit_of("sleepstudy").contest(L, rhs=rhs)


# Between fits


def test_comparison_refits_by_ml() -> None:
    """lme4: anova(fm1, fm2) on sleepstudy, help(sleepstudy) and Bates et al. (2015) J Stat Softw 67(1)."""
    slope, intercept = mg.lmm(SLEEP, frame("sleepstudy")), mg.lmm("Reaction ~ Days + (1|Subject)", frame("sleepstudy"))
    with pytest.warns(UserWarning, match="2 models were refitted with ML"):
        table = slope.anova(intercept)
    assert table.index[0] == "Reaction ~ Days + (1|Subject)"
    assert list(table.columns) == ["npar", "aic", "bic", "loglik", "deviance", "chisq", "df", "p"]
    assert table["npar"].tolist() == [4, 6]
    np.testing.assert_allclose(table["deviance"], [1794.0786, 1751.9393], atol=1e-4)
    assert table["chisq"].iloc[1] == pytest.approx(42.1393, abs=1e-4)
    assert table["p"].iloc[1] == pytest.approx(float(chdtrc(2, table["chisq"].iloc[1])))
    pd.testing.assert_frame_equal(anova(slope, intercept, refit=True), table)


def test_comparison_of_restricted_likelihoods() -> None:
    slope, intercept = mg.lmm(SLEEP, frame("sleepstudy")), mg.lmm("Reaction ~ Days + (1|Subject)", frame("sleepstudy"))
    table = slope.anova(intercept, refit=False)
    assert table["chisq"].iloc[1] == pytest.approx(2 * (slope.llf - intercept.llf))
    other = mg.lmm("Reaction ~ 1 + (Days|Subject)", frame("sleepstudy"))
    with pytest.raises(mg.ArgumentError, match="different fixed parts"):
        slope.anova(other, refit=False)


def test_comparison_of_ml_fits_says_nothing() -> None:
    fits = [mg.lmm(f"Reaction ~ {x} + (1|Subject)", frame("sleepstudy"), method="ml") for x in ("1", "Days")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = fits[1].anova(fits[0])
    assert table["chisq"].iloc[1] == pytest.approx(2 * (fits[1].llf - fits[0].llf))


def test_comparison_of_other_data() -> None:
    data = frame("sleepstudy")
    a = mg.lmm(SLEEP, data)
    with pytest.raises(mg.ArgumentError, match="180 and 170 records"):
        a.anova(mg.lmm(SLEEP, data[10:]))
    with pytest.raises(mg.ArgumentError, match="response"):
        a.anova(mg.lmm(SLEEP, data.assign(Reaction=data["Reaction"] + 1.0)))
    mixed = mg.lmm(SLEEP, data, method="ml")
    with pytest.raises(mg.ArgumentError, match="some by ML"):
        a.anova(mixed, refit=False)


# Random terms


def test_boundary_of_one_variance() -> None:
    table = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff()).ranova()
    row = table.loc["(1 | Batch)"]
    assert row["df"] == 1
    assert row["p_boundary"] == pytest.approx(0.5 * row["p"])


def test_boundary_of_a_slope() -> None:
    row = mg.lmm(SLEEP, frame("sleepstudy")).ranova().loc["Days in (1 + Days | Subject)"]
    assert row["df"] == 2
    assert row["p_boundary"] == pytest.approx(0.5 * chdtrc(1, row["lrt"]) + 0.5 * chdtrc(2, row["lrt"]))


def test_variance_at_zero_tests_nothing() -> None:
    row = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff2()).ranova().loc["(1 | Batch)"]
    assert row["lrt"] == pytest.approx(0.0, abs=1e-8)
    assert row["p_boundary"] >= 0.5


def test_double_bar_drops_each_term() -> None:
    table = mg.lmm("Reaction ~ Days + (Days||Subject)", frame("sleepstudy")).ranova()
    assert list(table.index) == ["<none>", "(1 | Subject)", "(0 + Days | Subject)"]
    assert table["df"].iloc[1:].tolist() == [1.0, 1.0]


def test_factor_effects_reduce_to_an_intercept() -> None:
    data = frame("crossed")
    fit = mg.lmm("y ~ t + (0 + t|a)", data)
    smaller = mg.lmm("y ~ t + (1|a)", data)
    row = fit.ranova().iloc[1]
    assert row["loglik"] == pytest.approx(smaller.llf)
    assert row["df"] == 5
    assert np.isnan(row["p_boundary"])


def test_relationship_survives_the_reduction() -> None:
    data = frame("crossed")
    labels = sorted(data["a"].unique())
    K = mg.Relationship.from_matrix(0.5 * np.eye(len(labels)) + 0.5, labels)
    table = mg.lmm("y ~ t + (1|a:K) + (1|b)", data, relationships={"K": K}).ranova()
    assert table.loc["(1 | b)", "loglik"] == pytest.approx(mg.lmm("y ~ t + (1|a:K)", data, relationships={"K": K}).llf)


def test_no_random_term_to_test() -> None:
    with pytest.raises(mg.NotAvailableError, match="no random term"):
        mg.lmm("y ~ t", frame("crossed")).ranova()
    fit = mg.MixedModel("Yield ~ 1 + (1|Batch)", mg.data.dyestuff()).solve({"Batch": 1.0, "residual": 1.0})
    with pytest.raises(mg.NotAvailableError, match="given"):
        fit.ranova()


# ----------------------------------------------------------------------------------- the exact test of one variance
@pytest.mark.parametrize(("seed", "sd"), [(1, 0.0), (2, 0.3), (3, 0.5)])
def test_exact_test_of_a_balanced_layout_is_that_of_the_f_ratio(seed: int, sd: float) -> None:
    """The restricted likelihood ratio grows with the F ratio, zero where that is below one: one test."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(8), 5)
    data = pd.DataFrame({"g": group, "y": sd * rng.normal(size=8)[group] + rng.normal(size=40)})
    fit = mg.lmm("y ~ 1 + (1|g)", data)
    means = data.groupby("g")["y"].mean()
    within = ((data["y"] - means[group].to_numpy()) ** 2).sum() / 32
    ratio = 5.0 * means.var() / within
    draws = 40_000
    got = fit.ranova(draws=draws, seed=1)["p_exact"].iloc[1]
    want = float(stats.f.sf(ratio, 7, 32)) if ratio > 1 else 1.0
    assert abs(got - want) < 4.0 * np.sqrt(want * (1.0 - want) / draws) + 1e-12


def test_exact_test_with_weights_and_a_relationship() -> None:
    """The null distribution against refits of simulated data without the effect."""
    rng = np.random.default_rng(4)
    ids = list("abcdefgh")
    root = rng.normal(size=(8, 10))
    K = mg.Relationship.from_matrix(root @ root.T / 10.0, ids)
    data = pd.DataFrame({"id": np.array(ids)[rng.integers(0, 8, 40)], "x": rng.normal(size=40)})
    data["w"] = rng.uniform(0.5, 2.0, 40)
    y = rng.normal(size=(40, 300)) / np.sqrt(data["w"].to_numpy())[:, None]
    fit = mg.lmm("y ~ x + (1|id:K)", data.assign(y=y[:, 0]), relationships={"K": K}, weights="w")
    null = mg.lmm("y ~ x", data.assign(y=y[:, 0]), weights="w")
    drawn = np.array([2.0 * (fit.refit(v).llf - null.refit(v).llf) for v in y.T])
    for lrt in (0.2, 1.0, 2.5):
        share = np.mean(drawn >= lrt)
        p = exact_p(fit.fitted, lrt, 20_000, np.random.default_rng(1))
        assert abs(share - p) < 4.0 * np.sqrt(p * (1.0 - p) / 300)


def test_exact_test_refuses() -> None:
    sleep = mg.data.sleepstudy()
    with pytest.raises(mg.NotAvailableError, match="several random effects"):
        mg.lmm("Reaction ~ Days + (Days|Subject)", sleep).ranova(draws=100)
    with pytest.raises(mg.NotAvailableError, match="ML"):
        mg.lmm("Reaction ~ Days + (1|Subject)", sleep, method="ml").ranova(draws=100)
    with pytest.raises(mg.ArgumentError, match="draws must"):
        mg.lmm("Reaction ~ Days + (1|Subject)", sleep).ranova(draws=0)


OPTIONS = {
    "cs(1 + x + z|g, hom=True)": "cs(1 + {left}|g, hom=True)",
    "cs(1 + x + z|g)": "cs(1 + {left}|g)",
    "ar1(1 + x + z|g, hom=False)": "ar1(1 + {left}|g, hom=False)",
    "toep(1 + x + z|g)": "toep(1 + {left}|g)",
    "rr(1 + x + z|g, k=2)": "rr(1 + {left}|g, k=2)",
    "fa(1 + x + z|g, k=1)": "us(1 + {left}|g)",  # fa of two effects is not identified
    "near(1 + x + z|g)": "near(1 + {left}|g)",
}


@pytest.mark.parametrize("term", OPTIONS)
def test_ranova_keeps_the_options_of_a_structure(term: str) -> None:
    """A row is the model without that effect, written by hand."""
    rng = np.random.default_rng(11)
    d = pd.DataFrame({"g": np.repeat(np.arange(25), 8), "x": rng.normal(size=200), "z": rng.normal(size=200)})
    u = rng.normal(size=(25, 3)) + rng.normal(size=(25, 1))
    d["y"] = u[d["g"], 0] + u[d["g"], 1] * d["x"] + u[d["g"], 2] * d["z"] + rng.normal(size=200)
    near = mg.CorrelationFunction(lambda r, levels: np.eye(len(levels)) * (1 - r[0]) + r[0], {"r": (-0.3, 0.1, 0.99)})
    own = {"structures": {"near": near}} if term.startswith("near") else {}
    table = mg.lmm(f"y ~ x + z + {term}", d, **own).ranova()
    for gone, left in (("x", "z"), ("z", "x")):
        row = table.iloc[[str(name).startswith(f"{gone} in") for name in table.index]].iloc[0]
        by_hand = mg.lmm(f"y ~ x + z + {OPTIONS[term].format(left=left)}", d, **own)
        assert row["npar"] == by_hand.npar
        assert row["loglik"] == pytest.approx(by_hand.llf, abs=1e-6)
        assert np.isnan(row["p_boundary"]) or 0.0 <= row["p_boundary"] <= row["p"] <= 1.0


MIXTURES = {"us": (2, 3), "diag": (0, 1), "cs": (0, 1)}


def test_ranova_knows_the_mixture_of_one_variance_or_one_of_correlated_effects() -> None:
    data = frame("sleepstudy").assign(t=lambda d: np.cos(d["Days"]))
    rows = {tag: mg.lmm(f"Reaction ~ Days + {tag}(Days + t|Subject)", data).ranova().iloc[1] for tag in MIXTURES}
    for tag, (low, high) in MIXTURES.items():
        tail = 0.5 * (stats.chi2.sf(rows[tag]["lrt"], low) if low else 0.0) + 0.5 * stats.chi2.sf(
            rows[tag]["lrt"], high
        )
        assert rows[tag]["p_boundary"] == pytest.approx(tail, rel=1e-10) or rows[tag]["lrt"] == 0.0


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_an_aliased_term_is_a_missing_row(kind: int) -> None:
    formula = "angle ~ recipe + temperature {} + (1|recipe:replicate)"
    whole, less = (mg.lmm(formula.format(more), mg.data.cake()) for more in ("+ temp", ""))
    tables = ((whole.anova(type=kind), less.anova(type=kind)), (whole.drop1(), less.drop1().drop("temperature")))
    for table, want in tables:  # without temperature temp would no longer be aliased
        assert table.loc["temp"].isna().all()
        np.testing.assert_allclose(table.loc[want.index, "p"], want["p"], rtol=1e-6)
