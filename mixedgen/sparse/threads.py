"""How many threads BLAS may take."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]


@cache
def _blas() -> Any:
    """Build the controller of the BLAS threads once: it searches all loaded libraries."""
    import scipy.linalg.lapack  # noqa: F401  its library has to be loaded to be found

    return ThreadpoolController().select(user_api="blas")


class _OneThread:
    """One BLAS thread as long as anything asks for it, and as many as before when nothing does any more.

    The number of threads is the process's: where several threads of the program ask, only the first may note how many
    there were, and only the last may give them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking = 0
        self._limit: Any = None
        self._before = 1

    def __enter__(self) -> None:
        with self._lock:
            self._asking += 1
            if self._limit is None:
                self._before = self._now()
                self._limit = _blas().limit(limits=1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._asking -= 1
            if self._asking == 0:
                limit, self._limit = self._limit, None
                limit.restore_original_limits()

    def allowed(self) -> int:
        """Threads that BLAS would use if nothing asked for one."""
        with self._lock:
            return self._now() if self._limit is None else self._before

    @staticmethod
    def _now() -> int:
        """Threads that BLAS uses."""
        return max((library.num_threads for library in _blas().lib_controllers), default=1)


_one = _OneThread()


def one_thread() -> AbstractContextManager[Any]:
    """Keep BLAS to one thread: more make small products slower, on a busy machine by orders of magnitude."""
    return _one


def n_threads() -> int:
    """Threads that BLAS would use: what the user allows to numerical work."""
    return _one.allowed()


_PROBE_ORDER = 512  # of the product that says how fast one thread is: some milliseconds
_WORTH_A_LOOK = 2e8  # flops: less is over before it can be judged
_STALLED = 0.3  # of the speed of one thread: several that are slower wait for a core that other work holds
REST = 30.0  # seconds of one thread, until several are tried again


@cache
def single_speed() -> float:
    """Floating-point operations in a second of one thread, measured once."""
    A = np.ones((_PROBE_ORDER, _PROBE_ORDER))
    seconds = []
    with one_thread():
        for _ in range(3):
            start = time.perf_counter()
            A @ A
            seconds.append(time.perf_counter() - start)
    return 2.0 * _PROBE_ORDER**3 / min(seconds)


class Pacer:
    """All BLAS threads for large pieces of work; one for a while after they have stalled.

    BLAS threads wait for each other by spinning: where other work holds a core, two may take thirty times as long as
    one. The answers differ by rounding only. The load is the machine's, so a process needs one pacer, `paced`.

    Examples
    --------
    >>> with Pacer()(1e6):
    ...     pass
    """

    def __init__(self) -> None:
        self._rests_until = 0.0

    @contextmanager
    def __call__(self, flops: float) -> Iterator[None]:
        """Threads for one piece of work of so many flops."""
        if time.monotonic() < self._rests_until:
            with one_thread():
                yield
            return
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        if flops > _WORTH_A_LOOK and n_threads() > 1 and flops < _STALLED * single_speed() * seconds:
            self._rests_until = time.monotonic() + REST


paced = Pacer()
