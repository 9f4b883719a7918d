"""One model written in two ways: the same likelihood, estimates, predictions and their precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.formula.basis import leg

# No optimiser between the two, but other equations: rounding times the condition of some hundred equations.
GIVEN = 1e-8
# Two optima of one likelihood: what the loop leaves of criterion and predictions.
REML = 1e-6
# It stops where the criterion cannot tell steps from rounding, at 1e-5 standard errors of theta or less.
THETA = 5e-6
AGES = np.array([1.0, 2.0, 4.0])


# Records of a small herd


@cache
def pedigree(sires: int = 10, dams: int = 30, young: int = 90) -> pd.DataFrame:
    """Three generations; daughters of the first are dams of the second, some by half-brothers."""
    rng = np.random.default_rng(31)
    base = pd.DataFrame({"id": np.arange(1, sires + dams + 1), "sire": 0, "dam": 0})
    first = sires + dams + 1 + np.arange(young)
    older = {"id": first, "sire": rng.integers(1, sires + 1, young), "dam": sires + 1 + np.arange(young) % dams}
    younger = {
        "id": first + young,
        "sire": rng.choice([1, 2, 3, *first[:8:2]], young),
        "dam": rng.choice(first[1:60:2], young),
    }
    return pd.concat([base, pd.DataFrame(older), pd.DataFrame(younger)], ignore_index=True)


@cache
def breeding_values() -> pd.DataFrame:
    """Six independent draws from N(0, A) for all animals."""
    A = additive()["A"]
    return pd.DataFrame(A.sample(np.random.default_rng(34), 6), index=A.labels)


def herd() -> pd.DataFrame:
    """A record of each animal with parents: pens of two to five, two traits with gaps."""
    known = pedigree().query("sire > 0").reset_index(drop=True)
    rng = np.random.default_rng(32)
    n = len(known)
    known["pen"] = rng.permutation(np.repeat(np.arange(n), np.resize([2, 3, 4, 5], n))[:n])
    u = 2.0 * breeding_values().loc[known["id"], [0, 1]].to_numpy() @ [[1.0, 0.5], [0.0, 0.9]]
    e = rng.normal(size=(n, 2)) @ [[1.5, 0.4], [0.0, 1.5]] + 0.5 * rng.normal(size=(n, 2))[known["pen"]]
    known["x"] = rng.normal(size=n)
    known["y1"], known["y2"] = 10.0 + known["x"] + u[:, 0] + e[:, 0], 30.0 - known["x"] + u[:, 1] + e[:, 1]
    known.loc[rng.random(n) < 0.15, "y1"] = np.nan
    known.loc[rng.random(n) < 0.15, "y2"] = np.nan
    return known


def repeated() -> pd.DataFrame:
    """Records at some of three ages, and at three sites."""
    rng = np.random.default_rng(33)
    ids = pedigree().query("sire > 0")["id"].to_numpy()
    genes = breeding_values().loc[ids].to_numpy()
    own = 1.5 * genes[:, :3] + rng.normal(size=(len(ids), 3)) * [2.0, 1.0, 1.0]
    long = pd.DataFrame({"id": np.repeat(ids, 3), "age": np.tile(AGES, len(ids))})
    site = rng.integers(0, 3, len(long))
    long["site"] = np.array(["a", "b", "c"])[site]
    long["y"] = 5.0 + long["age"] + (own @ basis().T).ravel() + 1.5 * rng.normal(size=len(long))
    long["y"] += 2.5 * genes[np.repeat(np.arange(len(ids)), 3), 3 + site]
    long["block"] = rng.integers(0, 5, len(long))
    return long[rng.random(len(long)) < 0.85].reset_index(drop=True)


def repeatable() -> pd.DataFrame:
    """The same records with more that is permanent in each animal."""
    data = repeated()
    level = 2.0 * np.random.default_rng(35).normal(size=data["id"].max() + 1)
    return data.assign(y=data["y"] + level[data["id"]])


def additive(parents: pd.DataFrame | None = None) -> dict[str, mg.Relationship]:
    return {"A": mg.additive(mg.Pedigree(pedigree() if parents is None else parents))}


def basis() -> np.ndarray:
    """Phi, ages x coefficients: u(ages) = Phi u, so that G of the traits is Phi K Phi'."""
    return np.column_stack(list(leg(AGES, 2).values()))


# What is compared


def close(got: Any, want: Any, tolerance: float) -> None:
    """Agreement relative to the largest value of a table; both have gaps in the same places."""
    got, want = np.asarray(got, dtype=float), np.asarray(want, dtype=float)
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.nanmax(np.abs(want), initial=1e-300))


def effects(fit: mg.Fit, term: str, column: str) -> pd.DataFrame:
    """A column of the BLUPs, levels by effects."""
    return fit.blup(term).pivot(index="level", columns="effect", values=column)


def same_predictions(a: mg.Fit, b: mg.Fit, term: str, tolerance: float) -> None:
    for column in ("value", "pev", "reliability"):
        want = effects(a, term, column)
        close(effects(b, term, column)[list(want.columns)], want, tolerance)


def same_criterion(a: mg.Fit, b: mg.Fit, tolerance: float) -> None:
    assert a.nobs == b.nobs
    assert a.llf == pytest.approx(b.llf, rel=tolerance)


def symmetric(theta: Any) -> np.ndarray:
    """Covariance matrix of its lower triangle by rows."""
    values = np.asarray(theta)
    size = int(np.sqrt(2 * len(values)))
    out = np.zeros((size, size))
    out[np.tril_indices(size)] = values
    return out + np.tril(out, -1).T


# Traits without covariances are separate analyses


def test_unstructured_traits_at_zero_covariance_are_separate_solutions() -> None:
    known = {"id:A": np.diag([3.0, 1.2]), "pen": np.diag([0.7, 0.2]), "residual": np.diag([4.0, 2.0])}
    both = mg.MixedModel("cbind(y1, y2) ~ x + (1|id:A) + (1|pen)", herd(), relationships=additive()).solve(known)
    one = []
    for k, y in enumerate(("y1", "y2")):
        model = mg.MixedModel(f"{y} ~ x + (1|id:A) + (1|pen)", herd(), relationships=additive())
        one.append(model.solve({name: float(S[k, k]) for name, S in known.items()}))
        close(both.params.filter(like=f"{y}:"), one[k].params, GIVEN)
        close(both.bse.filter(like=f"{y}:"), one[k].bse, GIVEN)
        for column in ("value", "pev", "reliability"):
            close(effects(both, "id:A", column)[y], one[k].blup("id:A")[column], GIVEN)
    assert both.llf == pytest.approx(sum(f.llf for f in one), rel=GIVEN)


def test_traits_with_covariances_fixed_at_zero_are_separate_fits() -> None:
    fix = {"id:A[y1,y2]": 0.0, "residual[y1,y2]": 0.0}
    control = mg.Control(fix=fix)
    both = mg.lmm("cbind(y1, y2) ~ x + (1|id:A)", herd(), relationships=additive(), control=control)
    one = [mg.lmm(f"{y} ~ x + (1|id:A)", herd(), relationships=additive()) for y in ("y1", "y2")]
    assert both.converged and not any(f.certificate.singular for f in one)
    assert both.llf == pytest.approx(sum(f.llf for f in one), rel=REML)
    for f, y in zip(one, ("y1", "y2"), strict=True):
        close(both.theta[[f"id:A[{y},{y}]", f"residual[{y},{y}]"]], f.theta, THETA)
        close(both.params.filter(like=f"{y}:"), f.params, REML)
        close(effects(both, "id:A", "value")[y], f.blup("id:A")["value"], REML)


# Random regression at as many ages as coefficients


def wide() -> pd.DataFrame:
    names = dict(zip(AGES, ("t1", "t2", "t4"), strict=True))
    frame = repeated().assign(trait=lambda d: d["age"].map(names)).pivot(index="id", columns="trait", values="y")
    return frame.reset_index()


REGRESSION = "y ~ 0 + C(age) + us(leg(age, 2)|id:A)"
TRAITS = "cbind(t1, t2, t4) ~ 1 + (1|id:A)"


def test_regression_at_fixed_ages_solves_the_traits() -> None:
    Phi, K = basis(), np.array([[4.0, 0.8, -0.3], [0.8, 1.5, 0.1], [-0.3, 0.1, 0.4]])
    R = np.array([[3.0, 0.6, 0.2], [0.6, 2.5, 0.5], [0.2, 0.5, 4.0]])
    curve = mg.MixedModel(REGRESSION, repeated(), relationships=additive(), residual="us(age|id)")
    traits = mg.MixedModel(TRAITS, wide(), relationships=additive())
    a, b = curve.solve({"id:A": K, "residual": R}), traits.solve({"id:A": Phi @ K @ Phi.T, "residual": R})
    same_criterion(a, b, GIVEN)
    close(a.params, b.params, GIVEN)
    at_ages = a.trajectory("id:A", {"age": AGES})
    for column in ("value", "pev", "reliability"):
        close(at_ages[column].to_numpy().reshape(-1, 3), effects(b, "id:A", column), GIVEN)


def test_regression_at_fixed_ages_is_fitted_as_the_traits() -> None:
    Phi = basis()
    a = mg.lmm(REGRESSION, repeated(), relationships=additive(), residual="us(age|id)")
    b = mg.lmm(TRAITS, wide(), relationships=additive())
    assert a.converged and b.converged and not b.certificate.singular
    same_criterion(a, b, REML)
    close(Phi @ symmetric(a.theta[:6]) @ Phi.T, symmetric(b.theta[:6]), THETA)
    close(a.theta[6:], b.theta[6:], THETA)
    close(a.trajectory("id:A", {"age": AGES})["value"].to_numpy().reshape(-1, 3), effects(b, "id:A", "value"), REML)


# As many factors as effects are no restriction


@pytest.mark.parametrize("left", ["leg(age, 1)", "0 + C(age)", "0 + site"])
def test_as_many_factors_as_effects_are_unstructured(left: str) -> None:
    size = {"leg(age, 1)": 2}.get(left, 3)
    a = mg.lmm(f"y ~ C(age) + us({left}|id:A)", repeated(), relationships=additive())
    b = mg.lmm(f"y ~ C(age) + rr({left}|id:A, k={size})", repeated(), relationships=additive())
    assert a.converged and b.converged and not a.certificate.singular
    same_criterion(a, b, REML)
    Sigma = a.theta[:-1]
    Lambda = np.zeros((size, size))
    Lambda[np.tril_indices(size)] = b.theta[:-1]
    close(Lambda @ Lambda.T, symmetric(Sigma), THETA)
    close(b.theta.iloc[-1], a.theta.iloc[-1], THETA)
    same_predictions(a, b, "id:A", REML)


# Sires stand for their progeny


def half_sibs(sires: int = 40, progeny: int = 6) -> pd.DataFrame:
    """Progeny of unrelated sires and of as many unrelated dams, some lost."""
    rng = np.random.default_rng(36)
    n = sires * progeny
    data = pd.DataFrame({"id": np.arange(1, n + 1), "sire": 1000 + np.repeat(np.arange(sires), progeny), "dam": 0})
    data["x"] = rng.normal(size=n)
    data["y"] = data["x"] + 1.2 * rng.normal(size=sires)[data["sire"] - 1000] + 2.0 * rng.normal(size=n)
    return data[rng.random(n) < 0.8].reset_index(drop=True)


def test_sires_of_unrelated_dams_solve_the_animal_model() -> None:
    """Progeny of one sire share sigma2_a / 4; their dams and Mendelian sampling add 3/4 sigma2_a to the noise."""
    data = half_sibs()
    A = {"A": mg.additive(mg.Pedigree(data[["id", "sire", "dam"]]))}
    animal, noise = 3.0, 5.0
    whole = mg.MixedModel("y ~ x + (1|id:A)", data, relationships=A).solve({"id:A": animal, "residual": noise})
    sires = mg.MixedModel("y ~ x + (1|sire)", data).solve({"sire": animal / 4.0, "residual": noise + 0.75 * animal})
    same_criterion(whole, sires, GIVEN)
    close(whole.params, sires.params, GIVEN)
    close(whole.bse, sires.bse, GIVEN)
    of_sires = whole.blup("id:A").set_index("level").loc[sires.blup("sire")["level"]]
    close(of_sires["value"], 2.0 * sires.blup("sire")["value"], GIVEN)  # a sire passes on half of its value
    close(of_sires["pev"], 4.0 * sires.blup("sire")["pev"], GIVEN)
    close(of_sires["reliability"], sires.blup("sire")["reliability"], GIVEN)


def test_sires_of_unrelated_dams_are_fitted_as_the_animal_model() -> None:
    data = half_sibs()
    whole = mg.lmm("y ~ x + (1|id:A)", data, relationships={"A": mg.additive(mg.Pedigree(data[["id", "sire", "dam"]]))})
    sires = mg.lmm("y ~ x + (1|sire)", data)
    assert whole.converged and sires.converged and not whole.certificate.singular
    same_criterion(whole, sires, REML)
    animal, noise = whole.theta
    close([animal / 4.0, noise + 0.75 * animal], sires.theta, THETA)


# Repeatability is compound symmetry of the residuals


def test_repeatability_solves_compound_symmetry() -> None:
    """Var = sigma2_p + sigma2_e and correlation sigma2_p / (sigma2_p + sigma2_e) of the records of an animal."""
    known = {"id:A": 2.0, "id": 1.5, "residual": 3.0}
    a = mg.MixedModel("y ~ C(age) + (1|id:A) + (1|id)", repeated(), relationships=additive()).solve(known)
    same = 1.5 * np.ones((3, 3)) + 3.0 * np.eye(3)
    model = mg.MixedModel(
        "y ~ C(age) + (1|id:A)", repeated(), relationships=additive(), residual="cs(age|id, hom=True)"
    )
    b = model.solve({"id:A": 2.0, "residual": same})
    same_criterion(a, b, GIVEN)
    close(a.params, b.params, GIVEN)
    same_predictions(a, b, "id:A", GIVEN)


def test_repeatability_is_fitted_as_compound_symmetry() -> None:
    a = mg.lmm("y ~ C(age) + (1|id:A) + (1|id)", repeatable(), relationships=additive())
    b = mg.lmm("y ~ C(age) + (1|id:A)", repeatable(), relationships=additive(), residual="cs(age|id, hom=True)")
    assert a.converged and b.converged and not a.certificate.singular
    same_criterion(a, b, REML)
    genetic, permanent, noise = a.theta[["id:A", "id", "residual"]]
    close([genetic, permanent + noise, permanent / (permanent + noise)], b.theta, THETA)


# Mates of a pen of two are a column


def test_the_mate_in_a_pen_of_two_is_a_member() -> None:
    data = herd().dropna(subset="y1").iloc[:120].reset_index(drop=True)
    data["pen"] = np.random.default_rng(37).permutation(np.repeat(np.arange(60), 2))
    total = data.groupby("pen")["id"].transform("sum")
    data["mate"] = total - data["id"]
    G = np.array([[4.0, -0.5], [-0.5, 0.8]])
    fits = []
    for mate in ("mates(id, pen)", "mate"):
        term = f"members(id, {mate}):A"
        model = mg.MixedModel(f"y1 ~ x + us(1|{term}) + (1|pen)", data, relationships=additive())
        fits.append(model.solve({term: G, "pen": 0.7, "residual": 3.0}))
    same_criterion(*fits, GIVEN)
    for column in ("value", "pev"):
        got, want = (
            effects(f, f"members(id, {m}):A", column) for f, m in zip(fits, ("mates(id, pen)", "mate"), strict=True)
        )
        close(got, want[["id", "mate"]], GIVEN)


# Orders and names of rows, animals, terms, traits and classes


@dataclass(frozen=True)
class Case:
    """A model at given variances, and another way to write it.

    Attributes
    ----------
    other : str
        The formula with its terms in another order.
    known : dict
        Variances of the terms, and of the residual.
    renamed : dict
        Names of terms in the other formula, where they differ.
    turned : tuple of str
        Terms whose effects, two or more, come in the opposite order in the other formula.
    """

    formula: str
    other: str
    data: Callable[[], pd.DataFrame]
    known: Mapping[str, Any]
    residual: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    turned: tuple[str, ...] = ()

    def solve(self, data: pd.DataFrame, parents: pd.DataFrame) -> mg.Fit:
        model = mg.MixedModel(self.formula, data, relationships=additive(parents), residual=self.residual)
        return model.solve(self.known)

    def rewritten(self) -> Case:
        """The other formula, with the variances of its terms."""
        known = {
            self.renamed.get(name, name): np.asarray(S)[::-1, ::-1] if name in self.turned else S
            for name, S in self.known.items()
        }
        return replace(self, formula=self.other, known=known)


TWO = np.array([[3.0, 0.8], [0.8, 2.0]])
THREE = np.array([[3.0, 0.9, 0.5], [0.9, 2.0, -0.2], [0.5, -0.2, 1.5]])
ONE_FACTOR = np.outer([1.5, 1.0, 0.7], [1.5, 1.0, 0.7]) + np.diag([0.6, 0.9, 1.1])
CORRELATED = 3.0 * 0.6 ** np.abs(np.subtract.outer(AGES, AGES))
CASES = {
    "traits": Case(
        "cbind(y1, y2) ~ x + (1|pen) + (1|id:A)",
        "cbind(y2, y1) ~ (1|id:A) + x + (1|pen)",
        herd,
        {"id:A": TWO, "pen": [[0.7, 0.1], [0.1, 0.4]], "residual": [[4.0, 0.5], [0.5, 2.5]]},
        turned=("id:A", "pen", "residual"),
    ),
    "maternal": Case(
        "y1 ~ x + us(1|members(id, dam):A) + (1|dam)",
        "y1 ~ (1|dam) + us(1|members(dam, id):A) + x",
        herd,
        {"members(id, dam):A": [[4.0, -0.8], [-0.8, 2.0]], "dam": 0.6, "residual": 3.0},
        renamed={"members(id, dam):A": "members(dam, id):A"},
        turned=("members(id, dam):A",),
    ),
    "social": Case(
        "y1 ~ x + us(1|members(id, mates(id, pen)):A) + (1|pen)",
        "y1 ~ (1|pen) + us(1|members(mates(id, pen), id):A) + x",
        lambda: herd().dropna(subset="y1"),
        {"members(id, mates(id, pen)):A": [[4.0, -0.5], [-0.5, 0.6]], "pen": 0.9, "residual": 3.0},
        renamed={"members(id, mates(id, pen)):A": "members(mates(id, pen), id):A"},
        turned=("members(id, mates(id, pen)):A",),
    ),
    "regression": Case(
        "y ~ age + us(leg(age, 2)|id:A) + us(leg(age, 1)|id)",
        "y ~ us(leg(age, 1)|id) + us(leg(age, 2)|id:A) + age",
        repeated,
        {"id:A": THREE, "id": TWO, "residual": 1.2},
    ),
    "diag": Case(
        "y ~ site + diag(0 + site|id:A) + (1|block)",
        "y ~ (1|block) + diag(0 + site|id:A) + site",
        repeated,
        {"id:A": np.diag([3.0, 2.0, 1.5]), "block": 0.3, "residual": 2.0},
    ),
    "us": Case(
        "y ~ site + us(0 + site|id:A) + (1|block)",
        "y ~ (1|block) + us(0 + site|id:A) + site",
        repeated,
        {"id:A": THREE, "block": 0.3, "residual": 2.0},
    ),
    "fa": Case(
        "y ~ site + fa(0 + site|id:A, k=1) + (1|block)",
        "y ~ (1|block) + fa(0 + site|id:A, k=1) + site",
        repeated,
        {"id:A": ONE_FACTOR, "block": 0.3, "residual": 2.0},
    ),
    "ar1": Case(
        "y ~ age + (1|id:A) + (1|block)",
        "y ~ (1|block) + (1|id:A) + age",
        repeated,
        {"id:A": 2.0, "block": 0.3, "residual": CORRELATED},
        residual="ar1(age|id)",
    ),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


def same_numbers(
    a: mg.Fit, b: mg.Fit, terms: Mapping[str, str], level: Callable[[Any], Any] = lambda v: v, rows: Any = None
) -> None:
    """Criterion, fixed effects, fitted values, and the BLUPs of levels by name with their precision."""
    same_criterion(a, b, GIVEN)
    assert sorted(a.params.index) == sorted(b.params.index)
    close(b.params[a.params.index], a.params, GIVEN)
    close(b.vcov().loc[a.params.index, a.params.index], a.vcov(), GIVEN)
    if rows is not None:
        columns = list(a.fittedvalues.columns) if isinstance(a.fittedvalues, pd.DataFrame) else slice(None)
        close(
            b.fittedvalues.loc[rows, columns] if isinstance(columns, list) else b.fittedvalues[rows],
            a.fittedvalues,
            GIVEN,
        )
    for one, other in terms.items():
        for column in ("value", "pev", "reliability", "n_records"):
            want, got = effects(a, one, column), effects(b, other, column)
            names = [level(v) for v in want.index] if one.endswith(":A") or one in ("id", "dam") else list(want.index)
            assert set(names) == set(got.index)
            close(got.loc[names, list(want.columns)], want, GIVEN)


def terms_of(case: Case) -> dict[str, str]:
    return {name: case.renamed.get(name, name) for name in case.known if name != "residual"}


@cases
def test_order_of_the_rows_of_records_and_pedigree(case: Case) -> None:
    data = case.data()
    a = case.solve(data, pedigree())
    b = case.solve(data.sample(frac=1.0, random_state=5), pedigree().sample(frac=1.0, random_state=6))
    same_numbers(a, b, {t: t for t in terms_of(case)}, rows=a.fittedvalues.index)


@cases
@pytest.mark.parametrize("relabel", [lambda v: f"animal {(37 * int(v)) % 1009}", lambda v: 5000 - 3 * int(v)])
def test_names_of_animals(case: Case, relabel: Callable[[Any], Any]) -> None:
    data, parents = case.data(), pedigree()
    unknown = {0: 0 if isinstance(relabel(1), int) else "0"}
    names = {int(v): relabel(v) for v in parents["id"]} | unknown
    columns = [c for c in ("id", "sire", "dam") if c in data]
    a = case.solve(data, parents)
    b = case.solve(
        data.assign(**{c: data[c].map(names) for c in columns}),
        parents.assign(**{c: parents[c].map(names) for c in ("id", "sire", "dam")}),
    )
    same_numbers(a, b, {t: t for t in terms_of(case)}, level=relabel, rows=a.fittedvalues.index)


@cases
def test_order_of_terms_traits_and_members(case: Case) -> None:
    data = case.data()
    a, b = case.solve(data, pedigree()), case.rewritten().solve(data, pedigree())
    same_numbers(a, b, terms_of(case), rows=a.fittedvalues.index)


@pytest.mark.parametrize("name", ["diag", "us", "fa"])
def test_order_of_sites(name: str) -> None:
    case = CASES[name]
    data = repeated()
    turned = data.assign(site=pd.Categorical(data["site"], categories=["c", "b", "a"]))
    other = replace(case, known={**case.known, "id:A": np.asarray(case.known["id:A"])[::-1, ::-1]})
    a, b = case.solve(data, pedigree()), other.solve(turned, pedigree())
    same_criterion(a, b, GIVEN)
    close(b.fittedvalues, a.fittedvalues, GIVEN)
    for column in ("value", "pev", "reliability"):
        want = effects(a, "id:A", column)
        close(effects(b, "id:A", column)[list(want.columns)], want, GIVEN)


def test_one_variance_of_all_traits_is_that_of_the_long_form() -> None:
    rng = np.random.default_rng(3)
    d = pd.DataFrame({"g": np.repeat(np.arange(12), 4), "a": rng.normal(size=48), "b": 3.0 * rng.normal(size=48)})
    long = d.melt(id_vars="g", value_vars=["a", "b"], var_name="trait", value_name="y")
    fit = mg.lmm("cbind(a, b) ~ 1 + diag(1|g)", d, residual="diag(trait, hom=True)")
    same = mg.lmm("y ~ 0 + trait + diag(0 + trait|g)", long)
    assert fit.npar == same.npar and fit.llf == pytest.approx(same.llf, abs=1e-7)
