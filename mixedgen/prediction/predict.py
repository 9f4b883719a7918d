"""Predictions for the records of a fit and for new ones, with the variance of their error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.special import ndtri

from mixedgen.arrays import Array, IntArray
from mixedgen.design.design import Design
from mixedgen.design.frame import read_frame, recode
from mixedgen.design.unknown import blank_unknown, parent_columns
from mixedgen.errors import ArgumentError, NotAvailableError, examples
from mixedgen.estimation.fitted import Fitted
from mixedgen.prediction.new_residuals import new_residual_variances
from mixedgen.prediction.new_rows import NewLevels, Rows, complete_frame, new_rows, own_rows
from mixedgen.prediction.records import fitted_values
from mixedgen.relationship.relationship import Relationship

Interval = Literal["confidence", "prediction"]

_PREDICTIONS_AT_ONCE = 256  # predictions whose variance is solved for at once
_ELEMENTS = 2**24  # numbers in one block of them: records and levels x predictions


def predict(
    fitted: Fitted,
    data: Any = None,
    *,
    re_form: str | Sequence[str] | None = "all",
    new_levels: NewLevels = "error",
    relationships: Mapping[str, Relationship] | None = None,
    interval: Interval | None = None,
    level: float = 0.95,
) -> pd.Series | pd.DataFrame:
    """Predictions x'b + z'u for the records of the fit, or for new data.

    Parameters
    ----------
    fitted : Fitted
        The model.
    data : DataFrame, polars or arrow table, mapping of columns, or path, optional
        New data; by default the records of the fit.
    re_form : {"all", "none"}, sequence of str, or None
        Random terms that the prediction holds.
    new_levels : {"error", "population"}
        Levels that the fit did not have, or missing ones: an error (a missing prediction), or an effect of zero with
        the variance of an unrelated level.
    relationships : mapping of str to Relationship, optional
        By the name in the formula: a relationship of the levels of the fit and new ones, on the same scale, through
        which the new ones are predicted. New pairs of two related factors are predicted through both relationships,
        those of the fit where none is given.
    interval : {"confidence", "prediction"}, optional
        Interval of the mean x'b + z'u, or of a new record: that adds its residual, by its weight and class, and the
        terms left out, at new unrelated levels.
    level : float
        Of the interval.

    Returns
    -------
    Series or DataFrame
        Predictions; with `interval` a frame ``mean se lower upper``, by the normal distribution. Rows of new data with
        a missing value are missing, but for missing levels of the population.

    Raises
    ------
    DataError
        If columns are lacking, or factors have levels that the fit did not have.
    NotAvailableError
        If the fit does not hold what new data would need: several traits, unknown-parent groups, effects of a stateful
        transform, residuals that are correlated with those of the fit.
    ArgumentError, RelationshipError
        If an option is unknown, or a relationship does not fit that of the model.

    Warns
    -----
    UserWarning
        If rows are not estimable, for want of a cell in the data of the fit; they are missing.

    Notes
    -----
    With d = Z G z and w = V^-1 X (X'V^-1 X)^-1 x, Var(x'b_hat + z'u_hat - x'b - z'u) =
    x'(X'V^-1 X)^-1 x - 2 w'd + z'G z - d'P d: exact at given variances, and no matrix of all effects is formed. That
    the variances are estimated is not counted.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())
    >>> new = {"Days": [10, 10], "Subject": ["308", "370"]}
    >>> predict(fit.fitted, new, interval="confidence").round(1)
        mean    se  lower  upper
    0  450.3  15.9  419.3  481.4
    1  378.7  15.9  347.6  409.8
    """
    _check_options(fitted, data, new_levels, relationships, interval, level)
    design = fitted.design
    chosen = _chosen_terms(design, re_form)
    if data is None and interval is None and len(chosen) == len(design.terms):
        return _shaped({"mean": fitted_values(fitted)})
    if data is None:
        rows = own_rows(fitted, chosen, interval)
        added = fitted.design.residual.variances(fitted.theta_R) if interval == "prediction" else 0.0
        table = _prediction_table(fitted, rows, interval, level, added)
        return _shaped({name: design.records.on_data(values, name) for name, values in table.items()})
    related = {str(t.written.factors[-1].link): t.relationship for t in design.terms if t.relationship is not None}
    frame = blank_unknown(read_frame(data), parent_columns(design.parsed), related)
    complete, index = complete_frame(design, frame, chosen, interval, new_levels)
    table = {name: np.zeros(0) for name in (("mean", "se", "lower", "upper") if interval else ("mean",))}
    if len(complete):
        new = recode(frame.iloc[complete])
        rows = new_rows(fitted, new, chosen, new_levels, relationships or {}, interval)
        added = new_residual_variances(fitted, new) if interval == "prediction" else 0.0
        table = _prediction_table(fitted, rows, interval, level, added)
    return _shaped({name: _padded(values, complete, index) for name, values in table.items()})


def _check_options(
    fitted: Fitted,
    data: Any,
    new_levels: str,
    relationships: Mapping[str, Relationship] | None,
    interval: str | None,
    level: float,
) -> None:
    """Raise an error for options that do not exist, or that this model has no answer for."""
    if new_levels not in ("error", "population"):
        raise ArgumentError(f"new_levels must be 'error' or 'population', not {new_levels!r}.")
    if interval not in (None, "confidence", "prediction"):
        raise ArgumentError(f"interval must be 'confidence' or 'prediction', not {interval!r}.")
    if not 0.0 < level < 1.0:
        raise ArgumentError(f"level must be between 0 and 1, not {level!r}.")
    links = {f.link for t in fitted.design.terms for f in t.written.factors}
    unknown = [name for name in relationships or {} if name not in links]
    if unknown:
        raise ArgumentError(f"relationships names {examples(unknown)}, which no term of the formula uses.")
    if fitted.design.records.several and (data is not None or interval is not None):
        raise NotAvailableError(
            "predictions for new data and intervals are not available for cbind(...): fit the long form, with a column "
            "of traits."
        )


def _chosen_terms(design: Design, re_form: str | Sequence[str] | None) -> tuple[int, ...]:
    """Positions of the terms that the prediction holds."""
    if re_form is None:  # as in lme4
        return tuple(range(len(design.terms)))
    if isinstance(re_form, str) and re_form.replace(" ", "") in ("all", "none", "~0"):
        return tuple(range(len(design.terms))) if re_form == "all" else ()
    names = [re_form] if isinstance(re_form, str) else list(re_form)
    return tuple(sorted({design.term(name) for name in names}))


def _shaped(columns: Mapping[str, Any]) -> pd.Series | pd.DataFrame:
    """The mean alone as a series without a name; several columns as a frame; those of traits as they are."""
    if len(columns) > 1:
        return pd.DataFrame(dict(columns))
    mean = columns["mean"]
    return mean.rename(None) if mean.ndim == 1 else mean


def _padded(values: Array, complete: IntArray, index: pd.Index) -> pd.Series:
    """Values of the complete rows on the index of all."""
    out = np.full(len(index), np.nan)
    out[complete] = values
    return pd.Series(out, index=index)


def _prediction_table(
    fitted: Fitted, rows: Rows, interval: str | None, level: float, residual: Array | float
) -> dict[str, Array]:
    """Columns of the result: ``mean``, and with an interval ``se lower upper``."""
    mean = np.asarray(rows.X @ fitted.system.solution.b) + (0.0 if rows.offset is None else rows.offset)
    for e in rows.effects:
        mean = mean + e.term.Z @ e.values(fitted.system.Py).T.ravel()
    mean = np.where(rows.estimable, mean, np.nan)
    if interval is None:
        return {"mean": mean}
    variance = np.concatenate([_prediction_variance(fitted, rows, block) for block in _blocks(fitted, rows)]) + residual
    se = np.where(rows.estimable, np.sqrt(np.maximum(variance, 0.0)), np.nan)
    half = ndtri(0.5 + level / 2.0) * se
    return {"mean": mean, "se": se, "lower": mean - half, "upper": mean + half}


def _blocks(fitted: Fitted, rows: Rows) -> Iterator[slice]:
    """Predictions in blocks that fit into memory."""
    size = fitted.design.n + sum(e.term.q * e.term.c for e in (*rows.effects, *rows.others))
    width = int(np.clip(_ELEMENTS // size, 1, _PREDICTIONS_AT_ONCE))
    yield from (slice(start, start + width) for start in range(0, rows.X.shape[0], width))


def _prediction_variance(fitted: Fitted, rows: Rows, block: slice) -> Array:
    """Var(x'b_hat + z'u_hat - x'b - z'u) of some rows, and the variance of the terms left out, shape (m,)."""
    part = rows.X[block]
    X = part.toarray() if sp.issparse(part) else np.asarray(part)
    d = np.zeros((fitted.design.n, len(X)))
    variance = np.zeros(len(X))
    for e in rows.effects:
        Gz, own = e.moved(block)
        d += e.on_records(Gz)
        variance += own
    variance -= np.einsum("nm,nm->m", d, fitted.system.project(d))
    for e in rows.others:
        variance += e.moved(block)[1]
    if not X.shape[1]:
        return variance
    w = fitted.system.blue_weights(X)
    blue = np.einsum("mi,ij,mj->m", X, fitted.system.fixed_covariance(), X, optimize=True)
    return variance + blue - 2.0 * np.einsum("nm,nm->m", w, d)
