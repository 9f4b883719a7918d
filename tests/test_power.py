"""Power by simulation against the noncentral F distribution."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f, ncf

import mixedgen as mg
from mixedgen.errors import ArgumentError, NotAvailableError

GROUPS, EACH = 12, 4


@pytest.fixture(scope="module")
def fit() -> mg.Fit:
    """Two treatments of groups, balanced; the variance of the groups is far from zero, so that F is exact."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(GROUPS), EACH)
    t = np.where(g % 2, "b", "a")
    part = np.arange(GROUPS * EACH) % 2
    y = 10.0 + (t == "b") + 2.0 * rng.standard_normal(GROUPS)[g] + rng.standard_normal(GROUPS * EACH)
    return mg.lmm("y ~ t + (1|g)", pd.DataFrame({"g": g, "t": t, "y": y, "h": 10 * g + part}))


def exact(fit: mg.Fit, effect: float, groups: int, alpha: float = 0.05) -> float:
    """Power of the F test between the groups."""
    between = fit.theta["g"] + fit.theta["residual"] / EACH
    noncentrality = effect**2 * groups / (4.0 * between)
    if noncentrality == 0:  # where scipy's ncf is wrong
        return alpha
    return float(ncf.sf(f.isf(alpha, 1, groups - 2), 1, groups - 2, noncentrality))


def test_power_is_that_of_the_noncentral_f(fit):
    table = fit.power("t", coefficients={"t[T.b]": [0.0, 3.0]}, levels={"g": [12, 24]}, n=200, seed=1)
    assert list(table.columns) == ["t[T.b]", "g", "power", "lower", "upper", "n", "failed"]
    want = [exact(fit, effect, groups) for effect, groups in zip(table["t[T.b]"], table["g"], strict=True)]
    error = np.sqrt(np.array(want) * (1.0 - np.array(want)) / 200)
    assert (np.abs(table["power"] - want) < 3.0 * error).all()
    assert (table["lower"] < table["power"]).all()
    assert (table["n"] + table["failed"] == 200).all()


def test_the_estimates_are_the_truth_by_default(fit):
    one = fit.power("t", n=60, seed=2)
    other = fit.power("t", coefficients={"t[T.b]": fit.params["t[T.b]"]}, n=60, seed=2)
    assert one.at[0, "power"] == other.at[0, "power"]
    by_t = fit.power("t[T.b]", n=60, seed=2)
    assert by_t.at[0, "power"] == one.at[0, "power"]
    assert fit.power("t", n=60, seed=2, alpha=0.5).at[0, "power"] > one.at[0, "power"]


def test_fewer_levels_are_the_first(fit):
    table = fit.power("t", levels={"g": 8}, n=20, seed=1)
    assert table.at[0, "g"] == 8


def test_nested_levels_are_repeated_with_their_own(fit):
    from mixedgen.inference.power import resized

    nested = fit.update(". ~ . + (1|h)")
    truth, mean = resized(nested.fitted, nested.arguments, "g", 24)
    assert {t.key: t.q for t in truth.design.terms} == {"h": 48, "g": 24}
    np.testing.assert_allclose(mean[: GROUPS * EACH], mean[GROUPS * EACH :], rtol=1e-12)


def test_power_refuses(fit):
    with pytest.raises(ArgumentError, match="'u' to test; there are 't'"):
        fit.power("u")
    with pytest.raises(ArgumentError, match=r"'t\[T.c\]'"):
        fit.power("t", coefficients={"t[T.c]": 1.0})
    with pytest.raises(ArgumentError, match="grouping column 'k'"):
        fit.power("t", levels={"k": 3})
    with pytest.raises(ArgumentError, match="whole number"):
        fit.power("t", levels={"g": 2.5})
    with pytest.raises(NotAvailableError, match="data of this fit"):
        fit.refit(fit.fittedvalues + 0.1 * np.arange(48) ** 0.5).power("t", levels={"g": 3})
