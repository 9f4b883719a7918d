"""Models that do not look like the data: the ascent still arrives, and soon."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.covariance.correlated import Toeplitz
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


@pytest.mark.parametrize("ratio", [1e2, 1e4, 1e6, 1e8])
def test_a_variance_at_zero_beside_a_large_one_is_zero(ratio: float) -> None:
    """The fit is that of the model without the term, and converged."""
    rng = np.random.default_rng(5)
    g, h = rng.integers(0, 8, 60), rng.integers(0, 6, 60)
    data = pd.DataFrame({"y": ratio**0.5 * rng.normal(size=8)[g] + rng.normal(size=60), "g": g, "h": h})
    fit = mg.lmm("y ~ 1 + (1|g) + (1|h)", data)
    assert fit.converged, fit.certificate.verdict
    assert fit.theta["h"] == 0.0
    assert fit.llf == pytest.approx(mg.lmm("y ~ 1 + (1|g)", data).llf, abs=1e-6, rel=0)


@pytest.mark.parametrize("engine", ["henderson", "dense"])
@pytest.mark.parametrize("animals", [60, 200])
def test_breeding_values_without_residuals_reach_the_limit(engine: str, animals: int) -> None:
    """The criterion is that of V = A s2, never above it, and the residual variance is called zero."""
    rng = np.random.default_rng(3)
    parents, u = [(0, 0)] * 20, [0.0, *rng.normal(size=20)]
    for _ in range(animals - 20):
        s, d = int(rng.integers(1, 11)), int(rng.integers(11, 21))
        parents.append((s, d))
        u.append((u[s] + u[d]) / 2 + rng.normal(0, np.sqrt(0.5)))
    pedigree = pd.DataFrame(parents, columns=["sire", "dam"]).assign(id=np.arange(1, animals + 1))
    A = mg.additive(mg.Pedigree(pedigree))
    y, X = np.array(u[1:]) + 5, np.ones((animals, 1))
    V = A.cross(list(pedigree["id"]), list(pedigree["id"]))
    W = np.linalg.solve(V, np.column_stack([X, y]))
    b = float(X[:, 0] @ W[:, 1]) / float(X[:, 0] @ W[:, 0])
    s2 = float((y - b) @ (W[:, 1] - b * W[:, 0])) / (animals - 1)
    information = float(X[:, 0] @ W[:, 0]) / s2
    logdet = np.linalg.slogdet(V)[1] + animals * np.log(s2)
    limit = logdet + np.log(information) + (animals - 1) * (1.0 + np.log(2.0 * np.pi))
    control = mg.Control(engine=engine)
    fit = mg.lmm("y ~ 1 + (1|id:A)", pedigree.assign(y=y), relationships={"A": A}, control=control)
    assert fit.converged, fit.certificate.verdict
    assert -2.0 * fit.llf == pytest.approx(limit, abs=2e-6, rel=0)
    assert "residual is zero" in str(fit.certificate)


@pytest.mark.parametrize("orders", [2, 5, 7, 9])
def test_weights_over_many_orders_do_not_alarm(orders: int) -> None:
    """Groups whose weighted means are zero have no variance, whatever the weights."""
    rng = np.random.default_rng(4)
    data = pd.DataFrame(
        {"g": np.repeat(np.arange(20), 15), "w": 10 ** rng.uniform(0, orders, 300), "x": rng.normal(size=300)}
    )
    data["y"] = 0.5 * data["x"] + rng.normal(size=300) / np.sqrt(data["w"]) * 100
    share = data["w"] / data.groupby("g")["w"].transform("sum")
    for column in ("y", "x"):
        data[column] -= (data[column] * share).groupby(data["g"]).transform("sum")
    fit = mg.lmm("y ~ x + (1|g)", data, weights="w")
    assert fit.converged, fit.certificate.verdict
    assert fit.llf == pytest.approx(mg.lmm("y ~ x", data, weights="w").llf, abs=1e-4, rel=0)


def test_toeplitz_starts_are_positive_definite() -> None:
    """The nearest parameters to any covariance matrix are those of one."""
    rng = np.random.default_rng(0)
    for dim in (2, 3, 5, 8):
        for _ in range(50):
            root = rng.normal(size=(dim, 2)) * np.exp(rng.normal(size=(dim, 1)))
            structure = Toeplitz(dim, hom=False)
            theta = structure.start(root @ root.T + 1e-3 * np.eye(dim))
            assert np.linalg.eigvalsh(structure.matrix(theta))[0] > 0.0


@pytest.mark.parametrize("structure", ["us", "cs", "corh", "ar1", "rr", "fa"])
def test_structures_beside_a_boundary_arrive(structure: str) -> None:
    """A fit ends converged, inside or on the boundary."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        g, f = np.repeat(np.arange(12), 8), np.tile(np.arange(4), 24)
        u = rng.normal(size=(12, 4)) * np.array([1.0, 1.0, 0.1, 0.0]) + rng.normal(size=(12, 1))
        data = pd.DataFrame({"y": u[g, f] + rng.normal(size=96), "g": g, "f": f.astype(str)})
        formula = f"y ~ f + {structure}(0 + f|g{', k=1' if structure in ('rr', 'fa') else ''})"
        fit = mg.lmm(formula, data)
        assert fit.converged, (seed, fit.certificate.verdict)
