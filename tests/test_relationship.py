"""Relationships: laws over the registry, checks at the boundary, and invariances."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from mixedgen.errors import ArgumentError, RelationshipError
from mixedgen.pedigree import Pedigree
from mixedgen.relationship import RELATIONSHIPS, Relationship, additive, identity

SINGULAR = {"factor", "sparse factor"}
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
            Relationship.from_matrix(form, "abc")
        assert e.value.smallest_eigenvalue <= 1e-14


def test_singular_family_is_named():
    K = sp.block_diag([np.eye(10), np.ones((2, 2)), np.eye(2) + 1])
    with pytest.raises(RelationshipError, match="concerns 1[01], 1[01]"):
        Relationship.from_matrix(K, range(14))


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
