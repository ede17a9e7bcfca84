"""Every test submission gets its verdict, and its first line names the true cause.

The quick run grades one of each class, up to the check that finds the fault. With --everything all are graded wholly;
with --rest, as CI does, each fifth one, by all checks of the files whose checks it fails, and each tenth one wholly.
"""

import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from grader.check_list import FILES, check_names
from grader.course import Course
from grader.grade import grade
from grader.harness import job_report
from grader.report import console
from grader.result import Result, State
from grader.rubric import read_rubric
from grader.sandbox.host import LIMITS, Sandbox
from tests.submissions import SUBMISSIONS
from tests.submissions.reasoning import ALL, REASONED
from tests.support import zips
from tests.support.draws import drawn_for
from tests.support.rows import every_fifth

QUICK = [name for name, recipe in SUBMISSIONS.items() if recipe.quick]
FINE = (State.PASSED, State.PARTIAL, State.SKIPPED)  # nothing against the submission itself
Grade = Callable[..., Result]


@pytest.fixture(scope="module")
def grade_one(reference_files, tmp_path_factory) -> Iterator[Grade]:
    """`grade_one(name, checks)`: base model and sandbox are those of the process, as in a class run."""
    course, folder = Course(hidden_questions=40, novel_questions=10), tmp_path_factory.mktemp("submissions")
    with Sandbox.open("auto") as sandbox:

        def one(name: str, checks: tuple[str, ...] = ()) -> Result:
            path, recipe = folder / f"{[*SUBMISSIONS].index(name)}.zip", SUBMISSIONS[name]
            zips.good(path, recipe.make(reference_files))
            with pytest.MonkeyPatch.context() as patch, drawn_for(name):
                for job in job_report.SECONDS if recipe.seconds else ():  # what never ends is stopped after these
                    patch.setitem(job_report.SECONDS, job, recipe.seconds)
                    patch.setitem(LIMITS, "idle", recipe.seconds)
                return grade(path, course, sandbox, checks)

        yield one


@pytest.fixture(scope="module")
def full_scores(make_once, grade_one) -> dict[str, float]:
    """What the reference gets for each check."""

    def make(folder: Path) -> None:
        scores = {check.name: check.score for check in grade_one("the reference").checks}
        (folder / "scores.pickle").write_bytes(pickle.dumps(scores))

    return pickle.loads((make_once("reference scores", make) / "scores.pickle").read_bytes())


def first_check(name: str) -> tuple[str, ...]:
    """The check that finds the fault first; all checks of a right submission, and of one that can't be opened."""
    failing = [check for check in check_names() if check in SUBMISSIONS[name].failing.split()]
    return tuple(failing[:1])


@pytest.mark.parametrize("name", QUICK)
def test_the_first_check_of_one_of_each_class_names_its_fault(grade_one, name):
    recipe, result = SUBMISSIONS[name], grade_one(name, first_check(name))
    shown = console.render(result, show_traceback=True)
    assert not result.is_fault, shown
    failing = [check for check in result.checks if check.state not in FINE]
    assert [check.name for check in failing] == [*(first_check(name) or recipe.failing.split())], shown
    assert all(check.state in recipe.states and re.search(recipe.phrase, check.cause) for check in failing), shown
    assert all(check.score == check.points for check in result.checks if check.state is State.PASSED)


def concerned_checks(name: str) -> tuple[str, ...]:
    """All checks of the files whose checks a wrong submission fails; none, which means all, of each tenth one."""
    failing = set(SUBMISSIONS[name].failing.split())
    files = [path.stem for path in FILES if failing & set(check_names(path.stem))]
    return () if [*SUBMISSIONS].index(name) % 10 == 0 else tuple(one for file in files for one in check_names(file))


@pytest.mark.parametrize("name", every_fifth(SUBMISSIONS))
def test_the_verdict_is_right(grade_one, full_scores, pytestconfig, name):
    is_whole = pytestconfig.getoption("everything")
    recipe, result = SUBMISSIONS[name], grade_one(name, () if is_whole else concerned_checks(name))
    assert not result.is_fault, console.render(result, show_traceback=True)
    failing = [check for check in result.checks if check.state not in FINE]
    shown = console.render(result, show_traceback=True)
    names = {check.name for check in failing}
    assert names - set(recipe.perhaps.split()) == set(recipe.failing.split()), shown
    assert all(check.state in recipe.states and check.cause for check in failing), shown
    if recipe.phrase:
        assert re.search(recipe.phrase, failing[0].cause), shown
    passed = [check for check in result.checks if check.state in (State.PASSED, State.PARTIAL)]
    assert all(check.score == full_scores[check.name] for check in passed)
    assert "Traceback" not in console.render(result)
    assert not any("did not pass" in note for note in result.notes), "what was not asked is no report to the staff"


@pytest.mark.everything
def test_modules_that_are_called_as_libraries_are_never_imported(grade_one):
    """Whatever row CI judges: a zip with them is accepted, and this is what makes that safe."""
    result = grade_one("H18 modules that are called as libraries", ("parser", "loads"))
    assert [check.state for check in result.checks if check.points] == [State.PASSED] * 2, console.render(result)


def test_every_check_has_a_submission_that_fails_it():
    names = {name for path in FILES for name in re.findall(r"^def test_(\w+)", path.read_text(), re.MULTILINE)}
    failing = {name for recipe in SUBMISSIONS.values() for name in recipe.failing.split()}
    reasoning = {case.checks.split()[-1] for case in (*ALL, *REASONED) if case.phrase}
    assert failing - {"submission"} == set(read_rubric("short").points)  # what can't be opened has that one check
    assert failing - {"submission"} | reasoning == names == set(read_rubric("long").points)


def test_the_quick_run_has_one_of_each_class():
    """A class is the letter of a name, and how the submission ends."""

    def classes(names: Iterable[str]) -> set[tuple[str, State]]:
        return {(name[0], SUBMISSIONS[name].states[0]) for name in names if re.match(r"[A-Z]\d", name)}

    assert classes(QUICK) == classes(SUBMISSIONS) and len(classes(QUICK)) == 8
