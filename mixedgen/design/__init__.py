"""From a parsed formula, a frame and relationships to the matrices of a model."""

from mixedgen.design.arguments import ModelArguments
from mixedgen.design.build import build
from mixedgen.design.design import Design
from mixedgen.design.fixed import FixedPart
from mixedgen.design.terms import Term

__all__ = ["Design", "FixedPart", "ModelArguments", "Term", "build"]
