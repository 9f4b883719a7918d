"""Predictions: those of the fit's own records, and of new ones against dense algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import mixedgen as mg
from mixedgen.errors import ArgumentError, DataError, NotAvailableError, RelationshipError
from mixedgen.output.matrices import write_out
from mixedgen.prediction.predict import predict

RTOL = 1e-9  # solves of well-conditioned systems of some hundred equations
RELATED = {"calf:A": 20.0, "residual": 40.0}


def dense(array: Any) -> np.ndarray:
    return array.toarray() if sp.issparse(array) else np.asarray(array)


def kriging(fit: mg.Fit, x: np.ndarray, cov: np.ndarray, var: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and error variance of x'b + t, with Cov(t, y) = cov and Var(t) = var: universal kriging."""
    m = write_out(fit.fitted)
    X, V = m.X.to_numpy(), m.V.to_numpy()
    W = np.linalg.inv(X.T @ np.linalg.solve(V, X))
    b = W @ X.T @ np.linalg.solve(V, fit.fitted.design.y)
    mean = x @ b + cov @ np.linalg.solve(V, fit.fitted.design.y - X @ b)
    left = x - cov @ np.linalg.solve(V, X)
    return mean, var - np.sum(cov * np.linalg.solve(V, cov.T).T, axis=1) + np.sum(left @ W * left, axis=1)


def check(table: pd.DataFrame, mean: np.ndarray, variance: np.ndarray) -> None:
    np.testing.assert_allclose(table["mean"], mean, rtol=RTOL)
    np.testing.assert_allclose(table["se"], np.sqrt(variance), rtol=1e-7)
    np.testing.assert_allclose(table["upper"] - table["mean"], 1.959963984540054 * table["se"], rtol=1e-9)


@pytest.fixture(scope="module")
def days() -> mg.Fit:
    return mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())


def crossed() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "g": rng.integers(0, 6, 60),
            "h": rng.choice(list("abcd"), 60),
            "k": rng.choice(list("abcd"), 60),
            "site": rng.choice(["n", "s"], 60),
            "x": rng.normal(size=60),
            "w": rng.uniform(0.2, 1.0, 60),
        }
    )
    frame["y"] = 5.0 + frame["x"] + 0.5 * frame["g"] + rng.normal(size=60)
    return frame


CROSSED = {
    "y ~ x + (1|g) + (1|h)": [1.0, 2.0],
    "y ~ poly(x, 2) + site + (1|g:h)": [1.0],
    "y ~ x * site + offset(2 * x) + (0 + site|g)": [np.array([[1.0, 0.3], [0.3, 0.5]])],
    "y ~ site + (site + I(x ** 2)|g)": [0.5 * np.eye(3)],
    "y ~ x + (1|mm(h, k, weights=w))": [1.5],
    "y ~ 0 + (x||g)": [1.0, 0.5],
}


def solved(formula: str, variances: list[Any] | None = None) -> mg.Fit:
    model = mg.MixedModel(formula, crossed())
    keys = [t.key for t in model.design.as_written]
    return model.solve({**dict(zip(keys, variances or CROSSED[formula], strict=True)), "residual": 1.2})


@pytest.mark.parametrize("formula", CROSSED)
def test_the_records_of_the_fit_as_new_data(formula: str) -> None:
    fit, data = solved(formula), crossed()
    pd.testing.assert_series_equal(predict(fit.fitted), fit.fittedvalues, check_names=False)
    np.testing.assert_allclose(predict(fit.fitted, data), fit.fittedvalues, rtol=RTOL)
    own, new = (predict(fit.fitted, d, interval="confidence") for d in (None, data))
    pd.testing.assert_frame_equal(own, new, rtol=RTOL)
    pd.testing.assert_frame_equal(predict(fit.fitted, data.iloc[[7]], interval="confidence"), own.iloc[[7]], rtol=RTOL)


IDS = list("abcdefghij")
OVER_RELATIONSHIPS = [
    "(1|site:animal:A)",
    "(1|year:animal:A)",
    "(1|site:year:animal:A)",
    "(site||animal:A)",
    "(1|animal:A:dam:B)",
    "us(x|members(animal, dam):A)",
    "us(1|members(animal, mates(animal, pen)):A)",
    "(1|site:members(animal, dam):A)",
    "(1|mm(animal, dam, weights=w):A)",
    "(1|site:mm(animal, dam))",
    "(1|site/year)",
    "(1|site:animal:A) + (1|animal)",
]


def related(n: int = 80) -> tuple[pd.DataFrame, mg.Relationship]:
    """Records of ten related animals at two sites in four years."""
    rng = np.random.default_rng(61)
    A = mg.additive(
        mg.Pedigree(pd.DataFrame({"id": IDS, "sire": list("000aaaacda"), "dam": list("000bbbbbee")})),
    )
    data = pd.DataFrame({"animal": rng.choice(IDS, n), "dam": rng.choice(IDS, n), "x": rng.normal(size=n)})
    data = data.assign(site=np.tile(["s1", "s2"], n // 2), year=np.repeat([1, 2, 3, 4], n // 4))
    data = data.assign(pen=np.arange(n) // 8, w=rng.uniform(1.0, 2.0, n), y=data["x"] + rng.normal(size=n))
    return data, A


@pytest.mark.parametrize("term", OVER_RELATIONSHIPS)
@pytest.mark.parametrize("re_form", ["all", "none"])
def test_terms_that_are_rewritten_know_their_own_records_again(term: str, re_form: str) -> None:
    data, A = related()
    links = {name: A for name in "AB" if f":{name}" in term}
    model = mg.MixedModel(f"y ~ site + {term}", data, relationships=links)
    known: dict[str, Any] = {t.key: 0.5 if t.structure.size == 1 else 0.5 * np.eye(t.c) for t in model.design.terms}
    fit = model.solve({**known, "residual": 1.0})
    np.testing.assert_allclose(fit.predict(data), fit.fittedvalues, rtol=RTOL)
    own, new = (fit.predict(d, interval="prediction", re_form=re_form) for d in (None, data))
    pd.testing.assert_frame_equal(own, new, rtol=RTOL)


@pytest.mark.parametrize("formula", CROSSED)
def test_standard_errors_are_those_of_the_joint_covariance(formula: str) -> None:
    fit = solved(formula)
    design = fit.fitted.design
    W = np.hstack([dense(design.fixed.X), *(t.Z.toarray() for t in design.terms)])
    C = fit.fitted.system.joint_covariance()
    got = predict(fit.fitted, interval="confidence")
    np.testing.assert_allclose(got["se"] ** 2, np.einsum("ni,ij,nj->n", W, C, W), rtol=1e-8)
    first = len(design.fixed.names)
    cut = W[:, :first]
    got = predict(fit.fitted, re_form="none", interval="confidence")
    np.testing.assert_allclose(
        got["se"] ** 2, np.einsum("ni,ij,nj->n", cut, C[:first, :first], cut), rtol=1e-8, atol=1e-14
    )


def test_new_subjects_and_population(days: mg.Fit) -> None:
    new = pd.DataFrame({"Days": [0.0, 4.0, 12.0], "Subject": ["308", "new", "other"]}, index=list("abc"))
    design, theta = days.fitted.design, days.theta.to_numpy()
    Sigma = design.terms[0].structure.matrix(theta[:3])
    z = np.column_stack([np.ones(3), new["Days"]])
    own = design.terms[0].levels.get_loc("308")
    u = np.zeros((3, 2, design.terms[0].q))
    u[0, :, own] = z[0]
    cov = u.reshape(3, -1) @ np.kron(Sigma, np.eye(design.terms[0].q)) @ design.terms[0].Z.toarray().T
    var = np.einsum("na,ab,nb->n", z, Sigma, z)
    mean, variance = kriging(days, z, cov, var)
    table = predict(days.fitted, new, new_levels="population", interval="confidence")
    assert list(table.index) == list("abc")
    check(table, mean, variance)
    check(predict(days.fitted, new, new_levels="population", interval="prediction"), mean, variance + theta[-1])
    alone = kriging(days, z, 0 * cov, 0 * var)
    columns = new[["Days"]]
    check(predict(days.fitted, columns, re_form="none", interval="confidence"), *alone)
    check(predict(days.fitted, columns, re_form="none", interval="prediction"), alone[0], alone[1] + var + theta[-1])


def test_one_of_two_terms() -> None:
    fit = solved("y ~ x + (1|g) + (1|h)")
    design, data = fit.fitted.design, crossed()
    m = write_out(fit.fitted)
    k = design.term("h")
    Z = design.terms[k].Z.toarray()
    mean, variance = kriging(fit, m.X.to_numpy(), 2.0 * Z @ Z.T, np.full(60, 2.0))
    check(predict(fit.fitted, data.drop(columns="g"), re_form=["h"], interval="confidence"), mean, variance)
    check(predict(fit.fitted, re_form="h", interval="prediction"), mean, variance + 1.0 + 1.2)


@pytest.mark.parametrize("engine", ["henderson", "dense"])
def test_new_animals_through_a_longer_pedigree(calves: pd.DataFrame, engine: str) -> None:
    base = mg.data.mrode_pedigree()
    names = list(base.columns)
    more = pd.DataFrame([[101, 4, 6], [102, 7, 101]], columns=names)
    A, longer = (mg.additive(mg.Pedigree(p)) for p in (base, pd.concat([base, more])))
    control = mg.Control(engine=engine)
    formula = "wwg ~ sex + (1|calf:A)"
    fit = mg.MixedModel(formula, calves, relationships={"A": A}, control=control).solve(RELATED)
    want = mg.MixedModel(formula, calves, relationships={"A": longer}, control=control).solve(RELATED)
    new = pd.DataFrame({"sex": calves["sex"].iloc[[0, 1, 0]].to_numpy(), "calf": [101, 102, 4]})
    table = predict(fit.fitted, new, relationships={"A": longer}, interval="confidence")
    np.testing.assert_allclose(table, predict(want.fitted, new, interval="confidence"), rtol=RTOL)
    K = longer.cross(new["calf"], calves["calf"])
    x = dense(fit.fitted.design.fixed.X)[[0, 1, 0]]
    own = longer.diagonal[longer.labels.get_indexer(new["calf"])]
    check(table, *kriging(fit, x, 20.0 * K, 20.0 * own))
    with pytest.raises(DataError, match=r"2 levels of 'calf:A' were not in the fit: 101, 102"):
        predict(fit.fitted, new)
    with pytest.raises(RelationshipError, match="are not in the relationship given"):
        predict(fit.fitted, new, relationships={"A": longer.submatrix([101, 102])})
    scaled = mg.Relationship.from_matrix(2.0 * longer.cross(longer.labels, longer.labels), longer.labels)
    with pytest.raises(RelationshipError, match="another scale"):
        predict(fit.fitted, new, relationships={"A": scaled})


def test_members_of_new_records(calves: pd.DataFrame, pedigree: mg.Pedigree) -> None:
    data = calves.assign(mother=[2, 2, 5, 6, 6])
    formula = "wwg ~ sex + us(1|members(calf, mother):A)"
    model = mg.MixedModel(formula, data, relationships={"A": mg.additive(pedigree)})
    key = model.design.terms[0].key
    fit = model.solve({key: np.array([[20.0, -3.0], [-3.0, 8.0]]), "residual": 40.0})
    own = predict(fit.fitted, interval="confidence")
    pd.testing.assert_frame_equal(predict(fit.fitted, data, interval="confidence"), own, rtol=RTOL)


def test_missing_values_give_missing_predictions(days: mg.Fit) -> None:
    new = pd.DataFrame({"Days": [np.nan, 1.0, 2.0], "Subject": ["308", "308", None]})
    got = predict(days.fitted, new)
    assert got.isna().tolist() == [True, False, True]
    assert predict(days.fitted, new.iloc[[0]], interval="prediction").isna().all(axis=None)
    assert predict(days.fitted, new, re_form="none").isna().tolist() == [True, False, False]


def test_rows_excluded_from_the_fit_are_padded(sleepstudy: pd.DataFrame) -> None:
    sleepstudy.loc[3, "Reaction"] = np.nan
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", sleepstudy, na_action="exclude")
    table = predict(fit.fitted, interval="confidence")
    pd.testing.assert_series_equal(table["mean"], fit.fittedvalues, check_names=False)
    assert np.flatnonzero(table["se"].isna()).tolist() == [3]


def test_an_unseen_level_of_a_fixed_factor(sleepstudy: pd.DataFrame) -> None:
    data = crossed()
    fit = mg.lmm("y ~ site + (1|g)", data)
    with pytest.raises(DataError, match=r"factor 'site' has 1 levels that the fit did not have: 'west'"):
        predict(fit.fitted, data.assign(site="west"))
    fit = mg.lmm("y ~ C(h) + (1|g)", data, contrasts=None)
    with pytest.raises(DataError, match=r"factor 'h' has 2 levels"):
        predict(fit.fitted, data.assign(h=["p", "q"] * 30))


def test_rows_that_are_not_estimable() -> None:
    data = crossed()
    data = data[~((data["site"] == "n") & (data["h"] == "a"))]
    fit = mg.lmm("y ~ site * h + (1|g)", data)
    with pytest.warns(UserWarning, match="1 rows of the new data are not estimable"):
        got = predict(fit.fitted, pd.DataFrame({"site": ["n", "s"], "h": ["a", "a"], "g": [1, 1]}))
    assert got.isna().tolist() == [True, False]


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + (leg(x, 1)|g)",
        "y ~ x + (0 + poly(x, 2)|g)",
        "y ~ x + (scale(x)|g)",
        "y ~ x + (h|g)",
        "y ~ 1 + (C(site)|g)",
    ],
)
def test_effects_of_new_data_are_coded_as_in_the_fit(formula: str) -> None:
    """Bases keep their range, factors their first level, also in part of the data."""
    data = crossed()
    model = mg.MixedModel(formula, data)
    c = model.design.terms[0].c
    fit = model.solve({"g": np.eye(c) + 0.3, "residual": 1.0})
    some = data.iloc[5:23]
    pd.testing.assert_series_equal(predict(fit.fitted, some), predict(fit.fitted).iloc[5:23], rtol=1e-10)
    with_se = predict(fit.fitted, some, interval="confidence")
    pd.testing.assert_frame_equal(with_se, predict(fit.fitted, interval="confidence").iloc[5:23], rtol=1e-8)


def test_several_residual_variances_and_traits() -> None:
    data = crossed().assign(z=lambda d: d["y"] + d["x"] ** 2)
    fit = mg.lmm("y ~ x + (1|g)", data, residual="diag(site)")
    own = predict(fit.fitted, interval="prediction")["se"] ** 2 - predict(fit.fitted, interval="confidence")["se"] ** 2
    assert sorted(own.round(9).unique()) == pytest.approx(sorted(fit.theta.filter(like="residual")), abs=1e-8)
    pd.testing.assert_frame_equal(
        predict(fit.fitted, data, interval="prediction"), predict(fit.fitted, interval="prediction")
    )
    model = mg.MixedModel("cbind(y, z) ~ x + (1|g)", data)
    both = model.solve({"g": np.eye(2), "residual": np.eye(2)})
    pd.testing.assert_frame_equal(predict(both.fitted), both.fittedvalues)
    population = predict(both.fitted, re_form="none")
    np.testing.assert_allclose(population["y"], both.params["y:Intercept"] + both.params["y:x"] * data["x"], rtol=RTOL)
    with pytest.raises(NotAvailableError, match="cbind"):
        predict(both.fitted, data)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"re_form": "cow"}, ArgumentError, "no random term 'cow'"),
        ({"interval": "both"}, ArgumentError, "interval must be"),
        ({"new_levels": "omit"}, ArgumentError, "new_levels must be"),
        ({"level": 95}, ArgumentError, "level must be"),
        ({"relationships": {"A": None}}, ArgumentError, "which no term"),
        ({"data": {"Days": [1.0]}}, DataError, "no column 'Subject'"),
        ({"data": {"Days": ["one"], "Subject": ["308"]}}, DataError, "'Days' must be numeric"),
        ({"data": {"Days": [1.0], "Subject": [3080]}}, DataError, "1 levels of 'Subject'"),
    ],
)
def test_requests_that_do_not_fit(days: mg.Fit, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        predict(days.fitted, **options)


def test_bad_new_data_leave_the_fit_as_it_was(days: mg.Fit) -> None:
    good = pd.DataFrame({"Days": [1.0], "Subject": ["308"]})
    before = predict(days.fitted, good)
    with pytest.raises(DataError, match="must be numeric"):
        predict(days.fitted, good.assign(Days="one"))
    pd.testing.assert_series_equal(predict(days.fitted, good), before)


def test_new_levels_of_multiple_membership() -> None:
    fit = solved("y ~ x + (1|mm(h, k, weights=w))")
    new = pd.DataFrame({"x": [1.0, 1.0], "h": ["a", "new"], "k": ["new", "new"], "w": [0.5, 0.3]})
    t = fit.fitted.design.terms[0]
    z = np.zeros((2, t.q))
    z[0, t.levels.get_loc("a")] = 0.5
    var = 1.5 * np.array([0.5**2 + 0.5**2, 0.6**2])
    mean, variance = kriging(fit, np.ones((2, 2)), 1.5 * z @ t.Z.toarray().T, var)
    check(predict(fit.fitted, new, new_levels="population", interval="confidence"), mean, variance)


def test_related_and_unrelated_new_levels_together(calves: pd.DataFrame, pedigree: mg.Pedigree) -> None:
    A = mg.additive(pedigree)
    base = mg.data.mrode_pedigree()
    longer = mg.additive(mg.Pedigree(pd.concat([base, pd.DataFrame([[101, 4, 6]], columns=list(base.columns))])))
    fit = mg.MixedModel("wwg ~ sex + (1|calf:A)", calves, relationships={"A": A}).solve(RELATED)
    new = pd.DataFrame({"sex": [calves["sex"].iloc[0]] * 2, "calf": [101, 999]})
    with pytest.raises(DataError, match="1 levels of 'calf:A' were not in the fit: 999"):
        predict(fit.fitted, new, relationships={"A": longer})
    table = predict(fit.fitted, new, relationships={"A": longer}, new_levels="population", interval="confidence")
    K = np.vstack([longer.cross([101], calves["calf"]), np.zeros((1, len(calves)))])
    x = dense(fit.fitted.design.fixed.X)[[0, 0]]
    check(table, *kriging(fit, x, 20.0 * K, 20.0 * np.array([longer.diagonal[-1], 1.0])))


def test_unknown_parent_groups_are_refused_in_new_data() -> None:
    frame = pd.DataFrame({"id": [1, 2, 3, 4], "sire": ["G1", "G2", 1, 1], "dam": ["G1", "G2", 2, 2]})
    A = mg.additive(mg.Pedigree(frame, groups=["G1", "G2"]))
    data = pd.DataFrame({"animal": [1, 2, 3, 4], "y": [1.0, 3.0, 2.0, 5.0]})
    fit = mg.MixedModel("y ~ 1 + (1|animal:A)", data, relationships={"A": A}).solve({"animal:A": 1.0, "residual": 1.0})
    pd.testing.assert_series_equal(predict(fit.fitted), fit.fittedvalues, check_names=False)
    with pytest.raises(NotAvailableError, match="unknown-parent groups"):
        predict(fit.fitted, data)


RESIDUALS: dict[str, dict[str, Any]] = {
    "one variance": {},
    "weights": {"weights": "w"},
    "classes": {"residual": "diag(site)"},
    "classes and weights": {"residual": "diag(site)", "weights": "w"},
    "log-linear": {"residual": "exp(x)", "weights": "w"},
    "sections": {"residual": "at(site):exp(x)"},
    "one fixed": {"residual": "diag(site)", "control": mg.Control(fix={"residual[s,s]": 1.3})},
}


def residual_fit(how: str) -> tuple[mg.Fit, pd.DataFrame]:
    data = crossed().assign(w=lambda d: 1.0 + np.arange(len(d)) % 3)
    return mg.lmm("y ~ x + (1|g)", data, **RESIDUALS[how]), data


@pytest.mark.parametrize("how", RESIDUALS)
@pytest.mark.parametrize("text", ["object", "category", "string"])
def test_new_records_have_the_residual_of_their_class_and_weight(how: str, text: Any) -> None:
    fit, data = residual_fit(how)
    some = data.iloc[[7, 0, 12, 3]].astype({"site": text})
    want = predict(fit.fitted, interval="prediction").loc[some.index]
    pd.testing.assert_frame_equal(predict(fit.fitted, some, interval="prediction"), want, rtol=1e-9)


def test_what_new_records_do_not_say_of_their_residual() -> None:
    fit, data = residual_fit("classes and weights")
    with pytest.raises(DataError, match="'w'"):
        predict(fit.fitted, data.drop(columns="w"), interval="prediction")
    with pytest.raises(DataError, match="'site' has 1 levels .* 'nowhere'"):
        predict(fit.fitted, data.iloc[:3].assign(site="nowhere"), interval="prediction")
    with pytest.raises(DataError, match="positive"):
        predict(fit.fitted, data.iloc[:3].assign(w=-1.0), interval="prediction")
    missing = predict(fit.fitted, data.iloc[:3].assign(w=[1.0, np.nan, 2.0]), interval="prediction")
    assert missing["se"].isna().tolist() == [False, True, False]
    values = mg.lmm("y ~ x + (1|g)", data, weights=data["w"].to_numpy())
    with pytest.raises(DataError, match="given as values"):
        predict(values.fitted, data, interval="prediction")
    given = predict(values.fitted, data.assign(**{"(weights)": data["w"]}), interval="prediction")
    pd.testing.assert_frame_equal(given, predict(values.fitted, interval="prediction"))


NOBODY = {
    "(1|g)": [1.0],
    "(x|g)": [np.eye(2)],
    "(1|site:g)": [1.0],
    "(1|mm(h, k, weights=w))": [1.5],
    "(1|g) + (1|h)": [1.0, 2.0],
}


@pytest.mark.parametrize("term", NOBODY)
@pytest.mark.parametrize("nobody", [None, np.nan, pd.NA])
def test_missing_groups_are_those_of_the_population(term: str, nobody: Any) -> None:
    fit = solved(f"y ~ x + {term}", NOBODY[term])
    data = crossed().iloc[:2]
    strangers = {"g": 99, "h": "y", "k": "z"}
    names = [c for c in strangers if c in term]
    gone = data.astype({c: object for c in names}).assign(**{c: [nobody, data[c].iloc[1]] for c in names})
    new = data.astype({c: object for c in names}).assign(**{c: [strangers[c], data[c].iloc[1]] for c in names})
    for interval in (None, "confidence", "prediction"):
        got, want = (predict(fit.fitted, d, new_levels="population", interval=interval) for d in (gone, new))
        np.testing.assert_allclose(got, want, rtol=1e-12)
        assert np.isnan(np.asarray(predict(fit.fitted, gone, interval=interval))[0]).all()


def test_new_crosses_through_both_relationships() -> None:
    rng = np.random.default_rng(8)
    lines = {"f": [f"f{i}" for i in range(6)], "m": [f"m{i}" for i in range(5)]}
    W = {name: rng.normal(size=(len(ids), 20)) for name, ids in lines.items()}
    K = {name: w @ w.T / 20 + 0.05 * np.eye(len(w)) for name, w in W.items()}
    Gf, Gm = (mg.Relationship.from_matrix(K[name], lines[name]) for name in "fm")
    crosses = [(f, m) for f in lines["f"][:5] for m in lines["m"][:4] if (f, m) != ("f0", "m0")]
    data = pd.DataFrame(crosses * 2, columns=["f", "m"]).assign(y=lambda d: rng.normal(size=len(d)))
    model = mg.MixedModel("y ~ 1 + (1|f:Gf:m:Gm)", data, relationships={"Gf": Gf, "Gm": Gm})
    fit = model.solve({"f:Gf:m:Gm": 2.0, "residual": 1.0})
    new = pd.DataFrame([("f0", "m0"), ("f5", "m4"), ("f1", "m1")], columns=["f", "m"])
    at = {name: pd.Index(ids) for name, ids in lines.items()}
    pick = [(at[c].get_indexer(new[c]), at[c].get_indexer(data[c])) for c in "fm"]
    cross = 2.0 * K["f"][np.ix_(*pick[0])] * K["m"][np.ix_(*pick[1])]
    own = 2.0 * np.diag(K["f"])[pick[0][0]] * np.diag(K["m"])[pick[1][0]]
    want = kriging(fit, np.ones((3, 1)), cross, own)
    check(predict(fit.fitted, new, interval="confidence"), *want)
    check(predict(fit.fitted, new, interval="confidence", relationships={"Gf": Gf, "Gm": Gm}), *want)
    with pytest.raises(DataError, match="1 levels of"):
        predict(fit.fitted, pd.DataFrame({"f": ["f9"], "m": ["m1"]}))
    stranger = predict(fit.fitted, pd.DataFrame({"f": ["f9"], "m": ["m1"]}), new_levels="population")
    assert stranger.item() == pytest.approx(fit.params["Intercept"])
    with pytest.raises(mg.RelationshipError, match="another scale"):
        other = mg.Relationship.from_matrix(2.0 * K["f"], lines["f"])
        predict(fit.fitted, new, relationships={"Gf": other})


@pytest.mark.parametrize(
    "residual", ["us(time|unit)", "ar1(time|unit)", "cs(time|unit, hom=False)", "at(site):ar1(time|unit)"]
)
def test_records_of_new_units_have_the_variance_of_their_position(residual: str) -> None:
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"unit": np.repeat(np.arange(40), 3), "time": np.tile([1, 2, 3], 40)})
    data["site"] = np.where(data["unit"] < 20, "n", "s")
    data["y"] = rng.normal(size=120) * data["time"] + np.repeat(rng.normal(size=40), 3)
    fit = mg.lmm("y ~ C(time)", data, residual=residual)
    old = data.iloc[:3]
    new = old.assign(unit=[71, 72, 73])
    table = predict(fit.fitted, new, interval="prediction")
    pd.testing.assert_frame_equal(table, predict(fit.fitted, interval="prediction").iloc[:3], rtol=1e-9)
    with pytest.raises(NotAvailableError, match="several records"):
        predict(fit.fitted, old, interval="prediction")
    part = mg.lmm("y ~ C(time)", data.iloc[1:], residual=residual)
    with pytest.raises(NotAvailableError, match="residuals of 1 new records are correlated"):
        predict(part.fitted, data.iloc[:1], interval="prediction")
