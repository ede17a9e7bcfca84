"""Forward and backward pass as one CUDA graph a batch shape: a GPU computes this job faster than Python asks for it.

One step of SmolLM2-360M is some ten thousand small kernels: the GPU waits for each to be launched. A graph is recorded
once and launched as a whole: the same kernels on the same numbers. A shape that is seen for the first time runs as
usual, which is the warm-up that recording needs; from the second time on there is a graph.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

Inputs = dict[str, Tensor]


class Recorded(NamedTuple):
    """A graph, the tensors that it reads, and the one that it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    items: Tensor
    loss: Tensor


class StepGraphs:
    """Computes the loss of a micro-batch and adds its gradients to the `.grad` of the trainable weights.

    Args:
        compute_loss: of a model, a batch and the number of labels in the whole batch.
        trainable: the weights that are trained.
    """

    def __init__(
        self, compute_loss: Callable[[nn.Module, Inputs, Tensor], Tensor], trainable: Sequence[Tensor]
    ) -> None:
        self.compute_loss, self.trainable = compute_loss, list(trainable)
        # A graph writes where it wrote when it was recorded, so the gradients must stay in one place.
        self.gradients = [torch.zeros_like(weight) for weight in self.trainable]
        self.seen: set[tuple] = set()
        self.recorded: dict[tuple, Recorded] = {}
        self.pool: Any = None  # a handle of torch's

    def run(self, model: nn.Module, inputs: Inputs, items: Tensor) -> Tensor:
        """The loss of one micro-batch, detached; its gradients are added to what is in `.grad`."""
        self.attach()
        shape = tuple((name, tuple(tensor.shape)) for name, tensor in inputs.items())
        if shape not in self.seen:
            self.seen.add(shape)
            return self.pass_aside(model, inputs, items)
        if shape not in self.recorded:
            self.recorded[shape] = self.record(model, inputs, items)
        graph, own_inputs, own_items, loss = self.recorded[shape]
        for name, tensor in inputs.items():
            own_inputs[name].copy_(tensor, non_blocking=True)
        own_items.copy_(items)
        graph.replay()
        return loss.clone()

    def attach(self) -> None:
        """Put our gradients, zeroed, where zero_grad() has left none."""
        if self.trainable[0].grad is None:
            torch._foreach_zero_(self.gradients)
            for weight, gradient in zip(self.trainable, self.gradients, strict=True):
                weight.grad = gradient

    def pass_both(self, model: nn.Module, inputs: Inputs, items: Tensor) -> Tensor:
        """Forward and backward pass."""
        loss = self.compute_loss(model, inputs, items)
        torch._foreach_add_(self.gradients, torch.autograd.grad(loss, self.trainable))
        return loss.detach()

    def pass_aside(self, model: nn.Module, inputs: Inputs, items: Tensor) -> Tensor:
        """As `pass_both`, on a stream of its own: libraries set themselves up there, as recording asks for."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            loss = self.pass_both(model, inputs, items)
        torch.cuda.current_stream().wait_stream(stream)
        return loss

    def record(self, model: nn.Module, inputs: Inputs, items: Tensor) -> Recorded:
        """Record a graph for the shape of a batch; nothing is computed yet. All graphs share their memory."""
        own_inputs, own_items = {name: tensor.clone() for name, tensor in inputs.items()}, items.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            loss = self.pass_both(model, own_inputs, own_items)
        self.pool = graph.pool()
        return Recorded(graph, own_inputs, own_items, loss)


def can_record(arguments: TrainingArguments) -> bool:
    """Whether the passes may become CUDA graphs: on one GPU, without recomputation or a scaler of gradients."""
    one_gpu = arguments.device.type == "cuda" and arguments.world_size == 1
    return one_gpu and not arguments.activation_checkpointing and not arguments.fp16
