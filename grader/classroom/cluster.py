"""A class run on a cluster, through submitit: one array job, each task a grading process over its share of the class.

Tasks write results into the shared results folder, as processes of one machine do, and return only its path: no result
travels through a pickle. A task whose machine died is told apart from one in which our code failed; both leave their
submissions without a result, never with a zero, and the same line grades what is left.
"""

import re
import sys
from typing import Any

from grader.classroom.jobs import Job, WorkerConfig
from grader.classroom.session import Session
from grader.classroom.supervisor import Supervisor
from grader.classroom.worker import serve
from grader.errors import GraderFault
from grader.report.text import one_line

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
    configs = [supervisor.config.to_json()] * len(shares)  # as JSON: no class of ours travels through a pickle
    lists = [[job.to_json() for job in share] for share in shares]
    tasks = executor.map_array(grade_share, configs, lists)
    print(f"{len(jobs)} submissions in {len(tasks)} tasks of one array job, {name}; logs in {folder}")
    problems = [text for task in tasks if (text := wait(task))]
    if problems:
        raise GraderFault(f"{len(problems)} of {len(tasks)} tasks: {problems[0]}; the same line grades what is left")


def wait(task: Any) -> str:
    """Wait for a task; why it did not end well, or nothing."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        task.result()
        return ""
    except FailedJobError as error:
        lines = str(error).splitlines()  # a traceback, and where the logs are
        causes = [line for line in lines if re.match(r"[\w.]*(Fault|Error|Exception|Exit)\b", line)]
        return f"the grader failed ({(causes or lines)[-1]})"
    except UncompletedJobError as error:
        return f"the machine died or the time was up, not the submission's fault ({str(error).splitlines()[0]})"
    except Exception as error:  # the debug executor raises what the task raised
        return f"the grader failed ({type(error).__name__}: {error})"


def grade_share(config: dict[str, Any], jobs: list[dict[str, Any]]) -> str:
    """Grade a share of the class, in a task; returns the results folder.

    Raises:
        GraderFault: if a result can't be kept.
    """
    settings = WorkerConfig.from_json(config)
    course, store = settings.open()
    with Session(course, settings.checks) as session:
        for job in map(Job.from_json, jobs):
            answer = serve(session, store, job)
            if answer["state"] == "disk":
                raise GraderFault(f"can't keep a result in {store.root} ({answer['error']})")
            print(one_line(job.name), answer["state"], file=sys.stderr)
    return str(store.root)
