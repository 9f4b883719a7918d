"""The same model on other responses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.engines.system import Engine
from mixedgen.errors import DataError, examples
from mixedgen.estimation.estimate import fit
from mixedgen.estimation.fitted import Fitted
from mixedgen.estimation.start import data_start, default_start

_FAR = 30.0  # a response whose variance differs by more than this from that of the fit starts afresh


def refit(fitted: Fitted, y: ArrayLike | pd.Series) -> Fitted:
    """The same model fitted to another response.

    Parameters
    ----------
    fitted : Fitted
        The model.
    y : array_like, shape (n,)
        Responses of the records used, in their order, on the scale of the left of the formula (a column of `simulate`);
        or of all rows of the data. A series must have the labels of either.

    Returns
    -------
    Fitted
        Estimates by the same method and engine; where the variances were given, they stay.

    Raises
    ------
    DataError
        If y has another length or other labels, or values are missing.
    DesignError
        If the fixed effects fit y exactly.

    Warns
    -----
    ConvergenceWarning
        If the certificate says "not converged".

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    >>> refit(fit.fitted, 2 * mg.data.dyestuff()["Yield"]).theta.round(1).tolist()
    [7056.2, 9805.0]
    """
    return refit_design(fitted, with_response(fitted.design, y))


def refit_design(fitted: Fitted, design: Design) -> Fitted:
    """A design with the parameters of a fit, estimated by the same method and engine from the variances of the fit.

    Variances that were given stay. Raises and warns as `refit`.
    """
    if not fitted.outcome.estimated:
        return fitted.carried_to(design)
    engine = fitted.engine.anew(design)
    first = _starts(fitted, engine) if fitted.estimator.resumes else ()
    return fit(design, engine, fitted.method, fitted.control, starts=first)


def _starts(fitted: Fitted, engine: Engine) -> list[Array]:
    """The old variances first, unless the new response is on quite another scale."""
    fresh = [data_start(engine.design, engine), default_start(engine.design, engine)]
    ratio = engine.scales.spread / fitted.engine.scales.spread
    return [fitted.theta, *fresh] if 1.0 / _FAR < ratio < _FAR else fresh


def with_response(design: Design, y: ArrayLike | pd.Series) -> Design:
    """The design with another response."""
    return design.with_response(_record_values(design, y))


def _record_values(design: Design, y: Any) -> Array:
    """Values of the records used, shape (n,), checked."""
    values = np.asarray(y, dtype=float)
    index = design.records.labels
    if values.shape == index.shape:
        labels = index
    elif not design.records.several and values.shape == design.index.shape:
        labels, values = design.index, values[design.kept]
    else:
        raise DataError(f"y has shape {values.shape}; the model has {design.n} records: give one value for each.")
    if isinstance(y, pd.Series) and not y.index.equals(labels):
        raise DataError("y has other labels than the records of the model: give it in their order, on their index.")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(f"y is missing or infinite in {len(bad)} records: {examples(list(index[bad]))}.")
    return values
