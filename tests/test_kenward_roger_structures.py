"""Kenward and Roger's method where V is not linear in theta, against dense algebra and models that are the same."""

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.engines.dense import DenseEngine
from mixedgen.errors import NotAvailableError

KR = "kenward-roger"


@pytest.fixture(scope="module")
def visits() -> pd.DataFrame:
    """Five visits of twenty people, some missing, two treatments."""
    rng = np.random.default_rng(6)
    person, visit = np.repeat(np.arange(20), 5), np.tile(np.arange(5), 20)
    L = np.linalg.cholesky(0.6 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5))))
    y = 3.0 + 0.4 * visit + (rng.normal(size=(20, 5)) @ L.T).ravel() + 0.5 * (person % 2)
    data = pd.DataFrame({"person": person, "visit": visit, "treatment": np.where(person % 2, "b", "a"), "y": y})
    data["x"] = rng.normal(size=100).round(3)
    return data[rng.random(100) < 0.85].reset_index(drop=True)


def dense_kenward_roger(fit: mg.Fit) -> np.ndarray:
    """Adjusted covariance matrix of the fixed effects by the formulae of 1997, V differentiated numerically."""
    fitted = fit.fitted
    design, theta = fitted.design, fitted.theta
    dense = DenseEngine(design)
    n, X = design.n, np.asarray(design.fixed.X)
    zero = np.zeros(len(theta))

    def V(t: np.ndarray) -> np.ndarray:
        total = design.residual.multiply(t[design.slices[-1]], np.eye(n))
        for term, s in zip(design.terms, design.slices, strict=False):
            Z = term.Z.toarray()
            K = np.eye(term.q) if term.relationship is None else term.relationship.multiply(np.eye(term.q))
            total = total + Z @ np.kron(term.structure.matrix(t[s]), K) @ Z.T
        return total

    def moved(*places: int) -> np.ndarray:
        step = zero.copy()
        for j in places:
            step[j] += 1e-4 * max(abs(theta[j]), 0.1)
        return step

    size = [1e-4 * max(abs(t), 0.1) for t in theta]
    k = len(theta)
    first = [(V(theta + moved(i)) - V(theta - moved(i))) / (2 * size[i]) for i in range(k)]
    second = [
        [
            (
                V(theta + moved(i) + moved(j))
                - V(theta + moved(i) - moved(j))
                - V(theta - moved(i) + moved(j))
                + V(theta - moved(i) - moved(j))
            )
            / (4 * size[i] * size[j])
            for j in range(k)
        ]
        for i in range(k)
    ]
    assert dense.design is design
    Vi = np.linalg.inv(V(theta))
    Phi = np.linalg.inv(X.T @ Vi @ X)
    P = Vi - Vi @ X @ Phi @ X.T @ Vi
    W = np.linalg.inv([[0.5 * np.trace(P @ a @ P @ b) for b in first] for a in first])
    middle = np.zeros_like(Phi)
    for i in range(k):
        Pi = -X.T @ Vi @ first[i] @ Vi @ X
        for j in range(k):
            Pj = -X.T @ Vi @ first[j] @ Vi @ X
            Q = X.T @ Vi @ first[i] @ Vi @ first[j] @ Vi @ X
            R = X.T @ Vi @ second[i][j] @ Vi @ X
            middle += W[i, j] * (Q - Pi @ Phi @ Pj - 0.25 * R)
    return Phi + 2.0 * Phi @ middle @ Phi


@pytest.mark.parametrize(
    ("formula", "residual"),
    [
        ("y ~ treatment + visit", "ar1(visit|person)"),
        ("y ~ treatment * visit", "toep(visit|person)"),
        ("y ~ treatment + x", "ar1(visit|person, hom=False)"),
        ("y ~ treatment + visit + corh(x|person)", None),
    ],
)
def test_adjusted_standard_errors_are_those_of_dense_algebra(visits, formula, residual):
    fit = mg.lmm(formula, visits, residual=residual)
    want = np.sqrt(np.diag(dense_kenward_roger(fit)))
    np.testing.assert_allclose(fit.tidy("fixed", ddf=KR)["std.error"], want, rtol=2e-6)  # second differences


def test_degrees_of_freedom_do_not_depend_on_the_parameters(visits):
    """Compound symmetry by a variance and a correlation, and by an intercept of the persons, is one V."""
    one = mg.lmm("y ~ treatment + visit", visits, residual="cs(visit|person, hom=True)")
    two = mg.lmm("y ~ treatment + visit + (1|person)", visits)
    assert one.llf == pytest.approx(two.llf, abs=1e-9)
    left, right = one.tidy("fixed", ddf=KR), two.tidy("fixed", ddf=KR)
    np.testing.assert_allclose(left["df"], right["df"], rtol=1e-5)
    assert not np.allclose(left["std.error"], right["std.error"], rtol=1e-6)  # the bias of theta does depend on them
    us, corh = (mg.lmm(f"y ~ treatment + visit + {s}(x|person)", visits) for s in ("us", "corh"))
    np.testing.assert_allclose(us.tidy("fixed", ddf=KR)["df"], corh.tidy("fixed", ddf=KR)["df"], rtol=1e-4)


def test_what_has_no_linear_parameters(visits):
    loglinear = mg.lmm("y ~ treatment + (1|person)", visits, residual="exp(x)")
    with pytest.raises(NotAvailableError, match="exp"):
        loglinear.tidy("fixed", ddf=KR)
    singular = mg.lmm("y ~ treatment + rr(x|person, k=1)", visits)
    with pytest.raises(NotAvailableError, match="singular"):
        singular.tidy("fixed", ddf=KR)
