"""The bench at which one process grades, one submission at a time; only the base model is shared, loaded once.

with Bench(Course(seed), "official") as bench:
    result = bench.grade_one(Path("123456.zip"), "123456.zip")
"""

from pathlib import Path
from types import TracebackType

from grader.course import Course
from grader.errors import GraderFault
from grader.grade import grade
from grader.result import Result


def require_isolation() -> None:
    """Refuse to begin a class or official run where code of students could not be kept in.

    Nothing of a submission is executed so far, so there is nothing to ask for yet: this is the one place for it.

    Raises:
        GraderFault: saying what this machine lacks.
    """


class Bench:
    """All that a process needs to grade one submission after the other.

    Args:
        course: the course's side.
        label: what is written down of its seed.
    """

    def __init__(self, course: Course, label: str) -> None:
        self.course, self.label = course, label
        self.fingerprint = ""

    def __enter__(self) -> "Bench":
        from grader.reference import fingerprint

        self.course.base_config  # noqa: B018 (proves the base model's files)
        self.fingerprint = fingerprint(self.course.base.model)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to give back yet."""

    def grade_one(self, path: Path, name: str) -> Result:
        """The result of one submission.

        Raises:
            GraderFault: if grading it has changed the base model: the next student would be graded on another.
        """
        from grader.reference import fingerprint

        result = grade(path, self.course, seed_label=self.label, name=name)
        if fingerprint(self.course.base.model) != self.fingerprint:
            raise GraderFault("grading it changed the base model in memory: this process must not go on")
        return result
