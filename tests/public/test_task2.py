"""Public checks of task 2, homework/data.py: what is right, and how it is counted.

python -m pytest tests/public/test_task2.py
"""

import math

import pytest

from homework.data import BenchmarkResult, Dataset, benchmark, is_answer_valid

ROWS = [("How many g are in 6 kg?", 6000.0), ("How many m are in 2 km?", 2000.0), ("How many s are in 1 h?", 3600.0)]


class Scripted:
    """Stands in for a model: gives the answers that it was made with."""

    def __init__(self, answers: list[float]) -> None:
        self.answers = answers

    def answer(self, *questions: str) -> list[float]:
        return self.answers[: len(questions)]


@pytest.mark.parametrize(("answer", "correct"), [(2.1, 2.0), (1.9, 2.0), (-2.0, -2.0), (0.0, 0.0), (1e-9, 1.04e-9)])
def test_within_five_percent_is_right(answer, correct):
    assert is_answer_valid(answer, correct)


@pytest.mark.parametrize(
    ("answer", "correct"), [(2.11, 2.0), (-2.0, 2.0), (0.01, 0.0), (math.nan, 2.0), (math.inf, 2.0)]
)
def test_more_than_five_percent_nan_and_infinity_are_wrong(answer, correct):
    assert not is_answer_valid(answer, correct)


def test_accuracy_and_answer_rate_are_shares_of_all_questions():
    result = BenchmarkResult.from_answers(ROWS, [6000.0, 1.0, math.nan])
    assert result.accuracy == pytest.approx(1 / 3) and result.answer_rate == pytest.approx(2 / 3)
    assert [sample.is_correct for sample in result.samples] == [True, False, False]


@pytest.mark.parametrize(("rows", "answers"), [([], []), (ROWS, [1.0])])
def test_nothing_to_score_is_an_error_and_no_accuracy(rows, answers):
    with pytest.raises(ValueError, match="score"):
        BenchmarkResult.from_answers(rows, answers)


def test_benchmark_asks_the_first_questions():
    dataset = Dataset("valid")
    right = [dataset[index][1] for index in range(10)]
    assert benchmark(Scripted(right), dataset, 10).accuracy == 1.0
    assert benchmark(Scripted([-1.0, *right[1:]]), dataset, 10).accuracy == pytest.approx(0.9)
