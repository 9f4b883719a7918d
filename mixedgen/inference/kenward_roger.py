"""Kenward and Roger's adjusted covariance matrix."""

from __future__ import annotations

import numpy as np

from mixedgen.arrays import Array
from mixedgen.errors import NotAvailableError
from mixedgen.estimation.fitted import Fitted
from mixedgen.inference.information import (
    MEMORY_LIMIT,
    differences,
    exact_possible,
    expected_information,
    free_directions,
    has_exact_information,
    is_linear,
    n_effects,
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
        return pseudo_inverse(reml_information(fitted))
    hull = linear_hull(fitted)
    return pseudo_inverse(hull.jacobian.T @ reml_information(hull.fitted) @ hull.jacobian)


def reml_information(fitted: Fitted) -> Array:
    """Expected REML information of a V that is linear in theta, shape (n_theta, n_theta)."""
    if exact_possible(fitted):
        return expected_information(fitted, True)[0]
    directions = free_directions(fitted)
    if directions.jacobian.shape[1] == len(fitted.theta):
        slopes = differences(fitted, directions, lambda system: system.traces(True))
        E = -0.5 * np.linalg.solve(directions.jacobian.T, slopes.T)
        return 0.5 * (E + E.T)
    Q = n_effects(fitted.design)
    if 8 * Q**2 > MEMORY_LIMIT or not has_exact_information(fitted):
        raise NotAvailableError(
            f"Kenward-Roger at a boundary needs a matrix of {Q} x {Q} effects ({8 * Q**2 / 1e9:.1f} GB), which is "
            f"beyond {MEMORY_LIMIT / 1e9:.1f} GB, and one residual variance; use ddf='satterthwaite'."
        )
    return expected_information(fitted, True)[0]
