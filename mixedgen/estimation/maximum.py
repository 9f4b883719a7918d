"""Estimators that maximise a likelihood."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tqdm.auto import tqdm

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.design.terms import Term
from mixedgen.engines.system import Engine
from mixedgen.errors import DesignError
from mixedgen.estimation.ascent import maximise
from mixedgen.estimation.certificate import certify
from mixedgen.estimation.control import Control
from mixedgen.estimation.given import theta_from
from mixedgen.estimation.optimum import Step
from mixedgen.estimation.outcome import Estimated
from mixedgen.estimation.start import data_start, other_starts

_FARTHEST = 3000.0  # standard deviations from zero of a covariate: the square of it is lost of 16 digits
LONG = 1.0  # seconds after which a progress line is worth its place
_EXACT_FIT = 1e-14  # residual variance beside the mean square of y: rounding only


def restricted(
    design: Design, engine: Engine, control: Control, starts: Sequence[Array] = ()
) -> tuple[Array, Estimated]:
    """REML estimates, from the first of some starts, or from the data's own."""
    return _maximum(design, engine, control, starts, reml=True)


def full(design: Design, engine: Engine, control: Control, starts: Sequence[Array] = ()) -> tuple[Array, Estimated]:
    """ML estimates, from the first of some starts, or from the data's own."""
    return _maximum(design, engine, control, starts, reml=False)


def _maximum(
    design: Design, engine: Engine, control: Control, starts: Sequence[Array], *, reml: bool
) -> tuple[Array, Estimated]:
    """Theta at the largest likelihood, and the evidence."""
    _check_estimable(design, engine)
    first, *others = starts or _own_starts(design, engine, control)
    with tqdm(
        disable=not control.progress, desc="REML" if reml else "ML", unit=" steps", leave=False, delay=LONG
    ) as line:

        def watch(step: Step) -> None:
            line.set_postfix_str(f"criterion {step.deviance:.4f}, {step.kind} step")
            line.update()

        optimum = maximise(
            engine, first, reml=reml, control=control, others=others, watch=watch if control.progress else None
        )
    return optimum.theta, Estimated(optimum, certify(design, engine, optimum), control.curvature.text)


def _own_starts(design: Design, engine: Engine, control: Control) -> list[Array]:
    """Start from the data, or from the variances that `control` gives; after a hard way from others."""
    first = data_start(design, engine)
    if control.start:
        return [theta_from(design, control.start, first, name="start")]
    return [first] if control.max_iter is not None else [first, *other_starts(design, engine, control.seed)]


def _check_estimable(design: Design, engine: Engine) -> None:
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
        _require_near_origin(t)
    size = float(np.mean((design.y - design.y.mean()) ** 2) + np.finfo(float).eps * np.mean(design.y**2))
    if engine.scales.spread <= _EXACT_FIT * size or size == 0.0:
        raise DesignError(
            "the fixed effects fit the response exactly: no variance is left to estimate. Is the response constant?"
        )


def _require_near_origin(t: Term) -> None:
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
        far = np.flatnonzero((left < norms / _FARTHEST) & (left > 1e-12 * norms))
        if len(far):
            name = t.effects[component[far[0]]]
            raise DesignError(
                f"effect {name!r} of term {t.key!r} lies {norms[far[0]] / left[far[0]]:.2g} standard deviations from "
                "zero: its covariance with the other effects cannot be told in double precision. Centre it."
            )
