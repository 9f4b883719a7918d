"""ML and REML value, score and average information from a `System`. Names no engine."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np

from mixedgen.arrays import Array
from mixedgen.engines.system import System
from mixedgen.sparse.threads import one_thread

_MANY = 50_000  # elements from which BLAS would take more threads


def deviance(system: System, reml: bool) -> float:
    """Minus twice the log-likelihood, all constants included (lme4's convention).

    Notes
    -----
    -2 l = log|V| + [log|X'V^-1X|] + y'Py + (n - [p]) log 2 pi, with the terms in brackets under REML only.
    """
    d = system.design
    freedom = d.n - (d.fixed.p if reml else 0)
    return system.logdet(reml) + system.quadratic + freedom * float(np.log(2.0 * np.pi))


def working_variates(system: System) -> tuple[Array, Array]:
    """Working variates and quadratic forms of the score.

    Returns
    -------
    F : ndarray, shape (n, n_theta)
        Column i is (dV/dtheta_i) P y.
    quadratics : ndarray, shape (n_theta,)
        y'P (dV/dtheta_i) P y.
    """
    d, Py = system.design, system.Py
    columns: list[Array] = []
    quadratics: list[float] = []
    for t, s in zip(d.terms, d.slices, strict=False):
        g = (t.Zt @ Py).reshape(t.c, t.q).T  # Z'Py, levels by coefficients
        Kg = t.multiply_relationship(g)
        for D in t.structure.derivatives(system.theta[s]):
            h = Kg @ D
            columns.append(t.Z @ h.T.ravel())
            quadratics.append(float(np.sum(g * h)))
    for k in range(d.residual.structure.size):
        f = d.residual.multiply_derivative(system.theta_R, k, Py)
        columns.append(f)
        quadratics.append(float(Py @ f))
    return np.stack(columns, axis=1), np.array(quadratics)


def score(system: System, reml: bool, quadratics: Array | None = None, *, spend: bool = False) -> Array:
    """Gradient of the log-likelihood on the natural scale, shape (n_theta,).

    Parameters
    ----------
    system : System
        Mixed-model equations at theta.
    reml : bool
        Restricted likelihood or not.
    quadratics : ndarray, optional
        From `working_variates`; computed when not given.
    spend : bool
        Whether the system may use up its factor, which halves the memory; it cannot solve afterwards.

    Notes
    -----
    dl/dtheta_i = -1/2 [tr(P V_i) - y'P V_i P y], V_i = dV/dtheta_i; V^-1 in the place of P in the trace under ML.
    """
    if quadratics is None:
        quadratics = working_variates(system)[1]
    return -0.5 * (system.traces(reml, spend=spend) - quadratics)


def average_information(system: System, F: Array | None = None) -> Array:
    """Average information matrix of the variance parameters.

    Parameters
    ----------
    system : System
        Mixed-model equations at theta.
    F : ndarray, shape (n, n_theta), optional
        Working variates; computed when not given.

    Returns
    -------
    ndarray, shape (n_theta, n_theta)
        Symmetric positive semi-definite.

    Notes
    -----
    AI = F' P F / 2 [1]_, the mean of observed and expected information; P F comes from one `solve` with F as data.

    References
    ----------
    .. [1] Gilmour, Thompson & Cullis (1995) Biometrics 51:1440.
    """
    if F is None:
        F = working_variates(system)[0]
    PF = system.project(F)
    with one_thread() if F.size > _MANY else nullcontext():  # a thin product: memory is what it waits for
        AI = 0.5 * (F.T @ PF)
    return 0.5 * (AI + AI.T)
