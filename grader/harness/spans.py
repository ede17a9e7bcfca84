"""The rows of a submission's tokenize: read from what the job wrote, their labels checked, and shown."""

from collections.abc import Sequence
from typing import Any

from grader.errors import Refusal
from grader.harness.label_diagnosis import (
    FIELDS,
    IGNORE_INDEX,
    Row,
    View,
    diagnose_labels,
    diagnose_padding,
    diagnose_shape,
    view_of,
    without_left_padding,
)

LONGEST_ROW = 4096


def diagnose_row(tokenizer: Any, question: str, answer: str, row: Row) -> str | None:
    """What is wrong with a row's labels, or None; how to fix it, the second line, is what `homework.check` has."""
    complaint = diagnose_shape(tokenizer, row) or diagnose_labels(tokenizer, question, answer, row)
    return complaint.partition("\n")[0] if complaint else None


def diagnose_places(labels: list[int], shown: list[int], right: list[int], spans: set[tuple[int, ...]]) -> str | None:
    """What a collator did with whole labels that stand beside other ids than those they were made for, or None.

    Args:
        labels: of a row with its padding.
        shown: those of them that the mask shows.
        right: what these should be.
        spans: what is supervised in the rows that came together.
    """
    count = len(right)
    if shown != right and right in (labels[:count], labels[-count:]):
        return "ids and labels are padded on different sides, so labels stand beside other tokens than their own"
    span, own = supervised(labels), supervised(right)
    return (
        "the labels are those of another row: its ids lie elsewhere"
        if span != own[: len(span)] and span in spans
        else None
    )


def supervised(labels: list[int]) -> tuple[int, ...]:
    """The labels that are learned."""
    return tuple(label for label in labels if label != IGNORE_INDEX)


def diagnose_hidden(tokenizer: Any, question: str, answer: str, row: Row) -> str | None:
    """What is wrong with labels where the mask is 0, or None."""
    if not any(
        label != IGNORE_INDEX for label, bit in zip(row["labels"], row["attention_mask"], strict=True) if not bit
    ):
        return None
    row = without_left_padding(row)
    complaint = diagnose_padding(view_of(tokenizer, question, answer, row), row)
    return complaint.partition("\n")[0] if complaint else None


def read_row(found: Any, tokenizer: Any) -> Row:
    """A row as the worker wrote it, as three lists of one length; a missing attention_mask is what the padding says.

    Raises:
        Refusal: if it is no row of ids.
    """
    if not isinstance(found, dict) or any(found.get(field) is None for field in ("input_ids", "labels")):
        raise Refusal(
            "tokenize returns no dictionary with input_ids and labels", actual=f"{found!r}"[:120],
            do="return {input_ids, attention_mask, labels}",
        )  # fmt: skip
    row = {field: flat(found[field], field) for field in FIELDS if found.get(field) is not None}
    row.setdefault("attention_mask", guess_mask(row["input_ids"], tokenizer))
    if any(not 0 <= token < len(tokenizer) for token in row["input_ids"]) or set(row["attention_mask"]) - {0, 1}:
        raise Refusal("input_ids holds ids that the tokenizer does not have, or attention_mask more than 0 and 1")
    if not are_labels(row["labels"], tokenizer):
        raise Refusal(f"labels holds numbers that are neither ids of the tokenizer nor {IGNORE_INDEX}")
    return row


def are_labels(labels: list[int], tokenizer: Any) -> bool:
    """Whether each label is a token's id or `IGNORE_INDEX`: others have no text that could be shown."""
    return all(type(label) is int and (label == IGNORE_INDEX or 0 <= label < len(tokenizer)) for label in labels)


def flat(values: Any, field: str) -> list[int]:
    """A list of int, also out of a batch of one row."""
    if isinstance(values, list) and len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    if field == "attention_mask" and isinstance(values, list):
        values = [int(value) if isinstance(value, bool) else value for value in values]
    if not isinstance(values, list) or len(values) > LONGEST_ROW or any(type(value) is not int for value in values):
        raise Refusal(f"tokenize must return {field} as a flat list of ids, not a batch", actual=f"{values!r}"[:120])
    return values


def guess_mask(ids: list[int], tokenizer: Any) -> list[int]:
    """1 up to the first EOS, and 0 for the padding after it."""
    padding = {tokenizer.pad_token_id, tokenizer.eos_token_id}
    length = len(ids)
    while length > 1 and ids[length - 1] in padding and ids[length - 2] in padding:
        length -= 1
    if ids and ids[length - 1] != tokenizer.eos_token_id and ids[length - 1] in padding:
        length -= 1
    return [1] * length + [0] * (len(ids) - length)


def side_by_side(tokenizer: Any, question: str, answer: str, row: Row) -> str:
    """The row token by token: what is supervised beside what should be, from the end of the question on."""
    view = view_of(tokenizer, question, answer, row)
    wanted = [IGNORE_INDEX] * len(view.prompt) + view.whole[len(view.prompt) :]
    first = max(0, min(view.start, len(view.prompt)) - 2)
    lines = [f"{'token':<14}{'expected label':<18}{'actual label':<18}"]
    for at in range(first, min(max(len(view.ids), len(view.whole)), first + 24)):
        here, should, is_ = (piece(view, ids, at) for ids in (view.ids, wanted, view.labels))
        same = at < len(view.labels) and at < len(wanted) and view.labels[at] == wanted[at]
        lines.append(f"{here:<14}{should:<18}{is_:<18}{'' if same else '<-- differs'}".rstrip())
    return "\n".join(lines)


def piece(view: View, ids: Sequence[int], at: int) -> str:
    """One token for the table: '-' where it is masked, nothing beyond the end."""
    if at >= len(ids):
        return ""
    if ids[at] == IGNORE_INDEX:
        return "-"
    token = str((view.tokenizer.convert_ids_to_tokens([max(0, ids[at])]) or ["?"])[0])
    return "EOS" if ids[at] == view.tokenizer.eos_token_id else token[:12]
