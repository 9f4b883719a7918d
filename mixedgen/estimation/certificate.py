"""What says whether a fit is an optimum, and which term is at fault if it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.design.terms import Term
from mixedgen.engines.system import Engine
from mixedgen.estimation.optimum import Optimum
from mixedgen.estimation.point import rounding_noise

# A gradient of this many standard errors moves the criterion by its square: a millionth of what data can tell.
_CERTIFIED_GRADIENT = 1e-3

_IDLE = 1e-9  # a multiplier this small for each record is none

_VANISHING = 1e-8  # a residual variance this small beside that of y is on its way to zero

_MOST_POSITIONS = 100  # of a residual covariance matrix that is looked at for a singular combination


@dataclass(frozen=True)
class Certificate:
    """The evidence that the variance parameters are at an optimum, and the verdict.

    Attributes
    ----------
    converged : bool
        Whether they are.
    verdict : str
        One sentence, with the term at fault where there is one.
    gradient : float
        Largest element of the gradient on the factor scale, in standard errors.
    decrement : float
        Newton decrement before the last step.
    curvature : float
        Smallest eigenvalue of the scaled information of the free parameters.
    singular : tuple of str
        Terms whose covariance matrix is singular, each with the direction and its multiplier.
    iterations : int
        Steps taken.
    """

    converged: bool
    verdict: str
    gradient: float
    decrement: float
    curvature: float
    singular: tuple[str, ...]
    iterations: int

    def __str__(self) -> str:
        """The verdict, then one line for each singular term."""
        return "\n".join([self.verdict, *self.singular])


def _describe_boundary(design: Design, optimum: Optimum) -> tuple[str, ...]:
    """One line for each singular term: which combination of effects has no variance, and its multiplier."""
    out = []
    for x in optimum.boundaries:
        k = next(k for k, s in enumerate(design.slices) if s.start <= x.parameters[0] < s.stop)
        name = design.theta_names[x.parameters[0]] if len(x.parameters) == 1 else design.terms[k].key
        if len(x.parameters) == 1:
            what = f"the variance of {name} is zero"
        else:
            effects = _effects_of(design.terms[k], tuple(i - design.slices[k].start for i in x.parameters))
            rank = len(effects) - len(x.direction)
            where = "; ".join(_in_words(row, effects) for row in x.direction)
            what = f"the covariance matrix of {name} has rank {rank}: no variance along {where}"
        out.append(
            f"boundary (singular) fit: {what}; the log-likelihood falls by {x.multiplier:.3g} "
            "for each unit of typical variance there."
        )
    return tuple(out)


def _effects_of(term: Term, block: tuple[int, ...]) -> tuple[str, ...]:
    """Effects whose covariance matrix a block of a term is."""
    structure = term.structure
    own = next(e for b, e in zip(structure.blocks, structure.block_effects, strict=True) if tuple(b) == block)
    return tuple(term.effects[i] for i in own)


def _in_words(row: Array, effects: tuple[str, ...]) -> str:
    """A direction in words, its largest coefficient made 1."""
    row = row / row[np.argmax(np.abs(row))]
    parts = [f"{w:+.3g} {e}" for w, e in zip(row, effects, strict=True) if abs(w) > 1e-6]
    return " ".join(parts).lstrip("+")


def _lost_direction(Sigma: Array) -> Array | None:
    """Combination of positions whose residuals have no variance; None where there is none."""
    if not 1 < len(Sigma) <= _MOST_POSITIONS:
        return None
    scale = np.sqrt(np.maximum(np.diag(Sigma), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(Sigma / np.outer(scale, scale))
    return vectors[:, 0] / scale if values[0] < _VANISHING else None


def _vanishing_residual(design: Design, engine: Engine, optimum: Optimum) -> str:
    """A residual variance that goes to zero."""
    Sigma = design.residual.structure.matrix(optimum.theta[design.slices[-1]])
    small = _VANISHING * np.diag(engine.scales.residual) > np.diag(Sigma)
    if any(x.parameters[0] >= design.slices[-1].start for x in optimum.boundaries):
        return ""
    vanishing = np.flatnonzero(small)
    if not len(vanishing):
        return ""
    classes = design.residual.classes
    name = f"the residual variance of {classes[vanishing[0]]}" if classes else "residual"
    return f"{name} goes to zero: the other effects fit its records exactly"


def _singular_residual(design: Design, engine: Engine, optimum: Optimum) -> str:
    """A combination of positions whose residuals have no variance."""
    lost = _lost_direction(design.residual.structure.matrix(optimum.theta[design.slices[-1]]))
    if lost is None:
        return ""
    classes = design.residual.classes
    named = classes if len(classes) == len(lost) else tuple(f"position {k + 1}" for k in range(len(lost)))
    where = _in_words(lost, named)
    return f"the residual covariance matrix becomes singular: the other effects fit {where} exactly"


def _idle_parameter(design: Design, engine: Engine, optimum: Optimum) -> str:
    """A term at the boundary on which the likelihood does not depend."""
    idle = [x for x in optimum.boundaries if abs(x.multiplier) < _IDLE * design.n]
    if not idle:
        return ""
    name = design.theta_names[idle[0].parameters[0]]
    return f"the likelihood does not depend on {name}: it is confounded with the fixed effects or another term"


def _flat_parameter(design: Design, engine: Engine, optimum: Optimum) -> str:
    """A parameter along which the likelihood is flat."""
    if optimum.flat is None:
        return ""
    name = design.theta_names[optimum.flat]
    return f"the likelihood is flat along {name}: the data do not tell it from the other variances"


def _unfinished(design: Design, engine: Engine, optimum: Optimum) -> str:
    """An ascent that ended before it arrived."""
    if optimum.finished:
        return ""
    return f"stopped after {len(optimum.history)} steps with an expected gain of {optimum.decrement / 2:.3g} left"


def _steep(design: Design, engine: Engine, optimum: Optimum) -> str:
    """A gradient that is not zero, beyond rounding."""
    if optimum.gradient <= max(_CERTIFIED_GRADIENT, rounding_noise(optimum.deviance, design.n) ** 0.5):
        return ""
    return f"the gradient is {optimum.gradient:.3g} standard errors from zero"


def _rising(design: Design, engine: Engine, optimum: Optimum) -> str:
    """A boundary off which the likelihood rises."""
    wrong = [x for x in optimum.boundaries if x.multiplier < -_CERTIFIED_GRADIENT]
    return f"the likelihood rises off the boundary of {design.theta_names[wrong[0].parameters[0]]}" if wrong else ""


# What denies convergence, the cause before the symptom: each an empty text, or the problem.
_CHECKS: tuple[Callable[[Design, Engine, Optimum], str], ...] = (
    _vanishing_residual,
    _singular_residual,
    _idle_parameter,
    _flat_parameter,
    _unfinished,
    _steep,
    _rising,
)


def certify(design: Design, engine: Engine, optimum: Optimum) -> Certificate:
    """Verdict on an optimum: the first problem, or none."""
    problem = next((text for check in _CHECKS if (text := check(design, engine, optimum))), "")
    steps = len(optimum.history)
    evidence = f"gradient {optimum.gradient:.1e} standard errors, expected gain {optimum.decrement / 2:.1e}"
    return Certificate(
        converged=not problem,
        verdict=f"not converged: {problem}." if problem else f"converged in {steps} steps: {evidence}.",
        gradient=optimum.gradient,
        decrement=optimum.decrement,
        curvature=optimum.curvature,
        singular=_describe_boundary(design, optimum),
        iterations=steps,
    )
