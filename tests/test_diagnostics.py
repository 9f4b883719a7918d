"""The report of a fit finds what is wrong with it, and the explanation says what was fitted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.diagnostics.diagnose import Diagnosis
from mixedgen.errors import ConvergenceWarning


def finding(report: Diagnosis, check: str) -> pd.Series:
    """The first finding of a check that is not ok, or the one that is."""
    rows = report.table[report.table["check"] == check]
    return rows.sort_values("verdict", key=lambda v: v == "ok", kind="stable").iloc[0]


def groups(n: int = 60, q: int = 12, seed: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.arange(n) % q
    x = rng.normal(size=n)
    return pd.DataFrame({"g": [f"g{k}" for k in g], "x": x, "y": rng.normal(size=q)[g] + 0.5 * x + rng.normal(size=n)})


def test_a_sound_fit_has_nothing_wrong() -> None:
    report = mg.lmm("y ~ x + (1|g)", groups()).diagnose()
    assert report.ok
    assert list(report.table.columns) == ["check", "verdict", "evidence", "advice"]
    assert set(report.table["verdict"]) == {"ok"}
    for check in report.table["check"]:
        assert check in str(report)
        assert check in report._repr_html_()


def test_a_fit_that_stopped_early_is_a_problem() -> None:
    with pytest.warns(ConvergenceWarning):
        fit = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy(), control=mg.Control(max_iter=1))
    report = fit.diagnose()
    assert not report.ok
    assert finding(report, "convergence")["evidence"] == fit.certificate.verdict


def test_singular_and_nearly_singular_terms_are_named() -> None:
    singular = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff2()).diagnose()
    assert "variance of Batch is zero" in finding(singular, "boundary")["evidence"]
    model = mg.MixedModel("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())
    near = model.solve(
        {"Subject": [[600.0, 0.999 * np.sqrt(600 * 35)], [0.999 * np.sqrt(600 * 35), 35.0]], "residual": 650.0}
    )
    assert "correlate at 0.9990" in finding(near.diagnose(), "boundary")["evidence"]
    zero = model.solve({"Subject": np.diag([600.0, 0.0]), "residual": 650.0}).diagnose()
    assert "variance of Days in Subject is 0" in finding(zero, "boundary")["evidence"]


def test_a_correlation_at_its_bound_is_named() -> None:
    data = mg.data.sleepstudy()
    model = mg.MixedModel("Reaction ~ Days", data, residual="ar1(Days|Subject)")
    R = 900.0 * 0.9999 ** np.abs(np.subtract.outer(range(10), range(10)))
    assert "residual[rho] is 0.9999" in finding(model.solve({"residual": R}).diagnose(), "boundary")["evidence"]


def test_negative_estimates_are_a_problem() -> None:
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff2(), method="anova3")
    report = fit.diagnose()
    assert not report.ok
    assert "Batch" in finding(report, "convergence")["evidence"]
    assert "no likelihood" in str(fit.explain())


@pytest.mark.parametrize(("far", "words"), [(30, "Correlated estimates: Subject[1,1] and "), (1000, "has no inverse")])
def test_variances_that_the_data_hardly_tell_apart(far: int, words: str) -> None:
    data = mg.data.sleepstudy().assign(Day=lambda d: d["Days"] + far)
    report = mg.lmm("Reaction ~ Day + (Day|Subject)", data).diagnose()
    assert words in finding(report, "curvature")["evidence"]
    assert ("'Day'" in finding(report, "scaling")["evidence"]) == (far > 300)


def test_aliased_columns_and_scales() -> None:
    data = groups().assign(
        twice=lambda d: 2 * d["x"], grams=lambda d: 1e6 * np.sin(np.arange(60)), year=lambda d: 2000 + d["x"]
    )
    report = mg.lmm("y ~ x + twice + grams + (1|g)", data).diagnose()
    assert "'twice'" in finding(report, "rank of X")["evidence"]
    assert "grams" in finding(report, "scaling")["evidence"]
    assert "'year'" in finding(mg.lmm("y ~ year + (1|g)", data).diagnose(), "scaling")["evidence"]


def test_few_levels_and_few_records() -> None:
    data = groups(60, 50)
    found = finding(mg.MixedModel("y ~ x + (1|g)", data).solve({"g": 1.0, "residual": 1.0}).diagnose(), "levels of g")
    assert found["verdict"] == "note"
    assert "40 with one record" in found["evidence"]
    assert "and 35 more" in found["evidence"]
    few = mg.MixedModel("y ~ x + (1|g)", groups(60, 3)).solve({"g": 1.0, "residual": 1.0}).diagnose()
    assert "3 levels" in finding(few, "levels of g")["evidence"]
    assert finding(few, "levels of g")["verdict"] == "note"


def test_outliers_by_label_the_farthest_first() -> None:
    data = groups(400, 20).set_index(pd.Index([f"r{k}" for k in range(400)]))
    far = {f"r{k}": 30.0 + k for k in range(7)}
    data["y"] += pd.Series(far).reindex(data.index, fill_value=0.0)
    found = finding(mg.lmm("y ~ x + (1|g)", data).diagnose(), "outliers")
    assert "7 of 400 records" in found["evidence"]
    assert found["evidence"].count("(") == 5


def test_lost_rows_are_counted_by_variable() -> None:
    data = groups()
    data.loc[[3, 4], "x"] = np.nan
    found = finding(mg.lmm("y ~ x + (1|g)", data).diagnose(), "records")
    assert "2 of 60 rows" in found["evidence"]
    assert "2 for x" in found["evidence"]
    assert finding(mg.lmm("y ~ x + (1|g)", groups(), subset=np.arange(40)).diagnose(), "records")["verdict"] == "ok"


def test_ids_that_are_not_in_the_relationship() -> None:
    data = pd.concat([mg.data.mrode_calves(), mg.data.mrode_calves().assign(calf=99).iloc[:1]], ignore_index=True)
    A = mg.additive(mg.Pedigree(mg.data.mrode_pedigree()))
    model = mg.MixedModel("wwg ~ sex + (1|calf:A)", data, relationships={"A": A}, unmatched="omit")
    report = model.solve({"calf:A": 20.0, "residual": 40.0}).diagnose()
    found = finding(report, "ids of calf:A")
    assert found["verdict"] == "note"
    assert "99" in found["evidence"]
    assert finding(report, "records")["verdict"] == "note"


def test_explanation_of_a_model_with_a_pedigree() -> None:
    A = mg.additive(mg.Pedigree(mg.data.mrode_pedigree()))
    model = mg.MixedModel("wwg ~ 0 + sex + (1|calf:A)", mg.data.mrode_calves(), relationships={"A": A})
    fit = model.solve({"calf:A": 20.0, "residual": 40.0})
    text = fit.explain()
    row = text.terms.iloc[0]
    assert row[["term", "levels", "with_records", "structure"]].tolist() == ["calf:A", 8, 5, "us"]
    assert row["relationship"].startswith("A (")
    forecast = model.forecast()
    assert text.sizes[["records", "fixed_effects", "random_effects", "parameters"]].tolist() == [5, 2, 8, 2]
    assert text.sizes[["equations", "factor_elements"]].tolist() == [forecast.order, forecast.nonzeros]
    for word in ("calf:A", "variances were given", "henderson", "5 records"):
        assert word in str(text)


@pytest.mark.parametrize(
    ("residual", "word"),
    [
        (None, "one variance"),
        ("diag(half)", "2 classes"),
        ("ar1(Days|Subject)", "ar1 covariance matrix"),
        ("exp(Days)", "exp"),
    ],
)
def test_explanation_of_method_engine_and_residual(residual: str | None, word: str) -> None:
    data = mg.data.sleepstudy().assign(half=lambda d: np.where(d["Days"] < 5, "first", "second"))
    control = mg.Control(engine="dense", optimiser="ai")
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", data, residual=residual, method="ml", control=control)
    text = str(fit.explain())
    for part in (
        word,
        "(ML)",
        "average information",
        "Control(engine='dense')",
        f"{fit.deviance:.6g}",
        *fit.theta.index,
    ):
        assert part in text
    assert "Subject" in fit.explain()._repr_html_()


def test_explanation_tells_related_levels_from_independent_ones() -> None:
    A = mg.additive(mg.Pedigree(mg.data.mrode_pedigree()))
    model = mg.MixedModel("wwg ~ 1 + (1|calf:A) + (1|sex)", mg.data.mrode_calves(), relationships={"A": A})
    lines = str(model.solve({"calf:A": 20.0, "sex": 1.0, "residual": 40.0}).explain()).splitlines()
    assert any("calf:A" in line and "related by A" in line for line in lines)
    assert any("Random term sex" in line and "independent" in line for line in lines)


def test_restricted_parameters_are_told() -> None:
    data = groups()
    control = mg.Control(fix={"residual": 1.5}, bound={"g": (0.001, 0.01)})
    fit = mg.lmm("y ~ x + (1|g)", data, control=control)
    assert "g is 0.01, between bounds 0.001 and 0.01" in finding(fit.diagnose(), "boundary")["evidence"]
    assert "'residual', 'g'" in str(fit.explain())
    assert "one variance; parameters none" in str(fit.explain())
