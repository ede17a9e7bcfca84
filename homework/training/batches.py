"""Which rows make a step, in which order, as which tensors, and how many of them are on the device at once.

There is one order for all processes, the same after an interruption; each process takes its share of every batch, so
no row is left out or repeated. The batch stays what the recipe says: smaller micro-batches add up to the same
gradients. On a CPU they cost no time, so they are small enough that a laptop holds them. On a GPU each costs a launch,
so they are as large as its memory allows.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.data import Sampler

from homework.data import IGNORE_INDEX, ListLike, Row

MEGA = 16  # batches that are sorted by length together: padding of 5 % where 7, transformers' choice here, leave 11 %
CPU_BYTES = 2e9  # the same on every machine, so that the same seed gives the same adapter
PEAK = 3.5  # what is measured, by what is kept: the backward pass, the logits, and gaps between blocks
Batch = dict[str, Tensor]


def describe_rows(rows: ListLike[Row], batch_size: int) -> str:
    """Lengths, supervised share and padding waste of tokenized rows, as one or two lines.

    The waste is what batches of rows sorted by length would pad, as the Trainer's sampler nearly sorts them.
    """
    lengths = sorted(sum(row["attention_mask"]) for row in rows)
    spans = [sum(label != IGNORE_INDEX for label in row["labels"]) for row in rows]
    equal = sum(len(row["labels"]) == len(row["input_ids"]) for row in rows)
    batches = [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
    slots = sum(len(batch) * batch[-1] for batch in batches)
    return (
        f"training rows: {len(rows)} of {lengths[0]} to {lengths[-1]} tokens; "
        f"{min(spans)} to {max(spans)} of them supervised (mean {sum(spans) / len(spans):.1f}, "
        f"{sum(spans) / sum(lengths):.0%} of all); label length = input length in {equal} of {len(rows)} rows\n"
        f"  padding {1 - sum(lengths) / slots:.1%} at best, "
        f"{1 - sum(lengths) / len(rows) / lengths[-1]:.0%} if all were padded to the longest"
    )


class EpochSampler(Sampler[int]):
    """Batches of rows of similar length, in an order that depends on seed and epoch alone.

    transformers' own sampler draws from the global random state, which a resumed process does not have at the start of
    an epoch: it would see some rows twice and others never.

    Args:
        lengths: of the rows, in tokens.
        batch_size: of the groups.
        seed: of the run.
        epoch: tells the current epoch.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int, epoch: Callable[[], int]) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1000 + self.epoch())
        return iter(order_rows(self.lengths, self.batch_size, generator))


def order_rows(lengths: list[int], batch_size: int, generator: torch.Generator) -> list[int]:
    """The indices of all rows, once each: random, but of similar length in each batch; a short batch comes last."""
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches: list[list[int]] = []
    for start in range(0, len(order), MEGA * batch_size):
        mega = sorted(order[start : start + MEGA * batch_size], key=lambda index: -lengths[index])
        batches += [mega[i : i + batch_size] for i in range(0, len(mega), batch_size)]
    last = [batches.pop()] if len(batches[-1]) < batch_size else []
    shuffled = [batches[index] for index in torch.randperm(len(batches), generator=generator)]
    return [index for batch in shuffled + last for index in batch]


class MicroBatches(Sampler[list[int]]):
    """The micro-batches of one process: as many as every other process has, and together each row once.

    Args:
        order: of all rows.
        batch_size: rows of an optimizer step, over all processes.
        micro: rows on a device at once, at most.
        rank: of this process.
        world: how many processes there are.
    """

    def __init__(self, order: EpochSampler, batch_size: int, micro: int, rank: int, world: int) -> None:
        self.order, self.batch_size, self.micro, self.rank, self.world = order, batch_size, micro, rank, world

    def __len__(self) -> int:
        whole, rest = divmod(len(self.order), self.batch_size)
        return whole * self.parts(self.batch_size) + self.parts(rest)

    def __iter__(self) -> Iterator[list[int]]:
        rows = list(self.order)
        for start in range(0, len(rows), self.batch_size):
            batch = rows[start : start + self.batch_size]
            yield from split(batch[self.rank :: self.world], self.parts(len(batch)))

    def parts(self, rows: int) -> int:
        """How many micro-batches a batch of so many rows takes, the same on each process."""
        return -(-rows // (self.micro * self.world))


def split(rows: list[int], parts: int) -> list[list[int]]:
    """Rows in so many parts of nearly equal size.  Example: [1, 2, 3, 4, 5], 2 -> [[1, 2], [3, 4, 5]]"""
    bounds = [len(rows) * part // parts for part in range(parts + 1)]
    return [rows[low:high] for low, high in pairwise(bounds)]


def select_supervised(batch: Batch, multiple: int = 1) -> Batch:
    """The batch with the list of its supervised positions, so that the model computes no other logits.

    The head then computes (B, K, V) logits with K = 10 to 16 instead of (B, T, V): the same loss, less work.

    Args:
        batch: `input_ids`, `attention_mask` and `labels` (B, T), padded on the right.
        multiple: T and K become multiples of it. On a GPU 8, so that few shapes occur: each is recorded once.

    Returns:
        The batch with `logits_to_keep` and `shift_labels` (B, K) beside its own tensors.
    """
    rows = batch["labels"].tolist()
    # The logits at position t predict the token at t + 1.
    kept = [[t - 1 for t, label in enumerate(row) if t and label != IGNORE_INDEX] for row in rows]
    targets = [[row[t + 1] for t in positions] for row, positions in zip(rows, kept, strict=True)]
    fills = {"input_ids": 0, "attention_mask": 0, "labels": IGNORE_INDEX}  # any id, because the mask hides it
    missing = -len(rows[0]) % multiple
    return {
        **{name: nn.functional.pad(batch[name], (0, missing), value=fill) for name, fill in fills.items()},
        "logits_to_keep": pad(kept, 0, multiple),
        "shift_labels": pad(targets, IGNORE_INDEX, multiple),
    }


def pad(rows: Sequence[list[int]], value: int, multiple: int = 1) -> Tensor:
    """Rows of different length as one tensor, filled on the right.  Example: [[1, 2], [3]], 0 -> [[1, 2], [3, 0]]"""
    width = -(-max(1, *map(len, rows)) // multiple) * multiple
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=torch.long)


def choose_micro_batch(
    model: nn.Module, rows: ListLike[Row], collate: Callable[[list[Row]], Batch], batch_size: int
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


def kept_bytes(model: nn.Module, batch: Batch) -> int:
    """The bytes that a forward pass keeps for the backward pass, the weights aside."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would hold its own graph: a reference cycle that nothing frees

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**batch).loss  # alive until here, so that no storage is freed and its address used again
    del loss
    return sum(kept.values())
