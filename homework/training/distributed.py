"""Several processes, started by torchrun or accelerate, that train one adapter: what each does, and only the first.

All see the same batches in the same order, and each computes its share of every batch. All are watched; the first one
prints, measures accuracy, saves, and checks what it saved. Alone, a process is the first, and nothing here costs time.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from homework.common.errors import HomeworkError


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process prints, saves and scores."""
    return rank() == 0


def join() -> None:
    """Meet the other processes, where there are any, and take a GPU of one's own; only the first one prints."""
    if world() == 1:
        return
    import torch
    from accelerate import PartialState

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    PartialState(cpu=not torch.cuda.is_available())
    if not is_first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open until the process ends)


def check_world(seen: int) -> None:
    """Raise HomeworkError unless the Trainer shares the work with all processes; else each would train for itself."""
    if seen != world():
        raise HomeworkError(f"{world()} processes were launched, but the Trainer sees {seen}: launch with torchrun")


def first_decides(decide: Callable[[], Any]) -> Any:
    """What `decide` gives on the first process; the others wait for it, and never call it."""
    if world() == 1:
        return decide()
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([decide() if is_first() else None])[0]


def any_asks(asked: bool) -> bool:
    """Whether any process asks for something, so that all do it after the same step."""
    if world() == 1:
        return asked
    from accelerate.utils import gather_object

    return any(gather_object([asked]))


def wait_for_all() -> None:
    """Go on once all processes are here."""
    any_asks(False)
