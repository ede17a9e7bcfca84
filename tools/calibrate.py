"""Measures what a right homework reaches, so that the bounds of grader/rubric.py rest on figures.

    python -m tools.calibrate             # five minutes on two cores; writes grader/calibration.json

Two kinds of chance move an accuracy: the seed of the training and the draw of the questions. Both are measured, and
FULL has to lie three standard deviations of both together below the mean, so that chance takes no points from a right
homework.
"""

import contextlib
import io
import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

from grader import reference, rubric
from grader.adapter import CONFIG, WEIGHTS, Adapter, read_config, read_weights
from grader.course import Course, share_right
from grader.seed import Seed
from homework.common.cli import run
from homework.common.files import write_json
from homework.sft import train_model
from homework.training.run_dir import LOG
from homework.training.trainer import steps_of

RESULT = Path(rubric.__file__).with_name("calibration.json")


def train(seed: int, folder: Path) -> tuple[Adapter, list[dict[str, float]]]:
    """The adapter of the reference homework with one seed, and the log of its steps."""
    with contextlib.redirect_stdout(io.StringIO()):
        train_model(seed=seed, output_dir=str(folder / rubric.ADAPTER_DIR), run_dir=str(folder / "run"), questions=1)
    config = read_config((folder / CONFIG).read_bytes())
    steps = steps_of(json.loads((folder / "run" / LOG).read_text(encoding="utf-8"))["log"])
    return read_weights((folder / WEIGHTS).read_bytes(), config, Course().base_config), steps


def measure(adapter: Adapter, draws: int) -> list[float]:
    """Accuracy on so many draws of hidden questions."""
    course = Course()
    model = reference.merge(course.base.model, adapter)
    accuracies = []
    for draw in range(draws):
        course.seed = Seed(f"calibration {draw}")
        accuracies.append(
            share_right(reference.ask(course.base, model, course.draw("hidden", rubric.HIDDEN_QUESTIONS)))
        )
    return accuracies


def summarise_logs(logs: list[list[dict[str, float]]]) -> dict[str, list[float]]:
    """Lowest and highest loss of the first and of the last step, and gradient norm of all steps, over the trainings."""
    ranges = {
        "first_loss": [steps[0]["loss"] for steps in logs],
        "last_loss": [steps[-1]["loss"] for steps in logs],
        "grad_norm": [step["grad_norm"] for steps in logs for step in steps],
    }
    return {name: [min(values), max(values)] for name, values in ranges.items()}


def measure_base() -> float:
    """Accuracy of the base model alone."""
    course = Course()
    return share_right(reference.ask(course.base, course.base.model, course.draw("hidden", rubric.HIDDEN_QUESTIONS)))


def summarise(accuracies: list[list[float]], base: float) -> dict[str, Any]:
    """Mean, both kinds of noise and the highest FULL that they allow; `accuracies` by seed of training and by draw."""
    mean = statistics.mean(value for values in accuracies for value in values)
    seed_noise = statistics.stdev(map(statistics.mean, accuracies))
    draw_noise = math.sqrt(mean * (1 - mean) / rubric.HIDDEN_QUESTIONS)
    return {
        "accuracies": accuracies,
        "questions": rubric.HIDDEN_QUESTIONS,
        "mean": mean,
        "seed_noise": seed_noise,
        "draw_noise": draw_noise,
        "highest_full": mean - 3 * math.hypot(seed_noise, draw_noise),
        "base_alone": base,
        "why": "FULL must not be above highest_full, three standard deviations below the mean of right homeworks; ZERO "
        "must be above the base alone, and credit rises in a straight line between them",
    }


def main(*, seeds: int = 5, draws: int = 4) -> None:
    """Train the reference with several seeds, measure it on several draws of questions, and write the calibration.

    Args:
        seeds: trainings.
        draws: draws of hidden questions for each training.
    """
    accuracies, logs = [], []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            adapter, steps = train(seed, Path(folder))
        accuracies.append(measure(adapter, draws))
        logs.append(steps)
        print(f"seed {seed}: {', '.join(f'{value:.3f}' for value in accuracies[-1])}", flush=True)
    result = summarise(accuracies, measure_base()) | {"logs": summarise_logs(logs)}
    write_json(RESULT, result)
    print(
        json.dumps({name: result[name] for name in ("mean", "seed_noise", "draw_noise", "highest_full", "base_alone")})
    )
    print(f"the rubric has ZERO {rubric.ZERO} and FULL {rubric.FULL}")


if __name__ == "__main__":
    run(main, "python -m tools.calibrate")
