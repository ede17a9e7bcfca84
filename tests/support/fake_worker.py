"""Stands in for grader/classroom/worker.py: grades by the name of the file, at once, or dies, hangs, or finds no space.

Like the real one, it has a folder of a sandbox, and is killed at its end.

python -m tests.support.fake_worker      # started by the supervisor under test
"""

import os
import sys
import time
from pathlib import Path

from grader.classroom.jobs import WorkerConfig
from grader.classroom.store import Store
from grader.classroom.worker import read_lines, tell
from grader.result import CheckResult, Result, State
from grader.sandbox.job_dir import make_work_dir


def main() -> None:
    lines = read_lines(sys.stdin)
    config = WorkerConfig.from_json(next(lines))
    store = Store(Path(config.results), config.key)
    make_work_dir()
    tell(sys.stdout, state="ready")
    for job in lines:
        name = job["name"]
        once = store.root / f"tried {name}"
        if name.startswith("dies") or (name.startswith("flaky") and not once.exists()):
            once.touch()
            os._exit(7)
        if name.startswith("hangs"):
            time.sleep(60)
        if name.startswith("full"):
            tell(sys.stdout, state="disk", error="No space left on device")
            continue
        passed = os.environ.get("FAKE_CHECKS", "adapter_present").split()  # what a rubric has, as a test sets it
        checks = tuple(CheckResult(check, "It is there.", 2, 2.0, State.PASSED) for check in passed)
        store.write(job["sha256"], Result(name, "0", checks))
        tell(sys.stdout, state="done")


if __name__ == "__main__":
    main()
