"""Residual variances of new records: of their class or covariate, by their weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mixedgen.arrays import Array
from mixedgen.design.build import WEIGHTS
from mixedgen.design.design import Design
from mixedgen.design.frame import numeric, positive, recode, require_columns
from mixedgen.design.residual import residual_columns, residual_of
from mixedgen.errors import DataError, DesignError, NotAvailableError, examples
from mixedgen.estimation.fitted import Fitted
from mixedgen.residual.residual import Residual


def residual_needs(design: Design) -> list[str]:
    """Columns that the residual variance of a new record depends on."""
    return [*residual_columns(design.residual_parts), *design.weights]


def require_residual(design: Design, frame: pd.DataFrame) -> None:
    """Raise unless new data can tell the residual variance.

    Raises
    ------
    NotAvailableError
        If the covariance matrix of the residuals was given.
    DataError
        If columns are lacking.
    """
    if design.residual.pairs is not None and not design.residual_parts:
        raise NotAvailableError(
            "the covariance matrix of the residuals was given, which new data do not continue: take "
            "interval='confidence', and add the variance."
        )
    if WEIGHTS in design.weights and WEIGHTS not in frame.columns:
        raise DataError(
            f"the weights of the fit were given as values: put those of the new records into a column {WEIGHTS!r}."
        )
    require_columns(frame, residual_needs(design), "weights and residual of new records")


def new_residual_variances(fitted: Fitted, frame: pd.DataFrame) -> Array:
    """Residual variance of each row of new data without missing values, shape (m,).

    Raises
    ------
    NotAvailableError
        If the residual of a row is correlated with those of the fit, which tell something of it.
    DataError
        If a weight is not positive, or a class or position was not in the fit.

    Notes
    -----
    The residual is read once more on the records of the fit and the new ones below each other: so for any kind.
    """
    design = fitted.design
    needed = residual_needs(design)
    inverse_weights = None
    if design.weights:
        w = positive(numeric(frame[design.weights[0]], "weights", frame.index))
        inverse_weights = np.concatenate([np.ones(len(design.frame)), 1.0 / w])
    every = _below_each_other(design.frame, frame, needed)
    try:
        residual = residual_of(design.residual_parts, every, inverse_weights)
    except DesignError as err:
        raise NotAvailableError(f"the new records have no residual beside those of the fit: {err}") from err
    _require_apart(design, residual, frame)
    return design.residual.on_records_of(residual).variances(fitted.theta_R)[len(design.frame) :]


def _require_apart(design: Design, residual: Residual, frame: pd.DataFrame) -> None:
    """Raise an error for new records at positions of their own, or correlated with records of the fit."""
    added = [c for c in residual.classes if c not in design.residual.classes]
    if added:
        raise DataError(f"new records stand at residual positions that the fit did not have: {examples(added)}.")
    first, second = residual.pairs or (np.zeros(0, dtype=np.intp),) * 2
    n = len(design.frame)
    linked = np.unique(first[(first >= n) & (second < n)]) - n
    if len(linked):
        raise NotAvailableError(
            f"the residuals of {len(linked)} new records are correlated with those of the fit: rows "
            f"{examples(list(frame.index[linked]))}. Take interval='confidence', and add the variance."
        )


def _below_each_other(old: pd.DataFrame, new: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Columns of the records of the fit and of new ones, whose levels are those of the fit."""
    columns = {}
    for name in names:
        mine, theirs = old[name], new[name]
        if not pd.api.types.is_numeric_dtype(mine) or pd.api.types.is_bool_dtype(mine):
            known = mine.astype(object).unique()
            unknown = sorted(set(theirs.astype(object)) - set(known), key=str)
            if unknown:
                raise DataError(
                    f"{name!r} has {len(unknown)} levels that the fit did not have: {examples(unknown)}; nothing is "
                    "known of their residual variance.",
                    columns=[name],
                    levels=unknown,
                )
            theirs = pd.Series(theirs.astype(object).tolist(), dtype=mine.dtype)
        columns[name] = pd.concat([mine, theirs], ignore_index=True)
    return recode(pd.DataFrame(columns, index=range(len(old) + len(new))))
