"""The order of the training rows: shuffled, nearly sorted by length, and the same after an interruption.

    python -m homework.sft train          # trains in this order

There is one order for all processes; each takes its share of every batch, so no row is left out or repeated.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer

from homework import processes

MEGA = 16  # batches that are sorted by length together: padding of 5 % where 7, transformers' choice here, leave 11 %


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


class ResumableTrainer(Trainer):
    """A Trainer whose resumed run gives the weights of an uninterrupted one, bit for bit on a CPU."""

    def get_train_dataloader(self) -> DataLoader:
        """The batches of this process. The Trainer's own would repeat rows where the last batch can't be shared."""
        rows, micro, world = self.train_dataset, self.args.train_batch_size, processes.world()
        lengths = [len(rows[index]["input_ids"]) for index in range(len(rows))]
        size = micro * self.args.gradient_accumulation_steps * world
        # A resumed state stands inside its epoch, or exactly at the start of the next one.
        order = EpochSampler(lengths, size, self.args.seed, lambda: int(self.state.epoch or 0))
        batches = MicroBatches(order, size, micro, processes.rank(), world)
        return DataLoader(rows, batch_sampler=batches, collate_fn=self.data_collator)
