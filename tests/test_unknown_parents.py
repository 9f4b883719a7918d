"""A record whose dam, mate or litter nobody knows stays, with a row of zeros, in every term that names it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg

A = mg.additive(mg.Pedigree(mg.data.mrode_pedigree()))
MISSING = {"NaN": [np.nan, 2, 2, 5, 6], "None": [None, 2, 2, 5, 6], "zero": [0, 2, 2, 5, 6], "blank": ["", 2, 2, 5, 6]}
MISSING["nullable"] = pd.array([None, 2, 2, 5, 6], dtype="Int64")
MISSING["text"] = ["0", "2", "2", "5", "6"]
MODELS = {
    "us(1|members(calf, dam):A)": np.array([[20.0, -2.0], [-2.0, 10.0]]),
    "(1|calf:A) + (1|dam:A)": None,
    "(1|calf:A) + (1|dam:A) + (1|dam)": None,
}


def columns(names, levels):
    return np.array([[float(str(a) == str(b)) for b in levels] for a in names])


def solution(y, X, V):
    W = np.linalg.solve(V, X)
    return np.linalg.solve(X.T @ W, W.T @ y)


@pytest.mark.parametrize("dams", MISSING)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("several", [False, True])
def test_a_record_without_a_dam_stays(dams, model, several):
    calves = mg.data.mrode_calves().assign(dam=MISSING[dams])
    ids = [1, 2, 3, 4, 5, 6, 7, 8]
    K = A.submatrix(ids).multiply(np.eye(8))
    known = [None, 2, 2, 5, 6]
    Z, M = columns(calves["calf"], ids), columns(known, ids)
    V = 20 * Z @ K @ Z.T + 10 * M @ K @ M.T + 40 * np.eye(5)
    if "members" in model:
        V -= 2 * (Z @ K @ M.T + M @ K @ Z.T)
        variances = {"members(calf, dam):A": MODELS[model], "residual": 40.0}
    else:
        variances = {"calf:A": 20.0, "dam:A": 10.0, "residual": 40.0}
        if "(1|dam)" in model:
            variances["dam"] = 5.0
            V += 5 * M @ M.T
    fit = mg.MixedModel(f"wwg ~ 0 + sex + {model}", calves, relationships={"A": A}).solve(variances)
    assert fit.nobs == 5 and fit.fitted.design.unknown == {"dam": 1}
    X = columns(calves["sex"], ["F", "M"])
    right = solution(calves["wwg"].to_numpy(), X, V)
    np.testing.assert_allclose([fit.params["sex[F]"], fit.params["sex[M]"]], right, rtol=1e-8)
    np.testing.assert_allclose(fit.predict(calves), fit.fittedvalues, rtol=1e-10)
    assert "1 in dam" in str(fit.summary())


def test_the_first_column_says_whose_record_it_is():
    calves = mg.data.mrode_calves().assign(calf=[np.nan, 5, 6, 7, 8])
    for model in ("us(1|members(calf, dam):A)", "(1|calf:A) + (1|dam:A)"):
        design = mg.MixedModel(f"wwg ~ sex + {model}", calves, relationships={"A": A}).design
        assert design.n == 4 and design.lost == {"calf": 1}


def test_a_plain_grouping_factor_loses_its_records():
    cake = mg.data.cake().astype({"recipe": object})
    cake.loc[0, "recipe"] = None
    assert mg.MixedModel("angle ~ temp + (1|recipe)", cake).design.lost == {"recipe": 1}


def test_a_pig_without_a_pen_has_no_mates():
    pigs = pd.DataFrame({"pig": [1, 2, 3, 4, 5], "pen": ["a", "a", None, "b", "b"], "y": [1.0, 2.0, 4.0, 3.0, 6.0]})
    K = mg.Relationship.from_matrix(np.eye(5), [1, 2, 3, 4, 5])
    model = mg.MixedModel("y ~ 1 + us(1|members(pig, mates(pig, pen)):K)", pigs, relationships={"K": K})
    assert model.design.n == 5 and model.design.unknown == {"pen": 1}
    assert model.design.terms[0].Z.toarray()[2].tolist() == [0.0, 0.0, 1.0, 0.0, 0.0, *[0.0] * 5]


def test_a_column_without_any_dam_is_no_column_of_dams():
    calves = mg.data.mrode_calves().assign(dam=np.nan)
    with pytest.raises(mg.DataError, match="'dam' has no value at all"):
        mg.MixedModel("wwg ~ sex + us(1|members(calf, dam):A)", calves, relationships={"A": A})
