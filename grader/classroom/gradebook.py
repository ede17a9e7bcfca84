"""Tables for a spreadsheet and for Canvas: class.csv, and the scores filled into Canvas's own export."""

import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

from grader import rubric
from grader.check_list import check_names
from grader.classroom.students import Student
from grader.errors import GraderFault
from grader.report.text import one_line

KEYS = ("ID", "SIS User ID", "SIS Login ID")  # columns of Canvas that may hold what a file name says
NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
FORMULA = tuple("=+-@＝＋－＠")
# A minus is one in front of a call or of another program; "late; -10 by mail" is none.
BEHIND_SEPARATOR = re.compile(r"([;\t]\s*)(?=[=+@＝＋＠]|[-－][^;\t]*[|(!])")
ASSIGNMENT = re.compile(r".+ \(\d+\)")  # how Canvas heads the column of an assignment


def safe(value: object) -> str:
    """A cell that no spreadsheet takes for a formula.  Example: '=1+1' -> "'=1+1", -3.5 -> '-3.5'"""
    if value is None:
        return ""
    if isinstance(value, int | float):
        return f"{value:g}"
    text = one_line(str(value), 1000)
    text = BEHIND_SEPARATOR.sub(r"\1'", text)
    is_formula = text.lstrip().startswith(FORMULA) and not NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text


def to_csv(rows: list[list[object]], separator: str = ",", as_is: tuple[int, ...] = ()) -> str:
    """Rows as CSV, every cell made safe but those of the columns `as_is`, which a platform has to know again."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n", delimiter=separator).writerows(
        [[cell if column in as_is else safe(cell) for column, cell in enumerate(row)] for row in rows]
    )
    return stream.getvalue()


def check_columns(students: list[Student]) -> list[str]:
    """The checks that any result has, in the rubric's order; what this rubric does not know comes last."""
    found = dict.fromkeys(check.name for one in students if one.result for check in one.result.checks)
    known = [name for name in check_names() if name in found]
    return [*known, *(name for name in found if name not in known)]


def class_table(students: list[Student], late_penalty: float) -> str:
    """class.csv: a line for each student, the scores of each check, and why."""
    names = check_columns(students)
    head = ["ID", "name", "state", "raw", "late", "days late", "extension days", "penalty", "penalty reason",
            "after penalty", "override", "added", "override reason", "final", "points"]  # fmt: skip
    more = ["share right", "share right of public", "questions", "first cause", "file", "older files", "seconds",
            "grader", "rubric", "sha256"]  # fmt: skip
    return to_csv([[*head, *names, *more], *(class_row(student, names, late_penalty) for student in students)])


def class_row(student: Student, names: list[str], late_penalty: float) -> list[object]:
    """A student's line in class.csv."""
    result, cause, late = student.result, student.root_cause, student.lateness
    scores = {check.name: None if student.is_fault else check.score for check in result.checks} if result else {}
    measured = result.measured if result else {}
    version = result.provenance.get("grader", "") if result else ""
    return [
        student.id, student.hand_in.name, student.state, student.raw, "late" if student.hand_in.late else "",
        late and late.days, late and late.extension, student.penalty(late_penalty) or None,
        student.penalty_reason(late_penalty), student.after_penalty(late_penalty), student.override,
        student.added or None, student.reason, student.final(late_penalty), result.points if result else None,
        *(scores.get(name) for name in names), measured.get("accuracy"), measured.get("public"), student.questions,
        f"{cause.name}: {cause.cause or cause.detail}" if cause else "", student.hand_in.path.name,
        "; ".join(student.hand_in.older), round(result.seconds, 1) if result else None,
        f"{version} (another version)" if student.is_from_other_grader else version,
        f"{student.rubric} (another one)" if student.is_from_other_rubric else student.rubric, student.sha256,
    ]  # fmt: skip


class Gradebook(NamedTuple):
    """Canvas's export: its rows, the column to fill, and what parts the cells."""

    rows: list[list[str]]
    column: int
    separator: str


def open_gradebook(path: Path | None, column: str) -> Gradebook | None:
    """Read Canvas's export and find the column.

    Raises:
        GraderFault: if it is no such export, or does not say which column is meant.
    """
    if path is None:
        return None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
            separator = ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
            rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    except (OSError, UnicodeError, csv.Error) as error:
        raise GraderFault(f"can't read {path} ({error}): export the gradebook from Canvas") from error
    head = rows[0] if rows else []
    if "Student" not in head or "ID" not in head:
        raise GraderFault(f"{path} is no gradebook of Canvas: its first line needs Student and ID")
    assignments = [name for name in head if ASSIGNMENT.fullmatch(name)]
    fitting = [name for name in assignments if not column or name == column or name.startswith(f"{column} (")]
    if len(fitting) != 1:
        said = ", ".join(map(repr, assignments)) or "none"
        raise GraderFault(f"which column of {path.name}? Name it with --canvas-column; its assignments: {said}")
    book = Gradebook(rows, head.index(fitting[0]), separator)
    refuse_other_points(book, fitting[0])
    return book


def refuse_other_points(book: Gradebook, name: str) -> None:
    """Raise GraderFault if Canvas gives the assignment other points than the grader."""
    for row in book.rows[1:]:
        said = row[book.column].strip() if len(row) > book.column else ""
        if is_possible(row, book.rows[0]) and NUMBER.fullmatch(said) and float(said) != rubric.ALL_POINTS:
            raise GraderFault(
                f"{name!r} is worth {said} points in Canvas, and the grader gives 0 to {rubric.ALL_POINTS}: set the "
                "assignment's points in Canvas, and export again"
            )


def is_possible(row: list[str], head: list[str]) -> bool:
    """Whether a row of the export is the one that says how many points there are."""
    return row[head.index("Student")].strip().startswith("Points Possible")


def fill(gradebook: Gradebook, students: list[Student], late_penalty: float) -> tuple[str, list[str]]:
    """The export with one column filled, and the IDs that are not in it.

    Who has no score keeps what the export says: Canvas takes an empty cell for a grade that was removed.
    """
    head, *rows = gradebook.rows
    scores = {student.id: student.final(late_penalty) for student in students}
    padded = [[*row, *[""] * (len(head) - len(row))] for row in rows]
    key = choose_key(head, padded, scores)
    matched = {row[key].strip() for row in padded} & set(scores)
    filled: list[list[object]] = [list(head)]
    for row in padded:
        cells: list[object] = list(row)
        if scores.get(row[key].strip()) is not None:
            cells[gradebook.column] = scores[row[key].strip()]
        filled.append(cells)
    as_is = tuple(head.index(name) for name in KEYS if name in head)
    return to_csv(filled, gradebook.separator, as_is), sorted(set(scores) - matched)


def choose_key(head: list[str], rows: list[list[str]], scores: dict[str, float | None]) -> int:
    """The one column that tells students apart: of those that may, the one that knows most of them.

    One for all, because the SIS ID of one student may be Canvas's number of another.
    """
    columns = [head.index(key) for key in KEYS if key in head]
    return max(columns, key=lambda column: len({row[column].strip() for row in rows} & set(scores)))
