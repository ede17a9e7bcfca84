"""The label check: that the labels of every tokenized row are right, however the row was made."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from homework.base_llm import ANSWER, parse_answer
from homework.common.errors import HomeworkError, explain_error
from homework.data import ListLike, Row, is_answer_valid
from homework.guards.label_diagnosis import FIELDS, diagnose_labels, diagnose_shape

DIGITS = 6  # significant ones of an answer: the bundled base writes three or four well, and those after six by chance


def check_rows(
    tokenizer: Any, data: ListLike[tuple[Any, ...]], format_fn: Callable[..., dict[str, str]], rows: ListLike[Row]
) -> None:
    """Check the labels of all rows.

    Args:
        tokenizer: of the model to train.
        data: (question, answer) pairs, or with the reasoning as a third.
        format_fn: as `homework.sft.format_example`.
        rows: the tokenized rows, one for each row of data.

    Raises:
        HomeworkError: naming the first row whose labels are wrong, what is wrong, and how to fix it.
    """
    if len(rows) != len(data) or not len(rows):
        raise HomeworkError(f"{len(rows)} tokenized rows for {len(data)} rows of data: none may be dropped")
    for index in range(len(rows)):
        if not isinstance(rows[index], Mapping):
            raise HomeworkError(
                f"row {index} is {rows[index]!r:.60}, which is not tokenized: TokenizedDataset makes rows"
            )
        example = format_fn(*data[index])
        if complaint := diagnose_row(tokenizer, example, data[index][1], plain_row(rows[index])):
            raise HomeworkError(f"row {index}: {complaint}; to look: python -m homework.sft show --first {index}")


def check_texts(data: ListLike[tuple[str, float]], format_fn: Callable[..., dict[str, str]]) -> None:
    """Check the texts of all rows, before they become tokens.

    Raises:
        HomeworkError: naming the first row whose text is wrong.
    """
    for index in range(len(data)):
        question, correct = data[index]
        example = format_fn(question, correct)
        if not isinstance(example, dict) or not all(isinstance(example.get(k), str) for k in ("question", "answer")):
            raise HomeworkError(f"format_example gives {example!r:.80}, not two texts by the names question and answer")
        if example["question"] != question:
            raise HomeworkError(f"row {index}: format_example changes the question into {example['question']!r:.80}")
        if complaint := diagnose_value(example, correct):
            raise HomeworkError(f"row {index}: {complaint}")
        if beside := ANSWER.sub("", example["answer"]):
            raise HomeworkError(f"row {index}: format_example writes {beside!r:.60} beside the tags\nleave it out")


def doubt_format(answers: Sequence[str]) -> str:
    """What a small model learns badly of the way in which right answers are written; nothing if nothing is.

    Example: ['<answer>6e+03</answer>'] -> 'numbers such as 6e+03: it writes 6000 better, so take an exponent ...'
    """
    texts = [found[0].strip() for answer in answers if (found := ANSWER.findall(answer))]
    numbers = {text: parse_answer(f"<answer>{text}</answer>") for text in texts}
    digits = max(map(count_digits, numbers.values()), default=0)
    if digits > DIGITS:
        return f"numbers of up to {digits} digits: it writes those after the first {DIGITS} by chance, so round them"
    if short := next((text for text, number in numbers.items() if "e" in text.lower() and is_plain(number)), ""):
        return f"numbers such as {short}: it writes {numbers[short]:g} better, so take an exponent for others alone"
    return ""


def is_plain(number: float) -> bool:
    """Whether a number is better written without an exponent."""
    return number == 0 or 1e-4 <= abs(number) < 1e6


def count_digits(number: float) -> int:
    """How many significant digits a number has.  Example: 1.25e-7 -> 3"""
    return len(Decimal(repr(number)).normalize().as_tuple().digits)


def check_labels(
    tokenizer: Any, data: ListLike[tuple[str, float]], format_fn: Callable[..., dict[str, str]], tokenize: Callable
) -> None:
    """Check what `tokenize` makes of all rows; raises as `check_rows` does."""
    rows = [plain_row(tokenize(tokenizer, **format_fn(*data[index]))) for index in range(len(data))]
    check_rows(tokenizer, data, format_fn, rows)


def diagnose_row(tokenizer: Any, example: dict[str, str], correct: float, row: Row) -> str | None:
    """What is wrong with a row's text or labels, how to fix it on a second line, or None.

    Args:
        tokenizer: of the model to train.
        example: `question` and `answer` as texts, as `format_example` gives them.
        correct: the number that the answer must say.
        row: `input_ids`, `attention_mask` and `labels`, each of length T.
    """
    if complaint := diagnose_value(example, correct) or diagnose_shape(tokenizer, row):
        return complaint
    return diagnose_labels(tokenizer, example["question"], example["answer"], row)


def plain_row(row: Any) -> Row:
    """A tokenized row as lists of int, whatever a tokenizer or numpy made of it.

    Raises:
        HomeworkError: if it is no row of three flat sequences.
    """
    if not isinstance(row, Mapping) or any(row.get(field) is None for field in ("input_ids", "labels")):
        raise HomeworkError(f"tokenize must return a dictionary with {', '.join(FIELDS)}, got {row!r:.80}")
    try:
        plain = {field: [int(value) for value in row[field]] for field in FIELDS if row.get(field) is not None}
        return {"attention_mask": [1] * len(plain["input_ids"]), **plain}  # without a mask, nothing is padding
    except (TypeError, ValueError) as error:
        raise HomeworkError(f"tokenize must return flat lists of ids, not a batch ({explain_error(error)})") from error


def diagnose_value(example: dict[str, str], correct: float) -> str | None:
    """What is wrong with the text of the answer, or None."""
    written = example["answer"]
    number = parse_answer(written)
    if is_answer_valid(number, correct):
        return None
    if number != number:  # NaN
        return (
            f"parse_answer finds no number in the answer {written!r:.60}"
            "\nformat_example must write one plain number between <answer> and </answer>"
        )
    return (
        f"the answer {written!r:.60} is not within 5 % of {correct:g}: format_example rounds too much"
        "\nround to significant digits, not to decimals: 0.00213 has three"
    )
