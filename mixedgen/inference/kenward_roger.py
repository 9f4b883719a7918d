"""Kenward and Roger's adjusted covariance matrix, and the scale and degrees of freedom of their F."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mixedgen.arrays import Array
from mixedgen.errors import NotAvailableError
from mixedgen.estimation.expected import expected_information, has_exact_information, is_linear, n_effects
from mixedgen.estimation.fitted import Fitted
from mixedgen.inference.information import (
    DIFFERENCE_STEP,
    MEMORY_LIMIT,
    differences,
    exact_possible,
    free_directions,
    moved_weights,
    pseudo_inverse,
)
from mixedgen.inference.linear_parameters import linear_hull


def kenward_roger_weights(fitted: Fitted) -> Array:
    """Inverse of the expected REML information of all parameters, on the boundary too, as pbkrtest keeps them.

    Raises
    ------
    NotAvailableError
        If the model is an ML fit, V has no linear parameters, or the information does not fit into memory.

    Notes
    -----
    tr(P V_i P V_j) / 2 follows from that of the elements sigma of the covariance matrices, in which V is linear, by
    V_i = sum_k (dsigma_k / dtheta_i) V_k.
    """
    if not fitted.reml:
        raise NotAvailableError("Kenward-Roger is defined for REML fits; fit with method='reml', or ask for 'z'.")
    if is_linear(fitted.design):
        return pseudo_inverse(_reml_information(fitted))
    hull = linear_hull(fitted)
    return pseudo_inverse(hull.jacobian.T @ _reml_information(hull.fitted) @ hull.jacobian)


def _reml_information(fitted: Fitted) -> Array:
    """Expected REML information of a V that is linear in theta, shape (n_theta, n_theta)."""
    if exact_possible(fitted):
        return expected_information(fitted.system, True)[0]
    directions = free_directions(fitted)
    if directions.jacobian.shape[1] == len(fitted.theta):
        slopes = differences(fitted, directions, lambda system: system.traces(True))
        E = -0.5 * np.linalg.solve(directions.jacobian.T, slopes.T)
        return 0.5 * (E + E.T)
    Q = n_effects(fitted.design)
    if 8 * Q**2 > MEMORY_LIMIT or not has_exact_information(fitted.design):
        raise NotAvailableError(
            f"Kenward-Roger at a boundary needs a matrix of {Q} x {Q} effects ({8 * Q**2 / 1e9:.1f} GB), which is "
            f"beyond {MEMORY_LIMIT / 1e9:.1f} GB, and one residual variance; use ddf='satterthwaite'."
        )
    return expected_information(fitted.system, True)[0]


@dataclass(frozen=True)
class AdjustedMoments:
    """Covariance of L b, shape (m, m), its derivatives by theta, shape (n_theta, m, m), and the adjusted one."""

    covariance: Array
    derivatives: Array
    adjusted: Array


def kenward_roger_moments(fitted: Fitted, Phi: Array, weights: Array, L: Array) -> AdjustedMoments:
    """Covariance of L b, its derivatives by theta, and Kenward and Roger's adjusted covariance.

    Parameters
    ----------
    fitted : Fitted
        The model.
    Phi : ndarray, shape (p, p)
        (X'V^-1 X)^-1.
    weights : ndarray, shape (n_theta, n_theta)
        From `kenward_roger_weights`.
    L : ndarray, shape (m, p)
        Over the columns of X that are kept.

    Returns
    -------
    AdjustedMoments
        ``covariance`` L Phi L', ``derivatives`` w'V_i w = -L Phi P_i Phi L' with w = V^-1 X Phi L', and ``adjusted``
        L (Phi + 2 Phi [sum_ij W_ij (Q_ij - P_i Phi P_j - R_ij / 4)] Phi) L' [1]_.

    Notes
    -----
    Phi (Q_ij - P_i Phi P_j) Phi = (V_i w)' P (V_j w): one solve with m n_theta right-hand sides, and no cancellation.
    Phi R_ij Phi = w' V_ij w, which vanishes where V is linear in theta.

    References
    ----------
    .. [1] Kenward & Roger (1997) Biometrics 53:983; Halekoh & Hojsgaard (2014) J Stat Softw 59(9).
    """
    V = L @ Phi @ L.T
    w = fitted.system.blue_weights(L)
    moved = np.stack(list(moved_weights(fitted, w)))
    derivatives = np.einsum("na,inb->iab", w, moved, optimize=True)
    size, n, m = moved.shape
    projected = fitted.system.project(np.moveaxis(moved, 0, 1).reshape(n, size * m)).reshape(n, size, m)
    # sum_ij W_ij (V_i w)' P (V_j w), the sum over j first
    mixed = np.einsum("ij,njm->inm", weights, projected, optimize=True)
    adjustment = np.einsum("ina,inb->ab", moved, mixed, optimize=True)
    adjusted = V + adjustment + adjustment.T
    if not is_linear(fitted.design):
        adjusted -= 0.5 * _second_order(fitted, w, weights)
    return AdjustedMoments(V, derivatives, adjusted)


def _second_order(fitted: Fitted, w: Array, W: Array) -> Array:
    """Sum of W_ij w' V_ij w, V_ij the second derivatives of V by central differences, shape (m, m)."""
    size = DIFFERENCE_STEP * np.where(np.diag(W) > 0, np.sqrt(np.diag(W)), np.maximum(np.abs(fitted.theta), 1.0))

    def weighted(j: int) -> Callable[[Array], Array]:
        return lambda theta: np.einsum(
            "i,na,inb->ab", W[j], w, np.stack(list(moved_weights(replace(fitted, theta=theta), w))), optimize=True
        )

    out = np.zeros((w.shape[1],) * 2)
    for j, h in enumerate(size):
        step = h * np.eye(len(size))[j]
        out += (weighted(j)(fitted.theta + step) - weighted(j)(fitted.theta - step)) / (2.0 * h)
    return 0.5 * (out + out.T)


def kenward_roger_scale(V: Array, derivatives: Array, W: Array) -> tuple[float, float]:
    """Scale and denominator degrees of freedom of F, with pbkrtest's conventions near its singular points."""
    q = len(V)
    U = np.stack([np.linalg.solve(V, D) for D in derivatives])
    traces = np.einsum("iaa->i", U)
    A1 = float(traces @ W @ traces)
    A2 = float(np.einsum("ij,iab,jba->", W, U, U, optimize=True))
    if A2 == 0.0:
        return 1.0, np.inf
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    c1, c2, c3 = (x / (3.0 * q + 2.0 * (1.0 - g)) for x in (g, q - g, q + 2 - g))
    V0, V1, V2 = 1.0 + c1 * B, 1.0 - c2 * B, 1.0 - c3 * B
    V0 = 0.0 if abs(V0) < 1e-10 else V0
    E = 1.0 - A2 / q
    root = 1.0 if abs(E) < 1e-14 and abs(V1) < 1e-14 else E / V1
    rho = root**2 * V0 / V2 / q
    df = 4.0 + (q + 2) / (q * rho - 1.0)
    return (1.0 if abs(df - 2.0) < 0.01 else df * E / (df - 2.0)), df
