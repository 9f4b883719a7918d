"""The grammar: a formula's text into its parts."""

from mixedgen.formula.parse import parse
from mixedgen.formula.parts import ParsedFormula, RandomTerm, ResidualTerm
from mixedgen.formula.revise import revise

__all__ = ["ParsedFormula", "RandomTerm", "ResidualTerm", "parse", "revise"]
