"""Data drawn from a fitted model, and the same model fitted to another response."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedgen.arrays import Array
from mixedgen.covariance.triangle import lower_factor
from mixedgen.design.terms import Term
from mixedgen.errors import require_count
from mixedgen.estimation.fitted import Fitted

_DRAWS = 64  # drawn at once: random effects x this many numbers are in memory


def simulate(
    fitted: Fitted, n: int = 1, *, seed: int | np.random.Generator | None = None, new_effects: bool = True
) -> pd.DataFrame:
    """Responses drawn from a fitted model.

    Parameters
    ----------
    fitted : Fitted
        The model.
    n : int
        Number of responses.
    seed : int or Generator, optional
        Source of random numbers; the same seed gives the same draws.
    new_effects : bool
        Whether the random effects are drawn too; otherwise they stay at their BLUP.

    Returns
    -------
    DataFrame
        A row for each record used, a column for each draw; on the scale of the left of the formula, offsets included.
        With several traits the index is (row, trait).

    Raises
    ------
    ArgumentError
        If n is no whole number from 1.

    Notes
    -----
    y = X b + sum_k Z_k u_k + e with u_k = (L_k (x) F_k) v, L_k L_k' = Sigma_k, F_k F_k' = K_k, and e from N(0, R).

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    >>> simulate(fit.fitted, 2, seed=1).shape
    (30, 2)
    """
    require_count(n, "n")
    mean = mean_of_records(fitted, conditional=not new_effects)
    out = draw(fitted, mean, int(n), np.random.default_rng(seed), new_effects=new_effects)
    return pd.DataFrame(out, index=fitted.design.records.labels)


def draw(fitted: Fitted, mean: Array, n: int, rng: np.random.Generator, *, new_effects: bool = True) -> Array:
    """Draws around a mean of the records, shape (records, n)."""
    out = np.empty((len(mean), n))
    residual, theta = fitted.design.residual, fitted.theta_R
    for start in range(0, n, _DRAWS):
        stop = min(start + _DRAWS, n)
        out[:, start:stop] = mean[:, None] + residual.draw(theta, rng, stop - start)
        if new_effects:
            out[:, start:stop] += _draw_random_part(fitted, rng, stop - start)
    return out


def mean_of_records(fitted: Fitted, *, conditional: bool) -> Array:
    """X b and the offset, shape (n,); with `conditional`, Z u_hat too."""
    design = fitted.design
    mean = design.response - fitted.system.solution.e
    if not conditional:
        for t, u in zip(design.terms, fitted.system.solution.u, strict=True):
            mean = mean - t.Z @ u.T.ravel()
    return mean


def _draw_random_part(fitted: Fitted, rng: np.random.Generator, n: int) -> Array:
    """Draws of sum_k Z_k u_k, shape (records, n)."""
    design = fitted.design
    out = np.zeros((design.n, n))
    for k, t in enumerate(design.terms):
        u = _draw_effects(t, fitted.Sigma(k), rng, n)
        out += t.Z @ u.reshape(t.c * t.q, n)
    return out


def _draw_effects(t: Term, Sigma: Array, rng: np.random.Generator, n: int) -> Array:
    """Draws from N(0, Sigma (x) K), shape (c, q, n)."""
    if t.relationship is None:
        v = rng.standard_normal((t.c, t.q, n))
    else:
        v = np.moveaxis(t.relationship.sample(rng, t.c * n).reshape(t.q, t.c, n), 1, 0)
    return np.tensordot(lower_factor(Sigma), v, axes=1)
