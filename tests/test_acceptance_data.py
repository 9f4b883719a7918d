"""Real data sets and their published answers, where MIXEDGEN_DATA names the folder that holds them.

The answers are records of `expected_open.json` there: ``case method quantity labels value rtol atol``. A record passes
when every element obeys |x - value| <= atol + rtol |value|; the tolerances are those of the source's digits.
"""

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg

# The criterion reached is nowhere above the reference by more than what rounding explains.
ABOVE, ABOVE_RELATIVE = 1e-6, 1e-9


@dataclass(frozen=True)
class Case:
    """How one model is made: its file, the columns that are factors, and what to do with them."""

    formula: str
    file: str
    factors: tuple[str, ...] = ()
    change: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    pedigree: tuple[str, str, str, str] | None = None  # file, id, sire, dam
    variances: dict[str, float] = field(default_factory=dict)


def factor(column: pd.Series) -> pd.Categorical:
    """Text levels; numbers in their own order."""
    levels = sorted(column.dropna().unique())
    return pd.Categorical(column.map(str, na_action="ignore"), categories=[str(v) for v in levels])


def oats(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(columns={"yield": "yield_"}).assign(N=factor(frame["nitro"]))


def yields(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(columns={"yield": "yield_"})  # `yield` is a word of Python


def kempton(frame: pd.DataFrame) -> pd.DataFrame:
    return yields(frame).assign(rowf=factor(frame["row"]), colf=factor(frame["col"]))


def groups(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(groups=factor(frame["groups"].astype(int)))


GRYPHON = ("gryphon/gryphonped.csv", "id", "father", "mother")
CALVES = ("mrode/ex4_pedigree.csv", "id", "sire", "dam")

CASES: dict[str, Case] = {
    # published by, or computed with, lme4
    "lme4-Dyestuff": Case("Yield ~ 1 + (1|Batch)", "lme4/Dyestuff.csv", ("Batch",)),
    "lme4-Dyestuff2-singular": Case("Yield ~ 1 + (1|Batch)", "lme4/Dyestuff2.csv", ("Batch",)),
    "lme4-sleepstudy-int": Case("Reaction ~ Days + (1|Subject)", "lme4/sleepstudy.csv", ("Subject",)),
    "lme4-sleepstudy-slope": Case("Reaction ~ Days + (Days|Subject)", "lme4/sleepstudy.csv", ("Subject",)),
    "lme4-Penicillin": Case("diameter ~ 1 + (1|plate) + (1|sample)", "lme4/Penicillin.csv", ("plate", "sample")),
    "lme4-cake": Case(
        "angle ~ recipe * temperature + (1|recipe:replicate)", "lme4/cake.csv", ("recipe", "replicate", "temperature")
    ),
    "lme4-Machines-int": Case("score ~ Machine + (1|Worker/Machine)", "nlme/Machines.csv", ("Worker", "Machine")),
    "lme4-Oats-splitplot": Case(
        "yield_ ~ Variety * N + (1|Block/Variety)", "nlme/Oats.csv", ("Block", "Variety"), oats
    ),
    "lme4-ergoStool": Case("effort ~ Type + (1|Subject)", "nlme/ergoStool.csv", ("Type", "Subject")),
    "lme4-Assay-crossed-in-block": Case(
        "logDens ~ sample * dilut + (1|Block) + (1|Block:sample) + (1|Block:dilut)",
        "nlme/Assay.csv",
        ("Block", "sample", "dilut"),
    ),
    "lme4-SASmixed-Genetics": Case(
        "Yield ~ Family + (1|Location/Block)", "SASmixed/Genetics.csv", ("Location", "Block")
    ),  # Family as a number, as R had read it
    "lme4-SASmixed-Animal-sire-dam": Case("AvgDailyGain ~ 1 + (1|Sire/Dam)", "SASmixed/Animal.csv", ("Sire", "Dam")),
    "lme4-SASmixed-ADG": Case(
        "adg ~ InitWt * Treatment + (1|Block)", "SASmixed/AvgDailyGain.csv", ("Block", "Treatment")
    ),
    "peer-becker.chicken": Case("weight ~ 1 + (1|male) + (1|female)", "agridat/becker.chicken.csv", ("male", "female")),
    "peer-harville.lamb": Case(
        "weight ~ -1 + line + damage + (1|sire)", "agridat/harville.lamb.csv", ("line", "damage", "sire")
    ),
    "peer-john.alpha": Case(
        "yield_ ~ 0 + gen + rep + (1|rep:block)", "agridat/john.alpha.csv", ("gen", "rep", "block"), yields
    ),
    "peer-burgueno.rowcol": Case(
        "yield_ ~ gen + (1|rep) + (1|rep:row) + (1|rep:col)",
        "agridat/burgueno.rowcol.csv",
        ("rep", "row", "col", "gen"),
        yields,
    ),
    "peer-kempton.rowcol": Case(
        "yield_ ~ -1 + gen + rep + (1|rep:rowf) + (1|rep:colf)", "agridat/kempton.rowcol.csv", ("rep", "gen"), kempton
    ),
    "peer-cochran.lattice": Case(
        "y ~ trt + (1|rep) + (1|rep:row) + (1|rep:col)", "agridat/cochran.lattice.csv", ("rep", "row", "col", "trt")
    ),
    "peer-dietox-int": Case("Weight ~ Time + (1|Pig)", "statsmodels/dietox.csv", ("Pig",)),
    # statsmodels' own test sets, answers of lme4
    "sm-lme03-drf": Case(
        "endog ~ 0 + exog_fe_0 + exog_fe_1 + (0 + exog_re_0|groups)", "statsmodels/lme03.csv", (), groups
    ),
    "sm-lme08-drf": Case(
        "endog ~ 0 + exog_fe_0 + exog_fe_1 + (0 + exog_re_0 + exog_re_1|groups)", "statsmodels/lme08.csv", (), groups
    ),
    "sm-lme08-irf": Case(
        "endog ~ 0 + exog_fe_0 + exog_fe_1 + diag(0 + exog_re_0 + exog_re_1|groups)",
        "statsmodels/lme08.csv",
        (),
        groups,
    ),
    # animal models
    "mrode4.1": Case(
        "wwg ~ 0 + sex + (1|calf:A)",
        "mrode/ex4_ex6_calves.csv",
        ("sex",),
        pedigree=CALVES,
        variances={"calf:A": 20.0, "residual": 40.0},
    ),
    "mrode17.2": Case("wwg ~ 0 + sex + (1|calf:A)", "mrode/ex17_reml.csv", ("sex",), pedigree=CALVES),
    "gryphon-m1": Case("bwt ~ 1 + (1|animal:A)", "gryphon/gryphon.csv", (), pedigree=GRYPHON),
    "gryphon-m2": Case("bwt ~ sex + (1|animal:A)", "gryphon/gryphon.csv", ("sex",), pedigree=GRYPHON),
    "gryphon-m4": Case(
        "bwt ~ sex + (1|animal:A) + (1|byear) + (1|mother)", "gryphon/gryphon.csv", ("sex",), pedigree=GRYPHON
    ),
}
# Not in this version: degrees of freedom, F tests; and what is no quantity of one fit.
SKIPPED = re.compile(
    r"Satterthwaite|Kenward|denDF|LRT|Wald F|iterates|type III|\(0\.4,0\.2\)|A matrix|A inverse|df \(n"
)


def frame_of(folder: Path, case: Case) -> pd.DataFrame:
    frame = pd.read_csv(folder / case.file)
    frame = frame.assign(**{c: factor(frame[c]) for c in case.factors})
    return case.change(frame) if case.change else frame


@cache
def fit_of(folder: Path, name: str, method: str) -> mg.Fit:
    case = CASES[name]
    relationships = None
    if case.pedigree is not None:
        file, *columns = case.pedigree
        pedigree = mg.Pedigree(pd.read_csv(folder / file), **dict(zip(("id", "sire", "dam"), columns, strict=True)))
        relationships = {"A": mg.additive(pedigree)}
    model = mg.MixedModel(case.formula, frame_of(folder, case), relationships=relationships, method=method)
    return model.solve(case.variances) if case.variances else model.fit()


@cache
def answers(folder: Path) -> dict[str, list[dict[str, Any]]]:
    out: dict[str, list[dict[str, Any]]] = {name: [] for name in CASES}
    for record in json.loads((folder / "expected_open.json").read_text()):
        if record["case"] in out and not SKIPPED.search(record["quantity"]):
            out[record["case"]].append(record)
    return out


# Readers


def canonical(name: str) -> frozenset[str]:
    """A coefficient without its spelling: `a[T.2]:b[T.3]` is `b3:a2`, `Intercept` is `(Intercept)`."""
    parts = re.sub(r"\[T\.|\[|\]", "", name.replace(" ", "")).split(":")
    return frozenset("(Intercept)" if p == "Intercept" else p for p in parts)


def picked(series: pd.Series, labels: list[str]) -> list[float]:
    by_name = {canonical(str(k)): float(v) for k, v in series.items()}
    return [by_name[canonical(label)] for label in labels]


def variance(fit: mg.Fit, label: str, column: str = "vcov") -> float:
    """A row of varcomp by lme4's label `grp|var1|var2`; breeders' `animal` and `e` are the term and the residual."""
    grp, var1, var2 = (*label.split("|"), "", "")[:3]
    grp = {"e": "Residual", "var_e": "Residual", "var_a": "calf:A", "animal": "animal:A"}.get(grp, grp)
    for row in fit.varcomp.itertuples():
        same = sorted(row.grp.split(":")) == sorted(grp.split(":"))
        names = {v for v in (row.var1, row.var2) if isinstance(v, str)}
        wanted = {v for v in (var1, var2) if v not in ("", "NA")} or names
        if same and names == wanted and isinstance(row.var2, str) == (var2 not in ("", "NA")):
            return float(getattr(row, column))
    raise KeyError(label)


def blups(fit: mg.Fit, term: str, labels: list[str], column: str = "value") -> np.ndarray:
    frame = fit.blup(term)
    key = next(k for k in fit.ranef(cond_var=False) if sorted(k.split(":")) == sorted(term.split(":")))
    c = frame["effect"].nunique()
    table = dict(zip(frame["level"].iloc[::c].astype(str), frame[column].to_numpy().reshape(-1, c), strict=True))
    place = [term.split(":").index(p) for p in key.split(":")]
    return np.array(
        [table[":".join(np.array(v.split(":"))[place]) if len(place) > 1 and ":" in v else v] for v in labels]
    )


def first_group(fit: mg.Fit) -> tuple[np.ndarray, np.ndarray]:
    frame = fit.ranef()["groups"]
    return frame.iloc[0].to_numpy(), frame.attrs["cond_var"][0]


def covariance(fit: mg.Fit) -> np.ndarray:
    term = fit.fitted.design.terms[0]
    return np.atleast_2d(term.structure.matrix(fit.fitted.theta[fit.fitted.design.slices[0]]))


def without_constant(fit: mg.Fit) -> float:
    """REML log-likelihood as ASReml prints it, without (n - p)/2 log 2 pi."""
    return fit.llf + 0.5 * (fit.nobs - len(fit.params)) * float(np.log(2 * np.pi))


HERITABILITY = "animal:A / (animal:A + residual)"
SEX = ["(Intercept)", "sex2"]
READERS: list[tuple[str, Callable[[mg.Fit, dict[str, Any]], Any]]] = [
    (r"logLik \(with 2pi\)", lambda fit, r: fit.llf),
    (r"REML logL without", lambda fit, r: without_constant(fit)),
    (r"BLUE intercept, sex2", lambda fit, r: picked(fit.params, SEX)),
    (r"BLUE sex", lambda fit, r: picked(fit.params, [f"sex{v}" for v in r["labels"]])),
    (r"BLUE", lambda fit, r: picked(fit.params, r["labels"]) if r.get("labels") else fit.params),
    (r"vcov\(BLUE\)", lambda fit, r: fit.cov_params()),
    (
        r"SE\(BLUE\)",
        lambda fit, r: picked(fit.bse, [f"sex{v}" if v in ("M", "F") else v for v in r.get("labels") or SEX]),
    ),
    (r"SE of variance components", lambda fit, r: [variance(fit, v, "se") for v in r["labels"]]),
    (r"variance components|var_e,var_a", lambda fit, r: [variance(fit, v) for v in r["labels"]]),
    (r"random covariance|random \(co\)variances", lambda fit, r: covariance(fit)),
    (r"residual variance", lambda fit, r: fit.scale),
    (r"BLUP of first group", lambda fit, r: first_group(fit)[0]),
    (r"conditional variance of first group", lambda fit, r: first_group(fit)[1]),
    (r"BLUP [\w:]+", lambda fit, r: blups(fit, r["quantity"].split()[1], r["labels"])),
    (r"BLUP", lambda fit, r: blups(fit, "calf:A", r["labels"])[:, 0]),
    (r"PEV", lambda fit, r: blups(fit, "calf:A", r["labels"], "pev")[:, 0]),
    (r"SEP", lambda fit, r: blups(fit, "calf:A", r["labels"], "se")[:, 0]),
    (r"reliability", lambda fit, r: blups(fit, "calf:A", r["labels"], "reliability")[:, 0]),
    (r"h2", lambda fit, r: fit.vfun(HERITABILITY).estimate),
    (r"SE\(h2\)", lambda fit, r: fit.vfun(HERITABILITY).se),
]


def read(fit: mg.Fit, record: dict[str, Any]) -> np.ndarray:
    reader = next(f for pattern, f in READERS if re.match(pattern, record["quantity"]))
    return np.squeeze(np.asarray(reader(fit, record), dtype=float))


# Tests


@pytest.mark.parametrize("name", CASES)
def test_answers(name: str, data_folder: Path) -> None:
    records = answers(data_folder)[name]
    assert records, "the answers of this case are gone"
    wrong = []
    for record in records:
        fit = fit_of(data_folder, name, "ml" if record["method"] == "ML" else "reml")
        assert fit.converged
        got, want = read(fit, record), np.squeeze(np.asarray(record["value"], dtype=float))
        allowed = (record.get("atol") or 0.0) + (record.get("rtol") or 0.0) * np.abs(want)
        if got.shape != want.shape or not np.all(np.abs(got - want) <= allowed):
            wrong.append(f"{record['id']} {record['method']} {record['quantity']}: {got}, not {want}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith(("lme4-", "peer-"))])
def test_criterion_is_not_above_that_of_lme4(name: str, data_folder: Path) -> None:
    references = [r for r in answers(data_folder)[name] if r["quantity"] == "logLik (with 2pi)"]
    assert references
    for record in references:
        reached = -2 * fit_of(data_folder, name, record["method"].lower()).llf
        reference = -2 * record["value"]
        assert reached <= reference + ABOVE + ABOVE_RELATIVE * abs(reference)


def test_iterates_of_mrode_17_2(data_folder: Path) -> None:
    """Average information from the variances 0.4 and 0.2, step by step."""
    records = json.loads((data_folder / "expected_open.json").read_text())
    (record,) = (r for r in records if r["case"] == "mrode17.2" and r["quantity"].startswith("AI-REML iterates"))
    case = CASES["mrode17.2"]
    assert case.pedigree is not None
    relationships = {"A": mg.additive(mg.Pedigree(pd.read_csv(data_folder / case.pedigree[0])))}
    start = dict(zip(("residual", "calf:A"), record["value"][0], strict=True))
    for k, want in enumerate(record["value"][1:], start=1):
        control = mg.Control(optimiser="ai", start=start, max_iter=k)
        with warnings.catch_warnings():  # the last of them has converged, and does not warn
            warnings.simplefilter("ignore", mg.ConvergenceWarning)
            fit = mg.lmm(case.formula, frame_of(data_folder, case), relationships=relationships, control=control)
        got = fit.theta[["residual", "calf:A"]]
        np.testing.assert_allclose(got, want, rtol=record["rtol"], atol=record["atol"])


def test_lamb_birth_weights_are_on_the_boundary_under_ml(data_folder: Path) -> None:
    fit = fit_of(data_folder, "peer-harville.lamb", "ml")
    assert fit.theta["sire"] == 0.0 and "sire" in fit.certificate.singular[0]


def test_whole_pedigree_is_predicted(data_folder: Path) -> None:
    fit = fit_of(data_folder, "gryphon-m2", "reml")
    blup = fit.blup("animal:A")
    assert len(blup) == len(pd.read_csv(data_folder / GRYPHON[0]))
    assert blup["n_records"].sum() == fit.nobs
    assert blup["reliability"].between(-1e-12, 1).all() and np.isfinite(blup["value"]).all()  # -1e-16 is rounding
