"""Loadings, scores and stability of factor-analytic terms against dense algebra."""

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.errors import NotAvailableError

SITES = list("abcde")


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    """Thirty lines in two plots of each of five sites, two factors behind their responses."""
    rng = np.random.default_rng(9)
    Lambda = np.array([[2.0, 0.3], [1.8, -0.9], [1.5, 1.0], [2.2, 0.0], [1.0, -0.5]])
    u = rng.normal(size=(30, 2)) @ Lambda.T + 0.5 * rng.normal(size=(30, 5))
    line, site = (a.ravel() for a in np.meshgrid(np.arange(30), np.arange(5), indexing="ij"))
    line, site = np.tile(line, 2), np.tile(site, 2)
    y = 10.0 + site + u[line, site] + rng.normal(size=len(line))
    return pd.DataFrame({"line": [f"L{k}" for k in line], "site": np.array(SITES)[site], "y": y})


@pytest.mark.parametrize("structure", ["fa(0 + site|line, k=1)", "fa(0 + site|line, k=2)", "rr(0 + site|line, k=2)"])
def test_factors_are_a_rotation_of_the_fit(trials, structure):
    fit = mg.lmm(f"y ~ 0 + site + {structure}", trials)
    found = fit.factors("line")
    L, psi = found.loadings.to_numpy(), found.specific.to_numpy()
    design = fit.fitted.design
    t = design.terms[0]
    Sigma = t.structure.matrix(fit.fitted.theta[design.slices[0]])
    np.testing.assert_allclose(L @ L.T + np.diag(psi), Sigma, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(L.T @ L, np.diag(np.diag(L.T @ L)), atol=1e-8)
    assert (np.diff(np.diag(L.T @ L)) < 0).all()
    assert (L.sum(axis=0) > 0).all()
    np.testing.assert_allclose(found.explained["total"], np.sum(L**2, axis=1) / np.diag(Sigma), rtol=1e-9)
    # BLUP of the scores: Cov(f, y) V^-1 (y - X b)
    Z = t.Z.toarray()
    V = Z @ np.kron(Sigma, np.eye(t.q)) @ Z.T + fit.scale * np.eye(design.n)
    X = design.fixed.X.toarray() if hasattr(design.fixed.X, "toarray") else design.fixed.X
    e = np.linalg.solve(V, design.y - X @ fit.params.to_numpy())
    want = (np.kron(L.T, np.eye(t.q)) @ Z.T @ e).reshape(L.shape[1], t.q).T
    np.testing.assert_allclose(found.scores, want, rtol=1e-6, atol=1e-6 * np.abs(want).max())


def test_stability_says_performance_and_spread(trials):
    fit = mg.lmm("y ~ 0 + site + fa(0 + site|line, k=2)", trials)
    found = fit.factors("line")
    table = found.stability
    assert list(table.columns) == ["performance", "rmsd", "responsiveness"]
    common = found.scores.to_numpy() @ found.loadings.to_numpy().T
    along = np.outer(found.scores["factor1"], found.loadings["factor1"])
    np.testing.assert_allclose(table["performance"], along.mean(axis=1), rtol=1e-10)
    np.testing.assert_allclose(table["rmsd"] ** 2, np.mean((common - along) ** 2, axis=1), rtol=1e-9)
    one = mg.lmm("y ~ 0 + site + fa(0 + site|line, k=1)", trials).factors("line").stability
    assert (one["rmsd"] == 0.0).all()


def test_terms_without_factors(trials):
    fit = mg.lmm("y ~ 0 + site + (1|line)", trials)
    with pytest.raises(NotAvailableError, match="'line' has no factors"):
        fit.factors("line")
