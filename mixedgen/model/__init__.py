"""The façade: `lmm`, `MixedModel` and `Fit`, whose methods are one line each."""

from mixedgen.model.fit import Fit
from mixedgen.model.model import MixedModel, lmm

__all__ = ["Fit", "MixedModel", "lmm"]
