"""The overrides of the staff: a text file that is reviewed like code, applied in columns of its own.

    ID,points,added,reason
    123456,70,,regrade request of 3 May: the zip was cut by the platform
    123457,,4.5,"answers: 4.5 of 5"

`points` stand in the place of the grader's, `added` come on top of what counts, lateness included; one of them may be
empty, and the column `added` may be left out. Nobody edits a result; what the grader gave stays beside what the staff
decided.
"""

import csv
import math
import re
from pathlib import Path
from typing import NamedTuple

from grader import rubric
from grader.classroom.students import Student
from grader.errors import GraderFault

HEADS = (["ID", "points", "reason"], ["ID", "points", "added", "reason"])


class Override(NamedTuple):
    """What staff decided on one student: points in the place of the grader's, or None, points on top, and why."""

    points: float | None
    added: float
    reason: str


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
    if [name.strip() for name in head] not in HEADS:
        choice = " or ".join(",".join(names) for names in HEADS)
        raise GraderFault(f"{path.name}: its first line must be {choice}, with commas")
    found: dict[str, Override] = {}
    for number, row in enumerate(rows, 2):
        if None in row:
            raise GraderFault(f"{path.name}, line {number}: a comma too many: 70.5, and a reason with commas in quotes")
        student, override = read_line({name.strip(): (row[name] or "").strip() for name in head}, path.name, number)
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
    points, added = (read_points(row.get(name, "")) for name in ("points", "added"))
    is_complete = student and row["reason"] and not (points is None and added is None)
    if not is_complete or not all(value is None or 0 <= value <= rubric.ALL_POINTS for value in (points, added)):
        raise GraderFault(
            f"{file}, line {number}: needs an ID, points or added of 0 to {rubric.ALL_POINTS} without a sign, "
            "and a reason"
        )
    return student, Override(points, added or 0.0, row["reason"])


def read_points(text: str) -> float | None:
    """A number without a sign, NaN for what is none, None for nothing: '+5' could mean either column."""
    if not text:
        return None
    try:
        return math.nan if text.startswith("+") else float(text)
    except ValueError:
        return math.nan


def apply_overrides(students: list[Student], overrides: dict[str, Override]) -> None:
    """Put the overrides beside the results.

    Raises:
        GraderFault: for an ID that nobody has: a misspelt one must not be lost.
    """
    known = {student.id: student for student in students}
    if unknown := set(overrides) - set(known):
        raise GraderFault(f"the overrides name {min(unknown)!r}, but nobody with this ID handed in")
    for student_id, (points, added, reason) in overrides.items():
        student = known[student_id]
        student.override, student.added, student.reason = points, added, reason
