"""Genotypes: counts of one allele at biallelic markers, checked once, kept in one byte each.

p is the frequency of the allele counted and q = 1 - p; W holds the coded markers, animals by markers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc

from mixedgen.arrays import Array, Positions
from mixedgen.errors import ArgumentError, DataError, examples, public_class
from mixedgen.genetics.calls import MARKERS_AT_ONCE, MISSING, AlleleCoding, checked_calls, checked_names
from mixedgen.genetics.files import read_bed
from mixedgen.genetics.ids import positions_of
from mixedgen.genetics.layout import Layout
from mixedgen.genetics.marker_files import marker_table
from mixedgen.genetics.written import with_written

Scale = Literal["2pq", "sd"]


@public_class
class Genotypes:
    """Genotypes of animals at biallelic markers.

    Parameters
    ----------
    values : array or DataFrame, shape (n, m)
        Number of copies of one allele; missing as NaN or -9. Of a frame the columns are the markers.
    ids : iterable or str, optional
        Animals, one per row; of a frame the name of the column that holds them, by default its index.
    markers : iterable, optional
        Names of the markers, one per column; by default the columns of a frame, else "1", "2" and so on.
    coding : {"012", "-101"}, default "012"
        How homozygotes and heterozygotes are written; -1, 0, 1 are kept as 0, 1, 2.
    dosages : bool, default False
        Whether expected numbers of copies, any value between the homozygotes, are meant; they take eight bytes each.

    Attributes
    ----------
    ids : Index, shape (n,)
        Animals.
    markers : Index, shape (m,)
        Markers.
    values : ndarray, shape (n, m)
        Copies, int8 with -9 for missing, or float64 with NaN for dosages; read-only.

    Raises
    ------
    DataError
        If values are outside the coding, ids or markers are missing, repeated or do not match the shape, or there is
        nothing.
    ArgumentError
        If the values are no matrix, or have no ids.

    Examples
    --------
    >>> M = Genotypes(np.array([[0, 1], [2, -9]]), ids=["a", "b"], markers=["s1", "s2"])
    >>> M.frequencies.tolist(), M.call_rate.tolist()
    ([0.5, 0.5], [1.0, 0.5])
    """

    def __init__(
        self,
        values: Any,
        ids: Iterable[Any] | str | None = None,
        markers: Iterable[Any] | None = None,
        *,
        coding: AlleleCoding = "012",
        dosages: bool = False,
    ) -> None:
        if coding not in ("012", "-101"):
            raise ArgumentError(f"coding is '012' or '-101', not {coding!r}.")
        matrix, ids, markers = _parts(values, ids, markers)
        if matrix.ndim != 2:
            raise ArgumentError(
                f"genotypes are a matrix, animals by markers, not an array of {matrix.ndim} dimensions."
            )
        if 0 in matrix.shape:
            raise DataError(
                f"there are {matrix.shape[0]} animals and {matrix.shape[1]} markers. Are the columns commas apart?"
            )
        self.ids: pd.Index[Any] = checked_names(ids, matrix.shape, 0, "ids")
        self.markers: pd.Index[Any] = checked_names(markers, matrix.shape, 1, "markers")
        self.values: NDArray[Any] = checked_calls(matrix, self.ids, self.markers, coding, dosages)
        self.values.setflags(write=False)

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        id: str | None = None,
        coding: AlleleCoding = "012",
        dosages: bool = False,
        sep: str | None = None,
        header: bool | Sequence[str] | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
    ) -> Genotypes:
        """Read genotypes from a text (also compressed), Parquet or PLINK 1 file.

        Parameters
        ----------
        path : str or Path
            `.bed` is read as PLINK 1 with its `.bim` and `.fam`, which takes bed-reader; `.parquet` and `.pq` as
            Parquet; all else as text, also BLUPF90's: an id and a word of digits, 5 for a missing genotype.
        id : str, optional
            Column with the animals, by default the first; all others are markers. Of PLINK files the IID, or
            FID_IID where IID alone is not unique.
        coding, dosages
            As for `Genotypes`; not for PLINK.
        sep, header, decimal, encoding
            As for `mg.read_table`; by default found in the file.

        Returns
        -------
        Genotypes
            Of PLINK files the copies of allele 1. Ids are as they are written.

        Raises
        ------
        DataError
            If the file cannot be read, or bed-reader is absent, and as for `Genotypes`.
        FileNotFoundError
            If there is no such file.

        Examples
        --------
        >>> Genotypes.read("chip.csv", id="animal")  # doctest: +SKIP
        """
        if Path(path).suffix.lower() == ".bed":
            values, animals, markers = read_bed(path, MISSING)
            return cls(values, animals, markers)
        frame = marker_table(path, id, Layout(sep, header, decimal, encoding))
        name = frame.columns[0] if id is None else id
        return cls(frame, ids=name, coding=coding, dosages=dosages)

    @property
    def n(self) -> int:
        """Number of animals."""
        return len(self.ids)

    @property
    def m(self) -> int:
        """Number of markers."""
        return len(self.markers)

    @property
    def dosages(self) -> bool:
        """Whether the values are expected rather than whole numbers of copies."""
        return self.values.dtype == np.float64

    @cached_property
    def frequencies(self) -> pd.Series[float]:
        """Frequency p of the allele counted, over the genotyped animals; NaN where no animal has a call."""
        called = self.n * self.call_rate.to_numpy()
        copies = self._sums(lambda block: np.nansum(block, axis=0), axis=1)
        with np.errstate(invalid="ignore"):
            return pd.Series(copies / (2.0 * called), index=self.markers, name="frequency")

    @cached_property
    def call_rate(self) -> pd.Series[float]:
        """Share of animals with a call, by marker."""
        called = self._sums(lambda block: np.sum(~np.isnan(block), axis=0), axis=1)
        return pd.Series(called / max(self.n, 1), index=self.markers, name="call_rate")

    @cached_property
    def call_rate_of_animals(self) -> pd.Series[float]:
        """Share of markers with a call, by animal."""
        called = self._sums(lambda block: np.sum(~np.isnan(block), axis=1), axis=0)
        return pd.Series(called / max(self.m, 1), index=self.ids, name="call_rate")

    def select(self, ids: Iterable[Any] | None = None, markers: Iterable[Any] | None = None) -> Genotypes:
        """Some animals or markers, in the order given.

        Parameters
        ----------
        ids, markers : iterable, optional
            What to keep; by default all.

        Returns
        -------
        Genotypes
            Of these only.

        Raises
        ------
        DataError
            If one is not there, or is named twice.

        Examples
        --------
        >>> M = Genotypes(np.array([[0, 1], [2, 1]]), ids=["a", "b"])
        >>> M.select(ids=["b"]).values.tolist()
        [[2, 1]]
        """
        rows = np.arange(self.n) if ids is None else _positions(self.ids, ids, "animals")
        columns = np.arange(self.m) if markers is None else _positions(self.markers, markers, "markers")
        kept = self.values[np.ix_(rows, columns)]
        return Genotypes(kept, self.ids[rows], self.markers[columns], dosages=self.dosages)

    def coded(
        self, center: bool | Any = True, scale: Scale | None = None, *, rows: Positions | slice = slice(None)
    ) -> Array:
        """Coded markers W; a missing genotype takes the mean, and so 0 where the markers are centred.

        Parameters
        ----------
        center : bool or array, default True
            Whether to subtract 2p of all genotyped animals, or frequencies p to use in their place.
        scale : {"2pq", "sd"}, optional
            Divide by the root of 2pq, or by the standard deviation (n - 1) of the imputed counts.
        rows : array of int or slice, optional
            Positions of the animals wanted.

        Returns
        -------
        ndarray, shape (n, m)
            W, float64.

        Raises
        ------
        DataError
            If a marker has no call, or does not vary where it is scaled.

        Examples
        --------
        >>> Genotypes(np.array([[0, 1], [2, 1]]), ids=["a", "b"]).coded()
        array([[-1.,  0.],
               [ 1.,  0.]])
        """
        W = np.empty((len(np.arange(self.n)[rows]), self.m))
        for columns, block in self.blocks(center, scale):
            W[:, columns] = block[rows]
        return W

    def blocks(self, center: bool | Any = True, scale: Scale | None = None) -> Iterator[tuple[slice, Array]]:
        """Coded markers some columns at a time, to bound the memory.

        Parameters
        ----------
        center, scale
            As for `coded`.

        Yields
        ------
        columns : slice
            Which markers.
        block : ndarray, shape (n, columns)
            Their part of W.

        Examples
        --------
        >>> M = Genotypes(np.array([[0, 1], [2, 1]]), ids=["a", "b"])
        >>> [block.shape for _, block in M.blocks()]
        [(2, 2)]
        """
        if scale not in (None, "2pq", "sd"):
            raise ArgumentError(f"scale is None, '2pq' or 'sd', not {scale!r}.")
        p = self.checked_frequencies(None if isinstance(center, bool) else center)
        for columns, block in self._columns():
            mean = 2.0 * p[columns]
            np.copyto(block, mean, where=np.isnan(block))
            spread = self._spread(block, p[columns], scale, columns)
            if center is not False:
                block -= mean
            if spread is not None:
                block /= spread
            yield columns, block

    def missing(self, columns: slice = slice(None)) -> NDArray[np.bool_]:
        """Which genotypes are missing.

        Parameters
        ----------
        columns : slice, optional
            Of these markers only.

        Returns
        -------
        ndarray of bool, shape (n, columns)
            True where there is no call.

        Examples
        --------
        >>> Genotypes(np.array([[0, -9]]), ids=["a"]).missing().tolist()
        [[False, True]]
        """
        part = self.values[:, columns]
        return np.isnan(part) if self.dosages else np.asarray(part == MISSING)

    def checked_frequencies(self, p: Any = None) -> Array:
        """Allele frequencies as an array, one per marker.

        Parameters
        ----------
        p : Series or array, shape (m,), optional
            Frequencies of the allele counted; a series is matched by marker. By default those of all genotyped.

        Returns
        -------
        ndarray, shape (m,)
            p.

        Raises
        ------
        DataError
            If a frequency is missing, outside 0 to 1, or there is not one per marker.

        Examples
        --------
        >>> Genotypes(np.array([[0, 1], [2, 1]]), ids=["a", "b"]).checked_frequencies().tolist()
        [0.5, 0.5]
        """
        if p is None:
            p = self.frequencies
        elif isinstance(p, pd.Series):
            p = p.iloc[_positions(p.index, self.markers, "markers of the frequencies")]
        values = np.atleast_1d(np.asarray(p, dtype=np.float64))
        if values.shape != (self.m,):
            raise DataError(f"there are {values.size} allele frequencies for {self.m} markers. Give one per marker.")
        wrong = ~((values >= 0.0) & (values <= 1.0))
        if wrong.any():
            raise DataError(
                f"{int(wrong.sum())} markers have no call, or a frequency outside 0 to 1: "
                f"{examples(self.markers[wrong])}. Drop them, e.g. with quality_control(call_rate=0.9).",
                markers=self.markers[wrong].tolist(),
            )
        return values

    def quality_control(
        self,
        *,
        call_rate: float | None = None,
        animal_call_rate: float | None = None,
        maf: float | None = None,
        hwe: float | None = None,
        duplicates: Literal["animals", "markers", "both"] | None = None,
        monomorphic: bool = True,
    ) -> tuple[Genotypes, pd.DataFrame]:
        """Drop poor markers and animals, and say which and why.

        Parameters
        ----------
        call_rate, animal_call_rate : float, optional
            Least share of calls of a marker, of an animal.
        maf : float, optional
            Least frequency of the rarer allele.
        hwe : float, optional
            Least p-value of the chi-square test of Hardy-Weinberg proportions, 1 degree of freedom.
        duplicates : {"animals", "markers", "both"}, optional
            Drop those whose genotypes repeat those of an earlier one at every marker, in every animal.
        monomorphic : bool, default True
            Drop markers at which all calls are alike, or there is none.

        Returns
        -------
        genotypes : Genotypes
            What passed.
        report : DataFrame
            One row per unit and reason: what ("animal" or "marker"), name, reason, value. All reasons are judged on
            the data as they came; `attrs["counts"]` has the number by reason.

        Raises
        ------
        DataError
            If nothing would be left.
        ArgumentError
            If a limit is not between 0 and 1.

        Examples
        --------
        >>> M = Genotypes(np.array([[0, 1], [2, 1]]), ids=["a", "b"], markers=["s1", "s2"])
        >>> kept, report = M.quality_control()
        >>> kept.markers.tolist(), report["reason"].tolist()
        (['s1'], ['monomorphic'])
        """
        limits = {"call_rate": call_rate, "animal_call_rate": animal_call_rate, "maf": maf, "hwe": hwe}
        for name, limit in limits.items():
            if limit is not None and not 0.0 <= limit <= 1.0:
                raise ArgumentError(f"{name}={limit} is not between 0 and 1.")
        found = list(self._poor(call_rate, animal_call_rate, maf, hwe, duplicates, monomorphic))
        nothing = _Finding("marker", "", pd.Index([]), np.zeros(0))
        report = pd.concat([f.table() for f in found or [nothing]], ignore_index=True)
        report.attrs["counts"] = {f"{f.what}: {f.reason}": len(f.names) for f in found}
        animals, markers = (report.loc[report["what"] == what, "name"] for what in ("animal", "marker"))
        keep_animals, keep_markers = ~self.ids.isin(animals), ~self.markers.isin(markers)
        if not (keep_animals.any() and keep_markers.any()):
            raise DataError(
                f"quality control leaves nothing: {report.attrs['counts']}. Relax the limits.", report=report
            )
        return self.select(self.ids[keep_animals], self.markers[keep_markers]), report

    def _poor(
        self,
        call_rate: float | None,
        animal_call_rate: float | None,
        maf: float | None,
        hwe: float | None,
        duplicates: str | None,
        monomorphic: bool,
    ) -> Iterator[_Finding]:
        """What each limit asked for drops."""
        p = self.frequencies.to_numpy()
        if call_rate is not None:
            yield _below("marker", "call rate", self.call_rate, call_rate)
        if animal_call_rate is not None:
            yield _below("animal", "call rate", self.call_rate_of_animals, animal_call_rate)
        if maf is not None:
            yield _below("marker", "minor allele frequency", pd.Series(np.minimum(p, 1.0 - p), self.markers), maf)
        if hwe is not None:
            yield _below("marker", "Hardy-Weinberg", pd.Series(self._hardy_weinberg(), self.markers), hwe)
        if monomorphic:
            alike = self._alike()
            yield _Finding("marker", "monomorphic", self.markers[alike], np.asarray(p[alike], dtype=np.float64))
        if duplicates in ("animals", "both"):
            again = pd.Series([row.tobytes() for row in np.ascontiguousarray(self.values)]).duplicated().to_numpy()
            yield _Finding("animal", "duplicate", self.ids[again], np.full(int(again.sum()), np.nan))
        if duplicates in ("markers", "both"):
            again = pd.Series([row.tobytes() for row in np.ascontiguousarray(self.values.T)]).duplicated().to_numpy()
            yield _Finding("marker", "duplicate", self.markers[again], np.full(int(again.sum()), np.nan))

    def _hardy_weinberg(self) -> Array:
        """p-value of the chi-square test by marker, shape (m,); 1 where the marker does not vary."""
        if self.dosages:
            raise ArgumentError("Hardy-Weinberg proportions need whole genotypes, not dosages.")
        seen = np.stack([self._sums(lambda block, g=g: np.sum(block == g, axis=0), axis=1) for g in range(3)])
        p = self.frequencies.to_numpy()
        expected = seen.sum(axis=0) * np.stack([(1 - p) ** 2, 2 * p * (1 - p), p**2])
        with np.errstate(invalid="ignore", divide="ignore"):
            statistic = np.where(expected > 0, (seen - expected) ** 2 / expected, 0.0).sum(axis=0)
        return np.asarray(chdtrc(1, statistic))

    def _alike(self) -> NDArray[np.bool_]:
        """Whether all calls of a marker are alike, or there is none, shape (m,)."""
        alike = np.empty(self.m, dtype=bool)
        for columns, block in self._columns():
            low = np.where(np.isnan(block), np.inf, block).min(axis=0, initial=np.inf)
            high = np.where(np.isnan(block), -np.inf, block).max(axis=0, initial=-np.inf)
            alike[columns] = low >= high
        return alike

    def _spread(self, block: Array, p: Array, scale: Scale | None, columns: slice) -> Array | None:
        """Divisor of each marker of a block, if it is to be scaled."""
        if scale is None:
            return None
        spread = np.sqrt(2.0 * p * (1.0 - p)) if scale == "2pq" else block.std(axis=0, ddof=1)
        flat = ~(spread > 0)
        if flat.any():
            names = self.markers[columns][flat]
            raise DataError(
                f"{int(flat.sum())} markers do not vary and cannot be scaled: {examples(names)}. "
                "Drop them with quality_control(), or do not scale.",
                markers=names.tolist(),
            )
        return spread

    def _columns(self) -> Iterator[tuple[slice, Array]]:
        """Copies as float64 with NaN for missing, some columns at a time."""
        for start in range(0, self.m, MARKERS_AT_ONCE):
            columns = slice(start, min(start + MARKERS_AT_ONCE, self.m))
            block = self.values[:, columns].astype(np.float64)
            block[self.missing(columns)] = np.nan
            yield columns, block

    def _sums(self, summary: Any, axis: int) -> Array:
        """Summary of the blocks, joined along the markers (axis 1) or added up over them (axis 0)."""
        parts = [np.asarray(summary(block), dtype=np.float64) for _, block in self._columns()]
        if not parts:
            return np.zeros(self.n if axis == 0 else 0)
        return np.concatenate(parts) if axis == 1 else np.asarray(np.sum(parts, axis=0))

    def __repr__(self) -> str:
        """One line: animals, markers, calls."""
        kind = "dosages" if self.dosages else "genotypes"
        rate = float(self.call_rate.mean()) if self.m else 1.0
        return f"Genotypes: {self.n} animals, {self.m} markers, {kind}, call rate {rate:.4f}"


@dataclass(frozen=True)
class _Finding:
    """Animals or markers that fail for one reason."""

    what: str
    reason: str
    names: pd.Index[Any]
    values: Array

    def table(self) -> pd.DataFrame:
        """One row per name."""
        names = pd.Series(self.names.to_numpy(), dtype=object)
        return pd.DataFrame({"what": self.what, "name": names, "reason": self.reason, "value": self.values})


def _below(what: str, reason: str, values: pd.Series[float], limit: float) -> _Finding:
    """Units whose value is below the limit; missing values are judged by other reasons."""
    low = (values < limit).to_numpy()
    return _Finding(what, reason, values.index[low], np.asarray(values[low], dtype=np.float64))


def _parts(values: Any, ids: Any, markers: Any) -> tuple[NDArray[Any], Any, Any]:
    """Matrix, ids and markers of an array or of any data frame."""
    if isinstance(values, Genotypes):
        raise ArgumentError("these are Genotypes already; use select() or quality_control() to change them.")
    if not isinstance(values, (pd.DataFrame, np.ndarray, list, tuple)):
        try:
            values = nw.from_native(values, eager_only=True).to_pandas()
        except TypeError as error:
            what = type(values).__name__
            raise ArgumentError(f"genotypes are an array or a data frame, animals by markers, not {what}.") from error
    if not isinstance(values, pd.DataFrame):
        if isinstance(ids, str):
            raise ArgumentError(f"ids={ids!r} names a column, which an array does not have. Pass the ids themselves.")
        return np.asarray(values), ids, markers
    if isinstance(ids, str):
        if ids not in values.columns:
            raise DataError(f"the genotypes have no column {ids!r}; they have {examples(values.columns)}.")
        values = with_written(values, [ids]).set_index(ids)
    unnamed = ids is None and isinstance(values.index, pd.RangeIndex)
    names = (None if unnamed else values.index) if ids is None or isinstance(ids, str) else ids
    return values.to_numpy(), names, values.columns if markers is None else markers


def _positions(labels: pd.Index[Any], wanted: Iterable[Any], what: str) -> Positions:
    """Positions of the names wanted, each once."""
    names = pd.Index(list(wanted))
    again = names[names.duplicated()].unique()
    found = positions_of(names, labels)
    if len(again) or (found < 0).any():
        bad, why = (again, "are named twice") if len(again) else (names[found < 0], "are not among the genotypes")
        raise DataError(f"{len(bad)} {what} {why}: {examples(bad)}.", names=bad.tolist())
    return found
