"""A student in the class tables: the hand-in, its result, and what staff decided beside it.

raw is what the grader gave, late what lateness costs, override what staff put in its place, final what counts.
"""

from dataclasses import dataclass

from grader.classroom.names import HandIn
from grader.result import CheckResult, Result, State


@dataclass
class Student:
    """One line of the class table."""

    hand_in: HandIn
    sha: str
    result: Result | None = None
    is_from_other_grader: bool = False
    override: float | None = None
    reason: str = ""

    @property
    def id(self) -> str:
        """The student's ID on the learning platform."""
        return self.hand_in.student

    @property
    def is_fault(self) -> bool:
        """Whether the grader failed on it."""
        return self.result is not None and self.result.is_fault

    @property
    def state(self) -> str:
        """In words, for every table."""
        if self.result is None:
            return "not graded yet"
        return "grader error" if self.result.is_fault else "refused" if self.result.is_refused else "graded"

    @property
    def raw(self) -> float | None:
        """The grader's score; None if there is none, which is no zero."""
        return None if self.result is None or self.result.is_fault else self.result.score

    def penalty(self, percent: float) -> float:
        """What comes off for being late."""
        return round(self.raw * percent / 100, 2) if self.raw and self.hand_in.late else 0.0

    def final(self, percent: float) -> float | None:
        """What counts: the override of the staff, else the score without the penalty."""
        if self.override is not None:
            return self.override
        return None if self.raw is None else round(self.raw - self.penalty(percent), 2)

    @property
    def root_cause(self) -> CheckResult | None:
        """The check to mend first: the first one that is neither passed nor skipped because of another."""
        checks = self.result.checks if self.result else ()
        return next((check for check in checks if check.state not in (State.PASSED, State.SKIPPED)), None)
