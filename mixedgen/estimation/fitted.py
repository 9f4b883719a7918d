"""A design with its variance parameters and solved equations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.engines.system import Engine, System
from mixedgen.errors import NotAvailableError, examples
from mixedgen.estimation.control import Control
from mixedgen.estimation.estimators import Estimator, estimator_of
from mixedgen.estimation.likelihood import average_information, deviance, score
from mixedgen.estimation.optimum import FLAT_CURVATURE
from mixedgen.estimation.outcome import Given, Outcome


@dataclass(frozen=True)
class Fitted:
    """A design with variance parameters: estimated, or given.

    Attributes
    ----------
    design : Design
        The model.
    engine : Engine
        Its analysed equations.
    equations : System or None
        The equations at theta; None where a variance is negative and there are none to solve.
    theta : ndarray
        Variance parameters on the natural scale.
    method : str
        An estimator of the registry.
    control : Control
        How it was estimated.
    outcome : Outcome
        How theta came about, and what may be asked of the fit for it.
    """

    design: Design
    engine: Engine
    equations: System | None
    theta: Array
    method: str
    control: Control
    outcome: Outcome = Given()

    @property
    def solved(self) -> bool:
        """Whether there are equations at theta: moment estimates may be negative."""
        return self.equations is not None

    @property
    def system(self) -> System:
        """The equations at theta.

        Raises
        ------
        NotAvailableError
            If a variance is negative.
        """
        self.require_solved()
        assert self.equations is not None
        return self.equations

    def require_solved(self) -> None:
        """Raise a NotAvailableError that names the variances where they are negative."""
        if self.equations is None:
            raise NotAvailableError(
                f"the estimates of {examples(negative(self.design, self.theta))} are negative: there are no fixed "
                "effects, predictions or standard errors at these variances. REML keeps them positive."
            )

    @property
    def estimator(self) -> Estimator:
        """The estimator of `method`."""
        return estimator_of(self.method)

    def carried_to(self, design: Design, theta: Array | None = None) -> Fitted:
        """Another design at the variances of this fit, or at others, which are then given and not estimated."""
        engine, at = self.engine.anew(design), self.theta if theta is None else theta
        return Fitted(design, engine, engine.at(at), at, self.method, self.control)

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
        return self.estimator.reml

    @cached_property
    def deviance(self) -> float:
        """Minus twice the log-likelihood of `method` at theta.

        Raises
        ------
        NotAvailableError
            If the method has no likelihood, as estimates by moments.
        """
        if not self.outcome.has_likelihood:
            raise NotAvailableError(f"method={self.method!r} has no likelihood: fit by 'reml' or 'ml' for one.")
        known = self.outcome.deviance
        return deviance(self.system, self.reml) if known is None else known

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
        return self.outcome.bounds

    @cached_property
    def theta_covariance(self) -> Array:
        """Inverse average information of the free parameters; NaN for those on the boundary, and for given ones."""
        free = np.array([i for i in range(len(self.theta)) if i not in self.bounds], dtype=int)
        out = np.full((len(self.theta),) * 2, np.nan)
        if not self.outcome.maximised:
            return out
        AI = self.information[np.ix_(free, free)]
        d = np.sqrt(np.maximum(np.diag(AI), 1e-300))
        scaled = AI / np.outer(d, d)
        if len(free) and np.linalg.eigvalsh(scaled)[0] > FLAT_CURVATURE:
            out[np.ix_(free, free)] = np.linalg.inv(scaled) / np.outer(d, d)
        return out


def negative(design: Design, theta: Array) -> list[str]:
    """Names of the variances that leave no equations to solve: negative ones, and a residual variance of zero."""
    names = []
    for structure, s in zip(design.structures, design.slices, strict=True):
        variances = np.diag(structure.matrix(theta[s]))
        if np.any(variances < 0):
            names += [design.theta_names[s.start + i] for i in np.flatnonzero(theta[s] < 0)]
        elif s is design.slices[-1] and np.any(variances == 0):
            names.append("residual")
    return names
