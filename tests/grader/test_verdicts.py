"""Every test submission gets its verdict, and its first line names the true cause."""

import os
import re
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from grader.course import Course
from grader.grade import grade
from grader.harness import job_report
from grader.report import console
from grader.result import Result, State
from grader.runner import FILES
from grader.sandbox.host import Sandbox
from tests.submissions import SUBMISSIONS
from tests.support import zips

QUESTIONS = {"hidden_questions": 40, "novel_questions": 10}
KEPT: dict[str, object] = {}  # of a worker process: what all its submissions share, as in a class


def start_worker() -> None:
    """Base model and sandbox, once for each of the two processes."""
    os.environ["OMP_NUM_THREADS"] = "1"
    KEPT["course"], KEPT["sandbox"] = Course(**QUESTIONS), Sandbox.open("auto")


def grade_one(path, seconds: int) -> Result:
    """The result of one test submission; what never ends is stopped after `seconds`, if there are any."""
    former = dict(job_report.SECONDS)
    job_report.SECONDS.update(dict.fromkeys(former, seconds) if seconds else {})
    try:
        return grade(path, KEPT["course"], KEPT["sandbox"])
    finally:
        job_report.SECONDS.update(former)


@pytest.fixture(scope="session")
def results(request, reference_files, tmp_path_factory) -> dict[str, Future]:
    """The results of all wanted submissions, on their way."""
    folder = tmp_path_factory.mktemp("submissions")
    wanted = {item.callspec.params["name"] for item in request.session.items if "results" in item.fixturenames}
    with ProcessPoolExecutor(2, get_context("spawn"), start_worker) as pool:
        found = {}
        for number, (name, recipe) in enumerate(SUBMISSIONS.items()):
            if name in wanted | {"the reference"}:
                path = folder / f"{number}.zip"
                zips.good(path, recipe.make(reference_files))
                found[name] = pool.submit(grade_one, path, recipe.seconds)
        yield found


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_the_verdict_is_right(results, name):
    recipe, result, reference = SUBMISSIONS[name], results[name].result(), results["the reference"].result()
    assert not result.is_fault, console.render(result, show_traceback=True)
    failing = [check for check in result.checks if check.state not in (State.PASSED, State.PARTIAL, State.SKIPPED)]
    shown = console.render(result, show_traceback=True)
    assert {check.name for check in failing} == set(recipe.failing.split()), shown
    assert all(check.state in recipe.states and check.cause for check in failing), shown
    if recipe.phrase:
        assert re.search(recipe.phrase, failing[0].cause), shown
    full = {check.name: check.score for check in reference.checks}
    assert all(
        check.score == full[check.name] for check in result.checks if check.state in (State.PASSED, State.PARTIAL)
    )
    assert "Traceback" not in console.render(result)
    assert not any("did not pass" in note for note in result.notes), "what was not asked is no report to the staff"


def test_every_check_has_a_submission_that_fails_it():
    names = {name for path in FILES for name in re.findall(r"^def test_(\w+)", path.read_text(), re.MULTILINE)}
    failing = {name for recipe in SUBMISSIONS.values() for name in recipe.failing.split()}
    assert failing - {"submission"} == names  # what can't be opened has that one check
