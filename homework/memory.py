"""How many rows fit on the device at once: measured on one row, so that nobody has to guess a micro-batch.

    python -m homework.sft train                             # chooses
    python -m homework.sft train --micro-batch-size 8        # or take this

The batch stays what the recipe says: smaller micro-batches add up to the same gradients. On a CPU they cost no time, so
they are small enough that a laptop holds them. On a GPU each costs a launch, so they are as large as its memory allows.
"""

import contextlib
import ctypes
import gc
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from homework.data import Row

CPU_BYTES = 2e9  # the same on every machine, so that the same seed gives the same adapter
PEAK = 3.5  # what is measured, by what is kept: the backward pass, the logits, and gaps between blocks


def choose_micro_batch(
    model: nn.Module, rows: Sequence[Row], collate: Callable[[list[Row]], dict[str, Tensor]], batch_size: int
) -> int:
    """The largest divisor of `batch_size` whose passes fit into the memory that is meant for them; said if it is less.

    Args:
        model: base and LoRA, on its device.
        rows: the tokenized training rows.
        collate: makes a batch of rows.
        batch_size: rows of an optimizer step.
    """
    device = next(model.parameters()).device
    longest = max((rows[index] for index in range(len(rows))), key=lambda row: len(row["input_ids"]))
    batch = {name: tensor.to(device) for name, tensor in collate([longest]).items()}
    budget, needed = budget_of(device), PEAK * kept_bytes(model, batch)
    fitting = [size for size in range(1, batch_size + 1) if batch_size % size == 0 and size * needed <= budget]
    micro = max(fitting, default=1)
    if micro < batch_size:
        print(f"micro-batches of {micro} rows: one takes {needed / 1e6:,.0f} of the {budget / 1e6:,.0f} MB for passes")
    return micro


def budget_of(device: torch.device) -> float:
    """The bytes that passes may take: 2 GB of main memory, or most of what is free on a GPU."""
    if device.type == "cuda":
        return 0.8 * torch.cuda.mem_get_info(device)[0]
    return CPU_BYTES


def kept_bytes(model: nn.Module, batch: dict[str, Tensor]) -> int:
    """The bytes that a forward pass keeps for the backward pass, the weights aside."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would hold its own graph: a circle that nothing frees

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**batch).loss  # alive until here, so that no storage is freed and its address used again
    del loss
    return sum(kept.values())


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """Train, and give the memory of the passes back, so that the proof by reloading finds room.

    What is there before outlives the training: the collector leaves it out, or each of its two walks takes 0.2 s.
    """
    gc.freeze()
    try:
        yield
    finally:
        release()
        gc.unfreeze()


def release() -> None:
    """Free what passes and Trainer have left."""
    gc.collect()
    trim()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def trim() -> None:
    """Hand freed memory to the system: glibc keeps it, and does not find it again for the next base."""
    with contextlib.suppress(OSError, AttributeError):  # not on Windows, macOS or musl
        ctypes.CDLL("libc.so.6").malloc_trim(0)
