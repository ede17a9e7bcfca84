"""What a results folder remembers from one command line to the next: the settings of its tables, and an open regrade.

No later line drops the official key, the hidden questions, the overrides or the late penalty without saying so. A
result counts until its regrade is there: a stop loses none and repeats none.
"""

import json
from pathlib import Path
from typing import NamedTuple

from grader.classroom.store import Store
from grader.classroom.students import Student
from grader.errors import GraderFault
from grader.files import write_whole

FILE = "run_settings.json"
REGRADE_FILE = "regrade.txt"  # while one is open: what was asked; its age tells new results from former ones


class RunSettings(NamedTuple):
    """What beside the results decides the tables; None for what a line does not say."""

    official: bool
    overrides: str | None
    late_penalty: float | None
    hidden: bool = False  # whether the questions are those of the staff's file


def refuse_dropped(out: Path, now: RunSettings) -> None:
    """Compare a line with the one before it.

    Raises:
        GraderFault: if the tables would lose official grades, overrides or the penalty.
    """
    former = read_settings(out / FILE)
    if former is None:
        return
    if former.official and not now.official:
        raise GraderFault(
            f"{out} holds official grades, and this line has no key: add --key-file FILE, or take another --out"
        )
    if former.hidden and not now.hidden:
        raise GraderFault(f"{out} was graded with --hidden, and this line has none: add it, or take another --out")
    if former.overrides is not None and now.overrides is None:
        raise GraderFault(
            f"{out} was made with --overrides {former.overrides}: add it again (a file with its first line alone takes "
            "them away)"
        )
    if former.late_penalty and now.late_penalty is None:
        raise GraderFault(f"{out} was made with --late-penalty {former.late_penalty:g}: add it again, or another one")


def keep_settings(out: Path, now: RunSettings) -> None:
    """Write down what this line says, for the next one."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / FILE, json.dumps(now._asdict(), indent=1) + "\n")


def read_settings(path: Path) -> RunSettings | None:
    """What the former line said; None where there was none.

    Raises:
        GraderFault: if it can't be read: it may have said what must not be lost.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        hidden = "hidden" in saved and bool(saved["hidden"])  # a folder of an earlier version does not say
        penalty = None if saved["late_penalty"] is None else float(saved["late_penalty"])
        return RunSettings(bool(saved["official"]), saved["overrides"], penalty, hidden)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GraderFault(
            f"can't read {path} ({error}), which says what the tables rest on: restore it, or "
            "remove it and give --key-file, --hidden, --overrides and --late-penalty as before"
        ) from error


def find_left_to_regrade(store: Store, students: list[Student], words: set[str]) -> dict[str, int]:
    """The hashes of what `--regrade` means and an interrupted line like this one has not yet graded again.

    With each, when the regrade was asked for: a result of this age or older does not count as its own.

    Args:
        store: of the results.
        students: those that are looked at.
        words: IDs, failed, changed or all.
    """
    meant = {student.sha256 for student in students if is_meant(student, words)}
    if not meant:
        return {}
    path, asked = store.root / REGRADE_FILE, ",".join(sorted(words))
    if not path.exists() or path.read_bytes() != asked.encode():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, asked)
    since = path.stat().st_mtime_ns
    return {sha256: since for sha256 in meant if store.age(sha256) <= since}


def is_meant(student: Student, words: set[str]) -> bool:
    """Whether one of the words of --regrade means this student."""
    return bool(
        words & {student.id, "all"}
        or ("failed" in words and student.is_fault)
        or ("changed" in words and student.is_changed)
    )


def end_regrade(store: Store) -> None:
    """All that was asked for is graded: the same line now means another time."""
    (store.root / REGRADE_FILE).unlink(missing_ok=True)
