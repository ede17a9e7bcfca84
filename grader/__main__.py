"""The command line of the grader.

python -m grader homework             # the folder, as it is
python -m grader ID.zip               # the zip that will be handed in
"""

from grader import interrupts, provenance

if __name__ == "__main__":
    interrupts.leave_at_once("nothing was graded")
    provenance.refuse_missing()

import argparse
import os
import sys
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

from grader import rubric
from grader.check_list import needs_sandbox, refuse_unknown
from grader.errors import GraderFault
from grader.files import write_whole
from grader.own_questions import HIDDEN_VARIABLE, Rows, read_hidden
from grader.report import console, gradescope, html
from grader.result import Result
from grader.sandbox.tiers import Tier
from grader.seed import KEY_VARIABLE, Seed, choose_seed
from grader.startup import open_sandbox

EXAMPLES = """
examples:
  python -m grader homework                          grade the folder as it is
  python -m grader 123456.zip                        grade the very zip that you hand in
  python -m grader 123456.zip --seed 7               other public questions, to see the noise
  python -m grader 123456.zip --only weights_valid   one check, and what it needs
  python -m grader 123456.zip --json results.json --html report.html

The weights are graded without running a line of the submission; its code runs in a sandbox and is judged by what it
writes. The exit code is 0 when it was graded, whatever the score, and 2 when the submission was refused or the grader
failed. For staff: the official questions come from the key in --key-file or GRADER_KEY_FILE, or are those of --hidden
or GRADER_HIDDEN_FILE, and need a sandbox.
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
        "--rubric", default="", metavar="NAME", help="short, tasks 1 to 4, or long, tasks 1 to 7; else the course's"
    )
    parser.add_argument(
        "--key-file", metavar="FILE", default=os.environ.get(KEY_VARIABLE), help="staff: the official key"
    )
    parser.add_argument(
        "--hidden", metavar="FILE", default=os.environ.get(HIDDEN_VARIABLE), help="staff: your own hidden questions"
    )
    parser.add_argument(
        "--sandbox", default="auto", choices=["auto", "required", *map(str, Tier)],
        help="how the code is isolated: the best that holds here (auto), never none (required), or one by name",
    )  # fmt: skip
    parser.add_argument("--traceback", action="store_true", help="show the traceback of a fault of the grader")
    parser.add_argument("--version", action="version", version=f"grader {rubric.VERSION} of {rubric.ASSIGNMENT}")
    arguments, unknown = parser.parse_known_args(words)
    if holds_zips(arguments.submission):
        parser.exit(2, f"error: {explain_class(arguments.submission)}\n")
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


def main(words: list[str] | None = None) -> int:
    """Grade, print and write; returns the exit code."""
    arguments = parse_arguments(words)
    checks = tuple(name.strip() for name in arguments.only.split(",") if name.strip())
    try:
        seed, hidden = choose_seed(arguments.seed, arguments.key_file), read_hidden(arguments.hidden)
        course_rubric = rubric.read_rubric(arguments.rubric)
        refuse_unknown(checks, course_rubric)
        result = grade_once(arguments, seed, hidden, course_rubric, checks)
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


def grade_once(
    arguments: argparse.Namespace, seed: Seed, hidden: Rows | None, course_rubric: rubric.Rubric,
    checks: tuple[str, ...],
) -> Result:  # fmt: skip
    """The result of one submission, with a sandbox of its own if code has to run.

    Raises:
        GraderFault: if a sandbox is required and none holds.
    """
    required = arguments.sandbox == "required" or seed.is_official or hidden is not None
    wanted = "auto" if arguments.sandbox == "required" else arguments.sandbox
    with open_sandbox(wanted, required) if needs_sandbox(checks) else nullcontext() as sandbox:
        from grader.course import Course  # torch comes with it: after wrong arguments, and beside the sandbox's own
        from grader.grade import grade

        return grade(arguments.submission, Course(seed, hidden=hidden, rubric=course_rubric), sandbox, checks)


def holds_zips(folder: Path) -> bool:
    """Whether a folder holds hand-ins, and is not a homework in which somebody forgot a zip."""
    return any(folder.glob("*.zip")) and not any(folder.glob("*.py"))


def explain_class(folder: Path) -> str:
    """What grades a folder of zips: a command of the staff repository, which the starter lacks."""
    if find_spec("grader.classroom") is None:
        return f"{folder} is a folder of zips: this copy grades one homework, the staff repository grades a class"
    return f"{folder} is a folder of zips: python -m grader.classroom {folder} --out RESULTS grades a class"


def write(path: Path, content: str) -> bool:
    """Write a report whole or not at all; says why if it can't."""
    try:
        write_whole(path, content)
        return True
    except OSError as error:
        print(f"error: can't write {path} ({error.strerror}): choose another file", file=sys.stderr)
        return False


if __name__ == "__main__":
    sys.exit(interrupts.run(main, "nothing was graded"))
