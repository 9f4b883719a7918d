"""Multifrontal Cholesky, triangular solves and selected inverse over one `Plan` of fronts.

The columns of a front stand in the factor (m x w, by columns), the rest of it, its update matrix (k x k, lower
triangle, k = m - w), on a stack. The selected inverse walks the same stack backwards.

References
----------
.. [1] Duff & Reid (1983) ACM Trans. Math. Softw. 9:302-325 (multifrontal method).
.. [2] Takahashi, Fagan & Chen (1973) Proc. 8th PICA Conference: 63-69; Erisman & Tinney (1975) Commun. ACM 18:177-179.
"""

from __future__ import annotations

import numpy as np

from mixedgen.arrays import Array
from mixedgen.sparse.blas import PLAIN, TRANSPOSED, gemm, kernel, potrf, potri, symm, syrk, trsm
from mixedgen.sparse.ordering import Index, Pointer
from mixedgen.sparse.symbolic import Flags, Plan

SMALL_COLUMNS = 4  # a call of BLAS costs more than loops over so few columns
_SMALL_WORK = 4000  # or over so few multiplications
_WIDE_FRONT = 32768  # entries of a front beyond the fast caches: thin leaves are then taken column by column
_MANY_LEAVES = 8
_CHUNK = 128  # columns of a diagonal block of the inverse in one product


@kernel
def scatter(places: Pointer, data: Array, L: Array) -> None:
    """Put the listed entries into the panels."""
    for k in range(len(places)):
        L[places[k]] = data[k]


@kernel
def _is_small(w: int, k: int) -> bool:
    """Whether loops beat BLAS on this front."""
    return w <= SMALL_COLUMNS or w * (w + k) * (w + k) <= _SMALL_WORK


@kernel
def _factor_panel(L: Array, base: int, m: int, w: int) -> int:
    """Cholesky factor of a panel by loops; the first column whose pivot is not positive, or -1."""
    for c in range(w):
        col = base + c * m
        pivot = L[col + c]
        if not pivot > 0.0:
            return c
        root = np.sqrt(pivot)
        L[col + c] = root
        scale = 1.0 / root
        for i in range(c + 1, m):
            L[col + i] *= scale
        for d in range(c + 1, w):
            f = L[col + d]
            other = base + d * m
            for i in range(d, m):
                L[other + i] -= f * L[col + i]
    return -1


@kernel
def _update_small(L: Array, base: int, m: int, w: int, stack: Array, u: int, fresh: bool) -> None:
    """Subtract the outer product of a panel from its update matrix by loops."""
    k = m - w
    for j in range(k):
        to = u + j * k
        if fresh:
            for i in range(j, k):
                stack[to + i] = 0.0
        for c in range(w):
            col = base + c * m + w
            f = L[col + j]
            for i in range(j, k):
                stack[to + i] -= f * L[col + i]


@kernel
def _extend_add(plan: Plan, c: int, p: int, L: Array, stack: Array, up: int) -> None:
    """Add the update matrix of front c to the front of its parent p, whose own stands at `up`."""
    w = plan.first[c + 1] - plan.first[c]
    r = plan.row_start[c] + w
    k = plan.row_start[c + 1] - r
    wp = plan.first[p + 1] - plan.first[p]
    mp = plan.row_start[p + 1] - plan.row_start[p]
    kp = mp - wp
    u = plan.final[c]
    relative = plan.relative
    for j in range(k):
        place = relative[r + j]
        source = u + j * k
        straight = relative[r + k - 1] - place == k - 1 - j
        if place < wp:
            to = plan.panel[p] + place * mp
            if straight:
                to += place - j
                for i in range(j, k):
                    L[to + i] += stack[source + i]
            else:
                for i in range(j, k):
                    L[np.uint64(to + relative[np.uint64(r + i)])] += stack[np.uint64(source + i)]
        else:
            to = up + (place - wp) * kp - wp
            if straight:
                to += place - j
                for i in range(j, k):
                    stack[to + i] += stack[source + i]
            else:
                for i in range(j, k):
                    stack[np.uint64(to + relative[np.uint64(r + i)])] += stack[np.uint64(source + i)]


@kernel
def _thin_update(plan: Plan, c: int, p: int, j: int, L: Array, stack: Array) -> None:
    """Subtract what the thin leaf c adds to one column of its parent, that of its j-th row."""
    w = plan.first[c + 1] - plan.first[c]
    m = plan.row_start[c + 1] - plan.row_start[c]
    wp = plan.first[p + 1] - plan.first[p]
    mp = plan.row_start[p + 1] - plan.row_start[p]
    relative = plan.relative
    r = plan.row_start[c]
    place = relative[r + j]
    for d in range(w):
        col = plan.panel[c] + d * m
        f = L[col + j]
        if place < wp:
            to = plan.panel[p] + place * mp
            for i in range(j, m):
                L[np.uint64(to + relative[np.uint64(r + i)])] -= f * L[np.uint64(col + i)]
        else:
            to = plan.built[p] + (place - wp) * (mp - wp) - wp
            for i in range(j, m):
                stack[np.uint64(to + relative[np.uint64(r + i)])] -= f * L[np.uint64(col + i)]


@kernel
def _thin_queues(plan: Plan, p: int, low: int, high: int) -> tuple[Index, Index, Pointer, Pointer, Pointer]:
    """Thin leaves of front p, queued at the first of its columns low..high-1 in which they have a row.

    Returns the heads of the queues (high - low,), and for each child: the next in its queue, the row it is at, the
    end of its rows, and the offset of its values from its rows.
    """
    c0 = plan.child_start[p]
    n_children = plan.child_start[p + 1] - c0
    head = np.full(high - low, -1, np.int32)
    following = np.empty(n_children, np.int32)
    at = np.zeros(n_children, np.int64)
    end = np.zeros(n_children, np.int64)
    values = np.zeros(n_children, np.int64)
    for q in range(n_children - 1, -1, -1):
        c = plan.children[c0 + q]
        if plan.thin[c]:
            r = plan.row_start[c] + plan.first[c + 1] - plan.first[c]
            end[q] = plan.row_start[c + 1]
            values[q] = plan.panel[c] - plan.row_start[c]
            while r < end[q] and plan.relative[r] < low:
                r += 1
            at[q] = r
            if r < end[q] and plan.relative[r] < high:
                place = plan.relative[r] - low
                following[q] = head[place]
                head[place] = q
    return head, following, at, end, values


@kernel
def thin_columns(plan: Plan, p: int, low: int, high: int, L: Array, stack: Array) -> None:
    """Subtract what all thin leaves add to columns low..high-1 of the front p, one column of it after the other.

    A column stays in the fastest cache while the leaves stream by; arrays are taken out of the plan once, because a
    reference counted in the inner loop is contended among threads.
    """
    head, following, at, end, values = _thin_queues(plan, p, low, high)
    relative = plan.relative
    children, first, row_start = plan.children, plan.first, plan.row_start
    c0 = plan.child_start[p]
    wp = first[p + 1] - first[p]
    mp = row_start[p + 1] - row_start[p]
    for place in range(low, high):
        inside = place < wp
        to = plan.panel[p] + place * mp if inside else plan.built[p] + (place - wp) * (mp - wp) - wp
        q = head[place - low]
        while q >= 0:
            c = children[c0 + q]
            r, stop, v = at[q], end[q], values[q]
            m = row_start[c + 1] - row_start[c]
            for d in range(first[c + 1] - first[c]):
                f = L[v + d * m + r]
                if inside:
                    for t in range(r, stop):
                        L[np.uint64(to + relative[np.uint64(t)])] -= f * L[np.uint64(v + d * m + t)]
                else:
                    for t in range(r, stop):
                        stack[np.uint64(to + relative[np.uint64(t)])] -= f * L[np.uint64(v + d * m + t)]
            upcoming = following[q]
            r += 1
            at[q] = r
            if r < stop and relative[r] < high:
                following[q] = head[relative[r] - low]
                head[relative[r] - low] = q
            q = upcoming


@kernel
def _add_blocks(plan: Plan, s: int, L: Array, stack: Array, values: Array) -> None:
    """Assemble the dense blocks of front s."""
    w = plan.first[s + 1] - plan.first[s]
    m = plan.row_start[s + 1] - plan.row_start[s]
    k = m - w
    for t in range(plan.block_start[s], plan.block_start[s + 1]):
        b = plan.block_ids[t]
        low = plan.block_from[b]
        size = plan.block_from[b + 1] - low
        for y in range(size):
            source = plan.value_from[b] + y * size
            for x in range(size):
                i, j = plan.block_places[low + x], plan.block_places[low + y]
                if i >= j:
                    if j < w:
                        L[plan.panel[s] + j * m + i] += values[source + x]
                    else:
                        stack[plan.built[s] + (j - w) * k + i - w] += values[source + x]


@kernel
def assemble(plan: Plan, s: int, L: Array, stack: Array, ready: Flags, values: Array, leaves: bool) -> int:
    """Gather the children's updates and the blocks into front s; a column that is not positive, or -1.

    With `leaves` false the thin leaves are factorised, but `thin_columns` remains to be called.
    """
    k = plan.row_start[s + 1] - plan.row_start[s] - (plan.first[s + 1] - plan.first[s])
    low, high = plan.child_start[s], plan.child_start[s + 1]
    if not ready[s] and (high > low or plan.block_start[s + 1] > plan.block_start[s]):
        stack[plan.built[s] : plan.built[s] + k * k] = 0.0
        ready[s] = True
    n_thin = 0
    for q in range(low, high):
        c = plan.children[q]
        if plan.thin[c]:
            m = plan.row_start[c + 1] - plan.row_start[c]
            bad = _factor_panel(L, plan.panel[c], m, plan.first[c + 1] - plan.first[c])
            if bad >= 0:
                return int(plan.first[c] + bad)
            n_thin += 1
        elif not plan.early[s]:
            _extend_add(plan, c, s, L, stack, plan.built[s])
    if leaves and n_thin > 0:
        m = plan.row_start[s + 1] - plan.row_start[s]
        if n_thin > _MANY_LEAVES and m * m > _WIDE_FRONT:
            thin_columns(plan, s, 0, m, L, stack)
        else:
            for q in range(low, high):
                c = plan.children[q]
                if plan.thin[c]:
                    own = plan.first[c + 1] - plan.first[c]
                    for j in range(own, plan.row_start[c + 1] - plan.row_start[c]):
                        _thin_update(plan, c, s, j, L, stack)
    if plan.block_start[s + 1] > plan.block_start[s]:
        _add_blocks(plan, s, L, stack, values)
    return -1


@kernel
def eliminate(plan: Plan, s: int, L: Array, stack: Array, ready: Flags, info: Index) -> int:
    """Factorise the columns of front s and hand its update matrix on; a column that is not positive, or -1."""
    w = plan.first[s + 1] - plan.first[s]
    m = plan.row_start[s + 1] - plan.row_start[s]
    k = m - w
    base = plan.panel[s]
    u = plan.built[s]
    if _is_small(w, k):
        bad = _factor_panel(L, base, m, w)
        if bad >= 0:
            return int(plan.first[s] + bad)
        _update_small(L, base, m, w, stack, u, not ready[s])
    else:
        bad = potrf(w, L, base, m, info)
        if bad != 0:
            return int(plan.first[s] + bad - 1)
        if k > 0:
            trsm(TRANSPOSED, k, w, L, base, m, L, base + w, m)
            syrk(k, w, -1.0, L, base + w, m, 1.0 if ready[s] else 0.0, stack, u, k)
    if k == 0:
        return -1
    if plan.final[s] != u:
        to = plan.final[s]
        for i in range(k * k):
            stack[to + i] = stack[u + i]
    p = plan.parent[s]
    if plan.early[p]:
        if not ready[p]:
            kp = plan.row_start[p + 1] - plan.row_start[p] - (plan.first[p + 1] - plan.first[p])
            stack[plan.built[p] : plan.built[p] + kp * kp] = 0.0
            ready[p] = True
        _extend_add(plan, s, p, L, stack, plan.built[p])
    return -1


@kernel
def factor_fronts(
    plan: Plan, low: int, high: int, L: Array, stack: Array, ready: Flags, values: Array, info: Index
) -> int:
    """Factorise fronts low..high-1; the first column that is not positive, or -1."""
    for s in range(low, high):
        if plan.thin[s]:
            continue
        bad = assemble(plan, s, L, stack, ready, values, True)
        if bad < 0:
            bad = eliminate(plan, s, L, stack, ready, info)
        if bad >= 0:
            return bad
    return -1


@kernel
def log_determinant(plan: Plan, L: Array) -> float:
    """Logarithm of the determinant from the diagonals of the panels."""
    total = 0.0
    for s in range(len(plan.parent)):
        m = plan.row_start[s + 1] - plan.row_start[s]
        for c in range(plan.first[s + 1] - plan.first[s]):
            total += np.log(L[plan.panel[s] + c * (m + 1)])
    return 2.0 * total


@kernel
def solve_fronts(plan: Plan, L: Array, X: Array, n_right: int) -> None:
    """Solve ``L L' X = X`` in place; X is flat, n_right values for each row in elimination order."""
    ns = len(plan.parent)
    largest = np.int64(0)
    for s in range(ns):
        largest = max(largest, plan.row_start[s + 1] - plan.row_start[s])
    work = np.empty(largest * n_right)
    for s in range(ns):
        _forward(plan, s, L, X, n_right, work)
    for s in range(ns - 1, -1, -1):
        _backward(plan, s, L, X, n_right, work)


@kernel
def _forward(plan: Plan, s: int, L: Array, X: Array, n_right: int, work: Array) -> None:
    """Forward substitution with the columns of one front."""
    j0 = plan.first[s]
    w = plan.first[s + 1] - j0
    m = plan.row_start[s + 1] - plan.row_start[s]
    k = m - w
    base = plan.panel[s]
    rows, r0 = plan.rows, plan.row_start[s] + w
    x0 = j0 * n_right
    if n_right > 1 and w > SMALL_COLUMNS:
        # by rows, X is X' by columns
        trsm(TRANSPOSED, n_right, w, L, base, m, X, x0, n_right)
        if k > 0:
            gemm(PLAIN, TRANSPOSED, n_right, k, w, 1.0, X, x0, n_right, L, base + w, m, 0.0, work, 0, n_right)
            for i in range(k):
                to = rows[r0 + i] * n_right
                for r in range(n_right):
                    X[to + r] -= work[i * n_right + r]
        return
    for c in range(w):
        col = base + c * m
        scale = 1.0 / L[col + c]
        here = x0 + c * n_right
        for r in range(n_right):
            X[here + r] *= scale
        if n_right == 1:
            f = X[here]
            for i in range(c + 1, w):
                X[x0 + i] -= f * L[col + i]
            for i in range(k):
                X[rows[r0 + i]] -= f * L[col + w + i]
        else:
            for i in range(c + 1, m):
                f = L[col + i]
                to = x0 + i * n_right if i < w else rows[r0 + i - w] * n_right
                for r in range(n_right):
                    X[to + r] -= f * X[here + r]


@kernel
def _backward(plan: Plan, s: int, L: Array, X: Array, n_right: int, work: Array) -> None:
    """Back substitution with the columns of one front."""
    j0 = plan.first[s]
    w = plan.first[s + 1] - j0
    m = plan.row_start[s + 1] - plan.row_start[s]
    k = m - w
    base = plan.panel[s]
    rows, r0 = plan.rows, plan.row_start[s] + w
    x0 = j0 * n_right
    if n_right > 1 and w > SMALL_COLUMNS:
        if k > 0:
            for i in range(k):
                source = rows[r0 + i] * n_right
                for r in range(n_right):
                    work[i * n_right + r] = X[source + r]
            gemm(PLAIN, PLAIN, n_right, w, k, -1.0, work, 0, n_right, L, base + w, m, 1.0, X, x0, n_right)
        trsm(PLAIN, n_right, w, L, base, m, X, x0, n_right)
        return
    if n_right == 1:
        for i in range(k):
            work[i] = X[rows[r0 + i]]
    for c in range(w - 1, -1, -1):
        col = base + c * m
        here = x0 + c * n_right
        if n_right == 1:
            total = 0.0
            for i in range(c + 1, w):
                total += L[col + i] * X[x0 + i]
            for i in range(k):
                total += L[col + w + i] * work[i]
            X[here] = (X[here] - total) / L[col + c]
        else:
            for i in range(c + 1, m):
                f = L[col + i]
                source = x0 + i * n_right if i < w else rows[r0 + i - w] * n_right
                for r in range(n_right):
                    X[here + r] -= f * X[source + r]
            scale = 1.0 / L[col + c]
            for r in range(n_right):
                X[here + r] *= scale


@kernel
def _divide_panel(Z: Array, base: int, m: int, w: int) -> None:
    """Set ``Y = L21 L11^-1`` in place, by loops."""
    for c in range(w - 1, -1, -1):
        col = base + c * m
        for d in range(c + 1, w):
            f = Z[col + d]
            other = base + d * m
            for i in range(w, m):
                Z[col + i] -= f * Z[other + i]
        scale = 1.0 / Z[col + c]
        for i in range(w, m):
            Z[col + i] *= scale


@kernel
def _invert_diagonal(Z: Array, base: int, m: int, w: int) -> None:
    """Replace L11 by the lower triangle of ``(L11 L11')^-1``, by loops."""
    for c in range(w):
        col = base + c * m
        Z[col + c] = 1.0 / Z[col + c]
        for i in range(c + 1, w):
            total = 0.0
            for t in range(c, i):
                total += Z[base + t * m + i] * Z[col + t]
            Z[col + i] = -total / Z[base + i * m + i]
    for c in range(w):
        for i in range(c, w):
            total = 0.0
            for t in range(i, w):
                total += Z[base + i * m + t] * Z[base + c * m + t]
            Z[base + c * m + i] = total


@kernel
def _finish_panel(Z: Array, base: int, m: int, w: int, work: Array, at: int) -> None:
    """Set ``Z11 = (L11 L11')^-1 - Y' Z21`` and put Z21, which stands in `work`, in its place; by loops."""
    k = m - w
    _invert_diagonal(Z, base, m, w)
    for c in range(w):
        for d in range(c, w):
            total = 0.0
            for i in range(k):
                total += Z[base + d * m + w + i] * work[at + c * k + i]
            Z[base + c * m + d] -= total
    for c in range(w):
        for i in range(k):
            Z[base + c * m + w + i] = work[at + c * k + i]


@kernel
def _times_inverse_small(Z: Array, base: int, m: int, w: int, stack: Array, u: int, work: Array) -> None:
    """Set ``work = -Z22 Y`` by loops over the lower triangle of Z22."""
    k = m - w
    for c in range(w):
        y = base + c * m + w
        out = c * k
        for i in range(k):
            work[out + i] = 0.0
        for j in range(k):
            col = u + j * k
            f = Z[y + j]
            total = stack[col + j] * f
            for i in range(j + 1, k):
                total += stack[col + i] * Z[y + i]
                work[out + i] -= stack[col + i] * f
            work[out + j] -= total


@kernel
def _thin_product(plan: Plan, c: int, p: int, j: int, Z: Array, stack: Array, out: Array, at: int) -> None:
    """Add to ``out = -Z22 Y`` of the thin leaf c what the column of its j-th row in the parent p contributes."""
    w = plan.first[c + 1] - plan.first[c]
    m = plan.row_start[c + 1] - plan.row_start[c]
    k = m - w
    wp = plan.first[p + 1] - plan.first[p]
    mp = plan.row_start[p + 1] - plan.row_start[p]
    relative = plan.relative
    r = plan.row_start[c]
    place = relative[r + j]
    for d in range(w):
        y = plan.panel[c] + d * m
        put = at + d * k - w
        f = Z[y + j]
        if place < wp:
            col = plan.panel[p] + place * mp
            total = Z[col + place] * f
            for i in range(j + 1, m):
                z = Z[np.uint64(col + relative[np.uint64(r + i)])]
                total += z * Z[np.uint64(y + i)]
                out[np.uint64(put + i)] -= z * f
        else:
            col = plan.built[p] + (place - wp) * (mp - wp) - wp
            total = stack[col + place] * f
            for i in range(j + 1, m):
                z = stack[np.uint64(col + relative[np.uint64(r + i)])]
                total += z * Z[np.uint64(y + i)]
                out[np.uint64(put + i)] -= z * f
        out[put + j] -= total


@kernel
def thin_offsets(plan: Plan, p: int) -> Pointer:
    """Offsets of the thin leaves' products in a workspace, shape (children + 1,)."""
    c0 = plan.child_start[p]
    n_children = plan.child_start[p + 1] - c0
    offsets = np.zeros(n_children + 1, np.int64)
    for q in range(n_children):
        c = plan.children[c0 + q]
        w = plan.first[c + 1] - plan.first[c]
        k = plan.row_start[c + 1] - plan.row_start[c] - w
        offsets[q + 1] = offsets[q] + (w * k if plan.thin[c] else 0)
    return offsets


@kernel
def thin_products(
    plan: Plan, p: int, low: int, high: int, Z: Array, stack: Array, out: Array, offsets: Pointer
) -> None:
    """Add to all thin leaves' products what columns low..high-1 of front p contribute; compare `thin_columns`."""
    head, following, at, end, values = _thin_queues(plan, p, low, high)
    relative = plan.relative
    children, first, row_start = plan.children, plan.first, plan.row_start
    c0 = plan.child_start[p]
    wp = first[p + 1] - first[p]
    mp = row_start[p + 1] - row_start[p]
    for place in range(low, high):
        inside = place < wp
        col = plan.panel[p] + place * mp if inside else plan.built[p] + (place - wp) * (mp - wp) - wp
        q = head[place - low]
        while q >= 0:
            c = children[c0 + q]
            r, stop = at[q], end[q]
            w = first[c + 1] - first[c]
            m = row_start[c + 1] - row_start[c]
            for d in range(w):
                y = values[q] + d * m
                put = offsets[q] + d * (m - w) - w - row_start[c]
                f = Z[y + r]
                if inside:
                    total = Z[col + place] * f
                    for t in range(r + 1, stop):
                        z = Z[np.uint64(col + relative[np.uint64(t)])]
                        total += z * Z[np.uint64(y + t)]
                        out[np.uint64(put + t)] -= z * f
                else:
                    total = stack[col + place] * f
                    for t in range(r + 1, stop):
                        z = stack[np.uint64(col + relative[np.uint64(t)])]
                        total += z * Z[np.uint64(y + t)]
                        out[np.uint64(put + t)] -= z * f
                out[put + r] -= total
            upcoming = following[q]
            r += 1
            at[q] = r
            if r < stop and relative[r] < high:
                following[q] = head[relative[r] - low]
                head[relative[r] - low] = q
            q = upcoming


@kernel
def divide_leaves(plan: Plan, p: int, Z: Array) -> None:
    """Set ``Y = L21 L11^-1`` in all thin leaves of front p."""
    for q in range(plan.child_start[p], plan.child_start[p + 1]):
        c = plan.children[q]
        if plan.thin[c]:
            m = plan.row_start[c + 1] - plan.row_start[c]
            _divide_panel(Z, plan.panel[c], m, plan.first[c + 1] - plan.first[c])


@kernel
def finish_leaves(plan: Plan, p: int, Z: Array, out: Array, offsets: Pointer) -> None:
    """Turn the products of all thin leaves of front p into their columns of the inverse."""
    c0 = plan.child_start[p]
    for q in range(plan.child_start[p + 1] - c0):
        c = plan.children[c0 + q]
        if plan.thin[c]:
            m = plan.row_start[c + 1] - plan.row_start[c]
            _finish_panel(Z, plan.panel[c], m, plan.first[c + 1] - plan.first[c], out, offsets[q])


@kernel
def _invert_leaves(plan: Plan, p: int, Z: Array, stack: Array, work: Array) -> None:
    """Columns of the inverse of all thin leaves of front p."""
    mp = plan.row_start[p + 1] - plan.row_start[p]
    c0, c1 = plan.child_start[p], plan.child_start[p + 1]
    if c1 - c0 > _MANY_LEAVES and mp * mp > _WIDE_FRONT:
        offsets = thin_offsets(plan, p)
        out = np.zeros(offsets[-1])
        divide_leaves(plan, p, Z)
        thin_products(plan, p, 0, mp, Z, stack, out, offsets)
        finish_leaves(plan, p, Z, out, offsets)
        return
    for q in range(c0, c1):
        c = plan.children[q]
        if not plan.thin[c]:
            continue
        w = plan.first[c + 1] - plan.first[c]
        m = plan.row_start[c + 1] - plan.row_start[c]
        _divide_panel(Z, plan.panel[c], m, w)
        for i in range((m - w) * w):
            work[i] = 0.0
        for j in range(w, m):
            _thin_product(plan, c, p, j, Z, stack, work, 0)
        _finish_panel(Z, plan.panel[c], m, w, work, 0)


@kernel
def _gather(plan: Plan, c: int, p: int, Z: Array, stack: Array, up: int) -> None:
    """Copy Z22 of front c out of the inverse on the front of its parent p."""
    w = plan.first[c + 1] - plan.first[c]
    r = plan.row_start[c] + w
    k = plan.row_start[c + 1] - r
    wp = plan.first[p + 1] - plan.first[p]
    mp = plan.row_start[p + 1] - plan.row_start[p]
    kp = mp - wp
    u = plan.final[c]
    relative = plan.relative
    for j in range(k):
        place = relative[r + j]
        to = u + j * k
        straight = relative[r + k - 1] - place == k - 1 - j
        if place < wp:
            source = plan.panel[p] + place * mp
            if straight:
                source += place - j
                for i in range(j, k):
                    stack[to + i] = Z[source + i]
            else:
                for i in range(j, k):
                    stack[np.uint64(to + i)] = Z[np.uint64(source + relative[np.uint64(r + i)])]
        else:
            source = up + (place - wp) * kp - wp
            if straight:
                source += place - j
                for i in range(j, k):
                    stack[to + i] = stack[source + i]
            else:
                for i in range(j, k):
                    stack[np.uint64(to + i)] = stack[np.uint64(source + relative[np.uint64(r + i)])]


@kernel
def _take_blocks(plan: Plan, s: int, Z: Array, stack: Array, values: Array) -> None:
    """Copy the inverse at the dense blocks of front s, both triangles."""
    w = plan.first[s + 1] - plan.first[s]
    m = plan.row_start[s + 1] - plan.row_start[s]
    k = m - w
    for t in range(plan.block_start[s], plan.block_start[s + 1]):
        b = plan.block_ids[t]
        low = plan.block_from[b]
        size = plan.block_from[b + 1] - low
        for y in range(size):
            for x in range(size):
                i, j = plan.block_places[low + x], plan.block_places[low + y]
                if i >= j:
                    z = Z[plan.panel[s] + j * m + i] if j < w else stack[plan.final[s] + (j - w) * k + i - w]
                    values[plan.value_from[b] + y * size + x] = z
                    values[plan.value_from[b] + x * size + y] = z


@kernel
def invert_front(plan: Plan, s: int, Z: Array, stack: Array, values: Array, work: Array, info: Index) -> None:
    """Replace the panel of front s by the inverse there, given that of its parent [2]_.

    ``Y = L21 L11^-1, Z21 = -Z22 Y, Z11 = (L11 L11')^-1 - Y' Z21``
    """
    w = plan.first[s + 1] - plan.first[s]
    m = plan.row_start[s + 1] - plan.row_start[s]
    k = m - w
    base = plan.panel[s]
    u = plan.final[s]
    p = plan.parent[s]
    if k > 0 and plan.early[p]:
        _gather(plan, s, p, Z, stack, plan.built[p])
    if _is_small(w, k):
        _divide_panel(Z, base, m, w)
        _times_inverse_small(Z, base, m, w, stack, u, work)
        _finish_panel(Z, base, m, w, work, 0)
    else:
        if k > 0:
            trsm(PLAIN, k, w, Z, base, m, Z, base + w, m)
        potri(w, Z, base, m, info)
        if k > 0:
            symm(k, w, -1.0, stack, u, k, Z, base + w, m, 0.0, work, 0, k)
            for c in range(0, w, _CHUNK):
                size = min(_CHUNK, w - c)
                gemm(
                    TRANSPOSED, PLAIN, w - c, size, k, -1.0, Z, base + c * m + w, m, work, c * k, k,
                    1.0, Z, base + c * m + c, m,
                )  # fmt: skip
            for c in range(w):
                for i in range(k):
                    Z[base + c * m + w + i] = work[c * k + i]
    if plan.block_start[s + 1] > plan.block_start[s]:
        _take_blocks(plan, s, Z, stack, values)
    if plan.built[s] != u:
        # backwards: the regions overlap
        to = plan.built[s]
        for i in range(k * k - 1, -1, -1):
            stack[to + i] = stack[u + i]


@kernel
def hand_down(plan: Plan, s: int, Z: Array, stack: Array) -> None:
    """Copy Z22 to the children of a late front s, which needs its own no longer."""
    if not plan.early[s]:
        for q in range(plan.child_start[s], plan.child_start[s + 1]):
            c = plan.children[q]
            if not plan.thin[c]:
                _gather(plan, c, s, Z, stack, plan.built[s])


@kernel
def invert_fronts(
    plan: Plan, low: int, high: int, Z: Array, stack: Array, values: Array, work: Array, info: Index
) -> None:
    """Replace the panels of fronts high-1 down to low by the inverse there."""
    for s in range(high - 1, low - 1, -1):
        if plan.thin[s]:
            continue
        invert_front(plan, s, Z, stack, values, work, info)
        _invert_leaves(plan, s, Z, stack, work)
        hand_down(plan, s, Z, stack)
