"""Variance parameters by name, and functions of them with their delta-method standard errors."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedgen.covariance.structure import Structure, lower_factor
from mixedgen.errors import ArgumentError, NotAvailableError, examples
from mixedgen.estimation.estimate import Fitted

Array = NDArray[np.float64]

FUNCTIONS = {"sqrt": np.sqrt, "log": np.log, "exp": np.exp}
COMPLEX_STEP = 1e-30  # the derivative's error is its square, below any rounding


def parameters(fitted: Fitted) -> pd.Series:
    """Variance parameters on the natural scale, by name."""
    return pd.Series(fitted.theta, index=pd.Index(fitted.design.theta_names), name="theta")


def components(fitted: Fitted) -> pd.DataFrame:
    """Variances and covariances as lme4 tabulates them, with standard errors.

    Returns
    -------
    DataFrame
        Columns ``grp var1 var2 vcov sdcor se bound``: `sdcor` is the standard deviation, or the correlation on rows of
        two effects; `se`, that of `vcov`, comes from the inverse average information; `bound` says what is at its
        boundary. A correlation in a product of residual structures has a row of its own, `var1` the parameter and
        `var2` its column, without `vcov`: `se` is then that of the correlation.
    """
    design = fitted.design
    H = fitted.theta_covariance
    rows: list[dict[str, Any]] = []
    for t, s in zip(design.terms, design.slices, strict=False):
        rows += block_rows(t.key, t.effects, t.structure, fitted.theta[s], H[s, s], bounds_in(fitted, s))
    s = design.slices[-1]
    classes: tuple[str | None, ...] = design.residual.classes or (None,)
    structure, bounds = design.residual.structure, bounds_in(fitted, s)
    rows += block_rows("Residual", classes, structure, fitted.theta[s], H[s, s], bounds)
    rows += correlation_rows("Residual", structure, design.residual.classes, fitted.theta[s], H[s, s], bounds)
    return pd.DataFrame(rows, columns=["grp", "var1", "var2", "vcov", "sdcor", "se", "bound"])


def bounds_in(fitted: Fitted, s: slice) -> dict[int, str]:
    """What is at its boundary, by the number of the parameter within its structure."""
    return {i - s.start: kind for i, kind in fitted.bounds.items() if s.start <= i < s.stop}


def block_rows(
    grp: str, effects: Any, structure: Any, theta: Array, H: Array, bounds: dict[int, str]
) -> list[dict[str, Any]]:
    """Rows of one term: the variances, then the covariances that the structure does not fix at zero; SE by delta."""
    Sigma, D = structure.matrix(theta), structure.derivatives(theta)
    with np.errstate(invalid="ignore"):  # estimates by moments may be negative
        sd = np.sqrt(np.diag(Sigma))
    pairs = [(a, a) for a in range(len(sd))] + [
        (a, b) for b in range(len(sd)) for a in range(b + 1, len(sd)) if np.any(D[:, a, b]) or Sigma[a, b]
    ]
    rows = []
    for a, b in pairs:
        own = np.flatnonzero(D[:, a, b])
        d = D[own, a, b]
        with np.errstate(invalid="ignore", divide="ignore"):
            sdcor = sd[a] if a == b else Sigma[a, b] / (sd[a] * sd[b])
        rows.append(
            {
                "grp": grp,
                "var1": effects[b],
                "var2": None if a == b else effects[a],
                "vcov": Sigma[a, b],
                "sdcor": sdcor,
                "se": float(np.sqrt(d @ H[np.ix_(own, own)] @ d)) if len(own) else np.nan,
                "bound": next((bounds[int(i)] for i in own if int(i) in bounds), None) if len(own) else "fixed",
            }
        )
    return rows


def correlation_rows(
    grp: str, structure: Structure, classes: tuple[str, ...], theta: Array, H: Array, bounds: dict[int, str]
) -> list[dict[str, Any]]:
    """Rows of correlations that are no elements of one matrix: of a product of structures."""
    names = structure.names(classes or ("",))
    rows = []
    for i in structure.unseen:
        rho, _, column = names[i].strip("[]").rpartition(",")
        row = {"grp": grp, "var1": rho, "var2": column, "vcov": np.nan, "sdcor": theta[i]}
        rows.append({**row, "se": float(np.sqrt(H[i, i])), "bound": bounds.get(i)})
    return rows


def relative_factor(fitted: Fitted) -> pd.Series:
    """lme4's theta: the lower triangle, by columns, of the Cholesky factor of Sigma / sigma^2, terms in order.

    Raises
    ------
    NotAvailableError
        If there is more than one residual variance.
    """
    design = fitted.design
    if not design.residual.homogeneous:
        raise NotAvailableError("the relative factor is defined for one residual variance only.")
    values: list[float] = []
    names: list[str] = []
    for t, s in zip(design.terms, design.slices, strict=False):
        L = lower_factor(t.structure.matrix(fitted.theta[s]) / fitted.theta[-1])
        for b in range(t.c):
            for a in range(b, t.c):
                values.append(float(L[a, b]))
                names.append(f"{t.key}[{t.effects[a]}]" if a == b else f"{t.key}[{t.effects[a]},{t.effects[b]}]")
    return pd.Series(values, index=pd.Index(names), name="relative_factor", dtype=float)


@dataclass(frozen=True)
class VarianceFunction:
    """A function of the variance parameters.

    Attributes
    ----------
    name : str
        Left of the ``=``, or the expression itself.
    expression : str
        The expression.
    estimate, se : float
        Its value, and its standard error by the delta method from the inverse average information.
    """

    name: str
    expression: str
    estimate: float
    se: float


@dataclass(frozen=True)
class Expression:
    """An expression in the names of the variance parameters.

    Attributes
    ----------
    name : str
        Left of the ``=``, or the expression itself.
    text : str
        The expression.
    names : tuple of str
        Names of theta.
    tree : ast.expr
        Its syntax tree, with an identifier in the place of each parameter.
    places : dict
        Which parameter each identifier is.
    """

    name: str
    text: str
    names: tuple[str, ...]
    tree: ast.expr
    places: dict[str, int]

    def value(self, theta: Array) -> float:
        """Its value; missing after a division by zero, or a root or log of a negative number."""
        with np.errstate(all="ignore"):
            value = np.complex128(evaluate(self.tree, self.places, theta.astype(complex), self.names))
        return float(value.real) if np.isfinite(value) and value.imag == 0 else np.nan

    def gradient(self, theta: Array) -> Array:
        """Its derivative by theta, shape (n_theta,), by a complex step."""
        out = np.zeros(len(theta))
        for i in set(self.places.values()):
            moved = theta.astype(complex)
            size = max(abs(theta[i]), 1e-8 * float(np.abs(theta).max()))
            moved[i] += 1j * COMPLEX_STEP * size
            with np.errstate(all="ignore"):
                out[i] = evaluate(self.tree, self.places, moved, self.names).imag / (COMPLEX_STEP * size)
        return out


def expression(text: str, names: tuple[str, ...]) -> Expression:
    """Read ``"name = expression"``, or an expression.

    Raises
    ------
    ArgumentError
        If it cannot be read, or names something that is no variance parameter.
    """
    name, _, right = text.partition("=") if "=" in text else (text, "", text)
    tree, places = read_expression(right.strip(), names)
    out = Expression(name.strip(), right.strip(), names, tree, places)
    out.value(np.ones(len(names)))  # names and operations are checked where they are used
    return out


def variance_function(fitted: Fitted, text: str) -> VarianceFunction:
    """Value and delta-method standard error of an expression in the names of `theta`.

    Parameters
    ----------
    fitted : Fitted
        The model.
    text : str
        Such as ``"h2 = animal:A / (animal:A + residual)"``: names of `theta`, numbers, ``+ - * / **``, parentheses,
        ``sqrt log exp``.

    Raises
    ------
    ArgumentError
        If it cannot be read, or names something that is no variance parameter.

    Notes
    -----
    Var f = g' H g with g the gradient of f and H the inverse average information; a variance at zero counts as known.
    """
    f = expression(text, fitted.design.theta_names)
    estimate = f.value(fitted.theta)
    if np.isnan(estimate):
        raise ArgumentError(
            f"{f.text!r} has no value at these variances: a division by zero, or a root or log of a negative number."
        )
    (se,) = standard_errors(f.gradient(fitted.theta)[None], fitted)
    return VarianceFunction(f.name, f.text, estimate, float(se))


def standard_errors(gradients: Array, fitted: Fitted) -> Array:
    """Delta-method standard errors of functions of theta, gradients (m, n_theta); NaN where theta has none."""
    H = fitted.theta_covariance.copy()
    known = [i for i, kind in fitted.bounds.items() if kind == "zero variance"]
    H[known, :] = H[:, known] = 0.0
    used = [np.flatnonzero(g) for g in gradients]  # what a function does not depend on may have no standard error
    variances = [g[u] @ H[np.ix_(u, u)] @ g[u] for g, u in zip(gradients, used, strict=True)]
    return np.sqrt(np.maximum(variances, 0.0))


def read_expression(text: str, names: tuple[str, ...]) -> tuple[ast.expr, dict[str, int]]:
    """Syntax tree of an expression with a plain identifier in the place of each parameter, and which is which."""
    places: dict[str, int] = {}
    out, at = "", 0
    plain = text.replace(" ", "")
    by_length = sorted(range(len(names)), key=lambda i: -len(names[i]))
    while at < len(plain):
        hit = next((i for i in by_length if plain.startswith(names[i].replace(" ", ""), at)), None)
        if hit is not None and not (out and (out[-1].isalnum() or out[-1] == "_")):
            places[f"theta_{hit}"] = hit
            out += f" theta_{hit} "
            at += len(names[hit].replace(" ", ""))
        else:
            out += plain[at]
            at += 1
    try:
        tree = ast.parse(out.strip(), mode="eval").body
    except SyntaxError as err:
        raise ArgumentError(f"the expression {text!r} cannot be read; the names are {examples(names)}.") from err
    return tree, places


def evaluate(node: ast.expr, places: dict[str, int], values: Any, names: tuple[str, ...]) -> Any:
    """Value of a syntax tree of arithmetic."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return np.complex128(node.value)
    if isinstance(node, ast.Name) and node.id in places:
        return values[places[node.id]]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = evaluate(node.operand, places, values, names)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        left, right = (evaluate(side, places, values, names) for side in (node.left, node.right))
        return OPERATIONS[type(node.op)](left, right)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in FUNCTIONS
        and len(node.args) == 1
    ):
        return FUNCTIONS[node.func.id](evaluate(node.args[0], places, values, names))
    text = ast.unparse(node)
    for place, i in sorted(places.items(), reverse=True):
        text = text.replace(place, names[i])
    raise ArgumentError(f"{text!r} is neither a variance parameter nor arithmetic (+ - * / ** sqrt log exp).")


OPERATIONS: dict[type, Any] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}
