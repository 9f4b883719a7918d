"""Deletion diagnostics equal dense algebra and lme4's refits; R squared, ICC and rePCA equal lme4's parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from test_engines import make_case, random_theta, spread

import mixedgen as mg
from mixedgen.diagnostics import influence as room
from mixedgen.engines import choose
from mixedgen.errors import ArgumentError, ConvergenceWarning, DataError, EngineError, NotAvailableError
from mixedgen.estimation.fitted import Fitted

FROZEN = json.loads((Path(__file__).parent / "reference" / "influence.json").read_text())
FITS = {f["name"]: f for f in FROZEN["fits"]}

# Both sides are direct solutions of well-conditioned equations.
DENSE_RTOL, DENSE_ATOL = 1e-8, 1e-10
# V written out and inverted loses its condition number, up to 1e5 in designs made at random.
LAW_RTOL = 1e-7
# BOBYQA's last steps leave variances good to 1e-6 (relatively); estimates and distances depend on them smoothly.
LME4_RTOL = 1e-5
# Of differences between estimates, beside their standard errors: the error of the variances times the difference.
LME4_ATOL = 1e-6
# Two optimisations of one likelihood stop within this of each other, relatively.
REFIT_RTOL = 1e-5

SIGMA = np.array([[2.0, 0.5], [0.5, 1.0]])
US = np.array([[3.0, 1.0, 0.5], [1.0, 2.0, 0.2], [0.5, 0.2, 1.5]])


def pedigree() -> mg.Relationship:
    return mg.additive(mg.Pedigree(mg.data.mrode_pedigree()))


def repeated() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {"calf": np.repeat([4, 5, 6, 7, 8], 4), "time": [0, 1, 2, 3] * 5, "dam": np.repeat([2, 2, 5, 6, 4], 4)}
    )
    frame = frame.assign(
        x=rng.normal(size=20), y=rng.normal(10.0, 2.0, 20), z=rng.normal(size=20), w=1.0 + np.arange(20) % 3
    )
    frame["pen"] = [f"p{k % 3}" for k in range(20)]
    return frame[frame["time"] < 3].drop(index=[4, 10])


def known_matrix(frame: pd.DataFrame) -> np.ndarray:
    """Residuals of a pen are correlated."""
    pen = frame["pen"].to_numpy()
    return np.where(pen[:, None] == pen, 0.3, 0.0) + np.diag(frame["w"])


def animals(formula: str, variances: dict[str, object], **options: object) -> mg.Fit:
    related = {"A": pedigree()} if ":A" in formula else None
    return mg.MixedModel(formula, repeated(), relationships=related, **options).solve(variances)


CASES: dict[str, Callable[[], mg.Fit]] = {
    "slopes": lambda: mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy()),
    "dense engine": lambda: mg.lmm(
        "Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy(), control=mg.Control(engine="dense")
    ),
    "pedigree, us residual": lambda: animals(
        "y ~ x + us(1 + x|calf:A)", {"calf:A": SIGMA, "residual": US}, residual="us(time|calf)", weights="w"
    ),
    "pedigree, diag residual": lambda: animals(
        "y ~ x + (1|calf:A) + (1|pen)",
        {"calf:A": 2.0, "pen": 0.5, "residual": np.diag([1.0, 2.0, 3.0])},
        residual="diag(time)",
    ),
    "direct and maternal": lambda: animals(
        "y ~ x + us(1|members(calf, dam):A)", {"members(calf, dam):A": SIGMA, "residual": 3.0}
    ),
    "two traits": lambda: animals("cbind(y, z) ~ x + (1|calf:A)", {"calf:A": SIGMA, "residual": US[:2, :2]}),
    "zero variance": lambda: animals("y ~ x + (1|calf:A)", {"calf:A": 0.0, "residual": 3.0}),
    "known residual": lambda: animals(
        "y ~ x + (1|calf:A)", {"calf:A": 2.0, "residual": 1.5}, residual=known_matrix(repeated())
    ),
    "least squares": lambda: animals("y ~ x", {"residual": 3.0}, weights="w"),
}


class Dense:
    """V, C and P of a fit, written out."""

    def __init__(self, fit: mg.Fit) -> None:
        design, theta = fit.fitted.design, fit.fitted.theta
        X = design.fixed.X
        self.X = X if isinstance(X, np.ndarray) else X.toarray()
        self.y = design.y
        self.R = design.residual.multiply(theta[design.slices[-1]], np.eye(design.n))
        self.V = self.R.copy()
        for t, s in zip(design.terms, design.slices, strict=False):
            G = np.kron(t.structure.matrix(theta[s]), t.multiply_relationship(np.eye(t.q)))
            self.V = self.V + t.Z @ G @ t.Z.T
        Vinv = np.linalg.inv(self.V)
        self.C = np.linalg.inv(self.X.T @ Vinv @ self.X)
        self.fixed_hat = self.X @ self.C @ self.X.T @ Vinv
        self.P = Vinv - Vinv @ self.fixed_hat

    def without(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimates, and their covariance, of the other records at the same variances."""
        keep = np.setdiff1d(np.arange(len(self.y)), rows)
        Vinv, X = np.linalg.inv(self.V[np.ix_(keep, keep)]), self.X[keep]
        C = np.linalg.inv(X.T @ Vinv @ X)
        return C @ X.T @ Vinv @ self.y[keep], C


def check_deletions(fit: mg.Fit, found: mg.influence.Influence, groups: list[np.ndarray]) -> None:
    dense, b, p = Dense(fit), fit.params.to_numpy(), len(fit.params)
    assert len(found.cases) == len(groups)
    for k in range(0, len(groups), 1 + len(groups) // 20):  # V without a case is inverted for each
        rows = groups[k]
        left, C = dense.without(rows)
        step = b - left
        ratio = np.linalg.solve(dense.C, C)
        want = {
            "n_records": len(rows),
            "cooks_distance": step @ np.linalg.solve(dense.C, step) / p,
            "covratio": np.linalg.det(ratio),
            "covtrace": np.trace(ratio) - p,
            "leverage": np.trace((np.eye(len(dense.y)) - dense.R @ dense.P)[np.ix_(rows, rows)]),
        }
        np.testing.assert_allclose(found.cases.iloc[k].to_numpy(), list(want.values()), DENSE_RTOL, DENSE_ATOL)
        np.testing.assert_allclose(found.dfbeta.iloc[k], step, DENSE_RTOL, DENSE_ATOL)
        np.testing.assert_allclose(found.dfbetas.iloc[k], step / np.sqrt(np.diag(C)), DENSE_RTOL, DENSE_ATOL)


@pytest.mark.parametrize("case", CASES)
def test_deleted_records_equal_dense_deletion(case: str) -> None:
    fit = CASES[case]()
    found = fit.influence()
    check_deletions(fit, found, [np.array([i]) for i in range(fit.nobs)])
    assert found.undefined.empty
    assert found.variances is None


@pytest.mark.parametrize("case", CASES)
def test_deleted_groups_equal_dense_deletion(case: str) -> None:
    fit = CASES[case]()
    data = fit.arguments.data
    by = "Subject" if "Subject" in data else "pen"
    found = fit.influence(by)
    design = fit.fitted.design
    rows = design.records.rows
    labels = data[by].to_numpy()[rows]
    check_deletions(fit, found, [np.flatnonzero(labels == label) for label in found.cases.index])
    assert set(found.cases.index) == set(labels)


@pytest.mark.parametrize("case", CASES)
def test_leverage_and_residuals_equal_dense_algebra(case: str) -> None:
    fit = CASES[case]()
    found, dense = fit.influence(), Dense(fit)
    H = np.eye(fit.nobs) - dense.R @ dense.P
    fixed = np.diag(dense.fixed_hat)
    close = {"rtol": DENSE_RTOL, "atol": DENSE_ATOL}
    np.testing.assert_allclose(found.leverage["total"], np.diag(H), **close)
    np.testing.assert_allclose(found.leverage["fixed"], fixed, **close)
    np.testing.assert_allclose(found.leverage["random"], np.diag(H) - fixed, **close)
    marginal = dense.y - dense.X @ fit.params.to_numpy()
    conditional = dense.R @ dense.P @ dense.y
    np.testing.assert_allclose(found.residuals["marginal"], marginal, **close)
    np.testing.assert_allclose(found.residuals["conditional"], conditional, **close)
    for name, raw, variance in (
        ("studentised_marginal", marginal, np.diag(dense.V - dense.X @ dense.C @ dense.X.T)),
        ("studentised_conditional", conditional, np.diag(dense.R @ dense.P @ dense.R)),
    ):
        np.testing.assert_allclose(found.residuals[name], raw / np.sqrt(variance), **close)


@pytest.mark.parametrize(
    "case", ["slopes", "pedigree, us residual", "two traits", "direct and maternal", "known residual"]
)
def test_large_groups_are_left_out_of_the_equations(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = CASES[case]()
    by = "Subject" if case == "slopes" else "pen"
    want = fit.influence(by)
    monkeypatch.setattr(room, "LARGEST_GROUP", 4)
    found = fit.influence(by)
    for name in ("cases", "dfbeta", "dfbetas", "leverage", "residuals"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(want, name), rtol=DENSE_RTOL, atol=DENSE_ATOL)


# Designs made at random, without those whose response or covariate is so far from zero that V^-1 written out loses it
LAWS = [seed for seed in range(0, 280, 3) if seed // 31 % 6 not in (2, 5)]


@pytest.mark.parametrize("seed", LAWS)
def test_random_designs_equal_dense_algebra(seed: int) -> None:
    case = make_case(seed)
    design = case.design()
    if not design.fixed.p:
        pytest.skip("no fixed effects")
    engine = choose(design)
    theta = random_theta(design, np.random.default_rng(1000 + seed), spread(design))
    fit = mg.Fit(Fitted(design, engine, engine.at(theta), theta, "reml", mg.Control()), case.arguments())
    found, dense = fit.influence("site"), Dense(fit)
    H = np.eye(fit.nobs) - dense.R @ dense.P
    np.testing.assert_allclose(found.leverage["total"], np.diag(H), LAW_RTOL, LAW_RTOL)
    sites = case.frame["site"].to_numpy()[design.kept]
    for site in found.cases.index.difference(found.undefined.index):
        left, C = dense.without(np.flatnonzero(sites == site))
        step, se = fit.params.to_numpy() - left, np.sqrt(np.diag(C))
        np.testing.assert_allclose(found.dfbetas.loc[site], step / se, LAW_RTOL, LAW_RTOL)
        ratio = np.linalg.slogdet(C / np.outer(se, se))[1] - np.linalg.slogdet(dense.C / np.outer(se, se))[1]
        assert np.log(found.cases.loc[site, "covratio"]) == pytest.approx(ratio, rel=LAW_RTOL, abs=LAW_RTOL)
    assert fit.diagnose().table["check"].str.startswith("levels of").sum() == len(design.terms)
    assert len(fit.explain().terms) == len(design.terms)


def frozen_fit(name: str) -> mg.Fit:
    data = mg.data.load(FITS[name]["data"])
    if FITS[name]["data"] == "cake":
        data = data.assign(temp=data["temperature"].astype(str).astype(float))
    return mg.lmm(FITS[name]["formula"], data, method=FITS[name]["method"])


def positions(names: list[str], ours: pd.Index) -> list[int]:
    """Places of lme4's columns among ours."""
    plain = [n.replace("(Intercept)", "Intercept").replace("recipe", "recipe[T.") for n in names]
    return [list(ours).index(n + "]" if "[T." in n else n) for n in plain]


@pytest.mark.parametrize(("name", "k"), [(f["name"], k) for f in FROZEN["fits"] for k in range(len(f["influence"]))])
def test_refits_equal_lme4(name: str, k: int) -> None:
    want = FITS[name]["influence"][k]
    fit = frozen_fit(name)
    by = None if want["groups"] == "case" else want["groups"]
    found = fit.influence(by, exact=True)
    assert found.variances is not None
    assert found.variances["converged"].all()
    m, p = len(want["labels"]), len(fit.params)
    order = np.arange(m) if by is None else [list(map(str, found.cases.index)).index(v) for v in want["labels"]]
    columns = positions(FITS[name]["fixef"], fit.params.index)
    # lme4: estimate without the case less that with it, and (m - p) / m of Cook's distance
    scale = fit.bse.to_numpy()[columns] * LME4_ATOL
    dfbeta = found.dfbeta.to_numpy()[np.ix_(order, columns)]
    assert np.all(np.abs(dfbeta + np.array(want["dfbeta"])) <= scale + LME4_RTOL * np.abs(dfbeta))
    np.testing.assert_allclose(-found.dfbetas.to_numpy()[np.ix_(order, columns)], want["dfbetas"], LME4_RTOL, LME4_ATOL)
    cooks = found.cooks_distance.to_numpy()[order] * (m - p) / m
    np.testing.assert_allclose(cooks, want["cooks"], LME4_RTOL, LME4_ATOL)
    np.testing.assert_allclose(found.cases["covratio"].to_numpy()[order], want["covratio"], LME4_RTOL)
    np.testing.assert_allclose(found.cases["covtrace"].to_numpy()[order], want["covtrace"], LME4_RTOL, p * LME4_RTOL)
    np.testing.assert_allclose(found.variances["residual"].to_numpy()[order], want["residual"], LME4_RTOL)


@pytest.mark.parametrize("name", FITS)
def test_leverage_equals_lme4s_hatvalues(name: str) -> None:
    np.testing.assert_allclose(frozen_fit(name).influence().leverage["total"], FITS[name]["hat"], LME4_RTOL)


def test_exact_influence_is_a_fit_of_the_other_records() -> None:
    data = mg.data.sleepstudy().assign(late=lambda d: np.where(d["Days"] > 4, "late", "early"))
    options = {"residual": "diag(late)"}
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", data, **options)
    found = fit.influence("Subject", exact=True)
    assert found.variances is not None
    for subject in ("308", "335"):
        other = mg.lmm("Reaction ~ Days + (1|Subject)", data[data["Subject"] != subject], **options)
        names = list(other.theta.index)
        np.testing.assert_allclose(found.variances.loc[subject, names].astype(float), other.theta, REFIT_RTOL)
        np.testing.assert_allclose(fit.params - found.dfbeta.loc[subject], other.params, REFIT_RTOL)


@pytest.mark.parametrize("residual", ["ar1(Days|Subject)", "exp(Days)"])
def test_exact_influence_with_a_structured_residual(residual: str) -> None:
    data = mg.data.sleepstudy()
    data = data[data["Subject"].isin(["308", "309", "310", "330", "331", "332"])]
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", data, residual=residual, method="ml")
    found = fit.influence("Subject", exact=True)
    other = mg.lmm("Reaction ~ Days + (1|Subject)", data[data["Subject"] != "308"], residual=residual, method="ml")
    assert found.variances is not None
    values = found.variances.loc["308", list(other.theta.index)].astype(float)
    np.testing.assert_allclose(values, other.theta, REFIT_RTOL, REFIT_RTOL)
    np.testing.assert_allclose(fit.params - found.dfbeta.loc["308"], other.params, REFIT_RTOL)


def test_exact_influence_of_one_value_of_several_traits() -> None:
    rng = np.random.default_rng(2)
    data = mg.data.sleepstudy().assign(second=lambda d: rng.normal(size=180) + np.repeat(rng.normal(size=18), 10))
    data = data[data["Days"] < 3].reset_index(drop=True)
    fit = mg.lmm("cbind(Reaction, second) ~ Days + (1|Subject)", data)
    found = fit.influence(exact=True)
    data.loc[5, "second"] = np.nan
    other = mg.lmm("cbind(Reaction, second) ~ Days + (1|Subject)", data)
    np.testing.assert_allclose(fit.params - found.dfbeta.loc[(5, "second")], other.params, REFIT_RTOL)


def test_rows_left_out_are_no_cases() -> None:
    data = mg.data.sleepstudy()
    whole = mg.lmm("Reaction ~ Days + (1|Subject)", data.drop(index=[3, 50]))
    data.loc[[3, 50], "Reaction"] = np.nan
    holes = mg.lmm("Reaction ~ Days + (1|Subject)", data, na_action="exclude")
    for by in (None, "Subject"):
        pd.testing.assert_frame_equal(whole.influence(by).cases, holes.influence(by).cases, rtol=DENSE_RTOL)
    assert 3 not in holes.influence().leverage.index


def test_a_sparse_fixed_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixedgen.design.coding.DENSE_COLUMNS", 2)
    monkeypatch.setattr("mixedgen.design.coding.DENSE_ELEMENTS", 10)
    fit = mg.lmm("angle ~ 0 + recipe:temperature + (1|replicate)", mg.data.cake())
    assert sp.issparse(fit.fitted.design.fixed.X)
    found = fit.influence()
    check_deletions(fit, found, [np.array([i]) for i in range(fit.nobs)])
    np.testing.assert_allclose(found.leverage["fixed"], np.diag(Dense(fit).fixed_hat), DENSE_RTOL)
    assert fit.influence("recipe:temperature").undefined.str.contains("do not determine").all()
    monkeypatch.setattr(room, "LARGEST_GROUP", 4)
    assert fit.influence("recipe:temperature").undefined.str.contains("do not determine 1 fixed").all()


def test_given_variances_stay_in_exact_influence() -> None:
    fit = CASES["pedigree, diag residual"]()
    exact, plain = fit.influence("pen", exact=True), fit.influence("pen")
    pd.testing.assert_frame_equal(exact.cases, plain.cases, rtol=DENSE_RTOL)
    assert exact.variances is not None
    np.testing.assert_array_equal(exact.variances["pen"], [0.5] * 3)


def test_groups_by_term_interaction_and_values() -> None:
    fit = mg.lmm("angle ~ recipe + temperature + (1|recipe:replicate)", mg.data.cake())
    term = fit.influence("recipe:replicate")
    assert len(term.cases) == 45
    data = fit.arguments.data
    rows = data["recipe"].astype(str) + ":" + data["replicate"].astype(str)
    values = fit.influence(rows)
    pd.testing.assert_frame_equal(term.cases.sort_index(), values.cases.sort_index(), check_index_type=False)
    calves = CASES["pedigree, diag residual"]()
    pd.testing.assert_frame_equal(calves.influence("calf:A").cases, calves.influence("calf").cases, check_names=False)
    without_data = mg.Fit(fit.fitted).influence("recipe:replicate")
    pd.testing.assert_frame_equal(term.cases, without_data.cases)


def test_what_no_other_record_determines_is_missing_and_named() -> None:
    data = mg.data.sleepstudy().assign(first=lambda d: (np.arange(len(d)) == 7).astype(float))
    fit = mg.lmm("Reaction ~ Days + first + (1|Subject)", data)
    for exact in (False, True):
        found = fit.influence(exact=exact) if not exact else fit.influence("Subject", exact=True)
        assert len(found.undefined) == 1
        assert found.cases.loc[found.undefined.index, "cooks_distance"].isna().all()
        assert found.cases["cooks_distance"].isna().sum() == 1
    assert fit.influence().leverage["fixed"].iloc[7] == pytest.approx(1.0)
    assert np.isnan(fit.influence().residuals["studentised_conditional"].iloc[7])


def test_a_residual_class_that_is_gone_is_named() -> None:
    data = mg.data.sleepstudy().assign(late=lambda d: np.where(d["Days"] > 4, "late", "early"))
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", data, residual="diag(late)")
    found = fit.influence("late", exact=True)
    assert found.undefined.str.contains("residual variance").all()
    assert fit.influence("late").undefined.empty


def test_a_term_with_one_level_left_is_named() -> None:
    data = mg.data.sleepstudy()
    data["room"] = np.where(np.arange(180) % 20 < 10, "left", "right")
    model = mg.MixedModel("Reaction ~ Days + (1|Subject) + (1|room)", data)
    fit = model.solve({"Subject": 1000.0, "room": 10.0, "residual": 900.0})
    assert fit.influence("room", exact=True).undefined.str.contains("one level of 'room' is left").all()
    assert fit.influence("room").undefined.empty


def test_refits_that_do_not_converge_are_told() -> None:
    with pytest.warns(ConvergenceWarning):
        fit = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy(), control=mg.Control(max_iter=1))
    with pytest.warns(ConvergenceWarning, match="fits without a case did not converge"):
        found = fit.influence("Subject", exact=True)
    assert found.variances is not None
    assert not found.variances["converged"].all()


def test_bad_groups_are_refused() -> None:
    data = mg.data.sleepstudy()
    data["half"] = np.where(data.index < 90, 1.0, np.nan)
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", data)
    with pytest.raises(DataError, match="missing in 90 records"):
        fit.influence("half")
    with pytest.raises(DataError, match="no column 'Subjekt'.*Did you mean 'Subject'"):
        fit.influence("Subjekt")
    with pytest.raises(ArgumentError, match="180 rows"):
        fit.influence([1, 2])
    with pytest.raises(ArgumentError, match="other labels"):
        fit.influence(pd.Series(range(180), index=range(1, 181)))
    with pytest.raises(ArgumentError, match="one group only"):
        fit.influence(np.ones(180))
    with pytest.raises(ArgumentError, match="no random term"):
        mg.Fit(fit.fitted).influence("Days")
    with pytest.raises(NotAvailableError, match="no fixed effects"):
        mg.lmm("Reaction ~ 0 + (1|Subject)", data).influence()
    with pytest.raises(NotAvailableError, match="minque"):
        mg.lmm("Reaction ~ Days + (1|Subject)", data, method="minque").influence(exact=True)


def test_what_takes_too_long_is_refused_with_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", mg.data.sleepstudy())
    monkeypatch.setattr(room, "PATIENCE", 1e-6)
    with pytest.raises(EngineError, match=r"0 refits and 180 solves of 20 equations: about .* h"):
        fit.influence("Subject")


# ------------------------------------------------------------------------------- R squared, ICC, principal components
@pytest.mark.parametrize("name", FITS)
def test_r_squared_and_icc_equal_lme4s_parts(name: str) -> None:
    fit, want = frozen_fit(name), FITS[name]["r2"]
    r2 = fit.r2()
    assert [r2.marginal, r2.conditional] == pytest.approx([want["marginal"], want["conditional"]], rel=LME4_RTOL)
    assert fit.icc().loc["all terms", "adjusted"] == pytest.approx(want["icc"], rel=LME4_RTOL)


def test_r_squared_of_sleepstudy_as_published() -> None:
    r2 = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy()).r2()
    assert (round(r2.marginal, 3), round(r2.conditional, 3)) == (0.279, 0.799)  # performance::r2, MuMIn::r.squaredGLMM


@pytest.mark.parametrize("case", [c for c in CASES if c != "two traits"])
def test_shares_equal_dense_algebra(case: str) -> None:
    fit = CASES[case]()
    dense, design = Dense(fit), fit.fitted.design
    fixed = np.var(dense.X @ fit.params.to_numpy(), ddof=1)
    random, residual = np.mean(np.diag(dense.V - dense.R)), np.mean(np.diag(dense.R))
    total = fixed + random + residual
    r2, icc = fit.r2(), fit.icc()
    assert r2.marginal == pytest.approx(fixed / total, rel=DENSE_RTOL)
    assert r2.conditional == pytest.approx((fixed + random) / total, rel=DENSE_RTOL)
    np.testing.assert_allclose(
        icc.loc["all terms"], [random, random / (random + residual), random / total], DENSE_RTOL, 1e-12
    )
    for k, t in enumerate(design.terms):
        Sigma = t.structure.matrix(fit.fitted.theta[design.slices[k]])
        own = np.mean(np.diag(t.Z @ np.kron(Sigma, t.multiply_relationship(np.eye(t.q))) @ t.Z.T))
        assert fit.icc(t.key) == pytest.approx(own / (random + residual), rel=DENSE_RTOL, abs=1e-12)


def test_shares_of_several_traits_are_refused() -> None:
    fit = CASES["two traits"]()
    for share in (fit.r2, fit.icc):
        with pytest.raises(NotAvailableError, match="one response"):
            share()
    with pytest.raises(ArgumentError, match="no random term"):
        CASES["slopes"]().icc("Subjekt")


@pytest.mark.parametrize("name", FITS)
def test_principal_components_equal_lme4s(name: str) -> None:
    found, want = frozen_fit(name).repca(), FITS[name]["repca"]
    assert list(found) == list(want)
    for factor, pca in found.items():
        sdev, rotation = np.atleast_1d(want[factor]["sdev"]), np.atleast_2d(want[factor]["rotation"])
        np.testing.assert_allclose(pca.sdev, sdev, LME4_RTOL, 10 * LME4_RTOL)
        np.testing.assert_allclose(pca.proportion, sdev**2 / np.sum(sdev**2), 10 * LME4_RTOL, LME4_RTOL)
        np.testing.assert_allclose(np.abs(np.diag(rotation.T @ pca.rotation.to_numpy())), 1.0, atol=LME4_RTOL)


def test_principal_components_rebuild_the_covariance() -> None:
    fit = CASES["pedigree, us residual"]()
    pca = fit.repca()["calf:A"]
    rebuilt = pca.rotation.to_numpy() * pca.sdev.to_numpy() ** 2 @ pca.rotation.to_numpy().T
    np.testing.assert_allclose(rebuilt, SIGMA, DENSE_RTOL)  # several residual variances: on the scale of the response


def test_a_fixed_residual_variance() -> None:
    fit = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy(), control=mg.Control(fix={"residual": 600.0}))
    Sigma = fit.fitted.design.terms[0].structure.matrix(fit.fitted.theta)
    np.testing.assert_allclose(fit.repca()["Subject"].sdev ** 2, np.linalg.eigvalsh(Sigma / 600.0)[::-1], DENSE_RTOL)
    check_deletions(fit, fit.influence(), [np.array([i]) for i in range(fit.nobs)])
    exact = fit.influence("Subject", exact=True)
    assert exact.variances is not None
    assert list(exact.variances.columns) == [*fit.theta.index, "converged"]
    assert fit.r2().residual == 600.0
