"""Data drawn from a fitted model, and the same model fitted to another response."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixedgen.covariance.structure import lower_factor
from mixedgen.design.design import Design
from mixedgen.design.terms import Term
from mixedgen.engines import Engine
from mixedgen.errors import ConvergenceWarning, DataError, examples, require_count
from mixedgen.estimation.ascent import maximise
from mixedgen.estimation.estimate import Fitted, certify, check_estimable, default_start, fit_by_moments, moment_start

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

DRAWS = 64  # drawn at once: random effects x this many numbers are in memory
FAR = 30.0  # a response whose variance differs by more than this from that of the fit starts afresh


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
    return pd.DataFrame(out, index=record_index(fitted.design))


def draw(fitted: Fitted, mean: Array, n: int, rng: np.random.Generator, *, new_effects: bool = True) -> Array:
    """Draws around a mean of the records, shape (records, n)."""
    out = np.empty((len(mean), n))
    residual, theta = fitted.design.residual, fitted.theta[fitted.design.slices[-1]]
    for start in range(0, n, DRAWS):
        stop = min(start + DRAWS, n)
        out[:, start:stop] = mean[:, None] + residual.draw(theta, rng, stop - start)
        if new_effects:
            out[:, start:stop] += draw_random_part(fitted, rng, stop - start)
    return out


def record_index(design: Design) -> pd.Index:
    """Labels of the records used; (row, trait) for several traits."""
    rows = design.index[design.kept]
    if design.traits is None:
        return rows
    traits = pd.Index(design.traits.names)[design.traits.trait]
    return pd.MultiIndex.from_arrays([rows[design.traits.row], traits], names=[rows.name, "trait"])


def mean_of_records(fitted: Fitted, *, conditional: bool) -> Array:
    """X b and the offset, shape (n,); with `conditional`, Z u_hat too."""
    design = fitted.design
    mean = design.y - fitted.system.solution.e
    if not conditional:
        for t, u in zip(design.terms, fitted.system.solution.u, strict=True):
            mean = mean - t.Z @ u.T.ravel()
    return mean if design.offset is None else mean + design.offset


def draw_random_part(fitted: Fitted, rng: np.random.Generator, n: int) -> Array:
    """Draws of sum_k Z_k u_k, shape (records, n)."""
    design = fitted.design
    out = np.zeros((design.n, n))
    for t, s in zip(design.terms, design.slices, strict=False):
        u = draw_effects(t, t.structure.matrix(fitted.theta[s]), rng, n)
        out += t.Z @ u.reshape(t.c * t.q, n)
    return out


def draw_effects(t: Term, Sigma: Array, rng: np.random.Generator, n: int) -> Array:
    """Draws from N(0, Sigma (x) K), shape (c, q, n)."""
    if t.relationship is None:
        v = rng.standard_normal((t.c, t.q, n))
    else:
        v = np.moveaxis(t.relationship.sample(rng, t.c * n).reshape(t.q, t.c, n), 1, 0)
    return np.tensordot(lower_factor(Sigma), v, axes=1)


def refit(fitted: Fitted, y: ArrayLike | pd.Series) -> Fitted:
    """The same model fitted to another response.

    Parameters
    ----------
    fitted : Fitted
        The model.
    y : array_like, shape (n,)
        Responses of the records used, in their order, on the scale of the left of the formula (a column of `simulate`);
        or of all rows of the data. A series must have the labels of either.

    Returns
    -------
    Fitted
        Estimates by the same method and engine; where the variances were given, they stay.

    Raises
    ------
    DataError
        If y has another length or other labels, or values are missing.
    DesignError
        If the fixed effects fit y exactly.

    Warns
    -----
    ConvergenceWarning
        If the certificate says "not converged".

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    >>> refit(fit.fitted, 2 * mg.data.dyestuff()["Yield"]).theta.round(1).tolist()
    [7056.2, 9805.0]
    """
    return refit_design(fitted, with_response(fitted.design, y))


def refit_design(fitted: Fitted, design: Design) -> Fitted:
    """A design with the parameters of a fit, estimated by the same method and engine from the variances of the fit.

    Variances that were given stay. Raises and warns as `refit`.
    """
    engine = type(fitted.engine)(design)
    if fitted.moments is not None:
        return fit_by_moments(design, engine, fitted.method, fitted.control)
    if fitted.certificate is None:
        return Fitted(design, engine, engine.at(fitted.theta), fitted.theta, fitted.method, fitted.control)
    check_estimable(design, engine)
    start, *others = starts(fitted, engine)
    optimum = maximise(engine, start, reml=fitted.reml, control=fitted.control, others=others)
    certificate = certify(design, engine, optimum)
    if not certificate.converged:
        warnings.warn(str(certificate), ConvergenceWarning, stacklevel=4)
    return replace(
        fitted,
        design=design,
        engine=engine,
        system=optimum.system,
        theta=optimum.theta,
        history=optimum.history,
        certificate=certificate,
        optimum=optimum,
    )


def starts(fitted: Fitted, engine: Engine) -> list[Array]:
    """The old variances first, unless the new response is on quite another scale."""
    fresh = [moment_start(engine.design, engine), default_start(engine.design, engine)]
    ratio = engine.spread / fitted.engine.spread
    return [fitted.theta, *fresh] if 1.0 / FAR < ratio < FAR else fresh


def with_response(design: Design, y: ArrayLike | pd.Series) -> Design:
    """The design with another response."""
    values = record_values(design, y)
    less = values if design.offset is None else values - design.offset
    traits = None if design.traits is None else replace(design.traits, y=values)
    return replace(design, y=less, traits=traits)


def record_values(design: Design, y: Any) -> Array:
    """Values of the records used, shape (n,), checked."""
    values = np.asarray(y, dtype=float)
    index = record_index(design)
    if values.shape == index.shape:
        labels = index
    elif design.traits is None and values.shape == design.index.shape:
        labels, values = design.index, values[design.kept]
    else:
        raise DataError(f"y has shape {values.shape}; the model has {design.n} records: give one value for each.")
    if isinstance(y, pd.Series) and not y.index.equals(labels):
        raise DataError("y has other labels than the records of the model: give it in their order, on their index.")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(f"y is missing or infinite in {len(bad)} records: {examples(list(index[bad]))}.")
    return values
