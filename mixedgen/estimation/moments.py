"""Estimates of variances that equate quadratic forms of the data to their expectations: ANOVA and MINQUE.

E(y'A_i y) = sum_k theta_k tr(A_i V_k) for A_i X = 0, with V_k = Z_k K_k Z_k' and W^-1 for the residual: as many linear
equations as there are variances, whose solution may be negative.
"""

from __future__ import annotations

from collections.abc import Callable

from mixedgen.design.design import Design
from mixedgen.estimation.anova import anova
from mixedgen.estimation.minque import minque, mivque0
from mixedgen.estimation.scalar import MomentEstimates

MOMENTS: dict[str, Callable[[Design], MomentEstimates]] = {"minque": minque, "mivque0": mivque0, "anova3": anova}
