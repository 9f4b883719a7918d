"""Design and control to a `Fitted` model: start values, optimum, certificate."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
from tqdm.auto import tqdm

from mixedgen.design.design import Design
from mixedgen.design.terms import Term
from mixedgen.engines.system import Engine, System
from mixedgen.errors import ArgumentError, ConvergenceWarning, DesignError
from mixedgen.estimation.ascent import maximise
from mixedgen.estimation.certificate import certify
from mixedgen.estimation.control import Control
from mixedgen.estimation.fitted import Fitted, Unsolved
from mixedgen.estimation.given import theta_from
from mixedgen.estimation.moments import MOMENTS
from mixedgen.estimation.optimum import Step
from mixedgen.estimation.start import moment_start, other_starts

Method = Literal["reml", "ml"]

LIKELIHOODS = ("reml", "ml")
METHODS = (*LIKELIHOODS, *MOMENTS)
FARTHEST = 3000.0  # standard deviations from zero of a covariate: the square of it is lost of 16 digits
LONG = 1.0  # seconds after which a progress line is worth its place
EXACT_FIT = 1e-14  # residual variance beside the mean square of y: rounding only


def check_estimable(design: Design, engine: Engine) -> None:
    """Raise a DesignError where the variances cannot be told apart.

    Raises
    ------
    DesignError
        If a term without a relationship has as many effects as there are records, or y is fitted exactly by X.
    """
    # beside correlated or known residuals, effects of single records have a variance of their own
    independent = design.residual.pairs is None and design.residual.structure.size > 0
    for t in design.terms:
        if independent and t.relationship is None and t.q * t.c >= design.n:
            raise DesignError(
                f"term {t.key!r} has {t.q} levels x {t.c} effects for {design.n} records: its variance cannot be told "
                "from the residual variance. Use a relationship (1|"
                + t.key
                + ":A), repeated records, or model.solve(variances)."
            )
        require_near_origin(t)
    size = float(np.mean((design.y - design.y.mean()) ** 2) + np.finfo(float).eps * np.mean(design.y**2))
    if engine.spread <= EXACT_FIT * size or size == 0.0:
        raise DesignError(
            "the fixed effects fit the response exactly: no variance is left to estimate. Is the response constant?"
        )


def require_near_origin(t: Term) -> None:
    """Raise a DesignError for a covariate of correlated effects that is too far from zero for double precision.

    Notes
    -----
    The variance of the intercept is then that of a value extrapolated over many standard deviations of the covariate:
    the information of the data is lost beside it with the square of that distance.
    """
    for component in t.structure.components:
        z = t.values[:, component]
        if z.shape[1] == 1 or len(z) < z.shape[1]:
            continue
        R = np.asarray(np.linalg.qr(z, mode="r"))
        norms, left = np.linalg.norm(R, axis=0), np.abs(np.diag(R))
        far = np.flatnonzero((left < norms / FARTHEST) & (left > 1e-12 * norms))
        if len(far):
            name = t.effects[component[far[0]]]
            raise DesignError(
                f"effect {name!r} of term {t.key!r} lies {norms[far[0]] / left[far[0]]:.2g} standard deviations from "
                "zero: its covariance with the other effects cannot be told in double precision. Centre it."
            )


def fit(design: Design, engine: Engine, method: str = "reml", control: Control | None = None) -> Fitted:
    """Estimate the variance parameters of a design.

    Parameters
    ----------
    design : Design
        The model.
    engine : Engine
        Its analysed equations.
    method : {"reml", "ml"}
        Restricted or full likelihood.
    control : Control, optional
        How to estimate.

    Returns
    -------
    Fitted
        Estimates with their certificate.

    Raises
    ------
    ArgumentError, DesignError
        If the method is unknown, or the variances cannot be told apart.

    Warns
    -----
    ConvergenceWarning
        If the certificate says "not converged".
    """
    control = control or Control()
    require_method(method)
    if method in MOMENTS:
        return fit_by_moments(design, engine, method, control)
    check_estimable(design, engine)
    theta = moment_start(design, engine)
    if control.start:
        theta = theta_from(design, control.start, theta, name="start")
    with tqdm(
        disable=not control.progress, desc="REML" if method == "reml" else "ML", unit=" steps", leave=False, delay=LONG
    ) as line:

        def watch(step: Step) -> None:
            line.set_postfix_str(f"criterion {step.deviance:.4f}, {step.kind} step")
            line.update()

        others = [] if control.start or control.max_iter is not None else other_starts(design, engine, control.seed)
        optimum = maximise(
            engine,
            theta,
            reml=method == "reml",
            control=control,
            others=others,
            watch=watch if control.progress else None,
        )
    certificate = certify(design, engine, optimum)
    if not certificate.converged:
        warnings.warn(str(certificate), ConvergenceWarning, stacklevel=4)
    return Fitted(design, engine, optimum.system, optimum.theta, method, control, optimum.history, certificate, optimum)


def fit_by_moments(design: Design, engine: Engine, method: str, control: Control) -> Fitted:
    """Estimates by quadratic forms equated to their expectations; negative ones stay."""
    found = MOMENTS[method](design)
    negative = [name for name, v in zip(design.theta_names, found.theta, strict=True) if v < 0]
    if found.theta[-1] == 0:
        negative.append("residual")
    system = cast(System, Unsolved(negative)) if negative else engine.at(found.theta)
    return Fitted(design, engine, system, found.theta, method, control, moments=found)


def evaluate(
    design: Design, engine: Engine, variances: Mapping[str, Any], method: str = "reml", control: Control | None = None
) -> Fitted:
    """The design at given variances: BLUE, BLUP and likelihood without estimation.

    Raises
    ------
    ArgumentError
        If the variances do not fit the terms.
    """
    require_method(method)
    if method in MOMENTS:
        raise ArgumentError(f"method={method!r} estimates variances; give 'reml' or 'ml' with known ones.")
    theta = theta_from(design, variances)
    return Fitted(design, engine, engine.at(theta), theta, method, control or Control())


def require_method(method: str) -> None:
    """Raise an ArgumentError for a method that does not exist."""
    if method not in METHODS:
        raise ArgumentError(f"there is no method {method!r}; choose one of: {', '.join(METHODS)}.")
