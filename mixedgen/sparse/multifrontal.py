"""Larger sparse systems: orchestration of ordering, symbolic and numeric kernels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from threading import Thread

import numpy as np
import numpy.typing as npt

from mixedgen.arrays import Array, Ints
from mixedgen.errors import EngineError
from mixedgen.sparse import numeric
from mixedgen.sparse import symbolic as structure
from mixedgen.sparse.contract import CholeskyFactor, FactorCost, Symbolic, not_positive, overwritten
from mixedgen.sparse.ordering import Index, Pointer, full_pattern, minimum_degree
from mixedgen.sparse.symbolic import Flags, Pattern, Plan, Tree
from mixedgen.sparse.threads import n_threads, one_thread, paced

logger = logging.getLogger("mixedgen.sparse")

_DENSE_ROWS = (0.3, 1.0, 3.0)  # rows with more than c sqrt(n) entries are ordered last; no c is best everywhere
_FEWEST_DENSE = 16  # a row of fewer entries is never dense
# A further ordering may visit so many list entries per flop of the best so far, and per entry of the matrix: gains on
# crossed designs (a third of the flops) took a half of that, vain searches on herds five times as many.
_VISITS_PER_FLOP = 0.02
_VISITS_PER_ENTRY = 150.0
_ENTRY_COST = 100.0  # memory traffic per entry of L, in flops, when orderings are compared
_RELAXED_COLUMNS = (8.0, 32.0, 96.0)
_RELAXED_ZEROS = (0.9, 0.3, 0.1, 0.03)
LARGE_FRONT = 1e9  # flops from which all BLAS threads pay, even on a busy machine
_LARGE_LEAVES = 1e7  # multiplications from which the thin leaves of one front are shared among threads


class SparseSymbolic(Symbolic):
    """Ordering and fronts of a sparse pattern.

    Parameters
    ----------
    indptr, indices : ndarray
        Lower triangle by columns.
    n : int
        Order.
    blocks : sequence of ndarray
        Variables of each dense block.
    amalgamate : bool
        Merge columns into relaxed supernodes; without, the fronts hold no explicit zeros.
    """

    def __init__(self, indptr: Ints, indices: Ints, n: int, blocks: Sequence[Ints], amalgamate: bool = True) -> None:
        _announce_compilation()
        self.n = n
        # one type for all callers: numba compiles again for each width of integer, and for read-only arrays
        indptr, indices = np.array(indptr, dtype=np.int64), np.array(indices, dtype=np.int32)
        pattern = _pattern(indptr, indices, n, blocks)
        tree = _best_order(pattern, n)
        self.order = tree.order
        self.plan, self.places, stack_size = _plan(pattern, tree, indptr, indices, amalgamate)
        w = np.diff(self.plan.first)
        m = np.diff(self.plan.row_start)
        self.stack_size = max(int(stack_size), 1)
        self.work_size = int(max((w * (m - w)).max(), 1))
        self._stack: Array | None = None
        flops = w * m.astype(np.float64) ** 2 - m * w.astype(np.float64) ** 2 + w.astype(np.float64) ** 3 / 3
        self.flops = flops
        self.large = np.flatnonzero(_heavy(self.plan, flops))
        nnz = int((w * m - w * (w - 1) // 2).sum())
        stored = 2 * int(self.plan.panel[-1]) + self.stack_size + self.work_size + 2 * int(self.plan.value_from[-1])
        index_bytes = 8 * len(self.places) + 8 * len(self.plan.rows)
        self.forecast = FactorCost(nnz, float(flops.sum()), 8 * stored + index_bytes)

    def factor(self, data: Array, blocks: Sequence[Array] = ()) -> SparseFactor:
        """Factorise the matrix with these values; see `Symbolic.factor`."""
        plan = self.plan
        L = np.zeros(plan.panel[-1])
        numeric.scatter(self.places, _writable(data), L)
        values = _flat(blocks)
        stack = self.borrow_stack()
        ready = np.zeros(len(plan.parent), dtype=np.bool_)
        info = np.zeros(1, np.int32)
        bad = -1
        for low, high, large in self.segments():
            if large:
                bad = _factor_large(plan, low, self.flops[low], L, stack, ready, values, info)
            else:
                with one_thread():
                    bad = numeric.factor_fronts(plan, low, high, L, stack, ready, values, info)
            if bad >= 0:
                raise not_positive(int(self.order[bad]))
        self._stack = stack
        return SparseFactor(self, L)

    def segments(self) -> Iterator[tuple[int, int, bool]]:
        """Ranges of fronts (low, high, large): runs of small ones, and large ones one by one."""
        low = 0
        for s in self.large.tolist():
            if s > low:
                yield low, s, False
            yield s, s + 1, True
            low = s + 1
        if low < len(self.plan.parent):
            yield low, len(self.plan.parent), False

    def borrow_stack(self) -> Array:
        """Workspace of the update matrices; the one kept from the last factorisation unless it is in use."""
        stack, self._stack = self._stack, None
        return np.empty(self.stack_size) if stack is None else stack

    def return_stack(self, stack: Array) -> None:
        """Keep a workspace for the next call."""
        self._stack = stack


class SparseFactor(CholeskyFactor):
    """Factor in the panels of the fronts.

    Parameters
    ----------
    symbolic : SparseSymbolic
        The analysis it belongs to.
    L : ndarray
        Panels, each m x w by columns.
    """

    def __init__(self, symbolic: SparseSymbolic, L: Array) -> None:
        self._symbolic = symbolic
        self._L: Array | None = L
        self.logdet = float(numeric.log_determinant(symbolic.plan, L))
        if not np.isfinite(self.logdet):
            raise EngineError("the equations hold values that are not finite.")

    def solve(self, B: npt.ArrayLike) -> Array:
        """Solve ``A X = B``; see `CholeskyFactor.solve`."""
        if self._L is None:
            raise overwritten()
        right = np.asarray(B, dtype=np.float64)
        X = np.ascontiguousarray(right[self._symbolic.order])
        n_right = 1 if right.ndim == 1 else right.shape[1]
        if n_right > 0:
            with one_thread():
                numeric.solve_fronts(self._symbolic.plan, self._L, X.reshape(-1), n_right)
        out = np.empty_like(X)
        out[self._symbolic.order] = X
        return out

    def selected_inverse(self, overwrite: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """Entries of the inverse on the pattern; see `CholeskyFactor.selected_inverse`."""
        if self._L is None:
            raise overwritten()
        symbolic, plan = self._symbolic, self._symbolic.plan
        Z = self._L if overwrite else self._L.copy()
        if overwrite:
            self._L = None
        stack = symbolic.borrow_stack()
        work = np.empty(symbolic.work_size)
        values = np.empty(plan.value_from[-1])
        info = np.zeros(1, np.int32)
        for low, high, large in reversed(list(symbolic.segments())):
            if large:
                _invert_large(plan, low, symbolic.flops[low], Z, stack, values, work, info)
            else:
                with one_thread():
                    numeric.invert_fronts(plan, low, high, Z, stack, values, work, info)
        symbolic.return_stack(stack)
        sizes = np.diff(plan.block_from)
        blocks = tuple(
            values[start : start + size * size].reshape(size, size)
            for start, size in zip(plan.value_from[:-1], sizes, strict=True)
        )
        return Z[symbolic.places], blocks


def _factor_large(
    plan: Plan, s: int, flops: float, L: Array, stack: Array, ready: Flags, values: Array, info: Index
) -> int:
    """Factorise one large front with all threads; the first column that is not positive, or -1."""
    bad = numeric.assemble(plan, s, L, stack, ready, values, False)
    if bad >= 0:
        return bad
    _share(plan, s, lambda low, high, _: numeric.thin_columns(plan, s, low, high, L, stack))
    with paced(flops):
        return numeric.eliminate(plan, s, L, stack, ready, info)


def _invert_large(
    plan: Plan, s: int, flops: float, Z: Array, stack: Array, values: Array, work: Array, info: Index
) -> None:
    """Invert on one large front with all threads."""
    with paced(flops):
        numeric.invert_front(plan, s, Z, stack, values, work, info)
    offsets = numeric.thin_offsets(plan, s)
    if offsets[-1] > 0:
        numeric.divide_leaves(plan, s, Z)
        out = np.zeros((n_threads(), offsets[-1]))
        _share(plan, s, lambda low, high, t: numeric.thin_products(plan, s, low, high, Z, stack, out[t], offsets))
        numeric.finish_leaves(plan, s, Z, out.sum(axis=0), offsets)
    numeric.hand_down(plan, s, Z, stack)


def _share(plan: Plan, s: int, task: Callable[[int, int, int], None]) -> None:
    """Run a task over the columns of front s, in ranges of equal work, one thread each."""
    work = np.cumsum(structure.thin_work(plan, s))
    if work[-1] == 0:
        return
    count = n_threads()
    cuts = np.searchsorted(work, work[-1] * np.arange(1, count) / count)
    bounds = [0, *cuts.tolist(), len(work)]
    threads = [Thread(target=task, args=(bounds[t], bounds[t + 1], t)) for t in range(1, count)]
    for thread in threads:
        thread.start()
    task(bounds[0], bounds[1], 0)
    for thread in threads:
        thread.join()


def _heavy(plan: Plan, flops: Array) -> Flags:
    """Fronts worth more than one thread, for themselves or for their thin leaves."""
    k = np.diff(plan.row_start) - np.diff(plan.first)
    leaves = np.zeros(len(flops))
    thin = np.flatnonzero(plan.thin)
    np.add.at(leaves, plan.parent[thin], (np.diff(plan.first) * k.astype(np.float64) ** 2)[thin])
    heavy: Flags = ((flops > LARGE_FRONT) | (leaves > _LARGE_LEAVES)) & ~plan.thin
    return heavy


def _writable(values: Array) -> Array:
    """Contiguous and writable values, copied only if need be: numba would compile again for read-only arrays."""
    return np.require(values, dtype=np.float64, requirements=["C", "W"])


def _flat(blocks: Sequence[Array]) -> Array:
    """Values of all blocks in one array; a single one is not copied."""
    parts = [_writable(b).reshape(-1) for b in blocks]
    if not parts:
        return np.empty(0)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _pattern(indptr: Ints, indices: Ints, n: int, blocks: Sequence[Ints]) -> Pattern:
    """Both triangles of the pattern, and the memberships in blocks."""
    start, neighbours = full_pattern(indptr, indices, n)
    block_start = np.zeros(len(blocks) + 1, np.int64)
    block_start[1:] = np.cumsum([len(b) for b in blocks])
    members = np.concatenate([np.empty(0, np.int32), *blocks]).astype(np.int32)
    member_start, memberships = structure.memberships(block_start, members, n)
    return Pattern(start, neighbours, block_start, members, member_start, memberships)


def _best_order(pattern: Pattern, n: int) -> Tree:
    """Order with the cheapest factor among several notions of a dense row."""
    degrees = np.diff(pattern.start)
    best: Tree | None = None
    lowest = budget = np.inf
    seen: set[int] = set()
    for c in _DENSE_ROWS:
        last = degrees > max(_FEWEST_DENSE, c * np.sqrt(n))
        if int(last.sum()) in seen:
            continue
        seen.add(int(last.sum()))
        order = minimum_degree(*pattern[:2], n, *pattern[2:4], last, budget)
        if len(order) == 0:
            break  # with fewer rows set aside the next would take longer still
        tree = structure.elimination(pattern, order)
        counts = tree.counts.astype(np.float64)
        cost = float((counts**2).sum() + _ENTRY_COST * counts.sum())
        if cost < lowest:
            best, lowest = tree, cost
        budget = min(_VISITS_PER_FLOP * lowest, _VISITS_PER_ENTRY * len(pattern.neighbours) / 2)
    if best is None:
        raise EngineError("a system without equations cannot be ordered.")
    return best


def _plan(pattern: Pattern, tree: Tree, indptr: Ints, indices: Ints, amalgamate: bool) -> tuple[Plan, Pointer, int]:
    """Plan of the fronts, places of the listed entries in the factor, and the size of the stack."""
    columns, zeros = (_RELAXED_COLUMNS, _RELAXED_ZEROS) if amalgamate else ((0.0,), (0.0,))
    first, parent, sizes = structure.supernodes(tree.parent, tree.counts, np.array(columns), np.array(zeros))
    row_start, rows = structure.front_rows(pattern, tree.order, first, parent, sizes)
    panel, relative, places = structure.places_in_fronts(indptr, indices, tree.order, first, parent, row_start, rows)
    block_start, block_ids, block_places = structure.block_assembly(pattern, tree.order, first, row_start, rows)
    child_start, children, thin, early, built, final, stack_size = structure.stack_plan(
        first, row_start, parent, block_start, numeric.SMALL_COLUMNS
    )
    value_from = np.zeros(len(pattern.block_start), np.int64)
    value_from[1:] = np.cumsum(np.diff(pattern.block_start) ** 2)
    plan = Plan(
        first, row_start, rows, relative, panel, parent, child_start, children, thin, early, built, final,
        block_start, block_ids, block_places, pattern.block_start, value_from,
    )  # fmt: skip
    return plan, places, stack_size


@cache
def _announce_compilation() -> None:
    """Say once that kernels will be compiled, when the cache on disk holds none."""
    where = Path(numeric.factor_fronts.stats.cache_path)  # type: ignore[attr-defined]
    if not any(where.glob("numeric.factor_fronts-*.nbi")):
        logger.info("Compiling the sparse kernels, some 20 seconds, once per installation.")


def exercise_kernels() -> None:
    """Run every kernel on an arrow of order 4, with its last front taken for a small and for a large one."""
    indptr, indices = np.array([0, 3, 6, 8, 9]), np.array([0, 2, 3, 1, 2, 3, 2, 3, 3])
    data, blocks = np.array([4.0, 1.0, 1.0, 4.0, 1.0, 1.0, 4.0, 1.0, 4.0]), (np.eye(2),)
    symbolic = SparseSymbolic(indptr, indices, 4, (np.array([2, 3]),), amalgamate=False)
    for large in (np.empty(0, np.int64), np.flatnonzero(~symbolic.plan.thin)):
        symbolic.large = large
        factor = symbolic.factor(data, blocks)
        factor.solve(np.ones(4))
        factor.solve(np.ones((4, 2)))
        factor.selected_inverse()
