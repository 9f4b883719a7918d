"""Design and control to a `Fitted` model: start values, optimum, certificate."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from mixedgen.design.design import Design
from mixedgen.design.terms import Term, normal_key
from mixedgen.engines import Engine, System
from mixedgen.errors import ArgumentError, ConvergenceWarning, DesignError, NotAvailableError, examples
from mixedgen.estimation.ascent import FLAT_CURVATURE, Control, Optimum, Step, maximise, rounding_noise
from mixedgen.estimation.likelihood import average_information, deviance, score
from mixedgen.estimation.moments import MOMENTS, MomentEstimates

Array = NDArray[np.float64]
Method = Literal["reml", "ml"]

LIKELIHOODS = ("reml", "ml")
METHODS = (*LIKELIHOODS, *MOMENTS)
# A gradient of this many standard errors moves the criterion by its square: a millionth of what data can tell.
CERTIFIED_GRADIENT = 1e-3
OTHER_SHARES = (0.5, 0.05, 0.95)  # of the random terms, in the starts that follow a hard first one
RANDOM_STARTS, CHEAP = 8, 100_000  # of models whose factor has fewer elements; the others get two
SMALLEST_MOMENT = 0.1  # of the default start: a moment estimate near zero would start at the boundary
FARTHEST = 3000.0  # standard deviations from zero of a covariate: the square of it is lost of 16 digits
LONG = 1.0  # seconds after which a progress line is worth its place
IDLE = 1e-9  # a multiplier this small for each record is none
VANISHING = 1e-8  # a residual variance this small beside that of y is on its way to zero
MOST_POSITIONS = 100  # of a residual covariance matrix that is looked at for a singular combination
EXACT_FIT = 1e-14  # residual variance beside the mean square of y: rounding only


@dataclass(frozen=True)
class Certificate:
    """The evidence that the variance parameters are at an optimum, and the verdict.

    Attributes
    ----------
    converged : bool
        Whether they are.
    verdict : str
        One sentence, with the term at fault where there is one.
    gradient : float
        Largest element of the gradient on the factor scale, in standard errors.
    decrement : float
        Newton decrement before the last step.
    curvature : float
        Smallest eigenvalue of the scaled information of the free parameters.
    singular : tuple of str
        Terms whose covariance matrix is singular, each with the direction and its multiplier.
    iterations : int
        Steps taken.
    """

    converged: bool
    verdict: str
    gradient: float
    decrement: float
    curvature: float
    singular: tuple[str, ...]
    iterations: int

    def __str__(self) -> str:
        """The verdict, then one line for each singular term."""
        return "\n".join([self.verdict, *self.singular])


class Unsolved:
    """In the place of a system where a variance is negative: there are no equations to solve."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def __getattr__(self, name: str) -> Any:
        """Raise a NotAvailableError that names the variances."""
        raise NotAvailableError(
            f"the estimates of {examples(self._names)} are negative: there are no fixed effects, predictions or "
            "standard errors at these variances. REML keeps them positive."
        )


@dataclass(frozen=True)
class Fitted:
    """A design with variance parameters: estimated, or given.

    Attributes
    ----------
    design : Design
        The model.
    engine : Engine
        Its analysed equations.
    system : System
        The equations at theta.
    theta : ndarray
        Variance parameters on the natural scale.
    method : str
        ``"reml"`` or ``"ml"``.
    control : Control
        How it was estimated.
    history : tuple of Step
        Steps of the optimiser.
    certificate : Certificate or None
        The evidence of convergence; None for given variances.
    optimum : Optimum or None
        What the optimiser left.
    moments : MomentEstimates or None
        Sums of squares behind estimates by moments.
    """

    design: Design
    engine: Engine
    system: System
    theta: Array
    method: str
    control: Control
    history: tuple[Step, ...] = ()
    certificate: Certificate | None = None
    optimum: Optimum | None = None
    moments: MomentEstimates | None = None

    @property
    def solved(self) -> bool:
        """Whether there are equations at theta: moment estimates may be negative."""
        return not isinstance(self.system, Unsolved)

    @property
    def reml(self) -> bool:
        """Whether the likelihood is the restricted one."""
        return self.method == "reml"

    @cached_property
    def deviance(self) -> float:
        """Minus twice the log-likelihood of `method` at theta.

        Raises
        ------
        NotAvailableError
            For estimates by moments, which have no likelihood.
        """
        if self.moments is not None:
            raise NotAvailableError(f"method={self.method!r} has no likelihood: fit by 'reml' or 'ml' for one.")
        return deviance(self.system, self.reml) if self.optimum is None else self.optimum.deviance

    @cached_property
    def score(self) -> Array:
        """Gradient of the log-likelihood by theta; across a boundary, just inside it."""
        return score(self.system, self.reml)

    @cached_property
    def information(self) -> Array:
        """Average information of theta, shape (n_theta, n_theta)."""
        return average_information(self.system)

    @cached_property
    def bounds(self) -> dict[int, str]:
        """Parameters of terms on the boundary, with what is at the boundary."""
        return {} if self.optimum is None else bounds_of(self.optimum)

    @cached_property
    def theta_covariance(self) -> Array:
        """Inverse average information of the free parameters; NaN for those on the boundary, and for given ones."""
        free = np.array([i for i in range(len(self.theta)) if i not in self.bounds], dtype=int)
        out = np.full((len(self.theta),) * 2, np.nan)
        if self.optimum is None:  # given, or estimated by moments
            return out
        AI = self.information[np.ix_(free, free)]
        d = np.sqrt(np.maximum(np.diag(AI), 1e-300))
        scaled = AI / np.outer(d, d)
        if len(free) and np.linalg.eigvalsh(scaled)[0] > FLAT_CURVATURE:
            out[np.ix_(free, free)] = np.linalg.inv(scaled) / np.outer(d, d)
        return out


def bounds_of(optimum: Optimum) -> dict[int, str]:
    """Parameters of singular blocks, with what is at the boundary."""
    out = {}
    for x in optimum.boundaries:
        kind = "zero variance" if len(x.parameters) == 1 else "singular"
        out.update({i: kind for i in x.parameters})
    return out | dict.fromkeys(optimum.at_bounds, "bound")


def check_estimable(design: Design, engine: Engine) -> None:
    """Raise a DesignError where the variances cannot be told apart.

    Raises
    ------
    DesignError
        If a term without a relationship has as many effects as there are records, or y is fitted exactly by X.
    """
    # beside correlated or known residuals, effects of single records have a variance of their own
    independent = design.residual.pairs is None and design.residual.structure.size > 0
    for t in design.terms:
        if independent and t.relationship is None and t.q * t.c >= design.n:
            raise DesignError(
                f"term {t.key!r} has {t.q} levels x {t.c} effects for {design.n} records: its variance cannot be told "
                "from the residual variance. Use a relationship (1|"
                + t.key
                + ":A), repeated records, or model.solve(variances)."
            )
        require_near_origin(t)
    size = float(np.mean((design.y - design.y.mean()) ** 2) + np.finfo(float).eps * np.mean(design.y**2))
    if engine.spread <= EXACT_FIT * size or size == 0.0:
        raise DesignError(
            "the fixed effects fit the response exactly: no variance is left to estimate. Is the response constant?"
        )


def require_near_origin(t: Term) -> None:
    """Raise a DesignError for a covariate of correlated effects that is too far from zero for double precision.

    Notes
    -----
    The variance of the intercept is then that of a value extrapolated over many standard deviations of the covariate:
    the information of the data is lost beside it with the square of that distance.
    """
    for component in t.structure.components:
        z = t.values[:, component]
        if z.shape[1] == 1 or len(z) < z.shape[1]:
            continue
        R = np.asarray(np.linalg.qr(z, mode="r"))
        norms, left = np.linalg.norm(R, axis=0), np.abs(np.diag(R))
        far = np.flatnonzero((left < norms / FARTHEST) & (left > 1e-12 * norms))
        if len(far):
            name = t.effects[component[far[0]]]
            raise DesignError(
                f"effect {name!r} of term {t.key!r} lies {norms[far[0]] / left[far[0]]:.2g} standard deviations from "
                "zero: its covariance with the other effects cannot be told in double precision. Centre it."
            )


def default_start(design: Design, engine: Engine, share: float = 0.5) -> Array:
    """A share of the least-squares residual variance to the terms, evenly, the rest to R."""
    theta = np.empty(design.slices[-1].stop)
    for t, s in zip(design.terms, design.slices, strict=False):
        typical = engine.typical_covariance(t) * share / (len(design.terms) * t.c)
        sd, rho = np.sqrt(np.diag(typical)), t.structure.start_correlation
        theta[s] = t.structure.start(typical if rho == 0 else np.outer(sd, sd) * np.where(np.eye(t.c) > 0, 1.0, rho))
    left = 1.0 - share if design.terms else 1.0
    theta[design.slices[-1]] = design.residual.structure.start(engine.typical_residual * left)
    return theta


def other_starts(design: Design, engine: Engine, seed: int) -> list[Array]:
    """Starts after a hard way: other shares of the terms, then covariances drawn at random."""
    starts = [default_start(design, engine, share) for share in OTHER_SHARES]
    rng = np.random.default_rng(seed)
    for _ in range(RANDOM_STARTS if engine.forecast().nonzeros < CHEAP else 2):
        theta = np.empty(design.slices[-1].stop)
        for t, s in zip(design.terms, design.slices, strict=False):
            root = np.linalg.cholesky(engine.typical_covariance(t)) @ rng.normal(size=(t.c, t.c + 2))
            theta[s] = t.structure.start(root @ root.T / (t.c + 2) / (2 * len(design.terms)))
        spread = np.exp(rng.normal(size=len(engine.typical_residual)))
        theta[design.slices[-1]] = design.residual.structure.start(0.5 * engine.typical_residual * spread)
        starts.append(theta)
    return starts


def moment_start(design: Design, engine: Engine) -> Array:
    """Start from the engine's moment estimates, each no smaller than a share of the default start."""
    theta = default_start(design, engine)
    moments = engine.moments() if len(design.terms) else None
    if moments is None:
        return theta
    for t, s, Sigma in zip(design.terms, design.slices, moments[0], strict=False):
        if t.structure.start_correlation != 0:
            continue
        theta[s] = t.structure.start(no_smaller(Sigma, SMALLEST_MOMENT * t.structure.matrix(theta[s])))
    least = max(moments[1], SMALLEST_MOMENT * engine.residual_spread)
    theta[design.slices[-1]] = design.residual.structure.start(np.array([[least]]))
    return theta


def no_smaller(Sigma: Array, least: Array) -> Array:
    """Sigma, raised to a least positive definite matrix in the directions where it is below."""
    L = np.linalg.cholesky(least)
    values, vectors = np.linalg.eigh(np.linalg.solve(L, np.linalg.solve(L, Sigma).T))
    root = L @ vectors
    return (root * np.maximum(values, 1.0)) @ root.T


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
    names = {n.replace(" ", ""): i for i, n in enumerate(design.theta_names)}
    keys = [*(t.key for t in design.terms), "residual"]
    whole = {normal_key(x) for x in keys}
    given = {normal_key(str(k)): v for k, v in values.items() if normal_key(str(k)) in whole}
    single = {names[n]: v for k, v in values.items() if normal_key(str(k)) not in whole and (n := plain(k)) in names}
    unknown = [k for k in values if normal_key(str(k)) not in whole and plain(k) not in names]
    if unknown:
        raise ArgumentError(f"no random term {examples(unknown)}; the variances are {examples(keys)}.")
    theta = np.full(design.slices[-1].stop, np.nan) if base is None else base.copy()
    for key, structure, s in zip(keys, design.structures, design.slices, strict=True):
        if normal_key(key) in given:
            old = theta[s].copy()
            theta[s] = conform(key, given[normal_key(key)], structure)
            unseen = s.start + np.array(structure.unseen, dtype=int)
            theta[unseen] = old[unseen - s.start]
    for i, value in single.items():
        theta[i] = number(design.theta_names[i], value)
    if np.any(np.isnan(theta)):
        raise ArgumentError(f"variances of {examples(lacking(design, theta, keys))} are lacking.")
    check_parameters(design, theta)
    return theta


def plain(name: Any) -> str:
    """A name without blanks."""
    return str(name).replace(" ", "")


def number(name: str, value: Any) -> float:
    """A finite number, or an ArgumentError that names it."""
    try:
        out = float(value)
    except (TypeError, ValueError) as err:
        raise ArgumentError(f"the value of {name!r} is no number: {value!r}.") from err
    if not np.isfinite(out):
        raise ArgumentError(f"the value of {name!r} is not finite.")
    return out


def lacking(design: Design, theta: Array, keys: list[str]) -> list[str]:
    """Terms without any value, and the parameters that are missing in others."""
    out = []
    for key, structure, s in zip(keys, design.structures, design.slices, strict=True):
        gone = np.flatnonzero(np.isnan(theta[s]))
        whole = len(gone) == structure.size and not structure.unseen
        out += [key] if whole else [design.theta_names[s.start + i] for i in gone]
    return out


def check_parameters(design: Design, theta: Array) -> None:
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


def conform(key: str, value: Any, structure: Any) -> Array:
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


def describe_boundary(design: Design, optimum: Optimum) -> tuple[str, ...]:
    """One line for each singular term: which combination of effects has no variance, and its multiplier."""
    out = []
    for x in optimum.boundaries:
        k = next(k for k, s in enumerate(design.slices) if s.start <= x.parameters[0] < s.stop)
        name = design.theta_names[x.parameters[0]] if len(x.parameters) == 1 else design.terms[k].key
        if len(x.parameters) == 1:
            what = f"the variance of {name} is zero"
        else:
            effects = effects_of(design.terms[k], tuple(i - design.slices[k].start for i in x.parameters))
            rank = len(effects) - len(x.direction)
            where = "; ".join(combination(row, effects) for row in x.direction)
            what = f"the covariance matrix of {name} has rank {rank}: no variance along {where}"
        out.append(
            f"boundary (singular) fit: {what}; the log-likelihood falls by {x.multiplier:.3g} "
            "for each unit of typical variance there."
        )
    return tuple(out)


def effects_of(term: Term, block: tuple[int, ...]) -> tuple[str, ...]:
    """Effects whose covariance matrix a block of a term is."""
    structure = term.structure
    own = next(e for b, e in zip(structure.blocks, structure.block_effects, strict=True) if tuple(b) == block)
    return tuple(term.effects[i] for i in own)


def combination(row: Array, effects: tuple[str, ...]) -> str:
    """A direction in words, its largest coefficient made 1."""
    row = row / row[np.argmax(np.abs(row))]
    parts = [f"{w:+.3g} {e}" for w, e in zip(row, effects, strict=True) if abs(w) > 1e-6]
    return " ".join(parts).lstrip("+")


def lost_direction(Sigma: Array) -> Array | None:
    """Combination of positions whose residuals have no variance; None where there is none."""
    if not 1 < len(Sigma) <= MOST_POSITIONS:
        return None
    scale = np.sqrt(np.maximum(np.diag(Sigma), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(Sigma / np.outer(scale, scale))
    return vectors[:, 0] / scale if values[0] < VANISHING else None


def certify(design: Design, engine: Engine, optimum: Optimum) -> Certificate:
    """Verdict on an optimum."""
    singular = describe_boundary(design, optimum)
    wrong = [x for x in optimum.boundaries if x.multiplier < -CERTIFIED_GRADIENT]
    idle = [x for x in optimum.boundaries if abs(x.multiplier) < IDLE * design.n]
    at = design.slices[-1].start
    Sigma = design.residual.structure.matrix(optimum.theta[at:])
    vanishing = np.flatnonzero(VANISHING * np.diag(engine.typical_residual) > np.diag(Sigma))
    lost = lost_direction(Sigma)
    problem = ""
    if len(vanishing):
        classes = design.residual.classes
        name = f"the residual variance of {classes[vanishing[0]]}" if classes else "residual"
        problem = f"{name} goes to zero: the other effects fit its records exactly"
    elif lost is not None:
        classes = design.residual.classes
        named = classes if len(classes) == len(lost) else tuple(f"position {k + 1}" for k in range(len(lost)))
        where = combination(lost, named)
        problem = f"the residual covariance matrix becomes singular: the other effects fit {where} exactly"
    elif idle:
        name = design.theta_names[idle[0].parameters[0]]
        problem = f"the likelihood does not depend on {name}: it is confounded with the fixed effects or another term"
    elif optimum.flat is not None:
        name = design.theta_names[optimum.flat]
        problem = f"the likelihood is flat along {name}: the data do not tell it from the other variances"
    elif not optimum.finished:
        problem = (
            f"stopped after {len(optimum.history)} steps with an expected gain of {optimum.decrement / 2:.3g} left"
        )
    elif optimum.gradient > max(CERTIFIED_GRADIENT, rounding_noise(optimum.deviance, design.n) ** 0.5):
        problem = f"the gradient is {optimum.gradient:.3g} standard errors from zero"
    elif wrong:
        problem = f"the likelihood rises off the boundary of {design.theta_names[wrong[0].parameters[0]]}"
    steps = len(optimum.history)
    evidence = f"gradient {optimum.gradient:.1e} standard errors, expected gain {optimum.decrement / 2:.1e}"
    verdict = f"not converged: {problem}." if problem else f"converged in {steps} steps: {evidence}."
    return Certificate(
        not problem, verdict, optimum.gradient, optimum.decrement, optimum.curvature, singular, len(optimum.history)
    )


def fit(design: Design, engine: Engine, method: str = "reml", control: Control | None = None) -> Fitted:
    """Estimate the variance parameters of a design.

    Parameters
    ----------
    design : Design
        The model.
    engine : Engine
        Its analysed equations.
    method : {"reml", "ml"}
        Restricted or full likelihood.
    control : Control, optional
        How to estimate.

    Returns
    -------
    Fitted
        Estimates with their certificate.

    Raises
    ------
    ArgumentError, DesignError
        If the method is unknown, or the variances cannot be told apart.

    Warns
    -----
    ConvergenceWarning
        If the certificate says "not converged".
    """
    control = control or Control()
    require_method(method)
    if method in MOMENTS:
        return fit_by_moments(design, engine, method, control)
    check_estimable(design, engine)
    theta = moment_start(design, engine)
    if control.start:
        theta = theta_from(design, control.start, theta, name="start")
    with tqdm(
        disable=not control.progress, desc="REML" if method == "reml" else "ML", unit=" steps", leave=False, delay=LONG
    ) as line:

        def watch(step: Step) -> None:
            line.set_postfix_str(f"criterion {step.deviance:.4f}, {step.kind} step")
            line.update()

        others = [] if control.start or control.max_iter is not None else other_starts(design, engine, control.seed)
        optimum = maximise(
            engine,
            theta,
            reml=method == "reml",
            control=control,
            others=others,
            watch=watch if control.progress else None,
        )
    certificate = certify(design, engine, optimum)
    if not certificate.converged:
        warnings.warn(str(certificate), ConvergenceWarning, stacklevel=4)
    return Fitted(design, engine, optimum.system, optimum.theta, method, control, optimum.history, certificate, optimum)


def fit_by_moments(design: Design, engine: Engine, method: str, control: Control) -> Fitted:
    """Estimates by quadratic forms equated to their expectations; negative ones stay."""
    found = MOMENTS[method](design)
    negative = [name for name, v in zip(design.theta_names, found.theta, strict=True) if v < 0]
    if found.theta[-1] == 0:
        negative.append("residual")
    system = cast(System, Unsolved(negative)) if negative else engine.at(found.theta)
    return Fitted(design, engine, system, found.theta, method, control, moments=found)


def evaluate(
    design: Design, engine: Engine, variances: Mapping[str, Any], method: str = "reml", control: Control | None = None
) -> Fitted:
    """The design at given variances: BLUE, BLUP and likelihood without estimation.

    Raises
    ------
    ArgumentError
        If the variances do not fit the terms.
    """
    require_method(method)
    if method in MOMENTS:
        raise ArgumentError(f"method={method!r} estimates variances; give 'reml' or 'ml' with known ones.")
    theta = theta_from(design, variances)
    return Fitted(design, engine, engine.at(theta), theta, method, control or Control())


def require_method(method: str) -> None:
    """Raise an ArgumentError for a method that does not exist."""
    if method not in METHODS:
        raise ArgumentError(f"there is no method {method!r}; choose one of: {', '.join(METHODS)}.")
