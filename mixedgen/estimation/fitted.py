"""A design with its variance parameters and solved equations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.engines.system import Engine, System
from mixedgen.errors import NotAvailableError, examples
from mixedgen.estimation.certificate import Certificate
from mixedgen.estimation.control import Control
from mixedgen.estimation.likelihood import average_information, deviance, score
from mixedgen.estimation.optimum import FLAT_CURVATURE, Optimum, Step
from mixedgen.estimation.scalar import MomentEstimates


class Unsolved:
    """In the place of a system where a variance is negative: there are no equations to solve."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def __getattr__(self, name: str) -> Any:
        """Raise a NotAvailableError that names the variances."""
        raise NotAvailableError(
            f"the estimates of {examples(self._names)} are negative: there are no fixed effects, predictions or "
            "standard errors at these variances. REML keeps them positive."
        )


@dataclass(frozen=True)
class Fitted:
    """A design with variance parameters: estimated, or given.

    Attributes
    ----------
    design : Design
        The model.
    engine : Engine
        Its analysed equations.
    system : System
        The equations at theta.
    theta : ndarray
        Variance parameters on the natural scale.
    method : str
        ``"reml"`` or ``"ml"``.
    control : Control
        How it was estimated.
    history : tuple of Step
        Steps of the optimiser.
    certificate : Certificate or None
        The evidence of convergence; None for given variances.
    optimum : Optimum or None
        What the optimiser left.
    moments : MomentEstimates or None
        Sums of squares behind estimates by moments.
    """

    design: Design
    engine: Engine
    system: System
    theta: Array
    method: str
    control: Control
    history: tuple[Step, ...] = ()
    certificate: Certificate | None = None
    optimum: Optimum | None = None
    moments: MomentEstimates | None = None

    @property
    def solved(self) -> bool:
        """Whether there are equations at theta: moment estimates may be negative."""
        return not isinstance(self.system, Unsolved)

    def Sigma(self, k: int) -> Array:
        """Covariance matrix of the effects of term k at theta, shape (c, c)."""
        return self.design.terms[k].structure.matrix(self.theta[self.design.slices[k]])

    @property
    def theta_R(self) -> Array:
        """Parameters of the residual structure, the last of theta."""
        return self.theta[self.design.slices[-1]]

    @property
    def reml(self) -> bool:
        """Whether the likelihood is the restricted one."""
        return self.method == "reml"

    @cached_property
    def deviance(self) -> float:
        """Minus twice the log-likelihood of `method` at theta.

        Raises
        ------
        NotAvailableError
            For estimates by moments, which have no likelihood.
        """
        if self.moments is not None:
            raise NotAvailableError(f"method={self.method!r} has no likelihood: fit by 'reml' or 'ml' for one.")
        return deviance(self.system, self.reml) if self.optimum is None else self.optimum.deviance

    @cached_property
    def score(self) -> Array:
        """Gradient of the log-likelihood by theta; across a boundary, just inside it."""
        return score(self.system, self.reml)

    @cached_property
    def information(self) -> Array:
        """Average information of theta, shape (n_theta, n_theta)."""
        return average_information(self.system)

    @cached_property
    def bounds(self) -> dict[int, str]:
        """Parameters of terms on the boundary, with what is at the boundary."""
        return {} if self.optimum is None else bounds_of(self.optimum)

    @cached_property
    def theta_covariance(self) -> Array:
        """Inverse average information of the free parameters; NaN for those on the boundary, and for given ones."""
        free = np.array([i for i in range(len(self.theta)) if i not in self.bounds], dtype=int)
        out = np.full((len(self.theta),) * 2, np.nan)
        if self.optimum is None:  # given, or estimated by moments
            return out
        AI = self.information[np.ix_(free, free)]
        d = np.sqrt(np.maximum(np.diag(AI), 1e-300))
        scaled = AI / np.outer(d, d)
        if len(free) and np.linalg.eigvalsh(scaled)[0] > FLAT_CURVATURE:
            out[np.ix_(free, free)] = np.linalg.inv(scaled) / np.outer(d, d)
        return out


def bounds_of(optimum: Optimum) -> dict[int, str]:
    """Parameters of singular blocks, with what is at the boundary."""
    out = {}
    for x in optimum.boundaries:
        kind = "zero variance" if len(x.parameters) == 1 else "singular"
        out.update({i: kind for i in x.parameters})
    return out | dict.fromkeys(optimum.at_bounds, "bound")
