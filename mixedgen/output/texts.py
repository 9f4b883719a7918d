"""Numbers and p-values as all tables write them."""

from __future__ import annotations

import numpy as np
import pandas as pd


def decimal_text(value: float, places: int) -> str:
    """A number with so many decimals; a dash where it is not defined."""
    return "–" if np.isnan(value) else f"{value:.{places}f}"


def significant_text(value: float) -> str:
    """A number with six significant digits at most, missing as nothing."""
    return "" if pd.isna(value) else f"{value:.6g}"


def p_text(p: float, decimals: int | None = None) -> str:
    """A p-value with three significant digits, or with so many decimals; missing as nothing."""
    least = 2e-16 if decimals is None else 10.0**-decimals
    if np.isnan(p):
        return ""
    if p < least:
        return f"<{least:.{decimals}f}" if decimals else f"<{least:g}"
    return f"{p:.3g}" if decimals is None else f"{p:.{decimals}f}"
