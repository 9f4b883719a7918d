"""Plots of fitted models: functions that draw on matplotlib Axes, and return them.

Each takes `ax`, one Axes or as many as it has panels, and makes a figure where it is not given. None is shown or saved.
"""

from mixedgen.output.plots.assumptions import qq, residuals, residuals_fitted, scale_location
from mixedgen.output.plots.estimates import contrasts, means, profile
from mixedgen.output.plots.levels import caterpillar, fitted_lines

__all__ = [
    "caterpillar",
    "contrasts",
    "fitted_lines",
    "means",
    "profile",
    "qq",
    "residuals",
    "residuals_fitted",
    "scale_location",
]
