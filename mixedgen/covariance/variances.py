"""Structures whose parameters are variances and covariances: ``us diag idv``, and ``exp``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import ANY, Parameter, Structure, variance
from mixedgen.covariance.triangle import lower_indices


class Unstructured(Structure):
    """`us`: any covariance matrix; theta is its lower triangle, row by row."""

    tag = "us"
    unstructured = True

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self._rows, self._cols = lower_indices(dim)

    def parameters(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        """`[a,b]` with a before b."""
        if self.dim == 1:
            return (variance(*effects, label=()),)
        pairs = [(effects[b], effects[a]) for a, b in zip(self._rows, self._cols, strict=True)]
        return tuple(variance(a) if a == b else Parameter("covariance", (a, b), ANY, (a, b)) for a, b in pairs)

    @property
    def blocks(self) -> tuple[IntArray, ...]:
        """One block of all parameters."""
        return (np.arange(len(self._rows)),)

    @property
    def multiplicity(self) -> Array:
        """One."""
        return np.ones(1)

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

    def reduced(self, kept: Sequence[int]) -> Unstructured:
        """Any covariance matrix of those left."""
        return Unstructured(len(kept))


class Diagonal(Structure):
    """`diag`: independent coefficients with a variance each."""

    tag = "diag"

    def parameters(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        """`[a,a]`; of one coefficient without a suffix."""
        return (variance(*effects, label=()),) if self.dim == 1 else tuple(variance(e) for e in effects)

    @property
    def components(self) -> tuple[IntArray, ...]:
        """Each coefficient alone."""
        return tuple(np.array([k]) for k in range(self.dim))

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

    def reduced(self, kept: Sequence[int]) -> Diagonal:
        """A variance for each of those left."""
        return Diagonal(len(kept))


class Identity(Structure):
    """`idv`, or `diag(..., hom=True)`: independent coefficients with one common variance."""

    tag = "idv"
    scalar = True

    def parameters(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        """One without a suffix."""
        return (variance(*effects, label=()),)

    @property
    def components(self) -> tuple[IntArray, ...]:
        """Each coefficient alone."""
        return tuple(np.array([k]) for k in range(self.dim))

    def matrix(self, theta: Array) -> Array:
        """Sigma(theta), shape (dim, dim)."""
        return float(theta[0]) * np.eye(self.dim)

    def derivatives(self, theta: Array) -> Array:
        """dSigma/dtheta, shape (1, dim, dim)."""
        return np.eye(self.dim)[None]

    def start(self, S0: Array) -> Array:
        """Mean of the diagonal of S0."""
        return np.array([np.mean(np.diag(S0))])

    def reduced(self, kept: Sequence[int]) -> Identity:
        """The common variance of those left."""
        return Identity(len(kept))


class LogLinear(Structure):
    """`exp(x)` for residuals: the log of the variance is linear in a covariate; Sigma is the variance at x = 0."""

    tag = "exp"

    def __init__(self, covariate: str) -> None:
        super().__init__(1)
        self.covariate = covariate

    def parameters(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        """`[level]` and the covariate, without bounds."""
        own = tuple(effects)
        return tuple(Parameter("level", own, ANY, (word,), scale="log variance") for word in ("level", self.covariate))

    def matrix(self, theta: Array) -> Array:
        """exp(level), shape (1, 1)."""
        return np.exp(theta[:1])[:, None]

    def derivatives(self, theta: Array) -> Array:
        """Derivatives of exp(level), shape (2, 1, 1)."""
        return np.array([np.exp(theta[0]), 0.0])[:, None, None]

    def start(self, S0: Array) -> Array:
        """Level at the log of a variance, no slope."""
        return np.array([np.log(S0[0, 0]), 0.0])

    def reduced(self, kept: Sequence[int]) -> LogLinear:
        """Itself: there is one coefficient."""
        return self
