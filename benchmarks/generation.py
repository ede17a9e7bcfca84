"""Generation: `answer` on 100 questions against one question at a time, and against padded batches in their own order.

    python -m benchmarks.generation           # two minutes on two cores; writes benchmarks/generation.json

A quickly trained adapter of the bundled model answers, so that answers end as they do in the homework. All three ways
take turns, and must give the same answers.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.reference_run import reference_run
from homework.base_llm import BaseLLM
from homework.common.cli import run
from homework.common.errors import HomeworkError
from homework.common.files import write_json
from homework.data import Dataset, take_rows

RESULTS = Path(__file__).with_suffix(".json")
BATCH = 32  # of the batches in arrival order, as the course's former code had it


def one_by_one(llm: BaseLLM, questions: Sequence[str]) -> list[float]:
    """A call for each question."""
    return [llm.answer(question)[0] for question in questions]


def arrival_order(llm: BaseLLM, questions: Sequence[str]) -> list[float]:
    """Batches of questions as they come, each padded to its longest."""
    starts = range(0, len(questions), BATCH)
    return [answer for start in starts for answer in llm.answer(*questions[start : start + BATCH])]


def ours(llm: BaseLLM, questions: Sequence[str]) -> list[float]:
    """One call."""
    return llm.answer(*questions)


WAYS: dict[str, Callable[[BaseLLM, Sequence[str]], list[float]]] = {
    "ours": ours,
    "one by one": one_by_one,
    "arrival order": arrival_order,
}


def main(*, repeats: int = 5, questions: int = 100, steps: int = 64) -> None:
    """Measure the three ways in turn and print the ratios.

    Args:
        repeats: how often each way answers all questions.
        questions: how many questions of valid.
        steps: of the training before.
    """
    asked = [question for question, _ in take_rows(Dataset("valid"), questions)]
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    with reference_run(seed=0) as setup:
        setup.train(max_steps=steps)
        setup.llm.model = setup.model.eval()
        expected = [str(answer) for answer in ours(setup.llm, asked)]  # as text, so that NaN equals NaN
        for repeat in range(repeats):
            for name in random.Random(repeat).sample(sorted(WAYS), len(WAYS)):
                started = time.perf_counter()
                answers = WAYS[name](setup.llm, asked)
                seconds[name].append(time.perf_counter() - started)
                if [str(answer) for answer in answers] != expected:
                    raise HomeworkError(f"{name} gives other answers")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    write_json(RESULTS, {"date": time.strftime("%Y-%m-%d"), "seconds": seconds, "medians": medians})
    for name, value in medians.items():
        print(f"{name:<14} {value:6.2f} s, {value / medians['ours']:.1f} times ours; the same {len(asked)} answers")


if __name__ == "__main__":
    run(main, "python -m benchmarks.generation")
