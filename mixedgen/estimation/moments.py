"""What the estimators by moments share: quadratic forms of the data equated to their expectations.

E(y'A_i y) = sum_k theta_k tr(A_i V_k) for A_i X = 0, with V_k = Z_k K_k Z_k' and W^-1 for the residual: as many linear
equations as there are variances, whose solution may be negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.design.terms import Term
from mixedgen.errors import NotAvailableError, examples

BLOCK = 256  # columns of Z that are projected together

# What P leaves of a term, and the smallest eigenvalue of the scaled equations, above rounding.
NOTHING_LEFT = 1e-12


@dataclass(frozen=True)
class MomentEstimates:
    """Variances that equate quadratic forms to their expectations.

    Attributes
    ----------
    theta : ndarray, shape (r + 1,)
        Variance of each random term, in the order of the terms of the design, and of the residual; negative ones stay.
    method : str
        ``"minque"``, ``"mivque0"`` or ``"anova3"``.
    names : tuple of str
        Term of each quadratic form, in its order: that of the design for MINQUE, that of the formula for ANOVA.
    quadratics : ndarray, shape (r + 1,)
        y'P V_i P y for MINQUE, sums of squares for ANOVA.
    coefficients : ndarray, shape (r + 1, r + 1)
        Coefficients of theta in the expectation of each quadratic form; in the last column of an ANOVA stand the
        degrees of freedom.
    """

    theta: Array
    method: str
    names: tuple[str, ...]
    quadratics: Array
    coefficients: Array


def require_scalar(design: Design, method: str) -> None:
    """Raise a NotAvailableError unless every term has one variance and so has the residual."""
    restricted = [t.key for t in design.terms if t.structure.free or not t.structure.size]
    if restricted or design.residual.structure.free:
        raise NotAvailableError(f"method={method!r} knows no fixed or bounded variances. Use method='reml'.")
    several = [t.key for t in design.terms if t.c != 1 or t.structure.size != 1]
    if several:
        raise NotAvailableError(
            f"method={method!r} estimates one variance for each term; {examples(several)} has several coefficients. "
            "Use method='reml'."
        )
    if not design.residual.homogeneous or design.residual.structure.size != 1 or design.records.several:
        raise NotAvailableError(
            f"method={method!r} estimates one residual variance for one response. Use method='reml'."
        )


def source_names(terms: Sequence[Term]) -> tuple[str, ...]:
    """Keys of the terms, and the residual."""
    return (*(t.key for t in terms), "residual")
