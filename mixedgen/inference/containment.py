"""Degrees of freedom by containment."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.errors import NotAvailableError

_MAX_RANKED = 6000  # columns of [X Z] whose ranks containment counts


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
    blocks = _random_effect_blocks(design)
    size = design.fixed.p + sum(Z.shape[1] for _, Z in blocks)
    if size > _MAX_RANKED:
        raise NotAvailableError(f"containment ranks {size} columns of X and Z; the limit is {_MAX_RANKED}.")
    W = sp.csc_array(sp.hstack([sp.csr_array(design.fixed.X), *(Z for _, Z in blocks)]))
    norms = np.sqrt(np.asarray(W.multiply(W).sum(axis=0)).ravel())
    W = W @ sp.diags_array(1.0 / np.where(norms > 0, norms, 1.0))
    gram = np.asarray((W.T @ W).todense())
    ends = np.cumsum([design.fixed.p, *(Z.shape[1] for _, Z in blocks)])
    ranks = np.array([np.linalg.matrix_rank(gram[:e, :e], tol=1e-9 * e, hermitian=True) if e else 0 for e in ends])
    gains = np.diff(ranks)
    out = []
    for variables in (design.fixed.origins[k].variables for k in design.fixed.kept):
        holding = [gain for (has, _), gain in zip(blocks, gains, strict=True) if variables <= has and gain > 0]
        out.append(min(holding, default=design.n - ranks[-1]))
    return np.array(out, dtype=float)


def _random_effect_blocks(design: Design) -> list[tuple[frozenset[str], sp.csr_array]]:
    """Variables and columns of Z of each random effect (one left-hand term over one grouping), coarse ones first."""
    out = []
    for t in sorted(design.terms, key=lambda t: t.q):
        for origin in dict.fromkeys(t.origins):
            mine = [a for a, o in enumerate(t.origins) if o == origin]
            columns = sp.hstack([t.Z[:, a * t.q : (a + 1) * t.q] for a in mine])
            out.append((origin.variables, sp.csr_array(columns)))
    return out
