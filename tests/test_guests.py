"""Guests: a toy of every contract, one object and one registration, goes through every verb without an edit elsewhere.

Each guest is a known thing in other clothes, so that its numbers have an independent answer.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.arrays import Array, IntArray
from mixedgen.cli.main import main
from mixedgen.covariance.registry import STRUCTURES, StructureEntry
from mixedgen.covariance.structure import Parameter, Structure, variance
from mixedgen.covariance.variances import Identity
from mixedgen.design.residual import KINDS, ResidualKind
from mixedgen.engines import ENGINES, Engine, Solution, System
from mixedgen.estimation.estimators import ESTIMATORS, Estimator
from mixedgen.estimation.outcome import Outcome
from mixedgen.estimation.point import Point, Problem
from mixedgen.estimation.steps import CURVATURES, Curvature, average_information_step, expectation_step
from mixedgen.genetics.files import FORMATS, Format
from mixedgen.inference.degrees import DDF_METHODS, DdfMethod, TStatistics
from mixedgen.output.files import FRAME_WRITERS
from mixedgen.output.write import TABLE_WRITERS, ReportTable
from mixedgen.relationship.form import Form
from mixedgen.residual.diagonal import DiagonalResidual

SAME_LOGLIK = 1e-7  # two ways to one optimum: the criterion is flat there, so its digits are those of its rounding
SAME_THETA = 2e-4  # of a parameter: the criterion is told to 1e-9, and theta to its root
SAME_VALUES = 1e-8  # of the same algebra in another order


@pytest.fixture(scope="module")
def records() -> pd.DataFrame:
    """Three effects in each of twelve groups, twice, with a covariate."""
    rng = np.random.default_rng(31)
    frame = pd.DataFrame(
        {"g": np.repeat(list("abcdefghijkl"), 6), "f": np.tile(list("uvw"), 24), "x": rng.normal(size=72)}
    )
    level, effect = frame["g"].factorize()[0], frame["f"].factorize()[0]
    common, own = rng.normal(size=12), rng.normal(size=(12, 3))
    noise = np.sqrt(1.0 + frame["x"] ** 2) * rng.normal(size=72)
    return frame.assign(y=2.0 + frame["x"] + 1.5 * (common[level] + own[level, effect]) + noise)


def every_verb(fit: mg.Fit, frame: pd.DataFrame) -> None:
    """Summary, tidy, report, explain, ranova, predict, confint, update, refit and pickle of a fit by likelihood."""
    assert str(fit.summary()) and str(fit.explain()) and str(fit.diagnose())
    assert fit.tidy()["estimate"].notna().all() and len(fit.glance()) == 1 and len(fit.augment()) == len(frame)
    assert str(mg.table(fit))
    np.testing.assert_allclose(fit.predict(frame), fit.fittedvalues, rtol=SAME_VALUES)
    tests = fit.ranova()
    assert (tests["lrt"].dropna() >= -SAME_LOGLIK).all() and len(tests) >= 2
    name = fit.theta.index[0]
    interval = fit.confint(f"s = sqrt({name})").iloc[0]
    assert interval["lower"] < np.sqrt(fit.theta.iloc[0]) < interval["upper"]
    for again in (fit.update(), fit.refit(frame[fit.fitted.design.parsed.responses[0]])):
        assert again.llf == pytest.approx(fit.llf, abs=SAME_LOGLIK)
    copy = pickle.loads(pickle.dumps(fit))
    np.testing.assert_allclose(copy.predict(frame), fit.fittedvalues, rtol=SAME_VALUES)


@dataclass(frozen=True)
class Half(Structure):
    """Equal variances and correlations of one half."""

    dim: int
    tag: ClassVar[str] = "half"

    def parameters(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        return (variance(*effects, label=()),)

    def matrix(self, theta: Array) -> Array:
        return theta[0] * 0.5 * (np.eye(self.dim) + 1.0)

    def derivatives(self, theta: Array) -> Array:
        return self.matrix(np.ones(1))[None]

    def start(self, S0: Array) -> Array:
        return np.array([np.trace(S0) / self.dim])

    def reduced(self, kept: Sequence[int]) -> Half:
        return Half(len(kept))


def test_structure(records: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRUCTURES, "half", StructureEntry(lambda over, options: Half(over.dim), least=2))
    fit = mg.lmm("y ~ x + half(0 + f|g)", records)
    # a common effect and one of each cell, of the same variance: s/2 J + s/2 I
    known = mg.MixedModel("y ~ x + (1|g) + (1|g:f)", records)
    s, e = fit.theta
    by_hand = known.solve({"g": 0.5 * s, "g:f": 0.5 * s, "residual": e})
    assert fit.llf == pytest.approx(by_hand.llf, abs=SAME_LOGLIK)
    near = [known.solve({"g": 0.5 * v, "g:f": 0.5 * v, "residual": w}).llf for v, w in ((0.98 * s, e), (s, 1.02 * e))]
    assert max(near) < fit.llf
    # without one effect it is the same structure of the two that are left
    left = fit.ranova()
    assert left["npar"].min() == fit.npar - 1
    every_verb(fit, records)


def test_structure_of_residuals(records: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRUCTURES, "half", StructureEntry(lambda over, options: Half(over.dim), least=2))
    frame = records.assign(unit=np.repeat(np.arange(24), 3))
    fit = mg.lmm("y ~ x + (1|g)", frame, residual="half(f|unit)")
    s, e = fit.theta
    # residuals of a unit correlated by one half are an effect of the unit beside independent ones
    by_hand = mg.MixedModel("y ~ x + (1|g) + (1|unit)", frame).solve({"g": s, "unit": 0.5 * e, "residual": 0.5 * e})
    assert fit.llf == pytest.approx(by_hand.llf, abs=SAME_LOGLIK)
    every_verb(fit, frame)


@dataclass(frozen=True)
class Spread(DiagonalResidual):
    """Var(e) = theta (1 + x^2)."""

    structure: Structure
    classes: tuple[str, ...]
    position: IntArray
    inverse_weights: Array | None
    x: Array

    def variances(self, theta: Array) -> Array:
        return self._weighted(theta[0] * (1.0 + self.x**2))

    def _derivative(self, theta: Array, k: int) -> Array:
        return self.variances(np.ones(1))

    def select(self, rows: IntArray) -> Spread:
        weights = None if self.inverse_weights is None else self.inverse_weights[rows]
        return replace(self, position=self.position[rows], x=self.x[rows], inverse_weights=weights)


def read_spread(parts: Sequence[Any], frame: pd.DataFrame, inverse_weights: Array | None) -> Spread:
    """R of ``spread(x)``."""
    x = frame[parts[0].positions].to_numpy(dtype=float)
    return Spread(Identity(1), (), np.zeros(len(frame), dtype=np.intp), inverse_weights, x)


def test_residual(records: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "spread", ResidualKind(read_spread, units=False))
    fit = mg.lmm("y ~ x + (1|g)", records, residual="spread(x)")
    weighted = mg.lmm("y ~ x + (1|g)", records, weights=1.0 / (1.0 + records["x"] ** 2))
    assert fit.llf == pytest.approx(weighted.llf, abs=SAME_LOGLIK)
    np.testing.assert_allclose(fit.theta, weighted.theta, rtol=SAME_THETA)
    np.testing.assert_allclose(fit.params, weighted.params, rtol=SAME_THETA)
    every_verb(fit, records)


class Decay(Form):
    """K_ij = 2^-|i - j|, known by products alone."""

    size = 12

    def multiply(self, V: Any) -> Array:
        place = np.arange(self.size)
        return np.asarray(0.5 ** np.abs(place[:, None] - place) @ np.asarray(V, dtype=float))


def test_relationship(records: pd.DataFrame) -> None:
    labels = sorted(records["g"].unique())
    guest = mg.Relationship(pd.Index(labels), "decay", Decay())
    matrix = mg.Relationship.from_matrix(guest.multiply(np.eye(12)), labels)
    fit, same = (mg.lmm("y ~ x + (1|g:K)", records, relationships={"K": K}) for K in (guest, matrix))
    assert fit.llf == pytest.approx(same.llf, abs=SAME_LOGLIK)
    np.testing.assert_allclose(fit.blup("g:K")["pev"], same.blup("g:K")["pev"], rtol=SAME_THETA)
    every_verb(fit, records)


class BookEngine(Engine):
    """V written out, and nothing but the solution of the equations."""

    name = "book"

    def at(self, theta: Array) -> System:
        return BookSystem(self.design, np.asarray(theta, dtype=float))


class BookSystem(System):
    """The BLUE and the BLUP as Henderson printed them."""

    def solve(self, Y: Array) -> Solution:
        d, n = self.design, self.design.n
        X, Zs = np.asarray(d.fixed.X, dtype=float), [t.Z.toarray() for t in d.terms]
        Gs = [np.kron(S, t.multiply_relationship(np.eye(t.q))) for S, t in zip(self.Sigma, d.terms, strict=True)]
        V = d.residual.multiply(self.theta_R, np.eye(n)) + sum(Z @ G @ Z.T for Z, G in zip(Zs, Gs, strict=True))
        W = np.linalg.solve(V, X)
        b = np.linalg.solve(X.T @ W, W.T @ Y)
        r = np.linalg.solve(V, Y - X @ b)
        flat = [G @ Z.T @ r for Z, G in zip(Zs, Gs, strict=True)]
        u = tuple(np.moveaxis(v.reshape(t.c, t.q, *Y.shape[1:]), 0, 1) for v, t in zip(flat, d.terms, strict=True))
        return Solution(b, u, d.residual.multiply(self.theta_R, r))


def test_engine(records: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "book", BookEngine)
    formula = "y ~ x + (1 + x|g) + (1|f)"
    fit, ours = (mg.lmm(formula, records, control=mg.Control(engine=name)) for name in ("book", "henderson"))
    assert fit.engine == "book" and "book" in str(fit.explain())
    assert fit.llf == pytest.approx(ours.llf, abs=SAME_LOGLIK)
    theta = dict(zip(("g", "f", "residual"), (np.diag([2.0, 0.1]), 0.5, 1.0), strict=True))
    book, henderson = (
        mg.MixedModel(formula, records, control=mg.Control(engine=name)).solve(theta) for name in ("book", "henderson")
    )
    np.testing.assert_allclose(book.cov_params(), henderson.cov_params(), rtol=SAME_VALUES)
    np.testing.assert_allclose(book.blup("g")["pev"], henderson.blup("g")["pev"], rtol=SAME_VALUES)
    np.testing.assert_allclose(book.fitted.score, henderson.fitted.score, rtol=1e-6, atol=1e-8)
    every_verb(fit, records)


def test_ddf_method(records: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    def residual_t(inference: Any, L: Array) -> TStatistics:
        design = inference.fitted.design
        variances = np.einsum("ij,jk,ik->i", L, inference.covariance, L)
        return TStatistics(variances, np.full(len(L), float(design.n - design.fixed.p)))

    monkeypatch.setitem(DDF_METHODS, "residual", DdfMethod("residual", "residual degrees of freedom", residual_t))
    fit = mg.lmm("y ~ x + f + (1|g)", records)
    assert (fit.summary(ddf="residual").coefficients["df"] == 68).all()
    table = fit.anova(ddf="residual")
    assert table["dendf"].to_numpy() == pytest.approx(68.0)
    own = [c for c in fit.params.index if c.startswith("f")]
    wald = fit.params[own] @ np.linalg.solve(fit.cov_params().loc[own, own], fit.params[own]) / len(own)
    assert table.loc["f", "f"] == pytest.approx(wald, rel=1e-8)
    assert (mg.emmeans(fit, "f", ddf="residual")["df"] == 68).all()
    assert (fit.tidy(effects="fixed", ddf="residual")["df"] == 68).all()
    assert "residual degrees of freedom" in str(mg.table(fit, ddf="residual"))
    assert "residual" in str(fit.summary(ddf="residual"))
    assert fit.conf_int(ddf="residual").notna().all(axis=None)


def test_curvature(records: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    def alternating(problem: Problem, point: Point) -> tuple[Point | None, str]:
        """EM far away, average information near by."""
        return (expectation_step if point.decrement > 1.0 else average_information_step)(problem, point)

    monkeypatch.setitem(CURVATURES, "hybrid", Curvature(alternating, 200, "EM first, then average information"))
    far = {"g": 400.0, "residual": 0.01}
    fit = mg.lmm("y ~ x + (1|g)", records, control=mg.Control(optimiser="hybrid", start=far))
    ours = mg.lmm("y ~ x + (1|g)", records)
    assert fit.converged and fit.llf == pytest.approx(ours.llf, abs=SAME_LOGLIK)
    assert "EM first, then average information" in str(fit.explain())
    assert "em" in set(fit.history["step"])
    every_verb(fit, records)


@dataclass(frozen=True)
class Halves(Outcome):
    """Half of the least-squares variance to the terms, half to the residual."""

    has_df: ClassVar[bool] = False

    def title(self, method: str) -> str:
        return f"Linear mixed model with variances by {method}"

    def verdict(self, method: str) -> str:
        return "the variances were halved."

    def account(self, method: str, criterion: str, value: str) -> str:
        return f"Variances by {method}: {value} of the {criterion}."


def halves(design: Any, engine: Engine, control: mg.Control) -> tuple[Array, Halves]:
    """Theta of the toy estimator."""
    spread = float(engine.y0 @ engine.y0) / (design.n - design.fixed.p)
    theta = np.full(len(design.theta_names), 0.5 * spread / len(design.terms))
    theta[-1] = 0.5 * spread
    return theta, Halves()


def test_estimator(records: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ESTIMATORS, "halves", Estimator(halves, "halving", "restricted likelihood", True))
    fit = mg.lmm("y ~ x + (1|g)", records, method="halves")
    ols = mg.lmm("y ~ x", records)
    assert fit.theta.to_numpy() == pytest.approx(0.5 * float(ols.theta.iloc[-1]), rel=1e-6)
    by_hand = mg.MixedModel("y ~ x + (1|g)", records).solve({"g": fit.theta["g"], "residual": fit.theta["residual"]})
    assert fit.llf == pytest.approx(by_hand.llf, abs=SAME_LOGLIK)
    np.testing.assert_allclose(fit.params, by_hand.params, rtol=SAME_VALUES)
    assert "halving" in str(fit.summary()) and "halving" in str(fit.explain())
    assert fit.converged and fit.certificate is None and str(mg.table(fit))
    assert set(fit.tidy()["effect"]) >= {"fixed", "ran_pars"}
    np.testing.assert_allclose(fit.predict(records), fit.fittedvalues, rtol=SAME_VALUES)
    again = fit.refit(2.0 * records["y"])
    assert again.theta.to_numpy() == pytest.approx(4.0 * fit.theta.to_numpy(), rel=1e-8)
    assert fit.update("y ~ . + f").method == "halves"
    with pytest.raises(mg.ArgumentError, match="start"):
        mg.lmm("y ~ x + (1|g)", records, method="halves", control=mg.Control(start={"g": 1.0}))
    with pytest.raises(mg.NotAvailableError):
        fit.ranova()


def test_format(records: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, ".psv", Format("text between bars", lambda path: pd.read_csv(path, sep="|")))
    records.to_csv(tmp_path / "records.psv", sep="|", index=False)
    assert mg.lmm("y ~ x + (1|g)", tmp_path / "records.psv").llf == pytest.approx(
        mg.lmm("y ~ x + (1|g)", records).llf, abs=SAME_LOGLIK
    )
    mg.data.mrode_pedigree().to_csv(tmp_path / "pedigree.psv", sep="|", index=False)
    assert mg.Pedigree.read(tmp_path / "pedigree.psv").n == 8


def test_writers(
    records: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bars(frame: pd.DataFrame, path: Path) -> None:
        frame.to_csv(path, sep="|", index=False)

    def shout(table: ReportTable, path: Path) -> None:
        path.write_text(str(table).upper(), encoding="utf-8")

    monkeypatch.setitem(FRAME_WRITERS, ".psv", bars)
    monkeypatch.setitem(TABLE_WRITERS, ".loud", shout)
    fit = mg.lmm("y ~ x + (1|g)", records)
    mg.table(fit).save(tmp_path / "table.loud")
    assert "INTERCEPT" in (tmp_path / "table.loud").read_text(encoding="utf-8")
    records.to_csv(tmp_path / "records.csv", index=False)
    assert main(["fit", "y ~ x + (1|g)", str(tmp_path / "records.csv"), "-o", str(tmp_path / "fit.psv")]) == 0
    assert len(pd.read_csv(tmp_path / "fit.psv", sep="|")) > 3
    capsys.readouterr()
