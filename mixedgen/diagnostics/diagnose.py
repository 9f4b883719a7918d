"""What a fit says of itself: a report of its weak points, and how the model was read and solved, in plain words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from mixedgen.design.terms import Term
from mixedgen.diagnostics.cost import cost_text
from mixedgen.errors import examples
from mixedgen.estimation.fitted import Fitted, negative
from mixedgen.prediction.records import scaled_residuals

Verdict = Literal["ok", "note", "problem"]

_NEARLY_FLAT = 1e-4  # smallest eigenvalue of the scaled information: two estimates then correlate at 0.9999
_CORRELATED_ESTIMATES = 0.98
_NEARLY_ONE = 0.99  # of a correlation; also of the way to its bound
_NEGLIGIBLE = 1e-6  # share of a variance in that of a record
_FEW_LEVELS = 5  # a variance from fewer has hardly a degree of freedom to each tenth of its size
_SPARSE_SHARE = 0.5  # of the levels with one record for each effect or fewer
_OUTLYING = 4.0  # standard deviations: one of 16,000 normal residuals is as far
_SCALES_APART = 1e4  # lengths of columns of X: beyond, coefficients differ as much, and their printed digits mislead
_LITTLE_LEFT = 1e-2  # share of a column's length that the columns before it leave of it


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes
    ----------
    check : str
        What was looked at.
    verdict : {"ok", "note", "problem"}
        Nothing to see, worth knowing, or the results are not to be relied on.
    evidence : str
        What was found, with at most five labels.
    advice : str
        What to do; empty where all is well.
    """

    check: str
    verdict: Verdict
    evidence: str
    advice: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """Report of the checks of a fit; ``str()`` prints it, notebooks show it as HTML.

    Attributes
    ----------
    table : DataFrame
        A row for each finding: ``check verdict evidence advice``, the verdict one of ``ok note problem``.
    """

    table: pd.DataFrame

    @property
    def ok(self) -> bool:
        """Whether no verdict is ``problem``."""
        return not (self.table["verdict"] == "problem").any()

    def __str__(self) -> str:
        """A line for each finding, and one below it for what to do."""
        lines = []
        for row in self.table.to_dict("records"):
            lines.append(f"[{row['verdict']}] {row['check']}: {row['evidence']}")
            if row["advice"]:
                lines.append(f"    {row['advice']}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """HTML for notebooks."""
        return str(self.table.to_html(index=False, border=0))


def diagnose(fitted: Fitted) -> Diagnosis:
    """Look for what may be wrong with a fit: convergence, identifiability, scaling, outliers, lost records, size.

    Parameters
    ----------
    fitted : Fitted
        The model.

    Returns
    -------
    Diagnosis
        A finding for each check.

    Notes
    -----
    Nothing is fitted anew; all comes from what the fit, its design and its engine hold.

    Examples
    --------
    >>> import mixedgen as mg
    >>> report = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy()).diagnose()
    >>> report.ok
    True
    >>> report.table.loc[report.table["verdict"] != "ok", ["check", "evidence"]].values.tolist()
    [['outliers', 'scaled residual beyond 4 in 1 of 180 records: 56 (5.2).']]
    """
    findings = [f for check in _CHECKS for f in check(fitted)]
    return Diagnosis(pd.DataFrame([vars(f) for f in findings], columns=["check", "verdict", "evidence", "advice"]))


def _convergence(fitted: Fitted) -> list[Finding]:
    """The verdict on how theta came about."""
    if not fitted.solved:
        names = negative(fitted.design, fitted.theta)
        return [Finding("convergence", "problem", f"negative variances: {examples(names)}.", "Fit by REML.")]
    verdict = fitted.outcome.verdict(fitted.method)
    if fitted.outcome.converged:
        return [Finding("convergence", "ok", verdict)]
    advice = "Simplify the term named, give Control(start=...), or more steps with Control(max_iter=...)."
    return [Finding("convergence", "problem", verdict, advice)]


def _curvature(fitted: Fitted) -> list[Finding]:
    """How well the data tell the variance parameters apart."""
    certificate = fitted.outcome.certificate
    if certificate is None:
        return []
    found = _correlated_estimates(fitted)
    evidence = f"smallest eigenvalue of the scaled information {certificate.curvature:.2g}."
    if certificate.curvature >= _NEARLY_FLAT and not found:
        return [Finding("curvature", "ok", evidence)]
    advice = "Do not read these variances one by one: centre covariates, leave out a term, or look at confint()."
    return [Finding("curvature", "note", " ".join([evidence, *found]), advice)]


def _correlated_estimates(fitted: Fitted) -> list[str]:
    """Sentences on variance parameters whose estimates the data hardly tell apart, or not at all."""
    H, names = fitted.theta_covariance, fitted.design.theta_names
    sd = np.sqrt(np.diag(H))
    blind = [names[i] for i in np.flatnonzero(np.isnan(sd)) if i not in fitted.bounds]
    with np.errstate(invalid="ignore", divide="ignore"):
        R = H / np.outer(sd, sd)
        found = np.argwhere(np.tril(np.abs(R) > _CORRELATED_ESTIMATES, -1))
    pairs = [f"{names[j]} and {names[i]} ({R[i, j]:.4f})" for i, j in found]
    out = [f"The information has no inverse on the scale of {', '.join(blind[:5])}."] if blind else []
    return out + ([f"Correlated estimates: {'; '.join(pairs[:5])}."] if pairs else [])


def _boundary(fitted: Fitted) -> list[Finding]:
    """Terms whose covariance matrix is singular, or nearly so."""
    if not fitted.solved:
        return []
    advice = (
        "The random part has more parameters than the data support: drop the effect, or its correlations with (x||g)."
    )
    known = [
        line.removeprefix("boundary (singular) fit: ").split("; the log-likelihood")[0] + "."
        for line in fitted.outcome.singular
    ]
    singular = {i for i, kind in fitted.bounds.items() if kind != "bound"}
    at = {k for k, s in enumerate(fitted.design.slices) for i in singular if s.start <= i < s.stop}
    near = [text for k in range(len(fitted.design.terms)) if k not in at for text in _near_boundary(fitted, k)]
    found = [Finding("boundary", "note", text, advice) for text in (*known, *near)]
    decided = "There the bound decides, not the data: is it meant?"
    found += [Finding("boundary", "note", text, decided) for text in _near_bounds(fitted)]
    return found or [Finding("boundary", "ok", "no variance near zero, no correlation near one.")]


def _near_boundary(fitted: Fitted, k: int) -> list[str]:
    """Variances near zero and correlations near one of a term; factors are so by nature."""
    t = fitted.design.terms[k]
    if t.structure.singular:
        return []
    Sigma = fitted.Sigma(k)
    size = np.diag(Sigma) * np.mean(t.values**2, axis=0)
    total = size.sum() + float(np.mean(fitted.design.residual.variances(fitted.theta_R)))
    small = [
        f"the variance of {t.effects[a]} in {t.key} is {Sigma[a, a]:.3g}."
        for a in np.flatnonzero(size < _NEGLIGIBLE * total)
    ]
    sd = np.sqrt(np.diag(Sigma))
    with np.errstate(invalid="ignore", divide="ignore"):
        R = Sigma / np.outer(sd, sd)
        pairs = np.argwhere(np.tril(np.abs(R) > _NEARLY_ONE, -1))
    return small + [f"{t.effects[j]} and {t.effects[i]} of {t.key} correlate at {R[i, j]:.4f}." for i, j in pairs]


def _near_bounds(fitted: Fitted) -> list[str]:
    """Parameters outside the covariance matrices, as the rho of ar1, that are at a bound or near it."""
    out = []
    for i, low, high in fitted.design.free:
        half = 0.5 * (high - low)
        near = np.isfinite(half) and abs(fitted.theta[i] - 0.5 * (low + high)) > _NEARLY_ONE * half
        if near or fitted.bounds.get(i) == "bound":
            name = fitted.design.theta_names[i]
            out.append(f"{name} is {fitted.theta[i]:.4g}, between bounds {low:.3g} and {high:.3g}.")
    return out


def _rank(fitted: Fitted) -> list[Finding]:
    """Columns of X that others determine."""
    fixed = fitted.design.fixed
    if not fixed.aliased:
        return [Finding("rank of X", "ok", f"{fixed.p} columns, all independent.")]
    evidence = f"rank {fixed.p} of {len(fixed.all_names)} columns; left out: {examples(fixed.aliased)}."
    advice = "Only estimable functions have a meaning: see estimable(L); Control(constraints=...) chooses the columns."
    return [Finding("rank of X", "note", evidence, advice)]


def _scaling(fitted: Fitted) -> list[Finding]:
    """Columns of X of very different size, or nearly dependent."""
    fixed = fitted.design.fixed
    if not fixed.p:
        return []
    if fixed.R is None:
        X: Any = fixed.X
        norms, left = np.sqrt(np.asarray(X.multiply(X).sum(axis=0)).ravel()), np.zeros(0)
    else:
        norms = np.sqrt(np.sum(fixed.R**2, axis=0))
        left = np.abs(np.diag(fixed.R)) / norms
    low, high = fixed.names[int(norms.argmin())], fixed.names[int(norms.argmax())]
    ratio = float(norms.max() / norms.min())
    found = []
    if ratio > _SCALES_APART:
        evidence = f"the columns {high} and {low} differ in size by a factor of {ratio:.2g}."
        found.append(Finding("scaling", "note", evidence, "Change the units of the covariate: scale(x), or x / 1000."))
    near = [fixed.names[j] for j in np.flatnonzero(left < _LITTLE_LEFT)]
    if near:
        evidence = f"the columns before them leave less than {_LITTLE_LEFT} of {examples(near)}."
        found.append(
            Finding("scaling", "note", evidence, "Centre the covariate, or leave out one of two that say the same.")
        )
    return found or [Finding("scaling", "ok", f"the columns of X differ in size by a factor of {ratio:.2g} at most.")]


def _levels(fitted: Fitted) -> list[Finding]:
    """Terms with few levels, or few records for each."""
    return [_few_levels(t) for t in fitted.design.terms]


def _few_levels(t: Term) -> Finding:
    """Levels and records of one term."""
    check = f"levels of {t.key}"
    there = t.counts > 0
    counts = t.counts[there]
    evidence = (
        f"{t.q} levels, {len(counts)} with records: {counts.min()} to {counts.max()}, {counts.mean():.3g} on average"
    )
    if len(counts) < _FEW_LEVELS:
        advice = "Few levels tell little of a variance: consider a fixed effect, and trust intervals, not estimates."
        return Finding(check, "note", f"{evidence}.", advice)
    few = counts <= t.c
    if t.relationship is None and np.mean(few) > _SPARSE_SHARE:
        labels = examples(list(t.levels[there][few]))
        word = "one record" if t.c == 1 else f"{t.c} records or fewer, for {t.c} effects"
        advice = "Their effects are told from the residuals by the other levels only."
        return Finding(check, "note", f"{evidence}; {few.sum()} with {word}: {labels}.", advice)
    return Finding(check, "ok", f"{evidence}.")


def _outliers(fitted: Fitted) -> list[Finding]:
    """Records far from what is fitted."""
    if not fitted.solved:
        return []
    r = scaled_residuals(fitted)
    far = np.flatnonzero(np.abs(r) > _OUTLYING)
    if not len(far):
        return [Finding("outliers", "ok", f"largest scaled residual {np.abs(r).max():.2f}.")]
    far = far[np.argsort(-np.abs(r[far]), kind="stable")]
    labels = [f"{label} ({v:.1f})" for label, v in zip(fitted.design.records.labels[far], r[far], strict=True)]
    shown = ", ".join(labels[:5]) + (" ..." if len(far) > 5 else "")
    evidence = f"scaled residual beyond {_OUTLYING:.0f} in {len(far)} of {len(r)} records: {shown}."
    return [
        Finding("outliers", "note", evidence, "Check these records; influence() says what they do to the estimates.")
    ]


def _lost_records(fitted: Fitted) -> list[Finding]:
    """Rows that are not used."""
    design = fitted.design
    rows = len(design.index) - len(design.kept)
    if not rows:
        return [Finding("records", "ok", f"all {len(design.index)} rows are used.")]
    why = ", ".join(f"{n} for {name}" for name, n in list(design.lost.items())[:5])
    other = " by subset=, or for want of all traits." if design.records.several else " by subset=."
    evidence = f"{rows} of {len(design.index)} rows are left out" + (f": {why}." if why else other)
    return [Finding("records", "note" if why else "ok", evidence, "Are they missing at random?" if why else "")]


def _ids(fitted: Fitted) -> list[Finding]:
    """How the ids of the data meet those of the relationships."""
    found = []
    for key, report in fitted.design.id_reports.items():
        evidence = str(report).replace("\n", "; ") + "."
        verdict: Verdict = "ok" if report.complete else "note"
        advice = (
            "" if report.complete else "Records without a level are not used; correct the spelling, or add the ids."
        )
        found.append(Finding(f"ids of {key}", verdict, evidence, advice))
    return found


def _cost(fitted: Fitted) -> list[Finding]:
    """Time and memory of one step."""
    return [Finding("cost", "ok", cost_text(fitted.engine.forecast()))]


_CHECKS: tuple[Callable[[Fitted], list[Finding]], ...] = (
    _convergence,
    _curvature,
    _boundary,
    _rank,
    _scaling,
    _levels,
    _outliers,
    _lost_records,
    _ids,
    _cost,
)
