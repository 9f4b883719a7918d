"""Text files of genotypes: animals by markers, or an id and a word of digits; what is neither is named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from mixedgen.errors import DataError, examples
from mixedgen.genetics.calls import MISSING
from mixedgen.genetics.files import FORMATS, table_of
from mixedgen.genetics.layout import Layout
from mixedgen.genetics.written import as_written

_RAW = ("FID", "IID", "PAT", "MAT", "SEX", "PHENOTYPE")
_WORD = re.compile(r"[0-9]{2,}")
_WORD_MISSING = 5  # BLUPF90's code
_MARKER_COLUMN = re.compile(r"(snp|marker|locus|rs|rsid|variant)s?([ _.]?(id|name))?", re.IGNORECASE)
_MARKER_NAME = re.compile(r"rs\d+", re.IGNORECASE)
_MAP_COLUMNS = frozenset({"chr", "chrom", "chromosome", "#chrom", "pos", "position", "bp", "ref", "alt"})


def marker_table(path: str | Path, id: str | None, layout: Layout) -> pd.DataFrame:
    """Frame of a file of genotypes, ids first.

    Parameters
    ----------
    path : str or Path
        Text or Parquet.
    id : str or None
        Column with the animals; None for the first.
    layout : Layout
        What is said of a text file.

    Returns
    -------
    DataFrame
        A column of ids, and one for each marker.

    Raises
    ------
    DataError
        If it cannot be read, is a PLINK .raw file, or has markers in its rows.

    Examples
    --------
    >>> marker_table("chip.csv", None, Layout())  # doctest: +SKIP
    """
    frame = table_of(path, DataError, layout, text=lambda names: [n for n in names if n == (id or names[0])])
    columns = [str(name) for name in frame.columns]
    if tuple(columns[: len(_RAW)]) == _RAW and id is None:
        raise DataError(
            f"{path} is a PLINK .raw file, whose first six columns are no markers: read the .bed that plink "
            "--make-bed writes, or drop FID, PAT, MAT, SEX and PHENOTYPE from mg.read_table(path) and pass "
            "Genotypes(frame, ids='IID').",
            path=str(path),
        )
    if id is None and Path(path).suffix.lower() not in FORMATS and frame.shape[1] == 2:
        words = _words(path, layout, frame)
        if words is not None:
            return words
    _check_animals_in_rows(path, frame, id)
    return frame


def _words(path: str | Path, layout: Layout, frame: pd.DataFrame) -> pd.DataFrame | None:
    """Ids and genotypes of a file of two columns whose second is a word of digits, all of one length; else None."""
    table = table_of(path, DataError, layout)
    if list(table.columns) != ["V1", "V2"]:
        table = table_of(path, DataError, Layout(layout.sep, False, layout.decimal, layout.encoding))
    words = as_written(table, "V2").astype(str)
    if not all(_WORD.fullmatch(word) for word in words) or words.str.len().nunique() != 1:
        return None
    calls = np.array([list(word) for word in words], dtype="U1").astype(np.int8)
    calls[calls == _WORD_MISSING] = MISSING
    out = pd.DataFrame(calls, columns=[str(k + 1) for k in range(calls.shape[1])])
    out.insert(0, "id", as_written(table, "V1").astype(object))
    return out


def _check_animals_in_rows(path: str | Path, frame: pd.DataFrame, id: str | None) -> None:
    """Raise a DataError for a table whose rows are markers."""
    first = frame.columns[0]
    names = [str(name) for name in frame.columns]
    of_map = [name for name in names if name.casefold() in _MAP_COLUMNS]
    values = frame[first].dropna().astype(str) if len(frame) else pd.Series([], dtype=str)
    rows = bool(len(values)) and all(_MARKER_NAME.fullmatch(value) for value in values)
    if id is None and (_MARKER_COLUMN.fullmatch(str(first)) or len(of_map) > 1 or rows):
        what = f"columns {examples(of_map)}" if len(of_map) > 1 else f"{first!r}: {examples(values.tolist())}"
        raise DataError(
            f"{path} is transposed, its rows are markers ({what}): animals are rows. Read it with mg.read_table, turn "
            "it with frame.set_index(...).T, and pass Genotypes(frame).",
            path=str(path),
        )
