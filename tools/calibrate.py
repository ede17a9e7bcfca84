"""Measures what a right homework reaches, and writes the bounds of the rubrics: grader/rubrics/*.toml.

    python -m tools.calibrate                         # the course's rubric: five minutes on two cores if it is short
    python -m tools.calibrate --rubric long           # tasks 5 to 7 as well: half an hour
    python -m tools.calibrate --hidden hidden.json    # on an instructor's own hidden questions

Two kinds of chance move an accuracy: the seed of the training and the draw of the questions. Both are measured, and
the upper bound lies three standard deviations of both together below the mean, so that chance takes no points from a
right homework. An instructor's own questions are a fixed set: each training is measured on all of them, once.
The lower bound of `reasoning_accuracy` is what the first adapter reaches there, which gives no reasons.
"""

import contextlib
import io
import json
import math
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from grader import reference, rubric
from grader.adapter import Adapter, read_config, read_weights
from grader.course import Course, share_right
from grader.harness.inputs import PROMPTED
from grader.own_questions import CALIBRATION, HIDDEN_VARIABLE, Rows, hash_public, read_hidden
from grader.rubric import CONFIG, REASONING_FILES, RUBRICS, WEIGHTS, read_rubric, write_bounds
from grader.seed import Seed
from grader.units import draw_questions
from homework import cot, datagen, rft
from homework.common.cli import run
from homework.common.errors import HomeworkError
from homework.common.files import read_json, write_json
from homework.sft import train_model
from homework.training.run_dir import LOG, steps_of

ZERO = 0.5  # of the accuracy on the course's own questions: the format alone gives less


class Reasoned(NamedTuple):
    """What one seed of tasks 5 to 7 reached, draw by draw."""

    accuracy: list[float]  # of the adapter that reasons, within 1 % on long questions
    without: list[float]  # of the first adapter there
    reasons: list[float]  # right answers with a reason that holds
    prompt: list[float]  # the same of the prompt of task 5


def train(seed: int, folder: Path) -> tuple[Adapter, list[dict[str, float]]]:
    """The adapter of the reference homework with one seed, and the log of its steps."""
    with contextlib.redirect_stdout(io.StringIO()):
        train_model(seed=seed, output_dir=str(folder / rubric.ADAPTER_DIR), run_dir=str(folder / "run"), questions=1)
    config = read_config((folder / CONFIG).read_bytes())
    steps = steps_of(json.loads((folder / "run" / LOG).read_text(encoding="utf-8"))["log"])
    return read_weights((folder / WEIGHTS).read_bytes(), config, Course().base_config), steps


def measure(adapter: Adapter, draws: int, hidden: Rows | None = None) -> list[float]:
    """Accuracy on so many draws of hidden questions, or on the instructor's own."""
    course = Course(hidden=hidden)
    model = reference.merge(course.base.model, adapter)
    accuracies = []
    for draw in range(draws if course.given is None else 1):
        course.seed = Seed(f"calibration {draw}")
        accuracies.append(share_right(reference.ask(course.base, model, course.scored())))
    return accuracies


def summarise_logs(logs: list[list[dict[str, float]]]) -> dict[str, list[float]]:
    """Lowest and highest loss of the first and of the last step, and gradient norm of all steps, over the trainings."""
    ranges = {
        "first_loss": [steps[0]["loss"] for steps in logs],
        "last_loss": [steps[-1]["loss"] for steps in logs],
        "grad_norm": [step["grad_norm"] for steps in logs for step in steps],
    }
    return {name: [min(values), max(values)] for name, values in ranges.items()}


def measure_reasoning(seed: int, first: Adapter, folder: Path, draws: int, hidden: Rows | None) -> Reasoned:
    """Sample and train as tasks 6 and 7 do, and measure prompt and adapters on so many draws."""
    rows, output = folder / rubric.REASONS, folder / rubric.REASONING_DIR
    with contextlib.redirect_stdout(io.StringIO()):
        datagen.generate_dataset(str(rows), seed=seed)
        rft.train_model(str(output), data=str(rows), seed=seed, run_dir=str(folder / "rft"), questions=1)
        prompted = cot.load()
    config, weights = ((folder / name).read_bytes() for name in REASONING_FILES)
    course, found = Course(hidden=hidden), Reasoned([], [], [], [])
    second = read_weights(weights, read_config(config), course.base_config)
    for draw in range(draws if course.given is None else 1):
        course.seed = Seed(f"calibration {draw}")
        measured = course.measure_reasons(second)
        found.accuracy.append(measured.long_accuracy)
        found.reasons.append(measured.reasoned)
        found.without.append(course.measure_reasons(first).long_accuracy)
        asked = draw_questions("valid", PROMPTED, f"calibration {seed} {draw}")
        found.prompt.append(course.measure_prompt([prompted.format_prompt(one.text) for one in asked], asked).share)
    return found


def measure_base(hidden: Rows | None = None) -> float:
    """Accuracy of the base model alone."""
    course = Course(hidden=hidden)
    return share_right(reference.ask(course.base, course.base.model, course.scored()))


def choose_bounds(result: dict[str, Any], zero: float | None = None) -> tuple[float, float]:
    """Both bounds in whole per cents: the upper one as high as chance allows, the lower two thirds of it, or `zero`.

    Example: a highest upper bound of 0.757 -> (0.5, 0.75)

    Raises:
        HomeworkError: if what is reached without learning is not below them: there is nothing to give points for.
    """
    full = math.floor(result["highest_full"] * 100) / 100
    lower = math.floor(full * 200 / 3) / 100 if zero is None else zero
    if not result["base_alone"] <= lower < full:
        raise HomeworkError(
            f"no bounds fit, and nothing is written: the trainings reach {result['mean']:.2f}, of which chance may "
            f"take {result['mean'] - result['highest_full']:.2f}, and what has learned nothing reaches "
            f"{result['base_alone']:.2f}: more rows, easier questions, or more epochs in the recipe"
        )
    return lower, full


def choose_reasoning_bounds(found: dict[str, dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Bounds of the checks of tasks 5 to 7, from what was measured."""
    zeros = {"reasoning_accuracy": math.ceil(found["reasoning_accuracy"]["base_alone"] * 100) / 100}
    return {check: choose_bounds(result, zeros.get(check)) for check, result in found.items()}


def summarise(accuracies: list[list[float]], base: float, questions: int = rubric.HIDDEN_QUESTIONS) -> dict[str, Any]:
    """Mean, both kinds of noise and the highest upper bound; `accuracies` by seed of training and by draw."""
    mean = statistics.mean(value for values in accuracies for value in values)
    seed_noise = statistics.stdev(map(statistics.mean, accuracies))
    draw_noise = math.sqrt(mean * (1 - mean) / questions)
    return {
        "accuracies": accuracies,
        "questions": questions,
        "mean": mean,
        "seed_noise": seed_noise,
        "draw_noise": draw_noise,
        "highest_full": mean - 3 * math.hypot(seed_noise, draw_noise),
        "base_alone": base,
        "why": "the upper bound is three standard deviations below the mean of right homeworks; the lower one is above "
        "what is reached without learning, and credit rises in a straight line between them",
    }


def summarise_reasoning(found: list[Reasoned], asked: int) -> dict[str, dict[str, Any]]:
    """The same for the checks of tasks 5 to 7."""
    without = statistics.mean(value for one in found for value in one.without)
    return {
        "reasoning_accuracy": summarise([one.accuracy for one in found], without, asked),
        "reasons": summarise([one.reasons for one in found], 0.0, asked),
        "prompt": summarise([one.prompt for one in found], 0.0, PROMPTED),
    }


def main(*, seeds: int = 5, draws: int = 4, hidden: str | None = None, rubric: str = "") -> None:
    """Train the reference with several seeds, measure it on several draws of questions, and write bounds and figures.

    Args:
        seeds: trainings.
        draws: draws of hidden questions for each training.
        hidden: the staff's own hidden questions; else GRADER_HIDDEN_FILE, else the course's, or valid of your own data.
        rubric: short or long; else the course's.
    """
    if seeds < 2:
        raise HomeworkError(f"--seeds must be at least 2, got {seeds}: one training shows no chance")
    rows = read_hidden(hidden or os.environ.get(HIDDEN_VARIABLE))
    course = Course(hidden=rows, rubric=read_rubric(rubric))
    is_long = "reasons" in course.rubric.points
    print(f"rubric {course.rubric.name}; questions: {len(course.scored())}, {course.label}", flush=True)
    accuracies, logs, reasoned = [], [], []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as name:
            adapter, steps = train(seed, Path(name))
            if is_long:
                reasoned.append(measure_reasoning(seed, adapter, Path(name), draws, rows))
        accuracies.append(measure(adapter, draws, rows))
        logs.append(steps)
        print(f"seed {seed}: {', '.join(f'{value:.3f}' for value in accuracies[-1])}", *reasoned[-1:], flush=True)
    result = summarise(accuracies, measure_base(rows), len(course.scored())) | {"logs": summarise_logs(logs)}
    reasoning = summarise_reasoning(reasoned, len(course.long())) if is_long else {}
    bounds = {"accuracy": choose_bounds(result, ZERO if course.source == "drawn" else None)}
    put_bounds(bounds | (choose_reasoning_bounds(reasoning) if is_long else {}))
    kept = reasoning or read_json(CALIBRATION).get("reasoning")
    write_json(CALIBRATION, result | {"source": course.source, "valid": hash_public(), "reasoning": kept})


def put_bounds(found: dict[str, tuple[float, float]]) -> None:
    """Write bounds by check into the rubrics that have it, and say them."""
    for check, bounds in found.items():
        for path in RUBRICS.glob("*.toml"):
            if check in read_rubric(path.stem).bounds:
                write_bounds(path.stem, check, bounds)
        print(f"{check}: nothing up to {bounds[0]:.2f}, all from {bounds[1]:.2f}")


if __name__ == "__main__":
    run(main, "python -m tools.calibrate")
