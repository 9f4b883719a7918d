"""The four workloads: a model each, and the data it is fitted to (simulated from fixed seeds, or read)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

SHIPPED = Path(__file__).resolve().parents[2] / "mixedgen" / "data"
DATA_VARIABLE = "MIXEDGEN_DATA"
INSTEVAL = Path("lme4") / "InstEval.csv.gz"
DECIMALS = 5


class WorkloadUnavailableError(Exception):
    """The data of a workload are not on this machine; the message says where they were sought."""


@dataclass(frozen=True)
class Bar:
    """A random term: intercept, and ``slope`` correlated with it, over the cells of ``groups``."""

    groups: tuple[str, ...]
    slope: str | None = None

    def __str__(self) -> str:
        return f"({self.slope or 1}|{':'.join(self.groups)})"


@dataclass(frozen=True)
class Workload:
    """A linear mixed model and the function that makes its frame.

    ``factors`` are the columns that R must be told are categorical; ``calls`` is the number of fits timed inside one
    process (more than one where a single fit is shorter than the clock's noise).
    """

    key: str
    response: str
    fixed: tuple[str, ...]
    bars: tuple[Bar, ...]
    factors: tuple[str, ...]
    make: Callable[[], pd.DataFrame]
    calls: int = 1

    @property
    def formula(self) -> str:
        """The model in lme4's grammar."""
        terms = [*(self.fixed or ("1",)), *map(str, self.bars)]
        return f"{self.response} ~ {' + '.join(terms)}"


def sleepstudy() -> pd.DataFrame:
    """Reaction times of 18 drivers over ten days, as the package ships them."""
    return pd.read_csv(SHIPPED / "sleepstudy.csv")


def inst_eval() -> pd.DataFrame:
    """73,421 ratings of lecturers by students (lme4's InstEval), from the folder in ``MIXEDGEN_DATA``."""
    folder = os.environ.get(DATA_VARIABLE)
    if folder is None:
        raise WorkloadUnavailableError(f"set {DATA_VARIABLE} to the folder that holds {INSTEVAL}")
    path = Path(folder) / INSTEVAL
    if not path.is_file():
        raise WorkloadUnavailableError(f"{path} is absent")
    return pd.read_csv(path)


def crossed() -> pd.DataFrame:
    """A million records, 20,000 users by 2,000 items, both with skewed counts."""
    rng = np.random.default_rng(303)
    n, n_users, n_items = 1_000_000, 20_000, 2_000
    user_weight = rng.lognormal(0.0, 1.0, n_users)
    item_weight = 1.0 / (np.arange(n_items) + 20.0) ** 0.9
    u = _choose(rng, user_weight, n)
    i = _choose(rng, item_weight, n)
    u[:n_users], i[:n_items] = np.arange(n_users), np.arange(n_items)  # every level occurs
    x = rng.normal(size=n)
    f = rng.integers(0, 10, n)
    f_effect = np.concatenate([[0.0], rng.normal(0, 0.3, 9)])
    user_effect, item_effect = rng.normal(0, 0.45, n_users), rng.normal(0, 0.6, n_items)
    y = 3.5 + 0.2 * x + f_effect[f] + user_effect[u] + item_effect[i] + rng.normal(0, 0.9, n)
    labels = np.array([f"f{k}" for k in range(10)])
    return pd.DataFrame({"y": y.round(DECIMALS), "x": x.round(DECIMALS), "f": labels[f], "u": u + 1, "i": i + 1})


def _choose(rng: np.random.Generator, weight: np.ndarray, n: int) -> np.ndarray:
    return rng.choice(len(weight), size=n, p=weight / weight.sum())


def random_slopes() -> pd.DataFrame:
    """200,000 records: intercept and slope correlated over 10,000 groups, crossed with 500 others."""
    rng = np.random.default_rng(404)
    n, n_g, n_h = 200_000, 10_000, 500
    g = rng.integers(0, n_g, n)
    g[:n_g] = np.arange(n_g)
    h = rng.integers(0, n_h, n)
    h[:n_h] = np.arange(n_h)
    Sigma = np.array([[1.0, 0.3], [0.3, 0.4]])
    b = rng.normal(size=(n_g, 2)) @ np.linalg.cholesky(Sigma).T
    x = rng.normal(size=n)
    y = 2 + 0.5 * x + b[g, 0] + b[g, 1] * x + rng.normal(0, 0.7, n_h)[h] + rng.normal(0, 1.2, n)
    return pd.DataFrame({"y": y.round(DECIMALS), "x": x.round(DECIMALS), "g": g + 1, "h": h + 1})


WORKLOADS = {
    w.key: w
    for w in (
        Workload("W1", "Reaction", ("Days",), (Bar(("Subject",), "Days"),), ("Subject",), sleepstudy, calls=50),
        Workload(
            "W2a",
            "y",
            ("service",),
            (Bar(("s",)), Bar(("d",)), Bar(("dept", "service"))),
            ("s", "d", "dept", "service"),
            inst_eval,
        ),
        Workload("W2b", "y", (), (Bar(("s",)), Bar(("d",)), Bar(("dept",))), ("s", "d", "dept"), inst_eval),
        Workload("W3", "y", ("x", "f"), (Bar(("u",)), Bar(("i",))), ("f", "u", "i"), crossed),
        Workload("W4", "y", ("x",), (Bar(("g",), "x"), Bar(("h",))), ("g", "h"), random_slopes),
    )
}


def select(keys: Iterable[str]) -> list[Workload]:
    """The workloads of these keys, in the order asked for."""
    return [WORKLOADS[key] for key in keys]


def store(workload: Workload, folder: Path) -> Path:
    """Write the workload's frame as a CSV that every peer reads; W2a and W2b share theirs."""
    path = folder / f"{workload.make.__name__}.csv"
    if not path.is_file():
        workload.make().to_csv(path, index=False)
    return path
