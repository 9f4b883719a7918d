"""What single records, or groups of them, do to the fixed effects: deletion diagnostics, leverage, residuals."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scipy.linalg as la
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from mixedgen.arrays import Array, IntArray
from mixedgen.design.design import Design
from mixedgen.diagnostics.cases import Cases, cases_of
from mixedgen.diagnostics.deletion import (
    BLOCK_ELEMENTS,
    LARGEST_GROUP,
    UNDETERMINED,
    Deletion,
    Precision,
    batches,
    case_blocks,
    deletion,
)
from mixedgen.engines.memory import free_memory
from mixedgen.errors import ConvergenceWarning, DesignError, EngineError, NotAvailableError, examples, outside
from mixedgen.estimation.fitted import Fitted
from mixedgen.estimation.maximum import LONG
from mixedgen.estimation.refit import refit_design
from mixedgen.prediction.proportions import random_variances

_ELEMENT_SECONDS = 5e-10  # of one operation on the factor or the records for each right-hand side, on two cores
_STEPS, _LEAST_SECONDS = 6, 0.01  # of a fit from the variances of the whole
PATIENCE = 86_400.0  # seconds of a forecast that are not refused


@dataclass(frozen=True)
class Influence:
    """Influence of each case (record or group of records) on the fixed effects.

    Attributes
    ----------
    by : str or None
        What the groups are; None for single records.
    exact : bool
        Whether the variances were estimated anew without each case.
    cases : DataFrame
        A row for each case, columns ``n_records cooks_distance covratio covtrace leverage``, the last the sum of those
        of its records.
    dfbeta : DataFrame
        Cases by fixed effects: the estimate with all records less the one without the case.
    dfbetas : DataFrame
        The same in standard errors of the estimate without the case.
    leverage : DataFrame
        Records by ``fixed random total``: diagonal of the matrix that makes fitted values of y, and its parts.
    residuals : DataFrame
        Records by ``marginal conditional studentised_marginal studentised_conditional``.
    variances : DataFrame or None
        With `exact`: variance parameters without each case, and whether that fit ``converged``.
    undefined : Series
        Cases without which the model cannot be estimated, and why; they are missing in the tables.
    """

    by: str | None
    exact: bool
    cases: pd.DataFrame
    dfbeta: pd.DataFrame = field(repr=False)
    dfbetas: pd.DataFrame = field(repr=False)
    leverage: pd.DataFrame = field(repr=False)
    residuals: pd.DataFrame = field(repr=False)
    variances: pd.DataFrame | None = field(repr=False)
    undefined: pd.Series = field(repr=False)

    @property
    def cooks_distance(self) -> pd.Series:
        """Cook's distance of each case."""
        return self.cases["cooks_distance"]


def influence(
    fitted: Fitted, data: pd.DataFrame | None = None, by: str | ArrayLike | None = None, *, exact: bool = False
) -> Influence:
    """Influence of records, or of groups of records, on the fixed effects.

    Parameters
    ----------
    fitted : Fitted
        The model.
    data : DataFrame, optional
        The data of the fit, all rows, where a column by name is looked up.
    by : str or array_like, shape (rows of the data,), optional
        What to leave out together: a column of the data, several joined by a colon, a random term by name, or the group
        of each row of the data. Single records by default.
    exact : bool
        Estimate the variances anew without each case, from those of the whole fit; otherwise they stay, and the
        estimates without the case are exact for them.

    Returns
    -------
    Influence
        Frames by case and by record.

    Raises
    ------
    ArgumentError, DataError
        If `by` is no column, or missing in some records.
    EngineError
        If the forecast of time or memory is beyond reach; with the figures.
    NotAvailableError
        If the model has no fixed effects, or was fitted by moments and `exact` is asked for.

    Warns
    -----
    ConvergenceWarning
        If fits without a case did not converge; `Influence.variances` says which.

    Notes
    -----
    With P = V^-1 - V^-1 X C X'V^-1 and C = (X'V^-1 X)^-1, leaving out the records I is the same as giving each of them
    an effect of its own, g = P_II^-1 (Py)_I, so that [1]_

        b - b(I) = C X'V^-1_I g,    C(I) = C + C X'V^-1_I P_II^-1 V^-1_I X C.

    Cook's distance is (b - b(I))' C^-1 (b - b(I)) / p, COVRATIO det C(I) / det C and COVTRACE tr(C^-1 C(I)) - p [2]_.
    The diagonal of P comes from the inverse on the pattern of the mixed-model equations, and the block of a group from
    right-hand sides that are one in a record. Fitted values are H y with H = I - R P, of which X C X'V^-1 is the fixed
    part. Studentised residuals are divided by the root of the diagonal of V - X C X' (marginal) or of R P R
    (conditional).

    lme4's `cooks.distance` of an influence object is (m - p) / m times this one, with m cases; its `dfbeta` has the
    other sign.

    References
    ----------
    .. [1] Haslett & Dillane (2004) J R Stat Soc B 66:131.
    .. [2] Christensen, Pearson & Johnson (1992) Technometrics 34:38.

    Examples
    --------
    >>> import mixedgen as mg
    >>> data = mg.data.sleepstudy()
    >>> fit = mg.lmm("Reaction ~ Days + (Days|Subject)", data)
    >>> fit.influence(by="Subject").cooks_distance.nlargest(2).round(3).to_dict()
    {'309': 0.149, '335': 0.129}
    """
    design = fitted.design
    if not design.fixed.p:
        raise NotAvailableError("the model has no fixed effects that records could influence.")
    if exact and not fitted.outcome.has_likelihood:
        raise NotAvailableError(f"exact=True refits by 'reml' or 'ml', not by {fitted.method!r}: leave it out.")
    cases = cases_of(design, data, by)
    _require_forecast(fitted, cases, exact)
    precision = Precision(fitted)
    found = _refits(fitted, cases, precision) if exact else _deletions(fitted, cases, precision)
    return Influence(
        by=by if isinstance(by, str) or by is None else str(getattr(by, "name", None) or "group"),
        exact=exact,
        leverage=_leverage_frame(fitted, precision),
        residuals=_residual_frame(fitted, precision),
        variances=_variances_frame(fitted, cases, found) if exact else None,
        **_case_frames(fitted, cases, found, precision),
    )


def _width_of(design: Design) -> int:
    """Right-hand sides that are solved at once."""
    return max(1, min(LARGEST_GROUP, BLOCK_ELEMENTS // design.n))


@dataclass(frozen=True)
class Work:
    """What an influence analysis takes: refits, right-hand sides, seconds and bytes."""

    refits: int
    solves: int
    seconds: float
    bytes: int


def _work_of(fitted: Fitted, cases: Cases, exact: bool) -> Work:
    """Forecast of an influence analysis."""
    design, cost, p = fitted.design, fitted.engine.forecast(), fitted.design.fixed.p
    sizes = np.array([len(m) for m in cases.members])
    together = sizes[(sizes > 1) & (sizes <= LARGEST_GROUP)]
    solves = 0 if exact else int(together.sum())
    refits = len(sizes) if exact else int(np.sum(sizes > LARGEST_GROUP))
    steps = _STEPS if exact and fitted.outcome.maximised else 1
    loads = p + sum(t.values.size for t in design.terms) / design.n
    column = _ELEMENT_SECONDS * (4.0 * cost.nonzeros + design.n * (loads + 8.0))
    seconds = cost.seconds + solves * column + refits * steps * max(cost.seconds, _LEAST_SECONDS)
    width = max(_width_of(design), int(together.max(initial=0))) if solves else 0
    return Work(refits, solves, seconds, cost.bytes + 8 * design.n * (4 * p + 6 * width) + 24 * p**2)


def _require_forecast(fitted: Fitted, cases: Cases, exact: bool) -> None:
    """Raise an EngineError where time or memory are beyond reach."""
    work, free = _work_of(fitted, cases, exact), free_memory()
    if work.seconds <= PATIENCE and (free is None or work.bytes <= free):
        return
    there = "" if free is None else f" of {free / 2**30:.1f} GB that are free"
    raise EngineError(
        f"influence would take {work.refits:,} refits and {work.solves:,} solves of "
        f"{fitted.engine.forecast().order:,} equations: about {work.seconds / 3600:.1f} h and "
        f"{work.bytes / 2**30:.1f} GB{there}; the limit is {PATIENCE / 3600:.0f} h. "
        "Leave out exact=True, take single records (by=None), or a part of the data with subset=.",
        seconds=work.seconds,
        bytes=work.bytes,
    )


def _deletions(fitted: Fitted, cases: Cases, precision: Precision) -> list[Deletion | str]:
    """Estimates without each case at the same variances: single records, small groups together, large ones alone."""
    factor = la.cholesky(precision.C, lower=True)
    found: list[Deletion | str] = [""] * len(cases.members)
    small: list[int] = []
    for k, rows in enumerate(cases.members):
        if len(rows) > LARGEST_GROUP:
            found[k] = _refit_deletion(fitted, _refitted(fitted, rows, exact=False), precision.C)
        elif len(rows) > 1:
            small.append(k)
        else:
            found[k] = deletion(
                precision.P[rows, None], precision.weights[rows], fitted.system.Py[rows], precision.C, factor
            )
    for some in batches(cases, small, _width_of(fitted.design)):
        for k, P in case_blocks(fitted, cases, some):
            rows = cases.members[k]
            found[k] = deletion(P, precision.weights[rows], fitted.system.Py[rows], precision.C, factor)
    return found


def _refitted(fitted: Fitted, rows: IntArray, exact: bool) -> Fitted | str:
    """The fit without some records, at the same variances or with new ones; or why there is none."""
    keep = np.setdiff1d(np.arange(fitted.design.n), rows)
    try:
        design = fitted.design.select(keep)
        if not exact:
            return fitted.carried_to(design)
        _require_variances(design)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # one warning tells of all
            return refit_design(fitted, design)
    except (DesignError, EngineError) as err:
        return str(err)


def _refits(fitted: Fitted, cases: Cases, precision: Precision) -> list[Deletion | str]:
    """Estimates without each case, the variances estimated anew; no fit outlives its figures."""
    rows = tqdm(cases.members, disable=not fitted.control.progress, desc="refits", leave=False, delay=LONG)
    return [_refit_deletion(fitted, _refitted(fitted, some, exact=True), precision.C) for some in rows]


def _require_variances(design: Design) -> None:
    """Raise a DesignError where a term or a residual class has lost what its variance is estimated from."""
    for t in design.terms:
        if t.q < 2:
            raise DesignError(f"one level of {t.key!r} is left: its variance cannot be estimated.")
    counts = np.bincount(design.residual.position, minlength=max(1, len(design.residual.classes)))
    gone = [c for c, n in zip(design.residual.classes, counts, strict=False) if n == 0]
    if gone:
        raise DesignError(f"no record of {examples(gone)} is left: its residual variance cannot be estimated.")


def _refit_deletion(fitted: Fitted, without: Fitted | str, C: Array) -> Deletion | str:
    """Influence of a case from the fits with it, where the estimates have covariance C, and without it."""
    if isinstance(without, str):
        return without
    step = fitted.system.solution.b - without.system.solution.b
    changed = without.system.fixed_covariance()
    factor = la.cholesky(C, lower=True)
    scaled = la.solve_triangular(factor, la.solve_triangular(factor, changed, lower=True).T, lower=True)
    distance = la.solve_triangular(factor, step, lower=True)
    return Deletion(
        dfbeta=step,
        se=np.sqrt(np.diag(changed)),
        cooks_distance=float(distance @ distance) / len(C),
        covratio=float(np.exp(np.linalg.slogdet(scaled)[1])),
        covtrace=float(np.trace(scaled)) - len(C),
        theta=without.theta,
        converged=without.outcome.converged,
    )


def _case_frames(fitted: Fitted, cases: Cases, found: Sequence[Deletion | str], precision: Precision) -> dict[str, Any]:
    """Frames with a row for each case, and the cases that have none."""
    names = list(fitted.design.fixed.names)
    none = Deletion(np.full(len(names), np.nan), np.full(len(names), np.nan), np.nan, np.nan, np.nan)
    rows = [none if isinstance(d, str) else d for d in found]
    lost = [k for k, d in enumerate(found) if isinstance(d, str)]
    dfbeta = pd.DataFrame([d.dfbeta for d in rows], index=cases.labels, columns=names)
    table = {
        "n_records": [len(m) for m in cases.members],
        "cooks_distance": [d.cooks_distance for d in rows],
        "covratio": [d.covratio for d in rows],
        "covtrace": [d.covtrace for d in rows],
        "leverage": [float(np.sum(1.0 - precision.RP[m])) for m in cases.members],
    }
    return {
        "cases": pd.DataFrame(table, index=cases.labels),
        "dfbeta": dfbeta,
        "dfbetas": dfbeta / np.array([d.se for d in rows]),
        "undefined": pd.Series([str(found[k]) for k in lost], index=cases.labels[lost], name="reason", dtype=object),
    }


def _leverage_frame(fitted: Fitted, precision: Precision) -> pd.DataFrame:
    """Diagonal of H = I - R P and of its fixed part X C X'V^-1, by record."""
    fixed = _row_products(fitted.design.fixed.X, precision.weights)
    total = 1.0 - precision.RP
    table = {"fixed": fixed, "random": total - fixed, "total": total}
    return pd.DataFrame(table, index=fitted.design.records.labels)


def _residual_frame(fitted: Fitted, precision: Precision) -> pd.DataFrame:
    """Marginal and conditional residuals, raw and studentised, by record."""
    design, solution = fitted.design, fitted.system.solution
    X = design.fixed.X
    variances = design.residual.variances(fitted.theta_R) + sum(random_variances(fitted))
    left = variances - _row_products(X, np.asarray(X @ precision.C))
    marginal = design.y - np.asarray(X @ solution.b)
    return pd.DataFrame(
        {
            "marginal": marginal,
            "conditional": solution.e,
            "studentised_marginal": _studentised(marginal, left, variances),
            "studentised_conditional": _studentised(solution.e, precision.RPR, variances),
        },
        index=design.records.labels,
    )


def _row_products(X: Any, W: Array) -> Array:
    """Products of the rows of X, which may be sparse, with those of W."""
    return (
        np.asarray((X * W).sum(axis=1)).ravel() if isinstance(X, np.ndarray) else np.asarray(X.multiply(W).sum(axis=1))
    )


def _studentised(residual: Array, variance: Array, scale: Array) -> Array:
    """Residuals in standard deviations; missing where the fixed effects fit the record whatever it is."""
    there = variance > UNDETERMINED * scale
    return np.where(there, residual / np.sqrt(np.where(there, variance, 1.0)), np.nan)


def _variances_frame(fitted: Fitted, cases: Cases, found: Sequence[Deletion | str]) -> pd.DataFrame:
    """Variance parameters without each case; warns of fits that did not converge."""
    names = list(fitted.design.theta_names)
    none = np.full(len(names), np.nan)
    values = [none if isinstance(d, str) or d.theta is None else d.theta for d in found]
    frame = pd.DataFrame(values, index=cases.labels, columns=names)
    frame["converged"] = [isinstance(d, Deletion) and d.converged for d in found]
    failed = [
        label for label, d in zip(cases.labels, found, strict=True) if isinstance(d, Deletion) and not d.converged
    ]
    if failed:
        warnings.warn(
            f"{len(failed)} fits without a case did not converge: {examples(failed)}; see `variances`.",
            ConvergenceWarning,
            stacklevel=outside(),
        )
    return frame
