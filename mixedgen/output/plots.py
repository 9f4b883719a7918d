"""Plots of fitted models: functions that draw on matplotlib Axes, and return them.

Each takes `ax`, one Axes or as many as it has panels, and makes a figure where it is not given. None is shown or saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtri
from scipy.stats import beta

from mixedgen.arrays import Array
from mixedgen.errors import ArgumentError, NotAvailableError, examples, require_probability
from mixedgen.inference.inference import Result
from mixedgen.inference.means import MarginalMeans
from mixedgen.intervals.profile import profile_points
from mixedgen.output.canvas import COLOURS, DASHES, GREY, MAIN, MARKERS, SECOND, panels, tidy_axes
from mixedgen.output.tidy import augment
from mixedgen.prediction.effects import blup
from mixedgen.prediction.records import scaled_residuals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LABELS = 60  # levels whose names can be read one below the other
MAX_PANELS = 40  # groups that can be told apart on a page
CLASSES, CLASS_SIZE = 10, 5  # of fitted values whose mean residuals a line joins, and records in each at least
ROOM = 0.7  # of the distance of two rows, above the first and below the last
DODGE = 0.12  # of the distance of two levels, between series
PROFILE_LEVEL, INTERVAL_LEVELS = 0.99, (0.5, 0.95)


def response_name(fit: Result) -> str:
    """The response as it is written."""
    return ", ".join(fit.fitted.design.parsed.responses)


def chosen_term(fit: Result, term: str | None) -> int:
    """Position of a term; the only one by default."""
    keys = [t.key for t in fit.fitted.design.terms]
    if not keys:
        raise NotAvailableError("the model has no random terms.")
    if term is None and len(keys) > 1:
        raise ArgumentError(f"name one of the terms: {examples(keys)}.")
    return fit.fitted.design.term(term or keys[0])


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
    height = max(2.5, 0.2 * len(first) + 0.9) if len(first) <= MAX_LABELS else 6.0
    out = panels(ax, len(wanted), len(wanted), 3.4, height, sharey=True)
    for panel, (effect, block) in zip(out, blocks.items(), strict=True):
        draw_intervals(panel, block.iloc[order], level)
        tidy_axes(panel, xlabel=f"effect on {response_name(fit)}", title=effect)
    label_levels(out[0], first["level"].iloc[order], t.key)
    return out


def draw_intervals(ax: Axes, block: pd.DataFrame, level: float) -> None:
    """Values with their intervals, one below the other."""
    half = float(ndtri(0.5 + 0.5 * level)) * block["se"].to_numpy()
    many = len(block) > MAX_LABELS
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


def label_levels(ax: Axes, levels: pd.Series, name: str) -> None:
    """Names of the levels beside the first panel, where they can be read."""
    if len(levels) <= MAX_LABELS:
        ax.set_yticks(np.arange(len(levels)), [str(v) for v in levels])
        ax.set_ylabel(name)
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{name}, {len(levels)} levels")


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
    samples = effect_samples(fit)
    out = panels(ax, 4 if samples else 3, 2 if samples else 3, 3.6, 3.2)
    residuals_fitted(fit, ax=out[0])
    scale_location(fit, ax=out[1])
    qq(fit, ax=out[2])
    if samples:
        draw_qq(out[3], samples, "standardised BLUP")
        out[3].set_title("Normal QQ, random effects")
    return out


def record_axes(fit: Result, ax: Any) -> tuple[Axes, Array, Array]:
    """One Axes, the fitted values and the scaled residuals of the records."""
    fitted = fit.fitted
    design, e = fitted.design, fitted.system.solution.e
    values = design.response - e
    return panels(ax, 1, 1, 4.2, 3.4)[0], values, scaled_residuals(fitted)


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
    own, values, scaled = record_axes(fit, ax)
    own.axhline(0.0, color=GREY, linewidth=0.8, linestyle="--")
    draw_cloud(own, values, scaled)
    tidy_axes(own, xlabel=f"fitted {response_name(fit)}", ylabel="scaled residual", title="Residuals and fitted values")
    return own


def scale_location(fit: Result, *, ax: Any = None) -> Axes:
    """Roots of the absolute scaled residuals against fitted values; a trend shows a variance that is not constant.

    Parameters and return as `residuals_fitted`.
    """
    own, values, scaled = record_axes(fit, ax)
    draw_cloud(own, values, np.sqrt(np.abs(scaled)))
    own.set_ylim(bottom=0.0)
    tidy_axes(
        own,
        xlabel=f"fitted {response_name(fit)}",
        ylabel=r"$\sqrt{|\mathrm{scaled\ residual}|}$",
        title="Scale and location",
    )
    return own


def draw_cloud(ax: Axes, x: Array, y: Array) -> None:
    """Points, and a line of their means in classes of x."""
    ax.plot(x, y, "o", color=MAIN, markersize=3, alpha=0.6 if len(x) < 2000 else 0.2, markeredgewidth=0)
    if len(x) >= CLASSES * CLASS_SIZE:
        parts = np.array_split(np.argsort(x, kind="stable"), CLASSES)
        ax.plot([x[p].mean() for p in parts], [y[p].mean() for p in parts], color=SECOND, linewidth=1.5)


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
        draw_qq(own, {"residuals": scaled_residuals(fit.fitted)}, "scaled residual")
        own.set_title("Normal QQ, residuals")
        return own
    key = fit.fitted.design.terms[chosen_term(fit, term)].key
    samples = effect_samples(fit, key)
    if not samples:
        raise NotAvailableError(f"the variances of {key!r} are zero: its effects have no distribution to show.")
    draw_qq(own, samples, "standardised BLUP")
    own.set_title(f"Normal QQ, {key}")
    return own


def effect_samples(fit: Result, term: str | None = None) -> dict[str, Array]:
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


def draw_qq(ax: Axes, samples: dict[str, Array], what: str) -> None:
    """Samples against normal quantiles, the line of the first and its band."""
    first = np.sort(next(iter(samples.values())))
    slope, middle = quartile_line(first)
    band = normal_band(len(first))
    ax.fill_between(normal_scores(len(first)), *(middle + slope * band), color=GREY, alpha=0.2, linewidth=0)
    ends = normal_scores(len(first))[[0, -1]]
    ax.plot(ends, middle + slope * ends, color=GREY, linewidth=1.0, label="_line")
    for (name, values), marker, colour in zip(samples.items(), cycle(MARKERS), cycle(COLOURS), strict=False):
        scores = normal_scores(len(values))
        ax.plot(scores, np.sort(values), marker, color=colour, markersize=3.5, markeredgewidth=0, alpha=0.8, label=name)
    if len(samples) > 1:
        ax.legend(frameon=False, fontsize="small")
    tidy_axes(ax, xlabel="normal quantile", ylabel=what)


def normal_scores(n: int) -> Array:
    """Quantiles of n ordered normal values."""
    return np.asarray(ndtri((np.arange(1, n + 1) - 0.5) / n))


def normal_band(n: int) -> Array:
    """Quantiles of 2.5 and 97.5 % of each of n ordered normal values, shape (2, n)."""
    i = np.arange(1, n + 1)
    return np.stack([ndtri(beta.ppf(p, i, n + 1 - i)) for p in (0.025, 0.975)])


def quartile_line(values: Array) -> tuple[float, float]:
    """Slope and intercept of the line through the quartiles, as R's qqline."""
    low, high = np.quantile(values, [0.25, 0.75])
    slope = (high - low) / (2.0 * float(ndtri(0.75)))
    return slope, 0.5 * (low + high)


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
    records = augment(fit.fitted, fit.variables, data, influence=False)
    if x not in records or not pd.api.types.is_numeric_dtype(records[x]):
        numeric = [str(c) for c in records.select_dtypes("number") if not str(c).startswith(".")]
        raise ArgumentError(f"x must be a numeric variable, not {x!r}; there are {examples(numeric)}. Else give data=.")
    used = records.dropna(subset=[".fitted"])
    labels = pd.Index(t.levels[t.level])
    wanted = checked_levels(t.levels[t.counts > 0], levels, t.key)
    out = panels(ax, len(wanted), columns, 1.7, 1.7, sharex=True, sharey=True)
    y = used[".fitted"] + used[".resid"]
    for panel, level in zip(out, wanted, strict=True):
        draw_line(panel, used[labels == level].assign(y=y[labels == level]), x)
        panel.set_title(str(level), fontsize="small")
    (label_figure if ax is None else label_panels)(out, x, response_name(fit))
    return out


def checked_levels(known: pd.Index, levels: Sequence[Any] | None, name: str) -> list[Any]:
    """Levels that get panels."""
    wanted = list(known if levels is None else levels)
    unknown = [v for v in wanted if v not in known]
    if unknown or not wanted:
        raise ArgumentError(f"{name!r} has no level {examples(unknown)} with records; it has {examples(known)}.")
    if len(wanted) > MAX_PANELS:
        raise ArgumentError(
            f"{len(wanted)} levels of {name!r} are too many panels: name up to {MAX_PANELS} with levels=."
        )
    return wanted


def draw_line(ax: Axes, records: pd.DataFrame, x: str) -> None:
    """Records of one level with both lines."""
    means = records.groupby(x)[[".fitted", ".fixed"]].mean()
    ax.plot(records[x], records["y"], "o", color=GREY, markersize=3, markeredgewidth=0, label="data")
    ax.plot(means.index, means[".fixed"], color=SECOND, linewidth=1.0, linestyle="--", label="fixed part")
    ax.plot(means.index, means[".fitted"], color=MAIN, linewidth=1.5, label="fitted")
    ax.spines[["top", "right"]].set_visible(False)


def label_figure(axes: NDArray[np.object_], xlabel: str, ylabel: str) -> None:
    """One label for all panels of a figure, and one legend, above."""
    figure = axes[0].figure
    figure.supxlabel(xlabel, fontsize="medium")
    figure.supylabel(ylabel, fontsize="medium")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize="small")


def label_panels(axes: NDArray[np.object_], xlabel: str, ylabel: str) -> None:
    """Labels of each panel of a figure that is not ours, and a legend in the first."""
    for ax in axes:
        ax.set(xlabel=xlabel, ylabel=ylabel)
    axes[0].legend(frameon=False, fontsize="small")


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
    table = profile_points(fit.fitted, parameters, PROFILE_LEVEL, points)
    names = list(dict.fromkeys(table["parameter"]))
    out = panels(ax, len(names), 3, 3.0, 2.7, sharey=True)
    for k, (panel, name) in enumerate(zip(out, names, strict=True)):
        draw_profile(panel, table[table["parameter"] == name])
        tidy_axes(panel, xlabel=name, ylabel=r"profile $\zeta$" if ax is not None or k % 3 == 0 else "")
    return out


def draw_profile(ax: Axes, curve: pd.DataFrame) -> None:
    """Points of one profile, the curve through them, and intervals."""
    zeta, value = curve["zeta"].to_numpy(), curve["value"].to_numpy()
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    rising = np.flatnonzero(np.diff(zeta, prepend=-np.inf) > 0)
    if len(rising) > 1:
        inverse = PchipInterpolator(zeta[rising], value[rising])
        fine = np.linspace(zeta[rising[0]], zeta[rising[-1]], 200)
        ax.plot(inverse(fine), fine, color=MAIN, linewidth=1.5, label="curve")
        for level, dash in zip(INTERVAL_LEVELS, (":", "--"), strict=True):
            draw_ends(ax, inverse, fine, float(ndtri(0.5 + 0.5 * level)), dash, f"{100 * level:g} %")
    ax.plot(value, zeta, "o", color=MAIN, markersize=3, label="points")


def draw_ends(ax: Axes, inverse: Any, zeta: Array, z: float, dash: str, label: str) -> None:
    """Vertical lines from zero to the curve at the ends of an interval that the profile reaches."""
    ends = [side for side in (-z, z) if zeta[0] <= side <= zeta[-1]]
    ax.vlines(inverse(ends), 0.0, ends, color=SECOND, linewidth=1.2, linestyle=dash, label=label)


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
    blocks = blocks_of(table, by)
    out = panels(ax, len(blocks), 3, 3.6, 3.2, sharey=True)
    response = ", ".join(table.basis.inference.fitted.design.parsed.responses)
    for k, (panel, (label, block)) in enumerate(zip(out, blocks.items(), strict=True)):
        draw_means(panel, block, specs)
        ylabel = f"marginal mean of {response}" if ax is not None or k % 3 == 0 else ""
        tidy_axes(panel, xlabel=specs[0], ylabel=ylabel, title=label)
    return out


def blocks_of(table: pd.DataFrame, by: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Rows of each combination of the levels of some variables, by a label; one block without them."""
    if not by:
        return {"": pd.DataFrame(table)}
    groups = pd.DataFrame(table).groupby(list(by), sort=False, observed=True)
    return {", ".join(f"{n} {v}" for n, v in zip(by, key, strict=True)): block for key, block in groups}


def draw_means(ax: Axes, block: pd.DataFrame, specs: Sequence[str]) -> None:
    """Means of one panel: along a number lines with bands, at levels points with bars, series beside each other."""
    series = blocks_of(block, specs[1:])
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
        at = np.array([places.index(v) for v in part[specs[0]]]) + DODGE * (k - 0.5 * (len(series) - 1))
        half = np.stack([part["emmean"] - part["lower"], part["upper"] - part["emmean"]])
        line = dash if len(series) > 1 else "none"
        ax.errorbar(at, part["emmean"], yerr=half, linestyle=line, elinewidth=1.2, capsize=3, **style)
    if not numeric:
        ax.set_xticks(range(len(places)), [str(v) for v in places])
        ax.set_xlim(-0.5, len(places) - 0.5)
    if len(series) > 1:
        ax.legend(frameon=False, fontsize="small")


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
