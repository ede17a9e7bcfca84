"""The questions that an instructor brings: the staff's hidden file, or else the public ones of data/valid.json.

`tools/import_data.py` writes the mark `data/own_questions.toml` where the rows of data/ are the instructor's own. Then
no question about units is drawn for the accuracy.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from grader import rubric
from grader.errors import GraderFault

HIDDEN_VARIABLE = "GRADER_HIDDEN_FILE"
DATA = rubric.ROOT / "data"
MARK = "own_questions.toml"
PUBLIC_NOTE = "the questions of the accuracy are those of data/valid.json: their answers are public"
SEED_NOTE = (
    "the questions of the accuracy are the public ones of the course, which students have: no --key-file was given"
)
BOUNDS_NOTE = (
    "for staff: the bounds of the rubric were calibrated on other questions than those in data/: "
    "python -m tools.calibrate"
)
CALIBRATION = Path(rubric.__file__).with_name("calibration.json")
SOURCES = {"hidden": "the hidden file", "valid": "data/valid.json, answers public"}  # in the words of tables
Rows = tuple[tuple[str, float], ...]


def read_hidden(path: str | None) -> Rows | None:
    """The staff's hidden questions, from a JSON list of [question, number]; None without a file.

    Raises:
        GraderFault: if the file can't be read, holds a question twice, or one that students have in data/; other
            questions are never taken in its place. An empty file name is a missing file too.
    """
    if path is None:
        return None
    rows = read_rows(Path(path))
    known: dict[str, str] = {}
    for split in ("train", "valid"):
        if (file := DATA / f"{split}.json").is_file():
            known |= dict.fromkeys((key_of(text) for text, _ in read_rows(file)), f"data/{split}.json")
    for index, (text, _) in enumerate(rows):
        if (where := known.get(key_of(text))) is not None:
            raise GraderFault(f"{path}, row {index} stands in {where} too: take it out of one, {text!r:.60}")
        known[key_of(text)] = "an earlier row"
    return rows


def read_public() -> Rows | None:
    """The rows of valid.json where the data are the instructor's own; None where questions are drawn.

    Raises:
        GraderFault: if valid.json is not the one that the mark names.
    """
    digest = read_mark()
    if digest is None:
        return None
    path = DATA / "valid.json"
    if not path.is_file() or hash_public() != digest:
        raise GraderFault(
            f"data/valid.json is not the one that data/{MARK} names: import the questions again (docs/staff.md), or "
            "take data/ again from where you have this folder"
        )
    return read_rows(path)


def hash_public() -> str:
    """The sha256 of data/valid.json, which tells one set of questions from another."""
    return hashlib.sha256((DATA / "valid.json").read_bytes()).hexdigest()


def are_bounds_of_others() -> bool:
    """Whether the bounds of the rubrics were calibrated on other questions than those in data/.

    Raises:
        GraderFault: if one of the two files can't be read.
    """
    try:
        return json.loads(CALIBRATION.read_text(encoding="utf-8")).get("valid") != hash_public()
    except (OSError, ValueError) as error:
        raise GraderFault(
            f"can't read {CALIBRATION.name} or data/valid.json ({error}): take the grader again"
        ) from error


def read_mark() -> str | None:
    """The sha256 of the instructor's valid.json; None where there is no mark.

    Raises:
        GraderFault: if the mark can't be read.
    """
    try:
        return str(tomllib.loads((DATA / MARK).read_text(encoding="utf-8"))["sha256"]["valid"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GraderFault(f"can't read data/{MARK} ({error}): import the questions again") from error


def read_rows(path: Path) -> Rows:
    """The rows of a JSON list of [question, number].

    Raises:
        GraderFault: naming file and row.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise GraderFault(
            f"can't read the questions in {path} ({error}): name a JSON list of [question, number]"
        ) from error
    if not isinstance(content, list) or not content:
        raise GraderFault(f"{path} holds no questions: it must be a JSON list of [question, number]")
    for index, row in enumerate(content):
        if not is_row(row):
            raise GraderFault(f"{path}, row {index}: expected [question, number], got {row!r:.80}")
    return as_rows(content)


def is_row(row: Any) -> bool:
    """Whether a value is a question and a finite number."""
    if not isinstance(row, list) or len(row) != 2 or not isinstance(row[0], str) or not row[0].strip():
        return False
    return isinstance(row[1], int | float) and not isinstance(row[1], bool) and abs(row[1]) < 1e308


def as_rows(content: Iterable[Any]) -> Rows:
    """The same as JSON gave it, in the form that is compared and hashed."""
    return tuple((str(text), float(answer)) for text, answer in content)


def key_of(question: str) -> str:
    """What makes two questions the same: their words. Case counts, because Mb is not MB.

    Example: 'How many  g in 6 kg?' and ' How many g in 6 kg?' have one key.
    """
    return " ".join(question.split())
