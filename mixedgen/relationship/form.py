"""The contract of a form: how the matrix K of a relationship is held, rows and columns by position."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixedgen.arrays import Array, Positions, SparseArray
from mixedgen.relationship.matrix import cholesky, inverse_from_cholesky

_COLUMNS_AT_ONCE = 256  # of unit vectors in a product, which bounds its memory


class Form(ABC):
    """A symmetric matrix K of order q; `size` and `multiply` say all, the rest follows from products with them.

    A form overrides what it knows better than by the dense K. The equations use K = F K0 F' with `basis` F (None for
    the identity), `precision` K0^-1 and `logdet0` log|K0|; by default K0 is K.

    Examples
    --------
    >>> class Doubled(Form):
    ...     size = 2
    ...     def multiply(self, V):
    ...         return 2.0 * np.asarray(V)
    >>> Doubled().diagonal.tolist()
    [2.0, 2.0]
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """Order of K, q."""

    @abstractmethod
    def multiply(self, V: Any) -> Array:
        """Product K V.

        Parameters
        ----------
        V : array, shape (q,) or (q, m)
            One row per level.

        Returns
        -------
        ndarray, shape of V
            K V.
        """

    @cached_property
    def _dense_factor(self) -> Array:
        """Cholesky factor of the dense K; RelationshipError, with positions for names, if K is singular."""
        K = self.multiply(np.eye(self.size))
        return cholesky(0.5 * (K + K.T), pd.RangeIndex(self.size))

    @cached_property
    def inverse(self) -> SparseArray | Array:
        """Inverse of K, shape (q, q); RelationshipError if K is singular."""
        return inverse_from_cholesky(self._dense_factor)

    @cached_property
    def logdet(self) -> float:
        """Logarithm of the determinant of K; RelationshipError if K is singular."""
        return 2.0 * float(np.log(np.diag(self._dense_factor)).sum())

    @cached_property
    def diagonal(self) -> Array:
        """Diagonal of K, shape (q,)."""
        some = (np.arange(self.size)[k : k + _COLUMNS_AT_ONCE] for k in range(0, self.size, _COLUMNS_AT_ONCE))
        return np.concatenate([np.diag(self.block(at, at)) for at in some])

    def block(self, rows: Positions, columns: Positions) -> Array:
        """K[rows, columns], dense."""
        return by_columns(self.size, self.multiply, rows, columns)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Draws from N(0, K), shape (q, n)."""
        return np.asarray(self._dense_factor @ rng.standard_normal((self.size, n)))

    @property
    def basis(self) -> SparseArray | Array | None:
        """Factor F of K = F K0 F', shape (q, r); None for the identity."""
        return None

    @property
    def precision(self) -> SparseArray | Array:
        """Inverse of K0, shape (r, r), without its `dense_blocks`."""
        return self.inverse

    @property
    def logdet0(self) -> float:
        """Logarithm of the determinant of K0."""
        return self.logdet

    @property
    def dense_blocks(self) -> tuple[tuple[Positions, Array], ...]:
        """Dense parts of `precision`, to be added to it: positions and values of each."""
        return ()

    def part(self, rows: Positions, labels: pd.Index[Any]) -> Form | None:
        """Form of some of the levels, of these names; None where it is best held as a matrix."""
        return None

    def __getstate__(self) -> dict[str, Any]:
        """Only what defines the form: cached factors are neither copied nor pickled."""
        return {k: v for k, v in vars(self).items() if not isinstance(getattr(type(self), k, None), cached_property)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the fields past a frozen dataclass."""
        vars(self).update(state)


def by_columns(q: int, product: Callable[[Array], Array], rows: Positions, columns: Positions) -> Array:
    """K[rows, columns] from products of K with unit vectors, some columns at a time to bound the memory."""
    out = np.empty((len(rows), len(columns)))
    for start in range(0, len(columns), _COLUMNS_AT_ONCE):
        chosen = columns[start : start + _COLUMNS_AT_ONCE]
        E = np.zeros((q, len(chosen)))
        E[chosen, np.arange(len(chosen))] = 1.0
        out[:, start : start + len(chosen)] = product(E)[rows]
    return out
