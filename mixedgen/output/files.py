"""Frames and documents written to files, by the suffix of the file."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from mixedgen.errors import ArgumentError
from mixedgen.estimation.fitted import Fitted
from mixedgen.output.results import document, plain_rows, results_frame
from mixedgen.output.whole import whole_file


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as CSV."""
    frame.to_csv(path, index=False)


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as Parquet."""
    frame.to_parquet(path, index=False)


def _write_json(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as a JSON list of its rows."""
    _dump(plain_rows(frame), path)


FRAME_WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".parquet": _write_parquet,
}


def _dump(content: Any, path: Path) -> None:
    """Write plain values as JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


# formats that hold a whole fit otherwise than as one frame
_DOCUMENT_WRITERS: dict[str, Callable[[Mapping[str, Any], Path], None]] = {".json": _dump}


def frame_writer(path: Path) -> Callable[[pd.DataFrame, Path], None]:
    """How to write a frame to a file of this suffix; it can be asked before time is spent on a fit.

    Raises
    ------
    ArgumentError
        If there is no such format, the folder does not exist, or Parquet support is lacking.
    """
    suffix = path.suffix.lower()
    if suffix not in FRAME_WRITERS:
        raise ArgumentError(f"results can be written to {', '.join(FRAME_WRITERS)} files, not to {str(path)!r}.")
    if not path.parent.is_dir():
        raise ArgumentError(f"there is no folder {str(path.parent)!r} for the results: make it first.")
    _require_parquet_support(path)
    return partial(_write_whole, FRAME_WRITERS[suffix])


def _write_whole(write: Callable[[Any, Path], None], content: Any, path: Path) -> None:
    """Write a whole file, or none."""
    with whole_file(path) as part:
        write(content, part)


def write_results(fitted: Fitted, path: Path, program: Mapping[str, str]) -> None:
    """Write all results of a fit: as one document, which names the program, where the format has one, or a frame."""
    write = frame_writer(path)
    whole = _DOCUMENT_WRITERS.get(path.suffix.lower())
    if whole is None:
        write(results_frame(fitted), path)
    else:
        _write_whole(whole, {"package": dict(program), **document(fitted)}, path)


def _require_parquet_support(path: Path) -> None:
    """Raise an ArgumentError where a Parquet file meets an installation without pyarrow."""
    if path.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ArgumentError(f"{str(path)!r} needs pyarrow: pip install 'mixedgen[io]'.")
