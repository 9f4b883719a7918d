"""Design and control to a `Fitted` model: variances by an estimator of the registry, or given."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.engines.memory import enough_memory
from mixedgen.engines.system import Engine
from mixedgen.errors import ArgumentError, ConvergenceWarning, DesignError, examples, outside
from mixedgen.estimation.control import Control
from mixedgen.estimation.estimators import ESTIMATORS, estimator_of
from mixedgen.estimation.fitted import Fitted, negative
from mixedgen.estimation.given import theta_from


def fit(
    design: Design,
    engine: Engine,
    method: str = "reml",
    control: Control | None = None,
    *,
    starts: Sequence[Array] = (),
) -> Fitted:
    """Estimate the variance parameters of a design.

    Parameters
    ----------
    design : Design
        The model.
    engine : Engine
        Its analysed equations.
    method : str
        An estimator of the registry: ``"reml"``, ``"ml"``, ``"minque"``, ``"mivque0"``, ``"anova3"``.
    control : Control, optional
        How to estimate.
    starts : sequence of ndarray
        Theta to start from, for an estimator that takes start values; the others estimate anew.

    Returns
    -------
    Fitted
        Estimates with their outcome.

    Raises
    ------
    ArgumentError, DesignError
        If the method is unknown or lacks an option of `control`, or the variances cannot be told apart.

    Warns
    -----
    ConvergenceWarning
        If the outcome is not converged.
    """
    control = control or Control()
    estimator = estimator_of(method)
    estimator.require_options(control)
    _require_levels(design)
    more = (starts,) if starts and estimator.resumes else ()
    with enough_memory("while the variances were estimated"):
        theta, outcome = estimator.estimate(design, engine, control, *more)
    if not outcome.converged:
        warnings.warn(str(outcome.certificate or outcome.verdict(method)), ConvergenceWarning, stacklevel=outside())
    system = outcome.system
    if system is None and not negative(design, theta):
        system = engine.at(theta)
    return Fitted(design, engine, system, theta, method, control, outcome)


def _require_levels(design: Design) -> None:
    """Raise a DesignError for a term of one level whose variances are drawn once each."""
    for t in design.terms:
        if t.q == 1 and t.structure.size >= t.c:
            raise DesignError(
                f"the grouping factor {t.key!r} has one level only ({examples(list(t.levels))}): its variance cannot "
                "be estimated. Leave it out, or give its variance: model.solve(variances)."
            )


def solve_at(
    design: Design, engine: Engine, variances: Mapping[str, Any], method: str = "reml", control: Control | None = None
) -> Fitted:
    """The design at given variances: BLUE, BLUP and likelihood without estimation.

    Raises
    ------
    ArgumentError
        If the variances do not fit the terms, or the method has no likelihood.
    """
    _require_likelihood(method)
    theta = theta_from(design, variances)
    with enough_memory("while the equations were solved"):
        system = engine.at(theta)
    return Fitted(design, engine, system, theta, method, control or Control())


def _require_likelihood(method: str) -> None:
    """Raise an ArgumentError for a method without a likelihood."""
    if not estimator_of(method).criterion:
        with_one = " or ".join(repr(name) for name, e in ESTIMATORS.items() if e.criterion)
        raise ArgumentError(f"method={method!r} estimates variances; give {with_one} with known ones.")
