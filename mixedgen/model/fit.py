"""A fitted model: `Fit`, whose methods are one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixedgen.design.arguments import ModelArguments
from mixedgen.diagnostics import diagnose, explain, influence
from mixedgen.errors import NotAvailableError, missing_name, public_class
from mixedgen.estimation import refit, update, variances
from mixedgen.estimation.certificate import Certificate
from mixedgen.estimation.fitted import Fitted
from mixedgen.inference import anova, criteria, fixed_effects, power, random_terms, wald
from mixedgen.inference.inference import Inference
from mixedgen.intervals import bootstrap, confint, profile
from mixedgen.output import maketables, summary, tidy
from mixedgen.prediction import (
    effects,
    factors,
    new_rows,
    predict,
    principal,
    proportions,
    records,
    simulation,
    trajectories,
)
from mixedgen.relationship.relationship import Relationship


@public_class
class Fit:
    """A fitted linear mixed model.

    Made by `lmm`, `MixedModel.fit` or `MixedModel.solve`. Attributes follow statsmodels' names, and lme4's verbs where
    statsmodels has none.

    Parameters
    ----------
    fitted : Fitted
        Design, variance parameters and solved equations.
    arguments : ModelArguments, optional
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
        arguments: ModelArguments | None = None,
    ) -> None:
        self.fitted = fitted
        self.arguments = arguments

    @property
    def variables(self) -> pd.DataFrame:
        """Variables of the fixed part in the records used, which `emmeans` averages over."""
        return self.fitted.design.variables

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
        if not self.fitted.outcome.has_df:
            raise NotAvailableError(f"method={self.method!r} has no standard errors of variances, and so no tests.")
        return Inference(self.fitted)

    @property
    def _tests(self) -> Inference:
        """`inference`, or without degrees of freedom what has no tests and gives the rest."""
        return self.inference if self.fitted.outcome.has_df else Inference(self.fitted)

    @cached_property
    def _t_table(self) -> pd.DataFrame:
        return wald.coefficient_table(self.inference)

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
        return wald.intervals(self.inference, alpha, ddf)

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
        return confint.confint(self.fitted, parameters, method, level, options)

    def profile(
        self, parameters: str | Sequence[str] | None = None, *, level: float = 0.99, points: int = 8
    ) -> pd.DataFrame:
        """Points of the profile likelihood, ``parameter value zeta deviance``, up to the ends of an interval."""
        return profile.profile_points(self.fitted, parameters, level, points)

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
        own = None if statistic is None else OfFit(statistic)
        return bootstrap.bootstrap(self.fitted, own, n, seed, workers, level, progress)

    # tests
    def anova(
        self, *others: Fit, type: int | str = 3, ddf: str = "satterthwaite", refit: bool | None = None
    ) -> pd.DataFrame:
        """F tests of the fixed terms, ``sumsq meansq numdf dendf f p``; with other fits, likelihood-ratio tests.

        The table of several fits has ``npar aic bic loglik deviance chisq df p``. REML fits are refitted with ML and a
        warning; ``refit=True`` does it silently, ``refit=False`` compares them as they are.
        """
        return anova.anova(self, *others, type=type, ddf=ddf, refit=refit)

    def drop1(self, *, ddf: str = "satterthwaite") -> pd.DataFrame:
        """F test of each fixed term that no other term contains."""
        return anova.drop_one(self.inference, ddf)

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
        return anova.contest(self.inference, L, joint=joint, rhs=rhs, ddf=ddf, level=level)

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
        return variances.scale(self.fitted)

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
        return effects.random_effects(self.fitted, cond_var=cond_var)

    def blup(self, term: str, *, animals: bool = False) -> pd.DataFrame:
        """BLUP of one term: ``level effect value se pev reliability accuracy n_records``.

        With `animals`, a term of markers gives the animals' values, the sums of the marker effects.
        """
        return effects.blup(self.fitted, term, animals=animals)

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
        return effects.candidates(self.fitted, term, relationship, ids)

    def predict(
        self,
        data: Any = None,
        *,
        re_form: str | Sequence[str] | None = "all",
        new_levels: new_rows.NewLevels = "error",
        relationships: Mapping[str, Relationship] | None = None,
        interval: predict.Interval | None = None,
        level: float = 0.95,
    ) -> pd.Series | pd.DataFrame:
        """Predictions for the records of the fit or for new data, with standard errors and intervals on request."""
        return predict.predict(
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
        return Fit(refit.refit(self.fitted, y))

    def update(self, formula: str | None = None, *, data: Any = None, **changes: Any) -> Fit:
        """Fit with another formula, data or argument of `lmm`; a dot in the formula is what was there, as in R."""
        fitted, arguments = update.updated(self.fitted, self.arguments, formula, data, changes)
        return Fit(fitted, arguments)

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
    def diagnose(self) -> diagnose.Diagnosis:
        """Report of what may be wrong: convergence, boundary, rank, scaling, levels, outliers, lost records, ids."""
        return diagnose.diagnose(self.fitted)

    def explain(self) -> explain.Explanation:
        """How the formula was read, which engine solved the equations and why, and what was optimised."""
        return explain.explain(self.fitted)

    def influence(self, by: str | ArrayLike | None = None, *, exact: bool = False) -> influence.Influence:
        """Deletion diagnostics of the fixed effects, by record or by group: Cook's distance, DFBETAS, COVRATIO.

        With leverages and studentised residuals. ``exact=True`` estimates the variances anew without each case.
        """
        data = None if self.arguments is None else self.arguments.data
        return influence.influence(self.fitted, data, by, exact=exact)

    def r2(self) -> proportions.RSquared:
        """Marginal and conditional R squared of Nakagawa and Schielzeth, with random slopes as in Johnson."""
        return proportions.r_squared(self.fitted)

    def icc(self, term: str | None = None) -> pd.DataFrame | float:
        """Intraclass correlations by term, ``variance adjusted unadjusted``; of one term, the adjusted one."""
        return proportions.intraclass(self.fitted, term)

    def repca(self) -> dict[str, principal.PrincipalComponents]:
        """Principal components of the random effects by grouping factor, lme4's ``rePCA``."""
        return principal.principal_components(self.fitted)

    # about the fit
    @property
    def formula(self) -> str:
        """The formula."""
        return self.fitted.design.parsed.source

    @property
    def method(self) -> str:
        """How the variances were estimated: ``"reml"``, ``"ml"``, or one of the methods by moments."""
        return self.fitted.method

    @property
    def engine(self) -> str:
        """Name of the engine that solved the equations."""
        return self.fitted.engine.name

    @property
    def certificate(self) -> Certificate | None:
        """Evidence of convergence; None for given variances."""
        return self.fitted.outcome.certificate

    @property
    def converged(self) -> bool:
        """Whether the certificate says so; given variances have nothing to converge."""
        return self.fitted.outcome.converged

    @property
    def history(self) -> pd.DataFrame:
        """Steps of the optimiser: criterion, kind of step, decrement before it, and theta."""
        return variances.history(self.fitted)

    def summary(self, *, ddf: str | None = "auto") -> summary.Summary:
        """Summary in text, HTML and LaTeX, with degrees of freedom and p-values by `ddf`; None leaves them out.

        ``"auto"`` is Satterthwaite's method; in a model so large that it takes long, none, and a line says so.
        """
        return summary.summarise(self._tests, ddf)

    def tidy(
        self,
        effects: tidy.TidyPart | Sequence[tidy.TidyPart] = ("fixed", "ran_pars"),
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
        return tidy.augment(self.fitted, data, influence=influence)

    # what the package maketables asks a result for
    @property
    def maketables(self) -> maketables.ForMaketables:
        """The fit for ``maketables.ETable([fit.maketables, ...])``, with random effects among its statistics."""
        return maketables.ForMaketables(self)

    @property
    def __maketables_coef_table__(self) -> pd.DataFrame:
        """Fixed effects, ``b se t p df ci95l ci95u``."""
        return maketables.maketables_coefficients(self)

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
        return maketables.maketables_labels(self.fitted)

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

    def __getattr__(self, name: str) -> Any:
        """Say what a word of another package is called here."""
        raise missing_name("Fit", name, dir(type(self)))

    def __repr__(self) -> str:
        """One line: formula, method and log-likelihood."""
        if not self.fitted.outcome.has_likelihood:
            return f"Fit({self.formula!r}, method={self.method!r})"
        return f"Fit({self.formula!r}, method={self.method!r}, llf={self.llf:.6g}, converged={self.converged})"


@dataclass(frozen=True)
class OfFit:
    """A statistic of a `Fit` as one of a `Fitted`; it can be sent to other processes where the statistic can."""

    statistic: Callable[[Fit], Any]

    def __call__(self, fitted: Fitted) -> Any:
        """The statistic."""
        return self.statistic(Fit(fitted))
