"""The registry of estimators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.engines.system import Engine
from mixedgen.errors import ArgumentError, examples
from mixedgen.estimation.anova import anova
from mixedgen.estimation.control import Control
from mixedgen.estimation.given import theta_from
from mixedgen.estimation.maximum import full, restricted
from mixedgen.estimation.minque import minque, mivque0
from mixedgen.estimation.moments import MomentEstimates, require_scalar
from mixedgen.estimation.outcome import Moments, Outcome

# What the design and the engine take of a `Control`, whatever the estimator.
_COMMON = ("engine", "constraints", "fix", "equate", "bound", "progress")
_ASCENT = ("optimiser", "start", "tol", "max_iter", "seed")


@dataclass(frozen=True)
class Estimator:
    """A way from a design to its variance parameters.

    Attributes
    ----------
    estimate : callable
        From design, engine and control to theta and its `Outcome`.
    title : str
        Its name in words.
    criterion : str
        The likelihood that belongs to it, in words; empty where there is none.
    reml : bool
        Whether that likelihood is the restricted one.
    options : tuple of str
        Options of `Control` that it has beside those of every estimator.
    resumes : bool
        Whether `estimate` takes start values, a sequence of theta, as a fourth argument.
    """

    estimate: Callable[..., tuple[Array, Outcome]]
    title: str
    criterion: str = ""
    reml: bool = False
    options: tuple[str, ...] = ()
    resumes: bool = False

    def require_options(self, control: Control) -> None:
        """Raise an ArgumentError for an option that the estimator does not have."""
        unknown = [name for name in control.changed if name not in _COMMON + self.options]
        if unknown:
            raise ArgumentError(
                f"the method {self.title!r} has no option {examples(unknown)} of Control: leave it out."
            )


def _by_moments(equated: Callable[[Design], MomentEstimates]) -> Callable[..., tuple[Array, Moments]]:
    """The estimator of some moment equations, which need the design alone."""

    def estimate(design: Design, engine: Engine, control: Control) -> tuple[Array, Moments]:
        found = equated(design)
        return found.theta, Moments(found)

    return estimate


def _from_priors(design: Design, engine: Engine, control: Control) -> tuple[Array, Moments]:
    """MINQUE with the start values of `control` as priors, those that are not given all one."""
    require_scalar(design, "minque")
    ones = np.ones(len(design.terms) + 1)
    prior = ones if control.start is None else theta_from(design, control.start, ones, name="start")
    found = minque(design, prior)
    return found.theta, Moments(found)


ESTIMATORS: dict[str, Estimator] = {
    "reml": Estimator(restricted, "REML", "restricted likelihood (REML)", True, _ASCENT, resumes=True),
    "ml": Estimator(full, "maximum likelihood", "likelihood (ML)", False, _ASCENT, resumes=True),
    "minque": Estimator(_from_priors, "minque", options=("start",)),
    "mivque0": Estimator(_by_moments(mivque0), "mivque0"),
    "anova3": Estimator(_by_moments(anova), "anova3"),
}


def estimator_of(method: str) -> Estimator:
    """Estimator of a name.

    Raises
    ------
    ArgumentError
        If there is none.
    """
    if method not in ESTIMATORS:
        raise ArgumentError(f"there is no method {method!r}; choose one of: {', '.join(ESTIMATORS)}.")
    return ESTIMATORS[method]
