"""Terms of the fixed part, how their columns are coded, and the hypotheses of types I, II and III."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import scipy.sparse as sp

from mixedgen.arrays import Array
from mixedgen.design.aliased import dense_null_space
from mixedgen.design.design import Design
from mixedgen.design.fixed import FixedPart
from mixedgen.design.fixed_terms import FixedTerm, fixed_terms, level_counts

_ZERO = 1e-8  # a coefficient of a hypothesis this small beside the largest is rounding


def hypotheses(design: Design, kind: int) -> dict[str, Array]:
    """Matrix L of the hypothesis L b = 0 of each term but the intercept, over the kept columns.

    With several traits, of each term of each trait, then of each term over all traits at once.

    Parameters
    ----------
    design : Design
        The model.
    kind : {1, 2, 3}
        Type of the sums of squares.
    """
    terms = fixed_terms(design)
    tested = [t for t in terms if t.factors or t.covariates]
    if kind == 1 or len(tested) <= len(design.fixed.prefixes):
        L = _unit_triangular(_r_factor(design.fixed))
        out = {t.label: L[t.columns] for t in tested}
    elif kind == 2:
        out = {t.label: _type_two(design.fixed, t, terms) for t in tested}
    else:
        out = _type_three(design, terms)
    return out | {name: np.vstack([out[t.label] for t in group]) for name, group in over_traits(tested).items()}


def over_traits(terms: Sequence[FixedTerm]) -> dict[str, list[FixedTerm]]:
    """The terms of the same name, where there are several traits."""
    out: dict[str, list[FixedTerm]] = {}
    for t in terms:
        if t.prefix:
            out.setdefault(t.name, []).append(t)
    return out


def _r_factor(fixed: FixedPart) -> Array:
    """R with X'X = R'R."""
    if fixed.R is not None:
        return fixed.R
    X = sp.csr_array(fixed.X)
    return np.asarray(np.linalg.cholesky(np.asarray((X.T @ X).todense()))).T


def _unit_triangular(R: Array) -> Array:
    """Rows of R divided by its diagonal: the factor of Doolittle, on whose scale lmerTest states its hypotheses."""
    return R / np.diag(R)[:, None]


def _type_two(fixed: FixedPart, term: FixedTerm, terms: Sequence[FixedTerm]) -> Array:
    """Type II hypothesis: the term after all terms that do not contain it."""
    above = [t for t in terms if t.contains(term)]
    if not above:
        return np.eye(fixed.p)[term.columns]
    last = np.concatenate([term.columns, *(t.columns for t in above)])
    order = np.concatenate([np.setdiff1d(np.arange(fixed.p), last), last])
    R = _unit_triangular(np.asarray(np.linalg.qr(_r_factor(fixed)[:, order], mode="r")))
    L = np.zeros((len(term.columns), fixed.p))
    first = fixed.p - len(last)
    L[:, order] = R[first : first + len(term.columns)]
    return L


def _type_three(design: Design, terms: Sequence[FixedTerm]) -> dict[str, Array]:
    """Type III hypotheses, the same for any coding of the factors.

    Notes
    -----
    With gamma the parameters of the cells (every level of every factor of every term), X b is X M gamma, so that
    the rows of M are estimable. Those of a term under treatment contrasts are made orthogonal to the ones of the
    terms that contain it, and restricted to the parameters that treatment contrasts keep: SAS's type III
    hypotheses as lmerTest has them [1]_. M follows from the codings alone; no record is looked at.

    References
    ----------
    .. [1] Kuznetsova, Brockhoff & Christensen (2017) J Stat Softw 82(13).
    """
    levels = level_counts(design, terms)
    cells = [_cells_of(t, levels) for t in terms]
    coefficients = [_cell_coefficients(t, c, terms, design.fixed) for t, c in zip(terms, cells, strict=True)]
    groups = np.eye(len(design.fixed.all_names))[:, sum(len(t.every) for t in terms) :]
    M = design.fixed.from_kept @ np.hstack([*coefficients, groups])
    M[np.abs(M) < _ZERO * np.abs(M).max()] = 0.0  # a cell without records is no column at all
    ends = np.cumsum([0, *(len(c) for c in cells)])
    treatment = [ends[k] + j for k, t in enumerate(terms) for j in _treatment_cells(t, cells[k])]
    treatment += range(ends[-1], M.shape[1])  # unknown-parent groups are coded as they are
    independent = [c for c in range(len(treatment)) if c not in set(_pivots(dense_null_space(M[:, treatment])))]
    chosen = np.array(treatment)[independent]
    A = M[:, chosen]
    G = np.linalg.solve(A, M).T  # cells by treatment parameters
    owner = np.searchsorted(ends, chosen, side="right") - 1
    for k in sorted(range(len(terms)), key=lambda k: -len(terms[k].factors) - len(terms[k].covariates)):
        above = np.isin(owner, [m for m, t in enumerate(terms) if t.contains(terms[k])])
        if above.any():
            G[:, owner == k] -= G[:, above] @ np.linalg.lstsq(G[:, above], G[:, owner == k], rcond=None)[0]
    rows = G[chosen].T @ np.linalg.inv(A)
    out = {}
    for k, t in enumerate(terms):
        if t.factors or t.covariates:
            L = np.where(np.abs(rows[owner == k]) > _ZERO * np.abs(rows).max(), rows[owner == k], 0.0)
            out[t.label] = L[np.abs(L).max(axis=1) > 0]
    return out


def _pivots(null: Array) -> list[int]:
    """Last nonzero row of each column of a null space from `dense_null_space`: the dependent columns."""
    return [int(np.flatnonzero(column)[-1]) for column in null.T]


def _cells_of(term: FixedTerm, levels: dict[str, int]) -> list[tuple[dict[str, int], tuple[tuple[str, int], ...]]]:
    """Cells of a term, each for every column of its covariates."""
    names = term.factors[::-1]  # the first factor runs fastest, as in X
    covariates = sorted({c.covariate for c in term.coding}) or [()]
    grid = product(*(range(levels[e]) for e in names))
    return [(dict(zip(names, cell, strict=True)), covariate) for cell in grid for covariate in covariates]


def _treatment_cells(term: FixedTerm, cells: Sequence[tuple[dict[str, int], Any]]) -> list[int]:
    """Cells that are columns under treatment contrasts, the first level the base of a factor coded with contrasts."""
    if not term.complete:
        return list(range(len(cells)))
    return [j for j, (cell, _) in enumerate(cells) if all(cell[e] > 0 for e in term.reduced if e in cell)]


def _cell_coefficients(
    term: FixedTerm,
    cells: Sequence[tuple[dict[str, int], tuple[tuple[str, int], ...]]],
    terms: Sequence[FixedTerm],
    fixed: FixedPart,
) -> Array:
    """Coefficients that make the indicator of each cell of a term out of all columns of X, shape (columns, cells)."""
    own = [t for t in terms if t.prefix == term.prefix]
    every = [c for t in own for c in t.coding]
    place = np.concatenate([t.every for t in own])
    out = np.zeros((len(fixed.all_names), len(cells)))
    for covariate in {c for _, c in cells}:
        mine = [j for j, (_, c) in enumerate(cells) if c == covariate]
        usable = [k for k, c in enumerate(every) if c.covariate == covariate and set(c.weights) <= set(term.factors)]
        values = np.array(
            [[np.prod([w[cells[j][0][e]] for e, w in every[k].weights.items()]) for k in usable] for j in mine]
        ).reshape(len(mine), len(usable))
        out[np.ix_(place[usable], np.array(mine))] = np.linalg.pinv(values)
    return out


def others_suffice(fixed: FixedPart, terms: Sequence[FixedTerm]) -> Array:
    """Hypothesis that the columns of all other terms suffice."""
    if not fixed.aliased:
        return np.eye(fixed.p)[np.concatenate([t.columns for t in terms])]
    others = np.setdiff1d(np.arange(len(fixed.all_names)), np.concatenate([t.every for t in terms]))
    left, values, _ = np.linalg.svd(fixed.from_kept[:, others])
    return left[:, int(np.sum(values > _ZERO * values.max(initial=0.0))) :].T
