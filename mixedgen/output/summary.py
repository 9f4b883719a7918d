"""Summary of a fitted model as text, HTML and LaTeX, laid out as lme4 prints it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape

import numpy as np
import pandas as pd

from mixedgen.estimation import variances
from mixedgen.estimation.fitted import Fitted
from mixedgen.inference import criteria, fixed_effects
from mixedgen.inference import wald as inference
from mixedgen.inference.inference import Inference
from mixedgen.inference.information import automatic
from mixedgen.output.texts import p_text, significant_text
from mixedgen.prediction import records

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_MAX_CORRELATION = 20  # columns of the correlation table, as in lme4


@dataclass(frozen=True)
class Summary:
    """Summary of a fitted model; ``str()`` prints it, notebooks show it as HTML.

    Attributes
    ----------
    coefficients : DataFrame
        Fixed effects: ``estimate se df t p``; ``estimate se t`` without a method of degrees of freedom.
    varcomp : DataFrame
        Variance components, as `Fit.varcomp`.
    correlation : DataFrame
        Correlation of the fixed effects.
    scaled_residuals : Series
        Quantiles of the scaled residuals.
    header, footer : tuple of str
        Lines above and below the tables.
    groups : str
        Numbers of records and of levels.
    """

    coefficients: pd.DataFrame
    varcomp: pd.DataFrame
    correlation: pd.DataFrame
    scaled_residuals: pd.Series
    header: tuple[str, ...]
    footer: tuple[str, ...]
    groups: str

    @cached_property
    def random_effects(self) -> pd.DataFrame:
        """Random effects as lme4 lays them out: Groups, Name, Variance, Std.Dev., Corr."""
        return _random_table(self.varcomp)

    def as_text(self) -> str:
        """Plain text."""
        parts = ["\n".join(self.header)]
        if len(self.scaled_residuals):
            quantiles = self.scaled_residuals.to_frame().T
            parts.append("Scaled residuals:\n" + _text_table(quantiles, index=False, digits=4))
        if len(self.random_effects):
            parts.append(
                "Random effects:\n" + _text_table(self.random_effects, index=False, left=2) + "\n" + self.groups
            )
        if len(self.coefficients):
            parts.append("Fixed effects:\n" + _text_table(_printed_coefficients(self.coefficients)))
        if 1 < len(self.correlation) <= _MAX_CORRELATION:
            parts.append("Correlation of Fixed Effects:\n" + _correlation_text(self.correlation))
        return "\n\n".join([*parts, "\n".join(self.footer)])

    def __str__(self) -> str:
        """Plain text."""
        return self.as_text()

    def __repr__(self) -> str:
        """Plain text."""
        return self.as_text()

    def _repr_html_(self) -> str:
        """HTML for notebooks."""
        lines = "".join(f"<p>{escape(line)}</p>" for line in self.header)
        foot = "".join(f"<p>{escape(line)}</p>" for line in (self.groups, *self.footer))
        tables = [
            "<h4>Random effects</h4>" + self.random_effects.to_html(index=False, border=0, na_rep=""),
            "<h4>Fixed effects</h4>" + self.coefficients.to_html(border=0, float_format=significant_text),
        ]
        return lines + "".join(tables) + foot

    def as_latex(self) -> str:
        """Two LaTeX tabulars: random effects, fixed effects."""
        return _latex_tabular(self.random_effects, index=False) + "\n\n" + _latex_tabular(self.coefficients, index=True)


def _printed_coefficients(table: pd.DataFrame) -> pd.DataFrame:
    """Table of the coefficients with R's headings; p-values as text."""
    table = table.rename(columns={"estimate": "Estimate", "se": "Std. Error", "t": "t value"})
    if "p" in table:
        table = table.assign(p=[p_text(p) for p in table["p"]]).rename(columns={"p": "Pr(>|t|)"})
    return table


def _random_table(varcomp: pd.DataFrame) -> pd.DataFrame:
    """Rows of variances with their correlations to the effects before them."""
    rows = []
    for grp, block in varcomp.groupby("grp", sort=False):
        records = block.to_dict("records")
        cov = [r for r in records if not pd.isna(r["var2"])]
        own = [r for r in records if pd.isna(r["var2"])]
        for k, row in enumerate(own):
            corr = [c["sdcor"] for c in cov if c["var2"] == row["var1"]]
            rows.append(
                {
                    "Groups": grp if k == 0 else "",
                    "Name": "" if pd.isna(row["var1"]) else row["var1"],
                    "Variance": significant_text(row["vcov"]),
                    "Std.Dev.": significant_text(row["sdcor"]),
                    "Corr": " ".join(f"{c:.2f}" for c in corr),
                }
            )
        # correlations of a product of structures, which belong to no two of the effects
        alone = [(f"{c['var1']},{c['var2']}", f"{c['sdcor']:.2f}") for c in cov if pd.isna(c["vcov"])]
        rows += [{"Groups": "", "Name": n, "Variance": "", "Std.Dev.": "", "Corr": r} for n, r in alone]
    return pd.DataFrame(rows, columns=["Groups", "Name", "Variance", "Std.Dev.", "Corr"])


def _text_table(frame: pd.DataFrame, *, index: bool = True, left: int = 0, digits: int | None = None) -> str:
    """Columns aligned: names and the first `left` columns to the left, numbers to the right."""
    columns: list[list[str]] = []
    if index:
        columns.append(["", *map(str, frame.index)])
    for name in frame.columns:
        columns.append([str(name), *_column_text(frame[name], digits)])
    width = [max(map(len, c)) for c in columns]
    to_left = left + int(index)
    lines = []
    for row in zip(*columns, strict=True):
        cells = [t.ljust(w) if k < to_left else t.rjust(w) for k, (t, w) in enumerate(zip(row, width, strict=True))]
        lines.append(" ".join(cells).rstrip())
    return "\n".join(lines)


def _column_text(column: pd.Series, digits: int | None) -> list[str]:
    """Texts of a column; its numbers have as many decimals as the smallest needs for four significant digits."""
    if not pd.api.types.is_numeric_dtype(column):
        return ["" if pd.isna(v) else str(v) for v in column]
    values = column.to_numpy(dtype=float)
    if digits is None:
        size = np.abs(values[np.isfinite(values) & (values != 0)])
        digits = int(np.clip(3 - np.floor(np.log10(size.min())), 0, 6)) if len(size) else 3
    return ["" if np.isnan(v) else f"{v:.{digits}f}" if abs(v) < 1e10 else f"{v:.6g}" for v in values]


def _correlation_text(correlation: pd.DataFrame) -> str:
    """Lower triangle without the diagonal, names abbreviated above."""
    names = [str(n) for n in correlation.index]
    short = [n if len(n) <= 6 else n[:6] for n in names]
    values = correlation.to_numpy()
    table = pd.DataFrame(
        {
            short[j] + "\u200b" * j: ["" if j >= i else f"{values[i, j]:.3f}" for i in range(1, len(names))]
            for j in range(len(names) - 1)
        },
        index=names[1:],
    )
    return _text_table(table).replace("\u200b", "")


def _latex_tabular(frame: pd.DataFrame, *, index: bool) -> str:
    """A tabular of a frame, special characters escaped."""
    head = ([""] if index else []) + [str(c) for c in frame.columns]
    body = []
    for name, row in zip(frame.index, frame.itertuples(index=False), strict=True):
        cells = [significant_text(v) if isinstance(v, float) else str(v) for v in row]
        body.append(([str(name)] if index else []) + cells)
    lines = [" & ".join(map(_latex_escape, cells)) + r" \\" for cells in (head, *body)]
    align = "l" + "r" * (len(head) - 1)
    return "\n".join(
        [rf"\begin{{tabular}}{{{align}}}", r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}"]
    )


def _latex_escape(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    for character in "&%$#_{}":
        text = text.replace(character, "\\" + character)
    return text.replace("~", r"\textasciitilde{}").replace("^", r"\textasciicircum{}")


def summarise(tests: Inference, ddf: str | None = "auto") -> Summary:
    """Summary of a fitted model, its t tests by a method of degrees of freedom, or without any.

    ``"auto"`` is Satterthwaite's method where it costs little, and none, with a line that says so, where it does not.
    """
    fitted = tests.fitted
    note: tuple[str, ...] = ()
    if not fitted.solved:
        return _unsolved_summary(fitted)
    if not fitted.outcome.has_df:
        ddf = None
    if ddf == "auto":
        ddf = "satterthwaite" if tests.known or automatic(fitted) else None
        note = () if ddf else ("Degrees of freedom would take long here: ask for summary(ddf='satterthwaite').",)
    estimate, se = fixed_effects.estimates(fitted), fixed_effects.standard_errors(fitted)
    if ddf is None:
        coefficients = pd.DataFrame({"estimate": estimate, "se": se, "t": estimate / se})
    else:
        coefficients = inference.coefficient_table(tests, ddf)
    quantiles = np.quantile(records.scaled_residuals(fitted), _QUANTILES)
    cov = fixed_effects.covariance(fitted) if len(estimate) <= _MAX_CORRELATION else pd.DataFrame()
    correlation = cov.div(se, axis=0).div(se, axis=1) if len(cov) else cov
    return Summary(
        coefficients=coefficients,
        varcomp=variances.components(fitted),
        correlation=correlation,
        scaled_residuals=pd.Series(quantiles, index=pd.Index(["Min", "1Q", "Median", "3Q", "Max"])),
        header=_header_lines(fitted),
        footer=(*note, *_footer_lines(fitted)),
        groups=_groups_line(fitted),
    )


def _unsolved_summary(fitted: Fitted) -> Summary:
    """Variance components alone: some are negative, and there is nothing else."""
    return Summary(
        coefficients=pd.DataFrame(),
        varcomp=variances.components(fitted),
        correlation=pd.DataFrame(),
        scaled_residuals=pd.Series(dtype=float),
        header=_header_lines(fitted),
        footer=("A variance is negative: there are no fixed effects and predictions.", *_footer_lines(fitted)),
        groups=_groups_line(fitted),
    )


def _header_lines(fitted: Fitted) -> tuple[str, ...]:
    """Title, formula and criterion."""
    title = (fitted.outcome.title(fitted.estimator.title), f"Formula: {fitted.design.parsed.source}")
    if not fitted.outcome.has_likelihood:
        return title
    name = "REML criterion" if fitted.reml else "deviance"
    loglik = -0.5 * fitted.deviance
    aic, bic = criteria.aic(fitted), criteria.bic(fitted)
    line = f"logLik {loglik:.4f}, AIC {aic:.4f}, BIC {bic:.4f}, {criteria.n_parameters(fitted)} parameters"
    return (*title, f"{name} {fitted.outcome.place}: {fitted.deviance:.4f}", line)


def _groups_line(fitted: Fitted) -> str:
    """Numbers of records and of levels."""
    groups = "; ".join(f"{t.key}, {t.q}" for t in fitted.design.terms)
    return f"Number of obs: {fitted.design.n}" + (f", groups: {groups}" if groups else "")


def _footer_lines(fitted: Fitted) -> tuple[str, ...]:
    """Rows lost, aliased columns and the certificate."""
    design = fitted.design
    lines: list[str] = []
    if design.lost:
        rows = len(design.index) - design.n
        lines.append(
            f"{rows} rows left out for missing values: " + _listing(f"{n} in {v}" for v, n in design.lost.items())
        )
    if design.unknown:
        lines.append(
            "records without an id, kept with a row of zeros in Z: "
            + _listing(f"{n} in {v}" for v, n in design.unknown.items())
        )
    if design.fixed.aliased:
        lines.append("aliased columns left out of X: " + _listing(design.fixed.aliased))
    known = fitted.control.restrictions
    if known.fix:
        lines.append("Fixed: " + _listing(f"{name} = {value:g}" for name, value in known.fix.items()))
    if known.equate:
        lines.append("Equal: " + _listing(" = ".join(group) for group in known.equate))
    if fitted.outcome.certificate is not None:
        lines.append(f"Certificate: {fitted.outcome.certificate}")
    return tuple(lines)


def _listing(items: Sequence[str] | object) -> str:
    """Items separated by commas."""
    return ", ".join(items) + "."  # type: ignore[arg-type]
