"""A covariance structure from one function of the user's, which gives the correlations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from mixedgen.arrays import Array, Levels
from mixedgen.covariance.correlated import Correlated
from mixedgen.covariance.structure import Parameter
from mixedgen.definite import asymmetry
from mixedgen.errors import ArgumentError, public_class

_STEP = 1e-3  # of the distance to the nearer bound, or of a parameter's size: differences of fourth order
_SYMMETRIC = 1e-10


@public_class
@dataclass(frozen=True, eq=False)
class CorrelationFunction:
    """Correlations by a function of parameters and levels, as a structure of formulas.

    Parameters
    ----------
    function : callable
        ``function(parameters, levels)`` returns the correlation matrix, shape (c, c). `parameters` is an array in the
        order of the names below, `levels` an array of the c levels: numbers where all are numbers, else text.
    parameters : mapping of str to (low, start, high)
        Bounds and start of each parameter; the bounds may be infinite.

    Raises
    ------
    ArgumentError
        If it is no function, or a start does not lie between its bounds.

    Notes
    -----
    Sigma = D^1/2 C(parameters) D^1/2 with one variance, or with ``hom=False`` one for each level. Derivatives are
    central differences of fourth order; the function should be smooth.

    Examples
    --------
    Correlations that fall with the distance in time, whatever the times are:

    >>> import mixedgen as mg
    >>> def decay(parameters, times):
    ...     return np.exp(-np.abs(times[:, None] - times) / parameters[0])
    >>> expo = mg.CorrelationFunction(decay, {"range": (0.01, 2.0, 100.0)})
    >>> own = {"residual": "expo(Days|Subject)", "structures": {"expo": expo}}
    >>> fit = mg.lmm("Reaction ~ Days + (1|Subject)", mg.data.sleepstudy(), **own)
    >>> fit.theta.round(2).to_dict()
    {'Subject': 1005.75, 'residual[variance]': 1416.57, 'residual[range]': 2.35}
    """

    function: Callable[[Array, Levels], ArrayLike]
    parameters: Mapping[str, tuple[float, float, float]]

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not callable(self.function):
            raise ArgumentError(f"a correlation function is wanted, not a {type(self.function).__name__}.")
        if not self.parameters:
            raise ArgumentError("a correlation function needs a parameter: {'range': (low, start, high)}.")
        for name, (low, start, high) in self.parameters.items():
            if not low < start < high:
                raise ArgumentError(f"parameter {name!r}: low < start < high is wanted, not {(low, start, high)}.")

    def structure(self, tag: str, dim: int, hom: bool, levels: Sequence[object]) -> Custom:
        """The structure of some levels.

        Raises
        ------
        ArgumentError
            If the function does not return a correlation matrix at its start.
        """
        out = Custom(self, tag, hom, levels)
        _require_correlations(out.correlation(out.starts), tag, dim)
        return out


class Custom(Correlated):
    """Correlations by a function of the user's."""

    def __init__(self, source: CorrelationFunction, tag: str, hom: bool, levels: Sequence[object]) -> None:
        super().__init__(len(levels), hom)
        self.source, self._tag = source, tag
        self._levels, self.levels = tuple(levels), _level_values(levels)

    lowest = -1.0

    @property
    def tag(self) -> str:
        """Name in the formula."""
        return self._tag

    @property
    def n_correlations(self) -> int:
        """Number of parameters of the function."""
        return len(self.source.parameters)

    @cached_property
    def starts(self) -> Array:
        """Starts of the parameters."""
        return np.array([start for _, start, _ in self.source.parameters.values()], dtype=float)

    def _correlations(self, effects: Sequence[str]) -> tuple[Parameter, ...]:
        bounds = self.source.parameters.items()
        return tuple(
            Parameter("level", tuple(effects), (float(low), float(high)), (name,)) for name, (low, _, high) in bounds
        )

    def several(self, kept: Sequence[int]) -> Custom:
        """The function of the levels left."""
        return Custom(self.source, self._tag, self.hom, [self._levels[k] for k in kept])

    def correlation(self, rho: Array) -> Array:
        """What the function returns."""
        return np.asarray(self.source.function(np.asarray(rho, dtype=float), self.levels), dtype=float)

    def correlation_derivatives(self, rho: Array) -> Array:
        """Central differences of fourth order, which keep inside the bounds."""
        out = np.empty((self.n_correlations, self.dim, self.dim))
        for k, (_, low, high) in enumerate(self.free):
            room = min(rho[k] - low, high - rho[k])
            h = _STEP * np.eye(len(rho))[k] * max(min(room, max(abs(rho[k]), 1e-3)), 1e-9)
            near = self.correlation(rho + h) - self.correlation(rho - h)
            far = self.correlation(rho + 2.0 * h) - self.correlation(rho - 2.0 * h)
            out[k] = (8.0 * near - far) / (12.0 * h[k])
        return out

    def mean_correlations(self, C: Array) -> Array:
        """The starts: nothing is known of the function."""
        return self.starts


def _level_values(levels: Sequence[object]) -> Levels:
    """Numbers where all levels are, also within the names of effects such as ``time[1.5]``; else text."""
    text = [str(level) for level in levels]
    inner = [t[t.index("[") + 1 : -1].removeprefix("T.") if t.endswith("]") and "[" in t else t for t in text]
    try:
        return np.array([float(t) for t in inner])
    except ValueError:
        return np.array(inner)


def _require_correlations(C: Array, tag: str, dim: int) -> None:
    """Raise an ArgumentError for what is no correlation matrix."""
    if C.shape != (dim, dim):
        raise ArgumentError(f"{tag}(): the function returns shape {C.shape}; ({dim}, {dim}) is wanted.")
    if not np.all(np.isfinite(C)):
        raise ArgumentError(f"{tag}(): the function returns missing or infinite correlations at its start.")
    if asymmetry(C)[0] > _SYMMETRIC or np.abs(np.diag(C) - 1.0).max() > _SYMMETRIC:
        raise ArgumentError(f"{tag}(): the function does not return a symmetric matrix with ones on its diagonal.")
    if np.linalg.eigvalsh(C)[0] < -_SYMMETRIC:
        raise ArgumentError(f"{tag}(): the correlations at the start are not positive semi-definite.")
