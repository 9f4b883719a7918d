"""Estimates of the fixed effects and their covariance matrix."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedgen.errors import ArgumentError, NotAvailableError
from mixedgen.estimation.fitted import Fitted


def coefficient_names(fitted: Fitted) -> pd.Index:
    """Names of the fixed effects, without the aliased ones."""
    return pd.Index(fitted.design.fixed.names)


def estimates(fitted: Fitted) -> pd.Series:
    """BLUE of the fixed effects."""
    return pd.Series(fitted.system.solution.b, index=coefficient_names(fitted), name="estimate")


def standard_errors(fitted: Fitted) -> pd.Series:
    """Standard errors of the BLUE at the variance parameters."""
    return pd.Series(np.sqrt(fitted.system.fixed_variances()), index=coefficient_names(fitted), name="se")


def covariance(fitted: Fitted) -> pd.DataFrame:
    """Covariance matrix of the BLUE, (X'V^-1 X)^-1."""
    names = coefficient_names(fitted)
    return pd.DataFrame(fitted.system.fixed_covariance(), index=names, columns=names)


def joint_covariance(fitted: Fitted) -> pd.DataFrame:
    """Covariance matrix of (b_hat, u_hat - u); random effects are labelled (term, level, effect).

    Raises
    ------
    NotAvailableError
        If the matrix would take more than 2 GB.
    """
    design = fitted.design
    labels: list[object] = list(design.fixed.names)
    size = design.fixed.p + sum(t.q * t.c for t in design.terms)
    if 8 * size**2 > 2**31:
        raise NotAvailableError(
            f"the joint covariance of {size} effects would take {8 * size**2 / 1e9:.0f} GB; "
            "blup(term) gives each effect's own variance."
        )
    for t in design.terms:
        labels += [(t.key, level, effect) for effect in t.effects for level in t.levels]
    index = pd.Index(labels, tupleize_cols=False)
    return pd.DataFrame(fitted.system.joint_covariance(), index=index, columns=index)


def estimable(fitted: Fitted, L: np.ndarray) -> np.ndarray:
    """Whether each row of L, over all columns of X as coded, is an estimable function.

    Raises
    ------
    ArgumentError
        If L has another number of columns than X.
    """
    fixed = fitted.design.fixed
    L = np.atleast_2d(np.asarray(L, dtype=float))
    if L.shape[1] != len(fixed.all_names):
        raise ArgumentError(f"L has {L.shape[1]} columns; X has {len(fixed.all_names)}.")
    return fixed.estimable(L)
