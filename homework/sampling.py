"""The order of the training rows: shuffled, nearly sorted by length, and the same after an interruption.

python -m homework.sft train          # trains in this order
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import Trainer

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


class ResumableTrainer(Trainer):
    """A Trainer whose resumed run gives the weights of an uninterrupted one, bit for bit on a CPU."""

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        rows = self.train_dataset
        lengths = [len(rows[index]["input_ids"]) for index in range(len(rows))]
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        # A resumed state stands inside its epoch, or exactly at the start of the next one.
        return EpochSampler(lengths, size, self.args.seed, lambda: int(self.state.epoch or 0))
