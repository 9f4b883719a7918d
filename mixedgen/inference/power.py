"""Power of a test by simulation, over values of a coefficient and numbers of levels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from mixedgen.arrays import Array
from mixedgen.design.arguments import ModelArguments
from mixedgen.design.build import build
from mixedgen.design.design import Design
from mixedgen.errors import (
    ArgumentError,
    ConvergenceWarning,
    MixedgenError,
    NotAvailableError,
    examples,
    outside,
    require_count,
    require_probability,
    suggestion,
)
from mixedgen.estimation.estimate import fit
from mixedgen.estimation.fitted import Fitted
from mixedgen.estimation.refit import with_response
from mixedgen.formula.parts import Column
from mixedgen.inference.anova import anova_table
from mixedgen.inference.inference import Inference
from mixedgen.inference.wald import coefficient_table
from mixedgen.prediction.simulation import draw, mean_of_records


@dataclass(frozen=True)
class Scenario:
    """One point of a power curve: the model with its true values.

    Attributes
    ----------
    settings : dict
        What is varied, and its value.
    truth : Fitted
        Design and variances that data are drawn from.
    mean : ndarray, shape (records,)
        Fixed part and offset at the true coefficients.
    """

    settings: dict[str, float]
    truth: Fitted
    mean: Array


def power(
    fitted: Fitted,
    term: str,
    *,
    arguments: ModelArguments | None = None,
    coefficients: Mapping[str, float | Sequence[float]] | None = None,
    levels: Mapping[str, int | Sequence[int]] | None = None,
    n: int = 500,
    seed: int | None = None,
    alpha: float = 0.05,
    ddf: str = "satterthwaite",
    progress: bool = False,
) -> pd.DataFrame:
    """Share of simulated data sets in which a test rejects.

    Parameters
    ----------
    fitted : Fitted
        The model, with the variances and coefficients that count as true.
    term : str
        Fixed term, by the F test of `anova` of type III, or coefficient, by its t test.
    arguments : ModelArguments, optional
        Data and arguments of the model, needed for other numbers of levels.
    coefficients : mapping of str to number or numbers, optional
        True values in the place of the estimates.
    levels : mapping of str to int or ints, optional
        Numbers of levels of one grouping column: the records of its levels are repeated in turn, or the last levels
        left out. Levels of other grouping columns that are nested in it are repeated with it.
    n : int
        Data sets for each scenario.
    seed : int, optional
        Of the random numbers; each scenario draws from its own stream.
    alpha : float
        Level of the test.
    ddf : str
        Method of degrees of freedom.
    progress : bool
        Show a progress line.

    Returns
    -------
    DataFrame
        A row for each combination: the values varied, then ``power lower upper n failed``. The ends are of the exact
        95 % interval for n tests; `failed` data sets, which had no converged fit, are not among the n.

    Raises
    ------
    ArgumentError
        If a name is unknown, or a number out of range.
    NotAvailableError
        If the model cannot be built with other numbers of levels.

    Warns
    -----
    UserWarning
        If it was interrupted from the keyboard; the data sets that were done are counted.

    Notes
    -----
    Data are drawn from N(X b, V(theta)), refitted by the method of the fit, and tested. Interval of Clopper and Pearson
    (1934) Biometrika 26:404.
    """
    require_count(n, "n")
    require_probability(alpha, "alpha")
    if not fitted.outcome.has_df:
        raise NotAvailableError(f"method={fitted.method!r} has no tests.")
    _require_test(fitted, term, ddf)
    listed = list(_scenarios(fitted, arguments, coefficients or {}, levels or {}))
    streams = np.random.SeedSequence(seed).spawn(len(listed))
    rows: list[dict[str, float]] = []
    for scenario, stream in zip(listed, streams, strict=True):
        draws = _p_values(scenario, term, n, np.random.default_rng(stream), ddf)
        done: list[float] = []
        try:
            for p in tqdm(draws, total=n, disable=not progress, desc=f"power {scenario.settings or ''}", leave=False):
                done.append(p)
        except KeyboardInterrupt:
            if not rows and not done:
                raise
            place = f"combination {len(rows) + 1} of {len(listed)}"
            text = f"interrupted: {len(done)} of {n} data sets of {place} were done."
            warnings.warn(text, UserWarning, stacklevel=outside())
            return pd.DataFrame([*rows, *([{**scenario.settings, **summary(np.array(done), alpha)}] if done else [])])
        rows.append({**scenario.settings, **summary(np.array(done), alpha)})
    return pd.DataFrame(rows)


def summary(p: Array, alpha: float) -> dict[str, float]:
    """Power with its interval from p-values, missing ones failed."""
    from scipy.stats import binomtest  # half a second to import

    done = p[~np.isnan(p)]
    if not len(done):
        return {"power": np.nan, "lower": 0.0, "upper": 1.0, "n": 0, "failed": len(p)}
    rejected = int((done < alpha).sum())
    interval = binomtest(rejected, len(done)).proportion_ci()
    share = rejected / len(done)
    return {"power": share, "lower": interval.low, "upper": interval.high, "n": len(done), "failed": len(p) - len(done)}


def _p_values(scenario: Scenario, term: str, n: int, rng: np.random.Generator, ddf: str) -> Iterator[float]:
    """P-value in each data set; missing where there is no converged fit."""
    truth = scenario.truth
    for y in draw(truth, scenario.mean, n, rng).T:
        design = with_response(truth.design, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                new = fit(design, truth.engine.anew(design), truth.method, truth.control)
                yield _p_value(new, term, ddf) if new.outcome.converged else np.nan
            except (MixedgenError, np.linalg.LinAlgError):
                yield np.nan


def _p_value(fitted: Fitted, term: str, ddf: str) -> float:
    """P-value of a term, or of a coefficient."""
    inference = Inference(fitted)
    if term in fitted.design.fixed.names:
        return float(coefficient_table(inference, ddf)["p"][term])
    return float(anova_table(inference, 3, ddf)["p"][term])


def _require_test(fitted: Fitted, term: str, ddf: str) -> None:
    """Raise an ArgumentError unless the term has a test."""
    if term in fitted.design.fixed.names:
        coefficient_table(Inference(fitted), ddf)
        return
    known = list(anova_table(Inference(fitted), 3, ddf).index)
    if term not in known:
        names = examples([*known, *(x for x in fitted.design.fixed.names if x not in known)])
        raise ArgumentError(f"no fixed term or coefficient {term!r} to test; there are {names}.")


def _scenarios(
    fitted: Fitted,
    arguments: ModelArguments | None,
    coefficients: Mapping[str, float | Sequence[float]],
    levels: Mapping[str, int | Sequence[int]],
) -> Iterator[Scenario]:
    """Every combination of the values of the coefficients and the numbers of levels."""
    names = list(fitted.design.fixed.names)
    unknown = [name for name in coefficients if name not in names]
    if unknown:
        raise ArgumentError(
            f"no coefficient {examples(unknown)}; there are {examples(names)}.{suggestion(unknown[0], names)}"
        )
    if len(levels) > 1:
        raise ArgumentError(f"levels may vary one grouping column, not {examples(list(levels))}.")
    column, counts = next(iter(levels.items()), ("", [0]))
    values = [np.atleast_1d(np.asarray(v, dtype=float)) for v in coefficients.values()]
    for count in np.atleast_1d(counts):
        truth, mean = resized(fitted, arguments, column, count) if column else (fitted, _mean_at(fitted))
        for chosen in product(*values):
            moved = mean.copy()
            for name, value in zip(coefficients, chosen, strict=True):
                j = names.index(name)
                moved += truth.design.fixed.column(j) * (value - fitted.system.solution.b[j])
            settings = dict(zip(coefficients, map(float, chosen), strict=True))
            yield Scenario({**settings, **({column: int(count)} if column else {})}, truth, moved)


def _mean_at(fitted: Fitted) -> Array:
    """X b and the offset."""
    return mean_of_records(fitted, conditional=False)


def resized(fitted: Fitted, arguments: ModelArguments | None, column: str, count: int) -> tuple[Fitted, Array]:
    """The model with another number of levels of a grouping column, and its mean."""
    require_count(count, f"levels[{column!r}]")
    _require_resizable(fitted, arguments, column)
    assert arguments is not None
    rows, copy = _repeated_rows(arguments.data[column].iloc[fitted.design.kept], int(count))
    used = arguments.data.iloc[fitted.design.kept]
    frame = used.iloc[rows].reset_index(drop=True)
    for name in _nested_columns(used, column, _plain_columns(fitted.design)):
        frame[name] = [f"{v}.{k}" if k else str(v) for v, k in zip(frame[name], copy, strict=True)]
    control = fitted.control
    given = arguments.revised(data=frame, subset=None)
    design = build(given, constraints=control.constraints, restrictions=control.restrictions)
    if design.fixed.names != fitted.design.fixed.names:
        raise NotAvailableError(f"with {count} levels of {column!r} the fixed effects are not those of the fit.")
    return fitted.carried_to(design), _mean_at(fitted)[rows]


def _require_resizable(fitted: Fitted, arguments: ModelArguments | None, column: str) -> None:
    """Raise unless the records of a grouping column can be repeated."""
    if arguments is None:
        raise NotAvailableError("the data of this fit are not known: `levels` needs a fit by lmm or MixedModel.")
    known = _plain_columns(fitted.design)
    if column not in known:
        raise ArgumentError(f"no grouping column {column!r}; there are {examples(sorted(known))}.")
    if any(f.link or not isinstance(f.source, Column) for t in fitted.design.parsed.terms for f in t.factors):
        raise NotAvailableError("levels with relatives, or in several columns, cannot be repeated.")
    if fitted.design.records.several or fitted.design.residual.pairs is not None:
        raise NotAvailableError("records of several traits or with correlated residuals cannot be repeated by level.")
    if arguments.weights is not None and not isinstance(arguments.weights, str):
        raise NotAvailableError("weights must be a column of the data for other numbers of levels.")


def _plain_columns(design: Design) -> set[str]:
    """Plain columns right of the bars."""
    sources = [f.source for term in design.parsed.terms for f in term.factors]
    return {s.name for s in sources if isinstance(s, Column)}


def _nested_columns(frame: pd.DataFrame, column: str, grouping: set[str]) -> list[str]:
    """The column, and the grouping columns each of whose levels lies within one of its levels."""
    within = [c for c in sorted(grouping - {column}) if (frame.groupby(c, observed=True)[column].nunique() == 1).all()]
    return [column, *within]


def _repeated_rows(column: pd.Series, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of as many levels, repeated in turn, and which copy each is of."""
    codes, found = pd.factorize(column)
    own = [np.flatnonzero(codes == k) for k in range(len(found))]
    parts = [(own[k % len(found)], k // len(found)) for k in range(count)]
    rows = np.concatenate([r for r, _ in parts])
    return rows, np.repeat([c for _, c in parts], [len(r) for r, _ in parts])
