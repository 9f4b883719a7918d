"""The façade: `lmm`, `MixedModel` and `Fit`, whose methods are one line each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixedgen.covariance.custom import CorrelationFunction
from mixedgen.design.build import build
from mixedgen.design.design import Design, NaAction, Unmatched
from mixedgen.design.frame import read_frame
from mixedgen.diagnostics import diagnose as diagnostics
from mixedgen.diagnostics import explain, influence
from mixedgen.diagnostics.influence import Influence
from mixedgen.engines import choose
from mixedgen.engines.system import Engine, Forecast
from mixedgen.errors import ArgumentError, NotAvailableError, examples
from mixedgen.estimation import refit, variances
from mixedgen.estimation.certificate import Certificate
from mixedgen.estimation.control import Control
from mixedgen.estimation.estimate import evaluate, fit, require_method
from mixedgen.estimation.fitted import Fitted
from mixedgen.formula.revise import revise
from mixedgen.inference import (
    anova as comparison,
)
from mixedgen.inference import (
    criteria,
    fixed_effects,
    power,
    random_terms,
)
from mixedgen.inference import (
    wald as inference,
)
from mixedgen.inference.grid import fixed_variables
from mixedgen.inference.inference import Inference
from mixedgen.intervals import bootstrap
from mixedgen.intervals import profile as intervals
from mixedgen.output import maketables, matrices, tidy
from mixedgen.output import summary as tables
from mixedgen.prediction import (
    effects as prediction,
)
from mixedgen.prediction import (
    factors,
    new_rows,
    proportions,
    records,
    simulation,
    trajectories,
)
from mixedgen.prediction import (
    predict as newdata,
)
from mixedgen.relationship.relationship import Relationship


class Fit:
    """A fitted linear mixed model.

    Made by `lmm`, `MixedModel.fit` or `MixedModel.solve`. Attributes follow statsmodels' names, and lme4's verbs where
    statsmodels has none.

    Parameters
    ----------
    fitted : Fitted
        Design, variance parameters and solved equations.
    variables : DataFrame, optional
        Variables of the fixed part in the records used, which `emmeans` averages over.
    arguments : mapping, optional
        Arguments of the `MixedModel` it comes from, which `update` and `power` start from.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())
    >>> round(fit.reml_criterion, 3)
    1743.628
    >>> fit.params.round(3).to_dict()
    {'Intercept': 251.405, 'Days': 10.467}
    """

    def __init__(
        self,
        fitted: Fitted,
        variables: pd.DataFrame | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.fitted = fitted
        self.variables = pd.DataFrame() if variables is None else variables
        self.arguments = arguments

    # fixed effects
    @cached_property
    def params(self) -> pd.Series:
        """BLUE of the fixed effects; aliased columns are absent."""
        return fixed_effects.estimates(self.fitted)

    @cached_property
    def bse(self) -> pd.Series:
        """Standard errors of `params`."""
        return fixed_effects.standard_errors(self.fitted)

    @property
    def tvalues(self) -> pd.Series:
        """`params` / `bse`."""
        return self.params / self.bse

    @cached_property
    def inference(self) -> Inference:
        """What the small-sample tests share: information of the variances, covariance of the estimates."""
        if self.fitted.moments is not None:
            raise NotAvailableError(f"method={self.method!r} has no standard errors of variances, and so no tests.")
        return Inference(self.fitted)

    @property
    def _tests(self) -> Inference:
        """`inference`, or after moments what has no tests and gives the rest."""
        return self.inference if self.fitted.moments is None else Inference(self.fitted)

    @cached_property
    def _t_table(self) -> pd.DataFrame:
        return inference.coefficient_table(self.inference)

    @property
    def df(self) -> pd.Series:
        """Satterthwaite's degrees of freedom of the t statistics, as in lmerTest; infinite for given variances."""
        return self._t_table["df"]

    @property
    def pvalues(self) -> pd.Series:
        """P-values of the t statistics with `df` degrees of freedom."""
        return self._t_table["p"].rename("pvalue")

    def conf_int(self, alpha: float = 0.05, *, ddf: str = "satterthwaite") -> pd.DataFrame:
        """Wald t intervals of the fixed effects, columns ``lower upper``."""
        return inference.intervals(self.inference, alpha, ddf)

    def confint(
        self,
        parameters: str | Sequence[str] | None = None,
        *,
        method: Literal["profile", "bootstrap"] = "profile",
        level: float = 0.95,
        **options: Any,
    ) -> pd.DataFrame:
        """Intervals of variance parameters and fixed effects, ``estimate lower upper``, as lme4's ``confint``.

        Standard deviations and correlations are on their own scale. A parameter may be an expression as in `vfun`.
        ``"profile"`` inverts the likelihood-ratio test of the ML fit, for expressions that of the fit itself;
        ``"bootstrap"`` gives percentiles of `bootstrap`, whose arguments are the options.
        """
        if method == "bootstrap":
            return bootstrap.percentile(self.fitted, parameters, level, **options)
        if method != "profile":
            raise ArgumentError(f'method must be "profile" or "bootstrap", not {method!r}; Wald intervals: conf_int().')
        if options:
            raise ArgumentError(f"{', '.join(options)}: only for method='bootstrap'.")
        return intervals.profile(self.fitted, parameters, level)

    def profile(
        self, parameters: str | Sequence[str] | None = None, *, level: float = 0.99, points: int = 8
    ) -> pd.DataFrame:
        """Points of the profile likelihood, ``parameter value zeta deviance``, up to the ends of an interval."""
        return intervals.profile_points(self.fitted, parameters, level, points)

    def bootstrap(
        self,
        statistic: Callable[[Fit], Any] | None = None,
        *,
        n: int = 500,
        seed: int | None = None,
        workers: int = 1,
        level: float = 0.95,
        progress: bool = False,
    ) -> pd.DataFrame:
        """Parametric bootstrap of a function of the fit, by default of variance parameters and fixed effects.

        Columns ``estimate bias se``, ends of percentile, basic and normal intervals, and the number of replicates.
        """
        own = None if statistic is None else OfFit(statistic, self.variables)
        return bootstrap.bootstrap(self.fitted, own, n, seed, workers, level, progress)

    # tests
    def anova(
        self, *others: Fit, type: int | str = 3, ddf: str = "satterthwaite", refit: bool | None = None
    ) -> pd.DataFrame:
        """F tests of the fixed terms, ``sumsq meansq numdf dendf f p``; with other fits, likelihood-ratio tests.

        The table of several fits has ``npar aic bic loglik deviance chisq df p``. REML fits are refitted with ML and a
        warning; ``refit=True`` does it silently, ``refit=False`` compares them as they are.
        """
        return comparison.anova(self, *others, type=type, ddf=ddf, refit=refit)

    def drop1(self, *, ddf: str = "satterthwaite") -> pd.DataFrame:
        """F test of each fixed term that no other term contains."""
        return comparison.drop_one(self.inference, ddf)

    def contest(
        self,
        L: ArrayLike | pd.DataFrame | pd.Series,
        *,
        joint: bool = True,
        rhs: ArrayLike = 0.0,
        ddf: str = "satterthwaite",
        level: float = 0.95,
    ) -> pd.DataFrame:
        """F test of L b = rhs, or with ``joint=False`` a t test of each row."""
        return comparison.contest(self.inference, L, joint=joint, rhs=rhs, ddf=ddf, level=level)

    def ranova(self, *, draws: int | None = None, seed: int | None = None) -> pd.DataFrame:
        """Likelihood-ratio tests of the random terms, ``npar loglik aic lrt df p p_boundary``.

        With `draws`, ``p_exact`` besides, of an only variance, simulated from its finite-sample null distribution.
        """
        return random_terms.random_anova(self.fitted, draws, seed)

    def cov_params(self) -> pd.DataFrame:
        """Covariance matrix of `params`, (X'V^-1 X)^-1."""
        return fixed_effects.covariance(self.fitted)

    def vcov(self, *, full: bool = False) -> pd.DataFrame:
        """Covariance matrix of the fixed effects; with `full`, of (b_hat, u_hat - u), by (term, level, effect)."""
        return fixed_effects.joint_covariance(self.fitted) if full else self.cov_params()

    def fixef(self) -> pd.Series:
        """BLUE of the fixed effects: `params`."""
        return self.params

    def estimable(self, L: ArrayLike) -> np.ndarray:
        """Whether each row of L, over all columns of X as coded (aliased ones too), is estimable."""
        return fixed_effects.estimable(self.fitted, np.asarray(L))

    # likelihood
    @property
    def llf(self) -> float:
        """Log-likelihood, restricted under REML, all constants included (lme4's logLik)."""
        return -0.5 * self.fitted.deviance

    @property
    def reml_criterion(self) -> float:
        """Minus twice the restricted log-likelihood; raises for an ML fit."""
        return criteria.criterion(self.fitted, "reml")

    @property
    def deviance(self) -> float:
        """Minus twice the log-likelihood; raises for a REML fit."""
        return criteria.criterion(self.fitted, "ml")

    @property
    def aic(self) -> float:
        """Akaike's criterion (of the restricted likelihood under REML, as in lme4)."""
        return criteria.aic(self.fitted)

    @property
    def bic(self) -> float:
        """Schwarz's criterion (of the restricted likelihood under REML, as in lme4)."""
        return criteria.bic(self.fitted)

    @property
    def npar(self) -> int:
        """Number of parameters: fixed effects and variance parameters, the residual variance included."""
        return criteria.n_parameters(self.fitted)

    @property
    def nobs(self) -> int:
        """Number of records used."""
        return self.fitted.design.n

    # variances
    @property
    def theta(self) -> pd.Series:
        """Variance parameters on the natural scale, by name."""
        return variances.parameters(self.fitted)

    @cached_property
    def varcomp(self) -> pd.DataFrame:
        """Variances and covariances: ``grp var1 var2 vcov sdcor se bound``."""
        return variances.components(self.fitted)

    @property
    def scale(self) -> float:
        """Residual variance; raises where there is more than one."""
        if not self.fitted.design.residual.homogeneous:
            raise NotAvailableError("there is not one residual variance, or residuals are correlated: see `varcomp`.")
        return float(self.fitted.theta_R[0])

    @property
    def relative_factor(self) -> pd.Series:
        """lme4's theta: Cholesky factor of Sigma / sigma^2, lower triangle by columns."""
        return variances.relative_factor(self.fitted)

    def vfun(self, expression: str) -> variances.VarianceFunction:
        """Function of the variances with its delta-method SE, such as ``"h2 = animal:A / (animal:A + residual)"``."""
        return variances.variance_function(self.fitted, expression)

    # random effects and records
    def ranef(self, *, cond_var: bool = True) -> dict[str, pd.DataFrame]:
        """BLUP of each term, levels by effects; ``frame.attrs["cond_var"]`` is Var(u | y, b), levels x c x c."""
        return prediction.random_effects(self.fitted, cond_var=cond_var)

    def blup(self, term: str, *, animals: bool = False) -> pd.DataFrame:
        """BLUP of one term: ``level effect value se pev reliability accuracy n_records``.

        With `animals`, a term of markers gives the animals' values, the sums of the marker effects.
        """
        return prediction.blup(self.fitted, term, animals=animals)

    def factors(self, term: str) -> factors.Factors:
        """Loadings on principal axes, scores and stability of a factor-analytic or reduced-rank term."""
        return factors.factors(self.fitted, term)

    def trajectory(self, term: str, at: Any, *, total: trajectories.Total | None = None) -> pd.DataFrame:
        """BLUP of a random regression at values of its covariates, with SE and reliability, or their mean or sum."""
        return trajectories.trajectory(self.fitted, term, at, total)

    def combination(self, term: str, weights: Mapping[str, float] | pd.DataFrame) -> pd.DataFrame:
        """BLUP of sums of the effects of each level, with SE and reliability: total breeding values, indices."""
        return trajectories.combination(self.fitted, term, weights)

    def variance_at(self, at: Any) -> pd.DataFrame:
        """Variances of the terms at values of their covariates, and their shares of the total, with SE."""
        return trajectories.variance_at(self.fitted, at)

    def candidates(self, term: str, relationship: Relationship, *, ids: Sequence[Any] | None = None) -> pd.DataFrame:
        """BLUP of levels that were not in the fit, through a relationship of old and new ones; nothing is refitted."""
        return prediction.candidates(self.fitted, term, relationship, ids)

    def predict(
        self,
        data: Any = None,
        *,
        re_form: str | Sequence[str] = "all",
        new_levels: new_rows.NewLevels = "error",
        relationships: Mapping[str, Relationship] | None = None,
        interval: newdata.Interval | None = None,
        level: float = 0.95,
    ) -> pd.Series | pd.DataFrame:
        """Predictions for the records of the fit or for new data, with standard errors and intervals on request."""
        return newdata.predict(
            self.fitted,
            data,
            re_form=re_form,
            new_levels=new_levels,
            relationships=relationships,
            interval=interval,
            level=level,
        )

    def simulate(self, n: int = 1, *, seed: Any = None, new_effects: bool = True) -> pd.DataFrame:
        """Draw responses from the model, records by draws; random effects drawn anew, or as predicted."""
        return simulation.simulate(self.fitted, n, seed=seed, new_effects=new_effects)

    def refit(self, y: ArrayLike | pd.Series) -> Fit:
        """Fit the same model to another response."""
        return Fit(refit.refit(self.fitted, y), self.variables)

    def update(self, formula: str | None = None, *, data: Any = None, **changes: Any) -> Fit:
        """Fit with another formula, data or argument of `lmm`; a dot in the formula is what was there, as in R."""
        return updated(self, formula, data, changes)

    def power(
        self,
        term: str,
        *,
        coefficients: Mapping[str, float | Sequence[float]] | None = None,
        levels: Mapping[str, int | Sequence[int]] | None = None,
        n: int = 500,
        seed: int | None = None,
        alpha: float = 0.05,
        ddf: str = "satterthwaite",
        progress: bool = False,
    ) -> pd.DataFrame:
        """Power of a test by simulation, over values of coefficients and numbers of levels of a grouping column."""
        return power.power(
            self.fitted,
            term,
            arguments=self.arguments,
            coefficients=coefficients,
            levels=levels,
            n=n,
            seed=seed,
            alpha=alpha,
            ddf=ddf,
            progress=progress,
        )

    @cached_property
    def fittedvalues(self) -> pd.Series | pd.DataFrame:
        """Conditional fitted values Xb + Zu (and the offset) on the index of the data."""
        return records.fitted_values(self.fitted)

    @cached_property
    def resid(self) -> pd.Series | pd.DataFrame:
        """Conditional residuals on the index of the data."""
        return records.residuals(self.fitted)

    # diagnostics
    def diagnose(self) -> diagnostics.Diagnosis:
        """Report of what may be wrong: convergence, boundary, rank, scaling, levels, outliers, lost records, ids."""
        return diagnostics.diagnose(self.fitted)

    def explain(self) -> explain.Explanation:
        """How the formula was read, which engine solved the equations and why, and what was optimised."""
        return explain.explain(self.fitted)

    def influence(self, by: str | ArrayLike | None = None, *, exact: bool = False) -> Influence:
        """Deletion diagnostics of the fixed effects, by record or by group: Cook's distance, DFBETAS, COVRATIO.

        With leverages and studentised residuals. ``exact=True`` estimates the variances anew without each case.
        """
        return influence.influence(self.fitted, (self.arguments or {}).get("data"), by, exact=exact)

    def r2(self) -> proportions.RSquared:
        """Marginal and conditional R squared of Nakagawa and Schielzeth, with random slopes as in Johnson."""
        return proportions.r_squared(self.fitted)

    def icc(self, term: str | None = None) -> pd.DataFrame | float:
        """Intraclass correlations by term, ``variance adjusted unadjusted``; of one term, the adjusted one."""
        return proportions.intraclass(self.fitted, term)

    def repca(self) -> dict[str, proportions.PrincipalComponents]:
        """Principal components of the random effects by grouping factor, lme4's ``rePCA``."""
        return proportions.principal_components(self.fitted)

    # about the fit
    @property
    def formula(self) -> str:
        """The formula."""
        return self.fitted.design.parsed.source

    @property
    def method(self) -> str:
        """``"reml"`` or ``"ml"``."""
        return self.fitted.method

    @property
    def engine(self) -> str:
        """Name of the engine that solved the equations."""
        return type(self.fitted.engine).__name__.removesuffix("Engine").lower()

    @property
    def certificate(self) -> Certificate | None:
        """Evidence of convergence; None for given variances."""
        return self.fitted.certificate

    @property
    def converged(self) -> bool:
        """Whether the certificate says so; given variances have nothing to converge."""
        return self.certificate is None or self.certificate.converged

    @property
    def history(self) -> pd.DataFrame:
        """Steps of the optimiser: criterion, kind of step, decrement before it, and theta."""
        names = self.fitted.design.theta_names
        return pd.DataFrame(
            [
                {
                    "criterion": s.deviance,
                    "step": s.kind,
                    "decrement": s.decrement,
                    **dict(zip(names, s.theta, strict=True)),
                }
                for s in self.fitted.history
            ]
        )

    def summary(self, *, ddf: str | None = "auto") -> tables.Summary:
        """Summary in text, HTML and LaTeX, with degrees of freedom and p-values by `ddf`; None leaves them out.

        ``"auto"`` is Satterthwaite's method; in a model so large that it takes long, none, and a line says so.
        """
        return tables.summarise(self._tests, ddf)

    def tidy(
        self,
        effects: tidy.Effects | Sequence[tidy.Effects] = ("fixed", "ran_pars"),
        *,
        conf_int: bool = False,
        conf_method: tidy.ConfMethod = "wald",
        level: float = 0.95,
        ddf: str = "satterthwaite",
    ) -> pd.DataFrame:
        """Fixed effects, standard deviations and correlations, or BLUPs, one row each: broom.mixed's ``tidy``.

        Columns ``effect group level term estimate std.error statistic df p.value``, and ``conf.low conf.high`` with
        `conf_int`: by standard errors, or by ``conf_method="profile"``, which standard deviations need.
        """
        return tidy.tidy(self._tests, effects, conf_int=conf_int, conf_method=conf_method, level=level, ddf=ddf)

    def glance(self) -> pd.DataFrame:
        """One row about the fit, ``nobs sigma logLik AIC BIC REMLcrit df.residual``: broom.mixed's ``glance``."""
        return tidy.glance(self.fitted)

    def augment(self, data: Any = None, *, influence: bool = True) -> pd.DataFrame:
        """The records with ``.fitted .resid .hat .cooksd .fixed ...``: broom.mixed's ``augment``.

        Given the data of the fit, all its columns come first; `influence` solves once for each record.
        """
        return tidy.augment(self.fitted, self.variables, data, influence=influence)

    # what the package maketables asks a result for
    @property
    def maketables(self) -> maketables.ForMaketables:
        """The fit for ``maketables.ETable([fit.maketables, ...])``, with random effects among its statistics."""
        return maketables.ForMaketables(self)

    @property
    def __maketables_coef_table__(self) -> pd.DataFrame:
        """Fixed effects, ``b se t p df ci95l ci95u``."""
        return maketables.maketables_coefficients(
            self._tests, None if self.fitted.moments is not None else self._t_table
        )

    def __maketables_stat__(self, key: str) -> Any:
        """A statistic by its key, or by the label of its row in `table`."""
        return maketables.maketables_statistic(self, key)

    @property
    def __maketables_depvar__(self) -> str:
        """The response."""
        return ", ".join(self.fitted.design.parsed.responses)

    @property
    def __maketables_fixef_string__(self) -> str | None:
        """Random terms, joined by plus signs."""
        return maketables.maketables_terms(self.fitted)

    @property
    def __maketables_var_labels__(self) -> dict[str, str] | None:
        """Labels of the variables, from ``data.attrs["variable_labels"]``."""
        return maketables.maketables_labels(self.variables)

    @property
    def __maketables_vcov_info__(self) -> dict[str, str | None]:
        """How standard errors and p-values were made."""
        return maketables.maketables_vcov(self.fitted)

    @property
    def __maketables_stat_labels__(self) -> dict[str, str]:
        """Labels of the statistics, by key."""
        return dict(maketables.MAKETABLES_KEYS)

    @property
    def __maketables_default_stat_keys__(self) -> list[str]:
        """Statistics shown unasked: records, levels, criteria, method, random effects."""
        return maketables.maketables_keys(self.fitted)

    def __repr__(self) -> str:
        """One line: formula, method and log-likelihood."""
        if self.fitted.moments is not None:
            return f"Fit({self.formula!r}, method={self.method!r})"
        return f"Fit({self.formula!r}, method={self.method!r}, llf={self.llf:.6g}, converged={self.converged})"


@dataclass(frozen=True)
class OfFit:
    """A statistic of a `Fit` as one of a `Fitted`; it can be sent to other processes where the statistic can."""

    statistic: Callable[[Fit], Any]
    variables: pd.DataFrame

    def __call__(self, fitted: Fitted) -> Any:
        """The statistic."""
        return self.statistic(Fit(fitted, self.variables))


def updated(old: Fit, formula: str | None, data: Any, changes: Mapping[str, Any]) -> Fit:
    """The model of a fit with some of its arguments changed, fitted.

    Relationships that the new formula does not mention are left out.

    Raises
    ------
    ArgumentError
        If an argument is unknown.
    NotAvailableError
        If the variances were given, or the response is not that of the data.
    """
    if old.arguments is None or (old.certificate is None and old.fitted.moments is None):
        what = "the response is not that of the data" if old.arguments is None else "the variances were given"
        raise NotAvailableError(f"{what}: there is no fit to update. Write the model anew with mg.MixedModel(...).")
    before = {**old.arguments, "method": old.method, "control": old.fitted.control}
    unknown = [name for name in changes if name not in before]
    if unknown:
        raise ArgumentError(f"update() has no argument {examples(unknown)}; there are {examples(list(before))}.")
    after = {**before, **changes}
    after["formula"] = text = old.formula if formula is None else revise(old.formula, formula)
    after["data"] = before["data"] if data is None else data
    if "relationships" not in changes:
        used = {k: K for k, K in (before["relationships"] or {}).items() if re.search(rf"\b{re.escape(k)}\b", text)}
        after["relationships"] = used or None
    return lmm(after.pop("formula"), after.pop("data"), **after)


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
    method : {"reml", "ml"}
        Restricted or full likelihood.
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
        method: str = "reml",
        control: Control | None = None,
    ) -> None:
        require_method(method)
        if control is not None and not isinstance(control, Control):
            raise ArgumentError(f"control must be a Control, not {type(control).__name__}: write mg.Control(tol=...).")
        self.method = method
        self.control = control or Control()
        frame = read_frame(data)
        self.arguments: dict[str, Any] = {
            "formula": formula,
            "data": frame,
            "relationships": relationships,
            "residual": residual,
            "weights": weights,
            "subset": subset,
            "na_action": na_action,
            "contrasts": contrasts,
            "unmatched": unmatched,
            "structures": structures,
        }
        self.design: Design = build(
            **self.arguments, constraints=self.control.constraints, restrictions=self.control.restrictions
        )
        self.variables: pd.DataFrame = fixed_variables(self.design, frame)

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
        return Fit(fit(self.design, self.engine, self.method, self.control), self.variables, self.arguments)

    def solve(self, variances: Mapping[str, Any]) -> Fit:
        """BLUE and BLUP at known variances.

        Parameters
        ----------
        variances : mapping
            By the text right of each bar, and ``"residual"``: a number, or the covariance matrix of the effects.
        """
        fitted = evaluate(self.design, self.engine, variances, self.method, self.control)
        return Fit(fitted, self.variables, self.arguments)

    def matrices(self, variances: Mapping[str, Any]) -> matrices.Matrices:
        """X, Z, G, R, V and Henderson's LHS and RHS of a small model at given variances, as labelled frames."""
        return matrices.write_out(self.solve(variances).fitted)


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
    method: str = "reml",
    control: Control | None = None,
) -> Fit:
    """Fit a linear mixed model.

    Parameters
    ----------
    formula, data, relationships, residual, weights, subset, na_action, contrasts, unmatched
        As in `MixedModel`.
    structures, method, control
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
        method=method,
        control=control,
    ).fit()
