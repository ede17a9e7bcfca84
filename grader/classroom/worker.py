"""One grading process of a class: reads jobs from its input, grades, keeps each result, answers in one line.

python -m grader.classroom.worker         # started by grader/classroom/supervise.py, which speaks JSON lines with it

First comes a line with the seed, then one for each job. An answer holds no result, only what became of the job: the
result is in the results folder. When the supervisor is gone, its end of the pipe closes and this process ends at once.
"""

import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from grader.classroom.store import RunKey, Store, run_key

if TYPE_CHECKING:
    from grader.classroom.bench import Bench


def main() -> int:
    """Serve until the input ends; returns the exit code."""
    from grader.classroom.bench import Bench
    from grader.course import Course

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to the log, never between the answers
    lines = read_lines(sys.stdin)
    order = next(lines)
    course = Course(order["seed"], order["hidden_questions"], order["novel_questions"])
    store = Store(Path(order["out"]), RunKey(**order["key"]))
    if store.key != run_key(course, tuple(order["only"])):
        print("the grader's code has changed since the run began: start it again", file=sys.stderr)
        return 3
    with Bench(course, order["label"], tuple(order["only"])) as bench:
        tell(answers, state="ready")
        for job in lines:
            tell(answers, **serve(bench, store, job))
    return 0


def tell(answers: IO[str], **said: Any) -> None:
    """One line of answer."""
    answers.write(json.dumps(said) + "\n")
    answers.flush()


def serve(bench: "Bench", store: Store, job: dict[str, str]) -> dict[str, str]:
    """Grade one job unless it is graded or being graded; what became of it."""
    from filelock import FileLock, Timeout

    sha = job["sha"]
    try:
        store.path(sha).parent.mkdir(parents=True, exist_ok=True)
        # Held by this process, not by a file that says so: the system lets go of it, however the process ends.
        with FileLock(store.path(sha).with_name(".lock"), timeout=0):
            if store.read(sha) is None or store.age(sha) <= job.get("since", 0):
                store.write(sha, bench.grade_one(Path(job["path"]), job["name"]))
        return {"state": "done"}
    except Timeout:
        return {"state": "busy"}
    except OSError as error:
        return {"state": "disk", "error": f"{error.strerror or error}"}


def read_lines(stream: IO[str]) -> Iterator[dict[str, Any]]:
    """The lines of the input, read by a thread: when the input ends while a job runs, so does the process."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        # The supervisor is gone or done: nothing that is not kept yet is of use. The sandbox ends with this process.
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield json.loads(lines.get())


if __name__ == "__main__":
    sys.exit(main())
