"""Tables from files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedgen.errors import ArgumentError, DataError, MixedgenError, PedigreeError, public
from mixedgen.genetics.foreign import foreign_name
from mixedgen.genetics.ids import id_text
from mixedgen.genetics.layout import Layout, find_layout, read_text
from mixedgen.genetics.written import Written, with_written

_BED_MISSING = -127  # of bed-reader


@dataclass(frozen=True)
class Format:
    """A kind of file that holds a table and says itself how.

    Attributes
    ----------
    name : str
        What errors call it.
    read : callable
        Frame of the file at a path.
    """

    name: str
    read: Callable[[str | Path], pd.DataFrame]


def _read_parquet(path: str | Path) -> pd.DataFrame:
    """Frame of a Parquet file."""
    return pd.read_parquet(path)


_PARQUET = Format("Parquet", _read_parquet)
FORMATS: dict[str, Format] = {".parquet": _PARQUET, ".pq": _PARQUET}


@public
def read_table(
    path: str | Path,
    *,
    sep: str | None = None,
    header: bool | Sequence[str] | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
) -> pd.DataFrame:
    """Read a table from a file: Parquet by its suffix, all else as text (also compressed).

    Parameters
    ----------
    path : str or Path
        `.parquet` and `.pq` are read as Parquet, all else as text.
    sep : str, optional
        Between fields, such as ``","``, ``";"``, a tab, or ``" "`` for any run of blanks; by default the first of
        semicolon, tab, comma and blanks that cuts all lines alike.
    header : bool or sequence of str, optional
        Whether the first line names the columns, or names for the columns of a file without such a line; by default
        there is one unless the first line holds numbers only, or one number twice. Without names columns are V1, V2
        and so on.
    decimal : {".", ","}, optional
        Decimal sign; by default the one that the numbers have.
    encoding : str, optional
        By default UTF-8, or UTF-16 where the file begins with its mark.

    Returns
    -------
    DataFrame
        A column is a number where every field is a plain number, else text.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        If the file is empty, damaged, or of another format, which is named.
    ArgumentError
        If the arguments are no layout, or the file has its own.

    Notes
    -----
    The written text of a column of numbers is kept beside it (in `attrs`), and is what a grouping factor, ``C()``, a
    relationship or an id uses: 007 is not 7.

    Examples
    --------
    >>> read_table("records.csv", sep=";", decimal=",")  # doctest: +SKIP
    """
    return table_of(path, DataError, Layout(sep, header, decimal, encoding))


def table_of(
    path: str | Path,
    error: type[MixedgenError],
    layout: Layout = Layout(),  # noqa: B008 (frozen)
    *,
    pedigree: bool = False,
    text: Callable[[Sequence[str]], Sequence[str]] | None = None,
) -> pd.DataFrame:
    """A table from a file, by its suffix: one of `FORMATS`, all else as text.

    Parameters
    ----------
    path : str or Path
        The file.
    error : type
        What to raise where the file is there but is no table.
    layout : Layout
        What is said of a text file.
    pedigree : bool, default False
        Whether a first line of ids is data.
    text : callable, optional
        Of all columns, those whose written text is wanted; by default all.

    Returns
    -------
    DataFrame
        The table.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    MixedgenError
        Of the type given, if the file is empty, damaged, or of another format.

    Examples
    --------
    >>> table_of("ped.csv", MixedgenError)  # doctest: +SKIP
    """
    kind = FORMATS.get(Path(path).suffix.lower())
    name = "comma-separated text" if kind is None else kind.name
    try:
        known = foreign_name(path) if kind is None else None
        if known is not None:
            raise error(f"{path} is {known}.", path=str(path))
        if kind is not None:
            if layout.given:
                raise ArgumentError(f"{path} is read as {name}: sep, header, decimal and encoding are of text files.")
            return kind.read(path)
        found = find_layout(path, layout, pedigree)
        name = found.name
        return read_text(path, found, layout, None if text is None else text(found.names))
    except (FileNotFoundError, MixedgenError):
        raise
    except ImportError as failure:
        raise error(f"Reading {path} needs pyarrow: pip install 'mixedgen[io]'.", path=str(path)) from failure
    except UnicodeError as failure:
        reason = f"{path} cannot be read as {name}: {failure}. Say encoding=, such as 'latin-1' or 'cp1252'."
        raise error(reason, path=str(path)) from failure
    except (ValueError, OSError, EOFError, pd.errors.ParserWarning) as failure:  # empty, ragged or damaged
        reason = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
        raise error(f"{path} cannot be read as {name}: {reason}. Check the file.", path=str(path)) from failure


def pedigree_table(path: str | Path, layout: Layout, columns: Mapping[str, Any]) -> pd.DataFrame:
    """Frame of a pedigree file; columns without names are called as those looked for, id, sire and dam.

    Parameters
    ----------
    path : str or Path
        `.fam` is read as PLINK's, with FID_IID where IID alone is not unique.
    layout : Layout
        What is said of a text file.
    columns : mapping
        Names of the columns, as for `Pedigree`.

    Returns
    -------
    DataFrame
        One row per animal.

    Raises
    ------
    PedigreeError
        If it cannot be read.

    Examples
    --------
    >>> pedigree_table("ped.csv", Layout(), {})  # doctest: +SKIP
    """
    second = "dam" if columns.get("mgs") is None else "mgs"
    names = [str(columns.get(role) or role) for role in ("id", "sire", second)]
    if Path(path).suffix.lower() in (".fam", ".tfam"):
        return _family_table(path, layout, names)
    frame = table_of(path, PedigreeError, layout, pedigree=True)
    nameless = [str(name) for name in frame.columns] == [f"V{k + 1}" for k in range(frame.shape[1])]
    if not nameless or set(names) & set(frame.columns):
        return frame
    if frame.shape[1] < len(names):
        raise PedigreeError(
            f"{path} has {frame.shape[1]} columns and no header: a pedigree has id, sire and dam. Say sep= or header=.",
            path=str(path),
        )
    renamed = frame.rename(columns=dict(zip(frame.columns, names, strict=False)))
    attributes = {str(k): v for k, v in frame.attrs.get("written", {}).items()}
    if attributes:
        at = dict(zip(map(str, frame.columns), map(str, renamed.columns), strict=True))
        renamed.attrs["written"] = Written({at[k]: v for k, v in attributes.items()})
    return renamed


def _family_table(path: str | Path, layout: Layout, names: Sequence[str]) -> pd.DataFrame:
    """Id, sire and dam of a PLINK .fam file, as text."""
    if layout.header is None:
        layout = replace(layout, header=False)
    frame = table_of(path, PedigreeError, layout)
    if frame.shape[1] < 4:
        raise PedigreeError(
            f"{path} has {frame.shape[1]} columns: a .fam file begins with FID, IID, father and mother.",
            path=str(path),
        )
    frame = with_written(frame, list(frame.columns))
    family, *ids = (frame.iloc[:, k].map(id_text, na_action="ignore").fillna("0") for k in range(4))
    if ids[0].duplicated().any():
        ids = [column.where(column == "0", family + "_" + column) for column in ids]
    return pd.DataFrame(dict(zip(names, ids, strict=True)))


def read_bed(path: str | Path, missing: int) -> tuple[NDArray[np.int8], list[str], list[str]]:
    """Read the genotypes of a PLINK 1 file with its `.bim` and `.fam`.

    Parameters
    ----------
    path : str or Path
        The `.bed` file.
    missing : int
        What to write for a missing genotype.

    Returns
    -------
    values : ndarray of int8, shape (n, m)
        Copies of allele 1.
    ids, markers : list of str
        IID of the animals, or FID_IID where IID is not unique; names of the markers.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        If bed-reader is absent, or the files are not what they should be.

    Examples
    --------
    >>> read_bed("chip.bed", -9)  # doctest: +SKIP
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        from bed_reader import open_bed
    except ImportError as failure:
        raise DataError(f'reading {path} needs bed-reader: pip install "mixedgen[geno]".', path=str(path)) from failure
    try:
        with open_bed(path) as bed:
            values, markers = bed.read(dtype="int8", order="C"), bed.sid.tolist()
            ids = bed.iid.tolist()
            if len(set(ids)) < len(ids):  # unique within families only
                ids = [f"{family}_{id}" for family, id in zip(bed.fid.tolist(), ids, strict=True)]
    except (ValueError, OSError) as failure:
        reason = f"{path} cannot be read as a PLINK 1 file with .bim and .fam: {failure}"
        raise DataError(reason, path=str(path)) from failure
    values[values == _BED_MISSING] = missing
    return values, ids, markers
