"""Marginal means of the fixed effects over a reference grid, and contrasts of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from mixedgen.design.design import Design
from mixedgen.design.frame import coded_alike, recode
from mixedgen.design.terms import codes_of
from mixedgen.errors import ArgumentError, examples, require_probability
from mixedgen.formula.parse import factor_variables, model_spec
from mixedgen.inference.degrees import Inference
from mixedgen.inference.hypotheses import kept_from_all
from mixedgen.inference.wald import estimable, f_tail, t_quantile, t_tests

Array = NDArray[np.float64]
Weights = Literal["equal", "proportional", "outer", "cells"]
Method = Literal["pairwise", "trt.vs.ctrl", "poly"]
Adjust = Literal["tukey", "holm", "bonferroni", "sidak", "mvt", "none"]

SOBOL = 15  # log2 of the points of a quadrature over directions: an error of some 1e-5
ZERO = 1e-10  # eigenvalue of a correlation matrix beside its largest
MAX_CELLS = 1_000_000  # rows of a reference grid
KEPT_VALUES = 2  # a covariate of so few values stays as it is, like a factor: emmeans' cov.keep
DEFAULT_ADJUST: dict[str, Adjust] = {"pairwise": "tukey", "trt.vs.ctrl": "mvt", "poly": "none"}
DEGREES = ("linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6")


@dataclass(frozen=True)
class Basis:
    """Linear functions of the fixed effects behind a table of means.

    Attributes
    ----------
    inference : Inference
        The model.
    L : ndarray, shape (m, p)
        Each mean over the columns of X that are kept.
    good : ndarray of bool, shape (m,)
        Whether it is estimable.
    constant : float
        What the offset adds to each.
    specs, by : tuple of str
        Variables whose levels are compared, and those within whose levels they are.
    ddf : str
        Method of degrees of freedom.
    level : float
        Of the intervals.
    """

    inference: Inference
    L: Array
    good: NDArray[np.bool_]
    constant: float
    specs: tuple[str, ...]
    by: tuple[str, ...]
    ddf: str
    level: float


class MarginalMeans(pd.DataFrame):
    """Frame of marginal means, columns (factors) ``emmean se df lower upper``, which knows how to contrast them.

    Attributes
    ----------
    basis : Basis
        The linear functions behind the rows.
    """

    _metadata = ["basis"]
    basis: Basis

    def contrasts(self, method: Method = "pairwise", *, adjust: Adjust | None = None) -> pd.DataFrame:
        """Contrasts of the means: `contrasts`."""
        return contrasts(self, method, adjust=adjust)


# ------------------------------------------------------------------------------------------- the reference grid
def fixed_variables(design: Design, frame: pd.DataFrame) -> pd.DataFrame:
    """Variables of the fixed part in the records that are used; numbers that stand for levels become categories."""
    factors = [f for term in model_spec(design.parsed.fixed) for f in term.factors]
    names = list(dict.fromkeys(v for f in factors for v in factor_variables(f, frame.columns)))
    variables = recode(frame[names].iloc[design.kept].reset_index(drop=True))
    spec = design.fixed.spec
    coded = {str(e) for e, (kind, _) in spec.encoder_state.items() if kind.value == "categorical"}
    levels = {v for t in spec.terms for f in t.factors if str(f.expr) in coded for v in factor_variables(f, names)}
    return variables.astype({v: "category" for v in levels if is_covariate(variables[v])})


def is_covariate(column: pd.Series) -> bool:
    """Whether a variable is a number, not levels."""
    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


def grid_values(variables: pd.DataFrame, at: Mapping[str, Any]) -> dict[str, pd.Index]:
    """Values of each variable in the grid: the levels of a factor, the mean of a covariate, or what `at` says.

    Raises
    ------
    ArgumentError
        If `at` names no variable of the fixed part, or a level that does not occur.
    """
    unknown = [name for name in at if name not in variables.columns]
    if unknown:
        raise ArgumentError(f"at names no variable of the fixed part: {examples(unknown)}.")
    return {str(name): values_of(column, at.get(str(name))) for name, column in variables.items()}


def values_of(column: pd.Series, wanted: Any) -> pd.Index:
    """Values of one variable in the grid."""
    levels = codes_of(column)[1]
    if wanted is None:
        many = is_covariate(column) and len(levels) > KEPT_VALUES
        return pd.Index([float(column.mean())]) if many else levels
    chosen = pd.Index([wanted] if isinstance(wanted, str) or np.ndim(wanted) == 0 else list(wanted))
    absent = [] if is_covariate(column) else [v for v in chosen if v not in levels]
    if absent:
        raise ArgumentError(f"{column.name!r} has no level {examples(absent)}; it has {examples(levels)}.")
    return chosen


def cells(values: Mapping[str, pd.Index], variables: pd.DataFrame) -> pd.DataFrame:
    """All combinations, the first variable running fastest, each column of the type it has in the data.

    Raises
    ------
    ArgumentError
        If there are too many.
    """
    size = int(np.prod([len(v) for v in values.values()], dtype=float))
    if size > MAX_CELLS:
        raise ArgumentError(f"the reference grid has {size} cells: fix some variables with at=.")
    rows = list(product(*reversed([list(v) for v in values.values()])))
    frame = pd.DataFrame([row[::-1] for row in rows], columns=list(values))
    for name in values:
        if isinstance(variables[name].dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(variables[name]):
            frame[name] = frame[name].astype(variables[name].dtype)
    return frame


def grid_rows(design: Design, grid: pd.DataFrame) -> Array:
    """Rows of X, all columns as coded, of the cells of a grid; columns of unknown-parent groups at their mean."""
    fixed = design.fixed
    matrix = coded_alike(fixed.spec, grid) if len(grid.columns) else None
    own = np.ones((1, 1)) if matrix is None else matrix
    own = np.asarray(own.toarray() if hasattr(own, "toarray") else own, dtype=float)
    rest = len(fixed.all_names) - own.shape[1]
    if not rest:
        return own
    mean = np.asarray(fixed.X.mean(axis=0)).ravel() @ kept_from_all(fixed)
    return np.hstack([own, np.broadcast_to(mean[-rest:], (len(own), rest))])


def cell_weights(
    grid: pd.DataFrame, variables: pd.DataFrame, wanted: Sequence[str], values: Mapping[str, pd.Index], how: str
) -> Array:
    """Weight of each cell of the grid in the mean it belongs to, before they are made to sum to one."""
    factors = [str(c) for c in grid.columns if len(codes_of(variables[c])[1]) == len(values[str(c)]) or c in wanted]
    over = [c for c in factors if c not in wanted and len(values[c]) > 1]
    if how == "equal" or not (over or how == "cells"):
        return np.ones(len(grid))
    if how == "outer":
        return np.prod([frequencies(grid, variables, [c]) for c in over], axis=0)
    return frequencies(grid, variables, over if how == "proportional" else [c for c in factors if len(values[c]) > 1])


def frequencies(grid: pd.DataFrame, variables: pd.DataFrame, names: Sequence[str]) -> Array:
    """Number of records with the combination of each cell in some variables."""
    counts = variables.groupby(list(names), observed=True).size()
    keys = grid[list(names)].itertuples(index=False, name=None)
    table = {(k if isinstance(k, tuple) else (k,)): n for k, n in counts.items()}
    return np.array([float(table.get(key, 0)) for key in keys])


# ------------------------------------------------------------------------------------------------------- means
def marginal_means(
    inference: Inference,
    variables: pd.DataFrame,
    specs: str | Sequence[str],
    *,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    ddf: str = "satterthwaite",
    level: float = 0.95,
) -> MarginalMeans:
    """Marginal means: predictions of the fixed part over a grid, averaged over what is not asked for.

    Parameters
    ----------
    inference : Inference
        The model.
    variables : DataFrame
        Variables of the fixed part in the records used.
    specs : str or sequence of str
        Variables by whose levels the means are wanted.
    by : str or sequence of str, optional
        Variables within whose levels the means are compared.
    at : mapping, optional
        Values of variables in the grid. A covariate is at its mean otherwise, unless it has two values only.
    weights : {"equal", "proportional", "outer", "cells"}
        Of the levels averaged over: the same, their joint or marginal frequencies in the data, or the frequencies
        of the cells.
    ddf : str
        Method of degrees of freedom.
    level : float
        Of the intervals.

    Returns
    -------
    MarginalMeans
        Columns (factors) ``emmean se df lower upper``, the first factor running fastest; the offset counts with its
        mean. Means that are not estimable are missing.

    Raises
    ------
    ArgumentError
        If a name is no variable of the fixed part, or a level or an option is unknown.

    Warns
    -----
    UserWarning
        If means are not estimable.

    References
    ----------
    Searle, Speed & Milliken (1980) Am Stat 34:216.
    """
    names = [specs] if isinstance(specs, str) else list(specs)
    within = [] if by is None else [by] if isinstance(by, str) else list(by)
    check_request([*names, *within], variables, weights, level)
    values = grid_values(variables, at or {})
    wanted = [*names, *within]
    ordered = {**{c: values[c] for c in wanted}, **{c: v for c, v in values.items() if c not in wanted}}
    grid = cells(ordered, variables)
    w = cell_weights(grid, variables, wanted, values, weights)
    size = int(np.prod([len(values[c]) for c in wanted]))
    w = w.reshape(-1, size)  # cells averaged over by means
    total = w.sum(axis=0)
    L = np.einsum(
        "am,amp->mp",
        w / np.where(total > 0, total, 1.0),
        grid_rows(inference.fitted.design, grid).reshape(*w.shape, -1),
    )
    good = estimable(inference.fitted, L) & (total > 0)
    if not good.all():
        warnings.warn(
            f"{int((~good).sum())} of {len(good)} means are not estimable and missing.", UserWarning, stacklevel=3
        )
    fixed, offset = inference.fitted.design.fixed, inference.fitted.design.offset
    kept = [k for k, name in enumerate(fixed.all_names) if name not in set(fixed.aliased)]
    constant = 0.0 if offset is None else float(np.mean(offset))
    basis = Basis(inference, L[:, kept], good, constant, tuple(names), tuple(within), ddf, level)
    out = MarginalMeans(pd.concat([grid[wanted].iloc[:size], means_table(basis)], axis=1))
    out.basis = basis
    return out


def check_request(wanted: Sequence[str], variables: pd.DataFrame, weights: str, level: float) -> None:
    """Raise an ArgumentError for names and options that do not exist."""
    unknown = [name for name in wanted if name not in variables.columns]
    if unknown:
        raise ArgumentError(
            f"no variable {examples(unknown)} in the fixed part; it has {examples(list(variables.columns))}."
        )
    if len(set(wanted)) < len(wanted) or not wanted:
        raise ArgumentError("name each variable once, and one at least.")
    if weights not in Weights.__args__:  # type: ignore[attr-defined]
        raise ArgumentError(f"weights must be equal, proportional, outer or cells, not {weights!r}.")
    require_probability(level)


def means_table(basis: Basis) -> pd.DataFrame:
    """Columns ``emmean se df lower upper``."""
    table = t_tests(basis.inference, basis.L, basis.ddf)
    table["estimate"] += basis.constant
    half = t_quantile(table["df"].to_numpy(), basis.level) * table["se"]
    table = table.assign(lower=table["estimate"] - half, upper=table["estimate"] + half)
    table.loc[~basis.good] = np.nan
    return table.rename(columns={"estimate": "emmean"})[["emmean", "se", "df", "lower", "upper"]]


# --------------------------------------------------------------------------------------------------- contrasts
def contrasts(means: MarginalMeans, method: Method = "pairwise", *, adjust: Adjust | None = None) -> pd.DataFrame:
    """Contrasts of marginal means within each combination of the levels of `by`.

    Parameters
    ----------
    means : MarginalMeans
        From `emmeans`.
    method : {"pairwise", "trt.vs.ctrl", "poly"}
        Differences of all pairs, differences from the first, or orthogonal polynomials over equally spaced levels.
    adjust : {"tukey", "holm", "bonferroni", "sidak", "mvt", "none"}, optional
        Of p-values and intervals within each family; by default Tukey for pairs, mvt for differences from a control,
        none for polynomials. Holm has no intervals: Bonferroni's stand in their place.

    Returns
    -------
    DataFrame
        Columns ``contrast`` (`by`) ``estimate se df t p lower upper``.

    Raises
    ------
    ArgumentError
        If the method or adjustment does not exist, or Tukey's is asked for other contrasts than pairs.

    Notes
    -----
    mvt: the probability that no |t| of the family exceeds the one observed under the multivariate t distribution with
    the contrasts' correlations; Tukey's studentized range for k means.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("angle ~ recipe + temp + (1|recipe:replicate)", mg.data.cake())
    >>> mg.contrasts(mg.emmeans(fit, "recipe"))[["contrast", "estimate", "p"]].round(3)
      contrast  estimate     p
    0    A - B     1.478  0.82
    1    A - C     1.522  0.81
    2    B - C     0.044  1.00
    """
    if method not in METHODS:
        raise ArgumentError(f"there is no method {method!r}; choose one of: {', '.join(METHODS)}.")
    adjust = DEFAULT_ADJUST[method] if adjust is None else adjust
    if adjust not in ADJUSTMENTS:
        raise ArgumentError(f"there is no adjustment {adjust!r}; choose one of: {', '.join(ADJUSTMENTS)}.")
    if adjust == "tukey" and method != "pairwise":
        raise ArgumentError("Tukey's adjustment is for all pairs; use adjust='mvt', 'sidak' or 'holm'.")
    frame = pd.DataFrame(means)
    groups = frame.groupby(list(means.basis.by), sort=False, observed=True).indices if means.basis.by else {(): None}
    parts = []
    for key, rows in groups.items():
        some = np.arange(len(frame)) if rows is None else np.sort(rows)
        table = family(means.basis, frame.iloc[some], some, method, adjust)
        for name, value in zip(means.basis.by, key if isinstance(key, tuple) else (key,), strict=True):
            table.insert(1, name, value)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def family(basis: Basis, frame: pd.DataFrame, rows: NDArray[np.intp], method: str, adjust: str) -> pd.DataFrame:
    """Contrasts of one family of means."""
    labels = [" ".join(map(str, row)) for row in frame[list(basis.specs)].itertuples(index=False, name=None)]
    names, C = METHODS[method](labels)
    L = C @ basis.L[rows]
    table = t_tests(basis.inference, L, basis.ddf)
    good = ~(np.abs(C) @ ~basis.good[rows] > 0)
    table.loc[~good] = np.nan
    t, df = table["t"].to_numpy()[good], table["df"].to_numpy()[good]
    p, critical = np.full(len(C), np.nan), np.full(len(C), np.nan)
    if good.any():
        V = L[good] @ basis.inference.covariance @ L[good].T
        d = np.sqrt(np.diag(V))
        comparison = Comparison(t, df, table["p"].to_numpy()[good], len(rows), V / np.outer(d, d), basis.level)
        single = good.sum() == 1
        p[good], critical[good] = ADJUSTMENTS["none" if single else adjust](comparison)
    half = critical * table["se"]
    table = table.assign(p=p, lower=table["estimate"] - half, upper=table["estimate"] + half)
    table.insert(0, "contrast", names)
    return table


def pairwise(labels: Sequence[str]) -> tuple[list[str], Array]:
    """Each less each later one."""
    pairs = list(combinations(range(len(labels)), 2))
    eye = np.eye(len(labels))
    rows = [eye[i] - eye[j] for i, j in pairs]
    return [f"{labels[i]} - {labels[j]}" for i, j in pairs], np.array(rows).reshape(-1, len(labels))


def against_control(labels: Sequence[str]) -> tuple[list[str], Array]:
    """Each less the first."""
    C = np.eye(len(labels))[1:]
    C[:, 0] = -1.0
    return [f"{label} - {labels[0]}" for label in labels[1:]], C


def polynomial(labels: Sequence[str]) -> tuple[list[str], Array]:
    """Orthogonal polynomials over equally spaced levels in whole numbers, as in the usual tables."""
    k = len(labels)
    degree = min(len(DEGREES), k - 1)
    Q = np.linalg.qr(np.vander(np.arange(k) - (k - 1) / 2, degree + 1, increasing=True))[0][:, 1:].T
    return list(DEGREES[:degree]), np.array([whole_numbers(q * np.sign(q[-1])) for q in Q]).reshape(-1, k)


def whole_numbers(q: Array) -> Array:
    """A vector scaled to the smallest whole numbers."""
    q = q / q[q > 0.01].min()
    while (left := np.abs(q - np.round(q)).max()) > 0.05:
        q = q / left
    return np.round(q)


METHODS: dict[str, Callable[[Sequence[str]], tuple[list[str], Array]]] = {
    "pairwise": pairwise,
    "trt.vs.ctrl": against_control,
    "poly": polynomial,
}


# -------------------------------------------------------------------------------------------------- adjustments
@dataclass(frozen=True)
class Comparison:
    """One family of t statistics.

    Attributes
    ----------
    t, df, p : ndarray, shape (m,)
        Statistics, degrees of freedom and plain p-values.
    size : int
        Number of means.
    correlation : ndarray, shape (m, m)
        Of the contrasts.
    level : float
        Of the intervals.
    """

    t: Array
    df: Array
    p: Array
    size: int
    correlation: Array
    level: float


def plain(c: Comparison) -> tuple[Array, Array]:
    """No adjustment."""
    return c.p, t_quantile(c.df, c.level)


def bonferroni(c: Comparison) -> tuple[Array, Array]:
    """The number of tests times p."""
    m = len(c.p)
    return np.minimum(1.0, m * c.p), t_quantile(c.df, 1.0 - (1.0 - c.level) / m)


def sidak(c: Comparison) -> tuple[Array, Array]:
    """One less (1 - p)^m, for m tests."""
    m = len(c.p)
    return -np.expm1(m * np.log1p(-c.p)), t_quantile(c.df, c.level ** (1.0 / m))


def holm(c: Comparison) -> tuple[Array, Array]:
    """Step-down Bonferroni, whose intervals it takes."""
    order = np.argsort(c.p)
    out = np.empty(len(c.p))
    out[order] = np.minimum(1.0, np.maximum.accumulate((len(c.p) - np.arange(len(c.p))) * c.p[order]))
    return out, bonferroni(c)[1]


def tukey(c: Comparison) -> tuple[Array, Array]:
    """Studentized range of all means."""
    from scipy.stats import studentized_range  # half a second to import

    p = studentized_range.sf(np.sqrt(2.0) * np.abs(c.t), c.size, c.df)
    return np.clip(p, 0.0, 1.0), each_df(c.df, lambda v: float(studentized_range.ppf(c.level, c.size, v))) / np.sqrt(
        2.0
    )


def each_df(df: Array, function: Callable[[float], float]) -> Array:
    """A function of the degrees of freedom, evaluated once for each distinct value."""
    distinct, which = np.unique(df, return_inverse=True)
    return np.array([function(float(v)) for v in distinct])[which]


def largest_t(c: Comparison) -> tuple[Array, Array]:
    """Largest |t| of the family under the multivariate t distribution."""
    from scipy.optimize import brentq

    directions = spread_over_sphere(c.correlation)
    p = [1.0 - inside(abs(t), df, *directions) for t, df in zip(c.t, c.df, strict=True)]

    def critical(df: float) -> float:
        plain_and_sidak = t_quantile(np.full(2, df), np.array([c.level, c.level ** (1.0 / len(c.t))]))
        low, high = 0.99 * plain_and_sidak[0], 1.01 * plain_and_sidak[1]
        return float(brentq(lambda x: inside(x, df, *directions) - c.level, low, high, xtol=1e-7))

    return np.clip(p, 0.0, 1.0), each_df(c.df, critical)


def spread_over_sphere(correlation: Array) -> tuple[Array, int]:
    """Largest |a'u| over the contrasts a for points u spread evenly over the sphere, and its dimension: the rank."""
    from scipy.stats import qmc

    values, vectors = np.linalg.eigh(correlation)
    A = (vectors * np.sqrt(np.maximum(values, 0.0)))[:, values > ZERO * values[-1]]
    points = qmc.Sobol(A.shape[1], scramble=False).random_base2(SOBOL)
    z = ndtri((points + 0.5 / len(points)) % 1.0)
    u = z / np.sqrt(np.sum(z**2, axis=1, keepdims=True))
    return np.abs(u @ A.T).max(axis=1), A.shape[1]


def inside(x: float, df: float, largest: Array, rank: int) -> float:
    """Probability that all |t| are below x.

    Notes
    -----
    t = A z / s with z normal of dimension r and s^2 a chi-squared / df: in the direction u of z, |z|^2 / (r s^2) is
    F(r, df), so the probability is the mean over u of that distribution at x^2 / (r max (a'u)^2).
    """
    return float(np.mean(1.0 - f_tail(x**2 / (rank * largest**2), rank, df)))


ADJUSTMENTS: dict[str, Callable[[Comparison], tuple[Array, Array]]] = {
    "none": plain,
    "bonferroni": bonferroni,
    "sidak": sidak,
    "holm": holm,
    "tukey": tukey,
    "mvt": largest_t,
}
