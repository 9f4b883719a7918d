"""A `Design` from the arguments of a model: text, sides, rows, response, terms, fixed part, residual, restrictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mixedgen.arrays import Array, IntArray
from mixedgen.design.arguments import ModelArguments
from mixedgen.design.build_terms import (
    TermText,
    build_term,
    drop_unmatched,
    grouping_columns,
    linked_ids,
    term_texts,
)
from mixedgen.design.coding import Operand, Side, operand_values, read_operand, read_side
from mixedgen.design.columns import is_number
from mixedgen.design.design import Design
from mixedgen.design.fixed import FixedPart, build_fixed
from mixedgen.design.frame import (
    column_or_values,
    complete_rows,
    numeric,
    positive,
    recode,
    require_columns,
    select_rows,
)
from mixedgen.design.residual import residual_columns, residual_of
from mixedgen.design.restrictions import Restrictions, restrict
from mixedgen.design.tags import tags
from mixedgen.design.terms import Term
from mixedgen.design.traits import Traits, stack
from mixedgen.design.unknown import blank_unknown, parent_columns, unknown_counts
from mixedgen.errors import ArgumentError, DesignError, examples
from mixedgen.formula.parse import parse
from mixedgen.formula.parts import ParsedFormula, ResidualTerm
from mixedgen.formula.structures import parse_residual
from mixedgen.formula.summands import CONTRASTS
from mixedgen.residual.known import known_residual
from mixedgen.residual.residual import Residual

WEIGHTS = "(weights)"  # column of weights that were given as values


def build(
    arguments: ModelArguments, *, constraints: Sequence[str] = (), restrictions: Restrictions | None = None
) -> Design:
    """Design of a model.

    Parameters
    ----------
    arguments : ModelArguments
        Formula, data, and how to read them.
    constraints : sequence of str, optional
        Columns of X to set to zero where X is not of full rank.
    restrictions : Restrictions, optional
        Variance parameters that are fixed, equal or bounded.

    Returns
    -------
    Design
        The model as data.

    Raises
    ------
    FormulaError, DataError, DesignError, RelationshipError
        Whatever does not fit, by name.

    Examples
    --------
    >>> import mixedgen as mg
    >>> design = build(ModelArguments("Yield ~ 1 + (1|Batch)", mg.data.dyestuff()))
    >>> design.n, design.terms[0].q, design.theta_names
    (30, 6, ('Batch', 'residual'))
    """
    parsed, parts = _read_text(arguments)
    frame, weights = _weights_column(arguments)
    sides = _read_sides(parsed, frame, arguments)
    frame = blank_unknown(frame, parent_columns(parsed), arguments.relationships or {})
    rows = _choose_rows(arguments, parsed, frame, _needed_columns(parsed, parts, frame, sides, weights), sides)
    response = _read_response(sides, rows.used)
    weight = None if weights is None else positive(numeric(rows.used[weights], "weights", rows.used.index))
    terms = [build_term(t, rows.used, arguments.relationships or {}, response.traits) for t in sides.terms]
    fixed = build_fixed(sides.fixed, rows.used, constraints, terms, response.traits)
    _check_freedom(arguments.formula, fixed, terms, len(response.y))
    design = Design(
        parsed=parsed,
        y=response.y if response.offset is None else response.y - response.offset,
        offset=response.offset,
        fixed=fixed,
        terms=tuple(sorted(terms, key=lambda t: -t.q)),
        residual=_residual_part(arguments, parts, rows, response.traits, weight),
        kept=rows.kept,
        index=frame.index,
        offsets=sides.offsets,
        frame=rows.used,
        na_action=arguments.na_action,
        lost=rows.lost,
        parents=rows.parents,
        unknown=unknown_counts(rows.used, rows.parents),
        linked=linked_ids(terms, frame),
        traits=response.traits,
        residual_parts=parts,
        weights=() if weights is None else (weights,),
    )
    return _restricted(design, restrictions)


def _read_text(arguments: ModelArguments) -> tuple[ParsedFormula, tuple[ResidualTerm, ...]]:
    """The formula and the residual structure, each parsed.

    Raises
    ------
    ArgumentError
        If a structure of the user's stands in neither.
    """
    own = dict(arguments.structures or {})
    columns = [str(c) for c in arguments.data.columns]
    links = tuple(arguments.relationships or ())
    known = tags(own)
    parsed = parse(arguments.formula, known, relationships=links, columns=columns)
    parts = parse_residual(arguments.residual, known) if isinstance(arguments.residual, str) else ()
    used = {t.structure for t in parsed.terms} | {p.structure for p in parts}
    idle = [name for name in own if name not in used]
    if idle:
        raise ArgumentError(f"structures: {examples(idle)} stands in no term and in no residual.")
    return parsed, parts


def _weights_column(arguments: ModelArguments) -> tuple[pd.DataFrame, str | None]:
    """The data with the weights among their columns, and the name of that column; None without weights."""
    frame: pd.DataFrame = arguments.data
    if arguments.weights is None:
        return frame, None
    column = column_or_values(arguments.weights, frame, "weights")
    return (frame, column) if isinstance(column, str) else (frame.assign(**{WEIGHTS: column}), WEIGHTS)


@dataclass(frozen=True)
class Sides:
    """Every part of a formula that formulaic reads, each read once with the columns it needs."""

    responses: tuple[Operand, ...]
    offsets: tuple[Operand, ...]
    fixed: Side
    terms: tuple[TermText, ...]


def _read_sides(parsed: ParsedFormula, frame: pd.DataFrame, arguments: ModelArguments) -> Sides:
    """Sides of a formula; columns that it needs are there."""
    contrasts, functions = arguments.contrasts, arguments.functions
    fixed = read_side(parsed.fixed, frame, contrasts, functions)
    _check_contrasts(contrasts or {}, fixed, frame)
    require_columns(frame, grouping_columns(parsed), "right of a bar")
    return Sides(
        responses=tuple(read_operand(r, frame, functions) for r in parsed.responses),
        offsets=tuple(read_operand(o, frame, functions) for o in parsed.offsets),
        fixed=fixed,
        terms=term_texts(parsed, frame, functions),
    )


def _check_contrasts(contrasts: Mapping[str, str], fixed: Side, frame: pd.DataFrame) -> None:
    """Raise an error for contrasts of what is no factor of the fixed part."""
    for name, contrast in contrasts.items():
        require_columns(frame, [name], "contrasts=")
        if name not in fixed.variables:
            raise ArgumentError(f"contrasts names {name!r}, which is not in the fixed part {fixed.text!r}.")
        if contrast in CONTRASTS and is_number(frame[name]):
            raise ArgumentError(f"contrasts names {name!r}, which is numeric: make it categorical first.")


def _needed_columns(
    parsed: ParsedFormula, parts: Sequence[ResidualTerm], frame: pd.DataFrame, sides: Sides, weights: str | None
) -> list[str]:
    """Columns that may not be missing in a record; of several responses each may."""
    names = grouping_columns(parsed)
    if len(sides.responses) == 1:
        names += residual_columns(parts)
    require_columns(frame, names, "residual=")
    if weights is not None:
        names.append(weights)
    alone = sides.responses if len(sides.responses) == 1 else ()
    for side in (*alone, *sides.offsets, sides.fixed, *(t.left for t in sides.terms)):
        names += side.variables
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Rows:
    """The rows that are used, by position, their frame, the rows lost by variable, and columns that may name nobody."""

    kept: IntArray
    used: pd.DataFrame
    lost: dict[str, int]
    parents: tuple[str, ...]


def _choose_rows(
    arguments: ModelArguments, parsed: ParsedFormula, frame: pd.DataFrame, names: Sequence[str], sides: Sides
) -> Rows:
    """Rows of the subset that miss nothing among `names`, have a response, and whose ids are in the relationships."""
    chosen = select_rows(frame, arguments.subset, arguments.functions)
    others = {v for operand in (*sides.responses, *sides.offsets) for v in operand.variables}
    others.update(v for side in (sides.fixed, *(t.left for t in sides.terms)) for v in side.variables)
    parents = tuple(name for name in parent_columns(parsed) if name not in others)
    required = [name for name in names if name not in parents]
    complete, lost = complete_rows(frame if arguments.subset is None else frame.iloc[chosen], required)
    kept = chosen[complete]
    responses = [v for r in sides.responses for v in r.variables]
    if len(sides.responses) > 1:
        kept = kept[frame[responses].iloc[kept].notna().any(axis=1).to_numpy()]
    if arguments.unmatched == "omit":
        kept, lost = drop_unmatched(parsed, frame, arguments.relationships or {}, kept, lost)
    used = frame if len(kept) == len(frame) else frame.iloc[kept]
    return Rows(kept, recode(used[list(dict.fromkeys([*names, *responses]))]), lost, parents)


@dataclass(frozen=True)
class Response:
    """Values y and offset, shape (n,), and for several responses which row and trait each belongs to."""

    y: Array
    offset: Array | None
    traits: Traits | None


def _read_response(sides: Sides, used: pd.DataFrame) -> Response:
    """The responses below each other, and the sum of the offsets."""
    traits = stack(sides.responses, used) if len(sides.responses) > 1 else None
    y = operand_values(sides.responses[0], used, sides.responses[0].text) if traits is None else traits.y
    if not sides.offsets:
        return Response(y, None, traits)
    offset = np.sum([operand_values(o, used, f"offset({o.text})") for o in sides.offsets], axis=0)
    return Response(y, offset if traits is None else offset[traits.row], traits)


def _check_freedom(formula: str, fixed: FixedPart, terms: Sequence[Term], n: int) -> None:
    """Raise a DesignError for a model without effects, or without degrees of freedom for a variance."""
    if not fixed.p and not terms:
        raise DesignError(f"{formula!r} has neither fixed nor random effects.")
    if fixed.p >= n:
        raise DesignError(
            f"{n} records for {fixed.p} independent fixed effects: no degree of freedom is left. "
            "Use a smaller fixed part."
        )


def _residual_part(
    arguments: ModelArguments,
    parts: Sequence[ResidualTerm],
    rows: Rows,
    traits: Traits | None,
    weight: Array | None,
) -> Residual:
    """R: known, over traits, or of the structure written."""
    if arguments.known_residual:
        if traits is not None or weight is not None:
            raise ArgumentError("a residual covariance matrix takes one response, and no weights.")
        return known_residual(arguments.residual, arguments.data.index, rows.kept)
    inverse_weights = None if weight is None else 1.0 / weight
    if traits is not None:
        return traits.residual(parts, inverse_weights)
    return residual_of(parts, rows.used, inverse_weights)


def _restricted(design: Design, restrictions: Restrictions | None) -> Design:
    """The design under restrictions of its variance parameters."""
    if restrictions is None or not restrictions.names:
        return design
    by_term = [design.theta_names[s] for s in design.slices]
    terms, R = restrict(restrictions, design.terms, design.residual, by_term)
    return replace(design, terms=terms, residual=R)
