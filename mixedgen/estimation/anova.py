"""Henderson's method 3."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from mixedgen.arrays import Array
from mixedgen.design.aliased import ALIAS_TOLERANCE
from mixedgen.design.design import Design
from mixedgen.design.terms import Term
from mixedgen.errors import DesignError, EngineError
from mixedgen.estimation.moments import BLOCK, NOTHING_LEFT, MomentEstimates, require_scalar, source_names

_LARGEST_STACK = 4000  # columns of [X, Z] whose dense orthogonal basis is computed in seconds

_ROWS = 8192  # records that join the triangular factor of [X, Z, y] together


def anova(design: Design) -> MomentEstimates:
    """Variances from sums of squares in the order written: Henderson's method 3, sequential.

    Parameters
    ----------
    design : Design
        Random terms of one coefficient each, and one residual variance.

    Returns
    -------
    MomentEstimates
        Sums of squares of the terms in the order of the formula and of the residual, with their expectations.

    Raises
    ------
    NotAvailableError
        If a term has several coefficients, or there are several residual variances or responses.
    EngineError
        If [X, Z] has too many columns.
    DesignError
        If a term has no degrees of freedom after those before it, or none are left for the residual.

    Notes
    -----
    SS_i = y'(M_i - M_{i-1}) y with M_i the projector on [X, Z_1 .. Z_i], and E(SS_i) = sum_{k >= i} theta_k
    tr(Z_k'(M_i - M_{i-1}) Z_k K_k) + theta_e (rank of M_i - rank of M_{i-1}) [1]_ [2]_: the type I analysis of SAS.
    With weights the rows of y, X and Z are multiplied by their square roots.

    References
    ----------
    .. [1] Henderson (1953) Biometrics 9:226-252.
    .. [2] Searle, Casella & McCulloch (1992) Variance Components, Wiley, chapter 5.
    """
    require_scalar(design, "anova3")
    order = _formula_order(design)
    names = source_names([design.terms[k] for k in order])
    parts = _stacked_triangle(design, order)
    squares, bases = _sequential_bases(parts)
    freedom = np.array([B.shape[1] for B in bases] + [design.n - design.fixed.p - sum(B.shape[1] for B in bases)])
    _require_freedom(names, freedom)
    coefficients = np.zeros((len(names), len(names)))
    coefficients[:, -1] = freedom
    for i, B in enumerate(bases):
        for j in range(i, len(bases)):
            coefficients[i, order[j]] = _projected_trace(design.terms[order[j]], parts[1 + j], B)
        if coefficients[i, order[i]] <= NOTHING_LEFT * _projected_trace(design.terms[order[i]], parts[1 + i], None):
            raise _not_added(names[i])
    theta = np.asarray(np.linalg.solve(coefficients, squares))
    return MomentEstimates(theta, "anova3", names, squares, coefficients)


def _formula_order(design: Design) -> list[int]:
    """Position in the design of each term of the formula: in the order written, a factor before those nested in it."""
    out: list[int] = []
    for k in sorted(range(len(design.terms)), key=lambda k: design.terms[k].place):
        wider = [m for m, t in enumerate(design.terms) if _nested(design.terms[k], t)]
        for m in (*sorted(wider, key=lambda m: len(design.terms[m].written.factors)), k):
            if m not in out:
                out.append(m)
    return out


def _nested(inner: Term, outer: Term) -> bool:
    """Whether the levels of one term are cells within those of another, whose effects then add nothing to its own."""
    cells, groups = ({str(f) for f in t.written.factors} for t in (inner, outer))
    return groups < cells and inner.effects == outer.effects


def _loaded(term: Term) -> NDArray[np.intp]:
    """Levels that have records."""
    return np.flatnonzero(np.diff(term.Zt.indptr))


def _stacked_triangle(design: Design, order: Sequence[int]) -> list[Array]:
    """Triangular factor of [X, Z, y] with rows times the roots of the weights, cut into X, each Z and y.

    Returns
    -------
    list of ndarray, shape (m, p), (m, levels with records) and (m, 1)
        m <= p + number of levels + 1: coordinates in an orthonormal basis of the columns.

    Raises
    ------
    EngineError
        If there are too many columns.
    """
    terms = [design.terms[k] for k in order]
    Z = [t.Z[:, _loaded(t)] for t in terms]
    widths = [design.fixed.p, *(z.shape[1] for z in Z), 1]
    if sum(widths) - 1 > _LARGEST_STACK:
        raise EngineError(
            f"the fixed effects and the levels of the random terms make {sum(widths) - 1:,} columns; method='anova3' "
            f"takes {_LARGEST_STACK:,}. Use method='reml' or method='mivque0'."
        )
    stack = sp.hstack([sp.csr_array(design.fixed.X), *Z], format="csr")
    w = design.residual.inverse_weights
    root = np.ones(design.n) if w is None else 1.0 / np.sqrt(w)
    R = np.zeros((0, sum(widths)))
    for start in range(0, design.n, _ROWS):
        rows = slice(start, start + _ROWS)
        block = np.column_stack([stack[rows].toarray(), design.y[rows]]) * root[rows, None]
        R = np.asarray(np.linalg.qr(np.vstack([R, block]), mode="r"))
    return np.split(R, np.cumsum(widths)[:-1], axis=1)


def _sequential_bases(parts: Sequence[Array]) -> tuple[Array, list[Array]]:
    """Sums of squares and what each term adds to the space before it.

    Parameters
    ----------
    parts : sequence of ndarray
        X, each Z and y in the same coordinates.

    Returns
    -------
    squares : ndarray, shape (r + 1,)
        Of each Z, and the residual.
    bases : list of ndarray, shape (m, degrees of freedom)
        Orthonormal basis of what each Z adds.
    """
    X, *Z, y = parts
    before = np.asarray(np.linalg.qr(X)[0])
    left = _residue(y, before)
    squares, bases = [], []
    for z in Z:
        B = _new_basis(z, before)
        squares.append(float(np.sum((B.T @ left) ** 2)))
        left = _residue(left, B)
        before = np.hstack([before, B])
        bases.append(B)
    return np.array([*squares, float(np.sum(left**2))]), bases


def _residue(A: Array, Q: Array) -> Array:
    """A less its projection on the orthonormal columns of Q, shape of A."""
    for _ in range(2):  # a second time for the digits that the first one cancels
        A = A - Q @ (Q.T @ A)
    return A


def _new_basis(A: Array, before: Array) -> Array:
    """Orthonormal basis of what the columns of A add to those of `before`, shape (m, rank)."""
    norms = np.linalg.norm(A, axis=0)
    left = _residue(A / np.where(norms > 0, norms, 1.0), before)
    Q, R, _ = scipy.linalg.qr(left, mode="economic", pivoting=True)
    rank = int(np.sum(np.abs(np.diag(R)) > ALIAS_TOLERANCE))
    return np.asarray(Q[:, :rank])


def _projected_trace(term: Term, Z: Array, B: Array | None) -> float:
    """tr(B'Z K Z'B) for the columns Z of the levels with records; tr(Z K Z') without B."""
    T = Z.T if B is None else Z.T @ B
    levels, total = _loaded(term), 0.0
    for start in range(0, T.shape[1], BLOCK):
        U = np.zeros((term.q, min(BLOCK, T.shape[1] - start)))
        U[levels] = T[:, start : start + BLOCK]
        total += float(np.sum(U * term.multiply_relationship(U)))
    return total


def _require_freedom(names: Sequence[str], freedom: NDArray[np.intp]) -> None:
    """Raise a DesignError for the first source of variation without degrees of freedom."""
    for name, df in zip(names[:-1], freedom[:-1], strict=True):
        if df == 0:
            raise _not_added(name)
    if freedom[-1] == 0:
        raise DesignError(
            "the random terms leave no degree of freedom to the residual variance. Use repeated records, or leave a "
            "term out."
        )


def _not_added(name: str) -> DesignError:
    """The error for a term that adds nothing to the fixed effects and the terms before it."""
    return DesignError(
        f"{name!r} adds nothing to the fixed effects and the terms before it: its variance cannot be estimated. Leave "
        "it out, or write the terms in another order."
    )
