"""Estimation of the variances: likelihood, ascent, moments, certificate."""

from mixedgen.estimation.ascent import maximise
from mixedgen.estimation.certificate import certify
from mixedgen.estimation.control import Control
from mixedgen.estimation.estimate import fit, solve_at
from mixedgen.estimation.fitted import Fitted
from mixedgen.estimation.likelihood import average_information, deviance, score

__all__ = [
    "Control",
    "Fitted",
    "average_information",
    "certify",
    "deviance",
    "fit",
    "maximise",
    "score",
    "solve_at",
]
