"""Memory that this process may still take, and the error when it runs out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mixedgen.errors import EngineError

_NO_LIMIT = 2**60  # version 1 of control groups writes a number near 2^63 where there is no limit


def free_memory(root: Path = Path("/")) -> int | None:
    """Memory that is free now, in bytes: the least of machine, control groups and process; None if none of them tells.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    """
    known = [f for f in (_of_machine(root), _of_process(root), *_of_groups(root)) if f is not None]
    return max(min(known), 0) if known else None


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Turn running out of memory into an EngineError that says what was done and what is free.

    Raises
    ------
    EngineError
        In place of a MemoryError.
    """
    try:
        yield
    except MemoryError as err:
        free = free_memory()
        left = "" if free is None else f"; {free / 2**30:.1f} GB are free"
        asked = f" ({err})" if str(err) else ""
        raise EngineError(
            f"the memory ran out {what}{asked}{left}. Take fewer records, levels or terms, raise the memory limit of "
            "this process, or use a machine with more."
        ) from err


def _lines(path: Path) -> list[list[str]]:
    """Words of each line of a file of the system; none where it is not there."""
    try:
        return [line.split() for line in path.read_text(encoding="ascii", errors="replace").splitlines()]
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """Number that stands alone in a file; None for ``max``, and where there is no file."""
    words = [word for line in _lines(path) for word in line]
    return int(words[0]) if words and words[0].isdigit() and int(words[0]) < _NO_LIMIT else None


def _labelled(path: Path, label: str) -> int | None:
    """Number behind a label at the start of a line."""
    return next((int(w[1]) for w in _lines(path) if len(w) > 1 and w[0] == label and w[1].isdigit()), None)


def _of_machine(root: Path) -> int | None:
    """Memory that is available without swapping."""
    available = _labelled(root / "proc/meminfo", "MemAvailable:")
    return None if available is None else 1024 * available


def _of_process(root: Path) -> int | None:
    """Address space and data that the limits of the process leave."""
    left = []
    for limit, used in (("address space", "VmSize:"), ("data size", "VmData:")):
        soft = next(
            (
                int(w[3])
                for w in _lines(root / "proc/self/limits")
                if w[:3] == ["Max", *limit.split()] and w[3].isdigit()
            ),
            None,
        )
        taken = _labelled(root / "proc/self/status", used)
        if soft is not None and taken is not None:
            left.append(soft - 1024 * taken)
    return min(left, default=None)


def _of_groups(root: Path) -> Iterable[int]:
    """What each control group above the process leaves, in version 2 and in version 1."""
    for words in _lines(root / "proc/self/cgroup"):
        number, controllers, path = (" ".join(words).split(":", 2) + ["", ""])[:3]
        if number == "0":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inside = Path(path.lstrip("/"))
        for folder in {base / inside, *(base / parent for parent in inside.parents), base}:
            limit, used = _number(folder / names[0]), _number(folder / names[1])
            if limit is not None and used is not None:
                # pages of files that were read are given back when others are wanted
                yield limit - used + (_labelled(folder / "memory.stat", names[2]) or 0)
