"""Sound models that are seldom met: no count of levels refuses them, and no inverse that they do not need."""

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg


def trials(per_cell: int, seed: int = 3) -> pd.DataFrame:
    """Lines in four environments each, other ones in each; x varies within lines, t is 0 and 1 in every line."""
    rng = np.random.default_rng(seed)
    cells = [(f"e{e}", f"g{g:03d}") for e in range(4) for g in rng.choice(60, 20, replace=False)]
    d = pd.DataFrame([c for c in cells for _ in range(per_cell)], columns=["env", "line"])
    d["x"] = rng.normal(size=len(d))
    d["one"] = np.arange(len(d)).astype(str)
    d["y"] = rng.normal(0, 1.5, len(cells)).repeat(per_cell) + rng.normal(size=len(d))
    return d.assign(t=np.tile([0.0, 1.0], len(d))[: len(d)])


# term, records of each cell, whether its variances stand apart from the residual's
APART = [
    ("diag(0 + env|line)", 1, False),
    ("diag(0 + env|line)", 2, True),
    ("(0 + env|line)", 2, True),
    ("fa(0 + env|line, k=1)", 2, True),
    ("(1|one)", 2, False),
    ("(1 + x|one)", 2, False),
    ("(1 + x|env:line)", 2, False),
    ("(1 + t|env:line)", 2, False),
    ("diag(1 + t|env:line)", 3, True),
    ("diag(1 + x + t + I(x * t)|env:line)", 4, False),
]


@pytest.mark.parametrize("residual", [None, "diag(env)"])
@pytest.mark.parametrize(("term", "per_cell", "apart"), APART, ids=lambda v: str(v))
def test_the_rank_decides_not_the_count(term: str, per_cell: int, apart: bool, residual: str | None) -> None:
    d = trials(per_cell)
    if apart:
        mg.lmm(f"y ~ env + {term}", d, residual=residual, control=mg.Control(max_iter=60))
    else:
        with pytest.raises(mg.DesignError, match="cannot be told"):
            mg.lmm(f"y ~ env + {term}", d, residual=residual)


def test_variances_of_cells_are_those_of_balanced_layouts() -> None:
    d = trials(2)
    cells = d.groupby(["env", "line"])["y"]
    within = cells.var().mean()
    right = [*(cells.mean().groupby("env").var() - within / 2), within]
    np.testing.assert_allclose(mg.lmm("y ~ env + diag(0 + env|line)", d).theta, right, rtol=1e-5)


def unbalanced_pastes() -> pd.DataFrame:
    return mg.data.pastes().drop(index=[3, 7, 8, 20, 21, 33, 34, 35, 40])


@pytest.mark.parametrize("prior", [{}, {"batch": 5.0}, {"cask:batch": 100.0, "batch": 0.0, "residual": 2.0}])
def test_minque_at_any_priors_solves_its_equations(prior: dict[str, float]) -> None:
    """tr(P V_i P V_j) s_j = y'P V_i P y in dense algebra."""
    d = unbalanced_pastes()
    fit = mg.lmm("strength ~ 1 + (1|batch/cask)", d, method="minque", control=mg.Control(start=prior or None))
    y, names = d["strength"].to_numpy(), ["cask:batch", "batch", "residual"]
    groups = [d["batch"].astype(str) + d["cask"].astype(str), d["batch"].astype(str), pd.Series(range(len(d)))]
    V = [(g.to_numpy()[:, None] == g.to_numpy()).astype(float) for g in groups]
    W = np.linalg.inv(sum(prior.get(n, 1.0) * v for n, v in zip(names, V, strict=True)))
    P = W - np.outer(W.sum(1), W.sum(1)) / W.sum()
    S = [[np.trace(P @ a @ P @ b) for b in V] for a in V]
    s = np.linalg.solve(S, [y @ P @ a @ P @ y for a in V])
    np.testing.assert_allclose(fit.theta[names], s, rtol=1e-8)


def test_minque_refuses_priors_that_are_none() -> None:
    with pytest.raises(mg.MixedgenError, match="no random term 'bat'"):
        mg.lmm("strength ~ 1 + (1|batch)", mg.data.pastes(), method="minque", control=mg.Control(start={"bat": 1.0}))


@pytest.mark.parametrize("nested", ["(1|batch/cask)", "(1|batch) + (1|batch:cask)", "(1|cask:batch) + (1|batch)"])
def test_anova_of_nested_factors_in_any_words(nested: str) -> None:
    plain = mg.lmm("strength ~ 1 + (1|batch) + (1|batch:cask)", mg.data.pastes(), method="anova3").theta
    np.testing.assert_allclose(
        np.sort(mg.lmm(f"strength ~ 1 + {nested}", mg.data.pastes(), method="anova3").theta), np.sort(plain)
    )


def genomic_records() -> tuple[mg.Genotypes, pd.DataFrame]:
    ids = [f"i{k}" for k in range(12)]
    M = mg.Genotypes(np.random.default_rng(1).binomial(2, 0.4, (12, 30)), ids=ids)
    return M, pd.DataFrame({"id": ids, "y": np.random.default_rng(2).normal(size=12)})


@pytest.mark.parametrize("make", [mg.genomic, mg.genomic_dominance, mg.markers])
def test_matrices_of_singular_relationships(make) -> None:  # type: ignore[no-untyped-def]
    M, d = genomic_records()
    K = make(M)
    m = mg.MixedModel("y ~ 1 + (1|id:K)", d, relationships={"K": K}).matrices({"id:K": 2.0, "residual": 3.0})
    np.testing.assert_allclose(m.V, 2 * K.multiply(np.eye(12)) + 3 * np.eye(12))
    assert m.RHS.notna().all()
    if np.linalg.matrix_rank(K.multiply(np.eye(12))) < 12:
        with pytest.raises(mg.NotAvailableError, match="singular"):
            m.LHS  # noqa: B018


@pytest.mark.parametrize("given", [0.0, 2.0])
@pytest.mark.parametrize("term", ["(1|one)", "diag(0 + z|one, hom=True)", "(1 + z|one)"])
def test_one_level_at_given_variances(term: str, given: float) -> None:
    rng = np.random.default_rng(5)
    d = pd.DataFrame({"y": rng.normal(size=12), "x": rng.normal(size=12), "z": rng.normal(size=12), "one": "all"})
    fit = mg.MixedModel(f"y ~ 0 + x + {term}", d).solve({"one": given, "residual": 3.0})
    Z = {"(1|one)": d[[]].assign(i=1.0), "(1 + z|one)": d[["z"]].assign(i=1.0)}.get(term, d[["z"]]).to_numpy()
    W = np.linalg.inv(given * Z @ Z.T + 3 * np.eye(12))
    x = d["x"].to_numpy()
    np.testing.assert_allclose(fit.params, [x @ W @ d["y"] / (x @ W @ x)])
    for method in ("reml", "ml", "minque", "anova3"):
        if term == "(1|one)":
            with pytest.raises(mg.DesignError, match="one level only"):
                mg.lmm(f"y ~ 0 + x + {term}", d, method=method)


def test_threads_are_given_back_whatever_fits_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from mixedgen.sparse.threads import n_threads, one_thread

    before = n_threads()

    def nest(depth: int) -> None:
        with one_thread():
            if depth:
                nest(depth - 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(nest, [3] * 400))
    assert n_threads() == before
    with one_thread():
        assert n_threads() == before


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2.0, 30)])
@pytest.mark.parametrize("scale", [None, "2pq"])
def test_inbreeding_from_marker_effects_is_that_of_the_genomic_model(scale, weights) -> None:  # type: ignore[no-untyped-def]
    M, d = genomic_records()
    K = mg.markers(M, scale=scale, weights=weights)
    fit = mg.MixedModel("y ~ 1 + (1|id:M)", d, relationships={"M": K}).solve({"id:M": 0.1, "residual": 1.0})
    animals = fit.blup("id:M", animals=True).set_index("level").loc[list(d["id"]), "inbreeding"]
    G = mg.genomic(M, method=1 if scale is None else 2).diagonal if weights is None else K.diagonal / K.unit
    np.testing.assert_allclose(animals, G - 1)
    np.testing.assert_allclose(K.submatrix(["i3", "i1"]).inbreeding, animals[["i3", "i1"]])


NEVER = np.inf
INBRED = {  # pedigrees with animals that their parents determine
    "F1 and doubled haploids": [("A", 0, 0, NEVER), ("B", 0, 0, NEVER), ("F", "A", "B", 0), ("D", "F", "F", NEVER)],
    "three-way cross": [
        *[("A", 0, 0, NEVER), ("B", 0, 0, NEVER), ("C", 0, 0, NEVER), ("F", "A", "B", 0), ("G", "F", "C", 0)],
        *[("H", "A", "C", 0), ("I", "H", "F", 0)],
    ],
}


@pytest.mark.parametrize("engine", ["henderson", "dense"])
@pytest.mark.parametrize("name", INBRED)
def test_singular_pedigrees_serve_models_through_their_factor(name: str, engine: str) -> None:
    ped = mg.Pedigree(pd.DataFrame(INBRED[name], columns=["id", "sire", "dam", "n"]), selfing="n")
    K = mg.additive(ped)
    assert "singular" in K.kind
    A = K.multiply(np.eye(K.size))
    np.testing.assert_allclose(K.cross(["F"], list(K.labels)), K.cross(["A", "B"], list(K.labels)).mean(0)[None])
    with pytest.raises(mg.MixedgenError, match="completely inbred"):
        K.inverse  # noqa: B018
    against_dense(K, A, engine)


def against_dense(K: mg.Relationship, A: np.ndarray, engine: str) -> None:
    """BLUP and log-likelihood of two records of each level, by dense algebra with K itself."""
    q = K.size
    y = np.random.default_rng(4).normal(size=2 * q)
    d = pd.DataFrame({"id": np.tile(K.labels, 2), "y": y})
    model = mg.MixedModel("y ~ 1 + (1|id:K)", d, relationships={"K": K}, control=mg.Control(engine=engine))
    fit = model.solve({"id:K": 0.7, "residual": 1.5})
    Z = np.tile(np.eye(q), (2, 1))
    V = 0.7 * Z @ A @ Z.T + 1.5 * np.eye(2 * q)
    W = np.linalg.inv(V)
    b = W.sum(0) @ y / W.sum()
    e = y - b
    logs = np.linalg.slogdet(V)[1] + np.log(W.sum()) + (2 * q - 1) * np.log(2 * np.pi)
    assert fit.llf == pytest.approx(-0.5 * (logs + e @ W @ e), rel=1e-9)
    values = fit.blup("id:K").set_index("level").loc[list(K.labels), "value"]
    np.testing.assert_allclose(values, 0.7 * A @ Z.T @ W @ e, atol=1e-10)


def semidefinite_matrices() -> dict[str, object]:
    import scipy.sparse as sp

    W = np.random.default_rng(6).integers(0, 3, (8, 30)).astype(float)
    W -= W.mean(axis=0)
    twins = np.kron(np.eye(4), np.ones((2, 2)))
    G = W @ W.T / 30
    return {
        "centred": G,
        "twins": twins,
        "sparse twins": sp.csc_array(twins),
        "frame": pd.DataFrame(G, list("abcdefgh"), list("abcdefgh")),
    }


@pytest.mark.parametrize("engine", ["henderson", "dense"])
@pytest.mark.parametrize("name", semidefinite_matrices())
def test_semidefinite_matrices_serve_models_through_their_factor(name: str, engine: str) -> None:
    M = semidefinite_matrices()[name]
    K = mg.Relationship.from_matrix(M, list("abcdefgh"))
    assert "singular, of rank" in K.kind
    with pytest.raises(mg.MixedgenError, match="smallest eigenvalue"):
        K.inverse  # noqa: B018
    against_dense(K, np.asarray(M.toarray() if hasattr(M, "toarray") else M), engine)


def test_indefinite_matrices_are_refused_still() -> None:
    K = np.eye(3)
    K[0, 1] = K[1, 0] = 1.0 + 1e-6
    with pytest.raises(mg.RelationshipError, match="not positive definite"):
        mg.Relationship.from_matrix(K, "abc")
