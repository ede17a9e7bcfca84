"""The jobs of a submission run ahead of the checks, each once, and nothing of a failure there is lost."""

import gc
import threading
import time

import pytest
import torch

from grader import runner
from grader.course import Course
from grader.errors import GraderFault
from grader.harness.harness import JOBS, MODULES, Harness
from grader.runner import run_checks
from grader.sandbox.host import Outcome
from grader.startup import open_sandbox, without_collector
from grader.submission import Submission

ALL = ("answering", "scoring", "labels", "training", "loading", "agreeing")


class FakeSandbox:
    """Notes the jobs, and gives an empty outcome; a job named in `held` waits until the sandbox is stopped."""

    def __init__(self, held: str = "", broken: str = "") -> None:
        self.held, self.broken, self.ran = held, broken, []
        self.stopped = threading.Event()

    def run(self, job, *_):
        self.ran.append(job)
        if job == self.held:
            assert self.stopped.wait(60)
            raise GraderFault("the sandbox gave no answer")
        if job == self.broken:
            raise GraderFault("the machine lacks memory")
        time.sleep(0.02)
        return Outcome("exit 0", {}, "", 0.0)

    def stop(self, at_once):
        self.stopped.set()


@pytest.fixture(scope="module")
def course() -> Course:
    return Course(hidden_questions=5, novel_questions=5)


def make(files, course, **faults) -> Harness:
    return Harness(Submission("x.zip", files, [], "0"), course, FakeSandbox(**faults))


def test_each_job_runs_once_in_the_order_of_the_checks(files, course):
    harness = make(files, course)
    harness.run_ahead(name for name in JOBS if name != "reasoning_code")
    reports = [getattr(harness, job) for job in ALL]  # asked for while they run
    harness.close()
    assert harness.sandbox.ran == [*ALL] and [report.job for report in reports] == [*ALL]
    assert {job for jobs in JOBS.values() for job in jobs} == set(MODULES)


def test_a_fault_ahead_is_raised_by_the_check_that_asks(files, course):
    harness = make(files, course, broken="scoring")
    harness.run_ahead(["scoring", "loading"])
    harness.ahead.join()
    assert harness.sandbox.ran == ["scoring", "loading", "agreeing"], "the next jobs run all the same"
    for _ in range(2):
        with pytest.raises(GraderFault, match="lacks memory"):
            harness.scoring  # noqa: B018
    assert harness.sandbox.ran.count("scoring") == 1


def test_what_no_check_waits_for_is_stopped(files, course):
    harness = make(files, course, held="answering")
    harness.run_ahead(["answering", "scoring"])
    while not harness.sandbox.ran:
        time.sleep(0.01)
    harness.close()
    assert harness.sandbox.stopped.is_set() and harness.sandbox.ran == ["answering"]


def test_nothing_runs_where_the_base_model_is_not_whole(files, monkeypatch):
    monkeypatch.setitem(runner.rubric.BASE_SHA256, "config.json", "0" * 64)
    harness = make(files, Course())
    harness.run_ahead(["scoring"])
    harness.close()
    assert harness.sandbox.ran == []


@pytest.mark.parametrize(("threads", "ran"), [(1, []), (2, ["scoring"])])
def test_only_the_jobs_of_the_wanted_checks_run_ahead_where_a_core_is_free(files, course, monkeypatch, threads, ran):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    sandbox, submission = FakeSandbox(), Submission("x.zip", files, [], "0")
    run_checks(submission, course, sandbox, checks=("accuracy",))
    assert sandbox.ran == []
    monkeypatch.setattr(Harness, "scoring", property(lambda self: self.run("scoring", {})))
    monkeypatch.setattr(Harness, "close", lambda self: self.ahead.join() if ran else None)
    run_ahead = Harness.run_ahead
    asked_ahead = []
    monkeypatch.setattr(Harness, "run_ahead", lambda self, files: asked_ahead.extend(files) or run_ahead(self, files))
    run_checks(submission, course, sandbox, checks=("metric",))
    assert asked_ahead == ran and sandbox.ran == ["scoring"]


def test_the_collector_works_again_after_the_imports(monkeypatch):
    with pytest.raises(ZeroDivisionError), without_collector():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()

    def refuse(*_: object) -> None:
        raise GraderFault("no sandbox holds")

    monkeypatch.setattr("grader.startup.Sandbox.open", refuse)
    with pytest.raises(GraderFault, match="no sandbox holds"), open_sandbox():
        pytest.fail("no sandbox was opened")
    assert gc.isenabled()
