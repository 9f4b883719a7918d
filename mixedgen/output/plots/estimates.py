"""Plots of estimates: profiles, marginal means and contrasts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtri

from mixedgen.arrays import Array
from mixedgen.errors import ArgumentError, public
from mixedgen.inference.inference import Result
from mixedgen.inference.means import MarginalMeans
from mixedgen.intervals.profile import profile_points
from mixedgen.output.plots.canvas import (
    COLOURS,
    DASHES,
    GREY,
    MAIN,
    MARKERS,
    ROOM,
    SECOND,
    panels,
    tidy_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DODGE = 0.12  # of the distance of two levels, between series
_PROFILE_LEVEL, _INTERVAL_LEVELS = 0.99, (0.5, 0.95)


@public
def profile(
    fit: Result, parameters: str | Sequence[str] | None = None, *, points: int = 8, ax: Any = None
) -> NDArray[np.object_]:
    """Profile zeta of parameters, a panel each, with intervals of 50 and 95 %.

    Parameters
    ----------
    fit : Fit
        The model; profiles are those of ML.
    parameters : str or sequence of str, optional
        As `Fit.profile`; all by default.
    points : int
        Values on either side of the estimate, up to the ends of the interval of 99 %.
    ax : Axes or array of Axes, optional
        One for each parameter.

    Returns
    -------
    ndarray of Axes, shape (parameters,)
        A straight line is the profile of a normal likelihood, whose Wald interval is right. The curve between points is
        a monotone cubic, from which the ends of the intervals are read; `Fit.confint` has them to more digits.

    Raises
    ------
    ArgumentError, NotAvailableError
        As `Fit.profile`; and if matplotlib is not installed, or another number of Axes is needed.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    >>> [ax.get_xlabel() for ax in mg.plots.profile(fit, ["sigma", "Intercept"])]
    ['sigma', 'Intercept']
    """
    table = profile_points(fit.fitted, parameters, _PROFILE_LEVEL, points)
    names = list(dict.fromkeys(table["parameter"]))
    out = panels(ax, len(names), 3, 3.0, 2.7, sharey=True)
    for k, (panel, name) in enumerate(zip(out, names, strict=True)):
        _draw_profile(panel, table[table["parameter"] == name])
        tidy_axes(panel, xlabel=name, ylabel=r"profile $\zeta$" if ax is not None or k % 3 == 0 else "")
    return out


def _draw_profile(ax: Axes, curve: pd.DataFrame) -> None:
    """Points of one profile, the curve through them, and intervals."""
    zeta, value = curve["zeta"].to_numpy(), curve["value"].to_numpy()
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    rising = np.flatnonzero(np.diff(zeta, prepend=-np.inf) > 0)
    if len(rising) > 1:
        inverse = PchipInterpolator(zeta[rising], value[rising])
        fine = np.linspace(zeta[rising[0]], zeta[rising[-1]], 200)
        ax.plot(inverse(fine), fine, color=MAIN, linewidth=1.5, label="curve")
        for level, dash in zip(_INTERVAL_LEVELS, (":", "--"), strict=True):
            _draw_ends(ax, inverse, fine, float(ndtri(0.5 + 0.5 * level)), dash, f"{100 * level:g} %")
    ax.plot(value, zeta, "o", color=MAIN, markersize=3, label="points")


def _draw_ends(ax: Axes, inverse: Any, zeta: Array, z: float, dash: str, label: str) -> None:
    """Vertical lines from zero to the curve at the ends of an interval that the profile reaches."""
    ends = [side for side in (-z, z) if zeta[0] <= side <= zeta[-1]]
    ax.vlines(inverse(ends), 0.0, ends, color=SECOND, linewidth=1.2, linestyle=dash, label=label)


@public
def means(table: MarginalMeans, *, ax: Any = None) -> NDArray[np.object_]:
    """Marginal means with their intervals, a panel for each combination of the levels of `by`.

    Parameters
    ----------
    table : MarginalMeans
        From `emmeans`. The first variable is on the x axis; those of the others are series, with colours, markers and
        dashes of their own.
    ax : Axes or array of Axes, optional
        One for each combination of the levels of `by`.

    Returns
    -------
    ndarray of Axes, shape (panels,)
        Intervals are those of each mean alone: whether two overlap is no test of their difference; see `contrasts`.

    Raises
    ------
    ArgumentError
        If the table is not from `emmeans`, or another number of Axes is needed.
    NotAvailableError
        If matplotlib is not installed.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("angle ~ recipe * temp + (1|recipe:replicate)", mg.data.cake())
    >>> means = mg.emmeans(fit, ["temp", "recipe"], at={"temp": [175, 200, 225]})
    >>> mg.plots.means(means)[0].get_xlabel()
    'temp'
    """
    if not isinstance(table, MarginalMeans):
        raise ArgumentError("means() takes the frame that emmeans() returns.")
    specs, by = table.basis.specs, table.basis.by
    blocks = _blocks_of(table, by)
    out = panels(ax, len(blocks), 3, 3.6, 3.2, sharey=True)
    response = ", ".join(table.basis.inference.fitted.design.parsed.responses)
    for k, (panel, (label, block)) in enumerate(zip(out, blocks.items(), strict=True)):
        _draw_means(panel, block, specs)
        ylabel = f"marginal mean of {response}" if ax is not None or k % 3 == 0 else ""
        tidy_axes(panel, xlabel=specs[0], ylabel=ylabel, title=label)
    return out


def _blocks_of(table: pd.DataFrame, by: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Rows of each combination of the levels of some variables, by a label; one block without them."""
    if not by:
        return {"": pd.DataFrame(table)}
    groups = pd.DataFrame(table).groupby(list(by), sort=False, observed=True)
    return {", ".join(f"{n} {v}" for n, v in zip(by, key, strict=True)): block for key, block in groups}


def _draw_means(ax: Axes, block: pd.DataFrame, specs: Sequence[str]) -> None:
    """Means of one panel: along a number lines with bands, at levels points with bars, series beside each other."""
    series = _blocks_of(block, specs[1:])
    places = list(dict.fromkeys(block[specs[0]]))
    numeric = pd.api.types.is_numeric_dtype(block[specs[0]]) and len(places) > 1
    look = zip(series.items(), cycle(COLOURS), cycle(MARKERS), cycle(DASHES), strict=False)
    for k, ((label, part), colour, marker, dash) in enumerate(look):
        style: dict[str, Any] = {
            "color": colour,
            "marker": marker,
            "markersize": 5,
            "linewidth": 1.2,
            "label": label or None,
        }
        if numeric:
            band: dict[str, Any] = {
                "facecolor": (colour, 0.12),
                "edgecolor": colour,
                "linewidth": 0.6,
                "linestyle": dash,
            }
            ax.fill_between(part[specs[0]], part["lower"], part["upper"], **band)
            ax.plot(part[specs[0]], part["emmean"], linestyle=dash, **style)
            continue
        at = np.array([places.index(v) for v in part[specs[0]]]) + _DODGE * (k - 0.5 * (len(series) - 1))
        half = np.stack([part["emmean"] - part["lower"], part["upper"] - part["emmean"]])
        line = dash if len(series) > 1 else "none"
        ax.errorbar(at, part["emmean"], yerr=half, linestyle=line, elinewidth=1.2, capsize=3, **style)
    if not numeric:
        ax.set_xticks(range(len(places)), [str(v) for v in places])
        ax.set_xlim(-0.5, len(places) - 0.5)
    if len(series) > 1:
        ax.legend(frameon=False, fontsize="small")


@public
def contrasts(table: pd.DataFrame, *, ax: Any = None) -> Axes:
    """Contrasts with their intervals, one below the other, and a line at zero.

    Parameters
    ----------
    table : DataFrame
        From `contrasts` or `MarginalMeans.contrasts`, whose intervals and adjustment it shows.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        An interval that leaves zero out is a contrast that differs from it at the level of the table, after its
        adjustment.

    Raises
    ------
    ArgumentError
        If the table is not one of contrasts.
    NotAvailableError
        If matplotlib is not installed.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("angle ~ recipe + temp + (1|recipe:replicate)", mg.data.cake())
    >>> ax = mg.plots.contrasts(mg.emmeans(fit, "recipe").contrasts())
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['A - B', 'A - C', 'B - C']
    """
    if not isinstance(table, pd.DataFrame) or not {"contrast", "estimate", "lower", "upper"} <= set(table.columns):
        raise ArgumentError("contrasts() takes a table of contrasts, as mg.contrasts() returns it.")
    own = panels(ax, 1, 1, 4.6, max(1.8, 0.3 * len(table) + 0.9))[0]
    by = list(table.columns[1 : table.columns.get_loc("estimate")])
    labels = [", ".join([str(row["contrast"]), *(f"{n} {row[n]}" for n in by)]) for _, row in table.iterrows()]
    half = np.stack([table["estimate"] - table["lower"], table["upper"] - table["estimate"]])
    own.axvline(0.0, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
    own.errorbar(table["estimate"], np.arange(len(table)), xerr=half, fmt="o", color=MAIN, capsize=3, elinewidth=1.2)
    own.set_yticks(np.arange(len(table)), labels)
    own.set_ylim(len(table) - 1 + ROOM, -ROOM)
    tidy_axes(own, xlabel="difference")
    return own
