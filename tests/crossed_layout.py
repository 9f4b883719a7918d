"""A 100 x 60 crossed layout of any number of records; ``python -m tests.crossed_layout N FILE`` writes it for R."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

FORMULA = "y ~ t + x + (1|row) + (1|col)"


def crossed(n: int) -> pd.DataFrame:
    """Records in random cells, three treatments and a covariate; from a generator whose stream never changes."""
    rng = np.random.RandomState(n)
    row, col, t = rng.randint(0, 100, n), rng.randint(0, 60, n), rng.randint(0, 3, n)
    x = np.round(rng.standard_normal(n), 3)
    u, v, e = rng.standard_normal(100), rng.standard_normal(60), rng.standard_normal(n)
    y = np.round(5.0 + 0.3 * x + u[row] + 0.7 * v[col] + e, 4)
    return pd.DataFrame({"row": row, "col": col, "t": np.array(list("uvw"))[t], "x": x, "y": y})


if __name__ == "__main__":
    crossed(int(sys.argv[1])).to_csv(sys.argv[2], index=False)
