"""The one registry of covariance structures, by the tags that a user writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from mixedgen.arrays import IntArray
from mixedgen.covariance.correlated import Autoregressive, CompoundSymmetry, Toeplitz
from mixedgen.covariance.custom import CorrelationFunction
from mixedgen.covariance.factors import FactorAnalytic, ReducedRank
from mixedgen.covariance.margins import Chain, Margin, full_margin
from mixedgen.covariance.structure import Structure
from mixedgen.covariance.variances import Diagonal, Identity, Unstructured
from mixedgen.errors import FormulaError

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Levels:
    """What the coefficients of a structure belong to.

    Attributes
    ----------
    names : tuple
        Each of them: effects, or the levels of a column.
    place : ndarray of int, shape (dim,), or None
        Where they stand; None for next to each other.
    """

    names: tuple[object, ...]
    place: IntArray | None = None

    @property
    def dim(self) -> int:
        """Number of coefficients."""
        return len(self.names)


@dataclass(frozen=True)
class StructureEntry:
    """One line of the registry.

    Attributes
    ----------
    make : callable
        The structure of some levels, with the options in the formula over their defaults.
    options : mapping
        Options a formula may give, with their defaults.
    least : int
        Smallest number of coefficients.
    in_residual : bool
        Whether residuals may have it: a covariance matrix that is singular everywhere has no inverse.
    placed : bool
        Whether it depends on where its levels stand.
    margin : callable
        Correlations of its levels as a factor of a product, for a structure with one variance.
    """

    make: Callable[[Levels, Options], Structure]
    options: Options = field(default_factory=dict)
    least: int = 1
    in_residual: bool = True
    placed: bool = False
    margin: Callable[[Any], Margin] = full_margin


STRUCTURES: dict[str, StructureEntry] = {
    "us": StructureEntry(lambda over, own: Unstructured(over.dim)),
    "diag": StructureEntry(lambda over, own: (Identity if own["hom"] else Diagonal)(over.dim), {"hom": False}),
    "idv": StructureEntry(lambda over, own: Identity(over.dim)),
    "cs": StructureEntry(lambda over, own: CompoundSymmetry(over.dim, own["hom"]), {"hom": False}, least=2),
    "ar1": StructureEntry(
        lambda over, own: Autoregressive(over.dim, own["hom"], over.place),
        {"hom": True},
        least=2,
        placed=True,
        margin=Chain,
    ),
    "corh": StructureEntry(lambda over, own: CompoundSymmetry(over.dim, hom=False), least=2),
    "toep": StructureEntry(lambda over, own: Toeplitz(over.dim, hom=False), least=2),
    "fa": StructureEntry(lambda over, own: FactorAnalytic(over.dim, own["k"]), {"k": 1}, least=2),
    "rr": StructureEntry(lambda over, own: ReducedRank(over.dim, own["k"]), {"k": 1}, least=2, in_residual=False),
}

DEFAULT = "us"  # of a term without a tag, and of the residuals of several traits

ONE_VARIANCE = ("diag", (("hom", True),))  # tag and options of independent effects that share a variance


def own_entry(name: str, source: CorrelationFunction) -> StructureEntry:
    """Entry of a structure of the user's, by its name in formulas; it can be pickled, for a parsed term keeps it."""
    return StructureEntry(partial(_from_function, name, source), {"hom": True})


def _from_function(name: str, source: CorrelationFunction, over: Levels, own: Options) -> Structure:
    return source.structure(name, over.dim, own["hom"], over.names)


def entry_of(tag: str, own: object = None) -> StructureEntry:
    """Entry of a tag, or that of the user's which a formula hands through.

    Raises
    ------
    FormulaError
        If no structure of that name can be estimated.
    """
    entry = cast("StructureEntry | None", own) or STRUCTURES.get(tag)
    if entry is None:
        raise FormulaError(
            f"the covariance structure {tag}() cannot be estimated; those that can: {', '.join(STRUCTURES)}."
        )
    return entry


def make_structure(tag: str, over: Levels | int, options: Options, own: object = None) -> Structure:
    """Structure of some coefficients by its name in the formula.

    Parameters
    ----------
    tag : str
        Name in the formula.
    over : Levels or int
        The coefficients; their number, where their names do not matter.
    options : mapping
        Options in the formula, such as ``hom``, over their defaults.
    own : StructureEntry, optional
        That of a structure of the user's; by default the one of the registry.

    Raises
    ------
    FormulaError
        If no structure of that name can be estimated, or it has too few coefficients.
    """
    entry = entry_of(tag, own)
    levels = Levels(tuple(range(over))) if isinstance(over, int) else over
    if levels.dim < entry.least:
        least = "two" if entry.least == 2 else str(entry.least)
        here = "there is one" if levels.dim == 1 else f"are {levels.dim}"
        raise FormulaError(f"{tag}() has correlations, and needs {least} effects or more; here {here}.")
    return entry.make(levels, {**entry.options, **options})
