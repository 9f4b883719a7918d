"""Fitted values and residuals of the records."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedgen.arrays import Array
from mixedgen.estimation.fitted import Fitted


def residuals(fitted: Fitted) -> pd.Series | pd.DataFrame:
    """Conditional residuals y - Xb - Zu."""
    return fitted.design.records.on_data(fitted.system.solution.e, "resid")


def fitted_values(fitted: Fitted) -> pd.Series | pd.DataFrame:
    """Conditional fitted values Xb + Zu, and the offset."""
    design = fitted.design
    return design.records.on_data(design.response - fitted.system.solution.e, "fitted")


def scaled_residuals(fitted: Fitted) -> Array:
    """Residuals divided by the residual standard deviation of their record, shape (n,)."""
    r = fitted.design.residual.variances(fitted.theta_R)
    return fitted.system.solution.e / np.sqrt(r)
