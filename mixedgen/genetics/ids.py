"""Which animals of the records, the pedigree and the genotypes are the same, before anything is fitted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedgen.arrays import Positions
from mixedgen.errors import examples


@dataclass(frozen=True)
class NearMiss:
    """Ids of the data that are there under another spelling.

    Attributes
    ----------
    kind : str
        How they differ: "int and text", "blanks", "zero padding", "letter case", "FID_IID".
    count : int
        Number of distinct ids of the data.
    pairs : tuple of (id, label)
        The first five, as in the data and as in the relationship.
    """

    kind: str
    count: int
    pairs: tuple[tuple[Any, Any], ...]

    def __str__(self) -> str:
        """One line."""
        shown = ", ".join(f"{mine!r} ~ {other!r}" for mine, other in self.pairs)
        return f"{self.count} by {self.kind}: {shown}{' ...' if self.count > len(self.pairs) else ''}"


@dataclass(frozen=True)
class IdReport:
    """How the ids of the data meet the levels of one relationship.

    Attributes
    ----------
    name : str
        Of the relationship.
    records, missing : int
        Records with an id, and without.
    distinct : int
        Different ids among the records.
    levels : int
        Levels of the relationship.
    shared : int
        Ids that are in both.
    records_shared : int
        Records of these.
    only_data : Index
        Ids without a level; their records cannot be used.
    without_records : int
        Levels that no record names.
    duplicates : Index
        Levels named more than once in the relationship's own labels.
    near_misses : tuple of NearMiss
        Ids without a level that are levels under another spelling.
    source : str
        Where the ids come from.
    """

    name: str
    records: int
    missing: int
    distinct: int
    levels: int
    shared: int
    records_shared: int
    only_data: pd.Index[Any]
    without_records: int
    duplicates: pd.Index[Any]
    near_misses: tuple[NearMiss, ...]
    source: str = "data"

    @property
    def complete(self) -> bool:
        """Whether every record has an id that is a level, and no level is named twice."""
        return len(self.only_data) == 0 and self.missing == 0 and len(self.duplicates) == 0

    def __str__(self) -> str:
        """Three to six lines."""
        lines = [
            f"data: {self.records} records of {self.distinct} ids"
            + (f", {self.missing} without" if self.missing else ""),
            f"{self.name}: {self.levels} levels, {self.without_records} without records",
            f"in both: {self.shared} ids, {self.records_shared} records",
        ]
        if len(self.only_data):
            lines.append(f"only in {self.source}: {len(self.only_data)} ids: {examples(self.only_data)}")
        lines += [f"near misses: {near}" for near in self.near_misses]
        if len(self.duplicates):
            lines.append(f"twice in {self.name}: {len(self.duplicates)} ids: {examples(self.duplicates)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class ThreeWayReport:
    """How the ids of data, pedigree and genotypes meet.

    Attributes
    ----------
    pedigree, genotypes : IdReport or None
        The data against each.
    genotypes_in_pedigree : IdReport or None
        The genotyped against the pedigree.
    counts : Series
        Number of ids by where they are: index levels data, pedigree, genotypes, each true or false.
    """

    pedigree: IdReport | None
    genotypes: IdReport | None
    genotypes_in_pedigree: IdReport | None
    counts: pd.Series[int]

    def __str__(self) -> str:
        """Reports one below the other, then the table of where ids are."""
        titles = ("Data and pedigree", "Data and genotypes", "Genotypes and pedigree")
        reports = (self.pedigree, self.genotypes, self.genotypes_in_pedigree)
        parts = [f"{title}\n{_indented(str(r))}" for title, r in zip(titles, reports, strict=True) if r is not None]
        names = [str(name) for name in self.counts.index.names]
        rows = []
        for where, count in self.counts.items():
            inside = [name for name, there in zip(names, np.atleast_1d(np.asarray(where)), strict=True) if there]
            rows.append(f"{count} in {' and '.join(inside)}")
        return "\n".join([*parts, "Ids", _indented("\n".join(rows))])


def reconcile(
    data_ids: Iterable[Any], relationship_labels: Iterable[Any], *, name: str = "relationship", source: str = "data"
) -> IdReport:
    """Compare the ids of records with the levels of a relationship.

    Parameters
    ----------
    data_ids : iterable
        Id of every record; missing ones are counted.
    relationship_labels : iterable
        Levels of the relationship.
    name : str, default "relationship"
        Of the relationship, as the report calls it.
    source : str, default "data"
        Of the ids, as the report calls it.

    Returns
    -------
    IdReport
        Counts, examples and near misses; nothing is changed.

    Examples
    --------
    >>> report = reconcile([1, 1, 2, 3], ["1", "02", "x"], name="A")
    >>> report.shared, report.near_misses[0].kind
    (1, 'zero padding')
    """
    ids, labels = pd.Index(list(data_ids)), pd.Index(list(relationship_labels))
    there = ids[~np.asarray(ids.isna())]
    distinct, levels = there.unique(), labels.unique()
    at = positions_of(there, levels)
    alone = distinct[positions_of(distinct, levels) < 0]
    return IdReport(
        name=name,
        records=len(there),
        missing=len(ids) - len(there),
        distinct=len(distinct),
        levels=len(levels),
        shared=len(distinct) - len(alone),
        records_shared=int(np.sum(at >= 0)),
        only_data=alone,
        without_records=len(levels) - len(np.unique(at[at >= 0])),
        duplicates=labels[labels.duplicated()].unique(),
        near_misses=near_misses(alone, levels),
        source=source,
    )


def reconcile_three(
    data_ids: Iterable[Any], *, pedigree: Iterable[Any] | None = None, genotypes: Iterable[Any] | None = None
) -> ThreeWayReport:
    """Compare the ids of records, pedigree and genotypes.

    Parameters
    ----------
    data_ids : iterable
        Id of every record.
    pedigree, genotypes : iterable, optional
        Ids of the pedigree and of the genotyped.

    Returns
    -------
    ThreeWayReport
        Reports of each pair, and a table of where ids are.

    Examples
    --------
    >>> report = reconcile_three([1, 2], pedigree=[1, 2, 3], genotypes=[2, 3])
    >>> print(report.counts.loc[(True, True, True)])
    1
    """
    data = list(data_ids)
    sources: dict[str, Iterable[Any] | None] = {"data": data, "pedigree": pedigree, "genotypes": genotypes}
    given = {key: pd.Index(list(ids)) for key, ids in sources.items() if ids is not None}
    sets: dict[str, pd.Index[Any]] = {
        key: pd.Index([id_text(id) for id in ids.dropna()]) for key, ids in given.items()
    }  # 7 and "7" are one id
    everyone = pd.Index([])
    for ids in sets.values():
        known = ids[~np.asarray(ids.isna())].unique()
        everyone = known if len(everyone) == 0 else everyone.append(known[~known.isin(everyone)])
    where = pd.DataFrame({key: everyone.isin(ids) for key, ids in sets.items()})
    counts = where.value_counts(sort=False).iloc[::-1]
    return ThreeWayReport(
        None if pedigree is None else reconcile(data, given["pedigree"], name="pedigree"),
        None if genotypes is None else reconcile(data, given["genotypes"], name="genotypes"),
        None
        if pedigree is None or genotypes is None
        else reconcile(given["genotypes"], given["pedigree"], name="pedigree", source="genotypes"),
        counts,
    )


def near_misses(ids: Iterable[Any], labels: Iterable[Any]) -> tuple[NearMiss, ...]:
    """Ids that are among the labels under another spelling, each under the first way of writing that explains it.

    Parameters
    ----------
    ids : iterable
        Ids that are not among the labels.
    labels : iterable
        What they are compared with.

    Returns
    -------
    tuple of NearMiss
        By kind, in the order int and text, blanks, zero padding, letter case, FID_IID.

    Examples
    --------
    >>> [str(near) for near in near_misses(["007"], ["7"])]
    ["1 by zero padding: '007' ~ '7'"]
    """
    left, others = list(ids), list(labels)
    found = []
    for kind, mine, theirs in _WRITINGS:
        if not left:
            break
        written: dict[str, Any] = {}
        for label in others:
            written.setdefault(theirs(label), label)
        pairs = [(id, written[key]) for id in left for key in mine(id) if key in written]
        if pairs:
            explained = {_key(id) for id, _ in pairs}
            found.append(NearMiss(kind, len(explained), tuple(pairs[:5])))
            left = [id for id in left if _key(id) not in explained]
    return tuple(found)


def _key(id: Any) -> tuple[str, Any]:
    """Identity with its type, which tells 1 from True."""
    return type(id).__name__, id


def id_text(id: Any) -> str:
    """Id as text, whole numbers without a decimal point."""
    return str(int(id)) if isinstance(id, (float, np.floating)) and float(id).is_integer() else str(id)


_UNKNOWN_WORDS = frozenset(
    ["na", "n/a", "n.a.", "nan", "nil", "none", "null", "miss", "missing", "unknown", "unk", "undefined", "unbekannt"]
    + ["inconnu", "desconocido"]
)
_ZEROS = re.compile(r"[+-]?0+(\.0*)?")


def unlike_id(id: Any) -> bool:
    """Whether an id looks like the code of an unknown one: no letter or digit, negative, only zeros, or such a word."""
    text = id_text(id).strip()
    if not any(c.isalnum() for c in text) or _ZEROS.fullmatch(text) or text.casefold() in _UNKNOWN_WORDS:
        return True
    return text.startswith("-") and text[1:].replace(".", "", 1).isdecimal()


def positions_of(ids: Any, labels: pd.Index[Any]) -> Positions:
    """Position of each id among labels, -1 where it is not there.

    Notes
    -----
    The same value is the same id. Where only the types differ an id is its text: 7, 7.0 and "7" are one, "007" is
    another. A text that several labels share is none of them.
    """
    wanted = pd.Index(ids)
    at = np.asarray(labels.get_indexer(wanted), dtype=np.int64)
    left = np.flatnonzero((at < 0) & ~np.asarray(wanted.isna()))
    if not len(left):
        return at
    codes, found = pd.factorize(wanted[left].astype(object))
    if pd.api.types.infer_dtype(found) == pd.api.types.infer_dtype(labels) == "string":
        return at
    written = pd.Index([id_text(label) for label in labels])
    alone = np.flatnonzero(~written.duplicated(keep=False))
    place = written[alone].get_indexer(pd.Index([id_text(id) for id in found]))
    at[left] = np.append(alone, -1)[place][codes]
    return at


def _stripped(id: Any) -> str:
    """Without blanks around it."""
    return id_text(id).strip()


def _unpadded(id: Any) -> str:
    """Without blanks and leading zeros."""
    return _stripped(id).lstrip("0")


def caseless(id: Any) -> str:
    """Without blanks, leading zeros and letter case."""
    return _unpadded(id).casefold()


def _one(writing: Callable[[Any], str]) -> Callable[[Any], list[str]]:
    """The single way of writing, as a list."""
    return lambda id: [writing(id)]


def _individual_parts(id: Any) -> list[str]:
    """IID of an FID_IID, at every underscore, and the FID_IID that doubles an id, as PLINK writes them."""
    text = _stripped(id)
    parts = text.split("_")
    return [*("_".join(parts[k:]) for k in range(1, len(parts))), f"{text}_{text}"]


# kind, how ids of the data are written, how labels are; each kind is tried on what the kinds before leave
_WRITINGS: tuple[tuple[str, Callable[[Any], list[str]], Callable[[Any], str]], ...] = (
    ("int and text", _one(id_text), id_text),
    ("blanks", _one(_stripped), _stripped),
    ("zero padding", _one(_unpadded), _unpadded),
    ("letter case", _one(caseless), caseless),
    ("FID_IID", _individual_parts, _stripped),
    ("FID_IID", _one(_stripped), lambda label: _stripped(label).split("_")[-1]),
)


def _indented(text: str) -> str:
    """Every line two blanks further in."""
    return "\n".join(f"  {line}" for line in text.splitlines())
