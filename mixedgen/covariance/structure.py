"""Covariance structures Sigma(theta) of the coefficients of one level, or of the residuals of one unit.

A structure maps its natural-scale parameters to a c x c matrix. `blocks` says which parameters form a positive
semi-definite block (as a lower triangle, row by row), which is all the optimiser needs to know about the boundary;
`components` says which coefficients are independent of the others, which is all the equations need to know about
the pattern.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mixedgen.errors import FormulaError

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

# A pivot this small beside its own diagonal element is rounding of an exact zero: twice the unit roundoff for each
# of the few operations that make it.
PIVOT_TOLERANCE = 1e-14
PRINCIPAL_STEPS, POLISHING_STEPS = 200, 60  # of a start by principal factors
RANK = 1e-10  # an eigenvalue of a scaled matrix at the boundary below this is zero
INDEFINITE = 1e-8  # an eigenvalue of a correlation matrix below minus this is no rounding


@lru_cache(maxsize=64)
def lower_indices(c: int) -> tuple[IntArray, IntArray]:
    """Rows and columns of a lower triangle, row by row: the order of theta."""
    rows, cols = np.tril_indices(c)
    rows.setflags(write=False)
    cols.setflags(write=False)
    return rows, cols


def square(lower: Array) -> Array:
    """Symmetric matrix from its lower triangle, row by row."""
    c = int((math.sqrt(8 * len(lower) + 1) - 1) / 2)
    out = np.empty((c, c))
    rows, cols = lower_indices(c)
    out[rows, cols] = out[cols, rows] = lower
    return out


def triangle(matrix: Array) -> Array:
    """Lower triangle of a matrix, row by row."""
    return matrix[lower_indices(len(matrix))]


def lower_factor(Sigma: Array, indefinite: float = INDEFINITE) -> Array:
    """Lower triangular L with L L' = Sigma for a positive semi-definite Sigma.

    Parameters
    ----------
    Sigma : ndarray, shape (c, c)
        Symmetric positive semi-definite matrix, possibly singular.
    indefinite : float
        An eigenvalue of its correlation matrix below minus this is no rounding.

    Returns
    -------
    ndarray, shape (c, c)
        Cholesky factor; the column of a vanishing pivot is zero.

    Raises
    ------
    ValueError
        If Sigma is not positive semi-definite.
    """
    c = len(Sigma)
    if c == 1 and Sigma[0, 0] >= 0:
        return np.sqrt(Sigma)
    L = np.zeros((c, c))
    for j in range(c):
        column = Sigma[j:, j] - L[j:, :j] @ L[j, :j]
        if column[0] > PIVOT_TOLERANCE * c * Sigma[j, j]:
            L[j:, j] = column / np.sqrt(column[0])
        elif column[0] != 0.0 or column.any():
            return _semidefinite_factor(Sigma, indefinite)
    return L


def _semidefinite_factor(Sigma: Array, indefinite: float) -> Array:
    """`lower_factor` by eigenvalues, which rounding in a small pivot does not hurt."""
    d = np.abs(np.diag(Sigma))
    scale = np.sqrt(np.where(d > 0, d, np.abs(Sigma).max()))
    values, vectors = np.linalg.eigh(Sigma / np.outer(scale, scale))
    if values[0] < -indefinite:
        raise ValueError("the matrix is not positive semi-definite")
    root = np.sqrt(np.where(values > PIVOT_TOLERANCE * len(Sigma), values, 0.0))[:, None] * vectors.T * scale
    L = np.zeros_like(root)
    basis = np.zeros((len(root), 0))
    for j in range(len(root)):  # root'root = Sigma: its columns on an orthonormal basis of those before them are L
        left = root[:, j]
        for _ in range(2):
            left = left - basis @ (basis.T @ left)
        size = np.linalg.norm(left)
        if size > np.sqrt(PIVOT_TOLERANCE) * scale[j]:
            L[j:, j] = root[:, j:].T @ (left / size)
            basis = np.column_stack([basis, left / size])
    return L


def trapezoid(lower: Array, *, boundary: bool) -> Array:
    """Lower trapezoidal L with L L' = Sigma, from Sigma's lower triangle; as many columns as its rank."""
    Sigma = square(lower)
    if not boundary:
        return np.asarray(np.linalg.cholesky(Sigma), dtype=float)
    scale = np.sqrt(np.maximum(np.diag(Sigma), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(Sigma / np.outer(scale, scale))
    kept = values > RANK * max(float(values[-1]), 1.0) if np.diag(Sigma).any() else np.zeros(len(Sigma), dtype=bool)
    if kept.all():
        kept[0] = False
    root = np.sqrt(values[kept])[:, None] * vectors[:, kept].T * scale
    return np.asarray(np.linalg.qr(root, mode="r")).T if kept.any() else np.zeros((len(Sigma), 0))


def tangent_columns(L: Array) -> Array:
    """Derivatives of the lower triangle of L L' by the entries of a lower trapezoidal L, column by column of L."""
    rows, cols = lower_indices(len(L))
    columns = [(rows == i) * L[cols, j] + (cols == i) * L[rows, j] for j in range(L.shape[1]) for i in range(j, len(L))]
    return np.column_stack([np.zeros((len(rows), 0)), *columns])


class Structure(ABC):
    """Covariance structure of `dim` coefficients."""

    start_correlation = 0.0  # of the matrix that default starts are made of: factors need one to find a direction
    unseen: tuple[int, ...] = ()  # parameters that `matrix` does not show

    def __init__(self, dim: int) -> None:
        self.dim = dim

    @property
    @abstractmethod
    def tag(self) -> str:
        """Name of the structure in a formula."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of parameters."""

    @property
    @abstractmethod
    def blocks(self) -> tuple[IntArray, ...]:
        """Parameters of each positive semi-definite block: its lower triangle, row by row."""

    @property
    def block_effects(self) -> tuple[IntArray, ...]:
        """Coefficients whose covariance matrix each block is, for blocks of more than one parameter."""
        return tuple(np.arange(self.dim) for _ in self.blocks)

    @property
    def free(self) -> tuple[tuple[int, float, float], ...]:
        """Parameters outside the blocks (correlations, slopes), each with its lower and upper bound."""
        return ()

    @property
    @abstractmethod
    def components(self) -> tuple[IntArray, ...]:
        """Groups of coefficients that are independent of each other at every theta."""

    @property
    @abstractmethod
    def multiplicity(self) -> Array:
        """How many coefficients share each block, shape (number of blocks,); the divisor of an EM step counts them."""

    @abstractmethod
    def names(self, effects: Sequence[str]) -> tuple[str, ...]:
        """Suffix of each parameter's name: "" or "[a,b]"."""

    @abstractmethod
    def matrix(self, theta: Array) -> Array:
        """Sigma(theta), shape (dim, dim)."""

    @abstractmethod
    def derivatives(self, theta: Array) -> Array:
        """dSigma/dtheta, shape (size, dim, dim)."""

    @abstractmethod
    def start(self, S0: Array) -> Array:
        """Parameters nearest to a symmetric matrix S0."""

    def factor(self, theta: Array) -> Array:
        """L with L L' = Sigma(theta), shape (dim, dim); lower triangular."""
        return lower_factor(self.matrix(theta))

    def factor_derivatives(self, theta: Array) -> Array | None:
        """dL/dtheta, shape (size, dim, dim), for a Sigma that is singular everywhere; None for others."""
        return None


class Unstructured(Structure):
    """`us`: any covariance matrix; theta is its lower triangle, row by row."""

    tag = "us"

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self._rows, self._cols = lower_indices(dim)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return len(self._rows)

    @property
    def blocks(self) -> tuple[IntArray, ...]:
        """One block of all parameters."""
        return (np.arange(self.size),)

    @property
    def components(self) -> tuple[IntArray, ...]:
        """All coefficients together."""
        return (np.arange(self.dim),)

    @property
    def multiplicity(self) -> Array:
        """One."""
        return np.ones(1)

    def names(self, effects: Sequence[str]) -> tuple[str, ...]:
        """`[a,b]` with a before b."""
        if self.dim == 1:
            return ("",)
        return tuple(f"[{effects[b]},{effects[a]}]" for a, b in zip(self._rows, self._cols, strict=True))

    def matrix(self, theta: Array) -> Array:
        """Sigma(theta), shape (dim, dim)."""
        Sigma = np.empty((self.dim, self.dim))
        Sigma[self._rows, self._cols] = theta
        Sigma[self._cols, self._rows] = theta
        return Sigma

    def derivatives(self, theta: Array) -> Array:
        """dSigma/dtheta, shape (size, dim, dim)."""
        D = np.zeros((self.size, self.dim, self.dim))
        k = np.arange(self.size)
        D[k, self._rows, self._cols] = 1.0
        D[k, self._cols, self._rows] = 1.0
        return D

    def start(self, S0: Array) -> Array:
        """Lower triangle of S0."""
        return np.asarray(S0)[self._rows, self._cols].astype(float)


class Diagonal(Structure):
    """`diag`: independent coefficients with a variance each."""

    tag = "diag"

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.dim

    @property
    def blocks(self) -> tuple[IntArray, ...]:
        """One block for each variance."""
        return tuple(np.array([k]) for k in range(self.dim))

    @property
    def components(self) -> tuple[IntArray, ...]:
        """Each coefficient alone."""
        return tuple(np.array([k]) for k in range(self.dim))

    @property
    def multiplicity(self) -> Array:
        """One for each variance."""
        return np.ones(self.dim)

    def names(self, effects: Sequence[str]) -> tuple[str, ...]:
        """`[a,a]`."""
        return ("",) if self.dim == 1 else tuple(f"[{e},{e}]" for e in effects)

    def matrix(self, theta: Array) -> Array:
        """Sigma(theta), shape (dim, dim)."""
        return np.diag(theta)

    def derivatives(self, theta: Array) -> Array:
        """dSigma/dtheta, shape (size, dim, dim)."""
        D = np.zeros((self.dim,) * 3)
        k = np.arange(self.dim)
        D[k, k, k] = 1.0
        return D

    def start(self, S0: Array) -> Array:
        """Diagonal of S0."""
        return np.diag(S0).astype(float)


class Identity(Structure):
    """`idv`, or `diag(..., hom=True)`: independent coefficients with one common variance."""

    tag = "idv"

    @property
    def size(self) -> int:
        """Number of parameters."""
        return 1

    @property
    def blocks(self) -> tuple[IntArray, ...]:
        """The one variance."""
        return (np.array([0]),)

    @property
    def components(self) -> tuple[IntArray, ...]:
        """Each coefficient alone."""
        return tuple(np.array([k]) for k in range(self.dim))

    @property
    def multiplicity(self) -> Array:
        """All coefficients share the variance."""
        return np.array([float(self.dim)])

    def names(self, effects: Sequence[str]) -> tuple[str, ...]:
        """No suffix: there is one parameter."""
        return ("",)

    def matrix(self, theta: Array) -> Array:
        """Sigma(theta), shape (dim, dim)."""
        return float(theta[0]) * np.eye(self.dim)

    def derivatives(self, theta: Array) -> Array:
        """dSigma/dtheta, shape (1, dim, dim)."""
        return np.eye(self.dim)[None]

    def start(self, S0: Array) -> Array:
        """Mean of the diagonal of S0."""
        return np.array([np.mean(np.diag(S0))])


class Correlated(Structure):
    """Variances, common or one each, and correlations by a rule: Sigma = D^1/2 C(rho) D^1/2."""

    def __init__(self, dim: int, hom: bool) -> None:
        super().__init__(dim)
        self.n_variances = 1 if hom else dim

    @property
    @abstractmethod
    def n_correlations(self) -> int:
        """Number of correlations."""

    @property
    @abstractmethod
    def lowest(self) -> float:
        """Smallest correlation at which C is positive definite whatever the others."""

    @abstractmethod
    def correlation(self, rho: Array) -> Array:
        """C(rho), shape (dim, dim)."""

    @abstractmethod
    def correlation_derivatives(self, rho: Array) -> Array:
        """dC/drho, shape (n_correlations, dim, dim)."""

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.n_variances + self.n_correlations

    @property
    def blocks(self) -> tuple[IntArray, ...]:
        """One block for each variance."""
        return tuple(np.array([k]) for k in range(self.n_variances))

    @property
    def free(self) -> tuple[tuple[int, float, float], ...]:
        """The correlations."""
        return tuple((self.n_variances + k, self.lowest, 1.0) for k in range(self.n_correlations))

    @property
    def components(self) -> tuple[IntArray, ...]:
        """All coefficients together."""
        return (np.arange(self.dim),)

    @property
    def multiplicity(self) -> Array:
        """How many coefficients share each variance."""
        return np.full(self.n_variances, self.dim / self.n_variances)

    def names(self, effects: Sequence[str]) -> tuple[str, ...]:
        """`[variance]` or `[a,a]`, then `[rho]` or `[rho1]`, `[rho2]`."""
        variances = ["[variance]"] if self.n_variances == 1 else [f"[{e},{e}]" for e in effects]
        one = self.n_correlations == 1
        return (*variances, *("[rho]" if one else f"[rho{k + 1}]" for k in range(self.n_correlations)))

    def _sd(self, theta: Array) -> Array:
        return np.sqrt(np.broadcast_to(theta[: self.n_variances], self.dim))

    def matrix(self, theta: Array) -> Array:
        """Sigma(theta), shape (dim, dim)."""
        sd = self._sd(theta)
        return self.correlation(theta[self.n_variances :]) * np.outer(sd, sd)

    def derivatives(self, theta: Array) -> Array:
        """dSigma/dtheta, shape (size, dim, dim)."""
        sd, C = self._sd(theta), self.correlation(theta[self.n_variances :])
        D = np.empty((self.size, self.dim, self.dim))
        if self.n_variances == 1:
            D[0] = C
        else:
            for a in range(self.dim):
                E = np.zeros((self.dim, self.dim))
                E[a] += 0.5 * C[a] * sd / sd[a]
                D[a] = E + E.T
        D[self.n_variances :] = self.correlation_derivatives(theta[self.n_variances :]) * np.outer(sd, sd)
        return D

    @abstractmethod
    def mean_correlations(self, C: Array) -> Array:
        """Correlations nearest to those of a correlation matrix, shape (n_correlations,)."""

    def start(self, S0: Array) -> Array:
        """Variances of S0 and its mean correlations."""
        d = np.diag(S0).astype(float)
        sd = np.sqrt(np.where(d > 0, d, 1.0))
        variances = np.array([d.mean()]) if self.n_variances == 1 else d
        return np.concatenate([variances, self.mean_correlations(np.asarray(S0) / np.outer(sd, sd))])


class CompoundSymmetry(Correlated):
    """`cs`, and `corh` with a variance each: one correlation between all coefficients."""

    tag = "cs"
    n_correlations = 1

    @property
    def lowest(self) -> float:
        """-1 / (dim - 1)."""
        return -1.0 / (self.dim - 1)

    def correlation(self, rho: Array) -> Array:
        """1 on the diagonal, rho off it."""
        return np.where(np.eye(self.dim) > 0, 1.0, rho[0])

    def correlation_derivatives(self, rho: Array) -> Array:
        """1 off the diagonal."""
        return (1.0 - np.eye(self.dim))[None]

    def mean_correlations(self, C: Array) -> Array:
        """Mean off the diagonal."""
        return np.array([C[np.tril_indices(self.dim, -1)].mean()])


class Autoregressive(Correlated):
    """`ar1`: the correlation of two coefficients is rho to the power of their distance.

    Parameters
    ----------
    dim : int
        Number of coefficients.
    hom : bool
        Whether they share one variance.
    place : ndarray of int, shape (dim,), optional
        Increasing places; 0, 1, 2, ... by default.
    """

    tag = "ar1"
    n_correlations = 1
    lowest = -1.0

    def __init__(self, dim: int, hom: bool, place: IntArray | None = None) -> None:
        super().__init__(dim, hom)
        self.place: IntArray = np.arange(dim) if place is None else place

    @property
    def _lag(self) -> IntArray:
        return np.abs(self.place[:, None] - self.place)

    def correlation(self, rho: Array) -> Array:
        """rho^|a - b|."""
        return np.asarray(rho[0] ** self._lag, dtype=float)

    def correlation_derivatives(self, rho: Array) -> Array:
        """|a - b| rho^(|a - b| - 1)."""
        return (self._lag * rho[0] ** np.maximum(self._lag - 1, 0))[None]

    def mean_correlations(self, C: Array) -> Array:
        """Mean of neighbours, those nearest to each other."""
        step = np.diff(self.place)
        mean = float(np.diag(C, -1)[step == step.min()].mean())
        return np.array([np.sign(mean) * abs(mean) ** (1.0 / step.min())])


class Toeplitz(Correlated):
    """`toep`: one correlation for each distance in order."""

    tag = "toep"
    lowest = -1.0

    @property
    def n_correlations(self) -> int:
        """One for each distance."""
        return self.dim - 1

    def correlation(self, rho: Array) -> Array:
        """Rho at each distance."""
        k = np.arange(self.dim)
        return np.concatenate([[1.0], rho])[np.abs(k[:, None] - k)]

    def correlation_derivatives(self, rho: Array) -> Array:
        """1 at each distance."""
        k = np.arange(self.dim)
        return (np.abs(k[:, None] - k) == np.arange(1, self.dim)[:, None, None]).astype(float)

    def mean_correlations(self, C: Array) -> Array:
        """Mean at each distance."""
        return np.array([np.diag(C, -k).mean() for k in range(1, self.dim)])


class Loadings(Structure):
    """Structures with k factors: Lambda is dim x k with zeros above its diagonal, which fixes the rotation."""

    start_correlation = 0.5

    def __init__(self, dim: int, k: int) -> None:
        super().__init__(dim)
        if not 1 <= k <= dim:
            raise FormulaError(f"{self.tag}(..., k={k}): the number of factors must be from 1 to the {dim} effects.")
        self.k = k
        self._rows, self._cols = np.nonzero(np.tril(np.ones((dim, k))))

    @property
    def n_loadings(self) -> int:
        """Number of free loadings."""
        return len(self._rows)

    @property
    def components(self) -> tuple[IntArray, ...]:
        """All coefficients together."""
        return (np.arange(self.dim),)

    @property
    def free(self) -> tuple[tuple[int, float, float], ...]:
        """The loadings, without bounds."""
        return tuple((i, -np.inf, np.inf) for i in range(self.n_loadings))

    def loadings(self, theta: Array) -> Array:
        """Lambda, shape (dim, k)."""
        Lambda = np.zeros((self.dim, self.k))
        Lambda[self._rows, self._cols] = theta[: self.n_loadings]
        return Lambda

    def _loading_names(self, effects: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"[factor{c + 1},{effects[int(r)]}]" for r, c in zip(self._rows, self._cols, strict=True))

    def _loading_derivatives(self, theta: Array) -> Array:
        Lambda = self.loadings(theta)
        D = np.zeros((self.n_loadings, self.dim, self.dim))
        for i, (r, c) in enumerate(zip(self._rows, self._cols, strict=True)):
            D[i, r] += Lambda[:, c]
            D[i, :, r] += Lambda[:, c]
        return D

    def _principal(self, S0: Array) -> Array:
        """Loadings of the k largest principal axes of S0, rotated to zeros above the diagonal."""
        values, vectors = np.linalg.eigh(S0)
        root = (vectors[:, -self.k :] * np.sqrt(np.maximum(values[-self.k :], 0.0))).T
        R = np.linalg.qr(root[:, : self.k])[0].T @ root
        Lambda = R.T * np.where(np.diag(R) < 0, -1.0, 1.0)
        return Lambda[self._rows, self._cols]


class ReducedRank(Loadings):
    """`rr`: Sigma = Lambda Lambda' of rank k."""

    tag = "rr"

    @property
    def size(self) -> int:
        """Number of loadings."""
        return self.n_loadings

    @property
    def blocks(self) -> tuple[IntArray, ...]:
        """None: any Lambda will do."""
        return ()

    @property
    def multiplicity(self) -> Array:
        """None."""
        return np.zeros(0)

    def names(self, effects: Sequence[str]) -> tuple[str, ...]:
        """`[factor1,a]`."""
        return self._loading_names(effects)

    def matrix(self, theta: Array) -> Array:
        """Lambda Lambda'."""
        Lambda = self.loadings(theta)
        return Lambda @ Lambda.T

    def derivatives(self, theta: Array) -> Array:
        """dSigma/dtheta, shape (size, dim, dim)."""
        return self._loading_derivatives(theta)

    def start(self, S0: Array) -> Array:
        """Principal axes of S0, each moved a little, for equal axes have no direction."""
        return self._principal(np.asarray(S0, dtype=float))

    def factor(self, theta: Array) -> Array:
        """Lambda and columns of zeros, shape (dim, dim)."""
        return np.hstack([self.loadings(theta), np.zeros((self.dim, self.dim - self.k))])

    def factor_derivatives(self, theta: Array) -> Array:
        """dL/dtheta: a one for each loading."""
        D = np.zeros((self.size, self.dim, self.dim))
        D[np.arange(self.size), self._rows, self._cols] = 1.0
        return D


class FactorAnalytic(Loadings):
    """`fa`: Sigma = Lambda Lambda' + Psi, with Psi diagonal."""

    tag = "fa"

    def __init__(self, dim: int, k: int) -> None:
        super().__init__(dim, k)
        if self.size > dim * (dim + 1) // 2:
            raise FormulaError(
                f"fa(..., k={k}) of {dim} effects has {self.size} parameters for {dim * (dim + 1) // 2} variances and "
                "covariances: it is not identified. Take fewer factors, or us(...)."
            )

    @property
    def size(self) -> int:
        """Loadings and specific variances."""
        return self.n_loadings + self.dim

    @property
    def blocks(self) -> tuple[IntArray, ...]:
        """One block for each specific variance."""
        return tuple(np.array([self.n_loadings + a]) for a in range(self.dim))

    @property
    def multiplicity(self) -> Array:
        """One for each specific variance."""
        return np.ones(self.dim)

    def names(self, effects: Sequence[str]) -> tuple[str, ...]:
        """`[factor1,a]`, then `[specific,a]`."""
        return (*self._loading_names(effects), *(f"[specific,{e}]" for e in effects))

    def matrix(self, theta: Array) -> Array:
        """Lambda Lambda' + Psi."""
        Lambda = self.loadings(theta)
        return Lambda @ Lambda.T + np.diag(theta[self.n_loadings :])

    def derivatives(self, theta: Array) -> Array:
        """dSigma/dtheta, shape (size, dim, dim)."""
        specific = np.zeros((self.dim, self.dim, self.dim))
        a = np.arange(self.dim)
        specific[a, a, a] = 1.0
        return np.concatenate([self._loading_derivatives(theta), specific])

    def start(self, S0: Array) -> Array:
        """Principal factors of S0, then least squares.

        Notes
        -----
        Lambda of the k largest axes of S0 - Psi, Psi = diag(S0 - Lambda Lambda'), in turn [1]_.

        References
        ----------
        .. [1] Harman (1976) Modern Factor Analysis, ch. 8.
        """
        S0 = np.asarray(S0, dtype=float)
        d = np.diag(S0)
        psi = 0.5 * d
        loadings = np.zeros(self.n_loadings)
        for _ in range(PRINCIPAL_STEPS):
            loadings = self._principal(S0 - np.diag(psi))
            Lambda = self.loadings(loadings)
            new = np.clip(d - np.einsum("ak,ak->a", Lambda, Lambda), 0.0, d)
            psi = new
        return self._polished(np.concatenate([loadings, psi]), S0)

    def _polished(self, theta: Array, S0: Array) -> Array:
        """Theta after Gauss-Newton steps towards S0, as long as they come nearer: principal factors creep."""
        lower = lower_indices(self.dim)
        left, length = (S0 - self.matrix(theta))[lower], 1.0
        for _ in range(POLISHING_STEPS):
            J = np.stack([D[lower] for D in self.derivatives(theta)], axis=1)
            new = theta + length * np.linalg.lstsq(J, left, rcond=1e-12)[0]
            new[self.n_loadings :] = np.maximum(new[self.n_loadings :], 0.0)
            new_left = (S0 - self.matrix(new))[lower]
            nearer = bool(np.linalg.norm(new_left) < np.linalg.norm(left))
            theta, left = (new, new_left) if nearer else (theta, left)
            length = min(1.0, 2.0 * length) if nearer else 0.5 * length
        return theta


class LogLinear(Structure):
    """`exp(x)` for residuals: the log of the variance is linear in a covariate; Sigma is the variance at x = 0."""

    tag = "exp"

    def __init__(self, covariate: str) -> None:
        super().__init__(1)
        self.covariate = covariate

    @property
    def size(self) -> int:
        """Level and slope."""
        return 2

    @property
    def blocks(self) -> tuple[IntArray, ...]:
        """None: the log of a variance has no bound."""
        return ()

    @property
    def free(self) -> tuple[tuple[int, float, float], ...]:
        """Level and slope."""
        return ((0, -np.inf, np.inf), (1, -np.inf, np.inf))

    @property
    def components(self) -> tuple[IntArray, ...]:
        """One."""
        return (np.array([0]),)

    @property
    def multiplicity(self) -> Array:
        """None."""
        return np.zeros(0)

    def names(self, effects: Sequence[str]) -> tuple[str, ...]:
        """`[level]` and the covariate."""
        return ("[level]", f"[{self.covariate}]")

    def matrix(self, theta: Array) -> Array:
        """exp(level), shape (1, 1)."""
        return np.exp(theta[:1])[:, None]

    def derivatives(self, theta: Array) -> Array:
        """Derivatives of exp(level), shape (2, 1, 1)."""
        return np.array([np.exp(theta[0]), 0.0])[:, None, None]

    def start(self, S0: Array) -> Array:
        """Level at the log of a variance, no slope."""
        return np.array([np.log(S0[0, 0]), 0.0])


@dataclass(frozen=True)
class StructureEntry:
    """One line of the registry: how to make a structure from its dimension and the options in the formula."""

    make: Callable[[int, dict[str, object]], Structure]


STRUCTURES: dict[str, StructureEntry] = {
    "us": StructureEntry(lambda dim, options: Unstructured(dim)),
    "diag": StructureEntry(lambda dim, options: Identity(dim) if options.get("hom") else Diagonal(dim)),
    "idv": StructureEntry(lambda dim, options: Identity(dim)),
    "cs": StructureEntry(lambda dim, options: CompoundSymmetry(dim, bool(options.get("hom")))),
    "corh": StructureEntry(lambda dim, options: CompoundSymmetry(dim, hom=False)),
    "ar1": StructureEntry(lambda dim, options: Autoregressive(dim, bool(options.get("hom", True)))),
    "toep": StructureEntry(lambda dim, options: Toeplitz(dim, hom=False)),
    "fa": StructureEntry(lambda dim, options: FactorAnalytic(dim, number_of_factors(options))),
    "rr": StructureEntry(lambda dim, options: ReducedRank(dim, number_of_factors(options))),
}
ONE_COEFFICIENT = ("us", "diag", "idv")


def number_of_factors(options: dict[str, object]) -> int:
    """The option ``k``, one by default."""
    return int(str(options.get("k", 1)))


class Source(Protocol):
    """What makes a structure of the user's from its name, dimension, number of variances and levels."""

    def structure(self, tag: str, dim: int, hom: bool, levels: Sequence[object]) -> Structure:
        """The structure."""


def make_structure(tag: str, dim: int, options: dict[str, object], levels: Sequence[object] = ()) -> Structure:
    """Structure of `dim` coefficients by its name in the formula.

    Parameters
    ----------
    tag : str
        Name in the formula, a key of `STRUCTURES`.
    dim : int
        Number of coefficients.
    options : dict
        Options in the formula, such as ``hom``; ``source``, a `Source`, for a structure of the user's.
    levels : sequence
        What the coefficients belong to, which a structure of the user's is a function of.

    Raises
    ------
    FormulaError
        If no structure of that name can be estimated.
    """
    if "source" in options:
        return cast(Source, options["source"]).structure(tag, dim, bool(options["hom"]), levels)
    if tag not in STRUCTURES:
        raise FormulaError(
            f"the covariance structure {tag}() cannot be estimated; those that can: {', '.join(STRUCTURES)}."
        )
    if dim < 2 and tag not in ONE_COEFFICIENT:
        raise FormulaError(f"{tag}() has correlations, and needs two effects or more; here there is one.")
    return STRUCTURES[tag].make(dim, options)
