"""The packages that are raced: how each is called, and how its answer is read.

Only the call inside ``fit`` is timed, the making of its design included. Nothing here is imported before it is needed,
for this file runs under the interpreter of the peers too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd

from tests.benchmarks.workloads import Workload


@dataclass(frozen=True)
class Answer:
    """What a peer found: its log-likelihood, and its variances and covariances with their labels."""

    llf: float
    labels: list[str]
    components: list[float]
    note: str = ""


@dataclass(frozen=True)
class Peer:
    """A Python package: ``fit`` is timed, ``read`` is not.

    ``refuses`` gives the reason for not running a workload, or None; ``caveat`` says how its model differs from ours.
    """

    module: str
    distribution: str
    fit: Callable[[Workload, pd.DataFrame, str], Any]
    read: Callable[[Any], Answer]
    refuses: Callable[[Workload], str | None] = lambda workload: None
    caveat: Callable[[Workload], str] = lambda workload: ""


def _fit_mixedgen(workload: Workload, frame: pd.DataFrame, method: str) -> Any:
    return import_module("mixedgen").lmm(workload.formula, frame, method=method)


def _read_mixedgen(fit: Any) -> Answer:
    rows = fit.varcomp[["grp", "var1", "var2"]].itertuples(index=False)
    labels = [".".join(str(part) for part in row if isinstance(part, str) and part) for row in rows]
    return Answer(float(fit.llf), labels, fit.varcomp["vcov"].tolist(), "" if fit.converged else "not converged")


def _fit_statsmodels(workload: Workload, frame: pd.DataFrame, method: str) -> Any:
    mixed = import_module("statsmodels.formula.api").mixedlm
    bar = workload.bars[0]
    fixed = f"{workload.response} ~ {' + '.join(workload.fixed) or '1'}"
    re_formula = None if bar.slope is None else f"~{bar.slope}"
    return mixed(fixed, frame, groups=frame[bar.groups[0]], re_formula=re_formula).fit(reml=method == "reml")


def _read_statsmodels(fit: Any) -> Answer:
    G = np.asarray(fit.cov_re)
    rows, columns = np.tril_indices(len(G))
    labels = [f"G[{r + 1},{c + 1}]" for r, c in zip(rows, columns, strict=True)]
    return Answer(float(fit.llf), [*labels, "Residual"], [*G[rows, columns].tolist(), float(fit.scale)])


def _refuses_statsmodels(workload: Workload) -> str | None:
    return None if workload.bars[0].slope else "crossed effects make one dense group of all the records"


def _caveat_statsmodels(workload: Workload) -> str:
    return "".join(f"without {bar} " for bar in workload.bars[1:]).strip()


def _fit_mixedlm(workload: Workload, frame: pd.DataFrame, method: str) -> Any:
    return import_module("mixedlm").lmer(workload.formula, frame, REML=method == "reml")


def _read_mixedlm(fit: Any) -> Answer:
    components = fit.VarCorr()
    labels, values = [], []
    for name, group in components.groups.items():
        G = np.asarray(group.cov)
        for r, c in zip(*np.tril_indices(len(G)), strict=True):
            labels.append(f"{name}[{r + 1},{c + 1}]")
            values.append(float(G[r, c]))
    return Answer(float(fit.logLik().value), [*labels, "Residual"], [*values, float(components.residual)])


def _fit_lme_python(workload: Workload, frame: pd.DataFrame, method: str) -> Any:
    return import_module("lme_python").lmer(workload.formula, data=frame, reml=method == "reml")


def _read_lme_python(fit: Any) -> Answer:
    return Answer(float(fit.log_likelihood), ["theta (relative)", "Residual"], [*fit.theta, float(fit.sigma2)])


def _fit_gpboost(workload: Workload, frame: pd.DataFrame, method: str) -> Any:
    gpboost = import_module("gpboost")
    groups = [frame[list(bar.groups)].astype(str).agg(":".join, axis=1) for bar in workload.bars]
    slopes = [(k + 1, bar.slope) for k, bar in enumerate(workload.bars) if bar.slope]
    X = pd.DataFrame({"Intercept": np.ones(len(frame))})
    if workload.fixed:
        X = X.join(pd.get_dummies(frame[list(workload.fixed)], drop_first=True, dtype=float))
    options: dict[str, Any] = {}
    if slopes:
        options["group_rand_coef_data"] = frame[[name for _, name in slopes]].to_numpy(float)
        options["ind_effect_group_rand_coef"] = [k for k, _ in slopes]
    model = gpboost.GPModel(group_data=pd.concat(groups, axis=1).to_numpy(), likelihood="gaussian", **options)
    return model.fit(y=frame[workload.response].to_numpy(float), X=X.to_numpy())


def _read_gpboost(model: Any) -> Answer:
    parameters = model.get_cov_pars()
    values = np.asarray(parameters).ravel().tolist()
    llf = -float(model.get_current_neg_log_likelihood())
    return Answer(llf, [str(c) for c in parameters.columns], values)


def _caveat_gpboost(workload: Workload) -> str:
    return "ML, no correlation" if any(bar.slope for bar in workload.bars) else "ML"


PYTHON_PEERS = {
    "mixedgen": Peer("mixedgen", "mixedgen", _fit_mixedgen, _read_mixedgen),
    "statsmodels": Peer(
        "statsmodels", "statsmodels", _fit_statsmodels, _read_statsmodels, _refuses_statsmodels, _caveat_statsmodels
    ),
    "mixedlm": Peer("mixedlm", "mixedlm", _fit_mixedlm, _read_mixedlm),
    "lme-python": Peer("lme_python", "lme-python", _fit_lme_python, _read_lme_python),
    "gpboost": Peer("gpboost", "gpboost", _fit_gpboost, _read_gpboost, caveat=_caveat_gpboost),
}
