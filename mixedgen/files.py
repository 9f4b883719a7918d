"""Tables from files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mixedgen.errors import MixedgenError


def read_frame(path: str | Path, error: type[MixedgenError]) -> pd.DataFrame:
    """Read a table with a header from a CSV (also compressed) or Parquet file.

    Parameters
    ----------
    path : str or Path
        `.parquet` and `.pq` are read as Parquet, all else as CSV.
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
    >>> read_frame("ped.csv", MixedgenError)  # doctest: +SKIP
    """
    parquet = Path(path).suffix.lower() in {".parquet", ".pq"}
    try:
        return pd.read_parquet(path) if parquet else pd.read_csv(path, low_memory=False)
    except FileNotFoundError:
        raise
    except ImportError as failure:
        raise error(f"Reading {path} needs pyarrow: pip install 'mixedgen[io]'.", path=str(path)) from failure
    except (ValueError, OSError) as failure:  # empty, ragged, wrongly encoded or damaged
        wanted = "Parquet" if parquet else "comma-separated text with a header"
        reason = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
        raise error(f"{path} cannot be read as {wanted}: {reason}. Check the file.", path=str(path)) from failure
