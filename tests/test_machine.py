"""What the machine does to a fit: limits of memory, full disks, workers that end, interruptions."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.engines.memory import enough_memory, free_memory
from mixedgen.output.files import FRAME_WRITERS, frame_writer
from mixedgen.output.whole import whole_file

MB = 2**20


def system(root: Path, files: dict[str, str]) -> Path:
    """A machine of which 4096 MB are free, with other files of /proc and /sys."""
    for name, text in {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 4194304 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


LIMITS = {
    "none": ({}, 4096),
    "address space": (
        {
            "proc/self/limits": f"Max address space         {300 * MB} unlimited bytes\n",
            "proc/self/status": "VmSize:\t102400 kB\n",
        },
        200,
    ),
    "data size": (
        {
            "proc/self/limits": f"Max data size             {300 * MB} unlimited bytes\n",
            "proc/self/status": "VmData:\t204800 kB\n",
        },
        100,
    ),
    "version 2": (
        {
            "proc/self/cgroup": "0::/user/job\n",
            "sys/fs/cgroup/user/job/memory.max": f"{500 * MB}\n",
            "sys/fs/cgroup/user/job/memory.current": f"{400 * MB}\n",
            "sys/fs/cgroup/user/job/memory.stat": f"anon 1\ninactive_file {50 * MB}\n",
        },
        150,
    ),
    "version 2, of the group above": (
        {
            "proc/self/cgroup": "0::/user/job\n",
            "sys/fs/cgroup/user/job/memory.max": "max\n",
            "sys/fs/cgroup/user/job/memory.current": f"{400 * MB}\n",
            "sys/fs/cgroup/user/memory.max": f"{600 * MB}\n",
            "sys/fs/cgroup/user/memory.current": f"{500 * MB}\n",
        },
        100,
    ),
    "version 1 in a container": (
        {
            "proc/self/cgroup": "5:cpu:/\n4:memory:/docker/abc\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{256 * MB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{56 * MB}\n",
        },
        200,
    ),
    "version 1 without a limit": (
        {
            "proc/self/cgroup": "4:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n",
        },
        4096,
    ),
    "more taken than allowed": (
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "1000\n",
            "sys/fs/cgroup/memory.current": "2000\n",
        },
        0,
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_of_memory_counts(name: str, tmp_path: Path) -> None:
    files, free = LIMITS[name]
    assert free_memory(system(tmp_path, files)) == free * MB


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None


def test_running_out_of_memory_is_an_error_with_figures() -> None:
    with (
        pytest.raises(mg.EngineError, match=r"ran out while it was tried.*5 MB.*GB are free"),
        enough_memory("while it was tried"),
    ):
        raise MemoryError("Unable to allocate 5 MB")


@pytest.mark.parametrize("suffix", FRAME_WRITERS)
@pytest.mark.parametrize("old", [None, "before"])
def test_a_full_disk_leaves_what_was_there(
    suffix: str, old: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"result{suffix}"
    if old:
        path.write_text(old)

    def full(frame: pd.DataFrame, part: Path) -> None:
        part.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(FRAME_WRITERS, suffix, full)
    with pytest.raises(mg.MixedgenError, match=f"result\\{suffix}.*No space left"):
        frame_writer(path)(pd.DataFrame({"a": [1]}), path)
    assert [p.name for p in tmp_path.iterdir()] == ([path.name] if old else [])
    assert not old or path.read_text() == old


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_no_half_file_after_any_other_end(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error), whole_file(tmp_path / "a.csv") as part:
        part.write_text("half")
        raise error
    assert not list(tmp_path.iterdir())


def test_tables_are_written_whole(tmp_path: Path) -> None:
    table = mg.table(mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff()))
    with pytest.raises(mg.MixedgenError, match="could not be written"):
        table.save(tmp_path / "nowhere" / "a.md")
    table.save(tmp_path / "a.md")
    assert [p.name for p in tmp_path.iterdir()] == ["a.md"]


class Ends:
    """A statistic that ends its process, or is interrupted, when it is asked for the k-th time."""

    def __init__(self, k: int, end: Callable[[], None], counter: Path | None = None) -> None:
        self.k, self.end, self.counter, self.asked = k, end, counter, 0

    def __call__(self, fit: mg.Fit) -> pd.Series:
        import multiprocessing

        self.asked += 1
        if multiprocessing.parent_process() is not None and self.counter is not None:
            (self.counter / f"{os.getpid()}.{self.asked}.{np.random.default_rng().integers(2**60)}").touch()
            if len(list(self.counter.iterdir())) >= self.k:
                self.end()
        if self.counter is None and self.asked == self.k:
            self.end()
        return fit.theta


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupted() -> None:
    raise KeyboardInterrupt


def sleep() -> mg.Fit:
    return mg.lmm("Reaction ~ Days + (1|Subject)", mg.data.sleepstudy())


def test_a_killed_worker_keeps_what_was_done(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="ended a worker"):
        table = sleep().bootstrap(Ends(50, killed, tmp_path), n=160, seed=1, workers=2)
    assert 1 <= table["n"].max() < 160


def test_workers_killed_at_once_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(mg.EngineError, match="ended a worker before any"):
        sleep().bootstrap(Ends(1, killed, tmp_path), n=20, seed=1, workers=2)


def test_an_interrupted_bootstrap_keeps_what_was_done() -> None:
    with pytest.warns(UserWarning, match="interrupted: 9 of 50"):
        assert sleep().bootstrap(Ends(10, interrupted), n=50, seed=1)["n"].max() == 9
    with pytest.raises(KeyboardInterrupt):
        sleep().bootstrap(Ends(1, interrupted), n=50, seed=1)


def test_an_interrupted_power_keeps_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    from mixedgen.inference import power

    fit, asked, of_one = sleep(), [], power._p_value

    def p_value(*arguments: object) -> float:
        asked.append(1)
        if len(asked) == 6:
            raise KeyboardInterrupt
        return of_one(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(power, "_p_value", p_value)
    with pytest.warns(UserWarning, match="interrupted: 5 of 20"):
        assert fit.power("Days", n=20, seed=1)["n"].tolist() == [5]


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
@pytest.mark.parametrize("left", [b"", b"\x80\x04", None])
def test_damaged_code_is_compiled_again(ending: str, left: bytes | None, tmp_path: Path) -> None:
    """The files of one small kernel are cut, as by a full disk; another process must still run it, and mend them."""
    module = tmp_path / "small.py"
    module.write_text(
        "from mixedgen.sparse.blas import kernel\n\n@kernel\ndef double(x: float) -> float:\n    return 2 * x\n"
    )
    command = [sys.executable, "-c", "import small; print(small.double(4.0), small.double.stats.cache_hits.values())"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    environment["NUMBA_CACHE_DIR"] = str(tmp_path / "kept")

    def run() -> str:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert run().startswith("8.0")
    for path in (tmp_path / "kept").rglob(f"*{ending}"):
        path.write_bytes(path.read_bytes()[:30] if left is None else left)
    assert run().startswith("8.0")
    assert "1" in run().split("8.0")[1]
