"""The session of one grading process: base model and sandbox are made once, then one submission after the other.

with Session(course) as session:
    result = session.grade_one(Path("123456.zip"), "123456.zip")
"""

import gc
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from grader.check_list import needs_sandbox
from grader.course import Course
from grader.errors import GraderFault
from grader.grade import grade
from grader.reference import fingerprint
from grader.result import Result
from grader.sandbox.host import Sandbox


def require_isolation(checks: tuple[str, ...] = ()) -> str:
    """Refuse to begin a class run where code of students could not be kept in; the tier that holds here.

    Raises:
        GraderFault: saying what this machine lacks.
    """
    if not needs_sandbox(checks):
        return "no code is run"
    with Sandbox.open("auto", required=True) as sandbox:
        return str(sandbox.tier)


class Session:
    """All that a process needs to grade one submission after the other.

    Args:
        course: the course's side.
        checks: names of checks; all if empty.
    """

    def __init__(self, course: Course, checks: tuple[str, ...] = ()) -> None:
        self.course, self.checks = course, checks
        self.fingerprint = ""
        self.sandbox: Sandbox | None = None
        self.stack = ExitStack()

    def __enter__(self) -> "Session":
        if needs_sandbox(self.checks):
            self.sandbox = self.stack.enter_context(Sandbox.open("auto", required=True))
        self.course.base_config  # noqa: B018 (checks the base model's files)
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
        result = grade(path, self.course, self.sandbox, self.checks, name)
        if fingerprint(self.course.base.model) != self.fingerprint:
            raise GraderFault("grading it changed the base model in memory: this process must not go on")
        return result
