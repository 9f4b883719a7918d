"""Shipped data: shapes, totals and level orders of the publications."""

import pandas as pd
import pytest

from mixedgen import data
from mixedgen.errors import DataError

FACTS = [
    ("sleepstudy", (180, 3), "Reaction", 53731.4205, {"Subject": ("308", "372", 18)}),
    ("dyestuff", (30, 2), "Yield", 45825, {"Batch": ("A", "F", 6)}),
    ("dyestuff2", (30, 2), "Yield", 169.968, {"Batch": ("A", "F", 6)}),
    ("penicillin", (144, 3), "diameter", 3308, {"plate": ("a", "x", 24), "sample": ("A", "F", 6)}),
    ("pastes", (60, 4), "strength", 3603.2, {"batch": ("A", "J", 10), "sample": ("A:a", "J:c", 30)}),
    ("cake", (270, 5), "angle", 8673, {"replicate": ("1", "15", 15), "temperature": ("175", "225", 6)}),
    ("mrode_calves", (5, 5), "wwg", 19.8, {"sex": ("M", "F", 2)}),
    ("mrode_pedigree", (8, 3), "sire", 12, {}),
]


@pytest.mark.parametrize(("name", "shape", "column", "total", "factors"), FACTS)
def test_table_is_the_published_one(name, shape, column, total, factors):
    frame = data.load(name)
    assert frame.shape == shape
    assert frame[column].sum() == pytest.approx(total, rel=1e-12)
    for factor, (first, last, count) in factors.items():
        levels = list(frame[factor].cat.categories)
        assert (levels[0], levels[-1], len(levels)) == (first, last, count)


def test_every_table_has_its_facts():
    assert data.names() == sorted(fact[0] for fact in FACTS)


def test_levels_follow_lme4():
    assert list(data.cake()["replicate"].cat.categories) == [str(k) for k in range(1, 16)]
    assert data.cake()["temperature"].cat.ordered
    subjects = list(data.sleepstudy()["Subject"].cat.categories)
    assert subjects == sorted(subjects)


def test_calls_return_fresh_frames():
    first = data.sleepstudy()
    first["Reaction"] = 0.0
    assert data.sleepstudy()["Reaction"].sum() > 0


def test_names_ignore_case_and_unknown_names_raise():
    pd.testing.assert_frame_equal(data.load("SleepStudy"), data.sleepstudy())
    with pytest.raises(DataError, match="pastes, penicillin"):
        data.load("insteval")
