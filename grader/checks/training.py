"""homework/sft.py: a short training, watched: what reaches the model, its gradients, and what is saved."""

from typing import Any

import torch

from grader.adapter import read_config, read_weights
from grader.checks.loading import refuse_failed_training
from grader.course import Course
from grader.errors import Refusal
from grader.harness.first_step import first_adapter, in_batches, refuse_other_loss, refuse_wrong_gradients
from grader.harness.gradients import compute_loss, read_tensors
from grader.harness.harness import Harness
from grader.harness.learning import refuse_nothing_learned
from grader.harness.seen_rows import (
    batches_of,
    examples_of,
    later_rows,
    refuse_changed_questions,
    refuse_foreign_rows,
    refuse_held_out,
    refuse_more_words,
    refuse_wrong_padding,
    refuse_wrong_pairs,
    refuse_wrong_rows,
    seen_rows,
)
from grader.rubric import CONFIG, WEIGHTS
from grader.runner import needs

MOST_MERGED = 4e-6  # times the largest number of a weight of the base: by how much rounding may change it
NO_RATE = "save the model that was trained; on 64 rows, let no single step have learning rate 0"


def test_batch(code: Harness, course: Course) -> None:
    """The batches that reach the model still have exactly tokenize's labels, and their loss is the reference's."""
    rows = seen_rows(code, code.training)
    examples = examples_of(code, [ids for ids, _ in rows])
    refuse_more_words(code, [ids for ids, _ in rows])
    refuse_wrong_padding(code, course, examples)
    refuse_wrong_rows(code, course, rows, "in a batch that reaches the model")
    losses: list[Any] = [batch.get("loss") for batch in batches_of(code.training)]
    if all(isinstance(loss, float) for loss in losses):
        first, batches = first_adapter(code.training, course), in_batches(code.training, examples)
        refuse_other_loss(losses, lambda rows: compute_loss(course.base.model, first, rows), batches)
    elif any(labels is None for _, labels in rows):  # then only the gradients say what was supervised
        refuse_wrong_gradients(code.training, course, examples)
    later = later_rows(code)
    refuse_wrong_rows(code, course, later, "in a batch after the first step")
    refuse_changed_questions(code, [*rows, *later])
    refuse_held_out(code, [*rows, *later])
    refuse_foreign_rows(code, [*rows, *later])
    refuse_wrong_pairs(code, [*rows, *later])


@needs("batch")
def test_gradients(code: Harness, course: Course) -> None:
    """The gradients of the first step are finite, not zero, only on LoRA weights, and those of the right labels."""
    examples = examples_of(code, [ids for ids, _ in seen_rows(code, code.training)])
    refuse_wrong_gradients(code.training, course, examples)


@needs("batch")
def test_input_gradients(code: Harness) -> None:
    """The inputs of the layers require a gradient, so that re-entrant checkpointing trains the adapter too."""
    if code.training.value("input gradients") is not True:
        raise Refusal("the inputs of the layers require no gradient: re-entrant checkpointing would train "
                      "nothing", do="model.enable_input_require_grads() after get_peft_model")  # fmt: skip


def test_trains(code: Harness, course: Course) -> None:
    """train_model saves an adapter in homework/sft_model whose every lora_B has moved and whose loss is lower."""
    refuse_failed_training(code.training, lambda: code.loading, "load", WEIGHTS)
    batches_of(code.training)  # an adapter that no step has made is none of this training
    files = code.training.files
    for name in (CONFIG, WEIGHTS):
        if name not in files:
            raise Refusal(f"train_model came to its end, but there is no homework/{name}",
                          do="save the adapter there: load() and the zip expect it")  # fmt: skip
    adapter = read_weights(files[WEIGHTS], read_config(files[CONFIG]), course.base_config, untrained=NO_RATE)
    still = sorted(name for name, tensor in adapter.weights.items() if ".lora_B." in name and not bool(tensor.any()))
    if still:
        raise Refusal(f"{len(still)} of the lora_B weights have not moved, first {still[0][:80]}",
                      do="give all LoRA weights to the optimizer")  # fmt: skip
    refuse_nothing_learned(code, course, adapter)
    refuse_changed_base(read_tensors(files.get("after.safetensors")), course)


def refuse_changed_base(after: dict[str, torch.Tensor], course: Course) -> None:
    """Refuse a training that changed the base model itself."""
    base = dict(course.base.model.named_parameters())
    seen = {name.replace(".base_layer", ""): tensor for name, tensor in after.items() if "lora_" not in name}
    if missing := sorted(set(base) - set(seen)):
        raise Refusal(f"{len(missing)} weights of the base model are not in the model that was trained, first "
                      f"{missing[0][:80]}", do="train what get_peft_model makes of the course's base")  # fmt: skip
    same = {name for name in set(seen) & set(base) if is_same(seen[name], base[name].detach())}
    changed = sorted(set(seen) & set(base) - same)
    if changed:
        raise Refusal(f"training changed {len(changed)} weights of the base model, first {changed[0][:80]}",
                      do="train LoRA weights only: the base is the same for everybody")  # fmt: skip


def is_same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether a weight of the base is unchanged, but for a LoRA that was merged and taken out again.

    As it was, or as it is when the base is loaded in half precision.
    """
    slack = MOST_MERGED * float(wanted.abs().max())
    loaded = wanted, wanted.bfloat16().float(), wanted.half().float()
    return any(found.shape == one.shape and bool(((found - one).abs() <= slack).all()) for one in loaded)
