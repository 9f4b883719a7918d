"""The parametric bootstrap: draws, intervals, in one process or several."""

from __future__ import annotations

import math
import multiprocessing
import pickle
import signal
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtri
from tqdm.auto import tqdm

from mixedgen.errors import (
    ArgumentError,
    ConvergenceWarning,
    EngineError,
    MixedgenError,
    outside,
    require_count,
    require_probability,
)
from mixedgen.estimation.expression import expression
from mixedgen.estimation.fitted import Fitted
from mixedgen.estimation.refit import refit
from mixedgen.intervals.profile import (
    INTERVAL_COLUMNS,
    expressions_among,
    profiled_names,
    requested,
    require_likelihood,
)
from mixedgen.intervals.targets import targets
from mixedgen.prediction.simulation import simulate

Statistic = Callable[[Fitted], "Mapping[str, float] | pd.Series | ArrayLike"]

_REPLICATES_AT_ONCE = 20  # replicates that a process returns together


def bootstrap(
    fitted: Fitted,
    statistic: Statistic | None = None,
    n: int = 500,
    seed: int | None = None,
    workers: int = 1,
    level: float = 0.95,
    progress: bool = False,
) -> pd.DataFrame:
    """Parametric bootstrap intervals; parameters as `bootstrap_draws`.

    Returns
    -------
    DataFrame
        By parameter, columns ``estimate bias se``, then ``lower upper`` (percentile), ``basic_lower basic_upper``,
        ``normal_lower normal_upper``, and ``n``, the number of replicates.

    Raises
    ------
    ArgumentError
        If the level is no probability, or an argument of `bootstrap_draws` is wrong.

    Warns
    -----
    ConvergenceWarning
        If replicates did not converge, or could not be fitted.

    Notes
    -----
    With q the quantiles of the draws t*, at (n + 1) times the probability: percentile q; basic 2 t - q; normal
    t - bias + z se, the bias mean(t*) - t [1]_.

    References
    ----------
    .. [1] Davison & Hinkley (1997) Bootstrap Methods and their Application, section 5.2.
    """
    require_probability(level)
    draws = bootstrap_draws(fitted, statistic, n, seed, workers, progress)
    return bootstrap_intervals(_as_row(statistic or _all_estimates, fitted), draws, level)


@dataclass(frozen=True)
class WithFunctions:
    """The statistic `_all_estimates` with functions of the variances."""

    expressions: tuple[str, ...]

    def __call__(self, fitted: Fitted) -> pd.Series:
        """Their values at a fit."""
        functions = [expression(text, fitted.design.theta_names) for text in self.expressions]
        values = {f.name: f.value(fitted.theta) for f in functions}
        return pd.concat([_all_estimates(fitted), pd.Series(values, dtype=float)])


def percentile(
    fitted: Fitted, parameters: str | Sequence[str] | None = None, level: float = 0.95, **options: Any
) -> pd.DataFrame:
    """Percentile intervals of the bootstrap, ``estimate lower upper``; parameters as `profile` and `bootstrap`."""
    known = profiled_names(fitted)
    functions = expressions_among(parameters, known, fitted)
    wanted = requested(parameters, (*known, *functions), known)
    table = bootstrap(fitted, WithFunctions(tuple(functions)) if functions else None, level=level, **options)
    return table.loc[[functions[name].name if name in functions else name for name in wanted], INTERVAL_COLUMNS]


def bootstrap_intervals(estimate: pd.Series, draws: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Intervals of `bootstrap` from the statistic at the fit and its draws."""
    tails = [0.5 - 0.5 * level, 0.5 + 0.5 * level]
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a value
        low, high = (np.nanquantile(draws.to_numpy(), p, axis=0, method="weibull") for p in tails)
    se, bias = draws.std(), draws.mean() - estimate
    half = float(ndtri(tails[1])) * se
    return pd.DataFrame(
        {
            "estimate": estimate,
            "bias": bias,
            "se": se,
            "lower": low,
            "upper": high,
            "basic_lower": 2.0 * estimate - high,
            "basic_upper": 2.0 * estimate - low,
            "normal_lower": estimate - bias - half,
            "normal_upper": estimate - bias + half,
            "n": draws.count(),
        }
    ).rename_axis("parameter")


def bootstrap_draws(
    fitted: Fitted,
    statistic: Statistic | None = None,
    n: int = 500,
    seed: int | None = None,
    workers: int = 1,
    progress: bool = False,
) -> pd.DataFrame:
    """Draws of a statistic from the parametric bootstrap, as lme4's ``bootMer(use.u = FALSE)``.

    Parameters
    ----------
    fitted : Fitted
        The model.
    statistic : callable, optional
        Its named values at a `Fitted`; `_all_estimates` by default. With several workers it must be importable.
    n : int
        Number of replicates.
    seed : int, optional
        Of the random numbers: each replicate has its own stream, so that the draws do not depend on `workers`.
    workers : int
        Processes; with more than one, a script needs its ``if __name__ == "__main__":``.
    progress : bool
        Show a progress line.

    Returns
    -------
    DataFrame
        A row for each replicate, missing where it could not be fitted. After an interruption from the keyboard, or
        where the system ended a worker, those that were done.

    Raises
    ------
    ArgumentError
        If n or `workers` is no whole number from 1, or the statistic cannot be sent to other processes.
    EngineError
        If the system ended a worker before any replicate was done.

    Warns
    -----
    ConvergenceWarning
        If replicates did not converge, or could not be fitted.
    UserWarning
        If it was interrupted, or a worker ended.
    """
    require_likelihood(fitted)
    require_count(n, "n")
    require_count(workers, "workers")
    statistic = statistic or _all_estimates
    seeds = np.random.SeedSequence(seed).spawn(int(n))
    rows: dict[int, pd.Series | None] = {}
    bad = 0
    with closing(_results(fitted, statistic, seeds, workers)) as stream:
        try:
            for k, row, converged in tqdm(stream, total=n, disable=not progress, desc="bootstrap", leave=False):
                rows[k] = row
                bad += not converged
        except (KeyboardInterrupt, BrokenProcessPool) as stop:
            warnings.warn(_stopped(stop, len(rows), n), UserWarning, stacklevel=outside())
    if bad:
        warnings.warn(f"{bad} of {len(rows)} replicates did not converge.", ConvergenceWarning, stacklevel=outside())
    names = _as_row(statistic, fitted).index
    empty = pd.Series(np.nan, index=names)
    table = [empty if rows[k] is None else rows[k] for k in sorted(rows)]
    return pd.DataFrame(table, index=pd.Index(sorted(rows), name="replicate"), columns=names, dtype=float)


def _stopped(stop: BaseException, done: int, n: int) -> str:
    """What stopped some replicates; raises it, or an EngineError, where none was done."""
    if isinstance(stop, KeyboardInterrupt):
        if not done:
            raise stop
        return f"interrupted: {done} of {n} replicates were done."
    if not done:
        raise EngineError(
            "the system ended a worker before any replicate was done: for want of memory? Take fewer workers."
        ) from stop
    return f"the system ended a worker, for want of memory perhaps: {done} of {n} replicates were done."


def _all_estimates(fitted: Fitted) -> pd.Series:
    """Standard deviations, correlations and coefficients, by the names of `profile`."""
    return pd.Series({t.name: t.estimate(fitted) for t in targets(fitted)}, dtype=float)


def _as_row(statistic: Statistic, fitted: Fitted) -> pd.Series:
    """A statistic as a series."""
    value = statistic(fitted)
    return pd.Series(np.atleast_1d(value) if not isinstance(value, Mapping | pd.Series) else value, dtype=float)


Replicate = tuple[int, pd.Series | None, bool]


def _results(
    fitted: Fitted, statistic: Statistic, seeds: Sequence[np.random.SeedSequence], workers: int
) -> Generator[Replicate, None, None]:
    """Number, statistic and convergence of each replicate, as they come."""
    if workers == 1:
        for k, seed in enumerate(seeds):
            yield _replicate(fitted, statistic, k, seed)
        return
    try:
        model = pickle.dumps((fitted, statistic))
    except (pickle.PicklingError, AttributeError, TypeError) as err:
        raise ArgumentError(
            f"the statistic cannot be sent to other processes ({err}): define it in a module, or use workers=1."
        ) from err
    size = max(1, min(_REPLICATES_AT_ONCE, math.ceil(len(seeds) / workers)))
    tasks = [(k, seeds[k : k + size]) for k in range(0, len(seeds), size)]
    # Fresh processes: a forked copy of a running thread pool may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(tasks)), context, initializer=_ignore_interrupt) as pool:
        futures = [pool.submit(_chunk, model, first, part) for first, part in tasks]
        broken: BrokenProcessPool | None = None
        try:
            for future in as_completed(futures):
                try:
                    chunk = future.result()
                except BrokenProcessPool as err:  # others may have been done before
                    broken = err
                    continue
                yield from chunk
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        if broken is not None:
            raise broken


def _ignore_interrupt() -> None:
    """Leave an interruption from the keyboard to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _chunk(model: bytes, first: int, seeds: Sequence[np.random.SeedSequence]) -> list[Replicate]:
    """Some replicates, in another process."""
    fitted, statistic = pickle.loads(model)
    return [_replicate(fitted, statistic, first + k, seed) for k, seed in enumerate(seeds)]


def _replicate(fitted: Fitted, statistic: Statistic, k: int, seed: np.random.SeedSequence) -> Replicate:
    """Draw y, refit, compute the statistic."""
    y = simulate(fitted, 1, seed=np.random.default_rng(seed))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            new = refit(fitted, y.to_numpy())
        except (MixedgenError, np.linalg.LinAlgError):
            return k, None, False
        return k, _as_row(statistic, new), new.outcome.converged
