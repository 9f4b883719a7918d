"""Random regressions along their covariate, against written-out algebra and vfun."""

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.errors import ArgumentError, DataError, NotAvailableError

DAYS = [0.0, 4.0, 9.0]


@pytest.fixture(scope="module")
def curves() -> mg.Fit:
    return mg.lmm("Reaction ~ Days + us(leg(Days, 1)|Subject)", mg.data.sleepstudy())


@pytest.fixture(scope="module")
def lines() -> mg.Fit:
    return mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())


def test_a_line_in_either_basis(curves, lines):
    left, right = (fit.trajectory("Subject", {"Days": DAYS}) for fit in (curves, lines))
    assert list(left.columns) == ["level", "Days", "value", "se", "pev", "reliability", "accuracy"]
    pd.testing.assert_frame_equal(left, right, rtol=1e-5, atol=1e-5)


def test_values_are_those_of_the_effects(lines):
    table = lines.trajectory("Subject", {"Days": DAYS}).set_index(["level", "Days"])
    u = lines.ranef()["Subject"]
    np.testing.assert_allclose(table["value"].xs(4.0, level="Days"), u["(Intercept)"] + 4.0 * u["Days"], rtol=1e-10)
    V = lines.vcov(full=True)
    names = [("Subject", "308", e) for e in ("(Intercept)", "Days")]
    block = V.loc[names, names].to_numpy()
    w = np.array([1.0, 9.0])
    assert table.at[("308", 9.0), "pev"] == pytest.approx(w @ block @ w, rel=1e-8)
    Sigma = np.array([[lines.theta.iloc[0], lines.theta.iloc[1]], [lines.theta.iloc[1], lines.theta.iloc[2]]])
    reliability = 1.0 - w @ block @ w / (w @ Sigma @ w)
    assert table.at[("308", 9.0), "reliability"] == pytest.approx(reliability, rel=1e-8)


def test_a_total_over_an_interval(lines):
    one = lines.trajectory("Subject", {"Days": DAYS})
    total = lines.trajectory("Subject", {"Days": DAYS}, total="sum")
    mean = lines.trajectory("Subject", {"Days": DAYS}, total="mean")
    assert list(total.columns[:3]) == ["level", "points", "value"]
    np.testing.assert_allclose(total["value"], one.groupby("level")["value"].sum(), rtol=1e-10)
    np.testing.assert_allclose(total["se"], 3.0 * mean["se"], rtol=1e-10)
    middle = lines.trajectory("Subject", {"Days": [np.mean(DAYS)]})
    np.testing.assert_allclose(mean["se"], middle["se"], rtol=1e-10)
    np.testing.assert_allclose(mean["reliability"], middle["reliability"], rtol=1e-8)


def test_variances_and_shares_are_those_of_vfun(lines):
    table = lines.variance_at({"Days": DAYS}).set_index(["Days", "term"])
    a, ab, b = lines.theta.index[:3]
    for day in DAYS:
        own = f"({a} + {2 * day} * {ab} + {day**2} * {b})"
        for term, what in (("Subject", own), ("residual", "residual"), ("total", f"{own} + residual")):
            want = lines.vfun(what)
            got = table.loc[(day, term)]
            assert (got["variance"], got["se"]) == pytest.approx((want.estimate, want.se), rel=1e-9)
        want = lines.vfun(f"{own} / ({own} + residual)")
        assert tuple(table.loc[(day, "Subject"), ["share", "share_se"]]) == pytest.approx(
            (want.estimate, want.se), rel=1e-9
        )
        assert tuple(table.loc[(day, "total"), ["share", "share_se"]]) == pytest.approx((1.0, 0.0), abs=1e-9)


def test_a_residual_variance_that_changes_with_the_covariate():
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", mg.data.sleepstudy(), residual="exp(Days)")
    table = fit.variance_at({"Days": DAYS}).set_index(["term"])
    want = np.exp(fit.theta["residual[level]"] + fit.theta["residual[Days]"] * np.array(DAYS))
    np.testing.assert_allclose(table.loc["residual", "variance"], want, rtol=1e-10)
    np.testing.assert_allclose(table.loc["Subject", "variance"], fit.theta["Subject"], rtol=1e-10)


def test_variances_the_data_do_not_tell_apart_have_no_standard_error():
    data = pd.DataFrame({"cow": list("aabbcc"), "x": [0.0, 1.0] * 3, "y": [1.0, 2.0, 1.5, 2.5, 0.5, 3.0]})
    fit = mg.MixedModel("y ~ 1 + us(x|cow)", data).solve({"cow": [[2.0, 0.1], [0.1, 1.0]], "residual": 1.0})
    at_zero = fit.variance_at({"x": [0.0]}).set_index("term")
    assert np.isnan(fit.vfun("cow[1,1]").se)
    assert at_zero.loc[["cow", "residual", "total"], "se"].isna().all()
    assert np.isnan(at_zero.at["cow", "share_se"])


def test_with_a_relationship(calves, pedigree):
    data = pd.concat([calves] * 6, ignore_index=True)
    data["age"] = np.repeat(np.arange(6.0), 5)
    data["wwg"] = 5.0 * data["wwg"] + data["age"] * np.tile([1.0, 2.0, 0.5, 1.5, 3.0], 6) + np.sin(np.arange(30.0) ** 2)
    A = mg.additive(pedigree)
    model = mg.MixedModel("wwg ~ age + us(leg(age, 1)|calf:A)", data, relationships={"A": A})
    fit = model.solve({"calf:A": [[2.0, 0.3], [0.3, 0.7]], "residual": 1.0})
    table = fit.trajectory("calf:A", {"age": [2.5]})
    effects = fit.blup("calf:A").pivot(index="level", columns="effect", values="value").loc[table["level"]]
    np.testing.assert_allclose(table["value"], effects.iloc[:, 0] * np.sqrt(0.5), rtol=1e-10)


def test_trajectories_refuse(lines, calves, pedigree):
    with pytest.raises(ArgumentError, match="'mean' or 'sum'"):
        lines.trajectory("Subject", {"Days": DAYS}, total="median")
    with pytest.raises(ArgumentError, match="no random term 'cow'"):
        lines.trajectory("cow", {"Days": DAYS})
    with pytest.raises(DataError, match="no column 'Days'"):
        lines.trajectory("Subject", {"age": DAYS})
    model = mg.MixedModel(
        "wwg ~ 1 + us(1|members(calf, dam):A)",
        calves.assign(dam=["2", "2", "5", "6", "6"][: len(calves)]).astype({"calf": str}),
        relationships={
            "A": mg.additive(mg.Pedigree(mg.data.mrode_pedigree().astype(str).replace({"nan": "0", "<NA>": "0"})))
        },
    )
    fit = model.solve({"members(calf, dam):A": np.eye(2), "residual": 1.0})
    with pytest.raises(NotAvailableError, match="entries or traits"):
        fit.trajectory("members(calf, dam):A", pd.DataFrame(index=[0]))
    by_class = mg.lmm(
        "Reaction ~ Days + (1|Subject)", mg.data.sleepstudy().assign(h=lambda d: d.Days > 4), residual="diag(h)"
    )
    with pytest.raises(NotAvailableError, match="between classes"):
        by_class.variance_at({"Days": DAYS})


def test_a_combination_is_the_sum_of_its_effects(lines):
    weights = pd.DataFrame({"(Intercept)": [1.0, 1.0], "Days": [0.0, 9.0]}, index=["first", "last"])
    table = lines.combination("Subject", weights)
    assert list(table.columns[:3]) == ["level", "combination", "value"]
    want = lines.trajectory("Subject", {"Days": [0.0, 9.0]})
    np.testing.assert_allclose(table[["value", "se", "reliability"]], want[["value", "se", "reliability"]], rtol=1e-10)
    one = lines.combination("Subject", {"Days": 1.0})
    effects = lines.blup("Subject")
    np.testing.assert_allclose(one["pev"], effects.loc[effects["effect"] == "Days", "pev"], rtol=1e-10)
    with pytest.raises(ArgumentError, match="no effect 'days'; it has '\\(Intercept\\)', 'Days'"):
        lines.combination("Subject", {"days": 1.0})
    with pytest.raises(ArgumentError, match="finite"):
        lines.combination("Subject", {"Days": np.nan})
