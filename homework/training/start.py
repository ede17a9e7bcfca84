"""The start of a command that trains: what can be wrong with it is named before anything is loaded."""

from pathlib import Path
from typing import Any

from homework.common.errors import HomeworkError
from homework.training import distributed, run_dir
from homework.training.recipe import LIMITS


def default_output(folder: Path, max_steps: int | None) -> Path:
    """The adapter's folder where none is asked for: a quick run must not replace a trained adapter."""
    if not max_steps:
        return folder
    quick = run_dir.RUNS / "quick"
    print(f"a quick run: its adapter goes to {quick}, and {folder.name} stays as it is; --output-dir asks for another")
    return quick


def begin(output_dir: str | Path, seed: int, **values: Any) -> Path:
    """Meet the other processes, check the flags, and make sure that the adapter's folder can be written.

    Args:
        output_dir: the adapter's folder.
        seed: of the run.
        values: numbers by flag, None where the flag is not given.

    Raises:
        HomeworkError: naming the flag, or the folder.
    """
    from homework.training.adapter import prepare_output

    distributed.join()
    check_flags(seed, **values)
    return prepare_output(output_dir)


def check_flags(seed: int, **values: float | None) -> None:
    """Raise HomeworkError unless each value is positive, finite and one that the grader takes, and torch the seed."""
    for key, value in values.items():
        flag, most = f"--{key.replace('_', '-')}", LIMITS.get(key, float("inf"))
        if value is not None and not 0 < value < float("inf"):
            raise HomeworkError(f"{flag} must be positive, got {value}")
        if value is not None and value > most:
            raise HomeworkError(f"{flag} must be {most} or less, or the grader refuses the adapter; got {value}")
    if not 0 <= seed < 2**32:
        raise HomeworkError(f"--seed must be within 0 to 4294967295, got {seed}")
