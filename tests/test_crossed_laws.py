"""Every structure, shape of term and kind of residual, by every verb of a fit."""

from __future__ import annotations

import pickle
from functools import cache

import numpy as np
import pandas as pd
import pytest
from crossed_cases import CASES, STRUCTURES, Case
from dense_kenward_roger import dense_kenward_roger

import mixedgen as mg
from mixedgen.intervals.profile import profiled_names

# Two optima of one likelihood: the loop stops within 1e-5 standard errors of theta, the criterion within its square.
CRITERION, THETA = 1e-7, 1e-4
SAME = 1e-9  # one number twice: rounding of some sixty equations
SECOND_DIFFERENCES = 5e-6  # of V, steps of 1e-4

# Kenward and Roger's bias of theta takes R as one of a linear family, and a V that is regular in theta.
REFUSED = {
    "rr, k=1": "singular",
    "rr, k=2": "singular",
    "residual exp(x)": "exp residuals",
    "residual ar1(row):ar1(time)": "product residuals",
    "residual idv(row):ar1(time)": "product residuals",
    "residual at(half):ar1(time|animal)": "at residuals",
}

BY_NAME = {case.name: case for case in CASES}


@cache
def fit_of(name: str) -> mg.Fit:
    """The fit of a case."""
    return BY_NAME[name].fit()


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    """All laws of a case one after the other: one fit serves them."""
    return request.param


@pytest.fixture(scope="module")
def fit(case: Case) -> mg.Fit:
    return fit_of(case.name)


def in_terms(fit: mg.Fit) -> list[str]:
    return [t.key for t in fit.fitted.design.terms]


def test_estimates_are_within_their_range(case, fit):
    """Not a law: the data are made so that every other test looks at an ordinary point."""
    assert fit.converged
    assert fit.certificate.singular == ()
    assert set(fit.varcomp["bound"].dropna()) == set()


def test_ranova_fits_what_a_user_writes(case, fit):
    if not fit.fitted.design.terms:
        with pytest.raises(mg.NotAvailableError, match="no random term"):
            fit.ranova()
        return
    table = fit.ranova()
    assert list(table.index) == ["<none>", *case.smaller]
    for row, formula in case.smaller.items():
        smaller = case.fit(formula)
        assert table.loc[row, "npar"] == smaller.npar
        assert table.loc[row, "loglik"] == pytest.approx(smaller.llf, abs=CRITERION)
        assert table.loc[row, "lrt"] == pytest.approx(2.0 * (fit.llf - smaller.llf), abs=4.0 * CRITERION)
        assert table.loc[row, "df"] == fit.npar - smaller.npar


def test_predictions_of_the_records_are_the_fitted_values(case, fit):
    own = fit.predict()
    np.testing.assert_allclose(own, fit.fittedvalues, rtol=SAME)
    none = np.asarray(fit.predict(re_form="none"))
    each = [np.asarray(fit.predict(re_form=[key])) - none for key in in_terms(fit)]
    np.testing.assert_allclose(none + sum(each), own, rtol=SAME)
    if fit.fitted.design.traits is not None:
        with pytest.raises(mg.NotAvailableError, match="cbind"):
            fit.predict(case.data)
        return
    X = pd.DataFrame(np.asarray(fit.fitted.design.fixed.X), columns=fit.params.index)
    np.testing.assert_allclose(none, X @ fit.params.to_numpy(), rtol=SAME)
    shuffled = case.data.sample(frac=1.0, random_state=1)
    for re_form in ("all", "none"):
        new = fit.predict(shuffled, re_form=re_form)
        np.testing.assert_allclose(new.loc[case.data.index], fit.predict(re_form=re_form), rtol=SAME)


def test_refit_and_update_without_a_change_change_nothing(case, fit):
    responses = list(fit.fitted.design.parsed.responses)
    y = case.data[responses].to_numpy().T.ravel()  # one trait after the other
    for again in (fit.refit(y), fit.update()):
        assert again.llf == pytest.approx(fit.llf, abs=CRITERION)
        np.testing.assert_allclose(again.theta, fit.theta, rtol=THETA, atol=THETA * fit.theta.abs().max())
        pd.testing.assert_index_equal(again.theta.index, fit.theta.index)


def test_tidy_says_what_params_varcomp_and_ranef_say(case, fit):
    fixed = fit.tidy("fixed").set_index("term")
    np.testing.assert_allclose(fixed["estimate"], fit.params)
    np.testing.assert_allclose(fixed["std.error"], fit.bse)
    np.testing.assert_allclose(fixed["df"], fit.df)
    assert list(fixed.index) == list(fit.params.index)
    variances = fit.tidy("ran_pars")
    of_term = {key: block for key, block in fit.varcomp.groupby("grp", sort=False)}
    assert list(dict.fromkeys(variances["group"])) == list(of_term)
    for group, block in variances.groupby("group"):
        np.testing.assert_allclose(np.sort(block["estimate"]), np.sort(of_term[group]["sdcor"]))
        assert block["term"].is_unique
        own = of_term[group].assign(sd=lambda d: d["var2"].isna())
        assert block["term"].str.startswith("sd__").sum() == own["sd"].sum()
    if not fit.fitted.design.terms:
        with pytest.raises(mg.NotAvailableError, match="no random terms"):
            fit.tidy("ran_vals")
        return
    values = fit.tidy("ran_vals")
    for key, frame in fit.ranef().items():
        own = values[values["group"] == key].pivot(index="level", columns="term", values="estimate")
        np.testing.assert_allclose(own.loc[list(frame.index), list(frame.columns)], frame)


def test_table_explain_and_summary_name_every_term(case, fit):
    table, words, summary = mg.table(fit), str(fit.explain()), str(fit.summary())
    shown = table.as_markdown().replace("\\", "")
    for key in in_terms(fit):
        assert key in words and key in summary and key in shown
    for name in fit.params.index:
        assert name in summary and name in shown
    for text in (table.as_html(), table.as_latex()):
        assert f"{fit.nobs}" in text
    assert fit.formula in words


def test_kenward_roger_is_that_of_dense_algebra(case, fit):
    if case.name in REFUSED:
        with pytest.raises(mg.NotAvailableError, match=REFUSED[case.name]):
            fit.tidy("fixed", ddf="kenward-roger")
        return
    got = fit.tidy("fixed", ddf="kenward-roger")["std.error"]
    np.testing.assert_allclose(got, np.sqrt(np.diag(dense_kenward_roger(fit))), rtol=SECOND_DIFFERENCES)


def test_names_of_intervals_are_those_of_the_estimates(case, fit):
    names = profiled_names(fit.fitted)
    assert len(set(names)) == len(names)
    assert set(fit.params.index) <= set(names)
    for t in fit.fitted.design.terms:
        named = any(name.removeprefix("sd ").startswith(t.key) for name in names)
        assert named == (t.structure.tag != "rr"), t.key  # loadings have no profile


def test_a_fit_survives_a_pickle(case, fit):
    again = pickle.loads(pickle.dumps(fit))
    np.testing.assert_array_equal(again.theta, fit.theta)
    np.testing.assert_allclose(again.predict(), fit.predict(), rtol=SAME)
    assert str(again.summary()) == str(fit.summary())


@pytest.mark.parametrize("name", [case.name for case in STRUCTURES])
def test_containment_does_not_depend_on_the_structure(name):
    """Twelve intercepts and twelve slopes of x, one of each in X already: eleven degrees of freedom for both."""
    assert fit_of(name).tidy("fixed", ddf="containment")["df"].tolist() == [11.0, 11.0]


@pytest.mark.parametrize("name", [case.name for case in CASES if case.same])
def test_a_model_written_out_has_the_same_likelihood_and_containment(name):
    one, two = fit_of(name), BY_NAME[name].fit(BY_NAME[name].same)
    assert one.llf == pytest.approx(two.llf, abs=CRITERION)
    np.testing.assert_allclose(one.predict(), two.predict(), rtol=THETA)
    one_df, two_df = (f.tidy("fixed", ddf="containment")["df"].tolist() for f in (one, two))
    assert one_df == two_df
