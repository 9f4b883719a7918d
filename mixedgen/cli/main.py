"""The shell command `mixedgen`: flags in, the public calls of the package, results out."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import numbers
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import pandas as pd

from mixedgen import (
    Control,
    Fit,
    Genotypes,
    MixedModel,
    Pedigree,
    Relationship,
    __version__,
    additive,
    data,
    dominance,
    genomic,
    markers,
    single_step,
    sparse,
)
from mixedgen.design.frame import read_frame, require_columns
from mixedgen.design.terms import source_columns
from mixedgen.errors import (
    ArgumentError,
    ConvergenceWarning,
    DataError,
    MixedgenError,
    NotAvailableError,
    RelationshipError,
    examples,
)
from mixedgen.formula.parse import parse
from mixedgen.genetics import pedigree
from mixedgen.genetics.ids import ThreeWayReport, reconcile_three
from mixedgen.genetics.inbreeding import generations

UNMATCHED_STATUS = 1
ERROR_STATUS = 2  # argparse's own status for a wrong command line
ROWS_SHOWN = 10  # of the predictions, under the summary
# The limits by which `check` judges genotypes; they are printed with the counts.
LEAST_CALL_RATE, LEAST_FREQUENCY, LEAST_HARDY_WEINBERG = 0.9, 0.01, 1e-6
ID_COLUMNS = ("animal", "id")  # where `check` looks for ids, after the name in the pedigree and before all columns
READING_ERRORS = (OSError, UnicodeDecodeError, pd.errors.EmptyDataError, pd.errors.ParserError)


class Binding(NamedTuple):
    """A relationship that a name right of the bar stands for, and the options whose files it is made of."""

    options: tuple[str, ...]
    build: Callable[..., Relationship]


BINDINGS = {
    "A": Binding(("pedigree",), additive),
    "D": Binding(("pedigree",), dominance),
    "G": Binding(("genotypes",), genomic),
    "H": Binding(("pedigree", "genotypes"), single_step),
    "M": Binding(("genotypes",), markers),
}


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
    options = parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("always", ConvergenceWarning)
        warnings.showwarning = show_warning
        try:
            status: int | None = options.run(options)
        except BrokenPipeError:  # the reader, such as head, has seen enough; Python must not flush to it again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (MixedgenError, *READING_ERRORS) as error:
            print(f"mixedgen: error: {error}", file=sys.stderr)
            return ERROR_STATUS
    return status or 0


def parser() -> argparse.ArgumentParser:
    """Grammar of the command line."""
    root = argparse.ArgumentParser(prog="mixedgen", description="Linear mixed models with relationship matrices.")
    root.add_argument("--version", action="version", version=f"mixedgen {__version__}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_fit(commands.add_parser("fit", help="fit a model and print its summary"))
    add_blup(commands.add_parser("blup", help="predict the random effects, at known or estimated variances"))
    add_check(commands.add_parser("check", help="compare the ids of data, pedigree and genotypes"))
    add_command(commands, "warmup", "compile the numerical kernels, once for each installation", run_warmup)
    add_command(commands, "data", "list the shipped data sets", run_data)
    return root


def add_command(commands: Any, name: str, purpose: str, run: Callable[[argparse.Namespace], None]) -> None:
    """Add a command without arguments."""
    commands.add_parser(name, help=purpose, description=purpose).set_defaults(run=run)


def add_fit(fit: argparse.ArgumentParser) -> None:
    """Arguments of `mixedgen fit`."""
    fit.description = "Fit a linear mixed model, by REML unless told otherwise, and print its summary."
    add_model(fit)
    fit.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the results: .csv, .json or .parquet")
    fit.set_defaults(run=run_fit)


def add_blup(blup: argparse.ArgumentParser) -> None:
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
    blup.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the table: .csv, .json or .parquet")
    blup.set_defaults(run=run_blup)


def add_check(check: argparse.ArgumentParser) -> None:
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
    check.set_defaults(run=run_check)


def add_model(command: argparse.ArgumentParser) -> None:
    """Arguments that say what the model is and how it is solved."""
    command.add_argument("formula", metavar="FORMULA", help='such as "Reaction ~ Days + (Days|Subject)"')
    command.add_argument("data", metavar="DATA", help="CSV or Parquet file, or the name of a shipped data set")
    add_sources(command)
    command.add_argument("--ml", action="store_true", help="maximum likelihood instead of REML")
    command.add_argument("--residual", metavar="TEXT", help='residual structure, such as "diag(site)"')
    command.add_argument("--weights", metavar="COLUMN", help="column w with Var(e_i) = sigma^2 / w_i")
    command.add_argument("--subset", metavar="EXPRESSION", help='records to use, such as "Days > 1"')
    command.add_argument("--optimiser", choices=("ai", "em"), default="ai", help="average information (default) or EM")
    command.add_argument(
        "--engine", metavar="NAME", default="auto", help="how the equations are solved (default: auto)"
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
        type=three_names,
        default=("id", "sire", "dam"),
        help="columns of the pedigree (default: id,sire,dam)",
    )
    command.add_argument("--groups", metavar="NAMES", type=names_of, help="unknown-parent groups in the pedigree")
    command.add_argument(
        "--genotypes", metavar="FILE", help="genotypes: G and M; CSV or Parquet with the ids first, or PLINK .bed"
    )
    command.add_argument("--coding", choices=("012", "-101"), default="012", help="of the genotypes (default: 012)")
    command.add_argument("--dosages", action="store_true", help="the genotypes are expected numbers of copies")
    command.add_argument(
        "--unmatched",
        choices=("raise", "omit"),
        default="raise",
        help="records whose id is in no relationship: an error (default), or left out and counted",
    )


def names_of(text: str) -> list[str]:
    """Split names between commas."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name between its commas")
    return names


def three_names(text: str) -> tuple[str, str, str]:
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


VARIANCE = re.compile(r"\s*(?P<term>[^=]+?)\s*=\s*(?P<value>\[\[.*?\]\]|[^,=\[\]]+)\s*(?:,|$)")


def variances_of(text: str) -> dict[str, Any]:
    """Variances by term of "animal:A=20,residual=40"; names of terms may hold commas themselves."""
    out: dict[str, Any] = {}
    at = 0
    while at < len(text):
        found = VARIANCE.match(text, at)
        try:
            value = None if found is None else json.loads(found["value"])
        except json.JSONDecodeError:
            value = number(found["value"]) if found is not None else None
        if found is None or value is None or found["term"] in out:
            what = "gives a term twice" if found is not None and found["term"] in out else "cannot be read"
            raise argparse.ArgumentTypeError(f"{text[at:]!r} {what}: write animal:A=20,residual=40")
        out[found["term"]] = value
        at = found.end()
    return out


def number(text: str) -> float | None:
    """Number that JSON does not know, such as .5; None if it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def run_fit(options: argparse.Namespace) -> None:
    """Fit the model, print its summary and write its results."""
    write = None if options.output is None else writer(options.output)
    fit = model_of(options).fit()
    print(fit.summary())
    if write is not None:
        write(fit, options.output)


def run_blup(options: argparse.Namespace) -> None:
    """Solve or fit the model, print its summary and the first predictions, and write the predictions."""
    if options.output is not None:
        writer(options.output)
    chosen = None if options.select is None else selected_ids(options.select)
    model = model_of(options)
    fit = model.fit() if options.variances is None else model.solve(options.variances)
    found = predictions(fit, animals=options.animals, ids=chosen, top=options.top)
    print(f"{str(fit.summary()).rstrip()}\n\n{first_rows(found)}")
    if options.output is not None:
        TABLE_WRITERS[options.output.suffix.lower()](found, options.output)


def run_check(options: argparse.Namespace) -> int:
    """Print how the ids meet, what the pedigree holds and how good the genotypes are."""
    if options.pedigree is None and options.genotypes is None:
        raise ArgumentError("there is nothing to compare the data with: give --pedigree, --genotypes or both.")
    frame = table(options.data)
    ped = None if options.pedigree is None else read_pedigree(options)
    genotypes = None if options.genotypes is None else read_genotypes(options)
    require_columns(frame, [] if options.id is None else [options.id], "--id")
    labels = [source.ids for source in (ped, genotypes) if source is not None]
    column = options.id or likely_ids(frame, [options.pedigree_columns[0], *ID_COLUMNS], labels)
    report = reconcile_three(
        frame[column],
        pedigree=None if ped is None else ped.ids,
        genotypes=None if genotypes is None else genotypes.ids,
    )
    print(f"Ids of the records: column {column!r} of {options.data}\n{report}")
    if ped is not None:
        print(pedigree_text(ped))
    if genotypes is not None:
        print(genotypes_text(genotypes))
    return 0 if options.unmatched == "omit" or matches(report) else UNMATCHED_STATUS


def model_of(options: argparse.Namespace) -> MixedModel:
    """The model of the formula on the data, with the relationships it links to."""
    frame = table(options.data)
    progress = sys.stderr.isatty() if options.progress is None else options.progress
    return MixedModel(
        options.formula,
        frame,
        relationships=bound_relationships(options, [str(c) for c in frame.columns]),
        residual=options.residual,
        weights=options.weights,
        subset=options.subset,
        unmatched=options.unmatched,
        method="ml" if options.ml else "reml",
        control=Control(optimiser=options.optimiser, engine=options.engine, progress=progress),
    )


def bound_relationships(options: argparse.Namespace, columns: Sequence[str]) -> dict[str, Relationship] | None:
    """The relationships among A, D, G, H and M that the formula links to, built from the files given.

    Raises
    ------
    ArgumentError
        If a term links to a relationship whose file is lacking, or files are given and no term links to any.
    FormulaError
        If a name is both a relationship and a column.
    """
    given = [name for name in ("pedigree", "genotypes") if getattr(options, name) is not None]
    used = linked(options.formula, [name for name in BINDINGS if name not in columns])
    for name in used:
        lacking = [f"--{option}" for option in BINDINGS[name].options if option not in given]
        if lacking:
            raise ArgumentError(f"a term links to {name!r}, which is made of {' and '.join(lacking)}: give the file.")
    # only here do the columns count: a name that is one as well is ambiguous where its file is given
    linked(options.formula, [n for n, b in BINDINGS.items() if set(b.options) <= set(given)], columns)
    idle = [o for o in given if not any(o in BINDINGS[name].options for name in used)]
    for option in idle:
        names = examples(name for name, b in BINDINGS.items() if option in b.options)
        message = f"no term uses --{option} {getattr(options, option)}, which gives {names}"
        if not used:
            raise ArgumentError(f"{message}: link to one, as in (1|animal:{names[1]}), or leave the file out.")
        print(f"mixedgen: warning: {message}.", file=sys.stderr)
    readers = {"pedigree": read_pedigree, "genotypes": read_genotypes}
    files = {option: readers[option](options) for option in given if option not in idle}
    return {name: BINDINGS[name].build(*(files[o] for o in BINDINGS[name].options)) for name in used} or None


def linked(formula: str, names: Sequence[str], columns: Collection[str] | None = None) -> list[str]:
    """Those of the names that a term links to."""
    try:
        parse(formula, relationships=names, columns=columns)
    except RelationshipError as error:
        unused = getattr(error, "relationships", ())
        return [name for name in names if name not in unused]
    return list(names)


def read_pedigree(options: argparse.Namespace) -> Pedigree:
    """Pedigree of the options."""
    require_parquet_support(Path(options.pedigree))
    id_name, sire, dam = options.pedigree_columns
    return Pedigree.read(options.pedigree, id=id_name, sire=sire, dam=dam, groups=options.groups)


def read_genotypes(options: argparse.Namespace) -> Genotypes:
    """Genotypes of the options."""
    require_parquet_support(Path(options.genotypes))
    return Genotypes.read(options.genotypes, coding=options.coding, dosages=options.dosages)


def selected_ids(text: str) -> list[str]:
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


def terms_of_animals(fit: Fit) -> list[str]:
    """Terms with a relationship and those of the same columns, such as (1|animal) beside (1|animal:A); else all."""
    design = fit.fitted.design
    factors = [f for t in design.parsed.terms for f in t.factors if f.link is not None]
    columns = {column for f in factors for column in source_columns(f.source)}
    return [t for t in terms(fit) if not factors or t in design.linked or re.sub(r"\.\d+$", "", t) in columns]


def predictions(fit: Fit, *, animals: bool, ids: Sequence[str] | None, top: int | None) -> pd.DataFrame:
    """BLUP of all terms in one table, the largest value of each term and effect first.

    Parameters
    ----------
    fit : Fit
        The model.
    animals : bool
        Of terms of markers the animals' values in place of the effects.
    ids : sequence of str, optional
        Levels wanted, as text; terms that tell no animals apart are then left out.
    top : int, optional
        Rows of each term and effect at most.

    Returns
    -------
    DataFrame
        Columns ``term level effect value se pev reliability accuracy n_records inbreeding``; with unknown-parent groups
        also ``total``, by which their term is sorted.

    Raises
    ------
    ArgumentError
        If an id wanted is no level of these terms.
    NotAvailableError
        If the model has no random term.
    """
    names = terms(fit) if ids is None else terms_of_animals(fit)
    if not names:
        raise NotAvailableError("the model has no random term, and so nothing to predict.")
    blups = [fit.blup(term, animals=animals).assign(term=term) for term in names]
    if ids is not None:
        blups = chosen_levels(blups, ids)
    parts = [part for blup in blups for _, part in blup.groupby("effect", sort=False)]
    best = [ranked(part).head(len(part) if top is None else top).astype(object) for part in parts]
    columns = [name for name in PREDICTIONS if name != "total" or any("total" in part for part in best)]
    whole = pd.concat([part.reindex(columns=columns) for part in best], ignore_index=True)
    return whole.astype({name: kind for name, kind in PREDICTIONS.items() if name in columns})


PREDICTIONS = {
    **dict.fromkeys(("term", "level", "effect"), "string"),
    **dict.fromkeys(("value", "se", "pev", "reliability", "accuracy"), "float64"),
    "n_records": "int64",
    **dict.fromkeys(("inbreeding", "total"), "float64"),
}


def ranked(blup: pd.DataFrame) -> pd.DataFrame:
    """Rows by their value, or total where the term has unknown-parent groups, the largest first."""
    return blup.sort_values("total" if "total" in blup else "value", ascending=False, kind="stable")


def chosen_levels(blups: Sequence[pd.DataFrame], ids: Sequence[str]) -> list[pd.DataFrame]:
    """Rows of the ids wanted, which are levels of one term at least.

    Raises
    ------
    ArgumentError
        If one is not.
    """
    levels = [blup["level"].astype(str).str.strip() for blup in blups]
    known = set().union(*levels)
    absent = [id for id in ids if id not in known]
    if absent:
        raise ArgumentError(
            f"{len(absent)} ids of --select are levels of no term: {examples(absent)}. Correct them; animals of a "
            "term of markers are chosen with --animals."
        )
    return [blup[level.isin(ids)] for blup, level in zip(blups, levels, strict=True)]


def first_rows(found: pd.DataFrame) -> str:
    """The first predictions as text, and how many there are."""
    table = found.head(ROWS_SHOWN).to_string(index=False, na_rep="", float_format=lambda v: f"{v:.5g}")
    title = f"Predictions, the first {ROWS_SHOWN} of {len(found)}:" if len(found) > ROWS_SHOWN else "Predictions:"
    return f"{title}\n{table}"


def write_table_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV."""
    frame.to_csv(path, index=False)


def write_table_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet."""
    frame.to_parquet(path, index=False)


def write_table_json(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as a JSON list of its rows."""
    path.write_text(json.dumps(records(frame), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


TABLE_WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": write_table_csv,
    ".json": write_table_json,
    ".parquet": write_table_parquet,
}


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
    hwe = None if genotypes.dosages else LEAST_HARDY_WEINBERG
    try:
        _, report = genotypes.quality_control(
            call_rate=LEAST_CALL_RATE, animal_call_rate=LEAST_CALL_RATE, maf=LEAST_FREQUENCY, hwe=hwe, duplicates="both"
        )
    except DataError as error:  # nothing passes: the report is in the error
        if not hasattr(error, "report"):
            raise
        report = error.report
    stated = {
        "marker: call rate": f" below {LEAST_CALL_RATE:g}",
        "animal: call rate": f" below {LEAST_CALL_RATE:g}",
        "marker: minor allele frequency": f" below {LEAST_FREQUENCY:g}",
        "marker: Hardy-Weinberg": f" p-value below {LEAST_HARDY_WEINBERG:g}",
    }
    counts: dict[str, int] = report.attrs["counts"]
    width = max(len(str(count)) for count in counts.values())
    lines = [f"{count:>{width}}  {name}{stated.get(name, '')}" for name, count in counts.items()]
    return "\n  ".join([str(genotypes), "Quality control would drop", *lines])


def run_warmup(options: argparse.Namespace) -> None:
    """Compile the kernels and say how long it took."""
    start = time.perf_counter()
    sparse.compile_kernels()
    pedigree.compile_kernels()
    print(f"kernels are compiled and stored: {time.perf_counter() - start:.1f} s")


def run_data(options: argparse.Namespace) -> None:
    """List the shipped data sets."""
    for name in data.names():
        purpose = (getattr(data, name).__doc__ or "").partition("\n")[0]
        print(f"{name:<15} {len(data.load(name)):>4} rows  {purpose}")


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as one line on the standard error."""
    print(f"mixedgen: warning: {' '.join(str(message).split())}", file=sys.stderr)


def table(source: str) -> pd.DataFrame:
    """Frame of the file that exists, or else of the shipped data set of that name.

    Raises
    ------
    DataError
        If it is neither.
    """
    path = Path(source)
    if path.is_file():
        require_parquet_support(path)
        return read_frame(path)
    if source.lower() in data.names():
        return data.load(source)
    names = ", ".join(data.names())
    raise DataError(f"{source!r} is neither a file nor a shipped data set. The data sets are: {names}.", name=source)


def writer(path: Path) -> Callable[[Fit, Path], None]:
    """Choose how to write results by the suffix of the file, before time is spent on the fit.

    Raises
    ------
    ArgumentError
        If the suffix is none of .csv, .json and .parquet, the folder does not exist, or Parquet support is lacking.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise ArgumentError(f"results can be written to {', '.join(WRITERS)} files, not to {str(path)!r}.")
    if not path.parent.is_dir():
        raise ArgumentError(f"there is no folder {str(path.parent)!r} for the results: make it first.")
    require_parquet_support(path)
    return WRITERS[suffix]


def require_parquet_support(path: Path) -> None:
    """Raise an ArgumentError where a Parquet file meets an installation without pyarrow."""
    if path.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ArgumentError(f"{str(path)!r} needs pyarrow: pip install 'mixedgen[io]'.")


def write_csv(fit: Fit, path: Path) -> None:
    """Write the tidy table of results as CSV."""
    tidy(fit).to_csv(path, index=False)


def write_parquet(fit: Fit, path: Path) -> None:
    """Write the tidy table of results as Parquet."""
    tidy(fit).to_parquet(path, index=False)


def write_json(fit: Fit, path: Path) -> None:
    """Write the results as one JSON document."""
    path.write_text(json.dumps(document(fit), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


WRITERS: dict[str, Callable[[Fit, Path], None]] = {
    ".csv": write_csv,
    ".json": write_json,
    ".parquet": write_parquet,
}


def criteria(fit: Fit) -> dict[str, float | int]:
    """Criteria of a fit by name; ``reml_criterion`` or ``deviance``, as the method has it."""
    name = "reml_criterion" if fit.method == "reml" else "deviance"
    return {
        name: float(-2.0 * fit.llf),
        "llf": float(fit.llf),
        "aic": float(fit.aic),
        "bic": float(fit.bic),
        "nobs": int(fit.nobs),
        "npar": int(fit.npar),
    }


def terms(fit: Fit) -> list[str]:
    """Names of the random terms."""
    return list(fit.ranef(cond_var=False))


def tidy(fit: Fit) -> pd.DataFrame:
    """All results in one table: a row for each criterion, fixed effect, variance component and random effect.

    Returns
    -------
    DataFrame
        Columns ``part term level effect value se sdcor bound pev reliability n_records``; what a part does not have
        is missing. `part` is ``criterion``, ``fixed``, ``varcomp`` or ``blup``.
    """
    scalars = pd.DataFrame({"part": "criterion", "term": list(criteria(fit)), "value": list(criteria(fit).values())})
    fixed = pd.DataFrame({"part": "fixed", "effect": list(fit.params.index), "value": fit.params.values})
    fixed["se"] = fit.bse.to_numpy()
    varcomp = fit.varcomp.rename(columns={"grp": "term", "vcov": "value"}).assign(part="varcomp")
    varcomp["effect"] = [pair(a, b) for a, b in zip(varcomp["var1"], varcomp["var2"], strict=True)]
    blups = [fit.blup(term).assign(part="blup", term=term) for term in terms(fit)]
    parts = [scalars, fixed, varcomp, *blups]
    return pd.concat([frame.reindex(columns=list(TIDY)).astype(TIDY) for frame in parts], ignore_index=True)


TIDY = {
    "part": "string",
    "term": "string",
    "level": "string",
    "effect": "string",
    "value": "float64",
    "se": "float64",
    "sdcor": "float64",
    "bound": "string",
    "pev": "float64",
    "reliability": "float64",
    "n_records": "Int64",
}


def pair(first: Any, second: Any) -> str | None:
    """Name of a variance or covariance by its effects: "a", or "a,b"."""
    named = [str(effect) for effect in (first, second) if not pd.isna(effect)]
    return ",".join(named) or None


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame as plain values for JSON."""
    return [{str(k): plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def plain(value: Any) -> Any:
    """Value that JSON knows: numpy's numbers become Python's, missing and infinite ones None, all else text."""
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return None if pd.isna(value) else str(value)


def document(fit: Fit) -> dict[str, Any]:
    """Structured results: formula, method, criteria, coefficients, variances, predictions and certificate."""
    coefficients = pd.DataFrame({"estimate": fit.params, "se": fit.bse, "t": fit.tvalues})
    return {
        "package": {"name": "mixedgen", "version": __version__},
        "formula": fit.formula,
        "method": fit.method,
        "engine": fit.engine,
        "criteria": criteria(fit),
        "coefficients": records(coefficients.rename_axis("name").reset_index()),
        "varcomp": records(fit.varcomp),
        "theta": {str(name): plain(value) for name, value in fit.theta.items()},
        "blups": {term: records(fit.blup(term)) for term in terms(fit)},
        "certificate": None if fit.certificate is None else {k: plain(v) for k, v in asdict(fit.certificate).items()},
    }
