"""Structures of loadings: ``rr`` and ``fa``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixedgen.arrays import Array
from mixedgen.covariance.structure import ANY, Parameter, Structure, variance
from mixedgen.covariance.triangle import lower_indices
from mixedgen.covariance.variances import Unstructured
from mixedgen.errors import FormulaError

# Of a start by principal factors, which creep where a specific variance nears zero, and of its polishing from there.
_PRINCIPAL_STEPS, _POLISHING_STEPS = 200, 60

_ROUNDING = 1e-15  # a step of a specific variance, beside its variance, after which none follows


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

    def loadings(self, theta: Array) -> Array:
        """Lambda, shape (dim, k)."""
        Lambda = np.zeros((self.dim, self.k))
        Lambda[self._rows, self._cols] = theta[: self.n_loadings]
        return Lambda

    def _loading_parameters(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        own = [(f"factor{c + 1}", effects[int(r)]) for r, c in zip(self._rows, self._cols, strict=True)]
        return tuple(Parameter("loading", (effect,), ANY, (factor, effect)) for factor, effect in own)

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
    singular = True

    def parameters(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        """`[factor1,a]`."""
        return self._loading_parameters(effects)

    def reduced(self, kept: Sequence[int]) -> Structure:
        """As many factors of those left as these can have; one has a variance."""
        return Unstructured(1) if len(kept) == 1 else ReducedRank(len(kept), min(self.k, len(kept)))

    def matrix(self, theta: Array) -> Array:
        """Lambda Lambda'."""
        Lambda = self.loadings(theta)
        return Lambda @ Lambda.T

    def derivatives(self, theta: Array) -> Array:
        """dSigma/dtheta, shape (size, dim, dim)."""
        return self._loading_derivatives(theta)

    def start(self, S0: Array) -> Array:
        """Principal axes of S0."""
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
        if not _is_identified(dim, k):
            raise FormulaError(
                f"fa(..., k={k}) of {dim} effects has {self.size} parameters for {dim * (dim + 1) // 2} variances and "
                "covariances: it is not identified. Take fewer factors, or us(...)."
            )

    def parameters(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        """`[factor1,a]`, then `[specific,a]`."""
        return (
            *self._loading_parameters(effects),
            *(variance(e, label=("specific", e), partial=True) for e in effects),
        )

    def reduced(self, kept: Sequence[int]) -> Structure:
        """As many factors of those left; any covariance matrix where these factors are not identified."""
        dim = len(kept)
        return FactorAnalytic(dim, self.k) if _is_identified(dim, self.k) else Unstructured(dim)

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
        for _ in range(_PRINCIPAL_STEPS):
            loadings = self._principal(S0 - np.diag(psi))
            Lambda = self.loadings(loadings)
            new = np.clip(d - np.einsum("ak,ak->a", Lambda, Lambda), 0.0, d)
            moved = np.abs(new - psi)
            psi = new
            if np.all(moved <= _ROUNDING * d):
                break
        return self._polished(np.concatenate([loadings, psi]), S0)

    def _polished(self, theta: Array, S0: Array) -> Array:
        """Theta after Gauss-Newton steps towards S0, as long as they come nearer: principal factors creep."""
        lower = lower_indices(self.dim)
        left, length = (S0 - self.matrix(theta))[lower], 1.0
        for _ in range(_POLISHING_STEPS):
            J = np.stack([D[lower] for D in self.derivatives(theta)], axis=1)
            new = theta + length * np.linalg.lstsq(J, left, rcond=1e-12)[0]
            new[self.n_loadings :] = np.maximum(new[self.n_loadings :], 0.0)
            new_left = (S0 - self.matrix(new))[lower]
            nearer = bool(np.linalg.norm(new_left) < np.linalg.norm(left))
            theta, left = (new, new_left) if nearer else (theta, left)
            length = min(1.0, 2.0 * length) if nearer else 0.5 * length
        return theta


def _is_identified(dim: int, k: int) -> bool:
    """Whether `fa` has no more parameters than a covariance matrix has elements."""
    return k <= dim and dim * k - k * (k - 1) // 2 + dim <= dim * (dim + 1) // 2
