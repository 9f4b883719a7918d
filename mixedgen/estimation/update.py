"""A fitted model with some of its arguments changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mixedgen.design.arguments import ModelArguments
from mixedgen.design.build import build
from mixedgen.engines import choose
from mixedgen.errors import ArgumentError, NotAvailableError, examples
from mixedgen.estimation.control import checked_control
from mixedgen.estimation.estimate import fit
from mixedgen.estimation.estimators import estimator_of
from mixedgen.estimation.fitted import Fitted
from mixedgen.formula.revise import revise


def updated(
    fitted: Fitted, arguments: ModelArguments | None, formula: str | None, data: Any, changes: Mapping[str, Any]
) -> tuple[Fitted, ModelArguments]:
    """Fit with another formula, data or argument, and the arguments of its model.

    Parameters
    ----------
    fitted : Fitted
        The model before.
    arguments : ModelArguments or None
        Its arguments; None where the response is not that of the data.
    formula : str, optional
        Its dots are what was there.
    data : DataFrame, polars or arrow table, mapping of columns, or path, optional
        In the place of the data before.
    changes : mapping
        Further arguments of `MixedModel`. Relationships that the new formula does not mention are left out.

    Returns
    -------
    fitted : Fitted
        The new model.
    arguments : ModelArguments
        Its arguments.

    Raises
    ------
    ArgumentError
        If an argument is unknown.
    NotAvailableError
        If the variances were given, or the response is not that of the data.
    """
    if arguments is None or not fitted.outcome.estimated:
        what = "the response is not that of the data" if arguments is None else "the variances were given"
        raise NotAvailableError(f"{what}: there is no fit to update. Write the model anew with mg.MixedModel(...).")
    before = {**arguments.keywords, "method": fitted.method, "control": fitted.control}
    unknown = [name for name in changes if name not in before]
    if unknown:
        raise ArgumentError(f"update() has no argument {examples(unknown)}; there are {examples(list(before))}.")
    after = {**before, **changes}
    source = fitted.design.parsed.source
    after["formula"] = source if formula is None else revise(source, formula)
    after["data"] = arguments.data if data is None else data
    if "relationships" not in changes:
        after["relationships"] = _mentioned(arguments.relationships or {}, after["formula"])
    method, control = after.pop("method"), checked_control(after.pop("control"))
    estimator_of(method)
    new = ModelArguments(**after)
    design = build(new, constraints=control.constraints, restrictions=control.restrictions)
    return fit(design, choose(design, control.engine), method, control), new


def _mentioned(relationships: Mapping[str, Any], formula: str) -> dict[str, Any] | None:
    """Those of the relationships whose names stand in a formula, None where there are none."""
    return {k: K for k, K in relationships.items() if re.search(rf"\b{re.escape(k)}\b", formula)} or None
