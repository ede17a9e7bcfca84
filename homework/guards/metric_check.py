"""The metric check: what counts as right, and that accuracy and answer rate are shares of all questions."""

import math

from homework.common.errors import HomeworkError, explain_error
from homework.data import BenchmarkResult, benchmark, is_answer_valid

# Two numbers and whether the first is a right answer where the second is correct. None lies at the bound itself, where
# binary rounding decides.
JUDGED = (
    *((number, 2.0, True) for number in (2.0, 2.098, 1.902)),
    *((number, 2.0, False) for number in (2.104, 1.896, 1.0, -2.0, math.nan, math.inf)),
    (-3.0, -3.0, True),
    (-3.1, -3.0, True),
    (3.0, -3.0, False),
    (0.0, 0.0, True),
    (0.001, 0.0, False),
    (1e-9, 1.04e-9, True),
    (1e-9, 1.1e-9, False),
    (1.02, 1.0, True),
)
QUESTIONS = [("2 km in m?", 2000.0), ("6 kg in g?", 6000.0), ("1 h in s?", 3600.0), ("3 m in cm?", 300.0)]
ANSWERS = [2000.0, 6312.0, math.nan, 301.0]  # right, wrong by 5.2 % of the correct one, missing, right
MANY = 64  # times these questions: more than any default limit that somebody may set


class Scripted:
    """Stands in the place of a model: answers each question of `QUESTIONS` by `ANSWERS`."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def answer(self, *questions: str) -> list[float]:
        """As `BaseLLM.answer`."""
        self.asked += questions
        known = {question: answer for (question, _), answer in zip(QUESTIONS, ANSWERS, strict=True)}
        for question in questions:
            if not isinstance(question, str) or question not in known:
                raise HomeworkError(f"benchmark asks {question!r:.80}, which is no question\nask them as they are")
        return [known[question] for question in questions]


def check_metric() -> None:
    """All of task 2, in the order of its functions."""
    check_is_answer_valid()
    check_from_answers()
    check_benchmark()


def check_is_answer_valid() -> None:
    """Raise HomeworkError unless right and wrong answers are counted as such."""
    for answer, correct, expected in JUDGED:
        if bool(got := is_answer_valid(answer, correct)) is not expected:
            raise HomeworkError(
                f"is_answer_valid({answer}, {correct}) is {got}, not {expected}"
                "\nright is a finite number whose distance is at most 5 % of the correct one's size, not of its own"
            )


def check_from_answers() -> None:
    """Raise HomeworkError unless the shares are those of all questions, and numbers that differ are an error."""
    check_shares(BenchmarkResult.from_answers(QUESTIONS, ANSWERS), "BenchmarkResult.from_answers", len(QUESTIONS))
    for count, answers in ((0, 0), (4, 3), (3, 4)):
        try:
            result = BenchmarkResult.from_answers(QUESTIONS[:count], ANSWERS[:answers])
        except NotImplementedError:
            raise
        except Exception:
            continue
        raise HomeworkError(
            f"BenchmarkResult.from_answers of {count} questions and {answers} answers gives {result!r:.60}"
            "\nraise an error there: it has no accuracy"
        )


def check_benchmark() -> None:
    """Raise HomeworkError unless `benchmark` asks the first questions, once each, and scores the answers."""
    for count in (None, 2):
        llm, rows = Scripted(), QUESTIONS * MANY
        wanted = [question for question, _ in rows][:count]
        try:
            result = benchmark(llm, rows, count)
        except TypeError as error:
            raise HomeworkError(
                f"benchmark fails with {explain_error(error)}; answer takes any number of questions and gives a list "
                "of as many numbers\none call of answer with all questions, then from_answers"
            ) from error
        if llm.asked != wanted:
            raise HomeworkError(
                f"benchmark of {count or 'all'} of {len(rows)} questions asks {len(llm.asked)}, the first "
                f"{llm.asked[:2]}, not {len(wanted)}, the first {wanted[:2]}"
                "\ntake_rows gives the first ones, or all"
            )
        check_shares(result, f"benchmark of {len(wanted)} questions", len(wanted))


def check_shares(result: BenchmarkResult, name: str, count: int) -> None:
    """Raise HomeworkError unless a result for the first `count` of `ANSWERS`, again and again, has the right shares."""
    right = ([True, False, False, True] * MANY)[:count]
    answered = [not math.isnan(answer) for answer in (ANSWERS * MANY)[:count]]
    try:
        found = (float(result.accuracy), float(result.answer_rate), len(result.samples))
    except Exception as error:
        raise HomeworkError(f"{name} gives {result!r:.80}: {explain_error(error)}") from error
    for what, got, wanted in zip(
        ("accuracy", "answer rate", "number of samples"),
        found,
        (sum(right) / count, sum(answered) / count, count),
        strict=True,
    ):
        if not math.isclose(got, wanted, rel_tol=1e-9):
            raise HomeworkError(
                f"{name}: the {what} is {got:g}, not {wanted:g}"
                "\nwrong and missing answers count among all questions, and a share is of 1, not of 100"
            )
