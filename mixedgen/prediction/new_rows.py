"""New rows in the coding of a fit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from mixedgen.arrays import Array, IntArray
from mixedgen.design.coding import Coder, dense, operand_values
from mixedgen.design.design import Design
from mixedgen.design.fixed import FixedPart
from mixedgen.design.frame import numeric, require_columns
from mixedgen.design.levels import joined_labels
from mixedgen.design.loads import (
    Loads,
    members_loads,
    membership_loads,
    one_load,
    other_columns,
    some_loads,
    source_columns,
    spread,
)
from mixedgen.design.terms import Term
from mixedgen.design.unknown import known
from mixedgen.errors import DataError, NotAvailableError, RelationshipError, examples, outside
from mixedgen.estimation.fitted import Fitted
from mixedgen.formula.parts import Column, MultiMembership, RandomTerm
from mixedgen.genetics.ids import near_misses, positions_of
from mixedgen.genetics.written import as_written
from mixedgen.prediction.new_residuals import require_residual, residual_needs
from mixedgen.relationship.combine import product_of_pairs
from mixedgen.relationship.relationship import Relationship

Matrix = Array | sp.csr_array

NewLevels = Literal["error", "population"]


@dataclass(frozen=True)
class Predicted:
    """One random term in the rows that are predicted: its levels are those of the fit, then new ones.

    Attributes
    ----------
    term : Term
        The term with the loads of the rows predicted.
    own : Term
        The term of the fit.
    Sigma : ndarray, shape (c, c)
        Covariance of the effects of a level.
    u : ndarray, shape (q, c)
        BLUP of the levels of the fit.
    extension : Relationship or None
        Relationship of the levels of the fit and new ones; those that are not in it are unrelated to any.
    """

    term: Term
    own: Term
    Sigma: Array
    u: Array
    extension: Relationship | None = None

    @cached_property
    def place(self) -> IntArray:
        """Positions of the levels in the extension, -1 where they are not."""
        assert self.extension is not None
        return positions_of(self.term.levels, self.extension.labels)

    def multiply_relationship(self, U: Array) -> Array:
        """K U over old and new levels, for U of shape (q + new, m)."""
        q = self.own.q
        if self.extension is None:
            return np.vstack([self.own.multiply_relationship(U[:q]), U[q:]])
        there = self.place >= 0
        every = np.zeros((self.extension.size, U.shape[1]))
        every[self.place[there]] = U[there]
        out = U.copy()
        out[there] = self.extension.multiply(every)[self.place[there]]
        return out

    def values(self, Py: Array) -> Array:
        """BLUP of old and new levels, shape (q + new, c): (Sigma (x) K_new,old) Z'Py for the new ones."""
        q, new = self.own.q, self.term.q - self.own.q
        u = np.vstack([self.u, np.zeros((new, self.term.c))])
        if new and self.extension is not None:
            loads = (self.own.Zt @ Py).reshape(self.own.c, q).T
            u[q:] = self.multiply_relationship(np.vstack([loads, np.zeros((new, self.own.c))]))[q:] @ self.Sigma
        return u

    def moved(self, rows: slice) -> tuple[Array, Array]:
        """(Sigma (x) K) z of some rows, shape (c, q + new, m), and z'(Sigma (x) K) z, shape (m,)."""
        t = self.term
        z = np.moveaxis(np.asarray(t.Z[rows].todense()).reshape(-1, t.c, t.q), 0, 2)
        Gz = np.tensordot(self.Sigma, np.stack([self.multiply_relationship(part) for part in z]), axes=1)
        return Gz, np.einsum("aqm,aqm->m", z, Gz)

    def on_records(self, Gz: Array) -> Array:
        """Cov(Z u, z'u) = Z G z with the records of the fit, shape (n, m)."""
        q = self.own.q
        return np.asarray(self.own.Z @ Gz[:, :q].reshape(self.own.c * q, -1))


@dataclass(frozen=True)
class Rows:
    """What is predicted: rows x of X and, for each term taken in, loads z of its levels.

    Attributes
    ----------
    X : ndarray or csr_array, shape (m, p)
        Columns of the fixed effects that are kept.
    estimable : ndarray of bool, shape (m,)
        Whether x'b is estimable.
    offset : ndarray, shape (m,), or None
        Offset.
    effects : tuple of Predicted
        Random terms that the prediction holds.
    others : tuple of Predicted
        Terms left out, each with levels of its own.
    """

    X: Matrix
    estimable: NDArray[np.bool_]
    offset: Array | None
    effects: tuple[Predicted, ...]
    others: tuple[Predicted, ...] = ()


def own_rows(fitted: Fitted, chosen: tuple[int, ...], interval: str | None) -> Rows:
    """Rows of the records of the fit."""
    design = fitted.design
    every = [Predicted(t, t, fitted.Sigma(k), fitted.system.solution.u[k]) for k, t in enumerate(design.terms)]
    others = [_fresh(e) for k, e in enumerate(every) if k not in chosen] if interval == "prediction" else []
    estimable = np.ones(design.n, dtype=bool)
    return Rows(design.fixed.X, estimable, design.offset, tuple(every[k] for k in chosen), tuple(others))


def _fresh(e: Predicted) -> Predicted:
    """A term whose levels all count as new and unrelated."""
    none = replace(e.own, levels=e.own.levels[:0], relationship=None)
    return replace(e, own=none, u=e.u[:0], extension=None)


def complete_frame(
    design: Design, frame: pd.DataFrame, chosen: tuple[int, ...], interval: str | None, new_levels: NewLevels
) -> tuple[IntArray, pd.Index]:
    """Positions of the rows of new data that miss nothing, and the index of all; the population has missing levels."""
    sides = [design.fixed.coder.side, *(o.side for o in design.offsets if o.side is not None)]
    names = [v for o in design.offsets for v in o.variables]
    if interval == "prediction":
        require_residual(design, frame)
        names += residual_needs(design)
    groups = []
    for k, t in enumerate(design.terms):
        if k in chosen or interval == "prediction":
            sides.append(t.coder.side)
            sources = [f.source for f in t.written.factors]
            needed = k in chosen or not isinstance(sources[-1], Column)
            names += [c for source in sources for c in other_columns(source) if needed]
            groups += [c for source in sources for c in source_columns(source) if needed]
    for side in sides:
        require_columns(frame, side.variables, f"in {side.text!r}")
        names += side.variables
    require_columns(frame, [*names, *groups], "new data")
    names += groups if new_levels == "error" else []
    names = [name for name in names if name not in design.parents]
    there = frame[list(dict.fromkeys(names))].notna().all(axis=1)
    return np.flatnonzero(there.to_numpy(dtype=bool)), frame.index


def new_rows(
    fitted: Fitted,
    frame: pd.DataFrame,
    chosen: tuple[int, ...],
    new_levels: NewLevels,
    relationships: Mapping[str, Relationship],
    interval: str | None,
) -> Rows:
    """Rows of new data without missing values."""
    design = fitted.design
    X, estimable = _new_fixed_rows(design, frame)
    offset = np.sum([operand_values(o, frame, f"offset({o.text})") for o in design.offsets], axis=0)
    effects, others = [], []
    for k, t in enumerate(design.terms):
        own = Predicted(t, t, fitted.Sigma(k), fitted.system.solution.u[k])
        if k in chosen:
            extend = _pairs_extension if t.pools else _one_extension
            extension = extend(t, design.frame, frame, relationships)
            effects.append(_new_effects(own, design, frame, new_levels, extension))
        elif interval == "prediction":
            others.append(_new_effects(_fresh(own), design, frame, "population", None))
    return Rows(X, estimable, offset if design.offsets else None, tuple(effects), tuple(others))


def _one_extension(
    t: Term, old: pd.DataFrame, new: pd.DataFrame, relationships: Mapping[str, Relationship]
) -> Relationship | None:
    """Relationship of old and new levels that was given for a term."""
    return relationships.get(str(t.written.factors[-1].link))


def _pairs_extension(
    t: Term, old: pd.DataFrame, new: pd.DataFrame, relationships: Mapping[str, Relationship]
) -> Relationship | None:
    """Relationship of old and new pairs: the products of those of their firsts and of their seconds [1]_.

    References
    ----------
    .. [1] Stuber & Cockerham (1966) Genetics 54:1279.
    """
    factors = t.written.factors
    first, second = (relationships.get(str(f.link), K) for f, K in zip(factors, t.pools, strict=True))
    names = [str(f.source) for f in factors]
    was = [as_written(old, c).astype(object) for c in names]
    columns = [pd.concat([w, _as_in_fit(as_written(new, c), w)]) for c, w in zip(names, was, strict=True)]
    known = [positions_of(c, K.labels) >= 0 for c, K in zip(columns, (first, second), strict=True)]
    pairs = pd.DataFrame({k: c.to_numpy() for k, c in enumerate(columns)}, index=_joined_labels(columns))
    pairs = pairs[known[0] & known[1]]
    pairs = pairs[~pairs.index.duplicated()]
    given = any(f.link in relationships for f in factors)
    return product_of_pairs(first, second, pairs) if given or not pairs.index.isin(t.levels).all() else None


def _new_fixed_rows(design: Design, frame: pd.DataFrame) -> tuple[Matrix, NDArray[np.bool_]]:
    """X of new data, and which of its rows are estimable.

    Raises
    ------
    NotAvailableError
        If X holds unknown-parent groups.
    DataError
        If factors have unknown levels, or formulaic cannot code the data.
    """
    fixed = design.fixed
    groups = fixed.all_names[fixed.coder.size :]
    if groups:
        raise NotAvailableError(
            f"the fixed part holds unknown-parent groups ({examples(groups)}): predictions for new data do not know "
            "their shares. Predict the records of the fit, or take blup(term)['total']."
        )
    X = _coded_rows(fixed.coder, frame, repr(design.parsed.fixed))
    return X[:, fixed.kept], _estimable_rows(X, fixed)


def _require_same_kinds(coder: Coder, frame: pd.DataFrame) -> None:
    """Raise a DataError for covariates that are no numbers, and factors with levels that the fit did not have."""
    for x in coder.inputs:
        if x.categories is None:
            numeric(frame[x.variable], x.variable, frame.index)
        else:
            _require_categories(x.variable, frame[x.variable], x.categories)


def _require_categories(name: str, column: pd.Series, categories: pd.Index) -> None:
    """Raise a DataError for values of a factor that are none of its categories."""
    unknown = pd.Index(column.astype(object).unique()).difference(categories, sort=False)
    if len(unknown):
        raise DataError(
            f"factor {name!r} has {len(unknown)} levels that the fit did not have: {examples(list(unknown))}; "
            f"it had {examples(list(categories))}. Nothing is known of their effects.",
            columns=[name],
            levels=list(unknown),
        )


def _estimable_rows(X: Matrix, fixed: FixedPart) -> NDArray[np.bool_]:
    """Whether each row of X, all columns, is estimable; a warning counts those that are not."""
    good = fixed.estimable(X)
    if not good.all():
        warnings.warn(
            f"{int((~good).sum())} rows of the new data are not estimable and are missing: the data of the fit lack "
            "their combination of levels.",
            UserWarning,
            stacklevel=outside(),
        )
    return good


def _new_effects(
    own: Predicted,
    design: Design,
    frame: pd.DataFrame,
    new_levels: NewLevels,
    extension: Relationship | None,
) -> Predicted:
    """One random term in new data."""
    key, levels = own.own.key, own.own.levels
    if extension is not None:
        require_same_scale(own.own, extension)
    loads, new = _new_loads(own.own.written, design, frame, levels, unlabelled=not own.own.q)
    unknown = new if extension is None else new[positions_of(new, extension.labels) < 0]
    if len(unknown) and new_levels == "error":
        raise DataError(_new_levels_message(key, unknown, levels), levels=list(unknown))
    columns = coded_effects(own.own, frame)
    values, _ = spread(loads, columns, ("",) * columns.shape[1])
    every = levels.append(new) if len(new) else levels
    term = replace(own.own, levels=every, record=loads.record, level=loads.level, values=values, n_records=len(frame))
    return replace(own, term=term, extension=extension)


def _new_levels_message(key: str, new: pd.Index, levels: pd.Index) -> str:
    """What is wrong with levels that the fit did not have."""
    near = near_misses(new, levels)
    hint = f" Some would match under another spelling ({'; '.join(map(str, near))})." if near else ""
    return (
        f"{len(new)} levels of {key!r} were not in the fit: {examples(list(new))}.{hint} Use new_levels='population', "
        "leave the term out with re_form=, or for related levels give relationships=."
    )


def require_same_scale(t: Term, extension: Relationship, needed: NDArray[np.bool_] | None = None) -> None:
    """Raise a RelationshipError unless a relationship holds the levels of a term, all or those needed, as the fit does.

    Their diagonal elements must be the same; `needed` has shape (q,).
    """
    assert t.relationship is not None
    needed = np.ones(t.q, dtype=bool) if needed is None else needed
    levels = t.levels[needed]
    place = positions_of(levels, extension.labels)
    lacking = levels[place < 0]
    if len(lacking):
        raise RelationshipError(
            f"{len(lacking)} levels of {t.key!r} are not in the relationship given: {examples(list(lacking))}."
        )
    own = np.asarray(t.relationship.diagonal)[needed]
    if not np.allclose(np.asarray(extension.diagonal)[place], own, rtol=1e-6, atol=1e-8):
        raise RelationshipError(
            f"the relationship given for {t.key!r} is on another scale than that of the fit: the diagonals of its "
            "levels differ. Give the same allele frequencies (p=) or the same base."
        )


def _new_loads(
    term: RandomTerm, design: Design, frame: pd.DataFrame, levels: pd.Index, unlabelled: bool
) -> tuple[Loads, pd.Index]:
    """Loads of new data, and the levels that are not among `levels`, which are numbered after them.

    With `unlabelled` a plain term needs no column: its levels do not matter, and every row may load the same. Rows that
    name nobody where they may load nothing there.
    """
    source = term.factors[-1].source
    if isinstance(source, Column):
        if unlabelled:
            return one_load(np.zeros(len(frame), dtype=np.intp)), pd.Index(["new"])
        names = [str(f.source) for f in term.factors]
        columns = [_as_in_fit(as_written(frame, c), as_written(design.frame, c)) for c in names]
        there = np.all([_named(frame, c, design) for c in names], axis=0)
        codes, new = _coded_levels([_joined_labels([c[there] for c in columns])], levels)
        return some_loads(codes[0], there), new
    names = source_columns(source)
    named = [_named(frame, c, design) for c in names]
    values = [pd.Index(as_written(frame, c).astype(object)[n]) for c, n in zip(names, named, strict=True)]
    codes, new = _coded_levels(values, levels)
    by_name = {c: np.full(len(frame), -1, dtype=np.intp) for c in names}
    for c, there, code in zip(names, named, codes, strict=True):
        by_name[c][there] = code
    if isinstance(source, MultiMembership):
        return membership_loads(source, by_name, frame), new
    return members_loads(source, by_name, frame), new


def _named(frame: pd.DataFrame, name: str, design: Design) -> NDArray[np.bool_]:
    """Whether rows name somebody in a column where they need not, shape (m,); all rows for other columns."""
    return known([frame[name]]) if name in design.parents else np.ones(len(frame), dtype=bool)


def _as_in_fit(column: pd.Series, old: pd.Series) -> pd.Series:
    """Values of new data, those that equal one of the fit as they were there: 3.0 of a column with gaps is 3."""
    values = pd.Index(old.astype(object).unique())
    at = positions_of(column.astype(object), values)
    return column.astype(object).where(at < 0, pd.Series(values.to_numpy()[at], index=column.index, dtype=object))


def _joined_labels(columns: Sequence[pd.Series]) -> pd.Index:
    """Levels of one column, or labels of an interaction joined by colons."""
    values = [np.asarray(c.astype(object)) for c in columns]
    if len(values) == 1:
        return pd.Index(values[0])
    there = np.all([pd.notna(v) for v in values], axis=0)
    return pd.Index(joined_labels(values), dtype=object).where(there)


def _coded_levels(columns: Sequence[pd.Index], levels: pd.Index) -> tuple[list[IntArray], pd.Index]:
    """Position of each value among the levels, or after them among the new ones."""
    at = [positions_of(c, levels) for c in columns]
    missing = [pd.Index(c[a < 0].astype(object)) for c, a in zip(columns, at, strict=True)]
    missing = [m.fillna(f"(missing {k})") for k, m in enumerate(missing, start=1)]  # each a level of its own
    new = pd.Index(pd.unique(np.concatenate([np.asarray(m, dtype=object) for m in missing])))
    for a, m in zip(at, missing, strict=True):
        a[a < 0] = len(levels) + new.get_indexer(m)
    return at, new


def coded_effects(t: Term, frame: pd.DataFrame) -> Array:
    """Columns left of the bar for new data, coded as in the fit."""
    return dense(_coded_rows(t.coder, frame, f"the effects of term {t.key!r}"))


def _coded_rows(coder: Coder, frame: pd.DataFrame, what: str) -> Matrix:
    """New data coded as those of the fit were.

    Raises
    ------
    DataError
        If factors have levels that the fit did not have, or formulaic cannot code the data.
    """
    _require_same_kinds(coder, frame)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Data has categories outside")
            return coder.code(frame)
    except Exception as err:
        raise DataError(f"the new data cannot be coded as {what}: {err}.") from err
