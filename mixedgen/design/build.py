"""A `Design` from formula, frame and relationships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixedgen.covariance.custom import CorrelationFunction
from mixedgen.design.build_terms import build_term, drop_unmatched, grouping_columns, linked_ids, unique_keys
from mixedgen.design.coding import evaluate, variables_of
from mixedgen.design.design import Design, NaAction, Unmatched
from mixedgen.design.fixed import build_fixed
from mixedgen.design.frame import (
    column_or_values,
    complete_rows,
    numeric,
    positive,
    read_frame,
    recode,
    require_columns,
    select_rows,
)
from mixedgen.design.residual import residual_columns, residual_of
from mixedgen.design.restrictions import Restrictions, restrict
from mixedgen.design.traits import stack
from mixedgen.errors import ArgumentError, DesignError, examples
from mixedgen.formula.parse import parse
from mixedgen.formula.parts import ParsedFormula, ResidualTerm
from mixedgen.formula.sides import CONTRASTS
from mixedgen.formula.structures import RESIDUAL_STRUCTURES, STRUCTURES, parse_residual
from mixedgen.genetics.pedigree import Pedigree
from mixedgen.relationship.relationship import Relationship
from mixedgen.residual.known import known_residual
from mixedgen.residual.residual import Residual


def checked_relationships(relationships: Mapping[str, Relationship] | None) -> dict[str, Relationship]:
    """Relationships by name, or an ArgumentError that says what stands in their place."""
    if relationships is None:
        return {}
    if not isinstance(relationships, Mapping):
        raise ArgumentError(
            f"relationships must map names to relationships, not be a {type(relationships).__name__}: "
            "write {'A': ...}."
        )
    for name, K in relationships.items():
        if not isinstance(K, Relationship):
            advice = "additive(pedigree)" if isinstance(K, Pedigree) else "Relationship.from_matrix(K, ids)"
            raise ArgumentError(f"relationship {name!r} is a {type(K).__name__}, not a Relationship: use {advice}.")
    return dict(relationships)


def checked_structures(structures: Mapping[str, CorrelationFunction] | None) -> dict[str, CorrelationFunction]:
    """Structures of the user's by name, or an ArgumentError that says what stands in their place."""
    for name, source in (structures or {}).items():
        if not isinstance(source, CorrelationFunction):
            raise ArgumentError(f"structure {name!r} is a {type(source).__name__}, not a CorrelationFunction.")
        if name in RESIDUAL_STRUCTURES or name in STRUCTURES or not str(name).isidentifier():
            raise ArgumentError(f"structures: {name!r} cannot be the name of a structure of one's own; take another.")
    return dict(structures or {})


def require_used(own: Mapping[str, CorrelationFunction], parsed: ParsedFormula, parts: Sequence[ResidualTerm]) -> None:
    """Raise an ArgumentError for structures that nothing uses."""
    used = {t.structure for t in parsed.terms} | {p.structure for p in parts}
    idle = [name for name in own if name not in used]
    if idle:
        raise ArgumentError(f"structures: {examples(idle)} stands in no term and in no residual.")


def build(
    formula: str,
    data: Any,
    *,
    relationships: Mapping[str, Relationship] | None = None,
    residual: Any = None,
    weights: str | ArrayLike | None = None,
    subset: Any = None,
    na_action: NaAction = "omit",
    contrasts: Mapping[str, str] | None = None,
    unmatched: Unmatched = "raise",
    constraints: Sequence[str] = (),
    restrictions: Restrictions | None = None,
    structures: Mapping[str, CorrelationFunction] | None = None,
) -> Design:
    """Design of a formula on a data frame.

    Parameters
    ----------
    formula : str
        lme4's grammar with links to relationships.
    data : DataFrame, polars or arrow table, mapping of columns, or path
        One row per record.
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
    constraints : sequence of str, optional
        Columns of X to set to zero where X is not of full rank.
    restrictions : Restrictions, optional
        Variance parameters that are fixed, equal or bounded.
    structures : mapping of str to CorrelationFunction, optional
        Structures of the user's by their names in the formula and in `residual`.

    Returns
    -------
    Design
        The model as data.

    Raises
    ------
    FormulaError, DataError, DesignError, RelationshipError
        Whatever does not fit, by name.
    """
    if not isinstance(formula, str):
        raise ArgumentError(f"the formula must be text, not {type(formula).__name__}.")
    relationships = checked_relationships(relationships)
    frame = read_frame(data)
    if na_action not in ("omit", "exclude"):
        raise ArgumentError(f"na_action must be 'omit' or 'exclude', not {na_action!r}.")
    own = checked_structures(structures)
    columns = [str(c) for c in frame.columns]
    parsed = parse(formula, relationships=tuple(relationships), columns=columns, structures=own)
    known = residual is not None and not isinstance(residual, str)
    parts = parse_residual(residual, own) if residual is not None and not known else ()
    require_used(own, parsed, parts)
    frame, names, response_names, weight_name = prepare(parsed, parts, frame, weights, contrasts)
    chosen = select_rows(frame, subset)
    complete, lost = complete_rows(frame.iloc[chosen] if subset is not None else frame, names)
    kept = chosen[complete]
    if len(parsed.responses) > 1:
        kept = kept[frame[response_names].iloc[kept].notna().any(axis=1).to_numpy()]
    if unmatched not in ("raise", "omit"):
        raise ArgumentError(f"unmatched must be 'raise' or 'omit', not {unmatched!r}.")
    if unmatched == "omit":
        kept, lost = drop_unmatched(parsed, frame, relationships, kept, lost)
    used = frame if len(kept) == len(frame) else frame.iloc[kept]
    several = len(parsed.responses) > 1
    used = recode(used[list(dict.fromkeys([*names, *(response_names if several else ())]))])
    weight = None if weight_name is None else positive(numeric(used[weight_name], "weights", used.index))
    traits = stack(parsed.responses, used) if several else None
    y = evaluate(parsed.responses[0], used, parsed.responses[0]) if traits is None else traits.y
    offset = np.sum([evaluate(o, used, f"offset({o})") for o in parsed.offsets], axis=0) if parsed.offsets else None
    keys = unique_keys(parsed.terms)
    terms = [
        build_term(t, key, place, used, relationships, several_traits=several)
        for place, (t, key) in enumerate(zip(parsed.terms, keys, strict=True))
    ]
    if traits is not None:
        terms = [traits.term(t) for t in terms]
        offset = None if offset is None else offset[traits.row]
    fixed = build_fixed(parsed.fixed, used, contrasts, constraints, terms, traits)
    if not fixed.p and not terms:
        raise DesignError(f"{formula!r} has neither fixed nor random effects.")
    if fixed.p >= len(y):
        raise DesignError(
            f"{len(y)} records for {fixed.p} independent fixed effects: no degree of freedom is left. "
            "Use a smaller fixed part."
        )
    if known and (traits is not None or weight is not None):
        raise ArgumentError("a residual covariance matrix takes one response, and no weights.")
    if known:
        R: Residual = known_residual(residual, frame.index, kept)
    else:
        R = traits.residual(parts, weight) if traits else residual_of(parts, used, weight)
    design = Design(
        parsed=parsed,
        y=y if offset is None else y - offset,
        offset=offset,
        fixed=fixed,
        terms=tuple(sorted(terms, key=lambda t: -t.q)),
        residual=R,
        kept=kept,
        index=frame.index,
        na_action=na_action,
        lost=lost,
        linked=linked_ids(terms, frame),
        traits=traits,
    )
    if restrictions is None or not restrictions.names:
        return design
    by_term = [design.theta_names[s] for s in design.slices]
    terms_left, R = restrict(restrictions, design.terms, design.residual, by_term)
    return replace(design, terms=terms_left, residual=R)


def prepare(
    parsed: ParsedFormula,
    parts: Sequence[ResidualTerm],
    frame: pd.DataFrame,
    weights: str | ArrayLike | None,
    contrasts: Mapping[str, str] | None,
) -> tuple[pd.DataFrame, list[str], list[str], str | None]:
    """Frame with the weights as a column, the columns that may not be missing, the responses, the weights' name."""
    weight_name = None
    if weights is not None:
        column = column_or_values(weights, frame, "weights")
        weight_name = column if isinstance(column, str) else "(weights)"
        if not isinstance(column, str):
            frame = frame.assign(**{weight_name: column})
    for name in contrasts or {}:
        require_columns(frame, [name], "contrasts=")
        if name not in variables_of(parsed.fixed, frame):
            raise ArgumentError(f"contrasts names {name!r}, which is not in the fixed part {parsed.fixed!r}.")
        known = (contrasts or {})[name] in CONTRASTS
        if known and pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name]):
            raise ArgumentError(f"contrasts names {name!r}, which is numeric: make it categorical first.")
    groups = grouping_columns(parsed)
    require_columns(frame, groups, "right of a bar")
    names = [*groups]
    if len(parsed.responses) == 1:
        names += residual_columns(parts)
    require_columns(frame, names, "residual=")
    if weight_name:
        names.append(weight_name)
    responses = [c for rhs in parsed.responses for c in operands(rhs, frame)]
    if len(parsed.responses) == 1:
        names += responses
    for rhs in parsed.offsets:
        names += operands(rhs, frame)
    for rhs in (parsed.fixed, *(t.effects for t in parsed.terms)):
        if rhs != "1":
            names += variables_of(rhs, frame)
    return frame, list(dict.fromkeys(names)), responses, weight_name


def operands(expression: str, frame: pd.DataFrame) -> list[str]:
    """Columns of a response or an offset."""
    return [expression] if expression in frame.columns else variables_of(f"0 + {expression}", frame)
