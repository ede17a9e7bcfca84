"""Grades one submission on Gradescope's platform, within its time, and always leaves a valid results.json.

    python -m grader.autograder /autograder --minutes 10 --public

The platform overwrites everything with a zero when its own time is up, so this ends a minute earlier. The grading runs
in a process of its own, which writes down each check as soon as it is known; when the time is up, it is ended, and what
is known counts. tools/make_autograder.py makes the zip that the platform installs.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from grader import interrupts, rubric
from grader.files import write_whole
from grader.own_questions import read_hidden
from grader.report import gradescope
from grader.result import CheckResult, State, read_check
from grader.seed import choose_seed
from grader.startup import open_sandbox
from grader.submission import find_zips

SPARE_SECONDS = 60  # before the platform's own limit
TICK = 0.25  # seconds between two looks at the process and its memory


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line; tools/make_autograder.py writes it into run_autograder."""
    parser = argparse.ArgumentParser(
        prog="python -m grader.autograder", description="Grade on Gradescope.", allow_abbrev=False
    )
    parser.add_argument("root", type=Path, help="the platform's folder, /autograder")
    parser.add_argument("--minutes", type=float, default=10, help="the platform's limit for one submission")
    add_questions(parser)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    refuse_unclear(parser, arguments)
    return arguments


def add_questions(parser: argparse.ArgumentParser) -> None:
    """The options that say which questions are asked; tools/make_autograder.py has the same."""
    parser.add_argument("--key-file", metavar="FILE", help="the staff key of the official questions")
    parser.add_argument("--hidden", metavar="FILE", help="the staff's own hidden questions")
    parser.add_argument("--public", action="store_true", help="ask the public questions")


def refuse_unclear(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Stop unless it is said, and once, whether the questions are secret or public."""
    if arguments.public == bool(arguments.key_file or arguments.hidden):
        parser.error("say which questions are asked: --key-file, --hidden or both of them, or else --public")


def main(words: list[str] | None = None) -> int:
    """Grade and write results.json; the exit code is 0 whenever that file is there, as the platform wants it."""
    started = time.monotonic()
    arguments = parse_arguments(words)
    if arguments.child:
        return interrupts.run(partial(grade_into, arguments), "the report holds what was graded")
    target = arguments.root / "results" / "results.json"
    write(target, failure("the grading has not ended"))
    with tempfile.TemporaryDirectory() as folder:
        limit = max(1.0, 60 * arguments.minutes - SPARE_SECONDS) - (time.monotonic() - started)
        ended, peak = run_child(arguments, Path(folder), limit)
        write(target, report(Path(folder), ended))
    print(f"{ended or 'ended by itself'} after {time.monotonic() - started:.0f} s; peak memory {peak / 2**20:.0f} MiB")
    return 0


def run_child(arguments: argparse.Namespace, folder: Path, seconds: float) -> tuple[str, int]:
    """Grade in a process of its own; why it did not end by itself, and the most memory that it all took."""
    words = [str(arguments.root), "--child", str(folder)]
    words += ["--public"] if arguments.public else []
    for option, file in (("--key-file", arguments.key_file), ("--hidden", arguments.hidden)):
        words += [option, file] if file else []
    line = [sys.executable, "-m", "grader.autograder", *words]
    child = subprocess.Popen(line, cwd=rubric.ROOT, start_new_session=True, stdout=sys.stderr)
    deadline, peak = time.monotonic() + seconds, 0
    while (code := child.poll()) is None and time.monotonic() < deadline:
        peak = max(peak, memory(child.pid))
        time.sleep(TICK)
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if code is None:
        return "the time was up", peak
    return ("" if code == 0 else f"the grading process died ({code})"), peak


def memory(pid: int) -> int:
    """Bytes of a process and all that it started; what they share counts once."""
    total = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total = int(text.partition("Pss:")[2].split()[0]) * 1024
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            total += sum(memory(int(child)) for child in task.read_text().split())
    return total


def grade_into(arguments: argparse.Namespace) -> int:
    """Grade, and write each check and then the whole report into the folder of the parent; 0."""
    seed, hidden = choose_seed(None, arguments.key_file), read_hidden(arguments.hidden)

    def tell(check: CheckResult) -> None:
        with (arguments.child / "checks.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(check)) + "\n")

    with open_sandbox(required=True) as sandbox:
        from grader.course import Course  # torch comes with it: in this process alone, and beside the sandbox's own
        from grader.grade import grade

        submission = find_submission(arguments.root / "submission")
        result = grade(submission, Course(seed, hidden=hidden), sandbox, tell=tell)
    (arguments.child / "results.part").write_text(gradescope.render(result), encoding="utf-8")
    (arguments.child / "results.part").rename(arguments.child / "results.json")
    return 0


def find_submission(folder: Path) -> Path:
    """What was handed in: the platform unpacks a single zip; one that it left packed, or the folder in it, is taken."""
    content = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    if len(content) == 1 and content[0].is_dir():
        return content[0]
    return zips[0] if len(zips := find_zips(folder)) == 1 else folder


def report(folder: Path, ended: str) -> dict[str, Any]:
    """results.json: the whole report, or the checks that were done in time, or that there is no score."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / "results.json").read_text(encoding="utf-8"))
    checks = read_checks(folder / "checks.jsonl")
    if not checks or ended != "the time was up" or any(check.state is State.FAULT for check in checks):
        return failure(ended or "no report was written")
    score = round(sum(check.score for check in checks), 2)
    said = (
        f"PARTIAL: the time was up. {score:g} of {rubric.ALL_POINTS:g} points, of the {len(checks)} checks that were "
        "done. If your code waits for something or never ends, fix it and hand it in again; else ask the staff."
    )
    return {
        "output": said,
        "output_format": "text",
        "score": score,
        "tests": [gradescope.render_check(check) for check in checks],
    }


def read_checks(path: Path) -> list[CheckResult]:
    """The checks that were written down; a last line that the end cut in two is none."""
    checks = []
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        for line in path.read_text(encoding="utf-8").splitlines():
            checks.append(read_check(json.loads(line)))
    return checks


def failure(cause: str) -> dict[str, Any]:
    """A results.json without a score: the platform shows an error, and no zero."""
    said = f"NO SCORE: {cause}. This is no zero: the submission has to be graded again, ask the staff."
    return {"output": said, "output_format": "text", "tests": []}


def write(target: Path, content: dict[str, Any]) -> None:
    """Write results.json whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, json.dumps(content, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
