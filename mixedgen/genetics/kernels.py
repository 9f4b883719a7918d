"""The loops over animals that inbreeding and relationships are made of."""

from __future__ import annotations

import numpy as np

from mixedgen.arrays import Array, Positions

UNKNOWN = -1  # position of an unknown parent

_ABREAST = 8  # rows of A followed side by side: one cache line


def _next_generation(A: Array, B: Array, father: Positions, mother: Positions, diagonal: Array) -> None:
    """Relationships B of one set of animals, from those A of their parents; who stays is both its own parents."""
    row = np.empty(A.shape[1])
    for i in range(len(father)):
        of_father, of_mother = A[father[i]], A[mother[i]]
        for k in range(len(row)):
            row[k] = 0.25 * (of_father[k] + of_mother[k])
        out = B[i]
        for j in range(len(father)):
            out[j] = row[father[j]] + row[mother[j]]
        out[i] = diagonal[i]


def _by_mating(
    sire: Positions,
    dam: Positions,
    own: Positions,
    left: Array,
    start: Array,
    s: Positions,
    d: Positions,
    order: Positions,
) -> tuple[Array, int]:
    """Relationship of the mates (s, d), shape (matings,), and the number of ancestors visited.

    Meuwissen & Luo (1992) with a queue of ancestors kept as a bitset of two levels: a_sd = sum_j t_sj t_dj D_j,
    youngest ancestor first. Own is the mating from which each animal came, or -1; left the share of heterozygosity it
    keeps; start what a_sd is added to; order has the matings by their younger mate, so that the inbreeding of all
    ancestors is known in time.
    """
    m = len(sire)
    words = m // 64 + 1
    low = np.zeros(words, dtype=np.uint64)  # bit of animal j stands at m - 1 - j, so the lowest bit is the youngest
    high = np.zeros(words // 64 + 1, dtype=np.uint64)
    one, magic = np.uint64(1), np.uint64(0x03F79D71B4CB0A89)
    bit_of = np.zeros(64, dtype=np.int64)  # de Bruijn's sequence: position of a single set bit
    for k in range(64):
        bit_of[(magic << np.uint64(k)) >> np.uint64(58)] = k
    share = np.zeros((m, 2))
    F, D, filled = np.zeros(m), np.zeros(m), 0
    a, visits = start.copy(), 0
    for mating in order:
        youngest = max(s[mating], d[mating])
        while filled <= youngest:
            p, q = sire[filled], dam[filled]
            born = 0.5 * a[own[filled]] if own[filled] >= 0 else 0.0  # inbreeding before any selfing
            F[filled] = 1.0 - left[filled] * (1.0 - born)
            D[filled] = 0.5 + F[filled] - born - 0.25 * ((F[p] if p >= 0 else -1.0) + (F[q] if q >= 0 else -1.0))
            filled += 1
        share[s[mating], 0] = 1.0
        share[d[mating], 1] = 1.0
        for j in (s[mating], d[mating]):
            w = (m - 1 - j) >> 6
            low[w] |= one << np.uint64((m - 1 - j) & 63)
            high[w >> 6] |= one << np.uint64(w & 63)
        total = 0.0
        h = (m - 1 - youngest) >> 12
        while h < len(high):
            if high[h] == 0:
                h += 1
                continue
            x = high[h]
            w = (h << 6) + bit_of[((x & (~x + one)) * magic) >> np.uint64(58)]
            x = low[w]
            lowest = x & (~x + one)
            j = m - 1 - ((w << 6) + bit_of[(lowest * magic) >> np.uint64(58)])
            low[w] = x ^ lowest
            if low[w] == 0:
                high[h] ^= one << np.uint64(w & 63)
            visits += 1
            by_s, by_d = share[j, 0], share[j, 1]
            share[j, 0] = 0.0
            share[j, 1] = 0.0
            total += by_s * by_d * D[j]
            for p in (sire[j], dam[j]):
                if p >= 0:
                    share[p, 0] += 0.5 * by_s
                    share[p, 1] += 0.5 * by_d
                    v = (m - 1 - p) >> 6
                    low[v] |= one << np.uint64((m - 1 - p) & 63)
                    high[v >> 6] |= one << np.uint64(v & 63)
        a[mating] += total
    return a, visits


def _by_parent(
    sire: Positions,
    dam: Positions,
    own: Positions,
    left: Array,
    start: Array,
    first: Positions,
    second: Positions,
    generation: Positions,
) -> Array:
    """Relationship of the mates (first, second), shape (matings,).

    Colleau (2002), Sargolzaei et al. (2005): for each parent of one sex the row A e = T D T' e, back to its ancestors
    and forward to its youngest mate, some parents of one generation side by side: the inbreeding of their ancestors is
    then known. Own, left and start are as in `_by_mating`; generation is that of each animal.
    """
    m = len(sire)
    animals = np.argsort(generation, kind="mergesort")
    order = np.argsort(generation[first] * m + first, kind="mergesort")
    F, D, filled = np.zeros(m), np.zeros(m), 0
    up, down = np.zeros((m + 1, _ABREAST)), np.zeros((m + 1, _ABREAST))  # the last row serves unknown parents
    father, mother = np.where(sire >= 0, sire, m), np.where(dam >= 0, dam, m)
    a, column = start.copy(), np.zeros(len(first), dtype=np.int64)
    begin = 0
    while begin < len(order):
        present = generation[first[order[begin]]]
        while filled < m and generation[animals[filled]] <= present:
            j = animals[filled]
            p, q = sire[j], dam[j]
            born = 0.5 * a[own[j]] if own[j] >= 0 else 0.0  # inbreeding before any selfing
            F[j] = 1.0 - left[j] * (1.0 - born)
            D[j] = 0.5 + F[j] - born - 0.25 * ((F[p] if p >= 0 else -1.0) + (F[q] if q >= 0 else -1.0))
            filled += 1
        end, width, previous, youngest, last = begin, 0, -1, 0, 0
        while end < len(order):
            parent = first[order[end]]
            if parent != previous:
                if width == _ABREAST or generation[parent] != present:
                    break
                up[parent, width] = 1.0
                previous, youngest = parent, max(youngest, parent)
                width += 1
            column[order[end]] = width - 1
            last = max(last, second[order[end]])
            end += 1
        oldest = youngest
        for j in range(youngest, -1, -1):
            reached = 0.0
            for c in range(_ABREAST):
                reached += up[j, c]
            if reached == 0.0:
                continue
            oldest, f, d, variance = j, father[j], mother[j], D[j]
            for c in range(_ABREAST):
                half = 0.5 * up[j, c]
                up[f, c] += half
                up[d, c] += half
                up[j, c] *= variance
        up[m] = 0.0
        down[:oldest] = 0.0
        for j in range(oldest, youngest + 1):
            f, d = father[j], mother[j]
            for c in range(_ABREAST):
                down[j, c] = up[j, c] + 0.5 * (down[f, c] + down[d, c])
                up[j, c] = 0.0
        for j in range(youngest + 1, last + 1):
            f, d = father[j], mother[j]
            for c in range(_ABREAST):
                down[j, c] = 0.5 * (down[f, c] + down[d, c])
        for i in range(begin, end):
            a[order[i]] += down[second[order[i]], column[order[i]]]
        begin = end
    return a
