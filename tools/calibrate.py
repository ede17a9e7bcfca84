"""Measures what a right homework reaches, so that the bounds of grader/rubric.py rest on figures.

    python -m tools.calibrate                         # five minutes on two cores; writes grader/calibration.json
    python -m tools.calibrate --hidden hidden.json    # on an instructor's own hidden questions

Two kinds of chance move an accuracy: the seed of the training and the draw of the questions. Both are measured, and
FULL has to lie three standard deviations of both together below the mean, so that chance takes no points from a right
homework. An instructor's own questions are a fixed set: each training is measured on all of them, once.
"""

import contextlib
import io
import json
import math
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from grader import reference, rubric
from grader.adapter import CONFIG, WEIGHTS, Adapter, read_config, read_weights
from grader.course import Course, share_right
from grader.questions import HIDDEN_VARIABLE, Rows, read_hidden
from grader.seed import Seed
from homework.common.cli import run
from homework.common.errors import HomeworkError
from homework.common.files import write_json
from homework.sft import train_model
from homework.training.run_dir import LOG, steps_of

RESULT = Path(rubric.__file__).with_name("calibration.json")


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


def measure_base(hidden: Rows | None = None) -> float:
    """Accuracy of the base model alone."""
    course = Course(hidden=hidden)
    return share_right(reference.ask(course.base, course.base.model, course.scored()))


def choose_bounds(result: dict[str, Any], zero: float | None = None) -> tuple[float, float]:
    """ZERO and FULL in whole per cents: FULL as high as chance allows, ZERO two thirds of it unless it is given.

    Example: a highest FULL of 0.757 -> (0.5, 0.75)

    Raises:
        HomeworkError: if the base alone is not below them, so that there is nothing to give points for.
    """
    full = math.floor(result["highest_full"] * 100) / 100
    lower = math.floor(full * 200 / 3) / 100 if zero is None else zero
    if not result["base_alone"] < lower < full:
        raise HomeworkError(
            f"no bounds fit: FULL can be {full:.2f} at most, and ZERO must lie below it and above the "
            f"{result['base_alone']:.2f} of the base alone: more rows, easier questions, or more epochs in the recipe"
        )
    return lower, full


def summarise(accuracies: list[list[float]], base: float, questions: int = rubric.HIDDEN_QUESTIONS) -> dict[str, Any]:
    """Mean, both kinds of noise and the highest FULL that they allow; `accuracies` by seed of training and by draw."""
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
        "why": "FULL must not be above highest_full, three standard deviations below the mean of right homeworks; ZERO "
        "must be above the base alone, and credit rises in a straight line between them",
    }


def main(*, seeds: int = 5, draws: int = 4, hidden: str | None = None) -> None:
    """Train the reference with several seeds, measure it on several draws of questions, and write the calibration.

    Args:
        seeds: trainings.
        draws: draws of hidden questions for each training.
        hidden: the staff's own hidden questions; else GRADER_HIDDEN_FILE, else the course's, or valid of your own data.
    """
    if seeds < 2:
        raise HomeworkError(f"--seeds must be at least 2, got {seeds}: one training shows no chance")
    rows = read_hidden(hidden or os.environ.get(HIDDEN_VARIABLE))
    course = Course(hidden=rows)
    print(f"questions: {len(course.scored())}, {course.label}", flush=True)
    accuracies, logs = [], []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            adapter, steps = train(seed, Path(folder))
        accuracies.append(measure(adapter, draws, rows))
        logs.append(steps)
        print(f"seed {seed}: {', '.join(f'{value:.3f}' for value in accuracies[-1])}", flush=True)
    result = summarise(accuracies, measure_base(rows), len(course.scored())) | {"logs": summarise_logs(logs)}
    write_json(RESULT, result | {"source": course.source})
    print(
        json.dumps({name: result[name] for name in ("mean", "seed_noise", "draw_noise", "highest_full", "base_alone")})
    )
    print(f"the rubric has ZERO {rubric.ZERO} and FULL {rubric.FULL}")
    zero, full = choose_bounds(result, rubric.ZERO if course.source == "drawn" else None)
    print(f"write into grader/rubric.py: ZERO, FULL = {zero:.2f}, {full:.2f}")


if __name__ == "__main__":
    run(main, "python -m tools.calibrate")
