"""Tables written as text, HTML, LaTeX, Markdown and Word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mixedgen.errors import ArgumentError, NotAvailableError, examples, public_class, require_package
from mixedgen.output.whole import whole_file

_PREAMBLE = "% needs \\usepackage{booktabs, caption}\n"


@public_class
@dataclass(frozen=True)
class ReportTable:
    """Fits side by side; ``str()`` prints the table, notebooks show it as HTML where great-tables is installed.

    Attributes
    ----------
    frame : DataFrame
        Cells as text. Rows are labelled (part, row), columns (fit, what).
    title : str or None
        Line above the table.
    notes : tuple of str
        Lines below it.
    """

    frame: pd.DataFrame
    title: str | None
    notes: tuple[str, ...]

    def as_markdown(self) -> str:
        """Markdown, a pipe table.

        Raises
        ------
        NotAvailableError
            If tabulate is not installed.
        """
        require_package("tabulate", "as_markdown()", "mixedgen[report]")
        flat = _flat_frame(self.frame.map(_markdown_escape).rename(index=_markdown_escape, columns=_markdown_escape))
        align = ("left", *("right" for _ in flat.columns[1:]))
        body = flat.to_markdown(index=False, disable_numparse=True, colalign=align)
        head = [] if self.title is None else [f"**{_markdown_escape(self.title)}**"]
        return "\n\n".join([*head, body, *map(_markdown_escape, self.notes)]) + "\n"

    def as_gt(self) -> Any:
        """A `great_tables.GT`, to be styled further.

        Raises
        ------
        NotAvailableError
            If great-tables is not installed.
        """
        return _great_table(self)

    def as_html(self) -> str:
        """HTML.

        Raises
        ------
        NotAvailableError
            If great-tables is not installed.
        """
        return str(self.as_gt().as_raw_html())

    def as_latex(self) -> str:
        r"""LaTeX, a table with rules of the package booktabs.

        Raises
        ------
        NotAvailableError
            If great-tables is not installed.
        """
        return _PREAMBLE + str(self.as_gt().as_latex())

    def save(self, path: str | Path) -> None:
        """Write the table in the format of the file's ending: ``.html .tex .md .docx``.

        Raises
        ------
        ArgumentError
            If the ending is none of them.
        NotAvailableError
            If the package that writes the format is not installed.
        MixedgenError
            If the file cannot be written; no part of it is left.
        """
        path = Path(path)
        if path.suffix not in TABLE_WRITERS:
            raise ArgumentError(f"the file must end in one of {examples(TABLE_WRITERS)}, not {path.suffix!r}.")
        with whole_file(path) as part:
            TABLE_WRITERS[path.suffix](self, part)

    def __str__(self) -> str:
        """Plain text."""
        head = [] if self.title is None else [self.title]
        return "\n".join([*head, self.frame.to_string(), *self.notes])

    def __repr__(self) -> str:
        """Plain text."""
        return str(self)

    def _repr_html_(self) -> str | None:
        """HTML for notebooks; without great-tables they show the text."""
        try:
            return self.as_html()
        except NotAvailableError:
            return None


def _flat_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells with the name of each part in bold in a row of its own, and one line of headings, each of them once."""
    rows = []
    for part in dict.fromkeys(frame.index.get_level_values(0)):
        block = frame.loc[part]
        rows.append([f"**{part}**", *[""] * frame.shape[1]])
        rows += [[name, *cells] for name, cells in zip(block.index, block.to_numpy(), strict=True)]
    headings = [": ".join(pair) for pair in frame.columns]
    return pd.DataFrame(rows, columns=["", *headings])


def _markdown_escape(text: str) -> str:
    """Text whose characters mean nothing to Markdown."""
    for character in "|*_<":
        text = text.replace(character, "\\" + character)
    return text


def _great_table(table: ReportTable) -> Any:
    """A `great_tables.GT` with a group of rows for each part and a heading over the columns of each fit."""
    GT = require_package("great_tables", "HTML and LaTeX of tables", "mixedgen[report]").GT
    frame = table.frame
    names, whats = (list(frame.columns.get_level_values(k)) for k in (0, 1))
    columns = [f"c{k}" for k in range(len(names))]
    flat = frame.set_axis(columns, axis=1).rename_axis(["part", "row"]).reset_index()
    out = GT(flat, rowname_col="row", groupname_col="part", auto_align=False).cols_align("right", columns=columns)
    out = out.cols_label(**dict(zip(columns, whats, strict=True)))
    for name in dict.fromkeys(names):
        out = out.tab_spanner(name, columns=[c for c, own in zip(columns, names, strict=True) if own == name])
    if table.title is not None:
        out = out.tab_header(table.title)
    for note in table.notes:
        out = out.tab_source_note(note)
    return out


def _write_word(table: ReportTable, path: Path) -> None:
    """A Word document with the table, through maketables."""
    MTable = require_package("maketables", "a Word document", "maketables").MTable
    word = MTable(table.frame, notes=" ".join(table.notes), caption=table.title)
    word.save("docx", file_name=str(path.resolve()), show=False, replace=True)


def as_file(text: Callable[[ReportTable], str]) -> Callable[[ReportTable, Path], None]:
    """What writes the text of a table to a file."""

    def write(table: ReportTable, path: Path) -> None:
        path.write_text(text(table), encoding="utf-8")

    return write


TABLE_WRITERS: dict[str, Callable[[ReportTable, Path], None]] = {
    ".html": as_file(ReportTable.as_html),
    ".tex": as_file(ReportTable.as_latex),
    ".md": as_file(ReportTable.as_markdown),
    ".docx": _write_word,
}
