"""Plots on the assumptions: residuals, their scale, and normal quantiles."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri

from mixedgen.arrays import Array
from mixedgen.errors import NotAvailableError, public
from mixedgen.inference.inference import Result
from mixedgen.output.plots.canvas import (
    COLOURS,
    GREY,
    MAIN,
    MARKERS,
    SECOND,
    panels,
    response_name,
    tidy_axes,
)
from mixedgen.output.plots.levels import chosen_term
from mixedgen.prediction.effects import blup
from mixedgen.prediction.records import scaled_residuals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CLASSES, _CLASS_SIZE = 10, 5  # of fitted values whose mean residuals a line joins, and records in each at least


@public
def residuals(fit: Result, *, ax: Any = None) -> NDArray[np.object_]:
    """Four panels on the assumptions: `residuals_fitted`, `scale_location`, and `qq` of residuals and random effects.

    Parameters
    ----------
    fit : Fit
        The model.
    ax : array of Axes, optional
        Four; three for a model without random terms, or with none whose variance is above zero.

    Returns
    -------
    ndarray of Axes, shape (4,) or (3,)
        The last has the effects of all terms, each with a marker of its own.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())
    >>> len(mg.plots.residuals(fit))
    4
    """
    samples = _effect_samples(fit)
    out = panels(ax, 4 if samples else 3, 2 if samples else 3, 3.6, 3.2)
    residuals_fitted(fit, ax=out[0])
    scale_location(fit, ax=out[1])
    qq(fit, ax=out[2])
    if samples:
        _draw_qq(out[3], samples, "standardised BLUP")
        out[3].set_title("Normal QQ, random effects")
    return out


def _record_axes(fit: Result, ax: Any) -> tuple[Axes, Array, Array]:
    """One Axes, the fitted values and the scaled residuals of the records."""
    fitted = fit.fitted
    design, e = fitted.design, fitted.system.solution.e
    values = design.response - e
    return panels(ax, 1, 1, 4.2, 3.4)[0], values, scaled_residuals(fitted)


@public
def residuals_fitted(fit: Result, *, ax: Any = None) -> Axes:
    """Scaled residuals against fitted values, with a line of their means in ten classes.

    Parameters
    ----------
    fit : Fit
        The model.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Residuals are conditional ones divided by the residual standard deviation of their record. The line, which bends
        where the mean is misspecified, needs 50 records.
    """
    own, values, scaled = _record_axes(fit, ax)
    own.axhline(0.0, color=GREY, linewidth=0.8, linestyle="--")
    _draw_cloud(own, values, scaled)
    tidy_axes(own, xlabel=f"fitted {response_name(fit)}", ylabel="scaled residual", title="Residuals and fitted values")
    return own


@public
def scale_location(fit: Result, *, ax: Any = None) -> Axes:
    """Roots of the absolute scaled residuals against fitted values; a trend shows a variance that is not constant.

    Parameters and return as `residuals_fitted`.
    """
    own, values, scaled = _record_axes(fit, ax)
    _draw_cloud(own, values, np.sqrt(np.abs(scaled)))
    own.set_ylim(bottom=0.0)
    tidy_axes(
        own,
        xlabel=f"fitted {response_name(fit)}",
        ylabel=r"$\sqrt{|\mathrm{scaled\ residual}|}$",
        title="Scale and location",
    )
    return own


def _draw_cloud(ax: Axes, x: Array, y: Array) -> None:
    """Points, and a line of their means in classes of x."""
    ax.plot(x, y, "o", color=MAIN, markersize=3, alpha=0.6 if len(x) < 2000 else 0.2, markeredgewidth=0)
    if len(x) >= _CLASSES * _CLASS_SIZE:
        parts = np.array_split(np.argsort(x, kind="stable"), _CLASSES)
        ax.plot([x[p].mean() for p in parts], [y[p].mean() for p in parts], color=SECOND, linewidth=1.5)


@public
def qq(fit: Result, term: str | None = None, *, ax: Any = None) -> Axes:
    """Normal QQ plot of the scaled residuals, or of the BLUPs of a term.

    Parameters
    ----------
    fit : Fit
        The model.
    term : str, optional
        Name of a term; the residuals by default.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Each effect has its marker. BLUPs are divided by the standard deviation they have under the model, that of
        Var(u) - PEV, so that levels with few records stand beside others. The line goes through the quartiles of the
        first; the band, of 95 % for each point, is that of independent normal values.

    Raises
    ------
    ArgumentError
        If there is no such term.
    NotAvailableError
        If its variance is zero, or matplotlib is not installed.
    """
    own = panels(ax, 1, 1, 4.2, 3.4)[0]
    if term is None:
        _draw_qq(own, {"residuals": scaled_residuals(fit.fitted)}, "scaled residual")
        own.set_title("Normal QQ, residuals")
        return own
    key = fit.fitted.design.terms[chosen_term(fit, term)].key
    samples = _effect_samples(fit, key)
    if not samples:
        raise NotAvailableError(f"the variances of {key!r} are zero: its effects have no distribution to show.")
    _draw_qq(own, samples, "standardised BLUP")
    own.set_title(f"Normal QQ, {key}")
    return own


def _effect_samples(fit: Result, term: str | None = None) -> dict[str, Array]:
    """BLUPs of all terms, or of one, by term and effect, each divided by its standard deviation under the model."""
    out = {}
    for t in fit.fitted.design.terms:
        if term is not None and t.key != term:
            continue
        for effect, block in blup(fit.fitted, t.key).groupby("effect", sort=False):
            share = block["reliability"].to_numpy(dtype=float)
            known = (share > 0) & (share < 1)  # a level without information has the mean for its BLUP
            if known.any():
                sd = np.sqrt(block["pev"].to_numpy() * share / (1.0 - share), where=known, out=np.ones(len(share)))
                out[f"{t.key}: {effect}"] = (block["value"].to_numpy() / sd)[known]
    return out


def _draw_qq(ax: Axes, samples: dict[str, Array], what: str) -> None:
    """Samples against normal quantiles, the line of the first and its band."""
    first = np.sort(next(iter(samples.values())))
    slope, middle = _quartile_line(first)
    band = _normal_band(len(first))
    ax.fill_between(_normal_scores(len(first)), *(middle + slope * band), color=GREY, alpha=0.2, linewidth=0)
    ends = _normal_scores(len(first))[[0, -1]]
    ax.plot(ends, middle + slope * ends, color=GREY, linewidth=1.0, label="_line")
    for (name, values), marker, colour in zip(samples.items(), cycle(MARKERS), cycle(COLOURS), strict=False):
        scores = _normal_scores(len(values))
        ax.plot(scores, np.sort(values), marker, color=colour, markersize=3.5, markeredgewidth=0, alpha=0.8, label=name)
    if len(samples) > 1:
        ax.legend(frameon=False, fontsize="small")
    tidy_axes(ax, xlabel="normal quantile", ylabel=what)


def _normal_scores(n: int) -> Array:
    """Quantiles of n ordered normal values."""
    return np.asarray(ndtri((np.arange(1, n + 1) - 0.5) / n))


def _normal_band(n: int) -> Array:
    """Quantiles of 2.5 and 97.5 % of each of n ordered normal values, shape (2, n)."""
    i = np.arange(1, n + 1)
    return np.stack([ndtri(betaincinv(i, n + 1 - i, p)) for p in (0.025, 0.975)])


def _quartile_line(values: Array) -> tuple[float, float]:
    """Slope and intercept of the line through the quartiles, as R's qqline."""
    low, high = np.quantile(values, [0.25, 0.75])
    slope = (high - low) / (2.0 * float(ndtri(0.75)))
    return slope, 0.5 * (low + high)
