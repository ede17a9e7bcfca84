"""Makes cases, grades them, and says where the grader's verdict is not the one that follows from their making."""

import random
import time
from pathlib import Path
from typing import Any, NamedTuple

from grader.course import Course
from grader.grade import grade
from grader.result import CheckResult, Result, State
from grader.rubric import read_rubric
from grader.sandbox.host import Sandbox
from homework.common.errors import HomeworkError
from tests.submissions.recipe import Files
from tools.fuzz import MUTATORS
from tools.fuzz.cases import Case
from tools.fuzz.style import restyle

RUBRIC = "short"  # no mutator concerns tasks 5 to 7
FINE = (State.PASSED, State.PARTIAL, State.SKIPPED)
MISSED, ACCUSED, FAULT = "missed fault", "false accusation", "fault of the grader"


class Finding(NamedTuple):
    """A verdict that is not the right one: its kind, the check, and what the check said."""

    kind: str
    check: str
    said: str


def make_case(name: str, seed: int, files: Files) -> Case:
    """The case of this name, MUTATOR:NUMBER; half of them in another style, too.

    Its name is a comment in it: what the grader asks hangs on the bytes, so the same fault is asked for other rows.
    """
    mutator = MUTATORS[name.partition(":")[0]]
    rng = random.Random(f"{seed}:{name}")
    case = mutator.make(rng, files)
    case = case._replace(files={**case.files, "sft.py": case.files["sft.py"] + f"# {seed}:{name}\n".encode()})
    if rng.random() < 0.5 and mutator.name != "style_only":
        return case
    styled, words = restyle(rng, case.files)
    return case._replace(files=styled, words="; ".join([case.words, *words]))


def judge(case: Case, result: Result, full: dict[str, float]) -> list[Finding]:
    """What is wrong with the verdict on a case; `full` is what a right submission gets for each check.

    A share of the accuracy is no accusation: forty questions are too few for that.
    """
    if result.is_fault:
        return [Finding(FAULT, check.name, check.cause) for check in result.checks if check.state is State.FAULT]
    failed = {check.name for check in result.checks if check.state not in FINE or is_short(check, full)}
    said = {check.name: check.cause for check in result.checks}
    passed = {check.name for check in result.checks if check.state in (State.PASSED, State.PARTIAL)} - failed
    accused = sorted(failed - case.failing - case.perhaps)
    missed = sorted(case.failing & passed) or sorted(case.failing if not failed else ())
    return [Finding(ACCUSED, name, said[name]) for name in accused] + [Finding(MISSED, name, "") for name in missed]


def is_short(check: CheckResult, full: dict[str, float]) -> bool:
    """Whether a check that did not fail gave fewer points than to the reference."""
    is_graded = check.state in (State.PASSED, State.PARTIAL) and check.name != "accuracy"
    return is_graded and check.score < full.get(check.name, 0)


class Judge:
    """Grades cases through one course and one sandbox.

    Args:
        files: of the reference.
        folder: where zips are written; those of findings stay there.
        full: what the reference gets for each check; it is graded first if that is not known.

    Raises:
        HomeworkError: if a check fails on the reference itself.
    """

    def __init__(
        self, files: Files, folder: Path, sandbox: Sandbox, seed: int = 0, full: dict[str, float] | None = None
    ) -> None:
        self.files, self.folder, self.sandbox, self.seed = files, folder, sandbox, seed
        self.course = Course(hidden_questions=40, novel_questions=10, rubric=read_rubric(RUBRIC))
        self.full = full or self.grade_reference()

    def grade_reference(self) -> dict[str, float]:
        """What the reference gets for each check."""
        reference = self.grade(Case(self.files, "the reference"), "reference", ())
        if wrong := [check for check in reference.checks if check.state not in FINE]:
            raise HomeworkError(f"the reference does not pass {wrong[0].name}: {wrong[0].cause}")
        return {check.name: check.score for check in reference.checks}

    def grade(self, case: Case, name: str, checks: tuple[str, ...]) -> Result:
        """The result of a case."""
        path = self.folder / f"{name.replace(':', '-')}.zip"
        case.pack(path, case.files)
        return grade(path, self.course, self.sandbox, checks)

    def try_case(self, name: str, whole: bool) -> dict[str, Any]:
        """Grade the case of a name, with all checks or those that it concerns; what was found, as JSON."""
        case, started = make_case(name, self.seed, self.files), time.perf_counter()
        asked = (
            ()
            if whole
            else tuple(sorted({*MUTATORS[name.partition(":")[0]].asked.split(), *case.failing} - {"submission"}))
        )
        found = judge(case, self.grade(case, name, asked), self.full)
        if not found:
            (self.folder / f"{name.replace(':', '-')}.zip").unlink()
        seconds = round(time.perf_counter() - started, 2)
        expected = {"failing": sorted(case.failing), "perhaps": sorted(case.perhaps)}
        return {"words": case.words, **expected, "seconds": seconds, "found": [finding._asdict() for finding in found]}
