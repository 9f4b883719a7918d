"""REML of a field trial with residuals correlated along rows and columns, some plots without a yield.

``python -m tests.benchmarks.trials [--sides 50 100] [--nugget]`` fits `y ~ 1 + (1|gen) + (1|block)` with
``residual="ar1(row):ar1(col)"`` in a fresh process for each size and prints what it took; with ``--nugget`` the model
has an effect of each plot, `(1|plot)`, besides.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
import pandas as pd

from tests.benchmarks.child import outcome
from tests.benchmarks.processes import Command

VARIANCES = {"gen": 0.5, "block": 0.1, "plot": 0.25, "residual": 1.0}
CORRELATIONS = {"row": 0.8, "col": 0.6}
GENOTYPES = 0.3  # for each plot: most stand three or four times
BLOCK = (5, 4)  # rows x columns of an incomplete block
HOLES = 0.05
RESIDUAL = "ar1(row):ar1(col)"


def surface(side: int, rng: np.random.Generator) -> np.ndarray:
    """Residuals of a square field."""
    lag = np.abs(np.subtract.outer(np.arange(side), np.arange(side)))
    roots = [np.linalg.cholesky(rho**lag) for rho in CORRELATIONS.values()]
    return np.sqrt(VARIANCES["residual"]) * (roots[0] @ rng.normal(size=(side, side)) @ roots[1].T).ravel()


def simulate(side: int) -> pd.DataFrame:
    """A row-by-column trial in incomplete blocks, its records in no order, without the plots that have no yield."""
    rng = np.random.default_rng(side)
    row, col = (a.ravel() for a in np.meshgrid(np.arange(side), np.arange(side), indexing="ij"))
    n = side**2
    entries = int(GENOTYPES * n)
    gen = np.concatenate([rng.permutation(entries) for _ in range(n // entries + 1)])[:n]
    block = row // BLOCK[0] * side + col // BLOCK[1]
    y = 10.0 + surface(side, rng) + rng.normal(0, np.sqrt(VARIANCES["plot"]), n)
    y += rng.normal(0, np.sqrt(VARIANCES["gen"]), entries)[gen]
    y += rng.normal(0, np.sqrt(VARIANCES["block"]), block.max() + 1)[block]
    frame = pd.DataFrame({"y": y, "row": row + 1, "col": col + 1, "gen": gen, "block": block, "plot": np.arange(n)})
    return frame[rng.random(n) > HOLES].sample(frac=1, random_state=side).reset_index(drop=True)


def measure(side: int, nugget: bool) -> dict[str, Any]:
    """Seconds of each stage, peak memory and what was found, in this process."""
    import mixedgen as mg

    formula = "y ~ 1 + (1|gen) + (1|block)" + (" + (1|plot)" if nugget else "")
    mg.lmm(formula, simulate(40), residual=RESIDUAL)  # compiles the kernels
    frame = simulate(side)
    start = time.perf_counter()
    model = mg.MixedModel(formula, frame, residual=RESIDUAL)
    forecast = model.forecast()
    analysed = time.perf_counter()
    fit = model.fit()
    fitted = time.perf_counter()
    values = fit.blup("gen")
    done = time.perf_counter()
    return {
        "plots": len(frame),
        "genotypes": len(values),
        "seconds": {"analysis": analysed - start, "REML": fitted - analysed, "BLUP and PEV": done - fitted},
        **outcome(fit, forecast),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[50, 100], help="rows and columns of the field")
    parser.add_argument("--nugget", action="store_true", help="with an effect of each plot")
    parser.add_argument("--here", action="store_true", help="in this process, as JSON: what the others call")
    options = parser.parse_args(argv)
    for side in options.sides:
        if options.here:
            print("\n" + json.dumps(measure(side, options.nugget)))
            continue
        arguments = ["-m", "tests.benchmarks.trials", "--here", "--sides", str(side)]
        arguments += ["--nugget"] if options.nugget else []
        print(f"{side} x {side}")
        for key, value in Command([sys.executable, *arguments]).run().items():
            print(f"    {key}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
