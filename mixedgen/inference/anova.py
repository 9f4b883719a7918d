"""Tables of tests: fixed effects of one fit by type I, II or III, contrasts, and likelihood ratios between fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixedgen.arrays import Array
from mixedgen.design.fixed_terms import fixed_terms
from mixedgen.errors import ArgumentError, examples, public
from mixedgen.estimation.fitted import Fitted
from mixedgen.inference.fixed_effects import estimable
from mixedgen.inference.hypotheses import hypotheses, others_suffice, over_traits
from mixedgen.inference.inference import Inference, Result
from mixedgen.inference.likelihood_ratio import likelihood_ratio_table
from mixedgen.inference.wald import f_test, t_quantile, t_tests

_TYPES = {"1": 1, "2": 2, "3": 3, "I": 1, "II": 2, "III": 3}
_F_COLUMNS = ["sumsq", "meansq", "numdf", "dendf", "f", "p"]


def anova_table(inference: Inference, kind: int | str = 3, ddf: str = "satterthwaite") -> pd.DataFrame:
    """F test of each fixed term; of several traits, of each term of each trait, ``trait:term``, then over all traits.

    Parameters
    ----------
    inference : Inference
        The model.
    kind : {1, 2, 3}
        Sequential, hierarchical, or marginal hypotheses.
    ddf : str
        Method of degrees of freedom.

    Returns
    -------
    DataFrame
        By term, columns ``sumsq meansq numdf dendf f p``.

    Raises
    ------
    ArgumentError
        If there is no such type or method.
    """
    if str(kind) not in _TYPES:
        raise ArgumentError(f"type must be 1, 2 or 3, not {kind!r}.")
    tests = {
        name: f_test(inference, L, ddf) for name, L in hypotheses(inference.fitted.design, _TYPES[str(kind)]).items()
    }
    return pd.DataFrame.from_dict(tests, orient="index", columns=_F_COLUMNS).rename_axis("term")


@public
def anova(
    fit: Result, *others: Result, type: int | str = 3, ddf: str = "satterthwaite", refit: bool | None = None
) -> pd.DataFrame:
    """F tests of the fixed terms of one fit, or likelihood-ratio tests between several.

    Parameters
    ----------
    fit, *others : Fit
        The models.
    type : {1, 2, 3}
        Sequential, hierarchical, or marginal hypotheses, of one fit.
    ddf : str
        Method of degrees of freedom, of one fit.
    refit : bool, optional
        Of several: whether REML fits are refitted by maximum likelihood first. By default they are, with a warning.

    Returns
    -------
    DataFrame
        By term ``sumsq meansq numdf dendf f p``, or by formula ``npar aic bic loglik deviance chisq df p``.

    Raises
    ------
    ArgumentError
        If there is no such type or method, or the fits cannot be compared.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())
    >>> mg.anova(fit)[["numdf", "dendf", "f"]].round(3)
          numdf  dendf       f
    term
    Days    1.0   17.0  45.853
    """
    if others:
        return likelihood_ratio_table([f.fitted for f in (fit, *others)], refit)
    return anova_table(fit.inference, type, ddf)


def drop_one(inference: Inference, ddf: str = "satterthwaite") -> pd.DataFrame:
    """F test of each term that no other contains, as if it alone were dropped; columns as `anova_table`.

    With several traits, each from one trait, then from all at once.
    """
    design = inference.fitted.design
    terms = fixed_terms(design)
    outer = [t for t in terms if (t.factors or t.covariates) and not any(o.holds(t) for o in terms)]
    dropped = {t.label: [t] for t in outer} | over_traits(outer)
    tests = {name: f_test(inference, others_suffice(design.fixed, gone), ddf) for name, gone in dropped.items()}
    return pd.DataFrame.from_dict(tests, orient="index", columns=_F_COLUMNS).rename_axis("term")


def _contrast_rows(
    fitted: Fitted, L: ArrayLike | pd.DataFrame | pd.Series
) -> tuple[Array, NDArray[np.bool_], pd.Index]:
    """Rows of L over the columns that are kept, whether each is estimable, and their labels.

    Raises
    ------
    ArgumentError
        If L fits neither all columns of X nor those that are kept, or names a column that is neither.
    """
    fixed = fitted.design.fixed
    _require_numbers(fixed.all_names, L)
    frame = L.to_frame().T if isinstance(L, pd.Series) else L
    if isinstance(frame, pd.DataFrame):
        unknown = [c for c in frame.columns if c not in fixed.all_names]
        if unknown:
            raise ArgumentError(f"L names no column of X: {examples(unknown)}; they are {examples(fixed.all_names)}.")
        frame = frame.reindex(columns=list(fixed.all_names), fill_value=0.0)
    values = np.atleast_2d(np.asarray(frame, dtype=float))
    labels = frame.index if isinstance(frame, pd.DataFrame) else pd.RangeIndex(len(values))
    if values.shape[1] == fixed.p and fixed.aliased:
        return values, np.ones(len(values), dtype=bool), labels
    good = estimable(fitted, values)
    return values[:, fixed.kept], good, labels


def _require_numbers(names: Sequence[str], L: Any) -> None:
    """Raise an ArgumentError for a hypothesis in words."""
    try:
        words = isinstance(L, str) or any(isinstance(x, str) for x in np.asarray(L, dtype=object).ravel())
    except ValueError:  # rows of different lengths
        words = False
    if words:
        raise ArgumentError(
            f"L holds numbers, not text such as {L!r}: write a row for each hypothesis over {examples(names)}, or name "
            f"the columns, pd.DataFrame([{ {names[-1]: 1.0} }])."
        )


def contest(
    inference: Inference,
    L: ArrayLike | pd.DataFrame | pd.Series,
    *,
    joint: bool = True,
    rhs: ArrayLike = 0.0,
    ddf: str = "satterthwaite",
    level: float = 0.95,
) -> pd.DataFrame:
    """Test L b = rhs.

    Parameters
    ----------
    inference : Inference
        The model.
    L : array_like, DataFrame or Series
        Over all columns of X as coded, or over those that are kept; a frame names its columns.
    joint : bool
        One F test of all rows, or a t test of each.
    rhs : array_like
        Hypothetical values of the rows.
    ddf : str
        Method of degrees of freedom.
    level : float
        Of the confidence intervals of the t tests.

    Returns
    -------
    DataFrame
        One row ``sumsq meansq numdf dendf f p``, or a row ``estimate se df t p lower upper`` for each of L.

    Raises
    ------
    ArgumentError
        If the shapes do not fit, or rows of a joint test are not estimable; t tests of such rows are missing.
    """
    rows, good, labels = _contrast_rows(inference.fitted, L)
    rhs = np.asarray(rhs, dtype=float)
    if rhs.ndim > 1 or rhs.size not in (1, len(rows)):
        raise ArgumentError(f"rhs has shape {rhs.shape} for {len(rows)} rows of L.")
    rhs = np.broadcast_to(rhs, len(rows))
    if joint:
        if not good.all():
            raise ArgumentError(f"rows {examples(labels[~good])} of L are not estimable; test the others.")
        return pd.DataFrame([f_test(inference, rows, ddf, rhs)])[_F_COLUMNS]
    return _with_interval(t_tests(inference, rows, ddf, rhs), good, level).set_axis(labels, axis=0)


def _with_interval(table: pd.DataFrame, good: NDArray[np.bool_], level: float) -> pd.DataFrame:
    """Table of t tests with its interval; rows that are not estimable are missing."""
    half = t_quantile(table["df"].to_numpy(), level) * table["se"]
    table = table.assign(lower=table["estimate"] - half, upper=table["estimate"] + half)
    table.loc[~np.asarray(good)] = np.nan
    return table
