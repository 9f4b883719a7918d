"""Finite-sample null distribution of the restricted likelihood ratio of one variance, by simulation."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from mixedgen.arrays import Array
from mixedgen.errors import NotAvailableError
from mixedgen.estimation.fitted import Fitted

_MOST_LEVELS = 4000  # whose matrix of levels by levels has its eigenvalues computed
_GRID = np.concatenate([[0.0], np.exp(np.linspace(np.log(1e-6), np.log(1e8), 300))])  # ratios, in units of the largest
_NUMBERS_AT_ONCE = 2_000_000  # random numbers at once


def exact_p(fitted: Fitted, lrt: float, draws: int, rng: np.random.Generator) -> float:
    """P-value of the hypothesis that the variance of the only random term is zero.

    Parameters
    ----------
    fitted : Fitted
        REML fit with one random term of one variance, and independent residuals of one variance.
    lrt : float
        The statistic.
    draws : int
        Draws from its null distribution.
    rng : Generator
        Source of random numbers.

    Raises
    ------
    NotAvailableError
        If the model is another one, or has too many levels.

    Notes
    -----
    With mu_s the eigenvalues of K^1/2' Z' (I - H) Z K^1/2, H the projector on X, the statistic has the law of

    ``sup_lambda (n - p) log(1 + N / D) - sum_s log(1 + lambda mu_s)``,
    ``N = sum_s lambda mu_s w_s^2 / (1 + lambda mu_s)``,
    ``D = sum_s w_s^2 / (1 + lambda mu_s) + sum of n - p - q further w^2``, all w standard normal [1]_.

    References
    ----------
    .. [1] Crainiceanu & Ruppert (2004) J R Stat Soc B 66:165.
    """
    require_one_variance(fitted)
    mu = _eigenvalues(fitted)
    design = fitted.design
    freedom = design.n - design.fixed.p
    shrink = 1.0 / (1.0 + np.outer(mu / mu.max(), _GRID))
    penalty = -np.log(shrink).sum(axis=0)
    beyond = 0
    for start in range(0, draws, max(_NUMBERS_AT_ONCE // len(mu), 1)):
        size = min(max(_NUMBERS_AT_ONCE // len(mu), 1), draws - start)
        w2 = rng.standard_normal((size, len(mu))) ** 2
        rest = rng.chisquare(freedom - len(mu), size)[:, None] if freedom > len(mu) else 0.0
        left = w2 @ shrink + rest
        total = w2.sum(axis=1, keepdims=True) + rest
        statistic = (freedom * np.log(total / left) - penalty).max(axis=1)
        beyond += int((statistic >= lrt).sum())
    return beyond / draws


def require_one_variance(fitted: Fitted) -> None:
    """Raise a NotAvailableError unless the null distribution is known."""
    design = fitted.design
    why = ""
    if not fitted.reml:
        why = "a fit by ML"
    elif len(design.terms) != 1 or design.terms[0].c != 1:
        why = "several random effects"
    elif not design.residual.homogeneous:
        why = "residuals of several variances, or correlated ones"
    elif design.terms[0].q > _MOST_LEVELS:
        why = f"{design.terms[0].q} levels (at most {_MOST_LEVELS})"
    if why:
        raise NotAvailableError(
            f"the exact test is that of one variance in a REML fit with independent residuals, not for {why}."
        )


def _eigenvalues(fitted: Fitted) -> Array:
    """Positive eigenvalues of K^1/2' Z' (I - H) Z K^1/2 on the scale of the residuals."""
    design = fitted.design
    t = design.terms[0]
    w = design.residual.inverse_weights
    scale = np.ones(design.n) if w is None else 1.0 / np.sqrt(w)
    Z, X = sp.diags_array(scale) @ t.Z, design.fixed.X
    X = X.multiply(scale[:, None]).toarray() if sp.issparse(X) else X * scale[:, None]
    Q = np.linalg.qr(X)[0] if X.shape[1] else np.zeros((design.n, 0))
    ZQ = Z.T @ Q
    S = (Z.T @ Z).toarray() - ZQ @ ZQ.T
    if t.relationship is not None:
        K = t.relationship.multiply(np.eye(t.q))
        values, vectors = np.linalg.eigh(0.5 * (K + K.T))
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        S = root.T @ S @ root
    mu = np.linalg.eigvalsh(0.5 * (S + S.T))
    return mu[mu > 1e-10 * mu.max()]
