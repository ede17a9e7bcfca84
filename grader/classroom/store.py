"""The results folder is the database: one result.json for each submission, grader, assignment and seed.

    results/submissions/<sha256 of the submission>/<key of the run>/result.json

A result is written under another name, flushed to the disk, and renamed: it is there whole or not at all. Nothing is
ever changed in place, so that Ctrl-C, SIGKILL and a full disk cost the submissions under way and nothing else.
"""

import contextlib
import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from grader import rubric
from grader.errors import GraderFault
from grader.files import write_whole
from grader.provenance import hash_grader, hash_rubric
from grader.result import Result, read_result

if TYPE_CHECKING:
    from grader.course import Course

SCHEMA = 2  # of a result.json: 1 named some checks otherwise, and its folder by the bytes of the zip


@dataclass(frozen=True)
class RunKey:
    """What beside the submission decides a result."""

    grader: str
    assignment: str
    seed: str  # a hash: the official seed itself is written nowhere
    rubric: str
    origin: str  # as seed, without the numbers of questions, which are the rubric's: they may change in mid-term

    @property
    def short(self) -> str:
        """The name of the folder of such results."""
        return hash_all(self.grader, self.assignment, self.seed, self.rubric)[:16]


class Kept(NamedTuple):
    """A result as it lies in the folder, and the key that it was graded under."""

    key: dict[str, str]
    result: Result

    @property
    def rubric(self) -> str:
        """The rubric that it was graded under; a result of an earlier version does not say."""
        return self.key.get("rubric", "not recorded")


def run_key(course: "Course", checks: tuple[str, ...] = ()) -> RunKey:
    """The key of a run with this course: seed, questions, checks, rubric, and the code of the grader."""
    counts = course.hidden_questions, course.novel_questions
    given = () if course.given is None else (course.given,)
    seed = hash_all(course.seed.value, *counts, checks, *given)
    origin = hash_all(course.seed.value, checks, *given)
    of_rubric = hash_rubric(course.rubric, *counts, course.long_questions)
    return RunKey(hash_grader(), rubric.ASSIGNMENT, seed, of_rubric, origin)


def hash_all(*values: object) -> str:
    """One hash of several values."""
    return hashlib.sha256(repr(values).encode()).hexdigest()


class Store:
    """The results below one folder, for one run key."""

    def __init__(self, root: Path, key: RunKey) -> None:
        self.root, self.key = root, key

    def path(self, sha256: str) -> Path:
        """Where the result of a submission lies, or will."""
        return self.root / "submissions" / sha256 / self.key.short / "result.json"

    def write(self, sha256: str, result: Result) -> Path:
        """Keep a result; a former one stays beside it.

        Raises:
            OSError: if writing fails.
        """
        content = {"schema": SCHEMA, "key": {"submission": sha256, **asdict(self.key)}, "result": asdict(result)}
        self.path(sha256).parent.mkdir(parents=True, exist_ok=True)
        self.keep_former(sha256)
        write_whole(self.path(sha256), json.dumps(content, indent=1, allow_nan=False) + "\n")
        return self.path(sha256)

    def read(self, sha256: str) -> Result | None:
        """The result of a submission; None if there is none, or none that is whole."""
        kept = read_kept(self.path(sha256))
        return kept.result if kept and kept.key == {"submission": sha256, **asdict(self.key)} else None

    def read_other(self, sha256: str) -> Kept | None:
        """The newest result of another grader or rubric on the same submission, assignment and seed."""
        others = sorted(self.path(sha256).parent.parent.glob("*/result.json"), key=lambda path: -path.stat().st_mtime)
        found = (read_kept(path) for path in others if path != self.path(sha256))
        return next((kept for kept in found if kept and self.is_same_work(kept.key, sha256)), None)

    def is_same_work(self, key: dict[str, str], sha256: str) -> bool:
        """Whether a key differs from this one in grader and rubric only; an earlier version wrote no origin."""
        is_same_seed = key.get("origin") == self.key.origin or key["seed"] == self.key.seed
        return is_same_seed and (key["submission"], key["assignment"]) == (sha256, self.key.assignment)

    def age(self, sha256: str) -> int:
        """When a result was written, in ns of the file system's own clock; 0 if there is none."""
        try:
            return self.path(sha256).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def keep_former(self, sha256: str) -> None:
        """Copy a result that is about to be replaced, so that each one that ever counted stays beside the new one."""
        path = self.path(sha256)
        if path.exists():
            names = (path.with_name(f"former{f'-{number}' if number else ''}.json") for number in count())
            shutil.copy2(path, next(name for name in names if not name.exists()))


def refuse_other_schema(root: Path) -> None:
    """Raise GraderFault for a results folder in another format: its results would be read in part, or not at all."""
    former = [1] if (root / "terms.json").exists() else []  # format 1 kept its settings there, before any result
    for path in root.glob("submissions/*/*/result.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # what is no whole result is graded again
            former.append(json.loads(path.read_text(encoding="utf-8"))["schema"])
    for schema in former:
        if schema != SCHEMA:
            raise GraderFault(
                f"{root} holds results in format {schema}, of another version of the grader, and this one reads format "
                f"{SCHEMA}: take another --out, or that version"
            )


def read_kept(path: Path) -> Kept | None:
    """A result as it was written, if it is whole."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        key, saved = content["key"], content["result"]
        if content["schema"] != SCHEMA or not {"submission", "grader", "assignment", "seed"} <= key.keys():
            return None
        return Kept(key, read_result(saved))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
