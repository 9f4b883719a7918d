"""Estimates of variances that equate quadratic forms of the data to their expectations: ANOVA and MINQUE.

E(y'A_i y) = sum_k theta_k tr(A_i V_k) for A_i X = 0, with V_k = Z_k K_k Z_k' and W^-1 for the residual: as many linear
equations as there are variances, whose solution may be negative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from mixedgen.design.design import Design
from mixedgen.design.fixed import ALIAS_TOLERANCE
from mixedgen.design.terms import Term, unique_keys
from mixedgen.engines import System, choose
from mixedgen.errors import ArgumentError, DesignError, EngineError, NotAvailableError, examples

Array = NDArray[np.float64]

BLOCK = 256  # columns of Z that are projected together
LARGEST_STACK = 4000  # columns of [X, Z] whose dense orthogonal basis is computed in seconds
ROWS = 8192  # records that join the triangular factor of [X, Z, y] together
# What P leaves of a term, and the smallest eigenvalue of the scaled equations, above rounding.
NOTHING_LEFT = 1e-12
INDEPENDENT = 1e-10


@dataclass(frozen=True)
class MomentEstimates:
    """Variances that equate quadratic forms to their expectations.

    Attributes
    ----------
    theta : ndarray, shape (r + 1,)
        Variance of each random term, in the order of the terms of the design, and of the residual; negative ones stay.
    method : str
        ``"minque"``, ``"mivque0"`` or ``"anova3"``.
    names : tuple of str
        Term of each quadratic form, in its order: that of the design for MINQUE, that of the formula for ANOVA.
    quadratics : ndarray, shape (r + 1,)
        y'P V_i P y for MINQUE, sums of squares for ANOVA.
    coefficients : ndarray, shape (r + 1, r + 1)
        Coefficients of theta in the expectation of each quadratic form; in the last column of an ANOVA stand the
        degrees of freedom.
    """

    theta: Array
    method: str
    names: tuple[str, ...]
    quadratics: Array
    coefficients: Array


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
    theta0 = checked_prior(prior, len(design.terms) + 1)
    system = prior_system(design, theta0)
    S = expectations(design, system, theta0)
    q = quadratic_forms(design, system.Py)
    d = 1.0 / np.sqrt(np.diag(S))
    scaled = S * np.outer(d, d)
    require_independent(design, scaled)
    theta = d * np.linalg.solve(scaled, d * q)
    return MomentEstimates(theta, "minque", names_of(design.terms), q, S)


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
    order = formula_order(design)
    names = names_of([design.terms[k] for k in order])
    parts = stacked_triangle(design, order)
    squares, bases = sequential_bases(parts)
    freedom = np.array([B.shape[1] for B in bases] + [design.n - design.fixed.p - sum(B.shape[1] for B in bases)])
    require_freedom(names, freedom)
    coefficients = np.zeros((len(names), len(names)))
    coefficients[:, -1] = freedom
    for i, B in enumerate(bases):
        for j in range(i, len(bases)):
            coefficients[i, order[j]] = projected_trace(design.terms[order[j]], parts[1 + j], B)
        if coefficients[i, order[i]] <= NOTHING_LEFT * projected_trace(design.terms[order[i]], parts[1 + i], None):
            raise not_added(names[i])
    theta = np.asarray(np.linalg.solve(coefficients, squares))
    return MomentEstimates(theta, "anova3", names, squares, coefficients)


MOMENTS: dict[str, Callable[[Design], MomentEstimates]] = {"minque": minque, "mivque0": mivque0, "anova3": anova}


# What both need


def require_scalar(design: Design, method: str) -> None:
    """Raise a NotAvailableError unless every term has one variance and so has the residual."""
    restricted = [t.key for t in design.terms if t.structure.free or not t.structure.size]
    if restricted or design.residual.structure.free:
        raise NotAvailableError(f"method={method!r} knows no fixed or bounded variances. Use method='reml'.")
    several = [t.key for t in design.terms if t.c != 1 or t.structure.size != 1]
    if several:
        raise NotAvailableError(
            f"method={method!r} estimates one variance for each term; {examples(several)} has several coefficients. "
            "Use method='reml'."
        )
    if not design.residual.homogeneous or design.residual.structure.size != 1 or design.traits is not None:
        raise NotAvailableError(
            f"method={method!r} estimates one residual variance for one response. Use method='reml'."
        )


def names_of(terms: Sequence[Term]) -> tuple[str, ...]:
    """Keys of the terms, and the residual."""
    return (*(t.key for t in terms), "residual")


# MINQUE


def checked_prior(prior: ArrayLike | None, size: int) -> Array:
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


def prior_system(design: Design, theta0: Array) -> System:
    """Equations at the prior, with the terms of positive prior variance only: the others do not change P."""
    # without fixed effects all terms stay, since there must be an equation
    active = np.flatnonzero((theta0[:-1] > 0) | (design.fixed.p == 0))
    part = replace(design, terms=tuple(design.terms[k] for k in active))
    return choose(part, "henderson").at(np.append(theta0[active], theta0[-1]))


def column_blocks(term: Term) -> Iterator[tuple[Array, Array]]:
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


def expectations(design: Design, system: System, theta0: Array) -> Array:
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
        for Z, ZK in column_blocks(t):
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


def quadratic_forms(design: Design, Py: Array) -> Array:
    """Y'P V_i P y, shape (r + 1,)."""
    loads = [t.Zt @ Py for t in design.terms]
    out = [g @ t.multiply_relationship(g[:, None])[:, 0] for t, g in zip(design.terms, loads, strict=True)]
    return np.array([*out, Py @ design.residual.multiply_derivative(np.ones(1), 0, Py)])


def require_independent(design: Design, scaled: Array) -> None:
    """Raise a DesignError where the equations of MINQUE, scaled to a unit diagonal, are singular."""
    values, vectors = np.linalg.eigh(scaled)
    if values[0] > INDEPENDENT:
        return
    involved = [name for name, v in zip(names_of(design.terms), vectors[:, 0], strict=True) if abs(v) > 1e-6]
    raise DesignError(
        f"the data do not tell the variances of {examples(involved)} apart. Leave one of these terms out, or use a "
        "relationship or repeated records."
    )


# ANOVA


def formula_order(design: Design) -> list[int]:
    """Position in the design of each term of the formula, in the order written."""
    at = {t.key: k for k, t in enumerate(design.terms)}
    return [at[key] for key in unique_keys(design.parsed.terms)]


def loaded(term: Term) -> NDArray[np.intp]:
    """Levels that have records."""
    return np.flatnonzero(np.diff(term.Zt.indptr))


def stacked_triangle(design: Design, order: Sequence[int]) -> list[Array]:
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
    Z = [t.Z[:, loaded(t)] for t in terms]
    widths = [design.fixed.p, *(z.shape[1] for z in Z), 1]
    if sum(widths) - 1 > LARGEST_STACK:
        raise EngineError(
            f"the fixed effects and the levels of the random terms make {sum(widths) - 1:,} columns; method='anova3' "
            f"takes {LARGEST_STACK:,}. Use method='reml' or method='mivque0'."
        )
    stack = sp.hstack([sp.csr_array(design.fixed.X), *Z], format="csr")
    w = design.residual.inverse_weights
    root = np.ones(design.n) if w is None else 1.0 / np.sqrt(w)
    R = np.zeros((0, sum(widths)))
    for start in range(0, design.n, ROWS):
        rows = slice(start, start + ROWS)
        block = np.column_stack([stack[rows].toarray(), design.y[rows]]) * root[rows, None]
        R = np.asarray(np.linalg.qr(np.vstack([R, block]), mode="r"))
    return np.split(R, np.cumsum(widths)[:-1], axis=1)


def sequential_bases(parts: Sequence[Array]) -> tuple[Array, list[Array]]:
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
    left = without(y, before)
    squares, bases = [], []
    for z in Z:
        B = new_basis(z, before)
        squares.append(float(np.sum((B.T @ left) ** 2)))
        left = without(left, B)
        before = np.hstack([before, B])
        bases.append(B)
    return np.array([*squares, float(np.sum(left**2))]), bases


def without(A: Array, Q: Array) -> Array:
    """A less its projection on the orthonormal columns of Q, shape of A."""
    for _ in range(2):  # a second time for the digits that the first one cancels
        A = A - Q @ (Q.T @ A)
    return A


def new_basis(A: Array, before: Array) -> Array:
    """Orthonormal basis of what the columns of A add to those of `before`, shape (m, rank)."""
    norms = np.linalg.norm(A, axis=0)
    left = without(A / np.where(norms > 0, norms, 1.0), before)
    Q, R, _ = scipy.linalg.qr(left, mode="economic", pivoting=True)
    rank = int(np.sum(np.abs(np.diag(R)) > ALIAS_TOLERANCE))
    return np.asarray(Q[:, :rank])


def projected_trace(term: Term, Z: Array, B: Array | None) -> float:
    """tr(B'Z K Z'B) for the columns Z of the levels with records; tr(Z K Z') without B."""
    T = Z.T if B is None else Z.T @ B
    levels, total = loaded(term), 0.0
    for start in range(0, T.shape[1], BLOCK):
        U = np.zeros((term.q, min(BLOCK, T.shape[1] - start)))
        U[levels] = T[:, start : start + BLOCK]
        total += float(np.sum(U * term.multiply_relationship(U)))
    return total


def require_freedom(names: Sequence[str], freedom: NDArray[np.intp]) -> None:
    """Raise a DesignError for the first source of variation without degrees of freedom."""
    for name, df in zip(names[:-1], freedom[:-1], strict=True):
        if df == 0:
            raise not_added(name)
    if freedom[-1] == 0:
        raise DesignError(
            "the random terms leave no degree of freedom to the residual variance. Use repeated records, or leave a "
            "term out."
        )


def not_added(name: str) -> DesignError:
    """The error for a term that adds nothing to the fixed effects and the terms before it."""
    return DesignError(
        f"{name!r} adds nothing to the fixed effects and the terms before it: its variance cannot be estimated. Leave "
        "it out, or write the terms in another order."
    )
