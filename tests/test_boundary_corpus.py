"""Optima on the boundary of the cone: reached exactly, certified, reported, and the same from a far start."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.engines.dense import DenseEngine
from mixedgen.estimation.likelihood import deviance

NULL = 1e-12  # an eigenvalue beside the largest that is zero but for rounding
SAME_OPTIMUM = 1e-8  # of two ways to one criterion


def slopes(seed: int, sign: float, effects: int = 2, groups: int = 8, each: int = 5) -> pd.DataFrame:
    """Curves of groups that differ along one line only."""
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(groups), each), np.tile(np.linspace(-1.0, 1.0, each), groups)
    Z = np.column_stack([np.ones_like(x), x, x**2 - np.mean(x**2)])[:, :effects]
    direction = np.array([1.0, 0.6 * sign, 0.4])[:effects]
    y = 3.0 + x + 2.0 * (Z @ direction) * rng.normal(size=groups)[g] + 0.7 * rng.normal(size=len(g))
    return pd.DataFrame({"g": g, "x": x, "z": Z[:, -1], "y": y})


def nothing(seed: int, intercept: float = 0.0, start: float = -1.0) -> pd.DataFrame:
    """Groups whose slopes, and intercepts but for a multiple of chance, differ less than their records do."""
    data = slopes(seed, 1.0)
    rng = np.random.default_rng(seed + 1000)
    noise = rng.normal(size=len(data)).reshape(8, 5)
    noise -= noise.mean(axis=1, keepdims=True)
    slope = data["x"].to_numpy().reshape(8, 5)
    noise -= slope * (noise * slope).sum(axis=1, keepdims=True) / (slope**2).sum(axis=1, keepdims=True)
    means = intercept * rng.normal(size=8)[data["g"]]
    return data.assign(y=3.0 + data["x"] + means + noise.ravel(), x=data["x"] - start - 1.0)


def traits(seed: int, sign: float) -> pd.DataFrame:
    """Two traits whose group effects are one."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(9), 4)
    u = rng.normal(size=9)[g]
    return pd.DataFrame({"g": g, "y1": 2.0 * u + rng.normal(size=36), "y2": sign * u + rng.normal(size=36)})


def families(seed: int, sign: float) -> tuple[pd.DataFrame, mg.Relationship]:
    """Two generations with records, whose direct and maternal effects are one."""
    rng = np.random.default_rng(seed)
    founders, first, second = 12, 30, 60
    sire = np.zeros(founders + first + second, dtype=int)
    dam = sire.copy()
    value = rng.normal(size=len(sire))
    for k in range(founders, len(sire)):
        old, new = (0, founders) if k < founders + first else (founders, founders + first)
        parents = np.arange(old, new)
        sire[k], dam[k] = rng.choice(parents[::2]) + 1, rng.choice(parents[1::2]) + 1
        value[k] = 0.5 * (value[sire[k] - 1] + value[dam[k] - 1]) + np.sqrt(0.5) * rng.normal()
    ids = np.arange(1, len(sire) + 1)
    kept = ids > founders
    y = 2.0 * value + 1.5 * sign * value[dam - 1] + 3.0 * rng.normal(size=len(ids))
    pedigree = mg.Pedigree(pd.DataFrame({"id": ids, "sire": sire, "dam": dam}))
    return pd.DataFrame({"animal": ids, "dam": dam, "y": y})[kept], mg.additive(pedigree)


CASES = [
    *(
        (f"slopes {s} {sign:+.0f}", "y ~ x + us(x|g)", slopes(s, sign))
        for s in (1, 3, 5, 10, 18, 20)
        for sign in (1.0, -1.0)
    ),
    *((f"curves {s}", "y ~ x + us(x + z|g)", slopes(s, 1.0, effects=3)) for s in (9, 11, 14, 16, 18, 21)),
    *((f"nothing {s}", "y ~ x + us(x|g)", nothing(s)) for s in (1, 2, 3)),
    *((f"intercepts {s}", "y ~ x + us(x|g)", nothing(s, 2.0, start)) for s, start in ((4, -1.0), (5, 0.0), (6, 3.0))),
    *(
        (f"traits {s} {sign:+.0f}", "cbind(y1, y2) ~ 1 + (1|g)", traits(s, sign))
        for s in (1, 2, 3)
        for sign in (1.0, -1.0)
    ),
    *(
        (f"families {s} {sign:+.0f}", "y ~ 1 + us(1|members(animal, dam):A)", families(s, sign))
        for s in (1, 2, 3)
        for sign in (1.0, -1.0)
    ),
]


def fitted(formula: str, data: object, **control: object) -> mg.Fit:
    frame, relationships = (data[0], {"A": data[1]}) if isinstance(data, tuple) else (data, None)
    return mg.lmm(formula, frame, relationships=relationships, control=mg.Control(**control))


def first_matrix(fit: mg.Fit) -> np.ndarray:
    design = fit.fitted.design
    return design.terms[0].structure.matrix(fit.fitted.theta[design.slices[0]])


def singular_fits() -> list[tuple[str, mg.Fit, str, object]]:
    out = []
    for name, formula, data in CASES:
        fit = fitted(formula, data)
        if fit.certificate.singular:
            out.append((name, fit, formula, data))
    return out


@pytest.fixture(scope="module")
def corpus() -> list[tuple[str, mg.Fit, str, object]]:
    return singular_fits()


def test_there_are_many_of_every_kind(corpus):
    kinds = [name.split()[0] for name, *_ in corpus]
    assert len(corpus) >= 20
    assert min(kinds.count(kind) for kind in ("slopes", "curves", "nothing", "intercepts", "traits", "families")) >= 2


def test_the_boundary_is_reached_exactly_and_reported(corpus):
    for name, fit, *_ in corpus:
        Sigma = first_matrix(fit)
        values = np.linalg.eigvalsh(Sigma)
        rank = int((values > NULL * max(values[-1], 1e-300)).sum()) if Sigma.any() else 0
        assert rank < len(Sigma), name
        assert fit.converged, name
        assert "boundary (singular) fit" in str(fit.certificate), name
        if len(Sigma) == 2 and rank == 1 and np.diag(Sigma).all():
            correlation = Sigma[0, 1] / np.sqrt(Sigma[0, 0] * Sigma[1, 1])
            assert abs(correlation) == pytest.approx(1.0, abs=NULL), name
        assert (fit.varcomp["bound"].iloc[: len(Sigma)] != "").all(), name


def test_a_zero_variance_beside_another_is_exactly_zero(corpus):
    for name, fit, *_ in corpus:
        if name.startswith("intercepts"):
            Sigma = first_matrix(fit)
            assert Sigma[0, 0] > 0.1, name
            assert not Sigma[1].any(), name
            plain = fit.update(". ~ . - us(x|g) + (1|g)")
            assert fit.reml_criterion == pytest.approx(plain.reml_criterion, rel=1e-10), name


def test_a_far_start_comes_to_the_same_optimum(corpus):
    for name, fit, formula, data in corpus:
        design = fit.fitted.design
        c = design.terms[0].c
        residual = 0.01 * np.eye(2) if design.traits is not None else 0.01
        far = fitted(formula, data, start={design.terms[0].key: 100.0 * np.eye(c) + 30.0, "residual": residual})
        assert far.reml_criterion == pytest.approx(fit.reml_criterion, abs=SAME_OPTIMUM), name
        np.testing.assert_allclose(first_matrix(far), first_matrix(fit), rtol=1e-4, atol=1e-6, err_msg=name)


def test_no_matrix_nearby_is_better(corpus):
    """By dense algebra: neither regular matrices next to the singular one nor singular ones."""
    rng = np.random.default_rng(0)
    for name, fit, *_ in corpus:
        design, theta = fit.fitted.design, fit.fitted.theta
        dense = DenseEngine(design)
        best = deviance(dense.at(theta), reml=True)
        assert best == pytest.approx(fit.reml_criterion, rel=1e-10), name
        Sigma, s = first_matrix(fit), design.slices[0]
        root = np.linalg.cholesky(Sigma + 1e-14 * np.trace(Sigma) * np.eye(len(Sigma)) + 1e-20 * np.eye(len(Sigma)))
        size = max(float(np.sqrt(np.trace(Sigma))), 0.1)
        for step in (1e-3, 1e-2, 1e-1):
            for _ in range(12):
                moved = theta * np.exp(0.3 * step * rng.normal(size=len(theta)))
                L = root + step * size * rng.normal(size=root.shape)
                moved[s] = design.terms[0].structure.start(L @ L.T)
                assert deviance(dense.at(moved), reml=True) > best - 1e-9 * abs(best), (name, step)


def test_a_matrix_of_lower_rank_from_the_outset_is_no_worse(corpus):
    for name, fit, formula, data in corpus:
        if name.startswith("slopes"):
            rr = fitted(formula.replace("us(x|g)", "rr(x|g, k=1)"), data)
            assert rr.reml_criterion == pytest.approx(fit.reml_criterion, abs=1e-7), name


def test_residuals_without_variance_in_one_direction_are_told():
    """y1 - 2 y2 is the same in all records of an animal: R becomes singular there, and the likelihood has no end."""
    rng = np.random.default_rng(1)
    animal = np.repeat(np.arange(8), 2)
    y2 = rng.normal(size=8)[animal] + rng.normal(size=16)
    data = pd.DataFrame({"animal": animal, "y1": 2.0 * y2 + rng.normal(size=8)[animal], "y2": y2})
    with pytest.warns(mg.ConvergenceWarning, match="becomes singular: the other effects fit -0.5 y1 \\+1 y2 exactly"):
        fit = mg.lmm("cbind(y1, y2) ~ 1 + (1|animal)", data)
    assert not fit.converged
