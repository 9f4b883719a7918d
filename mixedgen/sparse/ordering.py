"""Fill-reducing ordering: approximate minimum degree on the quotient graph.

References
----------
.. [1] Amestoy, Davis & Duff (1996) SIAM J. Matrix Anal. Appl. 17:886-905.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mixedgen.sparse.blas import kernel

Index = npt.NDArray[np.int32]
Pointer = npt.NDArray[np.int64]


@kernel
def full_pattern(indptr: Any, indices: Any, n: int) -> tuple[Pointer, Index]:
    """Neighbours of each variable, both triangles, no diagonal: pointers (n + 1,) and neighbours."""
    start = np.zeros(n + 1, np.int64)
    for j in range(n):
        for k in range(indptr[j], indptr[j + 1]):
            i = indices[k]
            if i != j:
                start[i + 1] += 1
                start[j + 1] += 1
    for i in range(n):
        start[i + 1] += start[i]
    fill = start[:n].copy()
    neighbours = np.empty(start[n], np.int32)
    for j in range(n):
        for k in range(indptr[j], indptr[j + 1]):
            i = indices[k]
            if i != j:
                neighbours[fill[j]] = i
                neighbours[fill[i]] = j
                fill[i] += 1
                fill[j] += 1
    return start, neighbours


@kernel
def minimum_degree(
    start: Pointer,
    neighbours: Index,
    n: int,
    block_start: Pointer,
    block_members: Index,
    last: npt.NDArray[np.bool_],
    budget: float,
) -> Index:
    """Elimination order, shape (n,): order[k] is the variable eliminated as the k-th.

    Variables are nodes 0..n-1, dense blocks are elements n, n+1, ... from the outset; an eliminated variable becomes
    the element of the same number. Variables marked in `last` do not enter the graph: they are ordered last, by degree.
    The list of a variable holds its elements (`n_elements` of them) and then its variables; that of an element its
    variables. An order that takes more than `budget` visits of list entries is given up, and is empty. Names follow
    [1]_: `weight` is nv (negative while the variable is in the list of the pivot), `mark` is w.
    """
    lists, free, head, length, n_elements, weight, degree = _quotient_graph(
        start, neighbours, n, block_start, block_members, last
    )
    mark = np.ones(len(head), np.int64)
    leader = np.full(len(head), -1, np.int32)  # the variable this one was merged into
    pivot_of = np.full(n, -1, np.int32)
    bucket, after, before, n_active = _queue(degree, last)
    hash_bucket = np.full(n + 1, -1, np.int32)
    hash_of = np.zeros(n, np.int64)

    eliminated = 0
    n_pivots = 0
    visited = 0.0
    smallest: Any = 0
    flag: Any = np.int64(2)
    largest_element = np.int64(n)
    while eliminated < n_active:
        if visited > budget:
            return np.empty(0, np.int32)
        while bucket[smallest] < 0:
            smallest += 1
        p = bucket[smallest]
        bucket[smallest] = after[p]
        if after[p] >= 0:
            before[after[p]] = -1
        eliminated += weight[p]
        pivot_of[p] = n_pivots
        n_pivots += 1

        weight[p] = -weight[p]
        first = head[p]
        if n_elements[p] != 0:
            needed: Any = np.int64(length[p])
            for k in range(head[p], head[p] + n_elements[p]):
                needed += length[lists[k]]
            if free + needed > len(lists):
                lists, free = _compact(head, length, weight, mark, pivot_of, lists, needed, p)
            first = free
        end, size = _join_elements(head, length, n_elements, weight, mark, lists, first, p)
        for k in range(first, end):
            i = lists[k]
            if before[i] >= 0:
                after[before[i]] = after[i]
            else:
                bucket[degree[i]] = after[i]
            if after[i] >= 0:
                before[after[i]] = before[i]
        head[p] = first
        length[p] = end - first
        largest_element = max(largest_element, size)

        # |L_e \ L_p| for every element e next to the pivot's list (algorithm 2 of [1])
        for k in range(first, end):
            i = lists[k]
            own = -weight[i]
            for q in range(head[i], head[i] + n_elements[i]):
                e = lists[q]
                if mark[e] >= flag:
                    mark[e] -= own
                elif mark[e] != 0:
                    mark[e] = degree[e] + flag - own

        alike = False  # whether two variables have one hash
        for k in range(first, end):
            i = lists[k]
            own = -weight[i]
            low = head[i]
            middle = low + n_elements[i]
            high = low + length[i]
            put = low
            d: Any = np.int64(0)
            key = np.int64(p)
            for q in range(low, middle):
                e = lists[q]
                if mark[e] != 0:
                    outside = mark[e] - flag
                    if outside > 0:
                        d += outside
                        lists[put] = e
                        put += 1
                        key += e
                    else:
                        mark[e] = 0  # aggressive absorption: e lies within the new element
            visited += high - low
            split = put
            for q in range(middle, high):
                j = lists[q]
                if weight[j] > 0:
                    d += weight[j]
                    lists[put] = j
                    put += 1
                    key += j
            if d == 0:
                # mass elimination: i has no neighbour outside the new element
                leader[i] = p
                size -= own
                eliminated += own
                weight[i] = 0
                length[i] = 0
            else:
                degree[i] = min(np.int64(degree[i]), d)
                # there is room: the pivot, or an element absorbed by it, has left the list
                lists[put] = lists[split]
                lists[split] = p
                n_elements[i] = split - low + 1
                length[i] = put - low + 1
                key = key % n
                hash_of[i] = key
                before[i] = -1
                after[i] = hash_bucket[key]
                alike = alike or hash_bucket[key] >= 0
                hash_bucket[key] = i
        flag += largest_element + 1
        mark[p] = flag  # alive, and below the next flag
        flag += 1
        if alike:
            flag = _merge_alike(
                head, length, n_elements, weight, mark, leader, after, hash_bucket, hash_of, lists, first, end, flag
            )
        put = first
        for k in range(first, end):
            i = lists[k]
            if weight[i] == 0:
                continue
            own = -weight[i]
            weight[i] = own
            d = np.int64(degree[i]) + size - own
            d = min(d, np.int64(n_active - eliminated - own))
            d = max(d, 0)
            degree[i] = d
            hash_bucket[hash_of[i]] = -1
            before[i] = -1
            after[i] = bucket[d]
            if bucket[d] >= 0:
                before[bucket[d]] = i
            bucket[d] = i
            smallest = min(smallest, d)
            lists[put] = i
            put += 1
        weight[p] = 0
        degree[p] = size
        length[p] = put - first
        if n_elements[p] != 0:
            free = put
        if length[p] == 0:
            mark[p] = 0

    return _sequence(leader, pivot_of, last, start, n, n_pivots)


@kernel
def _quotient_graph(
    start: Pointer,
    neighbours: Index,
    n: int,
    block_start: Pointer,
    block_members: Index,
    last: npt.NDArray[np.bool_],
) -> tuple[Index, Any, Pointer, Index, Index, Index, Index]:
    """Graph before the first pivot, its lists with room for new elements, and where that room begins."""
    n_blocks = len(block_start) - 1
    N = n + n_blocks
    n_memberships = np.zeros(n, np.int64)
    for k in range(block_start[n_blocks]):
        n_memberships[block_members[k]] += 1
    space = start[n] + 2 * block_start[n_blocks]
    space += space // 5 + N + 1
    lists = np.empty(space, np.int32)
    head = np.empty(N, np.int64)
    length = np.zeros(N, np.int32)
    n_elements = np.zeros(n, np.int32)
    weight = np.ones(N, np.int32)
    degree = np.zeros(N, np.int32)
    free = np.int64(0)
    fill = np.zeros(n, np.int64)
    for i in range(n):
        head[i] = free
        if last[i]:
            weight[i] = 0
            continue
        free += n_memberships[i]
        for k in range(start[i], start[i + 1]):
            if not last[neighbours[k]]:
                lists[free] = neighbours[k]
                free += 1
        length[i] = free - head[i]
        degree[i] = length[i] - n_memberships[i]
        fill[i] = head[i]
    for b in range(n_blocks):
        e = n + b
        head[e] = free
        for k in range(block_start[b], block_start[b + 1]):
            i = block_members[k]
            if not last[i]:
                lists[free] = i
                free += 1
                lists[fill[i]] = e
                fill[i] += 1
        length[e] = free - head[e]
        degree[e] = length[e]
        for k in range(head[e], free):
            i = lists[k]
            n_elements[i] += 1
            degree[i] = min(degree[i] + degree[e] - 1, n - 1)
    return lists, free, head, length, n_elements, weight, degree


@kernel
def _queue(degree: Index, last: npt.NDArray[np.bool_]) -> tuple[Index, Index, Index, int]:
    """Variables by degree in doubly linked lists, their first, next and previous, and the number of variables."""
    n = len(last)
    n_active = 0
    bucket = np.full(n + 1, -1, np.int32)
    after = np.full(n, -1, np.int32)
    before = np.full(n, -1, np.int32)
    for i in range(n - 1, -1, -1):
        if not last[i]:
            n_active += 1
            d = degree[i]
            after[i] = bucket[d]
            if bucket[d] >= 0:
                before[bucket[d]] = i
            bucket[d] = i
    return bucket, after, before, n_active


@kernel
def _compact(
    head: Pointer, length: Index, weight: Index, mark: Pointer, pivot_of: Index, lists: Index, needed: int, p: int
) -> tuple[Index, Any]:
    """Lists without their dead parts, with `needed` free entries at least, and where these begin."""
    n, space = len(pivot_of), len(lists)
    fresh = np.empty(space, np.int32)
    free = np.int64(0)
    for v in range(len(head)):
        # merged variables, absorbed elements and those ordered last keep no list
        alive = (v < n and pivot_of[v] < 0 and weight[v] != 0) or v == p
        alive = alive or ((v >= n or pivot_of[v] >= 0) and mark[v] != 0)
        if alive:
            old = head[v]
            head[v] = free
            for k in range(old, old + length[v]):
                fresh[free] = lists[k]
                free += 1
    if free + needed > space:
        grown = np.empty(free + needed + space // 5, np.int32)
        grown[:free] = fresh[:free]
        fresh = grown
    return fresh, free


@kernel
def _join_elements(
    head: Pointer,
    length: Index,
    n_elements: Index,
    weight: Index,
    mark: Pointer,
    lists: Index,
    first: int,
    p: int,
) -> tuple[int, Any]:
    """List of the new element p, from `first` on: its end and its size; the elements next to p are absorbed."""
    low = head[p]
    middle, high = low + n_elements[p], low + length[p]
    end = first
    size = np.int64(0)
    for part in range(low, middle + 1):
        begin, stop = middle, high
        if part < middle:
            e = lists[part]
            begin, stop = head[e], head[e] + length[e]
            mark[e] = 0
        for k in range(begin, stop):
            i = lists[k]
            if weight[i] > 0:
                size += weight[i]
                weight[i] = -weight[i]
                lists[end] = i
                end += 1
    return end, size


@kernel
def _merge_alike(
    head: Pointer,
    length: Index,
    n_elements: Index,
    weight: Index,
    mark: Pointer,
    leader: Index,
    after: Index,
    hash_bucket: Index,
    hash_of: Pointer,
    lists: Index,
    first: int,
    end: int,
    flag: int,
) -> int:
    """Merge the pivot's variables that have the same lists, indistinguishable from now on; the next unused flag."""
    for k in range(first, end):
        i = lists[k]
        if weight[i] == 0:
            continue
        key = hash_of[i]
        i = hash_bucket[key]
        hash_bucket[key] = -1
        while i >= 0 and after[i] >= 0:
            for q in range(head[i], head[i] + length[i]):
                mark[lists[q]] = flag
            previous = i
            j = after[i]
            while j >= 0:
                same = length[j] == length[i] and n_elements[j] == n_elements[i]
                if same:
                    for q in range(head[j], head[j] + length[j]):
                        if mark[lists[q]] != flag:
                            same = False
                            break
                if same:
                    leader[j] = i
                    weight[i] += weight[j]
                    weight[j] = 0
                    length[j] = 0
                    j = after[j]
                    after[previous] = j
                else:
                    previous = j
                    j = after[j]
            flag += 1
            i = after[i]
    return flag


@kernel
def _sequence(
    leader: Index, pivot_of: Index, last: npt.NDArray[np.bool_], start: Pointer, n: int, n_pivots: int
) -> Index:
    """Put merged variables beside their leaders and those marked `last` at the end, by degree."""
    largest = np.int64(0)
    for i in range(n):
        if last[i]:
            largest = max(largest, start[i + 1] - start[i])
    n_keys = n_pivots + largest + 1
    key = np.empty(n, np.int64)
    count = np.zeros(n_keys + 1, np.int64)
    for i in range(n):
        if last[i]:
            key[i] = n_pivots + start[i + 1] - start[i]
        else:
            top = i
            while pivot_of[top] < 0:
                top = leader[top]
            j = i
            while j != top:
                following = leader[j]
                leader[j] = top
                j = following
            key[i] = pivot_of[top]
        count[key[i] + 1] += 1
    for k in range(n_keys):
        count[k + 1] += count[k]
    order = np.empty(n, np.int32)
    for i in range(n):
        order[count[key[i]]] = i
        count[key[i]] += 1
    return order
