"""Panels, axes and colours that all plots share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixedgen.errors import ArgumentError, require_package
from mixedgen.inference.inference import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart by the colour-blind; markers and dashes tell them apart in black and white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

DASHES = ("-", "--", "-.", ":")

MAIN, SECOND, GREY = COLOURS[0], COLOURS[1], "#777777"

ROOM = 0.7  # of the distance of two rows, above the first and below the last

_MAX_HEIGHT = 11.0  # inches of a page


def panels(ax: Any, count: int, columns: int, width: float, height: float, **options: Any) -> NDArray[np.object_]:
    """So many Axes: those given, or those of a new figure whose panels have this size in inches."""
    if ax is not None:
        given = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(given) != count:
            raise ArgumentError(f"ax must be {count} Axes, one for each panel, not {len(given)}.")
        return given
    plt = require_package("matplotlib.pyplot", "a plot", "mixedgen[plot]")
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    size = (width * columns, min(height * rows, _MAX_HEIGHT))
    _, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **options)
    every = grid.ravel()
    for k, unused in enumerate(every[count:], start=count):
        unused.set_visible(False)
        every[k - columns].tick_params(labelbottom=True)
    return np.asarray(every[:count])


def tidy_axes(ax: Axes, *, xlabel: str = "", ylabel: str = "", title: str = "") -> None:
    """Labels, and no frame above and on the right."""
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.spines[["top", "right"]].set_visible(False)


def response_name(fit: Result) -> str:
    """The response as it is written."""
    return ", ".join(fit.fitted.design.parsed.responses)
