"""The overrides of the staff: a text file that is reviewed like code, applied in columns of its own.

    ID,points,added,days_late,extension_days,reason
    123456,70,,,,regrade request of 3 May: the zip was cut by the platform
    123457,,4.5,,,"answers: 4.5 of 5"
    123458,,,3.2,2,ill until 12 May

`points` stand in the place of the grader's and of the penalty. `days_late` after the deadline cost what COURSE.md says,
less `extension_days`; `added` come on top of what counts and are never reduced. A line fills one or more of them; the
file may leave out all of these columns but `points`. Nobody edits a result; what the grader gave stays beside what the
staff decided.
"""

import csv
import math
import re
from pathlib import Path
from typing import NamedTuple

from grader import rubric
from grader.classroom.gradebook import NUMBER
from grader.classroom.lateness import FREE, Lateness, read_rule
from grader.classroom.students import Student
from grader.errors import GraderFault

NEEDED, OPTIONAL = ("ID", "points", "reason"), ("added", "days_late", "extension_days")
MOST_DAYS = 366


class Override(NamedTuple):
    """What staff decided on one student."""

    points: float | None  # in the place of the grader's
    added: float  # on top
    reason: str
    days_late: float | None = None  # after the deadline
    extension_days: float = 0.0


def read_overrides(path: Path) -> dict[str, Override]:
    """What staff decided, by ID.

    Raises:
        GraderFault: naming the line that is no override.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            head, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeError, csv.Error) as error:
        raise GraderFault(f"can't read the overrides {path} ({error}): name a CSV with ID, points, reason") from error
    names = [name.strip() for name in head]
    if set(NEEDED) - set(names) or set(names) - {*NEEDED, *OPTIONAL} or len(set(names)) < len(names):
        raise GraderFault(
            f"{path.name}: its first line must be {','.join(NEEDED)}, with commas, and may hold {', '.join(OPTIONAL)}"
        )
    found: dict[str, Override] = {}
    for number, row in enumerate(rows, 2):
        if None in row:
            raise GraderFault(f"{path.name}, line {number}: a comma too many: 70.5, and a reason with commas in quotes")
        if any(mark in (cell or "") for cell in row.values() for mark in "\r\n"):
            raise GraderFault(f"{path.name}, line {number}: a quote that does not end there takes in the next lines")
        cells = {name.strip(): (row[name] or "").strip() for name in head}
        if not any(cells.values()):  # a spreadsheet writes empty rows as commas
            continue
        student, override = read_line(cells, path.name, number)
        if student in found:
            raise GraderFault(f"{path.name}, line {number}: {student} stands in it twice")
        found[student] = override
    return found


def read_line(row: dict[str, str], file: str, number: int) -> tuple[str, Override]:
    """ID and override of one line.

    Raises:
        GraderFault: if it lacks one, or a number is none.
    """
    student = re.sub("^'(?=[=+@-])", "", row["ID"])  # as class.csv writes an ID that a spreadsheet would compute
    points, added = (read_number(row.get(name, "")) for name in ("points", "added"))
    late, extension = (read_days(row, name, f"{file}, line {number}") for name in ("days_late", "extension_days"))
    decided = any(value is not None for value in (points, added, extension))  # days late are a fact, with no reason
    is_complete = student and (row["reason"] if decided else late is not None)
    if not is_complete or not all(value is None or 0 <= value <= rubric.ALL_POINTS for value in (points, added)):
        raise GraderFault(
            f"{file}, line {number}: needs an ID, points or added of 0 to {rubric.ALL_POINTS} without a sign, "
            "and a reason; days_late alone may do without"
        )
    return student, Override(points, added or 0.0, row["reason"], late, extension or 0.0)


def read_number(text: str) -> float | None:
    """A number, NaN for what is none, None for nothing: '+5' could mean either column."""
    if not text:
        return None
    return float(text) if NUMBER.fullmatch(text) else math.nan


def read_days(row: dict[str, str], column: str, where: str) -> float | None:
    """A number of days; None for nothing.

    Raises:
        GraderFault: naming line and column, if it is none.
    """
    days = read_number(row.get(column, ""))
    if days is not None and not 0 <= days <= MOST_DAYS:  # written so that NaN fails
        raise GraderFault(f"{where}, column {column}: {row[column]!r} is no number of days, 0 to {MOST_DAYS}")
    return days


def apply_overrides(students: list[Student], overrides: dict[str, Override]) -> None:
    """Put the overrides beside the results.

    Raises:
        GraderFault: for an ID that nobody has, since a misspelt one must not be lost; for an extension of somebody who
            came late by days that nobody says.
    """
    known = {student.id: student for student in students}
    if unknown := set(overrides) - set(known):
        raise GraderFault(f"the overrides name {min(unknown)!r}, but nobody with this ID handed in")
    rule = read_rule() if any(one.days_late for one in overrides.values()) else FREE
    for student_id, one in overrides.items():
        student = known[student_id]
        student.override, student.added, student.reason = one.points, one.added, one.reason
        if one.days_late is not None:
            student.lateness = Lateness(one.days_late, one.extension_days, rule)
        elif one.extension_days and student.hand_in.late:
            raise GraderFault(f"the overrides give {student_id!r} an extension, who came late: say days_late as well")
