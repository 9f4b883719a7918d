"""The shell command `mixedgen`: flags in, the public calls of the package, results out."""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import pandas as pd

from mixedgen import __version__, data, sparse
from mixedgen.cli.arguments import add_command, add_model, add_sources, positive_number, variances_of
from mixedgen.cli.sources import frame_of, model_of, read_genotypes, read_pedigree
from mixedgen.design.frame import require_columns
from mixedgen.errors import ArgumentError, ConvergenceWarning, MixedgenError
from mixedgen.genetics import inbreeding
from mixedgen.genetics.ids import reconcile_three
from mixedgen.genetics.written import as_written
from mixedgen.inference.degrees import DDF_METHODS
from mixedgen.output.check import ID_COLUMNS, genotypes_text, likely_ids, matches, pedigree_text
from mixedgen.output.files import FRAME_WRITERS, frame_writer, write_results
from mixedgen.output.predictions import predictions

_UNMATCHED_STATUS = 1
_ERROR_STATUS = 2  # argparse's own status for a wrong command line
_ROWS_SHOWN = 10  # of the predictions, under the summary
_READING_ERRORS = (OSError, UnicodeDecodeError, pd.errors.EmptyDataError, pd.errors.ParserError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the name of the program; those of the process by default.

    Returns
    -------
    int
        Exit status: 0; 1 where `check` finds ids that do not match; 2 with a message on the standard error.

    Examples
    --------
    >>> main(["fit", "Yield ~ 1 + (1|Batch)", "dyestuff"])  # doctest: +ELLIPSIS
    Linear mixed model fit by REML
    Formula: Yield ~ 1 + (1|Batch)
    REML criterion at convergence: 319.6543
    ...
    0
    """
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("always", ConvergenceWarning)
        warnings.showwarning = _show_warning
        try:
            status: int | None = options.run(options)
        except BrokenPipeError:  # the reader, such as head, has seen enough; Python must not flush to it again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (MixedgenError, *_READING_ERRORS) as error:
            print(f"mixedgen: error: {error}", file=sys.stderr)
            return _ERROR_STATUS
    return status or 0


def _parser() -> argparse.ArgumentParser:
    """Grammar of the command line."""
    root = argparse.ArgumentParser(prog="mixedgen", description="Linear mixed models with relationship matrices.")
    root.add_argument("--version", action="version", version=f"mixedgen {__version__}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_fit(commands.add_parser("fit", help="fit a model and print its summary"))
    _add_blup(commands.add_parser("blup", help="predict the random effects, at known or estimated variances"))
    _add_check(commands.add_parser("check", help="compare the ids of data, pedigree and genotypes"))
    add_command(commands, "warmup", "compile the numerical kernels, once for each installation", _run_warmup)
    add_command(commands, "data", "list the shipped data sets", _run_data)
    return root


def _add_fit(fit: argparse.ArgumentParser) -> None:
    """Arguments of `mixedgen fit`."""
    fit.description = "Fit a linear mixed model, by REML unless told otherwise, and print its summary."
    add_model(fit)
    fit.add_argument(
        "--ddf",
        choices=("auto", *DDF_METHODS),
        default="auto",
        help="degrees of freedom (default: Satterthwaite's where they cost little)",
    )
    fit.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the results: " + ", ".join(FRAME_WRITERS))
    fit.set_defaults(run=_run_fit)


def _add_blup(blup: argparse.ArgumentParser) -> None:
    """Arguments of `mixedgen blup`."""
    blup.description = (
        "Predict the random effects at the variances given, or at their REML estimates; print the summary and the "
        "first predictions, and write all of them, the largest value of each term first."
    )
    add_model(blup)
    blup.add_argument(
        "--variances",
        metavar="TERM=VALUE,...",
        type=variances_of,
        help='known variances, such as "animal:A=20,residual=40"; a covariance matrix as [[a,b],[b,c]]',
    )
    blup.add_argument("--select", metavar="IDS", help="predict these only: a file of ids, or ids between commas")
    blup.add_argument("--top", metavar="N", type=positive_number, help="only the N largest values of each term")
    blup.add_argument("--animals", action="store_true", help="of markers (M): the animals' values, not the effects")
    blup.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the table: " + ", ".join(FRAME_WRITERS))
    blup.set_defaults(run=_run_blup)


def _add_check(check: argparse.ArgumentParser) -> None:
    """Arguments of `mixedgen check`."""
    check.description = (
        "Compare the ids of records, pedigree and genotypes, count what the pedigree holds, and judge the genotypes. "
        "Status 1 if records or genotyped animals have no place in the pedigree (or, without a pedigree, records "
        "no genotype)."
    )
    check.add_argument("data", metavar="DATA", help="CSV or Parquet file, or the name of a shipped data set")
    check.add_argument(
        "--id",
        metavar="COLUMN",
        help="column of the ids of the records (default: as in the pedigree, animal, id, or that of most ids)",
    )
    add_sources(check)
    check.set_defaults(run=_run_check)


def _run_fit(options: argparse.Namespace) -> None:
    """Fit the model, print its summary and write its results."""
    if options.output is not None:
        frame_writer(options.output)  # raises before time is spent on the fit
    fit = model_of(options).fit()
    print(fit.summary(ddf=options.ddf))
    if options.output is not None:
        write_results(fit.fitted, options.output, {"name": "mixedgen", "version": __version__})


def _run_blup(options: argparse.Namespace) -> None:
    """Solve or fit the model, print its summary and the first predictions, and write the predictions."""
    write = None if options.output is None else frame_writer(options.output)
    chosen = None if options.select is None else _selected_ids(options.select)
    model = model_of(options)
    fit = model.fit() if options.variances is None else model.solve(options.variances)
    found = predictions(fit.fitted, animals=options.animals, ids=chosen, top=options.top)
    print(f"{str(fit.summary()).rstrip()}\n\n{_first_rows(found)}")
    if write is not None:
        write(found, options.output)


def _run_check(options: argparse.Namespace) -> int:
    """Print how the ids meet, what the pedigree holds and how good the genotypes are."""
    if options.pedigree is None and options.genotypes is None:
        raise ArgumentError("there is nothing to compare the data with: give --pedigree, --genotypes or both.")
    frame = frame_of(options)
    ped = None if options.pedigree is None else read_pedigree(options)
    genotypes = None if options.genotypes is None else read_genotypes(options)
    require_columns(frame, [] if options.id is None else [options.id], "--id")
    labels = [source.ids for source in (ped, genotypes) if source is not None]
    column = options.id or likely_ids(frame, [options.pedigree_columns[0], *ID_COLUMNS], labels)
    report = reconcile_three(
        as_written(frame, column),
        pedigree=None if ped is None else ped.ids,
        genotypes=None if genotypes is None else genotypes.ids,
    )
    print(f"Ids of the records: column {column!r} of {options.data}\n{report}")
    if ped is not None:
        print(pedigree_text(ped))
    if genotypes is not None:
        print(genotypes_text(genotypes))
    return 0 if options.unmatched == "omit" or matches(report) else _UNMATCHED_STATUS


def _selected_ids(text: str) -> list[str]:
    """Ids of a file, one on each line or between commas, or those between the commas of the text itself.

    Raises
    ------
    ArgumentError
        If there is none.
    """
    path = Path(text)
    source = path.read_text(encoding="utf-8") if path.is_file() else text
    ids = [part.strip() for line in source.splitlines() for part in line.split(",")]
    ids = list(dict.fromkeys(id for id in ids if id))
    if not ids:
        raise ArgumentError(f"--select {text!r} names no id.")
    return ids


def _first_rows(found: pd.DataFrame) -> str:
    """The first predictions as text, and how many there are."""
    table = found.head(_ROWS_SHOWN).to_string(index=False, na_rep="", float_format=lambda v: f"{v:.5g}")
    title = f"Predictions, the first {_ROWS_SHOWN} of {len(found)}:" if len(found) > _ROWS_SHOWN else "Predictions:"
    return f"{title}\n{table}"


def _run_warmup(options: argparse.Namespace) -> None:
    """Compile the kernels and say how long it took."""
    start = time.perf_counter()
    sparse.compile_kernels()
    inbreeding.compile_kernels()
    print(f"kernels are compiled and stored: {time.perf_counter() - start:.1f} s")


def _run_data(options: argparse.Namespace) -> None:
    """List the shipped data sets."""
    for name in data.names():
        purpose = (getattr(data, name).__doc__ or "").partition("\n")[0]
        print(f"{name:<15} {len(data.load(name)):>4} rows  {purpose}")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as one line on the standard error."""
    print(f"mixedgen: warning: {' '.join(str(message).split())}", file=sys.stderr)
