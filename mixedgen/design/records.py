"""The labels of the records of a design."""

from __future__ import annotations

import pandas as pd

from mixedgen.design.design import Design


def record_index(design: Design) -> pd.Index:
    """Labels of the records used; (row, trait) for several traits."""
    rows = design.index[design.kept]
    if design.traits is None:
        return rows
    traits = pd.Index(design.traits.names)[design.traits.trait]
    return pd.MultiIndex.from_arrays([rows[design.traits.row], traits], names=[rows.name, "trait"])
