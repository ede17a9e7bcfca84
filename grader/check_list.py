"""Which checks there are: a test in grader/checks is one, and its name without test_ is the check's."""

import re
from pathlib import Path

from grader.errors import GraderFault
from grader.rubric import Rubric

CHECKS = Path(__file__).parent / "checks"
# In the order of the report: what counts most, then the student's tasks.
WEIGHTS_FILES = ("weights", "reasoning_weights")
CODE_FILES = ("answering", "scoring", "labels", "training", "loading", "reasoning_code")
FILES = tuple(CHECKS / f"{name}.py" for name in (*WEIGHTS_FILES, *CODE_FILES))


def check_names(file: str = "") -> list[str]:
    """The names of all checks that there are, or of those in one file, in the order in which they run."""
    return [
        name
        for path in FILES
        if not file or path.stem == file
        for name in re.findall(r"^def test_(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def refuse_unknown(checks: tuple[str, ...], course_rubric: Rubric) -> None:
    """Raise GraderFault for the name of a check that the rubric does not have."""
    if unknown := set(checks) - set(course_rubric.points):
        raise GraderFault(
            f"there is no check {min(unknown)!r} in the rubric {course_rubric.name}: choose among "
            + ", ".join(course_rubric.points)
        )


def needs_sandbox(checks: tuple[str, ...]) -> bool:
    """Whether some of the checks (all, if empty) run code of a student."""
    return not checks or not set(checks) <= {name for file in WEIGHTS_FILES for name in check_names(file)}
