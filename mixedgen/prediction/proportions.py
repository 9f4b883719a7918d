"""Shares of the variance: R squared and intraclass correlations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.design.terms import Term
from mixedgen.errors import NotAvailableError
from mixedgen.estimation.fitted import Fitted

_BLOCK_ELEMENTS = 2**24  # of one block of levels by records


def random_variances(fitted: Fitted) -> list[Array]:
    """Variance that each term gives to each record, the diagonal of Z (Sigma (x) K) Z', shape (n,) each."""
    return [_record_variances(t, fitted.Sigma(k)) for k, t in enumerate(fitted.design.terms)]


def _record_variances(t: Term, Sigma: Array) -> Array:
    """Diagonal of Z (Sigma (x) K) Z' of one term, shape (n,).

    Notes
    -----
    z_i' Sigma z_i K_ll where a record loads one level l; with several, the products of all its loads with their K.
    """
    if t.record is None:
        own = np.einsum("ia,ab,ib->i", t.values, Sigma, t.values)
        return own if t.relationship is None else own * np.asarray(t.relationship.diagonal)[t.level]
    return _several_loads_variances(t, Sigma)


def _several_loads_variances(t: Term, Sigma: Array) -> Array:
    """`_record_variances` of records that load several levels, in blocks of records."""
    out = np.empty(t.n_records)
    step = max(1, _BLOCK_ELEMENTS // (t.q * t.c))
    for start in range(0, t.n_records, step):
        rows = slice(start, start + step)
        Z = [t.Z[rows, a * t.q : (a + 1) * t.q] for a in range(t.c)]
        KZ = [z if t.relationship is None else t.relationship.multiply(z.T.toarray()).T for z in Z]
        both = [[np.asarray(sp.csr_array(z * k).sum(axis=1)) for k in KZ] for z in Z]
        out[rows] = np.einsum("ab,abi->i", Sigma, np.array(both))
    return out


def _require_one_trait(design: Design, what: str) -> None:
    """Raise a NotAvailableError for several traits, whose variances do not add up."""
    if design.records.several:
        raise NotAvailableError(f"{what} is that of one response: fit the traits one by one for it.")


@dataclass(frozen=True)
class MeanVariances:
    """Mean variances of a record.

    Attributes
    ----------
    fixed : float
        Sample variance of X b_hat.
    random : Series
        Of each term.
    residual : float
        Of R.
    """

    fixed: float
    random: pd.Series
    residual: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.fixed + float(self.random.sum()) + self.residual


def _mean_variances(fitted: Fitted) -> MeanVariances:
    """Mean variances of a record: what R squared and intraclass correlations are made of."""
    design = fitted.design
    prediction = np.asarray(design.fixed.X @ fitted.system.solution.b)
    random = [float(np.mean(v)) for v in random_variances(fitted)]
    return MeanVariances(
        fixed=float(np.var(prediction, ddof=1)) if design.fixed.p else 0.0,
        random=pd.Series(random, index=pd.Index([t.key for t in design.terms], name="term"), dtype=float),
        residual=float(np.mean(design.residual.variances(fitted.theta_R))),
    )


@dataclass(frozen=True)
class RSquared:
    """Share of the variance that a model explains.

    Attributes
    ----------
    marginal : float
        By the fixed effects.
    conditional : float
        By fixed and random effects.
    fixed, residual : float
        Variance of X b_hat among the records, and mean residual variance.
    random : Series
        Mean variance that each term gives to a record.
    """

    marginal: float
    conditional: float
    fixed: float
    random: pd.Series
    residual: float


def r_squared(fitted: Fitted) -> RSquared:
    """Marginal and conditional R squared.

    Parameters
    ----------
    fitted : Fitted
        The model, of one response.

    Returns
    -------
    RSquared
        Both, and the variances they are made of, on the scale of the response squared.

    Raises
    ------
    NotAvailableError
        For several traits.

    Notes
    -----
    marginal = s_f / (s_f + s_u + s_e), conditional = (s_f + s_u) / (s_f + s_u + s_e) [1]_ with s_f the sample variance
    of X b_hat, s_u the sum over the terms of the mean of diag(Z (Sigma (x) K) Z') [2]_, and s_e the mean of diag(R).
    With a relationship, a term thus counts by the mean diagonal of Z K Z': inbreeding among the records adds to it.

    References
    ----------
    .. [1] Nakagawa & Schielzeth (2013) Methods Ecol Evol 4:133.
    .. [2] Johnson (2014) Methods Ecol Evol 5:944.

    Examples
    --------
    >>> import mixedgen as mg
    >>> r2 = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy()).r2()
    >>> round(r2.marginal, 3), round(r2.conditional, 3)
    (0.279, 0.799)
    """
    _require_one_trait(fitted.design, "R squared")
    p = _mean_variances(fitted)
    return RSquared(p.fixed / p.total, 1.0 - p.residual / p.total, p.fixed, p.random, p.residual)


def intraclass(fitted: Fitted, term: str | None = None) -> pd.DataFrame | float:
    """Intraclass correlations: the share of each random term in the variance of a record.

    Parameters
    ----------
    fitted : Fitted
        The model, of one response.
    term : str, optional
        Name of one term.

    Returns
    -------
    DataFrame or float
        A row for each term and one, ``"all terms"``, for their sum; columns ``variance``, ``adjusted`` (of the variance
        that the fixed effects leave) and ``unadjusted`` (of all). With `term`, its adjusted correlation.

    Raises
    ------
    ArgumentError
        If there is no such term.
    NotAvailableError
        For several traits.

    Notes
    -----
    adjusted = s_k / (s_u + s_e), unadjusted = s_k / (s_f + s_u + s_e) [1]_, with the variances of `r_squared`: a term
    with random slopes, or a relationship, counts by the mean variance it gives to a record.

    References
    ----------
    .. [1] Nakagawa, Johnson & Schielzeth (2017) J R Soc Interface 14:20170213.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    >>> round(fit.icc("Batch"), 3)
    0.418
    """
    _require_one_trait(fitted.design, "an intraclass correlation")
    k = None if term is None else fitted.design.term(term)
    p = _mean_variances(fitted)
    adjusted = p.random / (p.total - p.fixed)
    if k is not None:
        return float(adjusted.iloc[k])
    frame = pd.DataFrame({"variance": p.random, "adjusted": adjusted, "unadjusted": p.random / p.total})
    frame.loc["all terms"] = frame.sum()
    return frame
