"""Exceptions and warnings of the package.

Every message says what is wrong, where (at most five examples and how many there are), and what to do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import wraps
from importlib import import_module
from inspect import signature
from numbers import Integral
from types import FunctionType
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])
K = TypeVar("K")

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep  # files of the package begin so
_MAX_EXAMPLES = 5  # more names than this hide the message


class MixedgenError(Exception):
    """Root of all errors raised on purpose by mixedgen.

    Parameters
    ----------
    message : str
        What is wrong, where, and what to do.
    **evidence
        Facts of the case (ids, columns, figures), kept as attributes.
    """

    def __init__(self, message: str, **evidence: Any) -> None:
        super().__init__(message)
        for name, value in evidence.items():
            setattr(self, name, value)


class FormulaError(MixedgenError, ValueError):
    """The formula, or a structure or residual term in it, cannot be understood."""


class DataError(MixedgenError, ValueError):
    """The data frame does not fit the model."""


class DesignError(MixedgenError, ValueError):
    """The model cannot be estimated from these data."""


class PedigreeError(MixedgenError, ValueError):
    """The pedigree contradicts itself."""


class RelationshipError(MixedgenError, ValueError):
    """A relationship matrix is unusable, unused, or does not cover the records."""


class ArgumentError(MixedgenError, TypeError):
    """An argument is unknown, or of the wrong kind."""


class EngineError(MixedgenError):
    """The mixed-model equations cannot be solved as they stand."""


class NotAvailableError(MixedgenError):
    """The quantity does not exist for this model or this estimator."""


class ConvergenceWarning(UserWarning):
    """The variance components are not at a certified optimum."""


def examples(values: Iterable[Any]) -> str:
    """Up to five values for a message, and how many more there are."""
    seen: Sequence[Any] = list(values)
    shown = ", ".join(repr(v) if isinstance(v, str) else str(v) for v in seen[:_MAX_EXAMPLES])
    rest = len(seen) - _MAX_EXAMPLES
    return f"{shown} and {rest} more" if rest > 0 else shown


def require_probability(value: float, name: str = "level") -> None:
    """Raise an ArgumentError for a level or alpha that does not lie between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise ArgumentError(f"{name} must lie between 0 and 1, not be {value!r}.")


def require_count(value: Any, name: str) -> None:
    """Raise an ArgumentError for what is no whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ArgumentError(f"{name} must be a whole number from 1, not {value!r}.")


def require_package(module: str, what: str, install: str) -> Any:
    """An optional module, imported now, or a NotAvailableError that says what needs it and what to install."""
    try:
        return import_module(module)
    except ImportError as err:
        raise NotAvailableError(f'{what} needs {module.partition(".")[0]}: pip install "{install}".') from err


class MissingFileError(DataError, FileNotFoundError):
    """There is no such file."""


class MissingNameError(MixedgenError, AttributeError):
    """There is no such attribute; of words of other packages the message says ours."""


def outside() -> int:
    """Stack level of the user's code for `warnings.warn` in the calling function, however deep in the package it is."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        frame, level = frame.f_back, level + 1
    return level


def suggestion(name: Any, known: Iterable[Any]) -> str:
    """`` Did you mean 'residual'?`` for a name that is near one of those known, upper or lower case; or nothing."""
    by_case = {str(k).casefold(): str(k) for k in known}
    near = get_close_matches(str(name).casefold(), by_case, n=1)
    return f" Did you mean {by_case[near[0]]!r}?" if near else ""


def counterpart(word: str) -> str:
    """What a word of another package is called here, as the end of a message; or nothing."""
    return f" {_WORDS[word.casefold()]}" if word.casefold() in _WORDS else ""


def missing_name(owner: str, name: str, known: Iterable[str]) -> MissingNameError:
    """The error for an attribute that is not there, with the counterpart of a word of another package."""
    return MissingNameError(f"{owner} has no {name!r}.{counterpart(name) or suggestion(name, known)}")


def public(call: F) -> F:
    """Function or method that users call: all that goes wrong in it is a MixedgenError, with a short traceback.

    Notes
    -----
    The traceback shows the call of the user, the one called, and the message; with ``python -X dev`` all of it. Errors
    of Python's own, which say that an argument is of a kind that nobody thought of, become an ArgumentError.
    """
    guard = _guarded

    def shown(*arguments: Any, **keywords: Any) -> Any:
        return guard(call, arguments, keywords)

    # the globals of the function itself, so that its examples are found where it stands
    own = FunctionType(shown.__code__, call.__globals__, call.__name__, None, shown.__closure__)
    return cast(F, wraps(call)(own))


def public_class(kind: type[K]) -> type[K]:
    """Class whose public methods, and whose making, are `public`."""
    for name, member in list(vars(kind).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(member, staticmethod | classmethod):
            setattr(kind, name, type(member)(public(member.__func__)))
        elif isinstance(member, FunctionType):
            setattr(kind, name, public(member))
    return kind


def _guarded(call: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Call a function; raise a MixedgenError for whatever goes wrong, without the frames below."""
    try:
        return call(*arguments, **keywords)
    except MixedgenError as error:
        raise _short(error)  # noqa: B904  its own cause stays
    except FileNotFoundError as error:
        named = f"there is no file {str(error.filename)!r}." if error.filename is not None else str(error)
        raise MissingFileError(named) from _short(error)
    except _RAW as error:
        raise _explained(call, arguments, keywords, error) from _short(error)


def _short(error: Exception) -> Exception:
    """An error without its traceback, unless Python runs in development mode."""
    return error if sys.flags.dev_mode else error.with_traceback(None)


def _explained(
    call: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any], error: Exception
) -> ArgumentError:
    """The error for arguments that a function does not have, or whose kind it does not know."""
    name = call.__qualname__.removesuffix(".__init__")
    parameters = signature(call).parameters
    try:
        given = signature(call).bind(*arguments, **keywords).arguments
    except TypeError as mismatch:
        unknown = [k for k in keywords if k not in parameters]
        hints = "".join(counterpart(k) or suggestion(k, parameters) for k in unknown[:1])
        return ArgumentError(f"{name}(): {mismatch}.{hints}")
    kinds = ", ".join(f"{k}: {type(v).__name__}" for k, v in given.items() if k != "self")
    return ArgumentError(
        f"{name}({kinds}) met {type(error).__name__}: {error}. Compare its arguments with its documentation; if they "
        "are as it says, this is a fault of mixedgen: please report it."
    )


_RAW = (
    *(TypeError, ValueError, LookupError, AttributeError, ArithmeticError, OSError, RecursionError),
    *(NotImplementedError, AssertionError, SyntaxError, NameError, ImportError),
)

_FORMULA_SAYS = "Random terms stand in the formula: 'y ~ x + (1|g)'."
_WORDS = {
    "reml": "REML is the default; write method='ml' for maximum likelihood.",
    "groups": _FORMULA_SAYS,
    "random": _FORMULA_SAYS,
    "re_formula": _FORMULA_SAYS,
    "vc_formula": _FORMULA_SAYS,
    "fixed": "Fixed and random terms stand in one formula: 'y ~ x + (1|g)'.",
    "family": "There are linear mixed models only, no families of distributions.",
    "lmercontrol": "Write control=mg.Control(...).",
    "correlation": "Write residual='ar1(time|subject)'.",
    "rcov": "Write residual=, such as 'diag(site)'.",
    "ginverse": "Write relationships={'A': mg.Relationship.from_inverse(Ainv, ids)} and (1|animal:A).",
    "na.action": "Write na_action='omit' or 'exclude'.",
    "missing": "Write na_action='omit' or 'exclude'.",
    "lmer": "Write lmm.",
    "lme": "Write lmm.",
    "glmer": "There are linear mixed models only: lmm.",
    "mixedlm": "Write lmm.",
    "asreml": "Write lmm.",
    "mmer": "Write lmm.",
    "varcorr": "Write fit.varcomp.",
    "cov_re": "Write fit.varcomp.",
    "vcomp": "Write fit.varcomp.",
    "random_effects": "Write fit.ranef().",
    "random_effects_cov": "Write fit.ranef(cond_var=True).",
    "ran_eff": "Write fit.ranef().",
    "coef": "Write fit.params for the fixed effects, fit.ranef() for the random ones.",
    "coefficients": "Write fit.params.",
    "fe_params": "Write fit.params.",
    "bse_fe": "Write fit.bse.",
    "residuals": "Write fit.resid.",
    "loglik": "Write fit.llf.",
    "remlcrit": "Write fit.reml_criterion.",
    "sigma": "Write fit.scale ** 0.5.",
    "issingular": "Write fit.certificate.singular.",
    "getme": "Write model.matrices(variances), or fit.theta.",
    "lsmeans": "Write mg.emmeans(fit, names).",
    "ls_means": "Write mg.emmeans(fit, names).",
    "emmeans": "Write mg.emmeans(fit, names).",
    "vpredict": "Write fit.vfun('a / (a + residual)').",
    "bootmer": "Write fit.bootstrap().",
    "plot": "Write mg.plots, such as mg.plots.residuals(fit).",
    "pedigree": "Write mg.additive(mg.Pedigree(frame)) in relationships={'A': ...}.",
}
