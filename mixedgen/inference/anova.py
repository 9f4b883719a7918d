"""Tables of tests: fixed effects of one fit by type I, II or III, contrasts, and likelihood ratios between fits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc

from mixedgen.covariance.structure import make_structure
from mixedgen.design.design import Design
from mixedgen.design.fixed import FixedPart
from mixedgen.design.restrictions import Restricted
from mixedgen.design.terms import Term, unique_keys
from mixedgen.engines import choose
from mixedgen.errors import ArgumentError, NotAvailableError, examples, require_count
from mixedgen.estimation.estimate import Fitted, fit
from mixedgen.formula.parse import RandomTerm, model_spec
from mixedgen.inference.degrees import Inference, plain_name
from mixedgen.inference.exact import exact_p, require_one_variance
from mixedgen.inference.hypotheses import fixed_terms, hypotheses, without
from mixedgen.inference.wald import aic, bic, estimable, f_test, n_parameters, t_quantile, t_tests

Array = NDArray[np.float64]

TYPES = {"1": 1, "2": 2, "3": 3, "I": 1, "II": 2, "III": 3}
NOISE = 1e-9  # difference of two criteria, beside their size, that is rounding
F_COLUMNS = ["sumsq", "meansq", "numdf", "dendf", "f", "p"]


# ------------------------------------------------------------------------------------------- tests of one fit
def anova_table(inference: Inference, kind: int | str = 3, ddf: str = "satterthwaite") -> pd.DataFrame:
    """F test of each fixed term.

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
    if str(kind) not in TYPES:
        raise ArgumentError(f"type must be 1, 2 or 3, not {kind!r}.")
    tests = {
        name: f_test(inference, L, ddf) for name, L in hypotheses(inference.fitted.design, TYPES[str(kind)]).items()
    }
    return pd.DataFrame.from_dict(tests, orient="index", columns=F_COLUMNS).rename_axis("term")


def drop_one(inference: Inference, ddf: str = "satterthwaite") -> pd.DataFrame:
    """F test of each term that no other contains, as if it alone were dropped; columns as `anova_table`."""
    design = inference.fitted.design
    terms = fixed_terms(design)
    tests = {}
    for t in terms:
        if (t.factors or t.covariates) and not any(t.variables < o.variables for o in terms):
            tests[t.name] = f_test(inference, without(design.fixed, t), ddf)
    return pd.DataFrame.from_dict(tests, orient="index", columns=F_COLUMNS).rename_axis("term")


def contrast_rows(fitted: Fitted, L: ArrayLike | pd.DataFrame | pd.Series) -> tuple[Array, NDArray[np.bool_], pd.Index]:
    """Rows of L over the columns that are kept, whether each is estimable, and their labels.

    Raises
    ------
    ArgumentError
        If L fits neither all columns of X nor those that are kept, or names a column that is neither.
    """
    fixed = fitted.design.fixed
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
    kept = [k for k, name in enumerate(fixed.all_names) if name not in set(fixed.aliased)]
    return values[:, kept], good, labels


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
    rows, good, labels = contrast_rows(inference.fitted, L)
    rhs = np.asarray(rhs, dtype=float)
    if rhs.ndim > 1 or rhs.size not in (1, len(rows)):
        raise ArgumentError(f"rhs has shape {rhs.shape} for {len(rows)} rows of L.")
    rhs = np.broadcast_to(rhs, len(rows))
    if joint:
        if not good.all():
            raise ArgumentError(f"rows {examples(labels[~good])} of L are not estimable; test the others.")
        return pd.DataFrame([f_test(inference, rows, ddf, rhs)])[F_COLUMNS]
    return with_interval(t_tests(inference, rows, ddf, rhs), good, level).set_axis(labels, axis=0)


def with_interval(table: pd.DataFrame, good: NDArray[np.bool_], level: float) -> pd.DataFrame:
    """Table of t tests with its interval; rows that are not estimable are missing."""
    half = t_quantile(table["df"].to_numpy(), level) * table["se"]
    table = table.assign(lower=table["estimate"] - half, upper=table["estimate"] + half)
    table.loc[~np.asarray(good)] = np.nan
    return table


# ---------------------------------------------------------------------------------------- tests between fits
def compare(fits: Sequence[Fitted], refit: bool | None = None) -> pd.DataFrame:
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
    require_same_data(fits)
    reml = [f for f in fits if f.reml]
    if refit is False:
        require_comparable(fits)
    elif reml:
        if refit is None:
            warnings.warn(
                f"{len(reml)} models were refitted with ML instead of REML; anova(..., refit=True) does so silently, "
                "refit=False compares restricted likelihoods.",
                UserWarning,
                stacklevel=3,
            )
        fits = [fit(f.design, f.engine, "ml", f.control) if f.reml else f for f in fits]
    return likelihood_ratios(sorted(fits, key=n_parameters))


def likelihood_ratios(fits: Sequence[Fitted]) -> pd.DataFrame:
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
        "p": chi_squared_tail(chisq, df),
    }
    return pd.DataFrame(table, index=pd.Index(model_labels(fits), name="model"))


def model_labels(fits: Sequence[Fitted]) -> list[str]:
    """Formulas, with what is known of the variance parameters where formulas are the same."""
    labels = [f.design.parsed.source for f in fits]
    twice = {label for label in labels if labels.count(label) > 1}
    return [label + known_parameters(f) if label in twice else label for label, f in zip(labels, fits, strict=True)]


def known_parameters(fitted: Fitted) -> str:
    """Parameters that were fixed or equated, in brackets."""
    known = fitted.control.restrictions
    parts = [f"{name} = {value:g}" for name, value in known.fix.items()] + [" = ".join(g) for g in known.equate]
    return f" [{', '.join(parts)}]" if parts else ""


def chi_squared_tail(x: Array, df: Array) -> Array:
    """P-values of chi-squared statistics, missing for no degrees of freedom."""
    return np.where(df > 0, chdtrc(np.where(df > 0, df, 1.0), x), np.nan)


def require_same_data(fits: Sequence[Fitted]) -> None:
    """Raise an ArgumentError unless all models are of the same records and response."""
    if len(fits) < 2:
        raise ArgumentError("a comparison needs two models at least.")
    responses = [f.design.y if f.design.offset is None else f.design.y + f.design.offset for f in fits]
    for f, y in zip(fits, responses, strict=True):
        if len(y) != len(responses[0]):
            raise ArgumentError(
                f"the models use {len(responses[0])} and {len(y)} records: drop the rows with missing values first, "
                "or take the same subset."
            )
        if not np.array_equal(y, responses[0]):
            raise ArgumentError(f"the response of {f.design.parsed.source!r} is another than that of the first model.")


def require_comparable(fits: Sequence[Fitted]) -> None:
    """Raise an ArgumentError unless the criteria can be compared without a refit."""
    if len({f.method for f in fits}) > 1:
        raise ArgumentError("some models are fitted by REML and some by ML: use refit=True.")
    if fits[0].reml and any(not same_fixed_part(fits[0].design.fixed, f.design.fixed) for f in fits):
        raise ArgumentError(
            "restricted likelihoods of different fixed parts cannot be compared: use refit=True, which takes ML."
        )


def same_fixed_part(a: FixedPart, b: FixedPart) -> bool:
    """Whether two fixed parts are the same columns."""
    if a.names != b.names or a.X.shape != b.X.shape:
        return False
    difference = (
        abs(sp.csr_array(a.X) - sp.csr_array(b.X)) if sp.issparse(a.X) or sp.issparse(b.X) else np.abs(a.X - b.X)
    )
    return float(difference.max()) == 0.0 if a.X.shape[1] else True


# ------------------------------------------------------------------------------------------ random terms
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
    if fitted.optimum is None:
        raise NotAvailableError("the variances were given, not estimated: there is no likelihood ratio to test them.")
    if draws is not None:
        require_count(draws, "draws")
        require_one_variance(fitted)
    full = n_parameters(fitted)
    rows = {"<none>": lr_row(fitted, fitted, full, None)}
    for r in reductions(fitted.design):
        control = replace(fitted.control, start=None)
        smaller = fit(r.design, choose(r.design, control.engine), fitted.method, control)
        rows[r.name] = lr_row(smaller, fitted, full, r.weights)
    columns = ["npar", "loglik", "aic", "lrt", "df", "p", "p_boundary"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("term")
    if draws is None:
        return table
    rng = np.random.default_rng(seed)
    exact = [np.nan if np.isnan(x) else exact_p(fitted, float(x), int(draws), rng) for x in table["lrt"]]
    return table.assign(p_exact=exact)


def lr_row(smaller: Fitted, full: Fitted, npar: int, weights: tuple[tuple[float, int], ...] | None) -> dict[str, float]:
    """One row of the table of random terms."""
    own = n_parameters(smaller)
    out = {"npar": own, "loglik": -0.5 * smaller.deviance, "aic": aic(smaller)}
    if smaller is full:
        return out
    lrt = smaller.deviance - full.deviance
    lrt = lrt if lrt > NOISE * abs(full.deviance) else 0.0
    df = float(npar - own)
    p = float(chdtrc(df, lrt)) if df > 0 else np.nan
    return out | {"lrt": lrt, "df": df, "p": p, "p_boundary": mixture_tail(lrt, weights)}


def mixture_tail(x: float, weights: tuple[tuple[float, int], ...] | None) -> float:
    """P-value of a mixture of chi-squared distributions; that of 0 degrees of freedom is a mass at 0."""
    if weights is None:
        return np.nan
    return float(sum(w * (chdtrc(df, x) if df else float(x <= 0.0)) for w, df in weights))


def reductions(design: Design) -> list[Reduction]:
    """Models with one random term, or one slope of it, less; terms in the order they were written."""
    keys = unique_keys(design.parsed.terms)
    by_key = {t.key: k for k, t in enumerate(design.terms)}
    out: list[Reduction] = []
    for key, parsed in zip(keys, design.parsed.terms, strict=True):
        k = by_key[key]
        for name, smaller, lost in smaller_terms(parsed, design.terms[k]):
            rest = [*design.terms[:k], *([smaller] if smaller is not None else []), *design.terms[k + 1 :]]
            weights = mixture(design.terms[k], lost)
            out.append(Reduction(name, replace(design, terms=tuple(rest)), weights))
    return out


def mixture(term: Term, lost: int) -> tuple[tuple[float, int], ...] | None:
    """Mixture for the loss of some of the effects of a term; None where its weights are not known."""
    if len(term.structure.blocks) == 1 and term.structure.size == 1:
        return ((0.5, 0), (0.5, 1))
    if lost != 1 or isinstance(term.structure, Restricted):
        return None
    own = len(term.structure.blocks[0])
    correlated = term.c - 1 if len(term.structure.blocks) == 1 and own > 1 else 0
    return ((0.5, correlated), (0.5, correlated + 1))


def smaller_terms(parsed: RandomTerm, term: Term) -> list[tuple[str, Term | None, int]]:
    """What may be dropped of a term: its name, what is left of the term, and how many effects go."""
    tag = "" if parsed.structure == "us" else parsed.structure
    text = f"{tag}({parsed.effects} | {parsed.label})"
    spec = list(model_spec(parsed.effects))
    sets = [frozenset(str(f.expr) for f in t.factors if str(t) != "1") for t in spec]
    slopes = [t for t, own in zip(spec, sets, strict=True) if own and not any(own < other for other in sets)]
    if not slopes or term.structure.size <= 1 or isinstance(term.structure, Restricted):
        return [(text, None, term.c)]
    out: list[tuple[str, Term | None, int]] = []
    for slope in slopes:
        gone = [k for k, e in enumerate(term.effects) if plain_name(e) == str(slope)]
        left = [k for k in range(term.c) if k not in gone]
        whole = not left and not np.all(term.values.sum(axis=1) == 1.0)  # no factor, whose levels sum to an intercept
        smaller = None if whole else with_effects(term, left)
        out.append((f"{slope} in {text}" if not whole else text, smaller, len(gone) if left else term.c - 1))
    return out


def with_effects(term: Term, left: Sequence[int]) -> Term:
    """Term with some of its effects; with none of them an intercept, to which the levels of a factor sum."""
    if not left:
        ones = np.ones((len(term.values), 1))
        return replace(term, effects=("(Intercept)",), structure=make_structure("us", 1, {}), values=ones)
    structure = make_structure(term.structure.tag, len(left), {})
    values = np.ascontiguousarray(term.values[:, list(left)])
    return replace(term, effects=tuple(term.effects[k] for k in left), structure=structure, values=values)
