"""A known residual covariance matrix, and analyses in two stages against the one-stage fit."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import mixedgen as mg
from mixedgen.errors import ArgumentError, DataError

KNOWN = mg.Control(fix={"residual": 1.0})
TRIALS = ("north", "south", "west")
WITHIN = {"north": (0.6, 1.0), "south": (0.3, 1.5), "west": (0.9, 0.7)}  # variance of blocks and of residuals


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return mg.data.sleepstudy()


@pytest.fixture(scope="module")
def autocorrelation(sleep) -> np.ndarray:
    """0.6 to the power of the days between two records of one subject."""
    subject, day = sleep["Subject"].to_numpy(), sleep["Days"].to_numpy()
    return np.where(subject[:, None] == subject, 0.6 ** np.abs(day[:, None] - day), 0.0)


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    """Lines in incomplete blocks of three trials; not every line is in every trial."""
    rng = np.random.default_rng(11)
    line_effect = rng.normal(0, 1.0, 20)
    parts = []
    for k, trial in enumerate(TRIALS):
        lines = np.sort(rng.permutation(20)[: 16 + k])
        plots = np.tile(lines, 3)
        block = np.repeat(np.arange(len(plots) // 4 + 1), 4)[: len(plots)]
        order = rng.permutation(len(plots))
        line = plots[order]
        at_trial = rng.normal(0, 0.6, 20)
        sd_block, sd = np.sqrt(WITHIN[trial])
        y = 5.0 + k + line_effect[line] + at_trial[line] + rng.normal(0, sd_block, block.max() + 1)[block]
        y = y + rng.normal(0, sd, len(plots))
        parts.append(pd.DataFrame({"trial": trial, "block": [f"{trial}{b}" for b in block], "line": line, "y": y}))
    return pd.concat(parts, ignore_index=True).astype({"line": str})


# -------------------------------------------------------------------------------------- a known residual matrix
@pytest.mark.parametrize("engine", ["henderson", "dense"])
def test_a_diagonal_matrix_is_weights(sleep, engine):
    w = 1.0 + sleep["Days"] / 3.0
    control = mg.Control(engine=engine)
    one = mg.lmm("Reaction ~ Days + (Days|Subject)", sleep, residual=np.diag(1.0 / w), control=control)
    two = mg.lmm("Reaction ~ Days + (Days|Subject)", sleep, weights=w, control=control)
    assert one.llf == pytest.approx(two.llf, rel=1e-12)
    np.testing.assert_allclose(one.theta, two.theta, rtol=1e-6)
    np.testing.assert_allclose(one.df, two.df, rtol=1e-4)
    np.testing.assert_allclose(one.blup("Subject")["pev"], two.blup("Subject")["pev"], rtol=1e-6)


def test_a_known_autocorrelation_is_ar1_with_its_correlation_fixed(sleep, autocorrelation):
    formula = "Reaction ~ Days + (1|Subject)"
    one = mg.lmm(formula, sleep, residual=autocorrelation)
    two = mg.lmm(formula, sleep, residual="ar1(Days|Subject)", control=mg.Control(fix={"residual[rho]": 0.6}))
    assert one.llf == pytest.approx(two.llf, rel=1e-12)
    np.testing.assert_allclose(one.bse, two.bse, rtol=1e-7)
    drawn = one.simulate(2000, seed=1).to_numpy()
    covariance = np.cov(drawn[:10])
    want = one.theta["Subject"] + one.theta["residual"] * autocorrelation[:10, :10]
    np.testing.assert_allclose(covariance, want, atol=5.0 * want.max() / np.sqrt(1000))


def test_labels_bring_the_matrix_into_the_order_of_the_data(sleep, autocorrelation):
    data = sleep.set_index(np.array([f"r{k}" for k in range(len(sleep))]))
    R = pd.DataFrame(autocorrelation, index=data.index, columns=data.index)
    mixed = R.sample(frac=1.0, random_state=1).sample(frac=1.0, axis=1, random_state=2)
    formula = "Reaction ~ Days + (1|Subject)"
    want = mg.lmm(formula, data, residual=autocorrelation).llf
    assert mg.lmm(formula, data, residual=mixed).llf == want
    assert mg.lmm(formula, data, residual=sp.csr_array(autocorrelation)).llf == want
    shuffled = data.sample(frac=1.0, random_state=3)
    assert mg.lmm(formula, shuffled, residual=R).llf == pytest.approx(want, rel=1e-12)
    some = data[data["Days"] != 4]
    assert (
        mg.lmm(formula, data.assign(Reaction=data["Reaction"].where(data["Days"] != 4)), residual=R).llf
        == mg.lmm(formula, some, residual=R).llf
    )


def test_matrices_that_are_refused(sleep, autocorrelation):
    formula = "Reaction ~ Days + (1|Subject)"
    with pytest.raises(ArgumentError, match=r"\(3, 3\)"):
        mg.lmm(formula, sleep, residual=np.eye(3))
    with pytest.raises(ArgumentError, match="no weights"):
        mg.lmm(formula, sleep, residual=autocorrelation, weights=1.0 + sleep["Days"])
    odd = autocorrelation.copy()
    odd[0, 1] = 0.5
    with pytest.raises(DataError, match="not symmetric in 2 places: '0, 1'"):
        mg.lmm(formula, sleep, residual=odd)
    odd = autocorrelation.copy()
    odd[0, 1] = odd[1, 0] = 3.0
    with pytest.raises(DataError, match="10 records is not positive definite: 0, 1"):
        mg.lmm(formula, sleep, residual=odd)
    odd = autocorrelation.copy()
    odd[5, 5] = 0.0
    with pytest.raises(DataError, match="1 records have no positive residual variance: 5"):
        mg.lmm(formula, sleep, residual=odd)
    labelled = pd.DataFrame(autocorrelation).iloc[1:, 1:]
    with pytest.raises(DataError, match="1 rows of the data are not in"):
        mg.lmm(formula, sleep, residual=labelled)


# ----------------------------------------------------------------------------------------------- two stages
def solved(data: pd.DataFrame, trial: str) -> mg.Fit:
    """First stage of one trial at the variances of `WITHIN`."""
    block, residual = WITHIN[trial]
    own = data[data["trial"] == trial]
    return mg.MixedModel("y ~ 0 + line + (1|block)", own).solve({"block": block, "residual": residual})


def test_two_stages_with_the_full_covariance_are_one(trials):
    """At the same variances: BLUE of the trials and BLUP of the lines, with their standard errors."""
    variances = {"line": 1.1, "trial:line": 0.4}
    one = mg.MixedModel(
        "y ~ 0 + trial + (1|line) + (1|trial:line) + diag(0 + trial|block)", trials, residual="diag(trial)"
    ).solve(
        {
            **variances,
            "block": [WITHIN[t][0] for t in TRIALS],
            "residual": [WITHIN[t][1] for t in TRIALS],
        }
    )
    stage = mg.first_stage({t: solved(trials, t) for t in TRIALS}, "line")
    model = mg.MixedModel("mean ~ 0 + trial + (1|line) + (1|trial:line)", stage.means, residual=stage.covariance)
    two = model.solve({**variances, "residual": 1.0})
    np.testing.assert_allclose(two.params, one.params, rtol=1e-9)
    np.testing.assert_allclose(two.bse, one.bse, rtol=1e-9)
    left, right = (f.blup("line").set_index("level") for f in (one, two))
    np.testing.assert_allclose(right["value"], left.loc[right.index, "value"], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(right["pev"], left.loc[right.index, "pev"], rtol=1e-8)


def test_diagonal_weights_are_not_the_one_stage_fit(trials):
    stage = mg.first_stage({t: solved(trials, t) for t in TRIALS}, "line")
    formula = "mean ~ 0 + trial + (1|line) + (1|trial:line)"
    full = mg.lmm(formula, stage.means, residual=stage.covariance, control=KNOWN)
    short = mg.lmm(formula, stage.means, weights="weight", control=KNOWN)
    assert list(full.theta.index) == ["trial:line", "line"]
    assert 1e-4 < abs(full.theta["line"] / short.theta["line"] - 1.0) < 0.3
    V = stage.covariance.toarray()
    north = (stage.means["trial"] == "north").to_numpy()
    np.testing.assert_allclose(stage.means["se"] ** 2, np.diag(V))
    np.testing.assert_allclose(stage.means["weight"][north], np.diag(np.linalg.inv(V[np.ix_(north, north)])), rtol=1e-9)


def test_first_stage_refuses(trials):
    fit = solved(trials, "north")
    with pytest.raises(ArgumentError, match="a fit for each trial"):
        mg.first_stage({}, "line")
    with pytest.raises(ArgumentError, match="'line'"):
        mg.first_stage({"north": fit}, "line", trial="line")
    with pytest.raises(ArgumentError, match="variet"):
        mg.first_stage({"north": fit}, "variety")
