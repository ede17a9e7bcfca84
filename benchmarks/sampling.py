"""Sampling of reasons: ten texts for each of some questions, by task 6's loop and by transformers' generate.

    python -m benchmarks.sampling           # five minutes on two cores; writes benchmarks/sampling.json

transformers' generate gets every batch size of `BATCHES`, and the best one counts. At a temperature near 0, where one
token is left at each step, both have to write the same texts; where one is cut, because the room behind the longest
prompt of a batch is that of all, it is not compared.
"""

import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from homework.base_llm import Completion, plan_batches
from homework.common.cli import run
from homework.common.errors import HomeworkError
from homework.common.files import write_json
from homework.cot import CoTModel, load
from homework.data import Dataset, take_rows
from homework.training.sampling import CPU_SLOTS, draw_noise, sample

RESULTS = Path(__file__).with_suffix(".json")
BATCHES = (20, 40, 80, 160)  # texts at once
TEMPERATURE, COLD = 0.6, 1e-3
Way = Callable[[CoTModel, list[list[int]], int, float], list[list[Completion]]]


def ours(llm: CoTModel, rows: list[list[int]], count: int, temperature: float) -> list[list[Completion]]:
    """Batches as `sample_round` plans them."""
    texts: dict[int, list[Completion]] = {}
    for batch in plan_batches([len(row) for row in rows], llm.max_new_tokens, CPU_SLOTS // count):
        noise = torch.stack([draw_noise((0, 0, index), count, llm.max_new_tokens) for index in batch])
        texts |= dict(zip(batch, sample([rows[index] for index in batch], llm, temperature, noise), strict=True))
    return [texts[index] for index in range(len(rows))]


def library(
    llm: CoTModel, rows: list[list[int]], count: int, temperature: float, size: int
) -> list[list[Completion]]:  # fmt: skip
    """transformers' generate on batches of questions of similar length, `size` texts at once."""
    texts: dict[int, list[Completion]] = {}
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    for start in range(0, len(rows), size // count):
        batch = order[start : start + size // count]
        repeated = [rows[index] for index in batch for _ in range(count)]
        written = llm.complete_batch(repeated, llm.max_new_tokens, temperature)
        texts |= {index: written[at * count : (at + 1) * count] for at, index in enumerate(batch)}
    return [texts[index] for index in range(len(rows))]


WAYS: dict[str, Way] = {"ours": ours, **{f"generate, {size} texts": partial(library, size=size) for size in BATCHES}}


def main(*, repeats: int = 3, questions: int = 64, count: int = 10) -> None:
    """Measure all ways in turn and print the ratios.

    Args:
        repeats: how often each way samples all texts.
        questions: of train.
        count: texts for each.
    """
    llm = load()
    rows = [llm.encode_prompt(llm.format_prompt(question)) for question, _ in take_rows(Dataset("train"), questions)]
    pairs = zip(ours(llm, rows, 1, COLD), library(llm, rows, 1, COLD, BATCHES[0]), strict=True)
    whole = [(one, other) for (one,), (other,) in pairs if one.ended and other.ended]
    if len(whole) < 0.9 * len(rows) or any(one != other for one, other in whole):
        raise HomeworkError("at a temperature near 0, the texts are not the same")
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for repeat in range(repeats):
        for name in random.Random(repeat).sample(sorted(WAYS), len(WAYS)):
            started = time.perf_counter()
            WAYS[name](llm, rows, count, TEMPERATURE)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    size = {"questions": questions, "texts of each": count}
    write_json(RESULTS, {"date": time.strftime("%Y-%m-%d"), **size, "seconds": seconds, "medians": medians})
    for name, value in medians.items():
        print(f"{name:<20} {value:6.1f} s, {value / medians['ours']:.1f} times ours")


if __name__ == "__main__":
    run(main, "python -m benchmarks.sampling")
