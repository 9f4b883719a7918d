"""ANOVA and MINQUE: published answers, the formulas with V written out, and what ties them to REML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import mixedgen as mg
from mixedgen.design.arguments import ModelArguments
from mixedgen.design.build import build
from mixedgen.design.design import Design
from mixedgen.errors import ArgumentError, DesignError, EngineError, NotAvailableError
from mixedgen.estimation.anova import anova
from mixedgen.estimation.minque import minque, mivque0

# Both sides are exact in double precision; the equations of small designs lose some four digits.
RELATIVE = 1e-8
# REML stops at a gradient of a thousandth of a standard error or less; AI then leaves far less.
OPTIMUM = 1e-5
EXPECTED = 1e-6  # the tolerance of the computed answers
SEEDS = range(12)
MOMENTS = {"minque": minque, "mivque0": mivque0, "anova3": anova}


def hemmerle_hartley() -> pd.DataFrame:
    """Hemmerle & Hartley (1973) Technometrics 15:819-831, the example of PROC VARCOMP in the SAS/STAT manual."""
    cells = {
        ("1", "1"): [237, 254, 246],
        ("1", "2"): [178, 179],
        ("2", "1"): [208, 178, 187],
        ("2", "2"): [146, 145, 141],
        ("3", "1"): [186, 183],
        ("3", "2"): [142, 125, 136],
    }
    return pd.DataFrame([(a, b, y) for (a, b), values in cells.items() for y in values], columns=["a", "b", "y"])


def random_design(seed: int) -> Design:
    """Crossed and nested terms, a covariate, K with levels that have no records, and weights, some of them."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(25, 50))
    frame = pd.DataFrame(
        {
            "y": rng.normal(5.0, 2.0, n),
            "x": rng.normal(size=n),
            "f": rng.choice(list("pq"), n),
            "a": rng.integers(0, 4, n),
            "b": rng.integers(0, 5, n),
            "s": [f"s{i}" for i in rng.integers(0, 6, n)],
            "w": rng.uniform(0.3, 3.0, n),
        }
    )
    G = rng.normal(size=(8, 12))
    K = mg.Relationship.from_matrix(G @ G.T / 12, ids=[f"s{i}" for i in range(8)])
    formula = [
        "y ~ f + x + (1|b) + (1|a)",
        "y ~ 1 + (1|a) + (1|a:b)",
        "y ~ f + (1|s:K) + (1|b)",
        "y ~ 1 + (0 + x|b) + (1|s:K)",
    ][seed % 4]
    relationships = {"K": K} if ":K" in formula else None
    return build(ModelArguments(formula, frame, relationships=relationships, weights="w" if seed % 3 else None))


def written_out(design: Design) -> tuple[np.ndarray, list[np.ndarray]]:
    """X, and dV/dtheta of each term and of the residual."""
    Z = [t.Z.toarray() for t in design.terms]
    V = [z @ t.multiply_relationship(z.T.copy()) for z, t in zip(Z, design.terms, strict=True)]
    w = design.residual.inverse_weights
    return sp.csr_array(design.fixed.X).toarray(), [*V, np.diag(np.ones(design.n) if w is None else w)]


def projector(A: np.ndarray) -> np.ndarray:
    return A @ np.linalg.pinv(A)


# Published and independently computed answers


def test_hemmerle_hartley_type_one() -> None:
    design = build(ModelArguments("y ~ a + (1|b) + (1|a:b)", hemmerle_hartley()))
    estimates = anova(design)
    theta = dict(zip([*(t.key for t in design.terms), "residual"], estimates.theta, strict=True))
    # SAS/STAT manual, PROC VARCOMP, method=type1; Var(b) is printed there as 1448.4
    assert theta["b"] == pytest.approx(1448.4, abs=0.05)
    assert theta["a:b"] == pytest.approx(27.42659, rel=1e-6)
    assert theta["residual"] == pytest.approx(78.63333, rel=1e-6)
    assert estimates.names == ("b", "a:b", "residual")
    freedom = estimates.coefficients[:, -1]
    np.testing.assert_array_equal(freedom, [1.0, 2.0, 10.0])
    np.testing.assert_allclose(estimates.quadratics / freedom, [11448.0, 149.520513, 78.633333], rtol=2e-5)
    means = pd.DataFrame(estimates.coefficients[:, :-1] / freedom[:, None], columns=[t.key for t in design.terms])
    np.testing.assert_allclose(means["a:b"], [2.6308, 2.5846, 0.0], atol=5e-5)
    np.testing.assert_allclose(means["b"], [7.8, 0.0, 0.0], atol=1e-10)


def test_hemmerle_hartley_mivque0_keeps_a_negative_estimate() -> None:
    design = build(ModelArguments("y ~ a + (1|b) + (1|a:b)", hemmerle_hartley()))
    assert [t.key for t in design.terms] == ["a:b", "b"]
    # by an independent program with V written out
    expected = [-35.49170274170032, 1466.123015873014, 105.73659673659652]
    np.testing.assert_allclose(mivque0(design).theta, expected, rtol=EXPECTED)


def test_mrode_sires_by_method_three() -> None:
    # Mrode & Pocrnic (2023), 4th ed., example 17.1: S, R, then the variances of sires and residuals
    frame = pd.DataFrame({"sire": ["2", "1", "3", "2"], "y": [2.9, 4.0, 3.5, 3.5]})
    estimates = anova(build(ModelArguments("y ~ 1 + (1|sire)", frame)))
    np.testing.assert_allclose(estimates.quadratics, [0.4275, 0.18], rtol=EXPECTED)
    np.testing.assert_allclose(estimates.theta, [0.027, 0.18], rtol=EXPECTED)


@pytest.mark.parametrize("method", sorted(MOMENTS))
@pytest.mark.parametrize(
    ("formula", "frame", "expected"),
    [
        # Davies & Goldsmith (1972); balanced, so that all methods agree, computed by an independent program
        ("Yield ~ 1 + (1|Batch)", mg.data.dyestuff, [1764.05, 2451.25]),
        (
            "diameter ~ 1 + (1|plate) + (1|sample)",
            mg.data.penicillin,
            [0.7169082125603842, 3.730917874396115, 0.3024154589372173],
        ),
    ],
)
def test_classic_balanced_data(
    method: str, formula: str, frame: Callable[[], pd.DataFrame], expected: list[float]
) -> None:
    np.testing.assert_allclose(MOMENTS[method](build(ModelArguments(formula, frame()))).theta, expected, rtol=1e-7)


@pytest.mark.parametrize("method", sorted(MOMENTS))
def test_white_pine(method: str, data_folder: Path) -> None:
    # Hanover & Barnes' white pine, agridat::hanover.whitepine; balanced, computed by an independent program
    frame = pd.read_csv(data_folder / "agridat" / "hanover.whitepine.csv")
    design = build(ModelArguments("length ~ 1 + (1|rep) + (1|male) + (1|female) + (1|male:female)", frame))
    expected = {
        "rep": 0.014530268959435447,
        "male": 0.12036063988095312,
        "female": 0.020944717261905187,
        "male:female": 0.13685049878747652,
    }
    theta = MOMENTS[method](design).theta
    np.testing.assert_allclose(theta[:-1], [expected[t.key] for t in design.terms], rtol=1e-7)
    assert theta[-1] == pytest.approx(0.20042508818342203, rel=1e-7)


# The formulas with V written out


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("prior", ["ones", "zeros", "random", "one zero"])
def test_minque_is_its_formula(seed: int, prior: str) -> None:
    design = random_design(seed)
    rng = np.random.default_rng(seed)
    values = {"ones": np.ones(3), "zeros": np.array([0.0, 0.0, 1.0]), "random": rng.uniform(0.2, 4.0, 3)}
    theta0 = values.get(prior, np.array([0.7, 0.0, 2.0]))
    X, dV = written_out(design)
    Vi = np.linalg.inv(sum(t * v for t, v in zip(theta0, dV, strict=True)))
    P = Vi - Vi @ X @ np.linalg.inv(X.T @ Vi @ X) @ X.T @ Vi
    S = np.array([[np.trace(P @ a @ P @ b) for b in dV] for a in dV])
    q = np.array([design.y @ P @ a @ P @ design.y for a in dV])
    estimates = minque(design, theta0)
    np.testing.assert_allclose(estimates.coefficients, S, rtol=RELATIVE)
    np.testing.assert_allclose(estimates.quadratics, q, rtol=RELATIVE)
    solved = np.linalg.solve(S, q)
    np.testing.assert_allclose(estimates.theta, solved, rtol=RELATIVE, atol=RELATIVE * np.abs(solved).max())


@pytest.mark.parametrize("seed", SEEDS)
def test_anova_is_its_formula(seed: int) -> None:
    design = random_design(seed)
    X, dV = written_out(design)
    root = np.diag(1.0 / np.sqrt(np.diag(dV[-1])))
    estimates = anova(design)
    space = root @ X
    M = projector(space)
    for i, name in enumerate(estimates.names):
        before = M
        if name == "residual":
            M = np.eye(design.n)
        else:
            space = np.hstack([space, root @ design.terms[design.term(name)].Z.toarray()])
            M = projector(space)
        A = root @ (M - before) @ root
        scale = np.abs(estimates.coefficients).max()
        assert estimates.quadratics[i] == pytest.approx(design.y @ A @ design.y, rel=RELATIVE)
        expected = [np.trace(A @ v) for v in dV]
        np.testing.assert_allclose(estimates.coefficients[i], expected, rtol=RELATIVE, atol=RELATIVE * scale)
    np.testing.assert_allclose(estimates.coefficients @ estimates.theta, estimates.quadratics, rtol=RELATIVE)


def test_many_levels_and_records_are_taken_in_blocks() -> None:
    rng = np.random.default_rng(3)
    n = 9000
    frame = pd.DataFrame({"g": rng.integers(0, 300, n), "y": rng.normal(size=n)})
    frame["y"] += rng.normal(size=300)[frame["g"]]
    design = build(ModelArguments("y ~ 1 + (1|g)", frame))
    counts = frame["g"].value_counts().to_numpy()
    groups = frame.groupby("g")["y"]
    within = float(((frame["y"] - groups.transform("mean")) ** 2).sum()) / (n - 300)
    between = float(((frame["y"] - frame["y"].mean()) ** 2).sum()) - within * (n - 300)
    # Searle, Casella & McCulloch (1992), chapter 3: the one-way classification
    sigma = (between - 299 * within) / (n - (counts**2).sum() / n)
    np.testing.assert_allclose(anova(design).theta, [sigma, within], rtol=RELATIVE)
    # tr(P Z Z' P Z Z') = sum n_i^2 - 2 sum n_i^3 / n + (sum n_i^2 / n)^2 for least squares
    squares = (counts**2).sum()
    expected = squares - 2 * (counts.astype(float) ** 3).sum() / n + (squares / n) ** 2
    assert mivque0(design).coefficients[0, 0] == pytest.approx(expected, rel=RELATIVE)


# Laws


def test_balanced_anova_is_reml_where_all_estimates_are_positive() -> None:
    formula = "strength ~ 1 + (1|batch) + (1|batch:cask)"
    design = build(ModelArguments(formula, mg.data.pastes()))
    fit = mg.lmm(formula, mg.data.pastes())
    np.testing.assert_allclose(anova(design).theta, fit.theta.to_numpy(), rtol=OPTIMUM)


def test_a_negative_estimate_stays() -> None:
    # Box & Tiao (1973) Bayesian Inference in Statistical Analysis, chapter 5: mean squares 41.6816 / 5, 358.7014 / 24
    for method in MOMENTS.values():
        theta = method(build(ModelArguments("Yield ~ 1 + (1|Batch)", mg.data.dyestuff2()))).theta
        np.testing.assert_allclose(theta, [(41.6816 / 5 - 358.7014 / 24) / 5, 358.7014 / 24], rtol=1e-5)


def test_minque_iterated_arrives_at_reml() -> None:
    design = build(ModelArguments("y ~ a + (1|b) + (1|a:b)", hemmerle_hartley()))
    theta = np.ones(3)
    for _ in range(30):
        theta = minque(design, theta).theta
    fit = mg.lmm("y ~ a + (1|b) + (1|a:b)", hemmerle_hartley())
    np.testing.assert_allclose(theta, fit.theta.to_numpy(), rtol=OPTIMUM)


@pytest.mark.parametrize("method", sorted(MOMENTS))
def test_without_fixed_effects_or_without_random_terms(method: str) -> None:
    frame = mg.data.dyestuff()
    y = frame["Yield"].to_numpy()
    within = 2451.25
    # five records of each of six batches: E(5 sum of squared means / 6) = 5 theta + within
    between = (5 * np.sum(y.reshape(6, 5).mean(axis=1) ** 2) / 6 - within) / 5
    theta = MOMENTS[method](build(ModelArguments("Yield ~ 0 + (1|Batch)", frame))).theta
    np.testing.assert_allclose(theta, [between, within], rtol=1e-7)
    theta = MOMENTS[method](build(ModelArguments("Yield ~ 1", frame))).theta
    np.testing.assert_allclose(theta, [np.var(y, ddof=1)], rtol=1e-7)


def test_only_the_ratios_of_the_prior_matter() -> None:
    design = random_design(2)
    prior = np.array([0.5, 2.0, 1.5])
    np.testing.assert_allclose(minque(design, 100 * prior).theta, minque(design, prior).theta, rtol=RELATIVE)


def test_the_order_of_the_formula_decides() -> None:
    frame = mg.data.penicillin().iloc[5:90]
    first = anova(build(ModelArguments("diameter ~ 1 + (1|plate) + (1|sample)", frame)))
    second = anova(build(ModelArguments("diameter ~ 1 + (1|sample) + (1|plate)", frame)))
    assert first.names == ("plate", "sample", "residual")
    assert second.names == ("sample", "plate", "residual")
    assert first.theta[-1] == pytest.approx(second.theta[-1], rel=RELATIVE)
    assert abs(first.theta[0] - second.theta[0]) > 1e-6


@pytest.mark.parametrize("method", sorted(MOMENTS))
@pytest.mark.parametrize("seed", range(4))
def test_units_and_order_of_records(method: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"a": rng.integers(0, 4, 40), "b": rng.integers(0, 5, 40), "y": rng.normal(size=40)})
    formula = "y ~ 1 + (1|a) + (1|b)"
    theta = MOMENTS[method](build(ModelArguments(formula, frame))).theta
    other = frame.assign(y=1000.0 + 3.0 * frame["y"]).sample(frac=1.0, random_state=seed)
    np.testing.assert_allclose(MOMENTS[method](build(ModelArguments(formula, other))).theta, 9.0 * theta, rtol=1e-7)


# Refusals


@pytest.mark.parametrize("method", sorted(MOMENTS))
def test_several_coefficients_or_residual_variances(method: str, sleepstudy: pd.DataFrame) -> None:
    with pytest.raises(NotAvailableError, match="Subject"):
        MOMENTS[method](build(ModelArguments("Reaction ~ Days + (Days|Subject)", sleepstudy)))
    frame = sleepstudy.assign(half=np.where(sleepstudy["Days"] < 5, "early", "late"))
    with pytest.raises(NotAvailableError, match="one residual variance"):
        MOMENTS[method](build(ModelArguments("Reaction ~ Days + (1|Subject)", frame, residual="diag(half)")))


@pytest.mark.parametrize("prior", [[1.0], [1.0, 0.0], [-1.0, 1.0], [np.nan, 1.0], ["one", 1.0]])
def test_a_wrong_prior(prior: list[float]) -> None:
    with pytest.raises(ArgumentError, match="prior"):
        minque(build(ModelArguments("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())), prior)


@pytest.mark.parametrize("method", sorted(MOMENTS))
def test_variances_that_cannot_be_told_apart(method: str) -> None:
    frame = mg.data.dyestuff().assign(twin=lambda d: d["Batch"].astype(str), own=np.arange(30))
    for formula in ("Yield ~ Batch + (1|twin)", "Yield ~ 1 + (1|Batch) + (1|twin)", "Yield ~ 1 + (1|own)"):
        with pytest.raises(DesignError, match="twin|residual"):
            MOMENTS[method](build(ModelArguments(formula, frame)))


def test_anova_refuses_a_large_stack() -> None:
    frame = pd.DataFrame({"g": np.arange(9000) // 2, "y": np.random.default_rng(0).normal(size=9000)})
    with pytest.raises(EngineError, match="4,501 columns"):
        anova(build(ModelArguments("y ~ 1 + (1|g)", frame)))


# Through the public face


def test_methods_of_moments_through_lmm() -> None:
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff(), method="anova3")
    assert fit.varcomp["vcov"].tolist() == pytest.approx([1764.05, 2451.25], rel=1e-12)
    assert fit.varcomp["se"].isna().all()
    assert fit.params["Intercept"] == pytest.approx(1527.5, rel=1e-12)
    assert "anova3" in str(fit.summary()) and "anova3" in repr(fit)
    for name in ("llf", "aic", "df", "pvalues"):
        with pytest.raises(mg.NotAvailableError):
            getattr(fit, name)


def test_a_negative_variance_has_no_predictions() -> None:
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff2(), method="minque")
    assert fit.theta["Batch"] < 0
    assert "negative" in str(fit.summary())
    for ask in (lambda: fit.params, lambda: fit.blup("Batch"), lambda: fit.fittedvalues):
        with pytest.raises(mg.NotAvailableError, match="'Batch' are negative"):
            ask()
    with pytest.raises(mg.ArgumentError, match="known ones"):
        model = mg.MixedModel("Yield ~ 1 + (1|Batch)", mg.data.dyestuff2(), method="minque")
        model.solve({"Batch": 1.0, "residual": 1.0})


def test_a_method_refuses_options_that_it_does_not_have() -> None:
    with pytest.raises(ArgumentError, match="minque.*'tol'"):
        mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff(), method="minque", control=mg.Control(tol=1e-8))
    with pytest.raises(ArgumentError, match="REML.*'draws'"):
        mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff(), control=mg.Control(options={"draws": 10}))
