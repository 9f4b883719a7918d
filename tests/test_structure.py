"""Laws over the registry of covariance structures."""

from collections.abc import Iterator

import numpy as np
import pytest

import mixedgen as mg
from mixedgen.covariance.correlated import Autoregressive, CompoundSymmetry, Toeplitz
from mixedgen.covariance.product import Product
from mixedgen.covariance.registry import STRUCTURES, make_structure
from mixedgen.covariance.restricted import Restricted
from mixedgen.covariance.sections import Sections
from mixedgen.covariance.structure import Structure
from mixedgen.covariance.triangle import lower_factor, lower_indices
from mixedgen.covariance.variances import Diagonal, Identity, LogLinear, Unstructured
from mixedgen.errors import FormulaError, NotAvailableError

# Central differences of a smooth function: the rounding of 1e-16 / step and the curvature of step^2 are both 1e-11.
DIFFERENCE, DIFFERENCE_TOLERANCE = 1e-5, 1e-9
DIMENSIONS = (1, 2, 3, 5)


def covariance(dim: int, seed: int = 0) -> np.ndarray:
    factor = np.random.default_rng(seed).normal(size=(dim, dim + 3))
    return factor @ factor.T


def cases() -> Iterator[object]:
    for tag in STRUCTURES:
        for dim in DIMENSIONS[-2:] if tag == "fa" else [d for d in DIMENSIONS if d >= STRUCTURES[tag].least]:
            yield pytest.param(make_structure(tag, dim, {}), id=f"{tag}-{dim}")
    yield pytest.param(make_structure("fa", 5, {"k": 2}), id="fa-k=2-5")
    yield pytest.param(make_structure("rr", 5, {"k": 2}), id="rr-k=2-5")
    for hom in (True, False):
        yield pytest.param(Autoregressive(4, hom, np.array([0, 1, 3, 7])), id=f"ar1-hom={hom}-places")
    for tag in ("diag", "cs", "ar1"):
        for hom in (True, False):
            yield pytest.param(make_structure(tag, 3, {"hom": hom}), id=f"{tag}-hom={hom}-3")


@pytest.fixture(params=cases())
def structure(request: pytest.FixtureRequest) -> Structure:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def theta(structure: Structure) -> np.ndarray:
    return structure.start(covariance(structure.dim))


def test_law_matrix_is_a_covariance_matrix(structure: Structure, theta: np.ndarray) -> None:
    Sigma = structure.matrix(theta)
    assert Sigma.shape == (structure.dim, structure.dim) and theta.shape == (structure.size,)
    np.testing.assert_array_equal(Sigma, Sigma.T)
    rank = getattr(structure, "k", structure.dim) if structure.tag == "rr" else structure.dim
    values = np.linalg.eigvalsh(Sigma)
    assert np.all(values[structure.dim - rank :] > 0)
    np.testing.assert_allclose(values[: structure.dim - rank], 0, atol=1e-14 * values[-1])


def test_law_factor_is_a_factor(structure: Structure, theta: np.ndarray) -> None:
    L = structure.factor(theta)
    np.testing.assert_array_equal(L, np.tril(L))
    np.testing.assert_allclose(L @ L.T, structure.matrix(theta), atol=1e-13 * np.abs(theta).max())
    if structure.singular:
        dL = structure.factor_derivatives(theta)
        D = np.einsum("tab,cb->tac", dL, L)
        whole = D + D.transpose(0, 2, 1)
        np.testing.assert_allclose(whole, structure.derivatives(theta), atol=1e-13 * np.abs(theta).max())


def test_law_derivatives_are_those_of_the_matrix(structure: Structure, theta: np.ndarray) -> None:
    D = structure.derivatives(theta)
    assert D.shape == (structure.size, structure.dim, structure.dim)
    for k in range(structure.size):
        step = DIFFERENCE * np.eye(structure.size)[k]
        difference = (structure.matrix(theta + step) - structure.matrix(theta - step)) / (2 * DIFFERENCE)
        np.testing.assert_allclose(D[k], difference, atol=DIFFERENCE_TOLERANCE * np.abs(theta).max())


def test_law_start_inverts_matrix(structure: Structure, theta: np.ndarray) -> None:
    if structure.tag == "fa":  # principal factors are iterated, and creep where a specific variance is zero
        theta = theta.copy()
        theta[-structure.dim :] += 1.0
        np.testing.assert_allclose(structure.start(structure.matrix(theta)), theta, rtol=1e-6, atol=1e-6)
        return
    np.testing.assert_allclose(structure.start(structure.matrix(theta)), theta, rtol=1e-12, atol=1e-13)


def test_law_start_keeps_the_total_variance(structure: Structure, theta: np.ndarray) -> None:
    if structure.tag in ("rr", "fa"):
        pytest.skip("what the other axes carry is lost, and a specific variance is not negative")
    assert np.trace(structure.matrix(theta)) == pytest.approx(np.trace(covariance(structure.dim)), rel=1e-12)


def test_law_blocks_partition_the_parameters(structure: Structure) -> None:
    parameters = np.concatenate([*structure.blocks, np.array([i for i, _, _ in structure.free], dtype=int)])
    assert sorted(parameters) == list(range(structure.size))
    assert len(structure.multiplicity) == len(structure.blocks)
    assert structure.tag == "rr" or structure.multiplicity @ [order(b) for b in structure.blocks] == structure.dim


def order(block: np.ndarray) -> int:
    """Order of the matrix whose lower triangle a block is."""
    return int(np.sqrt(2 * len(block)))


def test_law_blocks_are_lower_triangles(structure: Structure, theta: np.ndarray) -> None:
    """The matrices of the blocks, each repeated as often as it is shared, have the eigenvalues of Sigma."""
    if structure.free:
        pytest.skip("the correlations have bounds of their own")
    values: list[float] = []
    for block, times in zip(structure.blocks, structure.multiplicity, strict=True):
        S = np.zeros((order(block), order(block)))
        rows, cols = lower_indices(len(S))
        S[rows, cols] = S[cols, rows] = theta[block]
        values += int(times) * list(np.linalg.eigvalsh(S))
    np.testing.assert_allclose(sorted(values), np.linalg.eigvalsh(structure.matrix(theta)), rtol=1e-12)


def test_law_components_are_independent(structure: Structure, theta: np.ndarray) -> None:
    assert sorted(np.concatenate(structure.components)) == list(range(structure.dim))
    Sigma = structure.matrix(theta)
    for component in structure.components:
        others = np.setdiff1d(np.arange(structure.dim), component)
        assert not Sigma[np.ix_(component, others)].any()
        assert not structure.derivatives(theta)[:, component][:, :, others].any()


def test_law_names_are_unique(structure: Structure) -> None:
    names = structure.names(["1", "x", "z", "w", "v"][: structure.dim])
    assert len(names) == len(set(names)) == structure.size


def test_law_each_parameter_moves_the_elements_it_says(structure: Structure, theta: np.ndarray) -> None:
    """A variance moves the variances of its effects, a correlation none, and no parameter an element of others."""
    effects = ["1", "x", "z", "w", "v"][: structure.dim]
    parameters = structure.parameters(effects)
    assert len(parameters) == structure.size == len(structure.derivatives(theta))
    Sigma = structure.matrix(theta)
    for p, value, D in zip(parameters, theta, structure.derivatives(theta), strict=True):
        own = np.array([e in p.effects for e in effects])
        assert own.any() and not D[np.ix_(~own, ~own)].any()
        low, high = p.bounds
        assert low <= value <= high
        if p.kind == "variance":
            assert p.bounds == (0.0, np.inf) and np.all(np.diag(D)[own] > 0.0) and not np.diag(D)[~own].any()
            assert p.partial or np.allclose(np.diag(Sigma)[own], value, rtol=1e-15)
        if p.kind == "covariance":
            assert p.bounds == (-np.inf, np.inf) and np.all(Sigma[np.ix_(own, own)][[0, 1], [1, 0]] == value)
        if p.kind == "correlation":
            assert -1.0 <= low < high == 1.0
        if p.kind in ("covariance", "correlation"):
            assert not np.diag(D).any()


def test_law_parameters_outside_the_blocks_have_their_bounds(structure: Structure) -> None:
    bounds = {i: (low, high) for i, low, high in structure.free}
    parameters = structure.parameters(["1", "x", "z", "w", "v"][: structure.dim])
    inside = {int(i) for b in structure.blocks for i in b}
    assert bounds == {i: p.bounds for i, p in enumerate(parameters) if i not in inside}
    assert all(parameters[i].kind in ("variance", "covariance") for i in inside)


COMPOSED = [
    LogLinear("x"),
    Product(Diagonal(3), [("row", Autoregressive(4, True)), ("col", CompoundSymmetry(3, True))]),
    Product(Unstructured(2), [("row", Autoregressive(4, True))]),
    Sections(["a", "b"], [Identity(1), Toeplitz(3, False)], [[], ["u", "v", "w"]]),
    Restricted(Unstructured(3), {1: 0.0}, [[0, 2]], {5: (0.5, 2.0)}),
]


@pytest.mark.parametrize("structure", COMPOSED, ids=lambda s: s.tag)
def test_law_parameters_of_composed_structures(structure: Structure) -> None:
    """As many as theta, with names of their own, within bounds, of effects whose elements they move or of a column."""
    effects = [f"e{k}" for k in range(structure.dim)]
    theta = structure.start(covariance(structure.dim))
    parameters = structure.parameters(effects)
    assert len({p.name for p in parameters}) == len(parameters) == len(theta) == structure.size
    for k, (p, value, D) in enumerate(zip(parameters, theta, structure.derivatives(theta), strict=True)):
        own = np.array([e in p.effects for e in effects])
        assert p.bounds[0] <= value <= p.bounds[1]
        assert (k in structure.unseen) == bool(p.column) == (not own.any())
        assert structure.restricted or not D[np.ix_(~own, ~own)].any()


def test_composed_structures_reduced() -> None:
    product, sections = COMPOSED[1].reduced([0, 2]), COMPOSED[3].reduced([1, 3])
    assert product.names(["a", "b"]) == ("[a,a]", "[b,b]", "[rho,row]", "[rho,col]")
    assert sections.names(["b,u", "b,w"]) == ("[b,u,u]", "[b,w,w]", "[b,rho]")
    with pytest.raises(NotAvailableError, match="restrictions"):
        COMPOSED[4].reduced([0])


def anew(structure: Structure, dim: int) -> Structure:
    """The same structure with its options made for fewer effects, as where a formula names these alone."""
    if dim < STRUCTURES[structure.tag].least:
        return make_structure("us", 1, {})
    options = {name: getattr(structure, name) for name in STRUCTURES[structure.tag].options if hasattr(structure, name)}
    if structure.tag == "idv":
        options["hom"] = True
    if structure.tag == "rr":
        options["k"] = min(structure.k, dim)  # type: ignore[attr-defined]
    try:
        return make_structure(structure.tag, dim, options)
    except FormulaError:  # an fa that is not identified
        return make_structure("us", dim, {})


def test_law_reduced_is_the_structure_anew_on_fewer_effects(structure: Structure) -> None:
    for kept in [[k for k in range(structure.dim) if k != gone] for gone in range(structure.dim)]:
        if not kept:
            continue
        left, want = structure.reduced(kept), anew(structure, len(kept))
        effects = [["1", "x", "z", "w", "v"][k] for k in kept]
        if getattr(structure, "placed", False):
            want = Autoregressive(len(kept), structure.hom, structure.place[kept])  # type: ignore[attr-defined]
        assert left.parameters(effects) == want.parameters(effects) and left.dim == len(kept)
        theta = want.start(covariance(left.dim))
        np.testing.assert_array_equal(left.matrix(theta), want.matrix(theta))


def test_names_of_an_unstructured_matrix_are_its_lower_triangle() -> None:
    assert make_structure("us", 2, {}).names(["1", "x"]) == ("[1,1]", "[1,x]", "[x,x]")
    assert make_structure("diag", 2, {}).names(["1", "x"]) == ("[1,1]", "[x,x]")
    assert make_structure("idv", 2, {}).names(["1", "x"]) == make_structure("us", 1, {}).names(["1"]) == ("",)


def test_hom_is_one_variance() -> None:
    structure = make_structure("diag", 4, {"hom": True})
    assert structure.size == 1
    np.testing.assert_array_equal(structure.matrix(np.array([2.5])), 2.5 * np.eye(4))


def test_law_matrix_is_positive_definite_between_the_bounds(structure: Structure, theta: np.ndarray) -> None:
    for i, low, high in structure.free:
        if structure.tag == "toep" or np.isinf(high):
            continue  # one correlation bounds the others; a loading has no bound
        for share in (0.01, 0.5, 0.99):
            inside = theta.copy()
            inside[i] = low + share * (high - low)
            assert np.linalg.eigvalsh(structure.matrix(inside))[0] > 0
        outside = theta.copy()
        outside[i] = low - 0.01
        assert np.linalg.eigvalsh(structure.matrix(outside))[0] < 0


@pytest.mark.parametrize("tag", ["cs", "corh", "ar1", "toep"])
def test_correlations_need_two_effects(tag: str) -> None:
    with pytest.raises(FormulaError, match="two effects"):
        make_structure(tag, 1, {})


@pytest.mark.parametrize("tag", ["ante", "nonsense"])
def test_structures_without_an_implementation(tag: str) -> None:
    with pytest.raises(FormulaError, match=rf"{tag}\(\) cannot be estimated; those that can: us, diag, idv"):
        make_structure(tag, 2, {})


# Factor


def singular(dim: int, rank: int, seed: int) -> np.ndarray:
    factor = np.random.default_rng(seed).normal(size=(dim, rank))
    return factor @ factor.T


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize(("dim", "rank"), [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (4, 1), (4, 2), (4, 3), (4, 4)])
def test_factor_of_any_rank(dim: int, rank: int, scale: float) -> None:
    for seed in range(20):
        Sigma = scale * singular(dim, rank, seed)
        L = lower_factor(Sigma)
        np.testing.assert_array_equal(L, np.tril(L))
        assert np.all(np.diag(L) >= 0)
        # a pivot that rounding leaves of an exact zero is set to zero, at 1e-14 of its diagonal element: its root
        np.testing.assert_allclose(L @ L.T, Sigma, atol=1e-13 * scale * max(1.0, np.abs(Sigma).max() / scale))


@pytest.mark.parametrize("place", [1, 2, 3])
def test_factor_where_one_coefficient_repeats_an_earlier_one(place: int) -> None:
    """The pivot that vanishes is not the last: the coefficients after it keep their variance."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        factor = rng.normal(size=(4, 3))
        factor[place] = rng.normal() * factor[0]
        Sigma = factor @ factor.T
        L = lower_factor(Sigma)
        np.testing.assert_array_equal(L, np.tril(L))
        np.testing.assert_allclose(L @ L.T, Sigma, atol=1e-13 * np.abs(Sigma).max())
        assert np.abs(L[:, place]).max() <= 1e-6 * np.abs(L).max()


def test_factor_of_a_positive_definite_matrix_is_cholesky() -> None:
    Sigma = covariance(5)
    np.testing.assert_allclose(lower_factor(Sigma), np.linalg.cholesky(Sigma), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "Sigma",
    [
        np.array([[1.0, 0.0], [0.0, 0.0]]),
        np.array([[0.0, 0.0], [0.0, 1.0]]),
        np.array([[4.0, -2.0], [-2.0, 1.0]]),
        np.array([[1e-8, 1.0], [1.0, 1e8]]),
        np.zeros((3, 3)),
    ],
)
def test_factor_on_the_boundary(Sigma: np.ndarray) -> None:
    L = lower_factor(Sigma)
    np.testing.assert_allclose(L @ L.T, Sigma, rtol=1e-14)
    assert (np.diag(L) == 0).sum() == len(Sigma) - np.linalg.matrix_rank(Sigma, tol=0.0 if not Sigma.any() else None)


@pytest.mark.parametrize(
    "Sigma",
    [
        np.array([[-1.0]]),
        np.array([[1.0, 2.0], [2.0, 1.0]]),
        np.array([[0.0, 1.0], [1.0, 1.0]]),
        np.array([[1.0, 0.0], [0.0, -1e-6]]),
        np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.5], [0.0, 0.5, 1.0]]),
        -np.eye(3),
    ],
)
@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_factor_of_an_indefinite_matrix(Sigma: np.ndarray, scale: float) -> None:
    with pytest.raises(ValueError, match="not positive semi-definite"):
        lower_factor(scale * Sigma)


def test_correlations_of_no_matrix_are_never_visited():
    """A determinant may be positive beside negative eigenvalues: the likelihood of such residuals is none."""
    data = mg.data.sleepstudy()
    fit = mg.lmm("Reaction ~ Days + (1|Subject)", data, residual="toep(Days|Subject)")
    R = fit.fitted.design.residual.structure.matrix(fit.fitted.theta[1:])
    assert fit.converged
    assert np.linalg.eigvalsh(R)[0] > 0
    indefinite = fit.fitted.theta.copy()
    indefinite[11:] = np.where(np.arange(9) % 2, 0.9, -0.9)
    indefinite[11:13] = 0.9, -0.9
    assert not np.isfinite(fit.fitted.design.residual.logdet(indefinite[1:]))
