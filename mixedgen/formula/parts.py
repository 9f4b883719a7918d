"""What a formula is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Options = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Column:
    """A plain grouping column.

    Parameters
    ----------
    name : str
        Column of the data, without backticks.
    """

    name: str

    def __str__(self) -> str:
        """As written."""
        return self.name


@dataclass(frozen=True)
class Mates:
    """The other members of the same unit: ``mates(animal, pen)``.

    Parameters
    ----------
    column : str
        Column of the individuals.
    unit : str
        Column of the units they share.
    """

    column: str
    unit: str

    def __str__(self) -> str:
        """As written."""
        return f"mates({self.column}, {self.unit})"


@dataclass(frozen=True)
class Members:
    """Several columns that load the same related levels, one effect per entry: ``members(animal, dam)``.

    Parameters
    ----------
    entries : tuple of Column or Mates
        In written order.
    """

    entries: tuple[Column | Mates, ...]

    def __str__(self) -> str:
        """As written."""
        return f"members({', '.join(map(str, self.entries))})"


@dataclass(frozen=True)
class MultiMembership:
    """One effect over several columns: ``mm(g1, g2, weights=w)``.

    Parameters
    ----------
    columns : tuple of str
        Columns of the levels.
    weights : tuple of str
        Columns of the weights: none (equal weights), one, or one per column.
    """

    columns: tuple[str, ...]
    weights: tuple[str, ...]

    def __str__(self) -> str:
        """As written."""
        weights = self.weights[0] if len(self.weights) == 1 else f"({', '.join(self.weights)})"
        return f"mm({', '.join((*self.columns, f'weights={weights}') if self.weights else self.columns)})"


@dataclass(frozen=True)
class Factor:
    """One part right of the bar, with its link.

    Parameters
    ----------
    source : Column, Members or MultiMembership
        Where the levels come from.
    link : str, optional
        Key of the relationships that says how the levels are related.
    """

    source: Column | Members | MultiMembership
    link: str | None = None

    def __str__(self) -> str:
        """As written."""
        return str(self.source) if self.link is None else f"{self.source}:{self.link}"


@dataclass(frozen=True)
class Tag:
    """A structure that a formula may name.

    Parameters
    ----------
    options : mapping of str to object
        Its arguments with their defaults.
    units : bool
        Whether units may stand right of a bar, where it is the structure of residuals.
    entry : object, optional
        What makes a structure of the user's; it is handed through.
    """

    options: Mapping[str, object]
    units: bool = True
    entry: object = None


@dataclass(frozen=True)
class Tags:
    """The structures of terms and of residuals by their names, and that of a term without one."""

    terms: Mapping[str, Tag]
    residuals: Mapping[str, Tag]
    default: str


NO_TAGS = Tags({}, {}, default="")


@dataclass(frozen=True)
class RandomTerm:
    """One block of random effects.

    Parameters
    ----------
    effects : str
        Right-hand side for formulaic with the intercept stated: ``"1"``, ``"1 + Days"``, ``"0 + Machine"``.
    structure : str
        Structure of the covariance of one level's effects, a key of `Tags.terms`.
    options : tuple of (str, object)
        Arguments of the structure, sorted, defaults filled in.
    factors : tuple of Factor
        Parts of the grouping interaction, in the order of the label.
    label : str
        lme4's name of the term: ``"Subject"``, ``"cask:batch"``, ``"animal:A"``.
    source : str
        The term as written, with white space normalised.
    entry : object, optional
        `Tag.entry` of the structure.
    """

    effects: str
    structure: str
    options: Options
    factors: tuple[Factor, ...]
    label: str
    source: str
    entry: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class ParsedFormula:
    """The parts of a model formula.

    Parameters
    ----------
    source : str
        The formula as given.
    responses : tuple of str
        One operand for formulaic per trait: a column, a call, or an expression in braces.
    fixed : str
        Right-hand side for formulaic without random terms and offsets, the intercept stated.
    offsets : tuple of str
        Expressions inside ``offset(...)``, in braces unless a column or a call.
    terms : tuple of RandomTerm
        Expanded, in lme4's order before its sorting by number of levels.
    """

    source: str
    responses: tuple[str, ...]
    fixed: str
    offsets: tuple[str, ...]
    terms: tuple[RandomTerm, ...]


@dataclass(frozen=True)
class ResidualTerm:
    """One structure of the residual, over positions within units.

    Parameters
    ----------
    structure : str
        A key of `Tags.residuals`.
    options : tuple of (str, object)
        Arguments of the structure, sorted, defaults filled in.
    positions : str
        Column (or ``trait``) whose levels index the covariance; the covariate of ``exp``.
    unit : str, optional
        Column of the units that share no residual with each other.
    entry : object, optional
        `Tag.entry` of the structure.
    """

    structure: str
    options: Options
    positions: str
    unit: str | None = None
    entry: object = field(default=None, repr=False, compare=False)
