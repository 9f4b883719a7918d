"""What a fit shows: names, shapes, labels, and that they hold the numbers they name."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg

SLOPE = "Reaction ~ Days + (Days|Subject)"
EXACT = 1e-10  # rounding of a well-conditioned system of some tens of equations


@pytest.fixture(scope="module")
def slope() -> mg.Fit:
    return mg.lmm(SLOPE, mg.data.sleepstudy())


@pytest.fixture(scope="module")
def ml() -> mg.Fit:
    return mg.lmm(SLOPE, mg.data.sleepstudy(), method="ml")


@pytest.fixture(scope="module")
def nested() -> mg.Fit:
    return mg.lmm("strength ~ 1 + (1|batch/cask)", mg.data.pastes())


@pytest.fixture(scope="module")
def animal() -> mg.Fit:
    """Mrode's beef calves at known variances."""
    relationships = {"A": mg.additive(mg.Pedigree(mg.data.mrode_pedigree()))}
    model = mg.MixedModel("wwg ~ 0 + sex + (1|calf:A)", mg.data.mrode_calves(), relationships=relationships)
    return model.solve({"calf:A": 20.0, "residual": 40.0})


def dense(fit: mg.Fit) -> dict[str, Any]:
    """Henderson's matrices of a fit, written out and inverted."""
    design = fit.fitted.design
    X = np.asarray(design.fixed.X)
    Z = np.hstack([t.Z.toarray() for t in design.terms])
    blocks = []
    for t, s in zip(design.terms, design.slices, strict=False):
        blocks.append(np.kron(t.structure.matrix(fit.fitted.theta[s]), t.multiply_relationship(np.eye(t.q))))
    G = np.zeros((Z.shape[1],) * 2)
    at = 0
    for B in blocks:
        G[at : at + len(B), at : at + len(B)] = B
        at += len(B)
    W = np.hstack([X, Z])
    C = W.T @ W / fit.scale
    C[X.shape[1] :, X.shape[1] :] += np.linalg.inv(G)
    return {"X": X, "Z": Z, "G": G, "C": C, "inverse": np.linalg.inv(C)}


# Fixed effects


def test_names_of_fixed_effects(slope: mg.Fit) -> None:
    for series in (slope.params, slope.bse, slope.tvalues, slope.fixef()):
        assert isinstance(series, pd.Series) and list(series.index) == ["Intercept", "Days"]
    for frame in (slope.cov_params(), slope.vcov()):
        assert list(frame.index) == list(frame.columns) == ["Intercept", "Days"]
    np.testing.assert_allclose(np.sqrt(np.diag(slope.cov_params())), slope.bse, rtol=EXACT)
    np.testing.assert_allclose(slope.tvalues, slope.params / slope.bse, rtol=EXACT)


def test_names_of_coded_columns() -> None:
    fit = mg.lmm("angle ~ recipe * temp + C(replicate, contr.sum) + (1|recipe:replicate)", mg.data.cake())
    names = list(fit.params.index)
    assert names[:5] == ["Intercept", "recipe[T.B]", "recipe[T.C]", "temp", "C(replicate, contr.sum)[S.1]"]
    assert names[-2:] == ["recipe[T.B]:temp", "recipe[T.C]:temp"]  # terms by degree, as in R


# Criteria


def test_criteria(slope: mg.Fit, ml: mg.Fit) -> None:
    assert slope.reml_criterion == -2 * slope.llf and ml.deviance == -2 * ml.llf
    assert slope.npar == ml.npar == 6 and slope.nobs == 180
    for fit in (slope, ml):
        assert fit.aic == pytest.approx(-2 * fit.llf + 2 * 6, rel=EXACT)
        assert fit.bic == pytest.approx(-2 * fit.llf + 6 * np.log(180), rel=EXACT)
    assert (slope.method, ml.method) == ("reml", "ml")


def test_about_a_fit(slope: mg.Fit) -> None:
    assert slope.formula == SLOPE and slope.engine == "henderson" and slope.converged is True
    assert repr(slope) == "Fit('Reaction ~ Days + (Days|Subject)', method='reml', llf=-871.814, converged=True)"
    assert slope.scale == slope.theta["residual"]


def test_certificate(slope: mg.Fit, animal: mg.Fit) -> None:
    certificate = slope.certificate
    assert certificate.converged and certificate.singular == ()
    assert abs(certificate.gradient) < 1e-3 and 0 <= certificate.decrement < 1e-6 and 0 < certificate.curvature <= 1
    assert certificate.iterations == len(slope.history)
    assert str(certificate).startswith("converged")
    assert animal.certificate is None and animal.converged  # nothing was estimated


def test_certificate_names_the_singular_term() -> None:
    frame = mg.data.dyestuff2()
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", frame)
    assert fit.converged and len(fit.certificate.singular) == 1
    assert "Batch" in fit.certificate.singular[0] and "zero" in fit.certificate.singular[0]
    assert fit.theta["Batch"] == 0.0  # exactly
    assert fit.varcomp["bound"][0] == "zero variance" and pd.isna(fit.varcomp["bound"][1])
    assert fit.varcomp["se"].isna().tolist() == [True, False]
    blup = fit.blup("Batch")
    assert (blup["value"] == 0).all() and (blup["pev"] == 0).all() and blup["reliability"].isna().all()


def test_certificate_looks_at_the_gradient() -> None:
    """A loose tolerance ends the loop early; the verdict is that of the gradient, not of the tolerance."""
    with pytest.warns(mg.ConvergenceWarning, match="gradient is .* standard errors from zero"):
        fit = mg.lmm(SLOPE, mg.data.sleepstudy(), control=mg.Control(tol=1.0))
    assert not fit.converged and fit.certificate.gradient > 1e-3 and len(fit.history) > 0


@pytest.mark.parametrize("optimiser", ["ai", "em"])
def test_iterates(optimiser: str) -> None:
    """After max_iter steps the fit is that iterate."""
    whole = mg.lmm(SLOPE, mg.data.sleepstudy(), control=mg.Control(optimiser=optimiser)).history
    with pytest.warns(mg.ConvergenceWarning, match="stopped after 2 steps"):
        fit = mg.lmm(SLOPE, mg.data.sleepstudy(), control=mg.Control(optimiser=optimiser, max_iter=2))
    assert len(fit.history) == 2
    np.testing.assert_allclose(fit.theta, whole[fit.theta.index].iloc[1], rtol=EXACT)
    assert fit.reml_criterion == pytest.approx(whole["criterion"].iloc[1], rel=EXACT)


def test_history(slope: mg.Fit, animal: mg.Fit) -> None:
    history = slope.history
    assert list(history.columns) == ["criterion", "step", "decrement", *slope.theta.index]
    assert history["criterion"].iloc[-1] == pytest.approx(slope.reml_criterion, abs=1e-8)
    assert (np.diff(history["criterion"]) < 1e-7).all()  # an ascent
    assert set(history["step"]) <= {"ai", "factor", "newton", "em"}
    assert len(animal.history) == 0


# Variances


def test_names_of_theta(slope: mg.Fit, nested: mg.Fit, animal: mg.Fit) -> None:
    assert list(slope.theta.index) == ["Subject[1,1]", "Subject[1,Days]", "Subject[Days,Days]", "residual"]
    assert list(nested.theta.index) == ["cask:batch", "batch", "residual"]
    assert animal.theta.to_dict() == {"calf:A": 20.0, "residual": 40.0}
    double = mg.lmm("Reaction ~ Days + (Days||Subject)", mg.data.sleepstudy())
    assert list(double.theta.index) == ["Subject", "Subject.1", "residual"]
    classes = mg.lmm("Reaction ~ Days + (1|Subject)", halves(), residual="diag(half)")
    assert list(classes.theta.index) == ["Subject", "residual[early,early]", "residual[late,late]"]


def halves() -> pd.DataFrame:
    return mg.data.sleepstudy().assign(half=lambda d: np.where(d["Days"] < 5, "early", "late"))


def test_varcomp(slope: mg.Fit) -> None:
    frame = slope.varcomp
    assert list(frame.columns) == ["grp", "var1", "var2", "vcov", "sdcor", "se", "bound"]
    assert frame["grp"].tolist() == ["Subject"] * 3 + ["Residual"]
    assert frame["var1"].tolist()[:3] == ["(Intercept)", "Days", "(Intercept)"] and pd.isna(frame["var1"][3])
    assert frame["var2"].isna().tolist() == [True, True, False, True] and frame["var2"][2] == "Days"
    t = slope.theta
    np.testing.assert_array_equal(frame["vcov"], t.iloc[[0, 2, 1, 3]])
    np.testing.assert_allclose(frame["sdcor"][[0, 1, 3]], np.sqrt(frame["vcov"][[0, 1, 3]]), rtol=EXACT)
    assert frame["sdcor"][2] == pytest.approx(t.iloc[1] / np.sqrt(t.iloc[0] * t.iloc[2]), rel=EXACT)
    se = np.sqrt(np.diag(np.linalg.inv(slope.fitted.information)))
    np.testing.assert_allclose(frame["se"], se[[0, 2, 1, 3]], rtol=1e-8)
    assert frame["bound"].isna().all()


def test_varcomp_of_residual_classes() -> None:
    frame = mg.lmm("Reaction ~ Days + (1|Subject)", halves(), residual="diag(half)").varcomp
    assert frame["grp"].tolist() == ["Subject", "Residual", "Residual"]
    assert frame["var1"].tolist()[1:] == ["early", "late"]


def test_varcomp_order_is_that_of_lme4(nested: mg.Fit) -> None:
    assert nested.varcomp["grp"].tolist() == ["cask:batch", "batch", "Residual"]
    crossed = mg.lmm("diameter ~ 1 + (1|sample) + (1|plate)", mg.data.penicillin())
    assert crossed.varcomp["grp"].tolist() == ["plate", "sample", "Residual"]  # most levels first


def test_relative_factor(slope: mg.Fit, nested: mg.Fit) -> None:
    L = np.zeros((2, 2))
    L[[0, 1, 1], [0, 0, 1]] = slope.relative_factor
    t = slope.theta.to_numpy()
    np.testing.assert_allclose(L @ L.T * t[3], [[t[0], t[1]], [t[1], t[2]]], rtol=EXACT)
    np.testing.assert_allclose(nested.relative_factor, np.sqrt(nested.theta.to_numpy()[:2] / nested.scale), rtol=EXACT)
    assert list(nested.relative_factor.index) == ["cask:batch[(Intercept)]", "batch[(Intercept)]"]


# Functions of variances


@pytest.mark.parametrize(
    ("expression", "value", "gradient"),
    [
        ("residual", lambda a, c, b, e: e, lambda a, c, b, e: [0, 0, 0, 1]),
        ("Subject[1,1] + 2 * Subject[1,Days]", lambda a, c, b, e: a + 2 * c, lambda a, c, b, e: [1, 2, 0, 0]),
        ("sd = sqrt(Subject[Days,Days])", lambda a, c, b, e: b**0.5, lambda a, c, b, e: [0, 0, 0.5 * b**-0.5, 0]),
        ("log(residual) - exp(0)", lambda a, c, b, e: np.log(e) - 1, lambda a, c, b, e: [0, 0, 0, 1 / e]),
        ("-(Subject[1,1]**2) / 1e3", lambda a, c, b, e: -(a**2) / 1e3, lambda a, c, b, e: [-2 * a / 1e3, 0, 0, 0]),
        (
            "icc = Subject[1,1] / (Subject[1,1] + residual)",
            lambda a, c, b, e: a / (a + e),
            lambda a, c, b, e: [e / (a + e) ** 2, 0, 0, -a / (a + e) ** 2],
        ),
        (
            "Subject[1,Days]/sqrt(Subject[1,1]*Subject[Days,Days])",
            lambda a, c, b, e: c / np.sqrt(a * b),
            lambda a, c, b, e: [-0.5 * c / np.sqrt(a**3 * b), 1 / np.sqrt(a * b), -0.5 * c / np.sqrt(a * b**3), 0],
        ),
        ("2", lambda a, c, b, e: 2.0, lambda a, c, b, e: [0, 0, 0, 0]),
    ],
)
def test_functions_of_variances(slope: mg.Fit, expression: str, value: Any, gradient: Any) -> None:
    theta = slope.theta.to_numpy()
    g = np.array(gradient(*theta), dtype=float)
    got = slope.vfun(expression)
    assert got.estimate == pytest.approx(value(*theta), rel=EXACT)
    assert got.se == pytest.approx(np.sqrt(g @ np.linalg.inv(slope.fitted.information) @ g), rel=1e-8)
    name, _, right = expression.rpartition(" = ")
    assert (got.name, got.expression) == (name or right, right)


def test_name_with_a_relationship_stands_as_it_is(animal: mg.Fit) -> None:
    assert animal.vfun("h2 = calf:A / (calf:A + residual)").estimate == pytest.approx(1 / 3, rel=EXACT)


def test_variance_at_zero_counts_as_known() -> None:
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff2())
    whole, part = fit.vfun("Batch + residual"), fit.vfun("residual")
    assert whole.se == pytest.approx(part.se, rel=EXACT) and np.isfinite(part.se)


# Random effects


def test_blup_frame(slope: mg.Fit) -> None:
    frame = slope.blup("Subject")
    assert list(frame.columns) == ["level", "effect", "value", "se", "pev", "reliability", "accuracy", "n_records"]
    assert len(frame) == 18 * 2
    assert frame["effect"].tolist() == ["(Intercept)", "Days"] * 18
    assert frame["level"].tolist()[::2] == sorted(mg.data.sleepstudy()["Subject"].unique())
    np.testing.assert_allclose(frame["se"] ** 2, frame["pev"], rtol=EXACT)
    variance = np.tile(slope.theta.to_numpy()[[0, 2]], 18)
    np.testing.assert_allclose(frame["reliability"], 1 - frame["pev"] / variance, rtol=1e-9)
    assert (frame["n_records"] == 10).all()


def test_blup_counts_the_records_of_each_level() -> None:
    frame = mg.data.sleepstudy().iloc[4:]  # the first subject has six records, the others ten
    counts = mg.lmm(SLOPE, frame).blup("Subject")["n_records"]
    assert counts.tolist() == [6, 6] + [10] * 34


def test_blup_of_split_terms() -> None:
    fit = mg.lmm("Reaction ~ Days + (Days||Subject)", mg.data.sleepstudy())
    assert set(fit.blup("Subject")["effect"]) == {"(Intercept)"} and set(fit.blup("Subject.1")["effect"]) == {"Days"}


def test_parts_of_a_name_come_in_any_order(nested: mg.Fit) -> None:
    pd.testing.assert_frame_equal(nested.blup("cask:batch"), nested.blup("batch:cask"))
    a = mg.MixedModel("strength ~ 1 + (1|batch/cask)", mg.data.pastes())
    assert (
        a.solve({"batch:cask": 8.0, "batch": 2.0, "residual": 1.0}).llf
        == a.solve({"cask:batch": 8.0, "batch": 2.0, "residual": 1.0}).llf
    )


def test_ranef(slope: mg.Fit) -> None:
    frame = slope.ranef()["Subject"]
    assert frame.shape == (18, 2) and list(frame.columns) == ["(Intercept)", "Days"]
    assert frame.attrs["cond_var"].shape == (18, 2, 2)
    np.testing.assert_array_equal(frame.to_numpy().ravel(), slope.blup("Subject")["value"])
    assert "cond_var" not in slope.ranef(cond_var=False)["Subject"].attrs


def test_frames_of_random_effects_can_be_sorted_and_joined(slope: mg.Fit) -> None:
    frame = slope.ranef()["Subject"]
    top = frame.nlargest(3, "Days")
    assert list(top.index) == list(frame["Days"].sort_values(ascending=False).index[:3])
    both = pd.concat([frame, frame.copy()])
    assert both.shape == (36, 2)
    np.testing.assert_array_equal(both.attrs["cond_var"][3], frame.attrs["cond_var"][3])
    other = slope.refit(mg.data.sleepstudy()["Reaction"].to_numpy()[::-1]).ranef()["Subject"]
    assert pd.concat([frame, other]).attrs == {}
    assert frame.merge(other, left_index=True, right_index=True).shape == (18, 4)


def test_conditional_variance_is_given_the_fixed_effects(slope: mg.Fit) -> None:
    m = dense(slope)
    p = m["X"].shape[1]
    conditional = np.linalg.inv(m["C"][p:, p:])
    got = slope.ranef()["Subject"].attrs["cond_var"]
    for i in range(18):
        np.testing.assert_allclose(got[i], conditional[np.ix_([i, 18 + i], [i, 18 + i])], rtol=1e-9)
    pev = slope.blup("Subject")["pev"].to_numpy().reshape(18, 2)
    assert (pev > np.einsum("iaa->ia", got)).all()


# Joint covariance


@pytest.mark.parametrize("name", ["slope", "nested", "animal"])
def test_joint_covariance_is_the_inverse_of_the_equations(name: str, request: pytest.FixtureRequest) -> None:
    fit: mg.Fit = request.getfixturevalue(name)
    V, m = fit.vcov(full=True), dense(fit)
    sd = np.sqrt(np.diag(m["inverse"]))
    np.testing.assert_allclose(V / np.outer(sd, sd), m["inverse"] / np.outer(sd, sd), atol=1e-9)
    labels = list(V.index)
    assert list(V.columns) == labels
    p = len(fit.params)
    assert labels[:p] == list(fit.params.index)
    expected = [(t.key, level, effect) for t in fit.fitted.design.terms for effect in t.effects for level in t.levels]
    assert labels[p:] == expected
    for t in fit.fitted.design.terms:
        frame = fit.blup(t.key)
        keys = [(t.key, level, effect) for level, effect in zip(frame["level"], frame["effect"], strict=True)]
        at = [labels.index(k) for k in keys]
        np.testing.assert_allclose(np.diag(V)[at], frame["pev"], rtol=1e-9)


def test_joint_covariance_selects_by_label(slope: mg.Fit) -> None:
    V = slope.vcov(full=True)
    keys = [k for k in V.index if isinstance(k, tuple) and k[1] == "308"]
    assert keys == [("Subject", "308", "(Intercept)"), ("Subject", "308", "Days")]
    assert V.loc[keys, keys].shape == (2, 2)


def test_joint_covariance_without_random_terms() -> None:
    fit = mg.lmm("Reaction ~ Days", mg.data.sleepstudy())
    np.testing.assert_allclose(fit.vcov(full=True), fit.cov_params(), rtol=EXACT)


# Matrices, forecast


def test_matrices_are_the_equations(animal: mg.Fit) -> None:
    relationships = {"A": mg.additive(mg.Pedigree(mg.data.mrode_pedigree()))}
    model = mg.MixedModel("wwg ~ 0 + sex + (1|calf:A)", mg.data.mrode_calves(), relationships=relationships)
    m = model.matrices({"calf:A": 20.0, "residual": 40.0})
    assert m.X.shape == (5, 2) and m.Z.shape == (5, 8) and m.LHS.shape == (10, 10)
    solution = np.linalg.solve(m.LHS, m.RHS)
    np.testing.assert_allclose(solution, [*animal.params, *animal.blup("calf:A")["value"]], rtol=1e-9)
    np.testing.assert_allclose(m.V, m.Z @ m.G @ m.Z.T.to_numpy() + m.R.to_numpy(), rtol=EXACT)
    assert list(m.LHS.index) == ["sex[M]", "sex[F]", *[("calf:A", k, "(Intercept)") for k in range(1, 9)]]
    assert model.forecast().order >= 10


# Records of the data


def test_fitted_values_and_residuals(slope: mg.Fit) -> None:
    frame = mg.data.sleepstudy()
    np.testing.assert_allclose(slope.fittedvalues + slope.resid, frame["Reaction"], rtol=1e-13)
    u = slope.ranef()["Subject"].loc[frame["Subject"].astype(str)].to_numpy()
    by_hand = slope.params["Intercept"] + slope.params["Days"] * frame["Days"] + u[:, 0] + u[:, 1] * frame["Days"]
    np.testing.assert_allclose(slope.fittedvalues, by_hand, rtol=1e-11)


# Summary


def test_summary_says_what_lme4_says(slope: mg.Fit) -> None:
    text = str(slope.summary())
    for piece in (
        "REML",
        SLOPE,
        "REML criterion at convergence: 1743.6283",
        "Scaled residuals",
        "Variance",
        "Std.Dev.",
        "Corr",
        "Number of obs: 180, groups: Subject, 18",
        "Fixed effects",
        "Std. Error",
        "t value",
        "Correlation of Fixed Effects",
        "Certificate: converged",
    ):
        assert piece in text
    for number in (
        "612.09",
        "24.74",
        "35.07",
        "5.92",
        "654.94",
        "25.59",
        "0.07",
        "251.41",
        "6.825",
        "10.47",
        "1.546",
        "-0.138",
    ):
        assert number in text


def test_summary_tables(slope: mg.Fit) -> None:
    summary = slope.summary()
    assert list(summary.coefficients.columns) == ["estimate", "se", "df", "t", "p"]
    np.testing.assert_array_equal(summary.coefficients["estimate"], slope.params)
    np.testing.assert_array_equal(summary.coefficients["se"], slope.bse)
    pd.testing.assert_frame_equal(summary.varcomp, slope.varcomp)
    r = slope.resid / np.sqrt(slope.scale)
    np.testing.assert_allclose(summary.scaled_residuals, np.quantile(r, [0, 0.25, 0.5, 0.75, 1]), rtol=EXACT)
    np.testing.assert_allclose(np.diag(summary.correlation), 1.0, rtol=EXACT)


def test_summary_of_maximum_likelihood(ml: mg.Fit) -> None:
    text = str(ml.summary())
    assert "maximum likelihood" in text and "deviance at convergence: 1751.9393" in text and "REML" not in text


def test_summary_of_known_variances(animal: mg.Fit) -> None:
    text = str(animal.summary())
    assert "at given variances" in text and "convergence" not in text and "Certificate" not in text


def test_summary_counts_the_rows_lost() -> None:
    frame = mg.data.sleepstudy()
    frame.loc[[1, 2, 3], "Reaction"] = np.nan
    frame.loc[[3, 4], "Subject"] = np.nan
    text = str(mg.lmm(SLOPE, frame).summary())
    assert "4 rows left out for missing values" in text and "3 in Reaction" in text and "2 in Subject" in text
    assert "Number of obs: 176" in text


def test_summary_does_not_count_the_rows_of_a_subset_as_lost() -> None:
    frame = mg.data.sleepstudy()
    frame.loc[1, "Reaction"] = np.nan
    text = str(mg.lmm(SLOPE, frame, subset="Days < 5").summary())
    assert "1 rows left out" in text or "1 row left out" in text


def test_summary_names_aliased_columns_and_the_boundary() -> None:
    frame = mg.data.dyestuff2().assign(one=1.0)
    text = str(mg.lmm("Yield ~ 1 + one + (1|Batch)", frame).summary())
    assert re.search("aliased.*one", text) and "boundary (singular) fit" in text and "Batch" in text


def test_summary_in_other_formats(slope: mg.Fit) -> None:
    summary = slope.summary()
    html = summary._repr_html_()
    assert html.count("<table") == html.count("</table>") == 2 and "Subject" in html and "Std.Dev." in html
    latex = summary.as_latex()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    assert "612.09" in latex and "251.405" in latex
    for text in (html, latex, str(summary)):
        assert "nan" not in text.lower() and "None" not in text


def test_latex_escapes_names() -> None:
    frame = mg.data.dyestuff().rename(columns={"Batch": "batch_no"}).assign(x_1=np.arange(30.0))
    latex = mg.lmm("Yield ~ x_1 + (1|batch_no)", frame).summary().as_latex()
    assert r"batch\_no" in latex and r"x\_1" in latex and "(Intercept)" in latex


def test_table_of_effects_with_one_name_for_all() -> None:
    fit = mg.lmm("Reaction ~ Days + (Days||Subject)", mg.data.sleepstudy())
    assert fit.summary().random_effects["Groups"].tolist() == ["Subject", "Subject.1", "Residual"]


# No random term


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_without_random_terms_it_is_least_squares(method: str, weights: str | None) -> None:
    frame = mg.data.sleepstudy().assign(w=lambda d: 1 + d["Days"] / 4)
    fit = mg.lmm("Reaction ~ Days + Subject", frame, method=method, weights=weights)
    w = np.ones(180) if weights is None else frame["w"].to_numpy()
    X = np.column_stack([np.ones(180), pd.get_dummies(frame["Subject"]).to_numpy(dtype=float)[:, 1:], frame["Days"]])
    names = ["Intercept", *[f"Subject[T.{s}]" for s in frame["Subject"].cat.categories[1:]], "Days"]
    y = frame["Reaction"].to_numpy()
    XtX = X.T @ (X * w[:, None])
    b = np.linalg.solve(XtX, X.T @ (w * y))
    rss = float(w @ (y - X @ b) ** 2)
    sigma2 = rss / (180 - 19 if method == "reml" else 180)
    assert fit.scale == pytest.approx(sigma2, rel=1e-9)
    np.testing.assert_allclose(fit.params[names], b, rtol=1e-9)
    np.testing.assert_allclose(fit.bse[names], np.sqrt(sigma2 * np.diag(np.linalg.inv(XtX))), rtol=1e-9)
    value = 180 * np.log(2 * np.pi * sigma2) - np.log(w).sum() + rss / sigma2
    if method == "reml":
        value = 161 * np.log(2 * np.pi * sigma2) - np.log(w).sum() + rss / sigma2 + np.linalg.slogdet(XtX)[1]
    assert fit.llf == pytest.approx(-0.5 * value, rel=1e-11)
    assert fit.npar == 20 and fit.converged and fit.ranef() == {}
    assert "Fixed effects" in str(fit.summary())


def test_a_mean_alone() -> None:
    y = np.array([3.0, 5.0, 10.0])
    fit = mg.lmm("y ~ 1", {"y": y})
    assert fit.params["Intercept"] == pytest.approx(6.0, rel=EXACT)
    assert fit.scale == pytest.approx(y.var(ddof=1), rel=1e-9)
    assert fit.bse["Intercept"] == pytest.approx(np.sqrt(y.var(ddof=1) / 3), rel=1e-9)
