"""A class run on a cluster, through submitit: one array job, each task a grading process over its share of the class.

    pip install submitit
    python -m grader FOLDER --out /shared/results --cluster slurm --jobs 20

Tasks write results into the shared results folder, as processes of one machine do, and return only its path: no result
travels through a pickle. A task whose machine died is told apart from one in which our code failed; both leave their
submissions without a result, never with a zero, and the same line grades what is left.
"""

import re
import sys
from dataclasses import asdict
from pathlib import Path

from grader.classroom.supervise import Job, Supervisor
from grader.errors import GraderFault

MINUTES_EACH = 10  # of a task's time, for each of its submissions: a bound, not an estimate
MEMORY_GB = 4


def run_cluster(name: str, supervisor: Supervisor, jobs: list[Job], count: int) -> None:
    """Grade the jobs on a cluster and wait for it.

    Args:
        name: slurm; local (processes of this machine) or debug (this process) to try it out.
        supervisor: which knows results folder, seed and checks.
        jobs: what to grade.
        count: tasks at once.

    Raises:
        GraderFault: saying which tasks did not end well, and why.
    """
    try:
        import submitit
    except ModuleNotFoundError:
        raise GraderFault("--cluster needs submitit: pip install submitit") from None
    folder = supervisor.store.root.resolve() / "cluster"
    executor = submitit.AutoExecutor(folder=folder, cluster=name)
    shares = [jobs[index::count] for index in range(min(count, len(jobs)))]
    minutes = MINUTES_EACH * max(map(len, shares))
    executor.update_parameters(timeout_min=minutes, mem_gb=MEMORY_GB, cpus_per_task=1, name="grader")
    if name == "slurm":
        executor.update_parameters(slurm_array_parallelism=count)
    orders = [dict(supervisor.order) for _ in shares]
    lists = [[job.as_order() for job in share] for share in shares]
    tasks = executor.map_array(grade_share, orders, lists)
    print(f"{len(jobs)} submissions in {len(tasks)} tasks of one array job, {name}; logs in {folder}")
    problems = [text for task in tasks if (text := wait(task))]
    if problems:
        raise GraderFault(f"{len(problems)} of {len(tasks)} tasks: {problems[0]}; the same line grades what is left")


def wait(task: object) -> str:
    """Wait for a task; why it did not end well, or nothing."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        task.result()
        return ""
    except FailedJobError as error:
        lines = str(error).splitlines()  # a traceback, and where the logs are
        said = [line for line in lines if re.match(r"[\w.]*(Fault|Error|Exception|Exit)\b", line)]
        return f"the grader failed ({(said or lines)[-1]})"
    except UncompletedJobError as error:
        return f"the machine died or the time was up, not the submission's fault ({str(error).splitlines()[0]})"
    except Exception as error:  # the debug executor raises what the task raised
        return f"the grader failed ({type(error).__name__}: {error})"


def grade_share(order: dict, jobs: list[dict]) -> str:
    """Grade a share of the class, in a task; returns the results folder.

    Raises:
        GraderFault: if a result can't be kept.
    """
    from grader.classroom.bench import Bench
    from grader.classroom.store import RunKey, Store, run_key
    from grader.classroom.worker import serve
    from grader.course import Course

    course = Course(order["seed"], order["hidden_questions"], order["novel_questions"])
    store, only = Store(Path(order["out"]), RunKey(**order["key"])), tuple(order["only"])
    if asdict(store.key) != asdict(run_key(course, only)):
        raise GraderFault("the grader's code has changed since the run began: start it again")
    with Bench(course, order["label"], only) as bench:
        for job in jobs:
            said = serve(bench, store, job)
            if said["state"] == "disk":
                raise GraderFault(f"can't keep a result in {store.root} ({said['error']})")
            print(job["name"], said["state"], file=sys.stderr)
    return str(store.root)
