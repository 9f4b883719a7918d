"""Options that few take, against textbook algebra or the same model in another form."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, chi2

import mixedgen as mg
from mixedgen.inference.containment import containment_df
from mixedgen.inference.power import summary
from mixedgen.intervals.constrained import Bounded

ROUNDING = 1e-9  # the same algebra in another order, on some ten equations
OPTIMA = 1e-6  # two optima of one likelihood


# Marginal means


def factorial() -> pd.DataFrame:
    """Three factors with unequal frequencies, every cell filled, in eight groups."""
    rng = np.random.default_rng(21)
    n = 96
    data = pd.DataFrame({"a": np.tile(["p", "q"], n // 2), "g": np.arange(n) // 12})
    data["b"] = np.array(list("uuuuvvw"))[np.arange(n) % 7]
    data["c"] = np.array(list("rrrss"))[np.arange(n) % 5]
    data["y"] = rng.normal(size=n) + rng.normal(size=8)[data["g"]] + (data["b"] == "v") * (data["c"] == "s")
    return data


def test_outer_weights_are_products_of_marginal_frequencies() -> None:
    data = factorial()
    fit = mg.lmm("y ~ a * b * c + (1|g)", data)
    cells = mg.emmeans(fit, ["a", "b", "c"])
    weight = cells["b"].map(data["b"].value_counts()) * cells["c"].map(data["c"].value_counts())
    want = (cells["emmean"] * weight).groupby(cells["a"]).sum() / weight.groupby(cells["a"]).sum()
    means = mg.emmeans(fit, "a", weights="outer")
    np.testing.assert_allclose(means["emmean"], want.loc[list(means["a"])], rtol=ROUNDING)
    plain = (cells["emmean"]).groupby(cells["a"]).mean()
    assert np.abs(plain - want).min() > 0.01  # weights matter here


def test_unknown_parent_groups_are_at_their_mean_in_marginal_means() -> None:
    parents = {"sire": ["G1", "G1", "G1", "1", "3", "1", "4", "3"], "dam": ["G2", "G2", "G2", "G2", "2", "2", "5", "6"]}
    pedigree = pd.DataFrame({"id": [str(k) for k in range(1, 9)], **parents})
    calves = mg.data.mrode_calves().astype({"calf": str})
    A = mg.additive(mg.Pedigree(pedigree, groups=["G1", "G2"]))
    model = mg.MixedModel("wwg ~ 0 + sex + (1|calf:A)", calves, relationships={"A": A})
    fit = model.solve({"calf:A": 20.0, "residual": 40.0})
    share = np.asarray(A.Q.todense() if hasattr(A.Q, "todense") else A.Q)[:, 0]
    of_records = share[A.labels.get_indexer(calves["calf"])]
    means = mg.emmeans(fit, "sex", ddf="z").set_index("sex")
    for sex in means.index:
        want = fit.params[f"sex[{sex}]"] + of_records.mean() * fit.params["calf:A:G1"]
        assert means.loc[sex, "emmean"] == pytest.approx(want, rel=ROUNDING)


# Expectation-maximisation


@pytest.mark.parametrize("steps", [1, 3])
def test_em_steps_of_equated_variances_are_those_of_one_variance(steps: int) -> None:
    """A step divides by the number of effects that share a variance, however the model is written."""
    data = mg.data.sleepstudy()
    data["third"] = np.array(list("abc"))[data["Days"] % 3]
    names = [f"Subject[third[{k}],third[{k}]]" for k in "abc"]
    start = {"Subject": 500.0 * np.eye(3), "residual": 900.0}
    fits = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mg.ConvergenceWarning)  # the loop is stopped early
        for options, equate in (("", [names]), (", hom=True", [])):
            control = mg.Control(optimiser="em", max_iter=steps, start=start, equate=equate)
            fits.append(mg.lmm(f"Reaction ~ Days + diag(0 + third|Subject{options})", data, control=control))
    one, two = fits
    assert one.theta.iloc[0] != pytest.approx(500.0, rel=1e-3)
    np.testing.assert_allclose(one.theta.iloc[[0, -1]], two.theta.iloc[[0, -1]], rtol=ROUNDING)


# Residuals by section


@pytest.mark.parametrize("engine", ["henderson", "dense"])
def test_classes_within_sections_are_crossed_classes(engine: str) -> None:
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"g": np.arange(120) // 6, "trial": np.tile(["s", "t"], 60), "k": np.tile(list("aabbcc"), 20)})
    data["both"] = data["trial"] + data["k"]
    size = data["both"].map(dict(zip(sorted(set(data["both"])), [0.5, 1.0, 1.5, 2.0, 0.8, 1.2], strict=True)))
    data["y"] = rng.normal(size=20)[data["g"]] + size * rng.normal(size=120)
    control = mg.Control(engine=engine)
    sections = mg.lmm("y ~ trial + (1|g)", data, residual="at(trial):diag(k)", control=control)
    crossed = mg.lmm("y ~ trial + (1|g)", data, residual="diag(both)", control=control)
    assert sections.llf == pytest.approx(crossed.llf, abs=1e-8)
    np.testing.assert_allclose(np.sort(sections.theta), np.sort(crossed.theta), rtol=OPTIMA)
    np.testing.assert_allclose(np.sort(sections.varcomp["se"]), np.sort(crossed.varcomp["se"]), rtol=1e-5)


# Containment


def test_a_term_that_adds_no_rank_gives_no_degrees_of_freedom() -> None:
    """SAS takes the smallest contribution to the rank of [X Z] that is not zero; a block is in X already."""
    data = pd.DataFrame({"block": np.arange(24) // 8, "g": np.arange(24) // 4, "x": np.sin(np.arange(24.0))})
    data["y"] = np.cos(3.0 * np.arange(24.0))
    data["block"] = data["block"].astype(str)
    design = mg.MixedModel("y ~ block + x + (1|block) + (1|g)", data).design
    # [X Z]: intercept, two blocks, x, three more groups; x and the blocks are in no group's variables
    assert containment_df(design).tolist() == [3.0, 24.0 - 7.0, 24.0 - 7.0, 24.0 - 7.0]


# Reliability


def test_reliability_of_inbred_animals_is_beside_their_own_variance() -> None:
    """1 - PEV / ((1 + F) sigma_a^2), PEV from the inverse of Henderson's equations."""
    pedigree = pd.DataFrame({"id": range(1, 8), "sire": [0, 0, 1, 1, 3, 5, 5], "dam": [0, 0, 2, 2, 4, 4, 6]})
    A = mg.additive(mg.Pedigree(pedigree))
    records = pd.DataFrame({"animal": [3, 4, 5, 6, 7, 7], "y": [1.0, 3.0, 2.0, 5.0, 4.0, 4.5]})
    fit = mg.MixedModel("y ~ 1 + (1|animal:A)", records, relationships={"A": A}).solve(
        {"animal:A": 2.0, "residual": 3.0}
    )
    K = A.multiply(np.eye(7))
    assert K[4, 4] == 1.25  # of full sibs
    Z = np.eye(7)[records["animal"] - 1]
    W = np.column_stack([np.ones(6), Z])
    C = W.T @ W / 3.0
    C[1:, 1:] += np.linalg.inv(K) / 2.0
    pev = np.diag(np.linalg.inv(C))[1:]
    blup = fit.blup("animal:A").set_index("level").loc[A.labels]
    np.testing.assert_allclose(blup["pev"], pev, rtol=ROUNDING)
    # a difference from one, and zero for the animals whose records tell nothing of them
    np.testing.assert_allclose(blup["reliability"], 1.0 - pev / (2.0 * np.diag(K)), rtol=0, atol=ROUNDING)


def test_marker_effects_of_curves_have_the_precision_of_ridge_regression() -> None:
    """Intercepts and slopes of markers, correlated: v_hat = G W'P y, Var(v_hat) = G W'P W G with G = Sigma (x) I."""
    rng = np.random.default_rng(4)
    genotypes = mg.Genotypes(rng.integers(0, 3, (9, 4)), ids=np.arange(9), markers=list("abcd"))
    M = mg.markers(genotypes)
    data = pd.DataFrame({"animal": np.repeat(np.arange(9), 3), "x": np.tile([-1.0, 0.0, 2.0], 9)})
    data["y"] = rng.normal(size=27)
    Sigma = np.array([[1.5, 0.6], [0.6, 0.8]])
    model = mg.MixedModel("y ~ x + (x|animal:M)", data, relationships={"M": M})
    blup = model.solve({"animal:M": Sigma, "residual": 0.7}).blup("animal:M")
    own = np.asarray(M.loadings)[data["animal"]]
    W = np.hstack([own, own * data[["x"]].to_numpy()])
    G = np.kron(Sigma, np.eye(4))
    V = W @ G @ W.T + 0.7 * np.eye(27)
    X = np.column_stack([np.ones(27), data["x"]])
    Vi = np.linalg.inv(V)
    P = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)
    explained = np.diag(G @ W.T @ P @ W @ G).reshape(2, 4).T.ravel()
    prior = np.tile(np.diag(Sigma), 4)
    np.testing.assert_allclose(blup["value"], (G @ W.T @ P @ data["y"]).reshape(2, 4).T.ravel(), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(blup["pev"], prior - explained, rtol=1e-8)
    np.testing.assert_allclose(blup["reliability"], explained / prior, rtol=1e-7, atol=1e-10)


# Power


def test_data_sets_without_a_fit_are_no_tests() -> None:
    """Three of four tests reject; the ends are Clopper and Pearson's beta quantiles."""
    row = summary(np.array([0.01, np.nan, 0.2, 0.03, 0.001, np.nan]), 0.05)
    assert (row["n"], row["failed"], row["power"]) == (4, 2, 0.75)
    assert row["lower"] == pytest.approx(beta.ppf(0.025, 3, 2), rel=1e-6)
    assert row["upper"] == pytest.approx(beta.ppf(0.975, 4, 1), rel=1e-6)


# Intervals


@pytest.mark.parametrize("x", [-3.0, -0.2, 0.0, 1.5])
@pytest.mark.parametrize(("low", "high"), [(-0.5, 1.0), (-1.0, 1.0), (-np.inf, np.inf), (0.0, 40.0)])
def test_slope_of_a_bounded_coordinate(low: float, high: float, x: float) -> None:
    curve = Bounded(parameter=1, low=low, high=high, fixed=False)

    def at(x: float) -> float:
        theta = np.zeros(2)
        curve.move(theta, np.array([x]), np.nan)
        return float(theta[1])

    h = 1e-5
    slope = (at(x + h) - at(x - h)) / (2.0 * h)
    assert curve.jacobian(np.array([x]), np.nan).item() == pytest.approx(slope, rel=1e-8)
    assert curve.start(np.array([0.0, at(x)])).item() == pytest.approx(x, rel=1e-8, abs=1e-12)


def test_profile_of_least_squares() -> None:
    """The deviance grows by n log(1 + (v - b)^2 / (n Var b)), Var b with the ML variance: ends in closed form."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"x": rng.normal(size=15), "w": rng.normal(size=15), "y": rng.normal(size=15)})
    fit = mg.lmm("y ~ x + w", data)
    X = np.column_stack([np.ones(15), data[["x", "w"]]])
    b, (rss,), *_ = np.linalg.lstsq(X, data["y"], rcond=None)
    variance = rss / 15 * np.diag(np.linalg.inv(X.T @ X))
    half = np.sqrt(15 * np.expm1(chi2.ppf(0.95, 1) / 15) * variance)
    table = fit.confint(["Intercept", "x", "w"])
    np.testing.assert_allclose(table["lower"], b - half, rtol=1e-6)
    np.testing.assert_allclose(table["upper"], b + half, rtol=1e-6)


# Joint covariance


def test_joint_covariance_holds_the_covariances_of_estimates_and_predictions() -> None:
    """Cov(b_hat, u_hat - u), all blocks, of two correlated effects with a relationship: the inverse written out."""
    pedigree = pd.DataFrame({"id": range(1, 6), "sire": [0, 0, 1, 1, 3], "dam": [0, 0, 2, 2, 4]})
    A = mg.additive(mg.Pedigree(pedigree))
    data = pd.DataFrame({"animal": [1, 2, 3, 3, 4, 5, 5], "x": [0.0, 1.0, 2.0, -1.0, 0.5, 1.5, -0.5]})
    data["y"] = [1.0, 2.0, 0.0, 3.0, 2.5, 1.5, 4.0]
    Sigma = np.array([[2.0, 0.5], [0.5, 1.0]])
    K = A.multiply(np.eye(5))
    Z = np.eye(5)[data["animal"] - 1]
    W = np.column_stack([np.ones(7), data["x"], Z, Z * data[["x"]].to_numpy()])
    C = W.T @ W / 1.3
    C[2:, 2:] += np.kron(np.linalg.inv(Sigma), np.linalg.inv(K))
    want = np.linalg.inv(C)
    for engine in ("henderson", "dense"):
        control = mg.Control(engine=engine)
        model = mg.MixedModel("y ~ x + (x|animal:A)", data, relationships={"A": A}, control=control)
        got = model.solve({"animal:A": Sigma, "residual": 1.3}).vcov(full=True)
        assert list(got.index) == list(got.columns)
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)
