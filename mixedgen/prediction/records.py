"""Fitted values and residuals of the records."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedgen.arrays import Array
from mixedgen.estimation.fitted import Fitted


def on_data(fitted: Fitted, values: Array, name: str) -> pd.Series | pd.DataFrame:
    """Values of the records on the index of the data; rows left out are absent, or NaN where they are excluded.

    Several traits give a frame with a column each.
    """
    design = fitted.design
    if design.traits is not None:
        every = design.traits.wide(values, design.kept, len(design.index))
        frame = pd.DataFrame(every, index=design.index, columns=list(design.traits.names))
        return frame if design.na_action == "exclude" else frame.iloc[design.kept]
    series = pd.Series(values, index=design.index[design.kept], name=name)
    if design.na_action == "omit":
        return series
    full = np.full(len(design.index), np.nan)
    full[design.kept] = values
    return pd.Series(full, index=design.index, name=name)


def residuals(fitted: Fitted) -> pd.Series | pd.DataFrame:
    """Conditional residuals y - Xb - Zu."""
    return on_data(fitted, fitted.system.solution.e, "resid")


def fitted_values(fitted: Fitted) -> pd.Series | pd.DataFrame:
    """Conditional fitted values Xb + Zu, and the offset."""
    design = fitted.design
    return on_data(fitted, design.response - fitted.system.solution.e, "fitted")


def scaled_residuals(fitted: Fitted) -> Array:
    """Residuals divided by the residual standard deviation of their record, shape (n,)."""
    r = fitted.design.residual.variances(fitted.theta_R)
    return fitted.system.solution.e / np.sqrt(r)
