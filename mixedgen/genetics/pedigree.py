"""Pedigrees: checked once, ordered parents first, and the numbers that follow from them alone.

Notation: A = T D T' with T = (I - P)^-1, where row i of P holds 1/2 at the parents of i (1/4 at a maternal grandsire),
and D the Mendelian variances. Metafounders are the first animals, and their block of D is Gamma.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mixedgen.arrays import Array, Positions
from mixedgen.errors import ArgumentError, RelationshipError, examples, public_class
from mixedgen.genetics.files import pedigree_table
from mixedgen.genetics.inbreeding import between_parents, minus_parents, tabular, triangular
from mixedgen.genetics.kernels import UNKNOWN
from mixedgen.genetics.layout import Layout
from mixedgen.genetics.parentage import (
    Columns,
    checked_metafounders,
    group_names,
    missing_codes,
    read_parentage,
    with_metafounders,
)


@public_class
class Pedigree:
    """Animals with their parents, checked and ordered so that parents come first.

    Parameters
    ----------
    frame : DataFrame
        One row per animal; pandas, polars or anything narwhals reads. Rows may come in any order.
    id, sire, dam : str
        Names of the columns. Parents that are missing, 0, "0" or "" are unknown.
    unknown : iterable, optional
        Further codes of unknown parents, such as -9 or "."; numbers and text alike.
    mgs : str, optional
        Column of the maternal grandsire, in place of the dam.
    groups : iterable of str, optional
        Names that stand in the columns of parents for unknown ones (genetic groups, phantom parents). All unknown
        parents must then have one.
    metafounders : DataFrame, shape (g, g), optional
        Relationship Gamma between named unknown parents, with their names as index and columns; they become the
        first animals. One whose row is all zero stays an ordinary unknown parent.
    dates : str, optional
        Column of dates of birth (numbers, dates, or text like 2024-05-31), checked against those of the parents.
    selfing : str, optional
        Column with the number of generations of selfing after the cross; missing is 0, infinite a doubled haploid.
    clones : str, optional
        Column with the genotype that several individuals share; they become one animal of that name.
    monoecious : bool, default False
        Whether an individual may be both sire and dam, as in plants; selfing then means sire = dam.

    Attributes
    ----------
    ids : Index, shape (n,)
        Identities, parents before their progeny. The order of the rows is kept where it already is such an order.
    sire, dam : ndarray of int, shape (n,)
        Positions of the parents in `ids`, -1 where unknown.
    groups : tuple of str
        Names of the genetic groups, in the order of the columns of `Q`; empty without groups.
    clones : Series or None
        Genotype, and so level, of every individual, to be mapped on the records.
    added : int
        Parents without a row of their own, taken in as founders.
    duplicates : int
        Repeated rows, and with `clones` further individuals of a genotype.

    Raises
    ------
    PedigreeError
        With everything that is wrong at once: missing columns or ids, loops, animals that are their own parent, ids
        that are sire and dam, ids with different parents, unknown parents outside the groups, animals not younger
        than a parent. The ids are attributes of the error.
    ArgumentError
        If `frame` is not a data frame, or arguments exclude each other.

    Notes
    -----
    An id is what is written: whole numbers held as floats are integers, 7 and "7" are one animal, "007" is another.
    Where the ids are text, all are text; where they are integers, parents written as text are integers if they are
    written as such.
    A code that is no id by its look (no letter or digit, negative, only zeros, a word such as NA or missing), has no
    row, and is parent of several animals, is an error: list it in `unknown`, or give it a row.

    Metafounders follow [1]_, the sire and maternal grandsire model [2]_: a_ij = a_sj/2 + a_gj/4, with a dam that is
    the unknown, non-inbred daughter of g.

    References
    ----------
    .. [1] Legarra, Christensen, Vitezica, Aguilar & Misztal (2015) Genetics 200:455-468.
    .. [2] Henderson (1975) J Dairy Sci 58:1917-1921.

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
        self,
        frame: Any,
        *,
        id: str = "id",
        sire: str = "sire",
        dam: str = "dam",
        unknown: Iterable[Any] = (),
        mgs: str | None = None,
        groups: Iterable[str] | None = None,
        metafounders: pd.DataFrame | None = None,
        dates: str | None = None,
        selfing: str | None = None,
        clones: str | None = None,
        monoecious: bool = False,
    ) -> None:
        if sum([bool(groups), metafounders is not None, mgs is not None]) > 1:
            raise ArgumentError("groups=, metafounders= and mgs= exclude each other. Give one of them.")
        self.groups: tuple[str, ...] = group_names(groups or ())
        names, Gamma = checked_metafounders(metafounders)
        columns = Columns(
            *(id, sire, dam if mgs is None else mgs, dates, selfing, clones),
            mgs=mgs is not None,
            unknown=self.groups or names,
            missing=missing_codes(unknown),
            monoecious=monoecious or selfing is not None,
        )
        animals, self.Gamma = with_metafounders(read_parentage(frame, columns), names, Gamma)
        self.ids: pd.Index[Any] = animals.labels.rename(id)
        self.sire: Positions = np.maximum(animals.sire, UNKNOWN)
        self.dam: Positions = np.maximum(animals.dam, UNKNOWN)
        self.left: Array = animals.left
        for array in (self.sire, self.dam, self.left):
            array.setflags(write=False)
        self.maternal_grandsire: bool = mgs is not None
        self.clones: pd.Series[Any] | None = animals.clones
        self.added: int = animals.added
        self.duplicates: int = animals.duplicates
        self._group_of = np.array([-2 - animals.sire, -2 - animals.dam]) if self.groups else None

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        sep: str | None = None,
        header: bool | Sequence[str] | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
        **columns: Any,
    ) -> Pedigree:
        """Read a pedigree from a text (also compressed) or Parquet file.

        Parameters
        ----------
        path : str or Path
            `.parquet` and `.pq` are read as Parquet, `.fam` as PLINK's, all else as text. Without a header the first
            three columns are id, sire and dam.
        sep, header, decimal, encoding
            As for `mg.read_table`; by default found in the file.
        **columns
            As for `Pedigree`.

        Returns
        -------
        Pedigree
            Checked and ordered, ids as they are written. Of `.fam` the IID, or FID_IID where that alone is unique.

        Raises
        ------
        PedigreeError
            If the file cannot be read, and as for `Pedigree`.
        FileNotFoundError
            If there is no such file.

        Examples
        --------
        >>> Pedigree.read("ped.csv", id="animal")  # doctest: +SKIP
        """
        return cls(pedigree_table(path, Layout(sep, header, decimal, encoding), columns), **columns)

    @property
    def n(self) -> int:
        """Number of animals, metafounders among them."""
        return len(self.ids)

    @property
    def metafounders(self) -> int:
        """Number of metafounders, the first animals."""
        return len(self.Gamma)

    @cached_property
    def born_inbreeding(self) -> Array:
        """Coefficients of inbreeding a_sd / 2 before any selfing, shape (n,)."""
        return 0.5 * self._between_parents(inbreeding=True)

    @cached_property
    def inbreeding(self) -> pd.Series[float]:
        """Coefficients of inbreeding F, indexed by `ids`; gamma_kk - 1 of metafounders."""
        F = 1.0 - self.left * (1.0 - self.born_inbreeding)
        return pd.Series(F, index=self.ids, name="inbreeding")

    @cached_property
    def Q(self) -> sp.csr_array:
        """Shares of the genetic groups in each animal, shape (n, groups); rows sum to one."""
        unknown = np.zeros((2, self.n), dtype=np.int64) - 1 if self._group_of is None else self._group_of
        flow = GeneFlow(self)
        columns = [sp.csc_array(flow.down(0.5 * (unknown == g).sum(axis=0))[:, None]) for g in range(len(self.groups))]
        return sp.csr_array(sp.hstack(columns)) if columns else sp.csr_array((self.n, 0))

    def _between_parents(self, inbreeding: bool) -> Array:
        """Relationship between sire and dam of every animal, shape (n,)."""
        left = self.left if inbreeding else None
        if self.maternal_grandsire:
            sire, dam, left, own = _with_dams(self.sire, self.dam, left)
            return between_parents(sire, dam, left)[own]
        return between_parents(self.sire, self.dam, left, self.Gamma if self.metafounders else None)

    def __repr__(self) -> str:
        """One line: animals, founders, parents added."""
        founders = int(np.sum((self.sire == UNKNOWN) & (self.dam == UNKNOWN))) - self.metafounders
        named = f", {self.metafounders} metafounders" if self.metafounders else ""
        named = f", {len(self.groups)} groups" if self.groups else named
        return f"Pedigree: {self.n - self.metafounders} animals, {founders} founders, {self.added} parents added{named}"


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
    A^-1 = (I - P)' D^-1 (I - P) [1]_ [2]_; with metafounders their block of D^-1 is Gamma^-1 [3]_.

    References
    ----------
    .. [1] Henderson (1976) Biometrics 32:69-83.
    .. [2] Quaas (1976) Biometrics 32:949-953.
    .. [3] Legarra, Christensen, Vitezica, Aguilar & Misztal (2015) Genetics 200:455-468.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": [1, 2, 3], "sire": [0, 0, 1], "dam": [0, 0, 2]})
    >>> inverse_relationship(Pedigree(frame)).toarray()
    array([[ 1.5,  0.5, -1. ],
           [ 0.5,  1.5, -1. ],
           [-1. , -1. ,  2. ]])
    """
    D = _positive(ped, mendelian_variances(ped, inbreeding))
    T_inverse = _minus_parents(ped)
    weighted = T_inverse.copy()
    weighted.data /= np.repeat(D, np.diff(weighted.indptr))
    g = ped.metafounders
    if g:
        weighted = sp.vstack([sp.csr_array(np.linalg.inv(ped.Gamma) @ np.eye(g, ped.n)), weighted[g:]]).tocsr()
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
    D = _positive(ped, mendelian_variances(ped, inbreeding))
    among_metafounders = np.linalg.slogdet(ped.Gamma)[1] if ped.metafounders else 0.0
    return float(np.log(D[ped.metafounders :]).sum() + among_metafounders)


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
        D: 1 for founders, 3/4 - F_p/4 with one known parent, 1/2 - (F_s + F_d)/4 with two; 11/16 - F_s/4 - F_g/16
        with sire and maternal grandsire; gamma_kk for metafounders. Selfing adds the inbreeding that it adds.

    Raises
    ------
    ArgumentError
        If inbreeding is to be ignored where selfing or metafounders state it.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": [1, 2, 3], "sire": [0, 1, 1], "dam": [0, 0, 2]})
    >>> mendelian_variances(Pedigree(frame)).tolist()
    [1.0, 0.75, 0.5]
    """
    if inbreeding:
        F, born = np.asarray(ped.inbreeding.to_numpy(), dtype=np.float64), ped.born_inbreeding
    else:
        _check_plain(ped)
        F, born = np.zeros(ped.n), np.zeros(ped.n)
    a_parent = 1.0 + np.append(F, -1.0)  # the last entry serves unknown parents
    from_sire, from_dam = (share**2 for share in _shares(ped))
    return np.asarray(1.0 + F - born - from_sire * a_parent[ped.sire] - from_dam * a_parent[ped.dam])


def mendelian_covariance(ped: Pedigree, D: Array, V: Array) -> Array:
    """Product of the covariance of the Mendelian terms, D with Gamma in place of its first entries, and V.

    Parameters
    ----------
    ped : Pedigree
        Of n animals.
    D : ndarray, shape (m,)
        Mendelian variances of the metafounders and some or all animals.
    V : ndarray, shape (m,) or (m, k)
        One row for each of these.

    Returns
    -------
    ndarray, shape of V
        D V.

    Examples
    --------
    >>> ped = Pedigree(pd.DataFrame({"id": [1], "sire": [0], "dam": [0]}))
    >>> mendelian_covariance(ped, np.array([2.0]), np.array([3.0])).tolist()
    [6.0]
    """
    product = (V.T * D).T
    if ped.metafounders:
        product[: ped.metafounders] = ped.Gamma @ V[: ped.metafounders]
    return np.asarray(product)


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
    D = mendelian_variances(ped, inbreeding=False)
    squares = minus_parents(ped.sire, ped.dam, *(share**2 for share in _shares(ped)))
    return np.asarray(triangular(squares).solve(D + 0.5 * ped._between_parents(inbreeding=False)))


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
    if ped.maternal_grandsire:
        sire, dam, left, own = _with_dams(ped.sire, ped.dam, ped.left)
        return tabular(sire, dam, left)[np.ix_(own, own)]
    return tabular(ped.sire, ped.dam, ped.left, ped.Gamma if ped.metafounders else None)


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
        T_inverse = _minus_parents(ped)
        self._factor = triangular(T_inverse if animals is None else T_inverse[animals][:, animals])

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


def _shares(ped: Pedigree) -> tuple[float, float]:
    """Shares of the first and the second parent in an animal."""
    return 0.5, 0.25 if ped.maternal_grandsire else 0.5


def _minus_parents(ped: Pedigree) -> sp.csr_array:
    """T^-1 = I - P."""
    return minus_parents(ped.sire, ped.dam, *_shares(ped))


def _with_dams(
    sire: Positions, grandsire: Positions, left: Array | None
) -> tuple[Positions, Positions, Array | None, Positions]:
    """Sire, dam and selfing with an own dam before each animal that has a grandsire, and where the animals are."""
    has_dam = grandsire >= 0
    own = np.arange(len(sire)) + np.cumsum(has_dam)
    dams = own[has_dam] - 1
    place = np.append(own, UNKNOWN)  # the last entry serves position -1
    n = len(sire) + len(dams)
    new_sire, new_dam, new_left = np.full(n, UNKNOWN), np.full(n, UNKNOWN), np.ones(n)
    new_sire[own], new_sire[dams] = place[sire], place[grandsire[has_dam]]
    new_dam[own[has_dam]] = dams
    if left is None:
        return new_sire, new_dam, None, own
    new_left[own] = left
    return new_sire, new_dam, new_left, own


def _check_plain(ped: Pedigree) -> None:
    """Refuse to ignore inbreeding where it is given."""
    if ped.metafounders or np.any(ped.left < 1.0):
        raise ArgumentError("inbreeding=False contradicts selfing= and metafounders=, which state inbreeding.")


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
