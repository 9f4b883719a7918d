"""Whether the ids of records, pedigree and genotypes match, and what the files hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixedgen.errors import DataError, examples
from mixedgen.genetics.genotypes import Genotypes
from mixedgen.genetics.ids import ThreeWayReport
from mixedgen.genetics.inbreeding import generations
from mixedgen.genetics.pedigree import Pedigree

# The limits by which `check` judges genotypes; they are printed with the counts.
_LEAST_CALL_RATE, _LEAST_FREQUENCY, _LEAST_HARDY_WEINBERG = 0.9, 0.01, 1e-6

ID_COLUMNS = ("animal", "id")  # where `check` looks for ids, after the name in the pedigree and before all columns


def likely_ids(frame: pd.DataFrame, names: Sequence[str], labels: Sequence[pd.Index[Any]]) -> str:
    """Column of the ids of the records: of one of the names, else the one with the most ids among the labels, as text.

    Raises
    ------
    DataError
        If no column has any.
    """
    named = [name for name in names if name in frame.columns]
    if named:
        return named[0]
    known = set().union(*(ids.astype(str) for ids in labels))
    shared = {str(name): len(known.intersection(frame[name].dropna().astype(str))) for name in frame.columns}
    best = max(shared, key=lambda name: shared[name])
    if not shared[best]:
        raise DataError(
            f"no column of the data holds ids of the files given: name it with --id. There are {examples(shared)}."
        )
    return best


def matches(report: ThreeWayReport) -> bool:
    """Whether records and genotyped animals are in the pedigree; without one, whether the records have genotypes."""
    against = (report.genotypes,) if report.pedigree is None else (report.pedigree, report.genotypes_in_pedigree)
    return all(part is None or part.complete for part in against)


def pedigree_text(ped: Pedigree) -> str:
    """What a pedigree holds, in a few lines."""
    F = ped.inbreeding.to_numpy(dtype=float)[ped.metafounders :]
    founders = int(np.sum((ped.sire < 0) & (ped.dam < 0))) - ped.metafounders
    inbred = F[F > 0]
    lines = [
        "Pedigree",
        f"{len(F)} animals, {founders} founders, {len(generations(ped.sire, ped.dam))} generations",
        f"{ped.added} parents without a row of their own, taken in as founders",
        f"{ped.duplicates} repeated rows",
        f"{len(inbred)} inbred animals"
        + (
            f", inbreeding {inbred.mean():.4f} on average among them, {inbred.max():.4f} at most" if len(inbred) else ""
        ),
    ]
    if ped.groups:
        lines.append(f"{len(ped.groups)} unknown-parent groups: {examples(ped.groups)}")
    return "\n  ".join(lines)


def genotypes_text(genotypes: Genotypes) -> str:
    """How many markers and animals fall below the usual limits of quality, and why."""
    hwe = None if genotypes.dosages else _LEAST_HARDY_WEINBERG
    try:
        _, report = genotypes.quality_control(
            call_rate=_LEAST_CALL_RATE,
            animal_call_rate=_LEAST_CALL_RATE,
            maf=_LEAST_FREQUENCY,
            hwe=hwe,
            duplicates="both",
        )
    except DataError as error:  # nothing passes: the report is in the error
        found: pd.DataFrame | None = getattr(error, "report", None)
        if found is None:
            raise
        report = found
    stated = {
        "marker: call rate": f" below {_LEAST_CALL_RATE:g}",
        "animal: call rate": f" below {_LEAST_CALL_RATE:g}",
        "marker: minor allele frequency": f" below {_LEAST_FREQUENCY:g}",
        "marker: Hardy-Weinberg": f" p-value below {_LEAST_HARDY_WEINBERG:g}",
    }
    counts: dict[str, int] = report.attrs["counts"]
    width = max(len(str(count)) for count in counts.values())
    lines = [f"{count:>{width}}  {name}{stated.get(name, '')}" for name, count in counts.items()]
    return "\n  ".join([str(genotypes), "Quality control would drop", *lines])
