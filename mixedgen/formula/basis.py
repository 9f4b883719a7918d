"""Bases of random regression, for the left of a bar and for the fixed part."""

# mypy: disable-error-code="untyped-decorator,import-untyped"

from __future__ import annotations

from typing import Any

import numpy as np
from formulaic.transforms import stateful_transform
from numpy.polynomial import legendre

from mixedgen.errors import FormulaError


@stateful_transform
def leg(values: Any, degree: int, *, low: float | None = None, high: float | None = None, _state: Any = None) -> Any:
    """Normalised Legendre polynomials of degrees 0 to `degree`: they take the place of the intercept.

    Parameters
    ----------
    values : array_like, shape (n,)
        Covariate, such as age or days in milk.
    degree : int
        Highest degree.
    low, high : float, optional
        Values at which the standardised covariate is -1 and 1: by default the smallest and the largest of the data,
        kept for new data.

    Returns
    -------
    dict of int to ndarray
        Column k is sqrt((2 k + 1) / 2) P_k(t), with t the standardised covariate [1]_.

    Raises
    ------
    FormulaError
        If the degree is no whole number, or the covariate does not vary.

    References
    ----------
    .. [1] Kirkpatrick, Lofsvold & Bulmer (1990) Genetics 124:979.

    Examples
    --------
    >>> {k: v.round(3).tolist() for k, v in leg([1.0, 2.0, 3.0], 1).items()}
    {0: [0.707, 0.707, 0.707], 1: [-1.225, 0.0, 1.225]}
    """
    x = np.asarray(values, dtype=float)
    if isinstance(degree, bool) or not isinstance(degree, int) or degree < 0:
        raise FormulaError(f"leg(..., {degree!r}): the degree must be a whole number from 0.")
    state = {} if _state is None else _state
    if "low" not in state:
        state["low"] = float(np.min(x)) if low is None else float(low)
        state["high"] = float(np.max(x)) if high is None else float(high)
    width = state["high"] - state["low"]
    if not width > 0:
        raise FormulaError("leg(...): the covariate does not vary.")
    t = 2.0 * (x - state["low"]) / width - 1.0
    V = legendre.legvander(t, degree) * np.sqrt((2.0 * np.arange(degree + 1) + 1.0) / 2.0)
    return {k: V[:, k] for k in range(degree + 1)}


BASES = {"leg": leg}
