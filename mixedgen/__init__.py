"""Linear mixed models with lme4's formulas and the breeder's relationship matrices."""

from __future__ import annotations

from mixedgen import data, plots
from mixedgen.custom import CorrelationFunction
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
from mixedgen.genomic import (
    bend,
    blend,
    correlation,
    dominance,
    epistatic,
    genomic,
    genomic_dominance,
    genomic_inbreeding,
    markers,
    single_step,
)
from mixedgen.genotypes import Genotypes
from mixedgen.interop import cross_check
from mixedgen.means import contrasts
from mixedgen.model import Fit, MixedModel, anova, emmeans, first_stage, lmm
from mixedgen.optimise import Control
from mixedgen.pedigree import Pedigree
from mixedgen.relationship import Relationship, additive
from mixedgen.report import table

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "CorrelationFunction",
    "Control",
    "ConvergenceWarning",
    "DataError",
    "DesignError",
    "EngineError",
    "Fit",
    "FormulaError",
    "Genotypes",
    "MixedModel",
    "MixedgenError",
    "NotAvailableError",
    "Pedigree",
    "PedigreeError",
    "Relationship",
    "RelationshipError",
    "additive",
    "anova",
    "bend",
    "blend",
    "contrasts",
    "correlation",
    "cross_check",
    "data",
    "dominance",
    "emmeans",
    "epistatic",
    "first_stage",
    "genomic",
    "genomic_dominance",
    "genomic_inbreeding",
    "lmm",
    "markers",
    "plots",
    "single_step",
    "table",
]
