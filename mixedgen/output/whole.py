"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixedgen.errors import MixedgenError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Path beside a file to write to; it takes the file's place when all is written, and goes when it is not.

    Raises
    ------
    MixedgenError
        If it cannot be written: the disk is full, or the folder may not be written to. What was there stays.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    except OSError as err:
        raise MixedgenError(
            f"{str(path)!r} could not be written ({err.strerror or err}): no part of it is left. Is the disk full, or "
            "the folder not yours?"
        ) from err
    finally:
        part.unlink(missing_ok=True)
