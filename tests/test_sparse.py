import logging
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from mixedgen.errors import EngineError
from mixedgen.sparse import SMALL_ORDER, _analyse, analyse, compile_kernels

RTOL = 1e-10  # relative to the largest entry; the systems below have condition numbers up to 1e5
KINDS = ("dense", "sparse")


def lower(A):
    L = sp.csc_matrix(sp.tril(A))
    L.sort_indices()
    for part in (L.data, L.indices, L.indptr):
        part.setflags(write=False)
    return L


def grid(k, shift=0.1):
    T = sp.diags([-1.0, 2.0 + shift / 2, -1.0], [-1, 0, 1], (k, k))
    return sp.kron(T, sp.eye(k)) + sp.kron(sp.eye(k), T)


def arrow(n, heads):
    A = sp.lil_matrix(sp.eye(n) * 5)
    A[-heads:, :] = 0.05
    A[:, -heads:] = 0.05
    A.setdiag(n)
    return A


def crossed(n, rows, columns, seed=0):
    rng = np.random.default_rng(seed)
    i, j = rng.integers(0, rows, n), (columns * rng.random(n) ** 3).astype(int)
    Z = sp.csr_matrix((np.ones(2 * n), (np.tile(np.arange(n), 2), np.r_[i, rows + j])), (n, rows + columns))
    return Z.T @ Z + sp.eye(rows + columns)


def pedigree(n, seed=0):
    rng = np.random.default_rng(seed)
    child = np.arange(20, n)
    parents = [(rng.random(len(child)) * np.minimum(child, 200)).astype(int) + np.maximum(child - 200, 0) for _ in "sd"]
    T = sp.eye(n, format="csr")
    for parent in parents:
        T = T - sp.csr_matrix((np.full(len(child), 0.5), (child, parent)), (n, n))
    return T.T @ T * 2 + sp.eye(n)


def random_spd(n, density, seed):
    X = sp.random(n, n, density, random_state=np.random.default_rng(seed))
    return X @ X.T + sp.eye(n)


PATTERNS = {
    "one": (lambda: sp.eye(1) * 3.0, ()),
    "diagonal": (lambda: sp.diags(np.arange(1.0, 40.0)), ()),
    "arrow": (lambda: arrow(120, 3), ()),
    "grid": (lambda: grid(23), ()),
    "crossed": (lambda: crossed(3000, 400, 60), ()),
    "dense_crossed": (lambda: crossed(8000, 500, 320), ()),
    "pedigree": (lambda: pedigree(700), ()),
    "disconnected": (lambda: sp.block_diag([grid(6), sp.eye(3), pedigree(300), grid(4)]), ()),
    "full": (lambda: sp.csc_matrix(np.ones((90, 90)) + 90 * np.eye(90)), ()),
    "clique": (lambda: pedigree(700), (np.arange(400, 640),)),
    "overlapping_cliques": (
        lambda: pedigree(600),
        (np.arange(0, 600, 3), np.arange(5, 300, 7), np.array([9]), np.array([1, 599])),
    ),
    "only_cliques": (lambda: sp.eye(30), (np.arange(0, 20), np.arange(15, 30))),
    **{f"random_{s}": (lambda s=s: random_spd(30 + s, 0.04, s), ()) for s in range(4)},
    **{f"random_clique_{s}": (lambda s=s: random_spd(50, 0.02, s), (np.arange(s, 50, 4),)) for s in range(4)},
}


def block_values(blocks, seed):
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(len(b), len(b) + 2)) for b in blocks]
    return tuple(x @ x.T / len(x) for x in X)


def with_blocks(A, blocks, values):
    full = A.toarray()
    for b, v in zip(blocks, values, strict=True):
        full[np.ix_(b, b)] += v
    return full


def columns_of(L):
    return np.repeat(np.arange(L.shape[0]), np.diff(L.indptr))


def assert_close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=RTOL * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PATTERNS)
def test_agrees_with_numpy(name, kind):
    make, blocks = PATTERNS[name]
    A = sp.csc_matrix(make())
    L, n = lower(A), A.shape[0]
    symbolic = _analyse(L.indptr, L.indices, n, blocks, kind)
    B = np.random.default_rng(1).normal(size=(n, 7))
    B.setflags(write=False)
    for seed, scale in ((0, 1.0), (1, 2.5)):  # one analysis, two sets of values
        values = block_values(blocks, seed)
        full = with_blocks(A * scale, blocks, values)
        inverse = np.linalg.inv(full)
        factor = symbolic.factor(L.data * scale, values)
        assert_close(factor.logdet, np.linalg.slogdet(full)[1])
        selected, dense = factor.selected_inverse()
        assert_close(selected, inverse[L.indices, columns_of(L)])
        assert len(dense) == len(blocks)
        for got, b in zip(dense, blocks, strict=True):
            assert_close(got, inverse[np.ix_(b, b)])
        assert_close(factor.solve(B), inverse @ B)
        assert_close(factor.solve(B[:, 0]), inverse @ B[:, 0])
        assert factor.solve(B[:, :0]).shape == (n, 0)
        again, _ = factor.selected_inverse(overwrite=True)
        np.testing.assert_array_equal(again, selected)


def test_large_fronts_agree_with_numpy(monkeypatch):
    """Big enough for leaves shared among threads, and made to take all BLAS threads."""
    monkeypatch.setattr("mixedgen.sparse.multifrontal.LARGE_FRONT", 1e8)
    A = sp.csc_matrix(crossed(60_000, 1500, 700))
    L, n = lower(A), A.shape[0]
    blocks = (np.arange(n - 300, n),)
    values = block_values(blocks, 0)
    symbolic = analyse(L.indptr, L.indices, n, blocks)
    assert len(symbolic.large) > 0
    factor = symbolic.factor(L.data, values)
    full = with_blocks(A, blocks, values)
    inverse = np.linalg.inv(full)
    selected, (dense,) = factor.selected_inverse()
    assert_close(selected, inverse[L.indices, columns_of(L)])
    assert_close(dense, inverse[n - 300 :, n - 300 :])
    assert_close(factor.solve(np.ones(n)), inverse @ np.ones(n))


@pytest.mark.parametrize("kind", KINDS)
def test_factors_of_one_analysis_live_together(kind):
    A = sp.csc_matrix(grid(20))
    L = lower(A)
    symbolic = _analyse(L.indptr, L.indices, 400, (), kind)
    first, second = symbolic.factor(L.data), symbolic.factor(3 * L.data)
    second.selected_inverse(overwrite=True)
    x = first.solve(np.ones(400))
    assert_close(A @ x, np.ones(400))


@pytest.mark.parametrize("kind", KINDS)
def test_overwritten_factor_refuses(kind):
    L = lower(grid(4))
    factor = _analyse(L.indptr, L.indices, 16, (), kind).factor(L.data)
    factor.selected_inverse(overwrite=True)
    with pytest.raises(EngineError, match="overwritten"):
        factor.solve(np.ones(16))
    with pytest.raises(EngineError, match="overwritten"):
        factor.selected_inverse()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [0, 7, 99])
def test_not_positive_definite_names_the_column(kind, bad):
    A = sp.lil_matrix(grid(10))
    A[bad, :] = 0.0
    A[:, bad] = 0.0
    A[bad, bad] = -1.0
    L = lower(grid(10))
    data = np.asarray(sp.csc_matrix(A).toarray()[L.indices, columns_of(L)])
    symbolic = _analyse(L.indptr, L.indices, 100, (), kind)
    with pytest.raises(EngineError, match="not positive definite") as caught:
        symbolic.factor(data)
    assert caught.value.column == bad
    assert_close(grid(10) @ symbolic.factor(L.data).solve(np.ones(100)), np.ones(100))  # usable after the failure


@pytest.mark.parametrize("kind", KINDS)
def test_not_finite_raises(kind):
    L = lower(grid(10))
    data = np.array(L.data)
    data[5] = np.nan
    with pytest.raises(EngineError):
        _analyse(L.indptr, L.indices, 100, (), kind).factor(data)


@pytest.mark.parametrize("kind", KINDS)
def test_near_singular(kind):
    """A Laplacian with a shift of 1e-9: the solution is dominated by the constant vector."""
    k, shift = 15, 1e-9
    A = sp.csc_matrix(grid(k, 0.0))
    A = A - sp.diags(np.asarray(A.sum(axis=1)).ravel()) + shift * sp.eye(k * k)
    L = lower(A)
    factor = _analyse(L.indptr, L.indices, k * k, (), kind).factor(L.data)
    np.testing.assert_allclose(factor.solve(np.ones(k * k)) * shift, 1.0, rtol=1e-5)
    diagonal = factor.selected_inverse()[0][L.indices == columns_of(L)]
    np.testing.assert_allclose(diagonal * shift * k * k, 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", ["grid", "crossed", "pedigree", "disconnected", "clique", "overlapping_cliques"])
def test_forecast_counts_the_factor(name):
    """Without merging exactly the structural entries of L in the order taken; with it a bound."""
    from mixedgen.sparse.multifrontal import SparseSymbolic

    make, blocks = PATTERNS[name]
    A = sp.csc_matrix(make())
    L, n = lower(A), A.shape[0]
    exact = SparseSymbolic(L.indptr, L.indices, n, blocks, amalgamate=False)
    order = exact.order
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    full = with_blocks(abs(A), blocks, [np.ones((len(b), len(b))) for b in blocks]) != 0
    full = full[np.ix_(order, order)]
    for j in range(n):  # symbolic elimination by the definition
        rows = np.flatnonzero(full[j + 1 :, j]) + j + 1
        full[np.ix_(rows, rows)] = True
    true_count = int(np.tril(full).sum())
    assert exact.forecast.nnz_factor == true_count
    relaxed = SparseSymbolic(L.indptr, L.indices, n, blocks)
    assert true_count <= relaxed.forecast.nnz_factor <= 2 * true_count + 1000
    assert relaxed.forecast.peak_bytes >= 8 * true_count
    assert relaxed.forecast.flops > 0


def test_fill_on_a_grid_is_near_that_of_superlu():
    from mixedgen.sparse.multifrontal import SparseSymbolic

    k = 60
    A = sp.csc_matrix(grid(k))
    L = lower(A)
    ours = SparseSymbolic(L.indptr, L.indices, k * k, (), amalgamate=False).forecast.nnz_factor
    peers = [
        splu(A, permc_spec=spec, diag_pivot_thresh=0.0, options={"SymmetricMode": True}).L.nnz
        for spec in ("MMD_AT_PLUS_A", "COLAMD")
    ]
    assert ours < 1.5 * min(peers)


def test_analyse_chooses_by_order_and_fullness():
    sparse, dense = lower(sp.eye(SMALL_ORDER + 1)), lower(sp.eye(SMALL_ORDER))
    assert type(analyse(dense.indptr, dense.indices, SMALL_ORDER)).__name__ == "DenseSymbolic"
    n = SMALL_ORDER + 1
    assert type(analyse(sparse.indptr, sparse.indices, n)).__name__ == "SparseSymbolic"
    assert type(analyse(sparse.indptr, sparse.indices, n, (np.arange(n),))).__name__ == "DenseSymbolic"


def test_compile_kernels_announces_at_most_once(caplog):
    with caplog.at_level(logging.INFO, logger="mixedgen.sparse"):
        compile_kernels()
        compile_kernels()
    assert len(caplog.records) <= 1


def test_small_systems_do_not_import_numba():
    code = """
import sys, numpy as np
from mixedgen.sparse import analyse
factor = analyse(np.array([0, 2, 3]), np.array([0, 1, 1]), 2).factor(np.array([2.0, 1.0, 2.0]))
factor.solve(np.ones(2)); factor.selected_inverse()
assert "numba" not in sys.modules and "llvmlite" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_threads_rest_after_a_stall(monkeypatch):
    """A piece of work far below the speed of one thread leaves the next ones to one thread, until the rest is over."""
    from mixedgen.sparse import threads

    clock = {"now": 0.0}
    paced = threads.Pacer()
    monkeypatch.setattr(threads, "single_speed", lambda: 1e9)
    monkeypatch.setattr(threads.time, "perf_counter", lambda: clock["now"])
    monkeypatch.setattr(threads.time, "monotonic", lambda: 100.0 + clock["now"])
    allowed = []
    several = threads.n_threads()
    for seconds in (1.0, 1.0, 20.0, 1.0, threads.REST, 1.0):
        with paced(1e9):
            allowed.append(threads.n_threads())
            clock["now"] += seconds
    one = 1 if several > 1 else several
    assert allowed == [several, several, several, one, one, several]
