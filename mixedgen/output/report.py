"""Tables of fitted models for reports, in Markdown, HTML, LaTeX and Word, and what the package maketables asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd

from mixedgen.errors import ArgumentError, examples, public, require_probability
from mixedgen.estimation import variances
from mixedgen.estimation.fitted import Fitted
from mixedgen.inference import criteria, fixed_effects
from mixedgen.inference import wald as inference
from mixedgen.inference.degrees import ddf_method
from mixedgen.inference.inference import Result
from mixedgen.output.texts import decimal_text, p_text
from mixedgen.output.write import ReportTable
from mixedgen.prediction import proportions

Uncertainty = Literal["se", "interval"]

_FIXED, _RANDOM, _STATISTICS = "Fixed effects", "Random effects", "Statistics"
_MAX_EFFECTS = 5  # of a term whose correlations are all in the table
_MAX_DECIMALS = 10
_P_DECIMALS = 3
_NEGLIGIBLE_SD = 1e-5  # standard deviation beside the largest of the fit that counts as zero
_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


@dataclass(frozen=True)
class Style:
    """What the cells of a table hold.

    Attributes
    ----------
    ddf : str or None
        Method of degrees of freedom; None for neither tests nor intervals.
    uncertainty : str
        ``"se"`` or ``"interval"``.
    level : float
        Of the intervals.
    p_values, stars : bool
        Whether there is a column of p-values, and whether stars stand for them.
    digits : int
        Decimals.
    """

    ddf: str | None
    uncertainty: Uncertainty
    level: float
    p_values: bool
    stars: bool
    digits: int

    @property
    def heading(self) -> str:
        """Heading of the estimates."""
        return "estimate (SE)" if self.uncertainty == "se" else f"estimate [{100 * self.level:g} % interval]"


@public
def table(
    fits: Result | Sequence[Result],
    *,
    names: Sequence[str] | None = None,
    ddf: str | None = "satterthwaite",
    uncertainty: Uncertainty = "se",
    level: float = 0.95,
    p_values: bool = True,
    stars: bool = False,
    digits: int = 3,
    coefficients: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    rows: Mapping[str, Callable[[Any], Any] | Sequence[Any]] | None = None,
    title: str | None = None,
) -> ReportTable:
    """Fits side by side: fixed effects, random effects, statistics.

    Parameters
    ----------
    fits : Fit or sequence of Fit
        The models.
    names : sequence of str, optional
        Headings of the fits; ``(1)``, ``(2)`` by default.
    ddf : {"satterthwaite", "kenward-roger", "containment", "z"}, optional
        Method of degrees of freedom of p-values and intervals; None leaves both out.
    uncertainty : {"se", "interval"}
        What stands beside an estimate.
    level : float
        Of the intervals.
    p_values : bool
        Whether there is a column of p-values.
    stars : bool
        Whether estimates carry ``*``, ``**``, ``***`` for p below 0.05, 0.01, 0.001.
    digits : int
        Decimals; estimates with a small standard error get as many as show two digits of it.
    coefficients : sequence of str, optional
        Fixed effects to show, in this order; all by default.
    labels : mapping of str to str, optional
        Names of fixed effects in the table.
    rows : mapping of str to callable or sequence, optional
        Further statistics by their label: a function of a fit, or a value for each fit.
    title : str, optional
        Line above the table.

    Returns
    -------
    ReportTable
        Cells in ``.frame``; ``.as_markdown() .as_html() .as_latex() .as_gt() .save(path)``. Random effects are standard
        deviations and correlations. Notes below say how p-values were made, and what about the fits cannot be compared:
        other responses or records, REML beside ML, restricted likelihoods of different fixed effects.

    Raises
    ------
    ArgumentError
        If an option is unknown, a name no coefficient, or the lengths do not fit.

    Examples
    --------
    >>> import mixedgen as mg
    >>> sleep = mg.data.sleepstudy()
    >>> one = mg.lmm("Reaction ~ Days + (1|Subject)", sleep)
    >>> two = mg.lmm("Reaction ~ Days + (Days|Subject)", sleep)
    >>> cells = mg.table([one, two], names=["intercepts", "slopes"]).frame
    >>> cells.loc["Fixed effects", "slopes"]
               estimate (SE)       p
    Intercept  251.405 (6.825)  <0.001
    Days        10.467 (1.546)  <0.001
    >>> cells.loc["Random effects"].iloc[:, [0, 2]].to_numpy().tolist()
    [['37.124', '24.740'], ['', '5.922'], ['', '0.066'], ['30.991', '25.592']]
    """
    models = list(fits) if isinstance(fits, Iterable) else [fits]
    style = Style(ddf, uncertainty, level, p_values and ddf is not None, stars, digits)
    _check_table(models, style)
    heads = _headings(models, names)
    blocks = {
        _FIXED: _fixed_cells(models, style, coefficients, labels or {}),
        _RANDOM: _random_cells([random_rows(m.fitted) for m in models], digits),
        _STATISTICS: _statistic_cells([statistic_rows(m) for m in models], models, rows or {}, digits),
    }
    return ReportTable(_assembled(blocks, heads, style), title, _notes(models, heads, style))


def _check_table(models: Sequence[Any], style: Style) -> None:
    """Raise an ArgumentError for what is no fit and options that do not exist."""
    if not models or not all(isinstance(getattr(m, "fitted", None), Fitted) for m in models):
        raise ArgumentError("table() takes a fit or a sequence of fits, as lmm() returns them.")
    if style.ddf is not None:
        ddf_method(style.ddf)
    if style.uncertainty not in ("se", "interval"):
        raise ArgumentError(f"uncertainty must be 'se' or 'interval', not {style.uncertainty!r}.")
    if style.ddf is None and (style.stars or style.uncertainty == "interval"):
        raise ArgumentError("stars and intervals need degrees of freedom: give ddf=.")
    if isinstance(style.digits, bool) or not isinstance(style.digits, int) or not 0 <= style.digits <= _MAX_DECIMALS:
        raise ArgumentError(f"digits must be a whole number from 0 to {_MAX_DECIMALS}, not {style.digits!r}.")
    require_probability(style.level)


def _headings(models: Sequence[Result], names: Sequence[str] | None) -> list[str]:
    """Heading of each fit."""
    heads = [f"({k + 1})" for k in range(len(models))] if names is None else [str(name) for name in names]
    if len(heads) != len(models) or len(set(heads)) < len(heads):
        raise ArgumentError(f"names must be {len(models)} different headings, not {heads!r}.")
    return heads


def _assembled(
    blocks: Mapping[str, Mapping[str, list[tuple[str, str]]]], heads: list[str], style: Style
) -> pd.DataFrame:
    """Frame of the blocks: for each row and fit the cell and its p-value."""
    index = pd.MultiIndex.from_tuples([(part, row) for part, block in blocks.items() for row in block])
    pairs = [pair for block in blocks.values() for pair in block.values()]
    whats = (style.heading, "p")[: 1 + style.p_values]
    columns = pd.MultiIndex.from_product([heads, whats])
    cells = [[text for cell in row for text in cell[: len(whats)]] for row in pairs]
    return pd.DataFrame(cells, index=index, columns=columns, dtype=object)


def _union(blocks: Iterable[Iterable[str]]) -> list[str]:
    """Names of several lists, each once, in the order of their first appearance."""
    return list(dict.fromkeys(name for block in blocks for name in block))


def _fixed_cells(
    models: Sequence[Result], style: Style, coefficients: Sequence[str] | None, labels: Mapping[str, str]
) -> dict[str, list[tuple[str, str]]]:
    """Cells of the fixed effects, by row."""
    tables = [_fixed_table(m, style) for m in models]
    known = _union(t.index for t in tables)
    wanted = known if coefficients is None else list(coefficients)
    unknown = [name for name in [*wanted, *labels] if name not in known]
    if unknown:
        raise ArgumentError(f"no coefficient {examples(unknown)} in these fits; they have {examples(known)}.")
    out = {}
    for name in wanted:
        own = [t.loc[name].to_dict() if name in t.index else None for t in tables]
        places = _decimals([r["se"] for r in own if r is not None], style.digits)
        out[labels.get(name, name)] = [("", "") if r is None else _fixed_cell(r, style, places) for r in own]
    if len(out) < len(wanted):
        raise ArgumentError("labels and coefficients must give every row another name.")
    return out


def _fixed_table(model: Result, style: Style) -> pd.DataFrame:
    """Columns ``estimate se lower upper p`` of the fixed effects; without degrees of freedom neither tests nor ends."""
    fitted = model.fitted
    if not fitted.solved:
        return pd.DataFrame(columns=["estimate", "se", "lower", "upper", "p"])
    if style.ddf is None or not fitted.outcome.has_df:
        out = pd.DataFrame({"estimate": fixed_effects.estimates(fitted), "se": fixed_effects.standard_errors(fitted)})
        return out.assign(lower=np.nan, upper=np.nan, p=np.nan)
    out = inference.coefficient_table(model.inference, style.ddf)
    half = inference.t_quantile(out["df"].to_numpy(), style.level) * out["se"]
    return out.assign(lower=out["estimate"] - half, upper=out["estimate"] + half)


def _decimals(values: Iterable[float], digits: int) -> int:
    """As many decimals as `digits`, or as show two digits of the smallest value."""
    size = [abs(v) for v in values if np.isfinite(v) and v]
    return min(_MAX_DECIMALS, max([digits, *(1 - int(np.floor(np.log10(v))) for v in size)]))


def _fixed_cell(row: Mapping[Any, float], style: Style, places: int) -> tuple[str, str]:
    """Estimate with its uncertainty, and its p-value."""
    p = row["p"]
    star = next((mark for bound, mark in _STARS if p < bound), "") if style.stars else ""
    text = f"{row['estimate']:.{places}f}{star}"
    if style.uncertainty == "se" or np.isnan(row["lower"]):
        return f"{text} ({row['se']:.{places}f})", p_text(p, _P_DECIMALS)
    return f"{text} [{row['lower']:.{places}f}, {row['upper']:.{places}f}]", p_text(p, _P_DECIMALS)


def _random_cells(tables: Sequence[Mapping[str, float]], digits: int) -> dict[str, list[tuple[str, str]]]:
    """Cells of standard deviations and correlations, those of the residuals last."""
    names = _union(tables)
    out = {}
    for name in sorted(names, key=lambda n: n.startswith("Residual: ")):
        values = [t.get(name) for t in tables]
        places = _decimals([v for v in values if v is not None], digits) if ": SD" in name else digits
        out[name] = [("" if v is None else decimal_text(v, places), "") for v in values]
    return out


@dataclass(frozen=True)
class GroupRows:
    """Standard deviations and correlations of one term, or of the residuals.

    Attributes
    ----------
    grp : str
        Name of the term, or "Residual".
    sd, cor : DataFrame
        Its rows of `varcomp`, of one effect and of two.
    own : dict
        Parameters that are neither variances nor covariances, by name: rho, or those of `exp()`.
    """

    grp: str
    sd: pd.DataFrame
    cor: pd.DataFrame
    own: dict[str, float]

    @property
    def hidden(self) -> bool:
        """Whether there are more correlations than the table shows."""
        return not self.own and len(self.sd) > _MAX_EFFECTS and len(self.cor) > 0

    def rows(self) -> dict[str, float]:
        """Values by the label of their row.

        Equal standard deviations of all effects share a row; parameters of correlation stand in the place of the
        correlations they make. A variance that depends on a covariate has its parameters alone.
        """
        if self.own and len(self.sd) == 1:
            return self.own
        if self.own and np.ptp(self.sd["sdcor"]) == 0.0:
            return {f"{self.grp}: SD": float(self.sd["sdcor"].iloc[0]), **self.own}
        names = [f"{self.grp}: SD" if pd.isna(v) else f"{self.grp}: SD {v}" for v in self.sd["var1"]]
        out = dict(zip(names, self.sd["sdcor"].astype(float), strict=True)) | self.own
        if not self.own and not self.hidden:
            pairs = self.cor[["var1", "var2", "sdcor"]].itertuples(index=False, name=None)
            out |= {f"{self.grp}: correlation {a}, {b}": float(r) for a, b, r in pairs}
        return out


def _group_rows(fitted: Fitted) -> list[GroupRows]:
    """Standard deviations and correlations, term by term; one that is nothing beside the largest is zero."""
    table = variances.components(fitted)
    single = table["var2"].isna()
    largest = float(np.nanmax(table.loc[single, "sdcor"], initial=0.0))
    table["sdcor"] = table["sdcor"].mask(single & (table["sdcor"] < _NEGLIGIBLE_SD * largest), 0.0)
    return [
        GroupRows(str(grp), block[single[block.index]], block[~single[block.index]], _own_parameters(fitted, str(grp)))
        for grp, block in table.groupby("grp", sort=False)
    ]


def random_rows(fitted: Fitted) -> dict[str, float]:
    """Standard deviations and correlations of the terms and the residuals, by the label of their row."""
    return {name: value for part in _group_rows(fitted) for name, value in part.rows().items()}


def _own_parameters(fitted: Fitted, grp: str) -> dict[str, float]:
    """Parameters of a structure that are neither variances nor covariances, by the label of their row.

    Those are the parameters of the structure as a whole: rho, or level and slope of a log variance; not those of one
    column of a product or of one section, whose label has more words.
    """
    design = fitted.design
    k = next((k for k, t in enumerate(design.terms) if t.key == grp), -1)
    structure = design.residual.structure if k < 0 else design.terms[k].structure
    effects = (design.residual.classes or ("",)) if k < 0 else design.terms[k].effects
    out = {}
    for p, value in zip(structure.parameters(effects), fitted.theta[design.slices[k]], strict=True):
        if p.kind in ("correlation", "level") and len(p.label) == 1:
            out[f"{grp}: {p.scale + ', ' if p.scale else ''}{p.label[0]}"] = float(value)
    return out


def statistic_rows(model: Result) -> dict[str, Any]:
    """Statistics of a fit, by the label of their row."""
    fitted = model.fitted
    out: dict[str, Any] = {"Records": fitted.design.n}
    out |= {f"Levels of {t.key}": t.q for t in fitted.design.terms}
    if fitted.outcome.has_likelihood:
        out |= {"log-likelihood": -0.5 * fitted.deviance, "AIC": criteria.aic(fitted), "BIC": criteria.bic(fitted)}
    if fitted.solved and not fitted.design.records.several:
        r2 = proportions.r_squared(fitted)
        out |= {"R² marginal": r2.marginal, "R² conditional": r2.conditional}
    out["Method"] = fitted.method.upper()
    if fitted.outcome.certificate is not None:
        out["Converged"] = "yes" if fitted.outcome.converged else "no"
    return out


def _statistic_cells(
    tables: Sequence[Mapping[str, Any]],
    models: Sequence[Result],
    rows: Mapping[str, Callable[[Any], Any] | Sequence[Any]],
    digits: int,
) -> dict[str, list[tuple[str, str]]]:
    """Cells of the statistics, then those of the rows asked for besides."""
    last = ("log-likelihood", "AIC", "BIC", "R² marginal", "R² conditional", "Method", "Converged")
    names = sorted(_union(tables), key=lambda name: last.index(name) + 1 if name in last else 0)
    out = {name: [t.get(name) for t in tables] for name in names}
    for label, given in rows.items():
        values = [given(m) for m in models] if callable(given) else list(given)
        if len(values) != len(models) or label in out:
            raise ArgumentError(f"rows[{label!r}] must have another label and {len(models)} values, one for each fit.")
        out[label] = values
    return {name: [(_statistic_text(v, digits), "") for v in values] for name, values in out.items()}


def _statistic_text(value: Any, digits: int) -> str:
    """A statistic: whole numbers as they are, others with so many decimals."""
    if value is None:
        return ""
    return decimal_text(float(value), digits) if isinstance(value, float | np.floating) else str(value)


def _notes(models: Sequence[Result], heads: Sequence[str], style: Style) -> tuple[str, ...]:
    """What the reader must know: how the cells were made, what cannot be compared, what a fit has of its own."""
    return (
        _cell_note(style),
        *(["* p < 0.05, ** p < 0.01, *** p < 0.001."] if style.stars else []),
        *_comparison_notes([m.fitted for m in models], heads),
        *(line for m, head in zip(models, heads, strict=True) for line in _fit_notes(m.fitted, head)),
    )


def _cell_note(style: Style) -> str:
    """How estimates, intervals and p-values were made."""
    text = "Random effects: standard deviations and correlations. R² by Nakagawa and Schielzeth."
    tests = "" if style.ddf is None else ddf_method(style.ddf).text
    if style.uncertainty == "se":
        p = f"; p-values by {tests}" if style.p_values or style.stars else ""
        return f"Standard errors in parentheses{p}. {text}"
    what = "Intervals and p-values" if style.p_values or style.stars else "Intervals"
    return f"{what} by {tests}. {text}"


def _comparison_notes(fits: Sequence[Fitted], heads: Sequence[str]) -> list[str]:
    """What differs between the fits so that their likelihoods cannot be compared."""
    responses = [", ".join(f.design.parsed.responses) for f in fits]
    if len(set(responses)) > 1:
        listed = "; ".join(f"{head}: {response}" for head, response in zip(heads, responses, strict=True))
        return [f"The responses differ ({listed}): estimates and criteria are not comparable."]
    if any(not _same_records(a, b) for a, b in combinations(fits, 2)):
        return ["The fits are to different records: their criteria are not comparable."]
    likelihoods = [f for f in fits if f.outcome.has_likelihood]
    if len({f.method for f in likelihoods}) > 1:
        return ["Likelihoods of REML and of ML are not comparable."]
    if len({f.design.fixed.names for f in likelihoods if f.reml}) > 1:
        return ["The fixed effects differ: restricted likelihoods (REML), AIC and BIC are not comparable."]
    return []


def _same_records(a: Fitted, b: Fitted) -> bool:
    """Whether two fits have the same values of the response, in any order."""
    one, other = (np.sort(f.design.response) for f in (a, b))
    return len(one) == len(other) and bool(np.allclose(one, other))


def _fit_notes(fitted: Fitted, head: str) -> list[str]:
    """What a fit has of its own: a boundary, no convergence, variances that were given or are negative."""
    out = []
    design = fitted.design
    outcome = fitted.outcome
    if outcome.note is not None:
        out.append(f"{head}: {outcome.note}")
    restricted = _restrictions(fitted)
    if restricted:
        out.append(f"{head}: restricted beforehand: {', '.join(restricted)}.")
    if not fitted.solved:
        out.append(f"{head}: a variance is negative, so there are no fixed effects.")
    if outcome.singular:
        out.append(f"{head}: boundary (singular) fit.")
    if not outcome.converged:
        out.append(f"{head}: {outcome.verdict(fitted.method)}")
    if design.fixed.aliased:
        out.append(f"{head}: aliased and left out: {examples(design.fixed.aliased)}.")
    many = [part.grp for part in _group_rows(fitted) if part.hidden]
    if many:
        out.append(f"{head}: correlations of {examples(many)} are not shown.")
    return out


def _restrictions(fitted: Fitted) -> list[str]:
    """Variance parameters that were fixed, equated or bounded."""
    control = fitted.control
    fixed = [f"{name} = {value:g}" for name, value in control.fix.items()]
    equal = [" = ".join(group) for group in control.equate]
    return fixed + equal + [f"{low:g} <= {name} <= {high:g}" for name, (low, high) in control.bound.items()]
