"""A model in words."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mixedgen.diagnostics.cost import cost_text
from mixedgen.errors import examples
from mixedgen.estimation.fitted import Fitted


@dataclass(frozen=True)
class Explanation:
    """How a model was read and solved; ``str()`` prints it, notebooks show it as HTML.

    Attributes
    ----------
    sentences : tuple of str
        The model, the method, the engine, the residuals.
    sizes : Series
        ``records fixed_effects aliased random_effects parameters equations factor_elements flops bytes seconds``; the
        last three are those of one step.
    terms : DataFrame
        A row for each random term: ``term levels with_records effects structure relationship parameters``.
    """

    sentences: tuple[str, ...]
    sizes: pd.Series
    terms: pd.DataFrame

    def __str__(self) -> str:
        """The sentences, and one for each term."""
        head, *rest = self.sentences
        return "\n".join([head, *(_term_sentence(row) for row in self.terms.to_dict("records")), *rest])

    def _repr_html_(self) -> str:
        """HTML for notebooks."""
        text = "".join(f"<p>{escape(line)}</p>" for line in self.sentences)
        return text + str(self.terms.to_html(index=False, border=0))


def explain(fitted: Fitted) -> Explanation:
    """How the formula was read, which engine solved the equations and why, and what was optimised.

    Parameters
    ----------
    fitted : Fitted
        The model.

    Returns
    -------
    Explanation
        Sentences, sizes and a table of the random terms.

    Examples
    --------
    >>> import mixedgen as mg
    >>> text = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy()).explain()
    >>> text.terms[["term", "levels", "structure"]].values.tolist()
    [['Subject', 18, 'us']]
    >>> int(text.sizes["equations"])
    38
    """
    sentences = (
        _model_sentence(fitted),
        _residual_sentence(fitted),
        _method_sentence(fitted),
        _engine_sentence(fitted),
    )
    return Explanation(sentences, _sizes(fitted), _terms_table(fitted))


def _sizes(fitted: Fitted) -> pd.Series:
    """Counts of records, effects and equations, and the forecast of one step."""
    design, forecast = fitted.design, fitted.engine.forecast()
    values = {
        "records": design.n,
        "fixed_effects": design.fixed.p,
        "aliased": len(design.fixed.aliased),
        "random_effects": sum(t.q * t.c for t in design.terms),
        "parameters": len(fitted.theta),
        "equations": forecast.order,
        "factor_elements": forecast.nonzeros,
        "flops": forecast.flops,
        "bytes": forecast.bytes,
        "seconds": forecast.seconds,
    }
    return pd.Series(values, dtype=float, name="size")


def _terms_table(fitted: Fitted) -> pd.DataFrame:
    """How each random term was read."""
    design = fitted.design
    rows = []
    for t, s in zip(design.terms, design.slices, strict=False):
        link = t.written.factors[-1].link
        rows.append(
            {
                "term": t.key,
                "levels": t.q,
                "with_records": int(np.count_nonzero(t.counts)),
                "effects": ", ".join(t.effects),
                "structure": t.structure.tag,
                "relationship": None if t.relationship is None else f"{link} ({t.relationship.kind})",
                "parameters": ", ".join(design.theta_names[s]) or "none",
            }
        )
    columns = ["term", "levels", "with_records", "effects", "structure", "relationship", "parameters"]
    return pd.DataFrame(rows, columns=columns)


def _term_sentence(row: Mapping[Hashable, Any]) -> str:
    """One random term in words."""
    related = "independent of each other" if pd.isna(row["relationship"]) else f"related by {row['relationship']}"
    return (
        f"Random term {row['term']}: {row['levels']} levels ({row['with_records']} with records), {related}; "
        f"effects {row['effects']}, structure {row['structure']}; parameters {row['parameters']}."
    )


def _model_sentence(fitted: Fitted) -> str:
    """The formula, and what was made of its fixed part."""
    design = fitted.design
    kind = "a sparse" if sp.issparse(design.fixed.X) else "a dense"
    aliased = f", {len(design.fixed.aliased)} more left out" if design.fixed.aliased else ""
    return (
        f"{design.parsed.source}: {design.n:,} records; fixed effects: {design.fixed.p}, as {kind} X{aliased}; "
        f"random terms: {len(design.terms)}."
    )


def _residual_sentence(fitted: Fitted) -> str:
    """R in words."""
    residual, names = fitted.design.residual, fitted.design.theta_names[fitted.design.slices[-1]]
    weights = "" if residual.inverse_weights is None else ", divided by the weights of the records"
    return f"Residuals: {residual.words}{weights}; parameters {', '.join(names) or 'none'}."


def _method_sentence(fitted: Fitted) -> str:
    """How the variances came about, and the criterion."""
    value = f"-2 log L = {fitted.deviance:.6g}" if fitted.outcome.has_likelihood else ""
    text = fitted.outcome.account(fitted.estimator.title, fitted.estimator.criterion, value)
    known = fitted.control.restrictions.names if fitted.outcome.estimated else ()
    return text + (f" Fixed, equal or bounded beforehand: {examples(known)}." if known else "")


def _engine_sentence(fitted: Fitted) -> str:
    """Which engine, why, and what it costs."""
    name = fitted.engine.name
    asked = fitted.control.engine
    why = "taken by engine='auto'" if asked == "auto" else f"asked for by Control(engine={asked!r})"
    what = (inspect.getdoc(type(fitted.engine)) or "").partition("\n")[0]
    return f"Engine {name}, {why}. {what} {cost_text(fitted.engine.forecast())}"
