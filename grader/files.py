"""Writes a file whole or not at all: a report, a result, a table of a class."""

import contextlib
import os
from pathlib import Path


def remove_left(folder: Path) -> None:
    """Remove from a folder what `write_whole` has left there in a process that was killed."""
    for scratch in folder.glob(".*-*"):
        pid = scratch.name.rpartition("-")[2]
        if pid.isdigit() and Path("/proc/self").exists() and not Path("/proc", pid).exists():
            scratch.unlink(missing_ok=True)


def write_whole(path: Path, content: str) -> None:
    """Write a file whole or not at all, on the disk when this returns.

    Raises:
        OSError: if it can't be written; what was there before is still there.
    """
    scratch = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with scratch.open("w", encoding="utf-8", newline="") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every system can flush a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
