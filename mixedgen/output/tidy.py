"""Results as tidy frames, in the columns of R's broom.mixed: parameters, criteria, records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import ndtri

from mixedgen.arrays import Array
from mixedgen.design.frame import read_frame
from mixedgen.errors import ArgumentError, NotAvailableError, examples, require_probability
from mixedgen.estimation import variances
from mixedgen.estimation.fitted import Fitted
from mixedgen.inference import criteria, fixed_effects
from mixedgen.inference import wald as inference
from mixedgen.inference.inference import Inference
from mixedgen.intervals.profile import profile
from mixedgen.intervals.targets import targets
from mixedgen.prediction import effects as prediction

TidyPart = Literal["fixed", "ran_pars", "ran_vals"]
ConfMethod = Literal["wald", "profile"]

_TIDY_COLUMNS = (
    "effect",
    "group",
    "level",
    "term",
    "estimate",
    "std.error",
    "statistic",
    "df",
    "p.value",
    "conf.low",
    "conf.high",
)


@dataclass(frozen=True)
class Request:
    """How the intervals and tests of a tidy frame are made.

    Attributes
    ----------
    conf_int : bool
        Whether there are intervals.
    conf_method : str
        ``"wald"`` or ``"profile"``.
    level : float
        Of the intervals.
    ddf : str
        Method of degrees of freedom.
    """

    conf_int: bool
    conf_method: str
    level: float
    ddf: str


def tidy(
    tests: Inference,
    effects: TidyPart | Sequence[TidyPart] = ("fixed", "ran_pars"),
    *,
    conf_int: bool = False,
    conf_method: ConfMethod = "wald",
    level: float = 0.95,
    ddf: str = "satterthwaite",
) -> pd.DataFrame:
    """Parameters and random effects, one row each, as broom.mixed's ``tidy``.

    Parameters
    ----------
    tests : Inference
        The model.
    effects : str or sequence of {"fixed", "ran_pars", "ran_vals"}
        Fixed effects; standard deviations and correlations; BLUPs.
    conf_int : bool
        Add ``conf.low conf.high``.
    conf_method : {"wald", "profile"}
        Estimate and standard error, or the profile likelihood of the ML fit. Standard deviations and correlations have
        no Wald interval: they are missing, as in broom.mixed. BLUPs have no profile.
    level : float
        Of the intervals.
    ddf : str
        Method of degrees of freedom of the fixed effects.

    Returns
    -------
    DataFrame
        Those of the columns ``effect group level term estimate std.error statistic df p.value conf.low conf.high`` that
        the effects asked for have. Terms of `ran_pars` are ``sd__(Intercept)``, ``cor__(Intercept).Days`` and
        ``sd__Observation``; the standard error of a BLUP is lme4's conditional one, given the fixed effects. Fixed
        effects have the names of `Fit.params`. Estimates by moments have no `df` and `p.value`.

    Raises
    ------
    ArgumentError
        If an option is unknown.
    NotAvailableError
        If there is no profile: variances given or estimated by moments, or BLUPs.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())
    >>> fit.tidy()[["effect", "group", "term", "estimate"]].round(3)
         effect     group                   term  estimate
    0     fixed       NaN              Intercept   251.405
    1     fixed       NaN                   Days    10.467
    2  ran_pars   Subject        sd__(Intercept)    24.740
    3  ran_pars   Subject  cor__(Intercept).Days     0.066
    4  ran_pars   Subject               sd__Days     5.922
    5  ran_pars  Residual        sd__Observation    25.592
    """
    wanted = [effects] if isinstance(effects, str) else list(effects)
    request = Request(conf_int, conf_method, level, ddf)
    _check_request(wanted, request)
    parts = [rows(tests, request).assign(effect=name) for name, rows in _PARTS.items() if name in wanted]
    out = pd.concat(parts, ignore_index=True)
    return out[[c for c in _TIDY_COLUMNS if c in out.columns]]


def _check_request(wanted: Sequence[str], request: Request) -> None:
    """Raise for options that do not exist or do not go together."""
    unknown = [name for name in wanted if name not in _PARTS]
    if unknown or not wanted:
        raise ArgumentError(f"effects must be among {examples(_PARTS)}, not {examples(unknown)}.")
    if request.conf_method not in ("wald", "profile"):
        raise ArgumentError(f"conf_method must be 'wald' or 'profile', not {request.conf_method!r}.")
    require_probability(request.level)
    if request.conf_int and request.conf_method == "profile" and "ran_vals" in wanted:
        raise NotAvailableError("random effects have no profile likelihood: ask for ran_vals with conf_method='wald'.")


def _tidy_fixed(tests: Inference, request: Request) -> pd.DataFrame:
    """Fixed effects with their t tests."""
    fitted = tests.fitted
    if not fitted.outcome.has_df:
        b, se = fixed_effects.estimates(fitted), fixed_effects.standard_errors(fitted)
        table = pd.DataFrame({"estimate": b, "std.error": se, "statistic": b / se})
    else:
        table = inference.coefficient_table(tests, request.ddf)
        table = table.rename(columns={"se": "std.error", "t": "statistic", "p": "p.value"})
    if request.conf_int:
        table[["conf.low", "conf.high"]] = _fixed_intervals(tests, request).to_numpy()
    return table.rename_axis("term").reset_index()


def _fixed_intervals(tests: Inference, request: Request) -> pd.DataFrame:
    """Two columns of ends for the fixed effects."""
    if request.conf_method == "profile":
        names = list(fixed_effects.coefficient_names(tests.fitted))
        return profile(tests.fitted, names, request.level)[["lower", "upper"]]
    if not tests.fitted.outcome.has_df:
        raise NotAvailableError(f"method={tests.fitted.method!r} has no degrees of freedom, and so no intervals.")
    return inference.intervals(tests, 1.0 - request.level, request.ddf)


def _tidy_ran_pars(tests: Inference, request: Request) -> pd.DataFrame:
    """Standard deviations and correlations, each term's lower triangle column by column."""
    table = variances.components(tests.fitted)
    first = table["var1"].map({}).astype(float)
    last = first.copy()
    for _, block in table.groupby("grp", sort=False):
        place = {name: k for k, name in enumerate(block.loc[block["var2"].isna(), "var1"])}
        first[block.index] = block["var1"].map(place)
        last[block.index] = block["var2"].map(place).fillna(first[block.index])
    groups = pd.factorize(table["grp"])[0]
    table = table.iloc[np.lexsort((last, first, groups))]
    out = pd.DataFrame(
        {"group": table["grp"], "term": [_parameter_name(r) for r in table.itertuples()], "estimate": table["sdcor"]}
    )
    if request.conf_int:
        out[["conf.low", "conf.high"]] = _parameter_intervals(tests.fitted, table, request)
    return out.reset_index(drop=True)


def _parameter_name(row: Any) -> str:
    """broom.mixed's name of a row of `varcomp`: ``sd__x``, ``cor__x.y``, ``sd__Observation``."""
    if pd.isna(row.var1):
        return "sd__Observation"
    return f"sd__{row.var1}" if pd.isna(row.var2) else f"cor__{row.var1}.{row.var2}"


def _parameter_intervals(fitted: Fitted, table: pd.DataFrame, request: Request) -> Array:
    """Ends of the rows of `varcomp`, shape (rows, 2): profiled, missing for what has no profile or under Wald."""
    out = np.full((len(table), 2), np.nan)
    if request.conf_method == "wald":
        return out
    known = _names_by_row(fitted)
    names = [known.get(_row_key(r)) for r in table.itertuples()]
    ends = profile(fitted, [n for n in dict.fromkeys(names) if n], request.level)
    for k, name in enumerate(names):
        if name:
            out[k] = ends.loc[name, ["lower", "upper"]]
    return out


def _names_by_row(fitted: Fitted) -> dict[tuple[str, frozenset[str]], str]:
    """Name of the profile of each row of `varcomp` that has one; several rows may share a standard deviation."""
    return {(grp, frozenset(own)): t.name for t in targets(fitted) for grp, *own in t.rows}


def _row_key(row: Any) -> tuple[str, frozenset[str]]:
    """Group and effects of a row of `varcomp`."""
    return str(row.grp), frozenset(str(v) for v in (row.var1, row.var2) if not pd.isna(v))


def _tidy_ran_vals(tests: Inference, request: Request) -> pd.DataFrame:
    """BLUPs with their conditional standard errors, term by term, effect by effect."""
    blocks = []
    for key, frame in prediction.random_effects(tests.fitted, cond_var=True).items():
        se = np.sqrt(np.maximum(np.einsum("qaa->qa", frame.attrs["cond_var"]), 0.0))
        for a, effect in enumerate(frame.columns):
            values = {
                "group": key,
                "level": frame.index.astype(object),
                "term": effect,
                "estimate": frame[effect].to_numpy(),
            }
            blocks.append(pd.DataFrame({**values, "std.error": se[:, a]}))
    if not blocks:
        raise NotAvailableError("the model has no random terms, and so no ran_vals.")
    out = pd.concat(blocks, ignore_index=True)
    if request.conf_int:
        half = float(ndtri(0.5 + 0.5 * request.level)) * out["std.error"]
        out = out.assign(**{"conf.low": out["estimate"] - half, "conf.high": out["estimate"] + half})
    return out


_PARTS: dict[str, Callable[[Inference, Request], pd.DataFrame]] = {
    "fixed": _tidy_fixed,
    "ran_pars": _tidy_ran_pars,
    "ran_vals": _tidy_ran_vals,
}


def glance(fitted: Fitted) -> pd.DataFrame:
    """One row about the whole fit, as broom.mixed's ``glance``.

    Returns
    -------
    DataFrame
        Columns ``nobs sigma logLik AIC BIC REMLcrit df.residual``; after ML ``deviance`` in the place of ``REMLcrit``.
        `sigma` is the residual standard deviation, absent where there are several; criteria are absent for estimates by
        moments. ``df.residual`` is the number of records less that of the parameters.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff())
    >>> fit.glance().round(2)
       nobs  sigma  logLik     AIC     BIC  REMLcrit  df.residual
    0    30  49.51 -159.83  325.65  329.86    319.65           27
    """
    design = fitted.design
    row: dict[str, float] = {"nobs": design.n}
    if design.residual.homogeneous:
        row["sigma"] = float(np.sqrt(fitted.theta_R[0]))
    if fitted.outcome.has_likelihood:
        row |= {"logLik": -0.5 * fitted.deviance, "AIC": criteria.aic(fitted), "BIC": criteria.bic(fitted)}
        row["REMLcrit" if fitted.reml else "deviance"] = fitted.deviance
    row["df.residual"] = design.n - criteria.n_parameters(fitted)
    return pd.DataFrame([row])


def augment(fitted: Fitted, data: Any = None, *, influence: bool = True) -> pd.DataFrame:
    """The records with what the fit says of each, as broom.mixed's ``augment``.

    Parameters
    ----------
    fitted : Fitted
        The model.
    data : DataFrame, polars or arrow table, mapping of columns, or path, optional
        The data of the fit: all its columns come first then. By default the response, the variables of the fixed part
        and the levels of the random terms of one level for each record.
    influence : bool
        Whether to compute ``.hat`` and ``.cooksd``, which take the inverse of the equations on the pattern of the data.

    Returns
    -------
    DataFrame
        On the index of the data. After the data ``.fitted`` (Xb + Zu and the offset), ``.resid``, ``.hat`` (derivative
        of the fitted value by its own record), ``.cooksd``, ``.fixed`` (Xb and the offset), ``.mu`` (as ``.fitted``),
        ``.offset``, ``.sqrtXwt`` and ``.sqrtrwt`` (root of the weight), ``.weights``, ``.wtres`` (residual times that
        root). Correlated residuals have neither ``.hat`` and ``.cooksd`` nor columns of weights. Under
        ``na_action="exclude"`` rows left out are there, and missing.

    Raises
    ------
    ArgumentError
        If `data` has another number of rows than the data of the fit.
    NotAvailableError
        For several traits.

    Notes
    -----
    h_i = Var(x'b_hat + z'u_hat - x'b - z'u) / R_ii, the diagonal of R^-1/2 W C^-1 W' R^-1/2; Cook's distance
    (e_i / (1 - h_i))^2 h_i / (R_ii p), p the rank of X, as lme4 has it: a short cut beside that of `Fit.influence`,
    which deletes the record.

    Examples
    --------
    >>> import mixedgen as mg
    >>> fit = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())
    >>> fit.augment()[["Reaction", "Days", "Subject", ".fitted", ".resid", ".hat", ".cooksd"]].head(2).round(3)
       Reaction  Days Subject  .fitted  .resid   .hat  .cooksd
    0   249.560     0     308  253.664  -4.104  0.229    0.005
    1   258.705     1     308  273.330 -14.625  0.170    0.040
    """
    if fitted.design.records.several:
        raise NotAvailableError("augment is not available for cbind(...): fit the long form, with a column of traits.")
    own = _record_columns(fitted) if data is None else _given_records(fitted, data)
    out = pd.concat([own, _fitted_columns(fitted, influence)], axis=1)
    return _on_index(fitted, out)


def _on_index(fitted: Fitted, frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of the records used on the index of the data, with empty rows where they are excluded."""
    design = fitted.design
    if design.na_action == "omit":
        return frame.set_axis(design.index[design.kept], axis=0)
    every = frame.set_axis(design.kept, axis=0).reindex(np.arange(len(design.index)))
    return every.set_axis(design.index, axis=0)


def _record_columns(fitted: Fitted) -> pd.DataFrame:
    """Response, variables of the fixed part, and levels of the random terms, of the records used."""
    design = fitted.design
    y = design.response
    out = pd.concat([pd.Series(y, name=design.parsed.responses[0]), design.variables.reset_index(drop=True)], axis=1)
    for t in design.terms:
        if t.record is None and t.key not in out:
            out[t.key] = t.levels[t.level]
    return out


def _given_records(fitted: Fitted, data: Any) -> pd.DataFrame:
    """The records used, out of the data of the fit."""
    frame, design = read_frame(data), fitted.design
    if len(frame) != len(design.index):
        raise ArgumentError(
            f"data has {len(frame)} rows, and that of the fit {len(design.index)}: give the same frame."
        )
    return frame.iloc[design.kept].reset_index(drop=True)


def _fitted_columns(fitted: Fitted, influence: bool) -> pd.DataFrame:
    """What the fit says of each record, shape (n, columns)."""
    design, solution = fitted.design, fitted.system.solution
    independent = design.residual.pairs is None
    offset = np.zeros(design.n) if design.offset is None else design.offset
    mu = design.y - solution.e + offset
    columns = {".fitted": mu, ".resid": solution.e}
    columns |= _influences(fitted) if influence and independent else {}
    columns |= {".fixed": np.asarray(design.fixed.X @ solution.b) + offset, ".mu": mu, ".offset": offset}
    return pd.DataFrame(columns | (_weight_columns(fitted) if independent else {}))


def _weight_columns(fitted: Fitted) -> dict[str, Array]:
    """Weights of independent records, their roots, and residuals times these."""
    design = fitted.design
    w = np.ones(design.n) if design.residual.inverse_weights is None else 1.0 / design.residual.inverse_weights
    root = np.sqrt(w)
    return {".sqrtXwt": root, ".sqrtrwt": root, ".weights": w, ".wtres": root * fitted.system.solution.e}


def _influences(fitted: Fitted) -> dict[str, Array]:
    """Leverage and Cook's distance of each record, the residuals independent."""
    design = fitted.design
    r = design.residual.variances(fitted.theta_R)
    hat = fitted.system.fitted_covariance() / r
    with np.errstate(divide="ignore", invalid="ignore"):
        cook = (fitted.system.solution.e / (1.0 - hat)) ** 2 * hat / (r * design.fixed.p)
    return {".hat": hat, ".cooksd": np.where(np.isfinite(cook), cook, np.nan)}
