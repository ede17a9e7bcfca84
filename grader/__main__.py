"""The command line of the grader.

python -m grader homework             # the folder, as it is
python -m grader ID.zip               # the zip that will be handed in
python -m grader FOLDER --out OUT     # staff: a folder of zips, see grader/classroom/cli.py
"""

import os

from grader import interrupts

if __name__ == "__main__":
    interrupts.leave_at_once("nothing was graded")

# Before torch is imported: GNU OpenMP's threads spin long while they wait, and slow each other down.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import argparse
import signal
import sys
from pathlib import Path

from grader import rubric
from grader.course import KEY_VARIABLE, Course, official_seed, read_key
from grader.engine import check_names
from grader.errors import GraderFault
from grader.files import write_whole
from grader.grade import grade
from grader.isolation import Tier
from grader.report import console, gradescope, html
from grader.result import Result
from grader.sandbox import Sandbox

EXAMPLES = """
examples:
  python -m grader homework                        grade the folder as it is
  python -m grader 123456.zip                      grade the very zip that you hand in
  python -m grader 123456.zip --seed 7             other public questions, to see the noise
  python -m grader 123456.zip --only sound         one check, and what it needs
  python -m grader 123456.zip --json results.json --html report.html

The weights are graded without running a line of the submission; its code runs in a sandbox and is judged by what it
writes. The exit code is 0 when it was graded, whatever the score, and 2 when the submission was refused or the grader
failed. For staff: the official questions come from the key in --key-file or GRADER_KEY_FILE, and need a sandbox.
"""


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line; argparse refuses what it does not know before anything runs."""
    parser = argparse.ArgumentParser(
        prog="python -m grader",
        description="Grade the trained adapter of a homework.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("submission", type=Path, help="the folder homework, or a zip of it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write results.json, as Gradescope reads it")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page that stands alone")
    parser.add_argument("--only", default="", metavar="NAMES", help="run these checks only, separated by commas")
    parser.add_argument(
        "--seed", type=int, metavar="N", help=f"of the public questions; {rubric.PUBLIC_SEED} if left out"
    )
    parser.add_argument(
        "--key-file", metavar="FILE", default=os.environ.get(KEY_VARIABLE), help="staff: the official key"
    )
    parser.add_argument(
        "--sandbox", default="auto", choices=["auto", "required", *map(str, Tier)],
        help="how the code is isolated: the best that holds here (auto), never none (required), or one by name",
    )  # fmt: skip
    parser.add_argument("--traceback", action="store_true", help="show the traceback of a fault of the grader")
    parser.add_argument("--version", action="version", version=f"grader {rubric.VERSION} of {rubric.ASSIGNMENT}")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Grade, print and write; returns the exit code."""
    if is_class(sys.argv[1:] if words is None else words):
        from grader.classroom import cli

        return cli.main(words)
    arguments = parse_arguments(words)
    try:
        seed, label = choose_seed(arguments.seed, arguments.key_file)
    except GraderFault as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    only = tuple(name.strip() for name in arguments.only.split(",") if name.strip())
    if unknown := set(only) - set(check_names()):
        print(f"error: there is no check {min(unknown)!r}: choose among {', '.join(check_names())}", file=sys.stderr)
        return 2
    try:
        result = grade_once(arguments, Course(seed), only, label)
    except GraderFault as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    print(console.render(result, colour, arguments.traceback))
    if (public := result.measured.get("public")) is not None:
        gap = public - result.measured["accuracy"]
        print(f"for staff: {public:.3f} on the public questions, a gap of {gap:+.3f} to the official ones")
    reports = ((arguments.json, gradescope.render), (arguments.html, html.render))
    written = [write(path, render(result)) for path, render in reports if path is not None]
    return 2 if result.is_fault or result.is_refused or not all(written) else 0


def grade_once(arguments: argparse.Namespace, course: Course, only: tuple[str, ...], label: str) -> Result:
    """The result of one submission, with a sandbox of its own if code has to run.

    Raises:
        GraderFault: if a sandbox is required and none holds.
    """
    if only and set(only) <= set(check_names("weights")):
        return grade(arguments.submission, course, None, only, label)
    required = arguments.sandbox == "required" or label == "official"
    wanted = "auto" if arguments.sandbox == "required" else arguments.sandbox
    with Sandbox.open(wanted, required) as sandbox:
        return grade(arguments.submission, course, sandbox, only, label)


def is_class(words: list[str]) -> bool:
    """Whether a command line grades a class: it names a results folder, or a folder that holds zips."""
    named = any(word == "--out" or word.startswith("--out=") for word in words)
    return named or any(holds_zips(Path(word)) for word in words[:1] if not word.startswith("-"))


def holds_zips(folder: Path) -> bool:
    """Whether a folder holds hand-ins, and is not a homework in which somebody forgot a zip."""
    return any(folder.glob("*.zip")) and not any(folder.glob("*.py"))


def choose_seed(seed: int | None, key_file: str | None) -> tuple[int | str, str]:
    """The seed of the questions, and what may be said of it. --seed wins, so that staff can replay a public grading."""
    if seed is not None or key_file is None:  # an empty name of a key is a key that is missing
        return (rubric.PUBLIC_SEED if seed is None else seed), f"public {rubric.PUBLIC_SEED if seed is None else seed}"
    return official_seed(read_key(key_file)), "official"


def write(path: Path, content: str) -> bool:
    """Write a report whole or not at all; says why if it can't."""
    try:
        write_whole(path, content)
        return True
    except OSError as error:
        print(f"error: can't write {path} ({error.strerror}): choose another file", file=sys.stderr)
        return False


def run() -> int:
    """As `main`; Ctrl-C is said in one line, and a request to end still closes the sandbox."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    interrupts.raise_again()
    try:
        return main()
    except KeyboardInterrupt:
        what = "what was graded is kept, the same line goes on" if is_class(sys.argv[1:]) else "nothing was graded"
        print(f"stopped by Ctrl-C: {what}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
