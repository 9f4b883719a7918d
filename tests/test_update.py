"""Revised formulas, and fits updated by them."""

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.errors import ArgumentError, FormulaError, NotAvailableError
from mixedgen.formula.revise import revise


@pytest.mark.parametrize(
    ("old", "new", "want"),
    [
        ("y ~ a + (1|g)", ". ~ . + b", "y ~ a + (1|g) + b"),
        ("y ~ a + b + (1|g)", ". ~ . - b", "y ~ a + (1|g)"),
        ("y ~ a + b + (1|g)", ". ~ . - a - b", "y ~ (1|g)"),
        ("y ~ a", ". ~ . - a", "y ~ 1"),
        ("y ~ a * b + (1|g)", ". ~ . - a:b", "y ~ a * b + (1|g) - a:b"),
        ("y ~ x + (x | g)", ". ~ . - (x|g) + (1 | g)", "y ~ x + (1|g)"),
        ("y ~ x + us(x|g:A)", ". ~ . - us(x | g:A)", "y ~ x"),
        ("y ~ x + offset(z)", ". ~ . - offset(z)", "y ~ x"),
        ("y ~ a + b + (1|g)", ". ~ .:c + (1|h)", "y ~ (a + b):c + (1|h)"),
        ("y ~ a - 1 + (1|g)", ". ~ .", "y ~ a - 1 + (1|g)"),
        ("y ~ a + (1|g)", "log(.) ~ .", "log(y) ~ a + (1|g)"),
        ("cbind(y, z) ~ a", ". ~ . + (1|g)", "cbind(y, z) ~ a + (1|g)"),
        ("y ~ a + (1|g)", "z ~ b", "z ~ b"),
        ("y ~ a + (1|g)", ". ~ . + a", "y ~ a + (1|g) + a"),
    ],
)
def test_a_dot_is_what_was_there(old, new, want):
    assert revise(old, new) == want


@pytest.mark.parametrize(
    ("new", "match"),
    [
        (". ~ . - (1|h)", r"\(1\|h\) cannot be taken out .* 'a', \(1\|g\)|'a', '\(1\|g\)'"),
        (". ~ b - offset(z)", "what is there is 'b'"),
        (". ~ b - .", "cannot be taken out"),
        (". + x", "'~' is missing"),
    ],
)
def test_what_is_not_there_cannot_be_taken_out(new, match):
    with pytest.raises(FormulaError, match=match):
        revise("y ~ a + (1|g)", new)


def test_an_updated_fit_is_the_fit_of_the_revised_formula():
    data = mg.data.sleepstudy()
    fit = mg.lmm("Reaction ~ Days + (Days|Subject)", data)
    smaller = fit.update(". ~ . - (Days|Subject) + (1|Subject)", method="ml")
    want = mg.lmm("Reaction ~ Days + (1|Subject)", data, method="ml")
    assert (smaller.llf, smaller.formula, smaller.method) == (want.llf, want.formula, "ml")
    assert smaller.update(data=data[data.Days > 0]).nobs == 162
    weighted = fit.update(weights="w", data=data.assign(w=1.0 + data.Days))
    assert weighted.llf == mg.lmm(fit.formula, data.assign(w=1.0 + data.Days), weights="w").llf
    assert weighted.update(". ~ . - Days").llf != fit.update(". ~ . - Days").llf


def test_an_update_keeps_the_relationships_it_uses(calves, pedigree):
    data = pd.concat([calves] * 4, ignore_index=True).assign(pen=np.arange(20) % 7)
    data["wwg"] = 5.0 * data["wwg"] + np.sin(np.arange(20.0) ** 2)
    A = mg.additive(pedigree)
    fit = mg.lmm("wwg ~ 1 + (1|calf:A)", data, relationships={"A": A})
    assert fit.update(". ~ . - (1|calf:A) + (1|pen)").formula == "wwg ~ 1 + (1|pen)"
    assert fit.update(method="ml").method == "ml"


def test_what_cannot_be_updated():
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    with pytest.raises(ArgumentError, match="'wieghts'"):
        fit.update(wieghts="w")
    with pytest.raises(NotAvailableError, match="response"):
        fit.refit(mg.data.dyestuff()["Yield"] + 1.0).update(method="ml")
    given = mg.MixedModel("Yield ~ 1 + (1|Batch)", mg.data.dyestuff()).solve({"Batch": 1.0, "residual": 2.0})
    with pytest.raises(NotAvailableError, match="given"):
        given.update(method="ml")
