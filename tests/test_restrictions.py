"""Variance parameters fixed, equated and bounded against the models that need no restriction to be the same."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import mixedgen as mg
from mixedgen.covariance.registry import STRUCTURES, make_structure
from mixedgen.covariance.restricted import Restricted
from mixedgen.errors import ArgumentError, NotAvailableError
from mixedgen.estimation.likelihood import deviance, score

SLOPES = "Reaction ~ Days + (Days|Subject)"
SAME = 1e-8  # two descriptions of one model


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    data = mg.data.sleepstudy()
    data["third"] = np.array(["a", "b", "c"])[np.minimum(data["Days"] // 4, 2)]
    data["pair"] = np.where(data["third"] == "b", "b", "ac")
    return data


def fitted(formula: str, data: pd.DataFrame, residual: str | None = None, method: str = "reml", **control) -> mg.Fit:
    return mg.lmm(formula, data, residual=residual, method=method, control=mg.Control(**control))


# ------------------------------------------------------------------------------------------- fixed parameters
def test_a_covariance_fixed_at_zero_is_two_bars(sleep):
    one = fitted(SLOPES, sleep, fix={"Subject[1,Days]": 0.0})
    two = fitted("Reaction ~ Days + (Days||Subject)", sleep)
    assert one.llf == pytest.approx(two.llf, rel=1e-12)
    np.testing.assert_allclose(one.theta, two.theta, rtol=1e-6)
    assert list(one.theta.index) == ["Subject[1,1]", "Subject[Days,Days]", "residual"]
    assert one.npar == two.npar
    np.testing.assert_allclose(one.varcomp["se"], two.varcomp["se"], rtol=1e-5)
    np.testing.assert_allclose(one.df, two.df, rtol=1e-5)
    np.testing.assert_allclose(
        one.anova(ddf="kenward-roger").astype(float), two.anova(ddf="kenward-roger").astype(float), rtol=1e-5
    )
    table, want = one.confint(), two.confint()
    np.testing.assert_allclose(table, want.to_numpy(), rtol=1e-5)


def test_three_effects_of_which_one_stands_alone(sleep):
    data = sleep.assign(late=(sleep["Days"] > 4).astype(float))
    zero = {"Subject[1,late]": 0.0, "Subject[Days,late]": 0.0}
    one = fitted("Reaction ~ Days + (Days + late|Subject)", data, fix=zero)
    two = fitted("Reaction ~ Days + (Days|Subject) + (0 + late|Subject)", data)
    assert one.llf == pytest.approx(two.llf, abs=1e-8)
    assert one.npar == two.npar
    assert sorted(one.theta.round(3)) == pytest.approx(sorted(two.theta.round(3)), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("residual", 600.0), ("Subject[1,1]", 700.0), ("Subject[1,Days]", 30.0), ("Subject[Days,Days]", 20.0)],
)
def test_a_fixed_parameter_leaves_the_best_of_the_others(sleep, name, value):
    free = fitted(SLOPES, sleep)
    held = fitted(SLOPES, sleep, fix={name: value})
    place = list(free.theta.index).index(name)
    start = np.delete(free.theta.to_numpy(), place)

    def criterion(log_or_plain: np.ndarray) -> float:
        theta = np.insert(log_or_plain, place, value)
        try:
            return deviance(free.fitted.engine.at(theta), reml=True)
        except (ValueError, mg.MixedgenError):
            return 1e10

    best = minimize(criterion, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10, "maxiter": 4000})
    assert held.reml_criterion == pytest.approx(best.fun, abs=1e-6)
    assert held.converged
    assert held.npar == free.npar - 1
    row = held.varcomp.set_index(held.varcomp["bound"].fillna("")).loc["fixed"]
    assert float(row["vcov"]) == value
    assert np.isnan(row["se"])


def test_a_fixed_parameter_is_profiled_by_refits(sleep):
    """The likelihood with the residual variance held where its profile interval ends is the limit's."""
    ml = fitted(SLOPES, sleep, method="ml")
    end = ml.confint("sigma").loc["sigma", "upper"]
    held = fitted(SLOPES, sleep, method="ml", fix={"residual": float(end) ** 2})
    assert held.deviance - ml.deviance == pytest.approx(3.841458820694124, abs=1e-6)


# --------------------------------------------------------------------------------------------- equal parameters
def test_equal_residual_variances_are_a_coarser_factor(sleep):
    one = fitted(SLOPES, sleep, "diag(third)", equate=[["residual[a,a]", "residual[c,c]"]])
    two = fitted(SLOPES, sleep, "diag(pair)")
    assert one.llf == pytest.approx(two.llf, rel=1e-12)
    assert one.npar == two.npar
    np.testing.assert_allclose(one.blup("Subject")["value"], two.blup("Subject")["value"], rtol=1e-6, atol=1e-8)
    assert one.theta["residual[a,a]"] == pytest.approx(two.theta["residual[ac,ac]"], rel=1e-6)


def test_all_equal_variances_are_idv(sleep):
    names = [f"Subject[third[{k}],third[{k}]]" for k in "abc"]
    one = fitted("Reaction ~ Days + diag(0 + third|Subject)", sleep, equate=[names])
    two = fitted("Reaction ~ Days + diag(0 + third|Subject, hom=True)", sleep)
    assert one.llf == pytest.approx(two.llf, rel=1e-12)


def test_equal_variances_and_correlations_of_us_are_cs(sleep):
    formula = "Reaction ~ Days + us(0 + third|Subject)"
    names = list(fitted(formula, sleep).theta.index[:-1])
    variances = [n for n in names if n[len("Subject[third[")] == n[-3]]
    rest = [n for n in names if n not in variances]
    one = fitted(formula, sleep, equate=[variances, rest])
    two = fitted("Reaction ~ Days + cs(0 + third|Subject, hom=True)", sleep)
    assert one.llf == pytest.approx(two.llf, abs=1e-7)
    assert one.npar == two.npar


# --------------------------------------------------------------------------------------------------- bounds
def test_a_bound_that_does_not_bind_changes_nothing(sleep):
    free = fitted(SLOPES, sleep)
    wide = fitted(SLOPES, sleep, bound={"Subject[1,1]": (1.0, 5000.0), "residual": (1.0, 1e5)})
    assert wide.llf == pytest.approx(free.llf, abs=1e-9)
    np.testing.assert_allclose(wide.theta, free.theta, rtol=1e-5)


def test_a_bound_that_binds_is_the_fixed_value(sleep):
    bounded = fitted(SLOPES, sleep, bound={"Subject[1,1]": (0.0, 500.0)})
    held = fitted(SLOPES, sleep, fix={"Subject[1,1]": 500.0})
    assert bounded.theta["Subject[1,1]"] == pytest.approx(500.0, rel=2e-9)  # a billionth of the interval inside
    assert bounded.llf == pytest.approx(held.llf, abs=1e-9)
    assert bounded.converged
    assert list(bounded.varcomp["bound"].fillna("")) == ["bound", "", "", ""]
    np.testing.assert_allclose(bounded.varcomp["se"], held.varcomp["se"], rtol=1e-4)


def test_a_bounded_variance_is_profiled_under_its_name(sleep):
    ml = fitted("Reaction ~ Days + (1|Subject)", sleep, method="ml")
    bounded = fitted("Reaction ~ Days + (1|Subject)", sleep, method="ml", bound={"Subject": (100.0, 9000.0)})
    want = ml.confint("sd Subject[(Intercept)]").iloc[0] ** 2
    got = bounded.confint("Subject").iloc[0]
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_a_bounded_correlation(sleep):
    formula = "Reaction ~ Days + ar1(0 + third|Subject)"
    free = fitted(formula, sleep)
    assert free.theta["Subject[rho]"] > 0.5
    bounded = fitted(formula, sleep, bound={"Subject[rho]": (0.0, 0.5)})
    held = fitted(formula, sleep, fix={"Subject[rho]": 0.5})
    assert bounded.theta["Subject[rho]"] == pytest.approx(0.5, abs=1e-6)
    assert bounded.llf == pytest.approx(held.llf, abs=1e-6)


# ------------------------------------------------------------------------------------------------------ laws
@pytest.mark.parametrize("tag", sorted(STRUCTURES))
def test_derivatives_of_restricted_structures(tag):
    base = make_structure(tag, 4, {"hom": False})
    rng = np.random.default_rng(8)
    names = base.names(list("abcd"))
    if base.size < 3:
        restricted = Restricted(base, {}, [], {0: (0.1, 9.0)})
    else:
        restricted = Restricted(base, {1: float(base.start(np.eye(4) + 0.3)[1])}, [], {0: (0.1, 9.0)})
    theta = restricted.start(np.eye(4) + 0.3) * (1.0 + 0.01 * rng.random(restricted.size))
    assert len(restricted.names(list("abcd"))) == restricted.size == len(theta)
    assert set(restricted.names(list("abcd"))) <= set(names)
    step = 1e-6
    for k, D in enumerate(restricted.derivatives(theta)):
        h = step * np.eye(restricted.size)[k]
        central = (restricted.matrix(theta + h) - restricted.matrix(theta - h)) / (2.0 * step)
        np.testing.assert_allclose(D, central, atol=1e-7)


@pytest.mark.parametrize("engine", ["henderson", "dense"])
def test_score_is_the_difference_of_the_criterion(sleep, engine):
    equal = [["residual[a,a]", "residual[b,b]"]]
    fit = fitted(SLOPES, sleep, "diag(third)", engine=engine, fix={"Subject[1,1]": 500.0}, equate=equal)
    theta = fit.fitted.theta * 1.1
    at = fit.fitted.engine.at
    got = score(at(theta), reml=True)
    for k, size in enumerate(theta):
        h = 1e-5 * size * np.eye(len(theta))[k]
        central = -0.5 * (deviance(at(theta + h), True) - deviance(at(theta - h), True)) / (2e-5 * size)
        assert got[k] == pytest.approx(central, rel=1e-5, abs=1e-8)


def test_restrictions_stay_in_refits_updates_and_simulations(sleep):
    fit = fitted(SLOPES, sleep, fix={"residual": 600.0})
    again = fit.refit(fit.simulate(1, seed=1)[0])
    assert list(again.theta.index) == list(fit.theta.index)
    assert fit.update(". ~ . + I(Days**2)").npar == fit.npar + 1
    assert fit.bootstrap(n=3, seed=1).loc["Days", "n"] == 3


def test_known_variances_obey_the_restrictions(sleep):
    model = mg.MixedModel(SLOPES, sleep, control=mg.Control(fix={"residual": 600.0}))
    given = {"Subject": np.diag([500.0, 30.0])}
    assert model.solve({**given, "residual": 600.0}).llf < model.fit().llf
    with pytest.raises(ArgumentError, match="conform"):
        model.solve({**given, "residual": 500.0})


@pytest.mark.parametrize(
    ("control", "match"),
    [
        ({"fix": {"Subject": 1.0}}, r"no variance parameter 'Subject'; there are Subject\[1,1\]"),
        ({"fix": {"residual": -1.0}}, "cannot be -1.0"),
        ({"fix": {"residual": np.nan}}, "not finite"),
        ({"bound": {"residual": (3.0, 2.0)}}, "low < high"),
        ({"bound": {"residual": (-3.0, -2.0)}}, "no value between"),
        ({"equate": ["residual"]}, "groups of two"),
        ({"equate": [["Subject[1,1]", "residual"]]}, "different terms"),
        ({"fix": {"residual": 2.0}, "equate": [["residual", "Subject[1,1]"]]}, "more than once"),
        ({"fix": {"residual": 2.0}, "bound": {"residual": (1.0, 3.0)}}, "fixed and bounded"),
    ],
)
def test_impossible_restrictions(sleep, control, match):
    with pytest.raises(ArgumentError, match=match):
        fitted(SLOPES, sleep, **control)


def test_nothing_left_to_estimate(sleep):
    with pytest.raises(ArgumentError, match=r"model\.solve"):
        fitted("Reaction ~ Days + (1|Subject)", sleep, fix={"Subject": 1000.0, "residual": 900.0})


def test_what_cannot_be_restricted(sleep):
    with pytest.raises(NotAvailableError, match="exp"):
        fitted(SLOPES, sleep, "exp(Days)", fix={"residual[Days]": 0.0})
    with pytest.raises(NotAvailableError, match="minque"):
        fitted("Reaction ~ Days + (1|Subject)", sleep, method="minque", fix={"residual": 900.0})


def test_models_that_differ_in_restrictions_are_told_apart(sleep):
    free = fitted(SLOPES, sleep, method="ml")
    zero = fitted(SLOPES, sleep, method="ml", fix={"Subject[1,Days]": 0.0})
    table = free.anova(zero)
    assert list(table.index) == [f"{SLOPES} [Subject[1,Days] = 0]", SLOPES]
    assert table["df"].iloc[1] == 1.0
