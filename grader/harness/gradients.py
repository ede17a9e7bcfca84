"""The grader's own loss and gradients of a training step, and what it holds the submission's against.

Every figure is recomputed from the token ids that reached the model: the rows decide what the labels have to be.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from transformers import PreTrainedModel

from grader import rubric
from grader.adapter import ADAPTER_NAME, PEFT_PREFIX, Adapter
from grader.errors import Refusal
from grader.harness.spans import IGNORE_INDEX, Row
from grader.reference import Base, with_lora

DIGITS = "123456789"
TOGETHER = 16  # rows of one pass: all of a step in one would be padded by almost half
IN_MEMORY = re.compile(r"(?<=\.lora_[AB])\.([^.]+)(?=\.weight$)")  # the name of the adapter in that of a weight
Gradients = dict[str, torch.Tensor]


class Example(NamedTuple):
    """A row that reached the model, without padding, and the labels that it should have."""

    ids: list[int]
    labels: list[int]


class Step(NamedTuple):
    """Loss and gradients of one optimizer step, the gradients by the name that the model inside peft gives them."""

    loss: float
    gradients: dict[str, torch.Tensor]


def read_tensors(content: bytes | None) -> dict[str, torch.Tensor]:
    """Tensors that a worker wrote; none if it wrote no such file.

    Raises:
        Refusal: if the file is damaged.
    """
    if content and int.from_bytes(content[:8], "little") > rubric.HEADER_BYTES:
        raise Refusal("the training left files with a million names behind")
    try:
        found = load(content) if content else {}
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise Refusal("the training left damaged files behind", actual=f"{error}"[:200]) from error
    if any(tensor.dtype != torch.float32 for tensor in found.values()):  # the worker writes no other
        raise Refusal("the training left tensors behind that are not float32")
    return with_usual_name(found)


def with_usual_name(tensors: Gradients) -> Gradients:
    """The tensors under the names of an adapter called "default", where all LoRA weights are of one of another name."""
    names = {found[1] for name in tensors if (found := IN_MEMORY.search(name))}
    is_one = len(names) == 1
    return {IN_MEMORY.sub(f".{ADAPTER_NAME}", name) if is_one else name: tensor for name, tensor in tensors.items()}


def compute_step(base: PreTrainedModel, adapter: Adapter, examples: Sequence[Example]) -> Step:
    """One step of the grader's own: the mean loss over all supervised tokens, and the LoRA gradients."""
    weights = {name: tensor.detach().clone().requires_grad_() for name, tensor in adapter.weights.items()}
    loss = mean_loss(with_lora(base, adapter._replace(weights=weights)), examples)
    loss.backward()
    named = {
        name.removeprefix(PEFT_PREFIX).replace(".weight", f".{ADAPTER_NAME}.weight"): w for name, w in weights.items()
    }
    return Step(float(loss.detach()), {name: w.grad for name, w in named.items() if w.grad is not None})


def compute_loss(base: PreTrainedModel, adapter: Adapter | None, examples: Sequence[Example]) -> float:
    """The mean loss over all supervised tokens, with an adapter or of the base alone."""
    with torch.no_grad():
        return float(mean_loss(with_lora(base, adapter) if adapter else base, examples))


def digit_chances(base: Base, adapter: Adapter | None, questions: Sequence[str], digits: str) -> torch.Tensor:
    """Log chances of the digits 1 to 9 in the places of the three `digits` that an answer begins with, on average.

    Returns:
        A row for each of the places, given the digits before it; (3, 9).
    """
    model = with_lora(base.model, adapter) if adapter else base.model
    tokenizer, (one, two, three) = base.tokenizer, list(digits)
    among = tokenizer.convert_tokens_to_ids(list(DIGITS))
    forms = (digits, f"{one}.{two}{three}", f"{one}{two}.{three}")
    rows = [tokenizer(f"{question} <answer>{form}")["input_ids"] for question in questions for form in forms]
    width = max(map(len, rows))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row + [0] * (width - len(row)) for row in rows])).logits
    chances = logits.float().log_softmax(-1)[..., among]
    places = [[t - 1 for t in range(len(row) - 4, len(row)) if row[t] in among][-3:] for row in rows]
    return torch.stack([chances[at, place] for at, place in enumerate(places)]).mean(0)


def place_of(digits: str, scores: torch.Tensor) -> int:
    """The place of a triple among all 729, by the sum of its digits' scores; 1 is the best, the last that of NaN."""
    sums = scores[0][:, None, None] + scores[1][:, None] + scores[2]
    return int((~(sums < sums[tuple(DIGITS.index(digit) for digit in digits)])).sum())


def with_other_digits(example: Example, tokenizer: Any, by: int = 1) -> Example:
    """The same row with other digits in its answer, each by so much higher, 1 behind 9; a 0 stays."""
    ids = tokenizer.convert_tokens_to_ids(list(DIGITS))
    following = dict(zip(ids, ids[by:] + ids[:by], strict=True))
    changed = [label if label == IGNORE_INDEX else following.get(label, label) for label in example.labels]
    kept = zip(example.ids, changed, strict=True)
    return Example([token if label == IGNORE_INDEX else label for token, label in kept], changed)


def split(found: Gradients, one: Gradients, other: Gradients) -> tuple[float, float]:
    """How much of two sets of gradients is in a third: the factors whose sum comes nearest to it; 0 where both are."""
    ours, theirs, cross = product(one, one), product(other, other), product(one, other)
    left, right = product(found, one), product(found, other)
    size = ours * theirs - cross**2
    if not size:  # no gradient anywhere, or one and the same
        return 0.0, 0.0
    return (left * theirs - right * cross) / size, (right * ours - left * cross) / size


def product(one: Gradients, other: Gradients) -> float:
    """The inner product of two sets of tensors, over the names of the second."""
    return sum(float((one[name].double() * tensor.double()).sum()) for name, tensor in other.items())


def mean_loss(model: Callable[..., Any], examples: Sequence[Example]) -> torch.Tensor:
    """Cross-entropy over the supervised tokens of all rows; rows of similar length are read together."""
    ordered = sorted(examples, key=lambda example: len(example.ids))
    groups = [ordered[start : start + TOGETHER] for start in range(0, len(ordered), TOGETHER)]
    supervised = sum(label != IGNORE_INDEX for example in examples for label in example.labels[1:])
    return torch.stack([summed_loss(model, group) for group in groups]).sum() / supervised


def summed_loss(model: Callable[..., Any], examples: Sequence[Example]) -> torch.Tensor:
    """The summed cross-entropy of some rows, padded on the right and masked."""
    width = max(len(example.ids) for example in examples)
    ids = torch.tensor([example.ids + [0] * (width - len(example.ids)) for example in examples])
    mask = torch.tensor([[1] * len(example.ids) + [0] * (width - len(example.ids)) for example in examples])
    labels = torch.tensor([row.labels + [IGNORE_INDEX] * (width - len(row.labels)) for row in examples])
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )


def cosine(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The cosine of two sets of tensors, over the names of the second; NaN if one of them is zero."""
    size = norm({name: one[name] for name in other}) * norm(other)
    return product(one, other) / size if size else math.nan


def norm(tensors: dict[str, torch.Tensor]) -> float:
    """The length of all tensors as one vector."""
    return math.sqrt(sum(float(tensor.double().pow(2).sum()) for tensor in tensors.values()))


def rows_of(batch: dict[str, Any]) -> list[tuple[list[int], list[int] | None]]:
    """The rows of a batch that reached the model, ids without padding, and their labels if it had any."""
    return [(shown(row, "input_ids"), shown(row, "labels") if "labels" in row else None) for row in whole_rows(batch)]


def shown(row: Row, field: str) -> list[int]:
    """A field of a row where its mask is 1."""
    return [value for value, bit in zip(row[field], row["attention_mask"], strict=True) if bit]


def whole_rows(batch: dict[str, Any]) -> list[Row]:
    """The rows of a batch with their padding, which the mask is 0 at; without "labels" where the batch had none.

    Without a mask, padding is what repeats the last id behind the last label: the model reads it after all that counts.

    Raises:
        Refusal: if the batch has no ids or no rectangular shape.
    """
    ids: Any = batch.get("input_ids")
    mask: Any = batch.get("attention_mask")
    if not is_table(ids):
        raise Refusal("a batch without input_ids, a row each, reached the model",
                      do="give the model input_ids; neftune_noise_alpha adds noise to their embeddings")  # fmt: skip
    if mask is not None and not is_table(mask, like=ids):
        raise Refusal("a batch reached the model whose attention_mask has another shape than its input_ids",
                      do="whole rows, without a cache of their beginnings, and one bit a token")  # fmt: skip
    labels = labels_of(batch)
    if mask is None:
        ends = [len(row) if labels is None else end_of(row, labels[at]) for at, row in enumerate(ids)]
        mask = [[int(t < end) for t in range(len(row))] for row, end in zip(ids, ends, strict=True)]
    if not all(map(any, mask)):
        raise Refusal("a batch with a row that is nothing but padding reached the model")
    rows = [{"input_ids": row, "attention_mask": bits} for row, bits in zip(ids, mask, strict=True)]
    return rows if labels is None else [{**row, "labels": own} for row, own in zip(rows, labels, strict=True)]


def end_of(ids: list[int], labels: list[int]) -> int:
    """Where the padding of a row begins.  Example: [5, 6, 2, 2, 2], [-100, 6, 2, -100, -100] -> 3"""
    end = max((t for t, label in enumerate(labels) if label != IGNORE_INDEX), default=len(ids) - 1) + 1
    return end if set(ids[end:]) <= {ids[-1]} else len(ids)


def labels_of(batch: dict[str, Any]) -> list[list[int]] | None:
    """The labels of a batch in the places of their tokens, however they were given; None if there were none."""
    ids, shifted = batch["input_ids"], batch.get("shift_labels")
    kept: Any = batch.get("logits_to_keep")
    if shifted is None:
        labels = batch.get("labels")
        return labels if is_table(labels, like=ids) else None
    blank = [[IGNORE_INDEX] * len(row) for row in ids]
    if not isinstance(shifted, list):
        return None
    flat = [label for row in shifted for label in row] if is_table(shifted) else shifted
    all_kept = not is_table(kept, ids)
    places = [(at, t) for at, row in enumerate(ids) for t in range(len(row)) if all_kept or kept[at][t]]
    if len(flat) != len(places):
        return None
    for (at, t), label in zip(places, flat, strict=True):
        if t + 1 < len(blank[at]):
            blank[at][t + 1] = label
    return blank


def is_table(values: Any, like: list | None = None) -> bool:
    """Whether this is a list of rows of numbers, all of one length, and of the shape of another one."""
    if not isinstance(values, list) or not values or not all(isinstance(row, list) and row for row in values):
        return False
    shapes = {len(row) for row in values}
    whole = all(isinstance(value, int | float) for row in values for value in row)
    return len(shapes) == 1 and whole and (like is None or (len(values), shapes) == (len(like), {len(like[0])}))
