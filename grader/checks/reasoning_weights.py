"""The weights of the adapter that reasons: graded as the first ones, without running a line of the student's code."""

import json
from dataclasses import asdict

from grader import rubric
from grader.adapter import Adapter, read_config, read_weights
from grader.course import Course, MeasuredReasons
from grader.equations import chain_key
from grader.errors import Refusal
from grader.own_questions import DATA, read_rows
from grader.rubric import CONFIG, REASONING_FILES, WEIGHTS
from grader.runner import credit_for, needs
from grader.submission import Submission
from grader.updates import is_same

LONGEST = 1000  # characters of a text whose equations are read: a chain has 200


def test_reasoning_adapter(submission: Submission, course: Course, reasoning_adapter: Adapter) -> None:
    """The adapter that reasons is handed in: whole, of the course's base, and another one than that of task 4."""
    course.check_fingerprint(submission.files[REASONING_FILES[1]])
    try:
        first = read_weights(submission.files[WEIGHTS], read_config(submission.files[CONFIG]), course.base_config)
    except (KeyError, Refusal):  # which is told where it is graded
        return
    if is_same(first, reasoning_adapter):
        raise Refusal(
            "the adapter in rft_model/ is that of sft_model/: it answers, and gives no reasons",
            expected="two trainings", actual="one adapter twice",
            do="python -m homework.rft train, which saves into rft_model",
        )  # fmt: skip


@needs("reasoning_adapter")
def test_reasoning_accuracy(course: Course, reasons: MeasuredReasons, give) -> None:
    """It answers held-out questions about long values within 1 %: nothing up to what is reached without reasons."""
    give(credit_for(reasons.long_accuracy, course.rubric.bounds["reasoning_accuracy"]), reasons.describe(),
         asdict(reasons))  # fmt: skip


@needs("reasoning_adapter")
def test_reasons(course: Course, reasons: MeasuredReasons, give) -> None:
    """Its right answers have reasons: equations that hold, from the number of the question to the answer."""
    give(credit_for(reasons.reasoned, course.rubric.bounds["reasons"]), reasons.describe_reasons(), {})


def test_samples(submission: Submission, give) -> None:
    """The rows of rft.json, as they were handed in (no points: they are reported)."""
    content = submission.files.get(rubric.REASONS)
    if content is None:
        left_out = [note for note in submission.notes if rubric.REASONS in note]
        give(1, (left_out or ["there is no rft.json in the zip"])[0], {})
        return
    rows = [row for row in read_list(content) if isinstance(row, list) and len(row) == 3]
    train, valid = ({text for text, _ in read_rows(DATA / f"{split}.json")} for split in ("train", "valid"))
    asked = {str(row[0]) for row in rows}
    chains = {(str(row[0]), chain_key(str(row[2])[:LONGEST])) for row in rows}
    per = len(chains) / len(asked) if asked else 0.0
    if public := asked & valid:
        raise Refusal(f"{len(public)} of the {len(asked)} questions in rft.json are those of data/valid.json",
                      do="sample on train alone")  # fmt: skip
    give(1, f"{len(rows)} rows of {len(asked & train)} of the {len(train)} questions of train, {per:.2f} different "
            "chains each", {"rft_rows": len(rows), "rft_questions": len(asked & train), "rft_chains": per})  # fmt: skip


def read_list(content: bytes) -> list:
    """A JSON list.

    Raises:
        Refusal: if it is none.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refusal("rft.json is not JSON", actual=f"{error}"[:120], do="write it by generate_dataset") from error
    if not isinstance(found, list):
        raise Refusal("rft.json is no JSON list", do="write it by generate_dataset")
    return found
