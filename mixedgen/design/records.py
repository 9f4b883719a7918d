"""Where the values of the response lie in the data: one in each row that is used, or one for each trait."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from mixedgen.arrays import Array, IntArray
from mixedgen.design.traits import Traits
from mixedgen.errors import DesignError

TRAIT = "trait"  # column that tells the traits of `cbind` apart in frames of a row for each value


@dataclass(frozen=True)
class Records(ABC):
    """The values of the response, in order, and their places in the data.

    Attributes
    ----------
    index : Index
        Of the data, all rows.
    kept : ndarray of int
        Rows that are used.
    padded : bool
        Whether values on the data are NaN in the rows left out, or those are absent.
    several : bool
        Whether there are several traits.
    keys : tuple of str
        Columns of `long` that the data do not have.
    """

    index: pd.Index
    kept: IntArray
    padded: bool
    several: ClassVar[bool]
    keys: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def rows(self) -> IntArray:
        """Row of the data of each value, shape (n,)."""

    @property
    @abstractmethod
    def labels(self) -> pd.Index:
        """Label of each value: that of its row, or (row, trait)."""

    @abstractmethod
    def on_data(self, values: Array, name: str) -> pd.Series | pd.DataFrame:
        """Values on the index of the data; several traits give a frame with a column each."""

    @abstractmethod
    def long(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Row of each value, from a frame of the rows used; of several traits with the column `trait` besides."""

    @abstractmethod
    def blocks(self, frame: pd.DataFrame) -> IntArray:
        """Block of columns of X that each row of a long frame belongs to."""


@dataclass(frozen=True)
class OneResponse(Records):
    """A value in each row that is used."""

    several: ClassVar[bool] = False
    keys: ClassVar[tuple[str, ...]] = ()

    @property
    def rows(self) -> IntArray:
        """Row of the data of each value, shape (n,)."""
        return self.kept

    @property
    def labels(self) -> pd.Index:
        """Label of the row of each value."""
        return self.index[self.kept]

    def on_data(self, values: Array, name: str) -> pd.Series:
        """Values on the index of the data."""
        if not self.padded:
            return pd.Series(values, index=self.labels, name=name)
        full = np.full(len(self.index), np.nan)
        full[self.kept] = values
        return pd.Series(full, index=self.index, name=name)

    def long(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame."""
        return frame

    def blocks(self, frame: pd.DataFrame) -> IntArray:
        """The only block."""
        return np.zeros(len(frame), dtype=np.intp)


@dataclass(frozen=True)
class SeveralResponses(Records):
    """The values of each trait after each other, some of them missing."""

    traits: Traits
    several: ClassVar[bool] = True
    keys: ClassVar[tuple[str, ...]] = (TRAIT,)

    @property
    def rows(self) -> IntArray:
        """Row of the data of each value, shape (n,)."""
        return self.kept[self.traits.row]

    @property
    def labels(self) -> pd.Index:
        """Row and trait of each value."""
        traits = pd.Index(self.traits.names)[self.traits.trait]
        return pd.MultiIndex.from_arrays([self.index[self.rows], traits], names=[self.index.name, "trait"])

    def on_data(self, values: Array, name: str) -> pd.DataFrame:
        """Values on the index of the data, a column for each trait."""
        every = self.traits.wide(values, self.kept, len(self.index))
        frame = pd.DataFrame(every, index=self.index, columns=list(self.traits.names))
        return frame if self.padded else frame.iloc[self.kept]

    def long(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Row and trait of each value.

        Raises
        ------
        DesignError
            If the frame has a column `trait` of its own.
        """
        if TRAIT in frame.columns:
            raise DesignError(f"{TRAIT!r} names the traits of cbind(...) here, and a column of the formula: rename it.")
        trait = pd.Categorical(np.array(self.traits.names)[self.traits.trait], categories=list(self.traits.names))
        return frame.iloc[self.traits.row].reset_index(drop=True).assign(**{TRAIT: trait})

    def blocks(self, frame: pd.DataFrame) -> IntArray:
        """The block of its trait."""
        return pd.Index(self.traits.names).get_indexer(pd.Index(frame[TRAIT].astype(object)))
