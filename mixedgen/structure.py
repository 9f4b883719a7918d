"""Covariance structures Sigma(theta) of the coefficients of one level, or of the residuals of one unit.

A structure maps its natural-scale parameters to a c x c matrix. `blocks` says which parameters form a positive
semi-definite block (as a lower triangle, row by row), which is all the optimiser needs to know about the boundary;
`components` says which coefficients are independent of the others, which is all the equations need to know about
the pattern.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mixedgen.errors import FormulaError

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

# A pivot this small beside its own diagonal element is rounding of an exact zero: twice the unit roundoff for each
# of the few operations that make it.
PIVOT_TOLERANCE = 1e-14
INDEFINITE = 1e-8  # an eigenvalue of a correlation matrix below minus this is no rounding


@lru_cache(maxsize=64)
def lower_indices(c: int) -> tuple[IntArray, IntArray]:
    """Rows and columns of a lower triangle, row by row: the order of theta."""
    rows, cols = np.tril_indices(c)
    rows.setflags(write=False)
    cols.setflags(write=False)
    return rows, cols


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


class Structure(ABC):
    """Covariance structure of `dim` coefficients."""

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
        """`[a,b]` with a after b."""
        if self.dim == 1:
            return ("",)
        return tuple(f"[{effects[a]},{effects[b]}]" for a, b in zip(self._rows, self._cols, strict=True))

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


@dataclass(frozen=True)
class StructureEntry:
    """One line of the registry: how to make a structure from its dimension and the options in the formula."""

    make: Callable[[int, dict[str, object]], Structure]


STRUCTURES: dict[str, StructureEntry] = {
    "us": StructureEntry(lambda dim, options: Unstructured(dim)),
    "diag": StructureEntry(lambda dim, options: Identity(dim) if options.get("hom") else Diagonal(dim)),
    "idv": StructureEntry(lambda dim, options: Identity(dim)),
}


def make_structure(tag: str, dim: int, options: dict[str, object]) -> Structure:
    """Structure of `dim` coefficients by its name in the formula.

    Parameters
    ----------
    tag : str
        Name in the formula, a key of `STRUCTURES`.
    dim : int
        Number of coefficients.
    options : dict
        Options in the formula, such as ``hom``.

    Raises
    ------
    FormulaError
        If no structure of that name can be estimated.
    """
    if tag not in STRUCTURES:
        raise FormulaError(
            f"the covariance structure {tag}() cannot be estimated; those that can: {', '.join(STRUCTURES)}."
        )
    return STRUCTURES[tag].make(dim, options)
