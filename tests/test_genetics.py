"""Models of quantitative genetics through the formula: equivalences, groups, markers, candidates, unmatched ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.formula.basis import leg

# Two exact ways to one solution in double precision.
EXACT = 1e-8
# Criteria of two fits that stop when the decrement is below 1e-11.
CRITERION = 1e-7
# Two fits stop within 1e-6 of a component of each other.
COMPONENT = 1e-5


def population(
    seed: int = 1, animals: int = 60, markers: int = 40, records: int = 90
) -> tuple[mg.Genotypes, pd.DataFrame]:
    """Genotypes at markers in linkage equilibrium, and records of some of the animals, some of them twice."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.1, 0.9, markers)
    M = mg.Genotypes(rng.binomial(2, p, (animals, markers)), ids=[f"a{k}" for k in range(animals)])
    value = (M.coded() @ rng.normal(size=markers)) / np.sqrt(markers)
    who = rng.integers(5, animals, records)  # the first five have none
    x = rng.normal(size=records)
    frame = pd.DataFrame({"id": [f"a{k}" for k in who], "x": x, "y": 2 + x + value[who] + rng.normal(size=records)})
    return M, frame


def factor(M: mg.Genotypes) -> tuple[mg.Relationship, float]:
    """G of VanRaden's first method by its factor, and its divisor."""
    p = M.frequencies
    k = float(np.sum(2 * p * (1 - p)))
    return mg.Relationship.from_factor(M.coded() / np.sqrt(k), M.ids), k


@pytest.mark.parametrize(("animals", "markers"), [(60, 40), (40, 90)])
def test_gblup_is_snp_blup(animals: int, markers: int) -> None:
    M, frame = population(animals=animals, markers=markers)
    G, k = factor(M)
    gblup = mg.lmm("y ~ x + (1|id:G)", frame, relationships={"G": G})
    snp = mg.lmm("y ~ x + (1|id:M)", frame, relationships={"M": mg.markers(M)})
    assert snp.llf == pytest.approx(gblup.llf, abs=CRITERION)
    assert snp.theta["id:M"] * k == pytest.approx(gblup.theta["id:G"], rel=COMPONENT)
    known = {"residual": 1.3}
    a = mg.MixedModel("y ~ x + (1|id:G)", frame, relationships={"G": G}).solve({"id:G": 0.8, **known})
    b = mg.MixedModel("y ~ x + (1|id:M)", frame, relationships={"M": mg.markers(M)}).solve({"id:M": 0.8 / k, **known})
    assert b.llf == pytest.approx(a.llf, rel=1e-12)
    effects = b.blup("id:M")
    np.testing.assert_allclose(M.coded() @ effects["value"], a.blup("id:G")["value"], atol=EXACT)
    animal = b.blup("id:M", animals=True)
    np.testing.assert_allclose(animal["value"], a.blup("id:G")["value"], atol=EXACT)
    np.testing.assert_allclose(animal["pev"], a.blup("id:G")["pev"], atol=EXACT)


def test_marker_effects_and_their_precision_are_those_of_ridge_regression() -> None:
    """SNP-BLUP written out: the markers as columns of the equations."""
    M, frame = population()
    W = M.coded()[[list(M.ids).index(i) for i in frame["id"]]]
    X = np.column_stack([np.ones(len(frame)), frame["x"]])
    C = np.block([[X.T @ X, X.T @ W], [W.T @ X, W.T @ W + np.eye(M.m) * 1.3 / 0.02]]) / 1.3
    inverse = np.linalg.inv(C)
    solution = inverse @ np.concatenate([X.T @ frame["y"], W.T @ frame["y"]]) / 1.3
    model = mg.MixedModel("y ~ x + (1|id:M)", frame, relationships={"M": mg.markers(M)})
    fit = model.solve({"id:M": 0.02, "residual": 1.3})
    effects = fit.blup("id:M")
    assert effects["level"].tolist() == list(M.markers)
    np.testing.assert_allclose(fit.params, solution[:2], rtol=EXACT)
    np.testing.assert_allclose(effects["value"], solution[2:], atol=EXACT)
    np.testing.assert_allclose(effects["pev"], np.diag(inverse)[2:], rtol=EXACT)


def test_centring_of_the_markers_changes_neither_criterion_nor_contrasts() -> None:
    M, frame = population()
    codings = {
        "all": mg.markers(M),
        "none": mg.markers(M, center=False),
        "half": mg.markers(M, center=np.full(M.m, 0.5)),
    }
    fits = {k: mg.lmm("y ~ x + (1|id:M)", frame, relationships={"M": K}) for k, K in codings.items()}
    values = {k: f.blup("id:M", animals=True)["value"].to_numpy() for k, f in fits.items()}
    for other in ("none", "half"):
        assert fits[other].llf == pytest.approx(fits["all"].llf, abs=CRITERION)
        difference = values[other] - values["all"]
        assert np.ptp(difference) < 1e-6 * np.ptp(values["all"])


@pytest.mark.parametrize("trait", ["1", "2", "3", "4"])
def test_wheat_lines_by_gblup_snp_blup_and_both_solvers(data_folder: Path, trait: str) -> None:
    Y = pd.read_csv(data_folder / "BGLR" / "wheat_Y.csv")
    X = pd.read_csv(data_folder / "BGLR" / "wheat_X.csv.gz")
    ids = [str(v) for v in X.iloc[:, 0]]
    M = mg.Genotypes(2 * X.iloc[:, 1:].to_numpy(), ids=ids)
    column = [c for c in Y.columns if c.endswith(trait)][0]
    frame = pd.DataFrame({"y": Y[column].to_numpy(), "line": ids})
    same_by_three_names(frame, "line", M)


def test_mice_by_gblup_snp_blup_and_m_blup(data_folder: Path) -> None:
    X = pd.read_csv(data_folder / "BGLR" / "mice_X.csv.gz")
    pheno = pd.read_csv(data_folder / "BGLR" / "mice_pheno.csv")
    M = mg.Genotypes(X.iloc[:, 1:].to_numpy(), ids=[str(v) for v in X.iloc[:, 0]], dosages=True)
    who = pheno.columns[0]
    frame = pd.DataFrame({"y": pheno["Obesity.BMI"] * 100, "id": pheno[who].astype(str)})
    same_by_three_names(frame, "id", M)


def same_by_three_names(frame: pd.DataFrame, name: str, M: mg.Genotypes) -> None:
    """GBLUP by a factor of G, SNP-BLUP, and M-BLUP with scaled markers where G is made of the same."""
    G, k = factor(M)
    a = mg.lmm(f"y ~ 1 + (1|{name}:G)", frame, relationships={"G": G})
    b = mg.lmm(f"y ~ 1 + (1|{name}:M)", frame, relationships={"M": mg.markers(M)})
    assert a.converged and b.converged
    assert b.reml_criterion == pytest.approx(a.reml_criterion, abs=1e-6)
    known = {f"{name}:G": a.theta.iloc[0], "residual": a.theta.iloc[1]}
    c = mg.MixedModel(f"y ~ 1 + (1|{name}:M)", frame, relationships={"M": mg.markers(M)}).solve(
        {f"{name}:M": known[f"{name}:G"] / k, "residual": known["residual"]}
    )
    assert c.reml_criterion == pytest.approx(a.reml_criterion, abs=1e-6)
    gebv = a.blup(f"{name}:G")["value"]
    np.testing.assert_allclose(c.blup(f"{name}:M", animals=True)["value"], gebv, atol=EXACT * np.ptp(gebv))
    np.testing.assert_allclose(M.coded() @ c.blup(f"{name}:M")["value"], gebv, atol=EXACT * np.ptp(gebv))


def test_unrelated_animals_are_independent_levels() -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"animal": rng.integers(1, 21, 80), "y": rng.normal(size=80)})
    frame["y"] += rng.normal(size=21)[frame["animal"]]
    ped = mg.Pedigree(pd.DataFrame({"id": range(1, 21), "sire": 0, "dam": 0}))
    a = mg.lmm("y ~ 1 + (1|animal:A)", frame, relationships={"A": mg.additive(ped)})
    b = mg.lmm("y ~ 1 + (1|animal)", frame)
    assert a.llf == pytest.approx(b.llf, abs=CRITERION)
    np.testing.assert_allclose(a.theta, b.theta, rtol=1e-6)


def test_single_step_of_all_genotyped_is_gblup() -> None:
    M, frame = population(animals=30, markers=200)
    ped = mg.Pedigree(pd.DataFrame({"id": M.ids, "sire": 0, "dam": 0}))
    H = mg.single_step(ped, M, blending=0.05, tuning=False)
    G = mg.Relationship.from_matrix(0.95 * mg.genomic(M, ridge=0.0).cross(M.ids, M.ids) + 0.05 * np.eye(M.n), M.ids)
    frame = frame[frame["id"].isin(M.ids)]
    a = mg.lmm("y ~ x + (1|id:H)", frame, relationships={"H": H})
    b = mg.lmm("y ~ x + (1|id:G)", frame, relationships={"G": G})
    assert a.llf == pytest.approx(b.llf, abs=CRITERION)
    np.testing.assert_allclose(
        a.blup("id:H")["value"], b.blup("id:G").set_index("level").loc[H.labels, "value"], atol=1e-6
    )


# ----------------------------------------------------------------------------------------------------------- candidates
def grown_pedigree() -> tuple[mg.Pedigree, mg.Pedigree]:
    """A pedigree, and the same with progeny born later."""
    old = mg.data.mrode_pedigree()
    born = pd.DataFrame({"id": [9, 10], "sire": [1, 9], "dam": [6, 8]})
    return mg.Pedigree(old), mg.Pedigree(pd.concat([old, born], ignore_index=True))


@pytest.mark.parametrize("formula", ["wwg ~ 1 + (1|calf:A)", "wwg ~ 1 + (1 + x|calf:A)"])
def test_candidates_through_a_longer_pedigree(formula: str) -> None:
    """The same as if they had been in the pedigree of the fit."""
    short, long = grown_pedigree()
    frame = mg.data.mrode_calves().assign(x=[0.5, -1.0, 0.3, 2.0, -0.7])
    values = 20.0 if "x" not in formula else [[20.0, 3.0], [3.0, 8.0]]
    known = {"calf:A": values, "residual": 40.0}
    a = mg.MixedModel(formula, frame, relationships={"A": mg.additive(short)}).solve(known)
    b = mg.MixedModel(formula, frame, relationships={"A": mg.additive(long)}).solve(known)
    found = a.candidates("calf:A", mg.additive(long)).set_index(["level", "effect"])
    wanted = b.blup("calf:A").set_index(["level", "effect"]).loc[found.index]
    assert found.index.get_level_values(0).unique().tolist() == [9, 10]
    for column in ("value", "se", "pev", "reliability", "inbreeding", "n_records"):
        np.testing.assert_allclose(found[column], wanted[column], atol=1e-10, err_msg=column)


def test_candidates_through_markers() -> None:
    M, frame = population()
    p = M.frequencies
    k = float(np.sum(2 * p * (1 - p)))
    G = mg.Relationship.from_factor(M.coded(center=p) / np.sqrt(k), M.ids)
    recorded = sorted(set(frame["id"]))
    part = mg.Relationship.from_matrix(G.cross(recorded, recorded) + 1e-9 * np.eye(len(recorded)), recorded)
    known = {"id:G": 0.8, "residual": 1.3}
    a = mg.MixedModel("y ~ x + (1|id:G)", frame, relationships={"G": part}).solve(known)
    b = mg.MixedModel("y ~ x + (1|id:G)", frame, relationships={"G": G}).solve(known)
    found = a.candidates("id:G", G).set_index("level")
    wanted = b.blup("id:G").set_index("level").loc[found.index]
    np.testing.assert_allclose(
        found[["value", "pev"]], wanted[["value", "pev"]], atol=1e-6
    )  # the ridge of 1e-9 / spacing


def test_candidates_need_the_same_scale_and_the_levels_of_the_fit() -> None:
    short, long = grown_pedigree()
    model = mg.MixedModel("wwg ~ 1 + (1|calf:A)", mg.data.mrode_calves(), relationships={"A": mg.additive(short)})
    fit = model.solve({"calf:A": 20.0, "residual": 40.0})
    K = mg.additive(long)
    doubled = mg.Relationship.from_matrix(2 * K.cross(K.labels, K.labels), K.labels)
    with pytest.raises(mg.RelationshipError, match="another scale"):
        fit.candidates("calf:A", doubled)
    with pytest.raises(mg.RelationshipError, match="are not in the relationship"):
        fit.candidates("calf:A", mg.Relationship.from_matrix(np.eye(2), [1, 9]))
    plain = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    with pytest.raises(mg.ArgumentError, match="no relationship"):
        plain.candidates("Batch", K)


# ------------------------------------------------------------------------------------------------------------- groups
def test_groups_are_columns_of_x_and_add_to_the_value() -> None:
    ped = pd.DataFrame(
        {
            "id": [str(k) for k in range(1, 9)],
            "sire": ["G1", "G1", "G1", "1", "3", "1", "4", "3"],
            "dam": ["G2", "G2", "G2", "G2", "2", "2", "5", "6"],
        }
    )
    frame = mg.data.mrode_calves().astype({"calf": str})
    A = mg.additive(mg.Pedigree(ped, groups=["G1", "G2"]))
    model = mg.MixedModel("wwg ~ 0 + sex + (1|calf:A)", frame, relationships={"A": A})
    fit = model.solve({"calf:A": 20.0, "residual": 40.0})
    # the two groups sum to the sexes: one of them is aliased
    assert [c for c in fit.params.index if ":G" in c] == ["calf:A:G1"]
    assert fit.fitted.design.fixed.aliased == ("calf:A:G2",)
    frame_of = fit.blup("calf:A").set_index("level")
    g = fit.params["calf:A:G1"]
    share = np.asarray(A.Q.toarray() if hasattr(A.Q, "toarray") else A.Q)[:, 0]
    np.testing.assert_allclose(frame_of["total"], frame_of["value"] + g * share, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------- unmatched
def test_unmatched_records_are_left_out_and_counted() -> None:
    frame = pd.concat([mg.data.mrode_calves(), mg.data.mrode_calves().assign(calf=99)], ignore_index=True)
    relationships = {"A": mg.additive(mg.Pedigree(mg.data.mrode_pedigree()))}
    formula = "wwg ~ 0 + sex + (1|calf:A)"
    with pytest.raises(mg.RelationshipError, match="unmatched='omit'"):
        mg.MixedModel(formula, frame, relationships=relationships)
    model = mg.MixedModel(formula, frame, relationships=relationships, unmatched="omit")
    fit = model.solve({"calf:A": 20.0, "residual": 40.0})
    clean = mg.MixedModel(formula, mg.data.mrode_calves(), relationships=relationships)
    assert fit.nobs == 5
    assert fit.llf == clean.solve({"calf:A": 20.0, "residual": 40.0}).llf
    assert model.design.lost == {"calf (not in A)": 5}
    assert "5 in calf (not in A)" in str(fit.summary())
    report = model.design.id_reports["calf:A"]
    assert (report.records, report.distinct, report.shared, list(report.only_data)) == (10, 6, 5, [99])
    with pytest.raises(mg.RelationshipError, match="no record is left"):
        mg.MixedModel(formula, frame[5:], relationships=relationships, unmatched="omit")
    with pytest.raises(mg.ArgumentError, match="unmatched"):
        mg.MixedModel(formula, frame, relationships=relationships, unmatched="drop")


# ------------------------------------------------------------------------------------------------------- several traits
def two_traits(seed: int = 4, animals: int = 40) -> pd.DataFrame:
    """Two traits, each missing on some animals."""
    rng = np.random.default_rng(seed)
    herd = rng.integers(0, 3, animals)
    frame = pd.DataFrame(
        {"id": np.arange(1, animals + 1), "herd": [f"h{k}" for k in herd], "x": rng.normal(size=animals)}
    )
    u = rng.normal(size=(animals, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    e = rng.normal(size=(animals, 2)) @ np.array([[1.0, 0.3], [0.0, 0.9]])
    Y = 5 + herd[:, None] + u + e
    Y[rng.random(Y.shape) < 0.2] = np.nan
    return frame.assign(y1=Y[:, 0], y2=100 * Y[:, 1])


def sib_pedigree(animals: int = 40) -> mg.Relationship:
    """Full sibs by fours."""
    ids = np.arange(1, animals + 1)
    family = (ids - 1) // 4
    young = pd.DataFrame({"id": ids, "sire": [f"s{k}" for k in family], "dam": [f"d{k}" for k in family]}).astype(str)
    return mg.additive(mg.Pedigree(young))


def test_traits_without_covariances_are_separate_fits() -> None:
    frame = two_traits().astype({"id": str})
    A = {"A": sib_pedigree()}
    both = mg.lmm("cbind(y1, y2) ~ herd + diag(1|id:A)", frame, relationships=A, residual="diag(trait)")
    one = [mg.lmm(f"{y} ~ herd + (1|id:A)", frame, relationships=A) for y in ("y1", "y2")]
    assert both.llf == pytest.approx(sum(f.llf for f in one), abs=1e-6)
    assert both.nobs == sum(f.nobs for f in one)
    for k, f in enumerate(one):
        np.testing.assert_allclose(both.theta.iloc[[k, 2 + k]], f.theta, rtol=1e-5)
        np.testing.assert_allclose(both.params.filter(like=f"y{k + 1}:"), f.params, rtol=1e-6)


def test_traits_in_long_form_are_the_same_model() -> None:
    frame = two_traits().astype({"id": str})
    A = {"A": sib_pedigree()}
    known = {"id:A": [[1.0, 40.0], [40.0, 6000.0]], "residual": [[1.0, 20.0], [20.0, 9000.0]]}
    wide = mg.MixedModel("cbind(y1, y2) ~ x + (1|id:A)", frame, relationships=A).solve(known)
    long = frame.melt(id_vars=["id", "herd", "x"], value_vars=["y1", "y2"], var_name="trait", value_name="y")
    formula = "y ~ 0 + trait + trait:x + us(0 + trait|id:A)"
    same = mg.MixedModel(formula, long, relationships=A, residual="us(trait|id)").solve(known)
    assert wide.llf == pytest.approx(same.llf, rel=1e-11)
    np.testing.assert_allclose(wide.blup("id:A")["value"], same.blup("id:A")["value"], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(np.sort(wide.bse), np.sort(same.bse), rtol=1e-8)
    fitted = wide.fittedvalues
    assert list(fitted.columns) == ["y1", "y2"]
    assert fitted.isna().equals(frame.loc[fitted.index, ["y1", "y2"]].isna())


def test_multi_trait_reml_is_certified_and_orders_do_not_matter() -> None:
    frame = two_traits(animals=40).astype({"id": str})
    A = {"A": sib_pedigree()}
    a = mg.lmm("cbind(y1, y2) ~ herd + (1|id:A)", frame, relationships=A)
    b = mg.lmm("cbind(y2, y1) ~ herd + (1|id:A)", frame.sample(frac=1.0, random_state=1), relationships=A)
    assert a.converged and b.converged
    assert a.llf == pytest.approx(b.llf, abs=1e-6)
    assert a.theta["id:A[y1,y2]"] == pytest.approx(b.theta["id:A[y2,y1]"], rel=1e-3)


def test_legendre_regression_at_fixed_ages_is_the_multi_trait_model() -> None:
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(
        {"id": np.repeat(np.arange(12), 3), "age": np.tile([1.0, 2.0, 4.0], 12), "y": rng.normal(size=36)}
    )
    Phi = np.column_stack([np.asarray(v) for v in leg(np.array([1.0, 2.0, 4.0]), 2).values()])
    K = np.array([[2.0, 0.3, 0.1], [0.3, 1.0, -0.2], [0.1, -0.2, 0.5]])
    regression = mg.MixedModel("y ~ C(age) + us(leg(age, 2)|id)", frame).solve({"id": K, "residual": 1.1})
    traits = mg.MixedModel("y ~ C(age) + us(0 + C(age)|id)", frame).solve({"id": Phi @ K @ Phi.T, "residual": 1.1})
    assert regression.llf == pytest.approx(traits.llf, rel=1e-12)
    curve = regression.blup("id")["value"].to_numpy().reshape(12, 3) @ Phi.T
    np.testing.assert_allclose(curve, traits.blup("id")["value"].to_numpy().reshape(12, 3), atol=1e-10)


def test_direct_and_maternal_effects_without_covariance_are_two_terms() -> None:
    frame = mg.data.mrode_calves().assign(mother=[1, 3, 2, 5, 6])
    A = {"A": mg.additive(mg.Pedigree(mg.data.mrode_pedigree()))}
    known = {"members(calf, mother):A": [[20.0, 0.0], [0.0, 9.0]], "residual": 40.0}
    one = mg.MixedModel("wwg ~ 1 + us(1|members(calf, mother):A)", frame, relationships=A).solve(known)
    two = mg.MixedModel("wwg ~ 1 + (1|calf:A) + (1|mother:A)", frame, relationships=A).solve(
        {"calf:A": 20.0, "mother:A": 9.0, "residual": 40.0}
    )
    assert one.llf == pytest.approx(two.llf, rel=1e-12)
    both = one.blup("members(calf, mother):A")
    for effect, term in (("calf", "calf:A"), ("mother", "mother:A")):
        own = both[both["effect"] == effect]
        np.testing.assert_allclose(own["value"], two.blup(term)["value"], atol=1e-10)
        np.testing.assert_allclose(own["pev"], two.blup(term)["pev"], rtol=1e-10)


@pytest.mark.parametrize("site", [["s1", "s2", "s1", "s2", "s1"], [1, 2, 1, 2, 1]])
def test_a_relationship_binds_the_nearest_factor(site: list[object]) -> None:
    frame = mg.data.mrode_calves().assign(site=site)
    A = {"A": mg.additive(mg.Pedigree(mg.data.mrode_pedigree()))}
    a = mg.MixedModel("wwg ~ 1 + (1|site:calf:A)", frame, relationships=A).solve(
        {"site:calf:A": 20.0, "residual": 40.0}
    )
    text = frame.astype({"site": str})
    model = mg.MixedModel("wwg ~ 1 + diag(0 + site|calf:A, hom=True)", text, relationships=A)
    b = model.solve({"calf:A": 20.0, "residual": 40.0})
    assert a.llf == pytest.approx(b.llf, rel=1e-12)
    np.testing.assert_allclose(a.blup("site:calf:A")["value"], b.blup("calf:A")["value"], rtol=1e-10, atol=1e-12)


# ----------------------------------------------------------------------------------------- two relationships in a term
def crosses() -> tuple[pd.DataFrame, dict[str, mg.Relationship]]:
    """Hybrids of five lines by four, not all of the pairs, some in several plots."""
    rng = np.random.default_rng(5)
    K = {}
    for name, lines in (("Gf", list("abcde")), ("Gm", [1, 2, 3, 4])):
        root = rng.normal(size=(len(lines), 7))
        K[name] = mg.Relationship.from_matrix(root @ root.T / 7.0 + 0.1 * np.eye(len(lines)), lines)
    female = np.array(list("abcde"))[rng.integers(0, 5, 60)]
    male = rng.integers(1, 5, 60)
    kept = ~((female == "a") & (male == 3))
    data = pd.DataFrame({"female": female, "male": male, "y": rng.normal(size=60)})[kept]
    return data.reset_index(drop=True), K


def test_pairs_of_related_lines_are_a_product_of_relationships():
    data, K = crosses()
    model = mg.MixedModel("y ~ 1 + (1|female:Gf) + (1|male:Gm) + (1|female:Gf:male:Gm)", data, relationships=K)
    fit = model.solve({"female:Gf": 0.5, "male:Gm": 0.3, "female:Gf:male:Gm": 0.4, "residual": 1.0})
    f, m = (np.asarray(pd.get_dummies(data[c]), dtype=float) for c in ("female", "male"))
    Kf, Km = (K[k].cross(K[k].labels, K[k].labels) for k in ("Gf", "Gm"))
    V = 0.5 * f @ Kf @ f.T + 0.3 * m @ Km @ m.T + np.eye(len(data))
    both = 0.4 * (f @ Kf @ f.T) * (m @ Km @ m.T)
    V = V + both
    Vi = np.linalg.inv(V)
    one = np.ones(len(data))
    b = one @ Vi @ data["y"] / (one @ Vi @ one)
    assert fit.params["Intercept"] == pytest.approx(b, rel=1e-10)
    values = fit.blup("female:Gf:male:Gm").set_index("level")["value"]
    want = both @ Vi @ (data["y"] - b)
    labels = data["female"] + ":" + data["male"].astype(str)
    np.testing.assert_allclose(values[labels], want, rtol=1e-8, atol=1e-10)
    assert "a:3" not in values.index
    assert fit.fitted.design.id_reports["female:Gf:male:Gm"].shared == len(values)


def test_pairs_of_unrelated_lines_are_an_interaction():
    data, K = crosses()
    unrelated = {k: mg.Relationship.from_matrix(np.eye(r.size), r.labels) for k, r in K.items()}
    related = mg.MixedModel("y ~ 1 + (1|female:Gf:male:Gm)", data, relationships=unrelated)
    plain = mg.MixedModel("y ~ 1 + (1|female:male)", data)
    left = related.solve({"female:Gf:male:Gm": 0.7, "residual": 1.0})
    right = plain.solve({"female:male": 0.7, "residual": 1.0})
    assert left.llf == pytest.approx(right.llf, rel=1e-12)


def test_pairs_of_unknown_lines():
    data, K = crosses()
    data.loc[3, "male"] = 9
    with pytest.raises(mg.RelationshipError, match="1 levels of .male. .* are not in the relationship .Gm.: 9"):
        mg.MixedModel("y ~ 1 + (1|female:Gf:male:Gm)", data, relationships=K)
