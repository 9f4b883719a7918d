"""One small relationship of every kind, as functions without arguments; the laws run over all of them."""

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mixedgen.genetics.genotypes import Genotypes
from mixedgen.genetics.pedigree import Pedigree, inverse_relationship
from mixedgen.relationship.combine import bend, blend, epistatic
from mixedgen.relationship.dominance import dominance
from mixedgen.relationship.form import Form
from mixedgen.relationship.from_pedigree import additive, identity
from mixedgen.relationship.genomic import genomic, genomic_dominance, markers
from mixedgen.relationship.relationship import Relationship
from mixedgen.relationship.single_step import single_step


def litter():
    """Two founders, their litter, and an inbred animal."""
    return Pedigree(pd.DataFrame({"id": [1, 2, 3, 4, 5], "sire": [0, 0, 1, 1, 3], "dam": [0, 0, 2, 2, 4]}))


def falling():
    """Correlations falling with distance, of order 4."""
    distance = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    return 0.5**distance


def family():
    """Two founders, their litter, and half-sibs."""
    return Pedigree(pd.DataFrame({"id": [1, 2, 3, 4, 5, 6], "sire": [0, 0, 1, 1, 0, 5], "dam": [0, 0, 2, 2, 0, 2]}))


def calls():
    """Four animals of that pedigree at five markers, one call missing."""
    copies = np.array([[0, 1, 2, 1, 0], [1, 1, 0, 2, 0], [2, -9, 1, 1, 1], [0, 2, 1, 1, 2]])
    return Genotypes(copies, ids=[2, 3, 4, 6], markers=[f"s{k}" for k in range(5)])


def metafounders():
    """Three animals from two related metafounders."""
    frame = pd.DataFrame({"id": [1, 2, 3], "sire": ["M1", "M1", 1], "dam": ["M1", "M2", 2]})
    return Pedigree(frame, metafounders=pd.DataFrame([[0.6, 0.2], [0.2, 0.8]], ["M1", "M2"], ["M1", "M2"]))


class Autoregressive(Form):
    """A form that says no more than it must: two recursions make the product with 0.5^|i - j|."""

    size = 4

    def multiply(self, V):
        V = np.asarray(V, dtype=np.float64)
        before, after = np.zeros_like(V), np.zeros_like(V)
        for i in range(1, 4):
            before[i], after[3 - i] = 0.5 * (V[i - 1] + before[i - 1]), 0.5 * (V[4 - i] + after[4 - i])
        return V + before + after


RELATIONSHIPS = {
    "guest": lambda: Relationship(pd.Index(list("abcd")), "guest", Autoregressive()),
    "additive": lambda: additive(litter()),
    "additive without inbreeding": lambda: additive(litter(), inbreeding=False),
    "identity": lambda: identity("abc"),
    "matrix": lambda: Relationship.from_matrix(falling(), "abcd"),
    "sparse matrix": lambda: Relationship.from_matrix(
        sp.block_diag([falling(), [[2.0]], falling(), [[1.0]], np.eye(8)]), range(18)
    ),
    "inverse": lambda: Relationship.from_inverse(np.linalg.inv(falling()), "abcd"),
    "sparse inverse": lambda: Relationship.from_inverse(inverse_relationship(litter()), range(5)),
    "factor": lambda: Relationship.from_factor(np.array([[1.0, 0.0], [0.5, 0.5], [1.5, -1.0]]), "abc"),
    "wide factor": lambda: Relationship.from_factor(np.vander(np.arange(1.0, 6.0) / 5.0, 3).T, "abc"),
    "sparse factor": lambda: Relationship.from_factor(sp.csc_array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), "abc"),
    "blended": lambda: blend(np.ones((3, 3)), 0.1, ids="abc"),
    "bent": lambda: bend(np.ones((3, 3)) - 0.1 * np.eye(3), 0.01, ids="abc"),
    "additive with groups": lambda: additive(
        Pedigree(pd.DataFrame({"id": [1, 2, 3], "sire": ["G1", "G1", 1], "dam": ["G2", "G1", 2]}), groups=["G1", "G2"])
    ),
    "additive with metafounders": lambda: additive(metafounders()),
    "sire and maternal grandsire": lambda: additive(
        Pedigree(pd.DataFrame({"id": [1, 2, 3, 4], "sire": [0, 1, 1, 3], "mgs": [0, 0, 2, 1]}), mgs="mgs")
    ),
    "additive with selfing": lambda: additive(
        Pedigree(
            pd.DataFrame({"id": [1, 2, 3], "sire": [0, 0, 1], "dam": [0, 0, 2], "selfed": [5, 0, 2]}), selfing="selfed"
        )
    ),
    "dominance": lambda: dominance(family()),
    "genomic": lambda: genomic(calls()),
    "genomic with ridge": lambda: genomic(calls(), method=2, ridge=0.01),
    "genomic dominance": lambda: genomic_dominance(calls(), ridge=0.01),
    "epistatic": lambda: epistatic(additive(family()), dominance(family())),
    "markers": lambda: markers(calls(), scale="sd"),
    "single-step": lambda: single_step(family(), calls(), tau=1.1, omega=0.9),
}
