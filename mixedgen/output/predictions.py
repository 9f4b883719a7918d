"""Predictions of all terms in one table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mixedgen.design.loads import source_columns
from mixedgen.errors import ArgumentError, NotAvailableError, examples
from mixedgen.estimation.fitted import Fitted
from mixedgen.prediction.effects import blup


def _terms_of_animals(fitted: Fitted) -> list[str]:
    """Terms with a relationship and those of the same columns, such as (1|animal) beside (1|animal:A); else all."""
    design = fitted.design
    factors = [f for t in design.terms for f in t.written.factors if f.link is not None]
    columns = {column for f in factors for column in source_columns(f.source)}
    return [t.key for t in design.terms if not factors or t.key in design.linked or t.written.label in columns]


def predictions(fitted: Fitted, *, animals: bool, ids: Sequence[str] | None, top: int | None) -> pd.DataFrame:
    """BLUP of all terms in one table, the largest value of each term and effect first.

    Parameters
    ----------
    fitted : Fitted
        The model.
    animals : bool
        Of terms of markers the animals' values in place of the effects.
    ids : sequence of str, optional
        Levels wanted, as text; terms that tell no animals apart are then left out.
    top : int, optional
        Rows of each term and effect at most.

    Returns
    -------
    DataFrame
        Columns ``term level effect value se pev reliability accuracy n_records inbreeding``; with unknown-parent groups
        also ``total``, by which their term is sorted.

    Raises
    ------
    ArgumentError
        If an id wanted is no level of these terms.
    NotAvailableError
        If the model has no random term.
    """
    names = [t.key for t in fitted.design.terms] if ids is None else _terms_of_animals(fitted)
    if not names:
        raise NotAvailableError("the model has no random term, and so nothing to predict.")
    blups = [blup(fitted, term, animals=animals).assign(term=term) for term in names]
    if ids is not None:
        blups = _chosen_levels(blups, ids)
    parts = [part for blup in blups for _, part in blup.groupby("effect", sort=False)]
    best = [_ranked(part).head(len(part) if top is None else top).astype(object) for part in parts]
    columns = [name for name in _PREDICTIONS if name != "total" or any("total" in part for part in best)]
    whole = pd.concat([part.reindex(columns=columns) for part in best], ignore_index=True)
    return whole.astype({name: kind for name, kind in _PREDICTIONS.items() if name in columns})


_PREDICTIONS = {
    **dict.fromkeys(("term", "level", "effect"), "string"),
    **dict.fromkeys(("value", "se", "pev", "reliability", "accuracy"), "float64"),
    "n_records": "int64",
    **dict.fromkeys(("inbreeding", "total"), "float64"),
}


def _ranked(blup: pd.DataFrame) -> pd.DataFrame:
    """Rows by their value, or total where the term has unknown-parent groups, the largest first."""
    return blup.sort_values("total" if "total" in blup else "value", ascending=False, kind="stable")


def _chosen_levels(blups: Sequence[pd.DataFrame], ids: Sequence[str]) -> list[pd.DataFrame]:
    """Rows of the ids wanted, which are levels of one term at least.

    Raises
    ------
    ArgumentError
        If one is not.
    """
    levels = [blup["level"].astype(str).str.strip() for blup in blups]
    known = set().union(*levels)
    absent = [id for id in ids if id not in known]
    if absent:
        raise ArgumentError(
            f"{len(absent)} ids of --select are levels of no term: {examples(absent)}. Correct them; animals of a "
            "term of markers are chosen with --animals."
        )
    return [blup[level.isin(ids)] for blup, level in zip(blups, levels, strict=True)]
