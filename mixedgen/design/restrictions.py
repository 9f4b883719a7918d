"""Variance parameters fixed at a value, made equal, or kept between bounds, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from mixedgen.covariance.restricted import FIXED, Restricted, diagonal_places
from mixedgen.covariance.structure import Structure
from mixedgen.design.terms import Term
from mixedgen.errors import ArgumentError, NotAvailableError, examples
from mixedgen.residual.residual import Residual
from mixedgen.residual.restricted import RestrictedResidual


@dataclass(frozen=True)
class Restrictions:
    """What is known of the variance parameters beforehand, by their names in `theta`.

    Parameters
    ----------
    fix : mapping of str to float
        Parameters and their values.
    equate : sequence of sequences of str
        Parameters of one term that are the same.
    bound : mapping of str to (low, high)
        Parameters and their bounds.

    Raises
    ------
    ArgumentError
        If a value is no number, a bound no interval, or a parameter restricted twice.
    """

    fix: Mapping[str, float]
    equate: Sequence[Sequence[str]]
    bound: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value in self.fix.items():
            if not np.isfinite(value):
                raise ArgumentError(f"fix: the value of {name!r} is not finite.")
        for name, (low, high) in self.bound.items():
            if not low < high:
                raise ArgumentError(f"bound: {name!r} needs low < high, not {(low, high)}.")
        for group in self.equate:
            if isinstance(group, str) or len(group) < 2:
                raise ArgumentError(f"equate takes groups of two names or more, not {group!r}: write [['a', 'b']].")
        named = [*self.fix, *(name for group in self.equate for name in group)]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ArgumentError(f"{examples(twice)}: fixed or equated more than once.")

    @property
    def names(self) -> list[str]:
        """All parameters mentioned."""
        return list(dict.fromkeys([*self.fix, *(n for group in self.equate for n in group), *self.bound]))


def restrict(
    restrictions: Restrictions, terms: Sequence[Term], residual: Residual, names: Sequence[Sequence[str]]
) -> tuple[tuple[Term, ...], Residual]:
    """Terms and residual with their parameters restricted.

    Parameters
    ----------
    restrictions : Restrictions
        By name.
    terms : sequence of Term
        Random terms.
    residual : Residual
        R.
    names : sequence of sequences of str
        Names of the parameters of each term, then those of R.

    Raises
    ------
    ArgumentError
        If a name is unknown, a value out of its range, or parameters of several terms are equated.
    NotAvailableError
        If a residual structure cannot be restricted.
    """
    known = [name for own in names for name in own]
    unknown = [name for name in restrictions.names if name not in known]
    if unknown:
        raise ArgumentError(f"no variance parameter {examples(unknown)}; there are {', '.join(known)}.")
    structures = [*(t.structure for t in terms), residual.structure]
    new = [_restricted(restrictions, s, own) for s, own in zip(structures, names, strict=True)]
    for group in restrictions.equate:
        if not any(set(group) <= set(own) for own in names):
            raise ArgumentError(f"{examples(group)} are parameters of different terms: only those of one can be equal.")
    if not sum(s.size for s in new):
        raise ArgumentError("every variance parameter is fixed: use model.solve(variances).")
    if new[-1] is not residual.structure and not residual.restrictable:
        raise NotAvailableError(
            f"parameters of the residual structure {residual.structure.tag}() cannot be restricted."
        )
    out = tuple(t if s is t.structure else replace(t, structure=s) for t, s in zip(terms, new, strict=False))
    R = new[-1]
    if R is residual.structure:
        return out, residual
    return out, residual.over(R) or RestrictedResidual(residual, cast(Restricted, R))


def _restricted(restrictions: Restrictions, structure: Structure, names: Sequence[str]) -> Structure:
    """A structure with its part of the restrictions; itself where there are none."""
    at = {name: i for i, name in enumerate(names)}
    fixed = {at[n]: float(v) for n, v in restrictions.fix.items() if n in at}
    equal = [[at[n] for n in group] for group in restrictions.equate if all(n in at for n in group)]
    bounds = {at[n]: (float(low), float(high)) for n, (low, high) in restrictions.bound.items() if n in at}
    if not fixed and not equal and not bounds:
        return structure
    both = sorted(set(fixed) & set(bounds))
    if both:
        raise ArgumentError(f"{names[both[0]]!r} is fixed and bounded.")
    out = Restricted(structure, fixed, equal, bounds)
    _require_possible(out, names)
    return out


def _require_possible(structure: Restricted, names: Sequence[str]) -> None:
    """Raise an ArgumentError for fixed values out of their range, and bounds without a value between them."""
    variances = {int(b[r]) for b in structure.base.blocks for r in diagonal_places(b)}
    ranges = {i: (low, high) for i, low, high in structure.base.free} | {i: (0.0, np.inf) for i in variances}
    for i in map(int, np.flatnonzero(structure.owner == FIXED)):
        low, high = ranges.get(i, (-np.inf, np.inf))
        if not low <= structure.constant[i] <= high:
            raise ArgumentError(f"{names[i]!r} cannot be {structure.constant[i]}: it lies between {low} and {high}.")
    for k, low, high in structure.free:
        if not low < high:
            raise ArgumentError(f"the bounds of {names[structure.kept[k]]!r} leave no value between {low} and {high}.")
