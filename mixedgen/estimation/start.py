"""Where the ascent starts."""

from __future__ import annotations

import numpy as np

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.engines.system import Engine

_OTHER_SHARES = (0.5, 0.05, 0.95)  # of the random terms, in the starts that follow a hard first one

_RANDOM_STARTS, _CHEAP = 8, 100_000  # of models whose factor has fewer elements; the others get two

_SMALLEST_GUESS = 0.1  # of the default start: a guess near zero would start at the boundary


def default_start(design: Design, engine: Engine, share: float = 0.5) -> Array:
    """A share of the least-squares residual variance to the terms, evenly, the rest to R."""
    theta = np.empty(design.slices[-1].stop)
    for t, s in zip(design.terms, design.slices, strict=False):
        typical = engine.scales.covariance(t) * share / (len(design.terms) * t.c)
        sd, rho = np.sqrt(np.diag(typical)), t.structure.start_correlation
        theta[s] = t.structure.start(typical if rho == 0 else np.outer(sd, sd) * np.where(np.eye(t.c) > 0, 1.0, rho))
    left = 1.0 - share if design.terms else 1.0
    theta[design.slices[-1]] = design.residual.structure.start(engine.scales.residual * left)
    return theta


def other_starts(design: Design, engine: Engine, seed: int) -> list[Array]:
    """Starts after a hard way: other shares of the terms, then covariances drawn at random."""
    starts = [default_start(design, engine, share) for share in _OTHER_SHARES]
    rng = np.random.default_rng(seed)
    for _ in range(_RANDOM_STARTS if engine.forecast().nonzeros < _CHEAP else 2):
        theta = np.empty(design.slices[-1].stop)
        for t, s in zip(design.terms, design.slices, strict=False):
            root = np.linalg.cholesky(engine.scales.covariance(t)) @ rng.normal(size=(t.c, t.c + 2))
            theta[s] = t.structure.start(root @ root.T / (t.c + 2) / (2 * len(design.terms)))
        spread = np.exp(rng.normal(size=len(engine.scales.residual)))
        theta[design.slices[-1]] = design.residual.structure.start(0.5 * engine.scales.residual * spread)
        starts.append(theta)
    return starts


def data_start(design: Design, engine: Engine) -> Array:
    """Start from the engine's first guess, each no smaller than a share of the default start."""
    theta = default_start(design, engine)
    guess = engine.guess() if len(design.terms) else None
    if guess is None:
        return theta
    for t, s, Sigma in zip(design.terms, design.slices, guess[0], strict=False):
        if t.structure.start_correlation != 0:
            continue
        theta[s] = t.structure.start(_no_smaller(Sigma, _SMALLEST_GUESS * t.structure.matrix(theta[s])))
    least = max(guess[1], _SMALLEST_GUESS * engine.scales.residual_spread)
    theta[design.slices[-1]] = design.residual.structure.start(np.array([[least]]))
    return theta


def _no_smaller(Sigma: Array, least: Array) -> Array:
    """Sigma, raised to a least positive definite matrix in the directions where it is below."""
    L = np.linalg.cholesky(least)
    values, vectors = np.linalg.eigh(np.linalg.solve(L, np.linalg.solve(L, Sigma).T))
    root = L @ vectors
    return (root * np.maximum(values, 1.0)) @ root.T
