"""What a user chooses of the estimation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from mixedgen.design.restrictions import Restrictions
from mixedgen.errors import ArgumentError, public_class
from mixedgen.estimation.steps import CURVATURES, Curvature


@public_class
@dataclass(frozen=True)
class Control:
    """How to estimate.

    Parameters
    ----------
    optimiser : str
        ``"ai"``, average information, or ``"em"``, expectation-maximisation: a curvature of the registry.
    engine : str
        ``"auto"``, ``"henderson"`` or ``"dense"``: an engine of the registry.
    start : mapping, optional
        Start values by term: a variance, or a covariance matrix; ``"residual"`` too. The rest start at their defaults.
        For ``method="minque"`` these are the prior values, of which only the ratios matter; those not given are one.
    tol : float
        Stop when the Newton decrement, twice the expected gain in log-likelihood, is below this (or below the rounding
        noise of the criterion); one more step is then taken.
    max_iter : int, optional
        Steps at most: 100 for AI, 20,000 for EM by default.
    constraints : tuple of str
        Columns of X to set to zero where X is not of full rank.
    fix : mapping of str to float
        Variance parameters with a known value, by their names in `theta`: ``{"residual[a,a]": 1.0}``.
    equate : sequence of sequences of str
        Variance parameters of one term that are the same, named by the first.
    bound : mapping of str to (low, high)
        Variance parameters that lie between bounds.
    progress : bool
        Show a progress line for long fits.
    seed : int
        Of the starts drawn at random where the first one led a hard way.
    options : mapping
        Options that a method has of its own, by name.

    Raises
    ------
    ArgumentError
        If the optimiser is unknown, or a number is not positive.
    """

    optimiser: str = "ai"
    engine: str = "auto"
    start: Mapping[str, Any] | None = None
    tol: float = 1e-11
    max_iter: int | None = None
    constraints: tuple[str, ...] = ()
    fix: Mapping[str, float] = field(default_factory=dict)
    equate: Sequence[Sequence[str]] = ()
    bound: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    progress: bool = False
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        if isinstance(self.constraints, str):
            raise ArgumentError(f"constraints are a sequence of names: write constraints=({self.constraints!r},).")
        if self.optimiser not in CURVATURES:
            raise ArgumentError(f"there is no optimiser {self.optimiser!r}; choose one of: {', '.join(CURVATURES)}.")
        self.restrictions  # noqa: B018  checks what it is made of
        if not self.tol > 0:
            raise ArgumentError(f"tol must be positive, not {self.tol}.")
        if self.max_iter is not None and self.max_iter < 1:
            raise ArgumentError(f"max_iter must be at least 1, not {self.max_iter}.")

    @property
    def restrictions(self) -> Restrictions:
        """What is known of the variance parameters."""
        return Restrictions(self.fix, self.equate, self.bound)

    @property
    def iterations(self) -> int:
        """Steps at most."""
        return self.curvature.iterations if self.max_iter is None else self.max_iter

    @property
    def curvature(self) -> Curvature:
        """The way of one step."""
        return CURVATURES[self.optimiser]

    @property
    def changed(self) -> tuple[str, ...]:
        """Options that differ from their default, by name; those of `options` by their own."""
        plain = [f.name for f in fields(self) if f.name != "options" and getattr(self, f.name) != _default_of(f)]
        return (*plain, *self.options)


def _default_of(option: Field[Any]) -> Any:
    """Default of an option."""
    return option.default if option.default_factory is MISSING else option.default_factory()


def checked_control(control: object) -> Control:
    """The settings given, or those by default; an ArgumentError for what is no `Control`."""
    if control is None:
        return Control()
    if not isinstance(control, Control):
        raise ArgumentError(f"control must be a Control, not {type(control).__name__}: write mg.Control(tol=...).")
    return control
