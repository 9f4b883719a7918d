"""Other packages: the same model refitted in statsmodels, figure beside figure."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mixedgen.design.terms import Term
from mixedgen.errors import NotAvailableError, public
from mixedgen.estimation.variances import parameters
from mixedgen.inference import fixed_effects
from mixedgen.inference.inference import Result

_MAX_DENSE = 5000  # records: statsmodels' crossed effects take matrices of this order


@public
def cross_check(fit: Result) -> pd.DataFrame:
    """Refit a model in statsmodels' MixedLM and compare.

    Parameters
    ----------
    fit : Fit
        A REML or ML fit without relationships, weights or residual classes: one grouping factor with any effects, or
        scalar terms, nested or crossed (through variance components of one group).

    Returns
    -------
    DataFrame
        One row per quantity, columns ``mixedgen statsmodels difference``: log-likelihood, fixed effects, their standard
        errors, variances and covariances.

    Raises
    ------
    NotAvailableError
        If statsmodels is not installed or MixedLM cannot express the model; the message says why.

    Notes
    -----
    statsmodels optimises without a certificate: where its log-likelihood is below, it has stopped short.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    >>> bool(mg.cross_check(fit)["difference"].abs().loc["llf"] < 1e-6)
    True
    """
    try:
        from statsmodels.regression.mixed_linear_model import MixedLM
    except ImportError as err:
        raise NotAvailableError("cross_check needs statsmodels: pip install statsmodels.") from err
    _require_expressible(fit)
    design = fit.fitted.design
    one = len(design.terms) == 1 and design.terms[0].structure.unstructured
    model, own, names = (_grouped if one else _crossed)(fit, MixedLM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = model.fit(reml=fit.fitted.reml, method=["bfgs", "lbfgs", "powell"])
        theirs = _covariances(peer, one)
        rows: dict[str, tuple[float, float]] = {"llf": (-0.5 * fit.fitted.deviance, float(peer.llf))}
        rows |= {
            f"params[{k}]": (v, float(b))
            for (k, v), b in zip(fixed_effects.estimates(fit.fitted).items(), peer.fe_params, strict=True)
        }
        rows |= {
            f"bse[{k}]": (v, float(b))
            for (k, v), b in zip(fixed_effects.standard_errors(fit.fitted).items(), peer.bse_fe, strict=True)
        }
        rows |= {f"theta[{k}]": (v, float(b)) for k, v, b in zip(names, own, theirs, strict=True)}
        rows["theta[residual]"] = (float(fit.fitted.theta_R[0]), float(peer.scale))
    out = pd.DataFrame(rows, index=["mixedgen", "statsmodels"]).T
    return out.assign(difference=out["mixedgen"] - out["statsmodels"])


def _require_expressible(fit: Result) -> None:
    """Raise a NotAvailableError that says what MixedLM cannot express."""
    design = fit.fitted.design
    why = ""
    if not design.terms:
        why = "a model without random terms"
    elif any(t.relationship is not None for t in design.terms):
        why = "a relationship matrix"
    elif not design.residual.homogeneous or design.residual.inverse_weights is not None:
        why = "weights or residual classes"
    elif len(design.terms) > 1 and any(t.c > 1 for t in design.terms):
        why = "several terms of which one has several effects"
    elif len(design.terms) == 1 and design.terms[0].c > 1 and not design.terms[0].structure.unstructured:
        why = f"the structure {design.terms[0].structure.tag}()"
    elif len(design.terms) > 1 and design.n > _MAX_DENSE:
        why = f"crossed terms of {design.n} records within its memory"
    if why:
        raise NotAvailableError(f"statsmodels' MixedLM cannot express {why}.")


def _fixed_matrix(fit: Result) -> pd.DataFrame:
    """X as a frame."""
    X = fit.fitted.design.fixed.X
    return pd.DataFrame(X.toarray() if sp.issparse(X) else X, columns=list(fixed_effects.coefficient_names(fit.fitted)))


def _grouped(fit: Result, MixedLM: Any) -> tuple[Any, list[float], list[str]]:
    """One grouping factor with unstructured effects."""
    design = fit.fitted.design
    t = design.terms[0]
    model = MixedLM(
        design.y, _fixed_matrix(fit), groups=t.level, exog_re=pd.DataFrame(t.values, columns=list(t.effects))
    )
    return model, list(fit.fitted.theta[:-1]), list(design.theta_names[:-1])


def _crossed(fit: Result, MixedLM: Any) -> tuple[Any, list[float], list[str]]:
    """Scalar terms as variance components of one group that holds all records."""
    from statsmodels.regression.mixed_linear_model import VCSpec

    design = fit.fitted.design
    terms = sorted(design.terms, key=lambda t: t.key)
    spec = VCSpec(
        [t.key for t in terms], [[list(t.levels.astype(str))] for t in terms], [[_incidence(t)] for t in terms]
    )
    model = MixedLM(design.y, _fixed_matrix(fit), groups=np.zeros(design.n), exog_vc=spec)
    theta = parameters(fit.fitted)
    return model, [float(theta[t.key]) for t in terms], [t.key for t in terms]


def _incidence(t: Term) -> np.ndarray:
    """Z of a term, dense."""
    return np.asarray(t.Z.toarray())


def _covariances(peer: Any, one: bool) -> np.ndarray:
    """Variance parameters of a MixedLM fit: the lower triangle of cov_re, or the variance components."""
    if not one:
        return np.asarray(peer.vcomp)
    cov = np.asarray(peer.cov_re)
    return cov[np.tril_indices(len(cov))]
