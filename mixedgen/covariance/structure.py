"""Covariance structures Sigma(theta) of the coefficients of one level, or of the residuals of one unit.

A structure maps its natural-scale parameters to a c x c matrix. `blocks` says which parameters form a positive
semi-definite block (as a lower triangle, row by row), which is all the optimiser needs to know about the boundary;
`components` says which coefficients are independent of the others, which is all the equations need to know about
the pattern.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.triangle import lower_factor


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
