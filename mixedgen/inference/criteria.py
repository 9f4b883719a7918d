"""Information criteria."""

from __future__ import annotations

import numpy as np

from mixedgen.errors import NotAvailableError
from mixedgen.estimation.fitted import Fitted


def n_parameters(fitted: Fitted) -> int:
    """Number of parameters as lme4 counts them: fixed effects, variance parameters, residual variance."""
    return fitted.design.fixed.p + len(fitted.theta)


def aic(fitted: Fitted) -> float:
    """Akaike's criterion, from the restricted likelihood under REML, as lme4 has it."""
    return fitted.deviance + 2.0 * n_parameters(fitted)


def bic(fitted: Fitted) -> float:
    """Schwarz's criterion with the number of records, as lme4 has it."""
    return fitted.deviance + n_parameters(fitted) * float(np.log(fitted.design.n))


def criterion(fitted: Fitted, method: str) -> float:
    """Minus twice the log-likelihood of one method.

    Raises
    ------
    NotAvailableError
        If the model was fitted by the other.
    """
    if fitted.method != method:
        other = "reml_criterion" if fitted.method == "reml" else "deviance"
        raise NotAvailableError(
            f"the model was fitted by {fitted.method.upper()}: its criterion is `{other}`. "
            f"Fit with method={method!r} for this one."
        )
    return fitted.deviance
