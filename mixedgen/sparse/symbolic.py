"""Elimination tree, column counts, supernodes, and the plan of the fronts.

References
----------
.. [1] Liu (1990) SIAM J. Matrix Anal. Appl. 11:134-172 (elimination tree, multifrontal stack).
.. [2] Gilbert, Ng & Peyton (1994) SIAM J. Matrix Anal. Appl. 15:1075-1091 (column counts).
.. [3] Ashcraft & Grimes (1989) ACM Trans. Math. Softw. 15:291-309 (relaxed supernodes).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixedgen.arrays import Array
from mixedgen.sparse.blas import kernel
from mixedgen.sparse.ordering import Index, Pointer

Flags = npt.NDArray[np.bool_]


class Pattern(NamedTuple):
    """Symmetric pattern of a matrix with dense blocks.

    `start` and `neighbours` list both triangles without the diagonal; `block_start` and `block_members` the variables
    of the blocks; `member_start` and `memberships` the blocks of each variable.
    """

    start: Pointer
    neighbours: Index
    block_start: Pointer
    block_members: Index
    member_start: Pointer
    memberships: Index


class Tree(NamedTuple):
    """Postordered elimination: `order` (new to old), `parent` (-1 at a root) and `counts` of the columns of L."""

    order: Index
    parent: Index
    counts: Index


class Plan(NamedTuple):
    """Everything the numeric kernels need to know; s runs over supernodes in postorder.

    first (ns + 1): first column. row_start (ns + 1) into rows and relative: the rows of the front, its own columns
    first, and their places in the parent's front. panel (ns + 1): offset of the columns in the factor, m x w by
    columns. parent; child_start and children. thin: a leaf of few columns, handled by its parent. early: the update
    matrix stands before the children are done and takes theirs one by one. built and final: places of the update
    matrix on the stack before and after those of the children are released. block_start (ns + 1) into block_ids: the
    blocks assembled here. block_places: where each member stands in that front. block_from and value_from: offsets of
    the blocks' members and values.
    """

    first: Pointer
    row_start: Pointer
    rows: Index
    relative: Index
    panel: Pointer
    parent: Index
    child_start: Pointer
    children: Index
    thin: Flags
    early: Flags
    built: Pointer
    final: Pointer
    block_start: Pointer
    block_ids: Index
    block_places: Index
    block_from: Pointer
    value_from: Pointer


@kernel
def memberships(block_start: Pointer, block_members: Index, n: int) -> tuple[Pointer, Index]:
    """Blocks of each variable: pointers (n + 1,) and block numbers."""
    start = np.zeros(n + 1, np.int64)
    for k in range(len(block_members)):
        start[block_members[k] + 1] += 1
    for i in range(n):
        start[i + 1] += start[i]
    fill = start[:n].copy()
    blocks = np.empty(len(block_members), np.int32)
    for b in range(len(block_start) - 1):
        for k in range(block_start[b], block_start[b + 1]):
            i = block_members[k]
            blocks[fill[i]] = b
            fill[i] += 1
    return start, blocks


@kernel
def _inverse(order: Index) -> Index:
    """Place of each variable in an order, shape (n,)."""
    inverse = np.empty(len(order), np.int32)
    for k in range(len(order)):
        inverse[order[k]] = k
    return inverse


@kernel
def _grouped(keys: Any, n_keys: int) -> tuple[Pointer, Index]:
    """Counting sort: pointers (n_keys + 1,) and the positions of each key, ascending; negative keys are left out."""
    start = np.zeros(n_keys + 1, np.int64)
    for i in range(len(keys)):
        if keys[i] >= 0:
            start[keys[i] + 1] += 1
    for k in range(n_keys):
        start[k + 1] += start[k]
    fill = start[:n_keys].copy()
    positions = np.empty(start[n_keys], np.int32)
    for i in range(len(keys)):
        if keys[i] >= 0:
            positions[fill[keys[i]]] = i
            fill[keys[i]] += 1
    return start, positions


@kernel
def _last_children(parent: Index) -> tuple[Index, Index]:
    """Last child of each front, and of each front the sibling before it; -1 where there is none."""
    child = np.full(len(parent), -1, np.int32)
    sibling = np.full(len(parent), -1, np.int32)
    for s in range(len(parent)):
        if parent[s] >= 0:
            sibling[s] = child[parent[s]]
            child[parent[s]] = s
    return child, sibling


@kernel
def _block_heads(pattern: Pattern, inverse: Index) -> Index:
    """First eliminated place of each block: its clique has the fill of a star around it."""
    heads = np.empty(len(pattern.block_start) - 1, np.int32)
    for b in range(len(heads)):
        smallest = len(inverse)
        for k in range(pattern.block_start[b], pattern.block_start[b + 1]):
            smallest = min(smallest, inverse[pattern.block_members[k]])
        heads[b] = smallest
    return heads


@kernel
def _postorder(parent: Index, weights: Index) -> Index:
    """Postorder of a forest, children by ascending weight, so that the heaviest stands beside its parent."""
    n = len(parent)
    _, by_weight = _grouped(weights, n + 1)
    child = np.full(n + 1, -1, np.int32)
    sibling = np.full(n, -1, np.int32)
    for k in range(n - 1, -1, -1):
        j = by_weight[k]
        p = parent[j] if parent[j] >= 0 else n
        sibling[j] = child[p]
        child[p] = j
    post = np.empty(n, np.int32)
    path = np.empty(n, np.int32)
    put = 0
    root = child[n]
    while root >= 0:
        path[0] = root
        depth = 1
        while depth > 0:
            j = path[depth - 1]
            c = child[j]
            if c >= 0:
                child[j] = sibling[c]
                path[depth] = c
                depth += 1
            else:
                post[put] = j
                put += 1
                depth -= 1
        root = sibling[root]
    return post


@kernel
def elimination(pattern: Pattern, order: Index) -> Tree:
    """Elimination tree and column counts of an order, both relabelled to its postorder."""
    n = len(order)
    inverse = _inverse(order)
    heads = _block_heads(pattern, inverse)
    parent = _parents(pattern, order, inverse, heads)
    counts = _column_counts(pattern, order, inverse, heads, parent)
    post = _postorder(parent, counts)
    place = _inverse(post)
    new_order = np.empty(n, np.int32)
    new_parent = np.empty(n, np.int32)
    new_counts = np.empty(n, np.int32)
    for k in range(n):
        j = post[k]
        new_order[k] = order[j]
        new_counts[k] = counts[j]
        new_parent[k] = place[parent[j]] if parent[j] >= 0 else -1
    return Tree(new_order, new_parent, new_counts)


@kernel
def _parents(pattern: Pattern, order: Index, inverse: Index, heads: Index) -> Index:
    """Elimination tree [1]_, shape (n,): the parent of each column, -1 at a root."""
    n = len(order)
    parent = np.full(n, -1, np.int32)
    ancestor = np.full(n, -1, np.int32)
    for i in range(n):
        v = order[i]
        low, high = pattern.start[v], pattern.start[v + 1]
        n_blocks = pattern.member_start[v + 1] - pattern.member_start[v]
        for q in range(low, high + n_blocks):
            if q < high:
                j = inverse[pattern.neighbours[q]]
            else:
                j = heads[pattern.memberships[pattern.member_start[v] + q - high]]
            if j >= i:
                continue
            while j >= 0 and j != i:
                following = ancestor[j]
                ancestor[j] = i
                if following < 0:
                    parent[j] = i
                j = following
    return parent


@kernel
def _column_counts(pattern: Pattern, order: Index, inverse: Index, heads: Index, parent: Index) -> Index:
    """Entries of each column of L [2]_, shape (n,)."""
    n = len(order)
    counts = np.zeros(n, np.int32)
    post = _postorder(parent, counts)
    # first descendant of each column in the postorder, and leaves of the row subtrees
    first = np.full(n, -1, np.int32)
    for k in range(n):
        j = post[k]
        if first[j] < 0:
            counts[j] = 1
        while j >= 0 and first[j] < 0:
            first[j] = k
            j = parent[j]
    latest = np.full(n, -1, np.int32)
    leaf = np.full(n, -1, np.int32)
    ancestor = np.arange(n).astype(np.int32)
    for k in range(n):
        j = post[k]
        if parent[j] >= 0:
            counts[parent[j]] -= 1
        v = order[j]
        for q in range(pattern.start[v], pattern.start[v + 1]):
            i = inverse[pattern.neighbours[q]]
            if i > j:
                _count_leaf(i, j, first, latest, leaf, ancestor, counts)
        for q in range(pattern.member_start[v], pattern.member_start[v + 1]):
            b = pattern.memberships[q]
            if heads[b] == j:
                for t in range(pattern.block_start[b], pattern.block_start[b + 1]):
                    i = inverse[pattern.block_members[t]]
                    if i > j:
                        _count_leaf(i, j, first, latest, leaf, ancestor, counts)
        if parent[j] >= 0:
            ancestor[j] = parent[j]
    for k in range(n):
        j = post[k]
        if parent[j] >= 0:
            counts[parent[j]] += counts[j]
    return counts


@kernel
def _count_leaf(i: int, j: int, first: Index, latest: Index, leaf: Index, ancestor: Index, counts: Index) -> None:
    """Account for column j when it is a leaf of the subtree of row i."""
    if first[j] <= latest[i]:
        return
    latest[i] = first[j]
    counts[j] += 1
    previous = leaf[i]
    leaf[i] = j
    if previous < 0:
        return
    q = previous
    while ancestor[q] != q:
        q = ancestor[q]
    while previous != q:
        following = ancestor[previous]
        ancestor[previous] = q
        previous = following
    counts[q] -= 1


@kernel
def supernodes(parent: Index, counts: Index, columns: Array, zeros: Array) -> tuple[Pointer, Index, Index]:
    """Relaxed supernodes [3]_: first columns (ns + 1,), supernodal parents and rows per front.

    A supernode joins the one beside it, its parent, while the front has at most columns[t] columns with a share of
    explicit zeros of at most zeros[t]; the last share holds for any number of columns.
    """
    n = len(parent)
    n_children = np.zeros(n, np.int32)
    for j in range(n):
        if parent[j] >= 0:
            n_children[parent[j]] += 1
    first = np.empty(n + 1, np.int64)
    ns = 0
    for j in range(n):
        joins = j > 0 and parent[j - 1] == j and counts[j - 1] == counts[j] + 1
        if not joins:
            first[ns] = j
            ns += 1
    first[ns] = n
    # top-down, so that a group grows towards its leaves
    group_end = np.empty(ns, np.int64)  # one past the last column of the group that starts here
    group_zeros = np.zeros(ns)
    size = np.empty(ns, np.int64)
    keep = np.ones(ns, np.bool_)
    for s in range(ns - 1, -1, -1):
        group_end[s] = first[s + 1]
        size[s] = counts[first[s]]
        if s == ns - 1 or parent[first[s + 1] - 1] < first[s + 1]:
            continue
        p = parent[first[s + 1] - 1]
        if p >= group_end[s + 1]:
            continue
        own = first[s + 1] - first[s]
        merged = group_end[s + 1] - first[s]
        rows = own + size[s + 1]
        new_zeros = group_zeros[s + 1] + np.float64(own) * (rows - size[s])
        stored = merged * (merged + 1) / 2 + np.float64(merged) * (rows - merged)
        share = new_zeros / stored
        limit = zeros[len(zeros) - 1]
        for t in range(len(columns)):
            if merged <= columns[t]:
                limit = max(limit, zeros[t])
        if share <= limit:
            keep[s + 1] = False
            group_end[s] = group_end[s + 1]
            group_zeros[s] = new_zeros
            size[s] = rows
    put = 0
    of_column = np.empty(n, np.int32)
    for s in range(ns):
        if keep[s]:
            first[put] = first[s]
            size[put] = size[s]
            put += 1
            for j in range(first[put - 1], group_end[s]):
                of_column[j] = put - 1
    first[put] = n
    tops = np.empty(put, np.int32)
    rows_of = np.empty(put, np.int32)
    for s in range(put):
        top = parent[first[s + 1] - 1]
        tops[s] = of_column[top] if top >= 0 else -1
        rows_of[s] = size[s]
    return first[: put + 1].copy(), tops, rows_of


@kernel
def front_rows(pattern: Pattern, order: Index, first: Pointer, parent: Index, sizes: Index) -> tuple[Pointer, Index]:
    """Rows of every front, ascending: pointers (ns + 1,) and rows."""
    n = len(order)
    ns = len(parent)
    inverse = _inverse(order)
    heads = _block_heads(pattern, inverse)
    child, sibling = _last_children(parent)
    row_start = np.zeros(ns + 1, np.int64)
    for s in range(ns):
        row_start[s + 1] = row_start[s] + sizes[s]
    unsorted = np.empty(row_start[ns], np.int32)
    seen = np.full(n, -1, np.int32)
    for s in range(ns):
        put = row_start[s]
        end = first[s + 1]
        for j in range(first[s], end):
            unsorted[put] = j
            put += 1
        for j in range(first[s], end):
            v = order[j]
            for q in range(pattern.start[v], pattern.start[v + 1]):
                i = inverse[pattern.neighbours[q]]
                if i >= end and seen[i] != s:
                    seen[i] = s
                    unsorted[put] = i
                    put += 1
            for q in range(pattern.member_start[v], pattern.member_start[v + 1]):
                b = pattern.memberships[q]
                if heads[b] == j:
                    for t in range(pattern.block_start[b], pattern.block_start[b + 1]):
                        i = inverse[pattern.block_members[t]]
                        if i >= end and seen[i] != s:
                            seen[i] = s
                            unsorted[put] = i
                            put += 1
        c = child[s]
        while c >= 0:
            for q in range(row_start[c] + first[c + 1] - first[c], row_start[c + 1]):
                i = unsorted[q]
                if i >= end and seen[i] != s:
                    seen[i] = s
                    unsorted[put] = i
                    put += 1
            c = sibling[c]
        if put != row_start[s + 1]:
            raise RuntimeError("column counts and front structures disagree")
    return row_start, _sorted_rows(row_start, unsorted, n)


@kernel
def _sorted_rows(row_start: Pointer, unsorted: Index, n: int) -> Index:
    """Sort all fronts' rows at once: by rows into buckets of fronts, and back."""
    ns = len(row_start) - 1
    bucket = np.zeros(n + 1, np.int64)
    for q in range(len(unsorted)):
        bucket[unsorted[q] + 1] += 1
    for i in range(n):
        bucket[i + 1] += bucket[i]
    fill = bucket[:n].copy()
    fronts = np.empty(len(unsorted), np.int32)
    for s in range(ns):
        for q in range(row_start[s], row_start[s + 1]):
            i = unsorted[q]
            fronts[fill[i]] = s
            fill[i] += 1
    put = row_start[:ns].copy()
    rows = np.empty(len(unsorted), np.int32)
    for i in range(n):
        for q in range(bucket[i], bucket[i + 1]):
            s = fronts[q]
            rows[put[s]] = i
            put[s] += 1
    return rows


@kernel
def places_in_fronts(
    indptr: Any, indices: Any, order: Index, first: Pointer, parent: Index, row_start: Pointer, rows: Index
) -> tuple[Pointer, Index, Pointer]:
    """Offsets of the panels (ns + 1,), rows' places in the parent's front, and entries' places in the factor."""
    n = len(order)
    ns = len(parent)
    inverse = _inverse(order)
    of_column = np.empty(n, np.int32)
    panel = np.zeros(ns + 1, np.int64)
    for s in range(ns):
        panel[s + 1] = panel[s] + (row_start[s + 1] - row_start[s]) * (first[s + 1] - first[s])
        for j in range(first[s], first[s + 1]):
            of_column[j] = s
    # entries by the column in which they are eliminated
    entry_start = np.zeros(n + 1, np.int64)
    for j in range(n):
        b = inverse[j]
        for k in range(indptr[j], indptr[j + 1]):
            entry_start[min(b, inverse[indices[k]]) + 1] += 1
    for j in range(n):
        entry_start[j + 1] += entry_start[j]
    entries = np.empty(entry_start[n], np.int64)
    entry_row = np.empty(entry_start[n], np.int32)
    fill = entry_start[:n].copy()
    for j in range(n):
        b = inverse[j]
        for k in range(indptr[j], indptr[j + 1]):
            a = inverse[indices[k]]
            column = min(a, b)
            entries[fill[column]] = k
            entry_row[fill[column]] = max(a, b)
            fill[column] += 1
    child, sibling = _last_children(parent)
    relative = np.zeros(len(rows), np.int32)
    places = np.empty(len(entries), np.int64)
    place = np.zeros(n, np.int32)
    for s in range(ns):
        low = row_start[s]
        m = row_start[s + 1] - low
        for q in range(m):
            place[rows[low + q]] = q
        for j in range(first[s], first[s + 1]):
            base = panel[s] + (j - first[s]) * m
            for q in range(entry_start[j], entry_start[j + 1]):
                places[entries[q]] = base + place[entry_row[q]]
        c = child[s]
        while c >= 0:
            for q in range(row_start[c] + first[c + 1] - first[c], row_start[c + 1]):
                relative[q] = place[rows[q]]
            c = sibling[c]
    return panel, relative, places


@kernel
def block_assembly(
    pattern: Pattern, order: Index, first: Pointer, row_start: Pointer, rows: Index
) -> tuple[Pointer, Index, Index]:
    """Blocks assembled in each front (pointers and numbers), and the members' places in it."""
    ns = len(first) - 1
    inverse = _inverse(order)
    heads = _block_heads(pattern, inverse)
    n_blocks = len(heads)
    front = np.empty(n_blocks, np.int64)
    for b in range(n_blocks):
        front[b] = 0
        if pattern.block_start[b + 1] > pattern.block_start[b]:
            front[b] = np.searchsorted(first, heads[b], side="right") - 1
    start, ids = _grouped(front, ns)
    places = np.empty(len(pattern.block_members), np.int32)
    for b in range(n_blocks):
        s = front[b]
        here = rows[row_start[s] : row_start[s + 1]]
        for k in range(pattern.block_start[b], pattern.block_start[b + 1]):
            places[k] = np.searchsorted(here, inverse[pattern.block_members[k]])
    return start, ids, places


@kernel
def stack_plan(
    first: Pointer, row_start: Pointer, parent: Index, block_start: Pointer, thin_columns: int
) -> tuple[Pointer, Index, Flags, Flags, Pointer, Pointer, int]:
    """Children, thin leaves, and the places of the update matrices on a stack that stays small.

    With its matrix allocated before its subtree (early) a front adds each child's update at once; allocated after it
    (late) the updates of all children wait. The one with the smaller peak is taken, front by front [1]_.
    """
    ns = len(parent)
    child_start, children = _grouped(parent, ns)
    thin = np.ones(ns, np.bool_)
    for s in range(ns):
        if parent[s] >= 0:
            thin[parent[s]] = False
        if parent[s] < 0 or first[s + 1] - first[s] > thin_columns or block_start[s + 1] > block_start[s]:
            thin[s] = False
    early = np.zeros(ns, np.bool_)
    size = np.zeros(ns, np.int64)
    peak = np.zeros(ns, np.int64)
    for s in range(ns):
        k = row_start[s + 1] - row_start[s] - (first[s + 1] - first[s])
        size[s] = k * k
        waiting = np.int64(0)
        late_peak = np.int64(0)
        early_peak = size[s]
        for q in range(child_start[s], child_start[s + 1]):
            c = children[q]
            if thin[c]:
                continue
            late_peak = max(late_peak, waiting + peak[c])
            early_peak = max(early_peak, size[s] + peak[c])
            waiting += size[c]
        late_peak = max(late_peak, waiting + size[s])
        early[s] = waiting > 0 and early_peak <= late_peak
        peak[s] = early_peak if early[s] else late_peak
    built = np.zeros(ns, np.int64)
    final = np.zeros(ns, np.int64)
    largest = np.int64(0)
    for s in range(ns - 1, -1, -1):
        if thin[s]:
            continue
        if parent[s] < 0:
            largest = max(largest, peak[s])
        base = final[s]
        place = base + size[s] if early[s] else base
        for q in range(child_start[s], child_start[s + 1]):
            c = children[q]
            if not thin[c]:
                final[c] = place
                if not early[s]:
                    place += size[c]
        built[s] = base if early[s] else place
    return child_start, children, thin, early, built, final, int(largest)


@kernel
def thin_work(plan: Plan, s: int) -> Pointer:
    """Multiplications that the thin leaves of front s cause in each of its columns."""
    m = plan.row_start[s + 1] - plan.row_start[s]
    work = np.zeros(m, np.int64)
    for q in range(plan.child_start[s], plan.child_start[s + 1]):
        c = plan.children[q]
        if plan.thin[c]:
            low, high = plan.row_start[c], plan.row_start[c + 1]
            w = plan.first[c + 1] - plan.first[c]
            for r in range(low + w, high):
                work[plan.relative[r]] += w * (high - r)
    return work
