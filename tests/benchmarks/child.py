"""One measurement in a fresh process: ``python -m tests.benchmarks.child '<job as JSON>'`` prints one line of JSON."""

from __future__ import annotations

import cProfile
import io
import json
import pstats
import sys
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.benchmarks.peers import PYTHON_PEERS, Peer
from tests.benchmarks.workloads import WORKLOADS

STATUS = Path("/proc/self/status")
CLOCK_SIZE, CLOCK_CALLS = 2048, 5
TOP_FUNCTIONS = 25


def peak_megabytes() -> float | None:
    """High-water mark of the resident memory of this process (Linux; elsewhere None)."""
    if not STATUS.is_file():
        return None
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def outcome(fit: Any, forecast: Any) -> dict[str, Any]:
    """What was forecast and what was found, with the peak memory of this process."""
    return {
        "megabytes": peak_megabytes(),
        "forecast": {"flops": forecast.flops, "megabytes": forecast.bytes / 2**20, "seconds": forecast.seconds},
        "steps": len(fit.history),
        "llf": fit.llf,
        "theta": fit.theta.to_dict(),
        "converged": fit.converged,
    }


def race(job: dict[str, Any]) -> dict[str, Any]:
    """Warm up on the smallest workload, then time ``calls`` fits of the workload asked for."""
    peer, workload, frame = PYTHON_PEERS[job["peer"]], WORKLOADS[job["workload"]], pd.read_csv(job["csv"])
    _warm_up(peer, job["method"])
    if job["discard_first"]:
        peer.fit(workload, frame, job["method"])
    seconds = []
    for _ in range(workload.calls):
        start = time.perf_counter()
        fit = peer.fit(workload, frame, job["method"])
        seconds.append(time.perf_counter() - start)
    megabytes = peak_megabytes()
    answer = peer.read(fit)
    note = ", ".join(filter(None, (peer.caveat(workload), answer.note)))
    return {"seconds": seconds, "megabytes": megabytes, "version": _version(peer), **vars(answer), "note": note}


def _warm_up(peer: Peer, method: str) -> None:
    small = WORKLOADS["W1"]
    peer.fit(small, small.make(), method)


def _version(peer: Peer) -> str:
    try:
        return version(peer.distribution)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "checkout"


def clock(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of one 2048 x 2048 x 2048 float64 product: the unit of the machine at this moment."""
    A = np.random.default_rng(job.get("seed", 1)).normal(size=(CLOCK_SIZE, CLOCK_SIZE))
    seconds = []
    for _ in range(CLOCK_CALLS):
        start = time.perf_counter()
        A @ A
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds}


def profile(job: dict[str, Any]) -> dict[str, Any]:
    """Profile one fit of mixedgen after the warm-up; the two tables as text."""
    peer, workload, frame = PYTHON_PEERS["mixedgen"], WORKLOADS[job["workload"]], pd.read_csv(job["csv"])
    _warm_up(peer, job["method"])
    if job["discard_first"]:
        peer.fit(workload, frame, job["method"])
    profiler = cProfile.Profile()
    profiler.runcall(peer.fit, workload, frame, job["method"])
    text = io.StringIO()
    stats = pstats.Stats(profiler, stream=text).strip_dirs()
    for order in ("cumulative", "tottime"):
        stats.sort_stats(order).print_stats(TOP_FUNCTIONS)
    return {"text": text.getvalue()}


MODES = {"race": race, "clock": clock, "profile": profile}


def main() -> None:
    """Run the job of the command line."""
    job = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    print("\n" + json.dumps(MODES[job["mode"]](job)))


if __name__ == "__main__":
    main()
