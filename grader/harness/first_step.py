"""The first optimizer step: whether its loss and its gradients are those of the rows that reached the model."""

import itertools
from collections.abc import Callable

import torch

from grader import rubric
from grader.adapter import ADAPTER_NAME, Adapter, Config, name_in_file, named_shapes, read_config, targets_of
from grader.course import Course
from grader.errors import Refusal
from grader.harness.gradients import (
    IN_MEMORY,
    Example,
    Gradients,
    compute_step,
    cosine,
    norm,
    read_tensors,
    rows_of,
    split,
    with_other_digits,
)
from grader.harness.job_report import JobReport
from grader.harness.seen_rows import LOOK, batches_of
from grader.harness.tokenizers import make_families
from grader.rubric import CONFIG

LOSS_TOLERANCE = 0.02  # relative: a loss in bfloat16 is right, a loss over other tokens is not
LEAST_COSINE = 0.95  # a mean of micro-batches' means has 0.98 and above; the question supervised too, 0.93
SAME = 0.999  # a cosine of gradients that can't be told apart
MOST_NORM = 3.0  # times the reference's, under an optimizer that minds it: clipping makes it smaller
NORMALISING = ("adam", "adagrad", "adadelta", "adafactor", "lion", "muon", "rmsprop", "rprop")  # in their names
# Times the share of the rows' own gradient: that of the same rows with other digits; right ones < 0.01.
MOST_OTHER = 0.5
SHIFT = (
    "keep tokenize's labels; in a loss of your own, shift them by one (logits[:, :-1] against labels[:, 1:]), and "
    "leave out those of -100"
)


def first_adapter(report: JobReport, course: Course, config_file: str = CONFIG) -> Adapter:
    """The LoRA weights of the first step of a training, under the names of a saved adapter."""
    seen = read_tensors(report.files.get("before.safetensors"))
    weights = {name_in_file(name): tensor for name, tensor in seen.items()}
    ranks = [len(tensor) for name, tensor in weights.items() if "lora_A" in name and tensor.dim() == 2]
    if not ranks:
        refuse_no_step(report)
        raise Refusal("the model that was trained has no LoRA weights", do="train what get_peft_model gives")
    saved, rank = report.files.get(config_file), min(ranks)
    config = read_config(saved) if saved else None  # what is not graded has its name there
    targets = targets_of(weights)
    if not set(targets) <= set(rubric.TARGETS):
        raise Refusal(f"LoRA on {targets!s:.120} is not graded", expected=", ".join(rubric.TARGETS))
    wanted = named_shapes(weights, Config(rank, 1.0, targets, False), course.base_config)
    if not 1 <= rank <= rubric.MAX_RANK or {name: tuple(tensor.shape) for name, tensor in weights.items()} != wanted:
        raise Refusal("the LoRA weights that were trained are not those of one LoraConfig", do="one get_peft_model",
                      expected=f"{len(wanted)} of rank 1 to {rubric.MAX_RANK}", actual=f"{len(weights)}")  # fmt: skip
    config = config or Config(rank, float(rank), targets, False)
    return Adapter(rank, config.alpha, targets, config.use_rslora, weights)


def refuse_no_step(report: JobReport) -> None:
    """Refuse a training that gave the model batches, and whose weights no optimizer of torch has changed."""
    report.value("train_model")  # where it failed, that is the cause
    if report.lines.get("stepped", {}).get("value") is False:
        raise Refusal("no optimizer of torch took a step in train_model, and steps by hand can't be watched",
                      do="give the LoRA weights to an optimizer of torch.optim, and call its step()")  # fmt: skip


def refuse_wrong_gradients(
    report: JobReport, course: Course, examples: list[Example], config_file: str = CONFIG, words: str = "answers"
) -> None:
    """Refuse gradients of the first step that are none, broken, of the base, or not those of the rows' answers."""
    gradients = read_tensors(report.files.get("gradients.safetensors"))
    if not gradients:
        refuse_no_step(report)
        if report.lines.get("came back", {}).get("value") is True:
            raise Refusal("the gradients of backward were gone before the first optimizer step",
                          do="call zero_grad() after step(), or before backward()")  # fmt: skip
        raise Refusal("no gradient reached any weight before the first optimizer step",
                      do="call backward, and give the optimizer the LoRA weights of that model")  # fmt: skip
    if base := sorted(name for name in gradients if "lora_" not in name):
        raise Refusal(f"{len(base)} weights of the base model are trained, first {base[0][:80]}: only LoRA may be",
                      do="use get_peft_model, and set requires_grad nowhere else")  # fmt: skip
    broken = sorted(name for name, tensor in gradients.items() if not bool(torch.isfinite(tensor).all()))
    if broken:
        raise Refusal(f"the gradient of {broken[0][:80]} is NaN or infinite, and {len(broken) - 1} others",
                      do="train in float32 on a CPU, bfloat16 on a GPU, never float16")  # fmt: skip
    first, tokenizer = first_adapter(report, course, config_file), make_families()["bundled"][0]
    wanted = trained_of(report, compute_step(course.base.model, first, examples).gradients)
    refuse_other_gradients(gradients, wanted, config_file in report.files and not is_normalised(report), words)
    others = [with_other_digits(example, tokenizer) for example in examples]
    refuse_other_digits(gradients, wanted, compute_step(course.base.model, first, others).gradients)


def trained_of(report: JobReport, gradients: Gradients) -> Gradients:
    """The gradients of the weights that the first step trains, or all where it trains no lora_B."""
    found = report.lines.get("frozen", {}).get("value")
    names = map(str, found) if isinstance(found, list) else ()
    frozen = {IN_MEMORY.sub(f".{ADAPTER_NAME}", name) for name in names}
    kept = {name: tensor for name, tensor in gradients.items() if name not in frozen}
    return kept if moving_of(kept) else gradients


def in_batches(report: JobReport, examples: list[Example]) -> list[list[Example]]:
    """The rows of the first step as the batches in which they reached the model."""
    rows = iter(examples)
    return [list(itertools.islice(rows, len(rows_of(batch)))) for batch in batches_of(report)]


def refuse_other_loss(
    losses: list[float], loss_of: Callable[[list[Example]], float], batches: list[list[Example]]
) -> None:
    """Refuse losses of the micro-batches that are not the reference's: as a sum, as a mean, or as a mean of means."""
    wanted, mean = loss_of([example for batch in batches for example in batch]), sum(losses) / len(losses)
    if any(is_near(loss, wanted) for loss in (sum(losses), mean)):
        return
    if len(batches) == 1 or not is_near(mean, sum(map(loss_of, batches)) / len(batches)):
        raise Refusal(f"the loss of the first batch is {mean:.4f}, and over its answers alone it is {wanted:.4f}",
                      expected=f"{wanted:.4f}", actual=f"{mean:.4f}", do=LOOK)  # fmt: skip


def is_near(loss: float, wanted: float) -> bool:
    """Whether a loss is the one that was wanted, but for the rounding of bfloat16."""
    return abs(loss - wanted) <= LOSS_TOLERANCE * wanted


def moving_of(gradients: Gradients) -> Gradients:
    """The gradients of lora_B, which are not zero at first, where there are any."""
    return {name: tensor for name, tensor in gradients.items() if "lora_B" in name and bool(tensor.any())}


def is_normalised(report: JobReport) -> bool:
    """Whether the optimizer divides a gradient by its own length, as all of the kind of Adam do: then none is long."""
    names = report.lines.get("optimizers", {}).get("value")
    return isinstance(names, list) and any(part in str(name).lower() for name in names for part in NORMALISING)


def refuse_other_gradients(
    found: Gradients, wanted: Gradients, is_length_known: bool = True, words: str = "answers"
) -> None:
    """Refuse gradients that are zero, or point elsewhere than the reference's, or are too long, where that matters."""
    moving = moving_of(wanted)
    if not moving:
        raise Refusal("with the alpha that was saved, no LoRA weight would get a gradient",
                      do="save the LoRA that was trained, with its own lora_alpha")  # fmt: skip
    if missing := sorted(
        name for name, tensor in moving.items() if getattr(found.get(name), "shape", 0) != tensor.shape
    ):
        raise Refusal(f"no gradient reached {missing[0][:80]}, nor {len(missing) - 1} other LoRA weights",
                      do="with activation checkpointing: model.enable_input_require_grads()")  # fmt: skip
    size, right = norm({name: found[name] for name in moving}), norm(moving)
    if size == 0:
        raise Refusal("every gradient is exactly zero: nothing is learned", expected=f"a norm of {right:.3g}",
                      actual="0", do="look at the labels: are they all -100?")  # fmt: skip
    angle = cosine(found, moving)
    if not angle >= LEAST_COSINE and not is_clipped(found, moving):
        raise Refusal(f"the gradients are not those of the {words}' tokens: their cosine with them is {angle:.2f}",
                      expected=f"at least {LEAST_COSINE}", actual=f"{angle:.3f}", do=SHIFT)  # fmt: skip
    if size > MOST_NORM * right and is_length_known:
        raise Refusal(f"the gradients are {size / right:.3g} times as long as they should be",
                      expected=f"a norm of at most {right:.3g}", actual=f"{size:.3g}",
                      do="take the mean of the loss over the supervised tokens")  # fmt: skip


def is_clipped(found: Gradients, wanted: Gradients) -> bool:
    """Whether gradients are those that are wanted, but each number cut off, or each weight's shortened by itself."""
    most = max(float(found[name].abs().max()) for name in wanted)
    cut = {name: tensor.clamp(-most, most) for name, tensor in wanted.items()}
    each = (cosine({name: found[name]}, {name: tensor}) for name, tensor in wanted.items())
    return cosine(found, cut) >= LEAST_COSINE or all(angle >= LEAST_COSINE for angle in each)


def refuse_other_digits(found: Gradients, wanted: Gradients, other: Gradients) -> None:
    """Refuse gradients that are as much those of other answers as those of the rows: they were not computed on them."""
    moving = moving_of(wanted)
    others = {name: other[name] for name in moving}
    if cosine(others, moving) > SAME:  # no digit stands in these answers
        return
    own, foreign = split({name: found[name] for name in moving}, moving, others)
    if not abs(foreign) <= MOST_OTHER * own:
        raise Refusal("the gradients of the first step were not computed on the rows that reached the model: other "
                      "answers to the same questions explain them as well", do=LOOK)  # fmt: skip
