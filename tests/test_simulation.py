"""Simulated responses have the moments of the model, and a refit is the fit of the same data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.errors import ArgumentError, DataError
from mixedgen.estimation.refit import refit
from mixedgen.output.matrices import write_out
from mixedgen.prediction.simulation import simulate

DRAWS = 4000
# Largest of some hundred dependent standard normal deviations: exceeded once in 10^5 seeds.
DEVIATIONS = 5.5
# Two optimisations of one likelihood stop within this of each other, relatively.
THETA_RTOL = 1e-5


def repeated() -> tuple[pd.DataFrame, mg.Relationship]:
    frame = pd.DataFrame({"calf": np.repeat([4, 5, 6, 7, 8], 3), "time": [0, 1, 2] * 5, "x": np.arange(15) % 4})
    frame["y"] = np.random.default_rng(1).normal(10.0, 2.0, 15)
    return frame.drop(index=[4, 11]), mg.additive(mg.Pedigree(mg.data.mrode_pedigree()))


SIGMA = np.array([[2.0, 0.5], [0.5, 1.0]])
US = np.array([[3.0, 1.0, 0.5], [1.0, 2.0, 0.2], [0.5, 0.2, 1.5]])


def animals(residual: str | None, R: object, **options: object) -> mg.Fit:
    frame, A = repeated()
    model = mg.MixedModel("y ~ x + us(1 + x|calf:A)", frame, relationships={"A": A}, residual=residual, **options)
    return model.solve({"calf:A": SIGMA, "residual": R})


FITS = {
    "pedigree, us residual": lambda: animals("us(time|calf)", US),
    "pedigree, diag residual": lambda: animals("diag(time)", np.diag([1.0, 2.0, 3.0])),
    "pedigree, weights, ar1": lambda: animals(
        "ar1(time|calf)", 2.0 * 0.6 ** np.abs(np.subtract.outer(range(3), range(3))), weights=np.linspace(1, 2, 13)
    ),
    "zero variance": lambda: mg.MixedModel("Yield ~ 1 + (1|Batch)", mg.data.dyestuff()).solve(
        {"Batch": 0.0, "residual": 4.0}
    ),
}


@pytest.mark.parametrize("case", FITS)
def test_moments_of_the_draws(case: str) -> None:
    fit = FITS[case]()
    m = write_out_v(fit)
    y = simulate(fit.fitted, DRAWS, seed=11).to_numpy()
    mean = fit.fitted.design.fixed.X @ fit.params.to_numpy()
    left = y - np.asarray(mean)[:, None]
    d = np.diag(m)
    np.testing.assert_array_less(np.abs(left.mean(axis=1)), DEVIATIONS * np.sqrt(d / DRAWS))
    # Var(s_ij) = (v_ii v_jj + v_ij^2) / draws
    error = np.sqrt((np.outer(d, d) + m**2) / DRAWS)
    np.testing.assert_array_less(np.abs(left @ left.T / DRAWS - m), DEVIATIONS * error)


def write_out_v(fit: mg.Fit) -> np.ndarray:
    """V of a fit, written out with dense matrices; its G may be singular."""
    design, theta = fit.fitted.design, fit.fitted.theta
    V = design.residual.multiply(theta[design.slices[-1]], np.eye(design.n))
    for t, s in zip(design.terms, design.slices, strict=False):
        G = np.kron(t.structure.matrix(theta[s]), t.multiply_relationship(np.eye(t.q)))
        V = V + t.Z @ G @ t.Z.T
    return V


@pytest.mark.parametrize("case", ["pedigree, us residual", "pedigree, diag residual"])
def test_effects_may_stay_at_their_blup(case: str) -> None:
    fit = FITS[case]()
    y = simulate(fit.fitted, DRAWS, seed=2, new_effects=False).to_numpy()
    R = write_out(fit.fitted).R.to_numpy()
    d = np.diag(R)
    left = y - fit.fittedvalues.to_numpy()[:, None]
    np.testing.assert_array_less(np.abs(left.mean(axis=1)), DEVIATIONS * np.sqrt(d / DRAWS))
    error = np.sqrt((np.outer(d, d) + R**2) / DRAWS)
    np.testing.assert_array_less(np.abs(left @ left.T / DRAWS - R), DEVIATIONS * error)


def test_a_seed_gives_the_same_draws(sleepstudy: pd.DataFrame) -> None:
    sleepstudy.index = sleepstudy.index + 100
    fit = mg.lmm("Reaction ~ Days + offset(2 * Days) + (Days|Subject)", sleepstudy)
    first, again = (simulate(fit.fitted, 70, seed=5) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert first.shape == (180, 70)
    assert first.index.equals(sleepstudy.index)
    assert not first[0].equals(simulate(fit.fitted, 1, seed=6)[0])
    # the offset is part of the response: the mean of all draws and records has this error at most
    V = write_out(fit.fitted).V.to_numpy()
    error = np.sqrt(V.mean() / 70)
    assert abs(first.to_numpy().mean() - sleepstudy["Reaction"].mean()) < DEVIATIONS * error
    with pytest.raises(ArgumentError, match="whole number"):
        simulate(fit.fitted, 0)


def test_several_traits() -> None:
    frame, A = repeated()
    frame = frame.assign(z=frame["y"] ** 2).astype({"z": float})
    frame.loc[0, "z"] = np.nan
    fit = mg.MixedModel("cbind(y, z) ~ x + (1|calf:A)", frame, relationships={"A": A}).solve(
        {"calf:A": SIGMA, "residual": SIGMA}
    )
    y = simulate(fit.fitted, 2, seed=1)
    assert y.index.nlevels == 2
    assert len(y) == 2 * len(frame) - 1
    again = refit(fit.fitted, y[0])
    np.testing.assert_allclose(again.design.y, y[0])
    np.testing.assert_array_equal(again.theta, fit.fitted.theta)


MODELS = {
    "correlated": "Reaction ~ Days + (Days|Subject)",
    "offset": "Reaction ~ Days + offset(3 * Days) + (1|Subject)",
}


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("model", MODELS)
def test_refit_of_the_own_response_is_the_fit(sleepstudy: pd.DataFrame, model: str, method: str) -> None:
    fit = mg.lmm(MODELS[model], sleepstudy, method=method)
    again = refit(fit.fitted, sleepstudy["Reaction"])
    np.testing.assert_allclose(again.theta, fit.fitted.theta, rtol=1e-8)
    assert again.deviance == pytest.approx(fit.fitted.deviance, abs=1e-9)
    assert again.outcome.certificate is not None
    assert again.outcome.converged


@pytest.mark.parametrize("engine", ["henderson", "dense"])
@pytest.mark.parametrize("c", [0.001, 3.0, 1000.0])
def test_refit_follows_the_scale_of_the_response(sleepstudy: pd.DataFrame, c: float, engine: str) -> None:
    fit = mg.lmm("Reaction ~ Days + (Days|Subject)", sleepstudy, control=mg.Control(engine=engine)).fitted
    again = refit(fit, 7.0 + c * sleepstudy["Reaction"])
    assert type(again.engine) is type(fit.engine)
    np.testing.assert_allclose(again.theta, c**2 * fit.theta, rtol=THETA_RTOL)
    np.testing.assert_allclose(again.system.solution.b - [7.0, 0.0], c * fit.system.solution.b, rtol=1e-7)


def test_refit_equals_a_new_fit() -> None:
    data = mg.data.dyestuff()
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", data)
    draws = simulate(fit.fitted, 12, seed=4)
    for k in draws:
        again, new = refit(fit.fitted, draws[k]), mg.lmm("Yield ~ 1 + (1|Batch)", data.assign(Yield=draws[k])).fitted
        assert again.deviance == pytest.approx(new.deviance, abs=1e-7)
        np.testing.assert_allclose(again.theta, new.theta, rtol=THETA_RTOL, atol=THETA_RTOL * new.theta[-1])


def test_refit_of_rows_that_were_not_all_used(sleepstudy: pd.DataFrame) -> None:
    full = sleepstudy["Reaction"].copy()
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", sleepstudy, subset="Days > 1").fitted
    np.testing.assert_allclose(refit(fit, full).theta, fit.theta, rtol=1e-8)
    np.testing.assert_allclose(refit(fit, full[sleepstudy["Days"] > 1].to_numpy()).theta, fit.theta, rtol=1e-8)
    with pytest.raises(DataError, match="other labels"):
        refit(fit, full.rename(lambda i: i + 1))
    with pytest.raises(DataError, match="shape"):
        refit(fit, full.to_numpy()[:5])
    with pytest.raises(DataError, match="missing or infinite in 1 records"):
        refit(fit, full.where(full.index != 5))


@pytest.mark.parametrize("method", ["minque", "mivque0", "anova3"])
def test_refit_of_moments_estimates_anew(method: str) -> None:
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff(), method=method)
    np.testing.assert_allclose(fit.refit(2.0 * mg.data.dyestuff()["Yield"]).theta, 4.0 * fit.theta, rtol=1e-9)
