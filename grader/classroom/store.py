"""The results folder is the database: one result.json for each submission, grader, assignment and seed.

    results/submissions/<sha256 of the submission>/<key of the run>/result.json

A result is written under another name, flushed to the disk, and renamed: it is there whole or not at all. Nothing is
ever changed in place, so that Ctrl-C, SIGKILL and a full disk cost the submissions under way and nothing else.
"""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grader import rubric
from grader.files import write_whole
from grader.result import Result, read_check

if TYPE_CHECKING:
    from grader.course import Course

GRADER = Path(__file__).resolve().parent.parent
SCHEMA = 1
NO_SCORE_IN = (
    "report",
    "classroom",
    "__main__.py",
    "autograder.py",
    "interrupts.py",
)  # what decides no score: its changes regrade nobody


@dataclass(frozen=True)
class RunKey:
    """What beside the submission decides a result."""

    grader: str
    assignment: str
    seed: str  # a hash: the official seed itself is written nowhere

    @property
    def short(self) -> str:
        """The name of the folder of such results."""
        return hashlib.sha256(repr((self.grader, self.assignment, self.seed)).encode()).hexdigest()[:16]


def run_key(course: "Course", only: tuple[str, ...] = ()) -> RunKey:
    """The key of a run with this course: its seed, its numbers of questions, its checks, and the code of the grader."""
    asked = (course.seed, course.hidden_questions, course.novel_questions, only)
    return RunKey(hash_grader(), rubric.ASSIGNMENT, hashlib.sha256(repr(asked).encode()).hexdigest())


def hash_grader() -> str:
    """The hash of all code that decides a score."""
    digest = hashlib.sha256()
    for path in sorted(GRADER.rglob("*.py")):
        if path.relative_to(GRADER).parts[0] not in NO_SCORE_IN:
            digest.update(f"{path.relative_to(GRADER).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def hash_submission(path: Path) -> str:
    """The hash of a zip's bytes, or of a folder's files by name. Links are named, not followed."""
    digest = hashlib.sha256()
    for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
        name = one.relative_to(path).as_posix() if path.is_dir() else ""
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        if one.is_symlink():
            digest.update(b"link")
        elif one.is_file():
            with one.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class Store:
    """The results below one folder, for one run key."""

    def __init__(self, root: Path, key: RunKey) -> None:
        self.root, self.key = root, key

    def path(self, sha: str) -> Path:
        """Where the result of a submission lies, or will."""
        return self.root / "submissions" / sha / self.key.short / "result.json"

    def write(self, sha: str, result: Result) -> Path:
        """Keep a result; a former one stays beside it.

        Raises:
            OSError: if the disk takes it not.
        """
        content = {"schema": SCHEMA, "key": {"submission": sha, **asdict(self.key)}, "result": asdict(result)}
        self.path(sha).parent.mkdir(parents=True, exist_ok=True)
        self.keep_former(sha)
        write_whole(self.path(sha), json.dumps(content, indent=1, allow_nan=False) + "\n")
        return self.path(sha)

    def read(self, sha: str) -> Result | None:
        """The result of a submission; None if there is none, or none that is whole."""
        return read_result(self.path(sha), {"submission": sha, **asdict(self.key)})

    def read_other(self, sha: str) -> Result | None:
        """The newest result of another version of the grader on the same submission, assignment and seed."""
        others = sorted(self.path(sha).parent.parent.glob("*/result.json"), key=lambda path: -path.stat().st_mtime)
        wanted = {"submission": sha, "assignment": self.key.assignment, "seed": self.key.seed}
        found = (read_result(path, wanted) for path in others if path != self.path(sha))
        return next((result for result in found if result is not None), None)

    def age(self, sha: str) -> int:
        """When a result was written, in ns of the file system's own clock; 0 if there is none."""
        try:
            return self.path(sha).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def keep_former(self, sha: str) -> None:
        """Copy a result that is about to be replaced, so that each one that ever counted stays beside the new one."""
        path = self.path(sha)
        if path.exists():
            names = (path.with_name(f"former{f'-{number}' if number else ''}.json") for number in count())
            shutil.copy2(path, next(name for name in names if not name.exists()))


def read_result(path: Path, wanted: dict[str, Any]) -> Result | None:
    """A result as it was written, if it is whole and its key holds what is wanted."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA or any(content["key"][name] != value for name, value in wanted.items()):
            return None
        said = content["result"]
        checks = tuple(map(read_check, said["checks"]))
        return Result(**{**said, "checks": checks, "notes": tuple(said["notes"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
