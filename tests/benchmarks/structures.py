"""AI-REML of animal models with several effects for each animal: traits, random regressions, direct and maternal.

``python -m tests.benchmarks.structures [traits traits_large regression maternal]`` runs each in a fresh process and
prints what each stage took, beside a unit: one 2048 x 2048 x 2048 float64 product of the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from tests.benchmarks.child import outcome
from tests.benchmarks.pedigrees import DECIMALS, Population, breeding_values, panmictic
from tests.benchmarks.processes import Command

RECORDED = 0.8  # of the animals after the founders
G_TRAITS, R_TRAITS = np.array([[1.0, 0.35], [0.35, 0.5]]), np.array([[1.5, 0.3], [0.3, 1.0]])
G_CURVE = np.diag([1.0, 0.3, 0.1, 0.05]) + 0.05  # of Legendre coefficients of degrees 0 to 3
E_CURVE = np.diag([0.6, 0.2, 0.1, 0.05])
R_CURVE, TEST_DAYS = 1.0, 5
G_MATERNAL = np.array([[0.4, -0.1], [-0.1, 0.2]])
R_MATERNAL = 0.6


def frame_of(population: Population) -> pd.DataFrame:
    """Pedigree as a frame."""
    return pd.DataFrame({"id": np.arange(1, population.size + 1), "sire": population.sire, "dam": population.dam})


def recorded(
    population: Population, rng: np.random.Generator, groups: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Animals with records, their contemporary groups' numbers, and codes of these."""
    kept = np.nonzero((population.generation > 0) & (rng.random(population.size) < RECORDED))[0]
    group = population.generation[kept] * 1000 + rng.integers(0, groups, len(kept))
    return kept, group, np.unique(group, return_inverse=True)[1]


def traits(size: int, seed: int, groups: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two traits of each recorded animal."""
    rng = np.random.default_rng(seed)
    population = panmictic(size, rng)
    value = breeding_values(population, rng, G_TRAITS)
    kept, group, code = recorded(population, rng, groups)
    Y = np.array([10.0, 5.0]) + rng.normal(0, 1, (code.max() + 1, 2))[code] + value[kept]
    Y += rng.normal(size=Y.shape) @ np.linalg.cholesky(R_TRAITS).T
    y1, y2 = Y.round(DECIMALS).T
    return frame_of(population), pd.DataFrame({"y1": y1, "y2": y2, "cg": [f"c{k}" for k in group], "animal": kept + 1})


def curves(size: int, seed: int, groups: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Five records of each recorded animal at ages from 0 to 300."""
    rng = np.random.default_rng(seed)
    population = panmictic(size, rng)
    value = breeding_values(population, rng, G_CURVE)
    kept, group, code = recorded(population, rng, groups)
    animal = np.repeat(np.arange(len(kept)), TEST_DAYS)
    age = rng.integers(0, 301, len(animal))
    basis = np.polynomial.legendre.legvander(age / 150.0 - 1.0, 3) * np.sqrt(np.arange(4) + 0.5)
    lasting = rng.normal(size=(len(kept), 4)) @ np.linalg.cholesky(E_CURVE).T
    y = 20.0 + rng.normal(0, 1, code.max() + 1)[code][animal] + 0.01 * age
    y += np.sum(basis * (value[kept] + lasting)[animal], axis=1) + rng.normal(0, np.sqrt(R_CURVE), len(animal))
    names = np.array([f"c{k}" for k in group])[animal]
    return frame_of(population), pd.DataFrame(
        {"y": y.round(DECIMALS), "cg": names, "animal": kept[animal] + 1, "age": age}
    )


def maternal(size: int, seed: int, groups: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One record of each recorded animal, with the effect of its dam."""
    rng = np.random.default_rng(seed)
    population = panmictic(size, rng)
    value = breeding_values(population, rng, G_MATERNAL)
    kept, group, code = recorded(population, rng, groups)
    dam = population.dam[kept]
    y = 10.0 + rng.normal(0, 1, code.max() + 1)[code] + value[kept, 0] + value[dam - 1, 1]
    y += rng.normal(0, np.sqrt(R_MATERNAL), len(kept))
    records = {"y": y.round(DECIMALS), "cg": [f"c{k}" for k in group], "animal": kept + 1, "dam": dam}
    return frame_of(population), pd.DataFrame(records)


CURVE = "y ~ cg + age + us(leg(age, 3)|animal:A) + us(leg(age, 3)|animal)"
MODELS: dict[str, tuple[str, Callable[[], tuple[pd.DataFrame, pd.DataFrame]]]] = {
    "traits": ("cbind(y1, y2) ~ cg + (1|animal:A)", lambda: traits(10_000, 707, 5)),
    "traits_large": ("cbind(y1, y2) ~ cg + (1|animal:A)", lambda: traits(100_000, 708, 20)),
    "regression": (CURVE, lambda: curves(10_000, 709, 5)),
    "maternal": ("y ~ cg + us(1|members(animal, dam):A)", lambda: maternal(100_000, 506, 20)),
}


def measure(name: str) -> dict[str, Any]:
    """Seconds of each stage, peak memory and what was found, in this process."""
    import mixedgen as mg

    formula, data = MODELS[name]
    frame, records = data()
    start = time.perf_counter()
    ped = mg.Pedigree(frame)
    model = mg.MixedModel(formula, records, relationships={"A": mg.additive(ped)})
    forecast = model.forecast()
    analysed = time.perf_counter()
    fit = model.fit()
    end = time.perf_counter()
    return {
        "formula": formula,
        "animals": ped.n,
        "records": len(records),
        "design and analysis": analysed - start,
        "AI-REML": end - analysed,
        "total": end - start,
        **outcome(fit, forecast),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"some of {', '.join(MODELS)}; all by default")
    parser.add_argument("--here", action="store_true", help="in this process, as JSON: what the others call")
    options = parser.parse_args(argv)
    for name in options.models or list(MODELS):
        if options.here:
            print("\n" + json.dumps(measure(name)))
            continue
        print(name)
        for key, value in Command([sys.executable, "-m", "tests.benchmarks.structures", "--here", name]).run().items():
            print(f"    {key}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
