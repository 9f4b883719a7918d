"""Random effects, fitted values and residuals of a fitted model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixedgen.arrays import Array
from mixedgen.design.fixed import group_name
from mixedgen.errors import ArgumentError
from mixedgen.estimation.fitted import Fitted
from mixedgen.prediction.new_rows import require_same_scale
from mixedgen.relationship.relationship import Relationship

_LEVELS_AT_ONCE = 256  # right-hand sides solved at once: records x this many numbers are in memory


class Attached(np.ndarray):
    """Array in the attrs of a frame. pandas asks whether the attrs of two frames are equal, and wants one answer."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        """Whether all values are the same."""
        return np.array_equal(np.asarray(self), np.asarray(other))

    def __ne__(self, other: object) -> bool:
        """Whether any value differs."""
        return not self == other

    def __getitem__(self, key: Any) -> Any:
        """Return a part, which is a plain array again."""
        return np.asarray(self)[key]


def random_effects(fitted: Fitted, *, cond_var: bool) -> dict[str, pd.DataFrame]:
    """BLUP of each term, levels by effects; with `cond_var`, `frame.attrs["cond_var"]` holds Var(u | y, b).

    Returns
    -------
    dict of str to DataFrame
        `attrs["cond_var"]` has shape (levels, c, c): variances given theta and b, lme4's postVar, not the PEV.
    """
    out = {}
    for k, t in enumerate(fitted.design.terms):
        frame = pd.DataFrame(fitted.system.solution.u[k], index=t.levels, columns=list(t.effects))
        if cond_var:
            frame.attrs["cond_var"] = fitted.system.conditional_variance(k).view(Attached)
        out[t.key] = frame
    return out


def blup(fitted: Fitted, term: str, *, animals: bool = False) -> pd.DataFrame:
    """BLUP of one term, a row for each level and effect.

    Parameters
    ----------
    fitted : Fitted
        The model.
    term : str
        Name of the term.
    animals : bool
        For a term of markers: the sums of their effects in each animal, instead of the effects.

    Returns
    -------
    DataFrame
        Columns ``level effect value se pev reliability accuracy n_records``: pev = Var(u_hat - u), se its root,
        reliability = 1 - pev / Var(u) (missing where Var(u) is zero), accuracy its root; with a relationship
        ``inbreeding``, the diagonal of K on the scale of A less 1 (markers: K over the sum of 2pq); with unknown-parent
        groups ``total``, the value with the group's part.
    """
    k = fitted.design.term(term)
    t = fitted.design.terms[k]
    Sigma = fitted.Sigma(k)
    if t.relationship is not None and t.relationship.loadings is not None and not animals:
        return _marker_effects(fitted, k, Sigma)
    pev = np.einsum("qaa->qa", fitted.system.prediction_error(k))
    scale = np.ones(t.q) if t.relationship is None else np.asarray(t.relationship.diagonal)
    frame = effects_frame(t.levels, t.effects, fitted.system.solution.u[k], pev, np.outer(scale, np.diag(Sigma)))
    frame["n_records"] = np.repeat(t.counts, t.c)
    if t.relationship is not None:
        frame["inbreeding"] = np.repeat(t.relationship.inbreeding, t.c)
        if t.relationship.group_names:
            frame["total"] = frame["value"] + _group_parts(fitted, k).ravel()
    return frame


def effects_frame(
    levels: pd.Index, effects: tuple[str, ...], values: Array, pev: Array, variance: Array
) -> pd.DataFrame:
    """Values of levels by effects with their precision, a row for each level and effect."""
    with np.errstate(divide="ignore", invalid="ignore"):
        reliability = np.where(variance > 0, 1.0 - pev / variance, np.nan)
    reliability[np.abs(reliability) < 1e-12] = 0.0  # of an effect that no record tells of, but for rounding
    return pd.DataFrame(
        {
            "level": levels.repeat(len(effects)),
            "effect": list(effects) * len(levels),
            "value": values.ravel(),
            "se": np.sqrt(np.maximum(pev, 0.0)).ravel(),
            "pev": pev.ravel(),
            "reliability": reliability.ravel(),
            "accuracy": np.sqrt(np.maximum(reliability, 0.0)).ravel(),
        }
    )


def _group_parts(fitted: Fitted, k: int) -> Array:
    """Q g of a term: what its groups add to each level, shape (q, c); aliased groups count zero."""
    t = fitted.design.terms[k]
    b = dict(zip(fitted.design.fixed.names, fitted.system.solution.b, strict=True))
    relationship = t.relationship
    assert relationship is not None
    names = [[group_name(t.key, t.effects, e, g) for e in t.effects] for g in relationship.group_names]
    return np.asarray(relationship.Q @ np.array([[b.get(name, 0.0) for name in row] for row in names]))


def _marker_effects(fitted: Fitted, k: int, Sigma: Array) -> pd.DataFrame:
    """Effects of the markers of a term whose animals' values are sums of them, g = W v.

    Notes
    -----
    v_hat = W' Z'Py Sigma and Var(v_hat) = Sigma W' Z'PZ W Sigma, which hold for any number of markers and animals; the
    animals' equations are solved, and the markers follow [1]_.

    References
    ----------
    .. [1] Stranden & Garrick (2009) J Dairy Sci 92:2971.
    """
    t = fitted.design.terms[k]
    relationship = t.relationship
    assert relationship is not None and relationship.loadings is not None
    W = relationship.loadings
    values = W.T @ (t.Zt @ fitted.system.Py).reshape(t.c, t.q).T @ Sigma
    inner = [_weighted_precision(fitted, k, a, Sigma) for a in range(t.c)]
    explained = np.stack([np.einsum("im,im->m", W, M @ W) for M in inner], axis=1)
    variance = np.broadcast_to(np.diag(Sigma), explained.shape)
    frame = effects_frame(pd.Index(relationship.markers), t.effects, values, variance - explained, variance)
    frame["n_records"] = int(t.counts.sum())
    return frame


def _weighted_precision(fitted: Fitted, k: int, effect: int, Sigma: Array) -> Array:
    """Matrix M with Var(u_hat) of one effect = K M K: the sum over coefficients of Sigma Z'PZ Sigma, shape (q, q)."""
    t = fitted.design.terms[k]
    out = np.zeros((t.q, t.q))
    # Z (Sigma[:, effect] (x) I) are the records that the effect of each level moves
    ZS = np.asarray(sum(Sigma[a, effect] * t.Z[:, a * t.q : (a + 1) * t.q].toarray() for a in range(t.c)))
    for start in range(0, t.q, _LEVELS_AT_ONCE):
        block = ZS[:, start : start + _LEVELS_AT_ONCE]
        out[:, start : start + _LEVELS_AT_ONCE] = ZS.T @ fitted.system.project(block)
    return out


def candidates(fitted: Fitted, term: str, relationship: Relationship, ids: Sequence[Any] | None = None) -> pd.DataFrame:
    """BLUP of levels that were not in the fit, through their relationship to those that were; nothing is refitted.

    Parameters
    ----------
    fitted : Fitted
        The model.
    term : str
        Name of a term with a relationship.
    relationship : Relationship
        Relationship of old and new levels, on the scale of the term's own: A of a longer pedigree, or G by the same
        allele frequencies.
    ids : sequence, optional
        Levels wanted; by default all that the fit did not have.

    Returns
    -------
    DataFrame
        As `blup`.

    Raises
    ------
    RelationshipError
        If levels of the fit are lacking in the relationship, or their part of it is another than in the fit.
    ArgumentError
        If the term has no relationship.

    Notes
    -----
    u_new = (Sigma (x) K_new,old) Z'Py, PEV = Sigma K_new - Sigma K_new,old Z'PZ K_old,new Sigma.
    """
    k = fitted.design.term(term)
    t = fitted.design.terms[k]
    if t.relationship is None:
        raise ArgumentError(f"term {t.key!r} has no relationship: nothing is known of its new levels.")
    require_same_scale(t, relationship, t.counts > 0)
    old = t.levels[t.counts > 0]
    new = relationship.labels.difference(t.levels, sort=False) if ids is None else pd.Index(ids)
    Sigma = fitted.Sigma(k)
    values, pev, diagonal = [], [], []
    g = (t.Zt @ fitted.system.Py).reshape(t.c, t.q).T[t.counts > 0]
    for start in range(0, len(new), _LEVELS_AT_ONCE):
        some = new[start : start + _LEVELS_AT_ONCE]
        K = relationship.cross(some, old)
        values.append(K @ g @ Sigma)
        diagonal.append(np.asarray(relationship.diagonal)[relationship.labels.get_indexer(some)])
        pev.append(np.outer(diagonal[-1], np.diag(Sigma)) - _explained_variance(fitted, k, K, Sigma))
    every = np.concatenate(diagonal) if diagonal else np.zeros(0)
    empty = np.zeros((0, t.c))
    frame = effects_frame(
        new, t.effects, np.vstack([empty, *values]), np.vstack([empty, *pev]), np.outer(every, np.diag(Sigma))
    )
    frame["n_records"] = 0
    frame["inbreeding"] = np.repeat(every / relationship.unit - 1.0, t.c)
    return frame


def _explained_variance(fitted: Fitted, k: int, K: Array, Sigma: Array) -> Array:
    """Diagonals of Sigma K Z'PZ K' Sigma for the rows of K (new levels by levels with records), shape (new, c)."""
    t = fitted.design.terms[k]
    some = np.flatnonzero(t.counts > 0)
    out = np.empty((len(K), t.c))
    for effect in range(t.c):
        moved = sum(Sigma[a, effect] * (t.Z[:, a * t.q + some] @ K.T) for a in range(t.c))
        out[:, effect] = np.einsum("nm,nm->m", moved, fitted.system.project(np.asarray(moved)))
    return out
