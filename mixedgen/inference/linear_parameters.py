"""The same V with parameters it is linear in: the elements of the covariance matrices, and how theta makes them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mixedgen.arrays import Array
from mixedgen.covariance.structure import Structure
from mixedgen.covariance.variances import Diagonal, Unstructured
from mixedgen.errors import NotAvailableError
from mixedgen.estimation.fitted import Fitted
from mixedgen.residual.residual import Residual


@dataclass(frozen=True)
class LinearHull:
    """A model whose V is linear in its parameters sigma, at a point where V is that of a fit.

    Attributes
    ----------
    fitted : Fitted
        The model with unstructured matrices.
    jacobian : ndarray, shape (n_sigma, n_theta)
        Derivative of sigma by the parameters of the fit.
    """

    fitted: Fitted
    jacobian: Array


def linear_hull(fitted: Fitted) -> LinearHull:
    """Linear parameters of V.

    Raises
    ------
    NotAvailableError
        If the residuals are no matrices of positions, or a covariance matrix is singular.
    """
    design, theta = fitted.design, fitted.theta
    wider = [Unstructured(t.c) if t.c > 1 else Diagonal(1) for t in design.terms]
    residual = _wider_residual(design.residual)
    old = [*(t.structure for t in design.terms), design.residual.structure]
    new: list[Structure] = [*wider, residual.structure]
    parts = [_elements(s, o, theta[at]) for s, o, at in zip(new, old, design.slices, strict=True)]
    sigma = np.concatenate([value for value, _ in parts])
    jacobian = np.zeros((len(sigma), len(theta)))
    row = 0
    for (value, own), at in zip(parts, design.slices, strict=True):
        jacobian[row : row + len(value), at] = own
        row += len(value)
    terms = tuple(replace(t, structure=s) for t, s in zip(design.terms, wider, strict=True))
    widened = replace(design, terms=terms, residual=residual)
    hull = fitted.carried_to(widened, sigma)
    return LinearHull(hull, jacobian)


def _wider_residual(residual: Residual) -> Residual:
    """R of the same positions with any covariance matrix, or with any variances."""
    wider = None if residual.linear is None else residual.over(residual.linear)
    if wider is None:
        raise NotAvailableError(
            f"Kenward-Roger is not available for {residual.structure.tag} residuals; use ddf='satterthwaite'."
        )
    return wider


def _elements(wider: Structure, structure: Structure, theta: Array) -> tuple[Array, Array]:
    """Elements of a covariance matrix, and their derivatives by its parameters."""
    Sigma = structure.matrix(theta)
    scale = np.sqrt(np.maximum(np.diag(Sigma), np.finfo(float).tiny))
    if np.linalg.eigvalsh(Sigma / np.outer(scale, scale))[0] < 1e-10:
        raise NotAvailableError(
            f"Kenward-Roger is not available where a {structure.tag}() matrix is singular; use ddf='satterthwaite'."
        )
    columns = [np.asarray(wider.start(D)) for D in structure.derivatives(theta)]
    return np.asarray(wider.start(Sigma)), np.column_stack([np.zeros((wider.size, 0)), *columns])
