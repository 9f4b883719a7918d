"""The structures that formulas may name, from the registries of structures and of residual kinds."""

from __future__ import annotations

from collections.abc import Mapping

from mixedgen.covariance.custom import CorrelationFunction
from mixedgen.covariance.registry import DEFAULT, STRUCTURES, own_entry
from mixedgen.design.residual import KINDS, UNITS
from mixedgen.formula.parts import Tag, Tags


def tags(structures: Mapping[str, CorrelationFunction] | None = None) -> Tags:
    """Structures of terms and of residuals, those of the user's among them."""
    entries = {name: own_entry(name, source) for name, source in (structures or {}).items()}
    own = {name: Tag(entry.options, entry=entry) for name, entry in entries.items()}
    terms = {name: Tag(entry.options) for name, entry in STRUCTURES.items()}
    matrices = {
        name: Tag(entry.options, KINDS.get(name, UNITS).units)
        for name, entry in STRUCTURES.items()
        if entry.in_residual
    }
    others = {name: Tag(kind.options, kind.units) for name, kind in KINDS.items() if name not in STRUCTURES}
    return Tags({**terms, **own}, {**matrices, **others, **own}, DEFAULT)
