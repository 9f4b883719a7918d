"""Law over the registry: the score is the difference of the criterion for every structure in every place."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.covariance.registry import STRUCTURES
from mixedgen.design.residual import KINDS
from mixedgen.estimation.likelihood import deviance, score

# Central differences of the deviance, steps of 1e-4: truncation 1e-8 and rounding 1e-12 / 1e-4, times the curvature.
STEP, CLOSE = 1e-4, 2e-6
SITES = 3


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    """Twelve animals at three sites and four times, with gaps; a second trait, dams, pens and weights."""
    rng = np.random.default_rng(12)
    animal, time = (a.ravel() for a in np.meshgrid(np.arange(7, 19), np.arange(4), indexing="ij"))
    frame = pd.DataFrame({"animal": animal, "time": time, "site": np.array(list("abc"))[(animal + time) % SITES]})
    frame = frame[rng.random(len(frame)) < 0.85].reset_index(drop=True)
    frame["x"] = rng.normal(size=len(frame)).round(3)
    frame["dam"] = 1 + frame["animal"] % 6
    frame["pen"] = frame["animal"] // 4 * 10 + frame["time"]
    frame["w"] = 1.0 + rng.random(len(frame)).round(2)
    frame["y"], frame["z"] = rng.normal(size=(2, len(frame))).round(3) + frame["x"].to_numpy()
    frame.loc[::5, "z"] = np.nan
    return frame


@pytest.fixture(scope="module")
def related() -> mg.Relationship:
    """Six founders and their twelve progeny."""
    ids = np.arange(1, 19)
    sire = np.where(ids > 6, 1 + ids % 3, 0)
    dam = np.where(ids > 6, 1 + ids % 6, 0)
    dam[sire == dam] = 0
    return mg.additive(mg.Pedigree(pd.DataFrame({"id": ids, "sire": sire, "dam": dam})))


# a place for a structure: formula, residual
PLACES = {
    "levels": ("y ~ x + {tag}(0 + site|animal{k})", None),
    "related levels": ("y ~ x + {tag}(0 + site|animal:A{k})", None),
    "slopes": ("y ~ x + {tag}(x|animal:A{k})", None),
    "members": ("y ~ x + {tag}(x|members(animal, dam):A{k})", None),
    "mates": ("y ~ x + {tag}(1|members(animal, mates(animal, pen)):A{k})", None),
    "traits": ("cbind(y, z) ~ x + {tag}(1|animal:A{k})", None),
    "traits of slopes": ("cbind(y, z) ~ x + {tag}(x|dam{k})", None),
}
RESIDUAL_PLACES = {
    "units": ("y ~ x + (1|dam)", "{tag}(time|animal)"),
    "weighted units": ("y ~ x + (x|animal:A)", "{tag}(time|animal)"),
    "traits of a record": ("cbind(y, z) ~ x + (1|animal:A)", "{tag}(trait)"),
    "classes": ("y ~ x + (1|animal:A)", "{tag}(site)"),
    "a covariate": ("y ~ x + (1|animal:A)", "{tag}(x)"),
    "rows of a grid": ("y ~ x + (1|dam)", "{tag}(animal):ar1(time)"),
    "columns of a grid": ("y ~ x + (1|dam)", "ar1(animal):{tag}(time)"),
}
FACTORS = ("fa", "rr")
IN_UNITS = sorted(tag for tag, entry in STRUCTURES.items() if entry.in_residual and tag not in KINDS)


def cases() -> list[tuple[str, str]]:
    """Structures and the places where they may stand."""
    out = []
    for tag in STRUCTURES:
        for place in PLACES:
            two = place in ("slopes", "mates", "traits")
            if two and tag == "fa":  # two effects do not identify it
                continue
            out.append((tag, place))
    for tag in IN_UNITS:
        out += [(tag, "units"), (tag, "weighted units")]
        if tag != "fa":
            out.append((tag, "traits of a record"))
    out += [("diag", "classes"), ("exp", "a covariate"), ("diag", "traits of a record")]
    out += [(tag, "rows of a grid") for tag in ("ar1", "cs", "idv")]
    out += [(tag, "columns of a grid") for tag in ("ar1", "us", "diag", "corh", "toep", "cs", "idv")]
    return out


def model(tag: str, place: str, data: pd.DataFrame, related: mg.Relationship, engine: str) -> mg.MixedModel:
    formula, residual = {**PLACES, **RESIDUAL_PLACES}[place]
    k = ", k=1" if tag in FACTORS else ""
    text = formula.format(tag=tag, k=k)
    return mg.MixedModel(
        text,
        data,
        relationships={"A": related} if ":A" in text else None,
        residual=None if residual is None else residual.format(tag=tag),
        weights="w" if place == "weighted units" else None,
        control=mg.Control(engine=engine),
    )


def inside(design: mg.MixedModel) -> np.ndarray:
    """Parameters well within their range."""
    rng = np.random.default_rng(3)
    theta = np.empty(design.slices[-1].stop)
    structures = [*(t.structure for t in design.terms), design.residual.structure]
    for structure, s in zip(structures, design.slices, strict=True):
        root = rng.normal(size=(structure.dim, structure.dim + 3))
        theta[s] = structure.start(0.5 * np.eye(structure.dim) + 0.1 * root @ root.T)
        for i, low, high in structure.free:
            if np.isfinite(high - low):
                theta[s.start + i] = low + (high - low) * 0.6
            else:
                theta[s.start + i] += 0.1 * rng.normal()
    return theta


@pytest.mark.parametrize(("tag", "place"), cases())
def test_score_is_the_difference_of_the_criterion(tag, place, data, related):
    by_engine = []
    for engine in ("henderson", "dense"):
        own = model(tag, place, data, related, engine)
        theta = inside(own.design)
        for reml in (True, False):
            got = score(own.engine.at(theta), reml)
            by_engine.append(got)
            for k, value in enumerate(theta):
                h = STEP * max(abs(value), 0.1)
                step = h * np.eye(len(theta))[k]
                up, down = (deviance(own.engine.at(theta + sign * step), reml) for sign in (1.0, -1.0))
                assert got[k] == pytest.approx(-0.25 * (up - down) / h, rel=CLOSE, abs=CLOSE * len(data)), (engine, k)
    for left, right in zip(by_engine[:2], by_engine[2:], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-8, atol=1e-8 * len(data))
