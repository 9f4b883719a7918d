"""Structures of the user's, against the structures that are the same."""

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.errors import ArgumentError, FormulaError
from mixedgen.estimation.likelihood import deviance, score

FORMULA = "Reaction ~ Days + (1|Subject)"


def decay(parameters: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Correlations that fall with the distance in time."""
    return np.exp(-np.abs(times[:, None] - times) / parameters[0])


def banded(parameters: np.ndarray, times: np.ndarray) -> np.ndarray:
    """A moving average: neighbours only."""
    return np.eye(len(times)) + parameters[0] * (np.abs(times[:, None] - times) == 1.0)


EXPO = mg.CorrelationFunction(decay, {"range": (0.01, 2.0, 100.0)})


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return mg.data.sleepstudy()


@pytest.mark.parametrize("hom", [True, False])
def test_exponential_decay_at_equal_distances_is_ar1(sleep, hom):
    sleep = sleep[sleep["Days"] < 6]
    own = mg.lmm(FORMULA, sleep, residual=f"expo(Days|Subject, hom={hom})", structures={"expo": EXPO})
    ar1 = mg.lmm(FORMULA, sleep, residual=f"ar1(Days|Subject, hom={hom})")
    assert own.llf == pytest.approx(ar1.llf, abs=1e-8)
    assert np.exp(-1.0 / own.theta["residual[range]"]) == pytest.approx(ar1.theta["residual[rho]"], rel=1e-5)
    np.testing.assert_allclose(own.bse, ar1.bse, rtol=1e-5)
    np.testing.assert_allclose(own.df, ar1.df, rtol=1e-5)


def test_times_may_be_anything(sleep):
    """By generalised least squares at the estimates: V from the times themselves."""
    data = sleep.assign(time=(sleep["Days"] + 0.3 * (sleep["Days"] > 4)) ** 1.2)
    fit = mg.lmm(FORMULA, data, residual="expo(time|Subject)", structures={"expo": EXPO})
    subject, time = data["Subject"].to_numpy(), data["time"].to_numpy()
    same = subject[:, None] == subject
    decayed = np.exp(-np.abs(time[:, None] - time) / fit.theta["residual[range]"])
    V = same * (fit.theta["Subject"] + fit.theta["residual[variance]"] * decayed)
    X = np.column_stack([np.ones(180), data["Days"]])
    Vi = np.linalg.inv(V)
    b = np.linalg.solve(X.T @ Vi @ X, X.T @ Vi @ data["Reaction"])
    np.testing.assert_allclose(fit.params, b, rtol=1e-8)
    e = data["Reaction"] - X @ b
    logdets = np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ Vi @ X)[1]
    assert -2.0 * fit.llf == pytest.approx(logdets + e @ Vi @ e + 178 * np.log(2.0 * np.pi), rel=1e-10)


def test_in_a_random_term(sleep):
    data = sleep.assign(begin=sleep["Days"] // 4 * 3)
    own = mg.lmm("Reaction ~ Days + expo(0 + C(begin)|Subject)", data, structures={"expo": EXPO})
    ar1 = mg.lmm("Reaction ~ Days + ar1(0 + C(begin)|Subject)", data)
    assert own.llf == pytest.approx(ar1.llf, abs=1e-7)
    assert np.exp(-3.0 / own.theta["Subject[range]"]) == pytest.approx(ar1.theta["Subject[rho]"], rel=1e-4)


def test_score_is_the_difference_of_the_criterion(sleep):
    ma = mg.CorrelationFunction(banded, {"neighbour": (-0.5, 0.1, 0.5)})
    model = mg.MixedModel(FORMULA, sleep, residual="ma(Days|Subject, hom=False)", structures={"ma": ma})
    theta = np.concatenate([[900.0], np.linspace(500.0, 1500.0, 10), [0.3]])
    got = score(model.engine.at(theta), reml=True)
    for k in (0, 3, 11):
        h = 1e-5 * theta[k] * np.eye(12)[k]
        up, down = (deviance(model.engine.at(theta + s * h), True) for s in (1.0, -1.0))
        assert got[k] == pytest.approx(-0.5 * (up - down) / (2e-5 * theta[k]), rel=1e-5)


def test_everything_else_works_with_it(sleep):
    fit = mg.lmm(FORMULA, sleep, residual="expo(Days|Subject)", structures={"expo": EXPO}, method="ml")
    ar1 = mg.lmm(FORMULA, sleep, residual="ar1(Days|Subject)", method="ml")
    low, high = fit.confint("residual[range]").loc["residual[range]", ["lower", "upper"]]
    want = ar1.confint("cor Residual[rho]").iloc[0, 1:]
    np.testing.assert_allclose(np.exp([-1.0 / low, -1.0 / high]), want.astype(float), rtol=1e-5)
    two = fit.bootstrap(n=2, seed=1, workers=2)
    pd.testing.assert_frame_equal(two, fit.bootstrap(n=2, seed=1))
    fixed = fit.update(control=mg.Control(fix={"residual[range]": 2.0}))
    assert fixed.npar == fit.npar - 1
    assert fixed.llf < fit.llf


def test_structures_that_are_refused(sleep):
    def ask(**options: object) -> None:
        mg.lmm(FORMULA, sleep, residual="expo(Days|Subject)", **options)

    with pytest.raises(FormulaError, match=r"'expo\(Days\|Subject\)' is no residual structure; known are us\(\)"):
        ask()
    with pytest.raises(ArgumentError, match="'spare' stands in no term"):
        ask(structures={"expo": EXPO, "spare": EXPO})
    with pytest.raises(ArgumentError, match="not a CorrelationFunction"):
        ask(structures={"expo": decay})
    with pytest.raises(ArgumentError, match="'ar1' cannot be the name"):
        ask(structures={"ar1": EXPO})
    with pytest.raises(ArgumentError, match="low < start < high"):
        mg.CorrelationFunction(decay, {"range": (1.0, 0.5, 2.0)})
    with pytest.raises(ArgumentError, match="needs a parameter"):
        mg.CorrelationFunction(decay, {})
    with pytest.raises(ArgumentError, match="a correlation function is wanted"):
        mg.CorrelationFunction(3, {"range": (0.0, 0.5, 2.0)})  # type: ignore[arg-type]
    for function, message in (
        (lambda p, t: np.eye(3), r"shape \(3, 3\)"),
        (lambda p, t: np.full((10, 10), np.nan), "missing or infinite"),
        (lambda p, t: 2.0 * np.eye(10), "ones on its diagonal"),
        (lambda p, t: np.eye(10) - 0.9 * (1 - np.eye(10)), "not positive semi-definite"),
    ):
        with pytest.raises(ArgumentError, match=message):
            ask(structures={"expo": mg.CorrelationFunction(function, {"range": (0.01, 2.0, 100.0)})})


def test_as_a_factor_of_a_product_it_keeps_its_bounds_and_start(sleep):
    data = sleep.assign(half=(sleep["Days"] >= 5).astype(int), day=sleep["Days"] % 5)
    own = {"residual": "expo(day|Subject):ar1(half|Subject)", "structures": {"expo": EXPO}}
    structure = mg.MixedModel(FORMULA, data, **own).design.residual.structure
    at = structure.names(("",)).index("[range,day]")
    assert (at, 0.01, 100.0) in structure.free
    assert structure.start(np.eye(1))[at] == 2.0
