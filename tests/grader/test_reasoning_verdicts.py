"""Every test submission of tasks 5 to 7 gets its verdict under the long rubric, and the true cause is named.

The quick run grades one or two of each class, CI each fifth one of the others; with --everything all are graded, and
the reference by all checks.
"""

import re
from collections.abc import Callable, Iterator

import pytest

from grader.course import Course
from grader.grade import grade
from grader.harness import inputs
from grader.report import console
from grader.result import Result, State
from grader.rubric import read_rubric
from grader.sandbox.host import Sandbox
from tests.submissions.reasoning import ALL, REASONED, Case
from tests.submissions.saving import faint
from tests.support import zips
from tests.support.draws import drawn_for
from tests.support.rows import every_fifth

Grade = Callable[..., Result]


@pytest.fixture(scope="module")
def grade_one(reference_files, tmp_path_factory) -> Iterator[Grade]:
    """`grade_one(case, files)`: base model and sandbox are those of the process, as in a class run."""
    folder, number = tmp_path_factory.mktemp("reasoning"), iter(range(1000))
    long = read_rubric("long")
    # A right prompt reaches 0.80 to 0.85 of the questions; of twenty, 13 or fewer in one run of fifteen.
    rubric = long._replace(bounds={**long.bounds, "prompt": (0.2, 0.5)})
    course = Course(hidden_questions=40, novel_questions=10, long_questions=40, rubric=rubric)
    with Sandbox.open("auto") as sandbox:

        def one(case: Case, files: dict[str, bytes] = reference_files) -> Result:
            path = folder / f"{next(number)}.zip"
            zips.good(path, case.make(files))
            with drawn_for(case.name):
                return grade(path, course, sandbox, tuple(case.checks.split()))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inputs, "PROMPTED", 20)  # questions before each prompt, in a third of the time
            yield one


def refuse_other_verdict(result: Result, case: Case) -> None:
    """Fail unless the named checks pass, but for the last one where the case has a fault, which it names."""
    shown = console.render(result, show_traceback=True)
    checks = {check.name: check for check in result.checks}
    *before, last = [checks[name] for name in case.checks.split()]
    passing = before if case.phrase else [*before, last]
    assert not result.is_fault, shown
    assert all(check.score == check.points and not check.cause for check in passing), shown
    if case.phrase:
        assert last.score == 0 and last.state not in (State.PASSED, State.PARTIAL, State.SKIPPED), shown
        assert re.search(case.phrase, last.cause), shown


@pytest.mark.parametrize(
    "case",
    [*(case for case in ALL if case.quick), *every_fifth(case for case in ALL if not case.quick)],
    ids=lambda case: case.name,
)
def test_the_verdict_is_right(grade_one, case):
    refuse_other_verdict(grade_one(case), case)


@pytest.mark.release
@pytest.mark.parametrize("case", REASONED, ids=lambda case: case.name)
def test_the_verdict_on_a_trained_adapter_is_right(grade_one, reasoned_files, case):
    refuse_other_verdict(grade_one(case, reasoned_files), case)


@pytest.mark.release
def test_the_reference_has_all_points_of_the_long_rubric(reasoned_files, tmp_path):
    zips.good(tmp_path / "1.zip", reasoned_files)
    with Sandbox.open() as sandbox:
        result = grade(tmp_path / "1.zip", Course(rubric=read_rubric("long")), sandbox)
    shown = console.render(result, show_traceback=True)
    assert result.score == 100 and [check.name for check in result.checks] == list(read_rubric("long").points), shown
    assert all(check.state is State.PASSED for check in result.checks) and not result.notes, shown


@pytest.mark.release
def test_a_first_adapter_that_was_made_bad_moves_no_bound(grade_one, reasoned_files):
    given = [
        [
            (check.name, check.score)
            for check in grade_one(Case("", make, "reasoning_accuracy reasons"), reasoned_files).checks
        ]
        for make in (dict, faint)
    ]
    assert given[0] == given[1] and given[0][-1][1] > 0, given


def test_the_names_are_different_and_each_file_has_right_ones():
    cases = [*ALL, *REASONED]
    assert len({case.name for case in cases}) == len(cases) >= 25
    for check in ("prompt", "sampling", "reasoning_trains", "reasoning_loads"):
        judged = [case for case in cases if check in case.checks.split()]
        assert any(case.phrase for case in judged) and any(not case.phrase for case in judged), check
