"""Structures of variances and correlations: ``cs corh ar1 toep``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import Parameter, Structure, variance
from mixedgen.covariance.variances import Unstructured

_DEFINITE = 0.05  # smallest eigenvalue of a correlation matrix to start from


class Correlated(Structure):
    """Variances, common or one each, and correlations by a rule: Sigma = D^1/2 C(rho) D^1/2."""

    def __init__(self, dim: int, hom: bool) -> None:
        super().__init__(dim)
        self.hom = hom
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

    @abstractmethod
    def several(self, kept: Sequence[int]) -> Structure:
        """`reduced` to two coefficients or more."""

    def reduced(self, kept: Sequence[int]) -> Structure:
        """The same rule for those left; one has a variance and no correlation."""
        return Unstructured(1) if len(kept) == 1 else self.several(kept)

    def parameters(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        """`[variance]` or `[a,a]`, then `[rho]` or `[rho1]`, `[rho2]`."""
        return (*self._variances(effects), *self._correlations(effects))

    def _variances(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        common = self.n_variances == 1
        return (variance(*effects, label=("variance",)),) if common else tuple(variance(e) for e in effects)

    def _correlations(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        words = ["rho"] if self.n_correlations == 1 else [f"rho{k + 1}" for k in range(self.n_correlations)]
        return tuple(Parameter("correlation", tuple(effects), (self.lowest, 1.0), (word,)) for word in words)

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

    def several(self, kept: Sequence[int]) -> CompoundSymmetry:
        """One correlation between those left."""
        return CompoundSymmetry(len(kept), self.hom)


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
        self.placed = place is not None
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

    def several(self, kept: Sequence[int]) -> Autoregressive:
        """Those left at their places; without places next to each other, as where the formula names no others."""
        return Autoregressive(len(kept), self.hom, self.place[list(kept)] if self.placed else None)


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
        """Mean at each distance, all of them shrunk where the matrix of them would not be positive definite."""
        rho = np.array([np.diag(C, -k).mean() for k in range(1, self.dim)])
        least = float(np.linalg.eigvalsh(self.correlation(rho))[0])  # of (1 - s) I + s C it is 1 - s (1 - least)
        return rho if least >= _DEFINITE else rho * (1.0 - _DEFINITE) / (1.0 - least)

    def several(self, kept: Sequence[int]) -> Toeplitz:
        """A correlation for each distance in the order of those left."""
        return Toeplitz(len(kept), self.hom)
