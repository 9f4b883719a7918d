"""The matrices of a small model, written out and labelled."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.linalg as la
import scipy.sparse as sp

from mixedgen.arrays import Array
from mixedgen.definite import definite_factor
from mixedgen.errors import NotAvailableError
from mixedgen.estimation.fitted import Fitted

_MAX_ORDER = 3000  # records, or effects: a matrix of this order takes 72 MB


@dataclass(frozen=True)
class Matrices:
    """Matrices of y = Xb + Zu + e at one theta, as labelled frames.

    Attributes
    ----------
    X, Z : DataFrame, shapes (n, p) and (n, sum c q)
        Incidence of fixed and random effects; columns of Z are (term, level, effect).
    G, R, V : DataFrame
        Var(u), Var(e) and Var(y) = Z G Z' + R.
    RHS : Series
        Right-hand side of Henderson's equations LHS (b, u) = RHS.
    """

    X: pd.DataFrame
    Z: pd.DataFrame
    G: pd.DataFrame
    R: pd.DataFrame
    V: pd.DataFrame
    RHS: pd.Series
    _LHS: pd.DataFrame | None = field(repr=False)

    @property
    def LHS(self) -> pd.DataFrame:
        """Left-hand side of Henderson's equations, with R^-1 and G^-1; NotAvailableError where G is singular."""
        if self._LHS is None:
            raise NotAvailableError(
                "Var(u) is singular at these variances: Henderson's equations need its inverse. Use V, which does not."
            )
        return self._LHS


def write_out(fitted: Fitted) -> Matrices:
    """Matrices of a model.

    Raises
    ------
    NotAvailableError
        If the model is too large to be looked at.
    """
    d = fitted.design
    n_effects = d.fixed.p + sum(t.q * t.c for t in d.terms)
    if max(d.n, n_effects) > _MAX_ORDER:
        raise NotAvailableError(
            f"{d.n} records and {n_effects} effects are too many to write out; the limit is {_MAX_ORDER}."
        )
    X = d.fixed.X.toarray() if sp.issparse(d.fixed.X) else np.asarray(d.fixed.X)
    Z = np.hstack([np.zeros((d.n, 0)), *(t.Z.toarray() for t in d.terms)])
    G = la.block_diag(
        np.zeros((0, 0)),
        *(np.kron(fitted.Sigma(k), t.multiply_relationship(np.eye(t.q))) for k, t in enumerate(d.terms)),
    )
    theta = fitted.theta_R
    R = d.residual.multiply(theta, np.eye(d.n))
    W = np.hstack([X, Z])
    LHS = _left_side(W.T @ d.residual.solve(theta, W), G)
    rows = d.index[d.kept]
    fixed = list(d.fixed.names)
    effects = [(t.key, level, effect) for t in d.terms for effect in t.effects for level in t.levels]
    u, both = pd.Index(effects, tupleize_cols=False), pd.Index([*fixed, *effects], tupleize_cols=False)
    frame = pd.DataFrame
    return Matrices(
        X=frame(X, rows, fixed),
        Z=frame(Z, rows, u),
        G=frame(G, u, u),
        R=frame(R, rows, rows),
        V=frame(Z @ G @ Z.T + R, rows, rows),
        RHS=pd.Series(W.T @ d.residual.solve(theta, d.y), both, name="RHS"),
        _LHS=None if LHS is None else frame(LHS, both, both),
    )


def _left_side(WRW: Array, G: Array) -> Array | None:
    """W'R^-1 W with G^-1 added to the part of u, shape (p + effects, p + effects); None where G is singular."""
    L = definite_factor(G) if len(G) else G
    if L is None:
        return None
    u = slice(len(WRW) - len(G), None)
    WRW[u, u] += la.cho_solve((L, True), np.eye(len(G)))
    return WRW
