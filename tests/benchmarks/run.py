"""The race of mixedgen and its peers over the workloads, the cold start, and the profile of one fit."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.peers import PYTHON_PEERS
from tests.benchmarks.processes import THREADS, Command, RunFailedError, available, child
from tests.benchmarks.workloads import SHIPPED, WORKLOADS, Workload, WorkloadUnavailableError, select, store

OURS, REFERENCE = "mixedgen", "lme4"
PEERS = (REFERENCE, *(name for name in PYTHON_PEERS if name != OURS))
R_CHILD = Path(__file__).with_name("lme4_child.R")
HEADER = ("workload", "peer", "version", "median s", "min s", "units", "peak MB", "/ lme4", "llf", "components", "note")
COLUMN_LIMIT = 60


@dataclass
class Record:
    """All the runs of one peer on one workload; ``failure`` says why there are no more of them."""

    workload: str
    peer: str
    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    answer: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None

    def add(self, result: dict[str, Any]) -> None:
        """Keep one run: the median of its calls, its peak memory, and its answer."""
        self.seconds.append(statistics.median(result["seconds"]))
        if result["megabytes"] is not None:
            self.megabytes.append(result["megabytes"])
        self.answer = {key: result[key] for key in ("version", "llf", "labels", "components", "note")}


@dataclass(frozen=True)
class Race:
    """The settings of a race, common to all runs."""

    peer_python: str
    repeat: int
    seconds_limit: float
    method: str
    discard_first: bool

    def absence(self, peer: str, workload: Workload) -> str | None:
        """Why the peer cannot run, or None."""
        if peer == REFERENCE:
            return None if _has_lme4() else "absent"
        adapter = PYTHON_PEERS[peer]
        return adapter.refuses(workload) if available(self._python(peer), adapter.module) else "absent"

    def once(self, peer: str, workload: Workload, csv: Path) -> dict[str, Any]:
        """One run of one peer in a fresh process."""
        job = {"mode": "race", "peer": peer, "workload": workload.key, "csv": str(csv), "method": self.method}
        if peer == REFERENCE:
            model = {"formula": workload.formula, "factors": workload.factors, "calls": workload.calls}
            return Command(["Rscript", str(R_CHILD), json.dumps({**job, **model})], self.seconds_limit).run()
        return child(
            self._python(peer), {**job, "discard_first": self.discard_first and peer == OURS}, self.seconds_limit
        )

    def _python(self, peer: str) -> str:
        return sys.executable if peer == OURS else self.peer_python


def _has_lme4() -> bool:
    if shutil.which("Rscript") is None:
        return False
    return subprocess.run(["Rscript", "-e", "library(lme4); library(jsonlite)"], capture_output=True).returncode == 0


def unit_clock() -> float:
    """Seconds of one matrix product now: the least of a few."""
    return min(child(sys.executable, {"mode": "clock"})["seconds"])


def run_workload(
    race: Race, workload: Workload, csv: Path, peers: list[str], say: Callable[[str], None]
) -> list[Record]:
    """Run the peers in turn, ``repeat`` times; a peer that fails or is stopped is not called again."""
    records = [Record(workload.key, peer, failure=race.absence(peer, workload)) for peer in peers]
    for turn in range(race.repeat):
        for record in (r for r in records if r.failure is None):
            say(f"{workload.key} {record.peer} {turn + 1}/{race.repeat}")
            try:
                record.add(race.once(record.peer, workload, csv))
            except RunFailedError as failure:
                record.failure = str(failure)
    return records


def table(records: list[Record], units: dict[str, float]) -> str:
    """The records as aligned text; ``units`` is the unit clock of each workload."""
    reference = {r.workload: r.median for r in records if r.peer == REFERENCE}
    rows = [HEADER, *(_row(record, units[record.workload], reference.get(record.workload)) for record in records)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEADER))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _row(record: Record, unit: float, reference: float | None) -> tuple[str, ...]:
    median, answer = record.median, record.answer
    if median is None:
        return (record.workload, record.peer, *[""] * (len(HEADER) - 3), (record.failure or "")[-COLUMN_LIMIT:])
    return (
        record.workload,
        record.peer,
        answer["version"],
        f"{median:.4g}",
        f"{min(record.seconds):.4g}",
        f"{median / unit:.3g}",
        f"{max(record.megabytes):.0f}" if record.megabytes else "",
        f"{median / reference:.3g}" if reference else "",
        f"{answer['llf']:.6f}",
        " / ".join(f"{value:.6g}" for value in answer["components"]),
        record.failure or answer["note"],
    )


def race_all(arguments: argparse.Namespace, folder: Path) -> int:
    """Race the workloads one after the other and print the table."""
    race = Race(arguments.peer_python, arguments.repeat, arguments.limit, arguments.method, arguments.discard_first)
    peers = [OURS, *arguments.peers] if arguments.ours else arguments.peers
    records: list[Record] = []
    units: dict[str, float] = {}
    for workload in select(arguments.workloads):
        try:
            csv = store(workload, folder)
        except WorkloadUnavailableError as reason:
            print(f"{workload.key} skipped: {reason}")
            continue
        units[workload.key] = unit_clock()
        records += run_workload(race, workload, csv, peers, lambda line: print(line, file=sys.stderr, flush=True))
    print(f"{platform.platform()}, Python {platform.python_version()}, {THREADS} threads, {arguments.method}")
    print("one 2048^3 product: " + ", ".join(f"{key} {unit:.3f} s" for key, unit in units.items()))
    print(table(records, units))
    if arguments.json:
        arguments.json.write_text(json.dumps({"units": units, "records": [asdict(r) for r in records]}, indent=1))
    return 0


def cold_start(repeat: int) -> int:
    """Time import and first fit in fresh processes; exit code 1 if numba was loaded on the way."""
    small = WORKLOADS["W1"]
    command = Command(
        [sys.executable, "-m", "tests.benchmarks.cold_child", small.formula, str(SHIPPED / "sleepstudy.csv")]
    )
    runs = [command.run() for _ in range(repeat + 1)][1:]  # the first one reads the files from disk
    for key in ("import", "fit"):
        print(f"{key}: median {statistics.median(run[key] for run in runs):.3f} s")
    print(f"both: median {statistics.median(run['import'] + run['fit'] for run in runs):.3f} s")
    loaded = any(run["numba"] for run in runs)
    print("numba was loaded" if loaded else "numba was not loaded")
    return int(loaded)


def profile(arguments: argparse.Namespace, folder: Path) -> int:
    """Print the functions in which one fit spends its time."""
    csv = store(WORKLOADS[arguments.profile], folder)
    job = {"workload": arguments.profile, "csv": str(csv), "method": arguments.method}
    print(child(sys.executable, {"mode": "profile", **job, "discard_first": arguments.discard_first})["text"])
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--no-mixedgen", dest="ours", action="store_false", help="run the peers alone")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has the Python peers")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds per run, loading included")
    parser.add_argument("--method", choices=("reml", "ml"), default="reml")
    parser.add_argument("--discard-first", action="store_true", help="mixedgen: one large fit before the timed one")
    parser.add_argument("--folder", type=Path, help="keep the generated data here (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="write the records here as well")
    parser.add_argument("--cold", action="store_true", help="import and first small fit instead of the race")
    parser.add_argument("--profile", choices=WORKLOADS, help="profile one fit of mixedgen instead of the race")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Dispatch to the race, the cold start or the profile."""
    arguments = parse(argv)
    if arguments.cold:
        return cold_start(arguments.repeat)
    action = profile if arguments.profile else race_all
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        return action(arguments, arguments.folder)
    with tempfile.TemporaryDirectory() as folder:
        return action(arguments, Path(folder))
