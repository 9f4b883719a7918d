"""Small models of every structure, shape of term and residual, on one data set of sixty records, fitted once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

import mixedgen as mg

ANIMALS, TIMES = np.arange(10, 22), np.arange(5)
SEED = 5


@cache
def pedigree() -> mg.Pedigree:
    """Three sires, six dams, and twelve progeny."""
    ids = np.arange(1, 22)
    young = ids > 9
    frame = pd.DataFrame({"id": ids, "sire": np.where(young, 1 + ids % 3, 0), "dam": np.where(young, dams(ids), 0)})
    return mg.Pedigree(frame)


def dams(ids: np.ndarray) -> np.ndarray:
    """Mothers of animals."""
    return 4 + ids // 2 % 6


def exchangeable(parameters: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """One correlation."""
    return np.eye(len(levels)) + parameters[0] * (1.0 - np.eye(len(levels)))


OWN = {"own": mg.CorrelationFunction(exchangeable, {"c": (-0.4, 0.3, 0.95)})}


def genotypes_array() -> np.ndarray:
    """Eight markers of the animals."""
    return np.random.default_rng(SEED).integers(0, 3, (len(ANIMALS), 8))


@cache
def relationships() -> dict[str, mg.Relationship]:
    """A of the animals, the coded markers, and kernels of fathers' and mothers' lines."""
    G1 = mg.Relationship.from_matrix(0.3 + 0.7 * np.eye(4), list("pqrs"))
    G2 = mg.Relationship.from_matrix(0.2 + 0.8 * np.eye(3), list("tuv"))
    markers = mg.Genotypes(genotypes_array(), ids=ANIMALS, markers=[f"m{k}" for k in range(8)])
    return {
        "A": mg.additive(pedigree()),
        "M": mg.markers(markers),
        "G1": G1,
        "G2": G2,
    }


def spread(rng: np.random.Generator, levels: int, Sigma: np.ndarray) -> np.ndarray:
    """Effects of some levels whose covariance matrix in the sample is Sigma, so that no estimate is on a boundary."""
    u = rng.normal(size=(levels, len(Sigma)))
    u -= u.mean(axis=0)
    white = u @ np.linalg.inv(np.linalg.cholesky(np.cov(u.T).reshape(len(Sigma), -1))).T
    return white @ np.linalg.cholesky(Sigma).T


@cache
def records() -> pd.DataFrame:
    """Twelve animals at five times, and a response for each kind of model."""
    rng = np.random.default_rng(SEED)
    row, time = (a.ravel() for a in np.meshgrid(np.arange(12), TIMES, indexing="ij"))
    n = len(row)
    frame = pd.DataFrame({"animal": ANIMALS[row], "time": time, "row": row, "unit": np.arange(n)})
    frame[["x", "w", "v"]] = rng.permuted(np.tile(np.linspace(-1.5, 1.5, n), (3, 1)), axis=1).T.round(3)
    frame["site"], frame["half"] = np.array(list("abc"))[(row + time) % 3], np.where(time < 2, "early", "late")
    frame["block"], frame["dam"], frame["pen"] = (
        row % 4,
        dams(frame["animal"].to_numpy()),
        (5 * row + 7 * time) % 12 // 3 * 10 + time,
    )
    frame["g1"], frame["g2"] = rng.integers(1, 7, (2, n))
    frame["f"], frame["m"] = np.array(list("pqrs"))[row % 4], np.array(list("tuv"))[time % 3]
    frame["known"] = 0.5 + rng.integers(0, 4, n) / 2.0
    loadings = np.array([2.0, 1.5, 1.2, 1.0])
    u = spread(rng, 12, np.outer(loadings, loadings) + 0.8 * np.eye(4))[row]
    e = rng.normal(size=n)
    mean = 10.0 + frame["x"].to_numpy()
    frame["curve"] = mean + u[:, 0] + u[:, 1] * frame["x"] + u[:, 2] * frame["w"] + u[:, 3] * frame["v"] + 0.4 * e
    nested = spread(rng, 36, 2.0 * np.eye(1))[row * 3 + (row + time) % 3, 0]
    frame["nest"] = mean + u[:, 0] + nested + spread(rng, 4, 9.0 * np.eye(1))[row % 4, 0] + 0.4 * e
    group = spread(rng, 6, 4.0 * np.eye(1))[:, 0]
    frame["group"] = mean + group[frame["g1"] - 1] + group[frame["g2"] - 1] + u[:, 0] + 0.5 * e
    frame["cross"] = mean + spread(rng, 12, 4.0 * np.eye(1))[row % 4 * 3 + time % 3, 0] + 0.5 * e
    frame["nurse"] = dams(frame["animal"].to_numpy() + 2 * time)
    pairs = spread(rng, 12, np.array([[4.0, 1.0], [1.0, 3.0]]))
    others = pd.Series(pairs[row, 1]).groupby(frame["pen"]).transform("sum") - pairs[row, 1]
    value = relationships()["A"].sample(np.random.default_rng(1), 2) * [2.0, 2.0]
    frame["direct"] = mean + value[frame["animal"] - 1, 0] + value[frame["nurse"] - 1, 1] + 0.5 * e
    frame["social"] = mean + pairs[row, 0] + others + 0.5 * e
    both = spread(rng, 12, np.array([[3.0, 1.0], [1.0, 2.0]]))[row]
    errors = spread(rng, n, np.array([[1.0, 0.4], [0.4, 1.5]]))
    frame[["y", "z"]] = 10.0 + both + errors
    L = np.linalg.cholesky(0.6 ** np.abs(np.subtract.outer(TIMES, TIMES)))
    frame["serial"] = mean + u[:, 0] + (rng.normal(size=(12, 5)) @ L.T).ravel() * np.array([0.7, 1.0, 1.5])[row % 3]
    size = np.array([0.5, 1.0, 2.0])[(row + time) % 3] * np.exp(0.4 * frame["x"])
    frame["uneven"] = mean + u[:, 0] + size * e
    markers = (genotypes_array() - 1.0) @ spread(rng, 8, 2.0 * np.eye(1))
    frame["marked"] = mean + markers[row, 0] + 0.5 * e
    return frame


@cache
def long_form() -> pd.DataFrame:
    """Both traits of the first two times, one below the other."""
    wide = records().query("time < 2")
    own = ["animal", "unit", "x"]
    parts = [wide[own].assign(trait=trait, value=wide[trait]) for trait in ("y", "z")]
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class Case:
    """A model, and what must come of it.

    Attributes
    ----------
    name : str
        Of the test.
    formula : str
        The model.
    smaller : mapping of str to str
        Row of `ranova` to the formula that a user writes for the model without it.
    options : mapping
        Arguments of `mg.lmm`.
    same : str, optional
        Formula of the same model in another form, with the same containment.
    long : bool
        Whether the data are those in long form.
    """

    name: str
    formula: str
    smaller: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)
    same: str | None = None
    long: bool = False

    @property
    def data(self) -> pd.DataFrame:
        """Records."""
        return long_form() if self.long else records()

    def arguments(self, formula: str) -> dict[str, Any]:
        """Arguments of `mg.lmm` besides formula and data, with the relationships that a formula names."""
        used = {k: K for k, K in relationships().items() if f":{k}" in formula}
        structures = OWN if "own(" in formula + str(self.options.get("residual", "")) else None
        return {"relationships": used or None, "structures": structures, **self.options}

    def fit(self, formula: str | None = None) -> mg.Fit:
        """The fit, or that of another formula on the same data."""
        text = self.formula if formula is None else formula
        return mg.lmm(text, self.data, **self.arguments(text))


def structure(tag: str, slopes: str = "xw", **options: object) -> Case:
    """Curves of the animals by a structure: each slope may go, and the structure keeps its options."""
    more = "".join(f", {k}={v}" for k, v in options.items())
    effects = " + ".join(["1", *slopes])
    shown = f"{'' if tag == 'us' else tag}({effects} | animal)"
    if tag == "idv" or (tag, more) == ("diag", ", hom=True"):  # a slope less is not a parameter less
        smaller = {shown: "curve ~ x"}
    else:
        left = {gone: effects.replace(f" + {gone}", "") for gone in slopes}
        smaller = {f"{gone} in {shown}": f"curve ~ x + {tag}({rest} | animal{more})" for gone, rest in left.items()}
    return Case(f"{tag}{more}", f"curve ~ x + {tag}({effects} | animal{more})", smaller)


STRUCTURES = [
    structure("us"),
    structure("diag"),
    structure("diag", hom=True),
    structure("idv"),
    structure("cs"),
    structure("cs", hom=True),
    structure("ar1"),
    structure("ar1", hom=False),
    structure("toep"),
    structure("corh"),
    structure("fa", "xwv", k=1),
    structure("rr", "xwv", k=1),
    structure("rr", "xwv", k=2),
    structure("own"),
    structure("own", hom=False),
]


def term(response: str, text: str, smaller: Mapping[str, str], same: str | None = None, **options: object) -> Case:
    """A model of one shape of term; `smaller` and `same` are what stands in its place."""

    def formula(terms: str) -> str:
        return f"{response} ~ x + {terms}" if terms else f"{response} ~ x"

    rows = {row: formula(left) for row, left in smaller.items()}
    return Case(text, formula(text), rows, options, None if same is None else formula(same))


SHAPES = [
    term("nest", "(1|animal)", {"(1 | animal)": ""}),
    term(
        "curve",
        "(x||animal)",
        {"(1 | animal)": "(0 + x|animal)", "(0 + x | animal)": "(1|animal)"},
        "(1|animal) + (0 + x|animal)",
    ),
    term(
        "nest",
        "(1|block/animal)",
        {"(1 | animal:block)": "(1|block)", "(1 | block)": "(1|block:animal)"},
        "(1|block) + (1|block:animal)",
    ),
    term("nest", "(1|animal:site)", {"(1 | animal:site)": ""}, "(1|site:animal)"),
    term("nest", "(1|site:animal:A)", {"(1 | site:animal:A)": ""}, "diag(0 + site|animal:A, hom=True)"),
    term("curve", "(x|animal:A)", {"x in (1 + x | animal:A)": "(1|animal:A)"}),
    term("direct", "us(1|members(animal, nurse):A)", {"(1 | members(animal, nurse):A)": ""}),
    term("social", "us(1|members(animal, mates(animal, pen)):A)", {"(1 | members(animal, mates(animal, pen)):A)": ""}),
    term("group", "(1|mm(g1, g2))", {"(1 | mm(g1, g2))": ""}),
    term("cross", "(1|f:G1:m:G2)", {"(1 | f:G1:m:G2)": ""}),
    term("curve", "us(leg(x, 1)|animal:A)", {"(0 + leg(x, 1) | animal:A)": ""}),
    term("marked", "(1|animal:M)", {"(1 | animal:M)": ""}),
    Case("cbind", "cbind(y, z) ~ x + (1|animal:A)", {"(1 | animal:A)": "cbind(y, z) ~ x"}),
    Case(
        "long form",
        "value ~ 0 + trait + us(0 + trait|animal:A)",
        {"trait in (0 + trait | animal:A)": "value ~ 0 + trait + (1|animal:A)"},
        {"residual": "us(trait|unit)"},
        long=True,
    ),
]

KNOWN = 0.5 * np.eye(60) + 0.5 * (np.arange(60)[:, None] // 2 == np.arange(60) // 2)


def residual(kind: str, response: str = "serial", random: str = "(1|animal)", **options: object) -> Case:
    """A model of one kind of residual, beside an intercept of each animal or none."""
    shown = {random.replace("|", " | "): f"{response} ~ x"} if random else {}
    more = f" + {random}" if random else ""
    return Case(f"residual {kind}", f"{response} ~ x{more}", shown, {"residual": kind, **options})


RESIDUALS = [
    residual("diag(site)", "uneven"),
    residual("exp(x)", "uneven"),
    residual("ar1(time|animal)", random="(1|dam)"),
    residual("ar1(time|animal, hom=False)", random=""),
    residual("cs(time|animal, hom=True)", random=""),
    residual("cs(time|animal)", random=""),
    residual("corh(time|animal)", random=""),
    residual("toep(time|animal)", random=""),
    residual("us(time|animal)", random=""),
    residual("own(time|animal)", random=""),
    residual("ar1(row):ar1(time)", random="(1|dam)"),
    residual("idv(row):ar1(time)", random="(1|dam)"),
    residual("at(half):ar1(time|animal)", random="(1|dam)"),
    residual("at(half):diag(site)", "uneven"),
    Case("residual known", "serial ~ x + (1|animal)", {"(1 | animal)": "serial ~ x"}, {"residual": KNOWN}),
    Case("weights", "nest ~ x + (1|animal)", {"(1 | animal)": "nest ~ x"}, {"weights": "known"}),
    Case("weights of units", "serial ~ x", {}, {"weights": "known", "residual": "ar1(time|animal)"}),
]

CASES = [*STRUCTURES, *SHAPES, *RESIDUALS]
