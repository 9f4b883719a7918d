"""What an interval can be of: coefficients, standard deviations, correlations."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import scipy.sparse as sp

from mixedgen.arrays import Array
from mixedgen.covariance.structure import Parameter, Structure
from mixedgen.covariance.triangle import square
from mixedgen.design.aliased import triangular_factor
from mixedgen.design.design import Design
from mixedgen.design.terms import INTERCEPT_NAMES
from mixedgen.estimation.ascent import maximise
from mixedgen.estimation.fitted import Fitted
from mixedgen.estimation.point import typical_matrix, typical_units
from mixedgen.intervals.constrained import OFF_BOUNDARY, Block, Bounded, Coordinates, minimise

FIRST_STEP = 0.3  # of a parameter's typical size, towards the end of its interval

_SMALLEST_RESIDUAL = 1e-4  # of the standard deviation of y: zero itself has no likelihood


class Target(ABC):
    """A parameter whose likelihood is profiled: its name, its bounds and its estimate under ML."""

    name: str
    low: float
    high: float
    margin: float = 0.0  # above `low`, where the likelihood is not defined
    rows: tuple[tuple[str, ...], ...] = ()  # group and effects of the rows it has in tables of variances

    @abstractmethod
    def estimate(self, fitted: Fitted) -> float:
        """Its value in a fit."""

    @abstractmethod
    def size(self, fitted: Fitted) -> float:
        """Its typical size, from which steps are taken."""

    @abstractmethod
    def minimum(self, fitted: Fitted, value: float, theta: Array) -> tuple[float, Array]:
        """Smallest ML deviance at a value of the parameter, from a start, and the theta there."""


@dataclass(frozen=True)
class Coefficient(Target):
    """Fixed effect number j."""

    name: str
    j: int
    low: float = -np.inf
    high: float = np.inf

    def estimate(self, fitted: Fitted) -> float:
        """BLUE."""
        return float(fitted.system.solution.b[self.j])

    def size(self, fitted: Fitted) -> float:
        """Its standard error, as many times as the first step is shorter than that."""
        return float(np.sqrt(fitted.system.fixed_variances()[self.j])) / FIRST_STEP

    def minimum(self, fitted: Fitted, value: float, theta: Array) -> tuple[float, Array]:
        """The fit of y - x_j v without column j; of least squares in closed form."""
        design = fitted.design
        if not design.terms and design.residual.homogeneous:
            # least squares: the sum of squares, n sigma^2, grows by (v - b)^2 sigma^2 / Var(b)
            share = (value - self.estimate(fitted)) ** 2 / fitted.system.fixed_variances()[self.j] / design.n
            return fitted.deviance + design.n * math.log1p(share), theta
        held = _without_column(design, self.j, value)
        engine = fitted.engine.anew(held)
        optimum = maximise(engine, theta, reml=False, control=fitted.control, others=[fitted.theta])
        return optimum.deviance, optimum.theta


def _without_column(design: Design, j: int, value: float) -> Design:
    """The design with coefficient j at a value: its column becomes an offset."""
    fixed = design.fixed
    others = [k for k in range(fixed.p) if k != j]
    left, offset = fixed.X[:, others], value * fixed.column(j)
    part = replace(
        fixed,
        X=left,
        R=None if sp.issparse(left) else triangular_factor(np.asarray(left)),
        names=tuple(fixed.names[k] for k in others),
    )
    return replace(design, y=design.y - offset, fixed=part)


@dataclass(frozen=True)
class VarianceTarget(Target):
    """A standard deviation or correlation of a block of theta, or a bounded parameter outside the blocks.

    Attributes
    ----------
    kind : str
        ``"sd"``, ``"cor"``, or ``"free"``.
    at : int
        Number of the block, or of the parameter among those outside.
    effects : tuple of int
        Effects of the block that it belongs to.
    """

    name: str
    kind: str
    at: int
    effects: tuple[int, ...]
    low: float
    high: float
    margin: float = 0.0
    rows: tuple[tuple[str, ...], ...] = ()

    def estimate(self, fitted: Fitted) -> float:
        """Its value at theta; missing for the correlation of an effect without variance."""
        if self.kind == "free":
            return float(fitted.theta[fitted.design.free[self.at][0]])
        Sigma = square(fitted.theta[fitted.design.blocks[self.at]])
        sd = np.sqrt(np.diag(Sigma))[list(self.effects)]
        if self.kind == "sd":
            return float(sd[0])
        return float(np.clip(Sigma[self.effects] / sd.prod(), -1.0, 1.0)) if sd.all() else np.nan

    def size(self, fitted: Fitted) -> float:
        """Its estimate, or a typical standard deviation where that is zero; 1 for correlations."""
        if self.kind != "sd":
            return 1.0
        typical = _typical_sd(fitted, self.at)[self.effects[0]]
        return max(self.estimate(fitted), OFF_BOUNDARY * float(typical))

    def minimum(self, fitted: Fitted, value: float, theta: Array) -> tuple[float, Array]:
        """The smallest deviance over the other parameters."""
        return minimise(fitted.engine, coordinates(fitted, self, value), theta)


def coordinates(fitted: Fitted, held: VarianceTarget | None = None, value: float = np.nan) -> Coordinates:
    """Unconstrained coordinates of theta, where one parameter has a value or none has."""
    design = fitted.design
    parts: list[Block | Bounded] = []
    for k, b in enumerate(design.blocks):
        own = held is not None and k == held.at and held.kind != "free"
        typical = _typical_sd(fitted, k)
        first = list(held.effects) if held is not None and own else []
        order = np.array([*first, *(i for i in range(len(typical)) if i not in first)], dtype=np.intp)
        parts.append(Block(b, order, held.kind if held is not None and own else None, typical[order]))
    for k, (i, low, high) in enumerate(design.free):
        parts.append(Bounded(i, low, high, held is not None and held.kind == "free" and k == held.at))
    return Coordinates(tuple(parts), len(fitted.theta), value)


def _typical_sd(fitted: Fitted, block: int) -> Array:
    """Typical standard deviation of each effect of a block."""
    return np.sqrt(np.diag(typical_matrix(typical_units(fitted.engine), fitted.design.blocks[block])))


def targets(fitted: Fitted) -> tuple[Target, ...]:
    """What can be profiled: standard deviations and correlations of each term, of the residuals, then coefficients."""
    design = fitted.design
    out: list[Target] = []
    block = free = 0
    for t in design.terms:
        group = Group(t.key, f"sd {t.key}", t.key, t.structure, _shown_effects(t.effects))
        out += _variance_targets(group, block, free)
        block, free = block + len(t.structure.blocks), free + len(t.structure.free)
    margin = _SMALLEST_RESIDUAL * float(np.sqrt(fitted.engine.scales.spread))
    residual = design.residual
    group = Group("Residual", "sigma", "residual", residual.structure, residual.classes or ("",))
    out += _variance_targets(group, block, free, margin)
    return (*out, *(Coefficient(name, j) for j, name in enumerate(design.fixed.names)))


@dataclass(frozen=True)
class Group:
    """A term, or the residuals, as its intervals are named.

    Attributes
    ----------
    name, sd, theta : str
        In tables of variances, before its standard deviations, and in `theta`.
    structure : Structure
        Its parameters.
    effects : tuple of str
        Their effects.
    """

    name: str
    sd: str
    theta: str
    structure: Structure
    effects: tuple[str, ...]

    def sd_name(self, p: Parameter) -> str:
        """Name of the standard deviation of a variance; that of all effects alike needs no effect."""
        if p.effects == self.effects:
            return self.sd if len(p.effects) > 1 or p.effects == ("",) else f"{self.sd}[{p.effects[0]}]"
        return self.sd + (f"[{p.effects[0]}]" if p.label == 2 * p.effects else p.name)

    def cor_name(self, *words: str) -> str:
        """Name of a correlation."""
        return f"cor {self.name}[{','.join(words)}]"


def _variance_targets(group: Group, block: int, free: int, margin: float = 0.0) -> Iterator[VarianceTarget]:
    """Parameters of one structure, whose first block and first parameter outside have these numbers."""
    structure, name = group.structure, group.name
    parameters = structure.parameters(group.effects)
    for k, (b, own) in enumerate(zip(structure.blocks, structure.block_effects, strict=True), start=block):
        if len(b) == 1:
            p = parameters[int(b[0])]
            shared = () if p.partial else tuple((name, e) if e else (name,) for e in p.effects)
            yield VarianceTarget(group.sd_name(p), "sd", k, (0,), 0.0, np.inf, margin, shared)
            continue
        effects = [group.effects[i] for i in own]
        for i, e in enumerate(effects):
            yield VarianceTarget(f"{group.sd}[{e}]", "sd", k, (i,), 0.0, np.inf, margin, ((name, e),))
        for j, i in combinations(range(len(effects)), 2):
            pair = (effects[j], effects[i])
            yield VarianceTarget(group.cor_name(*pair), "cor", k, (j, i), -1.0, 1.0, rows=((name, *pair),))
    for k, (i, low, high) in enumerate(structure.free, start=free):
        p = parameters[i]
        if np.isfinite(high - low):  # a loading or slope has no profile
            shown = group.cor_name(*p.label) if p.kind == "correlation" else group.theta + p.name
            rows = ((name, ",".join(p.label[:-1]), p.column),) if p.column else ()
            yield VarianceTarget(shown, "free", k, (), low, high, rows=rows)


def _shown_effects(effects: Sequence[str]) -> tuple[str, ...]:
    """Names of effects, the intercept as lme4 writes it."""
    return tuple("(Intercept)" if e in INTERCEPT_NAMES else e for e in effects)
