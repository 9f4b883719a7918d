"""What a factor-analytic or reduced-rank term says: loadings on principal axes, scores, and stability of levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixedgen.arrays import Array
from mixedgen.covariance.structure import Structure
from mixedgen.errors import NotAvailableError
from mixedgen.estimation.fitted import Fitted


@dataclass(frozen=True)
class Factors:
    """Factors of one term, rotated to principal axes.

    Attributes
    ----------
    loadings : DataFrame, shape (c, k)
        By effect, columns ``factor1 factor2 ...``: the first explains most of the common variance.
    specific : Series, shape (c,)
        Specific variances; zero for reduced rank.
    explained : DataFrame, shape (c, k + 1)
        Share of the variance of each effect that each factor explains, and ``total`` of all.
    scores : DataFrame, shape (q, k)
        By level, the BLUP of the factors on the same axes.
    """

    loadings: pd.DataFrame
    specific: pd.Series
    explained: pd.DataFrame
    scores: pd.DataFrame

    @property
    def stability(self) -> pd.DataFrame:
        """Overall performance and stability of the levels, by level.

        Columns: ``performance``, the mean over the effects of what the first factor predicts; ``rmsd``, the root mean
        square over the effects of what the other factors add, zero for a level that responds as the first factor says;
        ``responsiveness``, its score on the first factor.

        References
        ----------
        .. [1] Smith & Cullis (2018) Euphytica 214:143.
        """
        L, f = self.loadings.to_numpy(), self.scores.to_numpy()
        others = f[:, 1:] @ L[:, 1:].T
        return pd.DataFrame(
            {
                "performance": L[:, 0].mean() * f[:, 0],
                "rmsd": np.sqrt(np.mean(others**2, axis=1)),
                "responsiveness": f[:, 0],
            },
            index=self.scores.index,
        )


def factors(fitted: Fitted, term: str) -> Factors:
    """Loadings, specific variances and scores of a factor-analytic or reduced-rank term.

    Parameters
    ----------
    fitted : Fitted
        The model.
    term : str
        Name of the term.

    Raises
    ------
    ArgumentError
        If there is no such term.
    NotAvailableError
        If its structure has no factors.

    Notes
    -----
    Sigma = Lambda Lambda' + Psi holds Lambda up to a rotation; with Lambda = U D V' the axes are those of U D, each
    with the sign that makes its loadings sum to a positive number. The BLUP of the scores is V' Lambda' Sigma^- u_hat.
    """
    k = fitted.design.term(term)
    t, s = fitted.design.terms[k], fitted.design.slices[k]
    Lambda, specific = _loadings_and_specific(t.structure, fitted.theta[s], t.key)
    U, d, Vt = np.linalg.svd(Lambda, full_matrices=False)
    sign = np.where((U * d).sum(axis=0) < 0, -1.0, 1.0)
    rotated, V = U * d * sign, Vt.T * sign
    Sigma = Lambda @ Lambda.T + np.diag(specific)
    u = fitted.system.solution.u[k]
    names = [f"factor{j + 1}" for j in range(len(d))]
    effects = pd.Index(t.effects, name="effect")
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = rotated**2 / np.diag(Sigma)[:, None]
    explained = pd.DataFrame(shares, index=effects, columns=names).assign(total=shares.sum(axis=1))
    return Factors(
        pd.DataFrame(rotated, index=effects, columns=names),
        pd.Series(specific, index=effects, name="specific"),
        explained,
        pd.DataFrame(u @ np.linalg.pinv(Sigma, hermitian=True) @ Lambda @ V, index=t.levels, columns=names),
    )


def _loadings_and_specific(structure: Structure, theta: Array, key: str) -> tuple[Array, Array]:
    """Lambda, shape (c, k), and the specific variances, shape (c,)."""
    Lambda = structure.loadings(theta)
    if Lambda is None:
        raise NotAvailableError(f"term {key!r} has no factors: they are those of fa(...) and rr(...).")
    return Lambda, np.maximum(np.diag(structure.matrix(theta)) - np.sum(Lambda**2, axis=1), 0.0)
