"""The bench at which one process grades, one submission at a time: base model and sandbox are made once.

with Bench(Course(seed), "official") as bench:
    result = bench.grade_one(Path("123456.zip"), "123456.zip")
"""

import gc
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from grader.course import Course
from grader.engine import check_names
from grader.errors import GraderFault
from grader.grade import grade
from grader.result import Result
from grader.sandbox import Sandbox


def needs_sandbox(only: tuple[str, ...]) -> bool:
    """Whether some of the checks run code of a student."""
    return not only or not set(only) <= set(check_names("weights"))


def require_isolation(only: tuple[str, ...] = ()) -> str:
    """Refuse to begin a class run where code of students could not be kept in; the tier that holds here.

    Raises:
        GraderFault: saying what this machine lacks.
    """
    if not needs_sandbox(only):
        return "no code is run"
    with Sandbox.open("auto", required=True) as sandbox:
        return str(sandbox.tier)


class Bench:
    """All that a process needs to grade one submission after the other.

    Args:
        course: the course's side.
        label: what is written down of its seed.
        only: names of checks; all if empty.
    """

    def __init__(self, course: Course, label: str, only: tuple[str, ...] = ()) -> None:
        self.course, self.label, self.only = course, label, only
        self.fingerprint = ""
        self.sandbox: Sandbox | None = None
        self.stack = ExitStack()

    def __enter__(self) -> "Bench":
        from grader.reference import fingerprint

        if needs_sandbox(self.only):
            self.sandbox = self.stack.enter_context(Sandbox.open("auto", required=True))
        self.course.base_config  # noqa: B018 (proves the base model's files)
        self.fingerprint = fingerprint(self.course.base.model)
        gc.collect()
        gc.freeze()  # what lives as long as this process need not be looked at again for every student
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def grade_one(self, path: Path, name: str) -> Result:
        """The result of one submission.

        Raises:
            GraderFault: if grading it has changed the base model: the next student would be graded on another.
        """
        from grader.reference import fingerprint

        result = grade(path, self.course, self.sandbox, self.only, self.label, name)
        if fingerprint(self.course.base.model) != self.fingerprint:
            raise GraderFault("grading it changed the base model in memory: this process must not go on")
        return result
