"""Models that do not look like the data: the ascent still arrives, and soon."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.estimation import point
from mixedgen.inference import information


def slopes_without_mean(seed: int, groups: int, slope: float, records: int = 10) -> pd.DataFrame:
    """Records of groups whose slopes have a mean that no fixed effect stands for."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), records)
    x = rng.normal(size=len(g))
    y = slope * x + rng.normal(size=groups)[g] + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": g})


def neighbourhood(fit: mg.Fit) -> mg.Control:
    """Starts beside the variances of a fit."""
    a, c, b, residual = fit.theta
    return mg.Control(start={"g": 1.2 * np.array([[a, c], [c, b]]), "residual": 0.8 * residual})


@pytest.mark.parametrize("slope", [2.0, 20.0, 100.0])
@pytest.mark.parametrize("groups", [6, 20])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_slopes_without_a_mean_arrive(groups: int, slope: float, method: str) -> None:
    """The optimum is that of a start beside it, within thirty steps."""
    for seed in range(3):
        data = slopes_without_mean(seed, groups, slope)
        fit = mg.lmm("y ~ (x|g)", data, method=method, control=mg.Control(max_iter=30))
        assert fit.converged, fit.certificate.verdict
        again = mg.lmm("y ~ (x|g)", data, method=method, control=neighbourhood(fit))
        assert fit.llf == pytest.approx(again.llf, abs=1e-6, rel=0)


def test_units_do_not_matter_on_a_hard_way() -> None:
    """Slopes for each thousandth of a unit have the likelihood of slopes for each unit, but for the constant."""
    data = slopes_without_mean(1, 6, 20.0)
    one = mg.lmm("y ~ (x|g)", data)
    other = mg.lmm("y ~ (x|g)", data.assign(x=1000.0 * data["x"]))
    assert one.converged and other.converged
    assert one.llf == pytest.approx(other.llf, abs=1e-6, rel=0)


def test_sleepstudy_without_a_fixed_slope() -> None:
    """The criterion of lme4, in no more steps than a few more than with the slope."""
    fit = mg.lmm("Reaction ~ (Days|Subject)", mg.data.sleepstudy(), control=mg.Control(max_iter=15))
    assert fit.converged


def test_differences_of_the_score_serve_where_the_expected_information_is_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same optimum, as for models of many records and levels."""
    data = slopes_without_mean(2, 20, 20.0)
    exact = mg.lmm("y ~ (x|g)", data)
    monkeypatch.setattr(point, "_EXACT_WORK", 0)
    fit = mg.lmm("y ~ (x|g)", data, control=mg.Control(max_iter=40))
    assert fit.converged, fit.certificate.verdict
    assert fit.llf == pytest.approx(exact.llf, abs=1e-6, rel=0)


def test_a_known_part_of_v_counts_in_the_information() -> None:
    """With a variance held by fix= the observed information is that of differences of the score."""
    fit = mg.lmm("diameter ~ 1 + (1|plate) + (1|sample)", mg.data.penicillin(), control=mg.Control(fix={"sample": 4.0}))
    directions = information.free_directions(fit.fitted)
    exact = information.observed_information(fit.fitted, directions)
    differences = information.observed_by_differences(fit.fitted, directions)
    np.testing.assert_allclose(exact, differences, rtol=1e-6)
