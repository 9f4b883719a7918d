"""MINQUE and MIVQUE(0)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.design.terms import Term
from mixedgen.engines import choose
from mixedgen.engines.system import System
from mixedgen.errors import ArgumentError, DesignError, examples
from mixedgen.estimation.moments import BLOCK, NOTHING_LEFT, MomentEstimates, require_scalar, source_names

_INDEPENDENT = 1e-10


def minque(design: Design, prior: ArrayLike | None = None) -> MomentEstimates:
    """Rao's minimum norm quadratic unbiased estimates.

    Parameters
    ----------
    design : Design
        Random terms of one coefficient each, and one residual variance.
    prior : array_like, shape (r + 1,), optional
        Prior variances of the terms of the design and of the residual, of which only the ratios matter; all one by
        default. Those of terms may be zero.

    Returns
    -------
    MomentEstimates
        With coefficients S and quadratics q.

    Raises
    ------
    ArgumentError
        If the prior has the wrong length, or a value is negative, not finite, or zero for the residual.
    NotAvailableError
        If a term has several coefficients, or there are several residual variances or responses.
    DesignError
        If the data do not tell the variances apart.

    Notes
    -----
    S theta = q with S_ij = tr(P V_i P V_j), q_i = y'P V_i P y and P at the prior variances [1]_. The estimates have
    least variance among the unbiased quadratic ones if y is normal and the prior is true [2]_; iterated, they arrive at
    REML [3]_.

    References
    ----------
    .. [1] Rao (1971) J Multivariate Anal 1:257-275.
    .. [2] LaMotte (1973) Biometrics 29:311-330.
    .. [3] Searle, Casella & McCulloch (1992) Variance Components, Wiley, chapter 11.
    """
    require_scalar(design, "minque")
    theta0 = _checked_prior(prior, len(design.terms) + 1)
    system = _prior_system(design, theta0)
    S = _expectations(design, system, theta0)
    q = _quadratic_forms(design, system.Py)
    d = 1.0 / np.sqrt(np.diag(S))
    scaled = S * np.outer(d, d)
    _require_independent(design, scaled)
    theta = d * np.linalg.solve(scaled, d * q)
    return MomentEstimates(theta, "minque", source_names(design.terms), q, S)


def mivque0(design: Design) -> MomentEstimates:
    """MINQUE with prior variances of zero for the terms and one for the residual.

    Parameters
    ----------
    design : Design
        As for `minque`.

    Returns
    -------
    MomentEstimates
        With coefficients S and quadratics q of least squares: P = W - W X (X'W X)^-1 X'W.

    Raises
    ------
    NotAvailableError, DesignError
        As `minque`.

    Notes
    -----
    LaMotte's case of no random variance [1]_, the MIVQUE(0) of Hartley, Rao & LaMotte [2]_.

    References
    ----------
    .. [1] LaMotte (1973) Biometrics 29:311-330.
    .. [2] Hartley, Rao & LaMotte (1978) Biometrics 34:233-242.
    """
    prior = np.zeros(len(design.terms) + 1)
    prior[-1] = 1.0
    return replace(minque(design, prior), method="mivque0")


def _checked_prior(prior: ArrayLike | None, size: int) -> Array:
    """Prior variances, all one by default."""
    try:
        theta0 = np.ones(size) if prior is None else np.array(prior, dtype=float)
    except (TypeError, ValueError) as err:
        raise ArgumentError(f"prior variances must be numbers, not {prior!r}.") from err
    if theta0.shape != (size,):
        raise ArgumentError(f"{size} prior variances are wanted, the residual's last; the shape is {theta0.shape}.")
    if not np.all(np.isfinite(theta0)) or np.any(theta0 < 0) or theta0[-1] == 0:
        raise ArgumentError(f"prior variances must not be negative, and the residual's not zero: {theta0.tolist()}.")
    return theta0


def _prior_system(design: Design, theta0: Array) -> System:
    """Equations at the prior, with the terms of positive prior variance only: the others do not change P."""
    # without fixed effects all terms stay, since there must be an equation
    active = np.flatnonzero((theta0[:-1] > 0) | (design.fixed.p == 0))
    part = replace(design, terms=tuple(design.terms[k] for k in active))
    return choose(part).at(np.append(theta0[active], theta0[-1]))


def _column_blocks(term: Term) -> Iterator[tuple[Array, Array]]:
    """Z and Z K of a term by blocks of columns, dense; one array twice where there is no K."""
    for start in range(0, term.q, BLOCK):
        stop = min(start + BLOCK, term.q)
        Z = term.Zt[start:stop].toarray().T
        if term.relationship is None:
            yield Z, Z
        else:
            unit = np.zeros((term.q, stop - start))
            unit[np.arange(start, stop), np.arange(stop - start)] = 1.0
            yield Z, term.Z @ term.multiply_relationship(unit)


def _expectations(design: Design, system: System, theta0: Array) -> Array:
    """S_ij = tr(P V_i P V_j) at the prior, shape (r + 1, r + 1).

    Raises
    ------
    DesignError
        If P leaves nothing of a term.

    Notes
    -----
    tr(P V_i P V_j) sums the elements of (K_i Z_i'P Z_j) * (Z_i'P Z_j K_j), block by block of the columns of Z_j. The
    element of the residual follows from P V P = P: tr(P V) = n - p and tr(P V P W^-1) = tr(P W^-1).
    """
    r, R = len(design.terms), design.residual
    S, traces = np.zeros((r + 1, r + 1)), np.zeros(r)
    for j, t in enumerate(design.terms):
        whole = 0.0
        for Z, ZK in _column_blocks(t):
            PZ = system.project(Z)
            PZK = PZ if ZK is Z else system.project(ZK)
            for i, other in enumerate(design.terms[: j + 1]):
                S[i, j] += np.sum(other.multiply_relationship(other.Zt @ PZ) * (other.Zt @ PZK))
            S[j, r] += np.sum(PZ * R.multiply_derivative(theta0[-1:], 0, PZK))
            traces[j] += np.sum(Z * PZK)
            whole += np.sum(Z * R.solve(theta0[-1:], ZK))
        if traces[j] <= NOTHING_LEFT * whole:
            raise DesignError(
                f"the fixed effects leave nothing of {t.key!r}: its variance cannot be estimated. Leave it out."
            )
    PW = (design.n - design.fixed.p - theta0[:r] @ traces) / theta0[r]
    S[r, r] = (PW - theta0[:r] @ S[:r, r]) / theta0[r]
    return np.triu(S) + np.triu(S, 1).T


def _quadratic_forms(design: Design, Py: Array) -> Array:
    """Y'P V_i P y, shape (r + 1,)."""
    loads = [t.Zt @ Py for t in design.terms]
    out = [g @ t.multiply_relationship(g[:, None])[:, 0] for t, g in zip(design.terms, loads, strict=True)]
    return np.array([*out, Py @ design.residual.multiply_derivative(np.ones(1), 0, Py)])


def _require_independent(design: Design, scaled: Array) -> None:
    """Raise a DesignError where the equations of MINQUE, scaled to a unit diagonal, are singular."""
    values, vectors = np.linalg.eigh(scaled)
    if values[0] > _INDEPENDENT:
        return
    involved = [name for name, v in zip(source_names(design.terms), vectors[:, 0], strict=True) if abs(v) > 1e-6]
    raise DesignError(
        f"the data do not tell the variances of {examples(involved)} apart. Leave one of these terms out, or use a "
        "relationship or repeated records."
    )
