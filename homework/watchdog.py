"""Stops a training run before the first optimizer step that would learn nothing or destroy the adapter.

    python -m homework.sft train          # runs under it

A log callback is too late: when a NaN is printed, the adapter is NaN already. With the Trainer's NaN filter on it is
not even printed: a run without a single label then shows loss 0.0 and ends as a success.

| loss     | gradient norm | supervised | cause                                                         |
|----------|---------------|------------|---------------------------------------------------------------|
| nan      | 0.0           | none       | every label is -100                                           |
| nan      | nan           | some       | the forward pass is not finite: float16, or a broken weight   |
| any      | 0.0           | some       | the loss does not depend on the adapter: a constant, or frozen|
| jumps    | nan           | some       | a float16 scaler skips the steps: the learning rate stays     |
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from homework.data import IGNORE_INDEX
from homework.errors import HomeworkError
from homework.first_step import diagnose_batch, diagnose_loss_by_hand
from homework.lean import LeanTrainer


class WatchedTrainer(LeanTrainer):
    """A Trainer that looks at every loss and every gradient before the optimizer does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.first_batch = True
        self.add_callback(GradientWatch())

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One micro-batch, as the Trainer does it.

        Raises:
            HomeworkError: naming the cause, if no label is left, the batch is not made of the proved rows, no gradient
                reaches the adapter, or the loss is not finite, exactly zero, or not that of the labels.
        """
        where = f"stopped before step {self.state.global_step + 1}"
        supervised = int((inputs["labels"] != IGNORE_INDEX).sum())
        if supervised == 0:
            raise HomeworkError(
                f"{where}: every label of the batch is -100, so nothing is learned: mend tokenize's span"
            )
        if self.first_batch and (complaint := self.diagnose_first(model, inputs)):
            raise HomeworkError(f"{where}: {complaint}")
        self.first_batch = False
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        except RuntimeError as error:
            if not any(words in str(error) for words in UNREACHED):
                raise
            raise HomeworkError(f"{where}: {NO_GRADIENT}") from error
        if complaint := diagnose_loss(loss.item(), supervised, model):
            raise HomeworkError(f"{where}: {complaint}")
        return loss

    def diagnose_first(self, model: nn.Module, inputs: dict[str, Any]) -> str | None:
        """What is wrong with the first batch or its loss, or None."""
        return diagnose_batch(inputs, self.train_dataset) or diagnose_loss_by_hand(
            model, self._prepare_inputs(inputs), self.compute_loss
        )


class GradientWatch(TrainerCallback):
    """Checks the gradient before each optimizer step, after the first one that every lora_B has moved, then the log."""

    def __init__(self) -> None:
        self.before: dict[str, torch.Tensor] = {}
        self.trainable: list[nn.Parameter] = []
        self.rate = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        self.before = {name: p.detach().clone() for name, p in model.named_parameters() if "lora_B" in name}
        self.trainable = [p for p in model.parameters() if p.requires_grad]

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: nn.Module, optimizer: Any, **kwargs: Any
    ) -> None:
        self.rate = optimizer.param_groups[0]["lr"]
        gradients = [p.grad for p in self.trainable if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients).item() if gradients else 0.0
        if complaint := diagnose_gradient(norm, model):
            raise HomeworkError(f"stopped before step {state.global_step + 1}: {complaint}")

    def on_step_end(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        if not self.before or self.rate == 0:  # a warm-up begins with a step of nothing
            return
        still = [name for name, old in self.before.items() if torch.equal(model.get_parameter(name), old)]
        self.before = {}  # once: later steps may be small
        if still:
            raise HomeworkError(
                f"stopped after step {state.global_step}: {len(still)} LoRA matrices did not move, first {still[0]}: "
                "the optimizer does not have them, or no gradient reaches them"
            )

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if complaint := diagnose_log(state.log_history[-3:]):
            raise HomeworkError(f"stopped after step {state.global_step}: {complaint}")


UNREACHED = ("does not require grad", "not to have been used in the graph")  # how torch says that no gradient arrives
KEYS = ("step", "loss", "grad_norm", "learning_rate")
NO_GRADIENT = (
    "no gradient reaches the adapter: checkpointing needs enable_input_require_grads(), and nothing may detach the "
    "logits or set inference_mode"
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
            "the gradient norm is exactly 0.0: the loss does not depend on the adapter (a constant in place of the "
            "loss, gradients set to zero, a frozen model, or a --learning-rate so high that nothing is left to learn)"
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
    return "the forward or backward pass overflowed: lower --learning-rate, and compute in float32 or bfloat16"


def diagnose_log(log: Sequence[dict]) -> str | None:
    """What is wrong with a log of `loss`, `grad_norm` and `learning_rate` at `step`, or None.

    A gradient scaler skips a step, and with it the scheduler's, whenever a float16 gradient overflows. Without one,
    such a gradient would make the weights NaN. So a gradient norm that is not finite, with a real loss at the next
    step, is a step not taken, and the learning rate stays behind its schedule.
    """
    steps = [{key: float(entry[key]) for key in KEYS} for entry in log if all(key in entry for key in KEYS)]
    skipped = [
        (early, late)
        for early, late in pairwise(steps)
        if not math.isfinite(early["grad_norm"]) and math.isfinite(late["loss"]) and late["loss"] != 0
    ]
    if skipped:
        first, then = (entry["learning_rate"] for entry in skipped[0])
        rate = f"stays at {first:.3g}" if first == then else f"falls from {first:.3g} to {then:.3g} only"
        return (
            f"{len(skipped)} of {len(steps)} steps were skipped by a float16 gradient scaler (the gradient norm is "
            f"{skipped[0][0]['grad_norm']}, the learning rate {rate}): no fp16=True, train in bfloat16 or float32"
        )
    for entry in steps:
        for key in ("loss", "grad_norm"):
            if not math.isfinite(entry[key]) or entry[key] == 0:
                cause = explain_values(entry["loss"], entry["grad_norm"])
                return f"{key} was {entry[key]} at step {entry['step']:.0f}: {cause}"
    return None


def explain_values(loss: float, norm: float) -> str:
    """The cause that a logged pair of loss and gradient norm points to, where the model is gone."""
    if norm == 0 and (loss == 0 or math.isnan(loss)):
        return "every label was -100"
    if norm == 0:
        return "the loss was a constant, or the gradients were set to zero"
    if not math.isfinite(norm):
        return "the forward or backward pass was not finite, most likely in float16"
    return "the loss was not that of the labels"
