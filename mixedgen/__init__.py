"""Linear mixed models with lme4's formulas and the breeder's relationship matrices."""

from __future__ import annotations

from mixedgen import data
from mixedgen.errors import (
    ArgumentError,
    ConvergenceWarning,
    DataError,
    DesignError,
    EngineError,
    FormulaError,
    MixedgenError,
    NotAvailableError,
    PedigreeError,
    RelationshipError,
)
from mixedgen.interop import cross_check
from mixedgen.model import Fit, MixedModel, lmm
from mixedgen.optimise import Control
from mixedgen.pedigree import Pedigree
from mixedgen.relationship import Relationship, additive

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "Control",
    "ConvergenceWarning",
    "DataError",
    "DesignError",
    "EngineError",
    "Fit",
    "FormulaError",
    "MixedModel",
    "MixedgenError",
    "NotAvailableError",
    "Pedigree",
    "PedigreeError",
    "Relationship",
    "RelationshipError",
    "additive",
    "cross_check",
    "data",
    "lmm",
]
