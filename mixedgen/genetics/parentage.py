"""Who is whose parent: the columns of a pedigree read, checked, reported on at once, and ordered parents first."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import scipy.linalg as la
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from mixedgen.arrays import Array, Positions
from mixedgen.definite import asymmetry, definite_factor
from mixedgen.errors import ArgumentError, PedigreeError, RelationshipError, examples
from mixedgen.genetics.ids import caseless, id_text, unlike_id
from mixedgen.genetics.inbreeding import generations
from mixedgen.genetics.kernels import UNKNOWN
from mixedgen.genetics.problems import _Problems
from mixedgen.genetics.written import with_written

_WHOLE = re.compile(r"-?[1-9]\d*|0")  # as an integer is written, so not 007
_LARGEST_EXACT = 2.0**53  # whole numbers up to here are exact as floats
_SYMMETRY = 1e-8  # asymmetry of Gamma allowed, relative to its largest entry


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a pedigree, and what they hold.

    Attributes
    ----------
    id, sire, dam : str
        Identities; `dam` names the maternal grandsire where `mgs` is true.
    dates, selfing, clones : str or None
        Date of birth, number of generations of selfing, genotype shared with others.
    mgs : bool
        Whether the second parent is the maternal grandsire.
    unknown : tuple
        Names that stand for unknown parents; empty where unknown parents have no names.
    missing : frozenset of str
        Codes of unknown parents, beside 0 and blanks.
    monoecious : bool
        Whether an individual may be both sire and dam.
    """

    id: str
    sire: str
    dam: str
    dates: str | None = None
    selfing: str | None = None
    clones: str | None = None
    mgs: bool = False
    unknown: tuple[Any, ...] = ()
    missing: frozenset[str] = frozenset()
    monoecious: bool = False


@dataclass(frozen=True)
class Parentage:
    """Checked animals, parents first.

    Attributes
    ----------
    labels : Index, shape (n,)
        Identities.
    sire, dam : ndarray of int, shape (n,)
        Positions in `labels`; -1 for an unknown parent, -2 - k for the k-th name of unknown parents.
    left : ndarray, shape (n,)
        Share of the heterozygosity left after selfing, (1/2)^generations.
    clones : Series or None
        Genotype of every individual, by identity.
    added, duplicates : int
        Parents without a row; rows dropped as repetitions.
    """

    labels: pd.Index[Any]
    sire: Positions
    dam: Positions
    left: Array
    clones: pd.Series[Any] | None
    added: int
    duplicates: int


def read_parentage(frame: Any, columns: Columns) -> Parentage:
    """Check and order the rows of a pedigree.

    Parameters
    ----------
    frame : DataFrame
        One row per animal, in any order; pandas, polars or anything narwhals reads.
    columns : Columns
        What to read.

    Returns
    -------
    Parentage
        Parents before their progeny; the order of the rows is kept where it already is such an order.

    Raises
    ------
    PedigreeError
        With everything that is wrong at once; the ids are attributes of the error.
    ArgumentError
        If `frame` is not a data frame.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": [2, 1], "sire": [1, 0], "dam": [0, 0]})
    >>> read_parentage(frame, Columns("id", "sire", "dam")).labels.tolist()
    [1, 2]
    """
    problems = _Problems()
    table = _table(frame, columns)
    given, clones = _clones(_with_ids(_number(table, columns, problems), problems), problems)
    distinct = _distinct(given, problems)
    animals, added = _one_row_each(_checked_parents(distinct, columns, problems))
    _check_parents_without_row(animals, added, columns, problems)
    order = _parents_first(animals.sire, animals.dam)
    problems.loops = _loops(animals, order)
    left = _heterozygosity_left(table, columns, animals, problems)
    _check_dates(table, columns, animals, problems)
    problems.report()
    ordered = _reorder(animals, order)
    return Parentage(
        ordered.labels, ordered.sire, ordered.dam, left[order], clones, added, len(given.id) - len(distinct.id)
    )


def group_names(groups: Iterable[str]) -> tuple[str, ...]:
    """Names of groups, all different."""
    names = (groups,) if isinstance(groups, str) else tuple(groups)
    again = sorted({name for name in names if names.count(name) > 1}, key=str)
    if again:
        raise ArgumentError(f"{len(again)} groups are named more than once: {examples(again)}. Name each once.")
    return names


def missing_codes(unknown: Any) -> frozenset[str]:
    """Codes of unknown parents as text; one code, or several."""
    codes = [unknown] if isinstance(unknown, (str, bytes)) or not isinstance(unknown, Iterable) else list(unknown)
    return frozenset(id_text(code) for code in codes)


def checked_metafounders(Gamma: Any) -> tuple[tuple[Any, ...], Array]:
    """Names and relationship of the metafounders; none where it is None."""
    if Gamma is None:
        return (), np.zeros((0, 0))
    if not isinstance(Gamma, pd.DataFrame) or list(Gamma.index) != list(Gamma.columns) or not Gamma.index.is_unique:
        raise ArgumentError(
            "metafounders= is a data frame Gamma with the names of the metafounders as index and as columns, "
            "in one order and each once."
        )
    values, names = Gamma.to_numpy(dtype=np.float64), tuple(Gamma.index)
    if not np.all(np.isfinite(values)) or asymmetry(values)[0] > _SYMMETRY:
        raise RelationshipError("Gamma has entries that are missing, infinite or not symmetric. Correct them.")
    values = 0.5 * (values + values.T)
    used = np.any(values != 0, axis=1)
    varying = values[np.ix_(used, used)]
    if used.any() and (definite_factor(varying) is None or np.diag(values).max() > 2.0):
        smallest = float(la.eigvalsh(varying).min())
        raise RelationshipError(
            f"Gamma must be positive definite with a diagonal of at most 2; its smallest eigenvalue is {smallest:.3g}, "
            f"its largest diagonal {np.diag(values).max():.3g}. A metafounder of no variance has a row of zeros.",
            smallest_eigenvalue=smallest,
        )
    return names, values


def with_metafounders(animals: Parentage, names: tuple[Any, ...], Gamma: Array) -> tuple[Parentage, Array]:
    """Animals after the metafounders that vary, and Gamma between these."""
    varying = np.flatnonzero(np.any(Gamma != 0, axis=1))
    g = len(varying)
    if g == 0:
        return animals, np.zeros((0, 0))
    place = np.full(len(names) + 1, UNKNOWN)  # of the k-th name, found at -2 - k
    place[::-1][1:][varying] = np.arange(g)
    own, none = [names[k] for k in varying], np.full(g, UNKNOWN)
    sire, dam = (
        np.where(parent >= 0, parent + g, place[np.minimum(parent, UNKNOWN)]) for parent in (animals.sire, animals.dam)
    )
    labels = pd.Index([*own, *animals.labels.tolist()])
    Gamma = Gamma[np.ix_(varying, varying)]
    left = np.concatenate([2.0 - np.diag(Gamma), animals.left])
    sire, dam = np.concatenate([none, sire]), np.concatenate([none, dam])
    return replace(animals, labels=labels, sire=sire, dam=dam, left=left), Gamma


@dataclass(frozen=True)
class _Rows:
    """Positions in `labels` of every row's id, sire and dam; -1 where missing or unknown, -2 - k where named so."""

    labels: pd.Index[Any]
    id: Positions
    sire: Positions
    dam: Positions
    row: Positions  # row of the frame, -1 for animals added
    clone: Positions | None = None

    def take(self, keep: NDArray[Any]) -> _Rows:
        """Rows chosen by position or mask."""
        clone = None if self.clone is None else self.clone[keep]
        return _Rows(self.labels, self.id[keep], self.sire[keep], self.dam[keep], self.row[keep], clone)


def _table(frame: Any, columns: Columns) -> nw.DataFrame[Any]:
    """Any data frame, if it has the columns."""
    names = [columns.id, columns.sire, columns.dam]
    names += [name for name in (columns.dates, columns.selfing, columns.clones) if name is not None]
    if isinstance(frame, pd.DataFrame):
        frame = with_written(frame, [columns.id, columns.sire, columns.dam, columns.clones])
    try:
        table = nw.from_native(frame, eager_only=True)
    except TypeError as error:
        raise ArgumentError(f"a pedigree is a data frame with columns {names}, not {type(frame).__name__}.") from error
    missing = [name for name in names if name not in table.columns]
    if missing:
        second = "mgs=" if columns.mgs else "dam="
        raise PedigreeError(
            f"the pedigree has no column {examples(missing)}; it has {examples(table.columns)}. "
            f"Name the columns with id=, sire= and {second}.",
            columns=missing,
        )
    if len(set(names)) < len(names):
        raise PedigreeError(f"one column cannot serve twice: {examples(names)}. Name different columns.", columns=names)
    return table


def _whole_numbers(column: nw.Series[Any]) -> NDArray[Any]:
    """Values of a column as int64, missing as 0, or unchanged as objects where that is not possible.

    Raises
    ------
    PedigreeError
        If floats are too large to be told from their neighbours.
    """
    if column.dtype.is_integer() and column.dtype != nw.UInt64:
        return column.fill_null(0).to_numpy().astype(np.int64)
    values = column.to_numpy()
    if values.dtype.kind == "i":
        return values.astype(np.int64)
    if values.dtype.kind == "f":
        whole = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)
        large = np.isfinite(whole) & (np.abs(whole) >= _LARGEST_EXACT)
        if large.any():
            raise PedigreeError(
                f"column {column.name!r} holds {int(large.sum())} numbers beyond 2^53 as floats, which have lost their "
                f"last digits: {examples(np.unique(values[large]).tolist())}. Read them as text or as integers.",
                columns=[column.name],
            )
        if np.array_equal(whole, np.floor(whole)) and np.all(np.isfinite(whole)):
            return whole.astype(np.int64)
    return values.astype(object)


def _number(table: nw.DataFrame[Any], columns: Columns, problems: _Problems) -> _Rows:
    """Labels in order of appearance, ids before the parents that have no row, and the rows in terms of them."""
    names = [columns.id, columns.sire, columns.dam, *([columns.clones] if columns.clones else [])]
    values = [_whole_numbers(table[name]) for name in names]
    if all(column.dtype == np.int64 for column in values):
        everything = np.concatenate(values)
        known = everything != 0
    else:
        as_text = any(isinstance(value, str) for value in pd.unique(pd.Series(values[0])))
        everything = np.concatenate([_alike(column, as_text) for column in values])
        known = ~pd.isna(everything)
    if columns.missing:
        known &= ~pd.Series(everything).map(id_text).isin(columns.missing).to_numpy()
    codes = np.full(len(everything), UNKNOWN)
    codes[known], found = pd.factorize(everything[known])
    labels = pd.Index(found.tolist() if found.dtype == object else found)
    codes, labels = _named_unknown(codes, labels, columns, len(table), problems)
    id, sire, dam, *clone = np.split(codes, len(names))
    return _Rows(labels, id, sire, dam, np.arange(len(table)), clone[0] if clone else None)


def _named_unknown(
    codes: Positions, labels: pd.Index[Any], columns: Columns, n: int, problems: _Problems
) -> tuple[Positions, pd.Index[Any]]:
    """Codes with the k-th name of unknown parents as -2 - k, and the labels without those names."""
    if not columns.unknown:
        return codes, labels
    names = pd.Index([str(name) for name in columns.unknown])
    named = names.get_indexer(labels.astype(str))
    is_id = np.zeros(len(labels), dtype=bool)
    is_id[codes[:n][codes[:n] >= 0]] = True
    problems.unknown_with_row = labels[is_id & (named >= 0)].tolist()
    new = np.append(np.where(named >= 0, -2 - named, np.cumsum(named < 0) - 1), UNKNOWN)  # the last serves code -1
    return new[codes], labels[named < 0]


def _alike(column: NDArray[Any], as_text: bool) -> NDArray[Any]:
    """Identities written one way (12, 12.0 and "12" are one), None where unknown."""
    codes, found = pd.factorize(pd.Series(column, dtype=object))
    written = np.empty(len(found) + 1, dtype=object)  # the last entry, None, serves missing values, code -1
    written[:-1] = [_identity(value, as_text) for value in found]
    return np.asarray(written[codes])


def _identity(value: Any, as_text: bool) -> Hashable:
    """One identity as text, or as an integer where it is one; None if unknown."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    if isinstance(value, str) and not as_text and _WHOLE.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, str) and value in ("", "0"):
        return None
    if not isinstance(value, str) and value == 0:
        return None
    return str(value) if as_text else value


def _with_ids(rows: _Rows, problems: _Problems) -> _Rows:
    """Rows that have an id."""
    problems.rows_without_id = np.flatnonzero(rows.id == UNKNOWN).tolist()
    return rows.take(rows.id >= 0)


def _clones(rows: _Rows, problems: _Problems) -> tuple[_Rows, pd.Series[Any] | None]:
    """Rows in terms of genotypes, and the genotype of every individual."""
    if rows.clone is None:
        return rows, None
    given = pd.DataFrame({"id": rows.id, "clone": rows.clone}).query("clone >= 0").drop_duplicates()
    problems.two_genotypes = rows.labels[np.unique(given["id"][given["id"].duplicated()])].tolist()
    least = min(-1, int(rows.sire.min(initial=-1)), int(rows.dam.min(initial=-1)))
    genotype = np.concatenate([np.arange(len(rows.labels)), np.arange(least, 0)])  # negative codes stay themselves
    genotype[given["id"].to_numpy()] = given["clone"].to_numpy()
    whose = pd.Series(rows.labels[genotype[rows.id]], index=rows.labels[rows.id], name="genotype")
    id, sire, dam = genotype[rows.id], genotype[rows.sire], genotype[rows.dam]
    used = np.asarray(pd.unique(np.concatenate([id, sire[sire >= 0], dam[dam >= 0]])))  # in order of appearance
    rank = np.concatenate([np.zeros(len(rows.labels), dtype=np.int64), np.arange(least, 0)])
    rank[used] = np.arange(len(used))
    return _Rows(rows.labels[used], rank[id], rank[sire], rank[dam], rows.row), whose[~whose.index.duplicated()]


def _distinct(rows: _Rows, problems: _Problems) -> _Rows:
    """One row per id; exact repetitions are dropped, contradictions noted."""
    if np.all(np.bincount(rows.id) <= 1):
        return rows
    table = pd.DataFrame({"id": rows.id, "sire": rows.sire, "dam": rows.dam}).drop_duplicates()
    again = table["id"].duplicated().to_numpy()
    problems.conflicting = rows.labels[np.unique(table["id"].to_numpy()[again])].tolist()
    return rows.take(table.index.to_numpy())


def _checked_parents(rows: _Rows, columns: Columns, problems: _Problems) -> _Rows:
    """Rows with own parents noted and blanked; ids in both roles and unknown parents without a name noted."""
    own_sire, own_dam = rows.sire == rows.id, rows.dam == rows.id
    problems.own_parents = rows.labels[np.unique(rows.id[own_sire | own_dam])].tolist()
    if columns.unknown:
        problems.unnamed = rows.labels[rows.id[(rows.sire == UNKNOWN) | (rows.dam == UNKNOWN)]].tolist()
    sire, dam = np.where(own_sire, UNKNOWN, rows.sire), np.where(own_dam, UNKNOWN, rows.dam)
    if not (columns.monoecious or columns.mgs):
        is_sire, is_dam = (np.zeros(len(rows.labels), dtype=bool) for _ in range(2))
        is_sire[sire[sire >= 0]], is_dam[dam[dam >= 0]] = True, True
        problems.sires_too = rows.labels[np.flatnonzero(is_sire & is_dam)].tolist()
    return _Rows(rows.labels, rows.id, sire, dam, rows.row)


def _one_row_each(rows: _Rows) -> tuple[_Rows, int]:
    """Rows in the order of the labels: first the parents without a row, as founders, and how many they are."""
    n = len(rows.labels)
    sire, dam, row = np.full(n, UNKNOWN), np.full(n, UNKNOWN), np.full(n, -1)
    sire[rows.id], dam[rows.id], row[rows.id] = rows.sire, rows.dam, rows.row
    founders_first = np.argsort(row >= 0, kind="stable")
    return _reorder(_Rows(rows.labels, np.arange(n), sire, dam, row), founders_first), int(np.sum(row < 0))


def _check_parents_without_row(animals: _Rows, added: int, columns: Columns, problems: _Problems) -> None:
    """Note parents without a row that belong to no group, or that are written almost like an animal with a row."""
    if added == 0:
        return
    if columns.unknown:
        problems.unnamed = problems.unnamed + animals.labels[:added].tolist()
    offspring = _offspring(animals)
    codes = [k for k in range(added) if offspring[k] > 1 and unlike_id(animals.labels[k])]
    problems.unknown_codes = [(animals.labels[k], int(offspring[k])) for k in codes]
    problems.sires_too = [label for label in problems.sires_too if not unlike_id(label)]
    if isinstance(animals.labels[0], str) or animals.labels.dtype == object:
        with_row = {caseless(label) for label in animals.labels[added:]}
        problems.misspelt = [label for label in animals.labels[:added] if caseless(label) in with_row]


def _offspring(animals: _Rows) -> Positions:
    """Number of rows that name each animal as a parent."""
    parents = np.concatenate([animals.sire, np.where(animals.dam == animals.sire, UNKNOWN, animals.dam)])
    return np.bincount(parents[parents >= 0], minlength=len(animals.labels))


def _heterozygosity_left(table: nw.DataFrame[Any], columns: Columns, animals: _Rows, problems: _Problems) -> Array:
    """Share (1/2)^generations of heterozygosity left after selfing, shape (n,)."""
    left = np.ones(len(animals.labels))
    if columns.selfing is None:
        return left
    times = pd.to_numeric(pd.Series(table[columns.selfing].to_numpy()), errors="coerce").to_numpy(dtype=np.float64)
    blank = pd.isna(pd.Series(table[columns.selfing].to_numpy(), dtype=object)).to_numpy()
    times = np.where(blank, 0.0, times)[animals.row]
    times[animals.row < 0] = 0.0
    wrong = np.isnan(times) | (times < 0) | ((times != np.floor(times)) & np.isfinite(times))
    problems.wrong_selfing = animals.labels[wrong].tolist()
    left[:] = np.exp2(-np.where(wrong, 0.0, times))
    return left


def _check_dates(table: nw.DataFrame[Any], columns: Columns, animals: _Rows, problems: _Problems) -> None:
    """Note animals that are not younger than a parent, and dates that cannot be read."""
    if columns.dates is None:
        return
    days = _days(pd.Series(table[columns.dates].to_numpy()), problems)
    born = np.append(np.where(animals.row >= 0, days[animals.row], np.nan), np.nan)  # the last serves position -1
    unknown = len(animals.labels)
    own = born[:-1]
    late = np.zeros(unknown, dtype=bool)
    for parent in (animals.sire, animals.dam):
        late |= own <= born[np.where(parent >= 0, parent, unknown)]
    problems.not_younger = animals.labels[late].tolist()


def _days(column: pd.Series[Any], problems: _Problems) -> Array:
    """Dates as numbers, NaN where missing; those that cannot be read are noted."""
    given = column.notna().to_numpy()
    if pd.api.types.is_numeric_dtype(column):
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    if pd.api.types.is_datetime64_any_dtype(column):
        dates = column
    else:
        text = column.astype("string").str.strip()
        numbers = pd.to_numeric(text, errors="coerce")
        if bool(numbers.notna()[given].all()):
            return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)
        dates = pd.to_datetime(text, errors="coerce", format="ISO8601")
    unread = given & dates.isna().to_numpy()
    problems.unreadable_dates = column[unread].unique().tolist()
    days = (dates - pd.Timestamp(0, tz=dates.dt.tz)) / pd.Timedelta(days=1)
    return np.asarray(days.to_numpy(), dtype=np.float64)


def _reorder(animals: _Rows, order: Positions) -> _Rows:
    """Animals in another order, parents renumbered accordingly."""
    unknown = min(-1, int(animals.sire.min(initial=-1)), int(animals.dam.min(initial=-1)))
    rank = np.concatenate([np.full(len(animals.labels), UNKNOWN), np.arange(unknown, 0)])  # negative codes stay
    rank[order] = np.arange(len(order))
    sire, dam = rank[animals.sire[order]], rank[animals.dam[order]]
    return _Rows(animals.labels[order], np.arange(len(order)), sire, dam, animals.row[order])


def _parents_first(sire: Positions, dam: Positions) -> Positions:
    """Order with parents before progeny: the given one if it will do, else by generation; loops are left out."""
    own = np.arange(len(sire))
    if np.all(np.maximum(sire, dam) < own):
        return own
    return np.concatenate([own[:0], *generations(sire, dam)])


def _loops(animals: _Rows, order: Positions) -> list[list[Any]]:
    """One loop, as ids with the first repeated at the end, for each set of animals that are mutual ancestors."""
    n = len(animals.labels)
    if len(order) == n:
        return []
    left = np.setdiff1d(np.arange(n), order)
    edges = [(i, p) for i in left.tolist() for p in (animals.sire[i], animals.dam[i]) if p >= 0]
    child, parent = np.array(edges).T
    graph = sp.csr_array((np.ones(len(child)), (child, parent)), shape=(n, n))
    _, group = connected_components(graph, connection="strong")
    tangled = np.flatnonzero(np.bincount(group) > 1)
    return [_loop(animals, group, int(np.flatnonzero(group == g)[0])) for g in tangled]


def _loop(animals: _Rows, group: NDArray[Any], start: int) -> list[Any]:
    """Walk from one animal to parents in its group until one comes again; older first."""
    path = [start]
    while len(set(path)) == len(path):
        parents = (int(animals.sire[path[-1]]), int(animals.dam[path[-1]]))
        path.append(next(p for p in parents if p >= 0 and group[p] == group[start]))
    loop = path[path.index(path[-1]) :]
    return [animals.labels[i] for i in reversed(loop)]
