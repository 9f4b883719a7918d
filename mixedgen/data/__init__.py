"""Classic data sets, shipped with the package; every call returns a fresh pandas frame.

Column names, types and the order of levels are those of lme4 where lme4 has the data set.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

import pandas as pd

from mixedgen.errors import DataError, public

__all__ = [
    "cake",
    "dyestuff",
    "dyestuff2",
    "load",
    "mrode_calves",
    "mrode_pedigree",
    "names",
    "pastes",
    "penicillin",
    "sleepstudy",
]


@public
def sleepstudy() -> pd.DataFrame:
    """Reaction times of 18 drivers over ten days of sleep restriction.

    Returns
    -------
    DataFrame, shape (180, 3)
        Reaction (average, ms), Days (0 to 9), Subject (categorical, 18 levels).

    References
    ----------
    Belenky, Wesensten, Thorne, Thomas, Sing, Redmond, Russo & Balkin (2003) J Sleep Res 12:1-12.

    Examples
    --------
    >>> sleepstudy()["Subject"].nunique()
    18
    """
    return _read("sleepstudy", "Subject")


@public
def dyestuff() -> pd.DataFrame:
    """Yield of dyestuff from six batches of an intermediate product, five preparations each.

    Returns
    -------
    DataFrame, shape (30, 2)
        Batch (categorical, A to F), Yield (grams of standard colour).

    References
    ----------
    Davies & Goldsmith (1972) Statistical Methods in Research and Production, 4th ed., Oliver & Boyd, section 6.4.

    Examples
    --------
    >>> int(dyestuff()["Yield"].sum())
    45825
    """
    return _read("dyestuff", "Batch")


@public
def dyestuff2() -> pd.DataFrame:
    """Six batches of constructed yields, whose variance between batches is estimated as zero.

    Returns
    -------
    DataFrame, shape (30, 2)
        Batch (categorical, A to F), Yield (no unit).

    References
    ----------
    Box & Tiao (1973) Bayesian Inference in Statistical Analysis, Addison-Wesley, section 5.1.2.

    Examples
    --------
    >>> len(dyestuff2())
    30
    """
    return _read("dyestuff2", "Batch")


@public
def penicillin() -> pd.DataFrame:
    """Inhibition zones of six penicillin samples on 24 plates: two crossed factors.

    Returns
    -------
    DataFrame, shape (144, 3)
        diameter (mm), plate (categorical, a to x), sample (categorical, A to F).

    References
    ----------
    Davies & Goldsmith (1972) Statistical Methods in Research and Production, 4th ed., Oliver & Boyd, section 6.6.

    Examples
    --------
    >>> penicillin()["plate"].nunique()
    24
    """
    return _read("penicillin", "plate", "sample")


@public
def pastes() -> pd.DataFrame:
    """Strength of a chemical paste: casks within deliveries, two assays each.

    Returns
    -------
    DataFrame, shape (60, 4)
        strength, batch (categorical, A to J), cask (a to c within batch), sample (batch:cask, 30 levels).

    References
    ----------
    Davies & Goldsmith (1972) Statistical Methods in Research and Production, 4th ed., Oliver & Boyd, section 6.5.

    Examples
    --------
    >>> pastes()["sample"].nunique()
    30
    """
    return _read("pastes", "batch", "cask", "sample")


@public
def cake() -> pd.DataFrame:
    """Breakage angle of chocolate cakes: three recipes, fifteen replicates, six temperatures (split plot).

    Returns
    -------
    DataFrame, shape (270, 5)
        replicate (categorical, 1 to 15), recipe (A, B, C), temperature (ordered, 175 to 225 degrees F),
        angle (degrees), temp (the temperature as a number).

    References
    ----------
    Cook (1938) Chocolate cake, I. Optimum baking temperature. Master's thesis, Iowa State College;
    Cochran & Cox (1957) Experimental Designs, 2nd ed., Wiley, page 300.

    Examples
    --------
    >>> list(cake()["temperature"].cat.categories)
    ['175', '185', '195', '205', '215', '225']
    """
    frame = _read("cake", "replicate", "recipe", "temperature")
    frame["temperature"] = frame["temperature"].cat.as_ordered()
    return frame


@public
def mrode_calves() -> pd.DataFrame:
    """Pre-weaning gain of five beef calves, the small animal model of Mrode's example 4.1.

    Returns
    -------
    DataFrame, shape (5, 5)
        calf, sex (categorical, M and F), sire, dam (0 = unknown), wwg (pre-weaning gain, kg).

    References
    ----------
    Mrode & Pocrnic (2023) Linear Models for the Prediction of the Genetic Merit of Animals, 4th ed., CABI, example 4.1.

    Examples
    --------
    >>> mrode_calves()["wwg"].tolist()
    [4.5, 2.9, 3.9, 3.5, 5.0]
    """
    return _read("mrode_calves", "sex")


@public
def mrode_pedigree() -> pd.DataFrame:
    """Pedigree of the calves of Mrode's example 4.1.

    Returns
    -------
    DataFrame, shape (8, 3)
        id, sire, dam (0 = unknown).

    References
    ----------
    Mrode & Pocrnic (2023) Linear Models for the Prediction of the Genetic Merit of Animals, 4th ed., CABI, example 4.1.

    Examples
    --------
    >>> mrode_pedigree().shape
    (8, 3)
    """
    return _read("mrode_pedigree")


@public
def names() -> list[str]:
    """Names that `load` knows, in alphabetical order.

    Returns
    -------
    list of str
        Names of the data sets.

    Examples
    --------
    >>> "sleepstudy" in names()
    True
    """
    return sorted(_TABLES)


@public
def load(name: str) -> pd.DataFrame:
    """Load the data set of that name; upper and lower case are the same.

    Parameters
    ----------
    name : str
        One of `names()`.

    Returns
    -------
    DataFrame
        A fresh copy.

    Raises
    ------
    DataError
        If there is no data set of that name.

    Examples
    --------
    >>> load("Dyestuff").shape
    (30, 2)
    """
    table = _TABLES.get(name.lower())
    if table is None:
        raise DataError(f"no data set is called {name!r}. There are: {', '.join(names())}.", name=name)
    return table()


def _read(name: str, *factors: str) -> pd.DataFrame:
    """Table of the package with text levels, in order of appearance, in the columns `factors`."""
    source = resources.files(__name__).joinpath(f"{name}.csv")
    with source.open(encoding="utf-8") as lines:
        frame = pd.read_csv(lines, dtype=dict.fromkeys(factors, "str"))
    for column in factors:
        frame[column] = pd.Categorical(frame[column], categories=frame[column].unique())
    return frame


_TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    table.__name__: table
    for table in (sleepstudy, dyestuff, dyestuff2, penicillin, pastes, cake, mrode_calves, mrode_pedigree)
}
