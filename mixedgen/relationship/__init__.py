"""Relationships: how the levels of a random effect are related, Var(u) = Sigma (x) K.

A relationship names the levels and holds K in one form: a pedigree, a matrix, families, an inverse or a factor.
"""

from mixedgen.relationship.combine import bend, blend, correlation, epistatic, genomic_inbreeding, product_of_pairs
from mixedgen.relationship.dominance import dominance
from mixedgen.relationship.form import Form
from mixedgen.relationship.from_pedigree import additive, identity
from mixedgen.relationship.genomic import genomic, genomic_dominance, markers
from mixedgen.relationship.relationship import Relationship
from mixedgen.relationship.single_step import single_step

__all__ = [
    "Form",
    "Relationship",
    "additive",
    "bend",
    "blend",
    "correlation",
    "dominance",
    "epistatic",
    "genomic",
    "genomic_dominance",
    "genomic_inbreeding",
    "identity",
    "markers",
    "product_of_pairs",
    "single_step",
]
