"""Public tests of task 2, homework/data.py: what is right, and how it is counted.

python -m pytest tests/public/test_task2.py
"""


def test_is_answer_valid(check):
    """Within 5 % of the correct answer; NaN and infinity never are."""
    check("is_answer_valid")


def test_from_answers(check):
    """A wrong answer and a missing one both count among all questions."""
    check("from_answers")


def test_benchmark(check):
    """All questions in one call of llm.answer, the first ones if there is a limit."""
    check("benchmark")
