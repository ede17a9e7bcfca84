"""The overrides of the staff: a text file that is reviewed like code, applied in a column of its own.

    ID,points,reason
    123456,70,regrade request of 3 May: the zip was cut by the platform

Nobody edits a result; what the grader gave stays beside what the staff decided.
"""

import csv
import math
from pathlib import Path

from grader.classroom.students import Student
from grader.errors import GraderFault

Override = tuple[float, str]


def read_overrides(path: Path) -> dict[str, Override]:
    """Points and reason by ID.

    Raises:
        GraderFault: naming the line that is no override.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeError, csv.Error) as error:
        raise GraderFault(f"can't read the overrides {path} ({error}): name a CSV with ID, points, reason") from error
    found: dict[str, Override] = {}
    for number, row in enumerate(rows, 2):
        student, points, reason = ((row.get(name) or "").strip() for name in ("ID", "points", "reason"))
        try:
            value = float(points)
        except ValueError:
            value = math.nan
        if not student or not reason or not math.isfinite(value) or value < 0:
            raise GraderFault(f"{path.name}, line {number}: needs an ID, points of 0 or more, and a reason")
        if student in found:
            raise GraderFault(f"{path.name}, line {number}: {student} stands in it twice")
        found[student] = (value, reason)
    return found


def apply_overrides(students: list[Student], overrides: dict[str, Override]) -> None:
    """Put the overrides beside the results.

    Raises:
        GraderFault: for an ID that nobody has: a misspelt one must not be lost.
    """
    known = {student.id: student for student in students}
    if unknown := set(overrides) - set(known):
        raise GraderFault(f"the overrides name {min(unknown)!r}, but nobody with this ID handed in")
    for student_id, (points, reason) in overrides.items():
        known[student_id].override, known[student_id].reason = points, reason
