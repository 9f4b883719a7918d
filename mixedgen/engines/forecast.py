"""What one evaluation of a likelihood will cost, told before it is made."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

_PRODUCT_ORDER = 1024
_NOMINAL_SPEED = 1e10  # flops a second of matrix products on one core, where comparing needs no measurement
# Factor and inverse on the pattern beside the factor alone; share of a matrix product's speed that fronts reach; and
# the time that an element of the factor costs in assembly: measured on pedigrees of 10^5 and 10^6 animals.
EVALUATION_FLOPS, _EFFICIENCY, _ELEMENT_SECONDS = 3.0, 0.9, 8e-8


@dataclass(frozen=True)
class Forecast:
    """What one evaluation will cost.

    Attributes
    ----------
    order : int
        Number of equations.
    nonzeros : int
        Elements of the factor.
    flops : float
        Floating-point operations of one factorisation.
    bytes : int
        Peak memory of one evaluation.
    """

    order: int
    nonzeros: int
    flops: float
    bytes: int

    @property
    def work(self) -> float:
        """Flops of one evaluation, the fixed time of each element of the factor counted as flops; to compare by."""
        return EVALUATION_FLOPS * self.flops + _ELEMENT_SECONDS * _NOMINAL_SPEED * self.nonzeros

    @cached_property
    def seconds(self) -> float:
        """Time of one step of the optimiser, from the speed of this machine's BLAS, which is measured once.

        Notes
        -----
        A factorisation and an inverse on its pattern take some three times the flops of the first, at the speed of
        matrix products where fronts are large; each element of the factor costs a fixed time besides.
        """
        return EVALUATION_FLOPS * self.flops / (_EFFICIENCY * _product_speed()) + _ELEMENT_SECONDS * self.nonzeros


@cache
def _product_speed() -> float:
    """Flops a second of a dense matrix product of some size, the best of three."""
    A = np.ones((_PRODUCT_ORDER, _PRODUCT_ORDER))
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        A @ A
        seconds.append(time.perf_counter() - start)
    return 2.0 * _PRODUCT_ORDER**3 / min(seconds[1:])
