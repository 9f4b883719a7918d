"""Likelihood-ratio tests between fits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.special import chdtrc

from mixedgen.arrays import Array
from mixedgen.design.fixed import FixedPart
from mixedgen.errors import ArgumentError, outside
from mixedgen.estimation.estimate import fit
from mixedgen.estimation.fitted import Fitted
from mixedgen.inference.criteria import aic, bic, n_parameters


def likelihood_ratio_table(fits: Sequence[Fitted], refit: bool | None = None) -> pd.DataFrame:
    """Likelihood-ratio tests of models of the same data, the smallest first.

    Parameters
    ----------
    fits : sequence of Fitted
        At least two.
    refit : bool, optional
        Whether REML fits are refitted by maximum likelihood first. By default they are, with a warning that says so;
        ``True`` does it silently, ``False`` compares the criteria as they are, which REML allows where the fixed parts
        are the same.

    Returns
    -------
    DataFrame
        By formula, columns ``npar aic bic loglik deviance chisq df p``.

    Raises
    ------
    ArgumentError
        If the data differ, or restricted likelihoods of different fixed parts would be compared.

    Warns
    -----
    UserWarning
        If models were refitted and nobody asked for it.
    """
    _require_same_data(fits)
    reml = [f for f in fits if f.reml]
    if refit is False:
        _require_comparable(fits)
    elif reml:
        if refit is None:
            warnings.warn(
                f"{len(reml)} models were refitted with ML instead of REML; anova(..., refit=True) does so silently, "
                "refit=False compares restricted likelihoods.",
                UserWarning,
                stacklevel=outside(),
            )
        fits = [fit(f.design, f.engine, "ml", f.control) if f.reml else f for f in fits]
    return _likelihood_ratios(sorted(fits, key=n_parameters))


def _likelihood_ratios(fits: Sequence[Fitted]) -> pd.DataFrame:
    """Each model against the one before it."""
    npar = np.array([n_parameters(f) for f in fits])
    deviance = np.array([f.deviance for f in fits])
    df = np.diff(npar, prepend=np.nan)
    chisq = np.where(np.isnan(df), np.nan, np.maximum(-np.diff(deviance, prepend=np.nan), 0.0))
    table = {
        "npar": npar,
        "aic": [aic(f) for f in fits],
        "bic": [bic(f) for f in fits],
        "loglik": -0.5 * deviance,
        "deviance": deviance,
        "chisq": chisq,
        "df": df,
        "p": _chi_squared_tail(chisq, df),
    }
    return pd.DataFrame(table, index=pd.Index(_model_labels(fits), name="model"))


def _model_labels(fits: Sequence[Fitted]) -> list[str]:
    """Formulas, with what is known of the variance parameters where formulas are the same."""
    labels = [f.design.parsed.source for f in fits]
    twice = {label for label in labels if labels.count(label) > 1}
    return [label + _known_parameters(f) if label in twice else label for label, f in zip(labels, fits, strict=True)]


def _known_parameters(fitted: Fitted) -> str:
    """Parameters that were fixed or equated, in brackets."""
    known = fitted.control.restrictions
    parts = [f"{name} = {value:g}" for name, value in known.fix.items()] + [" = ".join(g) for g in known.equate]
    return f" [{', '.join(parts)}]" if parts else ""


def _chi_squared_tail(x: Array, df: Array) -> Array:
    """P-values of chi-squared statistics, missing for no degrees of freedom."""
    return np.where(df > 0, chdtrc(np.where(df > 0, df, 1.0), x), np.nan)


def _require_same_data(fits: Sequence[Fitted]) -> None:
    """Raise an ArgumentError unless all models are of the same records and response."""
    if len(fits) < 2:
        raise ArgumentError("a comparison needs two models at least.")
    responses = [f.design.response for f in fits]
    for f, y in zip(fits, responses, strict=True):
        if len(y) != len(responses[0]):
            raise ArgumentError(
                f"the models use {len(responses[0])} and {len(y)} records: drop the rows with missing values first, "
                "or take the same subset."
            )
        if not np.array_equal(y, responses[0]):
            raise ArgumentError(f"the response of {f.design.parsed.source!r} is another than that of the first model.")


def _require_comparable(fits: Sequence[Fitted]) -> None:
    """Raise an ArgumentError unless the criteria can be compared without a refit."""
    if len({f.method for f in fits}) > 1:
        raise ArgumentError("some models are fitted by REML and some by ML: use refit=True.")
    if fits[0].reml and any(not _same_fixed_part(fits[0].design.fixed, f.design.fixed) for f in fits):
        raise ArgumentError(
            "restricted likelihoods of different fixed parts cannot be compared: use refit=True, which takes ML."
        )


def _same_fixed_part(a: FixedPart, b: FixedPart) -> bool:
    """Whether two fixed parts are the same columns."""
    if a.names != b.names or a.X.shape != b.X.shape:
        return False
    difference = (
        abs(sp.csr_array(a.X) - sp.csr_array(b.X)) if sp.issparse(a.X) or sp.issparse(b.X) else np.abs(a.X - b.X)
    )
    return float(difference.max()) == 0.0 if a.X.shape[1] else True
