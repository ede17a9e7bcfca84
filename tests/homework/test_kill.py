"""SIGKILL at random moments of training and saving, then the same command: nothing is lost and nothing is mixed.

KILLS=30 python -m pytest --everything tests/homework/test_kill.py          # as often as before a release
"""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from homework.common.base_model import ROOT
from homework.sft import load, train_model
from homework.training.adapter import CONFIG, WEIGHTS

KILLS = int(os.environ.get("KILLS", "4"))
STEPS, QUESTIONS = 12, 5


def start(folder: Path) -> subprocess.Popen:
    """The training as a process of its own, whose words come as it says them."""
    flags = {"max-steps": STEPS, "questions": QUESTIONS, "output-dir": folder / "a", "run-dir": folder / "run"}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return subprocess.Popen(
        [sys.executable, "-m", "homework.sft", "train", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path) -> float:
    """The same training to its end, in this process; the seconds that it takes."""
    started = time.monotonic()
    train_model(max_steps=STEPS, questions=QUESTIONS, output_dir=str(folder / "a"), run_dir=str(folder / "run"))
    return time.monotonic() - started


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[bytes, float]:
    """The adapter of a run that nobody killed, and how long it took."""
    folder = tmp_path_factory.mktemp("whole")
    seconds = finish(folder)
    return (folder / "a" / WEIGHTS).read_bytes(), seconds


@pytest.mark.everything
@pytest.mark.parametrize("seed", range(KILLS))
def test_the_same_command_goes_on_after_a_kill(whole, trained, tmp_path, seed):
    expected, seconds = whole
    shutil.copytree(trained.folder, tmp_path / "a")
    former = (tmp_path / "a" / WEIGHTS).read_bytes()
    process = start(tmp_path)
    said = ""
    while not said.startswith("base model: "):  # the imports are over, where nothing is written
        said = process.stdout.readline()
        assert said, process.stderr.read()
    time.sleep(random.Random(seed).uniform(0, 1) * seconds)
    process.kill()
    process.communicate()
    # A swap that was interrupted is finished by load itself, so the folder is looked at after it.
    assert load(tmp_path / "a").answer("How many g are in 6 kg?")
    assert (tmp_path / "a" / WEIGHTS).read_bytes() in (former, expected)
    assert (tmp_path / "a" / CONFIG).is_file()
    finish(tmp_path)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == expected
    assert load(tmp_path / "a").answer("How many g are in 6 kg?")
