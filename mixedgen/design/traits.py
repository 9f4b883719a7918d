"""Several traits: the records of `cbind` below each other, each with the effects of its own trait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mixedgen.arrays import Array, IntArray
from mixedgen.covariance.registry import DEFAULT, STRUCTURES, Levels, make_structure
from mixedgen.design.coding import Operand, Origin, operand_values
from mixedgen.design.loads import load_ranges
from mixedgen.design.terms import INTERCEPT_NAMES, Term
from mixedgen.errors import DataError, FormulaError
from mixedgen.formula.parts import ResidualTerm
from mixedgen.residual.diagonal import ClassResidual
from mixedgen.residual.residual import Residual, some
from mixedgen.residual.units import UnitResidual


@dataclass(frozen=True)
class Traits:
    """Which row and which trait each value belongs to, trait after trait.

    Attributes
    ----------
    names : tuple of str
        The traits, as written in `cbind`.
    row, trait : ndarray of int, shape (n,)
        Row among those used, and trait, of each value.
    y : ndarray, shape (n,)
        The values.
    """

    names: tuple[str, ...]
    row: IntArray
    trait: IntArray
    y: Array

    def fixed(self, X: Array | sp.csr_array, names: Sequence[str]) -> tuple[Array | sp.csr_array, tuple[str, ...]]:
        """X with a block of columns for each trait, named ``trait:column``."""
        p, T, n = X.shape[1], len(self.names), len(self.row)
        labels = tuple(f"{t}:{name}" for t in self.names for name in names)
        if sp.issparse(X):
            own = sp.coo_array(sp.csr_array(X)[self.row])
            shifted = own.col + p * self.trait[own.row]
            return sp.csr_array(sp.coo_array((own.data, (own.row, shifted)), shape=(n, T * p))), labels
        out = np.zeros((n, T * p))
        out[np.arange(n)[:, None], self.trait[:, None] * p + np.arange(p)] = np.asarray(X)[self.row]
        return out, labels

    def term(self, term: Term) -> Term:
        """A term with its effects for each trait; the structure spans them all."""
        record, load = None, self.row
        trait = self.trait
        if term.record is not None:
            count, start = load_ranges(term.record, int(term.record[-1]) + 1)
            times = count[self.row]
            record = np.repeat(np.arange(len(self.row)), times)
            load = start[self.row[record]] + np.arange(len(record)) - np.repeat(np.cumsum(times) - times, times)
            trait = self.trait[record]
        c = term.c
        values = np.zeros((len(load), len(self.names) * c))
        values[np.arange(len(load))[:, None], trait[:, None] * c + np.arange(c)] = term.values[load]
        effects = tuple(self._effect(t, e, c) for t in self.names for e in term.effects)
        structure = make_structure(
            term.written.structure, Levels(effects), dict(term.written.options), term.written.entry
        )
        level = term.level[load]
        return replace(
            term,
            effects=effects,
            structure=structure,
            record=record,
            level=level,
            values=values,
            n_records=len(self.row),
            origins=tuple(self.own(o) for _ in self.names for o in term.origins),
        )

    @staticmethod
    def own(origin: Origin) -> Origin:
        """Origin of a column that each trait has for itself."""
        return replace(origin, variables=origin.variables | {"trait"})

    @staticmethod
    def _effect(trait: str, effect: str, c: int) -> str:
        return trait if c == 1 and effect in INTERCEPT_NAMES else f"{trait}:{effect}"

    def residual(self, parts: Sequence[ResidualTerm], inverse_weights: Array | None) -> Residual:
        """One covariance matrix of the traits of a row, any one when nothing is written; of each row 1 / w.

        Raises
        ------
        FormulaError
            If the residual structure is over anything but ``trait``.
        """
        tag, options, own = DEFAULT, {}, None
        if parts:
            tag, options, own = parts[0].structure, dict(parts[0].options), parts[0].entry
        if parts and (len(parts) > 1 or parts[0].positions != "trait" or (tag not in STRUCTURES and own is None)):
            written = ":".join(f"{p.structure}({p.positions})" for p in parts)
            raise FormulaError(
                f"the residual of cbind(...) is a structure over its traits, such as us(trait) or diag(trait), not "
                f"{written}. The long form, with a column of traits, takes any."
            )
        structure = make_structure(tag, Levels(self.names), options, own)
        own_weights = some(inverse_weights, self.row)
        if structure.independent:
            return ClassResidual(structure, self.names, self.trait, own_weights)
        return UnitResidual(structure, self.names, self.trait, own_weights, self.row)

    def select(self, values: IntArray) -> Traits:
        """Some of the values."""
        return replace(self, row=self.row[values], trait=self.trait[values], y=self.y[values])

    def wide(self, values: Array, rows: IntArray, size: int) -> Array:
        """Values as rows by traits, NaN where a trait is missing; `rows` are the positions of the rows used."""
        out = np.full((size, len(self.names)), np.nan)
        out[rows[self.row], self.trait] = values
        return out


def stack(responses: Sequence[Operand], frame: pd.DataFrame) -> Traits:
    """Values of several responses, each where it is not missing.

    Raises
    ------
    DataError
        If a trait has no value at all.
    """
    rows, values = [], []
    for response in responses:
        there = np.flatnonzero(frame[list(response.variables)].notna().all(axis=1).to_numpy())
        if not len(there):
            raise DataError(f"trait {response.text!r} has no value at all.", columns=[response.text])
        rows.append(there)
        values.append(operand_values(response, frame.iloc[there], response.text))
    trait = np.repeat(np.arange(len(responses)), [len(r) for r in rows])
    return Traits(tuple(r.text for r in responses), np.concatenate(rows), trait, np.concatenate(values))
