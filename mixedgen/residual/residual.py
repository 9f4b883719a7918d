"""R(theta): which records share a residual, and how.

R = W^-1/2 [blocks] W^-1/2 with the weights W; a block is a variance (by class, or log-linear in a covariate), or the
part of one covariance matrix that belongs to the positions a unit has records of. One inverse serves all units with the
same positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import Structure


class Residual(ABC):
    """Covariance matrix of the residuals.

    Attributes
    ----------
    structure : Structure
        Parameters of R.
    classes : tuple of str
        Names of the positions; empty when all records share one variance.
    position : ndarray of int, shape (n,)
        Position of each record.
    inverse_weights : ndarray, shape (n,), or None
        1 / w; None when all weights are one.
    """

    structure: Structure
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None

    @property
    def homogeneous(self) -> bool:
        """Whether R is known up to one variance."""
        return False

    @property
    def pairs(self) -> tuple[IntArray, IntArray] | None:
        """Records of each element of R^-1 (both triangles); None where R is diagonal."""
        return None

    @property
    def multiplicity(self) -> tuple[float, ...]:
        """Number of records or units behind each block of the structure: the divisors of an EM step."""
        return ()

    @abstractmethod
    def variances(self, theta: Array) -> Array:
        """Diagonal of R, shape (n,)."""

    @abstractmethod
    def solve(self, theta: Array, V: Array) -> Array:
        """R^-1 V, shape of V: (n,) or (n, m)."""

    @abstractmethod
    def multiply(self, theta: Array, V: Array) -> Array:
        """R V, shape of V."""

    @abstractmethod
    def multiply_derivative(self, theta: Array, k: int, V: Array) -> Array:
        """(dR/dtheta_k) V, shape of V."""

    @abstractmethod
    def logdet(self, theta: Array) -> float:
        """log|R|."""

    @abstractmethod
    def logdet_derivative(self, theta: Array, k: int) -> float:
        """tr(R^-1 dR/dtheta_k)."""

    @abstractmethod
    def precision(self, theta: Array) -> Array:
        """R^-1: its diagonal, shape (n,), or its elements at `pairs`."""

    @abstractmethod
    def precision_derivative(self, theta: Array, k: int) -> Array:
        """d(R^-1)/dtheta_k, as `precision`."""

    @abstractmethod
    def select(self, rows: IntArray) -> Residual:
        """R of some records; classes that lose all of theirs stay."""

    @abstractmethod
    def draw(self, theta: Array, rng: np.random.Generator, n: int) -> Array:
        """Draws from N(0, R), shape (records, n)."""


def take(values: Array | None, rows: IntArray) -> Array | None:
    """Some elements of an array; None of None."""
    return None if values is None else values[rows]


def columns(values: Array, V: Array) -> Array:
    """A factor for each record, to be multiplied with V of shape (n,) or (n, m)."""
    return values if V.ndim == 1 else values[:, None]
