"""Makes the zip that is handed in, by allow-list, and grades that very zip before it gets its name.

    python bundle.py homework 123456      # writes 123456.zip

The same files give the same zip, byte for byte. Nothing is written if the adapter is missing or unsound.
"""

from grader import interrupts, provenance

if __name__ == "__main__":
    interrupts.leave_at_once("no new zip was written")
    provenance.refuse_missing()

import argparse
import os
import re
import sys
import zipfile
from pathlib import Path, PurePosixPath

from grader import rubric
from grader.errors import Refusal
from grader.report import console
from grader.report.text import plain
from grader.rubric import CONFIG, REASONING_FILES, WEIGHTS
from grader.startup import open_sandbox
from grader.submission import Submission, open_submission

NEEDED = ("__init__.py", "base_llm.py", "data.py", "sft.py", CONFIG, WEIGHTS)
REQUIRED = ("adapter_present", "configured", "weights_valid")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip can hold: the time of bundling is nobody's business


def is_wanted(name: str) -> bool:
    """Whether a file of the package goes into the zip: Python files, the two of each adapter, answers and reasons."""
    return name in (CONFIG, WEIGHTS, *REASONING_FILES, rubric.ANSWERS, rubric.REASONS) or (
        name.endswith(".py") and PurePosixPath(name).parts[0] not in (rubric.ADAPTER_DIR, rubric.REASONING_DIR)
    )


def choose_files(submission: Submission, reasons: bytes = b"") -> dict[str, bytes]:
    """The files of the zip, with the rows that the second adapter was trained on.

    Raises:
        Refusal: naming all that is missing, or what is wrong with the answers.
    """
    files = submission.files
    if missing := [name for name in NEEDED if name not in files]:
        do = (
            "train with python -m homework.sft train, and your ID as --seed"
            if WEIGHTS in missing
            else "take it again from where you have this folder"
        )
        raise Refusal(f"the homework lacks {', '.join(missing)}", do=do)
    if submission.answers:
        check_answers(submission.answers)
        files = files | {rubric.ANSWERS: submission.answers}
    if reasons:
        files = files | {rubric.REASONS: reasons}
    return {name: files[name] for name in sorted(files) if is_wanted(name)}


def read_reasons(path: Path) -> bytes:
    """The rows with reasons, where there are any and they are small enough; what is left out is said."""
    content = path.read_bytes() if path.is_file() else b""
    if len(content) > rubric.CODE_BYTES:
        print(f"   left out: {path.name}, {len(content):,} bytes are more than {rubric.CODE_BYTES:,}")
        return b""
    return content


def check_answers(content: bytes) -> None:
    """Raise Refusal unless staff will see the answers as they were written."""
    if len(content) > rubric.ANSWERS_BYTES:
        limit = f"at most {rubric.ANSWERS_BYTES:,} bytes"
        raise Refusal(f"{rubric.ANSWERS} is too long", do=f"shorten it: {limit}, or staff would see the beginning only")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(
            f"{rubric.ANSWERS} is not UTF-8 at byte {error.start}", do="save it as UTF-8 in your editor"
        ) from error


def describe_answers(folder: Path, content: bytes) -> str:
    """What the answers still lack, and what to do; nothing where each question has one.

    Example: two of the five places are blank -> '2 of 5 questions in ANSWERS.md, which staff read, have no answer yet'
    """
    if not content and (folder / rubric.ANSWERS).is_file():
        return f"{rubric.ANSWERS} is empty: take its questions again from where you have this folder"
    if not content:
        others = sorted(path.name for path in folder.glob("*") if path.name.lower().startswith("answers"))
        named = (
            f"rename {plain(others[0])} to {rubric.ANSWERS}"
            if others
            else "take it again from where you have this folder"
        )
        return f"{rubric.ANSWERS} is missing, with your answers: {named}"
    _, *places = re.split(r"^Your answer:", content.decode("utf-8"), flags=re.MULTILINE)
    blank = sum(not place.partition("\n## ")[0].strip() for place in places)
    return (
        f"{blank} of {len(places)} questions in {rubric.ANSWERS}, which staff read, have no answer yet" if blank else ""
    )


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    """Write files, stored and not deflated, so that no version of a compressor changes a byte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(f"homework/{name}", EPOCH)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3  # Unix, wherever it is made
            archive.writestr(entry, content)


def show_sizes(files: dict[str, bytes], left_out: list[str]) -> str:
    """A table of size by file, the largest first, and what stays at home."""
    rows = sorted(files.items(), key=lambda item: -len(item[1]))
    lines = [f"{len(content):>12,}  {plain(name)}" for name, content in rows]
    lines.append(f"{sum(map(len, files.values())):>12,}  bytes of {rubric.ZIP_BYTES:,}")
    return "\n".join(lines + [f"   left out: {plain(name)}" for name in left_out[:10]])


def bundle(folder: Path, target: Path) -> int:
    """Make the zip, grade it, and give it its name; returns the exit code.

    Raises:
        Refusal: if the folder can't be handed in as it is.
    """
    submission = open_submission(folder, own=True)
    files = choose_files(submission, read_reasons(folder.resolve().parent / "data" / rubric.REASONS))
    print(show_sizes(files, sorted(set(submission.files) - set(files))))
    scratch = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        write_zip(scratch, files)
        with open_sandbox() as sandbox:
            from grader.course import Course  # torch comes with it: after what can be refused without it
            from grader.grade import grade

            course = Course()
            result = grade(scratch, course, sandbox, name=target.name)
        print(console.render(result, sys.stdout.isatty() and "NO_COLOR" not in os.environ))
        states = {check.name: check.state for check in result.checks}
        if result.is_fault or any(states.get(name) != "passed" for name in REQUIRED):
            print(f"error: {target.name} was not written: fix what is said above", file=sys.stderr)
            return 1
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
    size = target.stat().st_size
    points = f"{result.score:g} of {result.points:g} points by the {course.rubric.name} rubric"
    print(f"hand in {target.name}: {size:,} bytes, {points}; the official grade asks other questions")
    if lacking := describe_answers(folder, submission.answers):
        print(f"but {lacking}; bundle again when that is done")
    return 0


def main(words: list[str] | None = None) -> int:
    """Parse the command line and bundle; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python bundle.py", description="Make ID.zip from the folder homework, and grade that very zip.",
        epilog="example:  python bundle.py homework 123456", allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("folder", type=Path, help="your package, the folder homework")
    parser.add_argument("id", metavar="ID", help="your ID: letters, digits, - and _")
    arguments = parser.parse_args(words)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", arguments.id):
        parser.error(f"the ID {arguments.id!r} may hold letters, digits, - and _ only")
    try:
        return bundle(arguments.folder, Path(f"{arguments.id}.zip"))
    except Refusal as refusal:
        fix = f"\n  {refusal.details['do']}" if refusal.details["do"] else ""
        print(f"error: {plain(str(refusal))}{fix}", file=sys.stderr)
    except OSError as error:
        print(f"error: can't write {arguments.id}.zip ({error.strerror})", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(interrupts.run(main, "no new zip was written"))
