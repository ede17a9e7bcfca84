"""Proof that the fast passes compute the plain loss: against every row alone, with all logits, in float32 on a CPU.

python -m benchmarks.proof                                       # bundled size
SMOLLM2_TOKENIZER=folder python -m benchmarks.proof --size full  # SmolLM2-360M's shape, some minutes
"""

from collections.abc import Iterator

import torch
from torch.nn.functional import cross_entropy

from benchmarks.full_size import base_model
from homework.base_llm import BaseLLM
from homework.common.cli import run
from homework.data import IGNORE_INDEX, Dataset, Row
from homework.sft import Collator, TokenizedDataset, add_lora, format_example
from homework.training.batches import select_supervised
from homework.training.recipe import choose_recipe

Model = torch.nn.Module


def plain_losses(model: Model, rows: list[Row], items: int) -> Iterator[torch.Tensor]:
    """The share of each row in the loss: no padding, no selection of positions, no loss of the library."""
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"][1:])
        logits = model(input_ids=ids).logits[0, :-1].float()
        yield cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum") / items


def fast_losses(model: Model, rows: list[Row], items: int, micro: int, pad_id: int) -> Iterator[torch.Tensor]:
    """The share of each micro-batch in the loss, as the training computes it."""
    for start in range(0, len(rows), micro):
        batch = select_supervised(Collator(pad_id)(rows[start : start + micro]))
        yield model(**batch, num_items_in_batch=torch.tensor(items)).loss


def add_up(model: Model, losses: Iterator[torch.Tensor]) -> tuple[float, torch.Tensor]:
    """The whole loss, and the gradient of all trained weights as one vector."""
    model.zero_grad()
    total = 0.0
    for loss in losses:
        loss.backward()
        total += loss.item()
    return total, torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]).clone()


def main(*, size: str = "bundled", micro: int = 8, rows: int = 32) -> None:
    """Print how far loss and gradient are from the plain ones.

    Args:
        size: bundled or full.
        micro: rows of a micro-batch.
        rows: rows of the batch.
    """
    with base_model(size) as base:
        llm = BaseLLM(base)
        model = add_lora(llm.model.float(), choose_recipe(llm.name, {}), seed=0).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # else half of the gradients are zero
            torch.nn.init.normal_(parameter, std=0.02)
    data = Dataset("train")
    batch = TokenizedDataset(llm.tokenizer, [data[index] for index in range(rows)], format_example).rows
    items = sum(label != IGNORE_INDEX for row in batch for label in row["labels"])
    loss, gradient = add_up(model, fast_losses(model, batch, items, micro, llm.pad_id))
    plain, reference = add_up(model, plain_losses(model, batch, items))
    off = (gradient - reference).norm() / reference.norm()
    print(
        f"loss {loss:.6f}, plain {plain:.6f}: off by {abs(loss / plain - 1):.1e}; gradient off by {off:.1e} (relative)"
    )


if __name__ == "__main__":
    run(main, "python -m benchmarks.proof")
