"""Writes all that is derived from the results: class.csv, canvas.csv, class.html, and a page for each student."""

from pathlib import Path

from grader import rubric
from grader.classroom import gradebook as books
from grader.classroom import pages
from grader.classroom.gradebook import Gradebook
from grader.classroom.similarity import Likeness, compare
from grader.classroom.students import Student, find_changed
from grader.files import remove_left, write_whole
from grader.own_questions import PUBLIC_NOTE, SEED_NOTE
from grader.report.text import one_line

LIKENESS = "alike.csv"


def write_all(out: Path, students: list[Student], gradebook: Gradebook | None, late_penalty: float) -> None:
    """Write every report.

    Raises:
        OSError: if writing fails; the results themselves are kept.
    """
    (out / "students").mkdir(parents=True, exist_ok=True)
    for folder in (out, out / "students"):
        remove_left(folder)
    write_whole(out / "class.csv", books.class_table(students, late_penalty))
    if gradebook:
        write_whole(out / "canvas.csv", books.fill(gradebook, students, late_penalty)[0])
    for student in students:
        write_whole(out / "students" / pages.file_name(student.id), pages.student_page(student, late_penalty))
    likeness = find_likeness(students)
    write_whole(out / LIKENESS, likeness_table(likeness))
    write_whole(out / "class.html", pages.class_page(students, likeness, late_penalty))


def find_likeness(students: list[Student]) -> list[Likeness]:
    """Compare what was handed in and graded."""
    return compare({one.id: one.features for one in students if one.state == "graded" and one.features})


def likeness_table(likeness: list[Likeness]) -> str:
    """alike.csv: who shares what."""
    rows: list[list[object]] = [[one.what, one.detail, " ".join(one.students)] for one in likeness]
    return books.to_csv([["what", "how", "IDs"], *rows])


def describe(out: Path, students: list[Student], gradebook: Gradebook | None) -> str:
    """The last lines of a run: what needs a human, and where to look."""
    lines = []
    for state in ("grader error", "not graded yet"):
        if ids := [one.id for one in students if one.state == state]:
            what = "no score, not a zero; --regrade failed tries again" if state == "grader error" else "no score yet"
            lines.append(f"{state} ({what}): {', '.join(ids)}")
    for what, ids in find_changed(students).items():
        renew = "kept; --regrade changed renews" if len(ids) == 1 else "all kept; --regrade changed renews them"
        lines.append(f"{what}, {len(ids)} of {len(students)} students, {renew}: {', '.join(ids)}")
    if public := sum(one.source == "valid" for one in students):
        lines.append(f"for {public} of {len(students)} students, {PUBLIC_NOTE}")
    if public := sum(one.has_public_seed for one in students):
        lines.append(f"for {public} of {len(students)} students, {SEED_NOTE}")
    for student in students:
        if student.hand_in.older:
            lines.append(f"{student.id}: {student.hand_in.path.name} counts, not {', '.join(student.hand_in.older)}")
    if gradebook:
        missing = books.fill(gradebook, students, 0)[1]
        lines += [f"not in Canvas's export, so not in canvas.csv: {', '.join(missing)}"] if missing else []
        if odd := [
            one.id for one in students if one.is_from_other_rubric and one.points not in (None, rubric.ALL_POINTS)
        ]:
            said = f"of another number of points than Canvas's {rubric.ALL_POINTS}: --regrade changed before you upload"
            lines.append(f"canvas.csv has scores {said}: {', '.join(odd)}")
        lines.append(f"upload {out / 'canvas.csv'} to Canvas (Grades, Import)")
    lines = [one_line(line) for line in lines]
    return "\n".join([*lines, f"see {out / 'class.html'} and {out / 'class.csv'}"])
