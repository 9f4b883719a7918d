"""Relationships: how the levels of a random effect are related, Var(u) = Sigma (x) K.

Each final class holds K in one form: a pedigree, a matrix, families, an inverse or a factor.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mixedgen.arrays import Array
from mixedgen.genetics.pedigree import Pedigree, inverse_relationship
from mixedgen.relationship.combine import bend, blend, correlation, epistatic, genomic_inbreeding, product_of_pairs
from mixedgen.relationship.form import Relationship
from mixedgen.relationship.from_pedigree import additive, identity

__all__ = [
    "RELATIONSHIPS",
    "Relationship",
    "additive",
    "bend",
    "blend",
    "correlation",
    "epistatic",
    "genomic_inbreeding",
    "identity",
    "product_of_pairs",
]


def _example_pedigree() -> Pedigree:
    """Two founders, their litter, and an inbred animal."""
    return Pedigree(pd.DataFrame({"id": [1, 2, 3, 4, 5], "sire": [0, 0, 1, 1, 3], "dam": [0, 0, 2, 2, 4]}))


def _example_matrix() -> Array:
    """Correlations falling with distance, of order 4."""
    distance = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    return np.asarray(0.5**distance)


# one small example of every kind; the laws in the tests run over all of them
RELATIONSHIPS: dict[str, Callable[[], Relationship]] = {
    "additive": lambda: additive(_example_pedigree()),
    "additive without inbreeding": lambda: additive(_example_pedigree(), inbreeding=False),
    "identity": lambda: identity("abc"),
    "matrix": lambda: Relationship.from_matrix(_example_matrix(), "abcd"),
    "sparse matrix": lambda: Relationship.from_matrix(
        sp.block_diag([_example_matrix(), [[2.0]], _example_matrix(), [[1.0]], np.eye(8)]), range(18)
    ),
    "inverse": lambda: Relationship.from_inverse(np.linalg.inv(_example_matrix()), "abcd"),
    "sparse inverse": lambda: Relationship.from_inverse(inverse_relationship(_example_pedigree()), range(5)),
    "factor": lambda: Relationship.from_factor(np.array([[1.0, 0.0], [0.5, 0.5], [1.5, -1.0]]), "abc"),
    "wide factor": lambda: Relationship.from_factor(np.vander(np.arange(1.0, 6.0) / 5.0, 3).T, "abc"),
    "sparse factor": lambda: Relationship.from_factor(sp.csc_array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), "abc"),
    "blended": lambda: blend(np.ones((3, 3)), 0.1, ids="abc"),
    "bent": lambda: bend(np.ones((3, 3)) - 0.1 * np.eye(3), 0.01, ids="abc"),
}
