"""Stops a training run before the first optimizer step that would learn nothing or destroy the adapter.

    python -m homework.sft train          # runs under it

A log callback is too late: when a NaN is printed, the adapter is NaN already. With the Trainer's NaN filter on it is
not even printed: a run without a single label then shows loss 0.0 and ends as a success.

| loss | gradient norm | supervised | cause                                                             |
|------|---------------|------------|-------------------------------------------------------------------|
| nan  | 0.0           | none       | every label is -100                                               |
| nan  | nan           | some       | the forward pass is not finite: float16, or a broken weight       |
| any  | 0.0           | some       | the loss does not depend on the adapter: a constant, or frozen    |
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback

from homework.data import IGNORE_INDEX
from homework.errors import HomeworkError


class WatchedTrainer(Trainer):
    """A Trainer that looks at every loss and every gradient before the optimizer does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.add_callback(GradientWatch())

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One micro-batch, as the Trainer does it.

        Raises:
            HomeworkError: naming the cause, if no label is left, or the loss is not finite or exactly zero.
        """
        where = f"stopped before step {self.state.global_step + 1}"
        supervised = int((inputs["labels"] != IGNORE_INDEX).sum())
        if supervised == 0:
            raise HomeworkError(
                f"{where}: every label of the batch is -100, so nothing is learned: mend tokenize's span"
            )
        loss = super().training_step(model, inputs, num_items_in_batch)
        if complaint := diagnose_loss(loss.item(), supervised, model):
            raise HomeworkError(f"{where}: {complaint}")
        return loss


class GradientWatch(TrainerCallback):
    """Checks the gradient before each optimizer step, and after the first one that every lora_B has moved."""

    def __init__(self) -> None:
        self.before: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        self.before = {name: p.detach().clone() for name, p in model.named_parameters() if "lora_B" in name}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients).item() if gradients else 0.0
        if complaint := diagnose_gradient(norm, model):
            raise HomeworkError(f"stopped before step {state.global_step + 1}: {complaint}")

    def on_step_end(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        if not self.before:
            return
        still = [name for name, old in self.before.items() if torch.equal(model.get_parameter(name), old)]
        self.before = {}  # once: later steps may be small
        if still:
            raise HomeworkError(
                f"stopped after step {state.global_step}: {len(still)} LoRA matrices did not move, first {still[0]}: "
                "the optimizer does not have them, or no gradient reaches them"
            )


def diagnose_loss(loss: float, supervised: int, model: nn.Module) -> str | None:
    """What is wrong with the loss of a batch with `supervised` labels, or None."""
    if not math.isfinite(loss):
        return f"the loss is {loss} with {supervised} supervised tokens: {explain_overflow(model)}"
    if loss == 0:
        return f"the loss is exactly 0.0 with {supervised} supervised tokens: it is a constant, or the labels are wrong"
    return None


def diagnose_gradient(norm: float, model: nn.Module) -> str | None:
    """What is wrong with a gradient of this norm, or None."""
    if not math.isfinite(norm):
        return f"the gradient norm is {norm}: {explain_overflow(model)}"
    if norm == 0:
        return (
            "the gradient norm is exactly 0.0: the loss does not depend on the adapter (a constant, or a frozen model)"
        )
    return None


def explain_overflow(model: nn.Module) -> str:
    """The most likely cause of a forward or backward pass that is not finite."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return (
                f"the weight {name} is not finite: fetch the checkpoint again, or lower --learning-rate if it is LoRA's"
            )
    if any(parameter.dtype == torch.float16 for parameter in model.parameters()):
        return "the base model is in float16, whose range overflows: load it in float32 or bfloat16"
    return "the forward or backward pass overflowed: lower --learning-rate"
