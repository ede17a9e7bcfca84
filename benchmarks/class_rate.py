"""How many submissions a minute: a class run against a loop over `python -m grader ID.zip`, in turns.

python -m benchmarks.class_rate           # needs a trained homework/sft_model; prints JSON

The two take turns, so that another program on the machine slows both.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.kill_class import read_homework, variant
from homework.common.base_model import ROOT
from homework.common.cli import run
from tests.support import zips


def seconds_of(words: list[str]) -> tuple[float, str]:
    """The time that a command, module and arguments, takes, and what it printed."""
    started = time.perf_counter()
    environment = {**os.environ, "GRADER_KEY_FILE": ""}
    del environment["GRADER_KEY_FILE"]
    line = [sys.executable, "-m", *words]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stdout


def main(*, singles: int = 6, students: int = 24, jobs: int = 2) -> None:
    """Measure both and print the ratio.

    Args:
        singles: submissions of the loop, half of them before and half after the class run.
        students: submissions of the class run.
        jobs: grading processes.
    """
    files = read_homework()
    with tempfile.TemporaryDirectory() as work:
        folder, out = Path(work) / "class", Path(work) / "results"
        folder.mkdir()
        for index in range(students):
            zips.good(folder / f"{index}.zip", variant(files, index))
        each = [str(folder / f"{index}.zip") for index in range(singles)]
        loop = sum(seconds_of(["grader", path])[0] for path in each[: singles // 2])
        whole, said = seconds_of(["grader.classroom", str(folder), "--out", str(out), "--jobs", str(jobs)])
        loop += sum(seconds_of(["grader", path])[0] for path in each[singles // 2 :])
    rates = 60 * singles / loop, 60 * students / whole
    summary = next(line for line in said.splitlines() if "a minute" in line)
    print(json.dumps({"loop a minute": rates[0], "class a minute": rates[1], "ratio": rates[1] / rates[0],
                      "students": students, "jobs": jobs, "said": summary}, indent=1))  # fmt: skip


if __name__ == "__main__":
    run(main, "python -m benchmarks.class_rate")
