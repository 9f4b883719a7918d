"""Intervals of variance parameters and fixed effects by one of the methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mixedgen.errors import ArgumentError
from mixedgen.estimation.fitted import Fitted
from mixedgen.intervals.bootstrap import percentile
from mixedgen.intervals.profile import profile


def confint(
    fitted: Fitted, parameters: str | Sequence[str] | None, method: str, level: float, options: Mapping[str, Any]
) -> pd.DataFrame:
    """Intervals ``estimate lower upper`` from the profile likelihood, or from the bootstrap with its options.

    Raises
    ------
    ArgumentError
        If there is no such method, or options are given to one that has none.
    """
    if method == "bootstrap":
        return percentile(fitted, parameters, level, **options)
    if method != "profile":
        raise ArgumentError(f'method must be "profile" or "bootstrap", not {method!r}; Wald intervals: conf_int().')
    if options:
        raise ArgumentError(f"{', '.join(options)}: only for method='bootstrap'.")
    return profile(fitted, parameters, level)
