"""The shell command `mixedgen`: flags in, the public calls of the package, results out."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import numbers
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from mixedgen import Control, Fit, Pedigree, __version__, additive, data, lmm, pedigree, sparse
from mixedgen.errors import ArgumentError, ConvergenceWarning, DataError, MixedgenError

ERROR_STATUS = 2  # argparse's own status for a wrong command line
READING_ERRORS = (OSError, UnicodeDecodeError, pd.errors.EmptyDataError, pd.errors.ParserError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the name of the program; those of the process by default.

    Returns
    -------
    int
        Exit status: 0, or 2 with a message on the standard error.

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
            options.run(options)
        except BrokenPipeError:  # the reader, such as head, has seen enough; Python must not flush to it again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (MixedgenError, *READING_ERRORS) as error:
            print(f"mixedgen: error: {error}", file=sys.stderr)
            return ERROR_STATUS
    return 0


def parser() -> argparse.ArgumentParser:
    """Grammar of the command line."""
    root = argparse.ArgumentParser(prog="mixedgen", description="Linear mixed models with relationship matrices.")
    root.add_argument("--version", action="version", version=f"mixedgen {__version__}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_fit(commands.add_parser("fit", help="fit a model and print its summary"))
    add_command(commands, "warmup", "compile the numerical kernels, once for each installation", run_warmup)
    add_command(commands, "data", "list the shipped data sets", run_data)
    return root


def add_command(commands: Any, name: str, purpose: str, run: Callable[[argparse.Namespace], None]) -> None:
    """Add a command without arguments."""
    commands.add_parser(name, help=purpose, description=purpose).set_defaults(run=run)


def add_fit(fit: argparse.ArgumentParser) -> None:
    """Arguments of `mixedgen fit`."""
    fit.description = "Fit a linear mixed model, by REML unless told otherwise, and print its summary."
    fit.add_argument("formula", metavar="FORMULA", help='such as "Reaction ~ Days + (Days|Subject)"')
    fit.add_argument("data", metavar="DATA", help="CSV or Parquet file, or the name of a shipped data set")
    fit.add_argument("--pedigree", metavar="FILE", help="pedigree file, to which (1|animal:A) links")
    fit.add_argument(
        "--pedigree-columns",
        metavar="ID,SIRE,DAM",
        type=three_names,
        default=("id", "sire", "dam"),
        help="columns of the pedigree (default: id,sire,dam)",
    )
    fit.add_argument("--ml", action="store_true", help="maximum likelihood instead of REML")
    fit.add_argument("--residual", metavar="TEXT", help='residual structure, such as "diag(site)"')
    fit.add_argument("--weights", metavar="COLUMN", help="column w with Var(e_i) = sigma^2 / w_i")
    fit.add_argument("--subset", metavar="EXPRESSION", help='records to use, such as "Days > 1"')
    fit.add_argument("--optimiser", choices=("ai", "em"), default="ai", help="average information (default) or EM")
    fit.add_argument("--engine", metavar="NAME", default="auto", help="how the equations are solved (default: auto)")
    fit.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the results: .csv, .json or .parquet")
    line = fit.add_mutually_exclusive_group()
    line.add_argument("--progress", action="store_true", default=None, help="show a progress line, terminal or not")
    line.add_argument("--quiet", dest="progress", action="store_false", help="show no progress line")
    fit.set_defaults(run=run_fit)


def three_names(text: str) -> tuple[str, str, str]:
    """Split "id,sire,dam" into three column names."""
    names = [name.strip() for name in text.split(",")]
    if len(names) != 3 or not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form ID,SIRE,DAM")
    return names[0], names[1], names[2]


def run_fit(options: argparse.Namespace) -> None:
    """Fit the model, print its summary and write its results."""
    write = None if options.output is None else writer(options.output)
    relationships = None
    if options.pedigree is not None:
        require_parquet_support(Path(options.pedigree))
        id_column, sire, dam = options.pedigree_columns
        relationships = {"A": additive(Pedigree.read(options.pedigree, id=id_column, sire=sire, dam=dam))}
    progress = sys.stderr.isatty() if options.progress is None else options.progress
    fit = lmm(
        options.formula,
        table_or_path(options.data),
        relationships=relationships,
        residual=options.residual,
        weights=options.weights,
        subset=options.subset,
        method="ml" if options.ml else "reml",
        control=Control(optimiser=options.optimiser, engine=options.engine, progress=progress),
    )
    print(fit.summary())
    if write is not None:
        write(fit, options.output)


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


def table_or_path(source: str) -> pd.DataFrame | Path:
    """Path of a file that exists, or else the shipped data set of that name.

    Raises
    ------
    DataError
        If it is neither.
    """
    path = Path(source)
    if path.is_file():
        require_parquet_support(path)
        return path
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


if __name__ == "__main__":
    sys.exit(main())
