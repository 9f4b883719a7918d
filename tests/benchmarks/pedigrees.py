"""AI-REML of an animal model on large simulated pedigrees, with the exact PEV of every animal.

``python -m tests.benchmarks.pedigrees [--sizes 10000 100000 1000000] [--shapes panmictic herds]`` runs each in a fresh
process and prints what each stage took, beside a unit: one 2048 x 2048 x 2048 float64 product of the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tests.benchmarks.child import outcome
from tests.benchmarks.processes import Command

GENERATIONS = 10
DECIMALS = 5
VARIANCES = {"animal": 0.3, "litter": 0.1, "residual": 0.6}
# seed and contemporary groups in each generation, by number of animals
PANMICTIC = {2_000: (504, 2), 10_000: (505, 5), 100_000: (506, 20), 1_000_000: (507, 100)}
GROUP_SIZE = 50


@dataclass(frozen=True)
class Population:
    """A pedigree with parents before progeny (0 = unknown), the litter and the contemporary group of each animal."""

    sire: np.ndarray
    dam: np.ndarray
    litter: np.ndarray
    generation: np.ndarray
    group: np.ndarray

    @property
    def size(self) -> int:
        """Number of animals."""
        return len(self.sire)


def panmictic(size: int, rng: np.random.Generator) -> Population:
    """Discrete generations, 1 % of the animals sires and 20 % dams, mated at random over the whole population."""
    per = size // (GENERATIONS + 1)
    sire, dam, litter, generation = (np.zeros(size, dtype=int) for _ in range(4))
    previous = np.arange(1, size - per * GENERATIONS + 1)
    start, litters = len(previous) + 1, 0
    for k in range(1, GENERATIONS + 1):
        order = rng.permutation(previous)
        males, females = order[: len(order) // 2], order[len(order) // 2 :]
        n_sires, n_dams = max(5, len(previous) // 100), len(previous) // 5
        sizes = rng.multinomial(per, np.ones(n_dams) / n_dams)
        mates = males[:n_sires][rng.integers(0, n_sires, n_dams)]
        ids, mother = np.arange(start, start + per), np.repeat(np.arange(n_dams), sizes)
        sire[ids - 1], dam[ids - 1] = mates[mother], females[:n_dams][mother]
        litter[ids - 1], generation[ids - 1] = litters + mother + 1, k
        previous, start, litters = ids, start + per, litters + n_dams
    return Population(sire, dam, litter, generation, np.zeros(size, dtype=int))


def herds(size: int, rng: np.random.Generator) -> Population:
    """Closed female lines in herds of 50, sires of a herd's generation drawn from few that serve everywhere."""
    n_herds = max(2, size // ((GENERATIONS + 1) * GROUP_SIZE))
    per = n_herds * GROUP_SIZE
    n = per * (GENERATIONS + 1)
    herd = np.tile(np.repeat(np.arange(n_herds), GROUP_SIZE), GENERATIONS + 1)
    generation = np.repeat(np.arange(GENERATIONS + 1), per)
    sire, dam, litter = (np.zeros(n, dtype=int) for _ in range(3))
    n_sires, litters = max(4, n_herds // 40), 0
    males = np.flatnonzero(np.arange(per) % GROUP_SIZE < GROUP_SIZE // 2)  # of a generation; the rest are females
    for k in range(1, GENERATIONS + 1):
        before, now = (k - 1) * per + 1, np.arange(k * per, (k + 1) * per)
        bulls = before + rng.choice(males, n_sires, replace=False)
        dams = GROUP_SIZE // 5
        mother = rng.integers(0, dams, per)  # one of the dams of the own herd
        cell = (now - k * per) // GROUP_SIZE
        dam[now] = before + cell * GROUP_SIZE + GROUP_SIZE // 2 + mother
        mate = bulls[rng.integers(0, n_sires, n_herds * dams)]
        sire[now] = mate[cell * dams + mother]
        litter[now] = litters + cell * dams + mother + 1
        litters += n_herds * dams
    return Population(sire, dam, litter, generation, herd + n_herds * generation)


def breeding_values(population: Population, rng: np.random.Generator, G: np.ndarray) -> np.ndarray:
    """Breeding values by generations, animals by traits; the sampling variance ignores inbreeding."""
    n, traits = population.size, len(G)
    drawn = rng.normal(size=(n, traits)) @ np.linalg.cholesky(G).T
    value, start = np.zeros((n + 1, traits)), 0
    while start < n:
        late = np.nonzero(np.maximum(population.sire[start:], population.dam[start:]) > start)[0]
        stop = n if len(late) == 0 else start + late[0]
        s, d = population.sire[start:stop], population.dam[start:stop]
        sampling = 0.25 * (s == 0) + 0.25 * (d == 0) + 0.5
        value[start + 1 : stop + 1] = 0.5 * value[s] + 0.5 * value[d] + np.sqrt(sampling)[:, None] * drawn[start:stop]
        start = stop
    return value[1:]


def simulate(shape: str, size: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pedigree and records: 80 % of the animals after the founders have one, in contemporary groups and litters."""
    if shape == "panmictic":
        seed, groups = PANMICTIC[size]
        rng = np.random.default_rng(seed)
        population = panmictic(size, rng)
    else:
        rng = np.random.default_rng(size)
        population = herds(size, rng)
    value = breeding_values(population, rng, np.array([[VARIANCES["animal"]]]))[:, 0]
    recorded = np.nonzero((population.generation > 0) & (rng.random(population.size) < 0.8))[0]
    group = population.group[recorded]
    if shape == "panmictic":
        group = population.generation[recorded] * 1000 + rng.integers(0, groups, len(recorded))
    names, code = np.unique(group, return_inverse=True)
    litters, litter = np.unique(population.litter[recorded], return_inverse=True)
    y = 10 + rng.normal(0, 1, len(names))[code] + value[recorded]
    y = y + rng.normal(0, np.sqrt(VARIANCES["litter"]), len(litters))[litter]
    y = y + rng.normal(0, np.sqrt(VARIANCES["residual"]), len(recorded))
    records = pd.DataFrame(
        {
            "y": y.round(DECIMALS),
            "cg": [f"c{k}" for k in group],
            "animal": recorded + 1,
            "litter": population.litter[recorded],
        }
    )
    animals = np.arange(1, population.size + 1)
    return pd.DataFrame({"id": animals, "sire": population.sire, "dam": population.dam}), records


def measure(shape: str, size: int) -> dict[str, Any]:
    """Seconds of each stage, peak memory and what was found, in this process."""
    import mixedgen as mg

    frame, records = simulate(shape, size)
    marks = [("simulated", time.perf_counter())]
    ped = mg.Pedigree(frame)
    A = mg.additive(ped)
    assert A.inverse.shape[0] == ped.n
    marks.append(("pedigree and A inverse", time.perf_counter()))
    model = mg.MixedModel("y ~ cg + (1|animal:A) + (1|litter)", records, relationships={"A": A})
    forecast = model.forecast()
    marks.append(("design and analysis", time.perf_counter()))
    fit = model.fit()
    marks.append(("AI-REML", time.perf_counter()))
    values = fit.blup("animal:A")
    marks.append(("PEV of every animal", time.perf_counter()))
    stages = {name: t - marks[k][1] for k, (name, t) in enumerate(marks[1:])}
    return {
        "animals": ped.n,
        "records": len(records),
        "groups": int(records["cg"].nunique()),
        "seconds": stages,
        "total": sum(stages.values()),
        **outcome(fit, forecast),
        "mean_reliability": float(values["reliability"].mean()),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--shapes", nargs="+", choices=["panmictic", "herds"], default=["panmictic", "herds"])
    parser.add_argument("--here", action="store_true", help="in this process, as JSON: what the others call")
    options = parser.parse_args(argv)
    for shape in options.shapes:
        for size in options.sizes:
            if options.here:
                print("\n" + json.dumps(measure(shape, size)))
                continue
            arguments = ["-m", "tests.benchmarks.pedigrees", "--here", "--sizes", str(size), "--shapes", shape]
            print(f"{shape} {size:,}")
            for key, value in Command([sys.executable, *arguments]).run().items():
                print(f"    {key}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
