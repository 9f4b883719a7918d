"""Structures whose parameters are variances and covariances: ``us diag idv``, and ``exp``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import Structure
from mixedgen.covariance.triangle import lower_indices


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
