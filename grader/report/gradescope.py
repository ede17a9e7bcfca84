"""The report for Gradescope: results.json, as its autograder specification describes it."""

import json
from typing import Any

from grader.report.text import headline, plain
from grader.result import CheckResult, Result, State


def render(result: Result) -> str:
    """The result as JSON. A fault of ours has no score at all, so that Gradescope shows an error and not a zero."""
    content: dict[str, Any] = {
        "output": "\n".join([headline(result), *map(plain, result.notes)]),
        "output_format": "text",
        "execution_time": round(result.seconds, 1),
        "tests": [render_check(check) for check in result.checks],
        "extra_data": {
            "submission": plain(result.submission),
            "submission_sha256": result.sha256,
            "states": {check.name: str(check.state) for check in result.checks},
            "provenance": result.provenance,
            "measured": result.measured,
        },
    }
    if not result.is_fault:
        content["score"] = result.score
        if "accuracy" in result.measured:
            content["leaderboard"] = [{"name": "Accuracy", "value": round(result.measured["accuracy"], 3)}]
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def render_check(check: CheckResult) -> dict[str, Any]:
    """One check as a test of Gradescope."""
    pairs = (("", check.cause), ("expected: ", check.expected), ("actual: ", check.actual), ("do: ", check.do))
    said = [label + plain(text) for label, text in (*pairs, ("", check.shown), ("", check.detail)) if text]
    entry: dict[str, Any] = {
        "name": f"{check.name}: {check.title}",
        "output": "\n".join([f"[{check.state}]", *said]),
        "output_format": "text",
        "visibility": "visible",
    }
    if check.state is not State.FAULT:
        passed = check.state is State.PASSED
        entry |= {"score": check.score, "max_score": check.points, "status": "passed" if passed else "failed"}
    return entry
