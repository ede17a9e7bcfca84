"""One grading process of a class: reads jobs from its input, grades, keeps each result, answers in one line.

python -m grader.classroom.worker         # started by grader/classroom/supervisor.py, which speaks JSON lines with it

First comes a line with the configuration, then one for each job. An answer holds no result, only what became of the
job: the result is in the results folder. When the supervisor is gone, its end of the pipe closes and this process ends
at once.
"""

import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from grader.classroom.jobs import Job, WorkerConfig
from grader.classroom.store import Store
from grader.errors import GraderFault
from grader.files import remove_left

if TYPE_CHECKING:
    from grader.classroom.session import Session


def main() -> int:
    """Serve until the input ends; returns the exit code."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to the log, never between the answers
    lines = read_lines(sys.stdin)
    config = WorkerConfig.from_json(next(lines))
    try:
        course, store = config.open()
    except GraderFault as fault:
        print(fault, file=sys.stderr)
        return 3
    from grader.classroom.session import Session  # it imports torch, whose words belong into the log

    with Session(course, config.checks) as session:
        tell(answers, state="ready")
        for line in lines:
            tell(answers, **serve(session, store, Job.from_json(line)))
    return 0


def tell(answers: IO[str], **answer: Any) -> None:
    """One line of answer."""
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def serve(session: "Session", store: Store, job: Job) -> dict[str, str]:
    """Grade one job unless it is graded or being graded; what became of it."""
    path = store.path(job.sha256)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Held by this process, not by a file that says so: the system lets go of it, however the process ends.
        with FileLock(path.with_name(".lock"), timeout=0):
            remove_left(path.parent)
            if store.read(job.sha256) is None or store.age(job.sha256) <= job.since:
                store.write(job.sha256, session.grade_one(job.path, job.name))
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
