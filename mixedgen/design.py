"""From a parsed formula, a frame and relationships to a `Design`: the model as data.

y = X b + sum_k Z_k u_k + e,   Var(u_k) = Sigma_k(theta) (x) K_k,   Var(e) = R(theta).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from mixedgen.errors import ArgumentError, DataError, DesignError, FormulaError, RelationshipError, examples
from mixedgen.formula import (
    CONTRASTS,
    Column,
    ParsedFormula,
    RandomTerm,
    ResidualTerm,
    factor_variables,
    model_spec,
    parse,
    parse_residual,
)
from mixedgen.pedigree import Pedigree
from mixedgen.reconcile import IdReport, near_misses, reconcile
from mixedgen.relationship import Relationship
from mixedgen.structure import Diagonal, Identity, Structure, make_structure

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]
NaAction = Literal["omit", "exclude"]
Unmatched = Literal["raise", "omit"]

# A column is aliased when what the columns before it leave of it is this small beside its own length: lme4's
# tolerance (qr.default of R).
ALIAS_TOLERANCE = 1e-7
# X goes sparse above this many columns and elements, if it is mostly zeros: below, dense arithmetic is faster, and its
# rank is found as R finds it; above, its zeros would be stored and multiplied.
DENSE_COLUMNS, DENSE_ELEMENTS = 20, 100_000
# Smallest pivot of the unit-length columns of X at which X'X may stand for X: it costs the square of the digits.
WELL_CONDITIONED = 1e-3
INTERCEPT_NAMES = ("1", "Intercept", "(Intercept)")


@dataclass(frozen=True)
class Term:
    """One random term: Z, the structure of its coefficients and the relationship of its levels.

    Attributes
    ----------
    key : str
        Name of the term: what stands right of the bar, made unique by ``.1``, ``.2``.
    effects : tuple of str
        Names of the c coefficients of one level.
    structure : Structure
        Sigma(theta), c x c.
    relationship : Relationship or None
        K of the levels; None for independent levels.
    levels : Index, length q
        Labels of the levels.
    record, level : ndarray of int, shape (m,), or None
        Record and level of each load; `record` is None when each record loads one level, in order.
    values : ndarray, shape (m, c)
        Weight of each coefficient in the load.
    """

    key: str
    effects: tuple[str, ...]
    structure: Structure
    relationship: Relationship | None
    levels: pd.Index
    record: IntArray | None
    level: IntArray
    values: Array
    n_records: int

    @property
    def q(self) -> int:
        """Number of levels."""
        return len(self.levels)

    @property
    def c(self) -> int:
        """Number of coefficients of one level."""
        return len(self.effects)

    @cached_property
    def Z(self) -> sp.csr_array:
        """Incidence of u, shape (n, c q), coefficient-major: column a q + i is coefficient a of level i."""
        m = len(self.level)
        cols = (self.level[:, None] + self.q * np.arange(self.c)).ravel()
        if self.record is None:
            indptr = np.arange(m + 1) * self.c
            return sp.csr_array((self.values.ravel(), cols, indptr), shape=(self.n_records, self.q * self.c))
        rows = np.repeat(self.record, self.c)
        coo = sp.coo_array((self.values.ravel(), (rows, cols)), shape=(self.n_records, self.q * self.c))
        return coo.tocsr()

    @cached_property
    def Zt(self) -> sp.csr_array:
        """Z', by rows: loads of each coefficient."""
        return self.Z.T.tocsr()

    @cached_property
    def counts(self) -> IntArray:
        """Number of records that load each level, shape (q,)."""
        return np.bincount(self.level, minlength=self.q)

    def multiply_relationship(self, U: Array) -> Array:
        """K U for U of shape (q, any)."""
        return U if self.relationship is None else self.relationship.multiply(U)


@dataclass(frozen=True)
class FixedPart:
    """Fixed effects: the columns that are kept, their names, and what was aliased.

    Attributes
    ----------
    X : ndarray or csr_array, shape (n, p)
        Full column rank.
    R : ndarray, shape (p, p), or None
        Triangular factor of X, X'X = R'R; None for a sparse X.
    names, aliased : tuple of str
        Columns kept and columns dropped because earlier columns (or constraints) determine them.
    null_space : ndarray, shape (p + number aliased, number aliased)
        Null space of the full X, rows in the order of `all_names`: an estimable contrast is orthogonal to it.
    all_names : tuple of str
        All columns of X as coded.
    spec : object
        formulaic's ModelSpec, which codes new data alike.
    """

    X: Array | sp.csr_array
    R: Array | None
    names: tuple[str, ...]
    aliased: tuple[str, ...]
    null_space: Array
    all_names: tuple[str, ...]
    spec: Any

    @property
    def p(self) -> int:
        """Rank of X."""
        return len(self.names)


@dataclass(frozen=True)
class Residual:
    """R(theta), diagonal: the variance of a record is that of its class divided by its weight.

    Attributes
    ----------
    structure : Structure
        Variances of the classes.
    classes : tuple of str
        Names of the classes; empty when all records share one variance.
    position : ndarray of int, shape (n,)
        Class of each record.
    inverse_weights : ndarray, shape (n,), or None
        1 / w; None when all weights are one.
    """

    structure: Structure
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None

    @property
    def homogeneous(self) -> bool:
        """Whether R is known up to one variance."""
        return self.structure.dim == 1

    def diagonal(self, theta: Array) -> Array:
        """Variance of each record, shape (n,)."""
        r = np.diag(self.structure.matrix(theta))[self.position]
        return r if self.inverse_weights is None else r * self.inverse_weights

    def derivative(self, theta: Array, k: int) -> Array:
        """Derivative of `diagonal` by parameter k, shape (n,)."""
        d = np.diag(self.structure.derivatives(theta)[k])[self.position]
        return d if self.inverse_weights is None else d * self.inverse_weights


@dataclass(frozen=True)
class Design:
    """A linear mixed model as data.

    Attributes
    ----------
    parsed : ParsedFormula
        The formula.
    y : ndarray, shape (n,)
        Response less offset.
    offset : ndarray, shape (n,), or None
        Sum of the offsets.
    fixed : FixedPart
        X.
    terms : tuple of Term
        Random terms, most levels first (lme4's order).
    residual : Residual
        R.
    kept : ndarray of int
        Rows of the data that are used.
    index : Index
        Index of the data, all rows.
    na_action : str
        ``"omit"`` or ``"exclude"``.
    lost : dict
        Rows lost to missing values, by variable.
    linked : dict
        Ids in the data, all rows, of each term with a relationship.
    """

    parsed: ParsedFormula
    y: Array
    offset: Array | None
    fixed: FixedPart
    terms: tuple[Term, ...]
    residual: Residual
    kept: IntArray
    index: pd.Index
    na_action: NaAction
    lost: dict[str, int] = field(default_factory=dict)
    linked: dict[str, pd.Series] = field(default_factory=dict, repr=False)

    @cached_property
    def id_reports(self) -> dict[str, IdReport]:
        """How the ids of the data, all rows, meet the levels of each term with a relationship."""
        return {
            t.key: reconcile(self.linked[t.key], t.relationship.labels, name=t.key)
            for t in self.terms
            if t.relationship is not None
        }

    @property
    def n(self) -> int:
        """Number of records."""
        return len(self.y)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where the parameters of each term, and last those of R, stand in theta."""
        sizes = [t.structure.size for t in self.terms] + [self.residual.structure.size]
        ends = np.cumsum(sizes)
        return tuple(slice(int(e - s), int(e)) for s, e in zip(sizes, ends, strict=True))

    @cached_property
    def theta_names(self) -> tuple[str, ...]:
        """Name of each variance parameter."""
        out: list[str] = []
        for t in self.terms:
            short = ["1" if e in INTERCEPT_NAMES else e for e in t.effects]
            out += [t.key + suffix for suffix in t.structure.names(short)]
        return tuple(out + ["residual" + s for s in self.residual.structure.names(self.residual.classes or ("",))])

    @cached_property
    def multiplicity(self) -> tuple[float, ...]:
        """Number of levels (records for R) behind each positive semi-definite block of theta."""
        out = [float(t.q) * m for t in self.terms for m in t.structure.multiplicity]
        if self.residual.homogeneous:
            return (*out, float(self.n))
        return (*out, *np.bincount(self.residual.position, minlength=self.residual.structure.dim).astype(float))

    @cached_property
    def blocks(self) -> tuple[IntArray, ...]:
        """Parameters of each positive semi-definite block of theta: a lower triangle, row by row."""
        structures = [*(t.structure for t in self.terms), self.residual.structure]
        return tuple(s.start + b for s, x in zip(self.slices, structures, strict=True) for b in x.blocks)

    def term(self, name: str) -> int:
        """Position of the term of a name; the parts of an interaction may come in either order.

        Raises
        ------
        ArgumentError
            If there is no such term.
        """
        wanted = normal_key(name)
        for k, t in enumerate(self.terms):
            if normal_key(t.key) == wanted:
                return k
        raise ArgumentError(f"there is no random term {name!r}; the terms are {examples([t.key for t in self.terms])}.")


def normal_key(name: str) -> tuple[str, ...]:
    """Parts of a term's name in a fixed order, so that `a:b` and `b:a` are one."""
    return tuple(sorted(name.replace(" ", "").split(":")))


# ------------------------------------------------------------------------------------------------ the frame
def read_frame(data: Any) -> pd.DataFrame:
    """Pandas frame of a pandas, polars or arrow table, or of the CSV or Parquet file at a path.

    Raises
    ------
    DataError
        If it is none of these, has no rows, or repeats a column name.
    """
    if isinstance(data, str | Path):
        path = Path(data)
        if not path.is_file():
            raise DataError(f"there is no file {str(path)!r}.")
        try:
            frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as err:
            raise DataError(f"{str(path)!r} cannot be read as a table: {err}.") from err
    elif isinstance(data, pd.DataFrame):
        frame = data
    elif isinstance(data, Mapping):
        try:
            frame = pd.DataFrame(dict(data))
        except ValueError as err:
            raise DataError(f"the mapping of columns makes no table: {err}.") from err
    else:
        try:
            frame = nw.from_native(data, eager_only=True).to_pandas()
        except TypeError:
            raise DataError(f"data must be a data frame or a path, not {type(data).__name__}.") from None
    if not len(frame):
        raise DataError("the data frame has no rows.")
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise DataError(f"columns occur twice: {examples(list(repeated))}. Rename or drop them.")
    return frame


def select_rows(frame: pd.DataFrame, subset: Any) -> IntArray:
    """Positions of the rows that `subset` (an expression, a mask, or positions) keeps.

    Raises
    ------
    ArgumentError
        If it is none of these, or reaches beyond the rows.
    DataError
        If it keeps no row.
    """
    n = len(frame)
    if subset is None:
        return np.arange(n)
    name = f"subset={subset!r}" if isinstance(subset, str) else "subset"
    if isinstance(subset, str):
        try:
            subset = frame.eval(subset)
        except Exception as err:
            raise ArgumentError(f"{name} cannot be evaluated: {err}.") from err
        if np.asarray(subset).dtype != bool:
            raise ArgumentError(f"{name} is no condition: it must be true or false for each row.")
    chosen = np.asarray(subset)
    if chosen.dtype == bool:
        if len(chosen) != n:
            raise ArgumentError(f"subset has {len(chosen)} entries for {n} rows.")
        rows = np.flatnonzero(chosen)
    elif np.issubdtype(chosen.dtype, np.integer):
        if np.any((chosen < 0) | (chosen >= n)):
            beyond = chosen[(chosen < 0) | (chosen >= n)]
            raise ArgumentError(f"subset names rows {examples(beyond.tolist())}; the {n} rows are counted from 0.")
        values, times = np.unique(chosen, return_counts=True)
        if np.any(times > 1):
            raise ArgumentError(f"subset names rows {examples(values[times > 1].tolist())} twice.")
        rows = np.sort(chosen)
    else:
        raise ArgumentError("subset must be an expression, a boolean mask or row positions.")
    if not len(rows):
        raise DataError(f"{name} keeps no row.")
    return rows


def require_columns(frame: pd.DataFrame, names: Sequence[str], place: str) -> None:
    """Raise a DataError that names the columns that are absent, with the nearest spelling."""
    absent = [n for n in names if n not in frame.columns]
    if absent:
        near = difflib.get_close_matches(absent[0], [str(c) for c in frame.columns], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise DataError(
            f"no column {examples(absent)} in the data ({place}).{hint} The columns are "
            f"{', '.join(map(str, frame.columns[:20]))}.",
            columns=absent,
        )


def complete_rows(frame: pd.DataFrame, names: Sequence[str]) -> tuple[IntArray, dict[str, int]]:
    """Positions of the rows without a missing value among `names`, and the rows lost by variable."""
    keep = np.ones(len(frame), dtype=bool)
    lost: dict[str, int] = {}
    for name in names:
        gone = frame[name].isna().to_numpy()
        count = int(gone.sum())
        if count == len(frame):
            raise DataError(f"column {name!r} has no value at all: every row is missing.", columns=[name])
        if count:
            lost[name] = count
            keep &= ~gone
    if not keep.any():
        raise DataError(f"no row is complete in all of {examples(list(names))}; rows lost by variable: {lost}.")
    return np.flatnonzero(keep), lost


def numeric(values: Any, name: str, index: pd.Index) -> Array:
    """Finite float array of one variable.

    Raises
    ------
    DataError
        If it holds text, categories or infinite values.
    """
    series = pd.Series(values)
    if isinstance(series.dtype, pd.CategoricalDtype) or not (
        pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_complex_dtype(series)
    ):
        odd = series[pd.to_numeric(series.astype(object), errors="coerce").isna().to_numpy()]
        shown = examples(list(odd.unique())) if len(odd) else f"dtype {series.dtype}"
        raise DataError(f"{name!r} must be numeric, but holds {shown}. Convert it with pd.to_numeric.", columns=[name])
    out = series.to_numpy(dtype=float)
    bad = np.flatnonzero(~np.isfinite(out))
    if len(bad):
        raise DataError(
            f"{name!r} is infinite or undefined in {len(bad)} rows: {examples(list(index[bad]))}. "
            "Correct or drop them.",
            columns=[name],
        )
    return out


# ---------------------------------------------------------------------------------------------- fixed effects
def variables_of(rhs: str, frame: pd.DataFrame) -> list[str]:
    """Columns of the frame that a formulaic right-hand side needs."""
    names = [v for term in model_spec(rhs) for factor in term.factors for v in factor_variables(factor, frame.columns)]
    require_columns(frame, names, f"in {rhs!r}")
    return names


def recode(frame: pd.DataFrame) -> pd.DataFrame:
    """Frame with unused categories dropped, as lme4 does, and pandas' own missing-value types made plain."""
    changes: dict[str, Any] = {}
    for name, column in frame.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            changes[str(name)] = column.cat.remove_unused_categories()
        elif pd.api.types.is_extension_array_dtype(column.dtype) and pd.api.types.is_numeric_dtype(column.dtype):
            changes[str(name)] = column.to_numpy(dtype=float)
    return frame.assign(**changes) if changes else frame


def expected_columns(formula: Any, frame: pd.DataFrame) -> int:
    """Upper bound of the number of columns a formulaic formula makes of a frame."""
    total = 0
    for term in formula:
        product = 1
        for factor in term.factors:
            names = factor_variables(factor, frame.columns)
            for name in names:
                if not pd.api.types.is_numeric_dtype(frame[name]) or str(factor).startswith("C("):
                    product *= max(1, frame[name].nunique())
        total += product
    return total


def materialise(rhs: str, frame: pd.DataFrame, contrasts: Mapping[str, str] | None = None) -> Any:
    """Formulaic's ModelMatrix of a right-hand side: dense, or sparse when it is wide.

    Raises
    ------
    DataError
        If formulaic cannot evaluate it, or a value is infinite.
    """
    formula = model_spec(rhs, contrasts) if contrasts else model_spec(rhs)
    output = "numpy" if len(formula) == 1 and rhs == "1" else "pandas"
    columns = expected_columns(formula, frame)
    if columns > DENSE_COLUMNS and columns * len(frame) > DENSE_ELEMENTS:
        output = "sparse"
    try:
        matrix = formula.get_model_matrix(frame, output=output, na_action="ignore")
    except Exception as err:
        raise DataError(f"the model matrix of {rhs!r} cannot be made: {err}.") from err
    return matrix


def dense_or_sparse(matrix: Any) -> Array | sp.csr_array:
    """Values of a ModelMatrix: dense float array, or CSR when it was made sparse and is mostly zeros."""
    values: Any = matrix.__wrapped__
    if sp.issparse(values):
        sparse = sp.csr_array(matrix.__wrapped__, dtype=np.float64)
        crowded = sparse.nnz > 0.2 * sparse.shape[0] * sparse.shape[1]
        return sparse.toarray() if crowded else sparse
    return np.asarray(values, dtype=float)


def check_finite(X: Array | sp.csr_array, names: Sequence[str]) -> None:
    """Raise a DataError that names the columns of X with infinite or undefined values."""
    if sp.issparse(X):
        bad = np.unique(X.tocoo().col[~np.isfinite(X.data)])
    else:
        bad = np.array([]) if np.isfinite(X.sum()) else np.flatnonzero(~np.isfinite(X).all(axis=0))
    if len(bad):
        raise DataError(f"columns of X are infinite or undefined: {examples([names[int(j)] for j in bad])}.")


def triangular_factor(X: Array) -> Array:
    """Upper triangular R with R'R = X'X, shape (p, p), for n >= p.

    Notes
    -----
    From the Cholesky factor of X'X where its columns are far from dependent, which costs least; otherwise by QR.
    """
    norms = np.sqrt(np.einsum("ij,ij->j", X, X))
    scale = np.where(norms > 0, norms, 1.0)
    try:
        R = np.linalg.cholesky((X.T @ X) / np.outer(scale, scale)).T
        if np.all(np.diag(R) > WELL_CONDITIONED):
            return R * scale
    except np.linalg.LinAlgError:
        pass
    return np.asarray(np.linalg.qr(X / scale, mode="r")) * scale


def dense_null_space(R: Array) -> Array:
    """Null space of a dense X by R's rule: a column is aliased when the columns before it leave nothing of it.

    Parameters
    ----------
    R : ndarray, shape (m, p)
        `triangular_factor` of X, or X itself.

    Returns
    -------
    ndarray, shape (p, d)
        One column for each aliased column j, which has 1 in row j and minus its coefficients on the kept columns.
    """
    p = R.shape[1]
    norms = np.sqrt(np.einsum("ij,ij->j", R, R))
    if len(R) == p and np.all(np.abs(np.diag(R)) > ALIAS_TOLERANCE * norms):
        return np.zeros((p, 0))
    unit = R / np.where(norms > 0, norms, 1.0)
    kept: list[int] = []
    null: list[Array] = []
    for j in range(p):
        basis = unit[:, kept]
        coefficients = np.linalg.lstsq(basis, unit[:, j], rcond=None)[0] if kept else np.zeros(0)
        left = unit[:, j] - basis @ coefficients
        if norms[j] > 0 and np.linalg.norm(left) > ALIAS_TOLERANCE:
            kept.append(j)
            continue
        vector = np.zeros(p)
        vector[j] = 1.0
        if norms[j] > 0:
            vector[kept] = -coefficients * norms[j] / norms[kept]
        null.append(vector)
    return np.stack(null, axis=1) if null else np.zeros((p, 0))


def sparse_null_space(X: sp.csr_array) -> Array:
    """Null space of a sparse X in the echelon form of `dense_null_space`.

    Notes
    -----
    With unit columns and a small eps, eps (X'X + eps I)^-1 is, up to O(eps), the projector on the null space: its trace
    is the dimension, and its image of that many random vectors is a basis, which is then verified on X itself.
    """
    from mixedgen.sparse import analyse

    eps, p = 1e-10, X.shape[1]
    norms = np.sqrt(np.asarray(X.multiply(X).sum(axis=0)).ravel())
    scale = np.where(norms > 0, norms, 1.0)
    unit = X @ sp.diags_array(1.0 / scale)
    gram = sp.csc_array(sp.tril(unit.T @ unit + eps * sp.eye_array(p)))
    gram.sort_indices()
    factor = analyse(gram.indptr, gram.indices, p).factor(gram.data)
    inverse, _ = factor.selected_inverse()
    dimension = eps * float(inverse[gram.indptr[:-1]].sum())
    if dimension < 0.5:
        return np.zeros((p, 0))
    block = np.random.default_rng(0).standard_normal((p, round(dimension) + 5))
    for _ in range(3):
        block = np.linalg.qr(eps * factor.solve(block))[0]
    _, singular, right = np.linalg.svd(unit @ block, full_matrices=False)
    null = block @ right[singular < ALIAS_TOLERANCE * np.sqrt(p)].T
    return echelon_from_last(null) / scale[:, None] * scale[last_pivots(null)]


def last_pivots(null: Array) -> IntArray:
    """Rows that pivot in a column echelon form worked from the last row up, increasing."""
    N, pivots = null.copy(), []
    for k in range(N.shape[1]):
        j = int(np.flatnonzero(np.abs(N[:, k:]).max(axis=1) > 1e-6)[-1])
        best = k + int(np.argmax(np.abs(N[j, k:])))
        N[:, [k, best]] = N[:, [best, k]]
        N[:, k + 1 :] -= np.outer(N[:, k], N[j, k + 1 :] / N[j, k])
        pivots.append(j)
    return np.sort(np.array(pivots, dtype=np.intp))


def echelon_from_last(null: Array) -> Array:
    """Null space with an identity in the rows of `last_pivots`."""
    return null @ np.linalg.inv(null[last_pivots(null)])


def group_columns(terms: Sequence[Term]) -> tuple[sp.csr_array, tuple[str, ...]] | None:
    """Columns Z Q of the unknown-parent groups of all terms, and their names; None without groups.

    Notes
    -----
    As columns of X the groups carry no variance parameter, which they would in K^-1; a* = a + Q g [1]_.

    References
    ----------
    .. [1] Quaas (1988) J Dairy Sci 71:1338.
    """
    blocks: list[sp.csr_array] = []
    names: list[str] = []
    for t in terms:
        if t.relationship is None or not t.relationship.group_names:
            continue
        ZQ = t.relationship.Q[t.level]
        for a, effect in enumerate(t.effects):
            blocks.append(sp.csr_array(sp.diags_array(t.values[:, a]) @ ZQ))
            names += [group_name(t.key, t.effects, effect, g) for g in t.relationship.group_names]
    return (sp.csr_array(sp.hstack(blocks)), tuple(names)) if blocks else None


def group_name(key: str, effects: tuple[str, ...], effect: str, group: str) -> str:
    """Name of the column of X of one unknown-parent group and one effect."""
    return f"{key}:{group}" if len(effects) == 1 else f"{key}:{effect}:{group}"


def build_fixed(
    rhs: str,
    frame: pd.DataFrame,
    contrasts: Mapping[str, str] | None,
    constraints: Sequence[str],
    terms: Sequence[Term] = (),
) -> FixedPart:
    """Fixed part of full column rank: aliased columns are dropped, the later ones, or those that `constraints` name.

    Raises
    ------
    DesignError
        If a constraint names no column of X, or a column that the others do not determine.
    """
    matrix = materialise(rhs, frame, contrasts)
    names = tuple(str(c) for c in matrix.model_spec.column_names)
    X = dense_or_sparse(matrix)
    check_finite(X, names)
    groups = group_columns(terms)
    if groups is not None:
        X = sp.csr_array(sp.hstack([X, groups[0]])) if sp.issparse(X) else np.hstack([X, groups[0].toarray()])
        names = (*names, *groups[1])
    unknown = [c for c in constraints if c not in names]
    if unknown:
        raise DesignError(f"constraints name no column of X: {examples(unknown)}; the columns are {examples(names)}.")
    order = sorted(range(len(names)), key=lambda j: names[j] in constraints)
    ordered = X[:, order] if constraints else X
    R = None if sp.issparse(ordered) else triangular_factor(ordered)
    null = sparse_null_space(sp.csr_array(ordered)) if R is None else dense_null_space(R)
    aliased = {order[j] for j in (last_pivots(null) if null.shape[1] else [])}
    free = [c for c in constraints if names.index(c) not in aliased]
    if free:
        raise DesignError(
            f"{examples(free)} cannot be set to zero: the other columns of X do not determine them. "
            "Change the formula instead."
        )
    kept = [j for j in range(len(names)) if j not in aliased]
    full = np.zeros_like(null)
    full[order] = null
    if R is not None and (null.shape[1] or constraints):
        R = np.asarray(np.linalg.qr(R[:, [order.index(j) for j in kept]], mode="r"))
    return FixedPart(
        R=R,
        X=X if len(kept) == len(names) else X[:, kept],
        names=tuple(names[j] for j in kept),
        aliased=tuple(names[j] for j in sorted(aliased)),
        null_space=full,
        all_names=names,
        spec=matrix.model_spec,
    )


# ---------------------------------------------------------------------------------------------- random effects
def codes_of(column: pd.Series) -> tuple[IntArray, pd.Index]:
    """Level of each row and the levels present, in category order or sorted."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        used = column.cat.remove_unused_categories()
        return np.asarray(used.cat.codes, dtype=np.intp), pd.Index(used.cat.categories)
    codes, levels = pd.factorize(column)
    try:
        order = np.argsort(levels.to_numpy() if isinstance(levels, pd.Index) else levels, kind="stable")
    except TypeError:
        order = np.argsort(np.asarray(levels).astype(str), kind="stable")
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    return rank[codes], pd.Index(levels)[order]


def interaction(columns: Sequence[pd.Series]) -> tuple[IntArray, pd.Index]:
    """Combinations that occur, in the level order of the first column, then the next; labels joined by a colon."""
    codes, levels = codes_of(columns[0])
    for column in columns[1:]:
        more, others = codes_of(column)
        pairs = codes * len(others) + more
        present, codes = np.unique(pairs, return_inverse=True)
        left, right = np.divmod(present, len(others))
        levels = pd.Index([f"{a}:{b}" for a, b in zip(levels[left], others[right], strict=True)])
    return codes.astype(np.intp), levels


def level_positions(column: pd.Series, relationship: Relationship) -> IntArray:
    """Position of each record's id in the labels of a relationship, -1 where it is not there."""
    values = column.astype(column.cat.categories.dtype) if isinstance(column.dtype, pd.CategoricalDtype) else column
    return relationship.labels.get_indexer(pd.Index(values))


def match_levels(column: pd.Series, relationship: Relationship, key: str, name: str) -> IntArray:
    """Position of each record's id in the labels of a relationship.

    Raises
    ------
    RelationshipError
        If some ids are not there; the message says how many and whether they differ only in type or spelling.
    """
    at = level_positions(column, relationship)
    if np.any(at < 0):
        unknown = pd.unique(np.asarray(column.astype(object))[at < 0])
        near = near_misses(unknown, relationship.labels)
        hint = "Add them to the pedigree or matrix, or leave their records out with unmatched='omit'."
        if near:
            hint = f"Some would match under another spelling ({'; '.join(map(str, near))}): convert one side."
        raise RelationshipError(
            f"{len(unknown)} levels of {name!r} ({int((at < 0).sum())} records) are not in the relationship {key!r}: "
            f"{examples(list(unknown))}. {hint}",
            levels=list(unknown),
        )
    return at


def drop_unmatched(
    parsed: ParsedFormula,
    frame: pd.DataFrame,
    relationships: Mapping[str, Relationship],
    kept: IntArray,
    lost: dict[str, int],
) -> tuple[IntArray, dict[str, int]]:
    """Rows whose ids are all in the relationships they link to, and the rows lost for want of it."""
    keep = np.ones(len(kept), dtype=bool)
    links = [(f.source, f.link) for t in parsed.terms for f in t.factors if f.link is not None]
    for source, link in links:
        name = plain_column(source, str(source))
        there = level_positions(frame[name].iloc[kept], relationships[link]) >= 0
        if not there.all():
            lost = lost | {f"{name} (not in {link})": int((~there).sum())}
        keep &= there
    if not keep.any():
        raise RelationshipError("no record is left: none has an id that is in the relationship it links to.")
    return kept[keep], lost


def effect_columns(effects: str, frame: pd.DataFrame) -> tuple[Array, tuple[str, ...]]:
    """Columns left of the bar and their names; the intercept is named as lme4 names it."""
    if effects == "1":
        return np.ones((len(frame), 1)), ("(Intercept)",)
    matrix = materialise(effects, frame)
    names = tuple(str(c) for c in matrix.model_spec.column_names)
    values = dense_or_sparse(matrix)
    dense = values.toarray() if sp.issparse(values) else values
    check_finite(dense, names)
    return np.ascontiguousarray(dense), tuple("(Intercept)" if e in INTERCEPT_NAMES else e for e in names)


def build_term(term: RandomTerm, key: str, frame: pd.DataFrame, relationships: Mapping[str, Relationship]) -> Term:
    """Z, structure and relationship of one random term."""
    columns = [plain_column(f.source, term.source) for f in term.factors]
    links = [f.link for f in term.factors if f.link is not None]
    relationship = None
    if links:
        if len(term.factors) > 1:
            other = ":".join(c for c, f in zip(columns, term.factors, strict=True) if f.link is None)
            raise FormulaError(
                f"{term.source}: a relationship over an interaction of levels cannot be estimated; for one "
                f"variance and independent effects of each level of {other} write "
                f"diag(0 + {other}|{columns[-1]}:{links[-1]}, hom=True)."
            )
        relationship = relationships[links[0]]
        level = match_levels(frame[columns[0]], relationship, links[0], columns[0])
        levels = relationship.labels
    else:
        level, levels = interaction([frame[c] for c in columns])
    if len(levels) < 2:
        raise DesignError(
            f"the grouping factor {key!r} has one level only ({examples(list(levels))}): "
            "its variance cannot be estimated."
        )
    values, effects = effect_columns(term.effects, frame)
    structure = make_structure(term.structure, len(effects), dict(term.options))
    return Term(key, effects, structure, relationship, levels, None, level, values, len(frame))


def plain_column(source: object, text: str) -> str:
    """Name of a plain grouping column; several columns on one term have no implementation."""
    if not isinstance(source, Column):
        raise FormulaError(
            f"{text}: {str(source).partition('(')[0]}(...) is understood, but cannot be estimated by this version."
        )
    return source.name


def grouping_columns(parsed: ParsedFormula) -> list[str]:
    """Columns right of the bars."""
    return [plain_column(f.source, t.source) for t in parsed.terms for f in t.factors]


def unique_keys(terms: Sequence[RandomTerm]) -> list[str]:
    """Names of the terms: the label, with .1, .2 where it has occurred before, as in lme4."""
    seen: dict[str, int] = {}
    keys = []
    for t in terms:
        count = seen.get(t.label, 0)
        if normal_key(t.label) == ("residual",):
            raise DesignError(f"{t.source}: 'residual' is the name of the residual variance; rename the column.")
        keys.append(f"{t.label}.{count}" if count else t.label)
        seen[t.label] = count + 1
    return keys


# -------------------------------------------------------------------------------------------------- residuals
def residual_columns(parts: Sequence[ResidualTerm]) -> list[str]:
    """Columns a residual structure needs."""
    for part in parts:
        unit = f"|{part.unit}" if part.unit else ""
        if part.structure not in ("diag", "idv") or part.unit is not None or len(parts) > 1:
            raise FormulaError(
                f"the residual structure {part.structure}({part.positions}{unit}) is understood, "
                "but cannot be estimated by this version; diag(column) can."
            )
    return [part.positions for part in parts]


def build_residual(parts: Sequence[ResidualTerm], frame: pd.DataFrame, weights: Array | None) -> Residual:
    """R: one variance, or one for each class of a column."""
    inverse_weights = None if weights is None else 1.0 / weights
    if not parts or parts[0].structure == "idv":
        return Residual(Identity(1), (), np.zeros(len(frame), dtype=np.intp), inverse_weights)
    position, levels = codes_of(frame[parts[0].positions])
    hom = dict(parts[0].options).get("hom")
    structure = Identity(1) if hom or len(levels) == 1 else Diagonal(len(levels))
    if structure.dim == 1:
        position = np.zeros(len(frame), dtype=np.intp)
    classes = tuple(str(v) for v in levels) if structure.dim > 1 else ()
    return Residual(structure, classes, position, inverse_weights)


# ------------------------------------------------------------------------------------------------------ build
def evaluate(expression: str, frame: pd.DataFrame, name: str) -> Array:
    """Values of one numeric expression (a response or an offset), shape (n,)."""
    if expression in frame.columns:
        return numeric(frame[expression], name, frame.index)
    matrix = materialise(f"0 + {expression}", frame)
    values = dense_or_sparse(matrix)
    if values.shape[1] != 1:
        raise DataError(f"{name!r} must be one numeric column, but {expression!r} makes {values.shape[1]}.")
    return numeric(np.asarray(values).ravel(), name, frame.index)


def column_or_values(values: str | ArrayLike, frame: pd.DataFrame, name: str) -> str | pd.Series:
    """A column's name as it is; other values as a series on the frame's index."""
    if isinstance(values, str):
        require_columns(frame, [values], f"{name}=")
        return values
    array = np.asarray(values)
    if array.shape != (len(frame),):
        raise ArgumentError(f"{name} has shape {array.shape} for {len(frame)} rows.")
    return pd.Series(array, index=frame.index)


def checked_relationships(relationships: Mapping[str, Relationship] | None) -> dict[str, Relationship]:
    """Relationships by name, or an ArgumentError that says what stands in their place."""
    if relationships is None:
        return {}
    if not isinstance(relationships, Mapping):
        raise ArgumentError(
            f"relationships must map names to relationships, not be a {type(relationships).__name__}: "
            "write {'A': ...}."
        )
    for name, K in relationships.items():
        if not isinstance(K, Relationship):
            advice = "additive(pedigree)" if isinstance(K, Pedigree) else "Relationship.from_matrix(K, ids)"
            raise ArgumentError(f"relationship {name!r} is a {type(K).__name__}, not a Relationship: use {advice}.")
    return dict(relationships)


def build(
    formula: str,
    data: Any,
    *,
    relationships: Mapping[str, Relationship] | None = None,
    residual: str | None = None,
    weights: str | ArrayLike | None = None,
    subset: Any = None,
    na_action: NaAction = "omit",
    contrasts: Mapping[str, str] | None = None,
    unmatched: Unmatched = "raise",
    constraints: Sequence[str] = (),
) -> Design:
    """Design of a formula on a data frame.

    Parameters
    ----------
    formula : str
        lme4's grammar with links to relationships.
    data : DataFrame, polars or arrow table, mapping of columns, or path
        One row per record.
    relationships : mapping of str to Relationship, optional
        Relationships that terms link to by name.
    residual : str, optional
        Residual structure, such as ``"diag(site)"``; one variance by default.
    weights : str or array_like of shape (rows,), optional
        Var(e_i) = sigma^2 / w_i.
    subset : str, mask or positions, optional
        Rows to use.
    na_action : {"omit", "exclude"}
        Rows with a missing value are left out; with ``"exclude"`` fitted values and residuals are padded with NaN.
    contrasts : mapping of str to str, optional
        Coding of factors by column: ``treatment sum helmert poly diff``.
    unmatched : {"raise", "omit"}
        What to do with records whose id is not in the relationship they link to.
    constraints : sequence of str, optional
        Columns of X to set to zero where X is not of full rank.

    Returns
    -------
    Design
        The model as data.

    Raises
    ------
    FormulaError, DataError, DesignError, RelationshipError
        Whatever does not fit, by name.
    """
    if not isinstance(formula, str):
        raise ArgumentError(f"the formula must be text, not {type(formula).__name__}.")
    relationships = checked_relationships(relationships)
    frame = read_frame(data)
    if na_action not in ("omit", "exclude"):
        raise ArgumentError(f"na_action must be 'omit' or 'exclude', not {na_action!r}.")
    parsed = parse(formula, relationships=tuple(relationships), columns=[str(c) for c in frame.columns])
    if len(parsed.responses) != 1:
        raise FormulaError("cbind(...) with several traits is understood, but cannot be estimated by this version.")
    parts = parse_residual(residual) if residual is not None else ()
    frame, names, weight_name = prepare(parsed, parts, frame, weights, contrasts)
    chosen = select_rows(frame, subset)
    complete, lost = complete_rows(frame.iloc[chosen] if subset is not None else frame, names)
    kept = chosen[complete]
    if unmatched not in ("raise", "omit"):
        raise ArgumentError(f"unmatched must be 'raise' or 'omit', not {unmatched!r}.")
    if unmatched == "omit":
        kept, lost = drop_unmatched(parsed, frame, relationships, kept, lost)
    used = frame if len(kept) == len(frame) else frame.iloc[kept]
    used = recode(used[list(dict.fromkeys(names))])
    weight = None if weight_name is None else positive(numeric(used[weight_name], "weights", used.index))
    y = evaluate(parsed.responses[0], used, parsed.responses[0])
    offset = np.sum([evaluate(o, used, f"offset({o})") for o in parsed.offsets], axis=0) if parsed.offsets else None
    keys = unique_keys(parsed.terms)
    terms = [build_term(t, k, used, relationships) for t, k in zip(parsed.terms, keys, strict=True)]
    fixed = build_fixed(parsed.fixed, used, contrasts, constraints, terms)
    if not fixed.p and not terms:
        raise DesignError(f"{formula!r} has neither fixed nor random effects.")
    if fixed.p >= len(y):
        raise DesignError(
            f"{len(y)} records for {fixed.p} independent fixed effects: no degree of freedom is left. "
            "Use a smaller fixed part."
        )
    return Design(
        parsed=parsed,
        y=y if offset is None else y - offset,
        offset=offset,
        fixed=fixed,
        terms=tuple(sorted(terms, key=lambda t: -t.q)),
        residual=build_residual(parts, used, weight),
        kept=kept,
        index=frame.index,
        na_action=na_action,
        lost=lost,
        linked=linked_ids(parsed, keys, frame),
    )


def linked_ids(parsed: ParsedFormula, keys: Sequence[str], frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns that hold the ids of the terms with a relationship, by the key of the term."""
    links = [(k, t.factors[-1], t.source) for t, k in zip(parsed.terms, keys, strict=True)]
    return {k: frame[plain_column(f.source, text)] for k, f, text in links if f.link is not None}


def prepare(
    parsed: ParsedFormula,
    parts: Sequence[ResidualTerm],
    frame: pd.DataFrame,
    weights: str | ArrayLike | None,
    contrasts: Mapping[str, str] | None,
) -> tuple[pd.DataFrame, list[str], str | None]:
    """Frame with the weights as a column, the names of all columns the model needs, and the name of the weights."""
    weight_name = None
    if weights is not None:
        column = column_or_values(weights, frame, "weights")
        weight_name = column if isinstance(column, str) else "(weights)"
        if not isinstance(column, str):
            frame = frame.assign(**{weight_name: column})
    for name in contrasts or {}:
        require_columns(frame, [name], "contrasts=")
        if name not in variables_of(parsed.fixed, frame):
            raise ArgumentError(f"contrasts names {name!r}, which is not in the fixed part {parsed.fixed!r}.")
        known = (contrasts or {})[name] in CONTRASTS
        if known and pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name]):
            raise ArgumentError(f"contrasts names {name!r}, which is numeric: make it categorical first.")
    groups = grouping_columns(parsed)
    require_columns(frame, groups, "right of a bar")
    names = [*groups]
    for part in parts:
        names += residual_columns([part]) if len(parts) == 1 else residual_columns(parts)
    require_columns(frame, names, "residual=")
    if weight_name:
        names.append(weight_name)
    for rhs in (*parsed.responses, *parsed.offsets):
        names += [rhs] if rhs in frame.columns else variables_of(f"0 + {rhs}", frame)
    for rhs in (parsed.fixed, *(t.effects for t in parsed.terms)):
        if rhs != "1":
            names += variables_of(rhs, frame)
    return frame, list(dict.fromkeys(names)), weight_name


def positive(weights: Array) -> Array:
    """Weights, or a DataError that counts those that are not positive."""
    bad = int((weights <= 0).sum())
    if bad:
        raise DataError(f"weights must be positive; {bad} are not. Leave their rows out with subset=.")
    return weights
