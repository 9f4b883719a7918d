"""What must not change the answer, or must change it in a known way."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg

SLOPE = "Reaction ~ Days + (Days|Subject)"
# The loop stops at a Newton decrement below 1e-11 of the criterion (some 200 here): sqrt(2e-9) = 4.5e-5 standard errors
# of theta, and takes one more step, which at least halves it. What depends on theta moves by as much of its own error.
STEP = 2e-5
# What such a step leaves of the log-likelihood: half of the decrement, and its own rounding.
LLF = 1e-8
# No optimiser between the two: rounding only.
EXACT = 1e-10


def theta_errors(fit: mg.Fit) -> np.ndarray:
    """Standard errors of theta, each parameter given the others; they exist on the boundary too."""
    return 1.0 / np.sqrt(np.diag(fit.fitted.information))


def same_fit(a: mg.Fit, b: mg.Fit) -> None:
    """Two fits of one model reached one optimum."""
    assert a.converged and b.converged
    assert a.llf == pytest.approx(b.llf, abs=LLF)
    np.testing.assert_allclose((a.theta.to_numpy() - b.theta.to_numpy()) / theta_errors(b), 0, atol=STEP)
    same_fixed(a, b)


def same_fixed(a: mg.Fit, b: mg.Fit) -> None:
    np.testing.assert_allclose((a.params - b.params.to_numpy()) / b.bse.to_numpy(), 0, atol=STEP)
    np.testing.assert_allclose(a.bse, b.bse, rtol=STEP)


def same_records(a: mg.Fit, b: mg.Fit) -> None:
    """Fitted values agree beside the residual standard deviation."""
    np.testing.assert_allclose(
        a.fittedvalues.to_numpy(), b.fittedvalues.to_numpy(), rtol=0, atol=STEP * np.sqrt(b.scale)
    )


def same_blups(a: mg.Fit, b: mg.Fit, term: str, other: str | None = None) -> None:
    for column in ("value", "se", "pev", "reliability", "n_records"):
        got, want = a.blup(term)[column].to_numpy(), b.blup(other or term)[column].to_numpy()
        np.testing.assert_allclose(got, want, rtol=0, atol=STEP * np.abs(want[~np.isnan(want)]).max(initial=1e-300))


def unbalanced(seed: int = 4, levels: int = 12) -> pd.DataFrame:
    """Groups of 1 to 8 records with their own intercepts and slopes, and a factor of three levels."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(levels), rng.integers(1, 9, levels))
    u, slope, x = rng.normal(size=levels), rng.normal(size=levels), rng.normal(size=len(g))
    y = 3.0 + x + 1.5 * u[g] + 1.2 * slope[g] * x + rng.normal(size=len(g))
    f = rng.choice(["lo", "mid", "hi"], len(g))
    return pd.DataFrame({"y": y, "x": x, "f": f, "g": g, "w": rng.uniform(0.5, 2.0, len(g))})


# Order and names of things


@pytest.mark.parametrize("formula", ["y ~ x + (x|g)", "y ~ f * x + (1|g)", "y ~ f + (x||g)", "y ~ x + (1|g) + (1|f:g)"])
def test_order_of_rows(formula: str) -> None:
    data = unbalanced()
    shuffled = data.sample(frac=1.0, random_state=3)
    a, b = mg.lmm(formula, data, weights="w"), mg.lmm(formula, shuffled, weights="w")
    same_fit(a, b)
    same_blups(a, b, "g")
    np.testing.assert_allclose(a.fittedvalues, b.fittedvalues[data.index], atol=STEP)


@pytest.mark.parametrize(
    "relabel",
    [
        lambda g: 1000 - 7 * g,
        lambda g: g.map(lambda v: f"herd {v}"),
        lambda g: pd.Categorical(g, categories=range(40)),  # unused levels are dropped
        lambda g: pd.Categorical(g, categories=range(39, -1, -1)),
        lambda g: g.astype(float) / 3,
        lambda g: g.astype("Int64"),
        lambda g: g.astype(str).astype("category"),
    ],
)
def test_names_and_order_of_levels(relabel: Callable[[pd.Series], Any]) -> None:
    data = unbalanced()
    other = data.assign(g=relabel(data["g"]))
    a, b = mg.lmm("y ~ x + (x|g)", data), mg.lmm("y ~ x + (x|g)", other)
    same_fit(a, b)
    assert b.ranef()["g"].shape == (12, 2)
    per_record_a = a.ranef()["g"].loc[data["g"]].to_numpy()
    per_record_b = b.ranef()["g"].loc[other["g"]].to_numpy()
    np.testing.assert_allclose(per_record_a, per_record_b, atol=STEP)


def test_boolean_group() -> None:
    data = unbalanced().assign(b=lambda d: d["g"] > 5)
    a, b = mg.lmm("y ~ x + (1|b)", data), mg.lmm("y ~ x + (1|b)", data.assign(b=data["b"].map({False: "n", True: "y"})))
    same_fit(a, b)
    same_blups(a, b, "b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("y ~ x + f + (1|g) + (1|f:g)", "y ~ (1|f:g) + f + (1|g) + x"),
        ("y ~ x + (1|g) + (0+x|g)", "y ~ x + (0+x|g) + (1|g)"),
        ("y ~ x + (x||g)", "y ~ x + (1|g) + (0+x|g)"),
        ("y ~ x + (1|g/f)", "y ~ x + (1|g) + (1|f:g)"),
        ("y ~ x + (1|g*f)", "y ~ x + (1|g) + (1|f) + (1|g:f)"),
        ("y ~ x + (1|g+f)", "y ~ x + (1|g) + (1|f)"),
        ("y ~ x + (x|g)", "y ~ 1 + x + (1 + x|g)"),
        ("y ~ f:x + f + (1|g)", "y ~ f + x:f + (1|g)"),
    ],
)
def test_order_and_spelling_of_terms(one: str, other: str) -> None:
    data = unbalanced()
    a, b = mg.lmm(one, data), mg.lmm(other, data)
    assert a.converged and b.converged
    assert a.llf == pytest.approx(b.llf, abs=LLF)
    np.testing.assert_allclose(np.sort(a.theta), np.sort(b.theta), rtol=STEP, atol=STEP)
    np.testing.assert_allclose(np.sort(a.params), np.sort(b.params), atol=STEP)
    np.testing.assert_allclose(a.fittedvalues, b.fittedvalues, atol=STEP)


# Units


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("seed", [1, 4], ids=["boundary", "interior"])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1e-6), (0.0, 1e6), (-40.0, 3.0), (1e6, 1.0)])
def test_units_of_the_response(method: str, shift: float, scale: float, seed: int) -> None:
    data = unbalanced(seed)
    a = mg.lmm("y ~ x + (x|g)", data, method=method)
    b = mg.lmm("y ~ x + (x|g)", data.assign(y=shift + scale * data["y"]), method=method)
    freedom = a.nobs - (len(a.params) if method == "reml" else 0)
    assert b.llf == pytest.approx(a.llf - freedom * np.log(scale), abs=LLF)
    np.testing.assert_allclose((b.theta / scale**2 - a.theta) / theta_errors(a), 0, atol=STEP)
    moved = a.params * scale
    moved["Intercept"] += shift
    np.testing.assert_allclose((b.params - moved) / b.bse, 0, atol=STEP)
    np.testing.assert_allclose(b.bse / scale, a.bse, rtol=STEP)
    np.testing.assert_allclose(b.relative_factor, a.relative_factor, atol=STEP)


@pytest.mark.parametrize("scale", [1e-4, 60.0, 1e5])
def test_units_of_a_covariate(scale: float) -> None:
    data = unbalanced()
    a = mg.lmm("y ~ x + (x|g)", data)
    b = mg.lmm("y ~ x + (x|g)", data.assign(x=scale * data["x"]))
    assert b.llf == pytest.approx(a.llf - np.log(scale), abs=LLF)  # the Jacobian of X
    np.testing.assert_allclose(b.theta * [1.0, scale, scale**2, 1.0], a.theta, rtol=STEP, atol=STEP)
    np.testing.assert_allclose(b.params * [1.0, scale], a.params, rtol=STEP)
    np.testing.assert_allclose(b.bse * [1.0, scale], a.bse, rtol=STEP)


@pytest.mark.parametrize("origin", [2.0, -50.0, 1000.0])
def test_origin_of_a_covariate(origin: float) -> None:
    """Moving the origin of x mixes intercepts and slopes of the groups, and leaves the model as it is."""
    data = unbalanced()
    a, b = mg.lmm("y ~ x + (x|g)", data), mg.lmm("y ~ x + (x|g)", data.assign(x=data["x"] - origin))
    assert a.converged and b.converged and a.llf == pytest.approx(b.llf, abs=LLF)
    T = np.array([[1.0, origin], [0.0, 1.0]])  # a + b x = (a + origin b) + b (x - origin)
    Sigma = np.array([[a.theta.iloc[0], a.theta.iloc[1]], [a.theta.iloc[1], a.theta.iloc[2]]])
    np.testing.assert_allclose((T @ Sigma @ T.T)[np.tril_indices(2)], b.theta.iloc[:3], rtol=STEP, atol=STEP)
    np.testing.assert_allclose(a.fittedvalues, b.fittedvalues, atol=STEP)


@pytest.mark.parametrize("constant", [2.0, 1e-3, 1e4])
def test_constant_weights_scale_the_residual_variance(constant: float) -> None:
    data = unbalanced()
    a, b = mg.lmm("y ~ x + (x|g)", data), mg.lmm("y ~ x + (x|g)", data, weights=np.full(len(data), constant))
    assert a.llf == pytest.approx(b.llf, abs=LLF)
    np.testing.assert_allclose(b.theta / [1, 1, 1, constant], a.theta, rtol=STEP, atol=STEP)
    np.testing.assert_allclose(a.params, b.params, atol=STEP)


def test_weights_of_replicated_records() -> None:
    """A mean of w records weighs as w: the fixed effects and BLUPs at known variances are those of the records."""
    rng = np.random.default_rng(5)
    g, copies = np.repeat(np.arange(6), 2), rng.integers(1, 5, 12)
    records = pd.DataFrame({"cell": np.repeat(np.arange(12), copies), "g": np.repeat(g, copies)})
    records["y"] = rng.normal(size=len(records))
    means = records.groupby("cell").agg(y=("y", "mean"), g=("g", "first"), w=("y", "size")).reset_index()
    known = {"g": 0.7, "residual": 1.3}
    a = mg.MixedModel("y ~ 1 + (1|g)", records).solve(known)
    b = mg.MixedModel("y ~ 1 + (1|g)", means, weights="w").solve(known)
    np.testing.assert_allclose(a.params, b.params, rtol=EXACT)
    np.testing.assert_allclose(a.blup("g")[["value", "pev"]], b.blup("g")[["value", "pev"]], atol=EXACT)


def test_offset_is_a_known_part_of_the_response() -> None:
    data = unbalanced()
    a = mg.lmm("y ~ x + offset(w) + offset(2 * x) + (1|g)", data)
    b = mg.lmm("z ~ x + (1|g)", data.assign(z=data["y"] - data["w"] - 2 * data["x"]))
    same_fit(a, b)
    np.testing.assert_allclose(a.fittedvalues, b.fittedvalues + data["w"] + 2 * data["x"], atol=STEP)
    np.testing.assert_allclose(a.resid, b.resid, atol=STEP)


# Coding of factors


@pytest.mark.parametrize("contrast", ["sum", "helmert", "poly", "diff", "treatment"])
def test_coding_of_a_factor(contrast: str) -> None:
    """ML does not know the coding; REML changes by the Jacobian log |T| of X_a = X_b T."""
    data = unbalanced()
    for method in ("ml", "reml"):
        a = mg.lmm("y ~ f + x + (1|g)", data, method=method)
        b = mg.lmm("y ~ f + x + (1|g)", data, method=method, contrasts={"f": contrast})
        Xa, Xb = (np.asarray(f.fitted.design.fixed.X) for f in (a, b))
        T = np.linalg.lstsq(Xb, Xa, rcond=None)[0]
        jacobian = np.linalg.slogdet(T)[1] if method == "reml" else 0.0
        assert a.llf == pytest.approx(b.llf - jacobian, abs=LLF)
        np.testing.assert_allclose(a.theta, b.theta, rtol=STEP, atol=STEP)
        np.testing.assert_allclose(T @ a.params.to_numpy(), b.params, atol=STEP)
        np.testing.assert_allclose(a.fittedvalues, b.fittedvalues, atol=STEP)


def test_contrasts_argument_is_the_call_in_the_formula() -> None:
    data = unbalanced()
    a = mg.lmm("y ~ f + (1|g)", data, contrasts={"f": "sum"})
    b = mg.lmm("y ~ C(f, contr.sum) + (1|g)", data)
    same_fit(a, b)
    assert list(a.params.index) == list(b.params.index)


def test_without_an_intercept() -> None:
    data = unbalanced()
    a, b = mg.lmm("y ~ f + (1|g)", data), mg.lmm("y ~ 0 + f + (1|g)", data)
    assert a.llf == pytest.approx(b.llf, abs=LLF)  # |T| = 1
    cells = (
        a.params["Intercept"]
        + a.params.reindex([n.replace("f[", "f[T.") for n in b.params.index]).fillna(0.0).to_numpy()
    )
    np.testing.assert_allclose(b.params, cells, atol=STEP)


# Aliased columns


def test_aliased_columns_leave_the_fit_alone() -> None:
    data = unbalanced().assign(x2=lambda d: 3.0 - 2.0 * d["x"], zero=0.0)
    a = mg.lmm("y ~ x + f + (1|g)", data)
    b = mg.lmm("y ~ x + x2 + zero + f + (1|g)", data)
    same_fit(a, b)
    assert list(b.params.index) == list(a.params.index)
    assert set(b.fitted.design.fixed.aliased) == {"x2", "zero"}
    np.testing.assert_allclose(a.fittedvalues, b.fittedvalues, atol=STEP)
    assert "x2" in str(b.summary()) and "zero" in str(b.summary())


def test_constraints_choose_the_column_set_to_zero() -> None:
    data = unbalanced().assign(x2=lambda d: 3.0 - 2.0 * d["x"])
    a = mg.lmm("y ~ x + x2 + (1|g)", data)
    b = mg.lmm("y ~ x + x2 + (1|g)", data, control=mg.Control(constraints=("x",)))
    assert list(a.params.index) == ["Intercept", "x"] and list(b.params.index) == ["Intercept", "x2"]
    assert a.llf == pytest.approx(b.llf + np.log(2.0), abs=LLF)
    assert b.params["x2"] == pytest.approx(-a.params["x"] / 2.0, abs=STEP)
    np.testing.assert_allclose(a.fittedvalues, b.fittedvalues, atol=STEP)


def test_constraint_on_the_intercept() -> None:
    data = unbalanced()
    a = mg.lmm("y ~ 1 + C(f, contr.treatment) + (1|g)", data.assign(hi=(data["f"] == "hi") * 1.0))
    full = data.assign(**{k: (data["f"] == k) * 1.0 for k in ("hi", "lo", "mid")})
    b = mg.lmm("y ~ 1 + hi + lo + mid + (1|g)", full, control=mg.Control(constraints=("Intercept",)))
    assert list(b.params.index) == ["hi", "lo", "mid"]
    np.testing.assert_allclose(a.fittedvalues, b.fittedvalues, atol=STEP)


def test_estimable_functions() -> None:
    data = unbalanced()
    full = data.assign(**{k: (data["f"] == k) * 1.0 for k in ("hi", "lo", "mid")})
    for control in (mg.Control(), mg.Control(constraints=("Intercept",)), mg.Control(constraints=("lo",))):
        fit = mg.lmm("y ~ 1 + hi + lo + mid + (1|g)", full, control=control)
        L = [[1, 1, 0, 0], [0, 1, -1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [3, 1, 1, 1], [0, 1, 1, -2], [0, 1, 1, 1]]
        assert fit.estimable(L).tolist() == [True, True, False, False, True, True, False]


# Relationships


def animals(seed: int = 2) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A pedigree of 40 with inbreeding, males odd and females even, and two records on each of the last 30 animals."""
    rng = np.random.default_rng(seed)
    ids = np.arange(1, 41)
    sire = [0] * 6 + [2 * int(rng.integers(0, k // 2)) + 1 if k % 4 else 0 for k in range(6, 40)]
    dam = [0] * 6 + [2 * int(rng.integers(1, k // 2)) for k in range(6, 40)]
    pedigree = pd.DataFrame({"id": ids, "sire": sire, "dam": dam})
    A = mg.additive(mg.Pedigree(pedigree)).multiply(np.eye(40))
    u = np.linalg.cholesky(A) @ rng.normal(size=40)
    animal = np.repeat(ids[10:], 2)
    sex = rng.choice(["f", "m"], len(animal))
    y = 10.0 + (sex == "m") + u[animal - 1] + rng.normal(size=len(animal))
    return pedigree, pd.DataFrame({"animal": animal, "sex": sex, "y": y})


ANIMAL = "y ~ sex + (1|animal:A)"


def test_unrelated_animals_are_independent_levels() -> None:
    _, data = animals()
    ids = pd.unique(data["animal"])
    founders = mg.Pedigree(pd.DataFrame({"id": ids, "sire": 0, "dam": 0}))
    a = mg.lmm(ANIMAL, data, relationships={"A": mg.additive(founders)})
    b = mg.lmm("y ~ sex + (1|animal)", data)
    same_fit(a, b)
    same_blups(a, b, "animal:A", "animal")


def test_one_matrix_in_four_forms() -> None:
    pedigree, data = animals()
    direct = mg.additive(mg.Pedigree(pedigree))
    K = direct.multiply(np.eye(40))
    forms = {
        "matrix": mg.Relationship.from_matrix(K, direct.labels),
        "inverse": mg.Relationship.from_inverse(direct.inverse, direct.labels),
        "dense inverse": mg.Relationship.from_inverse(np.linalg.inv(K), direct.labels),
        "factor": mg.Relationship.from_factor(np.linalg.cholesky(K), direct.labels),
        "wide factor": mg.Relationship.from_factor(
            np.hstack([np.linalg.cholesky(K) * 0.6, np.linalg.cholesky(K) * 0.8]), direct.labels
        ),
    }
    a = mg.lmm(ANIMAL, data, relationships={"A": direct})
    assert a.theta["animal:A"] > 0.1  # an interior optimum, else all would agree at zero
    for form in forms.values():
        b = mg.lmm(ANIMAL, data, relationships={"A": form})
        same_fit(b, a)
        same_blups(b, a, "animal:A")


def test_singular_relationship_through_its_factor() -> None:
    """Clones: K = F F' of rank 20 over 40 animals, against V written out."""
    _, data = animals()
    F = np.random.default_rng(8).normal(size=(40, 20))
    F[1] = F[0]
    K = mg.Relationship.from_factor(F, range(1, 41))
    known = {"animal:A": 0.05, "residual": 1.0}
    a = mg.MixedModel(ANIMAL, data, relationships={"A": K}).solve(known)
    b = mg.MixedModel(ANIMAL, data, relationships={"A": K}, control=mg.Control(engine="dense")).solve(known)
    assert a.llf == pytest.approx(b.llf, rel=EXACT)
    np.testing.assert_allclose(a.params, b.params, rtol=EXACT)
    np.testing.assert_allclose(a.blup("animal:A")[["value", "pev"]], b.blup("animal:A")[["value", "pev"]], atol=1e-9)
    values = a.blup("animal:A")["value"]
    assert values[0] == pytest.approx(values[1], rel=1e-12) and values[0] != 0.0
    same_fit(
        mg.lmm(ANIMAL, data, relationships={"A": K}),
        mg.lmm(ANIMAL, data, relationships={"A": K}, control=mg.Control(engine="dense")),
    )


def test_order_of_a_relationship() -> None:
    pedigree, data = animals()
    K = mg.additive(mg.Pedigree(pedigree))
    order = np.random.default_rng(4).permutation(40)
    shuffled = mg.Relationship.from_matrix(K.multiply(np.eye(40))[np.ix_(order, order)], K.labels[order])
    a, b = (mg.lmm(ANIMAL, data, relationships={"A": R}) for R in (K, shuffled))
    same_fit(a, b)
    x, y = (f.blup("animal:A").set_index("level")["value"] for f in (a, b))
    np.testing.assert_allclose(x, y[x.index], atol=STEP)


@pytest.mark.parametrize("text", [False, True])
def test_order_and_type_of_a_pedigree(text: bool) -> None:
    pedigree, data = animals()
    other = pedigree.sample(frac=1.0, random_state=1)
    if text:
        other = other.map(lambda v: f"a{v}" if v else None)
        data = data.assign(tag=data["animal"].map(lambda v: f"a{v}"))
    a = mg.lmm(ANIMAL, data, relationships={"A": mg.additive(mg.Pedigree(pedigree))})
    formula = ANIMAL.replace("animal", "tag") if text else ANIMAL
    b = mg.lmm(formula, data, relationships={"A": mg.additive(mg.Pedigree(other))})
    same_fit(a, b)
    x = a.blup("animal:A").set_index("level")[["value", "pev", "reliability"]]
    y = b.blup("tag:A" if text else "animal:A").set_index("level")[["value", "pev", "reliability"]]
    np.testing.assert_allclose(x, y.loc[[f"a{v}" for v in x.index] if text else x.index], atol=STEP)


def test_descendants_without_records_change_nothing_else() -> None:
    """All members are predicted; progeny without records get the mean of their parents."""
    pedigree, data = animals()
    grown = pd.concat([pedigree, pd.DataFrame({"id": [41, 42], "sire": [13, 41], "dam": [16, 0]})], ignore_index=True)
    a = mg.lmm(ANIMAL, data, relationships={"A": mg.additive(mg.Pedigree(pedigree))})
    b = mg.lmm(ANIMAL, data, relationships={"A": mg.additive(mg.Pedigree(grown))})
    same_fit(a, b)
    x, y = (f.blup("animal:A").set_index("level") for f in (a, b))
    np.testing.assert_allclose(x[["value", "pev"]], y.loc[x.index, ["value", "pev"]], atol=STEP)
    assert y.loc[41, "value"] == pytest.approx((y.loc[13, "value"] + y.loc[16, "value"]) / 2, rel=1e-10)
    assert y.loc[42, "value"] == pytest.approx(y.loc[41, "value"] / 2, rel=1e-10)


# Structures


@pytest.mark.parametrize("tag", ["us(1|g)", "diag(1|g)", "idv(1|g)", "diag(1|g, hom=True)"])
def test_one_coefficient_has_one_structure(tag: str) -> None:
    data = unbalanced()
    a, b = mg.lmm("y ~ x + (1|g)", data), mg.lmm(f"y ~ x + {tag}", data)
    same_fit(a, b)
    same_blups(a, b, "g")


def test_diagonal_is_separate_terms() -> None:
    data = unbalanced(seed=11, levels=30)
    columns = {k: (data["f"] == k) * 1.0 for k in ("hi", "lo", "mid")}
    a = mg.lmm("y ~ f + diag(0+f|g)", data)
    b = mg.lmm("y ~ f + (0+hi|g) + (0+lo|g) + (0+mid|g)", data.assign(**columns))
    same_fit(a, b)
    np.testing.assert_allclose(a.ranef()["g"], np.hstack(list(b.ranef().values())), atol=STEP)


def test_common_variance_is_the_interaction() -> None:
    data = unbalanced(seed=11, levels=30)
    a = mg.lmm("y ~ f + idv(0+f|g)", data)
    b = mg.lmm("y ~ f + (1|g:f)", data)
    same_fit(a, b)
    c = mg.lmm("y ~ f + diag(0+f|g, hom=True)", data)
    same_fit(a, c)


def test_unstructured_at_known_zero_covariance_is_diagonal() -> None:
    data = unbalanced()
    known = {"g": np.diag([1.5, 0.3]), "residual": 0.8}
    a, b = (mg.MixedModel(f"y ~ x + {tag}(x|g)", data).solve(known) for tag in ("us", "diag"))
    assert a.llf == pytest.approx(b.llf, rel=EXACT)
    np.testing.assert_allclose(a.blup("g")[["value", "pev"]], b.blup("g")[["value", "pev"]], atol=EXACT)


def test_residual_classes_of_one_kind_are_one_residual() -> None:
    data = unbalanced().assign(one="a")
    same_fit(mg.lmm("y ~ x + (1|g)", data, residual="diag(one)"), mg.lmm("y ~ x + (1|g)", data))
    same_fit(mg.lmm("y ~ x + (1|g)", data, residual="diag(f, hom=True)"), mg.lmm("y ~ x + (1|g)", data))


def test_residual_classes_at_equal_variances_are_one_residual() -> None:
    data = unbalanced()
    a = mg.MixedModel("y ~ x + (1|g)", data, residual="diag(f)").solve({"g": 1.0, "residual": np.diag([0.7, 0.7, 0.7])})
    b = mg.MixedModel("y ~ x + (1|g)", data).solve({"g": 1.0, "residual": 0.7})
    assert a.llf == pytest.approx(b.llf, rel=EXACT)
    np.testing.assert_allclose(a.bse, b.bse, rtol=EXACT)


# Equations and loops


def test_known_variances_solve_generalised_least_squares() -> None:
    pedigree, data = animals()
    A = mg.additive(mg.Pedigree(pedigree))
    data = data.assign(w=np.random.default_rng(0).uniform(0.5, 3.0, len(data)), c=np.arange(len(data)) % 7)
    model = mg.MixedModel("y ~ sex + (1|animal:A) + (1|c)", data, relationships={"A": A}, weights="w")
    fit = model.solve({"animal:A": 1.2, "c": 0.4, "residual": 0.9})
    X = np.column_stack([np.ones(len(data)), data["sex"] == "m"]).astype(float)
    Za, Zc = np.eye(40)[data["animal"] - 1], np.eye(7)[data["c"]]
    V = 1.2 * Za @ A.multiply(np.eye(40)) @ Za.T + 0.4 * Zc @ Zc.T + np.diag(0.9 / data["w"])
    Vi = np.linalg.inv(V)
    C = np.linalg.inv(X.T @ Vi @ X)
    b = C @ X.T @ Vi @ data["y"].to_numpy()
    r = data["y"].to_numpy() - X @ b
    np.testing.assert_allclose(fit.params, b, rtol=EXACT)
    np.testing.assert_allclose(fit.cov_params(), C, rtol=0, atol=EXACT)
    np.testing.assert_allclose(fit.blup("animal:A")["value"], 1.2 * A.multiply(Za.T @ Vi @ r), atol=EXACT)
    np.testing.assert_allclose(fit.blup("c")["value"], 0.4 * Zc.T @ Vi @ r, atol=EXACT)
    P = Vi - Vi @ X @ C @ X.T @ Vi
    np.testing.assert_allclose(fit.blup("c")["pev"], 0.4 - 0.16 * np.diag(Zc.T @ P @ Zc), atol=EXACT)
    value = np.linalg.slogdet(V)[1] - np.linalg.slogdet(C)[1] + r @ Vi @ r + (len(r) - 2) * np.log(2 * np.pi)
    assert fit.llf == pytest.approx(-0.5 * value, rel=EXACT)


def test_solving_at_the_estimates_is_the_fit() -> None:
    data = unbalanced()
    model = mg.MixedModel("y ~ x + (x|g)", data)
    a = model.fit()
    t = a.theta.to_numpy()
    b = model.solve({"g": [[t[0], t[1]], [t[1], t[2]]], "residual": t[3]})
    assert a.llf == pytest.approx(b.llf, rel=EXACT)
    np.testing.assert_allclose(a.params, b.params, rtol=EXACT)
    np.testing.assert_allclose(a.blup("g")["value"], b.blup("g")["value"], atol=EXACT)


@pytest.mark.parametrize("formula", ["y ~ x + (1|g)", "y ~ x + (x||g)", "y ~ x + (x|g)"])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_expectation_maximisation_reaches_the_same_optimum(formula: str, method: str) -> None:
    data = unbalanced(seed=7, levels=20)
    a = mg.lmm(formula, data, method=method)
    b = mg.lmm(formula, data, method=method, control=mg.Control(optimiser="em"))
    assert a.converged and b.converged
    # EM creeps, so its last step does not halve the 4.5e-5 standard errors that the tolerance leaves
    assert a.llf == pytest.approx(b.llf, abs=LLF)
    np.testing.assert_allclose((a.theta - b.theta) / theta_errors(a), 0, atol=1e-4)


@pytest.mark.parametrize("seed", [1, 4], ids=["boundary", "interior"])
@pytest.mark.parametrize(
    "start", [{"g": 1e-4}, {"g": 1e4}, {"residual": 1e-3}, {"g": [[1.0, 0.99], [0.99, 1.0]], "residual": 30.0}]
)
def test_start_does_not_matter(start: dict[str, Any], seed: int) -> None:
    data = unbalanced(seed)
    a, b = mg.lmm("y ~ x + (x|g)", data), mg.lmm("y ~ x + (x|g)", data, control=mg.Control(start=start))
    same_fit(a, b)
    assert bool(a.certificate.singular) == bool(b.certificate.singular) == (seed == 1)


def test_engines_agree_on_the_optimum() -> None:
    data = unbalanced()
    a, b = (mg.lmm("y ~ x + (x|g)", data, weights="w", control=mg.Control(engine=e)) for e in ("henderson", "dense"))
    assert (a.engine, b.engine) == ("henderson", "dense")
    same_fit(a, b)
    same_blups(a, b, "g")


# Rows and frames


def gaps() -> pd.DataFrame:
    data = unbalanced()
    data.loc[2, "y"] = np.nan
    data.loc[[4, 9], "x"] = np.nan
    data["g"] = data["g"].astype(float)
    data.loc[11, "g"] = np.nan
    return data


def test_missing_rows_are_left_out() -> None:
    data = gaps()
    a, b = mg.lmm("y ~ x + (x|g)", data), mg.lmm("y ~ x + (x|g)", data.drop(index=[2, 4, 9, 11]))
    same_fit(a, b)
    assert a.nobs == len(data) - 4
    assert list(a.fittedvalues.index) == [k for k in data.index if k not in (2, 4, 9, 11)]


def test_excluded_rows_are_padded() -> None:
    data = gaps()
    a, b = mg.lmm("y ~ x + (x|g)", data, na_action="exclude"), mg.lmm("y ~ x + (x|g)", data)
    assert a.llf == b.llf
    for padded, plain in ((a.fittedvalues, b.fittedvalues), (a.resid, b.resid)):
        assert list(padded.index) == list(data.index)
        assert list(padded.index[padded.isna()]) == [2, 4, 9, 11]
        pd.testing.assert_series_equal(padded.dropna(), plain)


def test_subset_is_filtering_by_hand() -> None:
    data = unbalanced()
    mask = (data["x"] > -0.5).to_numpy()
    by_hand = mg.lmm("y ~ x + (1|g)", data[mask])
    for subset in ("x > -0.5", mask, np.flatnonzero(mask), data["x"] > -0.5, list(mask)):
        fit = mg.lmm("y ~ x + (1|g)", data, subset=subset)
        assert fit.llf == by_hand.llf and fit.nobs == mask.sum()
        assert list(fit.fittedvalues.index) == list(data.index[mask])


def test_positions_of_a_subset_in_another_order() -> None:
    data = unbalanced()
    backwards = np.arange(len(data))[::-1]
    fit = mg.lmm("y ~ x + (1|g)", data, subset=backwards)
    whole = mg.lmm("y ~ x + (1|g)", data)
    assert sorted(fit.fittedvalues.index) == list(data.index)
    np.testing.assert_allclose(fit.fittedvalues[data.index], whole.fittedvalues, atol=STEP)
    np.testing.assert_allclose((fit.fittedvalues + fit.resid)[data.index], data["y"], rtol=1e-12)


def test_subset_and_weights_are_of_the_same_rows() -> None:
    data = unbalanced()
    a = mg.lmm("y ~ x + (1|g)", data, weights=data["w"].to_numpy(), subset="x > 0")
    b = mg.lmm("y ~ x + (1|g)", data[data["x"] > 0], weights="w")
    assert a.llf == b.llf


@pytest.mark.parametrize("convert", ["polars", "pyarrow", "mapping", "csv", "parquet"])
def test_kinds_of_frames(convert: str, tmp_path: Any) -> None:
    data = unbalanced()
    other: Any
    if convert == "polars":
        other = pytest.importorskip("polars").from_pandas(data)
    elif convert == "pyarrow":
        other = pytest.importorskip("pyarrow").Table.from_pandas(data)
    elif convert == "mapping":
        other = {k: v.tolist() for k, v in data.items()}
    elif convert == "csv":
        other = tmp_path / "data.csv"
        data.to_csv(other, index=False)
    else:
        pytest.importorskip("pyarrow")
        other = str(tmp_path / "data.parquet")
        data.to_parquet(other)
    a, b = mg.lmm("y ~ x + f + (x|g)", data, weights="w"), mg.lmm("y ~ x + f + (x|g)", other, weights="w")
    same_fit(a, b)
    assert list(a.params.index) == list(b.params.index)


def test_polars_categories_keep_their_order() -> None:
    polars = pytest.importorskip("polars")
    data = unbalanced()
    order = ["mid", "lo", "hi"]
    pandas = data.assign(f=pd.Categorical(data["f"], categories=order))
    native = polars.from_pandas(data).with_columns(polars.col("f").cast(polars.Enum(order)))
    a, b = mg.lmm("y ~ f + (1|g)", pandas), mg.lmm("y ~ f + (1|g)", native)
    assert list(a.params.index) == list(b.params.index) == ["Intercept", "f[T.lo]", "f[T.hi]"]
    same_fit(a, b)


def test_the_index_of_the_data_is_kept() -> None:
    data = unbalanced()
    named = data.set_axis([f"r{k}" for k in range(len(data))], axis=0)
    fit = mg.lmm("y ~ x + (1|g)", named)
    assert list(fit.fittedvalues.index) == list(named.index) == list(fit.resid.index)
    np.testing.assert_allclose(fit.fittedvalues + fit.resid, named["y"], rtol=1e-12)
    repeated = data.set_axis([0] * len(data), axis=0)
    assert mg.lmm("y ~ x + (1|g)", repeated).llf == mg.lmm("y ~ x + (1|g)", data).llf
