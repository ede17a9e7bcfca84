"""The overrides of the staff: a text file that is reviewed like code, applied in a column of its own.

    ID,points,reason
    123456,70,regrade request of 3 May: the zip was cut by the platform

Nobody edits a result; what the grader gave stays beside what the staff decided.
"""

import csv
import math
import re
from pathlib import Path

from grader import rubric
from grader.classroom.students import Student
from grader.errors import GraderFault

Override = tuple[float, str]
HEAD = ["ID", "points", "reason"]


def read_overrides(path: Path) -> dict[str, Override]:
    """Points and reason by ID.

    Raises:
        GraderFault: naming the line that is no override.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            head, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeError, csv.Error) as error:
        raise GraderFault(f"can't read the overrides {path} ({error}): name a CSV with ID, points, reason") from error
    if [name.strip() for name in head] != HEAD:
        raise GraderFault(f"{path.name}: its first line must be {','.join(HEAD)}, with commas")
    found: dict[str, Override] = {}
    for number, row in enumerate(rows, 2):
        student, points, reason = ((row.get(name) or "").strip() for name in head)
        student = re.sub("^'(?=[=+@-])", "", student)  # as class.csv writes an ID that a spreadsheet would compute
        try:
            value = float(points)
        except ValueError:
            value = math.nan
        if None in row:
            raise GraderFault(f"{path.name}, line {number}: a comma too many: 70.5, and a reason with commas in quotes")
        if not student or not reason or not 0 <= value <= rubric.ALL_POINTS:  # NaN is neither
            raise GraderFault(
                f"{path.name}, line {number}: needs an ID, points of 0 to {rubric.ALL_POINTS}, and a reason"
            )
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
