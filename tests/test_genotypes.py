"""Genotypes: reading, frequencies, quality control and coding."""

import sys
import types

import numpy as np
import pandas as pd
import pytest

from mixedgen.errors import ArgumentError, DataError
from mixedgen.genetics.genotypes import Genotypes

NAN = np.nan
COPIES = np.array([[0, 1, 2, NAN], [1, 1, 0, 2], [2, 1, 0, 2]])


def chip(**options):
    return Genotypes(COPIES, ids=["a", "b", "c"], markers=["s1", "s2", "s3", "s4"], **options)


def test_counts_take_one_byte_and_missing_is_minus_nine():
    M = chip()
    assert M.values.dtype == np.int8 and M.values[0, 3] == -9 and (M.n, M.m) == (3, 4)
    np.testing.assert_allclose(M.frequencies, [0.5, 0.5, 1 / 3, 1.0])
    np.testing.assert_allclose(M.call_rate, [1, 1, 1, 2 / 3])
    np.testing.assert_allclose(M.call_rate_of_animals, [0.75, 1, 1])
    with pytest.raises(ValueError, match="read-only"):
        M.values[0, 0] = 1


@pytest.mark.parametrize(
    "values",
    [
        COPIES,
        np.where(np.isnan(COPIES), -9, COPIES).astype(np.int16),
        pd.DataFrame(COPIES, index=["a", "b", "c"], columns=["s1", "s2", "s3", "s4"]),
        pd.DataFrame(COPIES).astype("Int8").astype(object).to_numpy(),
        COPIES.tolist(),
    ],
)
def test_one_chip_in_many_forms(values):
    named = {} if isinstance(values, pd.DataFrame) else {"ids": ["a", "b", "c"], "markers": ["s1", "s2", "s3", "s4"]}
    M = Genotypes(values, **named)
    np.testing.assert_array_equal(M.values, chip().values)
    assert list(M.ids) == ["a", "b", "c"] and list(M.markers) == ["s1", "s2", "s3", "s4"]


def test_the_other_coding_is_the_same_genotypes():
    M = Genotypes(COPIES - 1, ids=["a", "b", "c"], coding="-101")
    np.testing.assert_array_equal(M.values, chip().values)
    assert list(M.markers) == ["1", "2", "3", "4"]


def test_dosages_keep_their_digits():
    M = Genotypes(np.array([[0.1, 2.0], [NAN, 1.25]]), ids=[1, 2], dosages=True)
    assert M.dosages and M.values[0, 0] == 0.1
    np.testing.assert_allclose(M.frequencies, [0.05, 0.8125])


def test_ids_from_a_column_of_any_frame():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"animal": ["x", "y"], "s1": [0, 2], "s2": [1, None]})
    M = Genotypes(frame, ids="animal")
    assert list(M.ids) == ["x", "y"] and list(M.markers) == ["s1", "s2"] and M.values[1, 1] == -9


def test_input_is_neither_changed_nor_shared():
    values = np.array([[0.0, 1.0]])
    M = Genotypes(values, ids=["a"])
    values[0, 0] = 2.0
    assert M.values[0, 0] == 0


def test_select_keeps_the_order_asked_for():
    part = chip().select(ids=["c", "a"], markers=["s3", "s1"])
    np.testing.assert_array_equal(part.values, [[0, 2], [2, 0]])
    with pytest.raises(DataError, match="1 animals are not among the genotypes: 'z'"):
        chip().select(ids=["z"])
    with pytest.raises(DataError, match="1 markers are named twice: 's1'"):
        chip().select(markers=["s1", "s1"])


def test_coding_imputes_the_mean():
    W = chip().coded()
    np.testing.assert_allclose(W[:, 0], [-1, 0, 1])
    assert W[0, 3] == 0.0  # the mean of the marker
    np.testing.assert_allclose(W.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(chip().coded(center=False)[0], [0, 1, 2, 2])
    np.testing.assert_allclose(chip().coded(rows=np.array([2])), W[[2]])


def test_coding_by_given_frequencies_and_scales():
    M = chip().select(markers=["s1", "s3"])
    p = pd.Series({"s3": 0.25, "s1": 0.5})
    np.testing.assert_allclose(M.coded(center=p), [[-1, 1.5], [0, -0.5], [1, -0.5]])
    np.testing.assert_allclose(M.coded(scale="sd").std(axis=0, ddof=1), 1.0)
    f = M.frequencies.to_numpy()
    np.testing.assert_allclose(M.coded(scale="2pq"), M.coded() / np.sqrt(2 * f * (1 - f)))


def test_blocks_are_the_whole(monkeypatch):
    rng = np.random.default_rng(1)
    copies = rng.integers(0, 3, (6, 11)).astype(float)
    copies[rng.random(copies.shape) < 0.2] = NAN
    ids = list("abcdef")
    whole, rate = Genotypes(copies, ids=ids).coded(), Genotypes(copies, ids=ids).call_rate_of_animals
    monkeypatch.setattr("mixedgen.genetics.genotypes.MARKERS_AT_ONCE", 4)
    M = Genotypes(copies, ids=ids)
    assert [block.shape[1] for _, block in M.blocks()] == [4, 4, 3]
    np.testing.assert_array_equal(M.coded(), whole)
    np.testing.assert_array_equal(M.call_rate_of_animals, rate)


def test_quality_control_names_what_and_why():
    copies = np.array([
        [0, 0, 1, 0, NAN],
        [1, 0, 1, 1, NAN],
        [2, 0, 1, 2, 0],
        [1, 0, 1, 1, 1],
        [1, 0, 1, 1, 1],
    ])  # fmt: skip
    M = Genotypes(copies, ids=list("abcde"), markers=["ok", "fixed", "het", "copy", "poor"])
    kept, report = M.quality_control(call_rate=0.9, maf=0.05, hwe=0.05, duplicates="both")
    found = set(zip(report["what"], report["name"], report["reason"], strict=True))
    assert found == {
        ("marker", "poor", "call rate"),
        ("marker", "fixed", "minor allele frequency"),
        ("marker", "fixed", "monomorphic"),
        ("marker", "het", "monomorphic"),
        ("marker", "het", "Hardy-Weinberg"),
        ("marker", "copy", "duplicate"),
        ("animal", "e", "duplicate"),
    }
    assert list(kept.markers) == ["ok"] and list(kept.ids) == list("abcd")
    assert report.attrs["counts"]["marker: monomorphic"] == 2


def test_quality_control_without_limits_drops_what_cannot_be_used():
    kept, report = chip().quality_control()
    assert list(kept.markers) == ["s1", "s3"] and set(report["reason"]) == {"monomorphic"}
    same, nothing = kept.quality_control(monomorphic=False)
    np.testing.assert_array_equal(same.values, kept.values)
    assert len(nothing) == 0 and list(nothing.columns) == ["what", "name", "reason", "value"]


def test_hardy_weinberg_is_the_chi_square_by_hand():
    # 10, 20, 70 of 0, 1, 2: p = 0.8, expected 4, 32, 64; chi2 = 36/4 + 144/32 + 36/64 = 14.0625
    copies = np.repeat([0, 1, 2], [10, 20, 70])[:, None]
    M = Genotypes(np.hstack([copies, np.random.default_rng(0).binomial(2, 0.5, (100, 1))]), ids=range(100))
    _, report = M.quality_control(hwe=0.001)
    assert report["name"].tolist() == ["1"]
    assert report["value"][0] == pytest.approx(0.000176835, rel=1e-5)  # pchisq(14.0625, 1, lower = FALSE)


def test_quality_control_says_when_nothing_is_left():
    with pytest.raises(DataError, match="leaves nothing"):
        Genotypes(np.ones((2, 3)), ids=["a", "b"]).quality_control()
    with pytest.raises(ArgumentError, match="maf=5 is not between 0 and 1"):
        chip().quality_control(maf=5)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_read(tmp_path, suffix):
    path = tmp_path / f"chip.{suffix}"
    frame = pd.DataFrame(COPIES, columns=["s1", "s2", "s3", "s4"])
    frame.insert(0, "animal", ["a", "b", "c"])
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    for M in (Genotypes.read(path), Genotypes.read(path, id="animal")):
        np.testing.assert_array_equal(M.values, chip().values)
        assert list(M.ids) == ["a", "b", "c"]


class _Bed:
    """What bed-reader gives, without the package."""

    iid, sid = np.array(["a", "b", "c"]), np.array(["s1", "s2", "s3", "s4"])

    def __init__(self, path):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read(self, dtype, order):
        return np.where(np.isnan(COPIES), -127, COPIES).astype(dtype, order=order)


def test_plink_files_go_through_bed_reader(tmp_path, monkeypatch):
    path = tmp_path / "chip.bed"
    path.write_bytes(b"l\x1b\x01")
    monkeypatch.setitem(sys.modules, "bed_reader", types.SimpleNamespace(open_bed=_Bed))
    np.testing.assert_array_equal(Genotypes.read(path).values, chip().values)


def test_plink_files_without_bed_reader_name_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "chip.bed"
    path.write_bytes(b"l\x1b\x01")
    monkeypatch.setitem(sys.modules, "bed_reader", None)
    with pytest.raises(DataError, match=r'pip install "mixedgen\[geno\]"'):
        Genotypes.read(path)


def test_repr_is_one_line():
    assert repr(chip()) == "Genotypes: 3 animals, 4 markers, genotypes, call rate 0.9167"
