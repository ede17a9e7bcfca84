"""Tables for a spreadsheet and for Canvas: class.csv, and the scores filled into Canvas's own export.

python -m grader FOLDER --out results/ --canvas export.csv
"""

import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

from grader.classroom.students import Student
from grader.errors import GraderFault
from grader.report.text import plain

KEYS = ("ID", "SIS User ID", "SIS Login ID")  # columns of Canvas that may hold what a file name says
NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
ASSIGNMENT = re.compile(r".+ \(\d+\)")  # how Canvas heads the column of an assignment


def safe(value: object) -> str:
    """A cell that no spreadsheet takes for a formula.  Example: '=1+1' -> "'=1+1", -3.5 -> '-3.5'"""
    if value is None:
        return ""
    if isinstance(value, int | float):
        return f"{value:g}"
    text = plain(str(value), 1000).replace("\n", " ")
    is_formula = text.lstrip().startswith(("=", "+", "-", "@")) and not NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text


def to_csv(rows: list[list[object]]) -> str:
    """Rows as CSV, every cell made safe."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([[safe(cell) for cell in row] for row in rows])
    return stream.getvalue()


def class_table(students: list[Student], late_penalty: float) -> str:
    """class.csv: a line for each student, the scores of each check, and why."""
    names = list(dict.fromkeys(check.name for one in students if one.result for check in one.result.checks))
    head = ["ID", "name", "state", "raw", "late", "penalty", "override", "override reason", "final", "points"]
    rows: list[list[object]] = [
        [
            *head,
            *names,
            "share right",
            "share right of public",
            "first cause",
            "file",
            "older files",
            "seconds",
            "grader",
            "sha256",
        ]
    ]
    return to_csv(rows + [class_row(student, names, late_penalty) for student in students])


def class_row(student: Student, names: list[str], late_penalty: float) -> list[object]:
    """A student's line in class.csv."""
    result, cause = student.result, student.root_cause
    scores = {check.name: None if student.is_fault else check.score for check in result.checks} if result else {}
    measured = result.measured if result else {}
    version = result.provenance.get("grader", "") if result else ""
    return [
        student.id, student.hand_in.name, student.state, student.raw, "late" if student.hand_in.late else "",
        student.penalty(late_penalty) or None, student.override, student.reason, student.final(late_penalty),
        result.points if result else None, *(scores.get(name) for name in names), measured.get("accuracy"),
        measured.get("public"), f"{cause.name}: {cause.cause or cause.detail}" if cause else "",
        student.hand_in.path.name, "; ".join(student.hand_in.older), round(result.seconds, 1) if result else None,
        f"{version} (another version)" if student.is_from_other_grader else version, student.sha,
    ]  # fmt: skip


class Gradebook(NamedTuple):
    """Canvas's export: its rows, and the column to fill."""

    rows: list[list[str]]
    column: int


def open_gradebook(path: Path | None, column: str) -> Gradebook | None:
    """Read Canvas's export and find the column.

    Raises:
        GraderFault: if it is no such export, or does not say which column is meant.
    """
    if path is None:
        return None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeError, csv.Error) as error:
        raise GraderFault(f"can't read {path} ({error}): export the gradebook from Canvas") from error
    head = rows[0] if rows else []
    if "Student" not in head or "ID" not in head:
        raise GraderFault(f"{path} is no gradebook of Canvas: its first line needs Student and ID")
    fitting = [name for name in head if name == column or name.startswith(f"{column} (")] if column else []
    fitting = fitting or ([] if column else [name for name in head if ASSIGNMENT.fullmatch(name)])
    if len(fitting) != 1:
        said = ", ".join(repr(name) for name in head if ASSIGNMENT.fullmatch(name)) or "none"
        raise GraderFault(f"which column of {path.name}? Name it with --canvas-column; its assignments: {said}")
    return Gradebook(rows, head.index(fitting[0]))


def fill(gradebook: Gradebook, students: list[Student], late_penalty: float) -> tuple[str, list[str]]:
    """The export with one column filled, and the IDs that are not in it. Who has no score stays blank: Canvas then
    leaves the grade alone."""
    head, *rows = gradebook.rows
    scores = {student.id: student.final(late_penalty) for student in students}
    matched: set[str] = set()
    filled: list[list[object]] = [list(head)]
    for row in rows:
        cells: list[object] = [*row, *[""] * (len(head) - len(row))]
        keys = [str(cells[head.index(key)]).strip() for key in KEYS if key in head]
        if found := [key for key in keys if key in scores]:
            matched.add(found[0])
            cells[gradebook.column] = scores[found[0]]
        elif not str(cells[head.index("Student")]).strip().startswith("Points Possible"):
            cells[gradebook.column] = ""
        filled.append(cells)
    return to_csv(filled), sorted(set(scores) - matched)
