"""The same model in statsmodels."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg

pytest.importorskip("statsmodels")

# statsmodels stops at a gradient of 1e-5 or so without a certificate: short of the optimum, but not beyond it.
LLF, ABOVE = 1e-4, 1e-6


def crossed() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": np.repeat(range(8), 12), "b": np.tile(range(6), 16), "x": rng.normal(size=96)})
    frame["y"] = 1 + frame["x"] + rng.normal(size=8)[frame["a"]] + rng.normal(size=6)[frame["b"]] + rng.normal(size=96)
    return frame


MODELS: dict[str, tuple[str, Callable[[], pd.DataFrame], set[str]]] = {
    "one factor": ("Yield ~ 1 + (1|Batch)", mg.data.dyestuff, {"theta[Batch]"}),
    "random slope": (
        "Reaction ~ Days + (Days|Subject)",
        mg.data.sleepstudy,
        {"theta[Subject[1,1]]", "theta[Subject[1,Days]]", "theta[Subject[Days,Days]]"},
    ),
    "slope alone": ("Reaction ~ Days + (0 + Days|Subject)", mg.data.sleepstudy, {"theta[Subject]"}),
    "nested": ("strength ~ 1 + (1|batch/cask)", mg.data.pastes, {"theta[cask:batch]", "theta[batch]"}),
    "crossed": ("y ~ x + (1|a) + (1|b)", crossed, {"theta[a]", "theta[b]"}),
}


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("name", MODELS)
def test_statsmodels_agrees(name: str, method: str) -> None:
    formula, data, variances = MODELS[name]
    fit = mg.lmm(formula, data(), method=method)
    table = mg.cross_check(fit)
    assert list(table.columns) == ["mixedgen", "statsmodels", "difference"]
    fixed = {f"{what}[{k}]" for what in ("params", "bse") for k in fit.params.index}
    assert set(table.index) == {"llf", "theta[residual]"} | variances | fixed
    np.testing.assert_array_equal(table["difference"], table["mixedgen"] - table["statsmodels"])
    assert -ABOVE <= table.loc["llf", "difference"] < LLF
    # a log-likelihood short by 1e-4 leaves sqrt(2e-4) = 1.4 % of a standard error
    error = table.loc[[f"bse[{k}]" for k in fit.params.index], "mixedgen"].to_numpy()
    shift = table.loc[[f"params[{k}]" for k in fit.params.index], "difference"].to_numpy()
    assert np.abs(shift / error).max() < np.sqrt(2 * LLF)
    theta = table.loc[sorted(variances | {"theta[residual]"}), "difference"]
    assert np.abs(theta / np.sqrt(np.diag(np.linalg.inv(fit.fitted.information))).max()).max() < np.sqrt(2 * LLF)


REFUSED = {
    "no random term": ("Reaction ~ Days", {}, "without random terms"),
    "weights": ("Reaction ~ Days + (1|Subject)", {"weights": "w"}, "weights"),
    "residual classes": ("Reaction ~ Days + (1|Subject)", {"residual": "diag(half)"}, "residual classes"),
    "slope beside another term": ("Reaction ~ Days + (Days|Subject) + (1|half)", {}, "several effects"),
    "diagonal": ("Reaction ~ Days + diag(Days|Subject)", {}, r"diag\(\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_statsmodels_cannot_express_is_refused(name: str) -> None:
    formula, options, word = REFUSED[name]
    frame = mg.data.sleepstudy().assign(w=lambda d: 1 + d["Days"], half=lambda d: d["Days"] < 5)
    fit = mg.lmm(formula, frame, **options)
    with pytest.raises(mg.NotAvailableError, match=f"cannot express.*{word}"):
        mg.cross_check(fit)


def test_relationships_are_refused(calves: pd.DataFrame, pedigree: mg.Pedigree) -> None:
    model = mg.MixedModel("wwg ~ 0 + sex + (1|calf:A)", calves, relationships={"A": mg.additive(pedigree)})
    with pytest.raises(mg.NotAvailableError, match="relationship matrix"):
        mg.cross_check(model.solve({"calf:A": 20.0, "residual": 40.0}))
