"""What must hold at the first step: LoRA and nothing else is trained, on the proved labels, by their own loss.

    python -m homework.sft train          # checks it before the first optimizer step

Later steps repeat the first one, so it is looked at closely and the others only for their values (watchdog.py).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback

from homework.data import IGNORE_INDEX, Row
from homework.errors import HomeworkError


def lora_formula(model: PeftModel, rank: int) -> int:
    """The number of parameters of LoRA on all linear layers but the head: rank x (inputs + outputs) each (Hu 2021).

    Example: one layer of 192 x 192 at rank 16 -> 16 * (192 + 192) = 6144
    """
    head = model.get_output_embeddings()
    base = [getattr(module, "base_layer", module) for name, module in model.named_modules() if "lora_" not in name]
    linear = {id(layer): layer for layer in base if isinstance(layer, nn.Linear) and layer is not head}
    return sum(rank * (layer.in_features + layer.out_features) for layer in linear.values())


def check_trainable(model: Any, rank: int) -> None:
    """Make sure that LoRA is all that will be trained.

    Raises:
        HomeworkError: if the model has no adapter, its base is not frozen, or the count is not LoRA's formula.
    """
    if not isinstance(model, PeftModel):
        raise HomeworkError(
            f"the model to train is a {type(model).__name__} without an adapter: train what get_peft_model returns "
            "(enable_input_require_grads returns None)"
        )
    if any(p.dtype == torch.float16 for p in model.parameters()):
        raise HomeworkError("the model is in float16, whose range overflows to NaN: load it in float32 or bfloat16")
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    if foreign := [name for name in names if "lora_" not in name]:
        raise HomeworkError(
            f"the base model is not frozen: {len(foreign)} of its weights would be trained, first {foreign[0]}, and "
            "the adapter would not hold them"
        )
    count, expected = sum(model.get_parameter(name).numel() for name in names), lora_formula(model, rank)
    if count != expected:
        raise HomeworkError(
            f"{count:,} parameters would be trained, but LoRA of rank {rank} on all linear layers has {expected:,}: "
            "target_modules must be 'all-linear', and the adapter loaded for training"
        )


class StepCount(TrainerCallback):
    """Stops a run of another number of steps than the flags ask for, so that no flag is ignored in silence."""

    def __init__(self, rows: int, batch_size: int, epochs: int, max_steps: int | None) -> None:
        self.expected = max_steps or epochs * -(-rows // batch_size)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.max_steps != self.expected:
            raise HomeworkError(
                f"the run would take {state.max_steps} steps, but the flags ask for {self.expected}: a value is set in "
                "the code, where the flag should go to TrainingArguments"
            )


def diagnose_batch(inputs: dict[str, torch.Tensor], rows: Sequence[Row]) -> str | None:
    """Whether a batch holds proved rows and their labels, or what the collator made of them."""
    every = (rows[index] for index in range(len(rows)))
    proved = {tuple(strip(row["input_ids"], row["attention_mask"])): row for row in every}
    for ids, mask, labels in zip(
        *(inputs[name].tolist() for name in ("input_ids", "attention_mask", "labels")), strict=True
    ):
        row = proved.get(tuple(strip(ids, mask)))
        if row is None:
            return "the collator gives the model ids that are in no proved row: it may only pad them, on the right"
        wanted = strip(row["labels"], row["attention_mask"])
        if labels != wanted + [IGNORE_INDEX] * (len(labels) - len(wanted)):
            return (
                "the labels that reach the model are not those of tokenize: the collator rebuilds them "
                "(DataCollatorForLanguageModeling does); pad the labels with -100 and keep them"
            )
    return None


def strip(values: list[int], mask: list[int]) -> list[int]:
    """The values where the mask is 1."""
    return [value for value, kept in zip(values, mask, strict=True) if kept]


@torch.no_grad()
def diagnose_loss_by_hand(model: nn.Module, inputs: dict[str, torch.Tensor], compute_loss: Callable) -> str | None:
    """Whether the loss of the first rows is -log p of their supervised tokens, computed here from the logits.

    A constant, a second shift, or a mean that counts masked tokens gives another number.
    """
    few = {name: tensor[:2] for name, tensor in inputs.items()}
    training, _ = model.training, model.eval()
    given = float(compute_loss(model, dict(few)))
    logits = model(input_ids=few["input_ids"], attention_mask=few["attention_mask"]).logits.float()
    model.train(training)
    targets = few["labels"][:, 1:].flatten()
    expected = float(cross_entropy(logits[:, :-1].flatten(0, 1), targets, ignore_index=IGNORE_INDEX))
    if not math.isfinite(given):
        return None  # named by the watchdog, with its cause
    if not math.isfinite(expected):
        return (
            f"the loss is given as {given:g}, but the model's logits make it {expected}: somebody replaces a NaN by a "
            "number, which hides it and teaches nothing; find its cause"
        )
    if abs(given - expected) > 0.02 * max(1.0, expected):  # bfloat16 has three digits
        return (
            f"the loss is {given:.4f}, but -log p of the supervised tokens is {expected:.4f}: somebody replaced the "
            "loss, shifted the labels twice, or counts masked tokens"
        )
    return None
