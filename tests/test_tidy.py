"""Tidy frames against broom.mixed: column names, rows, values."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.errors import ArgumentError, NotAvailableError

FROZEN = json.loads((Path(__file__).parent / "reference" / "broom.json").read_text())
FITS = {case["model"]: case for case in FROZEN["fits"]}
RTOL = 1e-8  # of what theta moves to first order, beside the column's largest value or the SE: twelve digits are frozen
DF_RTOL = 1e-6  # lmerTest's numerical derivatives
# the p-value of t = 23 on 24 degrees of freedom: its logarithm moves with them
P_RTOL = 1e-5
KENWARD_ROGER = [name for name, case in FITS.items() if case["kenward_roger"]]
TOLERANCES = {"df": DF_RTOL, "p.value": P_RTOL}
LEVERAGE_STEP = 1e-3  # a fitted value is linear in y at given variances: only rounding is left


@cache
def fit_of(name: str) -> mg.Fit:
    case = FITS[name]
    data = mg.data.load(case["data"]).assign(**columns_of_r(case["data"]))
    return mg.lmm(case["formula"], data, method=case["method"], weights=case["weights"])


def columns_of_r(name: str) -> dict:
    """Columns that broom.R adds to a frame."""
    if name != "sleepstudy":
        return {}
    return {"w": lambda d: 1 + d["Days"] / 10, "off": lambda d: 5 * np.sqrt(d["Days"])}


def python_terms(frame: pd.DataFrame) -> pd.Series:
    """R's names as formulaic writes them: of coefficients, then of effects."""
    fixed = (
        frame["term"].replace({"(Intercept)": "Intercept"}).str.replace(r"^recipe([BC])$", r"recipe[T.\1]", regex=True)
    )
    random = frame["term"].str.replace(r"recipe([ABC])", r"recipe[\1]", regex=True)
    return fixed.where(frame["effect"] == "fixed", random)


def frozen_frame(columns: dict) -> pd.DataFrame:
    frame = pd.DataFrame(columns)
    return frame.assign(term=python_terms(frame)) if "term" in frame else frame


def assert_same(got: pd.DataFrame, want: pd.DataFrame) -> None:
    """The same columns in the same order, texts equal, numbers within the tolerance of their column."""
    assert list(got.columns) == list(want.columns)
    assert len(got) == len(want)
    for name in want:
        if name in ("effect", "group", "level", "term"):
            assert [None if pd.isna(v) else v for v in got[name]] == [None if pd.isna(v) else v for v in want[name]]
            continue
        there = want[name].astype(float)
        rtol = TOLERANCES.get(name, RTOL)
        atol = 0 if name in TOLERANCES else rtol * float(np.nanmax(np.abs(there), initial=0.0))
        np.testing.assert_allclose(got[name].astype(float), there, rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("name", FITS)
def test_tidy_equals_broom_mixed(name):
    fit, case = fit_of(name), FITS[name]
    assert_same(fit.tidy(), frozen_frame(case["default"]))
    assert_same(fit.tidy(["fixed", "ran_pars", "ran_vals"], conf_int=True), frozen_frame(case["every"]))
    assert_same(fit.tidy("fixed", conf_int=True), frozen_frame(case["fixed"]))
    assert_same(fit.tidy("ran_pars"), frozen_frame(case["ran_pars"]))
    assert_same(fit.tidy("ran_vals", conf_int=True, level=0.9), frozen_frame(case["ran_vals"]))


@pytest.mark.parametrize("name", KENWARD_ROGER)
def test_kenward_roger_equals_broom_mixed(name):
    got = fit_of(name).tidy("fixed", conf_int=True, ddf="kenward-roger")
    assert_same(got, frozen_frame(FITS[name]["kenward_roger"]))


@pytest.mark.parametrize("name", FITS)
def test_glance_equals_broom_mixed(name):
    assert_same(fit_of(name).glance(), frozen_frame(FITS[name]["glance"]))


@pytest.mark.parametrize("name", FITS)
def test_augment_equals_broom_mixed(name):
    got, case = fit_of(name).augment(), FITS[name]
    dotted = [c for c in case["augment_names"] if c.startswith(".")]
    assert [c for c in got.columns if c.startswith(".")] == dotted
    # the model frame of R also has the offset and the weights, and the parts of an interaction
    assert [c for c in got if not c.startswith(".")] == [
        c for c in case["augment_names"] if not c.startswith(".") and c not in ("offset(off)", "(weights)")
    ]
    assert_same(got[dotted].iloc[:: FROZEN["every"]].reset_index(drop=True), frozen_frame(case["augment"]))


# ------------------------------------------------------------------------------------------- what R has no answer for
def test_profile_intervals_are_those_of_confint():
    fit = fit_of("sleepstudy")
    got, want = fit.tidy(conf_int=True, conf_method="profile", level=0.8), fit.confint(level=0.8)
    names = [
        "Intercept",
        "Days",
        "sd Subject[(Intercept)]",
        "cor Subject[(Intercept),Days]",
        "sd Subject[Days]",
        "sigma",
    ]
    np.testing.assert_array_equal(got[["conf.low", "conf.high"]], want.loc[names, ["lower", "upper"]])


def test_rows_that_share_a_standard_deviation_share_its_profile(sleepstudy):
    data = sleepstudy.assign(half=np.where(sleepstudy["Days"] < 5, "a", "b"))
    fit = mg.lmm("Reaction ~ Days + diag(0 + half|Subject, hom=True)", data)
    ends = fit.tidy("ran_pars", conf_int=True, conf_method="profile")[["conf.low", "conf.high"]].to_numpy()
    want = fit.confint(["sd Subject", "sigma"])[["lower", "upper"]].to_numpy()
    np.testing.assert_array_equal(ends, want[[0, 0, 1]])


@pytest.mark.parametrize("residual", [None, "diag(half)"])
def test_leverage_is_the_derivative_of_the_fitted_value(sleepstudy, residual):
    """Refit with one record moved, at the same variances."""
    data = sleepstudy.assign(half=np.where(sleepstudy["Days"] < 5, "a", "b"), w=1.0 + sleepstudy["Days"] / 10)
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", data, residual=residual, weights="w")
    rows = fit.augment()
    for k in (0, 57, 179):
        moved = fit.fitted.design.y.copy()
        moved[k] += LEVERAGE_STEP
        change = LEVERAGE_STEP - (fit.fitted.system.solve(moved).e[k] - fit.fitted.system.solution.e[k])
        assert rows[".hat"].iloc[k] == pytest.approx(change / LEVERAGE_STEP, rel=1e-7)


def test_correlated_residuals_have_no_leverage(sleepstudy):
    fit = mg.lmm("Reaction ~ Days", sleepstudy, residual="ar1(Days|Subject)")
    columns = [c for c in fit.augment() if c.startswith(".")]
    assert columns == [".fitted", ".resid", ".fixed", ".mu", ".offset"]
    assert ".hat" not in fit_of("sleepstudy").augment(influence=False)


def test_augment_with_the_data_keeps_its_columns_and_its_index(sleepstudy):
    data = sleepstudy.assign(note=np.arange(180.0)).set_index(pd.Index(range(1000, 1180)))
    data.iloc[[3, 50], 0] = np.nan
    omitted = mg.lmm("Reaction ~ Days + (1|Subject)", data).augment(data)
    assert list(omitted.columns[:4]) == ["Reaction", "Days", "Subject", "note"]
    assert 1003 not in omitted.index
    np.testing.assert_allclose(omitted[".fitted"] + omitted[".resid"], data["Reaction"].dropna())
    padded = mg.lmm("Reaction ~ Days + (1|Subject)", data, na_action="exclude").augment(data)
    assert padded.index.equals(data.index)
    assert padded.loc[1003].isna().all()
    pd.testing.assert_frame_equal(padded.dropna(), omitted, check_dtype=False, check_categorical=False)


def test_estimates_by_moments_have_what_they_have():
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff(), method="anova3")
    assert list(fit.tidy("fixed").columns) == ["effect", "term", "estimate", "std.error", "statistic"]
    assert list(fit.glance().columns) == ["nobs", "sigma", "df.residual"]
    with pytest.raises(NotAvailableError, match="no degrees of freedom"):
        fit.tidy("fixed", conf_int=True)


def test_ids_stay_what_they_are(calves, pedigree):
    model = mg.MixedModel("wwg ~ 0 + sex + (1|calf:A)", calves, relationships={"A": mg.additive(pedigree)})
    fit = model.solve({"calf:A": 20.0, "residual": 40.0})
    table = fit.tidy(["fixed", "ran_vals"], conf_int=True)
    assert table["level"].dropna().tolist() == pedigree.ids.tolist()
    assert np.isinf(table.loc[table["effect"] == "fixed", "df"]).all()  # given variances
    assert fit.augment()["calf:A"].tolist() == calves["calf"].tolist()


def test_several_residual_variances_have_rows_and_no_sigma(sleepstudy):
    data = sleepstudy.assign(half=np.where(sleepstudy["Days"] < 5, "a", "b"))
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", data, residual="diag(half)")
    assert list(fit.tidy("ran_pars")["term"]) == ["sd__(Intercept)", "sd__a", "sd__b"]
    assert "sigma" not in fit.glance()


def test_bad_requests(sleepstudy):
    fit = fit_of("sleepstudy")
    with pytest.raises(ArgumentError, match="ran_coefs"):
        fit.tidy("ran_coefs")
    with pytest.raises(ArgumentError, match="conf_method"):
        fit.tidy(conf_int=True, conf_method="boot")
    with pytest.raises(ArgumentError, match="level"):
        fit.tidy(conf_int=True, level=95)
    with pytest.raises(NotAvailableError, match="no profile"):
        fit.tidy("ran_vals", conf_int=True, conf_method="profile")
    with pytest.raises(NotAvailableError, match="no random terms"):
        mg.lmm("Reaction ~ Days", sleepstudy).tidy("ran_vals")
    with pytest.raises(ArgumentError, match="170 rows"):
        fit.augment(sleepstudy.iloc[:170])
    with pytest.raises(NotAvailableError, match="cbind"):
        two = sleepstudy.assign(other=sleepstudy["Reaction"] + np.sin(np.arange(180.0)) * 9)
        mg.lmm("cbind(Reaction, other) ~ Days + (1|Subject)", two).augment()
