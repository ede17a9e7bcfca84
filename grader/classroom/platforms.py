"""Who handed in what: a student's ID from the file name of the learning platform, and the newest of several hand-ins.

Canvas:      `doejane_LATE_4711_98765_homework-1.zip`  -> ID 4711, late
Gradescope:  the folder `submission_98765`, with `submission_metadata.yml` beside it -> the sid in there, else 98765
Moodle:      `Jane Doe_4711_assignsubmission_file_homework.zip` -> ID 4711; `..._onlinetext_` is text, and counts last
otherwise:   `123456.zip` -> ID 123456, and `123456 (2).zip` is a newer one of the same student
"""

import re
from pathlib import Path
from typing import NamedTuple

from grader.errors import GraderFault
from grader.submission import find_zips, is_junk

CANVAS = re.compile(r"(?P<name>[^_]+)_(?P<late>LATE_)?(?P<id>\d+)_(?P<order>\d+)_(?P<file>.+)")
MOODLE = re.compile(r"(?P<name>[^_]+)_(?P<id>\d+)_assignsubmission_(?P<kind>file|onlinetext)(_.*)?")
GRADESCOPE = re.compile(r"submission_(?P<id>\d+)")
PLAIN = re.compile(r"(?P<id>.+?) ?\((?P<order>\d+)\)")
METADATA = "submission_metadata.yml"
NOTHING = ("", "~", "null")  # in YAML
ASIDE = (".csv", ".yml", ".yaml", ".md", ".html", ".json")  # what lies beside hand-ins and is none


class HandIn(NamedTuple):
    """One student's newest hand-in, and the names of what does not count: the older ones, and what lies beside it."""

    student: str
    path: Path
    late: bool = False
    older: tuple[str, ...] = ()
    name: str = ""  # of the student, where the platform says it


class Found(NamedTuple):
    """A file or folder with what its name says; `order` grows from older to newer."""

    student: str
    path: Path
    late: bool
    order: tuple
    name: str


def read_name(path: Path) -> Found:
    """What the name of a hand-in says.  Example: 'doejane_LATE_4711_98765_hw.zip' -> 4711, late"""
    stem = path.name if path.is_dir() else path.stem  # a folder may be named after John Q. Public
    is_zip = path.is_dir() or path.suffix.lower() == ".zip"  # a zip counts before anything else that was handed in
    for pattern in (MOODLE, CANVAS, GRADESCOPE, PLAIN):
        if match := pattern.fullmatch(stem):
            said = match.groupdict()
            is_zip = is_zip and said.get("kind") != "onlinetext"  # what was typed into the page
            order = (is_zip, int(said.get("order") or 0), handed_in_at(path), path.name)
            return Found(said["id"].strip(), path, bool(said.get("late")), order, said.get("name") or "")
    return Found(stem.strip() or stem, path, False, (is_zip, 0, handed_in_at(path), path.name), "")


def handed_in_at(path: Path) -> float:
    """When a hand-in was written, in seconds; a link that leads nowhere is one too."""
    return (path if path.exists() else path.parent).stat().st_mtime


def collect(folder: Path, out: Path | None = None) -> list[HandIn]:
    """The newest hand-in of each student, in the order of their IDs; of a group, each one has it.

    Args:
        folder: of the hand-ins.
        out: the results folder, which may lie among them.

    Raises:
        GraderFault: if there is none, or if the folder can't be read.
    """
    try:
        beside = out.resolve() if out else None
        paths = [path for path in folder.iterdir() if is_hand_in(path) and path.resolve() != beside]
    except OSError as error:
        raise GraderFault(f"can't read the folder {folder} ({error.strerror}): name the folder of zips") from error
    known = read_metadata(folder / METADATA)
    by_student: dict[str, list[Found]] = {}
    for read in map(read_name, sorted(paths)):
        for said in known.get(read.path.name) or [{}]:
            found = read._replace(student=said.get("sid", read.student), name=said.get("name", read.name))
            by_student.setdefault(found.student, []).append(found)
    if not by_student:
        raise GraderFault(f"{folder} holds no hand-in: name the folder that holds the zips")
    return [newest(found) for _, found in sorted(by_student.items())]


def newest(found: list[Found]) -> HandIn:
    """The one that counts of one student's hand-ins."""
    *older, last = sorted(found, key=lambda one: one.order)
    path, beside = inside(last.path)
    return HandIn(last.student, path, last.late, (*(one.path.name for one in older), *beside), last.name)


def inside(path: Path) -> tuple[Path, list[str]]:
    """The newest zip in a folder, with what lies beside it; the path itself where there is none, or a homework is."""
    if not (zips := find_zips(path) if path.is_dir() else []):
        return path, []
    last = max(zips, key=lambda one: read_name(one).order)
    return last, sorted(f"{path.name}/{one.name}" for one in path.iterdir() if one != last and not is_junk(one.name))


def is_hand_in(path: Path) -> bool:
    """Whether a path is a file or folder that somebody handed in; a broken or odd one still is, so none is lost."""
    if is_junk(path.name) or path.name.startswith("."):
        return False
    bears_id = path.stem.isdigit() or any(pattern.fullmatch(path.stem) for pattern in (MOODLE, CANVAS))
    return bears_id or path.is_dir() or path.suffix.lower() not in ASIDE


def read_metadata(path: Path) -> dict[str, list[dict[str, str]]]:
    """Name and sid of each submitter by folder, as Gradescope exports them; empty without the file.

    Raises:
        GraderFault: if the file is there but can't be read: IDs would silently become others.
    """
    if not path.exists():
        return {}
    import yaml

    try:
        # All scalars as texts: YAML takes 0012346 for an octal number, 5350.
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
        people = {name: said.get(":submitters") or [] for name, said in content.items()}
        return {
            name: [{key.lstrip(":"): str(one[key]) for key in one if one[key] not in NOTHING} for one in group]
            for name, group in people.items()
        }
    except (yaml.YAMLError, AttributeError, UnicodeError, KeyError, TypeError) as error:
        raise GraderFault(f"{path} is no export of Gradescope ({error}): export the submissions again"[:300]) from error
