"""What the two implementations of the sparse room have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy.typing as npt

from mixedgen.arrays import Array
from mixedgen.errors import EngineError


@dataclass(frozen=True)
class FactorCost:
    """Cost of one factorisation, known before any number is.

    Parameters
    ----------
    nnz_factor : int
        Stored entries of the lower triangle of the factor, explicit zeros of merged columns included.
    flops : float
        Multiplications and additions of one factorisation.
    peak_bytes : int
        Memory of a factorisation and a selected inverse that keeps the factor, in bytes.
    """

    nnz_factor: int
    flops: float
    peak_bytes: int


class CholeskyFactor(ABC):
    """Cholesky factor of one symmetric positive definite matrix.

    Attributes
    ----------
    logdet : float
        Logarithm of the determinant of the matrix.
    """

    logdet: float

    @abstractmethod
    def solve(self, B: npt.ArrayLike) -> Array:
        """Solve ``A X = B``.

        Parameters
        ----------
        B : array_like, shape (n,) or (n, m)
            Right-hand sides; left untouched.

        Returns
        -------
        ndarray, shape of B, float64

        Raises
        ------
        EngineError
            When the factor was overwritten by its selected inverse.
        """

    @abstractmethod
    def selected_inverse(self, overwrite: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """Entries of the inverse where the matrix itself has entries.

        Parameters
        ----------
        overwrite : bool
            Write the inverse over the factor: saves its memory, and ends the use of `solve`.

        Returns
        -------
        values : ndarray, shape (nnz,)
            Inverse at the listed entries, aligned with `indices` of `analyse`.
        blocks : tuple of ndarray, shapes (m, m)
            Symmetric parts of the inverse at the dense blocks.

        Raises
        ------
        EngineError
            When the factor was overwritten before.
        """


class Symbolic(ABC):
    """Pattern of a symmetric matrix, analysed once; `factor` takes values as often as they change.

    Attributes
    ----------
    n : int
        Order of the matrix.
    forecast : FactorCost
        Cost of one factorisation.
    """

    n: int
    forecast: FactorCost

    @abstractmethod
    def factor(self, data: Array, blocks: Sequence[Array] = ()) -> CholeskyFactor:
        """Factorise the matrix with these values.

        Parameters
        ----------
        data : ndarray, shape (nnz,)
            Values of the listed lower-triangle entries, aligned with `indices` of `analyse`.
        blocks : sequence of ndarray, shapes (m, m)
            Symmetric values of the dense blocks; they add to the listed entries.

        Returns
        -------
        CholeskyFactor

        Raises
        ------
        EngineError
            When a pivot is not positive; `column` holds its index.
        """


def not_positive(column: int) -> EngineError:
    """Error for a pivot that is not positive, with the column it stands in."""
    return EngineError(
        f"the equations are not positive definite: the pivot of column {column} is not positive. "
        "Look for aliased columns, empty levels, or a variance that is not finite.",
        column=column,
    )


def overwritten() -> EngineError:
    """Error for the use of a factor that its inverse has replaced."""
    return EngineError("this factor was overwritten by its selected inverse. Factorise again.")
