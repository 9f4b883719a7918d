"""Linear mixed models with lme4's formulas and the breeder's relationship matrices."""

from __future__ import annotations

from typing import Any

from mixedgen import data
from mixedgen.covariance.custom import CorrelationFunction
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
    missing_name,
)
from mixedgen.estimation.control import Control
from mixedgen.genetics.files import read_table
from mixedgen.genetics.genotypes import Genotypes
from mixedgen.genetics.pedigree import Pedigree
from mixedgen.inference.anova import anova
from mixedgen.inference.means import contrasts, emmeans
from mixedgen.inference.stages import first_stage
from mixedgen.model import Fit, MixedModel, lmm
from mixedgen.output import plots
from mixedgen.output.report import table
from mixedgen.output.statsmodels import cross_check
from mixedgen.relationship.combine import bend, blend, correlation, epistatic, genomic_inbreeding
from mixedgen.relationship.dominance import dominance
from mixedgen.relationship.from_pedigree import additive
from mixedgen.relationship.genomic import genomic, genomic_dominance, markers
from mixedgen.relationship.relationship import Relationship
from mixedgen.relationship.single_step import single_step

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
    "read_table",
    "single_step",
    "table",
]


def __getattr__(name: str) -> Any:
    """Say what a word of another package is called here."""
    raise missing_name("mixedgen", name, __all__)
