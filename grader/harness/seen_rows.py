"""Which rows reached the model in a training, and whether they are those of data/train.json, whole and right."""

import math
import re
from collections.abc import Iterable
from typing import Any

from grader.course import Course
from grader.errors import Refusal
from grader.harness.gradients import Example, rows_of, shown, whole_rows
from grader.harness.harness import Harness
from grader.harness.job_report import JobReport
from grader.harness.spans import (
    IGNORE_INDEX,
    are_labels,
    diagnose_hidden,
    diagnose_places,
    diagnose_row,
    side_by_side,
    supervised,
)
from grader.harness.tokenizers import make_families
from grader.reference import Answered

MOST_APART = 6  # questions that by chance would come both changed and as they are: then none seldom does
MOST_TOKENS = 16_384  # of one step, padding included: all 64 rows, each as long as the base reads
MOST_LATER = 300  # rows of later steps that are looked at
LEAST_OWN = 0.5  # of the rows of a training: about questions of data/train.json
CHANCE = 3.0  # standard deviations of their number among the rows that were seen
IDS = "train on the very ids that the prompt has"
LOOK = "the collator and the Trainer have to keep tokenize's labels"
Seen = tuple[list[int], list[int] | None]  # ids and labels of a row that reached the model


def batches_of(report: JobReport) -> list[dict[str, Any]]:
    """The batches that reached the model before the first optimizer step."""
    found = report.lines.get("batches", {}).get("value")  # a training that failed or died later had batches too
    batches = [batch for batch in found if isinstance(batch, dict)] if isinstance(found, list) else []
    if not batches:
        report.value("train_model")  # where it failed, that is the cause
        report.value("batches")
        raise Refusal("train_model ended without one step of training on the 64 rows of the grader",
                      do="call trainer.train(), or write the loop; let a last batch with fewer rows count")  # fmt: skip
    return batches


def later_rows(code: Harness) -> list[Seen]:
    """Ids and labels of rows of some later steps, each row once; a loop that gives the model no labels shows none.

    Raises:
        Refusal: if a batch has no ids or no rectangular shape.
    """
    found = code.training.lines.get("later batches", {}).get("value")
    batches = [batch for batch in found if isinstance(batch, dict)] if isinstance(found, list) else []
    tokenizer, most = make_families()["bundled"][0], code.course.base_config["max_position_embeddings"]
    rows = {
        (tuple(ids), tuple(labels)) for batch in batches for ids, labels in rows_of(batch)
        if labels and len(ids) <= most and are_labels(labels, tokenizer)
    }  # fmt: skip
    return [([*ids], [*labels]) for ids, labels in sorted(rows)[:MOST_LATER]]


def refuse_wrong_rows(code: Harness, course: Course, rows: list[Seen], where: str) -> None:
    """Refuse a row whose labels are not those of its text."""
    tokenizer = course.base.tokenizer
    for ids, labels in rows:
        question, answer = match(code, ids)
        if tokenizer.eos_token_id not in ids and answer.startswith("<answer>") and "</answer>" not in answer:
            raise Refusal(f"{where}, the row was cut after {len(ids)} tokens, so its answer is not whole",
                          actual=f"{answer!r:.80}", do="never truncate")  # fmt: skip
        row = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels or []}
        if labels is not None and (complaint := diagnose_row(tokenizer, question, answer, row)):
            table = side_by_side(tokenizer, question, answer, row)
            raise Refusal(f"{where}, {complaint}", do=LOOK, shown=table)


def refuse_more_words(code: Harness, rows: list[list[int]]) -> None:
    """Refuse a row of task 4 with words between its question and its answer."""
    for ids in rows:
        question, answer = match(code, ids)
        words, tag, _ = answer.partition("<answer>")
        if words and tag:
            raise Refusal(f"a row goes on with {words.strip()!r:.60} behind its question, {question!r:.80}", do=IDS)


def refuse_wrong_padding(code: Harness, course: Course, examples: list[Example]) -> None:
    """Refuse a row of the first step whose labels lie elsewhere than its ids, or whose mask hides some of them."""
    rows = [row for batch in batches_of(code.training) for row in whole_rows(batch)]
    spans = {supervised(example.labels) for example in examples}
    for row, (ids, right) in zip(rows, examples, strict=True):
        if "labels" not in row:
            continue
        complaint = diagnose_places(row["labels"], shown(row, "labels"), right, spans)
        if complaint := complaint or diagnose_hidden(course.base.tokenizer, *match(code, ids), row):
            raise Refusal(f"in a batch that reaches the model, {complaint}", do=LOOK)


def refuse_changed_questions(code: Harness, rows: list[Seen]) -> None:
    """Refuse questions of the data that came cut, or in other case or punctuation, and never as they are.

    Where such rows are added to the right ones, many come both ways, and by chance alone would do so.
    """
    asked = {match(code, ids)[0] for ids, _ in rows}
    whole, prompts = asked & set(code.train_prompts), code.train_prompts
    changed = {own: one for one in sorted(asked - whole) if (own := original_of(one, prompts))}
    are_most = len(changed) > len(asked) / 2 and count_own(code, rows) < least_own(rows)
    if set(changed) & whole or (len(changed) * len(whole) < MOST_APART * len(prompts) and not are_most):
        return
    own, one = next(iter(changed.items()))
    if letters_of(own) == letters_of(one):
        raise Refusal(f"{len(changed)} rows begin with other text than their questions, as {one!r:.80} is for "
                      f"{own!r:.80}: the prompt is the question alone", do=IDS)  # fmt: skip
    raise Refusal(f"{len(changed)} rows have lost a part of their questions, as {one!r:.80} of {own!r:.80}: the row "
                  "was cut", do="never truncate: train on the very ids that the prompt has")  # fmt: skip


def original_of(changed: str, questions: Iterable[str]) -> str | None:
    """The one question that a text was made from, by a cut or other case or punctuation; None where it is unclear."""
    letters = letters_of(changed)
    ends = [own for own in questions if letters and letters_of(own).startswith(letters)]
    ends += [own for own in questions if letters and letters_of(own).endswith(letters) and own not in ends]
    return ends[0] if len(ends) == 1 else None


def letters_of(text: str) -> str:
    """Letters in lower case, and numbers, alone.  Example: "Are 4.5 kg, or" -> "are4.5kgor" """
    return "".join(re.findall(r"\d+(?:[.,]\d+)*|[^\W_]", text.lower()))


def refuse_foreign_rows(code: Harness, rows: list[Seen]) -> None:
    """Refuse a training most of whose rows are about other questions than those of data/train.json.

    Half of them may be, so that of the few that were seen, the own ones may be fewer by chance.
    """
    own = count_own(code, rows)
    if own < least_own(rows):
        raise Refusal(f"{own} of the {len(rows)} rows that were seen are about questions of data/train.json",
                      expected="at least half of them", actual=f"{own}", do="train on Dataset('train')")  # fmt: skip


def refuse_held_out(code: Harness, rows: list[Seen]) -> None:
    """Refuse a training on questions of data/valid.json, which measure it."""
    held_out = {question for question, _ in code.valid_rows}
    found = [question for question in (match(code, ids)[0] for ids, _ in rows) if question in held_out]
    if found:
        raise Refusal(f"{len(found)} of the {len(rows)} rows that were seen are about questions of data/valid.json, "
                      f"as {found[0]!r:.80} is: they measure the training", do="train on Dataset('train')")  # fmt: skip


def count_own(code: Harness, rows: list[Seen]) -> int:
    """How many rows are about questions of data/train.json."""
    return sum(match(code, ids)[0] in code.train_prompts for ids, _ in rows)


def least_own(rows: list[Seen]) -> float:
    """How many of these have to be about them: half, less what chance makes of it."""
    return max(1, LEAST_OWN * len(rows) - CHANCE * math.sqrt(LEAST_OWN * (1 - LEAST_OWN) * len(rows)))


def refuse_wrong_pairs(code: Harness, rows: list[Seen]) -> None:
    """Refuse a row that has another answer than its question has in data/train.json.

    Where format_example is at fault, which is told where it is tested, its answers are others, too.
    """
    answers = dict(code.taught(code.train_rows))
    said = [Answered(*match(code, ids), math.nan) for ids, _ in rows]
    known = [one._replace(correct=answers[one.question]) for one in said if one.question in answers]
    wrong = [one for one in known if math.isfinite(one.number) and not one.is_right]
    if wrong and is_format_right(code):
        question, text, correct = wrong[0]
        raise Refusal(f"{len(wrong)} rows have another answer than that of their question, as {question!r:.80} has",
                      expected=f"{correct:g}, as in data/train.json", actual=text[:80],
                      do="question and answer of a row belong together")  # fmt: skip


def is_format_right(code: Harness) -> bool:
    """Whether format_example, tested alone, gives the number of each row."""
    found = code.labels.lines.get("format_example", {}).get("value")
    texts = [one.get("answer") for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    if len(texts) != len(code.train_rows):
        return False
    pairs = zip(texts, code.train_rows, strict=True)
    return all(isinstance(text, str) and Answered("", text, correct).is_right for text, (_, correct) in pairs)


def seen_rows(code: Harness, report: JobReport) -> list[Seen]:
    """Ids and labels of the rows of the first step, no more of them than the grader can compute with.

    Raises:
        Refusal: if they are too many, or labels are no ids.
    """
    rows = [row for batch in batches_of(report) for row in rows_of(batch)]
    longest, most = max(len(ids) for ids, _ in rows), code.course.base_config["max_position_embeddings"]
    if longest > most:  # the time that the grader needs grows with the square of it
        raise Refusal(f"a row of {longest} tokens reached the model, which reads {most}", do="one question a row")
    if len(rows) * longest > MOST_TOKENS:
        raise Refusal(
            f"the first step takes more than {MOST_TOKENS} tokens", do="take a smaller batch, pad to the longest"
        )
    if not all(labels is None or are_labels(labels, make_families()["bundled"][0]) for _, labels in rows):
        raise Refusal("a batch with labels that the model does not have reached it", do=LOOK)
    return rows


def examples_of(code: Harness, rows: list[list[int]]) -> list[Example]:
    """Rows of ids, with the labels that they should have had."""
    tokenizer, examples = make_families()["bundled"][0], []
    for ids in rows:
        question, _ = match(code, ids)
        start = len(tokenizer(question)["input_ids"])
        if start >= len(ids):  # ids that no text has, such as bytes that are no UTF-8
            raise Refusal("a row whose ids are not those of its text reached the model", actual=f"{question!r:.80}")
        examples.append(Example(ids, [IGNORE_INDEX] * start + ids[start:]))
    return examples


def match(code: Harness, ids: list[int]) -> tuple[str, str]:
    """What `split_row` gives, which is computed once for each row."""
    if (key := tuple(ids)) not in code.matches:
        code.matches[key] = split_row(code, ids)
    return code.matches[key]


def split_row(code: Harness, ids: list[int]) -> tuple[str, str]:
    """The question with whose ids a row begins, and the text behind it.

    A row about another question, which somebody made from the data, is split where its answer begins.

    Raises:
        Refusal: if it holds a question of the data and does not begin with its ids.
    """
    tokenizer = make_families()["bundled"][0]
    if any(type(token) is not int or not 0 <= token < len(tokenizer) for token in ids):
        raise Refusal("a batch with ids that the model does not have reached it")
    prompts = code.train_prompts
    if any(ids == prompt[: len(ids)] for prompt in prompts.values()):
        raise Refusal(f"the row was cut after {len(ids)} tokens, before its answer: never truncate")
    text = tokenizer.decode([t for t in ids if t != tokenizer.eos_token_id], clean_up_tokenization_spaces=False)
    found = begun_by(ids, prompts)
    ends = [at for at, token in enumerate(ids, 1) if token == tokenizer.eos_token_id]
    if found and any(begun_by(ids[end:], prompts) for end in ends):
        raise Refusal("several rows are packed into one: behind the end of one, the next question follows",
                      expected="one question a row", do="pad the rows of a batch, and pack none")  # fmt: skip
    if not found and any(question in text for question in prompts):
        raise Refusal(f"the row begins with {text!r:.60}, not with its question: the prompt is the question "
                      "alone", do=IDS)  # fmt: skip
    if not found and "<answer>" not in text:
        raise Refusal(f"the row {text!r:.60} holds no question of the data and no <answer>",
                      do="each row is a question and its answer")  # fmt: skip
    question = max(found, key=len) if found else text.rpartition("<answer>")[0].rstrip()
    return question, text[len(question) :].strip()


def begun_by(ids: list[int], prompts: dict[str, list[int]]) -> list[str]:
    """The questions with whose ids a row begins: one may go on where another ends."""
    return [question for question, prompt in prompts.items() if ids[: len(prompt)] == prompt]


def expected_texts(code: Harness) -> list[tuple[str, str]]:
    """Question and right answer of every training row, as a text."""
    return [(question, f"<answer>{correct:.3g}</answer>") for question, correct in code.taught(code.train_rows)]


def example_of(course: Course, question: str, answer: str) -> Example:
    """A row with right labels."""
    tokenizer = course.base.tokenizer
    start = len(tokenizer(question)["input_ids"])
    ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
    return Example(ids, [IGNORE_INDEX] * start + ids[start:])
