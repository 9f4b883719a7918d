"""The contract of an engine: equations analysed once, solved at any theta.

An engine needs a `name` and `at`, its system `solve`; everything else has a default that follows from these by dense
algebra on V and P, of order n^3. An engine says more where it knows a cheaper way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.engines.explicit import Explicit, marginal
from mixedgen.engines.forecast import Forecast
from mixedgen.engines.least_squares import least_squares
from mixedgen.engines.scales import Scales


@dataclass(frozen=True)
class Solution:
    """Solutions of the mixed-model equations for one data vector, or for several side by side.

    Attributes
    ----------
    b : ndarray, shape (p,) or (p, m)
        BLUE.
    u : tuple of ndarray, shape (q, c) or (q, c, m)
        BLUP of each term, levels by coefficients.
    e : ndarray, shape (n,) or (n, m)
        Residuals y - Xb - Zu.
    """

    b: Array
    u: tuple[Array, ...]
    e: Array


class System(ABC):
    """Mixed-model equations of a design at one theta.

    `solve` is the primitive; all else follows from it, and an engine overrides what it can do at a better price.

    Parameters
    ----------
    design : Design
        The model.
    theta : ndarray, shape (n_theta,)
        Variance parameters.
    """

    def __init__(self, design: Design, theta: Array) -> None:
        self.design, self.theta = design, theta

    @property
    def theta_R(self) -> Array:
        """Parameters of the residual structure, the last of theta."""
        return self.theta[self.design.slices[-1]]

    @cached_property
    def Sigma(self) -> tuple[Array, ...]:
        """Covariance matrix of the effects of each term at theta, shape (c, c) each."""
        both = zip(self.design.terms, self.design.slices, strict=False)
        return tuple(t.structure.matrix(self.theta[s]) for t, s in both)

    @abstractmethod
    def solve(self, Y: Array) -> Solution:
        """BLUE, BLUP and residuals if the data were Y, shape (n,) or (n, m)."""

    def project(self, Y: Array) -> Array:
        """P Y, shape of Y: R^-1 times the residuals if the data were Y."""
        return self.design.residual.solve(self.theta_R, self.solve(Y).e)

    @cached_property
    def solution(self) -> Solution:
        """Solution for the data of the design."""
        return self.solve(self.design.y)

    @cached_property
    def Py(self) -> Array:
        """P y, shape (n,)."""
        return self.design.residual.solve(self.theta_R, self.solution.e)

    @cached_property
    def quadratic(self) -> float:
        """Y'Py = (Py)'V Py, free of cancellation."""
        return float(self.Py @ marginal(self.design, self.theta, self.Py[:, None])[:, 0])

    @cached_property
    def explicit(self) -> Explicit:
        """V, P and the BLUE as matrices, which the defaults below are made of; of order n^3."""
        unit = np.eye(self.design.n)
        solved = self.solve(unit)
        P = self.design.residual.solve(self.theta_R, solved.e)
        return Explicit(self.design, self.theta, marginal(self.design, self.theta, unit), P, solved.b)

    def logdet(self, reml: bool) -> float:
        """log|V|, and under REML log|V| + log|X'V^-1 X|."""
        return self.explicit.logdet(reml)

    def traces(self, reml: bool, *, spend: bool = False) -> Array:
        """tr(P dV/dtheta_i), or tr(V^-1 dV/dtheta_i) under ML, shape (n_theta,).

        With `spend` the system may use up its factor for it; it cannot solve afterwards.
        """
        return self.explicit.traces(reml)

    def prediction_error(self, term: int) -> Array:
        """Var(u_hat - u) of each level of a term, shape (q, c, c)."""
        return self.explicit.level_blocks(term, reml=True)

    def conditional_variance(self, term: int) -> Array:
        """Var(u | y, b) of each level of a term, shape (q, c, c): lme4's postVar."""
        return self.explicit.level_blocks(term, reml=False)

    def fixed_covariance(self) -> Array:
        """Covariance matrix of the BLUE, shape (p, p)."""
        return self.explicit.C

    def fixed_variances(self) -> Array:
        """Its diagonal, shape (p,)."""
        return np.diag(self.fixed_covariance())

    def blue_weights(self, L: Array) -> Array:
        """V^-1 X (X'V^-1 X)^-1 L' for L of shape (m, p): weights of the records in the BLUE of L b, shape (n, m)."""
        return self.explicit.B.T @ np.asarray(L).T

    def joint_covariance(self) -> Array:
        """Covariance of (b_hat, u_hat - u), u term by term and coefficient-major, shape (p + sum c q, same)."""
        return self.explicit.joint_covariance()

    def fitted_covariance(self) -> Array:
        """Covariance of the errors of the fitted values, Var(X b_hat + Z u_hat - X b - Z u), where R may be non-zero.

        Its diagonal, shape (n,), or its elements at `Residual.pairs`. It is R - R P R = W C^-1 W'.
        """
        return self.explicit.fitted_covariance()


class Engine(ABC):
    """A way to solve the equations: analyses a design once, then evaluates it at any theta.

    Parameters
    ----------
    design : Design
        The model.

    Attributes
    ----------
    name : str
        By which it is asked for.
    """

    name: ClassVar[str]

    def __init__(self, design: Design) -> None:
        self.design = design

    @abstractmethod
    def at(self, theta: Array) -> System:
        """Equations at theta."""

    @classmethod
    def outlook(cls, design: Design) -> Forecast | None:
        """What an evaluation will cost, before any analysis; None for an engine that ``"auto"`` takes only if asked."""
        return None

    def forecast(self) -> Forecast:
        """Cost of one evaluation, by default that of dense algebra on the records."""
        n = self.design.n
        return Forecast(order=n, nonzeros=n * n, flops=n**3 / 3, bytes=40 * n * n)

    def anew(self, design: Design) -> Engine:
        """The same kind of engine, analysed for another design."""
        return type(self)(design)

    def guess(self) -> tuple[list[Array], float] | None:
        """Cheap estimates of Sigma of every term, not always positive definite, and of the residual variance."""
        return None

    @cached_property
    def y0(self) -> Array:
        """Least-squares residuals of y, shape (n,)."""
        return least_squares(self.design.fixed, self.design.y)[1]

    @cached_property
    def scales(self) -> Scales:
        """Typical sizes of the variances."""
        return Scales(self.design, self.y0)
