"""A Trainer that does less beside the passes of each step, and launches these as one where there is a GPU.

    python -m homework.sft train          # trains with it

The Trainer walks through all modules of the model several times a step: for the norm, and to count operations that
nobody reads. LoRA has ten modules for each layer, so that walk takes longer than a GPU needs for the step.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from torch import nn
from transformers import TrainingArguments

from homework.graphs import StepGraphs
from homework.sampling import ResumableTrainer


class LeanTrainer(ResumableTrainer):
    """The same numbers as the Trainer's, with less work beside them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.graphs = StepGraphs(self.graph_loss, self.trainable) if can_record(self.args) else None

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: counting walks through the whole model each step, and nobody reads it."""
        return 0

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor:
        return nn.utils.clip_grad_norm_(self.trainable, self.args.max_grad_norm)

    def compute_loss(self, model: nn.Module, *arguments: Any, **options: Any) -> Any:
        """The loss, as the Trainer computes it; beside a bfloat16 base, LoRA multiplies in bfloat16 too."""
        with half_products(self.model):
            return super().compute_loss(model, *arguments, **options)

    def graph_loss(self, model: nn.Module, inputs: dict[str, Any], items: torch.Tensor) -> torch.Tensor:
        """The loss of one micro-batch of a step with so many labels."""
        return self.compute_loss(model, inputs, num_items_in_batch=items)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One micro-batch, as the Trainer does it, or as a CUDA graph."""
        if self.graphs is None or not torch.is_tensor(num_items_in_batch):
            return super().training_step(model, inputs, num_items_in_batch)
        if not model.training:
            model.train()
        return self.graphs.run(model, self._prepare_inputs(inputs), num_items_in_batch)


@contextlib.contextmanager
def half_products(model: nn.Module) -> Iterator[None]:
    """Multiply in bfloat16 where the base is in bfloat16 on a GPU; the adapter itself stays in float32.

    Else each LoRA layer turns its input into float32 and back, and multiplies without the GPU's matrix units. The cache
    of autocast is off because a graph must not find weights there that were cast outside of it.
    """
    base = next(model.parameters())
    if base.device.type != "cuda" or base.dtype != torch.bfloat16:
        yield
        return
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False), disable_input_dtype_casting(model):
        yield


def can_record(arguments: TrainingArguments) -> bool:
    """Whether the passes may become CUDA graphs: on one GPU, without recomputation or a scaler of gradients."""
    one_gpu = arguments.device.type == "cuda" and arguments.world_size == 1
    return one_gpu and not arguments.activation_checkpointing and not arguments.fp16
