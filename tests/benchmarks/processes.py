"""Fresh processes with pinned threads and a time limit; each returns one line of JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
THREADS = 2
TAIL = 300  # characters of a traceback worth showing in a table


class RunFailedError(Exception):
    """The process ended with an error, or was stopped at its limit; the message says which."""


@dataclass(frozen=True)
class Command:
    """A command line, run in the root of the repository."""

    arguments: list[str]
    seconds_limit: float | None = None

    def run(self) -> dict[str, Any]:
        """Run it; the last line of its output, parsed."""
        with subprocess.Popen(
            self.arguments,
            cwd=ROOT,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            output, errors = self._wait(process)
        if process.returncode != 0:
            raise RunFailedError(" ".join(errors.split())[-TAIL:] or f"exit code {process.returncode}")
        return json.loads(output.strip().splitlines()[-1])

    def _wait(self, process: subprocess.Popen[str]) -> tuple[str, str]:
        try:
            return process.communicate(timeout=self.seconds_limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: the workers it started go with it
            process.communicate()
            raise RunFailedError(f"stopped at {self.seconds_limit:g} s") from None


def _environment() -> dict[str, str]:
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(THREADS))}


def child(python: str, job: dict[str, Any], seconds_limit: float | None = None) -> dict[str, Any]:
    """Run one job of ``child.py`` under this interpreter."""
    return Command([python, "-m", "tests.benchmarks.child", json.dumps(job)], seconds_limit).run()


def available(python: str, module: str) -> bool:
    """Whether this interpreter finds the module (without importing it)."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], cwd=ROOT, capture_output=True).returncode == 0
