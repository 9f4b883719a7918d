"""Models before their variances are known: `MixedModel`, and `lmm`, which fits at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike

from mixedgen.covariance.custom import CorrelationFunction
from mixedgen.design.arguments import ModelArguments, NaAction, Unmatched
from mixedgen.design.build import build
from mixedgen.design.design import Design
from mixedgen.engines import choose
from mixedgen.engines.forecast import Forecast
from mixedgen.engines.memory import enough_memory
from mixedgen.engines.system import Engine
from mixedgen.errors import public, public_class
from mixedgen.estimation.control import Control, checked_control
from mixedgen.estimation.estimate import fit, solve_at
from mixedgen.estimation.estimators import estimator_of
from mixedgen.model.fit import Fit
from mixedgen.output import matrices
from mixedgen.relationship.relationship import Relationship


@public_class
class MixedModel:
    """A linear mixed model: a formula on data, before the variances are known.

    Parameters
    ----------
    formula : str
        lme4's grammar; ``(1|animal:A)`` links the levels of `animal` to ``relationships["A"]``.
    data : DataFrame, polars or arrow table, mapping of columns, or path
        One row per record.
    relationships : mapping of str to Relationship, optional
        Relationship matrices that terms link to by name.
    residual : str or matrix, optional
        Residual structure, such as ``"diag(site)"``; or a known matrix R0 of the rows of the data, R = sigma^2 R0, as a
        frame by their labels, an array or a sparse array. One variance by default.
    weights : str or array_like, optional
        Column or values w with Var(e_i) = sigma^2 / w_i.
    subset : str, mask or positions, optional
        Rows to use.
    na_action : {"omit", "exclude"}
        Rows with missing values are left out; ``"exclude"`` pads fitted values and residuals with NaN.
    contrasts : mapping of str to str, optional
        Coding of factors: ``{"diet": "sum"}``; treatment, sum, helmert, poly, diff.
    unmatched : {"raise", "omit"}
        Records whose id is not in the relationship they link to: an error, or left out and counted.
    structures : mapping of str to CorrelationFunction, optional
        Covariance structures of one's own, by their names in the formula and in `residual`.
    functions : mapping of str to callable, optional
        Functions of one's own that the formula may call, ``{"f": f}``: of columns, one value for each row. Nothing else
        in a formula is run.
    method : {"reml", "ml", "minque", "mivque0", "anova3"}
        Restricted or full likelihood, or moments.
    control : Control, optional
        Optimiser, engine, start values, tolerance, constraints.

    Raises
    ------
    MixedgenError
        One of its children, for whatever does not fit: what, where, and what to do.

    Examples
    --------
    >>> import mixedgen as mg
    >>> ped = mg.Pedigree(mg.data.mrode_pedigree())
    >>> A = mg.additive(ped)
    >>> model = mg.MixedModel("wwg ~ 0 + sex + (1|calf:A)", mg.data.mrode_calves(), relationships={"A": A})
    >>> fit = model.solve({"calf:A": 20.0, "residual": 40.0})
    >>> fit.blup("calf:A")["value"].round(3).tolist()
    [0.098, -0.019, -0.041, -0.009, -0.186, 0.177, -0.249, 0.183]
    """

    def __init__(
        self,
        formula: str,
        data: Any,
        *,
        relationships: Mapping[str, Relationship] | None = None,
        residual: str | ArrayLike | pd.DataFrame | None = None,
        weights: str | ArrayLike | None = None,
        subset: Any = None,
        na_action: NaAction = "omit",
        contrasts: Mapping[str, str] | None = None,
        unmatched: Unmatched = "raise",
        structures: Mapping[str, CorrelationFunction] | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        method: str = "reml",
        control: Control | None = None,
    ) -> None:
        estimator_of(method)
        self.method = method
        self.control = checked_control(control)
        self.arguments = ModelArguments(
            formula=formula,
            data=data,
            relationships=relationships,
            residual=residual,
            weights=weights,
            subset=subset,
            na_action=na_action,
            contrasts=contrasts,
            unmatched=unmatched,
            structures=structures,
            functions=functions,
        )
        with enough_memory("while the matrices of the model were made"):
            self.design: Design = build(
                self.arguments, constraints=self.control.constraints, restrictions=self.control.restrictions
            )

    @cached_property
    def engine(self) -> Engine:
        """Analysed equations."""
        return choose(self.design, self.control.engine)

    def forecast(self) -> Forecast:
        """Equations, flops and memory of one evaluation."""
        return self.engine.forecast()

    def fit(self) -> Fit:
        """Estimate the variances.

        Warns
        -----
        ConvergenceWarning
            If the certificate says "not converged".
        """
        return Fit(fit(self.design, self.engine, self.method, self.control), self.arguments)

    def solve(self, variances: Mapping[str, Any]) -> Fit:
        """BLUE and BLUP at known variances.

        Parameters
        ----------
        variances : mapping
            By the text right of each bar, and ``"residual"``: a number, or the covariance matrix of the effects.
        """
        fitted = solve_at(self.design, self.engine, variances, self.method, self.control)
        return Fit(fitted, self.arguments)

    def matrices(self, variances: Mapping[str, Any]) -> matrices.Matrices:
        """X, Z, G, R, V and Henderson's LHS and RHS of a small model at given variances, as labelled frames."""
        return matrices.write_out(self.solve(variances).fitted)


@public
def lmm(
    formula: str,
    data: Any,
    *,
    relationships: Mapping[str, Relationship] | None = None,
    residual: str | ArrayLike | pd.DataFrame | None = None,
    weights: str | ArrayLike | None = None,
    subset: Any = None,
    na_action: NaAction = "omit",
    contrasts: Mapping[str, str] | None = None,
    unmatched: Unmatched = "raise",
    structures: Mapping[str, CorrelationFunction] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    method: str = "reml",
    control: Control | None = None,
) -> Fit:
    """Fit a linear mixed model.

    Parameters
    ----------
    formula, data, relationships, residual, weights, subset, na_action, contrasts, unmatched
        As in `MixedModel`.
    structures, functions, method, control
        As in `MixedModel`.

    Returns
    -------
    Fit
        Estimates, predictions, and a certificate of convergence.

    Raises
    ------
    MixedgenError
        One of its children, for whatever does not fit: what, where, and what to do.

    Warns
    -----
    ConvergenceWarning
        If the certificate says "not converged".

    Notes
    -----
    y = Xb + sum_k Z_k u_k + e with Var(u_k) = Sigma_k (x) K_k and Var(e) = R. REML by average information [1]_ on
    Henderson's equations; a singular Sigma is reached exactly.

    References
    ----------
    .. [1] Gilmour, Thompson & Cullis (1995) Biometrics 51:1440.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    >>> fit.varcomp[["grp", "vcov"]].round(2).values.tolist()
    [['Batch', 1764.05], ['Residual', 2451.25]]
    """
    return MixedModel(
        formula,
        data,
        relationships=relationships,
        residual=residual,
        weights=weights,
        subset=subset,
        na_action=na_action,
        contrasts=contrasts,
        unmatched=unmatched,
        structures=structures,
        functions=functions,
        method=method,
        control=control,
    ).fit()
