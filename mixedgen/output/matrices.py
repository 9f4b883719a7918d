"""The matrices of a small model, written out and labelled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.linalg as la
import scipy.sparse as sp

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
    LHS, RHS : DataFrame, Series
        Henderson's equations LHS (b, u) = RHS with R^-1 and G^-1.
    """

    X: pd.DataFrame
    Z: pd.DataFrame
    G: pd.DataFrame
    R: pd.DataFrame
    V: pd.DataFrame
    LHS: pd.DataFrame
    RHS: pd.Series


def write_out(fitted: Fitted) -> Matrices:
    """Matrices of a model.

    Raises
    ------
    NotAvailableError
        If the model is too large to be looked at, or G is singular and has no inverse.
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
    try:
        Ginv = la.cho_solve((la.cholesky(G, lower=True), True), np.eye(len(G)))
    except la.LinAlgError as err:
        raise NotAvailableError(
            "Var(u) is singular at these variances: Henderson's equations need its inverse."
        ) from err
    W = np.hstack([X, Z])
    LHS = W.T @ d.residual.solve(theta, W)
    LHS[d.fixed.p :, d.fixed.p :] += Ginv
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
        LHS=frame(LHS, both, both),
        RHS=pd.Series(W.T @ d.residual.solve(theta, d.y), both, name="RHS"),
    )
