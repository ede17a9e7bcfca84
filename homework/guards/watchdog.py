"""Stops a training before the first optimizer step that would learn nothing or destroy the adapter.

The first step is looked at closely: what is trained, whether the batch is made of the checked rows, and whether the
loss is that of their labels. Later steps repeat it, so only their values are checked, before the optimizer takes them.
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
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback, TrainingArguments
from transformers.pytorch_utils import Conv1D

from homework.common.errors import HomeworkError
from homework.data import IGNORE_INDEX, ListLike, Row
from homework.guards.label_check import plain_row
from homework.guards.label_diagnosis import FIELDS

UNREACHED = ("does not require grad", "not to have been used in the graph")  # how torch says that no gradient arrives
# What a LoraConfig may set, and what says only how an adapter was made: grader/adapter.py has the same.
CHOSEN = {"r", "lora_alpha", "target_modules", "use_rslora", "lora_dropout"}
SAID = {"base_model_name_or_path", "peft_type", "task_type", "inference_mode", "peft_version", "auto_mapping"}
READ_PAST = {"exclude_modules", "layers_to_transform", "layers_pattern"}  # the layers that have LoRA show it
READ_PAST |= {"eva_config", "corda_config", "loftq_config", "lora_ga_config"}  # init_lora_weights takes one of them
HARMLESS = {"init_lora_weights": ("gaussian", "orthogonal", "eva")}  # with others the base model would change
KEYS = ("step", "loss", "grad_norm", "learning_rate")
PASSED_ON = ": train_model gives what it is given to training_arguments, and that to HomeworkArguments"
NO_GRADIENT = (
    "no gradient reaches the adapter: checkpointing needs enable_input_require_grads(), and nothing may detach the "
    "logits or set inference_mode"
)


def lora_formula(model: PeftModel, rank: int) -> int:
    """The number of parameters of LoRA on the layers that have it: rank x (inputs + outputs) each (Hu 2021).

    Example: one layer of 192 x 192 at rank 16 -> 16 * (192 + 192) = 6144
    """
    layers: list[Any] = [module.get_base_layer() for module in model.modules() if isinstance(module, LoraLayer)]
    return sum(rank * sum(layer.weight.shape) for layer in layers)  # a Conv1D of GPT-2's has inputs x outputs


def find_bare_layers(model: PeftModel) -> list[str]:
    """The names of the linear layers without LoRA, the head aside.  Example: ['k_proj', 'o_proj']"""
    head, kinds = model.get_output_embeddings(), (nn.Linear, Conv1D)
    linear = [name for name, module in model.named_modules() if isinstance(module, kinds) and module is not head]
    own = [name.rpartition(".")[2] for name in linear if "lora_" not in name]
    return sorted(set(own) - {"base_layer"})


def check_config(model: PeftModel) -> None:
    """Make sure that the grader will take the adapter.

    Raises:
        HomeworkError: if its LoraConfig sets what changes more than linear layers, or LoRA is on the output layer.
    """
    given, plain = model.peft_config["default"].to_dict(), LoraConfig().to_dict()
    own = {"fan_in_fan_out"} if any(isinstance(layer, Conv1D) for layer in model.modules()) else set()  # peft sets it
    for name in sorted(set(plain) - CHOSEN - SAID - READ_PAST - own):
        if given[name] not in (plain[name], None, False, *HARMLESS.get(name, ())):
            raise HomeworkError(f"add_lora sets {name} to {given[name]!r:.40}, which the grader refuses\nleave it out")
    if any(isinstance(layer, LoraLayer) for layer in (model.get_input_embeddings(), model.get_output_embeddings())):
        raise HomeworkError(
            "LoRA is on the output layer (lm_head) or the embeddings, which the grader refuses"
            "\ntarget_modules='all-linear' leaves both out"
        )
    targets = given["target_modules"]
    linear = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))]
    if not isinstance(targets, str) and (left := [name for name in linear if name.rpartition(".")[2] in targets]):
        raise HomeworkError(f"{len(left)} of the target_modules have no LoRA, which the grader refuses: {left[0]:.80}")


def check_trainable(model: Any, rank: int) -> None:
    """Make sure that LoRA is all that will be trained.

    Raises:
        HomeworkError: if the model has no adapter, its base is not frozen, or the count is not LoRA's formula.
    """
    if not isinstance(model, PeftModel):
        raise HomeworkError(
            f"the model to train is a {type(model).__name__} without an adapter"
            "\ntrain what get_peft_model returns (enable_input_require_grads returns None)"
        )
    if any(p.dtype == torch.float16 for p in model.parameters()):
        raise HomeworkError("the model is in float16, whose range overflows to NaN: load it in float32 or bfloat16")
    check_config(model)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    if foreign := [name for name in names if "lora_" not in name]:
        raise HomeworkError(
            f"the base model is not frozen: {len(foreign)} of its weights would be trained, first {foreign[0]}, and "
            "the adapter would not hold them\nget_peft_model freezes the base: set requires_grad nowhere"
        )
    count, expected = sum(model.get_parameter(name).numel() for name in names), lora_formula(model, rank)
    if count != expected:
        raise HomeworkError(
            f"{count:,} parameters would be trained, but LoRA of the recipe's rank, {rank}, has {expected:,} on these "
            "layers"
            "\ntake the recipe's rank, which --rank changes, and set requires_grad nowhere"
        )
    if bare := find_bare_layers(model):
        print(f"LoRA is on some of the linear layers only, not on {', '.join(bare)}; on all of them, it learns faster")


def check_input_gradients(model: PeftModel) -> None:
    """Make sure that checkpointing of the re-entrant kind would train the adapter too.

    Raises:
        HomeworkError: if what the embeddings give requires no gradient, so that such a block would cut the adapter off.
    """
    embeddings = model.get_input_embeddings()
    if not embeddings(torch.zeros(1, 1, dtype=torch.long, device=model.device)).requires_grad:
        raise HomeworkError(
            "the inputs of the layers require no gradient, so re-entrant checkpointing would train nothing"
            "\nadd_lora has to call enable_input_require_grads() on the model"
        )


def check_alpha(model: PeftModel, alpha: int) -> None:
    """Raise HomeworkError unless the scale of LoRA is the recipe's: another one is not what was asked for."""
    given = model.peft_config["default"].to_dict()["lora_alpha"]
    if given != alpha:
        raise HomeworkError(f"the LoraConfig has lora_alpha {given}, but recipe and flags say {alpha}\npass it on")


def check_seed(one: PeftModel, other: PeftModel) -> None:
    """Raise HomeworkError unless two adapters, made with the same seed, have the same first values."""
    others = dict(other.named_parameters())
    if any("lora_" in name and not torch.equal(value, others[name]) for name, value in one.named_parameters()):
        raise HomeworkError("add_lora gives other first values each time with the same seed\nset_seed comes before")


def check_arguments(args: TrainingArguments, wanted: dict[str, float]) -> None:
    """Make sure that no flag is ignored in silence.

    Args:
        args: what training_arguments has made.
        wanted: values by the name of their field, as recipe and flags have them.

    Raises:
        HomeworkError: naming the field whose value is another, or that makes a larger batch, half precision or a loss
            of other labels.
    """
    if args.fp16:
        raise HomeworkError("training_arguments sets fp16, whose range overflows to NaN\nleave the precision as it is")
    if args.label_smoothing_factor:
        raise HomeworkError(
            "training_arguments sets label_smoothing_factor, which needs the logits of all positions: only those of "
            "supervised ones are computed here\nleave it at 0"
        )
    for name, value in {"gradient_accumulation_steps": 1, **wanted}.items():
        given = getattr(args, name)
        if not isinstance(given, int | float):
            raise HomeworkError(f"{name} is {given!r} in the arguments, but recipe and flags say {value:g}{PASSED_ON}")
        if not math.isclose(given, value, rel_tol=1e-9):
            raise HomeworkError(
                f"{name} is {given:g} in the arguments, but recipe and flags say {value:g}{PASSED_ON}"
                "\npass on what is given, and set no number in the code"
            )


def diagnose_batch(inputs: dict[str, torch.Tensor], rows: ListLike[Row]) -> str | None:
    """Whether a batch holds checked rows and their labels, or what the collator made of them."""
    if complaint := diagnose_tensors(inputs):
        return complaint
    every = (plain_row(rows[index]) for index in range(len(rows)))
    checked = {tuple(strip(row["input_ids"], row["attention_mask"])): row for row in every}
    for ids, mask, labels in zip(*(inputs[name].tolist() for name in FIELDS), strict=True):
        row = checked.get(tuple(strip(ids, mask)))
        if row is None and any(sum(mask) < len(own) and own == tuple(ids[: len(own)]) for own in checked):
            return (
                "the collator's attention_mask hides a token of a row, its EOS\nthe mask is made by length, not by ids"
            )
        if row is None and any(tuple(ids[:end]) in checked for end in range(len(ids))):
            return "the collator's attention_mask is 1 where padding stands\nthe mask is padded with 0"
        if row is None:
            return "the collator gives the model ids that are in no checked row\nit may only pad them, on the right"
        if not mask[0] and row["attention_mask"][0]:  # tokenize may have padded its rows so
            return "the collator pads on the left, and training needs the padding on the right"
        if complaint := diagnose_batch_labels(labels, mask, strip(row["labels"], row["attention_mask"])):
            return complaint
    return None


def diagnose_tensors(inputs: Any) -> str | None:
    """What a collator returns that is no batch of ids, mask and labels."""
    if not isinstance(inputs, Mapping):
        return f"the collator returns {inputs!r:.60}, not a dictionary of tensors"
    if missing := [name for name in FIELDS if name not in inputs]:
        return f"the collator returns {', '.join(inputs)} without {', '.join(missing)}"
    for name in FIELDS:
        if not torch.is_tensor(inputs[name]) or inputs[name].dtype not in (torch.long, torch.int):
            kind = getattr(inputs[name], "dtype", type(inputs[name]).__name__)
            return f"the collator's {name} is {kind}, not a tensor of whole numbers"
    return None


def diagnose_batch_labels(labels: list[int], mask: list[int], wanted: list[int]) -> str | None:
    """What a collator made of the labels of one row, whose own are `wanted`."""
    if padding := set(strip(labels, [1 - kept for kept in mask])) - {IGNORE_INDEX}:
        return f"the collator gives padding the label {min(padding)}, so it is learned\npad the labels with -100"
    if (found := strip(labels, mask)) != wanted:
        return (
            "the labels that reach the model are not those of tokenize: the collator rebuilds them "
            f"(DataCollatorForLanguageModeling does), to ...{found[-4:]} from ...{wanted[-4:]}"
            "\npad the labels with -100 and keep them"
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
