"""Products of residual structures: their matrix written out, other engines, R, published fits, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import mixedgen as mg
from mixedgen.covariance.registry import make_structure
from mixedgen.design.arguments import ModelArguments
from mixedgen.design.build import build
from mixedgen.design.design import Design
from mixedgen.engines import ENGINES, choose
from mixedgen.estimation.likelihood import average_information, deviance, score

REFERENCE = json.loads((Path(__file__).parent / "reference" / "trials.json").read_text())
# Exact methods in double precision, the condition number of R up to some 1e4.
EXACT = 1e-8
# Central differences with a step of 1e-5: truncation 1e-10, rounding 1e-11 / 1e-5, times the curvature.
DIFFERENCE = 1e-5
# nlminb stops when the criterion is known to 1e-15 of itself: parameters to the root of that, beside their curvature.
OPTIMISED, LIKELIHOOD = 2e-5, 1e-7
# gls stops at 1e-6 in the parameters.
GLS = 1e-5
CODES = dict[str, np.ndarray]


def field(rng: np.random.Generator, rows: int = 7, cols: int = 6, holes: float = 0.25) -> pd.DataFrame:
    """A field with plots missing at random, one row and a corner, its records in no order."""
    row, col = (a.ravel() for a in np.meshgrid(np.arange(1, rows + 1), np.arange(1, cols + 1), indexing="ij"))
    frame = pd.DataFrame({"row": row, "col": col})
    corner = (frame["row"] > rows - 2) & (frame["col"] > cols - 3)
    frame = frame[(frame["row"] != 3) & ~corner & (rng.random(len(frame)) > holes)]
    return frame.sample(frac=1, random_state=int(rng.integers(1000))).reset_index(drop=True)


def make_frame(seed: int, holes: float = 0.25) -> pd.DataFrame:
    """Two or three fields of different shapes, with genotypes, blocks, weights and a response."""
    rng = np.random.default_rng(seed)
    shapes = [(7, 6), (5, 8), (1, 4)][: 2 + seed % 2]
    frame = pd.concat([field(rng, *s, holes).assign(trial=f"t{k}") for k, s in enumerate(shapes)], ignore_index=True)
    n = len(frame)
    frame["x"] = rng.normal(size=n)
    frame["gen"] = rng.integers(0, 9, n)
    frame["block"] = frame["trial"] + (frame["row"] // 3).astype(str)
    frame["w"] = rng.uniform(0.5, 2.0, n)
    frame["plot"] = np.arange(n)
    frame["trait"] = rng.choice(["a", "b", "c"], n)
    frame["y"] = rng.normal(size=9)[frame["gen"]] + 0.3 * frame["row"] + rng.normal(size=n)
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


def ar1(rho: float, at: pd.Series) -> np.ndarray:
    return np.asarray(rho ** np.abs(np.subtract.outer(at.to_numpy(), at.to_numpy())), dtype=float)


def same(a: pd.Series) -> np.ndarray:
    return np.equal.outer(a.to_numpy(), a.to_numpy()).astype(float)


def of(matrix: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return matrix[np.ix_(codes, codes)]


@dataclass(frozen=True)
class Spec:
    """A residual, its names and parameters, and R written out from the frame."""

    text: str
    theta: dict[str, float]
    matrix: Callable[[pd.DataFrame, np.ndarray], np.ndarray]


VARIANCE, ROW, COL = "residual[variance]", "residual[rho,row]", "residual[rho,col]"
US = {"residual[a,a]": 2.0, "residual[a,b]": 0.5, "residual[b,b]": 1.0}
US |= {"residual[a,c]": -0.3, "residual[b,c]": 0.2, "residual[c,c]": 1.5}


def grid(d: pd.DataFrame, t: np.ndarray) -> np.ndarray:
    return t[0] * ar1(t[1], d["row"]) * ar1(t[2], d["col"])


def by_trial(d: pd.DataFrame, t: np.ndarray) -> np.ndarray:
    v = np.sqrt(t[: d["trial"].nunique()])[pd.factorize(d["trial"], sort=True)[0]]
    return np.outer(v, v) * same(d["trial"]) * ar1(t[-2], d["row"]) * ar1(t[-1], d["col"])


def unstructured(d: pd.DataFrame, t: np.ndarray) -> np.ndarray:
    trait = pd.factorize(d["trait"], sort=True)[0]
    return of(make_structure("us", 3, {}).matrix(t[:6]), trait) * ar1(t[6], d["row"]) * ar1(t[7], d["col"])


SECTION = [
    {"variance": 1.5, "rho,row": 0.5, "rho,col": 0.7},
    {"variance": 0.5, "rho,row": -0.2, "rho,col": 0.3},
]


def in_sections(d: pd.DataFrame, t: np.ndarray) -> np.ndarray:
    second = (d["trial"] == "t1").to_numpy()
    return np.where(np.outer(second, second), grid(d, t[3:]), grid(d, t[:3])) * same(d["trial"])


def own_variances(d: pd.DataFrame, t: np.ndarray) -> np.ndarray:
    sd = np.sqrt(t[:6])[pd.factorize(d["row"], sort=True)[0]]
    return np.outer(sd, sd) * ar1(t[6], d["row"]) * ar1(t[7], d["col"]) * same(d["trial"])


SPECS = {
    "one field": Spec("ar1(row):ar1(col)", {VARIANCE: 1.7, ROW: 0.6, COL: 0.8}, grid),
    "negative": Spec("ar1(row):ar1(col)", {VARIANCE: 1.7, ROW: -0.5, COL: 0.0}, grid),
    "units": Spec(
        "ar1(row|trial):ar1(col|trial)",
        {VARIANCE: 1.7, ROW: 0.6, COL: 0.8},
        lambda d, t: grid(d, t) * same(d["trial"]),
    ),
    "one unit written": Spec(
        "ar1(col):ar1(row|trial)",
        {VARIANCE: 0.7, COL: 0.6, ROW: 0.3},
        lambda d, t: t[0] * ar1(t[1], d["col"]) * ar1(t[2], d["row"]) * same(d["trial"]),
    ),
    "variances by trial": Spec(
        "diag(trial):ar1(row):ar1(col)",
        {"residual[t0,t0]": 0.8, "residual[t1,t1]": 2.5, "residual[t2,t2]": 1.0, ROW: 0.4, COL: 0.7},
        by_trial,
    ),
    "rows only": Spec(
        "ar1(row|trial):idv(col)",
        {VARIANCE: 1.2, ROW: 0.7},
        lambda d, t: t[0] * ar1(t[1], d["row"]) * same(d["col"]) * same(d["trial"]),
    ),
    "compound symmetry": Spec(
        "cs(col|trial, hom=True):ar1(row)",
        {VARIANCE: 1.2, COL: 0.3, ROW: 0.7},
        lambda d, t: t[0] * (t[1] + (1 - t[1]) * same(d["col"])) * ar1(t[2], d["row"]) * same(d["trial"]),
    ),
    "traits": Spec("us(trait):ar1(row):ar1(col)", {**US, ROW: 0.5, COL: 0.4}, unstructured),
    "sections": Spec(
        "at(trial):ar1(row):ar1(col)",
        {f"residual[t{k},{name}]": v for k in range(2) for name, v in SECTION[k].items()},
        in_sections,
    ),
    "own variances": Spec(
        "ar1(row|trial, hom=False):ar1(col)",
        {f"residual[{k},{k}]": 0.5 + 0.2 * k for k in (1, 2, 4, 5, 6, 7)} | {"residual[rho]": 0.6, COL: -0.4},
        own_variances,
    ),
}
FORMULAS = ("y ~ x + (1|gen)", "y ~ x + (1|gen) + (1|block)", "y ~ (1 + x|gen) + (1|plot)", "y ~ trial + x")


def make_case(kind: str, seed: int) -> tuple[Design, pd.DataFrame, Spec, np.ndarray]:
    """Design, its frame, and theta of R."""
    spec, frame = SPECS[kind], make_frame(seed)
    if kind in ("one field", "negative", "traits"):
        frame = frame[frame["trial"] == "t0"].reset_index(drop=True)
    elif kind == "sections":
        frame = frame[frame["trial"] != "t2"].reset_index(drop=True)
    formula = FORMULAS[seed % 3 if frame["trial"].nunique() == 1 else seed % 4]
    weighted = seed % 3 == 1
    design = build(ModelArguments(formula, frame, residual=spec.text, weights="w" if weighted else None))
    names = design.theta_names[design.slices[-1]]
    written = {k: v for k, v in spec.theta.items() if k != "residual[t2,t2]" or frame["trial"].nunique() == 3}
    assert names == tuple(written)
    return design, frame, spec, np.array(list(written.values()))


def full_matrix(frame: pd.DataFrame, spec: Spec, theta: np.ndarray, weighted: bool) -> np.ndarray:
    root = 1.0 / np.sqrt(frame["w"].to_numpy()) if weighted else np.ones(len(frame))
    return spec.matrix(frame, theta) * np.outer(root, root)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", SPECS)
def test_every_part_of_r_is_that_of_the_matrix_written_out(kind: str, seed: int) -> None:
    design, frame, spec, theta = make_case(kind, seed)
    residual, n, weighted = design.residual, design.n, seed % 3 == 1
    R = full_matrix(frame, spec, theta, weighted)
    inverse = np.linalg.inv(R)
    size = np.abs(inverse).max()
    np.testing.assert_allclose(residual.multiply(theta, np.eye(n)), R, atol=EXACT)
    np.testing.assert_allclose(residual.variances(theta), np.diag(R), rtol=EXACT)
    np.testing.assert_allclose(residual.solve(theta, np.eye(n)), inverse, atol=EXACT * size)
    np.testing.assert_allclose(residual.solve(theta, frame["y"].to_numpy()), inverse @ frame["y"], atol=EXACT * size)
    assert residual.logdet(theta) == pytest.approx(np.linalg.slogdet(R)[1], abs=EXACT * n)
    for k in range(len(theta)):
        step = 1e-5 * np.eye(len(theta))[k]
        up, down = (full_matrix(frame, spec, theta + s * step, weighted) for s in (1, -1))
        D = (up - down) / 2e-5
        np.testing.assert_allclose(residual.multiply_derivative(theta, k, np.eye(n)), D, atol=DIFFERENCE)
        assert residual.logdet_derivative(theta, k) == pytest.approx(np.sum(inverse * D), abs=DIFFERENCE * n)
        first, second = residual.pairs
        dense = np.zeros((n, n))
        np.add.at(dense, (first, second), residual.precision_derivative(theta, k))
        np.testing.assert_allclose(dense, -inverse @ D @ inverse, atol=DIFFERENCE * size**2)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", SPECS)
def test_henderson_equals_dense(kind: str, seed: int) -> None:
    design, _, _, theta_r = make_case(kind, seed)
    theta = start_of(design, theta_r)
    ours, reference = (choose(design, name).at(theta) for name in ("henderson", "dense"))
    for reml in (True, False):
        assert deviance(ours, reml) == pytest.approx(deviance(reference, reml), abs=EXACT * design.n)
        np.testing.assert_allclose(score(ours, reml), score(reference, reml), atol=EXACT * design.n)
    np.testing.assert_allclose(average_information(ours), average_information(reference), atol=EXACT * design.n)
    np.testing.assert_allclose(ours.solution.b, reference.solution.b, atol=EXACT)
    for k in range(len(design.terms)):
        np.testing.assert_allclose(ours.solution.u[k], reference.solution.u[k], atol=EXACT)
        np.testing.assert_allclose(ours.prediction_error(k), reference.prediction_error(k), atol=EXACT)
        np.testing.assert_allclose(ours.conditional_variance(k), reference.conditional_variance(k), atol=EXACT)


def start_of(design: Design, theta_r: np.ndarray) -> np.ndarray:
    """Theta with unit matrices for the terms."""
    theta = np.empty(design.slices[-1].stop)
    for t, s in zip(design.terms, design.slices, strict=False):
        theta[s] = t.structure.start(0.8 * np.eye(t.c))
    theta[design.slices[-1]] = theta_r
    return theta


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("engine", ENGINES)
def test_score_is_the_derivative_of_the_value(engine: str, kind: str) -> None:
    design, _, _, theta_r = make_case(kind, 4)
    theta, solver = start_of(design, theta_r), choose(design, engine)
    for reml in (True, False):
        s = score(solver.at(theta), reml)
        for i in range(len(theta)):
            step = 1e-5 * np.eye(len(theta))[i]
            up, down = (deviance(solver.at(theta + sign * step), reml) for sign in (1, -1))
            assert -0.5 * (up - down) / 2e-5 == pytest.approx(s[i], rel=DIFFERENCE, abs=DIFFERENCE * design.n)


def test_a_large_patch_without_plots() -> None:
    """An L-shaped field, many patches, and a patch that the sparse factor takes."""
    rng = np.random.default_rng(5)
    row, col = (a.ravel() for a in np.meshgrid(np.arange(45), np.arange(40), indexing="ij"))
    frame = pd.DataFrame({"row": row, "col": col, "y": rng.normal(size=len(row)), "g": rng.integers(0, 20, len(row))})
    frame = frame[~((frame["row"] > 12) & (frame["col"] > 9)) & (rng.random(len(frame)) > 0.1)].reset_index(drop=True)
    design = build(ModelArguments("y ~ 1 + (1|g)", frame, residual="ar1(row):ar1(col)"))
    theta = np.array([0.5, 1.5, 0.7, -0.4])
    ours, reference = (choose(design, name).at(theta) for name in ("henderson", "dense"))
    assert deviance(ours, True) == pytest.approx(deviance(reference, True), abs=EXACT * design.n)
    np.testing.assert_allclose(score(ours, True), score(reference, True), atol=EXACT * design.n)


# ------------------------------------------------------------------------------------------ R and published fits


def trial() -> pd.DataFrame:
    frame = pd.DataFrame(REFERENCE["trial"])
    return frame.assign(plot=np.arange(len(frame)))


TRIALS = {
    "product": ("yield ~ gen", "ar1(row):ar1(col)", [VARIANCE, ROW, COL]),
    "nugget": ("yield ~ gen + (1|plot)", "ar1(row):ar1(col)", [VARIANCE, ROW, COL, "plot"]),
    "rows": ("yield ~ gen", "ar1(row):idv(col)", [VARIANCE, ROW]),
    "genotypes": ("yield ~ 1 + (1|gen)", "ar1(row):ar1(col)", [VARIANCE, ROW, COL, "gen"]),
}


@pytest.mark.parametrize("kind", TRIALS)
@pytest.mark.parametrize("engine", ENGINES)
def test_fits_are_those_of_dense_algebra_in_r(kind: str, engine: str) -> None:
    formula, residual, names = TRIALS[kind]
    fit = mg.lmm(formula, trial(), residual=residual, control=mg.Control(engine=engine))
    expected = REFERENCE["fits"][kind]
    assert fit.converged
    assert fit.llf == pytest.approx(expected["llf"], abs=LIKELIHOOD)
    np.testing.assert_allclose(fit.theta[names], expected["theta"], rtol=OPTIMISED)
    if "se" in expected and len(fit.bse) > 1:
        np.testing.assert_allclose(fit.bse, expected["se"], rtol=OPTIMISED)


def test_the_product_of_two_equal_correlations_is_nlmes_manhattan_exponential() -> None:
    expected = REFERENCE["manhattan"]
    model = mg.MixedModel("yield ~ gen", trial(), residual="ar1(row):ar1(col)")
    fit = model.solve({VARIANCE: expected["variance"], ROW: expected["rho"], COL: expected["rho"]})
    assert fit.llf == pytest.approx(expected["llf"], abs=LIKELIHOOD)
    np.testing.assert_allclose(fit.bse, expected["se"], rtol=GLS)


def test_asreml_on_the_nebraska_trial() -> None:
    """Published with ASReml-R in the help page of agridat's stroup.nin, four digits; 18 of 242 plots have no yield."""
    fit = mg.lmm("yield ~ gen", trial(), residual="ar1(row):ar1(col)")
    table = fit.varcomp.set_index("var2")
    assert fit.nobs == 224
    assert float(f"{fit.theta[VARIANCE]:.3g}") == 48.7
    assert fit.varcomp["se"].iloc[0] == pytest.approx(7.155, rel=1e-3)
    np.testing.assert_allclose(table["sdcor"][["row", "col"]], [0.4375, 0.6555], atol=5.1e-5)
    np.testing.assert_allclose(table["se"][["row", "col"]], [0.0806, 0.05638], rtol=1e-3)
    assert table.loc["row", "var1"] == "rho" and np.isnan(table.loc["row", "vcov"])


def test_asreml_on_slate_hall_farm(data_folder: Path) -> None:
    """Gilmour, Cullis & Verbyla (1997), model 4, as published with ASReml-R in the help page of agridat."""
    frame = pd.read_csv(data_folder / "agridat" / "gilmour.slatehall.csv").assign(lin=lambda d: d["row"])
    fit = mg.lmm("yield ~ gen + lin + (1|row) + (1|col)", frame, residual="ar1(col):ar1(row)")
    np.testing.assert_allclose(fit.theta, [20290, 2519, 23950, 0.439, 0.125], rtol=4e-3)
    np.testing.assert_allclose(fit.varcomp["se"], [10260, 1959, 4616, 0.113, 0.117], rtol=4e-3)
    assert fit.params["lin"] == pytest.approx(31.72252, abs=1e-4)


def test_a_time_that_no_subject_has_counts_as_a_step() -> None:
    expected = REFERENCE["gaps"]
    frame = pd.DataFrame(expected["data"])
    fit = mg.lmm("y ~ time", frame, residual="ar1(time|subject)")
    np.testing.assert_allclose(
        [fit.llf, *fit.theta, *fit.params],
        [expected["llf"], expected["variance"], expected["rho"], *expected["beta"]],
        rtol=GLS,
    )
    ordered = frame.assign(time=pd.Categorical(frame["time"].map("t{}".format), [f"t{k}" for k in (1, 2, 4, 5, 8)]))
    assert mg.lmm("y ~ 1", ordered, residual="ar1(time|subject)").llf != pytest.approx(
        mg.lmm("y ~ 1", frame, residual="ar1(time|subject)").llf, abs=1e-3
    )
    tens = frame.assign(time=10 * frame["time"])
    assert mg.lmm("y ~ 1", tens, residual="ar1(time|subject)").theta.to_numpy() == pytest.approx(
        mg.lmm("y ~ 1", frame, residual="ar1(time|subject)").theta.to_numpy(), rel=EXACT
    )


# -------------------------------------------------------------------------------------------------- invariances


def test_order_and_labels_of_plots_do_not_matter() -> None:
    frame = trial()
    fit = mg.lmm("yield ~ 1 + (1|gen)", frame, residual="ar1(row):ar1(col)")
    moved = frame.sample(frac=1, random_state=3)
    moved = moved.assign(
        row=100 + 2 * moved["row"], col=pd.Categorical(moved["col"].astype(str), [str(k) for k in range(1, 23)])
    )
    moved["gen"] = moved["gen"].map({g: -k for k, g in enumerate(sorted(set(moved["gen"])))})
    again = mg.lmm("yield ~ 1 + (1|gen)", moved, residual="ar1(row):ar1(col)")
    np.testing.assert_allclose(again.theta.to_numpy(), fit.theta.to_numpy(), rtol=EXACT)
    turned = mg.lmm("yield ~ 1 + (1|gen)", frame, residual="ar1(col):ar1(row)")
    np.testing.assert_allclose(turned.theta[fit.theta.index], fit.theta, rtol=EXACT)
    assert again.llf == pytest.approx(fit.llf, abs=EXACT) and turned.llf == pytest.approx(fit.llf, abs=EXACT)


def test_trials_apart_are_one_field_with_a_wide_lane() -> None:
    frame = make_frame(1)
    apart = frame.assign(row=frame["row"] + 5000 * frame["trial"].str[1:].astype(int))
    theta = {"gen": 0.7, VARIANCE: 1.5, ROW: 0.6, COL: 0.4}
    units = mg.MixedModel("y ~ x + (1|gen)", frame, residual="ar1(row|trial):ar1(col|trial)").solve(theta)
    lane = mg.MixedModel("y ~ x + (1|gen)", apart, residual="ar1(row):ar1(col)").solve(theta)
    assert lane.llf == pytest.approx(units.llf, abs=EXACT)


def test_no_correlation_is_least_squares() -> None:
    frame = trial()
    ols = mg.lmm("yield ~ gen", frame)
    zero = mg.MixedModel("yield ~ gen", frame, residual="ar1(row):ar1(col)").solve(
        {VARIANCE: float(ols.theta.iloc[0]), ROW: 0.0, COL: 0.0}
    )
    assert zero.llf == pytest.approx(ols.llf, abs=EXACT)


def test_sections_are_the_trials_by_themselves() -> None:
    frame = make_frame(6, holes=0.05)
    together = mg.lmm("y ~ 0 + trial", frame, residual="at(trial):ar1(row):ar1(col)", method="ml")
    apart = [mg.lmm("y ~ 1", d, residual="ar1(row):ar1(col)", method="ml") for _, d in frame.groupby("trial")]
    assert together.llf == pytest.approx(sum(fit.llf for fit in apart), abs=1e-7)
    theta = np.concatenate([fit.theta.to_numpy() for fit in apart])
    np.testing.assert_allclose(together.theta, theta, atol=1e-4)  # where the criterion is flat to 1e-8
    rows = together.varcomp
    assert rows["var1"].tolist() == ["t0", "t1", "t0,rho", "t0,rho", "t1,rho", "t1,rho"]
    assert rows["var2"].tolist()[2:] == ["row", "col", "row", "col"]


def test_sections_with_equal_parameters_are_units() -> None:
    frame = make_frame(6, holes=0.05)
    names = [[f"residual[t{k},{name}]" for k in range(2)] for name in ("variance", "rho,row", "rho,col")]
    sections = "at(trial):ar1(row):ar1(col)"
    equal = mg.lmm("y ~ x + (1|gen)", frame, residual=sections, control=mg.Control(equate=names))
    units = mg.lmm("y ~ x + (1|gen)", frame, residual="ar1(row|trial):ar1(col|trial)")
    np.testing.assert_allclose(equal.theta, units.theta, rtol=1e-6)
    assert equal.llf == pytest.approx(units.llf, abs=1e-8)
    variances = mg.lmm("y ~ x + (1|gen)", frame, residual=sections, control=mg.Control(equate=names[1:]))
    diagonal = mg.lmm("y ~ x + (1|gen)", frame, residual="diag(trial):ar1(row):ar1(col)")
    assert variances.llf == pytest.approx(diagonal.llf, abs=1e-8)
    assert len(variances.simulate(2, seed=1)) == len(frame)


def test_a_correlation_fixed_at_zero_is_no_correlation() -> None:
    frame = trial()
    fixed = mg.lmm("yield ~ gen", frame, residual="ar1(row):ar1(col)", control=mg.Control(fix={COL: 0.0}))
    rows = mg.lmm("yield ~ gen", frame, residual="ar1(row):idv(col)")
    np.testing.assert_allclose(fixed.theta, rows.theta, rtol=1e-6)
    assert fixed.llf == pytest.approx(rows.llf, abs=1e-8)


def test_sections_of_units_are_fits_apart() -> None:
    """Unstructured residuals of each half of the subjects."""
    frame = mg.data.sleepstudy()
    frame = frame[frame["Days"] < 3].reset_index(drop=True)
    frame["half"] = np.where(pd.to_numeric(frame["Subject"].astype(str)) < 340, "a", "b")
    fit = mg.lmm("Reaction ~ 0 + half", frame, residual="at(half):us(Days|Subject)", method="ml")
    apart = [mg.lmm("Reaction ~ 1", d, residual="us(Days|Subject)", method="ml") for _, d in frame.groupby("half")]
    assert fit.llf == pytest.approx(sum(f.llf for f in apart), abs=1e-6)
    assert "residual[a,0,1]" in fit.theta.index and "sigma[b,2]" in fit.confint("sigma[b,2]").index
    mixed = mg.lmm("Reaction ~ 0 + half", frame, residual="at(half):diag(Days)", method="ml")
    assert mixed.llf == pytest.approx(
        mg.lmm(
            "Reaction ~ 0 + half",
            frame.assign(c=frame["half"] + frame["Days"].astype(str)),
            residual="diag(c)",
            method="ml",
        ).llf,
        abs=1e-7,
    )


def test_records_of_a_fit_may_be_left_out() -> None:
    design, frame, spec, theta = make_case("sections", 5)
    records = np.flatnonzero(np.arange(design.n) % 4)
    R = full_matrix(frame, spec, theta, False)[np.ix_(records, records)]
    part = design.residual.select(records)
    np.testing.assert_allclose(part.multiply(theta, np.eye(len(records))), R, atol=EXACT)
    np.testing.assert_allclose(part.solve(theta, np.eye(len(records))) @ R, np.eye(len(records)), atol=EXACT)


# ------------------------------------------------------------------------------------- what is made of the fit


def small() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    row, col = (a.ravel() for a in np.meshgrid(np.arange(10), np.arange(9), indexing="ij"))
    root = [
        np.linalg.cholesky(rho ** np.abs(np.subtract.outer(np.arange(m), np.arange(m))))
        for rho, m in ((0.7, 10), (0.5, 9))
    ]
    e = (root[0] @ rng.normal(size=(10, 9)) @ root[1].T).ravel()
    frame = pd.DataFrame({"row": row, "col": col, "gen": rng.permutation(90) % 15})
    frame["y"] = rng.normal(size=15)[frame["gen"]] + 2.0 * e
    return frame[rng.random(90) > 0.1].reset_index(drop=True)


def test_draws_have_the_covariance_of_the_residuals() -> None:
    frame = make_frame(1)
    frame = frame[(frame["row"] < 5) & (frame["col"] < 5)].reset_index(drop=True)
    theta = {VARIANCE: 1.5, ROW: 0.6, COL: -0.4}
    fit = mg.MixedModel("y ~ 1", frame, residual="ar1(row|trial):ar1(col|trial)", weights="w").solve(theta)
    n = 20_000
    draws = fit.simulate(n, seed=4).to_numpy()
    draws = draws - draws.mean(axis=1, keepdims=True)
    spec = SPECS["units"]
    R = full_matrix(frame, spec, np.array([1.5, 0.6, -0.4]), True)
    error = np.sqrt((np.outer(np.diag(R), np.diag(R)) + R**2) / n)  # of a sample covariance of normals
    assert np.max(np.abs(draws @ draws.T / n - R) / error) < 5.0


def test_variances_are_given_by_name() -> None:
    model = mg.MixedModel("y ~ 1 + (1|gen)", small(), residual="ar1(row):ar1(col)")
    fit = model.solve({"gen": 1.0, VARIANCE: 2.0, ROW: 0.5, COL: 0.25})
    np.testing.assert_array_equal(fit.theta, [1.0, 2.0, 0.5, 0.25])
    whole = model.solve({"gen": 1.0, "residual": 2.0, ROW: 0.5, COL: 0.25})
    np.testing.assert_array_equal(whole.theta, fit.theta)
    with pytest.raises(mg.ArgumentError, match=r"residual\[rho,row\].*residual\[rho,col\]"):
        model.solve({"gen": 1.0, "residual": 2.0})
    with pytest.raises(mg.ArgumentError, match=r"'residual\[rho,row\]' is 1; it must lie between -1 and 1"):
        model.solve({"gen": 1.0, "residual": 2.0, ROW: 1.0, COL: 0.25})
    with pytest.raises(mg.ArgumentError, match="no number"):
        model.solve({"gen": 1.0, "residual": 2.0, ROW: "high", COL: 0.25})


def test_start_values_lead_to_the_same_optimum() -> None:
    frame = small()
    fit = mg.lmm("y ~ 1 + (1|gen)", frame, residual="ar1(row):ar1(col)")
    other = mg.lmm(
        "y ~ 1 + (1|gen)", frame, residual="ar1(row):ar1(col)", control=mg.Control(start={ROW: 0.9, COL: 0.1})
    )
    np.testing.assert_allclose(other.theta, fit.theta, rtol=1e-6)  # the optimum is stopped at a decrement of 1e-11


def test_profile_intervals_end_where_the_deviance_has_risen() -> None:
    frame = small()
    fit = mg.lmm("y ~ 1 + (1|gen)", frame, residual="ar1(row):ar1(col)", method="ml")
    interval = fit.confint(["cor Residual[rho,row]", "sigma"], method="profile")
    engine, names = choose(fit.fitted.design, "dense"), ("cor Residual[rho,row]", "sigma")
    for name, held in zip(names, (2, 1), strict=True):
        for end in ("lower", "upper"):
            value = interval.loc[name, end]
            theta = fit.theta.to_numpy().copy()
            theta[held] = value if held == 2 else value**2
            rest = [i for i in range(4) if i != held]

            def least(x: np.ndarray, theta: np.ndarray = theta, rest: list[int] = rest) -> float:
                at = theta.copy()
                at[rest] = x
                return deviance(engine.at(at), False)

            bounds = [(1e-4, None) if i < 2 else (-0.99, 0.99) for i in rest]
            best = minimize(least, theta[rest], bounds=bounds, method="L-BFGS-B", tol=1e-12)
            assert best.fun - fit.fitted.deviance == pytest.approx(3.8415, abs=2e-3)


def test_a_bootstrap_table_has_the_correlations() -> None:
    fit = mg.lmm("y ~ 1 + (1|gen)", small(), residual="ar1(row):ar1(col)")
    table = fit.confint("cor Residual[rho,row]", method="bootstrap", n=20, seed=1)
    row = table.loc["cor Residual[rho,row]"]
    assert row["lower"] < fit.theta[ROW] < row["upper"]


def test_satterthwaite_agrees_between_the_engines_and_kenward_roger_is_refused() -> None:
    frame = small()
    controls = [mg.Control(engine=e) for e in ENGINES]
    dfs = [mg.lmm("y ~ C(gen)", frame, residual="ar1(row):ar1(col)", control=c).df for c in controls]
    np.testing.assert_allclose(dfs[0], dfs[1], rtol=1e-4)
    fit = mg.lmm("y ~ C(gen)", frame, residual="ar1(row):ar1(col)")
    with pytest.raises(mg.NotAvailableError, match="Kenward-Roger is not available"):
        fit.anova(ddf="kenward-roger")


def test_predictions_of_the_plots_are_the_fitted_values() -> None:
    frame = small()
    fit = mg.lmm("y ~ 1 + (1|gen)", frame, residual="ar1(row):ar1(col)")
    np.testing.assert_allclose(fit.predict(), fit.fittedvalues, rtol=EXACT)
    np.testing.assert_allclose(fit.fittedvalues + fit.resid, frame["y"], rtol=EXACT)


def test_summary_and_tables_show_the_correlations() -> None:
    fit = mg.lmm("y ~ 1 + (1|gen)", small(), residual="ar1(row):ar1(col)", method="ml")
    summary = fit.summary().random_effects
    assert summary["Name"].tolist()[-2:] == ["rho,row", "rho,col"]
    assert summary["Corr"].tolist()[-2:] == [f"{fit.theta[name]:.2f}" for name in (ROW, COL)]
    table = fit.tidy(conf_int=True, conf_method="profile").set_index("term")
    np.testing.assert_allclose(table.loc[["cor__rho.row", "cor__rho.col"], "estimate"], fit.theta[[ROW, COL]])
    assert table.loc["cor__rho.row", "conf.low"] < fit.theta[ROW] < table.loc["cor__rho.row", "conf.high"]
    assert "a product of structures" in str(fit.explain())


def test_refit_repeats_the_fit() -> None:
    frame = small()
    fit = mg.lmm("y ~ 1 + (1|gen)", frame, residual="ar1(row):ar1(col)")
    np.testing.assert_allclose(fit.refit(frame["y"]).theta, fit.theta, rtol=1e-6)


# ------------------------------------------------------------------------------------------------------- refusals

REFUSED = [
    ("ar1(row):ar1(col)", lambda d: pd.concat([d, d.iloc[:2]]), ["2 places", "row", "several records"]),
    ("ar1(row):ar1(col)", lambda d: d.assign(row="R" + d["row"].astype(str)), ["'row' is text", "ordered categorical"]),
    ("us(gen):ar1(row, hom=False)", lambda d: d, ["us(gen)", "ar1(row)", "both have variances"]),
    ("idv(row):diag(col)", lambda d: d, ["no correlation"]),
    ("ar1(row):exp(col)", lambda d: d, ["exp(col)", "no place in a product"]),
    ("ar1(row):ar1(col)", lambda d: d.assign(row=1), ["ar1()", "needs two"]),
    ("ar1(row):ar1(bed)", lambda d: d, ["bed"]),
    ("at(gen)", lambda d: d, ["at(gen):ar1(row):ar1(col)"]),
    ("at(gen|row):ar1(col)", lambda d: d, ["at(column)"]),
    ("at(row):ar1(col):ar1(gen)", lambda d: d.assign(col=d["row"]), ["row 0:", "needs two"]),
]


@pytest.mark.parametrize(("residual", "change", "words"), REFUSED)
def test_what_is_refused(residual: str, change: Callable[[pd.DataFrame], pd.DataFrame], words: list[str]) -> None:
    with pytest.raises(mg.MixedgenError) as caught:
        mg.lmm("y ~ 1", change(small()), residual=residual)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_field_that_is_mostly_empty_is_refused_with_its_size() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"row": np.repeat(np.arange(200), 200), "col": np.tile(np.arange(200), 200)})
    frame = frame[rng.random(len(frame)) < 0.35].copy()
    frame["y"] = rng.normal(size=len(frame))
    with pytest.raises(mg.DesignError, match=r"places of the grid have no record.*elements"):
        mg.lmm("y ~ 1 + (1|row)", frame, residual="ar1(row):ar1(col)")


def test_rows_without_a_place_are_left_out_and_counted() -> None:
    frame = small()
    frame["row"] = frame["row"].astype(float)
    frame.loc[3, "row"] = np.nan
    model = mg.MixedModel("y ~ 1", frame, residual="ar1(row):ar1(col)")
    assert model.design.n == len(frame) - 1 and model.design.lost["row"] == 1


def test_a_level_for_each_record_needs_correlated_residuals() -> None:
    frame = small().assign(plot=lambda d: d.index)
    with pytest.raises(mg.DesignError, match="cannot be told"):
        mg.lmm("y ~ 1 + (1|plot)", frame)
    assert mg.lmm("y ~ 1 + (1|plot)", frame, residual="ar1(row):ar1(col)").converged


def test_em_is_refused() -> None:
    with pytest.raises(mg.ArgumentError, match="EM"):
        mg.lmm("y ~ 1", small(), residual="ar1(row):ar1(col)", control=mg.Control(optimiser="em"))


def test_several_responses_take_no_product() -> None:
    frame = small().assign(z=lambda d: d["y"] + d["row"] % 3)
    with pytest.raises(mg.FormulaError, match=r"not us\(trait\):ar1\(row\)"):
        mg.lmm("cbind(y, z) ~ 1", frame, residual="us(trait):ar1(row)")
