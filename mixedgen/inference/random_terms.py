"""Likelihood-ratio tests of the random terms of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from mixedgen.covariance.registry import DEFAULT
from mixedgen.covariance.structure import Structure
from mixedgen.design.coding import INTERCEPT
from mixedgen.design.design import Design
from mixedgen.design.terms import Term
from mixedgen.engines import choose
from mixedgen.errors import NotAvailableError, require_count
from mixedgen.estimation.estimate import fit
from mixedgen.estimation.fitted import Fitted
from mixedgen.formula.parts import RandomTerm
from mixedgen.inference.criteria import aic, n_parameters
from mixedgen.inference.exact import exact_p, require_one_variance

_NOISE = 1e-9  # difference of two criteria, beside their size, that is rounding


@dataclass(frozen=True)
class Reduction:
    """A model with less random effects.

    Attributes
    ----------
    name : str
        What is dropped, as lmerTest says it.
    design : Design
        The smaller model.
    weights : tuple of (float, int), or None
        Mixture of chi-squared distributions of the statistic where the variance is zero; None where its weights are
        not known.
    """

    name: str
    design: Design
    weights: tuple[tuple[float, int], ...] | None


def random_anova(fitted: Fitted, draws: int | None = None, seed: int | None = None) -> pd.DataFrame:
    """Likelihood-ratio test of each random term, or of each slope in it.

    Parameters
    ----------
    fitted : Fitted
        The model.
    draws : int, optional
        Draws from the exact null distribution of the restricted likelihood ratio of one variance.
    seed : int, optional
        Of the draws.

    Returns
    -------
    DataFrame
        By what is dropped, columns ``npar loglik aic lrt df p p_boundary``. `p` is that of a chi-squared, as lmerTest
        has it, which is too large where a variance is zero under the hypothesis; `p_boundary` is that of the mixture.
        With `draws` a column ``p_exact`` besides: the share of draws that reach the statistic.

    Raises
    ------
    NotAvailableError
        If there is no random term, the variances were given, or the exact distribution is not known.

    Notes
    -----
    A term with an intercept and slopes loses one slope, or factor, at a time; a term of one column goes entirely. For
    one variance the mixture is half chi-squared(0) and half chi-squared(1) [1]_; for one of c correlated effects half
    chi-squared(c - 1) and half chi-squared(c) [2]_; where more columns go at once it is not known, and is missing.

    References
    ----------
    .. [1] Self & Liang (1987) J Am Stat Assoc 82:605.
    .. [2] Stram & Lee (1994) Biometrics 50:1171.
    """
    if not fitted.design.terms:
        raise NotAvailableError("the model has no random term to test.")
    if not fitted.outcome.estimated:
        raise NotAvailableError("the variances were given, not estimated: there is no likelihood ratio to test them.")
    if not fitted.outcome.maximised:
        raise NotAvailableError(f"method={fitted.method!r} maximises no likelihood: test by method='reml' or 'ml'.")
    if draws is not None:
        require_count(draws, "draws")
        require_one_variance(fitted)
    full = n_parameters(fitted)
    rows = {"<none>": _lr_row(fitted, fitted, full, None)}
    for r in _reductions(fitted.design):
        control = replace(fitted.control, start=None)
        smaller = fit(r.design, choose(r.design, control.engine), fitted.method, control)
        rows[r.name] = _lr_row(smaller, fitted, full, r.weights)
    columns = ["npar", "loglik", "aic", "lrt", "df", "p", "p_boundary"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("term")
    if draws is None:
        return table
    rng = np.random.default_rng(seed)
    exact = [np.nan if np.isnan(x) else exact_p(fitted, float(x), int(draws), rng) for x in table["lrt"]]
    return table.assign(p_exact=exact)


def _lr_row(
    smaller: Fitted, full: Fitted, npar: int, weights: tuple[tuple[float, int], ...] | None
) -> dict[str, float]:
    """One row of the table of random terms."""
    own = n_parameters(smaller)
    out = {"npar": own, "loglik": -0.5 * smaller.deviance, "aic": aic(smaller)}
    if smaller is full:
        return out
    lrt = smaller.deviance - full.deviance
    lrt = lrt if lrt > _NOISE * abs(full.deviance) else 0.0
    df = float(npar - own)
    p = float(chdtrc(df, lrt)) if df > 0 else np.nan
    return out | {"lrt": lrt, "df": df, "p": p, "p_boundary": _mixture_tail(lrt, weights)}


def _mixture_tail(x: float, weights: tuple[tuple[float, int], ...] | None) -> float:
    """P-value of a mixture of chi-squared distributions; that of 0 degrees of freedom is a mass at 0."""
    if weights is None:
        return np.nan
    return float(sum(w * (chdtrc(df, x) if df else float(x <= 0.0)) for w, df in weights))


def _reductions(design: Design) -> list[Reduction]:
    """Models with one random term, or one slope of it, less; terms in the order they were written."""
    out: list[Reduction] = []
    for k in sorted(range(len(design.terms)), key=lambda k: design.terms[k].place):
        parsed = design.parsed.terms[design.terms[k].place]
        for name, smaller in _smaller_terms(parsed, design.terms[k]):
            rest = [*design.terms[:k], *([smaller] if smaller is not None else []), *design.terms[k + 1 :]]
            weights = _mixture(design.terms[k].structure, None if smaller is None else smaller.structure)
            out.append(Reduction(name, replace(design, terms=tuple(rest)), weights))
    return out


def _mixture(structure: Structure, left: Structure | None) -> tuple[tuple[float, int], ...] | None:
    """Mixture for the loss of what a structure has more than the one that is left; None where it is not known.

    Known is the loss of one variance, and of one with the covariances between its effect and all others.
    """
    if len(structure.blocks) == 1 and structure.size == 1:
        return ((0.5, 0), (0.5, 1))
    if structure.restricted:
        return None
    size, dim, variances = (0, 0, 0) if left is None else (left.size, left.dim, _n_variances(left))
    lost = structure.size - size
    if _n_variances(structure) - variances != 1 or lost not in (1, structure.dim):
        return None
    kinds = {p.kind for p in structure.numbered}
    if lost > 1 and not (kinds <= {"variance", "covariance", "correlation"} and size == dim * (dim + 1) // 2):
        return None
    return ((0.5, lost - 1), (0.5, lost))


def _n_variances(structure: Structure) -> int:
    """Number of parameters that are variances."""
    return sum(p.kind == "variance" for p in structure.numbered)


def _smaller_terms(parsed: RandomTerm, term: Term) -> list[tuple[str, Term | None]]:
    """What may be dropped of a term: its name, and what is left of the term."""
    tag = "" if parsed.structure == DEFAULT else parsed.structure
    text = f"{tag}({parsed.effects} | {parsed.label})"
    names = {o.name: o.parts for o in term.origins}
    slopes = [name for name, own in names.items() if own and not any(own < other for other in names.values())]
    if not slopes or term.structure.size <= 1 or term.structure.restricted:
        return [(text, None)]
    out: list[tuple[str, Term | None]] = []
    for slope in slopes:
        gone = [k for k, o in enumerate(term.origins) if o.name == slope]
        left = [k for k in range(term.c) if k not in gone]
        whole = not left and not np.all(term.values.sum(axis=1) == 1.0)  # no factor, whose levels sum to an intercept
        smaller = None if whole else _with_effects(term, left)
        out.append((f"{slope} in {text}" if not whole else text, smaller))
    return out


def _with_effects(term: Term, left: Sequence[int]) -> Term:
    """Term with some of its effects; with none of them an intercept, to which the levels of a factor sum."""
    if not left:
        ones = np.ones((len(term.values), 1))
        one = term.structure.reduced([0])
        return replace(term, effects=("(Intercept)",), structure=one, values=ones, origins=(INTERCEPT,))
    values = np.ascontiguousarray(term.values[:, list(left)])
    effects, origins = tuple(term.effects[k] for k in left), tuple(term.origins[k] for k in left)
    return replace(term, effects=effects, structure=term.structure.reduced(left), values=values, origins=origins)
