"""Grades one submission: opens it, runs the checks, and puts together the result with its provenance.

python -m grader ID.zip
"""

import hashlib
import platform
import re
import time
import traceback
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from grader import rubric
from grader.course import Course
from grader.engine import run_checks
from grader.errors import GraderFault, Refusal
from grader.result import CheckResult, Result, State
from grader.submission import open_submission

GRADER = Path(__file__).resolve().parent
ALL_POINTS = rubric.THERE + rubric.CONFIGURED + rubric.SOUND + rubric.ACCURACY


def grade(path: Path, course: Course, only: tuple[str, ...] = (), seed_label: str = "public", name: str = "") -> Result:
    """The result of one submission; whatever goes wrong is a result too, never an exception.

    Args:
        path: the zip or the folder.
        course: the course's side, which may be shared by many submissions.
        only: names of checks; all if empty.
        seed_label: what is written down of the seed: a public number, or that it is the official one.
        name: of the submission in the reports, if it is not the path's.
    """
    started = time.perf_counter()
    provenance = {"seed": seed_label, **describe_machine()}
    notes, digest = version_notes(provenance["versions"]), ""
    try:
        submission = open_submission(path)
        notes, digest = [*notes, *submission.notes], submission.sha256
        checks = run_checks({"submission": submission, "course": course}, only)
    except Refusal as refusal:
        said = {"cause": refusal.cause, "expected": refusal.expected, "actual": refusal.actual, "do": refusal.do}
        checks = (CheckResult("submission", "The submission can be opened.", ALL_POINTS, 0.0, State.REFUSED, **said),)
    except Exception as error:
        checks = (explain_fault(error),)
    measured = asdict(course.measured) if course.measured else {}
    course.measured = None
    return Result(name or path.name, digest, checks, tuple(notes), time.perf_counter() - started, provenance, measured)


def explain_fault(error: Exception) -> CheckResult:
    """A fault of ours, as a result."""
    cause = str(error) if isinstance(error, GraderFault) else f"{type(error).__name__}: {error}"
    return CheckResult(
        "grader",
        "The grader itself works.",
        ALL_POINTS,
        0.0,
        State.FAULT,
        cause=cause[:500],
        do="this is no zero: ask the staff to grade it again",
        traceback="".join(traceback.format_exception(error)),
    )


def describe_machine() -> dict[str, Any]:
    """Versions of what decides a score, and hashes of grader and base model."""
    sources = b"".join(path.read_bytes() for path in sorted(GRADER.rglob("*.py")))
    return {
        "grader": rubric.VERSION,
        "grader_sha256": hashlib.sha256(sources).hexdigest(),
        "base_sha256": rubric.BASE_SHA256["model.safetensors"],
        "versions": {name: installed(name) for name in ("python", *pinned())},
        "platform": f"{platform.system()} {platform.machine()}",
    }


def installed(package: str) -> str:
    """The installed version of a package, or of Python."""
    try:
        return platform.python_version() if package == "python" else version(package).partition("+")[0]
    except PackageNotFoundError:
        return "missing"


def pinned() -> dict[str, str]:
    """The packages that requirements.txt pins, and their versions: one file for students and for the autograder."""
    text = (rubric.ROOT / "requirements.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w-]+)==([\w.]+)", text, re.MULTILINE))


def version_notes(versions: dict[str, str]) -> list[str]:
    """What differs here from the official grading, said before any score."""
    wrong = [
        f"{name} {versions[name]}, official {wanted}" for name, wanted in pinned().items() if versions[name] != wanted
    ]
    return [f"other versions than the official grading: {'; '.join(wrong)}; the score may differ"] if wrong else []
