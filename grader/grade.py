"""Grades one submission: opens it, runs the checks, and puts together the result with its provenance."""

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grader import rubric
from grader.course import Course
from grader.errors import GraderFault, Refusal
from grader.provenance import describe_machine, version_notes
from grader.result import CheckResult, Result, State
from grader.runner import run_checks
from grader.sandbox.host import Sandbox
from grader.sandbox.tiers import Tier
from grader.submission import open_submission


def grade(
    path: Path, course: Course, sandbox: Sandbox | None, checks: tuple[str, ...] = (), name: str = "",
    tell: Callable[[CheckResult], None] | None = None,
) -> Result:  # fmt: skip
    """The result of one submission; whatever goes wrong is a result too, never an exception.

    Args:
        path: the zip or the folder.
        course: the course's side, which may be shared by many submissions.
        sandbox: where the submission's code runs, shared likewise; None only if no check of the code is wanted.
        checks: names of checks; all if empty.
        name: of the submission in the reports, if it is not the path's.
        tell: called with the result of each check as soon as it is known.
    """
    started = time.perf_counter()
    isolation = sandbox.describe() if sandbox else {"tier": "no code was run"}
    provenance = {"seed": course.seed.label, "rubric": course.rubric.name, "sandbox": isolation, **describe_machine()}
    notes, digest = [*version_notes(provenance["versions"]), *isolation_notes(sandbox)], ""
    measured: dict[str, Any] = {}
    try:
        notes += course.notes
        provenance["questions"] = course.source
        submission = open_submission(path)
        notes, digest = [*notes, *submission.notes], submission.sha256
        if sandbox:
            sandbox.preload()  # while the weights are graded
        results, measured = run_checks(submission, course, sandbox, checks, tell)
    except Refusal as refusal:
        title = "The submission can be opened."
        results = (CheckResult("submission", title, rubric.ALL_POINTS, 0.0, State.REFUSED, **refusal.details),)
    except Exception as error:
        results = (explain_fault(error),)
    reported = (check for check in results if not check.points and check.cause and check.state is not State.SKIPPED)
    notes += [f"for staff: {check.name}: {check.cause}" for check in reported]
    return Result(name or path.name, digest, results, tuple(notes), time.perf_counter() - started, provenance, measured)


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
