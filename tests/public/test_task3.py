"""Public checks of task 3, homework/sft.py: the text of a row, and its labels.

python -m pytest tests/public/test_task3.py
"""

import pytest

from homework.base_llm import BaseLLM
from homework.common.errors import HomeworkError
from homework.data import IGNORE_INDEX, Dataset
from homework.guards.labels import check_rows
from homework.sft import TokenizedDataset, format_example, tokenize

QUESTION, ANSWER = "How many g are in 6 kg?", "<answer>6000</answer>"


@pytest.fixture(scope="module")
def tokenizer():
    """The tokenizer of the bundled base model."""
    return BaseLLM().tokenizer


@pytest.mark.parametrize(("number", "text"), [(6000.0, "6000"), (20.5333, "20.5"), (-0.25, "-0.25"), (0, "0")])
def test_format_example_puts_three_digits_between_the_tags(number, text):
    assert format_example(QUESTION, number) == {"question": QUESTION, "answer": f"<answer>{text}</answer>"}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), "six"])
def test_format_example_refuses_what_is_no_finite_number(number):
    with pytest.raises(HomeworkError):
        format_example(QUESTION, number)


def test_the_labels_are_the_answer_and_the_one_eos(tokenizer):
    """Look at yours with python -m homework.sft show."""
    row = tokenize(tokenizer, QUESTION, ANSWER)
    assert len(row["input_ids"]) == len(row["attention_mask"]) == len(row["labels"])
    supervised = [label for label in row["labels"] if label != IGNORE_INDEX]
    assert supervised[-1] == tokenizer.eos_token_id and supervised.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(supervised[:-1]) == f" {ANSWER}", "the space before the answer belongs to the answer"


def test_the_question_is_what_the_model_reads_at_inference(tokenizer):
    row = tokenize(tokenizer, QUESTION, ANSWER)
    masked = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label == IGNORE_INDEX]
    assert masked == tokenizer(QUESTION)["input_ids"]


def test_every_row_of_train_is_right(tokenizer):
    train = Dataset("train")
    rows = TokenizedDataset(tokenizer, train, format_example)
    assert len(rows) == len(train)
    check_rows(tokenizer, train, format_example, rows)
