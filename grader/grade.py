"""Grades one submission: opens it, runs the checks, and puts together the result with its provenance.

python -m grader ID.zip
"""

import hashlib
import platform
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from grader import rubric
from grader.course import Course
from grader.engine import run_checks
from grader.errors import GraderFault, Refusal
from grader.isolation import Tier
from grader.result import CheckResult, Result, State
from grader.sandbox import Sandbox
from grader.submission import open_submission

GRADER = Path(__file__).resolve().parent


def grade(
    path: Path, course: Course, sandbox: Sandbox | None, only: tuple[str, ...] = (), seed_label: str = "public",
    name: str = "", tell: Callable[[CheckResult], None] | None = None,
) -> Result:  # fmt: skip
    """The result of one submission; whatever goes wrong is a result too, never an exception.

    Args:
        path: the zip or the folder.
        course: the course's side, which may be shared by many submissions.
        sandbox: where the submission's code runs, shared likewise; None only if no check of the code is wanted.
        only: names of checks; all if empty.
        seed_label: what is written down of the seed: a public number, or that it is the official one.
        name: of the submission in the reports, if it is not the path's.
        tell: called with the result of each check as soon as it is known.
    """
    started = time.perf_counter()
    isolation = sandbox.describe() if sandbox else {"tier": "no code was run"}
    provenance = {"seed": seed_label, "sandbox": isolation, **describe_machine()}
    notes, digest = [*version_notes(provenance["versions"]), *isolation_notes(sandbox)], ""
    try:
        submission = open_submission(path)
        notes, digest = [*notes, *submission.notes], submission.sha256
        if sandbox:
            sandbox.preload()  # while the weights are graded
        checks = run_checks({"submission": submission, "course": course, "sandbox": sandbox, "tell": tell}, only)
    except Refusal as refusal:
        title = "The submission can be opened."
        checks = (CheckResult("submission", title, rubric.ALL_POINTS, 0.0, State.REFUSED, **refusal.said),)
    except Exception as error:
        checks = (explain_fault(error),)
    reported = (check for check in checks if not check.points and check.cause and check.state is not State.SKIPPED)
    notes += [f"for staff: {check.name}: {check.cause}" for check in reported]
    measured = asdict(course.measured) if course.measured else {}
    course.measured = None
    return Result(name or path.name, digest, checks, tuple(notes), time.perf_counter() - started, provenance, measured)


def isolation_notes(sandbox: Sandbox | None) -> list[str]:
    """Said first, where the code runs without isolation."""
    if sandbox is None or sandbox.tier is not Tier.NONE:
        return []
    return ["the code runs without a sandbox here, with all that you may do: grade only your own homework this way"]


def explain_fault(error: Exception) -> CheckResult:
    """A fault of ours, as a result."""
    cause = str(error) if isinstance(error, GraderFault) else f"{type(error).__name__}: {error}"
    return CheckResult(
        "grader",
        "The grader itself works.",
        rubric.ALL_POINTS,
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
