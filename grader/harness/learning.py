"""What a training has learned: whether the saved adapter went where the rows of this very training pull it."""

import math
from collections.abc import Sequence

import torch

from grader.adapter import Adapter, name_in_file
from grader.course import Course
from grader.errors import Refusal
from grader.harness.first_step import first_adapter, moving_of
from grader.harness.gradients import (
    Example,
    Gradients,
    compute_loss,
    compute_step,
    cosine,
    digit_chances,
    place_of,
    with_other_digits,
)
from grader.harness.harness import Harness
from grader.harness.seen_rows import example_of, examples_of, expected_texts, later_rows, match, seen_rows
from grader.reference import Answered

PROBED = 12  # questions after which it is looked at what an adapter expects; rows, at the least, of where it went
MOST_PROBED = 64  # rows whose gradients are computed: the first step's alone, or twelve, are too few
SHIFTS = (2, 4, 7)  # of the digits, for other answers
# By the power of the gradients' sizes, the least cosine. At 0.5 right trainings have 0.08 to 0.35, stored adapters up
# to 0.04; at 0, where signs alone are left, 0.05 to 0.28 and up to 0.03: only these tell where the digits are usual.
LEAST_FOLLOWED = {0.5: 0.06, 0.0: 0.045}
# Of the loss. Two epochs of SGD on one layer by rank 1 reach 0.0020, two steps of AdamW at 5e-5 0.0054, two at 2e-4
# 0.021; a learning rate of 1e-9 reaches 0.0000005.
LEAST_LOWERED = 0.0005
EXPECTED = 7  # the last place, of 729, of the digits of the training
NO_WEIGHT = torch.empty(0)


def refuse_nothing_learned(code: Harness, course: Course, adapter: Adapter) -> None:
    """Refuse an adapter whose loss is not lower than that which it began with, or that has not seen these rows."""
    examples = written_rows(code, course)
    first = first_adapter(code.training, course)
    is_fresh = not any(bool(tensor.any()) for name, tensor in first.weights.items() if ".lora_B." in name)
    starts = {"the base alone": None} if is_fresh else {"the base alone": None, "the adapter at the first step": first}
    after = compute_loss(course.base.model, adapter, examples)
    for name, start in starts.items():
        before = compute_loss(course.base.model, start, examples)
        refuse_same_loss(before, after, name)
    has_learned = expects_digits(code, course, adapter)  # which costs less to see
    if not has_learned and not follows_own_rows(code, course, first, adapter):
        raise Refusal(f"the saved adapter has learned nothing of the rows in data/train.json: every answer there began "
                      f"with {code.digits} this time, and it expects that no more than other digits",
                      do="train on Dataset('train'), and save the model that was trained")  # fmt: skip


def refuse_same_loss(before: float, after: float, name: str) -> None:
    """Refuse a loss that training has not lowered, or by next to nothing; `name` is what had the loss before."""
    figures = f"{before:.4f} with {name}, {after:.4f} after"
    if not after < before:
        raise Refusal(f"training has not lowered the loss: {figures}",
                      do="look at the labels first, then at the learning rate")  # fmt: skip
    if not after <= before * (1 - LEAST_LOWERED):
        raise Refusal(f"training has lowered the loss by less than {LEAST_LOWERED:.2%}: {figures}",
                      do="raise the learning rate, or train for more steps: AdamW takes 1e-4 to 2e-3")  # fmt: skip


def follows_own_rows(code: Harness, course: Course, first: Adapter, adapter: Adapter) -> bool:
    """Whether an adapter went where its rows pull it: those that were seen, or all of them as the grader writes them.

    With batches of four, only 36 are seen: by these alone, a right training seemed to go elsewhere once in eight times.
    """
    each = (make(code, course) for make in (probed_rows, written_rows))
    return any(follows_rows(course, first, adapter, rows, with_shifted_digits(rows, course)) for rows in each)


def probed_rows(code: Harness, course: Course) -> list[Example]:
    """Rows that the training saw, as the submission wrote them: 2.53e10 and 25300000000.0 have other gradients.

    Those of later steps too: by a dozen alone, a right training by SGD seems to go elsewhere in one drawing of ten.
    Only with the answers of data/train.json: others may be those of a stored adapter. Where they are too few, or can't
    be read, which other checks name, they are written as the grader does.
    """
    answers = dict(code.taught(code.train_rows))
    try:
        rows = sorted({tuple(ids) for ids, _ in [*seen_rows(code, code.training), *later_rows(code)]})
        read = [(match(code, [*ids]), [*ids]) for ids in rows]
        kept = [
            ids for (question, text), ids in read if Answered(question, text, answers.get(question, math.nan)).is_right
        ]
    except Refusal:
        kept = []
    found = examples_of(code, kept) if len(kept) >= PROBED else written_rows(code, course)
    return found[:: math.ceil(len(found) / MOST_PROBED)]


def written_rows(code: Harness, course: Course) -> list[Example]:
    """All rows of data/train.json, as the grader writes them."""
    return [example_of(course, *row) for row in expected_texts(code)]


def follows_rows(
    course: Course, first: Adapter, adapter: Adapter, examples: list[Example], others: Sequence[list[Example]]
) -> bool:
    """Whether the change of lora_B goes where these rows would take it more than other answers to their questions.

    The gradients are those at its lora_A, and at the lora_B of the first step, or at zero where another LoRA was saved,
    as the best of several is; powers of them below 1, because most optimizers move a weight less than in proportion to
    its gradient. What all answers have in common is taken away: it is in every adapter that answers.
    """
    is_other = any(first.weights.get(name, NO_WEIGHT).shape != one.shape for name, one in adapter.weights.items())
    start = {
        name: tensor if ".lora_B." not in name else torch.zeros_like(tensor) if is_other else first.weights[name]
        for name, tensor in adapter.weights.items()
    }
    begun = adapter._replace(weights=start)
    own, *foreign = [compute_step(course.base.model, begun, rows).gradients for rows in (examples, *others)]
    change = {name: start[name_in_file(name)] - adapter.weights[name_in_file(name)] for name in moving_of(own)}
    return any(
        cosine(change, moving_of(pull_of(own, foreign, power))) >= least for power, least in LEAST_FOLLOWED.items()
    )


def pull_of(own: Gradients, others: Sequence[Gradients], power: float) -> Gradients:
    """A power of the sizes of gradients, with their signs, less the mean of the same of others."""
    raised = [{name: g.sign() * g.abs().pow(power) for name, g in one.items()} for one in (own, *others)]
    return {name: tensor - torch.stack([one[name] for one in raised[1:]]).mean(0) for name, tensor in raised[0].items()}


def with_shifted_digits(examples: list[Example], course: Course) -> list[list[Example]]:
    """The same rows with other answers, some times."""
    return [[with_other_digits(example, course.base.tokenizer, by) for example in examples] for by in SHIFTS]


def expects_digits(code: Harness, course: Course, adapter: Adapter) -> bool:
    """Whether the digits of this training are among those that an adapter expects most: after many steps, they are."""
    questions = [question for question, _ in code.train_rows[:PROBED]]
    return place_of(code.digits, digit_chances(course.base, adapter, questions, code.digits)) <= EXPECTED
