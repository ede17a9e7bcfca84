"""SIGKILL at random moments of training and saving, then the same command: nothing is lost and nothing is mixed.

KILLS=30 python -m pytest tests/homework/test_kill.py          # as often as before a release
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
from homework.sft import load
from homework.training.adapter import CONFIG, WEIGHTS

KILLS = int(os.environ.get("KILLS", "4"))


def start(folder: Path) -> subprocess.Popen:
    flags = {"max-steps": 24, "questions": 5, "output-dir": folder / "a", "run-dir": folder / "run"}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return subprocess.Popen(
        [sys.executable, "-m", "homework.sft", "train", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(folder: Path) -> str:
    """Run the command to its end and return what it printed."""
    process = start(folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[bytes, float]:
    """The adapter of a run that nobody killed, and how long it took."""
    folder, started = tmp_path_factory.mktemp("whole"), time.monotonic()
    finish(folder)
    return (folder / "a" / WEIGHTS).read_bytes(), time.monotonic() - started


@pytest.mark.parametrize("seed", range(KILLS))
def test_the_same_command_goes_on_after_a_kill(whole, trained, tmp_path, seed):
    expected, seconds = whole
    shutil.copytree(trained.folder, tmp_path / "a")
    former = (tmp_path / "a" / WEIGHTS).read_bytes()
    process = start(tmp_path)
    # The first seconds are imports, where nothing is written.
    time.sleep(random.Random(seed).uniform(0.35, 1.0) * seconds)
    process.kill()
    process.communicate()
    # A swap that was interrupted is finished by load itself, so the folder is looked at after it.
    assert load(tmp_path / "a").answer("How many g are in 6 kg?")
    assert (tmp_path / "a" / WEIGHTS).read_bytes() in (former, expected)
    assert (tmp_path / "a" / CONFIG).is_file()
    finish(tmp_path)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == expected
    assert load(tmp_path / "a").answer("How many g are in 6 kg?")
