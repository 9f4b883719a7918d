"""Pedigrees: textbook values, the checks, and fast code against textbook code."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mixedgen.data import mrode_pedigree
from mixedgen.errors import ArgumentError, PedigreeError, RelationshipError
from mixedgen.genetics import inbreeding, kernels
from mixedgen.genetics.pedigree import (
    GeneFlow,
    Pedigree,
    ancestors,
    diagonal,
    inverse_relationship,
    log_determinant,
    mendelian_variances,
    numerator_relationship,
)

# Mrode & Pocrnic (2023), example 4.1: exact binary fractions, and thirds
MRODE_A = np.array([
    [1.0, 0.0, 0.0, 0.5, 0.0, 0.5, 0.25, 0.25],
    [0.0, 1.0, 0.0, 0.0, 0.5, 0.5, 0.25, 0.25],
    [0.0, 0.0, 1.0, 0.0, 0.5, 0.0, 0.25, 0.5],
    [0.5, 0.0, 0.0, 1.0, 0.0, 0.25, 0.5, 0.125],
    [0.0, 0.5, 0.5, 0.0, 1.0, 0.25, 0.5, 0.375],
    [0.5, 0.5, 0.0, 0.25, 0.25, 1.0, 0.25, 0.5],
    [0.25, 0.25, 0.25, 0.5, 0.5, 0.25, 1.0, 0.25],
    [0.25, 0.25, 0.5, 0.125, 0.375, 0.5, 0.25, 1.0],
])  # fmt: skip
MRODE_A_INVERSE = np.array([
    [11 / 6, 0.5, 0.0, -2 / 3, 0.0, -1.0, 0.0, 0.0],
    [0.5, 2.0, 0.5, 0.0, -1.0, -1.0, 0.0, 0.0],
    [0.0, 0.5, 2.0, 0.0, -1.0, 0.5, 0.0, -1.0],
    [-2 / 3, 0.0, 0.0, 11 / 6, 0.5, 0.0, -1.0, 0.0],
    [0.0, -1.0, -1.0, 0.5, 2.5, 0.0, -1.0, 0.0],
    [-1.0, -1.0, 0.5, 0.0, 0.0, 2.5, 0.0, -1.0],
    [0.0, 0.0, 0.0, -1.0, -1.0, 0.0, 2.0, 0.0],
    [0.0, 0.0, -1.0, 0.0, 0.0, -1.0, 0.0, 2.0],
])  # fmt: skip


def table(*rows):
    return pd.DataFrame(rows, columns=["id", "sire", "dam"])


def close_breeding(n, seed, selfing=False):
    """Animals whose parents are taken from the eight before them, some unknown; sexes by parity."""
    rng = np.random.default_rng(seed)
    i = np.arange(1, n + 1)
    sire, dam = (np.maximum(0, i - rng.integers(1, 9, n)) for _ in range(2))
    if not selfing:
        sire, dam = np.maximum(0, sire - (sire % 2 == 0)), dam - dam % 2
    sire[rng.random(n) < 0.05] = 0
    dam[rng.random(n) < 0.05] = 0
    return pd.DataFrame({"id": i, "sire": sire, "dam": dam})


def herd(n, generations, seed=3):
    """Discrete generations with few sires, more dams and litters."""
    rng = np.random.default_rng(seed)
    per = n // (generations + 1)
    i = np.arange(n)
    start = np.maximum(i // per - 1, 0) * per
    litter = i // 4
    sire = start + 2 * rng.integers(0, max(3, per // 40), n)[litter] + 1
    dam = start + 2 * rng.integers(0, per // 4, n)[litter] + 2
    young = i >= per
    return pd.DataFrame({"id": i + 1, "sire": sire * young, "dam": dam * young})


@pytest.fixture
def mrode():
    return Pedigree(mrode_pedigree())


def test_mrode_relationship(mrode):
    np.testing.assert_array_equal(numerator_relationship(mrode), MRODE_A)
    np.testing.assert_array_equal(mrode.inbreeding, np.zeros(8))
    np.testing.assert_array_equal(mendelian_variances(mrode), [1, 1, 1, 0.75, 0.5, 0.5, 0.5, 0.5])


def test_mrode_inverse_and_determinant(mrode):
    np.testing.assert_allclose(inverse_relationship(mrode).toarray(), MRODE_A_INVERSE, atol=1e-15)
    assert log_determinant(mrode) == pytest.approx(np.linalg.slogdet(MRODE_A)[1], rel=1e-13)


def test_repeated_full_sib_mating_has_the_known_inbreeding():
    # F_t = (1 + 2 F_{t-1} + F_{t-2}) / 4
    rows = [(1, 0, 0), (2, 0, 0)]
    for k in range(3, 23, 2):
        rows += [(k, k - 2, k - 1), (k + 1, k - 2, k - 1)]
    F = Pedigree(table(*rows)).inbreeding
    known = [0.0, 0.0]
    while len(known) < 11:
        known.append((1 + 2 * known[-1] + known[-2]) / 4)
    np.testing.assert_allclose(F.loc[1::2], known, rtol=1e-15)


def test_selfing_halves_what_is_left():
    ped = Pedigree(table(*[(k, k - 1, k - 1) for k in range(1, 12)]), monoecious=True)
    np.testing.assert_array_equal(ped.inbreeding, 1 - 0.5 ** np.arange(11))
    A = numerator_relationship(ped)
    np.testing.assert_allclose(inverse_relationship(ped).toarray() @ A, np.eye(11), atol=1e-9)


def test_complete_inbreeding_leaves_no_inverse():
    ped = Pedigree(table(*[(k, k - 1, k - 1) for k in range(1, 70)]), monoecious=True)
    with pytest.raises(RelationshipError, match="completely inbred"):
        inverse_relationship(ped)
    with pytest.raises(RelationshipError, match="completely inbred"):
        log_determinant(ped)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("selfing", [False, True])
def test_pieces_agree_with_dense_A(seed, selfing):
    ped = Pedigree(close_breeding(150, seed, selfing), monoecious=selfing)
    A = numerator_relationship(ped)
    np.testing.assert_allclose(ped.inbreeding, np.diag(A) - 1, atol=1e-14)
    np.testing.assert_allclose(inverse_relationship(ped) @ A, np.eye(ped.n), atol=1e-8)
    assert log_determinant(ped) == pytest.approx(np.linalg.slogdet(A)[1], rel=1e-10)
    flow, D = GeneFlow(ped), mendelian_variances(ped)
    np.testing.assert_allclose(flow.down(D[:, None] * flow.up(np.eye(ped.n))), A, atol=1e-12)
    assert A.max() > 1.3


@pytest.mark.parametrize("limit", [0, 10**6])
@pytest.mark.parametrize("selfing", [False, True])
def test_ignoring_inbreeding_is_consistent(monkeypatch, limit, selfing):
    monkeypatch.setattr(inbreeding, "_DENSE_PARENTS", limit)
    ped = Pedigree(close_breeding(150, 5, selfing), monoecious=selfing)
    A = np.linalg.inv(inverse_relationship(ped, inbreeding=False).toarray())
    np.testing.assert_allclose(diagonal(ped, inbreeding=False), np.diag(A), rtol=1e-9)
    assert log_determinant(ped, inbreeding=False) == pytest.approx(np.linalg.slogdet(A)[1], rel=1e-9)
    assert set(mendelian_variances(ped, inbreeding=False)) == {0.5, 0.75, 1.0}


# forecast costs of a visit and of an entry, which decide between the kernels
KERNELS = {"by mating": (0.0, 1e9), "by parent": (1e9, 1e9), "by generation": (1e9, 0.0)}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "frame", [close_breeding(300, 1), close_breeding(300, 2, True), herd(1200, 5), herd(600, 30)],
    ids=["close", "selfing", "wide", "deep"],
)  # fmt: skip
def test_fast_inbreeding_is_textbook_inbreeding(monkeypatch, frame, kernel):
    expected = Pedigree(frame, monoecious=True).inbreeding
    monkeypatch.setattr(inbreeding, "_DENSE_PARENTS", 0)
    monkeypatch.setattr(inbreeding, "_VISIT_COST", KERNELS[kernel][0])
    monkeypatch.setattr(inbreeding, "_ENTRY_COST", KERNELS[kernel][1])
    np.testing.assert_allclose(Pedigree(frame, monoecious=True).inbreeding, expected, atol=1e-14)
    assert expected.max() > 0.05


def test_large_pedigree_agrees_with_small_path(monkeypatch):
    frame = herd(9000, 8)
    large = Pedigree(frame).inbreeding
    monkeypatch.setattr(inbreeding, "_DENSE_PARENTS", 10**6)
    np.testing.assert_allclose(large, Pedigree(frame).inbreeding, atol=1e-14)


def test_small_pedigrees_load_no_compiler():
    code = (
        "import sys, pandas as pd; from mixedgen.genetics.pedigree import Pedigree, inverse_relationship;"
        "ped = Pedigree(pd.DataFrame({'id': [1, 2, 3], 'sire': [0, 1, 1], 'dam': [0, 0, 2]}));"
        "ped.inbreeding; inverse_relationship(ped); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_order_of_rows_does_not_matter():
    frame = close_breeding(200, 4)
    a, b = Pedigree(frame), Pedigree(frame.sample(frac=1.0, random_state=1))
    assert np.all(np.maximum(b.sire, b.dam) < np.arange(b.n))
    where = b.ids.get_indexer(a.ids)
    np.testing.assert_allclose(b.inbreeding.loc[a.ids], a.inbreeding, atol=1e-14)
    np.testing.assert_allclose(
        inverse_relationship(b).toarray()[np.ix_(where, where)], inverse_relationship(a).toarray(), atol=1e-10
    )


def test_a_good_order_is_kept():
    assert list(Pedigree(table((9, 0, 0), (3, 0, 0), (7, 9, 3))).ids) == [9, 3, 7]


def test_parents_without_a_row_become_founders():
    ped = Pedigree(table((3, 1, 2), (4, 1, 3)))
    assert (ped.added, ped.n, list(ped.ids)) == (2, 4, [1, 2, 3, 4])
    assert list(ped.sire) == [-1, -1, 0, 0] and list(ped.dam) == [-1, -1, 1, 2]


@pytest.mark.parametrize("unknown", [None, np.nan, pd.NA, 0, "0", ""])
def test_unknown_parents_have_many_spellings(unknown):
    ped = Pedigree(table(("a", unknown, unknown), ("b", "a", unknown)))
    assert list(ped.sire) == [-1, 0] and list(ped.dam) == [-1, -1] and ped.added == 0


def test_whole_numbers_held_as_floats_are_integers():
    ped = Pedigree(table((1, np.nan, np.nan), (2, np.nan, np.nan), (3, 1.0, 2.0)))
    assert ped.ids.dtype == np.int64 and list(ped.ids) == [1, 2, 3]


def test_nullable_integers_keep_all_digits():
    big = 2**53 + 1
    columns = {"id": [big, 5], "sire": [None, big], "dam": [None, None]}
    ped = Pedigree(pd.DataFrame({name: pd.array(values, dtype="Int64") for name, values in columns.items()}))
    assert list(ped.ids) == [big, 5] and ped.sire[1] == 0


@pytest.mark.parametrize(
    ("frame", "ids"),
    [
        (table((12, 0, 0), (13, "12", None)), [12, 13]),
        (table(("12", 0, 0), ("x", 12, 0)), ["12", "x"]),
        (table(("12", 0, 0), ("x", 12.0, np.nan)), ["12", "x"]),
        (table((12, None, None), (13, 12.0, "herd bull")).iloc[::-1], ["herd bull", 12, 13]),
    ],
)
def test_mixed_spellings_of_one_animal_are_one(frame, ids):
    assert sorted(Pedigree(frame).ids, key=str) == sorted(ids, key=str)


def test_categories_are_read_by_value():
    frame = table(("a", None, None), ("b", "a", None)).astype("category")
    assert list(Pedigree(frame).ids) == ["a", "b"]


def test_repeated_rows_are_counted_and_dropped():
    ped = Pedigree(table((1, 0, 0), (2, 1, 0), (2, 1, 0), (2, 1, 0)))
    assert (ped.n, ped.duplicates) == (2, 2)


def test_own_parent():
    with pytest.raises(PedigreeError, match="1 animals are their own parent: 2") as error:
        Pedigree(table((1, 0, 0), (2, 2, 0)))
    assert error.value.own_parents == [2]


def test_loops_are_printed_as_cycles():
    with pytest.raises(PedigreeError, match=r"1 loops.*('?)(a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c)") as e:
        Pedigree(table(("a", "c", None), ("b", "a", None), ("c", "b", None), ("d", "c", None)))
    (loop,) = e.value.loops
    assert loop[0] == loop[-1] and set(loop) == {"a", "b", "c"}


def test_every_loop_is_found_but_not_its_descendants():
    rows = [(1, 2, 0), (2, 1, 0), (3, 4, 0), (4, 5, 0), (5, 3, 0), (6, 1, 0), (7, 6, 0)]
    with pytest.raises(PedigreeError, match="2 loops") as error:
        Pedigree(table(*rows))
    assert [set(loop) for loop in error.value.loops] == [{1, 2}, {3, 4, 5}]


def test_sire_and_dam():
    rows = [(1, 0, 0), (2, 0, 0), (3, 1, 2), (4, 2, 1)]
    with pytest.raises(PedigreeError, match="2 ids are sire and dam: 1, 2.*monoecious=True") as error:
        Pedigree(table(*rows))
    assert error.value.sires_too == [1, 2]
    assert Pedigree(table(*rows), monoecious=True).n == 4


def test_different_parents():
    with pytest.raises(PedigreeError, match="1 ids have rows with different parents: 3") as error:
        Pedigree(table((1, 0, 0), (2, 0, 0), (3, 1, 2), (3, 1, 0)))
    assert error.value.conflicting == [3]


@pytest.mark.parametrize("missing", [None, 0, np.nan])
def test_missing_ids(missing):
    with pytest.raises(PedigreeError, match=r"1 rows have no id: rows 1, counted from 0"):
        Pedigree(table((1, 0, 0), (missing, 1, 0)))


def test_everything_wrong_is_reported_at_once():
    rows = [(1, 1, 0), (2, 3, 0), (3, 2, 0), (4, 2, 3), (5, 0, 0), (5, 4, 0), (None, 0, 0)]
    with pytest.raises(PedigreeError) as error:
        Pedigree(table(*rows))
    for words in ("no id", "different parents", "own parent", "sire and dam", "loop"):
        assert words in str(error.value)


def test_missing_columns_and_wrong_objects():
    with pytest.raises(PedigreeError, match="no column 'father'; it has 'id', 'sire', 'dam'"):
        Pedigree(table((1, 0, 0)), sire="father")
    with pytest.raises(ArgumentError, match="data frame.*not list"):
        Pedigree([(1, 0, 0)])
    with pytest.raises(PedigreeError, match="1 animals have an unknown parent that belongs to no group: 1"):
        Pedigree(table((1, 0, 0)), groups=["G1"])


def test_polars_frames():
    polars = pytest.importorskip("polars")
    numbers = polars.DataFrame({"id": [1, 2, 3], "sire": [None, None, 1], "dam": [None, None, 2]})
    text = polars.DataFrame({"id": ["a", "b"], "sire": [None, "a"], "dam": ["", "0"]})
    assert list(Pedigree(numbers).ids) == [1, 2, 3]
    assert list(Pedigree(text).sire) == [-1, 0]


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_read(tmp_path, suffix, mrode):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"ped.{suffix}"
    frame = mrode_pedigree().rename(columns={"id": "calf"})
    frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, index=False)
    ped = Pedigree.read(path, id="calf")
    np.testing.assert_array_equal(ped.sire, mrode.sire)


def test_a_pedigree_cannot_be_changed(mrode):
    with pytest.raises(ValueError, match="read-only"):
        mrode.sire[0] = 3


@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_nothing_is_left_to_compile_for_a_large_pedigree(monkeypatch, kernel):
    inbreeding.compile_kernels()
    functions = [inbreeding._compiled(f) for f in (kernels._by_mating, kernels._by_parent, kernels._next_generation)]
    known = [list(f.signatures) for f in functions]
    for name, value in zip(("_DENSE_PARENTS", "_VISIT_COST", "_ENTRY_COST"), (0, *KERNELS[kernel]), strict=True):
        monkeypatch.setattr(inbreeding, name, value)
    assert Pedigree(close_breeding(200, 4)).inbreeding.max() > 0.0
    assert all(known) and [list(f.signatures) for f in functions] == known


def test_input_is_not_changed():
    frame = close_breeding(50, 1)
    before = frame.copy()
    Pedigree(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_founders_only_and_empty():
    assert Pedigree(table((1, 0, 0), (2, 0, 0))).inbreeding.tolist() == [0.0, 0.0]
    empty = Pedigree(pd.DataFrame({"id": [], "sire": [], "dam": []}))
    assert empty.n == 0 and inverse_relationship(empty).shape == (0, 0)


def test_ancestors_are_closed(mrode):
    assert mrode.ids[ancestors(mrode, np.array([6]))].tolist() == [1, 2, 3, 4, 5, 7]


def test_thirty_generations_and_many_animals():
    ped = Pedigree(herd(60_000, 30).sample(frac=1.0, random_state=2))
    assert np.all(np.maximum(ped.sire, ped.dam) < np.arange(ped.n))
    assert 0.0 <= ped.inbreeding.min() <= ped.inbreeding.max() < 1.0


@pytest.fixture(params=sorted(KERNELS))
def compiled(monkeypatch, request):
    """Run one compiled kernel whatever the size."""
    visit, entry = KERNELS[request.param]
    for name, value in (("_DENSE_PARENTS", 0), ("_VISIT_COST", visit), ("_ENTRY_COST", entry)):
        monkeypatch.setattr(inbreeding, name, value)


def selfed(n=200, seed=3):
    frame = close_breeding(n, seed, selfing=True)
    frame["selfed"] = np.random.default_rng(seed).choice(
        [0.0, np.nan, 1.0, 3.0, np.inf], n, p=[0.6, 0.2, 0.1, 0.09, 0.01]
    )
    return frame


def test_kernels_know_selfing(compiled):
    ped = Pedigree(selfed(), selfing="selfed")
    A = numerator_relationship(ped)
    np.testing.assert_allclose(ped.inbreeding, np.diag(A) - 1, atol=1e-13)
    assert ped.inbreeding.max() == 1.0


def metafounders(n=150, seed=6):
    """Pedigree of which all unknown parents are one of three related metafounders."""
    frame = close_breeding(n, seed).astype(object)
    rng = np.random.default_rng(seed)
    for parent in ("sire", "dam"):
        unknown = frame[parent] == 0
        frame.loc[unknown, parent] = rng.choice(["M1", "M2", "M3"], unknown.sum())
    names = ["M1", "M2", "M3"]
    Gamma = pd.DataFrame([[0.6, 0.2, 0.1], [0.2, 0.7, -0.1], [0.1, -0.1, 1.1]], names, names)
    return frame, Gamma


def test_kernels_know_metafounders(compiled):
    frame, Gamma = metafounders()
    ped = Pedigree(frame, metafounders=Gamma, monoecious=True)
    A = numerator_relationship(ped)
    np.testing.assert_allclose(ped.inbreeding, np.diag(A) - 1, atol=1e-13)


def test_metafounders_are_the_first_animals_of_relationship_gamma():
    frame, Gamma = metafounders()
    ped = Pedigree(frame, metafounders=Gamma, monoecious=True)
    A = numerator_relationship(ped)
    assert list(ped.ids[:3]) == ["M1", "M2", "M3"] and ped.metafounders == 3
    np.testing.assert_array_equal(A[:3, :3], Gamma)
    np.testing.assert_allclose(inverse_relationship(ped) @ A, np.eye(ped.n), atol=1e-8)
    assert log_determinant(ped) == pytest.approx(np.linalg.slogdet(A)[1], rel=1e-10)
    np.testing.assert_allclose(diagonal(ped), np.diag(A), atol=1e-13)
    np.testing.assert_allclose(mendelian_variances(ped)[:3], np.diag(Gamma))


def test_one_metafounder_moves_the_base():
    # Legarra et al. (2015): A^gamma = A (1 - gamma / 2) + gamma
    frame = close_breeding(60, 2)
    A = numerator_relationship(Pedigree(frame))
    named = frame.replace({"sire": {0: "M"}, "dam": {0: "M"}})
    ped = Pedigree(named, metafounders=pd.DataFrame([[0.4]], ["M"], ["M"]), monoecious=True)
    np.testing.assert_allclose(numerator_relationship(ped)[1:, 1:], 0.8 * A + 0.4, atol=1e-13)


def test_metafounders_of_no_variance_are_unknown_parents():
    frame = close_breeding(60, 2)
    named = frame.replace({"sire": {0: "M"}, "dam": {0: "N"}})
    ped = Pedigree(named, metafounders=pd.DataFrame(0.0, ["M", "N"], ["M", "N"]))
    assert ped.metafounders == 0 and list(ped.ids) == list(Pedigree(frame).ids)
    np.testing.assert_array_equal(inverse_relationship(ped).toarray(), inverse_relationship(Pedigree(frame)).toarray())


def test_groups_of_the_textbook_calves():
    # Mrode & Pocrnic (2023), example 4.4: G1 unknown sires, G2 unknown dams
    frame = mrode_pedigree().astype(object)
    frame["sire"] = frame["sire"].replace({0: "G1"}).fillna("G1")
    frame["dam"] = frame["dam"].replace({0: "G2"}).fillna("G2")
    ped = Pedigree(frame, groups=["G1", "G2"])
    first = [0.5, 0.5, 0.5, 0.25, 0.5, 0.5, 0.375, 0.5]
    np.testing.assert_array_equal(ped.Q.toarray(), np.column_stack([first, np.subtract(1.0, first)]))
    assert ped.groups == ("G1", "G2") and ped.n == 8
    np.testing.assert_array_equal(numerator_relationship(ped), MRODE_A)


def test_groups_may_be_numbers_and_rows_sum_to_one():
    frame = close_breeding(100, 3)
    for k, parent in enumerate(("sire", "dam")):
        unknown = np.flatnonzero(frame[parent] == 0)
        frame.loc[unknown, parent] = -1 - (unknown + k) % 3
    ped = Pedigree(frame, groups=[-1, -2, -3])
    np.testing.assert_allclose(ped.Q.sum(axis=1), 1.0)
    assert ped.Q.shape == (100, 3) and ped.n == 100


def grandsires():
    return pd.DataFrame({
        "id": [1, 2, 3, 4, 5, 6],
        "sire": [0, 0, 1, 1, 3, 0],
        "mgs": [0, 1, 2, 1, 4, 3],
    })  # fmt: skip


def test_maternal_grandsires_are_dams_left_out():
    ped = Pedigree(grandsires(), mgs="mgs")
    rows = []
    for animal, sire, grandsire in grandsires().itertuples(index=False):
        dam = f"dam of {animal}" if grandsire else 0
        rows += [(dam, str(grandsire), 0)] * bool(grandsire) + [(str(animal), str(sire), dam)]
    whole = Pedigree(table(*rows))
    at = whole.ids.get_indexer(["1", "2", "3", "4", "5", "6"])
    A = numerator_relationship(whole)[np.ix_(at, at)]
    np.testing.assert_allclose(numerator_relationship(ped), A, atol=1e-15)
    np.testing.assert_allclose(inverse_relationship(ped) @ A, np.eye(6), atol=1e-13)
    np.testing.assert_allclose(ped.inbreeding, np.diag(A) - 1, atol=1e-15)
    assert log_determinant(ped) == pytest.approx(np.linalg.slogdet(A)[1])
    plain = np.linalg.inv(inverse_relationship(ped, inbreeding=False).toarray())
    np.testing.assert_allclose(diagonal(ped, inbreeding=False), np.diag(plain))


def test_henderson_1975_with_sire_and_maternal_grandsire():
    # rules: d = 1, 3/4, 15/16 and 11/16 with none, the sire, the grandsire and both known
    frame = pd.DataFrame({"id": [1, 2, 3, 4, 5], "sire": [0, 0, 1, 0, 1], "mgs": [0, 0, 0, 2, 2]})
    np.testing.assert_array_equal(mendelian_variances(Pedigree(frame, mgs="mgs")), [1, 1, 0.75, 15 / 16, 11 / 16])


def test_selfing_generations_are_a_chain_of_selfed_plants():
    frame = pd.DataFrame({"id": [1, 2, 3], "sire": [0, 0, 1], "dam": [0, 0, 2], "selfed": [0, 2, 3]})
    chain = table(
        (1, 0, 0),
        ("2a", 0, 0),
        ("2b", "2a", "2a"),
        (2, "2b", "2b"),
        ("x", 1, 2),
        ("y", "x", "x"),
        ("z", "y", "y"),
        (3, "z", "z"),
    )
    ped, whole = Pedigree(frame, selfing="selfed"), Pedigree(chain, monoecious=True)
    at = whole.ids.get_indexer(["1", "2", "3"])
    A = numerator_relationship(whole)[np.ix_(at, at)]
    np.testing.assert_allclose(numerator_relationship(ped), A)
    np.testing.assert_allclose(inverse_relationship(ped) @ A, np.eye(3), atol=1e-13)


def test_doubled_haploids_are_completely_inbred():
    frame = pd.DataFrame({"id": [1, 2, 3], "sire": [0, 0, 1], "dam": [0, 0, 2], "selfed": [np.inf, np.inf, np.inf]})
    ped = Pedigree(frame, selfing="selfed")
    assert ped.inbreeding.tolist() == [1.0, 1.0, 1.0] and mendelian_variances(ped).tolist() == [2.0, 2.0, 1.0]


def test_ignoring_inbreeding_that_is_stated_is_refused():
    with pytest.raises(ArgumentError, match="inbreeding=False contradicts selfing="):
        inverse_relationship(Pedigree(selfed(), selfing="selfed"), inbreeding=False)


def test_clones_are_one_animal():
    frame = pd.DataFrame({
        "id": ["r1", "r2", "r3", "x", "y"],
        "sire": [None, None, None, "r2", "r1"],
        "dam": [None, None, None, "r3", None],
        "clone": ["c1", "c1", None, None, None],
    })  # fmt: skip
    ped = Pedigree(frame, clones="clone")
    assert list(ped.ids) == ["c1", "r3", "x", "y"] and ped.added == 0 and ped.duplicates == 1
    assert ped.clones.to_dict() == {"r1": "c1", "r2": "c1", "r3": "r3", "x": "x", "y": "y"}
    assert numerator_relationship(ped)[2, 3] == 0.25  # half-sibs through the clone


@pytest.mark.parametrize(
    "dates",
    [
        [2001, 2003, 2002],
        ["2001-05-01", "2003-01-01", "2002-12-31"],
        pd.to_datetime(["2001-05-01", "2003-01-01", "2002-12-31"]),
        [20010501, 20030101, 20021231],
    ],
)
def test_animals_older_than_a_parent_are_named(dates):
    frame = table((1, 0, 0), (2, 0, 0), (3, 1, 2)).assign(born=dates)
    with pytest.raises(PedigreeError, match="1 animals are not younger than a parent: 3") as error:
        Pedigree(frame, dates="born")
    assert error.value.not_younger == [3]
    assert Pedigree(frame.assign(sire=0, dam=[0, 0, 1]), dates="born").n == 3


def test_missing_dates_are_not_compared():
    frame = table((1, 0, 0), (2, 1, 0)).assign(born=[2001, np.nan])
    assert Pedigree(frame, dates="born").n == 2


def test_repr_counts_what_there_is():
    assert repr(Pedigree(table((3, 1, 2)))) == "Pedigree: 3 animals, 2 founders, 2 parents added"
    frame, Gamma = metafounders()
    assert "3 metafounders" in repr(Pedigree(frame, metafounders=Gamma, monoecious=True))
