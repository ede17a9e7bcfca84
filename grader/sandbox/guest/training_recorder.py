"""Records a training from below: the batches that reach the model, and the gradients at the first optimizer step.

It hooks what every training must call, the model's forward and an optimizer's step, so it sees the Trainer and a loop
written by hand alike; one that calls the layers without the output layer, too. What it notes is data for the grader,
which computes the same again and compares.
"""

import functools
import inspect
import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from transformers import LlamaForCausalLM, LlamaModel

NOTED = ("input_ids", "attention_mask", "labels", "shift_labels", "logits_to_keep")
LATER = 8  # batches of later steps that are kept
CLOSER = 0.01  # by so much more of a cosine, the gradients of a step are those of thrown away batches too


class TrainingRecorder:
    """What one training showed: `batches` and `gradients` of its first step, its weights before and after.

    Args:
        when_stepped: called once, when the first step is over, so that a training that dies later has shown it.
    """

    def __init__(self, when_stepped: Callable[["TrainingRecorder"], None]) -> None:
        self.when_stepped = when_stepped
        self.batches: list[dict[str, Any]] = []
        self.gradients: dict[str, torch.Tensor] = {}
        self.before: dict[str, torch.Tensor] = {}
        self.after: dict[str, torch.Tensor] = {}
        self.later: list[dict[str, Any]] = []
        self.seen, self.chance = 0, random.SystemRandom()  # whose seed nobody sets
        self.model: torch.nn.Module | None = None
        self.optimizers: list[str] = []
        self.frozen: list[str] = []  # LoRA weights that the first step does not train
        self.learned: list[bool] = []  # of each batch, whether a backward pass came back to it
        self.thrown: list[int] = []  # batches whose gradients were gone at the next one
        self.sums: tuple[dict[str, torch.Tensor], ...] = ({}, {})  # of gradients: all, and those since then
        self.hooks: list[Any] = []
        self.hidden: torch.Tensor | None = None
        self.stepped = self.went_on = self.training = self.inputs_require_gradients = self.is_inside = False
        self.forward, self.layers = LlamaForCausalLM.forward, LlamaModel.forward
        LlamaForCausalLM.forward, LlamaModel.forward = self.record_forward(), self.record_layers()
        register_optimizer_step_pre_hook(self.record_step)
        register_optimizer_step_post_hook(self.keep_weights)
        # Without it, the gradients of an honest training would be random, and could not be compared.
        torch.nn.Dropout.forward = lambda module, values: values

    def record_forward(self) -> Any:
        """A forward that shows its batch, where gradients can flow."""
        original, recorder = self.forward, self

        @functools.wraps(original)  # the Trainer reads its signature
        def forward(model: LlamaForCausalLM, *arguments: Any, **options: Any) -> Any:
            recorder.is_inside = True
            try:
                output = original(model, *arguments, **options)
            finally:
                recorder.is_inside = False
            if torch.is_grad_enabled():
                recorder.see(model, by_name(original, arguments, options), output)
            return output

        return forward

    def record_layers(self) -> Any:
        """A forward of the layers alone, which keeps their output, and notes a batch that goes into no whole model."""
        original, recorder = self.layers, self

        @functools.wraps(original)
        def forward(model: LlamaModel, *arguments: Any, **options: Any) -> Any:
            layers: Any = model.layers
            for layer in layers:
                layer.self_attn.attention_dropout = 0.0  # it is as random as any other
            output = original(model, *arguments, **options)
            recorder.hidden = output[0]
            if not recorder.is_inside and torch.is_grad_enabled():
                recorder.see(model, by_name(original, arguments, options), output)
            return output

        return forward

    def see(self, model: torch.nn.Module, options: dict[str, Any], output: Any) -> None:
        """Note a batch of the first step, or keep one of those after it."""
        if self.stepped and not self.went_on and not any(bool(gradient.any()) for gradient in self.gradients.values()):
            self.begin_anew()  # a step without a gradient, as some take before the training, is none
        if not self.stepped:
            self.note(model, options, output)
        elif self.model is model:
            self.go_on()
            self.keep(options)

    def go_on(self) -> None:
        """Leave the first step, if that has not been done: at the next one, or at the end."""
        if not self.went_on:
            self.went_on = True
            self.when_stepped(self)

    def begin_anew(self) -> None:
        """Forget what was noted of the first step."""
        self.stepped, self.gradients, self.before = False, {}, {}
        self.forget_batches()

    def forget_batches(self) -> None:
        """Forget the batches, and what their backward passes gave."""
        self.batches, self.learned, self.thrown, self.sums = [], [], [], ({}, {})

    def note(self, model: torch.nn.Module, options: dict[str, Any], output: Any) -> None:
        """Keep what went into forward, and the loss that came out."""
        if self.model is not model or (model.training and not self.training):
            self.model, self.training = model, model.training
            self.forget_batches()
            self.follow(model)
        if self.training and not model.training:
            return  # a look at some other rows, amid a training
        if any(self.learned) and not any(p.grad is not None and bool(p.grad.any()) for p in model.parameters()):
            # A look before the training; or its loop sums them up elsewhere, which `record_gradients` finds out.
            self.thrown += [at for at, is_learned in enumerate(self.learned) if is_learned]
            self.learned[:] = [False for _ in self.learned]
            self.sums = (self.sums[0], {})
        embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
        first = torch.zeros(1, 1, dtype=torch.long, device=embeddings.weight.device)
        self.inputs_require_gradients = embeddings(first).requires_grad
        given = {name: options[name] for name in NOTED if options.get(name) is not None}
        noted = {name: value.tolist() for name, value in given.items() if isinstance(value, torch.Tensor)}
        loss = getattr(output, "loss", None)
        self.batches.append({**noted, "loss": None if loss is None else float(loss.detach())})
        self.watch(self.learned, len(self.batches) - 1)

    def watch(self, learned: list[bool], place: int) -> None:
        """Note whether a backward pass comes back to a batch: one whose loss is only looked at is none of the step."""
        learned.append(False)
        if self.hidden is not None and self.hidden.requires_grad:
            self.hidden.register_hook(lambda _: learned.__setitem__(place, True))

    def follow(self, model: torch.nn.Module) -> None:
        """Sum up what backward passes give each weight that is trained, wherever that goes afterwards."""
        while self.hooks:
            self.hooks.pop().remove()
        trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.hooks += [parameter.register_hook(functools.partial(self.add, name)) for name, parameter in trained]

    def add(self, name: str, gradient: torch.Tensor) -> None:
        """Add a gradient to the sums, until the first step is taken."""
        for sums in self.sums if not self.stepped else ():
            sums[name] = sums.get(name, 0) + gradient.detach()

    def take_thrown(self) -> None:
        """Count batches whose gradients were thrown away where the step's are closer to the sum with them."""
        gradients = {name: p.grad for name, p in self.named_parameters() if p.grad is not None}
        everything, kept = (cosine(gradients, sums) for sums in self.sums)
        if everything > kept + CLOSER:
            for at in self.thrown:
                self.learned[at] = True

    def keep(self, options: dict[str, Any]) -> None:
        """Keep some batches after the first step, of those that hold labels and that a backward pass comes back to."""
        given = {name: value.tolist() for name in NOTED if isinstance(value := options.get(name), torch.Tensor)}
        if self.hidden is not None and self.hidden.requires_grad and {"labels", "shift_labels"} & set(given):
            self.hidden.register_hook(lambda _: self.choose(given))

    def choose(self, given: dict[str, Any]) -> None:
        """Keep a batch: each of them has the same chance."""
        self.seen += 1
        place = self.seen - 1 if self.seen <= LATER else self.chance.randrange(self.seen)
        if place < LATER:
            self.later[place : place + 1] = [given]

    def record_step(self, optimizer: Any, arguments: tuple, options: dict[str, Any]) -> Any:
        """Record the gradients before a step; where it computes them by a function, once that comes back.

        Returns:
            None, or what the step is called with instead: that function, watched.
        """
        closure: Any = arguments[1] if len(arguments) > 1 else options.get("closure")
        if not callable(closure) or any(parameter.grad is not None for _, parameter in self.named_parameters()):
            self.record_gradients(optimizer)
            return None

        def recorded() -> Any:
            loss = closure()
            self.record_gradients(optimizer)
            return loss

        if len(arguments) > 1:
            return (arguments[0], recorded, *arguments[2:]), options
        return arguments, {**options, "closure": recorded}

    def record_gradients(self, optimizer: Any) -> None:
        """Keep every gradient that there is, and at first the LoRA weights.

        Where each weight has an optimizer of its own, which steps amid the backward pass, the others' gradients too.
        """
        if self.went_on or self.model is None:
            return
        self.optimizers += [kind.__name__ for kind in type(optimizer).__mro__]
        if not self.stepped:
            self.stepped = True
            self.before = {name: p.detach().clone() for name, p in self.named_parameters() if "lora_" in name}
            self.frozen = [name for name, p in self.named_parameters() if name in self.before and not p.requires_grad]
            if self.thrown:
                self.take_thrown()
            if any(self.learned):
                self.batches = [
                    batch for batch, is_learned in zip(self.batches, self.learned, strict=True) if is_learned
                ]
        for name, parameter in self.named_parameters():
            if parameter.grad is not None and name not in self.gradients:
                self.gradients[name] = parameter.grad.detach().clone()

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """The weights by their names in the whole model, also where the layers alone were called."""
        if self.model is not None:
            yield from self.model.named_parameters(prefix="model" if isinstance(self.model, LlamaModel) else "")

    def keep_weights(self, *_: Any) -> None:
        """All weights after the last step, whatever is merged or loaded then; a tied one under one of its names."""
        if self.model is not None:
            self.after = {name: parameter.detach().clone() for name, parameter in self.named_parameters()}


def by_name(method: Any, arguments: tuple, options: dict[str, Any]) -> dict[str, Any]:
    """What a method is called with, by name, itself left out."""
    return dict(zip(list(inspect.signature(method).parameters)[1:], arguments, strict=False)) | options


def cosine(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The cosine of two sets of tensors over the names that both have; 0 where they have none."""
    pairs = [(one[name].flatten(), other[name].flatten()) for name in sorted(set(one) & set(other))]
    if not pairs:
        return 0.0
    first, second = (torch.cat([pair[at] for pair in pairs]) for at in (0, 1))
    return float(torch.nn.functional.cosine_similarity(first, second, dim=0))
