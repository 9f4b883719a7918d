"""Tables from files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedgen.errors import DataError, MixedgenError

_BED_MISSING = -127  # of bed-reader


@dataclass(frozen=True)
class Format:
    """A kind of file that holds a table.

    Attributes
    ----------
    name : str
        What errors call it.
    read : callable
        Frame of the file at a path.
    """

    name: str
    read: Callable[[str | Path], pd.DataFrame]


def _read_csv(path: str | Path) -> pd.DataFrame:
    """Frame of comma-separated text; each column of one type, however long the file."""
    return pd.read_csv(path, low_memory=False)


def _read_parquet(path: str | Path) -> pd.DataFrame:
    """Frame of a Parquet file."""
    return pd.read_parquet(path)


_CSV = Format("comma-separated text with a header", _read_csv)
_PARQUET = Format("Parquet", _read_parquet)
FORMATS: dict[str, Format] = {".csv": _CSV, ".parquet": _PARQUET, ".pq": _PARQUET}


def read_table(path: str | Path, error: type[MixedgenError]) -> pd.DataFrame:
    """Read a table from a file, by its suffix: one of `FORMATS`, all else as CSV (also compressed).

    Parameters
    ----------
    path : str or Path
        A file with a header.
    error : type
        What to raise where the file is there but is no table.

    Returns
    -------
    DataFrame
        As pandas reads it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    MixedgenError
        Of the type given, if the file is empty, damaged, or of another format.

    Examples
    --------
    >>> read_table("ped.csv", MixedgenError)  # doctest: +SKIP
    """
    kind = FORMATS.get(Path(path).suffix.lower(), _CSV)
    try:
        return kind.read(path)
    except FileNotFoundError:
        raise
    except ImportError as failure:
        raise error(f"Reading {path} needs pyarrow: pip install 'mixedgen[io]'.", path=str(path)) from failure
    except (ValueError, OSError) as failure:  # empty, ragged, wrongly encoded or damaged
        reason = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
        raise error(f"{path} cannot be read as {kind.name}: {reason}. Check the file.", path=str(path)) from failure


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
        IID of the animals, names of the markers.

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
            values, ids, markers = bed.read(dtype="int8", order="C"), bed.iid.tolist(), bed.sid.tolist()
    except (ValueError, OSError) as failure:
        reason = f"{path} cannot be read as a PLINK 1 file with .bim and .fam: {failure}"
        raise DataError(reason, path=str(path)) from failure
    values[values == _BED_MISSING] = missing
    return values, ids, markers
