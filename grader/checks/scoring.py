"""homework/data.py: what counts as right, and the shares that are made of it. The grade itself rests on neither."""

from collections.abc import Sequence
from typing import Any

from grader.checks.answering import is_number, refuse_other_type, refuse_unless_list
from grader.errors import Refusal
from grader.harness.harness import Harness
from grader.harness.inputs import FEW

WITHIN = "right is a finite number within 5 % of the correct one"
TOLERANCE = "the third argument is the tolerance", "take relative_tolerance, whose default is 0.05"
ROUNDED = 0.0006  # a share may be rounded to three digits: one question of 130 makes 0.008


def test_metric(code: Harness) -> None:
    """is_answer_valid says that an answer is right within 5 % of the correct one; NaN and infinity never are."""
    found = code.scoring.value("is_answer_valid")
    refuse_unless_list(found, len(code.pairs), "is_answer_valid, pair by pair,")
    for (pair, wanted), got in zip(code.pairs, found, strict=True):
        if got is not wanted:
            asked = ", ".join(f"{number:.6g}" for number in pair)
            rule, do = TOLERANCE if pair[2:] else (WITHIN, "")
            raise Refusal(f"is_answer_valid({asked}) is {got!r:.20}: {rule}", expected=f"{wanted}",
                          actual=f"{got!r}"[:20], do=do)  # fmt: skip


def test_scoring(code: Harness) -> None:
    """benchmark gives accuracy and answer rate as shares of all the questions that it was to ask."""
    all_rows = len(code.valid_rows)
    for name, count in (("benchmark", all_rows), ("benchmark of the first", FEW), ("benchmark of more", all_rows)):
        if name == "benchmark of more" and code.scoring.error(name):
            continue  # it is not said that more may be asked: an error is no wrong share
        found = code.scoring.value(name)
        refuse_other_count(found, count, name)
        refuse_other_share(found, "accuracy", code.answers_right[:count], name)
        refuse_other_share(found, "answer_rate", [answer == answer for answer in code.answers[:count]], name)


def refuse_other_count(found: object, count: int, name: str) -> None:
    """Refuse a benchmark that asked another number of questions."""
    asked = found.get("asked") if isinstance(found, dict) else None
    if asked != count:
        raise Refusal(f"{name} asks {asked!r:.20} of {count} questions", expected=f"{count}", actual=f"{asked!r}"[:20],
                      do="ask the first max_question questions in one call of llm.answer")  # fmt: skip


def refuse_other_share(found: dict, share: str, flags: Sequence[bool], name: str) -> None:
    """Refuse a share that is not that of the flags."""
    got: Any = found.get(share)
    wanted = sum(flags) / len(flags)
    refuse_other_type(got, f"{name} gives the {share} as")
    if got is None or not is_number(got) or not abs(got - wanted) <= ROUNDED:
        raise Refusal(f"{name} gives the {share} {got!r:.20}: wrong and missing answers count among all questions",
                      expected=f"{wanted:g}", actual=f"{got!r}"[:20])  # fmt: skip
