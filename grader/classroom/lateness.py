"""What a late hand-in costs: one rule, in the page where students read it and the instructor edits it.

COURSE.md:   | late | 10 points for each started day after the deadline or your extension, 50 at most |

Staff say in the overrides file who was late by how many days. Without such days no rule is read, and nothing comes off.
"""

import math
import re
from pathlib import Path
from typing import NamedTuple

from grader import rubric
from grader.errors import GraderFault

COURSE_PAGE = rubric.ROOT / "COURSE.md"
NUMBER = r"(\d+(?:\.\d+)?)"
ROW = re.compile(
    rf"^\| late \| {NUMBER} points for each started day\b[^|,]*, {NUMBER} at most\b", re.MULTILINE | re.ASCII
)


class Rule(NamedTuple):
    """Points for each started day, and at most."""

    each: float
    most: float


FREE = Rule(0.0, 0.0)


class Lateness(NamedTuple):
    """How many days after the deadline a hand-in came, how many of them are an extension, and what a day costs."""

    days: float
    extension: float
    rule: Rule

    @property
    def started(self) -> int:
        """The days that count.  Example: 2.2 days late with 1 of extension -> 2"""
        return max(0, math.ceil(round(self.days - self.extension, 4)))  # 2.7 - 1.7 is a bit more than 1

    @property
    def points(self) -> float:
        """What they cost, however high the score is."""
        return min(self.started * self.rule.each, self.rule.most)

    def describe(self) -> str:
        """In words.  Example: 'late by 2.2 days, 1 of extension: 2 started days of 10 points'; empty for 0 days."""
        if not self.days:
            return ""
        said = f"late by {count_days(self.days)}" + (f", {self.extension:g} of extension" if self.extension else "")
        most = f", {self.rule.most:g} at most" if self.started * self.rule.each > self.rule.most else ""
        return f"{said}: {count_days(self.started, 'started ')} of {self.rule.each:g} points{most}"


def count_days(days: float, what: str = "") -> str:
    """In words.  Example: 1 -> '1 day'"""
    return f"{days:g} {what}{'day' if days == 1 else 'days'}"


def read_rule(page: Path = COURSE_PAGE) -> Rule:
    """The rule of the course.

    Raises:
        GraderFault: if the page does not say it, or says it twice: nobody's penalty is guessed.
    """
    try:
        found = ROW.findall(page.read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        raise GraderFault(f"can't read {page} ({error}), whose row 'late' says what a late day costs") from error
    if len(found) != 1:
        raise GraderFault(
            f"{page.name} needs one row like this: | late | 10 points for each started day, 50 at most |; "
            f"it has {len(found)}, and the overrides have days_late"
        )
    return Rule(*map(float, found[0]))
