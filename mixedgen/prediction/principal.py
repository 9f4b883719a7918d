"""Principal components of the random effects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.linalg as la

from mixedgen.covariance.triangle import lower_factor
from mixedgen.estimation.fitted import Fitted


@dataclass(frozen=True)
class PrincipalComponents:
    """Principal components of the random effects of one grouping factor.

    Attributes
    ----------
    sdev : Series
        Standard deviation along each component, in residual standard deviations (on the scale of the response where
        there is more than one residual variance); one that is zero is a direction without variance.
    proportion : Series
        Its share of the sum of their squares.
    rotation : DataFrame
        Effects by components: orthonormal columns, the largest element of each positive.
    """

    sdev: pd.Series
    proportion: pd.Series
    rotation: pd.DataFrame


def principal_components(fitted: Fitted) -> dict[str, PrincipalComponents]:
    """Principal components of the relative covariance factors, lme4's ``rePCA``.

    Parameters
    ----------
    fitted : Fitted
        The model.

    Returns
    -------
    dict of str to PrincipalComponents
        By what stands right of the bar; terms that share it, as those of ``(x||g)``, are taken together.

    Raises
    ------
    NotAvailableError
        If estimates by moments are negative.

    Notes
    -----
    Singular values and left singular vectors of L / sigma with Sigma = L L'. A covariance matrix of more effects than
    the data tell apart has components without variance [1]_. Sigma depends on the units of the effects; so do these.

    References
    ----------
    .. [1] Bates, Kliegl, Vasishth & Baayen (2015) arXiv:1506.04967.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())
    >>> fit.repca()["Subject"].sdev.round(4).tolist()
    [0.9669, 0.2309]
    """
    design = fitted.design
    fitted.require_solved()  # negative estimates have no roots
    structure = design.residual.structure  # of one variance, which may be fixed, or of several
    sigma = float(np.sqrt(structure.matrix(fitted.theta_R)[0, 0])) if structure.scalar else 1.0
    shared: dict[str, list[int]] = {}
    for k, t in enumerate(design.terms):
        shared.setdefault(t.written.label, []).append(k)
    return {factor: _components_of_terms(fitted, ks, sigma) for factor, ks in shared.items()}


def _components_of_terms(fitted: Fitted, ks: list[int], sigma: float) -> PrincipalComponents:
    """Principal components of some terms together."""
    terms = fitted.design.terms
    L = la.block_diag(*(lower_factor(fitted.Sigma(k)) for k in ks)) / sigma
    U, sdev, _ = np.linalg.svd(L)
    U = U * np.where(U[np.abs(U).argmax(axis=0), np.arange(len(U))] < 0, -1.0, 1.0)
    names = pd.Index([f"PC{j + 1}" for j in range(len(sdev))])
    total = float(np.sum(sdev**2))
    share = sdev**2 / total if total > 0 else np.full(len(sdev), np.nan)
    effects = [e for k in ks for e in terms[k].effects]
    return PrincipalComponents(
        sdev=pd.Series(sdev, index=names, name="sdev"),
        proportion=pd.Series(share, index=names, name="proportion"),
        rotation=pd.DataFrame(U, index=effects, columns=names),
    )
