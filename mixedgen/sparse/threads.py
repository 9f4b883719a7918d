"""How many threads BLAS may take."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]


@cache
def _blas() -> Any:
    """Build the controller of the BLAS threads once: it searches all loaded libraries."""
    import scipy.linalg.lapack  # noqa: F401  its library has to be loaded to be found

    return ThreadpoolController().select(user_api="blas")


def one_thread() -> AbstractContextManager[Any]:
    """Keep BLAS to one thread: more make small products slower, on a busy machine by orders of magnitude."""
    limit: AbstractContextManager[Any] = _blas().limit(limits=1)
    return limit


def n_threads() -> int:
    """Threads that BLAS would use: what the user allows to numerical work."""
    return max((library.num_threads for library in _blas().lib_controllers), default=1)
