"""Fixtures that several test files share."""

import os
import subprocess
import sys
from pathlib import Path

# each worker has a core to itself, and BLAS reads these when numpy is loaded
os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import pandas as pd
import pytest

import mixedgen as mg

DATA_VARIABLE = "MIXEDGEN_DATA"
os.environ["MPLBACKEND"] = "agg"  # figures without a screen


def pytest_configure(config: pytest.Config) -> None:
    """Compile the kernels once where the installation is fresh; workers would each compile them all."""
    starts_workers = bool(getattr(config.option, "tx", None)) and not hasattr(config, "workerinput")
    cache = Path(mg.__file__).parent / "sparse" / "__pycache__"
    if starts_workers and not any(cache.glob("*.nbi")):
        subprocess.run([sys.executable, "-m", "mixedgen.cli", "warmup"], check=True, stdout=subprocess.DEVNULL)


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
