"""Estimators that maximise a likelihood."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from tqdm.auto import tqdm

from mixedgen.arrays import Array
from mixedgen.covariance.structure import Structure
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
_PROBES = 8  # random vectors whose products with matrices tell how many are independent
_NO_RANK = 1e-7  # share of a direction that is rounding
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
        If the effects of a term without a relationship fit any response exactly, or the derivatives of Var(y) by its
        variances span one of the residual's; or y is fitted exactly by X.
    """
    # beside correlated or known residuals, effects of single records have a variance of their own
    independent = design.residual.pairs is None and design.residual.structure.size > 0
    for k, t in enumerate(design.terms):
        many = independent and t.relationship is None and t.q * t.c >= design.n
        if many and (_saturates(t) or not _apart_from_residual(design, k)):
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


def _saturates(t: Term) -> bool:
    """Whether the rank of Z is the number of records; for a term whose records load several levels it is not asked."""
    if t.record is not None or t.counts.max() > t.c:
        return False
    order = np.argsort(t.level, kind="stable")
    within = np.arange(len(order)) - np.repeat(np.cumsum(t.counts) - t.counts, t.counts)
    rows = np.zeros((t.q, t.c, t.c))
    rows[t.level[order], within] = t.values[order]
    return bool(np.all(np.linalg.matrix_rank(rows) == t.counts))


def _apart_from_residual(design: Design, k: int) -> bool:
    """Whether the data tell the variances of a term from those of the residual.

    Notes
    -----
    With Q the projector on what the fixed effects leave, the matrices Q V_i Q of the derivatives of Var(y) by the
    parameters of both must span as much as those of each alone. Their products with a few random vectors have the same
    rank, with probability one.
    """
    t, R = design.terms[k], design.residual
    rng = np.random.default_rng(0)
    basis = _fixed_basis(design)

    def project(A: Array) -> Array:
        return A - basis @ (basis.T @ A)

    probes = project(rng.standard_normal((design.n, _PROBES)))
    ZtP = t.Zt @ probes
    dSigma = t.structure.derivatives(_generic(t.structure, rng))
    of_term = [project(t.Z @ _times(S, ZtP, t.q)) for S in dSigma]
    theta = _generic(R.structure, rng)
    of_residual = [project(R.multiply_derivative(theta, i, probes)) for i in range(R.structure.size)]
    return _rank([*of_term, *of_residual]) == _rank(of_term) + _rank(of_residual)


def _fixed_basis(design: Design) -> Array:
    """Orthonormal basis of the columns of X, shape (n, p)."""
    X = design.fixed.X
    return np.asarray(np.linalg.qr(X.toarray() if sp.issparse(X) else np.asarray(X))[0])


def _generic(structure: Structure, rng: np.random.Generator) -> Array:
    """Parameters of a structure at a covariance matrix of no special form."""
    A = rng.standard_normal((structure.dim, 2 * structure.dim))
    return np.asarray(structure.start(A @ A.T / structure.dim + np.eye(structure.dim)))


def _times(S: Array, U: Array, q: int) -> Array:
    """(S (x) I) U for U of shape (c q, m), coefficient by coefficient."""
    return np.tensordot(S, U.reshape(len(S), q, -1), axes=1).reshape(U.shape)


def _rank(matrices: Sequence[Array]) -> int:
    """How many of some matrices are linearly independent."""
    columns = np.stack([m.ravel() for m in matrices], axis=1)
    norms = np.linalg.norm(columns, axis=0)
    gone = norms <= _NO_RANK * norms.max()
    return int(np.linalg.matrix_rank(columns[:, ~gone] / norms[~gone], tol=_NO_RANK))


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
