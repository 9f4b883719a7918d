"""Decisions of lmerTest and pbkrtest data set by data set, size of the tests and coverage of the profile interval."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2
from simulation_study import TRUTH, covers, fits, layout, p_values, responses

REFERENCE = json.loads((Path(__file__).parent / "reference" / "simulation.json").read_text())
SETS = 500
GRID = 1e-2  # of a likelihood ratio: the next of 400 points is so near
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


def ratios_at_the_truth(studied) -> np.ndarray:
    """Restricted likelihood ratio of each data set at the true intraclass correlation, by dense algebra on a grid.

    V = T V1(k), where k divides what is not of the rows between columns and residual: V1 is the same for all data sets.
    """
    data, truth = layout(), TRUTH["row"] / sum(TRUTH.values())
    Y, n = responses(SETS), len(data)
    X = np.column_stack([np.ones(n), data["t"] == "v", data["t"] == "w", data["x"]]).astype(float)
    row, col = (np.equal.outer(data[g].to_numpy(), data[g].to_numpy()) for g in ("row", "col"))
    least = np.full(SETS, np.inf)
    for k in np.linspace(0.0, 0.995, 400):
        Vi = np.linalg.inv(truth * row + (1.0 - truth) * (k * col + (1.0 - k) * np.eye(n)))
        inner = X.T @ Vi @ X
        P = Vi - Vi @ X @ np.linalg.solve(inner, X.T @ Vi)
        quadratic = np.einsum("is,ij,js->s", Y, P, Y, optimize=True)
        logdets = np.linalg.slogdet(inner)[1] - np.linalg.slogdet(Vi)[1]
        least = np.minimum(least, logdets + (n - 4) * (1.0 + np.log(2.0 * np.pi * quadratic / (n - 4))))
    return least - np.array([fit.reml_criterion for fit in studied])


def test_coverage_of_the_profile_interval_of_the_intraclass_correlation(studied):
    """An interval holds the truth where the ratio is small: asked of the intervals that end nearest to it."""
    ratio, limit = ratios_at_the_truth(studied), chi2.ppf(0.95, 1)
    assert ratio.min() > -1e-6
    error = np.sqrt(0.95 * 0.05 / SETS)
    assert abs(np.mean(ratio < limit) - 0.95) < 2.0 * error
    far = np.flatnonzero(np.abs(ratio - limit) > GRID)
    nearest = far[np.argsort(np.abs(ratio[far] - limit))[:60]]
    assert [covers(studied[k]) for k in nearest] == [bool(ratio[k] < limit) for k in nearest]
