"""What the tests of one fit share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from mixedgen.arrays import Array
from mixedgen.estimation.fitted import Fitted
from mixedgen.inference.containment import containment_df
from mixedgen.inference.information import Directions, free_directions, observed_information, pseudo_inverse
from mixedgen.inference.kenward_roger import kenward_roger_weights


class Result(Protocol):
    """What public functions read of the `Fit` that they are given."""

    @property
    def fitted(self) -> Fitted:
        """Design, variance parameters and solved equations."""

    @property
    def inference(self) -> Inference:
        """What its tests share."""


@dataclass(frozen=True)
class Inference:
    """A fitted model with what its small-sample tests share, computed when first asked for.

    Attributes
    ----------
    fitted : Fitted
        The model.
    """

    fitted: Fitted

    @cached_property
    def covariance(self) -> Array:
        """(X'V^-1 X)^-1, shape (p, p)."""
        return self.fitted.system.fixed_covariance()

    @cached_property
    def directions(self) -> Directions:
        """Directions in which theta can move at the optimum."""
        return free_directions(self.fitted)

    @cached_property
    def theta_covariance(self) -> Array:
        """Covariance of the free directions from the observed information of the fit's own criterion."""
        return pseudo_inverse(observed_information(self.fitted, self.directions))

    @cached_property
    def expected_covariance(self) -> Array:
        """Inverse of the expected REML information of theta, the W of Kenward and Roger, shape (n_theta, n_theta)."""
        return kenward_roger_weights(self.fitted)

    @cached_property
    def contained(self) -> Array:
        """Containment degrees of freedom of each coefficient, shape (p,)."""
        return containment_df(self.fitted.design)

    @property
    def known(self) -> bool:
        """Whether the variances were given: t is then normal, F a chi-squared."""
        return not self.fitted.outcome.maximised

    @property
    def least_squares(self) -> bool:
        """Whether the residual variance is the only one, whose degrees of freedom are exact."""
        return not self.fitted.design.terms and self.fitted.design.residual.homogeneous
