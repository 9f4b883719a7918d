"""Reconciliation of ids between records, pedigree and genotypes."""

import numpy as np
import pandas as pd
import pytest

from mixedgen.genetics.ids import near_misses, positions_of, reconcile, reconcile_three


def test_counts():
    report = reconcile([1, 1, 2, 9, None], [1, 2, 3, 4], name="A")
    assert (report.records, report.missing, report.distinct, report.levels) == (4, 1, 3, 4)
    assert (report.shared, report.records_shared, report.without_records) == (2, 3, 2)
    assert list(report.only_data) == [9] and report.near_misses == () and not report.complete


def test_everything_meets():
    report = reconcile(["a", "a", "b"], ["b", "a", "c"])
    assert report.complete and report.without_records == 1
    assert (
        str(report) == "data: 3 records of 2 ids\nrelationship: 3 levels, 1 without records\nin both: 2 ids, 3 records"
    )


def test_duplicated_levels_are_named():
    report = reconcile(["a"], ["a", "b", "b"], name="G")
    assert list(report.duplicates) == ["b"] and "twice in G: 1 ids: 'b'" in str(report)


@pytest.mark.parametrize(
    ("mine", "theirs", "kind"),
    [
        (7, "7", "int and text"),
        ("7", 7, "int and text"),
        (7.0, "7", "int and text"),
        ("a ", "a", "blanks"),
        ("a", " a\t", "blanks"),
        ("007", "7", "zero padding"),
        (7, "007", "zero padding"),
        ("b12", "B12", "letter case"),
        ("fam_7", "7", "FID_IID"),
        ("7", "fam_7", "FID_IID"),
        ("7", "7_7", "FID_IID"),
        ("a_b_c", "b_c", "FID_IID"),
    ],
)
def test_near_misses_have_their_kind(mine, theirs, kind):
    (near,) = near_misses([mine], [theirs])
    assert (near.kind, near.count, near.pairs[0][0]) == (kind, 1, mine)


def test_one_id_is_explained_once_and_strangers_not_at_all():
    found = near_misses(["1 ", "01", "x_1", "z"], ["1"])
    assert [near.kind for near in found] == ["blanks", "zero padding", "FID_IID"]
    assert near_misses(["z"], ["1"]) == () and near_misses([], ["1"]) == ()


def test_many_near_misses_show_five():
    (near,) = near_misses(range(100), [str(k) for k in range(100)])
    assert near.count == 100 and len(near.pairs) == 5 and str(near).endswith("...")


def test_three_sources():
    report = reconcile_three([1, 2, 2, 9], pedigree=[1, 2, 3], genotypes=["02", 3])
    assert report.counts.loc[(True, True, False)] == 2
    assert report.counts.loc[(False, True, True)] == 1
    assert report.genotypes.near_misses[0].kind == "zero padding"
    assert report.genotypes_in_pedigree.source == "genotypes"
    text = str(report)
    for words in (
        "Data and pedigree",
        "Genotypes and pedigree",
        "only in genotypes: 1 ids: '02'",
        "1 in pedigree and genotypes",
    ):
        assert words in text


@pytest.mark.parametrize("sources", [{"pedigree": [1, 2]}, {"genotypes": [1, 2]}, {}])
def test_sources_may_be_absent(sources):
    report = reconcile_three([1, 3], **sources)
    assert "Ids" in str(report) and (report.genotypes is None) == ("genotypes" not in sources)


def test_a_large_comparison_is_linear():
    ids = pd.Index(np.arange(200_000))
    assert reconcile(np.repeat(ids, 2), ids[::-1]).complete


@pytest.mark.parametrize("mine", [[7, 8], [7.0, 8.0], ["7", "8"]])
@pytest.mark.parametrize("theirs", [[8, 7], ["8", "7"], [8.0, 7.0], np.array([8, 7], dtype=object)])
def test_numbers_and_text_are_one_id(mine, theirs):
    assert reconcile(mine, theirs).complete
    assert not reconcile(["07"], theirs).complete
    report = reconcile_three(mine, pedigree=theirs, genotypes=["7"])
    assert report.counts.loc[(True, True, True)] == 1 and report.counts.loc[(True, True, False)] == 1


def test_an_id_that_two_labels_share_as_text_is_neither():
    assert list(positions_of([7.0], pd.Index(["7", 7], dtype=object))) == [1]
    assert list(positions_of(["8", 9.0, "9.0"], pd.Index([8, "8.0", "x", 9, "9"], dtype=object))) == [0, 3, -1]
