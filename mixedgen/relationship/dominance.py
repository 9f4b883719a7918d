"""The dominance relationship of a pedigree."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from mixedgen.errors import ArgumentError, public
from mixedgen.genetics.pedigree import Pedigree
from mixedgen.relationship.combine import check_dense
from mixedgen.relationship.from_pedigree import additive
from mixedgen.relationship.relationship import Relationship
from mixedgen.relationship.vanraden import _ROWS_AT_ONCE

_SPARSE_SHARE = 0.1  # with fewer entries than this share of q^2, dominance is handed over as a sparse matrix


@public
def dominance(ped: Pedigree) -> Relationship:
    """Dominance relationship of all members of a pedigree, for non-inbred animals.

    Parameters
    ----------
    ped : Pedigree
        Of q animals with sire and dam.

    Returns
    -------
    Relationship
        D, of order q.

    Raises
    ------
    RelationshipError
        If D is not positive definite, or there are too many animals for the dense A it is made of.
    ArgumentError
        If the pedigree has maternal grandsires or metafounders.

    Notes
    -----
    d_ij = (a_ss' a_dd' + a_sd' a_ds') / 4 with i from s and d, j from s' and d', and d_ii = 1 [1]_. The formula ignores
    inbreeding, under which more than one dominance variance would be needed.

    References
    ----------
    .. [1] Cockerham (1954) Genetics 39:859-882.

    Examples
    --------
    >>> import pandas as pd
    >>> ped = Pedigree(pd.DataFrame({"id": [1, 2, 3, 4], "sire": [0, 0, 1, 1], "dam": [0, 0, 2, 2]}))
    >>> dominance(ped).cross([3], [3, 4]).tolist()
    [[1.0, 0.25]]
    """
    if ped.maternal_grandsire or ped.metafounders:
        raise ArgumentError("dominance needs a pedigree of sires and dams, without metafounders.")
    check_dense(ped.n, "D is made of the dense A, which")
    known = np.flatnonzero((ped.sire >= 0) & (ped.dam >= 0))
    s, d = ped.sire[known], ped.dam[known]
    parents = np.unique(np.concatenate([s, d]))
    A = additive(ped).cross(ped.ids[parents], ped.ids[parents])
    s, d = np.searchsorted(parents, s), np.searchsorted(parents, d)
    blocks = [sp.csr_array((0, len(known)))]
    for start in range(0, len(known), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        of_sire, of_dam = A[s[some]], A[d[some]]
        blocks.append(sp.csr_array(0.25 * (of_sire[:, s] * of_dam[:, d] + of_sire[:, d] * of_dam[:, s])))
    among = sp.coo_array(sp.vstack(blocks))
    apart = among.row != among.col
    own = np.arange(ped.n)
    rows, columns = np.concatenate([own, known[among.row[apart]]]), np.concatenate([own, known[among.col[apart]]])
    values = np.concatenate([np.ones(ped.n), among.data[apart]])
    D = sp.csc_array((values, (rows, columns)), shape=(ped.n, ped.n))
    whole = D if D.nnz < _SPARSE_SHARE * ped.n**2 else D.toarray()
    return Relationship.from_matrix(whole, ped.ids, kind="dominance")
