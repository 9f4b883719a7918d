"""Henderson's method 1 on the cross-products of the equations: a cheap first guess of the variances."""

from __future__ import annotations

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.engines.equations import Equations
from mixedgen.engines.meetings import Block


def method_one(equations: Equations, y0: Array) -> tuple[list[Array], float] | None:
    """Henderson's method 1 for every (orthonormal) coefficient, as if coefficients and levels were independent.

    Returns
    -------
    Sigma : list of ndarray, shape (c, c)
        Of each term, not always positive definite.
    residual : float
        Residual variance. None in the place of both where R is known up to more than a factor, or a term has a basis.

    Notes
    -----
    With s = z'y0 of one level and m = z'z, the mean of sum s^2 / m over the levels is linear in the variances: the
    coefficients are sums of squared cross-products over the same m [1]_.

    References
    ----------
    .. [1] Henderson (1953) Biometrics 9:226.
    """
    design, products = equations.design, equations.homogeneous
    if products is None or any(c.basis is not None for c in equations.components):
        return None
    w = design.residual.inverse_weights
    weighted = y0 if w is None else y0 / w
    start = np.cumsum([0] + [t.c for t in design.terms])
    left = np.zeros((start[-1] + 1,) * 2)
    right = np.zeros(start[-1] + 1)
    left[-1, -1], right[-1] = design.n - design.fixed.p, float(y0 @ weighted)
    both = list(zip(equations.blocks, products, strict=True))
    sizes = {p.a: np.einsum("maa->ma", G[p.i == p.j]) for p, G in both if p.a == p.b}
    for k, c in equations.random:
        at = start[c.term] + c.coefs
        sums = (design.terms[c.term].Zt @ weighted).reshape(-1, c.size)[c.coefs].T
        if c.unit is not None:
            sums = np.linalg.solve(c.unit.T, sums.T).T
        inverse = np.divide(1.0, sizes[k], out=np.zeros_like(sizes[k]), where=sizes[k] > 0)
        right[at] = np.sum(sums**2 * inverse, axis=0)
        left[at, -1] = np.sum(inverse > 0, axis=0)
        left[-1, at] = np.sum(sizes[k], axis=0)
        sizes[k] = inverse
    for p, G in both:
        _add_squares(left, equations, p, G, sizes, start)
    found = np.linalg.lstsq(left, right, rcond=1e-8)[0]
    return _matrices_of(equations, found, start), float(found[-1])


def _add_squares(
    left: Array, equations: Equations, p: Block, G: Array, inverse: dict[int, Array], start: IntArray
) -> None:
    """Sums of squared cross-products of two components, each over the sizes of the other's levels."""
    ca, cb = equations.components[p.a], equations.components[p.b]
    if cb.term < 0:
        return
    rows, cols = start[ca.term] + ca.coefs, start[cb.term] + cb.coefs
    squares = G**2
    left[np.ix_(rows, cols)] += np.einsum("mab,ma->ab", squares, inverse[p.a][p.i])
    if p.a != p.b or np.any(p.i != p.j):
        off = slice(None) if p.a != p.b else p.i != p.j
        left[np.ix_(cols, rows)] += np.einsum("mab,mb->ba", squares[off], inverse[p.b][p.j[off]])


def _matrices_of(equations: Equations, found: Array, start: IntArray) -> list[Array]:
    """Sigma of each term from the variances of its orthonormal coefficients."""
    out = [np.zeros((t.c, t.c)) for t in equations.design.terms]
    for _, c in equations.random:
        inner = np.diag(found[start[c.term] + c.coefs])
        if c.unit is not None:
            inner = np.linalg.solve(c.unit, np.linalg.solve(c.unit, inner).T)
        out[c.term][np.ix_(c.coefs, c.coefs)] = inner
    return out
