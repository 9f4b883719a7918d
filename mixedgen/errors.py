"""Exceptions and warnings of the package.

Every message says what is wrong, where (at most five examples and how many there are), and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from numbers import Integral
from typing import Any

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
