"""Degrees of freedom by containment."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from mixedgen.arrays import Array
from mixedgen.design.build_terms import unique_keys
from mixedgen.design.coding import plain_name
from mixedgen.design.design import Design
from mixedgen.errors import NotAvailableError
from mixedgen.formula.sides import factor_variables, model_spec

MAX_RANKED = 6000  # columns of [X Z] whose ranks containment counts


def containment_df(design: Design) -> Array:
    """Degrees of freedom of each coefficient by containment, shape (p,).

    Notes
    -----
    Of the random effects whose variables comprise those of the fixed effect, the smallest contribution to the rank of
    [X Z], coarse effects first; n - rank [X Z] where there is none: SAS's DDFM=CONTAIN.

    Raises
    ------
    NotAvailableError
        If [X Z] has too many columns to count ranks.
    """
    blocks = random_effect_blocks(design)
    size = design.fixed.p + sum(Z.shape[1] for _, Z in blocks)
    if size > MAX_RANKED:
        raise NotAvailableError(f"containment ranks {size} columns of X and Z; the limit is {MAX_RANKED}.")
    W = sp.csc_array(sp.hstack([sp.csr_array(design.fixed.X), *(Z for _, Z in blocks)]))
    norms = np.sqrt(np.asarray(W.multiply(W).sum(axis=0)).ravel())
    W = W @ sp.diags_array(1.0 / np.where(norms > 0, norms, 1.0))
    gram = np.asarray((W.T @ W).todense())
    ends = np.cumsum([design.fixed.p, *(Z.shape[1] for _, Z in blocks)])
    ranks = np.array([np.linalg.matrix_rank(gram[:e, :e], tol=1e-9 * e, hermitian=True) if e else 0 for e in ends])
    gains = np.diff(ranks)
    out = []
    for variables in coefficient_variables(design):
        holding = [gain for (has, _), gain in zip(blocks, gains, strict=True) if variables <= has and gain > 0]
        out.append(min(holding, default=design.n - ranks[-1]))
    return np.array(out, dtype=float)


def random_effect_blocks(design: Design) -> list[tuple[set[str], sp.csr_array]]:
    """Variables and columns of Z of each random effect (one left-hand term over one grouping), coarse ones first."""
    parsed = dict(zip(unique_keys(design.parsed.terms), design.parsed.terms, strict=True))
    out: list[tuple[int, set[str], sp.csr_array]] = []
    for t in design.terms:
        groups = {str(getattr(f.source, "name", f.source)) for f in parsed[t.key].factors}
        for term in model_spec(parsed[t.key].effects):
            names = {v for f in term.factors for v in factor_variables(f, ())}
            wanted = "(Intercept)" if str(term) == "1" else str(term)
            mine = [a for a, e in enumerate(t.effects) if plain_name(e) == wanted]
            if mine:
                columns = sp.hstack([t.Z[:, a * t.q : (a + 1) * t.q] for a in mine])
                out.append((t.q, names | groups, sp.csr_array(columns)))
    return [(names, Z) for _, names, Z in sorted(out, key=lambda x: x[0])]


def coefficient_variables(design: Design) -> list[set[str]]:
    """Variables of the term of each column of X that is kept."""
    of = {}
    for entry in design.fixed.spec.structure:
        names = {v for f in entry.term.factors for v in factor_variables(f, ())}
        of.update({str(c): names for c in entry.columns})
    return [of.get(name, set()) for name in design.fixed.names]
