"""Inbreeding: the relationship between the parents of every animal, by whichever kernel is forecast to be fastest.

Notation: A = T D T' with T = (I - P)^-1, where row i of P holds 1/2 at the parents of i, and D the Mendelian variances.
Selfing leaves the share h_i = (1/2)^n of the heterozygosity an animal was born with: F_i = 1 - h_i (1 - a_sd / 2).
A metafounder k is a founder of F_k = gamma_kk - 1, so h_k = 2 - gamma_kk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import SuperLU, splu

from mixedgen.arrays import Array, Positions
from mixedgen.genetics.kernels import UNKNOWN, _by_mating, _by_parent, _next_generation

_DENSE_PARENTS = 1000  # up to this many parents their dense A (8 MB) is cheaper than loading compiled code
_SAMPLED_MATINGS = 64  # enough to forecast the mean number of ancestors within some 20 per cent
_VISIT_COST = 15.0  # an ancestor taken from the bitset, in steps of a pass along the pedigree; 11 to 24 were measured
_ENTRY_COST = 0.8  # an entry of the A of one generation, in steps of a pass along the pedigree
_FRONT_PARENTS = 10_000  # two dense A of more parents than this would not fit in 1.6 GB


def between_parents(sire: Positions, dam: Positions, left: Array | None = None, Gamma: Array | None = None) -> Array:
    """Relationship a_sd between the parents of each animal, shape (n,), 0 where one is unknown.

    Parameters
    ----------
    sire, dam : ndarray of int, shape (n,)
        Positions of the parents, which come first; -1 where unknown.
    left : ndarray, shape (n,), optional
        Share h of the heterozygosity that is left; None to ignore all inbreeding, where D is 1, 3/4 or 1/2.
    Gamma : ndarray, shape (g, g), optional
        Relationship of the first g animals, the metafounders, in place of the identity.

    Returns
    -------
    ndarray, shape (n,)
        Twice the inbreeding of animals that are not selfed.

    Notes
    -----
    Only animals with progeny are followed. The dense tabular method [1]_ serves small pedigrees; else ancestors by
    mating [2]_, rows of A by one parent [3]_ [4]_, or the A of one generation after another.

    References
    ----------
    .. [1] Emik & Terrill (1949) J Hered 40:51-55.
    .. [2] Meuwissen & Luo (1992) Genet Sel Evol 24:305-313.
    .. [3] Colleau (2002) Genet Sel Evol 34:409-421.
    .. [4] Sargolzaei, Iwaisaki & Colleau (2005) J Anim Breed Genet 122:325-331.

    Examples
    --------
    >>> between_parents(np.array([-1, -1, 0, 0]), np.array([-1, -1, 1, 2]), np.ones(4)).tolist()
    [0.0, 0.0, 0.0, 0.5]
    """
    a = np.zeros(len(sire))
    both = np.flatnonzero((sire >= 0) & (dam >= 0))
    if len(both) == 0:
        return a
    is_parent = np.zeros(len(sire) + 1, dtype=bool)  # the last entry serves position -1
    is_parent[sire], is_parent[dam], is_parent[-1] = True, True, False
    is_parent[: 0 if Gamma is None else len(Gamma)] = True
    parents = np.flatnonzero(is_parent)
    rank = np.full(len(sire) + 1, UNKNOWN)
    rank[parents] = np.arange(len(parents))
    relationship = _dense_mates if len(parents) <= _DENSE_PARENTS else _compiled_mates
    of_parents = None if left is None else left[parents]
    pedigree = rank[sire[parents]], rank[dam[parents]], of_parents, Gamma
    a[both] = relationship(*pedigree, rank[sire[both]], rank[dam[both]])
    return a


def tabular(sire: Positions, dam: Positions, left: Array | None, Gamma: Array | None = None) -> Array:
    """Dense A = T D T', row by row.

    Parameters
    ----------
    sire, dam, left, Gamma
        As for `between_parents`.

    Returns
    -------
    ndarray, shape (n, n)
        A; its diagonal is 1 + F where `left` is given.

    Examples
    --------
    >>> tabular(np.array([-1, -1, 0]), np.array([-1, -1, 1]), np.ones(3))[2].tolist()
    [0.5, 0.5, 1.0]
    """
    n = len(sire)
    A = np.zeros((n + 1, n + 1))  # the last row and column stand for unknown parents, position -1
    unrelated = 0 if Gamma is None else len(Gamma)
    if Gamma is not None:
        A[:unrelated, :unrelated] = Gamma
    for i, (s, d) in list(enumerate(zip(sire.tolist(), dam.tolist(), strict=True)))[unrelated:]:
        A[i, :i] = 0.5 * (A[s, :i] + A[d, :i])
        A[:i, i] = A[i, :i]
        if left is not None:
            A[i, i] = 2.0 - left[i] * (1.0 - 0.5 * A[s, d])
        else:
            known = (s >= 0) + (d >= 0)
            A[i, i] = 1.0 - 0.25 * known + 0.25 * (A[s, s] + A[d, d] + 2.0 * A[s, d])
    return A[:n, :n].copy()


def generations(sire: Positions, dam: Positions) -> list[Positions]:
    """Animals by generation; those in a loop, or descending from one, are absent.

    Parameters
    ----------
    sire, dam : ndarray of int, shape (n,)
        Positions of the parents, -1 where unknown.

    Returns
    -------
    list of ndarray of int
        Positions; generation 0 has no known parents, every other one a parent in the generation before.

    Notes
    -----
    Kahn's topological order [1]_.

    References
    ----------
    .. [1] Kahn (1962) Commun ACM 5:558-562.

    Examples
    --------
    >>> [g.tolist() for g in generations(np.array([-1, 0]), np.array([-1, -1]))]
    [[0], [1]]
    """
    n = len(sire)
    child = np.concatenate([np.flatnonzero(sire >= 0), np.flatnonzero(dam >= 0)])
    parent = np.concatenate([sire[sire >= 0], dam[dam >= 0]])
    child = child[np.argsort(parent, kind="stable")]
    start = np.concatenate([[0], np.cumsum(np.bincount(parent, minlength=n))])
    waiting = (sire >= 0).astype(np.int64) + (dam >= 0)
    found = []
    ready = np.flatnonzero(waiting == 0)
    while len(ready):
        found.append(ready)
        progeny, times = np.unique(child[_ranges(start[ready], start[ready + 1])], return_counts=True)
        waiting[progeny] -= times
        ready = progeny[waiting[progeny] == 0]
    return found


def minus_parents(sire: Positions, dam: Positions, sire_share: float = 0.5, dam_share: float = 0.5) -> sp.csr_array:
    """Identity less the shares that parents have in each animal, unit lower triangular.

    Parameters
    ----------
    sire, dam : ndarray of int, shape (n,)
        Positions of the parents, which come first; -1 where unknown.
    sire_share, dam_share : float, default 0.5
        Their shares; with a half each, the matrix is T^-1.

    Returns
    -------
    csr_array, shape (n, n)
        I - P.

    Examples
    --------
    >>> minus_parents(np.array([-1, 0]), np.array([-1, -1])).toarray().tolist()
    [[1.0, 0.0], [-0.5, 1.0]]
    """
    own = np.arange(len(sire), dtype=np.int32)
    s, d = np.flatnonzero(sire >= 0), np.flatnonzero(dam >= 0)
    rows = np.concatenate([own, own[s], own[d]])
    columns = np.concatenate([own, sire[s].astype(np.int32), dam[d].astype(np.int32)])
    values = np.concatenate([np.ones(len(own)), np.full(len(s), -sire_share), np.full(len(d), -dam_share)])
    matrix = sp.csr_array((values, (rows, columns)), shape=(len(own), len(own)))
    matrix.sum_duplicates()
    return matrix


def triangular(matrix: sp.csr_array) -> SuperLU:
    """Solver for a unit lower triangle; in natural order, without pivoting, SuperLU takes it over without fill.

    Parameters
    ----------
    matrix : csr_array, shape (n, n)
        Unit lower triangular.

    Returns
    -------
    SuperLU
        With `solve`.

    Examples
    --------
    >>> triangular(minus_parents(np.array([-1, 0]), np.array([-1, -1]))).solve(np.ones(2)).tolist()
    [1.0, 1.5]
    """
    options = {"SymmetricMode": True, "Equil": False}
    return splu(matrix.tocsc(), permc_spec="NATURAL", diag_pivot_thresh=0.0, options=options)


def compile_kernels() -> None:
    """Compile the code for large pedigrees, or load it from the cache, on a tiny one.

    Examples
    --------
    >>> compile_kernels()  # doctest: +SKIP
    """
    none, one, h, start = np.full(3, UNKNOWN), np.arange(1), np.ones(3), np.zeros(1)
    _compiled(_by_mating)(none, none, none, h, start, one, one + 1, one)
    _compiled(_by_parent)(none, none, none, h, start, one, one + 1, none + 1)
    _compiled(_next_generation)(np.eye(1), np.eye(1), np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(1))


def _ranges(start: Positions, stop: Positions) -> Positions:
    """Concatenate arange(start[k], stop[k]) over k."""
    length = stop - start
    ends = np.cumsum(length)
    return np.asarray(np.arange(length.sum()) + np.repeat(start - (ends - length), length))


def _dense_mates(
    sire: Positions, dam: Positions, left: Array | None, Gamma: Array | None, s: Positions, d: Positions
) -> Array:
    """Relationship of mates s and d from the dense A of the animals with progeny."""
    return tabular(sire, dam, left, Gamma)[s, d]


def _compiled_mates(
    sire: Positions, dam: Positions, left: Array | None, Gamma: Array | None, s: Positions, d: Positions
) -> Array:
    """Relationship of mates s and d by the kernel that is forecast to be fastest."""
    m = len(sire)
    keys, mating = np.unique(s * m + d, return_inverse=True)
    s, d = np.divmod(keys, m)
    # an animal of no known mating counts as not inbred, so no mating at all means D of 1, 3/4 and 1/2
    none, h = np.full(m, UNKNOWN), np.ones(m) if left is None else left
    own = none
    if left is not None:
        own = np.where((sire >= 0) & (dam >= 0), np.searchsorted(keys, sire * m + dam), UNKNOWN)
    start = np.zeros(len(s)) if Gamma is None else _through_metafounders(sire, dam, Gamma, s, d)
    by_mating, by_parent = _compiled(_by_mating), _compiled(_by_parent)
    some = np.linspace(0, len(s) - 1, _SAMPLED_MATINGS).astype(np.int64)
    _, visits = by_mating(sire, dam, none, h, start[some], s[some], d[some], _by_younger(s[some], d[some]))
    generation = np.empty(m, dtype=np.int64)
    for g, animals in enumerate(generations(sire, dam)):
        generation[animals] = g
    stay = _last_generation(sire, dam, s, d, generation)
    # the diagonal of each generation follows from F alone, if nothing is ignored and nothing comes from metafounders
    front = np.inf if left is None or Gamma is not None else _front_entries(generation, stay)
    costs = _VISIT_COST * visits * len(s) / len(some), _passes(s, d), _passes(d, s), _ENTRY_COST * front
    if costs[0] <= min(costs):
        return np.asarray(by_mating(sire, dam, own, h, start, s, d, _by_younger(s, d))[0][mating])
    if costs[3] <= min(costs):
        return _by_generation(sire, dam, own, h, s, d, generation, stay)[mating]
    first, second = (s, d) if costs[1] <= costs[2] else (d, s)
    return np.asarray(by_parent(sire, dam, own, h, start, first, second, generation)[mating])


def _through_metafounders(sire: Positions, dam: Positions, Gamma: Array, s: Positions, d: Positions) -> Array:
    """Add to a_sd what relationships between different metafounders make: q_s' (Gamma - diag Gamma) q_d."""
    g = len(Gamma)
    Q = triangular(minus_parents(sire, dam)).solve(np.eye(len(sire), g))
    return np.asarray(np.einsum("ij,ij->i", Q[s] @ (Gamma - np.diag(np.diag(Gamma))), Q[d]))


def _by_younger(s: Positions, d: Positions) -> Positions:
    """Order of matings in which the inbreeding of all ancestors is known in time."""
    return np.argsort(np.maximum(s, d), kind="stable")


def _passes(first: Positions, second: Positions) -> float:
    """Count the steps of `_by_parent`: for each parent of one sex, back from it, then forward to its youngest mate."""
    youngest = np.full(int(first.max()) + 1, UNKNOWN)
    np.maximum.at(youngest, first, second)
    used = np.flatnonzero(youngest >= 0)
    return float(used.sum() + youngest[used].sum())


def _last_generation(sire: Positions, dam: Positions, s: Positions, d: Positions, generation: Positions) -> Positions:
    """Latest generation whose A must still hold each parent: that before its youngest progeny's."""
    last = generation.copy()
    when = np.maximum(generation[s], generation[d])
    np.maximum.at(last, s, when)
    np.maximum.at(last, d, when)
    for parent in (sire, dam):
        known = parent >= 0
        np.maximum.at(last, parent[known], generation[known] - 1)
    return last


def _alive(generation: Positions, last: Positions) -> Positions:
    """Number of parents that the A of each generation holds."""
    steps = int(generation.max()) + 2
    return np.cumsum(np.bincount(generation, minlength=steps) - np.bincount(last + 1, minlength=steps))


def _front_entries(generation: Positions, last: Positions) -> float:
    """Entries of the A of all generations that `_by_generation` forms; infinite where one would be too large."""
    size = _alive(generation, last).astype(np.float64)
    return float(np.square(size).sum()) if size.max() <= _FRONT_PARENTS else np.inf


def _by_generation(
    sire: Positions,
    dam: Positions,
    own: Positions,
    left: Array,
    s: Positions,
    d: Positions,
    generation: Positions,
    last: Positions,
) -> Array:
    """Relationship of the mates (s, d), shape (matings,), from the A of the parents alive in each generation.

    The tabular method on all pairs of one generation at a time: those who stay keep their rows, the others are new.
    """
    m = len(sire)
    a, F = np.zeros(len(s)), np.zeros(m)
    when = np.maximum(generation[s], generation[d])
    matings = np.split(np.argsort(when, kind="stable"), np.cumsum(np.bincount(when, minlength=generation.max() + 1)))
    newborn = np.split(np.argsort(generation, kind="stable"), np.cumsum(np.bincount(generation)))
    slot = np.full(m + 1, 0)  # the last entry serves unknown parents
    alive, A = np.zeros(0, dtype=np.int64), np.zeros((1, 1))
    rooms = [np.empty(int(_alive(generation, last).max() + 1) ** 2) for _ in range(2)]  # of two generations in turn
    for t in range(int(generation.max()) + 1):
        new = newborn[t]
        F[new] = 1.0 - left[new] * (1.0 - 0.5 * np.where(own[new] >= 0, a[own[new]], 0.0))
        stayed = alive[last[alive] >= t]
        slot[m] = len(alive)
        new = new[np.argsort(slot[sire[new]], kind="stable")]  # in the order of sires the gathering is local
        father = np.concatenate([slot[stayed], slot[sire[new]], [len(alive)]])
        mother = np.concatenate([slot[stayed], slot[dam[new]], [len(alive)]])
        alive = np.concatenate([stayed, new])
        size = len(alive) + 1  # the last row and column stand for unknown parents
        B = rooms[t % 2][: size * size].reshape(size, size)
        _compiled(_next_generation)(A, B, father, mother, np.append(1.0 + F[alive], 0.0))
        A = B
        slot[alive] = np.arange(len(alive))
        a[matings[t]] = A[slot[s[matings[t]]], slot[d[matings[t]]]]
    return a


@cache
def _compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Kernel as machine code; numba is loaded here, for large pedigrees only."""
    from numba import njit

    compiled: Callable[..., Any] = njit(cache=True)(kernel)
    return compiled
