"""Relationships: laws over the registry, checks at the boundary, and invariances."""

import pickle
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from relationship_examples import RELATIONSHIPS, Autoregressive, falling

import mixedgen as mg
from mixedgen.errors import ArgumentError, DataError, RelationshipError
from mixedgen.genetics.genotypes import Genotypes
from mixedgen.genetics.pedigree import Pedigree
from mixedgen.relationship.combine import bend, blend, correlation, epistatic, genomic_inbreeding
from mixedgen.relationship.dominance import dominance
from mixedgen.relationship.from_pedigree import additive, identity
from mixedgen.relationship.genomic import genomic, genomic_dominance, markers
from mixedgen.relationship.relationship import Relationship
from mixedgen.relationship.single_step import single_step, tuning_coefficients

SINGULAR = {"factor", "sparse factor", "genomic", "markers"}
SINGLE_STEP = import_module("mixedgen.relationship.single_step")  # the package's own name `single_step` is the function
DRAWS = 20_000
# of q(q+1)/2 covariances, each within five standard errors: a false alarm once in 10^4 runs at most
STANDARD_ERRORS = 5.0


def full(matrix):
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


@pytest.fixture(params=sorted(RELATIONSHIPS))
def name(request):
    return request.param


@pytest.fixture
def K(name):
    return RELATIONSHIPS[name]()


def test_law_labels_are_unique(K):
    assert K.labels.is_unique and len(K.labels) == K.size


def test_law_multiply_cross_and_diagonal_are_one_matrix(K):
    whole = K.multiply(np.eye(K.size))
    np.testing.assert_allclose(K.cross(K.labels, K.labels), whole, atol=1e-13)
    np.testing.assert_allclose(K.diagonal, np.diag(whole), atol=1e-13)
    np.testing.assert_allclose(whole, whole.T, atol=1e-13)
    np.testing.assert_allclose(K.multiply(np.arange(K.size)), whole @ np.arange(K.size), atol=1e-13)
    new, old = K.labels[[2, 0]], K.labels[[1, 2, 0]]
    np.testing.assert_allclose(K.cross(new, old), whole[np.ix_([2, 0], [1, 2, 0])], atol=1e-13)


def test_law_equations_see_the_same_matrix(K):
    F = np.eye(K.size) if K.basis is None else full(K.basis)
    K0 = np.linalg.inv(full(K.precision))
    np.testing.assert_allclose(F @ K0 @ F.T, K.multiply(np.eye(K.size)), atol=1e-12)
    assert K.logdet0 == pytest.approx(np.linalg.slogdet(K0)[1], abs=1e-12)
    assert F.shape[1] <= K.size


def test_law_inverse_and_determinant(name, K):
    if name in SINGULAR:
        for quantity in ("inverse", "logdet"):
            with pytest.raises(RelationshipError, match="K = F F'|not positive definite"):
                getattr(K, quantity)
        return
    whole = K.multiply(np.eye(K.size))
    np.testing.assert_allclose(full(K.inverse) @ whole, np.eye(K.size), atol=1e-11)
    assert K.logdet == pytest.approx(np.linalg.slogdet(whole)[1], abs=1e-11)


def test_law_samples_have_covariance_K(K):
    U = K.sample(np.random.default_rng(7), DRAWS)
    whole = K.multiply(np.eye(K.size))
    error = np.sqrt((np.outer(np.diag(whole), np.diag(whole)) + whole**2) / DRAWS)
    assert U.shape == (K.size, DRAWS)
    assert np.all(np.abs(U @ U.T / DRAWS - whole) <= STANDARD_ERRORS * error + 1e-12)


def test_law_submatrix_is_the_block(K):
    kept = K.labels[[2, 0]]
    if full(K.cross(kept, kept)).ndim and np.linalg.matrix_rank(K.cross(kept, kept)) == 2:
        part = K.submatrix(kept)
        np.testing.assert_allclose(part.multiply(np.eye(2)), K.cross(kept, kept), atol=1e-13)
        assert list(part.labels) == list(kept)


def test_law_pickles_with_used_caches(K):
    K.multiply(np.ones(K.size))
    again = pickle.loads(pickle.dumps(K))
    np.testing.assert_array_equal(again.multiply(np.eye(K.size)), K.multiply(np.eye(K.size)))


def test_unknown_labels_are_named(K):
    with pytest.raises(RelationshipError, match="1 labels are not in the relationship.*'nobody'"):
        K.cross([K.labels[0], "nobody"], [K.labels[0]])


def test_a_form_of_one_product_serves_in_a_model():
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"g": np.tile(list("abcd"), 10), "x": rng.normal(size=40)})
    data["y"] = data["x"] + rng.normal(size=4)[np.tile(np.arange(4), 10)] + rng.normal(size=40)
    guest = Relationship(pd.Index(list("abcd")), "guest", Autoregressive())
    own, host = (
        mg.lmm("y ~ x + (1|g:K)", data, relationships={"K": K})
        for K in (guest, Relationship.from_matrix(falling(), "abcd"))
    )
    np.testing.assert_allclose(own.theta, host.theta, rtol=1e-6)
    np.testing.assert_allclose(own.blup("g:K")["value"], host.blup("g:K")["value"], rtol=1e-6)
    assert "guest" in str(own.explain())


def test_labels_name_every_row_once():
    with pytest.raises(RelationshipError, match=r"3 labels do not name the 4 rows of K \(guest\)"):
        Relationship(pd.Index(list("abc")), "guest", Autoregressive())
    with pytest.raises(RelationshipError, match="1 ids occur more than once: 'a'"):
        Relationship(pd.Index(list("abca")), "guest", Autoregressive())


def test_unrelated_animals_give_the_identity():
    ped = Pedigree(pd.DataFrame({"id": [1, 2, 3], "sire": [0, 0, 0], "dam": [0, 0, 0]}))
    np.testing.assert_array_equal(full(additive(ped).inverse), full(identity([1, 2, 3]).inverse))
    assert additive(ped).logdet == 0.0


def test_input_is_neither_changed_nor_shared():
    matrix = np.array([[1.0, 0.5], [0.5, 1.0]])
    K = Relationship.from_matrix(matrix, "ab")
    F = Relationship.from_factor(matrix, "ab")
    matrix[0, 0] = 99.0
    assert K.diagonal[0] == 1.0
    assert F.diagonal[0] == 1.25


def test_small_asymmetry_is_rounding_and_large_is_an_error():
    K = np.array([[1.0, 0.5 + 1e-10], [0.5, 1.0]])
    assert Relationship.from_matrix(K, "ab").cross("a", "b") == pytest.approx(0.5, abs=1e-9)
    with pytest.raises(RelationshipError, match=r"not symmetric: \[a, b\] is 0.6 and \[b, a\] is 0.5"):
        Relationship.from_matrix(np.array([[1.0, 0.6], [0.5, 1.0]]), "ab")
    with pytest.raises(RelationshipError, match="not symmetric"):
        Relationship.from_matrix(sp.csc_array([[1.0, 0.6], [0.5, 1.0]]), "ab")


def test_symmetry_is_judged_on_the_scale_of_the_matrix():
    with pytest.raises(RelationshipError, match="not symmetric"):
        Relationship.from_matrix(1e-12 * np.array([[1.0, 0.6], [0.5, 1.0]]), "ab")


@pytest.mark.parametrize("matrix", [np.ones((3, 3)), np.diag([1.0, 0.0, 1.0]), np.diag([1.0, -1.0, 1.0])])
def test_matrix_that_is_not_positive_definite_is_explained(matrix):
    for form in (matrix, sp.csc_array(matrix)):
        with pytest.raises(
            RelationshipError, match="smallest eigenvalue.*condition number.*from_factor.*blend.*bend"
        ) as e:
            Relationship.from_matrix(form, "abc").inverse  # noqa: B018
        assert e.value.smallest_eigenvalue <= 1e-14


def test_singular_family_is_named():
    K = sp.block_diag([np.eye(10), np.ones((2, 2)), np.eye(2) + 1])
    with pytest.raises(RelationshipError, match="concerns 1[01], 1[01]"):
        Relationship.from_matrix(K, range(14)).inverse  # noqa: B018


@pytest.mark.parametrize("form", [np.asarray, sp.csc_array])
def test_inverse_that_is_not_positive_definite_is_refused(form):
    path = np.diag([1.0, 2.0, 1.0]) - np.eye(3, k=1) - np.eye(3, k=-1)  # singular: only differences are known
    for wrong in (np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([[0.0, 1.0], [1.0, 0.0]]), path / 3.0):
        with pytest.raises(RelationshipError, match="not positive definite"):
            Relationship.from_inverse(form(wrong), range(len(wrong)))


def test_ids_must_fit():
    eye = np.eye(2)
    with pytest.raises(RelationshipError, match="1 ids occur more than once: 'a'"):
        Relationship.from_matrix(eye, ["a", "a"])
    with pytest.raises(RelationshipError, match=r"shape \(2, 2\), but there are 3 ids"):
        Relationship.from_matrix(eye, "abc")
    with pytest.raises(RelationshipError, match="shape"):
        Relationship.from_matrix(np.ones((2, 3)), "ab")
    with pytest.raises(RelationshipError, match="missing"):
        Relationship.from_matrix(eye, ["a", None])
    with pytest.raises(ArgumentError, match="pass ids"):
        Relationship.from_matrix(eye)


@pytest.mark.parametrize("form", [np.asarray, sp.csc_array])
def test_entries_must_be_finite(form):
    with pytest.raises(RelationshipError, match="1 rows have entries that are missing or infinite: 'b'"):
        Relationship.from_matrix(form(np.diag([1.0, np.nan])), "ab")


def frame():
    return pd.DataFrame([[1.0, 0.5], [0.5, 2.0]], index=["a", "b"], columns=["a", "b"])


def test_frames_carry_their_names():
    K = Relationship.from_matrix(frame())
    assert list(K.labels) == ["a", "b"]
    mixed = frame()[["b", "a"]]
    np.testing.assert_array_equal(Relationship.from_matrix(mixed).diagonal, [1.0, 2.0])


def test_frames_are_reordered_to_ids():
    K = Relationship.from_matrix(frame(), ["b", "a"])
    np.testing.assert_array_equal(K.diagonal, [2.0, 1.0])
    F = Relationship.from_factor(pd.DataFrame([[1.0], [2.0]], index=["a", "b"]), ["b", "a"])
    np.testing.assert_array_equal(F.diagonal, [4.0, 1.0])


def test_frames_without_names_take_ids_in_order():
    K = Relationship.from_matrix(pd.DataFrame(np.diag([1.0, 2.0])), ["x", "y"])
    np.testing.assert_array_equal(K.cross(["y"], ["y"]), [[2.0]])
    assert Relationship.from_matrix(pd.DataFrame(np.diag([1.0, 2.0])), [1, 0]).cross([0], [0]) == 2.0


def test_columns_read_as_text_match_whole_numbers():
    K = Relationship.from_matrix(pd.DataFrame([[1.0, 0.5], [0.5, 2.0]], index=[7, 8], columns=["7", "8"]))
    assert list(K.labels) == [7, 8]


def test_names_that_disagree_are_an_error():
    with pytest.raises(RelationshipError, match="columns.*index"):
        Relationship.from_matrix(frame().rename(columns={"a": "c"}))
    with pytest.raises(RelationshipError, match="ids"):
        Relationship.from_matrix(frame(), ["a", "c"])


def test_families_keep_the_inverse_sparse():
    family = np.full((4, 4), 0.5) + 0.5 * np.eye(4)
    K = Relationship.from_matrix(sp.block_diag([family] * 50), range(200))
    assert sp.issparse(K.inverse) and K.inverse.nnz == 50 * 16
    assert K.logdet == pytest.approx(50 * np.linalg.slogdet(family)[1], rel=1e-12)


def test_order_of_a_sparse_matrix_does_not_matter():
    rng = np.random.default_rng(1)
    K = sp.block_diag([np.full((3, 3), 0.25) + np.eye(3)] * 6 + [np.eye(5)]).toarray()
    order = rng.permutation(len(K))
    shuffled = Relationship.from_matrix(sp.csc_array(K[np.ix_(order, order)]), order)
    np.testing.assert_allclose(full(shuffled.inverse), np.linalg.inv(K)[np.ix_(order, order)], atol=1e-13)


def test_many_markers_give_at_most_q_unknowns():
    F = np.random.default_rng(2).normal(size=(5, 40))
    K = Relationship.from_factor(F, "abcde")
    assert K.basis.shape == (5, 5)
    np.testing.assert_allclose(K.basis @ K.basis.T, F @ F.T, rtol=1e-12)
    assert K.logdet == pytest.approx(np.linalg.slogdet(F @ F.T)[1], rel=1e-12)


def test_a_sample_of_a_large_pedigree_block_needs_few_products():
    n = 3000
    ped = Pedigree(pd.DataFrame({"id": np.arange(1, n + 1), "sire": np.arange(n), "dam": 0}))
    np.testing.assert_allclose(additive(ped).cross([4, 3000], [1, 2]), [[0.125, 0.25], [0.0, 0.0]], atol=1e-300)


def test_law_sparse_and_dense_parts_make_the_precision(K):
    whole = full(K.precision).copy()
    for at, block in K.dense_blocks:
        whole[np.ix_(at, at)] += block
    F = np.eye(K.size) if K.basis is None else full(K.basis)
    np.testing.assert_allclose(F @ np.linalg.inv(whole) @ F.T, K.multiply(np.eye(K.size)), atol=1e-12)


# Mrode & Pocrnic (2023), example 13.1: sixteenths
PIGS = pd.DataFrame(
    {"id": range(1, 13), "sire": [0, 0, 0, 0, 1, 3, 6, 0, 3, 3, 6, 6], "dam": [0, 0, 0, 0, 2, 4, 5, 5, 8, 8, 8, 8]}
)
PIG_D = np.eye(12)
for i, j, d in [
    (7, 9, 1), (7, 10, 1), (7, 11, 2), (7, 12, 2), (9, 10, 4),
    (9, 11, 2), (9, 12, 2), (10, 11, 2), (10, 12, 2), (11, 12, 4),
]:  # fmt: skip
    PIG_D[i - 1, j - 1] = PIG_D[j - 1, i - 1] = d / 16

# Mrode (2005), example 2.1, whose animals 5 and 6 are inbred
INBRED_D = [(3, 5, 1 / 16), (3, 6, 1 / 8), (5, 6, 5 / 64)]


def test_dominance_of_the_textbook_pigs():
    np.testing.assert_array_equal(dominance(Pedigree(PIGS)).multiply(np.eye(12)), PIG_D)


def test_dominance_of_inbred_animals_ignores_inbreeding():
    ped = Pedigree(pd.DataFrame({"id": range(1, 7), "sire": [0, 0, 1, 1, 4, 5], "dam": [0, 0, 2, 0, 3, 2]}))
    D = np.eye(6)
    for i, j, d in INBRED_D:
        D[i - 1, j - 1] = D[j - 1, i - 1] = d
    np.testing.assert_array_equal(dominance(ped).multiply(np.eye(6)), D)


def test_dominance_of_reciprocal_double_first_cousins():
    """A man and his wife's brother, who married his sister: their children share both genes once in sixteen.

    Falconer & Mackay (1996) Introduction to Quantitative Genetics, table 9.3. The sire of one is the sib of the other's
    dam, so all comes from the crosswise product of the relationships between parents.
    """
    frame = pd.DataFrame({
        "id": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        "sire": [0, 0, 0, 0, 1, 1, 3, 3, 5, 7],
        "dam": [0, 0, 0, 0, 2, 2, 4, 4, 8, 6],
    })  # fmt: skip
    D = dominance(Pedigree(frame))
    np.testing.assert_array_equal(D.cross([9, 10], [9, 10]), [[1.0, 1 / 16], [1 / 16, 1.0]])


def test_dominance_of_full_sibs_is_a_quarter_and_stays_sparse():
    families = 200
    parents = pd.DataFrame({"id": range(1, 2 * families + 1), "sire": 0, "dam": 0})
    sire = np.repeat(np.arange(1, families + 1), 3)
    young = pd.DataFrame({"id": 2 * families + 1 + np.arange(3 * families), "sire": sire, "dam": sire + families})
    D = dominance(Pedigree(pd.concat([parents, young])))
    assert sp.issparse(D.inverse)
    np.testing.assert_array_equal(D.cross([401], [401, 402, 404]), [[1.0, 0.25, 0.0]])


def bulls(n=12, m=40, seed=4, missing=0.0):
    rng = np.random.default_rng(seed)
    copies = rng.binomial(2, rng.uniform(0.2, 0.8, m), (n, m)).astype(float)
    copies[rng.random((n, m)) < missing] = np.nan
    return Genotypes(copies, ids=np.arange(1, n + 1))


def test_vanraden_by_hand():
    # p = 1/4, 1/2; Z = [[-.5, 1], [.5, -1]]; sum 2pq = 3/8 + 1/2
    M = Genotypes(np.array([[0, 2], [1, 0]]), ids=["a", "b"])
    Z = np.array([[-0.5, 1.0], [0.5, -1.0]])
    np.testing.assert_allclose(genomic(M).multiply(np.eye(2)), Z @ Z.T / 0.875, rtol=1e-14)
    second = np.outer(Z[:, 0], Z[:, 0]) / 0.375 / 2 + np.outer(Z[:, 1], Z[:, 1]) / 0.5 / 2
    np.testing.assert_allclose(genomic(M, method=2).multiply(np.eye(2)), second, rtol=1e-14)
    W = np.array([[-2 / 16, -0.5], [6 / 16, -0.5]])
    D = genomic_dominance(M, ridge=0.1).multiply(np.eye(2))
    np.testing.assert_allclose(D, W @ W.T / (0.375**2 + 0.25) + 0.1 * np.eye(2), rtol=1e-14)


def test_singular_G_is_kept_exactly_by_its_factor():
    M = bulls(8, 200)
    G = genomic(M)
    Z = M.coded()
    k = 2 * np.sum(M.frequencies * (1 - M.frequencies))
    np.testing.assert_allclose(G.multiply(np.eye(8)), Z @ Z.T / k, atol=1e-13)
    assert full(G.basis).shape == (8, 7)  # the rows of Z sum to zero
    with pytest.raises(RelationshipError, match=r"rank 7.*ridge= to genomic.*markers\(\)"):
        _ = G.inverse
    assert genomic(M, ridge=0.01).logdet == pytest.approx(np.linalg.slogdet(Z @ Z.T / k + 0.01 * np.eye(8))[1])


def test_frequencies_of_the_base_make_G_regular():
    M = bulls(6, 80)
    p = pd.Series(0.5, index=M.markers[::-1])
    Z = M.values - 1.0
    np.testing.assert_allclose(genomic(M, p=p).multiply(np.eye(6)), Z @ Z.T / 40, rtol=1e-12)


def test_weights_of_one_change_nothing():
    M = bulls()
    np.testing.assert_allclose(
        genomic(M, weights=np.ones(40)).multiply(np.eye(12)), genomic(M).multiply(np.eye(12)), atol=1e-13
    )


@pytest.mark.parametrize(("n", "m"), [(30, 10), (10, 30)])
def test_markers_are_G_up_to_the_scale(n, m):
    M = bulls(n, m, missing=0.05)
    k = 2 * np.sum(M.frequencies * (1 - M.frequencies))
    K, G = markers(M), genomic(M)
    np.testing.assert_allclose(K.multiply(np.eye(n)) / k, G.multiply(np.eye(n)), atol=1e-13)
    assert K.basis.shape == (n, min(n, m)) and K.loadings.shape == (n, m) and list(K.markers) == list(M.markers)
    assert G.loadings is None and len(G.markers) == 0


def test_markers_of_some_animals_keep_their_loadings():
    K = markers(bulls())
    part = K.submatrix([3, 1])
    np.testing.assert_array_equal(part.loadings, K.loadings[[2, 0]])


def test_epistasis_is_the_scaled_product():
    M = bulls()
    G = genomic(M, ridge=0.01)
    whole = G.multiply(np.eye(12)) ** 2
    E = epistatic(G, G)
    np.testing.assert_allclose(E.multiply(np.eye(12)), whole / np.diag(whole).mean(), rtol=1e-13)
    np.testing.assert_allclose(epistatic(G, G, scale=None).multiply(np.eye(12)), whole, rtol=1e-13)


def test_epistasis_aligns_levels_and_refuses_others():
    a = Relationship.from_matrix(np.diag([1.0, 2.0]), "ab")
    b = Relationship.from_matrix(np.diag([3.0, 1.0]), "ba")
    np.testing.assert_array_equal(epistatic(a, b, scale=None).diagonal, [1.0, 6.0])
    with pytest.raises(RelationshipError, match="2 levels are in one of the two relationships only: 'b', 'c'"):
        epistatic(a, Relationship.from_matrix(np.eye(2), "ac"))


BULLS = Genotypes(np.random.default_rng(8).integers(0, 3, (14, 30)), ids=range(13, 27))


def family():
    """Twelve founders and the fourteen genotyped, some of them each other's parents."""
    frame = pd.DataFrame({
        "id": range(13, 27),
        "sire": [0, 0, 13, 15, 15, 14, 14, 1, 14, 14, 14, 14, 14, 14],
        "dam": [0, 0, 4, 2, 5, 6, 9, 3, 8, 11, 10, 7, 12, 2],
    })  # fmt: skip
    return Pedigree(frame)


def test_single_step_is_the_formula():
    ped, M = family(), BULLS
    tau, omega = 1.2, 0.8
    A = additive(ped).multiply(np.eye(ped.n))
    at = ped.ids.get_indexer(M.ids)
    A22 = A[np.ix_(at, at)]
    G = 0.9 * genomic(M).multiply(np.eye(14)) + 0.1 * A22
    a, b = tuning_coefficients(G, A22)
    G = a + b * G
    assert np.diag(G).mean() == pytest.approx(np.diag(A22).mean()) and G.mean() == pytest.approx(A22.mean())
    inverse = np.linalg.inv(A)
    inverse[np.ix_(at, at)] += tau * np.linalg.inv(G) - omega * np.linalg.inv(A22)
    H = single_step(ped, M, tau=tau, omega=omega, blending=0.1)
    np.testing.assert_allclose(full(H.inverse), inverse, atol=1e-8)
    np.testing.assert_allclose(H.multiply(np.eye(ped.n)), np.linalg.inv(inverse), atol=1e-8)
    assert H.logdet == pytest.approx(-np.linalg.slogdet(inverse)[1], abs=1e-8)
    assert "0.9 G + 0.1 A22 tuned" in H.kind and "tau 1.2" in H.kind


def test_single_step_with_all_genotyped_is_G():
    frame = pd.DataFrame({"id": range(1, 13), "sire": [0] * 6 + [1] * 6, "dam": [0] * 6 + [2] * 6})
    ped, M = Pedigree(frame), bulls(12, 60)
    A = additive(ped).multiply(np.eye(12))
    expected = 0.95 * genomic(M).multiply(np.eye(12)) + 0.05 * A
    H = single_step(ped, M, tuning=False)
    np.testing.assert_allclose(H.multiply(np.eye(12)), expected, atol=1e-11)
    np.testing.assert_allclose(full(H.inverse) @ expected, np.eye(12), atol=1e-9)


def test_single_step_where_G_is_A22_is_A():
    ped = family()
    H = single_step(ped, BULLS, blending=1.0)
    np.testing.assert_allclose(H.multiply(np.eye(ped.n)), additive(ped).multiply(np.eye(ped.n)), atol=1e-10)


def test_single_step_keeps_a_large_block_apart(monkeypatch):
    ped = family()
    together = single_step(ped, BULLS)
    monkeypatch.setattr(SINGLE_STEP, "_DENSE_PRECISION", 3)
    apart = single_step(ped, BULLS)
    ((at, block),) = apart.dense_blocks
    whole = full(apart.precision).copy()
    whole[np.ix_(at, at)] += block
    np.testing.assert_allclose(whole, full(together.inverse), atol=1e-12)


def test_tuning_undoes_a_change_of_base():
    A22 = additive(family()).cross(BULLS.ids, BULLS.ids)
    a, b = tuning_coefficients(0.3 + 1.7 * A22, A22)
    np.testing.assert_allclose([a, b], [-0.3 / 1.7, 1.0 / 1.7], rtol=1e-12)
    for G, base in ((np.ones((2, 2)), np.eye(2)), (np.eye(2), np.ones((2, 2))), (np.eye(2), 2.0 - np.eye(2))):
        with pytest.raises(RelationshipError, match="G cannot be tuned to A22.*tuning=False"):
            tuning_coefficients(G, base)


def test_single_step_says_what_is_wrong():
    ped = family()
    with pytest.raises(RelationshipError, match="singular without blending.*blending=0.05"):
        single_step(ped, BULLS, blending=0.0, tuning=False)
    with pytest.raises(
        RelationshipError, match=r"2 genotyped animals are not in the pedigree: 'a', '014'.*\(1 by zero padding"
    ):
        single_step(ped, Genotypes(np.array([[0, 1], [2, 0]]), ids=["a", "014"]))
    with pytest.raises(RelationshipError, match="H is not positive definite with tau=0.01 and omega=3"):
        single_step(ped, BULLS, tau=0.01, omega=3.0)
    with pytest.raises(ArgumentError, match="blending=2 is a share"):
        single_step(ped, BULLS, blending=2)
    with pytest.raises(RelationshipError, match="cannot be tuned"):
        tuning_coefficients(np.ones((2, 2)), np.eye(2))


def test_blend_and_bend_are_explicit_and_noted():
    ones = np.ones((3, 3))
    K = blend(ones, 0.2, ids="abc")
    np.testing.assert_allclose(K.multiply(np.eye(3)), 0.8 * ones + 0.2 * np.eye(3))
    assert K.kind == "matrix, blended with 0.2 I"
    other = Relationship.from_matrix(np.diag([1.0, 2.0, 3.0]), "cba", kind="A22")
    np.testing.assert_allclose(blend(ones, 0.5, other, ids="abc").diagonal, [2.0, 1.5, 1.0])
    indefinite = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.9], [0.1, 0.9, 1.0]])
    bent = bend(indefinite, 0.01, ids="abc")
    values = np.linalg.eigvalsh(bent.multiply(np.eye(3)))
    np.testing.assert_allclose(values[0], 0.01 * np.linalg.eigvalsh(indefinite)[-1])
    np.testing.assert_allclose(values[1:], np.linalg.eigvalsh(indefinite)[1:])
    assert "1 of 3 eigenvalues bent" in bent.kind
    with pytest.raises(RelationshipError, match="no positive eigenvalue"):
        bend(-np.eye(2), ids="ab")
    for wrong in (lambda: blend(ones, 1.5, ids="abc"), lambda: bend(ones, 0.0, ids="abc")):
        with pytest.raises(ArgumentError, match="is a share"):
            wrong()


def test_genomic_inbreeding_and_correlations():
    K = Relationship.from_matrix(np.array([[1.25, 0.5], [0.5, 0.8]]), "ab")
    np.testing.assert_allclose(genomic_inbreeding(K), [0.25, -0.2])
    np.testing.assert_allclose(correlation(K), [[1.0, 0.5], [0.5, 1.0]])
    with pytest.raises(RelationshipError, match="1 levels have no variance: 'b'"):
        correlation(Relationship.from_factor(np.array([[1.0], [0.0]]), "ab"))


def test_groups_ride_on_the_additive_relationship():
    ped = Pedigree(pd.DataFrame({"id": [1, 2], "sire": ["G1", 1], "dam": ["G2", "G2"]}), groups=["G1", "G2"])
    A = additive(ped)
    assert A.group_names == ("G1", "G2")
    np.testing.assert_array_equal(full(A.Q), [[0.5, 0.5], [0.25, 0.75]])
    assert identity("ab").group_names == () and identity("ab").Q.shape == (2, 0)


def test_too_many_levels_are_refused_with_the_memory(monkeypatch):
    monkeypatch.setattr("mixedgen.relationship.combine.DENSE_LEVELS", 3)
    for make in (lambda: genomic(bulls()), lambda: dominance(family()), lambda: correlation(identity("abcd"))):
        with pytest.raises(RelationshipError, match="GB for .* levels"):
            make()


def test_arguments_of_the_genomic_constructors():
    M, G = bulls(), genomic(bulls(), ridge=0.1)
    for wrong in (
        lambda: genomic(M, method=3),
        lambda: genomic(M, ridge=-1.0),
        lambda: genomic(M, weights=[1.0]),
        lambda: markers(M, weights=-np.ones(40)),
        lambda: markers(M, scale="var"),
        lambda: epistatic(G, G, scale="trace"),
        lambda: genomic_dominance(Genotypes(np.array([[0.5, 1.2]]), ids=["a"], dosages=True)),
        lambda: dominance(Pedigree(pd.DataFrame({"id": [1], "sire": [0], "mgs": [0]}), mgs="mgs")),
    ):
        with pytest.raises(ArgumentError):
            wrong()
    for wrong in (
        lambda: genomic(M, p=[0.5]),
        lambda: genomic(M, p=np.full(40, 1.5)),
        lambda: genomic(Genotypes(np.ones((2, 2)), ids=["a", "b"])),
        lambda: genomic(Genotypes(np.zeros((2, 2)), ids=["a", "b"])),
        lambda: genomic(Genotypes(np.array([[0, 1], [0, 0]]), ids=["a", "b"]), method=2),
        lambda: markers(Genotypes(np.array([[-9, 1], [-9, 0]]), ids=["a", "b"])),
    ):
        with pytest.raises(DataError):
            wrong()
