"""Kenward and Roger's method where V is not linear in theta, against dense algebra and models that are the same."""

import numpy as np
import pandas as pd
import pytest
from dense_kenward_roger import dense_kenward_roger

import mixedgen as mg
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
