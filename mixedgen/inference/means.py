"""Marginal means of the fixed effects over a reference grid, and contrasts of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.design.fixed_terms import nested_as_written
from mixedgen.errors import ArgumentError, examples, outside, public, public_class, require_probability, suggestion
from mixedgen.inference.adjustments import ADJUSTMENTS, Comparison
from mixedgen.inference.fixed_effects import estimable
from mixedgen.inference.inference import Inference, Result
from mixedgen.inference.reference_grid import (
    cell_weights,
    cells,
    found_nests,
    grid_rows,
    grid_values,
    occurs,
    outermost,
)
from mixedgen.inference.wald import t_quantile, t_tests

Weights = Literal["equal", "proportional", "outer", "cells"]
ContrastMethod = Literal["pairwise", "trt.vs.ctrl", "poly"]
Adjust = Literal["tukey", "holm", "bonferroni", "sidak", "mvt", "none"]
_DEFAULT_ADJUST: dict[str, Adjust] = {"pairwise": "tukey", "trt.vs.ctrl": "mvt", "poly": "none"}
_DEGREES = ("linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6")


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


@public_class
class MarginalMeans(pd.DataFrame):
    """Frame of marginal means, columns (factors) ``emmean se df lower upper``, which knows how to contrast them.

    Attributes
    ----------
    basis : Basis
        The linear functions behind the rows.
    """

    _metadata = ["basis"]
    basis: Basis

    def contrasts(self, method: ContrastMethod = "pairwise", *, adjust: Adjust | None = None) -> pd.DataFrame:
        """Contrasts of the means: `contrasts`."""
        return contrasts(self, method, adjust=adjust)


@public
def emmeans(
    fit: Result,
    specs: str | Sequence[str],
    *,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    nesting: Mapping[str, str | Sequence[str]] | None = None,
    ddf: str = "satterthwaite",
    level: float = 0.95,
) -> MarginalMeans:
    """Marginal means of some factors: predictions of the fixed part over a grid, averaged over the other factors.

    Parameters
    ----------
    fit : Fit
        The model.
    specs : str or sequence of str
        Variables by whose levels the means are wanted.
    by : str or sequence of str, optional
        Variables within whose levels they are compared.
    at : mapping, optional
        Values of variables in the grid; covariates are at their mean otherwise, unless they have two values only.
    weights : {"equal", "proportional", "outer", "cells"}
        Of the levels averaged over: the same, their joint or marginal frequencies, or those of the cells.
    nesting : mapping, optional
        Factors that are nested in others: ``{"dose": "group"}``; ``{}`` for none. By default those whose levels each
        occur with one level of another only, and those that the formula nests. Nested factors are averaged over the
        levels that occur within the others, and their own means stand within those.
    ddf : {"satterthwaite", "kenward-roger", "containment", "z"}
        Method of degrees of freedom.
    level : float
        Of the intervals.

    Returns
    -------
    MarginalMeans
        Frame, one row for each level, columns (factors) ``emmean se df lower upper``, the first factor running fastest;
        ``.contrasts()`` compares them. The offset counts with its mean. Means that are not estimable are missing. Those
        of ``cbind`` models stand within the levels of ``trait``, unless that is among the variables named.

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

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("angle ~ recipe + temp + (1|recipe:replicate)", mg.data.cake())
    >>> mg.emmeans(fit, "recipe")[["recipe", "emmean", "df"]].round(3)
      recipe  emmean    df
    0      A  33.122  42.0
    1      B  31.644  42.0
    2      C  31.600  42.0
    """
    names = [specs] if isinstance(specs, str) else list(specs)
    within = [] if by is None else [by] if isinstance(by, str) else list(by)
    inference, design = fit.inference, fit.fitted.design
    variables = design.records.long(design.variables)
    within += [c for c in design.records.keys if c not in [*names, *within]]
    _check_means(names, within, variables, weights, level)
    values = grid_values(variables, at or {})
    nests = _nests_of(design, variables, values, nesting)
    names += dict.fromkeys(c for f in [*names, *within] for c in nests.get(f, ()) if c not in [*names, *within])
    wanted = [*names, *within]
    ordered = {**{c: values[c] for c in wanted}, **{c: v for c, v in values.items() if c not in wanted}}
    grid = cells(ordered, variables)
    w = cell_weights(grid, variables, wanted, values, weights, nests)
    size = int(np.prod([len(values[c]) for c in wanted]))
    rows = grid[wanted].iloc[:size]
    there = occurs(rows, variables, {f: above for f, above in nests.items() if f in wanted})
    w = w.reshape(-1, size)[:, there]  # cells averaged over by means
    total = w.sum(axis=0)
    L = np.einsum(
        "am,amp->mp",
        w / np.where(total > 0, total, 1.0),
        grid_rows(design, grid).reshape(-1, size, len(design.fixed.all_names))[:, there],
    )
    good = estimable(inference.fitted, L) & (total > 0)
    if not good.all():
        gone = f"{int((~good).sum())} of {len(good)} means are not estimable and missing."
        warnings.warn(gone, UserWarning, stacklevel=outside())
    constant = 0.0 if design.offset is None else float(np.mean(design.offset))
    basis = Basis(inference, L[:, design.fixed.kept], good, constant, tuple(names), tuple(within), ddf, level)
    out = MarginalMeans(pd.concat([rows[there].reset_index(drop=True), _means_table(basis)], axis=1))
    out.basis = basis
    return out


def _nests_of(
    design: Design,
    variables: pd.DataFrame,
    values: Mapping[str, pd.Index],
    nesting: Mapping[str, str | Sequence[str]] | None,
) -> dict[str, tuple[str, ...]]:
    """Nested factors with all that they are nested in: those given, or those found.

    Raises
    ------
    ArgumentError
        If those given are no variables of the fixed part.
    """
    own = {name: levels for name, levels in values.items() if name not in design.records.keys}
    if nesting is None:
        return found_nests(variables, own, nested_as_written(design))
    given = {name: [above] if isinstance(above, str) else list(above) for name, above in nesting.items()}
    unknown = [c for name, above in given.items() for c in (name, *above) if c not in own]
    if unknown:
        raise ArgumentError(f"nesting names no variable of the fixed part: {examples(unknown)}.")
    return {name: outermost(name, given) for name in given}


def _check_means(
    names: Sequence[str], within: Sequence[str], variables: pd.DataFrame, weights: str, level: float
) -> None:
    """Raise an ArgumentError for names and options that do not exist."""
    wanted = [*names, *within]
    unknown = [name for name in wanted if name not in variables.columns]
    if unknown:
        raise ArgumentError(
            f"no variable {examples(unknown)} in the fixed part; it has {examples(list(variables.columns))}."
            + (" Write the names alone, without '~'." if "~" in str(unknown[0]) else suggestion(unknown[0], variables))
        )
    if len(set(wanted)) < len(wanted) or not names:
        raise ArgumentError("name each variable once, and one at least.")
    if weights not in Weights.__args__:  # type: ignore[attr-defined]
        raise ArgumentError(f"weights must be equal, proportional, outer or cells, not {weights!r}.")
    require_probability(level)


def _means_table(basis: Basis) -> pd.DataFrame:
    """Columns ``emmean se df lower upper``."""
    table = t_tests(basis.inference, basis.L, basis.ddf)
    table["estimate"] += basis.constant
    half = t_quantile(table["df"].to_numpy(), basis.level) * table["se"]
    table = table.assign(lower=table["estimate"] - half, upper=table["estimate"] + half)
    table.loc[~basis.good] = np.nan
    return table.rename(columns={"estimate": "emmean"})[["emmean", "se", "df", "lower", "upper"]]


@public
def contrasts(
    means: MarginalMeans, method: ContrastMethod = "pairwise", *, adjust: Adjust | None = None
) -> pd.DataFrame:
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
    if method not in _CONTRAST_METHODS:
        raise ArgumentError(f"there is no method {method!r}; choose one of: {', '.join(_CONTRAST_METHODS)}.")
    adjust = _DEFAULT_ADJUST[method] if adjust is None else adjust
    if adjust not in ADJUSTMENTS:
        raise ArgumentError(f"there is no adjustment {adjust!r}; choose one of: {', '.join(ADJUSTMENTS)}.")
    if adjust == "tukey" and method != "pairwise":
        raise ArgumentError("Tukey's adjustment is for all pairs; use adjust='mvt', 'sidak' or 'holm'.")
    frame = pd.DataFrame(means)
    groups = frame.groupby(list(means.basis.by), sort=False, observed=True).indices if means.basis.by else {(): None}
    parts = []
    for key, rows in groups.items():
        some = np.arange(len(frame)) if rows is None else np.sort(rows)
        table = _family(means.basis, frame.iloc[some], some, method, adjust)
        for name, value in zip(means.basis.by, key if isinstance(key, tuple) else (key,), strict=True):
            table.insert(1, name, value)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _family(basis: Basis, frame: pd.DataFrame, rows: NDArray[np.intp], method: str, adjust: str) -> pd.DataFrame:
    """Contrasts of one family of means."""
    labels = [" ".join(map(str, row)) for row in frame[list(basis.specs)].itertuples(index=False, name=None)]
    names, C = _CONTRAST_METHODS[method](labels)
    L = C @ basis.L[rows]
    table = t_tests(basis.inference, L, basis.ddf)
    good = ~(np.abs(C) @ ~basis.good[rows] > 0)
    table.loc[~good] = np.nan
    t, df = table["t"].to_numpy()[good], table["df"].to_numpy()[good]
    p, critical = np.full(len(C), np.nan), np.full(len(C), np.nan)
    if good.any():
        V = L[good] @ basis.inference.covariance @ L[good].T
        d = np.sqrt(np.diag(V))
        comparison = Comparison(t, df, table["p"].to_numpy()[good], len(rows), len(C), V / np.outer(d, d), basis.level)
        p[good], critical[good] = ADJUSTMENTS["none" if len(C) == 1 else adjust](comparison)
    half = critical * table["se"]
    table = table.assign(p=p, lower=table["estimate"] - half, upper=table["estimate"] + half)
    table.insert(0, "contrast", names)
    return table


def _pairwise(labels: Sequence[str]) -> tuple[list[str], Array]:
    """Each less each later one."""
    pairs = list(combinations(range(len(labels)), 2))
    eye = np.eye(len(labels))
    rows = [eye[i] - eye[j] for i, j in pairs]
    return [f"{labels[i]} - {labels[j]}" for i, j in pairs], np.array(rows).reshape(-1, len(labels))


def _against_control(labels: Sequence[str]) -> tuple[list[str], Array]:
    """Each less the first."""
    C = np.eye(len(labels))[1:]
    C[:, 0] = -1.0
    return [f"{label} - {labels[0]}" for label in labels[1:]], C


def _polynomial(labels: Sequence[str]) -> tuple[list[str], Array]:
    """Orthogonal polynomials over equally spaced levels in whole numbers, as in the usual tables."""
    k = len(labels)
    degree = min(len(_DEGREES), k - 1)
    Q = np.linalg.qr(np.vander(np.arange(k) - (k - 1) / 2, degree + 1, increasing=True))[0][:, 1:].T
    return list(_DEGREES[:degree]), np.array([_whole_numbers(q * np.sign(q[-1])) for q in Q]).reshape(-1, k)


def _whole_numbers(q: Array) -> Array:
    """A vector scaled to the smallest whole numbers."""
    q = q / q[q > 0.01].min()
    while (left := np.abs(q - np.round(q)).max()) > 0.05:
        q = q / left
    return np.round(q)


_CONTRAST_METHODS: dict[str, Callable[[Sequence[str]], tuple[list[str], Array]]] = {
    "pairwise": _pairwise,
    "trt.vs.ctrl": _against_control,
    "poly": _polynomial,
}
