"""Files named in the shell into pedigrees, genotypes, relationships and models."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mixedgen import data
from mixedgen.cli.arguments import layout_of
from mixedgen.design.frame import read_frame
from mixedgen.design.tags import tags
from mixedgen.errors import ArgumentError, DataError, RelationshipError, examples
from mixedgen.estimation.control import Control
from mixedgen.formula.parse import parse
from mixedgen.genetics.files import read_table
from mixedgen.genetics.genotypes import Genotypes
from mixedgen.genetics.pedigree import Pedigree
from mixedgen.model import MixedModel
from mixedgen.relationship.dominance import dominance
from mixedgen.relationship.from_pedigree import additive
from mixedgen.relationship.genomic import genomic, markers
from mixedgen.relationship.relationship import Relationship
from mixedgen.relationship.single_step import single_step


class Binding(NamedTuple):
    """A relationship that a name right of the bar stands for, and the options whose files it is made of."""

    options: tuple[str, ...]
    build: Callable[..., Relationship]


_BINDINGS = {
    "A": Binding(("pedigree",), additive),
    "D": Binding(("pedigree",), dominance),
    "G": Binding(("genotypes",), genomic),
    "H": Binding(("pedigree", "genotypes"), single_step),
    "M": Binding(("genotypes",), markers),
}


def model_of(options: argparse.Namespace) -> MixedModel:
    """The model of the formula on the data, with the relationships it links to."""
    frame = frame_of(options)
    progress = sys.stderr.isatty() if options.progress is None else options.progress
    return MixedModel(
        options.formula,
        frame,
        relationships=_bound_relationships(options, [str(c) for c in frame.columns]),
        residual=options.residual,
        weights=options.weights,
        subset=options.subset,
        unmatched=options.unmatched,
        method="ml" if options.ml else "reml",
        control=Control(optimiser=options.optimiser, engine=options.engine, progress=progress),
    )


def _bound_relationships(options: argparse.Namespace, columns: Sequence[str]) -> dict[str, Relationship] | None:
    """The relationships among A, D, G, H and M that the formula links to, built from the files given.

    Raises
    ------
    ArgumentError
        If a term links to a relationship whose file is lacking, or files are given and no term links to any.
    FormulaError
        If a name is both a relationship and a column.
    """
    given = [name for name in ("pedigree", "genotypes") if getattr(options, name) is not None]
    used = _linked(options.formula, [name for name in _BINDINGS if name not in columns])
    for name in used:
        lacking = [f"--{option}" for option in _BINDINGS[name].options if option not in given]
        if lacking:
            raise ArgumentError(f"a term links to {name!r}, which is made of {' and '.join(lacking)}: give the file.")
    # only here do the columns count: a name that is one as well is ambiguous where its file is given
    _linked(options.formula, [n for n, b in _BINDINGS.items() if set(b.options) <= set(given)], columns)
    idle = [o for o in given if not any(o in _BINDINGS[name].options for name in used)]
    for option in idle:
        names = examples(name for name, b in _BINDINGS.items() if option in b.options)
        message = f"no term uses --{option} {getattr(options, option)}, which gives {names}"
        if not used:
            raise ArgumentError(f"{message}: link to one, as in (1|animal:{names[1]}), or leave the file out.")
        print(f"mixedgen: warning: {message}.", file=sys.stderr)
    readers = {"pedigree": read_pedigree, "genotypes": read_genotypes}
    files = {option: readers[option](options) for option in given if option not in idle}
    return {name: _BINDINGS[name].build(*(files[o] for o in _BINDINGS[name].options)) for name in used} or None


def _linked(formula: str, names: Sequence[str], columns: Collection[str] | None = None) -> list[str]:
    """Those of the names that a term links to."""
    try:
        parse(formula, tags(), relationships=names, columns=columns)
    except RelationshipError as error:
        unused = getattr(error, "relationships", ())
        return [name for name in names if name not in unused]
    return list(names)


def read_pedigree(options: argparse.Namespace) -> Pedigree:
    """Pedigree of the options."""
    id_name, sire, dam = options.pedigree_columns
    return Pedigree.read(
        options.pedigree,
        id=id_name,
        sire=sire,
        dam=dam,
        groups=options.groups,
        unknown=options.unknown,
        **layout_of(options, "pedigree_"),
    )


def read_genotypes(options: argparse.Namespace) -> Genotypes:
    """Genotypes of the options."""
    layout = layout_of(options, "genotypes_")
    return Genotypes.read(options.genotypes, coding=options.coding, dosages=options.dosages, **layout)


def frame_of(options: argparse.Namespace) -> pd.DataFrame:
    """Frame of the file that exists, or else of the shipped data set of that name.

    Raises
    ------
    DataError
        If it is neither.
    """
    source = str(options.data)
    path = Path(source)
    if path.is_file():
        return read_frame(read_table(path, **layout_of(options, "")))
    if source.lower() in data.names():
        return data.load(source)
    names = ", ".join(data.names())
    raise DataError(f"{source!r} is neither a file nor a shipped data set. The data sets are: {names}.", name=source)
