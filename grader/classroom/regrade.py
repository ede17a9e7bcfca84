"""Grading again what is asked for: a result counts until its new one is there; a stop loses none and repeats none.

python -m grader FOLDER --out results/ --regrade all       # the same line goes on after Ctrl-C
"""

from grader.classroom.store import Store
from grader.classroom.students import Student
from grader.files import write_whole

FILE = "regrade.txt"  # while one is under way: what was asked; its age tells new results from former ones


def find_left(store: Store, students: list[Student], words: set[str]) -> dict[str, int]:
    """The hashes of what `--regrade` means and an interrupted line like this one has not yet graded again.

    With each, when the regrade was asked for: a result of this age or older does not count as its own.

    Args:
        store: of the results.
        students: those that are looked at.
        words: IDs, failed, changed or all.
    """
    meant = {student.sha for student in students if is_meant(student, words)}
    if not meant:
        return {}
    path, asked = store.root / FILE, ",".join(sorted(words))
    if not path.exists() or path.read_text(encoding="utf-8") != asked:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, asked)
    since = path.stat().st_mtime_ns
    return {sha: since for sha in meant if store.age(sha) <= since}


def is_meant(student: Student, words: set[str]) -> bool:
    """Whether one of the words of --regrade means this student."""
    return bool(
        words & {student.id, "all"}
        or ("failed" in words and student.is_fault)
        or ("changed" in words and student.is_from_other_grader)
    )


def end(store: Store) -> None:
    """All that was asked for is graded: the same line now means another time."""
    (store.root / FILE).unlink(missing_ok=True)
