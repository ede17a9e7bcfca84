"""A student in the class tables: the hand-in, its result, and what staff decided beside it.

raw is what the grader gave, penalty what lateness takes off it, override what staff put in the place of both, added
what they gave on top, final what counts.
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from grader import rubric
from grader.classroom.lateness import Lateness
from grader.classroom.platforms import HandIn
from grader.classroom.similarity import Features, extract_features
from grader.own_questions import SOURCES
from grader.result import CheckResult, Result, State
from grader.submission import open_submission


@dataclass
class Student:
    """One line of the class table."""

    hand_in: HandIn
    sha256: str
    features: Features | None = None  # for comparisons; None if it can't be opened
    result: Result | None = None
    is_from_other_grader: bool = False
    is_from_other_rubric: bool = False
    rubric: str = ""  # the hash of the one that the result was graded under
    lateness: Lateness | None = None  # in days, by the staff
    override: float | None = None
    added: float = 0.0
    reason: str = ""
    answers: str = ""  # what the student wrote to the questions of the handout

    @property
    def id(self) -> str:
        """The student's ID on the learning platform."""
        return self.hand_in.student

    @property
    def is_fault(self) -> bool:
        """Whether the grader failed on it."""
        return self.result is not None and self.result.is_fault

    @property
    def source(self) -> str:
        """Where the questions of its accuracy came from: drawn, hidden or valid; empty if it is not known."""
        return self.result.provenance.get("questions", "") if self.result else ""

    @property
    def has_public_seed(self) -> bool:
        """Whether its questions were drawn from a public seed, so that students can have learned them."""
        return self.source == "drawn" and str(self.result and self.result.provenance.get("seed")).startswith("public")

    @property
    def questions(self) -> str:
        """The same in the words of tables."""
        return "drawn, public" if self.has_public_seed else SOURCES.get(self.source, self.source)

    @property
    def state(self) -> str:
        """In words, for every table."""
        if self.result is None:
            return "not graded yet"
        return "grader error" if self.result.is_fault else "refused" if self.result.is_refused else "graded"

    @property
    def raw(self) -> float | None:
        """The grader's score; None if there is none, which is no zero."""
        return None if self.result is None or self.result.is_fault else self.result.score

    @property
    def points(self) -> float | None:
        """What a right homework gets under the rubric of this result; None if there is no score."""
        return None if self.result is None or self.result.is_fault else self.result.points

    @property
    def is_changed(self) -> bool:
        """Whether the result was graded under another rubric or by another version of the grader."""
        return self.is_from_other_grader or self.is_from_other_rubric

    def penalty(self, percent: float) -> float:
        """What comes off for being late, once: by the staff's days, else by percent of what the platform calls late.

        Nothing comes off points that staff set, and never more than the score.
        """
        if not self.raw or self.override is not None:
            return 0.0
        if self.lateness is not None:
            return min(self.raw, self.lateness.points)
        return round(self.raw * percent / 100, 2) if self.hand_in.late else 0.0

    def penalty_reason(self, percent: float) -> str:
        """Why it comes off, or why not; empty for who was not late."""
        by_percent = f"late, {percent:g} %" if self.hand_in.late and percent else ""
        reason = self.lateness.describe() if self.lateness is not None else by_percent
        if not reason or self.raw is None:
            return reason
        if self.override is not None:
            return f"{reason}; nothing comes off points that staff set"
        is_cut = self.lateness is not None and self.lateness.points > self.raw
        return f"{reason}; no more than the score comes off" if is_cut else reason

    def after_penalty(self, percent: float) -> float | None:
        """The grader's score without the penalty; None if there is no score."""
        return None if self.raw is None else round(self.raw - self.penalty(percent), 2)

    def final(self, percent: float) -> float | None:
        """What counts: the override of the staff, else the score after the penalty; and what staff added."""
        base = self.after_penalty(percent) if self.override is None else self.override
        return None if base is None else round(base + self.added, 2)

    @property
    def root_cause(self) -> CheckResult | None:
        """The check to fix first: the first one that is neither passed nor skipped because of another."""
        checks = self.result.checks if self.result else ()
        return next((check for check in checks if check.state not in (State.PASSED, State.SKIPPED)), None)


def find_changed(students: list[Student]) -> dict[str, list[str]]:
    """The IDs of those whose result was not graded as it would be now, by what has changed since; each one once."""
    by_rubric = [one.id for one in students if one.is_from_other_rubric]
    by_grader = [one.id for one in students if one.is_changed and not one.is_from_other_rubric]
    found = {"graded under another rubric": by_rubric, "graded by another version of the grader": by_grader}
    return {what: ids for what, ids in found.items() if ids}


def read_hand_in(path: Path) -> tuple[str, Features | None, str]:
    """The hash of a hand-in, what is compared of it, and the answers in words.

    The hash is the submission's own, over the files that are graded. One that can't be opened has the hash of its
    bytes: it is refused, or the grader fails on it, in the process that grades it.
    """
    with contextlib.suppress(Exception):
        submission = open_submission(path)
        return submission.sha256, extract_features(submission), decode_answers(submission.answers)
    return hash_bytes(path), None, ""


def decode_answers(content: bytes) -> str:
    """The answers as text, whatever bytes they are: what is no UTF-8 becomes U+FFFD, what is too long is cut, and said.

    Example: b'mask\r\nEOS\xff' -> 'mask\nEOS\ufffd'
    """
    text = content[: rubric.ANSWERS_BYTES].decode("utf-8-sig", "replace")
    cut = [f"… cut after {rubric.ANSWERS_BYTES:,} bytes"] if len(content) > rubric.ANSWERS_BYTES else []
    return "\n".join([*text.expandtabs(4).splitlines(), *cut])


def hash_bytes(path: Path) -> str:
    """The hash of a zip's bytes, or of a folder's files by name. Links are named, not followed."""
    digest = hashlib.sha256()
    for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
        name = one.relative_to(path).as_posix() if path.is_dir() else ""
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        if one.is_symlink():
            digest.update(b"link" + os.fsencode(one.name))  # what can't be read is told by its own name
        elif one.is_file():
            with one.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
