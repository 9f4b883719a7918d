"""Decisions of lmerTest and pbkrtest data set by data set, size of the tests and coverage of the profile interval."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulation_study import covers, fits, p_values

REFERENCE = json.loads((Path(__file__).parent / "reference" / "simulation.json").read_text())
SETS = 500
LME4_STOPS = 5e-5  # of a p-value: its optimiser ends about 1e-6 from the optimum


@pytest.fixture(scope="module")
def studied():
    return fits(SETS)


@pytest.fixture(scope="module")
def p(studied) -> pd.DataFrame:
    return pd.DataFrame([p_values(fit) for fit in studied])


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_decisions_equal_those_of_r_in_every_data_set(p, ddf):
    theirs = np.array(REFERENCE[ddf.replace("-", "_")]["p"][:SETS])
    np.testing.assert_allclose(p[ddf], theirs, rtol=LME4_STOPS)
    assert ((p[ddf] < 0.05) == (theirs < 0.05)).all()


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_size_at_five_percent(p, ddf):
    assert 0.04 <= (p[ddf] < 0.05).mean() <= 0.06


def test_coverage_of_the_profile_interval_of_the_intraclass_correlation(studied):
    error = np.sqrt(0.95 * 0.05 / SETS)
    assert abs(np.mean([covers(fit) for fit in studied]) - 0.95) < 2.0 * error
