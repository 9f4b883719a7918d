"""Size of the tests and coverage of an interval in a small unbalanced crossed design, truth known.

Run as ``python -m tests.simulation_study``: it prints the figures of docs/numerics.md. With ``--responses FILE`` it
writes the data for tests/reference/simulation.R instead.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

import mixedgen as mg

SETS = 2000
FORMULA = "y ~ t + x + (1|row) + (1|col)"
TRUTH = {"row": 1.0, "col": 0.5, "residual": 1.0}  # no effect of the treatment t; slope 0.5 of x
ICC = "row / (row + col + residual)"
ROWS, COLS, KEPT = 12, 8, 58


def layout() -> pd.DataFrame:
    """Records of the design, the same in all data sets; three treatments of rows, a covariate of records."""
    rng = np.random.RandomState(20)
    cells = np.sort(rng.permutation(ROWS * COLS)[:KEPT])
    row, col = cells // COLS, cells % COLS
    x = np.round(rng.standard_normal(KEPT), 3)
    return pd.DataFrame({"row": row, "col": col, "t": np.array(list("uvw"))[row % 3], "x": x})


def responses(sets: int = SETS) -> np.ndarray:
    """Responses of all data sets, shape (records, sets), rounded; from a generator whose stream never changes."""
    d, rng = layout(), np.random.RandomState(2026)
    out = np.empty((len(d), sets))
    for k in range(sets):
        u, v, e = (rng.standard_normal(m) for m in (ROWS, COLS, len(d)))
        u, v, e = (np.sqrt(s) * z for s, z in zip(TRUTH.values(), (u, v, e), strict=True))
        out[:, k] = np.round(10.0 + 0.5 * d["x"] + u[d["row"]] + v[d["col"]] + e, 4)
    return out


def fits(sets: int = SETS) -> list[mg.Fit]:
    """A fit of each data set."""
    d = layout()
    first, *others = responses(sets).T
    fit = mg.lmm(FORMULA, d.assign(y=first))
    return [fit, *(fit.refit(y) for y in others)]


def p_values(fit: mg.Fit) -> dict[str, float]:
    """Of the F test of the treatment."""
    return {ddf: float(fit.anova(ddf=ddf).loc["t", "p"]) for ddf in ("satterthwaite", "kenward-roger")}


def covers(fit: mg.Fit) -> bool:
    """Whether the profile interval of the intraclass correlation has the truth."""
    _, lower, upper = fit.confint(ICC).iloc[0]
    return bool(lower <= TRUTH["row"] / sum(TRUTH.values()) <= upper)


def main() -> None:
    """Print the figures."""
    if "--responses" in sys.argv:
        path = sys.argv[sys.argv.index("--responses") + 1]
        pd.concat([layout(), pd.DataFrame(responses()).add_prefix("y")], axis=1).to_csv(path, index=False)
        return
    all_fits = fits()
    p = pd.DataFrame([p_values(f) for f in all_fits])
    error = np.sqrt(0.05 * 0.95 / len(p))
    print((p < 0.05).mean().round(4).to_string(), f"\nMonte-Carlo standard error {error:.4f}")
    covered = np.mean([covers(f) for f in all_fits])
    print(f"coverage of the 95 % interval of the ICC {covered:.4f}; sets {len(p)}")


if __name__ == "__main__":
    main()
