"""Laws over the engines: Henderson's equations agree with V written out, on designs made at random."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.design.arguments import ModelArguments
from mixedgen.design.build import build
from mixedgen.design.design import Design
from mixedgen.engines import ENGINES, Solution, System, choose
from mixedgen.estimation.control import Control
from mixedgen.estimation.estimate import fit
from mixedgen.estimation.likelihood import average_information, deviance, score
from mixedgen.estimation.start import default_start, other_starts

# Two exact methods in double precision; V^-1 loses the condition number of V, up to 1e5 in these designs.
RELATIVE = 1e-8
# Central differences of the deviance with a step of 1e-4: truncation 1e-8, rounding 1e-12 / 1e-4, times the curvature.
DIFFERENCE = 2e-5
# A mean of 1e8 leaves a response of variance 1 no more than 8 digits.
LARGE_MEAN = 1e-6
SEEDS = range(280)


@dataclass(frozen=True)
class Case:
    """One random model: what the builder takes, and a theta."""

    kind: str
    formula: str
    frame: pd.DataFrame
    relationships: dict[str, mg.Relationship]
    residual: str | None = None
    weights: str | None = None
    tolerance: float = RELATIVE

    def arguments(self) -> ModelArguments:
        how = {"relationships": self.relationships, "residual": self.residual, "weights": self.weights}
        return ModelArguments(self.formula, self.frame, **how)

    def design(self) -> Design:
        return build(self.arguments())


def base_frame(rng: np.random.Generator, n: int) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "z": rng.normal(size=n) * 10.0 ** rng.integers(-2, 3),
            "a": rng.integers(0, rng.integers(3, 9), n),
            "b": rng.integers(0, rng.integers(3, 9), n),
            "f": rng.choice(list("pqr"), n),
            "site": rng.choice(["s1", "s2", "s3"], n),
            "w": rng.uniform(0.3, 3.0, n),
            "v": rng.normal(size=n),
        }
    )
    frame["unit"] = np.arange(n) // 4
    frame["slot"] = np.arange(n) % 4 + 1
    frame = frame[rng.random(n) < 0.85].reset_index(drop=True)  # units with holes
    frame = frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)
    n = len(frame)
    frame.loc[:2, "site"] = ["s1", "s2", "s3"]
    effect = rng.normal(size=9)
    frame["y"] = 2.0 + frame["x"] + effect[frame["a"]] + rng.normal(size=n)
    return frame


RESIDUALS = {
    1: "diag(site)",
    3: "us(slot|unit)",
    5: "cs(slot|unit)",
    7: "ar1(slot|unit)",
    9: "toep(slot|unit)",
    11: "exp(v)",
    13: "cs(slot|unit, hom=True)",
    15: "ar1(slot|unit, hom=False)",
}


def random_pedigree(rng: np.random.Generator, q: int) -> mg.Pedigree:
    sire = [0 if k < 4 else int(rng.integers(1, k // 2 + 1)) * 2 - 1 for k in range(q)]
    dam = [0 if k < 4 else int(rng.integers(1, k // 2 + 1)) * 2 for k in range(q)]
    sire = [s if s <= k else 0 for k, s in enumerate(sire)]
    dam = [d if d <= k else 0 for k, d in enumerate(dam)]
    return mg.Pedigree(pd.DataFrame({"id": range(1, q + 1), "sire": sire, "dam": dam}))


def random_matrix(rng: np.random.Generator, q: int) -> np.ndarray:
    F = rng.normal(size=(q, q + 3))
    return F @ F.T / q


FORMULAS = {
    "one": "y ~ x + (1|a)",
    "crossed": "y ~ x + f + (1|a) + (1|b)",
    "nested": "y ~ x + (1|a/b)",
    "slope": "y ~ x + (x|a)",
    "slope, crossed": "y ~ x + (x|a) + (1|b)",
    "two slopes": "y ~ x + z + (x + z|a)",
    "uncorrelated": "y ~ x + (x||a) + (1|b)",
    "factor effects": "y ~ f + (0 + f|a)",
    "diagonal": "y ~ x + diag(0 + f|a)",
    "homogeneous": "y ~ x + diag(0 + f|a, hom=True)",
    "no fixed effects": "y ~ 0 + (1|a)",
    "factor analytic": "y ~ x + fa(0 + f|a)",
    "reduced rank": "y ~ x + rr(0 + f|a, k=2) + (1|b)",
    "reduced rank slopes": "y ~ rr(1 + x + z|a)",
    "aliased": "y ~ x + f + I(2 * x) + (1|a)",
    "membership": "y ~ x + (1|mm(a, b))",
    "weighted membership": "y ~ x + (x|mm(a, b, weights=w)) + (1|site)",
    "members without a relationship": "y ~ x + us(1|members(a, b))",
    "independent members": "y ~ x + diag(1|members(a, b))",
}
LINKED = {
    "pedigree": "y ~ x + (1|animal:A)",
    "repeatability": "y ~ x + (1|animal:A) + (1|animal)",
    "pedigree slope": "y ~ x + (x|animal:A)",
    "dense": "y ~ x + (1|animal:K)",
    "dense slope": "y ~ x + (x|animal:K) + (1|a)",
    "inverse": "y ~ x + (1|animal:J)",
    "singular factor": "y ~ x + (1|animal:F)",
    "wide factor": "y ~ x + (x|animal:W) + (1|b)",
    "two kernels": "y ~ x + (1|animal:A) + (1|animal:K)",
    "maternal": "y ~ x + us(1|members(animal, mother):A) + (1|mother)",
    "social": "y ~ us(1|members(animal, mates(animal, pen)):A) + (1|pen)",
    "sire and dam": "y ~ x + diag(1|members(animal, mother):F)",
}


def make_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    kinds = [*FORMULAS, *LINKED]
    kind = kinds[seed % len(kinds)]
    frame = base_frame(rng, int(rng.integers(25, 70)))
    relationships: dict[str, mg.Relationship] = {}
    if kind in LINKED:
        q = 14
        frame["animal"] = rng.integers(3, q + 1, len(frame))  # some without records
        frame["mother"] = rng.integers(1, 6, len(frame))
        frame["pen"] = rng.integers(0, len(frame) // 5, len(frame))
        ids, K = np.arange(1, q + 1), random_matrix(rng, q)
        every = {
            "A": mg.additive(random_pedigree(rng, q)),
            "K": mg.Relationship.from_matrix(K, ids),
            "J": mg.Relationship.from_inverse(np.linalg.inv(K), ids),
            "F": mg.Relationship.from_factor(rng.normal(size=(q, 5)), ids),
            "W": mg.Relationship.from_factor(rng.normal(size=(q, 20)) / 5, ids),
        }
        relationships = {k: v for k, v in every.items() if f":{k})" in LINKED[kind]}
    turn = seed // len(kinds) % 6
    if turn == 2:
        frame["y"] = frame["y"] + 1e8
    elif turn == 3:
        frame["y"] *= 1e-9
    elif turn == 4:
        frame["y"] *= 1e7
        frame["x"] *= 1e-6
    elif turn == 5:
        frame["x"] = 1e4 + 10.0 * frame["x"]
    return Case(
        kind,
        {**FORMULAS, **LINKED}[kind],
        frame,
        relationships,
        residual=RESIDUALS.get(seed % 16),
        weights="w" if seed % 3 == 2 else None,
        tolerance=LARGE_MEAN if turn == 2 else RELATIVE,
    )


def random_theta(design: Design, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Random covariance matrices, some nearly singular, in units of the variance of y."""
    theta = np.empty(design.slices[-1].stop)
    for t, s in zip(design.terms, design.slices, strict=False):
        L = np.tril(rng.normal(size=(t.c, t.c)))
        if rng.random() < 0.3:
            L[-1, -1] = 1e-3
        size = np.sqrt(np.mean(t.values**2, axis=0))
        size = np.where(size > 0, size, 1.0)
        theta[s] = t.structure.start((L @ L.T + 1e-6 * np.eye(t.c)) * scale / np.outer(size, size))
    structure = design.residual.structure
    lag = np.abs(np.subtract.outer(np.arange(structure.dim), np.arange(structure.dim)))
    sd = np.sqrt(scale * rng.uniform(0.2, 2.0, structure.dim))
    theta[design.slices[-1]] = structure.start(np.outer(sd, sd) * 0.4**lag)
    if structure.tag == "exp":
        theta[-1] = 0.3
    return theta


def close(a: np.ndarray, b: np.ndarray, scale: np.ndarray | float | None = None, tolerance: float = RELATIVE) -> None:
    """Equal beside the largest element, or beside a given scale."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    size = np.max(np.abs(b), initial=0.0) if scale is None else scale
    assert np.all(np.abs(a - b) <= tolerance * np.maximum(size, 1e-300))


def spread(design: Design) -> float:
    X = design.fixed.X
    e = design.y - X @ np.linalg.lstsq(X, design.y, rcond=None)[0] if design.fixed.p else design.y
    return float(e @ e / len(e))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "dense"])
def test_every_engine_equals_dense(engine: str, seed: int) -> None:
    case = make_case(seed)
    design = case.design()
    theta = random_theta(design, np.random.default_rng(1000 + seed), spread(design))
    equal_systems(choose(design, engine).at(theta), choose(design, "dense").at(theta), seed, case.tolerance)


class SolvesOnly(System):
    """A system that implements the primitive alone, by another engine."""

    def __init__(self, inner: System) -> None:
        super().__init__(inner.design, inner.theta)
        self.inner = inner

    def solve(self, Y: np.ndarray) -> Solution:
        return self.inner.solve(Y)


@pytest.mark.parametrize("seed", SEEDS[::4])
def test_what_follows_from_solve_equals_dense(seed: int) -> None:
    case = make_case(seed)
    design = case.design()
    theta = random_theta(design, np.random.default_rng(1000 + seed), spread(design))
    reference = choose(design, "dense").at(theta)
    equal_systems(SolvesOnly(choose(design).at(theta)), reference, seed, 10 * case.tolerance)
    close(SolvesOnly(reference).joint_covariance(), reference.joint_covariance())


def equal_systems(ours: System, reference: System, seed: int, tolerance: float) -> None:
    design, theta = ours.design, ours.theta
    scale = theta_scale(design, theta)
    for reml in (True, False):
        assert deviance(ours, reml) == pytest.approx(deviance(reference, reml), rel=tolerance, abs=1e-7)
        close(score(ours, reml) * scale, score(reference, reml) * scale, design.n, 10 * tolerance)
    square = np.outer(scale, scale)
    close(average_information(ours) * square, average_information(reference) * square, design.n, tolerance)
    a, b = ours.solution, reference.solution
    se = np.sqrt(np.diag(reference.fixed_covariance()))
    close(a.b / se, b.b / se, 1.0 + np.abs(b.b / se).max(initial=0.0), tolerance)
    close(a.e, b.e, 10 * np.sqrt(spread(design)), tolerance)
    for k in range(len(design.terms)):
        close(a.u[k], b.u[k], None, tolerance)
        close(ours.prediction_error(k), reference.prediction_error(k))
        close(ours.conditional_variance(k), reference.conditional_variance(k))
    close(ours.fixed_covariance() / np.outer(se, se), reference.fixed_covariance() / np.outer(se, se))
    L = np.random.default_rng(seed).normal(size=(3, design.fixed.p))
    close(ours.blue_weights(L), reference.blue_weights(L))
    close(ours.fixed_variances() / se**2, reference.fixed_variances() / se**2)
    close(ours.fitted_covariance(), reference.fitted_covariance())


def theta_scale(design: Design, theta: np.ndarray) -> np.ndarray:
    """Size of each parameter: the geometric mean of the two variances of a covariance."""
    out = np.empty_like(theta)
    for i, _, high in design.free:
        loading = np.isinf(high) and design.residual.structure.tag != "exp"
        out[i] = np.abs(theta[i]) if loading else 1.0
    for b in design.blocks:
        c = int((np.sqrt(8 * len(b) + 1) - 1) / 2)
        rows, cols = np.tril_indices(c)
        sd = np.sqrt(theta[b][rows == cols])
        out[b] = sd[rows] * sd[cols]
    return out


@pytest.mark.parametrize("seed", range(0, 280, 4))
@pytest.mark.parametrize("engine", ENGINES)
def test_score_is_the_derivative_of_the_value(engine: str, seed: int) -> None:
    case = make_case(seed)
    if seed // len([*FORMULAS, *LINKED]) % 6 == 2:
        case = replace(case, frame=case.frame.assign(y=case.frame["y"] - 1e8))
    design = case.design()
    rng = np.random.default_rng(2000 + seed)
    theta = random_theta(design, rng, spread(design))
    for t, s in zip(design.terms, design.slices, strict=False):  # a good margin inside the cone, for the differences
        theta[s] = t.structure.start(
            t.structure.matrix(theta[s]) + 0.5 * np.diag(np.diag(t.structure.matrix(theta[s])))
        )
    scale = theta_scale(design, theta)
    solver = choose(design, engine)
    for reml in (True, False):
        s = score(solver.at(theta), reml)
        for i in range(len(theta)):
            step = np.zeros_like(theta)
            step[i] = 1e-4 * scale[i]
            up, down = (deviance(solver.at(theta + sign * step), reml) for sign in (1, -1))
            assert -0.5 * (up - down) / 2e-4 == pytest.approx(
                s[i] * scale[i], rel=DIFFERENCE, abs=DIFFERENCE * design.n
            )


@pytest.mark.parametrize("seed", range(0, 280, 5))
def test_the_optimum_is_no_worse_than_the_dense_engines_from_three_starts(seed: int) -> None:
    case = make_case(seed)
    if case.kind in ("repeatability", "two kernels", "social") or (case.residual or "").startswith(
        ("us", "toep", "cs")
    ):
        case = replace(case, residual=None)  # so few records have several optima, or one at a singular R
    design = case.design()
    method = "reml" if seed % 2 else "ml"
    ours = choose(design, "henderson")
    best = fit_quietly(design, ours, method, Control())
    dense = choose(design, "dense")
    rng = np.random.default_rng(3000 + seed)
    for start in (default_start(design, dense), *(random_theta(design, rng, spread(design)) for _ in range(2))):
        other = fit_from(design, dense, method, start)
        assert best <= other + 1e-6 + 1e-9 * abs(other)


def test_the_seed_draws_the_further_starts() -> None:
    design = build(ModelArguments("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy()))
    engine = choose(design, "henderson")
    first, again, other = (np.array(other_starts(design, engine, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    drawn = (first != other).any(axis=1)
    assert drawn.any() and not drawn.all()  # the shares of the terms are not drawn


def fit_quietly(design: Design, engine: object, method: str, control: Control) -> float:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mg.ConvergenceWarning)
        return fit(design, engine, method, control).deviance


def fit_from(design: Design, engine: object, method: str, theta: np.ndarray) -> float:
    from mixedgen.estimation.ascent import maximise

    return maximise(engine, theta, reml=method == "reml", control=Control()).deviance


def test_a_constant_response_is_solved_but_not_fitted() -> None:
    frame = base_frame(np.random.default_rng(0), 30).assign(y=3.25)
    model = mg.MixedModel("y ~ x + (1|a)", frame)
    solved = model.solve({"a": 1.0, "residual": 2.0})
    assert solved.params["Intercept"] == pytest.approx(3.25, abs=1e-12)
    assert np.abs(solved.blup("a")["value"]).max() < 1e-12
    with pytest.raises(mg.DesignError, match="constant"):
        model.fit()


@pytest.mark.parametrize("engine", ENGINES)
def test_joint_covariance_is_the_inverse_of_the_equations(engine: str) -> None:
    case = replace(make_case(5), residual=None)
    design = case.design()
    theta = random_theta(design, np.random.default_rng(9), spread(design))
    X, Z = np.asarray(design.fixed.X), np.hstack([t.Z.toarray() for t in design.terms])
    r = design.residual.variances(theta[design.slices[-1]])
    blocks = [
        np.kron(np.linalg.inv(t.structure.matrix(theta[s])), np.eye(t.q))
        for t, s in zip(design.terms, design.slices, strict=False)
    ]
    W = np.hstack([X, Z])
    C = W.T @ (W / r[:, None])
    at = X.shape[1]
    for B in blocks:
        C[at : at + len(B), at : at + len(B)] += B
        at += len(B)
    close(choose(design, engine).at(theta).joint_covariance(), np.linalg.inv(C), tolerance=1e-7)


def test_auto_takes_the_engine_of_least_work() -> None:
    rng = np.random.default_rng(4)
    ids = [f"i{k}" for k in range(1000)]
    K = mg.Relationship.from_matrix(
        np.exp(-np.abs(np.subtract.outer(np.arange(1000), np.arange(1000))) / 40.0), ids=ids
    )
    frame = pd.DataFrame({"y": rng.normal(size=30), "id": rng.choice(ids, 30)})
    few = build(ModelArguments("y ~ 1 + (1|id:K)", frame, relationships={"K": K}))
    assert choose(few).name == "dense"  # V is 30 x 30, the equations have a dense block of 1000
    theta = np.array([1.0, 0.5])
    assert deviance(choose(few).at(theta), True) == pytest.approx(deviance(choose(few, "henderson").at(theta), True))
    assert choose(build(ModelArguments("y ~ 1 + (1|id)", frame))).name == "henderson"
