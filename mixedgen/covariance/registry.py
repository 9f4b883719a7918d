"""The one registry of covariance structures, by the tags that a user writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from mixedgen.covariance.correlated import Autoregressive, CompoundSymmetry, Toeplitz
from mixedgen.covariance.factors import FactorAnalytic, ReducedRank
from mixedgen.covariance.structure import Structure
from mixedgen.covariance.variances import Diagonal, Identity, Unstructured
from mixedgen.errors import FormulaError


@dataclass(frozen=True)
class StructureEntry:
    """One line of the registry: how to make a structure from its dimension and the options in the formula."""

    make: Callable[[int, dict[str, object]], Structure]


STRUCTURES: dict[str, StructureEntry] = {
    "us": StructureEntry(lambda dim, options: Unstructured(dim)),
    "diag": StructureEntry(lambda dim, options: Identity(dim) if options.get("hom") else Diagonal(dim)),
    "idv": StructureEntry(lambda dim, options: Identity(dim)),
    "cs": StructureEntry(lambda dim, options: CompoundSymmetry(dim, bool(options.get("hom")))),
    "corh": StructureEntry(lambda dim, options: CompoundSymmetry(dim, hom=False)),
    "ar1": StructureEntry(lambda dim, options: Autoregressive(dim, bool(options.get("hom", True)))),
    "toep": StructureEntry(lambda dim, options: Toeplitz(dim, hom=False)),
    "fa": StructureEntry(lambda dim, options: FactorAnalytic(dim, number_of_factors(options))),
    "rr": StructureEntry(lambda dim, options: ReducedRank(dim, number_of_factors(options))),
}

ONE_COEFFICIENT = ("us", "diag", "idv")


def number_of_factors(options: dict[str, object]) -> int:
    """The option ``k``, one by default."""
    return int(str(options.get("k", 1)))


class Source(Protocol):
    """What makes a structure of the user's from its name, dimension, number of variances and levels."""

    def structure(self, tag: str, dim: int, hom: bool, levels: Sequence[object]) -> Structure:
        """The structure."""


def make_structure(tag: str, dim: int, options: dict[str, object], levels: Sequence[object] = ()) -> Structure:
    """Structure of `dim` coefficients by its name in the formula.

    Parameters
    ----------
    tag : str
        Name in the formula, a key of `STRUCTURES`.
    dim : int
        Number of coefficients.
    options : dict
        Options in the formula, such as ``hom``; ``source``, a `Source`, for a structure of the user's.
    levels : sequence
        What the coefficients belong to, which a structure of the user's is a function of.

    Raises
    ------
    FormulaError
        If no structure of that name can be estimated.
    """
    if "source" in options:
        return cast(Source, options["source"]).structure(tag, dim, bool(options["hom"]), levels)
    if tag not in STRUCTURES:
        raise FormulaError(
            f"the covariance structure {tag}() cannot be estimated; those that can: {', '.join(STRUCTURES)}."
        )
    if dim < 2 and tag not in ONE_COEFFICIENT:
        raise FormulaError(f"{tag}() has correlations, and needs two effects or more; here there is one.")
    return STRUCTURES[tag].make(dim, options)
