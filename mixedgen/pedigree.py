"""Pedigrees: checked once, ordered parents first, and the numbers that follow from them alone.

Notation: A = T D T' with T = (I - P)^-1, where row i of P holds 1/2 at the parents of i, and D the Mendelian variances.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import SuperLU, splu

from mixedgen.errors import ArgumentError, PedigreeError, RelationshipError, examples

Array = NDArray[np.float64]
Positions = NDArray[np.int64]

UNKNOWN = -1  # position of an unknown parent
_DENSE_PARENTS = 1000  # up to this many parents their dense A (8 MB) is cheaper than loading compiled code
_SAMPLED_MATINGS = 64  # enough to forecast the mean number of ancestors within some 20 per cent
_VISIT_COST = 15.0  # an ancestor taken from the bitset, in steps of a pass along the pedigree; 11 to 24 were measured
_ABREAST = 8  # rows of A followed side by side: one cache line


class Pedigree:
    """Animals with their parents, checked and ordered so that parents come first.

    Parameters
    ----------
    frame : DataFrame
        One row per animal; pandas, polars or anything narwhals reads. Rows may come in any order.
    id, sire, dam : str
        Names of the columns. Parents that are missing, 0, "0" or "" are unknown.
    monoecious : bool, default False
        Whether an individual may be both sire and dam, as in plants; selfing then means sire = dam.

    Attributes
    ----------
    ids : Index, shape (n,)
        Identities, parents before their progeny. The order of the rows is kept where it already is such an order.
    sire, dam : ndarray of int, shape (n,)
        Positions of the parents in `ids`, -1 where unknown.
    added : int
        Parents without a row of their own, taken in as founders.
    duplicates : int
        Repeated rows, dropped.

    Raises
    ------
    PedigreeError
        With everything that is wrong at once: missing columns or ids, loops, animals that are their own parent, ids
        that are sire and dam, ids with different parents. The ids are attributes of the error.
    ArgumentError
        If `frame` is not a data frame.

    Notes
    -----
    Whole numbers held as floats become integers. Where the ids are text, parents become text; where the ids are
    integers, parents written as text are read as integers if they look like it.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": [4, 3, 2], "sire": [1, 1, 0], "dam": [3, 2, 0]})
    >>> ped = Pedigree(frame)
    >>> ped.n, ped.added
    (4, 1)
    >>> float(ped.inbreeding[4])
    0.25
    """

    def __init__(
        self, frame: Any, *, id: str = "id", sire: str = "sire", dam: str = "dam", monoecious: bool = False
    ) -> None:
        problems = _Problems()
        rows = _with_ids(_number(_columns(frame, [id, sire, dam])), problems)
        distinct = _distinct(rows, problems)
        animals, added = _one_row_each(_checked_parents(distinct, monoecious, problems))
        order = _parents_first(animals.sire, animals.dam)
        problems.loops = _loops(animals, order)
        problems.report()
        ordered = _reorder(animals, order)
        self.ids: pd.Index[Any] = ordered.labels.rename(id)
        self.sire: Positions = ordered.sire
        self.dam: Positions = ordered.dam
        self.sire.setflags(write=False)
        self.dam.setflags(write=False)
        self.added: int = added
        self.duplicates: int = len(rows.id) - len(distinct.id)

    @classmethod
    def read(
        cls, path: str | Path, *, id: str = "id", sire: str = "sire", dam: str = "dam", monoecious: bool = False
    ) -> Pedigree:
        """Read a pedigree from a CSV (also compressed) or Parquet file.

        Parameters
        ----------
        path : str or Path
            File with a header; `.parquet` and `.pq` are read as Parquet, all else as CSV.
        id, sire, dam : str
            Names of the columns.
        monoecious : bool, default False
            Whether an individual may be both sire and dam.

        Returns
        -------
        Pedigree
            Checked and ordered.

        Raises
        ------
        PedigreeError
            As for `Pedigree`.

        Examples
        --------
        >>> Pedigree.read("ped.csv", id="animal")  # doctest: +SKIP
        """
        parquet = Path(path).suffix.lower() in {".parquet", ".pq"}
        frame = pd.read_parquet(path) if parquet else pd.read_csv(path, low_memory=False)
        return cls(frame, id=id, sire=sire, dam=dam, monoecious=monoecious)

    @property
    def n(self) -> int:
        """Number of animals."""
        return len(self.ids)

    @cached_property
    def inbreeding(self) -> pd.Series[float]:
        """Coefficients of inbreeding F, indexed by `ids`."""
        F = 0.5 * _between_parents(self.sire, self.dam, inbreeding=True)
        return pd.Series(F, index=self.ids, name="inbreeding")

    def __repr__(self) -> str:
        """One line: animals, founders, parents added."""
        founders = int(np.sum((self.sire == UNKNOWN) & (self.dam == UNKNOWN)))
        return f"Pedigree: {self.n} animals, {founders} founders, {self.added} parents added"


def inverse_relationship(ped: Pedigree, inbreeding: bool = True) -> sp.csc_array:
    """Inverse of the additive relationship matrix, from the pedigree alone.

    Parameters
    ----------
    ped : Pedigree
        Of n animals.
    inbreeding : bool, default True
        Whether the Mendelian variances allow for the inbreeding of the parents.

    Returns
    -------
    csc_array, shape (n, n)
        A^-1 in the order of `ped.ids`.

    Raises
    ------
    RelationshipError
        If A is singular: both parents of an animal are completely inbred.

    Notes
    -----
    A^-1 = (I - P)' D^-1 (I - P) [1]_ [2]_.

    References
    ----------
    .. [1] Henderson (1976) Biometrics 32:69-83.
    .. [2] Quaas (1976) Biometrics 32:949-953.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": [1, 2, 3], "sire": [0, 0, 1], "dam": [0, 0, 2]})
    >>> inverse_relationship(Pedigree(frame)).toarray()
    array([[ 1.5,  0.5, -1. ],
           [ 0.5,  1.5, -1. ],
           [-1. , -1. ,  2. ]])
    """
    D = _positive(ped, mendelian_variances(ped, inbreeding))
    T_inverse = _minus_parents(ped.sire, ped.dam, 0.5)
    weighted = T_inverse.copy()
    weighted.data /= np.repeat(D, np.diff(weighted.indptr))
    inverse = (T_inverse.T.tocsr() @ weighted).T  # symmetric, so the transpose only renames rows to columns
    inverse.sort_indices()
    return sp.csc_array(inverse)


def log_determinant(ped: Pedigree, inbreeding: bool = True) -> float:
    """Logarithm of the determinant of A, the sum of the logarithms of the Mendelian variances.

    Parameters
    ----------
    ped : Pedigree
        Of n animals.
    inbreeding : bool, default True
        Whether the Mendelian variances allow for the inbreeding of the parents.

    Returns
    -------
    float
        log|A|.

    Raises
    ------
    RelationshipError
        If A is singular.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": [1, 2, 3], "sire": [0, 0, 1], "dam": [0, 0, 2]})
    >>> round(log_determinant(Pedigree(frame)), 6)
    -0.693147
    """
    return float(np.log(_positive(ped, mendelian_variances(ped, inbreeding))).sum())


def mendelian_variances(ped: Pedigree, inbreeding: bool = True) -> Array:
    """Variance of each animal given its parents, in units of the additive variance.

    Parameters
    ----------
    ped : Pedigree
        Of n animals.
    inbreeding : bool, default True
        Whether to allow for the inbreeding of the parents.

    Returns
    -------
    ndarray, shape (n,)
        D: 1 for founders, 3/4 - F_p/4 with one known parent, 1/2 - (F_s + F_d)/4 with two.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": [1, 2, 3], "sire": [0, 1, 1], "dam": [0, 0, 2]})
    >>> mendelian_variances(Pedigree(frame)).tolist()
    [1.0, 0.75, 0.5]
    """
    F = ped.inbreeding.to_numpy() if inbreeding else np.zeros(ped.n)
    return _mendelian(ped.sire, ped.dam, np.asarray(F, dtype=np.float64))


def diagonal(ped: Pedigree, inbreeding: bool = True) -> Array:
    """Diagonal of A = T D T' without forming it.

    Parameters
    ----------
    ped : Pedigree
        Of n animals.
    inbreeding : bool, default True
        Whether D allows for the inbreeding of the parents.

    Returns
    -------
    ndarray, shape (n,)
        1 + F with inbreeding; else what the simpler D imply.

    Notes
    -----
    a_ii = D_ii + (a_ss + a_dd + 2 a_sd) / 4, a triangular system in the diagonal given the a_sd.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": [1, 2, 3], "sire": [0, 1, 1], "dam": [0, 0, 2]})
    >>> diagonal(Pedigree(frame)).tolist()
    [1.0, 1.0, 1.25]
    """
    if inbreeding:
        return np.asarray(1.0 + ped.inbreeding.to_numpy(dtype=np.float64))
    between = _between_parents(ped.sire, ped.dam, inbreeding=False)
    quarters = _minus_parents(ped.sire, ped.dam, 0.25)
    return np.asarray(_triangular(quarters).solve(mendelian_variances(ped, inbreeding=False) + 0.5 * between))


def numerator_relationship(ped: Pedigree) -> Array:
    """Additive (numerator) relationship matrix, dense, for small pedigrees.

    Parameters
    ----------
    ped : Pedigree
        Of n animals.

    Returns
    -------
    ndarray, shape (n, n)
        A; its diagonal is 1 + F.

    Notes
    -----
    Tabular method [1]_: a_ij = (a_sj + a_dj)/2 for j older than i, a_ii = 1 + a_sd/2.

    References
    ----------
    .. [1] Emik & Terrill (1949) J Hered 40:51-55.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": [1, 2, 3], "sire": [0, 0, 1], "dam": [0, 0, 2]})
    >>> numerator_relationship(Pedigree(frame))[2].tolist()
    [0.5, 0.5, 1.0]
    """
    return _tabular(ped.sire, ped.dam)


def ancestors(ped: Pedigree, animals: Positions) -> Positions:
    """Animals and all their ancestors.

    Parameters
    ----------
    ped : Pedigree
        Of n animals.
    animals : ndarray of int
        Positions in `ped.ids`.

    Returns
    -------
    ndarray of int
        Positions, ascending, so parents first.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": [1, 2, 3], "sire": [0, 0, 1], "dam": [0, 0, 0]})
    >>> ancestors(Pedigree(frame), np.array([2])).tolist()
    [0, 2]
    """
    seen = np.zeros(ped.n + 1, dtype=bool)  # the last entry serves position -1
    front = np.unique(animals)
    while len(front):
        seen[front] = True
        up = np.unique(np.concatenate([ped.sire[front], ped.dam[front]]))
        front = up[(up >= 0) & ~seen[up]]
    return np.flatnonzero(seen[: ped.n])


def compile_kernels() -> None:
    """Compile the code for large pedigrees, or load it from the cache, on a tiny one.

    Examples
    --------
    >>> compile_kernels()  # doctest: +SKIP
    """
    none, one = np.full(3, UNKNOWN), np.arange(1)
    _compiled(_by_mating)(none, none, none, one, one + 1, one)
    _compiled(_by_parent)(none, none, none, one, one + 1, none + 1)


class GeneFlow:
    """Products with T = (I - P)^-1 and its transpose, without forming T.

    Parameters
    ----------
    ped : Pedigree
        The animals and their parents.
    animals : ndarray of int, shape (n,), optional
        Positions of those to follow, with all their ancestors, ascending; by default everyone.

    Notes
    -----
    With the Mendelian variances D, A v = T D T' v [1]_: `down(D * up(v))`. I - P is triangular and its own factor.

    References
    ----------
    .. [1] Colleau (2002) Genet Sel Evol 34:409-421.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": [1, 2], "sire": [0, 1], "dam": [0, 0]})
    >>> GeneFlow(Pedigree(frame)).down(np.array([2.0, 0.0])).tolist()
    [2.0, 1.0]
    """

    def __init__(self, ped: Pedigree, animals: Positions | None = None) -> None:
        T_inverse = _minus_parents(ped.sire, ped.dam, 0.5)
        self._factor = _triangular(T_inverse if animals is None else T_inverse[animals][:, animals])

    def down(self, V: Array) -> Array:
        """From parents to progeny, T V.

        Parameters
        ----------
        V : ndarray, shape (n,) or (n, m)
            Mendelian sampling terms.

        Returns
        -------
        ndarray, shape of V
            Breeding values.
        """
        return np.asarray(self._factor.solve(np.asarray(V, dtype=np.float64)))

    def up(self, V: Array) -> Array:
        """From progeny to parents, T' V.

        Parameters
        ----------
        V : ndarray, shape (n,) or (n, m)
            One row per animal.

        Returns
        -------
        ndarray, shape of V
            Sums over each animal and its descendants, weighted by the expected share of its genes.
        """
        solve: Callable[..., Any] = self._factor.solve  # the published types know no second argument
        return np.asarray(solve(np.asarray(V, dtype=np.float64), "T"))


@dataclass(frozen=True)
class _Rows:
    """Positions in `labels` of every row's id, sire and dam, -1 where missing or unknown."""

    labels: pd.Index[Any]
    id: Positions
    sire: Positions
    dam: Positions

    def take(self, keep: NDArray[Any]) -> _Rows:
        """Rows chosen by position or mask."""
        return _Rows(self.labels, self.id[keep], self.sire[keep], self.dam[keep])


def _columns(frame: Any, names: list[str]) -> list[NDArray[Any]]:
    """Columns of any data frame: int64 with 0 for missing where all are whole numbers, else objects."""
    try:
        table = nw.from_native(frame, eager_only=True)
    except TypeError as error:
        raise ArgumentError(f"A pedigree is a data frame with columns {names}, not {type(frame).__name__}.") from error
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise PedigreeError(
            f"The pedigree has no column {examples(missing)}; it has {examples(table.columns)}. "
            "Name the columns with id=, sire= and dam=.",
            columns=missing,
        )
    return [_whole_numbers(table[name]) for name in names]


def _whole_numbers(column: nw.Series[Any]) -> NDArray[Any]:
    """Values of a column as int64, missing as 0, or unchanged as objects where that is not possible."""
    if column.dtype.is_integer():
        return column.fill_null(0).to_numpy().astype(np.int64)
    values = column.to_numpy()
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    if values.dtype.kind == "f":
        whole = np.nan_to_num(values, nan=0.0)
        if np.array_equal(whole, np.floor(whole)) and np.all(np.isfinite(whole)):
            return whole.astype(np.int64)
    return values.astype(object)


def _number(columns: list[NDArray[Any]]) -> _Rows:
    """Labels in order of appearance, ids before the parents that have no row, and the rows in terms of them."""
    if all(column.dtype == np.int64 for column in columns):
        everything = np.concatenate(columns)
        everything_known = everything != 0
    else:
        as_text = any(isinstance(value, str) for value in pd.unique(pd.Series(columns[0])))
        everything = np.concatenate([_alike(column, as_text) for column in columns])
        everything_known = ~pd.isna(everything)
    codes = np.full(len(everything), UNKNOWN)
    codes[everything_known], labels = pd.factorize(everything[everything_known])
    id, sire, dam = np.split(codes, 3)
    return _Rows(pd.Index(labels.tolist() if labels.dtype == object else labels), id, sire, dam)


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
    if isinstance(value, str) and not as_text and value.strip().lstrip("-").isdecimal():
        value = int(value)
    if isinstance(value, str) and value in ("", "0"):
        return None
    if not isinstance(value, str) and value == 0:
        return None
    return str(value) if as_text else value


@dataclass
class _Problems:
    """All that is wrong with a pedigree, reported at once."""

    rows_without_id: list[int] = field(default_factory=list)
    conflicting: list[Any] = field(default_factory=list)
    own_parents: list[Any] = field(default_factory=list)
    sires_too: list[Any] = field(default_factory=list)
    loops: list[list[Any]] = field(default_factory=list)

    def report(self) -> None:
        """Raise one error for everything found."""
        lines = [
            text.format(count=len(found), which=examples(found))
            for text, found in (
                ("{count} rows have no id: rows {which}, counted from 0.", self.rows_without_id),
                (
                    "{count} ids have rows with different parents: {which}. Keep the right row of each.",
                    self.conflicting,
                ),
                ("{count} animals are their own parent: {which}. Correct or blank that parent.", self.own_parents),
                (
                    "{count} ids are sire and dam: {which}. Correct them, or pass monoecious=True for plants.",
                    self.sires_too,
                ),
                ("{count} loops, each animal a parent of the next: {which}. Break each loop.", self._printed_loops()),
            )
            if found
        ]
        if lines:
            raise PedigreeError("The pedigree contradicts itself. " + " ".join(lines), **vars(self))

    def _printed_loops(self) -> list[_Verbatim]:
        """Loops as a -> b -> a."""
        return [_Verbatim(" -> ".join(str(id) for id in loop)) for loop in self.loops]


class _Verbatim:
    """Text that `examples` shows without quotation marks."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        """Show the text itself."""
        return self.text


def _with_ids(rows: _Rows, problems: _Problems) -> _Rows:
    """Rows that have an id."""
    problems.rows_without_id = np.flatnonzero(rows.id == UNKNOWN).tolist()
    return rows.take(rows.id != UNKNOWN)


def _distinct(rows: _Rows, problems: _Problems) -> _Rows:
    """One row per id; exact repetitions are dropped, contradictions noted."""
    if np.all(np.bincount(rows.id) <= 1):
        return rows
    table = pd.DataFrame({"id": rows.id, "sire": rows.sire, "dam": rows.dam}).drop_duplicates()
    again = table["id"].duplicated().to_numpy()
    problems.conflicting = rows.labels[np.unique(table["id"].to_numpy()[again])].tolist()
    return rows.take(table.index.to_numpy())


def _checked_parents(rows: _Rows, monoecious: bool, problems: _Problems) -> _Rows:
    """Rows with own parents noted and blanked; ids in both roles noted."""
    own_sire, own_dam = rows.sire == rows.id, rows.dam == rows.id
    problems.own_parents = rows.labels[np.unique(rows.id[own_sire | own_dam])].tolist()
    sire, dam = np.where(own_sire, UNKNOWN, rows.sire), np.where(own_dam, UNKNOWN, rows.dam)
    if not monoecious:
        is_sire, is_dam = (np.zeros(len(rows.labels) + 1, dtype=bool) for _ in range(2))
        is_sire[sire], is_dam[dam] = True, True
        problems.sires_too = rows.labels[np.flatnonzero((is_sire & is_dam)[:-1])].tolist()
    return _Rows(rows.labels, rows.id, sire, dam)


def _one_row_each(rows: _Rows) -> tuple[_Rows, int]:
    """Rows in the order of the labels: first the parents without a row, as founders, and how many they are."""
    n = len(rows.labels)
    sire, dam = np.full(n, UNKNOWN), np.full(n, UNKNOWN)
    sire[rows.id], dam[rows.id] = rows.sire, rows.dam
    has_row = np.zeros(n, dtype=bool)
    has_row[rows.id] = True
    founders_first = np.argsort(has_row, kind="stable")
    return _reorder(_Rows(rows.labels, np.arange(n), sire, dam), founders_first), int(n - has_row.sum())


def _reorder(animals: _Rows, order: Positions) -> _Rows:
    """Animals in another order, parents renumbered accordingly."""
    rank = np.full(len(animals.labels) + 1, UNKNOWN)  # the last entry serves position -1
    rank[order] = np.arange(len(order))
    labels = animals.labels[order]
    return _Rows(labels, np.arange(len(order)), rank[animals.sire[order]], rank[animals.dam[order]])


def _parents_first(sire: Positions, dam: Positions) -> Positions:
    """Order with parents before progeny: the given one if it will do, else by generation; loops are left out."""
    own = np.arange(len(sire))
    if np.all(np.maximum(sire, dam) < own):
        return own
    return np.concatenate([own[:0], *_generations(sire, dam)])


def _generations(sire: Positions, dam: Positions) -> list[Positions]:
    """Animals by generation; those in a loop, or descending from one, are absent (Kahn 1962 Commun ACM 5:558)."""
    n = len(sire)
    child = np.concatenate([np.flatnonzero(sire >= 0), np.flatnonzero(dam >= 0)])
    parent = np.concatenate([sire[sire >= 0], dam[dam >= 0]])
    child = child[np.argsort(parent, kind="stable")]
    start = np.concatenate([[0], np.cumsum(np.bincount(parent, minlength=n))])
    waiting = (sire >= 0).astype(np.int64) + (dam >= 0)
    found = []
    ready = np.flatnonzero(waiting == 0)
    while len(ready):
        found.append(ready)
        progeny, times = np.unique(child[_ranges(start[ready], start[ready + 1])], return_counts=True)
        waiting[progeny] -= times
        ready = progeny[waiting[progeny] == 0]
    return found


def _ranges(start: Positions, stop: Positions) -> Positions:
    """Concatenate arange(start[k], stop[k]) over k."""
    length = stop - start
    ends = np.cumsum(length)
    return np.asarray(np.arange(length.sum()) + np.repeat(start - (ends - length), length))


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


def _triangular(matrix: sp.csr_array) -> SuperLU:
    """Solver for a unit lower triangle; in natural order, without pivoting, SuperLU takes it over without fill."""
    options = {"SymmetricMode": True, "Equil": False}
    return splu(matrix.tocsc(), permc_spec="NATURAL", diag_pivot_thresh=0.0, options=options)


def _minus_parents(sire: Positions, dam: Positions, share: float) -> sp.csr_array:
    """I less `share` at the parents of each animal, shape (n, n), unit lower triangular; T^-1 with share 1/2."""
    own = np.arange(len(sire), dtype=np.int32)
    s, d = np.flatnonzero(sire >= 0), np.flatnonzero(dam >= 0)
    rows = np.concatenate([own, own[s], own[d]])
    columns = np.concatenate([own, sire[s].astype(np.int32), dam[d].astype(np.int32)])
    values = np.concatenate([np.ones(len(own)), np.full(len(s) + len(d), -share)])
    matrix = sp.csr_array((values, (rows, columns)), shape=(len(own), len(own)))
    matrix.sum_duplicates()
    return matrix


def _mendelian(sire: Positions, dam: Positions, F: Array) -> Array:
    """Mendelian variances, shape (n,); an unknown parent counts as F = -1, which makes one formula of three."""
    F_or_unknown = np.append(F, -1.0)
    return np.asarray(0.5 - 0.25 * (F_or_unknown[sire] + F_or_unknown[dam]))


def _positive(ped: Pedigree, D: Array) -> Array:
    """Mendelian variances, if A is regular."""
    fixed = np.flatnonzero(D <= 0)
    if len(fixed):
        raise RelationshipError(
            f"A is singular: both parents of {len(fixed)} animals are completely inbred: {examples(ped.ids[fixed])}. "
            "Keep one animal of each such line, or use inbreeding=False.",
            animals=ped.ids[fixed].tolist(),
        )
    return D


def _tabular(sire: Positions, dam: Positions, inbreeding: bool = True) -> Array:
    """Dense A = T D T', row by row (Emik & Terrill 1949); without inbreeding, D is 1, 3/4 or 1/2."""
    n = len(sire)
    A = np.zeros((n + 1, n + 1))  # the last row and column stand for unknown parents, position -1
    D = _mendelian(sire, dam, np.zeros(n)).tolist()
    for i, (s, d) in enumerate(zip(sire.tolist(), dam.tolist(), strict=True)):
        A[i, :i] = 0.5 * (A[s, :i] + A[d, :i])
        A[:i, i] = A[i, :i]
        A[i, i] = 1.0 + 0.5 * A[s, d] if inbreeding else D[i] + 0.25 * (A[s, s] + A[d, d] + 2.0 * A[s, d])
    return A[:n, :n].copy()


def _between_parents(sire: Positions, dam: Positions, inbreeding: bool) -> Array:
    """Relationship between the parents of each animal, shape (n,); only animals with progeny are followed."""
    a = np.zeros(len(sire))
    both = np.flatnonzero((sire >= 0) & (dam >= 0))
    if len(both) == 0:
        return a
    is_parent = np.zeros(len(sire) + 1, dtype=bool)  # the last entry serves position -1
    is_parent[sire], is_parent[dam], is_parent[-1] = True, True, False
    parents = np.flatnonzero(is_parent)
    rank = np.full(len(sire) + 1, UNKNOWN)
    rank[parents] = np.arange(len(parents))
    relationship = _dense_mates if len(parents) <= _DENSE_PARENTS else _compiled_mates
    a[both] = relationship(rank[sire[parents]], rank[dam[parents]], rank[sire[both]], rank[dam[both]], inbreeding)
    return a


def _dense_mates(sire: Positions, dam: Positions, s: Positions, d: Positions, inbreeding: bool) -> Array:
    """Relationship of mates s and d from the dense A of the animals with progeny."""
    return _tabular(sire, dam, inbreeding)[s, d]


def _compiled_mates(sire: Positions, dam: Positions, s: Positions, d: Positions, inbreeding: bool) -> Array:
    """Relationship of mates s and d, by mating or by one parent at a time, whichever is forecast to be faster."""
    m = len(sire)
    keys, mating = np.unique(s * m + d, return_inverse=True)
    s, d = np.divmod(keys, m)
    # an animal of no known mating counts as not inbred, so no mating at all means D of 1, 3/4 and 1/2
    not_inbred = np.full(m, UNKNOWN)
    known = (sire >= 0) & (dam >= 0)
    own = np.where(known, np.searchsorted(keys, sire * m + dam), UNKNOWN) if inbreeding else not_inbred
    by_mating, by_parent = _compiled(_by_mating), _compiled(_by_parent)
    sample = np.linspace(0, len(s) - 1, _SAMPLED_MATINGS).astype(np.int64)
    _, visits = by_mating(sire, dam, not_inbred, s[sample], d[sample], _by_younger(s[sample], d[sample]))
    costs = _VISIT_COST * visits * len(s) / len(sample), _passes(s, d), _passes(d, s)
    if costs[0] <= min(costs):
        return np.asarray(by_mating(sire, dam, own, s, d, _by_younger(s, d))[0][mating])
    first, second = (s, d) if costs[1] <= costs[2] else (d, s)
    generation = np.empty(m, dtype=np.int64)
    for g, animals in enumerate(_generations(sire, dam)):
        generation[animals] = g
    return np.asarray(by_parent(sire, dam, own, first, second, generation)[mating])


def _by_younger(s: Positions, d: Positions) -> Positions:
    """Order of matings in which the inbreeding of all ancestors is known in time."""
    return np.argsort(np.maximum(s, d), kind="stable")


def _passes(first: Positions, second: Positions) -> float:
    """Count the steps of `_by_parent`: for each parent of one sex, back from it, then forward to its youngest mate."""
    youngest = np.full(int(first.max()) + 1, UNKNOWN)
    np.maximum.at(youngest, first, second)
    used = np.flatnonzero(youngest >= 0)
    return float(used.sum() + youngest[used].sum())


@cache
def _compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Kernel as machine code; numba is loaded here, for large pedigrees only."""
    from numba import njit

    compiled: Callable[..., Any] = njit(cache=True)(kernel)
    return compiled


def _by_mating(
    sire: Positions, dam: Positions, own: Positions, s: Positions, d: Positions, order: Positions
) -> tuple[Array, int]:
    """Relationship of the mates (s, d), shape (matings,), and the number of ancestors visited.

    Meuwissen & Luo (1992) with a queue of ancestors kept as a bitset of two levels: a_sd = sum_j t_sj t_dj D_j,
    youngest ancestor first. Own is the mating from which each animal came, or -1; order has the matings by their
    younger mate, so that the inbreeding of all ancestors is known in time.
    """
    m = len(sire)
    words = m // 64 + 1
    low = np.zeros(words, dtype=np.uint64)  # bit of animal j stands at m - 1 - j, so the lowest bit is the youngest
    high = np.zeros(words // 64 + 1, dtype=np.uint64)
    one, magic = np.uint64(1), np.uint64(0x03F79D71B4CB0A89)
    bit_of = np.zeros(64, dtype=np.int64)  # de Bruijn's sequence: position of a single set bit
    for k in range(64):
        bit_of[(magic << np.uint64(k)) >> np.uint64(58)] = k
    share = np.zeros((m, 2))
    F, D, filled = np.zeros(m), np.zeros(m), 0
    a, visits = np.zeros(len(s)), 0
    for mating in order:
        youngest = max(s[mating], d[mating])
        while filled <= youngest:
            p, q = sire[filled], dam[filled]
            F[filled] = 0.5 * a[own[filled]] if own[filled] >= 0 else 0.0
            D[filled] = 0.5 - 0.25 * ((F[p] if p >= 0 else -1.0) + (F[q] if q >= 0 else -1.0))
            filled += 1
        share[s[mating], 0] = 1.0
        share[d[mating], 1] = 1.0
        for j in (s[mating], d[mating]):
            w = (m - 1 - j) >> 6
            low[w] |= one << np.uint64((m - 1 - j) & 63)
            high[w >> 6] |= one << np.uint64(w & 63)
        total = 0.0
        h = (m - 1 - youngest) >> 12
        while h < len(high):
            if high[h] == 0:
                h += 1
                continue
            x = high[h]
            w = (h << 6) + bit_of[((x & (~x + one)) * magic) >> np.uint64(58)]
            x = low[w]
            lowest = x & (~x + one)
            j = m - 1 - ((w << 6) + bit_of[(lowest * magic) >> np.uint64(58)])
            low[w] = x ^ lowest
            if low[w] == 0:
                high[h] ^= one << np.uint64(w & 63)
            visits += 1
            by_s, by_d = share[j, 0], share[j, 1]
            share[j, 0] = 0.0
            share[j, 1] = 0.0
            total += by_s * by_d * D[j]
            for p in (sire[j], dam[j]):
                if p >= 0:
                    share[p, 0] += 0.5 * by_s
                    share[p, 1] += 0.5 * by_d
                    v = (m - 1 - p) >> 6
                    low[v] |= one << np.uint64((m - 1 - p) & 63)
                    high[v >> 6] |= one << np.uint64(v & 63)
        a[mating] = total
    return a, visits


def _by_parent(
    sire: Positions, dam: Positions, own: Positions, first: Positions, second: Positions, generation: Positions
) -> Array:
    """Relationship of the mates (first, second), shape (matings,).

    Colleau (2002), Sargolzaei et al. (2005): for each parent of one sex the row A e = T D T' e, back to its ancestors
    and forward to its youngest mate, some parents of one generation side by side: the inbreeding of their ancestors is
    then known. Own is the mating from which each animal came, or -1; generation is that of each animal.
    """
    m = len(sire)
    animals = np.argsort(generation, kind="mergesort")
    order = np.argsort(generation[first] * m + first, kind="mergesort")
    F, D, filled = np.zeros(m), np.zeros(m), 0
    up, down = np.zeros((m + 1, _ABREAST)), np.zeros((m + 1, _ABREAST))  # the last row serves unknown parents
    father, mother = np.where(sire >= 0, sire, m), np.where(dam >= 0, dam, m)
    a, column = np.zeros(len(first)), np.zeros(len(first), dtype=np.int64)
    start = 0
    while start < len(order):
        present = generation[first[order[start]]]
        while filled < m and generation[animals[filled]] <= present:
            j = animals[filled]
            p, q = sire[j], dam[j]
            F[j] = 0.5 * a[own[j]] if own[j] >= 0 else 0.0
            D[j] = 0.5 - 0.25 * ((F[p] if p >= 0 else -1.0) + (F[q] if q >= 0 else -1.0))
            filled += 1
        end, width, previous, youngest, last = start, 0, -1, 0, 0
        while end < len(order):
            parent = first[order[end]]
            if parent != previous:
                if width == _ABREAST or generation[parent] != present:
                    break
                up[parent, width] = 1.0
                previous, youngest = parent, max(youngest, parent)
                width += 1
            column[order[end]] = width - 1
            last = max(last, second[order[end]])
            end += 1
        oldest = youngest
        for j in range(youngest, -1, -1):
            reached = 0.0
            for c in range(_ABREAST):
                reached += up[j, c]
            if reached == 0.0:
                continue
            oldest, f, d, variance = j, father[j], mother[j], D[j]
            for c in range(_ABREAST):
                half = 0.5 * up[j, c]
                up[f, c] += half
                up[d, c] += half
                up[j, c] *= variance
        up[m] = 0.0
        down[:oldest] = 0.0
        for j in range(oldest, youngest + 1):
            f, d = father[j], mother[j]
            for c in range(_ABREAST):
                down[j, c] = up[j, c] + 0.5 * (down[f, c] + down[d, c])
                up[j, c] = 0.0
        for j in range(youngest + 1, last + 1):
            f, d = father[j], mother[j]
            for c in range(_ABREAST):
                down[j, c] = 0.5 * (down[f, c] + down[d, c])
        for i in range(start, end):
            a[order[i]] = down[second[order[i]], column[order[i]]]
        start = end
    return a
