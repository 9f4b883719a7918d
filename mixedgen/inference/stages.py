"""The first stage of a two-stage analysis: adjusted means of each trial, with their full covariance matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.linalg import cho_factor, cho_solve

from mixedgen.errors import ArgumentError, DataError, examples, public
from mixedgen.inference.inference import Result
from mixedgen.inference.means import MarginalMeans, emmeans


@dataclass(frozen=True)
class FirstStage:
    """Adjusted means of all trials, as records of the second stage.

    Attributes
    ----------
    means : DataFrame
        A row for each mean, columns: the trial, the factor, then ``mean se weight``; the weight is the diagonal element
        of the inverse of the covariance matrix of the trial's means.
    covariance : csr_array, shape (rows, rows)
        Covariance matrix of the means, one block for each trial: the `residual` of the second stage.
    """

    means: pd.DataFrame
    covariance: sp.csr_array


@public
def first_stage(fits: Mapping[str, Result], factor: str, *, trial: str = "trial") -> FirstStage:
    """Adjusted means of the levels of a factor in several trials, with their full covariance matrix.

    The means are the records of a second stage, whose `residual` is their covariance matrix and whose residual variance
    is known to be 1.

    Parameters
    ----------
    fits : mapping of str to Fit
        Fit of each trial, with the factor in the fixed part.
    factor : str
        Whose levels the means are of, such as the line.
    trial : str
        Column of the result that names the trial.

    Returns
    -------
    FirstStage
        ``means``, a frame with columns (trial, factor) ``mean se weight``, and ``covariance``, a sparse matrix.

    Raises
    ------
    ArgumentError
        If there is no fit, or the name of the trial is that of the factor.
    DataError
        If means are not estimable, or their covariance matrix is singular.

    Notes
    -----
    With L b the means, their covariance matrix is L (X'V^-1 X)^-1 L'. The diagonal weights that stand for it where only
    one number can be kept for each mean are the diagonal of its inverse [1]_; what they cost is the information in the
    covariances [2]_.

    References
    ----------
    .. [1] Smith, Cullis & Gilmour (2001) Aust N Z J Stat 43:129.
    .. [2] Piepho, Moehring, Schulz-Streeck & Ogutu (2012) Biom J 54:844.

    Examples
    --------
    >>> import mixedgen as mg
    >>> cake = mg.data.cake()
    >>> fits = {r: mg.lmm("angle ~ 0 + C(temp) + (1|replicate)", d) for r, d in cake.groupby("recipe")}
    >>> stage = mg.first_stage(fits, "temp", trial="recipe")
    >>> stage.means.shape, stage.covariance.shape
    ((18, 5), (18, 18))
    >>> known = mg.Control(fix={"residual": 1.0})
    >>> second = mg.lmm("mean ~ recipe + (1|temp)", stage.means, residual=stage.covariance, control=known)
    >>> second.params.round(2).to_dict()
    {'Intercept': 33.12, 'recipe[T.B]': -1.48, 'recipe[T.C]': -1.52}
    """
    if not fits:
        raise ArgumentError("first_stage needs a fit for each trial: {'trial': fit}.")
    if trial == factor:
        raise ArgumentError(f"trial and factor are both {factor!r}: name the column of the trials otherwise.")
    frames, blocks = [], []
    for name, fit in fits.items():
        table = emmeans(fit, factor, ddf="z")
        V = _covariance_of(table, name)
        precision = cho_solve(cho_factor(V, lower=True), np.eye(len(V)))
        frames.append(
            pd.DataFrame(
                {
                    trial: name,
                    factor: table[factor].to_numpy(),
                    **{c: table[c].to_numpy() for c in (*table.basis.specs, *table.basis.by) if c != factor},
                    "mean": table["emmean"].to_numpy(),
                    "se": table["se"].to_numpy(),
                    "weight": np.diag(precision),
                }
            )
        )
        blocks.append(V)
    return FirstStage(pd.concat(frames, ignore_index=True), sp.csr_array(sp.block_diag(blocks)))


def _covariance_of(table: MarginalMeans, trial: str) -> np.ndarray:
    """Covariance matrix of a table of means.

    Raises
    ------
    DataError
        If a mean is not estimable, or the matrix is singular.
    """
    basis = table.basis
    if not basis.good.all():
        lost = list(table.loc[~basis.good, basis.specs[0]])
        raise DataError(f"trial {trial!r}: {len(lost)} means are not estimable: {examples(lost)}. Leave them out.")
    V = basis.L @ basis.inference.fitted.system.fixed_covariance() @ basis.L.T
    V = 0.5 * (V + V.T)
    scale = np.sqrt(np.diag(V))
    if np.linalg.eigvalsh(V / np.outer(scale, scale))[0] < 1e-12:
        raise DataError(f"trial {trial!r}: the covariance matrix of the means is singular.")
    return V
