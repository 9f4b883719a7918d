"""What a user writes in the shell: commands, models, variances."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from typing import Any

from mixedgen.engines import ENGINES
from mixedgen.estimation.steps import CURVATURES


def add_command(commands: Any, name: str, purpose: str, run: Callable[[argparse.Namespace], None]) -> None:
    """Add a command without arguments."""
    commands.add_parser(name, help=purpose, description=purpose).set_defaults(run=run)


def add_model(command: argparse.ArgumentParser) -> None:
    """Arguments that say what the model is and how it is solved."""
    command.add_argument("formula", metavar="FORMULA", help='such as "Reaction ~ Days + (Days|Subject)"')
    command.add_argument("data", metavar="DATA", help="CSV or Parquet file, or the name of a shipped data set")
    add_sources(command)
    command.add_argument("--ml", action="store_true", help="maximum likelihood instead of REML")
    command.add_argument("--residual", metavar="TEXT", help='residual structure, such as "diag(site)"')
    command.add_argument("--weights", metavar="COLUMN", help="column w with Var(e_i) = sigma^2 / w_i")
    command.add_argument("--subset", metavar="EXPRESSION", help='records to use, such as "Days > 1"')
    ways = ", ".join(f"{name}: {way.text}" for name, way in CURVATURES.items())
    command.add_argument("--optimiser", choices=tuple(CURVATURES), default="ai", help=f"{ways} (default: ai)")
    engines = ", ".join(ENGINES)
    command.add_argument(
        "--engine", metavar="NAME", default="auto", help=f"how the equations are solved: auto (default), {engines}"
    )
    line = command.add_mutually_exclusive_group()
    line.add_argument("--progress", action="store_true", default=None, help="show a progress line, terminal or not")
    line.add_argument("--quiet", dest="progress", action="store_false", help="show no progress line")


def add_sources(command: argparse.ArgumentParser) -> None:
    """Arguments that say where relationships come from."""
    command.add_argument(
        "--pedigree", metavar="FILE", help="pedigree: A and D, as in (1|animal:A); with --genotypes also H"
    )
    command.add_argument(
        "--pedigree-columns",
        metavar="ID,SIRE,DAM",
        type=_three_names,
        default=("id", "sire", "dam"),
        help="columns of the pedigree (default: id,sire,dam)",
    )
    command.add_argument(
        "--groups", metavar="NAMES", type=_comma_separated, help="unknown-parent groups in the pedigree"
    )
    command.add_argument(
        "--genotypes", metavar="FILE", help="genotypes: G and M; CSV or Parquet with the ids first, or PLINK .bed"
    )
    command.add_argument(
        "--unknown",
        metavar="CODES",
        type=_comma_separated,
        default=(),
        help="codes of unknown parents, as --unknown=-9,.",
    )
    for source, what in (("", "the data"), ("pedigree-", "the pedigree"), ("genotypes-", "the genotypes")):
        _add_layout(command, source, what)
    command.add_argument("--coding", choices=("012", "-101"), default="012", help="of the genotypes (default: 012)")
    command.add_argument("--dosages", action="store_true", help="the genotypes are expected numbers of copies")
    command.add_argument(
        "--unmatched",
        choices=("raise", "omit"),
        default="raise",
        help="records whose id is in no relationship: an error (default), or left out and counted",
    )


def _add_layout(command: argparse.ArgumentParser, source: str, what: str) -> None:
    """Arguments that say how a text file is laid out, where that is not to be found in the file."""
    command.add_argument(
        f"--{source}sep", metavar="TEXT", type=_separator, help=f"between fields of {what}; tab, blanks"
    )
    command.add_argument(
        f"--{source}header", metavar="yes|no|NAMES", type=_header, help=f"whether {what} have a header, or the names"
    )
    command.add_argument(f"--{source}decimal", choices=(".", ","), help=f"decimal sign of {what}")
    command.add_argument(f"--{source}encoding", metavar="NAME", help=f"encoding of {what}, such as latin-1")


def _separator(text: str) -> str:
    """A separator, some by name."""
    return {"tab": "\t", "\\t": "\t", "blank": " ", "blanks": " ", "comma": ",", "semicolon": ";"}.get(text, text)


def _header(text: str) -> bool | list[str]:
    """Whether there is a header, or the names of the columns."""
    answers = {"yes": True, "no": False}
    return answers[text] if text in answers else _comma_separated(text)


def layout_of(options: argparse.Namespace, source: str) -> dict[str, Any]:
    """What the options say of the layout of a file: of the data "", of others "pedigree_" or "genotypes_"."""
    return {part: getattr(options, source + part) for part in ("sep", "header", "decimal", "encoding")}


def _comma_separated(text: str) -> list[str]:
    """Split names between commas."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name between its commas")
    return names


def _three_names(text: str) -> tuple[str, str, str]:
    """Split "id,sire,dam" into three column names."""
    names = [name.strip() for name in text.split(",")]
    if len(names) != 3 or not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form ID,SIRE,DAM")
    return names[0], names[1], names[2]


def positive_number(text: str) -> int:
    """Whole number of at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


_VARIANCE = re.compile(r"\s*(?P<term>[^=]+?)\s*=\s*(?P<value>\[\[.*?\]\]|[^,=\[\]]+)\s*(?:,|$)")


def variances_of(text: str) -> dict[str, Any]:
    """Variances by term of "animal:A=20,residual=40"; names of terms may hold commas themselves."""
    out: dict[str, Any] = {}
    at = 0
    while at < len(text):
        found = _VARIANCE.match(text, at)
        try:
            value = None if found is None else json.loads(found["value"])
        except json.JSONDecodeError:
            value = _float_of(found["value"]) if found is not None else None
        if found is None or value is None or found["term"] in out:
            what = "gives a term twice" if found is not None and found["term"] in out else "cannot be read"
            raise argparse.ArgumentTypeError(f"{text[at:]!r} {what}: write animal:A=20,residual=40")
        out[found["term"]] = value
        at = found.end()
    return out


def _float_of(text: str) -> float | None:
    """Number that JSON does not know, such as .5; None if it is none."""
    try:
        return float(text)
    except ValueError:
        return None
