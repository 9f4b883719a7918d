"""The arguments of a model, checked once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from keyword import iskeyword
from typing import Any, Literal

import pandas as pd
from numpy.typing import ArrayLike

from mixedgen.covariance.custom import CorrelationFunction
from mixedgen.design.frame import read_frame
from mixedgen.design.tags import tags
from mixedgen.errors import ArgumentError
from mixedgen.formula.functions import RESERVED
from mixedgen.genetics.pedigree import Pedigree
from mixedgen.relationship.relationship import Relationship

NaAction = Literal["omit", "exclude"]
Unmatched = Literal["raise", "omit"]


@dataclass(frozen=True)
class ModelArguments:
    """What a model is made of: its formula, its data, and how to read them.

    Parameters
    ----------
    formula : str
        lme4's grammar with links to relationships.
    data : DataFrame, polars or arrow table, mapping of columns, or path
        One row per record; kept as a pandas frame.
    relationships : mapping of str to Relationship, optional
        Relationships that terms link to by name.
    residual : str or matrix, optional
        Residual structure, such as ``"diag(site)"``, or a known matrix R0 with R = sigma^2 R0; one variance by default.
    weights : str or array_like of shape (rows,), optional
        Var(e_i) = sigma^2 / w_i.
    subset : str, mask or positions, optional
        Rows to use.
    na_action : {"omit", "exclude"}
        Rows with a missing value are left out; with ``"exclude"`` fitted values and residuals are padded with NaN.
    contrasts : mapping of str to str, optional
        Coding of factors by column: ``treatment sum helmert poly diff``.
    unmatched : {"raise", "omit"}
        What to do with records whose id is not in the relationship they link to.
    structures : mapping of str to CorrelationFunction, optional
        Structures of the user's by their names in the formula and in `residual`.
    functions : mapping of str to callable, optional
        Functions of the user's that the formula may call, by their names in it: of columns, one value for each row.

    Raises
    ------
    ArgumentError
        If an argument is not what it should be.
    DataError
        If the data are no table.

    Examples
    --------
    >>> import mixedgen as mg
    >>> arguments = ModelArguments("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    >>> arguments.revised(na_action="exclude").na_action
    'exclude'
    """

    formula: str
    data: Any
    relationships: Mapping[str, Relationship] | None = None
    residual: str | ArrayLike | pd.DataFrame | None = None
    weights: str | ArrayLike | None = None
    subset: Any = None
    na_action: NaAction = "omit"
    contrasts: Mapping[str, str] | None = None
    unmatched: Unmatched = "raise"
    structures: Mapping[str, CorrelationFunction] | None = None
    functions: Mapping[str, Callable[..., Any]] | None = None

    def __post_init__(self) -> None:
        """Check the arguments and read the data."""
        if not isinstance(self.formula, str):
            raise ArgumentError(f"the formula must be text, not {type(self.formula).__name__}.")
        _check_relationships(self.relationships)
        object.__setattr__(self, "data", read_frame(self.data))
        if self.na_action not in ("omit", "exclude"):
            raise ArgumentError(f"na_action must be 'omit' or 'exclude', not {self.na_action!r}.")
        if self.unmatched not in ("raise", "omit"):
            raise ArgumentError(f"unmatched must be 'raise' or 'omit', not {self.unmatched!r}.")
        _check_structures(self.structures)
        _check_functions(self.functions)

    @property
    def keywords(self) -> dict[str, Any]:
        """The arguments by name, as `MixedModel` takes them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def known_residual(self) -> bool:
        """Whether the residual is a known matrix."""
        return self.residual is not None and not isinstance(self.residual, str)

    def revised(self, **changes: Any) -> ModelArguments:
        """The arguments with some of them changed."""
        return replace(self, **changes)


def _check_relationships(relationships: Mapping[str, Relationship] | None) -> None:
    """Raise an ArgumentError that says what stands in the place of relationships by name."""
    if relationships is None:
        return
    if not isinstance(relationships, Mapping):
        raise ArgumentError(
            f"relationships must map names to relationships, not be a {type(relationships).__name__}: "
            "write {'A': ...}."
        )
    for name, K in relationships.items():
        if not isinstance(K, Relationship):
            advice = "additive(pedigree)" if isinstance(K, Pedigree) else "Relationship.from_matrix(K, ids)"
            raise ArgumentError(f"relationship {name!r} is a {type(K).__name__}, not a Relationship: use {advice}.")


def _check_structures(structures: Mapping[str, CorrelationFunction] | None) -> None:
    """Raise an ArgumentError that says what stands in the place of the user's structures by name."""
    known = tags()
    for name, source in (structures or {}).items():
        if not isinstance(source, CorrelationFunction):
            raise ArgumentError(f"structure {name!r} is a {type(source).__name__}, not a CorrelationFunction.")
        if name in known.residuals or name in known.terms or not str(name).isidentifier():
            raise ArgumentError(f"structures: {name!r} cannot be the name of a structure of one's own; take another.")


def _check_functions(functions: Mapping[str, Callable[..., Any]] | None) -> None:
    """Raise an ArgumentError that says what stands in the place of the user's functions by name."""
    if functions is not None and not isinstance(functions, Mapping):
        raise ArgumentError(
            f"functions must map names to functions, not be a {type(functions).__name__}: write {{'f': f}}."
        )
    for name, f in (functions or {}).items():
        if not callable(f):
            raise ArgumentError(f"functions: {name!r} is a {type(f).__name__}, which cannot be called.")
        plain = isinstance(name, str) and name.isidentifier() and "__" not in name and not iskeyword(name)
        if not plain or name in RESERVED:
            raise ArgumentError(f"functions: {name!r} cannot be the name of a function of one's own; take another.")
