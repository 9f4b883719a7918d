"""Fixtures that several test files share."""

import os
from pathlib import Path

import pandas as pd
import pytest

import mixedgen as mg

DATA_VARIABLE = "MIXEDGEN_DATA"
os.environ["MPLBACKEND"] = "agg"  # figures without a screen


@pytest.fixture
def sleepstudy() -> pd.DataFrame:
    return mg.data.sleepstudy()


@pytest.fixture
def calves() -> pd.DataFrame:
    return mg.data.mrode_calves()


@pytest.fixture
def pedigree() -> mg.Pedigree:
    return mg.Pedigree(mg.data.mrode_pedigree())


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of the real data sets with their published answers; the tests that need it are skipped without it."""
    named = os.environ.get(DATA_VARIABLE)
    if named is None:
        pytest.skip(f"{DATA_VARIABLE} does not name the folder of real data sets")
    folder = Path(named)
    if not (folder / "expected_open.json").is_file():
        pytest.fail(f"{DATA_VARIABLE} names {named!r}, which holds no expected_open.json")
    return folder
