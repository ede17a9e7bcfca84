"""The start of a process that grades one submission: sandbox and grader import their libraries side by side."""

import contextlib
import gc
import os
import threading
from collections.abc import Iterator
from importlib import import_module

from grader.sandbox.host import Sandbox


@contextlib.contextmanager
def open_sandbox(wanted: str = "auto", required: bool = False) -> Iterator[Sandbox]:
    """A sandbox that imports its libraries, and `grader.grade` with torch, imported meanwhile.

    Raises:
        GraderFault: if no sandbox holds, as `Sandbox.open` says.
    """
    # Before torch is imported: GNU OpenMP's threads spin long while they wait, and slow each other down.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    with contextlib.ExitStack() as stack:
        with without_collector():
            importing = threading.Thread(target=import_grading, daemon=True)  # Ctrl-C breaks no import there
            importing.start()
            sandbox = stack.enter_context(Sandbox.open(wanted, required))
            sandbox.preload()
            importing.join()
        yield sandbox


def import_grading() -> None:
    """Import all that grading needs; a fault is met again where it is used."""
    with contextlib.suppress(Exception):
        import_module("grader.grade")


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """No garbage collection while modules are imported, which takes a quarter of their time and finds nothing."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
