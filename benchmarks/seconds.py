"""Where every second of the handout's first line goes, from the start of Python to its end.

    python -m benchmarks.seconds              # half a minute on two cores; writes benchmarks/seconds.json

Each part is timed from outside, around the function that does it; what is left over is said, not hidden.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from homework.common.base_model import ROOT
from homework.common.cli import run
from homework.common.errors import HomeworkError
from homework.common.files import read_json, write_json

RESULTS = Path(__file__).with_suffix(".json")
OUT = "parts.json"


def time_parts(folder: Path) -> None:
    """Run `train` in this process, and write the seconds of its parts into `folder`."""
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    from homework import sft
    from homework.base_llm import BaseLLM
    from homework.reporting import plots, results
    from homework.training import callbacks, trainer

    seconds["imports"] = time.perf_counter() - started
    for part, owner, name in (
        ("base model, first load", BaseLLM, "__init__"),
        ("rows and proof of labels", sft, "TokenizedDataset"),
        ("rows and proof of labels", trainer, "check_rows_and_prompt"),
        ("training, without the probes", trainer.HomeworkTrainer, "train"),
        ("probes of accuracy", callbacks.AccuracyCallback, "measure"),
        ("save, and proof by reloading", trainer, "save_adapter"),
        ("load() and its proof", sft, "load"),
        ("score on 950 questions", results, "report_accuracy"),
        ("picture of the run", plots, "draw_run"),
    ):
        setattr(owner, name, timed(getattr(owner, name), part, seconds))
    sft.train_model(output_dir=str(folder / "sft_model"), run_dir=str(folder / "run"))
    seconds["training, without the probes"] -= seconds["probes of accuracy"]
    seconds["all of it"] = time.perf_counter() - started
    write_json(folder / OUT, seconds)


def timed(function: Callable[..., Any], part: str, seconds: dict[str, float]) -> Callable[..., Any]:
    """`function`, which adds its time to `part`; the second load of the base is counted with load() alone."""

    def call(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = function(*arguments, **options)
        if not (part == "base model, first load" and part in seconds):
            seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - started
        return result

    return call


def format_table(seconds: dict[str, float]) -> str:
    """The parts as a Markdown table, with their share of the whole process."""
    whole = seconds["whole process"]
    lines = ["| part | s | share |", "|---|---|---|"]
    return "\n".join(lines + [f"| {part} | {value:.2f} | {value / whole:.0%} |" for part, value in seconds.items()])


def main(*, folder: str | None = None) -> None:
    """Time a process that trains, and print the table.

    Args:
        folder: train in this process and write here; the measured process is started so.
    """
    if folder:
        time_parts(Path(folder))
        return
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        line = [sys.executable, "-m", "benchmarks.seconds", "--folder", scratch]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
        whole = time.perf_counter() - started
        seconds = read_json(Path(scratch) / OUT)
    if done.returncode or seconds is None:
        raise HomeworkError(done.stdout + done.stderr)
    inside = seconds.pop("all of it")
    seconds["all else in train"] = inside - sum(seconds.values())
    seconds["start and end of Python"] = whole - inside
    seconds["whole process"] = whole
    write_json(RESULTS, {"date": time.strftime("%Y-%m-%d"), "seconds": seconds})
    print(format_table(seconds))


if __name__ == "__main__":
    run(main, "python -m benchmarks.seconds")
