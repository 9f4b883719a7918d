"""Plots: what the artists hold are the numbers of the fit; pixels are not tested."""

import re
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri

import mixedgen as mg
from mixedgen.errors import ArgumentError, NotAvailableError

Z95 = 1.959963984540054
CURVE = 2e-3  # ends read from a monotone cubic through eight points a side, beside the length of the interval


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def slopes() -> mg.Fit:
    return mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())


@pytest.fixture(scope="module")
def crossed() -> mg.Fit:
    return mg.lmm("diameter ~ 1 + (1|plate) + (1|sample)", mg.data.penicillin())


@pytest.fixture(scope="module")
def cake() -> mg.Fit:
    data = mg.data.cake()
    data["temperature"] = data["temperature"].astype(str)
    return mg.lmm("angle ~ recipe * temperature + (1|recipe:replicate)", data)


def bars(ax) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Positions, lower and upper ends of each set of vertical or horizontal error bars."""
    out = []
    for container in ax.containers:
        (segments,) = [bar.get_segments() for bar in container[2]]
        out.append((container[0].get_xydata(), *(np.array([s[k] for s in segments]) for k in (0, 1))))
    return out


def line(ax, label: str) -> np.ndarray:
    (found,) = [own for own in ax.lines if own.get_label() == label]
    return np.asarray(found.get_xydata(), dtype=float)


# --------------------------------------------------------------------------------------------------- random effects
def test_caterpillar_holds_the_blups(slopes):
    axes = mg.plots.caterpillar(slopes)
    table = slopes.blup("Subject")
    names = [label.get_text() for label in axes[0].get_yticklabels()]
    for ax, effect in zip(axes, ("(Intercept)", "Days"), strict=True):
        want = table[table["effect"] == effect].set_index("level").loc[names]
        ((points, low, high),) = bars(ax)
        np.testing.assert_allclose(points[:, 0], want["value"])
        np.testing.assert_allclose(low[:, 0], want["value"] - Z95 * want["se"])
        np.testing.assert_allclose(high[:, 0], want["value"] + Z95 * want["se"])
        assert ax.get_title() == effect
        assert "Reaction" in ax.get_xlabel()
    assert np.all(np.diff(bars(axes[0])[0][0][:, 0]) >= 0)
    assert axes[0].get_ylabel() == "Subject"


def test_caterpillar_of_some_effects_on_given_axes(crossed, slopes):
    _, ax = plt.subplots()
    (got,) = mg.plots.caterpillar(crossed, "sample", level=0.5, ax=ax)
    assert got is ax
    ((points, _, high),) = bars(ax)
    se = np.sort(crossed.blup("sample")["se"])
    np.testing.assert_allclose(np.sort(high[:, 0] - points[:, 0]), ndtri(0.75) * se)
    (days,) = mg.plots.caterpillar(slopes, effects=["Days"])
    assert np.all(np.diff(bars(days)[0][0][:, 0]) >= 0)


def test_names_of_many_levels_are_left_out():
    rng = np.random.default_rng(3)
    data = pd.DataFrame(
        {"g": np.repeat(np.arange(70), 4), "y": rng.normal(size=280) + np.repeat(rng.normal(size=70), 4)}
    )
    (ax,) = mg.plots.caterpillar(mg.lmm("y ~ 1 + (1|g)", data))
    assert len(ax.get_yticks()) == 0
    assert ax.get_ylabel() == "g, 70 levels"


# -------------------------------------------------------------------------------------------------------- residuals
def test_residual_panels_hold_the_residuals(slopes):
    scatter, spread, normal, effects = mg.plots.residuals(slopes)
    scaled = slopes.resid.to_numpy() / slopes.scale**0.5
    cloud = np.column_stack([slopes.fittedvalues, scaled])
    np.testing.assert_allclose(scatter.lines[1].get_xydata(), cloud)
    np.testing.assert_allclose(spread.lines[0].get_xydata(), np.column_stack([cloud[:, 0], np.sqrt(np.abs(scaled))]))
    means = scatter.lines[2].get_xydata()
    first = np.argsort(cloud[:, 0], kind="stable")[:18]
    np.testing.assert_allclose(means[0], cloud[first].mean(axis=0))
    assert len(means) == 10
    scores = ndtri((np.arange(1, 181) - 0.5) / 180)
    np.testing.assert_allclose(line(normal, "residuals"), np.column_stack([scores, np.sort(scaled)]))
    assert [label for label in effects.get_legend_handles_labels()[1]] == ["Subject: (Intercept)", "Subject: Days"]
    assert scatter.get_xlabel() == "fitted Reaction"


def test_residuals_are_scaled_by_their_own_variance(sleepstudy):
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", sleepstudy.assign(w=1.0 + sleepstudy["Days"]), weights="w")
    ax = mg.plots.residuals_fitted(fit)
    want = fit.resid.to_numpy() * np.sqrt((1.0 + sleepstudy["Days"].to_numpy()) / fit.scale)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), want)


def test_fitted_values_hold_the_offset(sleepstudy):
    fit = mg.lmm("Reaction ~ 1 + offset(10 * Days) + (1|Subject)", sleepstudy)
    np.testing.assert_allclose(mg.plots.scale_location(fit).lines[0].get_xdata(), fit.fittedvalues)


def test_qq_of_effects_divides_by_the_deviation_they_have(crossed):
    """Balanced: Var(u_hat) is the same for all levels, Var(u) less the prediction error variance."""
    ax = mg.plots.qq(crossed, "plate")
    table = crossed.blup("plate")
    sd = np.sqrt(crossed.theta["plate"] - table["pev"].to_numpy())
    scores = ndtri((np.arange(1, 25) - 0.5) / 24)
    want = np.sort(table["value"].to_numpy() / sd)
    np.testing.assert_allclose(line(ax, "plate: (Intercept)"), np.column_stack([scores, want]))
    slope = np.diff(np.quantile(want, [0.25, 0.75]))[0] / (2 * ndtri(0.75))
    ends = line(ax, "_line")
    assert np.diff(ends[:, 1])[0] / np.diff(ends[:, 0])[0] == pytest.approx(slope)


def test_band_of_the_normal_quantiles_is_that_of_order_statistics(slopes):
    """The largest of n: both ends in closed form, q^(1/n)."""
    ax = mg.plots.qq(slopes)
    (band,) = ax.collections
    vertices = band.get_paths()[0].vertices
    at = vertices[:, 0] == vertices[:, 0].max()
    scaled = slopes.resid.to_numpy() / slopes.scale**0.5
    quartiles = np.quantile(scaled, [0.25, 0.75])
    slope, middle = np.diff(quartiles)[0] / (2 * ndtri(0.75)), quartiles.mean()
    ends = middle + slope * ndtri(np.array([0.025, 0.975]) ** (1 / 180))
    np.testing.assert_allclose([vertices[at, 1].min(), vertices[at, 1].max()], ends)


def test_without_random_effects_there_are_three_panels(sleepstudy):
    assert len(mg.plots.residuals(mg.lmm("Reaction ~ Days", sleepstudy))) == 3
    flat = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff2())
    assert len(mg.plots.residuals(flat)) == 3
    with pytest.raises(NotAvailableError, match="are zero"):
        mg.plots.qq(flat, "Batch")


# ----------------------------------------------------------------------------------------------------- fitted lines
def test_fitted_lines_hold_data_and_fit(sleepstudy, slopes):
    axes = mg.plots.fitted_lines(slopes, "Days")
    assert [ax.get_title() for ax in axes] == list(sleepstudy["Subject"].cat.categories)
    u = slopes.ranef()["Subject"]
    days = np.arange(10.0)
    for ax in axes:
        own = sleepstudy[sleepstudy["Subject"] == ax.get_title()]
        np.testing.assert_allclose(line(ax, "data"), own[["Days", "Reaction"]].to_numpy())
        b0, b1 = slopes.params + u.loc[ax.get_title()].to_numpy()
        np.testing.assert_allclose(line(ax, "fitted"), np.column_stack([days, b0 + b1 * days]))
        np.testing.assert_allclose(line(ax, "fixed part")[:, 1], slopes.params.to_numpy() @ [np.ones(10), days])


def test_fitted_lines_of_some_levels_and_a_column_of_the_data(sleepstudy):
    data = sleepstudy.assign(hours=24.0 * sleepstudy["Days"])
    data.loc[[0, 15], "Reaction"] = np.nan
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", data, na_action="exclude")
    figure, grid = plt.subplots(1, 2)
    axes = mg.plots.fitted_lines(fit, "hours", levels=["308", "309"], data=data, ax=grid)
    assert list(axes) == list(grid)
    np.testing.assert_allclose(line(axes[0], "data")[:, 0], 24.0 * np.arange(1, 10))
    np.testing.assert_allclose(line(axes[1], "data")[:, 0], 24.0 * np.delete(np.arange(10), 5))
    assert axes[1].get_xlabel() == "hours"
    assert figure.legends == []


def test_a_line_is_the_mean_of_the_records_at_its_x(cake):
    data = mg.data.cake()
    fit = mg.lmm("angle ~ recipe + temp + (1|replicate)", data)
    ax = mg.plots.fitted_lines(fit, "temp", levels=["3"])[0]
    own = data["replicate"] == "3"
    want = fit.fittedvalues[own].groupby(data.loc[own, "temp"]).mean()
    np.testing.assert_allclose(line(ax, "fitted"), np.column_stack([want.index, want]))


# ---------------------------------------------------------------------------------------------------------- profile
def test_profile_holds_the_points_and_the_ends(slopes):
    names = ["sd Subject[Days]", "sigma", "Days"]
    axes = mg.plots.profile(slopes, names)
    points, ends = slopes.profile(names), slopes.confint(names)
    half = slopes.confint(names, level=0.5)
    for ax, name in zip(axes, names, strict=True):
        want = points.loc[points["parameter"] == name, ["value", "zeta"]].to_numpy()
        np.testing.assert_allclose(line(ax, "points"), want)
        for label, table in (("95 %", ends), ("50 %", half)):
            (found,) = [c for c in ax.collections if c.get_label() == label]
            got = [segment[0, 0] for segment in found.get_segments()]
            low, high = table.loc[name, ["lower", "upper"]]
            np.testing.assert_allclose(got, [low, high], rtol=0, atol=CURVE * (high - low))
        assert ax.get_xlabel() == name


def test_profile_at_a_bound_has_one_end():
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff2())
    (ax,) = mg.plots.profile(fit, "sd Batch[(Intercept)]", points=4)
    found = {c.get_label(): c.get_segments() for c in ax.collections}
    assert [len(segments) for segments in found.values()] == [1, 1]
    assert line(ax, "points")[0].tolist() == [0.0, 0.0]


# ----------------------------------------------------------------------------------------------------------- means
def test_means_hold_means_and_intervals(cake):
    table = mg.emmeans(cake, "recipe")
    (ax,) = mg.plots.means(table)
    ((points, low, high),) = bars(ax)
    np.testing.assert_allclose(points, np.column_stack([[0, 1, 2], table["emmean"]]))
    np.testing.assert_allclose(low[:, 1], table["lower"])
    np.testing.assert_allclose(high[:, 1], table["upper"])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["A", "B", "C"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("recipe", "marginal mean of angle")


def test_means_of_two_factors_are_series_or_panels(cake):
    (ax,) = mg.plots.means(mg.emmeans(cake, ["temperature", "recipe"]))
    assert [label for label in ax.get_legend_handles_labels()[1]] == ["recipe A", "recipe B", "recipe C"]
    table = mg.emmeans(cake, "temperature", by="recipe")
    axes = mg.plots.means(table)
    assert [own.get_title() for own in axes] == ["recipe A", "recipe B", "recipe C"]
    for own, series, (_, block) in zip(axes, bars(ax), table.groupby("recipe", observed=True), strict=True):
        np.testing.assert_allclose(bars(own)[0][0][:, 1], block["emmean"])
        np.testing.assert_allclose(series[0][:, 1], block["emmean"])


def test_means_along_a_covariate_stand_at_its_values():
    fit = mg.lmm("angle ~ recipe * temp + (1|recipe:replicate)", mg.data.cake())
    table = mg.emmeans(fit, ["temp", "recipe"], at={"temp": [175, 200, 225]})
    (ax,) = mg.plots.means(table)
    for name, block in table.groupby("recipe", observed=True):
        np.testing.assert_allclose(line(ax, f"recipe {name}"), block[["temp", "emmean"]].to_numpy(dtype=float))
    vertices = ax.collections[0].get_paths()[0].vertices
    first = table[table["recipe"] == "A"]
    assert vertices[:, 1].max() == pytest.approx(first["upper"].max())
    assert vertices[:, 1].min() == pytest.approx(first["lower"].min())


def test_contrasts_hold_differences_and_intervals(cake):
    table = mg.emmeans(cake, "temperature", by="recipe").contrasts()
    ax = mg.plots.contrasts(table)
    ((points, low, high),) = bars(ax)
    np.testing.assert_allclose(points[:, 0], table["estimate"])
    np.testing.assert_allclose(low[:, 0], table["lower"])
    np.testing.assert_allclose(high[:, 0], table["upper"])
    assert ax.get_yticklabels()[0].get_text() == "175 - 185, recipe A"
    assert ax.yaxis_inverted()


# --------------------------------------------------------------------------------------------------------- refusals
def test_bad_requests(slopes, crossed, sleepstudy):
    for call, message in (
        (lambda: mg.plots.caterpillar(crossed), "name one of the terms"),
        (lambda: mg.plots.caterpillar(slopes, "Subjekt"), "no random term 'Subjekt'"),
        (lambda: mg.plots.caterpillar(slopes, effects=["Day"]), "no effect 'Day'"),
        (lambda: mg.plots.caterpillar(slopes, level=95), "level"),
        (lambda: mg.plots.caterpillar(slopes, ax=plt.subplots()[1]), "ax must be 2 Axes"),
        (lambda: mg.plots.fitted_lines(slopes, "Subject"), "numeric variable"),
        (lambda: mg.plots.fitted_lines(slopes, "Days", levels=["1"]), "no level '1'"),
        (lambda: mg.plots.profile(slopes, "sd"), "no parameter 'sd'"),
        (lambda: mg.plots.means(slopes.params), "emmeans"),
        (lambda: mg.plots.contrasts(slopes.params), "contrasts"),
    ):
        with pytest.raises(ArgumentError, match=re.escape(message)):
            call()
    with pytest.raises(NotAvailableError, match="no random terms"):
        mg.plots.caterpillar(mg.lmm("Reaction ~ Days", sleepstudy))


def test_more_groups_than_panels_must_be_chosen(sleepstudy):
    many = mg.lmm("Reaction ~ Days + (1|pair)", sleepstudy.assign(pair=np.arange(180) // 4))
    with pytest.raises(ArgumentError, match="45 levels of 'pair' are too many panels"):
        mg.plots.fitted_lines(many, "Days")


def test_several_levels_for_a_record_have_no_line(sleepstudy):
    pairs = sleepstudy.assign(other=np.roll(sleepstudy["Subject"].to_numpy(), 10))
    fit = mg.lmm("Reaction ~ Days + (1|mm(Subject, other))", pairs)
    with pytest.raises(NotAvailableError, match="several levels"):
        mg.plots.fitted_lines(fit, "Days")


def test_matplotlib_is_named_where_it_is_not_there(slopes, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(NotAvailableError, match=re.escape('pip install "mixedgen[plot]"')):
        mg.plots.residuals(slopes)
