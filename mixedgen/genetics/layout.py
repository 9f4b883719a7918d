"""How a text file lays out its table: separator, header, decimal sign and encoding, given or found in the file."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from mixedgen.errors import ArgumentError
from mixedgen.genetics.written import is_plain_number, typed_columns

_SAMPLE = 50  # lines by which a layout is judged
_SEPARATORS = (";", "\t", ",", " ")  # the first that cuts every line alike
_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_NAMES = {",": "comma-separated text", ";": "text between semicolons", "\t": "text between tabs", " ": "text"}
_MISSING = frozenset({"", ".", "*", "0", "NA", "NaN", "nan", "null", "None", "-9"})
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")


@dataclass(frozen=True)
class Layout:
    r"""How a text file is laid out; None is found in the file.

    Attributes
    ----------
    sep : str or None
        Between fields; ``" "`` is any run of blanks.
    header : bool, sequence of str or None
        Whether the first line names the columns, or the names of the columns of a file without such a line.
    decimal : str or None
        Decimal sign, ``"."`` or ``","``.
    encoding : str or None
        As Python names it.
    """

    sep: str | None = None
    header: bool | Sequence[str] | None = None
    decimal: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no layout."""
        if self.sep is not None and (not isinstance(self.sep, str) or not self.sep):
            raise ArgumentError(f"sep is the text between fields, such as ';' or '\\t', not {self.sep!r}.")
        if self.decimal not in (None, ".", ","):
            raise ArgumentError(f"decimal is '.' or ',', not {self.decimal!r}.")
        if self.sep == self.decimal == ",":
            raise ArgumentError("sep and decimal cannot both be a comma.")
        if isinstance(self.header, str) or not (
            self.header is None or isinstance(self.header, bool) or all(isinstance(n, str) for n in self.header)
        ):
            raise ArgumentError(f"header is True, False or the names of all columns, not {self.header!r}.")
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except (LookupError, TypeError) as error:
                raise ArgumentError(f"encoding={self.encoding!r} is none that Python knows.") from error

    @property
    def given(self) -> bool:
        """Whether anything is said."""
        return any(part is not None for part in (self.sep, self.header, self.decimal, self.encoding))


@dataclass(frozen=True)
class Found:
    """What a layout is in a certain file."""

    sep: str
    header: bool
    names: tuple[str, ...]
    encoding: str
    trailing: bool

    @property
    def name(self) -> str:
        """What errors call it."""
        return _NAMES.get(self.sep, f"text between {self.sep!r}")


def open_text(path: str | Path, encoding: str | None) -> TextIO:
    """A text file, compressed or not."""
    if encoding is None:
        with _binary(path) as raw:
            start = raw.read(4)
        encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    opener: Any = _OPENERS.get(Path(path).suffix.lower(), open)
    file: TextIO = opener(path, "rt", encoding=encoding, newline=None)
    return file


def _binary(path: str | Path) -> Any:
    """The bytes of a file, after decompression."""
    opener: Any = _OPENERS.get(Path(path).suffix.lower(), open)
    return opener(path, "rb")


def first_bytes(path: str | Path, n: int) -> bytes:
    """The first bytes of a file, after decompression."""
    with _binary(path) as file:
        return bytes(file.read(n))


def find_layout(path: str | Path, layout: Layout, pedigree: bool = False) -> Found:
    """The layout of a file: what is given, and the rest as its first lines show it.

    Parameters
    ----------
    path : str or Path
        A text file.
    layout : Layout
        What is given.
    pedigree : bool
        Whether ids are expected, so that a first line of ids is no header.

    Returns
    -------
    Found
        Separator, whether there is a header, names of the columns.

    Raises
    ------
    ValueError
        If there is no line, or names are given for another number of columns.
    """
    with open_text(path, layout.encoding) as file:
        encoding = str(file.encoding)
        lines = list(islice((line.rstrip("\r\n") for line in file if line.strip()), _SAMPLE))
    if not lines:
        raise ValueError("there are no lines")
    sep = _separator(lines) if layout.sep is None else layout.sep
    rows = [fields_of(line, sep) for line in lines]
    header = layout.header if isinstance(layout.header, bool) else False
    if layout.header is None:
        header = not _is_data(rows, pedigree)
    names, trailing = _column_names(rows, header, None if isinstance(layout.header, bool) else layout.header)
    return Found(sep, header, names, encoding, trailing)


def fields_of(line: str, sep: str) -> list[str]:
    """Fields of a line; `sep` of one blank is any run of blanks."""
    if sep == " " or sep == r"\s+":
        line, sep = " ".join(line.split()), " "
    if len(sep) > 1:
        return re.split(sep, line)
    return [field.strip() for field in next(csv.reader([line], delimiter=sep, skipinitialspace=True))]


def _separator(lines: Sequence[str]) -> str:
    """The first separator that cuts every line into as many fields as the first, or into one more (names of rows)."""
    for sep in _SEPARATORS:
        first, *others = (len(fields_of(line, sep)) for line in lines)
        if first >= 2 and (all(k == first for k in others) or (others and all(k == first + 1 for k in others))):
            return sep
    for sep in _SEPARATORS[:-1]:  # rows may end early, or be wrong: the reader tells
        if len(fields_of(lines[0], sep)) >= 2:
            return sep
    return ","


def _is_data(rows: Sequence[Sequence[str]], pedigree: bool) -> bool:
    """Whether the first line holds data, not names: numbers only, one of them twice, or in a pedigree a code or id."""
    first = [field for field in rows[0] if field]
    numbers = [field for field in first if is_plain_number(field)]
    if first and len(numbers) == len(first) and len(rows[0]) > 1:
        return True
    if len(set(numbers)) < len(numbers):
        return True
    if not pedigree:
        return False
    below = {field for row in rows[1:] for field in row[:3]}
    return any(field in _MISSING or field in below for field in rows[0][:3])


def _column_names(
    rows: Sequence[Sequence[str]], header: bool, given: Sequence[str] | None
) -> tuple[tuple[str, ...], bool]:
    """Names of the columns, and whether each line ends with a separator that the header lacks."""
    width = len(rows[0])
    if given is not None:
        if len(given) != width:
            raise ValueError(f"header= names {len(given)} columns, and the first line has {width}")
        return tuple(given), False
    if not header:
        return tuple(f"V{k + 1}" for k in range(width)), False
    names, again = [], dict[str, int]()
    for k, field in enumerate(rows[0]):  # blank and repeated names as pandas has them
        name = field or f"Unnamed: {k}"
        again[name] = again.get(name, -1) + 1
        names.append(f"{name}.{again[name]}" if again[name] else name)
    longer = len(rows) > 1 and all(len(row) == width + 1 for row in rows[1:])
    if longer and all(not row[-1] for row in rows[1:]):
        return (*names, "(trailing)"), True
    return (("row.names", *names) if longer else tuple(names)), False


def read_text(path: str | Path, found: Found, layout: Layout, text: Sequence[str] | None) -> pd.DataFrame:
    """Frame of a text file; columns of plain numbers are numbers, and their text is kept beside them.

    Parameters
    ----------
    path : str or Path
        The file.
    found, layout : Found, Layout
        Its layout, and what was given of it.
    text : sequence of str or None
        Columns whose text is wanted; None for all. The others are typed as pandas does.

    Returns
    -------
    DataFrame
        One row for each line.
    """
    engine: Any = {"low_memory": False} if len(found.sep) == 1 else {"engine": "python"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_csv(
            path,
            sep=r"\s+" if found.sep == " " else found.sep,
            header=0 if found.header else None,
            names=list(found.names),
            dtype=str if text is None else {name: str for name in text},
            index_col=False,
            skipinitialspace=True,
            encoding=found.encoding,
            **engine,
        )
    if found.trailing:
        frame = frame.drop(columns="(trailing)")
    decimal = _decimal(frame, found.sep) if layout.decimal is None else layout.decimal
    return typed_columns(frame, decimal)


def _decimal(frame: pd.DataFrame, sep: str) -> str:
    """Decimal sign of the numbers of a frame of text.

    Raises
    ------
    ValueError
        If a comma may as well be that of thousands.
    """
    if sep == ",":
        return "."
    commas, points, doubtful = [], [], []
    for name in frame.columns:
        if not (pd.api.types.is_string_dtype(frame[name].dtype) or frame[name].dtype == object):
            continue
        fields = [str(field).strip() for field in frame[name].dropna().unique()]
        special = [field for field in fields if "," in field]
        if special and all(_DECIMAL_COMMA.fullmatch(f) or is_plain_number(f, ",") for f in fields):
            commas.append(str(name))
            if all(_THOUSANDS.fullmatch(field) for field in special):
                doubtful.append((str(name), special[0]))
        elif any("." in field for field in fields) and all(is_plain_number(field) for field in fields):
            points.append(str(name))
    if commas and (points or (doubtful and len(doubtful) == len(commas))):
        name, field = doubtful[0] if doubtful else (commas[0], "a comma")
        other = f", and {points[0]!r} has points" if points else ""
        raise ValueError(f"column {name!r} holds numbers with commas ({field}){other}: say decimal=',' or decimal='.'")
    return "," if commas else "."
