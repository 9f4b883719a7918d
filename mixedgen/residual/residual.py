"""R(theta): which records share a residual, and how.

R = W^-1/2 [blocks] W^-1/2 with the weights W; a block is a variance (by class, or log-linear in a covariate), or the
part of one covariance matrix that belongs to the positions a unit has records of. One inverse serves all units with the
same positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.structure import Structure
from mixedgen.errors import NotAvailableError


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
    covariates: tuple[str, ...] = ()  # numeric columns that the variance of a record depends on
    restrictable = True  # whether its parameters may be fixed, equal or bounded

    @property
    def words(self) -> str:
        """What it is, in words."""
        return (
            f"structure {self.structure.tag}"
            if self.pairs is not None
            else f"independent, structure {self.structure.tag}"
        )

    @property
    def linear(self) -> Structure | None:
        """Structure in whose parameters R is linear, and of which its own is a case; None where there is none."""
        return None

    def over(self, structure: Structure) -> Residual | None:
        """R of another structure of the same positions; None for one that reads its own parameters."""
        return None

    def on_records_of(self, other: Residual) -> Residual:
        """R of the records of another of the same kind, with these parameters."""
        return other.over(self.structure) or other

    def at_points(self, theta: Array, covariates: Mapping[str, Array], n: int) -> tuple[Array, Array]:
        """Variance of a record without weight at n points, shape (n,), and its derivatives, shape (n, n_theta).

        Raises
        ------
        NotAvailableError
            If it depends on more than the covariates.
        """
        if self.pairs is not None or self.structure.dim > 1:
            raise NotAvailableError("the residual variance differs between classes, which the points do not say.")
        gradient = np.tile(self.structure.derivatives(theta)[:, 0, 0], (n, 1))
        return np.full(n, self.structure.matrix(theta)[0, 0]), gradient

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


def some(values: Array | None, rows: IntArray) -> Array | None:
    """Some elements of an array; None of None."""
    return None if values is None else values[rows]


def columns(values: Array, V: Array) -> Array:
    """A factor for each record, to be multiplied with V of shape (n,) or (n, m)."""
    return values if V.ndim == 1 else values[:, None]
