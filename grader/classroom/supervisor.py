"""Runs the grading processes of a class: hands out jobs, notices death and overtime, and ends them all together.

A process that dies (killed, out of memory, a crash in a library) costs its job one more try in a fresh process. If that
dies too, or takes too long, the result is a fault of ours, which is no zero. No grading happens in the supervisor.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

from grader import rubric
from grader.classroom.jobs import Job, WorkerConfig
from grader.classroom.store import Store
from grader.course import Course
from grader.errors import GraderFault
from grader.grade import explain_fault
from grader.result import Result
from grader.sandbox.job_dir import remove_stale

SUBMISSION_SECONDS = 3 * rubric.CHECK_SECONDS
START_SECONDS = 300  # until a process is ready: imports and the base model, on a busy machine
TRIES = 2
WORKER = "grader.classroom.worker"
WAIT_SECONDS = 1.0  # before a job is asked for again that another machine is grading


class Event(NamedTuple):
    """What became of a job (started, done, stopping), or that a thread has stopped, and then why if it is a fault."""

    kind: str
    job: Job | None = None
    text: str = ""


class Worker:
    """One grading process; used by one thread."""

    def __init__(self, config: WorkerConfig, log: Path) -> None:
        with log.open("ab") as errors:
            # Its own group, so that Ctrl-C reaches the supervisor only, and a kill reaches all that it started.
            self.process = subprocess.Popen(
                [sys.executable, "-m", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, start_new_session=True, cwd=rubric.ROOT, env=environment(), text=True,
            )  # fmt: skip
        assert self.process.stdin and self.process.stdout  # pipes, as asked for
        self.input, self.output = self.process.stdin, self.process.stdout
        self.overtime = False
        if self.ask(config.to_json(), START_SECONDS).get("state") != "ready":
            raise GraderFault(f"a grading process did not start ({self.describe_end()}): see {log}")

    def ask(self, content: dict, seconds: float) -> dict[str, str]:
        """Send a line, and the answer to it; empty if the process died or took too long, which kills it."""
        timer = threading.Timer(seconds, self.kill, kwargs={"overtime": True})
        timer.start()
        try:
            self.input.write(json.dumps(content) + "\n")
            self.input.flush()
            line = self.output.readline()
            return json.loads(line) if line.endswith("\n") else {}
        except (OSError, ValueError):
            return {}
        finally:
            timer.cancel()

    def kill(self, overtime: bool = False) -> None:
        """End the process and all that it started."""
        self.overtime = self.overtime or overtime
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL) if hasattr(os, "killpg") else self.process.kill()

    def describe_end(self) -> str:
        """How the process ended."""
        self.kill()
        code = self.process.wait()
        if self.overtime:
            return "it took too long"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def environment() -> dict[str, str]:
    """The environment of a grading process: one thread each, so that a score does not depend on --jobs."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("GRADER_KEY", "GRADER_HIDDEN"))}
    return {**known, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


class Supervisor:
    """Grades jobs in several processes; `events` tells what happens, and ends with one `stopped` for each process.

    Args:
        store: where the results go.
        course: whose seed the processes use.
        checks: names of checks; all if empty.
    """

    def __init__(self, store: Store, course: Course, checks: tuple[str, ...] = ()) -> None:
        self.store = store
        self.config = WorkerConfig.of(store, course, checks)
        self.events: queue.Queue[Event] = queue.Queue()
        self.jobs: queue.Queue[Job] = queue.Queue()
        self.stop = threading.Event()
        self.workers: set[Worker] = set()

    def start(self, jobs: list[Job], count: int) -> int:
        """Begin; returns the number of processes."""
        for job in jobs:
            self.jobs.put(job)
        count = max(1, min(count, len(jobs)))
        for _ in range(count):
            threading.Thread(target=self.serve, daemon=True).start()
        return count

    def end(self) -> None:
        """End all processes at once, and delete the folders of their sandboxes, which a killed one leaves behind."""
        self.stop.set()
        for worker in list(self.workers):
            worker.kill()
            worker.process.wait()
        remove_stale()

    def serve(self) -> None:
        """One thread: a process, and job after job for it, until none is left."""
        worker: Worker | None = None
        text = ""
        try:
            while not self.stop.is_set():
                job = self.jobs.get_nowait()
                worker = self.grade(job, worker)
        except queue.Empty:
            pass
        except Exception as error:  # the processes can't even start, or the disk is full: told once, by the main thread
            text = f"{error}"
        if worker:
            self.drop(worker)
        self.events.put(Event("stopped", text=text))

    def grade(self, job: Job, worker: Worker | None) -> Worker | None:
        """See one job through; returns the process for the next one."""
        self.events.put(Event("started", job))
        ended = ""
        for _ in range(TRIES):
            if worker is None:
                worker = Worker(self.config, self.log())
                self.workers.add(worker)
            answer = self.ask_until_free(worker, job)
            if answer.get("state") == "disk":
                raise OSError(f"can't keep a result in {self.store.root} ({answer['error']})")
            if answer or self.stop.is_set():
                self.events.put(Event("done" if answer else "stopping", job))
                return worker
            ended = worker.describe_end()
            self.drop(worker)
            overtime, worker = worker.overtime, None
            if overtime:
                break
        fault = GraderFault(f"the process that graded it died ({ended})")
        self.store.write(job.sha256, Result(job.name, "", (explain_fault(fault),)))
        self.events.put(Event("done", job))
        return worker

    def ask_until_free(self, worker: Worker, job: Job) -> dict[str, str]:
        """The answer to a job; one that another run is grading is asked for again until that one is done or dead."""
        while True:
            answer = worker.ask(job.to_json(), SUBMISSION_SECONDS)
            if answer.get("state") != "busy" or self.stop.wait(WAIT_SECONDS):
                return answer

    def drop(self, worker: Worker) -> None:
        """Forget a process, and make sure that it is gone."""
        worker.kill()
        worker.process.wait()
        for stream in (worker.input, worker.output):
            with contextlib.suppress(OSError):
                stream.close()
        self.workers.discard(worker)

    def log(self) -> Path:
        """Where the processes' own words go."""
        path = self.store.root / "log" / f"grading-{os.getpid()}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
