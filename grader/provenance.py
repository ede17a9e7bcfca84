"""Where a result comes from: the grader's own hash, the base model's, and the versions of what decides a score."""

import hashlib
import json
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from grader import rubric

GRADER = Path(__file__).resolve().parent
# What decides no score: its changes regrade nobody.
NO_SCORE_IN = ("report", "classroom", "__main__.py", "autograder.py", "interrupts.py")


def hash_grader() -> str:
    """The hash of all code that decides a score: the same in the starter, which lacks some of the rest."""
    digest = hashlib.sha256()
    for path in sorted([*GRADER.rglob("*.py"), *GRADER.rglob("*.toml")]):
        name = path.relative_to(GRADER)
        if name.parts[0] not in NO_SCORE_IN:
            digest.update(f"{name.as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def hash_rubric(course_rubric: rubric.Rubric, *counts: int) -> str:
    """A short hash of what a rubric decides: points and bounds, and the limits that all rubrics share.

    Args:
        course_rubric: of the course; its title changes no score.
        counts: the numbers of questions of a run.
    """
    names = {name for name in vars(rubric) if name.isupper()} - {"VERSION", "CHOSEN", "VARIABLE"}
    limits = {name: getattr(rubric, name) for name in names}
    decided = course_rubric._replace(title="")._asdict()
    text = json.dumps([decided, counts, limits], sort_keys=True, default=describe_value)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def describe_value(value: object) -> object:
    """A value of the rubric that JSON lacks, the same on every machine and in every process."""
    if isinstance(value, Path):
        return Path(os.path.relpath(value, rubric.ROOT)).as_posix()
    return sorted(value) if isinstance(value, set | frozenset) else repr(value)


def describe_machine() -> dict[str, Any]:
    """Versions of what decides a score, and hashes of grader and base model."""
    return {
        "grader": rubric.VERSION,
        "grader_sha256": hash_grader(),
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


def refuse_missing() -> None:
    """End the process with one line where a package is not installed that decides a score: .venv is not active."""
    if missing := [name for name in pinned() if installed(name) == "missing"]:
        lacks = f"this Python ({sys.executable}) lacks {', '.join(missing)}"
        print(f"error: {lacks}: activate .venv, or pip install -r requirements.txt", file=sys.stderr)
        sys.exit(2)


def version_notes(versions: dict[str, str]) -> list[str]:
    """What differs here from the official grading, shown before any score."""
    wrong = [
        f"{name} {versions[name]}, official {wanted}" for name, wanted in pinned().items() if versions[name] != wanted
    ]
    return [f"other versions than the official grading: {'; '.join(wrong)}; the score may differ"] if wrong else []
