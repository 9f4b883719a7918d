"""Degrees of freedom, t and F tests: lmerTest's and pbkrtest's answers, algebra written out, and invariances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from crossed_layout import FORMULA, crossed
from inference_fits import FITS, fit_of, frame

import mixedgen as mg
from mixedgen.engines.dense import DenseEngine
from mixedgen.estimation.likelihood import deviance
from mixedgen.inference import degrees, information, kenward_roger
from mixedgen.inference.containment import containment_df
from mixedgen.inference.wald import f_tail, t_quantile, t_tail

# lmerTest differentiates numerically: its balanced designs, whose degrees of freedom are whole numbers, come out to
# 4e-9, and unbalanced ones were seen to 2e-7 of an exact answer.
DF_RTOL = 1e-6
# what depends on theta only, which was polished
RTOL = 1e-8
# pbkrtest is algebra at the same theta; lmerTest's own p-values follow from the degrees of freedom
KR_RTOL = 1e-7

REML = [name for name, method in FITS if method == "reml"]


def close(got: Any, want: Any, rtol: float) -> None:
    np.testing.assert_allclose(np.asarray(got, dtype=float), np.asarray(want, dtype=float), rtol=rtol)


# Lmertest and pbkrtest


@pytest.mark.parametrize(("model", "method"), FITS)
def test_coefficients_by_satterthwaite(model: str, method: str) -> None:
    want = FITS[model, method]
    table = fit_of(model, method).summary().coefficients
    assert list(table.index) == want["names"]
    values = np.array(want["coefficients"])
    close(table[["estimate", "se"]], values[:, :2], 1e-7)
    close(table["df"], values[:, 2], DF_RTOL)
    close(table["p"], values[:, 4], 1e-5)  # a p-value of 1e-17 moves some ten times as fast as its df


@pytest.mark.parametrize("model", REML)
def test_coefficients_by_kenward_roger(model: str) -> None:
    want = FITS[model, "reml"]
    fit = fit_of(model)
    table = fit.summary(ddf="kenward-roger").coefficients
    values = np.array(want["kenward_roger"])
    close(table["se"], values[:, 1], KR_RTOL)
    close(table["df"], values[:, 2], 1e-6)
    adjusted = degrees.adjusted_moments(fit.inference, np.eye(len(table))).adjusted
    V = np.array(want["kenward_roger_vcov"])
    np.testing.assert_allclose(adjusted, V, rtol=0, atol=KR_RTOL * np.abs(V).max())


# Algebra written out


def written_out(fit: mg.Fit) -> dict[str, Any]:
    """V, P, the derivatives of V and what follows, n x n."""
    fitted = fit.fitted
    system = DenseEngine(fitted.design).at(fitted.theta)
    X = np.asarray(fitted.design.fixed.X)
    Vinv = np.linalg.inv(system.V)
    Phi = np.linalg.inv(X.T @ Vinv @ X)
    P = Vinv - Vinv @ X @ Phi @ X.T @ Vinv
    return {
        "P": P,
        "Vinv": Vinv,
        "V": [system.derivative(i) for i in range(len(fitted.theta))],
        "X": X,
        "Phi": Phi,
        "y": fitted.design.y,
    }


SMALL = ["sleepstudy_unbalanced", "crossed"]


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("model", SMALL)
def test_observed_information_by_brute_force(model: str, method: str) -> None:
    fit = fit_of(model, method)
    w = written_out(fit)
    Py = w["P"] @ w["y"]
    A = w["P"] if method == "reml" else w["Vinv"]
    H = np.array([[Py @ Vi @ w["P"] @ Vj @ Py - 0.5 * np.sum((A @ Vi) * (A @ Vj).T) for Vj in w["V"]] for Vi in w["V"]])
    J = fit.inference.directions.jacobian
    got = information.observed_information(fit.fitted, fit.inference.directions)
    want = J.T @ H @ J  # at the optimum the coordinates' bend does not count
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-7 * np.abs(want).max())


@pytest.mark.parametrize("model", SMALL)
def test_kenward_roger_by_brute_force(model: str) -> None:
    fit = fit_of(model)
    w = written_out(fit)
    Phi, P, Vinv, X = w["Phi"], w["P"], w["Vinv"], w["X"]
    E = np.array([[0.5 * np.sum((P @ Vi) * (P @ Vj).T) for Vj in w["V"]] for Vi in w["V"]])
    W = np.linalg.inv(E)
    Ps = [-X.T @ Vinv @ Vi @ Vinv @ X for Vi in w["V"]]
    inner = sum(
        W[i, j] * (X.T @ Vinv @ Vi @ Vinv @ Vj @ Vinv @ X - Ps[i] @ Phi @ Ps[j])
        for i, Vi in enumerate(w["V"])
        for j, Vj in enumerate(w["V"])
    )
    adjusted = degrees.adjusted_moments(fit.inference, np.eye(len(Phi))).adjusted
    np.testing.assert_allclose(fit.inference.expected_covariance, W, rtol=1e-7)
    np.testing.assert_allclose(adjusted, Phi + 2.0 * Phi @ inner @ Phi, rtol=1e-9, atol=1e-12)


# Laws

LINEAR = ["sleepstudy_unbalanced", "penicillin", "pastes", "cake_unbalanced", "crossed", "dyestuff2", "singular_slope"]


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("model", LINEAR)
def test_information_is_the_slope_of_the_score(model: str, method: str) -> None:
    fit = fit_of(model, method)
    exact = information.observed_information(fit.fitted, fit.inference.directions)
    differences = information.observed_by_differences(fit.fitted, fit.inference.directions)
    np.testing.assert_allclose(differences, exact, rtol=0, atol=1e-6 * np.abs(exact).max())


@pytest.mark.parametrize("model", ["sleepstudy_unbalanced", "pastes"])
def test_information_is_the_curvature_of_the_criterion(model: str) -> None:
    fit = fit_of(model)
    observed = information.observed_information(fit.fitted, fit.inference.directions)
    for k, (size, at) in enumerate(fit.inference.directions.steps(fit.fitted.theta)):
        h = 3e-3 * size
        values = [deviance(fit.fitted.engine.at(at(x)), True) for x in (-h, 0.0, h)]
        assert 0.5 * (values[0] - 2 * values[1] + values[2]) / h**2 == pytest.approx(observed[k, k], rel=1e-4)


def test_expected_information_from_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = fit_of("crossed")
    exact = kenward_roger.kenward_roger_weights(fit.fitted)
    monkeypatch.setattr(information, "EXACT_WORK", 0)
    np.testing.assert_allclose(
        kenward_roger.kenward_roger_weights(fit.fitted), exact, rtol=0, atol=1e-6 * np.abs(exact).max()
    )


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
@pytest.mark.parametrize("model", ["sleepstudy_unbalanced", "crossed", "dyestuff2", "singular_slope"])
def test_engines_agree(model: str, ddf: Any) -> None:
    tables = [fit_of(model, engine=engine).summary(ddf=ddf).coefficients for engine in ("henderson", "dense")]
    close(tables[1][["se", "df"]], tables[0][["se", "df"]], 1e-6)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_rows_and_scale_do_not_matter(ddf: Any) -> None:
    data = frame("crossed")
    formula = FITS["crossed", "reml"]["formula"]
    want = fit_of("crossed").summary(ddf=ddf).coefficients
    shuffled = mg.lmm(formula, data.sample(frac=1.0, random_state=1)).summary(ddf=ddf).coefficients
    scaled = mg.lmm(formula, data.assign(y=3.0 + 1000.0 * data["y"])).summary(ddf=ddf).coefficients
    close(shuffled[["se", "df"]], want[["se", "df"]], 1e-7)
    close(scaled["df"], want["df"], 1e-7)
    close(scaled["se"], 1000.0 * want["se"], 1e-7)


def test_identity_relationship_is_none() -> None:
    data = frame("crossed")
    labels = sorted(data["a"].unique())
    K = mg.Relationship.from_matrix(np.eye(len(labels)), labels)
    fit = mg.lmm("y ~ t * x + (1|a:K) + (1|b)", data, relationships={"K": K})
    for ddf in ("satterthwaite", "kenward-roger"):
        close(fit.summary(ddf=ddf).coefficients["df"], fit_of("crossed").summary(ddf=ddf).coefficients["df"], 1e-6)


def test_residual_classes() -> None:
    data = frame("sleepstudy_unbalanced")
    data = data.assign(half=np.where(data["Days"] < 5, "early", "late"))
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", data, residual="diag(half)")
    w = written_out(fit)
    Py = w["P"] @ w["y"]
    H = [[Py @ A @ w["P"] @ B @ Py - 0.5 * np.sum((w["P"] @ A) * (w["P"] @ B).T) for B in w["V"]] for A in w["V"]]
    B = w["Vinv"] @ w["X"] @ w["Phi"]
    g = np.array([np.einsum("np,nm,mp->p", B, Vi, B) for Vi in w["V"]])
    df = 2.0 * np.diag(w["Phi"]) ** 2 / np.einsum("ip,ij,jp->p", g, np.linalg.inv(H), g)
    close(fit.df, df, 1e-5)
    E = np.array([[0.5 * np.sum((w["P"] @ A) * (w["P"] @ C).T) for C in w["V"]] for A in w["V"]])
    close(fit.inference.expected_covariance, np.linalg.inv(E), 1e-5)


# Special cases


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_least_squares(method: str) -> None:
    data = frame("crossed")
    fit = mg.lmm("y ~ t + x", data, method=method)
    for ddf in ("satterthwaite", "kenward-roger", "containment"):
        assert (fit.summary(ddf=ddf).coefficients["df"] == len(data) - 4).all()


def test_given_variances_are_known() -> None:
    model = mg.MixedModel("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    fit = model.solve({"Batch": 1764.0, "residual": 2451.0})
    assert np.isinf(fit.df).all()
    assert fit.conf_int().loc["Intercept", "upper"] == pytest.approx(fit.params.iloc[0] + 1.959964 * fit.bse.iloc[0])


def test_z_is_normal() -> None:
    fit = fit_of("sleepstudy_unbalanced")
    table = fit.summary(ddf="z").coefficients
    assert np.isinf(table["df"]).all()
    assert (table["p"] < fit.pvalues).all()


def test_no_degrees_of_freedom() -> None:
    summary = fit_of("sleepstudy").summary(ddf=None)
    assert list(summary.coefficients.columns) == ["estimate", "se", "t"]
    assert "Pr(>|t|)" not in str(summary)
    assert "Pr(>|t|)" in str(fit_of("sleepstudy").summary())


def test_a_summary_does_not_take_long_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    monkeypatch.setattr(information, "AUTOMATIC_WEIGHTS", 10)
    assert "ask for summary(ddf='satterthwaite')" in str(fit.summary())
    assert "df" not in fit.summary().coefficients
    assert fit.summary(ddf="satterthwaite").coefficients["df"].iloc[0] == pytest.approx(5.0)


def test_containment_of_a_split_plot() -> None:
    """Whole plots: recipes within replicates, 3 x 15; temperatures within them (SAS's DDFM=CONTAIN)."""
    data = frame("cake")
    fit = mg.lmm("angle ~ recipe * temperature + (1|replicate) + (1|recipe:replicate)", data)
    df = fit.summary(ddf="containment").coefficients["df"]
    assert df["recipe[T.B]"] == 14 * 2
    assert df["temperature[T.185]"] == 270 - 18 - 14 - 28
    assert df["recipe[T.B]:temperature[T.185]"] == 270 - 18 - 14 - 28
    assert df["Intercept"] == 14


def test_containment_of_a_slope() -> None:
    df = fit_of("sleepstudy").summary(ddf="containment").coefficients["df"]
    assert df.to_dict() == {"Intercept": 17.0, "Days": 17.0}


def test_containment_of_terms_that_are_rewritten() -> None:
    """A relationship over an interaction has the degrees of freedom of its long form."""
    rng = np.random.default_rng(55)
    pedigree = pd.DataFrame({"id": range(1, 21), "sire": 0, "dam": 0})
    data = pd.DataFrame({"animal": np.repeat(np.arange(1, 21), 4), "site": np.tile(["s1", "s2"], 40)})
    data["y"] = rng.normal(size=80)
    A = {"A": mg.additive(mg.Pedigree(pedigree))}
    for short, long in (
        ("(1|site:animal:A)", "diag(0 + site|animal:A, hom=True)"),
        ("(1|site:members(animal):A)", "diag(0 + site|members(animal):A, hom=True)"),
    ):
        models = [mg.MixedModel(f"y ~ site + {term}", data, relationships=A) for term in (short, long)]
        one, other = (containment_df(m.design) for m in models)
        np.testing.assert_array_equal(one, other)
        assert (one == 2 * (20 - 1)).all()


def test_containment_of_several_traits_is_that_of_the_long_form() -> None:
    rng = np.random.default_rng(56)
    data = pd.DataFrame({"g": np.repeat(list("abcdefgh"), 6), "site": np.tile(["s", "t", "u"], 16)})
    data = data.assign(y1=rng.normal(size=48), y2=rng.normal(size=48))
    long = pd.concat([data.assign(trait=t, y=data[t]) for t in ("y1", "y2")])
    wide = containment_df(mg.MixedModel("cbind(y1, y2) ~ site + (1|g)", data).design)
    model = mg.MixedModel("y ~ 0 + trait + trait:site + (0 + trait|g)", long)
    by_name = dict(zip(model.design.fixed.names, containment_df(model.design), strict=True))
    assert wide[0] == by_name["trait[y1]"] == 2 * 8 - 2
    assert wide[1] == by_name["trait[y1]:site[T.t]"] == 96 - 16 - 4


def test_containment_of_members_is_by_entry() -> None:
    """Animals are within the fixed effects of none; the intercept has the fewer degrees of the two entries."""
    rng = np.random.default_rng(57)
    data = pd.DataFrame({"animal": np.repeat(list("abcdef"), 5), "rival": np.tile(list("bcdef"), 6)})
    data["y"] = rng.normal(size=30)
    design = mg.MixedModel("y ~ 1 + us(1|members(animal, rival))", data).design
    Z = design.terms[0].Z.toarray()
    ranks = [np.linalg.matrix_rank(np.hstack([np.ones((30, 1)), Z[:, :stop]])) for stop in (0, 6, 12)]
    assert containment_df(design)[0] == min(np.diff(ranks))


def test_kenward_roger_wants_reml() -> None:
    with pytest.raises(mg.NotAvailableError, match="REML"):
        fit_of("crossed", "ml").summary(ddf="kenward-roger")


def test_kenward_roger_refuses_beyond_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff2())
    monkeypatch.setattr(kenward_roger, "MEMORY_LIMIT", 100)
    monkeypatch.setattr(information, "EXACT_WORK", 0)
    with pytest.raises(mg.NotAvailableError, match=r"6 x 6 effects .* GB.*satterthwaite"):
        fit.summary(ddf="kenward-roger")


def test_unknown_method() -> None:
    with pytest.raises(mg.ArgumentError, match="no ddf='kr'; choose one of: satterthwaite"):
        fit_of("crossed").summary(ddf="kr")  # type: ignore[arg-type]


@pytest.mark.parametrize("alpha", [0.0, 1.0, 5.0])
def test_interval_of_no_probability(alpha: float) -> None:
    with pytest.raises(mg.ArgumentError, match="alpha"):
        fit_of("crossed").conf_int(alpha)


def test_intervals_hold_where_the_test_does() -> None:
    fit = fit_of("crossed")
    for ddf in ("satterthwaite", "kenward-roger", "z"):
        table, interval = fit.summary(ddf=ddf).coefficients, fit.conf_int(0.1, ddf=ddf)
        excluded = (interval["lower"] > 0) | (interval["upper"] < 0)
        assert (excluded == (table["p"] < 0.1)).all()


def test_tails() -> None:
    """Against tables of t and F."""
    assert t_tail(np.array([2.228]), np.array([10.0]))[0] == pytest.approx(0.05, abs=1e-4)
    assert t_tail(np.array([1.959964]), np.array([np.inf]))[0] == pytest.approx(0.05, abs=1e-6)
    assert f_tail(4.103, 2, 10.0) == pytest.approx(0.05, abs=1e-4)
    assert f_tail(2.995732, 2, np.inf) == pytest.approx(0.05, abs=1e-6)
    assert t_quantile(np.array([10.0, np.inf]), 0.95) == pytest.approx([2.228139, 1.959964], abs=1e-6)


def test_large_designs_need_no_n_by_n() -> None:
    rng = np.random.default_rng(1)
    n = 20_000
    a, b, x = rng.integers(0, 100, n), rng.integers(0, 60, n), rng.normal(size=n)
    y = rng.normal(size=100)[a] + rng.normal(size=60)[b] + rng.normal(size=n)
    fit = mg.lmm("y ~ x + (1|a) + (1|b)", pd.DataFrame({"a": a, "b": b, "x": x, "y": y}))
    satterthwaite, kenward_roger = (fit.summary(ddf=d).coefficients for d in ("satterthwaite", "kenward-roger"))
    # both are n - p less what the other effects take for x; some 130 for the intercept
    close(kenward_roger["df"], satterthwaite["df"], 1e-2)
    assert satterthwaite["df"]["x"] == pytest.approx(n - 160, rel=1e-3)


STRUCTURED = {
    "ar1": ("Reaction ~ Days + (1|Subject)", "ar1(Days|Subject)"),
    "log-linear": ("Reaction ~ Days + (1|Subject)", "exp(Days)"),
    "compound symmetry": ("Reaction ~ Days", "cs(Days|Subject, hom=True)"),
    "ar1 of effects": ("Reaction ~ Days + ar1(0 + half|Subject)", None),
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_structures_with_correlations(name: str) -> None:
    """Satterthwaite from differences of the criterion and of the covariance matrix, in the parameters as they are."""
    formula, residual = STRUCTURED[name]
    data = frame("sleepstudy_unbalanced")
    data = data.assign(half=np.array(["a", "b", "c"])[data["Days"] // 4])
    fit = mg.lmm(formula, data, residual=residual)
    theta, engine = fit.fitted.theta, fit.fitted.engine
    step = 1e-2 * np.sqrt(np.diag(fit.fitted.theta_covariance))
    k = len(theta)

    def at(shift: Any) -> Any:
        return engine.at(theta + step * np.asarray(shift))

    eye = np.eye(k)
    H = np.array(
        [
            [
                sum(s * t * 0.5 * deviance(at(s * eye[i] + t * eye[j]), True) for s in (1, -1) for t in (1, -1))
                for j in range(k)
            ]
            for i in range(k)
        ]
    ) / (4.0 * np.outer(step, step))
    slopes = [
        (at(e).fixed_covariance() - at(-e).fixed_covariance()) / (2.0 * h) for e, h in zip(eye, step, strict=True)
    ]
    g = np.array([np.diag(s) for s in slopes])
    v = np.diag(fit.fitted.system.fixed_covariance())
    close(fit.df, 2.0 * v**2 / np.einsum("ip,ij,jp->p", g, np.linalg.inv(H), g), 2e-3)


def test_kenward_roger_of_two_traits() -> None:
    """Unstructured residuals of two times within subjects: linear, with three parameters, and no random term."""
    data = frame("sleepstudy_unbalanced")
    data = data[data["Days"].isin([5, 9])]
    fit = mg.lmm("Reaction ~ 0 + C(Days)", data, residual="us(Days|Subject)")
    w = written_out(fit)
    E = np.array([[0.5 * np.sum((w["P"] @ A) * (w["P"] @ C).T) for C in w["V"]] for A in w["V"]])
    close(fit.inference.expected_covariance, np.linalg.inv(E), 1e-5)
    assert np.isfinite(fit.summary(ddf="kenward-roger").coefficients).all().all()


def test_kenward_roger_of_a_thousand_records_is_that_of_pbkrtest() -> None:
    """To six digits; pbkrtest takes matrices of records by records, and this does not."""
    want = json.loads((Path(__file__).parent / "reference" / "kenward_roger.json").read_text())
    fit = mg.lmm(FORMULA, crossed(1000))
    table = fit.anova(ddf="kenward-roger")
    for term, row in want["tests"].items():
        got = table.loc[term, ["f", "dendf", "p"]].astype(float)
        np.testing.assert_allclose(got, [row["f"], row["df"], row["p"]], rtol=1e-6)
    se = np.sqrt(np.diag(np.array(want["vcov"])))
    np.testing.assert_allclose(fit.tidy("fixed", ddf="kenward-roger")["std.error"], se, rtol=1e-6)
