"""Runs the checks of `python -m homework.check`, and says what they say: one line, no traceback.

python -m pytest tests/public                    # all tasks
python -m pytest tests/public/test_task3.py      # one of them
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from homework.check import CHECKS, Known, run_check
from homework.common.errors import explain_error
from homework.common.zip_contents import WEIGHTS
from homework.training.run_dir import RESULT

MISSING = pytest.StashKey[set[str]]()


@pytest.fixture(scope="session")
def known() -> Known:
    """Base model, data and rows, made once."""
    return Known()


@pytest.fixture
def check(known: Known, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`check("tokenize")` runs the check of that name."""

    def one(name: str) -> None:
        complaint = None
        try:
            run_check(name, known)
        except NotImplementedError as error:
            complaint = str(error)
            request.config.stash.setdefault(MISSING, set()).add(complaint)
        except Exception as error:  # the code that is checked is the student's
            complaint = explain_error(error)
            if cause := find_cause(name, known):
                complaint = f"not judged, because {cause} fails, which it rests on"
        if complaint is not None:
            pytest.fail(complaint, pytrace=False)

    return one


def find_cause(name: str, known: Known) -> str | None:
    """The gap behind a failing check: the first one that fails of those that it rests on, and those upon others."""
    gaps = {own: needs for task, own, _, needs in CHECKS if task}
    for need in [need for need in gaps[name] if need in gaps]:
        if cause := find_cause(need, known):
            return cause
        try:
            run_check(need, known)
        except Exception:  # the code that is checked is the student's
            return need
    return None


@pytest.fixture
def check_training(tmp_path: Path) -> Callable[[Callable[..., None]], None]:
    """`check_training(train)` runs train(folder, run_dir=…), which takes two steps, and looks at what it has saved."""

    def one(train: Callable[..., None]) -> None:
        folder, complaint = tmp_path / "adapter", ""
        try:
            train(str(folder), max_steps=2, questions=1, seed=1, run_dir=str(tmp_path / "run"))
            weights = load_file(folder / WEIGHTS)
            still = [name for name, tensor in weights.items() if "lora_B" in name and not tensor.any()]
            complaint = f"{len(still)} LoRA matrices have not moved, first {still[0]}" if still else ""
            if takes_given_trainer(train) and not (tmp_path / "run" / RESULT).is_file():
                complaint = complaint or "train_model ends without report_run, so nobody reads the accuracy"
        except Exception as error:  # the code that is checked is the student's
            complaint = explain_error(error)
        if complaint:
            pytest.fail(complaint, pytrace=False)

    return one


def takes_given_trainer(train: Callable[..., None]) -> bool:
    """Whether a training, or the module that it stands in, calls HomeworkTrainer, which alone report_run can report."""
    module = inspect.getmodule(train.func if isinstance(train, partial) else train)
    return module is None or "HomeworkTrainer(" in inspect.getsource(module)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest's own summary, so that this comes last
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Iterator[None]:
    yield
    for line in sorted(config.stash.get(MISSING, ())):
        terminalreporter.write_line(line)
