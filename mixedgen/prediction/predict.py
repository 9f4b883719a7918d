"""Predictions for the records of a fit and for new ones, with the variance of their error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import ndtri

from mixedgen.design.design import Design, operands
from mixedgen.design.frame import coded_alike, evaluate, numeric, read_frame, recode, require_columns, variables_of
from mixedgen.design.terms import (
    Loads,
    Term,
    entry_loads,
    membership_loads,
    other_columns,
    source_columns,
    spread,
    unique_keys,
)
from mixedgen.errors import ArgumentError, DataError, NotAvailableError, RelationshipError, examples
from mixedgen.estimation.estimate import Fitted
from mixedgen.formula.parse import Column, Members, MultiMembership, RandomTerm, factor_variables
from mixedgen.genetics.ids import near_misses
from mixedgen.prediction.effects import fitted_values, on_data
from mixedgen.relationship import Relationship

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]
Matrix = Array | sp.csr_array
NewLevels = Literal["error", "population"]
Interval = Literal["confidence", "prediction"]

COLUMNS = 256  # predictions whose variance is solved for at once
ELEMENTS = 2**24  # numbers in one block of them: records and levels x predictions
ESTIMABLE = 1e-8  # of the length of a row of X: what it may have along the null space
# Functions of one value at a time: they give the same in new data as in old.


@dataclass(frozen=True)
class Effects:
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
        return self.extension.labels.get_indexer(self.term.levels)

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
    effects : tuple of Effects
        Random terms that the prediction holds.
    others : tuple of Effects
        Terms left out, each with levels of its own.
    """

    X: Matrix
    estimable: NDArray[np.bool_]
    offset: Array | None
    effects: tuple[Effects, ...]
    others: tuple[Effects, ...] = ()


def predict(
    fitted: Fitted,
    data: Any = None,
    *,
    re_form: str | Sequence[str] = "all",
    new_levels: NewLevels = "error",
    relationships: Mapping[str, Relationship] | None = None,
    interval: Interval | None = None,
    level: float = 0.95,
) -> pd.Series | pd.DataFrame:
    """Predictions x'b + z'u for the records of the fit, or for new data.

    Parameters
    ----------
    fitted : Fitted
        The model.
    data : DataFrame, polars or arrow table, mapping of columns, or path, optional
        New data; by default the records of the fit.
    re_form : {"all", "none"} or sequence of str
        Random terms that the prediction holds.
    new_levels : {"error", "population"}
        Levels that the fit did not have: an error, or an effect of zero with the variance of an unrelated level.
    relationships : mapping of str to Relationship, optional
        By the name in the formula: a relationship of the levels of the fit and new ones, on the same scale, through
        which the new ones are predicted.
    interval : {"confidence", "prediction"}, optional
        Interval of the mean x'b + z'u, or of a new record: that adds the residual, of weight one in new data, and the
        terms left out, at new unrelated levels.
    level : float
        Of the interval.

    Returns
    -------
    Series or DataFrame
        Predictions; with `interval` a frame ``mean se lower upper``, by the normal distribution. Rows of new data with
        a missing value are missing.

    Raises
    ------
    DataError
        If columns are lacking, or factors have levels that the fit did not have.
    NotAvailableError
        If the fit does not hold what new data would need: several traits, unknown-parent groups, effects of a stateful
        transform, several residual variances.
    ArgumentError, RelationshipError
        If an option is unknown, or a relationship does not fit that of the model.

    Warns
    -----
    UserWarning
        If rows are not estimable, for want of a cell in the data of the fit; they are missing.

    Notes
    -----
    With d = Z G z and w = V^-1 X (X'V^-1 X)^-1 x, Var(x'b_hat + z'u_hat - x'b - z'u) =
    x'(X'V^-1 X)^-1 x - 2 w'd + z'G z - d'P d: exact at given variances, and no matrix of all effects is formed. That
    the variances are estimated is not counted.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())
    >>> new = {"Days": [10, 10], "Subject": ["308", "370"]}
    >>> predict(fit.fitted, new, interval="confidence").round(1)
        mean    se  lower  upper
    0  450.3  15.9  419.3  481.4
    1  378.7  15.9  347.6  409.8
    """
    check_options(fitted, data, new_levels, relationships, interval, level)
    design = fitted.design
    chosen = chosen_terms(design, re_form)
    if data is None and interval is None and len(chosen) == len(design.terms):
        return fitted_values(fitted).rename(None) if design.traits is None else fitted_values(fitted)
    if data is None:
        rows = own_rows(fitted, chosen, interval)
        table = prediction_table(fitted, rows, interval, level, residual_variance(fitted, interval, new=False))
        return shaped({name: on_data(fitted, values, name) for name, values in table.items()})
    frame = read_frame(data)
    complete, index = complete_frame(design, frame, chosen, interval)
    table = {name: np.zeros(0) for name in (("mean", "se", "lower", "upper") if interval else ("mean",))}
    if len(complete):
        rows = new_rows(fitted, recode(frame.iloc[complete]), chosen, new_levels, relationships or {}, interval)
        table = prediction_table(fitted, rows, interval, level, residual_variance(fitted, interval, new=True))
    return shaped({name: padded(values, complete, index) for name, values in table.items()})


def check_options(
    fitted: Fitted,
    data: Any,
    new_levels: str,
    relationships: Mapping[str, Relationship] | None,
    interval: str | None,
    level: float,
) -> None:
    """Raise an error for options that do not exist, or that this model has no answer for."""
    if new_levels not in ("error", "population"):
        raise ArgumentError(f"new_levels must be 'error' or 'population', not {new_levels!r}.")
    if interval not in (None, "confidence", "prediction"):
        raise ArgumentError(f"interval must be 'confidence' or 'prediction', not {interval!r}.")
    if not 0.0 < level < 1.0:
        raise ArgumentError(f"level must be between 0 and 1, not {level!r}.")
    links = {t.factors[-1].link for t in fitted.design.parsed.terms}
    unknown = [name for name in relationships or {} if name not in links]
    if unknown:
        raise ArgumentError(f"relationships names {examples(unknown)}, which no term of the formula uses.")
    if fitted.design.traits is not None and (data is not None or interval is not None):
        raise NotAvailableError(
            "predictions for new data and intervals are not available for cbind(...): fit the long form, with a column "
            "of traits."
        )


def chosen_terms(design: Design, re_form: str | Sequence[str]) -> tuple[int, ...]:
    """Positions of the terms that the prediction holds."""
    if isinstance(re_form, str) and re_form in ("all", "none"):
        return tuple(range(len(design.terms))) if re_form == "all" else ()
    names = [re_form] if isinstance(re_form, str) else list(re_form)
    return tuple(sorted({design.term(name) for name in names}))


def written_terms(design: Design) -> dict[str, RandomTerm]:
    """The terms as parsed, by key."""
    return dict(zip(unique_keys(design.parsed.terms), design.parsed.terms, strict=True))


def shaped(columns: Mapping[str, Any]) -> pd.Series | pd.DataFrame:
    """The mean alone as a series without a name; several columns as a frame; those of traits as they are."""
    if len(columns) > 1:
        return pd.DataFrame(dict(columns))
    mean = columns["mean"]
    return mean.rename(None) if mean.ndim == 1 else mean


def padded(values: Array, complete: IntArray, index: pd.Index) -> pd.Series:
    """Values of the complete rows on the index of all."""
    out = np.full(len(index), np.nan)
    out[complete] = values
    return pd.Series(out, index=index)


# Rows of the fit


def own_rows(fitted: Fitted, chosen: tuple[int, ...], interval: str | None) -> Rows:
    """Rows of the records of the fit."""
    design = fitted.design
    every = [Effects(t, t, Sigma_of(fitted, k), fitted.system.solution.u[k]) for k, t in enumerate(design.terms)]
    others = [fresh(e) for k, e in enumerate(every) if k not in chosen] if interval == "prediction" else []
    estimable = np.ones(design.n, dtype=bool)
    return Rows(design.fixed.X, estimable, design.offset, tuple(every[k] for k in chosen), tuple(others))


def Sigma_of(fitted: Fitted, k: int) -> Array:
    """Sigma of a term."""
    return fitted.design.terms[k].structure.matrix(fitted.theta[fitted.design.slices[k]])


def fresh(e: Effects) -> Effects:
    """A term whose levels all count as new and unrelated."""
    none = replace(e.own, levels=e.own.levels[:0], relationship=None)
    return replace(e, own=none, u=e.u[:0], extension=None)


# Rows of new data


def complete_frame(
    design: Design, frame: pd.DataFrame, chosen: tuple[int, ...], interval: str | None
) -> tuple[IntArray, pd.Index]:
    """Positions of the rows of new data that miss nothing, and the index of all."""
    written = written_terms(design)
    names = variables_of(design.parsed.fixed, frame) if design.parsed.fixed != "1" else []
    for rhs in design.parsed.offsets:
        names += operands(rhs, frame)
    for k, t in enumerate(design.terms):
        term = written[t.key]
        if k in chosen or interval == "prediction":
            names += variables_of(term.effects, frame) if term.effects != "1" else []
            groups = [c for f in term.factors for c in (*source_columns(f.source), *other_columns(f.source))]
            names += groups if k in chosen or not isinstance(term.factors[-1].source, Column) else []
    require_columns(frame, names, "new data")
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
    written = written_terms(design)
    X, estimable = fixed_rows(design, frame)
    offset = np.sum([evaluate(o, frame, f"offset({o})") for o in design.parsed.offsets], axis=0)
    effects, others = [], []
    for k, t in enumerate(design.terms):
        own, term = Effects(t, t, Sigma_of(fitted, k), fitted.system.solution.u[k]), written[t.key]
        if k in chosen:
            extension = relationships.get(str(term.factors[-1].link))
            effects.append(new_effects(design, own, term, frame, new_levels, extension))
        elif interval == "prediction":
            others.append(new_effects(design, fresh(own), term, frame, "population", None))
    return Rows(X, estimable, offset if design.parsed.offsets else None, tuple(effects), tuple(others))


def fixed_rows(design: Design, frame: pd.DataFrame) -> tuple[Matrix, NDArray[np.bool_]]:
    """X of new data, and which of its rows are estimable.

    Raises
    ------
    NotAvailableError
        If X holds unknown-parent groups.
    DataError
        If factors have unknown levels, or formulaic cannot code the data.
    """
    fixed = design.fixed
    groups = fixed.all_names[len(fixed.spec.column_names) :]
    if groups:
        raise NotAvailableError(
            f"the fixed part holds unknown-parent groups ({examples(groups)}): predictions for new data do not know "
            "their shares. Predict the records of the fit, or take blup(term)['total']."
        )
    values = coded(fixed.spec, frame, repr(design.parsed.fixed))
    X: Any = sp.csr_array(values, dtype=float) if hasattr(values, "toarray") else np.asarray(values, dtype=float)
    kept = np.flatnonzero(np.isin(fixed.all_names, fixed.names))
    return X[:, kept], estimable_rows(X, fixed.null_space)


def require_same_kinds(spec: Any, frame: pd.DataFrame) -> None:
    """Raise a DataError for covariates that are no numbers, and factors with levels that the fit did not have."""
    factors = {str(f.expr): f for term in spec.terms for f in term.factors}
    for name, (kind, state) in spec.encoder_state.items():
        names = factor_variables(factors[str(name)], frame.columns) if str(name) in factors else []
        if kind.value == "numerical" and str(name) in frame.columns:
            numeric(frame[str(name)], str(name), frame.index)
        if kind.value != "categorical" or len(names) != 1 or "categories" not in state:
            continue
        if str(name) in frame.columns or str(name).startswith("C("):
            require_categories(names[0], frame[names[0]], pd.Index(state["categories"]))


def require_categories(name: str, column: pd.Series, categories: pd.Index) -> None:
    """Raise a DataError for values of a factor that are none of its categories."""
    unknown = pd.Index(column.astype(object).unique()).difference(categories, sort=False)
    if len(unknown):
        raise DataError(
            f"factor {name!r} has {len(unknown)} levels that the fit did not have: {examples(list(unknown))}; "
            f"it had {examples(list(categories))}. Nothing is known of their effects.",
            columns=[name],
            levels=list(unknown),
        )


def estimable_rows(X: Matrix, null_space: Array) -> NDArray[np.bool_]:
    """Whether each row of X, all columns, is orthogonal to the null space; a warning counts those that are not."""
    if not null_space.shape[1]:
        return np.ones(X.shape[0], dtype=bool)
    size = np.sqrt(np.asarray((X * X).sum(axis=1)).ravel())
    along = np.abs(X @ (null_space / np.linalg.norm(null_space, axis=0))).max(axis=1)
    good = np.asarray(along <= ESTIMABLE * np.maximum(size, 1.0))
    if not good.all():
        warnings.warn(
            f"{int((~good).sum())} rows of the new data are not estimable and are missing: the data of the fit lack "
            "their combination of levels.",
            UserWarning,
            stacklevel=6,
        )
    return good


def new_effects(
    design: Design,
    own: Effects,
    written: RandomTerm,
    frame: pd.DataFrame,
    new_levels: NewLevels,
    extension: Relationship | None,
) -> Effects:
    """One random term in new data."""
    key, levels = own.own.key, own.own.levels
    if extension is not None:
        require_same_scale(own.own, extension)
    loads, new = new_loads(written, frame, levels, unlabelled=not own.own.q)
    unknown = new if extension is None else new[extension.labels.get_indexer(new) < 0]
    if len(unknown) and new_levels == "error":
        raise DataError(new_levels_message(key, unknown, levels), levels=list(unknown))
    columns = coded_effects(own.own, frame)
    values, _ = spread(loads, columns, ("",) * columns.shape[1])
    every = levels.append(new) if len(new) else levels
    term = replace(own.own, levels=every, record=loads.record, level=loads.level, values=values, n_records=len(frame))
    return replace(own, term=term, extension=extension)


def new_levels_message(key: str, new: pd.Index, levels: pd.Index) -> str:
    """What is wrong with levels that the fit did not have."""
    near = near_misses(new, levels)
    hint = f" Some would match under another spelling ({'; '.join(map(str, near))})." if near else ""
    return (
        f"{len(new)} levels of {key!r} were not in the fit: {examples(list(new))}.{hint} Use new_levels='population', "
        "leave the term out with re_form=, or for related levels give relationships=."
    )


def require_same_scale(t: Term, extension: Relationship) -> None:
    """Raise a RelationshipError unless a relationship holds all levels of a term, with the same diagonal."""
    assert t.relationship is not None
    place = extension.labels.get_indexer(t.levels)
    lacking = t.levels[place < 0]
    if len(lacking):
        raise RelationshipError(
            f"{len(lacking)} levels of {t.key!r} are not in the relationship given: {examples(list(lacking))}."
        )
    if not np.allclose(np.asarray(extension.diagonal)[place], t.relationship.diagonal, rtol=1e-6, atol=1e-8):
        raise RelationshipError(
            f"the relationship given for {t.key!r} is on another scale than that of the fit: the diagonals of its "
            "levels differ. Give the same allele frequencies (p=) or the same base."
        )


def new_loads(term: RandomTerm, frame: pd.DataFrame, levels: pd.Index, unlabelled: bool) -> tuple[Loads, pd.Index]:
    """Loads of new data, and the levels that are not among `levels`, which are numbered after them.

    With `unlabelled` a plain term needs no column: its levels do not matter, and every row may load the same.
    """
    source = term.factors[-1].source
    n = len(frame)
    if isinstance(source, Column):
        if unlabelled:
            return Loads(None, np.zeros(n, dtype=np.intp), np.zeros(n, dtype=np.intp), None, ("",)), pd.Index(["new"])
        names = [str(f.source) for f in term.factors]
        codes, new = coded_levels([joined([frame[c] for c in names])], levels)
        return Loads(None, codes[0], np.zeros(n, dtype=np.intp), None, ("",)), new
    names = source_columns(source)
    codes, new = coded_levels([pd.Index(frame[c].astype(object)) for c in names], levels)
    by_name = dict(zip(names, codes, strict=True))
    if isinstance(source, MultiMembership):
        return membership_loads(source, by_name, frame), new
    return members_loads(source, by_name, frame), new


def members_loads(source: Members, codes: Mapping[str, IntArray], frame: pd.DataFrame) -> Loads:
    """Loads of the entries of `members`, in the order of the records."""
    parts = [entry_loads(e, codes, frame) for e in source.entries]
    record, level = (np.concatenate([p[i] for p in parts]) for i in (0, 1))
    entry = np.repeat(np.arange(len(parts)), [len(r) for r, _ in parts])
    order = np.argsort(record, kind="stable")
    return Loads(record[order], level[order], entry[order], None, tuple(str(e) for e in source.entries))


def joined(columns: Sequence[pd.Series]) -> pd.Index:
    """Levels of one column, or labels of an interaction joined by colons."""
    values = [np.asarray(c.astype(object)) for c in columns]
    if len(values) == 1:
        return pd.Index(values[0])
    return pd.Index([":".join(str(v) for v in row) for row in zip(*values, strict=True)])


def coded_levels(columns: Sequence[pd.Index], levels: pd.Index) -> tuple[list[IntArray], pd.Index]:
    """Position of each value among the levels, or after them among the new ones."""
    at = [np.asarray(levels.get_indexer(c), dtype=np.intp) for c in columns]
    missing = [c[a < 0] for c, a in zip(columns, at, strict=True)]
    new = pd.Index(pd.unique(np.concatenate([np.asarray(m, dtype=object) for m in missing])))
    for a, m in zip(at, missing, strict=True):
        a[a < 0] = len(levels) + new.get_indexer(m)
    return at, new


def coded_effects(t: Term, frame: pd.DataFrame) -> Array:
    """Columns left of the bar for new data, coded as in the fit.

    Raises
    ------
    DataError
        If factors have levels that the fit did not have, or formulaic cannot code the data.
    """
    if t.spec is None:
        return np.ones((len(frame), 1))
    values = coded(t.spec, frame, f"the effects of term {t.key!r}")
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=float)


def coded(spec: Any, frame: pd.DataFrame, what: str) -> Any:
    """New data coded as those of the fit were."""
    require_same_kinds(spec, frame)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Data has categories outside")
            return coded_alike(spec, frame)
    except Exception as err:
        raise DataError(f"the new data cannot be coded as {what}: {err}.") from err


# The prediction and its variance


def prediction_table(
    fitted: Fitted, rows: Rows, interval: str | None, level: float, residual: Array | float
) -> dict[str, Array]:
    """Columns of the result: ``mean``, and with an interval ``se lower upper``."""
    mean = np.asarray(rows.X @ fitted.system.solution.b) + (0.0 if rows.offset is None else rows.offset)
    for e in rows.effects:
        mean = mean + e.term.Z @ e.values(fitted.system.Py).T.ravel()
    mean = np.where(rows.estimable, mean, np.nan)
    if interval is None:
        return {"mean": mean}
    variance = np.concatenate([prediction_variance(fitted, rows, block) for block in blocks(fitted, rows)]) + residual
    se = np.where(rows.estimable, np.sqrt(np.maximum(variance, 0.0)), np.nan)
    half = ndtri(0.5 + level / 2.0) * se
    return {"mean": mean, "se": se, "lower": mean - half, "upper": mean + half}


def blocks(fitted: Fitted, rows: Rows) -> Iterator[slice]:
    """Predictions in blocks that fit into memory."""
    size = fitted.design.n + sum(e.term.q * e.term.c for e in (*rows.effects, *rows.others))
    width = int(np.clip(ELEMENTS // size, 1, COLUMNS))
    yield from (slice(start, start + width) for start in range(0, rows.X.shape[0], width))


def prediction_variance(fitted: Fitted, rows: Rows, block: slice) -> Array:
    """Var(x'b_hat + z'u_hat - x'b - z'u) of some rows, and the variance of the terms left out, shape (m,)."""
    part = rows.X[block]
    X = part.toarray() if sp.issparse(part) else np.asarray(part)
    d = np.zeros((fitted.design.n, len(X)))
    variance = np.zeros(len(X))
    for e in rows.effects:
        Gz, own = e.moved(block)
        d += e.on_records(Gz)
        variance += own
    variance -= np.einsum("nm,nm->m", d, fitted.system.project(d))
    for e in rows.others:
        variance += e.moved(block)[1]
    if not X.shape[1]:
        return variance
    w = fitted.system.blue_weights(X)
    blue = np.einsum("mi,ij,mj->m", X, fitted.system.fixed_covariance(), X, optimize=True)
    return variance + blue - 2.0 * np.einsum("nm,nm->m", w, d)


def residual_variance(fitted: Fitted, interval: str | None, *, new: bool) -> Array | float:
    """What the residual of a new record adds to the variance; nothing in an interval of the mean.

    Raises
    ------
    NotAvailableError
        If it is not the same for all records of new data.
    """
    if interval != "prediction":
        return 0.0
    design = fitted.design
    theta = fitted.theta[design.slices[-1]]
    if not new:
        return design.residual.variances(theta)
    if not design.residual.homogeneous:
        raise NotAvailableError(
            "the residual variance differs between records, or residuals are correlated, and new data do not say which "
            "they have: take interval='confidence', and add the variance."
        )
    return float(theta[0])
