"""What crosses to a grading process, here or on a cluster: its configuration, then one job after the other."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from grader.classroom.store import RunKey, Store, run_key
from grader.errors import GraderFault
from grader.own_questions import Rows, as_rows
from grader.rubric import read_rubric
from grader.seed import Seed

if TYPE_CHECKING:
    from grader.course import Course


class Job(NamedTuple):
    """One submission to grade."""

    sha256: str
    path: Path
    name: str
    since: int = 0  # ns; a result of this age or older is graded again

    def to_json(self) -> dict[str, Any]:
        """The same for another process, wherever it runs."""
        return {**self._asdict(), "path": str(self.path.resolve())}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Job":
        """The inverse of `to_json`."""
        return cls(**{**content, "path": Path(content["path"])})


@dataclass(frozen=True)
class WorkerConfig:
    """All that a grading process needs before its first job."""

    results: str  # the results folder
    key: RunKey
    seed: Seed
    hidden_questions: int
    novel_questions: int
    long_questions: int
    rubric: str  # its name
    checks: tuple[str, ...] = ()  # names; all if empty
    hidden: Rows | None = None  # the questions of the staff's file, so that no process has to read it

    @classmethod
    def of(cls, store: Store, course: "Course", checks: tuple[str, ...]) -> "WorkerConfig":
        """The configuration of a run."""
        counts = course.hidden_questions, course.novel_questions, course.long_questions
        given = course.rubric.name, checks, course.hidden
        return cls(str(store.root.resolve()), store.key, course.seed, *counts, *given)

    def to_json(self) -> dict[str, Any]:
        """The same for another process."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "WorkerConfig":
        """The inverse of `to_json`."""
        nested = {"key": RunKey(**content["key"]), "seed": Seed(**content["seed"]), "checks": tuple(content["checks"])}
        nested["hidden"] = None if content["hidden"] is None else as_rows(content["hidden"])
        return cls(**{**content, **nested})

    def open(self) -> tuple["Course", Store]:
        """Course and results folder of the run.

        Raises:
            GraderFault: if the grader's code is no longer the one that the run began with.
        """
        from grader.course import Course  # it imports torch: only once the process's streams are set

        counts = self.hidden_questions, self.novel_questions, self.long_questions
        course = Course(self.seed, *counts, self.hidden, read_rubric(self.rubric))
        if self.key != run_key(course, self.checks):
            raise GraderFault("the grader's code has changed since the run began: start it again")
        return course, Store(Path(self.results), self.key)
