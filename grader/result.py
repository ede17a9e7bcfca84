"""The result of one grading: plain data, from which every report is made, and which replays to the same score."""

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """What became of a check. A fault of ours is never a zero and never a pass."""

    PASSED = "passed"
    PARTIAL = "partial"
    FAILED = "failed"
    SKIPPED = "skipped"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    REFUSED = "refused"
    FAULT = "grader error"


@dataclass(frozen=True)
class CheckResult:
    """One check: its points, what became of it, and what the student reads."""

    name: str
    title: str
    points: float
    score: float
    state: State
    cause: str = ""
    expected: str = ""
    actual: str = ""
    do: str = ""
    shown: str = ""  # lines to show as they are: a row token by token
    detail: str = ""  # what a passed check found
    traceback: str = ""  # shown on request only

    def __post_init__(self) -> None:
        if not (math.isfinite(self.points) and math.isfinite(self.score) and 0 <= self.score <= self.points):
            raise ValueError(f"{self.name}: a score of {self.score} of {self.points}")
        if self.score and self.state not in (State.PASSED, State.PARTIAL):
            raise ValueError(f"{self.name}: a score of {self.score}, but it is {self.state}")


def read_check(saved: dict[str, Any]) -> CheckResult:
    """A check out of what `dataclasses.asdict` and JSON made of it.

    Raises:
        KeyError, TypeError, ValueError: if that is no check.
    """
    check = CheckResult(**{**saved, "state": State(saved["state"])})
    refuse_other_types(check)
    return check


@dataclass(frozen=True)
class Result:
    """All that is known after grading one submission."""

    submission: str
    sha256: str
    checks: tuple[CheckResult, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    provenance: dict[str, Any] = field(default_factory=dict)  # versions, hashes, seed
    measured: dict[str, Any] = field(default_factory=dict)  # accuracy, interval, novel; public to the student

    @property
    def score(self) -> float:
        """The sum of all scores."""
        return round(sum(check.score for check in self.checks), 2)

    @property
    def points(self) -> float:
        """What a right homework gets."""
        return sum(check.points for check in self.checks)

    @property
    def is_fault(self) -> bool:
        """Whether we failed to grade: there is no score then, and the submission has to be graded again."""
        return not self.checks or any(check.state is State.FAULT for check in self.checks)

    @property
    def first_cause(self) -> str:
        """What to fix first: the first check that names a cause, a low figure last; nothing if none does."""
        failed = [check for check in self.checks if check.cause and check.state is not State.SKIPPED]
        failed.sort(key=lambda check: bool(check.detail))  # a low accuracy has its cause in another check
        return f"{failed[0].name}: {failed[0].cause}" if failed else ""

    @property
    def is_refused(self) -> bool:
        """Whether the submission as a whole was refused."""
        return any(check.state is State.REFUSED for check in self.checks)


def read_result(saved: dict[str, Any]) -> Result:
    """A result out of what `dataclasses.asdict` and JSON made of it.

    Raises:
        KeyError, TypeError, ValueError: if that is no result.
    """
    notes = tuple(saved["notes"])
    result = Result(**{**saved, "checks": tuple(map(read_check, saved["checks"])), "notes": notes})
    refuse_other_types(result)
    if not all(isinstance(note, str) for note in notes):
        raise TypeError("a note is no text")
    return result


def refuse_other_types(read: CheckResult | Result) -> None:
    """Raise TypeError where a text, a number or a dict is something else: it would fail in a report."""
    wanted: dict[Any, Any] = {str: str, float: (int, float), dict[str, Any]: dict}
    for each in fields(read):
        if not isinstance(getattr(read, each.name), wanted.get(each.type, object)):
            raise TypeError(f"{each.name} is of another type")
