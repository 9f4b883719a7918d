"""Random regressions seen along their covariate: values of levels, variances, correlations and their shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from mixedgen.arrays import Array
from mixedgen.design.frame import read_frame, require_columns
from mixedgen.design.terms import Term
from mixedgen.errors import ArgumentError, NotAvailableError, examples
from mixedgen.estimation.fitted import Fitted
from mixedgen.estimation.variances import delta_errors
from mixedgen.prediction.effects import effects_frame
from mixedgen.prediction.new_rows import coded_effects

Total = Literal["mean", "sum"]


def trajectory(fitted: Fitted, term: str, at: Any, total: Total | None = None) -> pd.DataFrame:
    """BLUP of a random regression at values of its covariates.

    Parameters
    ----------
    fitted : Fitted
        The model.
    term : str
        Name of the term.
    at : DataFrame or mapping of columns
        Points, a row for each: values of the variables left of the bar.
    total : {"mean", "sum"}, optional
        The mean or sum over all points instead, such as the yield of a lactation from its days.

    Returns
    -------
    DataFrame
        Columns ``level``, the variables (or ``points``, their number, for a total), ``value se pev reliability
        accuracy``.

    Raises
    ------
    ArgumentError
        If there is no such term, or `total` is unknown.
    NotAvailableError
        If the term has several entries or traits.

    Notes
    -----
    With w the basis at a point, or its mean or sum over points: value w'u_hat, pev w' Var(u_hat - u) w, and reliability
    1 - pev / (K_ii w' Sigma w).
    """
    if total not in (None, "mean", "sum"):
        raise ArgumentError(f"total must be 'mean' or 'sum', not {total!r}.")
    k = fitted.design.term(term)
    t = fitted.design.terms[k]
    frame = read_frame(at)
    W = _basis_at(t, frame)
    points = frame[list(t.coder.side.variables)].reset_index(drop=True)
    if total is not None:
        W = (W.mean(axis=0) if total == "mean" else W.sum(axis=0))[None]
        points = pd.DataFrame({"points": [len(points)]})
    return _sums_of_effects(fitted, k, points, W)


def combination(fitted: Fitted, term: str, weights: Mapping[str, Any] | pd.DataFrame) -> pd.DataFrame:
    """BLUP of sums of the effects of each level, such as total breeding values or a selection index.

    Parameters
    ----------
    fitted : Fitted
        The model.
    term : str
        Name of the term.
    weights : mapping of str to float, or DataFrame
        Weight of each effect by its name, zero where it is not named; a frame has a row for each combination, the
        weights in its columns, and its index names them.

    Returns
    -------
    DataFrame
        Columns ``level``, for a frame ``combination``, ``value se pev reliability accuracy``.

    Raises
    ------
    ArgumentError
        If there is no such term or effect, or a weight is no finite number.

    Notes
    -----
    As `trajectory`, with w the weights.
    """
    k = fitted.design.term(term)
    t = fitted.design.terms[k]
    table = weights if isinstance(weights, pd.DataFrame) else pd.DataFrame([dict(weights)])
    unknown = [name for name in table.columns if name not in t.effects]
    if unknown:
        raise ArgumentError(f"term {t.key!r} has no effect {examples(unknown)}; it has {examples(t.effects)}.")
    W = table.reindex(columns=list(t.effects), fill_value=0.0).to_numpy(dtype=float)
    if not np.all(np.isfinite(W)):
        raise ArgumentError("weights must be finite numbers.")
    several = isinstance(weights, pd.DataFrame)
    return _sums_of_effects(fitted, k, pd.DataFrame({"combination": table.index}) if several else pd.DataFrame(), W)


def _sums_of_effects(fitted: Fitted, k: int, names: pd.DataFrame, W: Array) -> pd.DataFrame:
    """BLUP of w'u for each level and each row w of W, told apart by the columns of `names`."""
    t = fitted.design.terms[k]
    Sigma = fitted.Sigma(k)
    values = fitted.system.solution.u[k] @ W.T
    pev = np.einsum("ma,qab,mb->qm", W, fitted.system.prediction_error(k), W, optimize=True)
    scale = np.ones(t.q) if t.relationship is None else np.asarray(t.relationship.diagonal)
    variance = np.outer(scale, np.einsum("ma,ab,mb->m", W, Sigma, W))
    out = effects_frame(t.levels, tuple(map(str, range(len(W)))), values, pev, variance).drop(columns="effect")
    for place, name in enumerate(names.columns, start=1):
        out.insert(place, name, np.tile(names[name].to_numpy(), t.q))
    return out


def variance_at(fitted: Fitted, at: Any) -> pd.DataFrame:
    """Variance of each term, of the residual and of all together at values of the covariates, and their shares.

    Parameters
    ----------
    fitted : Fitted
        The model.
    at : DataFrame or mapping of columns
        Points, a row for each: values of the variables left of the bars, and that of ``exp(x)`` residuals.

    Returns
    -------
    DataFrame
        Columns: the variables, ``term variance se share share_se``; a row for each point and term, then ``residual``
        and ``total``. The share of a genetic term is the heritability at that point.

    Raises
    ------
    NotAvailableError
        If a term has several entries or traits, or the residual variance differs between classes.

    Notes
    -----
    w' Sigma w of a level with K_ii = 1, w the basis at the point; SE by the delta method from the inverse average
    information [1]_ as in `vfun`, a variance at zero counted as known.

    References
    ----------
    .. [1] Fischer, Gilmour & van der Werf (2004) Genet Sel Evol 36:363.
    """
    frame = read_frame(at)
    parts = dict(_variance_parts(fitted, frame))
    total = (
        np.sum([v for v, _ in parts.values()], axis=0),
        np.sum([g for _, g in parts.values()], axis=0),
    )
    names = list(dict.fromkeys(v for t in fitted.design.terms for v in t.coder.side.variables))
    out = []
    for name, (value, gradient) in {**parts, "total": total}.items():
        share = value / total[0]
        slope = (gradient - share[:, None] * total[1]) / total[0][:, None]
        own = frame[names].reset_index(drop=True)
        out.append(
            own.assign(
                term=name,
                variance=value,
                se=delta_errors(gradient, fitted),
                share=share,
                share_se=delta_errors(slope, fitted),
            )
        )
    return pd.concat(out).sort_index(kind="stable").reset_index(drop=True)


def _variance_parts(fitted: Fitted, frame: pd.DataFrame) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """Variance of each term and of the residual at points, and their derivatives by theta, shape (points, n_theta)."""
    design = fitted.design
    for k, (t, s) in enumerate(zip(design.terms, design.slices, strict=False)):
        W = _basis_at(t, frame)
        gradient = np.zeros((len(W), len(fitted.theta)))
        derivatives = t.structure.derivatives(fitted.theta[s])
        gradient[:, s] = np.einsum("ma,iab,mb->mi", W, derivatives, W, optimize=True)
        yield t.key, (np.einsum("ma,ab,mb->m", W, fitted.Sigma(k), W), gradient)
    yield "residual", _residual_variance_at(fitted, frame)


def _residual_variance_at(fitted: Fitted, frame: pd.DataFrame) -> tuple[Array, Array]:
    """Residual variance at points, and its derivatives by theta."""
    residual, s = fitted.design.residual, fitted.design.slices[-1]
    require_columns(frame, residual.covariates, "at=")
    covariates = {name: frame[name].to_numpy(dtype=float) for name in residual.covariates}
    value, own = residual.at_points(fitted.theta[s], covariates, len(frame))
    gradient = np.zeros((len(frame), len(fitted.theta)))
    gradient[:, s] = own
    return value, gradient


def _basis_at(t: Term, frame: pd.DataFrame) -> Array:
    """Coefficients of a term at points, shape (points, c)."""
    require_columns(frame, t.coder.side.variables, "at=")
    W = coded_effects(t, frame)
    if W.shape[1] != t.c:
        raise NotAvailableError(
            f"term {t.key!r} has {t.c} effects of {W.shape[1]} columns left of the bar: its entries or traits are "
            "apart. Take blup(term), whose effects are named."
        )
    return W
