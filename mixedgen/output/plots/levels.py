"""Plots of the levels of a term: their BLUPs, and their data with fitted lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from mixedgen.errors import ArgumentError, NotAvailableError, examples, public, require_probability
from mixedgen.inference.inference import Result
from mixedgen.output.plots.canvas import (
    GREY,
    MAIN,
    ROOM,
    SECOND,
    panels,
    response_name,
    tidy_axes,
)
from mixedgen.output.tidy import augment
from mixedgen.prediction.effects import blup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_LABELS = 60  # levels whose names can be read one below the other
_MAX_PANELS = 40  # groups that can be told apart on a page


def chosen_term(fit: Result, term: str | None) -> int:
    """Position of a term; the only one by default."""
    keys = [t.key for t in fit.fitted.design.terms]
    if not keys:
        raise NotAvailableError("the model has no random terms.")
    if term is None and len(keys) > 1:
        raise ArgumentError(f"name one of the terms: {examples(keys)}.")
    return fit.fitted.design.term(term or keys[0])


@public
def caterpillar(
    fit: Result,
    term: str | None = None,
    *,
    effects: Sequence[str] | None = None,
    level: float = 0.95,
    ax: Any = None,
) -> NDArray[np.object_]:
    """BLUPs of a term with their intervals, a panel for each effect; levels in the order of the first.

    Parameters
    ----------
    fit : Fit
        The model.
    term : str, optional
        Name of the term; may be left out where there is one.
    effects : sequence of str, optional
        Effects to show; all by default.
    level : float
        Of the intervals, value plus and minus a normal quantile times the root of the prediction error variance.
    ax : Axes or array of Axes, optional
        One for each effect.

    Returns
    -------
    ndarray of Axes, shape (effects,)
        Of more than 60 levels the names are left out.

    Raises
    ------
    ArgumentError
        If there is no such term or effect, or another number of Axes is needed.
    NotAvailableError
        If matplotlib is not installed, or the model has no random terms.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())
    >>> [ax.get_title() for ax in mg.plots.caterpillar(fit)]
    ['(Intercept)', 'Days']
    """
    require_probability(level)
    t = fit.fitted.design.terms[chosen_term(fit, term)]
    table = blup(fit.fitted, t.key)
    wanted = list(dict.fromkeys(table["effect"])) if effects is None else list(effects)
    unknown = [e for e in wanted if e not in set(table["effect"])]
    if unknown or not wanted:
        raise ArgumentError(f"term {t.key!r} has no effect {examples(unknown)}; it has {examples(t.effects)}.")
    blocks = {e: table[table["effect"] == e] for e in wanted}
    first = blocks[wanted[0]]
    order = first["value"].to_numpy().argsort(kind="stable")
    height = max(2.5, 0.2 * len(first) + 0.9) if len(first) <= _MAX_LABELS else 6.0
    out = panels(ax, len(wanted), len(wanted), 3.4, height, sharey=True)
    for panel, (effect, block) in zip(out, blocks.items(), strict=True):
        _draw_intervals(panel, block.iloc[order], level)
        tidy_axes(panel, xlabel=f"effect on {response_name(fit)}", title=effect)
    _label_levels(out[0], first["level"].iloc[order], t.key)
    return out


def _draw_intervals(ax: Axes, block: pd.DataFrame, level: float) -> None:
    """Values with their intervals, one below the other."""
    half = float(ndtri(0.5 + 0.5 * level)) * block["se"].to_numpy()
    many = len(block) > _MAX_LABELS
    ax.axvline(0.0, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
    ax.errorbar(
        block["value"],
        np.arange(len(block)),
        xerr=half,
        fmt="o",
        color=MAIN,
        markersize=2 if many else 4,
        elinewidth=0.5 if many else 1.2,
    )
    ax.set_ylim(-ROOM, len(block) - 1 + ROOM)


def _label_levels(ax: Axes, levels: pd.Series, name: str) -> None:
    """Names of the levels beside the first panel, where they can be read."""
    if len(levels) <= _MAX_LABELS:
        ax.set_yticks(np.arange(len(levels)), [str(v) for v in levels])
        ax.set_ylabel(name)
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{name}, {len(levels)} levels")


@public
def fitted_lines(
    fit: Result,
    x: str,
    *,
    term: str | None = None,
    levels: Sequence[Any] | None = None,
    data: Any = None,
    columns: int = 6,
    ax: Any = None,
) -> NDArray[np.object_]:
    """Data and fitted line of each level of a grouping factor, in small multiples.

    Parameters
    ----------
    fit : Fit
        The model.
    x : str
        Numeric variable of the fixed part, or of `data`.
    term : str, optional
        Term whose levels have the panels; may be left out where there is one.
    levels : sequence, optional
        Levels to show; all by default, of which there may be 40.
    data : DataFrame, polars or arrow table, mapping of columns, or path, optional
        The data of the fit, where `x` is not in the fixed part.
    columns : int
        Panels side by side.
    ax : array of Axes, optional
        One for each level.

    Returns
    -------
    ndarray of Axes, shape (levels,)
        Points are the records. The full line is the conditional fitted value, the dashed one that of the fixed part,
        each the mean of the records at its x.

    Raises
    ------
    ArgumentError
        If `x`, the term or a level does not exist, `x` is not numeric, or there are more than 40 levels.
    NotAvailableError
        If the term loads several levels for a record, or matplotlib is not installed.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())
    >>> len(mg.plots.fitted_lines(fit, "Days"))
    18
    """
    t = fit.fitted.design.terms[chosen_term(fit, term)]
    if t.record is not None:
        raise NotAvailableError(f"records load several levels of {t.key!r}: there is no line for each level.")
    records = augment(fit.fitted, data, influence=False)
    if x not in records or not pd.api.types.is_numeric_dtype(records[x]):
        numeric = [str(c) for c in records.select_dtypes("number") if not str(c).startswith(".")]
        raise ArgumentError(f"x must be a numeric variable, not {x!r}; there are {examples(numeric)}. Else give data=.")
    used = records.dropna(subset=[".fitted"])
    labels = pd.Index(t.levels[t.level])
    wanted = _checked_levels(t.levels[t.counts > 0], levels, t.key)
    out = panels(ax, len(wanted), columns, 1.7, 1.7, sharex=True, sharey=True)
    y = used[".fitted"] + used[".resid"]
    for panel, level in zip(out, wanted, strict=True):
        _draw_line(panel, used[labels == level].assign(y=y[labels == level]), x)
        panel.set_title(str(level), fontsize="small")
    (_label_figure if ax is None else _label_panels)(out, x, response_name(fit))
    return out


def _checked_levels(known: pd.Index, levels: Sequence[Any] | None, name: str) -> list[Any]:
    """Levels that get panels."""
    wanted = list(known if levels is None else levels)
    unknown = [v for v in wanted if v not in known]
    if unknown or not wanted:
        raise ArgumentError(f"{name!r} has no level {examples(unknown)} with records; it has {examples(known)}.")
    if len(wanted) > _MAX_PANELS:
        raise ArgumentError(
            f"{len(wanted)} levels of {name!r} are too many panels: name up to {_MAX_PANELS} with levels=."
        )
    return wanted


def _draw_line(ax: Axes, records: pd.DataFrame, x: str) -> None:
    """Records of one level with both lines."""
    means = records.groupby(x)[[".fitted", ".fixed"]].mean()
    ax.plot(records[x], records["y"], "o", color=GREY, markersize=3, markeredgewidth=0, label="data")
    ax.plot(means.index, means[".fixed"], color=SECOND, linewidth=1.0, linestyle="--", label="fixed part")
    ax.plot(means.index, means[".fitted"], color=MAIN, linewidth=1.5, label="fitted")
    ax.spines[["top", "right"]].set_visible(False)


def _label_figure(axes: NDArray[np.object_], xlabel: str, ylabel: str) -> None:
    """One label for all panels of a figure, and one legend, above."""
    figure = axes[0].figure
    figure.supxlabel(xlabel, fontsize="medium")
    figure.supylabel(ylabel, fontsize="medium")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize="small")


def _label_panels(axes: NDArray[np.object_], xlabel: str, ylabel: str) -> None:
    """Labels of each panel of a figure that is not ours, and a legend in the first."""
    for ax in axes:
        ax.set(xlabel=xlabel, ylabel=ylabel)
    axes[0].legend(frameon=False, fontsize="small")
