"""From theta to the factor of Henderson's equations: A to L, where A are the cross-products that never change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixedgen.arrays import Array
from mixedgen.covariance.triangle import INDEFINITE, lower_factor
from mixedgen.design.design import Design
from mixedgen.engines.components import Component
from mixedgen.engines.equations import Equations
from mixedgen.errors import EngineError
from mixedgen.sparse.contract import CholeskyFactor


@dataclass(frozen=True)
class Factored:
    """The equations at one theta.

    Attributes
    ----------
    inner : list of ndarray, shape (width, width)
        Factor of T Sigma T' of each component, in the equations.
    L : list of ndarray, shape (width, width)
        Factor of Sigma, between v and u.
    products : list of ndarray
        Cross-products with R^-1 but for `scale`.
    scale : float
        Their common factor.
    values : ndarray
        Values of C on its pattern.
    factor : CholeskyFactor
        Of C.
    """

    inner: list[Array]
    L: list[Array]
    products: list[Array]
    scale: float
    values: Array
    factor: CholeskyFactor


def factored(equations: Equations, theta: Array, Sigma: tuple[Array, ...]) -> Factored:
    """C = L' (W'R^-1 W) L + I (x) K0^-1 and its factor: the factors of Sigma on both sides of fixed cross-products."""
    design = equations.design
    inner = [_component_factor(design, c, theta, Sigma) for c in equations.components]
    both = zip(equations.components, inner, strict=True)
    L = [T if c.unit is None else np.asarray(np.linalg.solve(c.unit, T)) for c, T in both]
    products, scale = equations.products_at(theta[design.slices[-1]])
    values = equations.coefficients(products, scale, inner)
    return Factored(inner, L, products, scale, values, equations.symbolic.factor(values, equations.penalty.dense))


def _component_factor(design: Design, c: Component, theta: Array, Sigma: tuple[Array, ...]) -> Array:
    """Lower factor of T Sigma T' of a component, (width, width); the identity for X."""
    if c.term < 0:
        return np.eye(c.width)
    structure, s = design.terms[c.term].structure, design.slices[c.term]
    if structure.singular:
        L = structure.factor(theta[s])
        return L if c.unit is None else c.unit @ L
    own = Sigma[c.term][np.ix_(c.coefs, c.coefs)]
    try:
        if c.unit is None:
            return lower_factor(own)
        # what Sigma lost to rounding comes back larger by the square of the columns' dependence, and proves nothing
        return lower_factor(c.unit @ own @ c.unit.T, INDEFINITE if structure.free else np.inf)
    except ValueError as err:
        raise EngineError(f"Sigma of {design.terms[c.term].key} is not positive semi-definite here.") from err
