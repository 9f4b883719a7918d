"""Typical sizes of the variances of a design, which make iterates, starts and tolerances free of units."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.design.terms import Term


@dataclass(frozen=True)
class Scales:
    """Typical sizes of the variances of a design.

    Attributes
    ----------
    design : Design
        The model.
    y0 : ndarray, shape (n,)
        Least-squares residuals of y.
    """

    design: Design
    y0: Array

    @cached_property
    def spread(self) -> float:
        """Least-squares residual variance of y."""
        return float(self.y0 @ self.y0) / (self.design.n - self.design.fixed.p)

    @cached_property
    def residual_spread(self) -> float:
        """Weighted least-squares residual variance of y: of a record of weight one."""
        w = self.design.residual.inverse_weights
        return self.spread if w is None else float(self.y0 @ (self.y0 / w)) / (self.design.n - self.design.fixed.p)

    def covariance(self, term: Term) -> Array:
        """Covariance matrix at which the effects of a term would make up all of `spread`.

        Notes
        -----
        spread (z'z / n)^-1 with z the weights of the c effects, each over the records that it touches.
        """
        # beside the records that an effect touches, and on the scale of y there (traits differ in both)
        active = (term.values != 0).astype(float)
        counts = np.maximum(active.sum(axis=0), 1.0)
        records = slice(None) if term.record is None else term.record
        scale = np.sqrt(np.maximum((self.y0[records] ** 2) @ active / counts, 1e-12 * (self.spread or 1.0)))
        size = term.values.T @ term.values / np.sqrt(np.outer(counts, counts)) / np.outer(scale, scale)
        if term.relationship is not None:
            size = size * float(np.mean(term.relationship.diagonal))
        d = np.sqrt(np.where(np.diag(size) > 0, np.diag(size), 1.0))
        values, vectors = np.linalg.eigh(size / np.outer(d, d))
        usable = np.maximum(values, 1e-12)
        return ((vectors / usable) @ vectors.T) / np.outer(d, d)

    @cached_property
    def residual(self) -> Array:
        """Diagonal matrix of the (weighted) mean squares of y at each position of R, shape (dim, dim)."""
        residual, p = self.design.residual, self.design.fixed.p
        w = residual.inverse_weights
        square = self.y0**2 if w is None else self.y0**2 / w
        at = np.minimum(residual.position, residual.structure.dim - 1)
        counts = np.bincount(at, minlength=residual.structure.dim)
        mean = np.bincount(at, weights=square, minlength=residual.structure.dim) / np.maximum(counts, 1)
        mean = mean * self.design.n / (self.design.n - p)
        return np.diag(np.maximum(mean, 1e-6 * (self.residual_spread or 1.0)))
