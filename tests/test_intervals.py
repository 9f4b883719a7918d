"""Profile likelihood intervals against lme4, and the parametric bootstrap."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from test_equivalences import additive, herd

import mixedgen as mg
from mixedgen.errors import ArgumentError, ConvergenceWarning, NotAvailableError
from mixedgen.estimation.fitted import Fitted
from mixedgen.estimation.likelihood import deviance
from mixedgen.intervals import constrained
from mixedgen.intervals.bootstrap import bootstrap, bootstrap_draws, bootstrap_intervals
from mixedgen.intervals.profile import profile, profile_points, profiled_names

REFERENCE = json.loads((Path(__file__).parent / "reference" / "intervals.json").read_text())
MODELS = {
    "sleepstudy": "Reaction ~ Days + (Days|Subject)",
    "penicillin": "diameter ~ 1 + (1|plate) + (1|sample)",
    "pastes": "strength ~ 1 + (1|batch/cask)",
    "dyestuff": "Yield ~ 1 + (1|Batch)",
    "dyestuff2": "Yield ~ 1 + (1|Batch)",
    "cake": "angle ~ recipe * temp + (1|recipe:replicate)",
}
FINE = 1e-5  # lme4's profile in small steps, interpolated by splines
# Its default steps: the lower end of Dyestuff is 1.6e-4 from the fine one, that of Dyestuff2's intercept 1.7e-4.
FOUR_DIGITS = 2e-4
CHI2 = 3.841458820694124  # 95 % quantile on one degree of freedom


def fitted_model(name: str, method: str = "reml", **options: object) -> Fitted:
    return mg.lmm(MODELS[name], getattr(mg.data, name)(), method=method, **options).fitted


def singular_slope() -> pd.DataFrame:
    """Intercepts and slopes that correlate at 1."""
    line = np.repeat([-1.5, 0.7, 1.9, -0.4, 0.2, -1.1, 1.3, -0.9], 5)
    x = np.tile(np.arange(5.0), 8)
    y = 10 + 2 * x + line * (2 + 0.5 * x) + 0.8 * np.sin(np.arange(1, 41) ** 2)
    return pd.DataFrame({"g": np.repeat(list("abcdefgh"), 5), "x": x, "y": y.round(4)})


def coefficient(fitted: Fitted) -> dict[str, float]:
    return {"slope": float(fitted.system.solution.b[1]), "sigma2": float(fitted.theta[-1])}


def least_deviance(fit: mg.Fit, residual: bool, sd: float) -> float:
    """Deviance at one standard deviation, least over the other."""

    def at(log_other: float) -> float:
        theta = np.array([np.exp(2.0 * log_other), sd**2])
        return deviance(fit.fitted.engine.at(theta if residual else theta[::-1]), reml=False)

    other = np.log(fit.fitted.theta[0 if residual else 1]) / 2.0
    return float(minimize_scalar(at, bounds=(other - 3.0, other + 3.0), options={"xatol": 1e-7}).fun)


# --------------------------------------------------------------------------------------------------- the profile
@pytest.mark.parametrize("case", REFERENCE["fits"], ids=lambda case: f"{case['model']}-{case['level']}")
def test_profile_equals_lme4(case):
    table = profile(fitted_model(case["model"]), level=case["level"])
    for kind, tolerance in (("default", FOUR_DIGITS), ("fine", FINE)):
        if kind not in case:
            continue
        assert set(table.index) == set(case[kind]["names"])
        for name, lower, upper in zip(case[kind]["names"], case[kind]["lower"], case[kind]["upper"], strict=True):
            # beside the larger end: one near zero has no digits of its own
            atol = tolerance * max(abs(lower), abs(upper))
            np.testing.assert_allclose(table.loc[name, ["lower", "upper"]], [lower, upper], rtol=0, atol=atol)


def test_points_of_a_profile_are_constrained_optima():
    fit = mg.lmm(MODELS["dyestuff"], mg.data.dyestuff(), method="ml")
    table = fit.profile(["sd Batch[(Intercept)]", "sigma"], points=3)
    assert list(table.columns) == ["parameter", "value", "zeta", "deviance"]
    for row in table.itertuples():
        want = least_deviance(fit, row.parameter == "sigma", row.value)
        assert row.deviance == pytest.approx(want, abs=1e-6)
        assert row.zeta**2 == pytest.approx(want - fit.deviance, abs=1e-6)
    curve = table[table["parameter"] == "sigma"]
    assert len(curve) == 7
    assert curve["value"].is_monotonic_increasing
    np.testing.assert_allclose(curve["zeta"].iloc[[0, 3, 6]], [-2.5758293, 0.0, 2.5758293], atol=1e-6)
    ends = fit.confint("sigma", level=0.99).iloc[0]
    np.testing.assert_allclose(curve["value"].iloc[[0, 3, 6]], ends[["lower", "estimate", "upper"]], rtol=1e-8)


def test_points_of_the_profile_of_a_coefficient_are_fits_without_it(sleepstudy):
    fit = fitted_model("sleepstudy")
    for row in profile_points(fit, "Days", points=2).itertuples():
        without = mg.lmm(f"Reaction ~ 1 + offset({row.value!r} * Days) + (Days|Subject)", sleepstudy, method="ml")
        assert row.deviance == pytest.approx(without.deviance, abs=1e-6)


def test_a_profile_ends_at_a_bound():
    table = profile_points(fitted_model("dyestuff2"), "sd Batch[(Intercept)]", points=2)
    assert len(table) == 3  # the estimate is the bound
    assert table["value"].iloc[0] == 0.0
    with pytest.raises(ArgumentError, match="points"):
        profile_points(fitted_model("dyestuff2"), points=0)
    flat = replace(fitted_model("sleepstudy", method="ml"), theta=np.array([1400.0, 0.0, 0.0, 960.0]))
    with pytest.raises(NotAvailableError, match="no parameter asked for"):
        profile_points(flat, "cor Subject[(Intercept),Days]")


def test_estimates_are_those_of_the_ml_fit():
    table = profile(fitted_model("sleepstudy"))
    ml = mg.lmm(MODELS["sleepstudy"], mg.data.sleepstudy(), method="ml")
    np.testing.assert_allclose(table.loc[["Intercept", "Days"], "estimate"], ml.params, rtol=1e-8)
    np.testing.assert_allclose(table["estimate"].iloc[:4], ml.varcomp["sdcor"], rtol=1e-8)
    pd.testing.assert_frame_equal(table, profile(ml.fitted), rtol=1e-6)


def test_fixed_effect_at_its_end_is_rejected_exactly():
    data = mg.data.sleepstudy()
    ml = mg.lmm(MODELS["sleepstudy"], data, method="ml")
    for end in profile(ml.fitted, "Days").loc["Days", ["lower", "upper"]]:
        held = mg.lmm("Reaction ~ 1 + offset(at) + (Days|Subject)", data.assign(at=end * data.Days), method="ml")
        assert held.deviance - ml.deviance == pytest.approx(CHI2, abs=1e-6)


def test_a_variance_at_its_boundary():
    table = profile(fitted_model("dyestuff2"))
    assert tuple(table.loc["sd Batch[(Intercept)]", ["estimate", "lower"]]) == (0.0, 0.0)
    assert table.loc["sd Batch[(Intercept)]", "upper"] > 2.0


def test_a_correlation_at_its_boundary():
    table = profile(mg.lmm("y ~ x + (x|g)", singular_slope()).fitted)
    estimate, lower, upper = table.loc["cor g[(Intercept),x]"]
    assert estimate == pytest.approx(1.0, abs=1e-6)
    assert upper == 1.0
    assert 0.0 < lower < 1.0
    assert np.isfinite(table.to_numpy()).all()


def test_an_effect_without_variance_has_any_correlation():
    data = mg.data.dyestuff2()
    data["x"] = np.tile(np.arange(5.0) - 2.0, 6)
    table = profile(mg.lmm("Yield ~ x + (1|Batch) + (0 + x|Batch)", data).fitted)
    assert np.isfinite(table.to_numpy()).all()
    given = profile(mg.lmm("Yield ~ 1 + (x|Batch)", data).fitted)
    assert given["lower"].ge(-1.0)["cor Batch[(Intercept),x]"]
    assert given["upper"].le(1.0)["cor Batch[(Intercept),x]"]


def test_equal_models_have_equal_profiles():
    data = mg.data.sleepstudy()
    us = profile(fitted_model("sleepstudy"))
    corh = profile(mg.lmm("Reaction ~ Days + corh(Days|Subject)", data).fitted)
    np.testing.assert_allclose(
        corh.to_numpy()[[0, 1, 2, 3, 4, 5]], us.to_numpy()[[0, 1, 2, 3, 4, 5]], rtol=1e-5, atol=1e-6
    )
    bars = profile(mg.lmm("Reaction ~ Days + (Days||Subject)", data).fitted)
    diag = profile(mg.lmm("Reaction ~ Days + diag(Days|Subject)", data).fitted)
    np.testing.assert_allclose(np.sort(bars["upper"]), np.sort(diag["upper"]), rtol=1e-6)


def test_the_order_of_effects_does_not_matter():
    data = mg.data.sleepstudy()
    data["late"] = (data.Days > 4).astype(float)
    first, second = (
        profile(mg.lmm(f"Reaction ~ Days + ({effects}|Subject)", data, method="ml").fitted).iloc[:7]
        for effects in ("Days + late", "late + Days")
    )
    second.index = second.index.str.replace("[late,Days]", "[Days,late]")
    pd.testing.assert_frame_equal(first, second.loc[first.index], rtol=1e-5, atol=1e-5)


def test_names_of_structured_variances():
    data = mg.data.sleepstudy()
    data["third"] = pd.Categorical((data.Days % 3).astype(str))
    names = {
        s: profiled_names(mg.lmm(f"Reaction ~ Days + {s}(0 + third|Subject)", data).fitted)[:2] for s in ("diag", "ar1")
    }
    assert names["diag"] == ("sd Subject[third[0]]", "sd Subject[third[1]]")
    assert names["ar1"] == ("sd Subject", "cor Subject[rho]")


def test_residual_variances_by_class():
    data = mg.data.sleepstudy()
    data["half"] = np.where(data.Days < 5, "early", "late")
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", data, residual="diag(half)")
    table = profile(fit.fitted)
    assert list(table.index[:3]) == ["sd Subject[(Intercept)]", "sigma[early]", "sigma[late]"]
    assert (table["lower"] < table["estimate"]).all()
    assert (table["estimate"] < table["upper"]).all()


def test_profile_follows_the_scale_of_y():
    data = mg.data.pastes()
    table = profile(mg.lmm(MODELS["pastes"], data).fitted)
    moved = profile(mg.lmm(MODELS["pastes"], data.assign(strength=7.0 - 1000.0 * data.strength)).fitted)
    np.testing.assert_allclose(moved.iloc[:3], 1000.0 * table.iloc[:3], rtol=1e-6)
    np.testing.assert_allclose(
        moved.loc["Intercept", ["lower", "upper"]].astype(float),
        7.0 - 1000.0 * table.loc["Intercept", ["upper", "lower"]].astype(float),
        rtol=1e-6,
    )


def test_profile_does_not_depend_on_the_engine():
    tables = [profile(fitted_model("pastes", control=mg.Control(engine=e))) for e in ("henderson", "dense")]
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-6)


def test_profile_of_a_pedigree_model(calves, pedigree):
    data = pd.concat([calves] * 4, ignore_index=True)
    data["wwg"] = 5.0 * data["wwg"] + np.sin(np.arange(20.0) ** 2)
    fit = mg.lmm("wwg ~ sex + (1|calf:A)", data, relationships={"A": mg.additive(pedigree)}, method="ml")
    table = profile(fit.fitted, ["sd calf:A[(Intercept)]", "sigma"])
    for name in table.index:
        for end in table.loc[name, ["lower", "upper"]]:
            assert least_deviance(fit, name == "sigma", end) - fit.deviance == pytest.approx(CHI2, abs=1e-5)


def test_a_model_without_random_terms():
    table = profile(mg.lmm("Yield ~ 1", mg.data.dyestuff()).fitted)
    y = mg.data.dyestuff()["Yield"]
    n, s2 = len(y), float(np.var(y))
    half = np.sqrt(s2 * np.expm1(CHI2 / n))
    np.testing.assert_allclose(
        table.loc["Intercept"].astype(float), [y.mean(), y.mean() - half, y.mean() + half], rtol=1e-9
    )


def test_a_mean_with_two_residual_variances():
    data = mg.data.sleepstudy()
    data["half"] = np.where(data.Days < 5, "early", "late")
    table = profile(mg.lmm("Reaction ~ 1", data, residual="diag(half)", method="ml").fitted)
    mean, lower, upper = table.loc["Intercept"]
    y = [data.Reaction[data.half == h].to_numpy() for h in ("early", "late")]

    def criterion(m: float) -> float:
        return sum(len(x) * np.log(np.mean((x - m) ** 2)) for x in y)

    for end in (lower, upper):
        assert criterion(end) - criterion(mean) == pytest.approx(CHI2, abs=1e-6)


def test_profile_refuses():
    fitted = fitted_model("dyestuff")
    with pytest.raises(ArgumentError, match="'batch'"):
        profile(fitted, "batch")
    with pytest.raises(ArgumentError, match="level"):
        profile(fitted, level=95)
    given = mg.MixedModel(MODELS["dyestuff"], mg.data.dyestuff()).solve({"Batch": 1700.0, "residual": 2400.0})
    with pytest.raises(NotAvailableError, match="given"):
        profile(given.fitted)


# ------------------------------------------------------------------------------------ functions of the variances
def least_at_ratio(fit: mg.Fit, ratio: float) -> float:
    """Criterion of the fit at one share of the first of two variances, least over their sum."""

    def at(log_total: float) -> float:
        theta = np.exp(log_total) * np.array([ratio, 1.0 - ratio])
        return deviance(fit.fitted.engine.at(theta), reml=fit.method == "reml")

    middle = np.log(fit.fitted.theta.sum())
    return float(minimize_scalar(at, bounds=(middle - 3.0, middle + 3.0), options={"xatol": 1e-8}).fun)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_profile_of_an_intraclass_correlation(method):
    fit = mg.lmm(MODELS["dyestuff"], mg.data.dyestuff(), method=method)
    estimate, lower, upper = fit.confint("ICC = Batch / (Batch + residual)").loc["ICC"]
    assert estimate == pytest.approx(fit.theta["Batch"] / fit.theta.sum(), rel=1e-12)
    assert lower < estimate < upper
    for end in (lower, upper):
        assert least_at_ratio(fit, end) + 2.0 * fit.llf == pytest.approx(CHI2, abs=1e-5)


def test_profile_of_the_heritability_of_a_pedigree_model(calves, pedigree):
    data = pd.concat([calves] * 4, ignore_index=True)
    data["wwg"] = 5.0 * data["wwg"] + np.sin(np.arange(20.0) ** 2)
    fit = mg.lmm("wwg ~ sex + (1|calf:A)", data, relationships={"A": mg.additive(pedigree)})
    table = fit.confint(["calf:A / (calf:A + residual)", "sigma"], level=0.9)
    assert list(table.index) == ["calf:A / (calf:A + residual)", "sigma"]
    for end in table.iloc[0, 1:]:
        assert least_at_ratio(fit, end) + 2.0 * fit.llf == pytest.approx(1.6448536269514722**2, abs=1e-5)


def test_functions_of_ml_have_the_profiles_of_lme4():
    fit = mg.lmm(MODELS["sleepstudy"], mg.data.sleepstudy(), method="ml")
    a, ab, b = fit.theta.index[:3]
    table = fit.confint([f"sqrt({a})", f"{ab} / sqrt({a} * {b})", f"sqrt({b})", "sqrt(residual)", "log(residual)"])
    case = next(c for c in REFERENCE["fits"] if c["model"] == "sleepstudy" and "fine" in c and c["level"] == 0.95)
    want = pd.DataFrame(case["fine"]).set_index("names")
    names = ["sd Subject[(Intercept)]", "cor Subject[(Intercept),Days]", "sd Subject[Days]", "sigma"]
    np.testing.assert_allclose(table.iloc[:4, 1:], want.loc[names, ["lower", "upper"]], rtol=FINE)
    np.testing.assert_allclose(table.iloc[4], 2.0 * np.log(table.iloc[3].astype(float)), rtol=1e-8)


def test_an_intraclass_correlation_at_zero():
    fit = mg.lmm(MODELS["dyestuff2"], mg.data.dyestuff2())
    estimate, lower, upper = fit.confint("Batch / (Batch + residual)").iloc[0]
    assert (estimate, lower) == (0.0, 0.0)
    assert least_at_ratio(fit, upper) + 2.0 * fit.llf == pytest.approx(CHI2, abs=1e-5)


def test_a_ratio_does_not_follow_the_scale_of_y():
    data = mg.data.pastes()
    ratio = "batch / (batch + cask:batch + residual)"
    one = mg.lmm(MODELS["pastes"], data).confint(ratio)
    other = mg.lmm(MODELS["pastes"], data.assign(strength=1e4 * data.strength - 3.0)).confint(ratio)
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


def test_profile_of_total_heritability_beside_a_singular_matrix():
    """Direct and maternal effects that correlate at 1: no parameters in the region lie beyond the ends."""
    rng = np.random.default_rng(12)
    G = [[1.0, -0.2], [-0.2, 0.5]]
    founders, first, n = 20, 80, 200
    sire, dam, value = np.zeros(n, int), np.zeros(n, int), rng.multivariate_normal([0, 0], G, size=n)
    for k in range(founders, n):
        parents = np.arange(0, founders) if k < first else np.arange(founders, first)
        s, d = rng.choice(parents[::2]), rng.choice(parents[1::2])
        sire[k], dam[k] = s + 1, d + 1
        value[k] = 0.5 * (value[s] + value[d]) + np.sqrt(0.5) * rng.multivariate_normal([0, 0], G)
    ids = np.arange(1, n + 1)
    y = value[:, 0] + value[dam - 1, 1] + 1.2 * rng.normal(size=n)
    data = pd.DataFrame({"animal": ids, "dam": dam, "y": y})[ids > founders]
    A = mg.additive(mg.Pedigree(pd.DataFrame({"id": ids, "sire": sire, "dam": dam})))
    fit = mg.lmm("y ~ 1 + us(1|members(animal, dam):A)", data, relationships={"A": A})
    assert fit.certificate.singular
    a, ab, b, e = fit.theta.index
    estimate, lower, upper = fit.confint(f"h = ({a} + 1.5*{ab} + 0.5*{b}) / ({a} + {ab} + {b} + {e})").loc["h"]
    assert lower < estimate < upper
    L = np.linalg.cholesky(np.array([[fit.theta[a], fit.theta[ab]], [fit.theta[ab], fit.theta[b]]]) + 1e-9 * np.eye(2))
    inside = 0
    for _ in range(400):
        moved = L + np.tril(rng.normal(scale=0.35, size=(2, 2)))
        S = moved @ moved.T
        theta = np.array([S[0, 0], S[1, 0], S[1, 1], fit.theta[e] * np.exp(rng.normal(scale=0.2))])
        if deviance(fit.fitted.engine.at(theta), True) < CHI2 - 2.0 * fit.llf:
            inside += 1
            h = theta[:3] @ [1.0, 1.5, 0.5] / theta.sum()
            assert lower - 1e-6 < h < upper + 1e-6
    assert inside > 50


def test_bootstrap_of_a_function_of_the_variances():
    fit = mg.lmm(MODELS["dyestuff"], mg.data.dyestuff())
    table = fit.confint(["h = Batch / (Batch + residual)", "sigma"], method="bootstrap", n=6, seed=2)
    drawn = fit.bootstrap(lambda f: {"h": f.theta["Batch"] / f.theta.sum()}, n=6, seed=2)
    np.testing.assert_allclose(table.loc["h"], drawn.loc["h", ["estimate", "lower", "upper"]], rtol=1e-12)


def test_expressions_that_cannot_be_profiled():
    fit = mg.lmm(MODELS["dyestuff"], mg.data.dyestuff())
    with pytest.raises(ArgumentError, match="'batch' is neither|'batch'"):
        fit.confint("batch / residual")
    with pytest.raises(ArgumentError, match="no value"):
        fit.confint("sqrt(-residual)")


# ------------------------------------------------------------------------------------------------- the bootstrap
def test_bootstrap_is_the_same_with_two_workers():
    fitted = fitted_model("sleepstudy")
    one = bootstrap(fitted, n=45, seed=3)
    pd.testing.assert_frame_equal(one, bootstrap(fitted, n=45, seed=3, workers=2), check_exact=True)
    assert not one.equals(bootstrap(fitted, n=45, seed=4))
    assert list(one.index) == list(profiled_names(fitted))


def test_a_longer_bootstrap_begins_with_the_shorter():
    fitted = fitted_model("dyestuff")
    short, long = (bootstrap_draws(fitted, n=n, seed=1) for n in (5, 8))
    pd.testing.assert_frame_equal(short, long.iloc[:5])


def test_bootstrap_of_a_statistic():
    fitted = fitted_model("sleepstudy")
    n = 200
    table = bootstrap(fitted, coefficient, n=n, seed=5)
    assert list(table.index) == ["slope", "sigma2"]
    se = np.sqrt(fitted.system.fixed_variances()[1])
    # both within five Monte-Carlo standard errors
    assert abs(table.loc["slope", "bias"]) < 5 * se / np.sqrt(n)
    assert abs(table.loc["slope", "se"] / se - 1.0) < 5 / np.sqrt(2 * n)
    unnamed = bootstrap(fitted, lambda new: new.system.solution.b, n=3, seed=5)
    assert list(unnamed.index) == [0, 1]


def test_intervals_of_known_draws():
    draws = pd.DataFrame({"t": np.arange(1.0, 100.0)})
    table = bootstrap_intervals(pd.Series({"t": 49.0}), draws, level=0.9).loc["t"]
    assert (table["lower"], table["upper"]) == pytest.approx((5.0, 95.0))
    assert (table["basic_lower"], table["basic_upper"]) == pytest.approx((3.0, 93.0))
    assert table["bias"] == pytest.approx(1.0)
    assert table["normal_upper"] - 48.0 == pytest.approx(1.6448536269514722 * table["se"])


def test_an_interrupted_bootstrap_keeps_what_is_done():
    calls = 0

    def impatient(fitted: Fitted) -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return float(fitted.theta[-1])

    with pytest.warns(UserWarning, match="3 of 50"):
        draws = bootstrap_draws(fitted_model("dyestuff"), impatient, n=50, seed=1)
    assert len(draws) == 3
    assert draws.notna().all(axis=None)


def test_replicates_that_do_not_converge_are_told():
    fitted = fitted_model("sleepstudy", control=mg.Control(max_iter=30))
    hasty = Fitted(
        **{**{f: getattr(fitted, f) for f in fitted.__dataclass_fields__}, "control": mg.Control(max_iter=1)}
    )
    with pytest.warns(ConvergenceWarning, match="4 of 4"):
        assert len(bootstrap_draws(hasty, n=4, seed=1)) == 4


def test_bootstrap_refuses():
    fitted = fitted_model("dyestuff")
    with pytest.raises(ArgumentError, match="n must"):
        bootstrap(fitted, n=0)
    with pytest.raises(ArgumentError, match="level"):
        bootstrap(fitted, level=1.5)
    with pytest.raises(ArgumentError, match="workers=1"):
        bootstrap(fitted, lambda new: new.theta, n=4, workers=2)


def rough_ratio(fit: mg.Fit) -> dict[str, float]:
    """A statistic of a fit that other processes can import."""
    return {"ratio": float(fit.theta.iloc[0] / fit.scale)}


def test_confint_of_a_fit_is_its_profile_or_the_percentiles_of_its_bootstrap() -> None:
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    table = fit.confint("Intercept", level=0.9)
    pd.testing.assert_frame_equal(table, profile(fit.fitted, "Intercept", 0.9))
    drawn = fit.bootstrap(n=8, seed=3)
    chosen = fit.confint(["Intercept"], method="bootstrap", n=8, seed=3)
    pd.testing.assert_frame_equal(chosen, drawn.loc[["Intercept"], ["estimate", "lower", "upper"]])


def test_a_statistic_of_a_fit_goes_to_other_processes() -> None:
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    one = fit.bootstrap(rough_ratio, n=6, seed=1)
    two = fit.bootstrap(rough_ratio, n=6, seed=1, workers=2)
    assert one.at["ratio", "estimate"] == rough_ratio(fit)["ratio"]
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_confint_refuses_what_it_does_not_know() -> None:
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    with pytest.raises(ArgumentError, match="there are"):
        fit.confint("Days")
    with pytest.raises(ArgumentError, match="Days"):
        fit.confint("Days", method="bootstrap", n=2, seed=1)
    with pytest.raises(ArgumentError, match="conf_int"):
        fit.confint(method="wald")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="n: only for"):
        fit.confint(n=100)
    moments = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff(), method="minque")
    for ask in (moments.confint, moments.bootstrap):
        with pytest.raises(NotAvailableError, match="minque"):
            ask()


def test_rounding_of_the_criterion_does_not_keep_the_search_going(monkeypatch):
    exact, calls = constrained.value_of, []

    def counted(*args):
        calls.append(1)
        return exact(*args)

    monkeypatch.setattr(constrained, "value_of", counted)
    data = herd().dropna(subset="y1")
    data["y1"] += np.random.default_rng(9).normal(size=len(data))
    fit = mg.lmm("y1 ~ x + us(1|members(id, mates(id, pen)):A)", data, relationships=additive())
    direct, both, social = fit.theta.index[:3]
    ends = fit.confint(f"total = {direct} + 4 * {both} + 4 * {social}").loc["total"]
    assert ends["lower"] < ends["estimate"] < ends["upper"]
    assert len(calls) < 200  # some 40 for both ends; 2,000 where the search does not know of rounding
