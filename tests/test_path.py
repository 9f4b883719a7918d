"""The path from a formula to a fit, walked one arrow at a time: each is public and usable alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import mixedgen as mg
from mixedgen import design, engines, estimation, formula

FORMULA = "Reaction ~ Days + (Days|Subject)"
RTOL = 1e-6  # two maximisations of one likelihood, from other starts


@pytest.fixture(scope="module")
def fit() -> mg.Fit:
    return mg.lmm(FORMULA, mg.data.sleepstudy())


def test_every_arrow_alone(fit: mg.Fit) -> None:
    """A design, an engine, equations at theta, their likelihood, and its maximum."""
    model = design.build(design.ModelArguments(FORMULA, mg.data.sleepstudy()))
    assert model.parsed.terms[0].label == "Subject" and formula.revise(FORMULA, ". ~ .") == FORMULA
    engine = engines.choose(model, "auto")
    system = engine.at(fit.fitted.theta)
    np.testing.assert_allclose(system.solution.b, fit.params, rtol=1e-9)
    assert estimation.deviance(system, reml=True) == pytest.approx(fit.reml_criterion, rel=1e-12)
    control = estimation.Control()
    optimum = estimation.maximise(engine, np.array([600.0, 0.0, 40.0, 600.0]), reml=True, control=control)
    np.testing.assert_allclose(optimum.theta, fit.fitted.theta, rtol=RTOL)
    assert estimation.certify(model, engine, optimum).converged
    fitted = estimation.fit(model, engine)
    assert isinstance(fitted, estimation.Fitted)
    np.testing.assert_allclose(mg.Fit(fitted).varcomp["vcov"], fit.varcomp["vcov"], rtol=RTOL)


def test_the_arguments_of_a_model_are_revised_not_changed(fit: mg.Fit) -> None:
    before = fit.arguments
    assert before is not None
    after = before.revised(subset="Days < 5")
    assert before.subset is None and len(after.data) == len(before.data)
    assert design.build(after).n == 90
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.subset = "Days < 5"  # type: ignore[misc]
    with pytest.raises(mg.ArgumentError, match="na_action"):
        before.revised(na_action="drop")  # type: ignore[arg-type]


def test_the_variables_of_the_fixed_part_are_those_of_the_records_used() -> None:
    data = mg.data.sleepstudy()
    data.loc[3, "Reaction"] = np.nan
    model = design.build(design.ModelArguments("Reaction ~ C(Days) + (1|Subject)", data, subset=np.arange(20)))
    assert list(model.variables["Days"].astype(int)) == [0, 1, 2, *range(4, 10), *range(10)]
    assert model.variables["Days"].dtype == "category"
    assert len(model.select(np.arange(15)).variables) == 15


def test_the_response_is_what_was_observed() -> None:
    data = mg.data.sleepstudy()
    for text in ("Reaction ~ Days + (1|Subject)", "Reaction ~ offset(3 * Days) + (1|Subject)"):
        model = design.build(design.ModelArguments(text, data))
        np.testing.assert_allclose(model.response, data["Reaction"], rtol=1e-12)
