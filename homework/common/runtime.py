"""Threads and memory of the process: what Python, OpenMP and glibc do by default costs seconds here."""

import atexit
import contextlib
import ctypes
import gc
import os
import warnings
from collections.abc import Iterator


def tune_process() -> None:
    """Shorten OpenMP's waiting, and defer garbage collection. Call it before torch is imported."""
    # GNU OpenMP's threads spin long while they wait. Beside other busy processes 60 steps took 59 s, a third of that
    # with a shorter spin. One that is too short (2,000) costs an eighth on free cores, this one nothing to speak of.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # peft asks transformers by a name that is about to change: nothing that a student could mend.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    # torch and transformers make half a million objects that live to the end. The collector would walk through them
    # again and again, a fifth of the time of importing, and once more at the exit, 0.7 s. It has little else to do:
    # generation and training leave no tensor in a reference cycle (tests/homework/test_memory.py).
    gc.set_threshold(1_000_000)
    atexit.register(gc.freeze)


@contextlib.contextmanager
def training_memory() -> Iterator[None]:
    """Train, and give the memory of the passes back, so that the reload check finds room.

    What is there before outlives the training: the collector leaves it out, or each of its two walks takes 0.2 s.
    """
    gc.freeze()
    try:
        yield
    finally:
        free_memory()
        gc.unfreeze()


def free_memory() -> None:
    """Free what passes and Trainer have left."""
    import torch

    gc.collect()
    trim_heap()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def trim_heap() -> None:
    """Return freed memory to the system: glibc keeps it, and does not find it again for the next base model."""
    with contextlib.suppress(OSError, AttributeError):  # not on Windows, macOS or musl
        ctypes.CDLL("libc.so.6").malloc_trim(0)
