"""How the variance parameters of a fit came about, and what may be asked of the fit for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from mixedgen.engines.system import System
from mixedgen.estimation.certificate import Certificate
from mixedgen.estimation.moments import MomentEstimates
from mixedgen.estimation.optimum import Optimum, Step


class Outcome(ABC):
    """How theta came about.

    A new kind says what is true of it and words it; everything else has a default. The rooms above ask these facts and
    never which kind it is.

    Attributes
    ----------
    estimated : bool
        Whether theta comes from the data, so that other data give another.
    maximised : bool
        Whether theta is where an ascent of a likelihood ended: its curvature there gives standard errors, its profiles
        intervals.
    has_likelihood : bool
        Whether the likelihood at theta belongs to the fit, with the criteria that follow from it.
    has_df : bool
        Whether fixed effects have degrees of freedom, and so tests and intervals.
    converged : bool
        Whether theta can be trusted as far as the method can tell; True where nothing is iterated.
    certificate : Certificate or None
        The evidence, where there is one.
    history : tuple of Step
        Steps taken.
    bounds : dict of int to str
        Parameters on the boundary, with what is at the boundary.
    singular : tuple of str
        A line for each term with a singular covariance matrix.
    system : System or None
        Equations at theta, where they were solved on the way.
    deviance : float or None
        Minus twice the log-likelihood at theta, where it was found on the way.
    """

    estimated: ClassVar[bool] = True
    maximised: ClassVar[bool] = False
    has_likelihood: ClassVar[bool] = True
    has_df: ClassVar[bool] = True

    @property
    def converged(self) -> bool:
        """Whether theta can be trusted."""
        return self.certificate is None or self.certificate.converged

    @property
    def certificate(self) -> Certificate | None:
        """Evidence of convergence."""
        return None

    @property
    def history(self) -> tuple[Step, ...]:
        """Steps taken."""
        return ()

    @property
    def bounds(self) -> dict[int, str]:
        """Parameters on the boundary."""
        return {}

    @property
    def singular(self) -> tuple[str, ...]:
        """Singular terms."""
        return () if self.certificate is None else self.certificate.singular

    @property
    def system(self) -> System | None:
        """Equations at theta."""
        return None

    @property
    def deviance(self) -> float | None:
        """Minus twice the log-likelihood at theta."""
        return None

    @abstractmethod
    def title(self, method: str) -> str:
        """Heading of a summary, for the name of a method in words."""

    @abstractmethod
    def verdict(self, method: str) -> str:
        """One sentence on whether theta can be trusted."""

    @abstractmethod
    def account(self, method: str, criterion: str, value: str) -> str:
        """A sentence on what was done, for the method and its criterion in words and the value of the criterion."""

    @property
    def place(self) -> str:
        """Where a criterion is read."""
        return "at convergence"

    @property
    def note(self) -> str | None:
        """What a reader of a table must know of tests and intervals."""
        return None


@dataclass(frozen=True)
class Estimated(Outcome):
    """Theta maximises a likelihood.

    Attributes
    ----------
    optimum : Optimum
        What the ascent left.
    evidence : Certificate
        Whether it is an optimum.
    curvature : str
        What the steps were made of, in words.
    """

    optimum: Optimum
    evidence: Certificate
    curvature: str

    maximised: ClassVar[bool] = True

    @property
    def certificate(self) -> Certificate:
        """Evidence of convergence."""
        return self.evidence

    @property
    def history(self) -> tuple[Step, ...]:
        """Steps of the ascent."""
        return self.optimum.history

    @property
    def bounds(self) -> dict[int, str]:
        """Parameters of singular blocks, and those at a bound of theirs."""
        out: dict[int, str] = {}
        for x in self.optimum.boundaries:
            out |= dict.fromkeys(x.parameters, "zero variance" if len(x.parameters) == 1 else "singular")
        return out | dict.fromkeys(self.optimum.at_bounds, "bound")

    @property
    def system(self) -> System:
        """Equations at the optimum."""
        return self.optimum.system

    @property
    def deviance(self) -> float:
        """Minus twice the log-likelihood at the optimum."""
        return self.optimum.deviance

    def title(self, method: str) -> str:
        """Heading of a summary."""
        return f"Linear mixed model fit by {method}"

    def verdict(self, method: str) -> str:
        """That of the certificate."""
        return self.evidence.verdict

    def account(self, method: str, criterion: str, value: str) -> str:
        """What was maximised, and how."""
        return f"Variances maximise the {criterion} by {self.curvature}: {self.evidence.iterations} steps, {value}."


@dataclass(frozen=True)
class Given(Outcome):
    """The user gave theta: t tests are normal, F tests chi-squared."""

    estimated: ClassVar[bool] = False

    def title(self, method: str) -> str:
        """Heading of a summary."""
        return f"Linear mixed model at given variances ({method})"

    def verdict(self, method: str) -> str:
        """Nothing to converge."""
        return "the variances were given."

    def account(self, method: str, criterion: str, value: str) -> str:
        """Nothing was done."""
        return f"The variances were given; {value} of the {criterion}."

    @property
    def place(self) -> str:
        """Where a criterion is read."""
        return "at the given variances"

    @property
    def note(self) -> str:
        """What a reader of a table must know."""
        return "the variances are given, tests and intervals normal."


@dataclass(frozen=True)
class Moments(Outcome):
    """Theta equates quadratic forms of y to their expectations: there is no likelihood, and variances may be negative.

    Attributes
    ----------
    sums : MomentEstimates or None
        The quadratic forms.
    how : str
        What was done, in words.
    """

    sums: MomentEstimates | None = None
    how: str = "quadratic forms of y equated to their expectations"

    has_likelihood: ClassVar[bool] = False
    has_df: ClassVar[bool] = False

    def title(self, method: str) -> str:
        """Heading of a summary."""
        return f"Linear mixed model, variances by {method}"

    def verdict(self, method: str) -> str:
        """Nothing to converge."""
        return f"estimates by {method} are computed, not iterated."

    def account(self, method: str, criterion: str, value: str) -> str:
        """What was equated."""
        return f"Variances by {method}: {self.how}; there is no likelihood."
