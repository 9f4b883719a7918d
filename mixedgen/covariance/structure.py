"""Covariance structures Sigma(theta) of the coefficients of one level, or of the residuals of one unit.

A structure maps its natural-scale parameters to a c x c matrix. `blocks` says which parameters form a positive
semi-definite block (as a lower triangle, row by row), which is all the optimiser needs to know about the boundary;
`components` says which coefficients are independent of the others, which is all the equations need to know about
the pattern.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self

import numpy as np

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.triangle import lower_factor

Kind = Literal["variance", "covariance", "correlation", "loading", "level"]
Bounds = tuple[float, float]

_POSITIVE: Bounds = (0.0, np.inf)
ANY: Bounds = (-np.inf, np.inf)


@dataclass(frozen=True)
class Parameter:
    """What one element of theta is.

    Attributes
    ----------
    kind : {"variance", "covariance", "correlation", "loading", "level"}
        ``"level"`` is any other number: level and slope of a log variance, the range of a correlation function.
    effects : tuple of str
        Coefficients whose elements of Sigma it moves.
    bounds : (float, float)
        Smallest and largest value.
    label : tuple of str
        Words of its name, of which there may be none.
    column : str
        Column of a product of structures whose levels it correlates.
    scale : str
        In words, where it is not the scale of its kind.
    partial : bool
        Whether a variance is a part only of that of its coefficients, as the specific ones beside loadings.
    """

    kind: Kind
    effects: tuple[str, ...]
    bounds: Bounds
    label: tuple[str, ...] = ()
    column: str = ""
    scale: str = ""
    partial: bool = False

    @property
    def name(self) -> str:
        """Suffix of its name: "" or "[a,b]"."""
        return f"[{','.join(self.label)}]" if self.label else ""

    def within(self, low: float, high: float) -> Self:
        """The parameter between narrower bounds."""
        return replace(self, bounds=(max(self.bounds[0], low), min(self.bounds[1], high)))


def variance(*effects: str, label: Sequence[str] | None = None, partial: bool = False) -> Parameter:
    """A variance that some coefficients have; by itself it is named `[a,a]`."""
    words = (effects[0], effects[0]) if label is None else tuple(label)
    return Parameter("variance", effects, _POSITIVE, words, partial=partial)


class Structure(ABC):
    """Covariance structure of `dim` coefficients.

    A structure of one's own needs `tag`, `parameters`, `matrix`, `derivatives`, `start` and `reduced`; the rest follows
    from its parameters: each variance is a block, and all others stand outside with their bounds.
    """

    start_correlation = 0.0  # of the matrix that default starts are made of: factors need one to find a direction
    unseen: tuple[int, ...] = ()  # parameters that `matrix` does not show
    restricted = False  # whether some of its parameters are fixed, equal or bounded
    unstructured = False  # whether theta is the lower triangle of any covariance matrix
    scalar = False  # whether Sigma is a variance times the identity
    singular = False  # whether Sigma is singular at every theta, and has a factor of its own

    def __init__(self, dim: int) -> None:
        self.dim = dim

    @property
    @abstractmethod
    def tag(self) -> str:
        """Name of the structure in a formula."""

    @abstractmethod
    def parameters(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        """What each element of theta is, for the names of the coefficients."""

    @abstractmethod
    def matrix(self, theta: Array) -> Array:
        """Sigma(theta), shape (dim, dim)."""

    @abstractmethod
    def derivatives(self, theta: Array) -> Array:
        """dSigma/dtheta, shape (size, dim, dim)."""

    @abstractmethod
    def start(self, S0: Array) -> Array:
        """Parameters nearest to a symmetric matrix S0."""

    @abstractmethod
    def reduced(self, kept: Sequence[int]) -> Structure:
        """The same structure, with its options, of some of its coefficients."""

    @cached_property
    def numbered(self) -> tuple[Parameter, ...]:
        """What each element of theta is, the coefficients named by their number."""
        return self.parameters([str(k) for k in range(self.dim)])

    @property
    def size(self) -> int:
        """Number of parameters."""
        return len(self.numbered)

    def names(self, effects: Sequence[str]) -> tuple[str, ...]:
        """Suffix of each parameter's name: "" or "[a,b]"."""
        return tuple(p.name for p in self.parameters(effects))

    @property
    def blocks(self) -> tuple[IntArray, ...]:
        """Parameters of each positive semi-definite block: its lower triangle, row by row."""
        return tuple(np.array([k]) for k, p in enumerate(self.numbered) if p.kind == "variance")

    @property
    def block_effects(self) -> tuple[IntArray, ...]:
        """Coefficients whose covariance matrix each block is, for blocks of more than one parameter."""
        return tuple(np.arange(self.dim) for _ in self.blocks)

    @property
    def free(self) -> tuple[tuple[int, float, float], ...]:
        """Parameters outside the blocks (correlations, slopes), each with its lower and upper bound."""
        inside = {int(k) for b in self.blocks for k in b}
        return tuple((k, *p.bounds) for k, p in enumerate(self.numbered) if k not in inside)

    @property
    def components(self) -> tuple[IntArray, ...]:
        """Groups of coefficients that are independent of each other at every theta."""
        return (np.arange(self.dim),)

    @property
    def multiplicity(self) -> Array:
        """How many coefficients share each block, shape (number of blocks,); the divisor of an EM step counts them."""
        return np.array([float(len(self.numbered[b[0]].effects)) for b in self.blocks])

    @property
    def independent(self) -> bool:
        """Whether no coefficient covaries with another."""
        return len(self.components) == self.dim

    @property
    def variances(self) -> tuple[int, ...]:
        """Parameters that are variances."""
        return tuple(k for k, p in enumerate(self.numbered) if p.kind == "variance")

    @property
    def homogeneous(self) -> bool:
        """Whether all coefficients have one variance, which is a parameter."""
        own = [self.numbered[k] for k in self.variances]
        return len(own) == 1 and len(own[0].effects) == self.dim and not own[0].partial

    def factor(self, theta: Array) -> Array:
        """L with L L' = Sigma(theta), shape (dim, dim); lower triangular."""
        return lower_factor(self.matrix(theta))

    def factor_derivatives(self, theta: Array) -> Array:
        """dL/dtheta, shape (size, dim, dim), of a Sigma that is `singular`; of others L has none on the boundary."""
        raise NotImplementedError(f"{self.tag}() has derivatives of Sigma, not of its factor.")

    def loadings(self, theta: Array) -> Array | None:
        """Lambda with Sigma = Lambda Lambda' + a diagonal matrix, shape (dim, k); None without factors."""
        return None
