"""Variances that the user gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mixedgen.arrays import Array
from mixedgen.design.design import Design
from mixedgen.design.terms import normal_key
from mixedgen.errors import ArgumentError, examples, suggestion


def theta_from(design: Design, values: Mapping[str, Any], base: Array | None = None, name: str = "variances") -> Array:
    """Theta from a variance or covariance matrix for each term.

    Parameters
    ----------
    design : Design
        The model.
    values : mapping
        By the text right of each bar, and ``"residual"``: a number, or the c x c matrix in the order of the effects. Or
        by the names of theta, all those of a term.
    base : ndarray, optional
        Values of the terms that are not named; without it every term must be named.
    name : str
        What the values are called in messages.

    Raises
    ------
    ArgumentError
        If a name is unknown or lacking, or a value has the wrong shape or does not conform to the structure.
    """
    if not isinstance(values, Mapping):
        raise ArgumentError(f"{name} must map the names of terms to numbers or matrices, not {type(values).__name__}.")
    keys = [*(t.key for t in design.terms), "residual"]
    whole, single = _recognised(design, values, keys)
    theta = np.full(design.slices[-1].stop, np.nan) if base is None else base.copy()
    for key, structure, s in zip(keys, design.structures, design.slices, strict=True):
        if normal_key(key) in whole:
            old = theta[s].copy()
            theta[s] = _conform(key, whole[normal_key(key)], structure)
            unseen = s.start + np.array(structure.unseen, dtype=int)
            theta[unseen] = old[unseen - s.start]
    for i, value in single.items():
        theta[i] = _finite_number(design.theta_names[i], value)
    if np.any(np.isnan(theta)):
        raise ArgumentError(f"variances of {examples(_lacking(design, theta, keys))} are lacking.")
    _check_parameters(design, theta)
    return theta


def _recognised(
    design: Design, values: Mapping[str, Any], keys: list[str]
) -> tuple[dict[tuple[str, ...], Any], dict[int, Any]]:
    """Values of whole terms by their normal key, and of single parameters by their place in theta."""
    terms = {normal_key(key) for key in keys}
    places = {_without_blanks(name): i for i, name in enumerate(design.theta_names)}
    whole = {normal_key(str(k)): v for k, v in values.items() if normal_key(str(k)) in terms}
    others = {k: v for k, v in values.items() if normal_key(str(k)) not in terms}
    unknown = [k for k in others if _without_blanks(k) not in places]
    if unknown:
        raise ArgumentError(
            f"no random term {examples(unknown)}; the variances are {examples(keys)}.{suggestion(unknown[0], keys)}"
        )
    return whole, {places[_without_blanks(k)]: v for k, v in others.items()}


def _without_blanks(name: Any) -> str:
    """A name without blanks."""
    return str(name).replace(" ", "")


def _finite_number(name: str, value: Any) -> float:
    """A finite number, or an ArgumentError that names it."""
    try:
        out = float(value)
    except (TypeError, ValueError) as err:
        raise ArgumentError(f"the value of {name!r} is no number: {value!r}.") from err
    if not np.isfinite(out):
        raise ArgumentError(f"the value of {name!r} is not finite.")
    return out


def _lacking(design: Design, theta: Array, keys: list[str]) -> list[str]:
    """Terms without any value, and the parameters that are missing in others."""
    out = []
    for key, structure, s in zip(keys, design.structures, design.slices, strict=True):
        gone = np.flatnonzero(np.isnan(theta[s]))
        whole = len(gone) == structure.size and not structure.unseen
        out += [key] if whole else [design.theta_names[s.start + i] for i in gone]
    return out


def _check_parameters(design: Design, theta: Array) -> None:
    """Raise an ArgumentError for a correlation outside its bounds, or a matrix that is no covariance matrix."""
    for i, low, high in design.free:
        if not (low < theta[i] < high or np.isinf(high)):
            raise ArgumentError(f"{design.theta_names[i]!r} is {theta[i]:g}; it must lie between {low:g} and {high:g}.")
    for structure, s in zip(design.structures, design.slices, strict=True):
        Sigma = structure.matrix(theta[s])
        if np.linalg.eigvalsh(Sigma)[0] < -1e-10 * float(np.abs(Sigma).max()):
            names = examples(design.theta_names[s])
            raise ArgumentError(f"the values of {names} give a matrix that is not positive semi-definite.")
        if s is design.slices[-1] and np.any(np.diag(Sigma) <= 0):
            raise ArgumentError("residual variances must be positive.")


def _conform(key: str, value: Any, structure: Any) -> Array:
    """Parameters of a structure for a number, or for a matrix that obeys it."""
    try:
        Sigma = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as err:
        raise ArgumentError(f"the value of {key!r} is no number and no matrix: {value!r}.") from err
    if not np.all(np.isfinite(Sigma)):
        raise ArgumentError(f"the value of {key!r} is not finite.")
    if Sigma.ndim == 0:
        Sigma = float(Sigma) * np.eye(structure.dim)
    elif Sigma.ndim == 1 and len(Sigma) == structure.dim:
        Sigma = np.diag(Sigma)
    if Sigma.shape != (structure.dim, structure.dim):
        raise ArgumentError(
            f"the value of {key!r} has shape {Sigma.shape}; a number or a {structure.dim} x {structure.dim} "
            "matrix is wanted."
        )
    theta = np.asarray(structure.start(Sigma))
    scale = float(np.abs(Sigma).max())
    if not np.allclose(structure.matrix(theta), Sigma, rtol=1e-8, atol=1e-8 * scale):
        raise ArgumentError(f"the matrix given for {key!r} does not conform to its structure {structure.tag}().")
    if np.linalg.eigvalsh(Sigma)[0] < -1e-10 * scale:
        raise ArgumentError(f"the value given for {key!r} is not positive semi-definite.")
    if key == "residual" and np.any(np.diag(Sigma) <= 0):
        raise ArgumentError("residual variances must be positive.")
    return theta
