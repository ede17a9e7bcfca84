"""The command line for a class: a folder of hand-ins in, results, a gradebook and pages out.

python -m grader.classroom FOLDER --out results/ --jobs 4
"""

import os

from grader import interrupts, provenance

if __name__ == "__main__":
    interrupts.leave_at_once("what was graded is kept, the same line goes on")
    provenance.refuse_missing()

# Before torch is imported: see grader/__main__.py.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import argparse
import contextlib
import sys
from pathlib import Path

from grader.classroom import reports
from grader.classroom.gradebook import Gradebook, open_gradebook
from grader.classroom.jobs import Job
from grader.classroom.overrides import apply_overrides, read_overrides
from grader.classroom.platforms import HandIn, collect
from grader.classroom.progress import Progress
from grader.classroom.run_settings import (
    RunSettings,
    end_regrade,
    find_left_to_regrade,
    keep_settings,
    refuse_dropped,
)
from grader.classroom.session import require_isolation
from grader.classroom.store import Store, refuse_other_schema, run_key
from grader.classroom.students import Student, read_hand_in
from grader.classroom.supervisor import Supervisor
from grader.course import Course
from grader.errors import GraderFault
from grader.own_questions import HIDDEN_VARIABLE, read_hidden
from grader.report.text import plain
from grader.seed import KEY_VARIABLE, choose_seed

KEPT = "what was graded is kept, the same line goes on"
EXAMPLES = """
examples:
  python -m grader.classroom hand-ins/ --out results/ --jobs 4              grade a class; the same line goes on
  python -m grader.classroom hand-ins/ --out results/ --canvas export.csv   and fill the scores into Canvas's own export
  python -m grader.classroom hand-ins/ --out results/ --only 123456         one student
  python -m grader.classroom hand-ins/ --out results/ --regrade failed      those that the grader failed to grade
  python -m grader.classroom hand-ins/ --out results/ --regrade changed     those of another rubric or grader version
  python -m grader.classroom hand-ins/ --out results/ --overrides mine.csv  what staff decide: points, days late, why

results/ then holds class.csv, class.html, a page for each student, and one result.json for each submission.
What is graded is not graded again, unless the zip, the seed, the key or the hidden questions changed. Results of
another rubric or version of the grader are kept and named, and --regrade changed renews these and no others.
The overrides hold ID, points, added, days_late, extension_days, reason; days late cost what COURSE.md says.
The exit code is 0 when all that were asked for are graded, 1 when the grader failed on some (they have no score, not a
zero), 2 when it could not run, 130 for Ctrl-C. A later line repeats --key-file, --hidden, --overrides and
--late-penalty, or is refused.
"""


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line; argparse refuses what it does not know before anything runs."""
    parser = argparse.ArgumentParser(
        prog="python -m grader.classroom",
        description="Grade a class: a folder of zips, as the learning platform gives it.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("folder", type=Path, help="the folder of zips: Canvas, Gradescope, Moodle, or ID.zip")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="the results folder, kept between runs"
    )
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8), metavar="N", help="processes")
    parser.add_argument("--only", default="", metavar="IDS", help="grade these students only, separated by commas")
    parser.add_argument("--regrade", default="", metavar="WHAT", help="ID, failed, changed or all: grade again")
    parser.add_argument("--overrides", type=Path, metavar="FILE", help="CSV of what staff decide, see below")
    parser.add_argument(
        "--canvas", type=Path, metavar="FILE", help="the gradebook as Canvas exports it: a filled copy is made"
    )
    parser.add_argument("--canvas-column", default="", metavar="NAME", help="its column, if the name does not say it")
    parser.add_argument("--late-penalty", type=float, metavar="PERCENT", help="off what came late without days_late")
    parser.add_argument("--cluster", choices=("slurm", "local", "debug"), help="run the jobs through submitit")
    parser.add_argument("--seed", type=int, metavar="N", help="of the public questions")
    parser.add_argument("--key-file", metavar="FILE", default=os.environ.get(KEY_VARIABLE), help="the official key")
    parser.add_argument(
        "--hidden", metavar="FILE", default=os.environ.get(HIDDEN_VARIABLE), help="your own hidden questions"
    )
    arguments = parser.parse_args(words)
    if not 1 <= arguments.jobs <= 256:
        parser.error(f"--jobs must be 1 to 256, not {arguments.jobs}")
    if arguments.late_penalty is not None and not 0 <= arguments.late_penalty <= 100:
        parser.error(f"--late-penalty must be 0 to 100, not {arguments.late_penalty}")
    return arguments


def main(words: list[str] | None = None, course: Course | None = None, checks: tuple[str, ...] = ()) -> int:
    """Grade the class and write its reports; returns the exit code.

    Args:
        words: the command line.
        course: with other numbers of questions, for tests; the official ones if left out.
        checks: names of checks, for tests; all if empty.
    """
    arguments = parse_arguments(words)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        return grade_class(arguments, course, checks)
    except GraderFault as fault:
        print(f"error: {plain(str(fault))}", file=sys.stderr)
    except OSError as error:
        path = error.filename2 or error.filename  # the second one is the file whose place a new one takes
        where = f": {path}" if path else ""
        print(f"error: {error.strerror or error}{plain(where)}; {KEPT}", file=sys.stderr)
    return 2


def grade_class(arguments: argparse.Namespace, course: Course | None = None, checks: tuple[str, ...] = ()) -> int:
    """As `main`, after the command line.

    Raises:
        GraderFault: if the run can't begin, or can't go on.
    """
    tier = require_isolation(checks)
    seed = choose_seed(arguments.seed, arguments.key_file)
    course = course or Course(seed, hidden=read_hidden(arguments.hidden))
    overrides = read_overrides(arguments.overrides) if arguments.overrides else {}
    store = Store(arguments.out, run_key(course, checks))
    refuse_other_schema(arguments.out)
    overrides_file = arguments.overrides and str(arguments.overrides)
    settings = RunSettings(seed.is_official, overrides_file, arguments.late_penalty, course.hidden is not None)
    refuse_dropped(arguments.out, settings)
    students = [identify(store, hand_in) for hand_in in collect(arguments.folder, arguments.out)]
    gradebook = open_gradebook(arguments.canvas, arguments.canvas_column)
    apply_overrides(students, overrides)
    jobs = choose_jobs(store, students, arguments.only, arguments.regrade)
    keep_settings(arguments.out, settings)
    asked = {job.sha256 for job in jobs}
    kept = sum(student.result is not None and student.sha256 not in asked for student in students)
    print(f"{len(students)} students, {len(jobs)} to grade; questions: {course.label}; sandbox: {tier}")
    try:
        stopped = run(Supervisor(store, course, checks), jobs, kept, arguments)
    except GraderFault:
        with contextlib.suppress(OSError):  # where nothing can be written, the first reason is the one to say
            write_reports(store, students, gradebook, arguments)
        raise
    write_reports(store, students, gradebook, arguments)
    if arguments.regrade and not stopped:
        end_regrade(store)
    print(reports.describe(arguments.out, students, gradebook))
    return 130 if stopped else 1 if any(student.is_fault for student in students) else 0


def identify(store: Store, hand_in: HandIn) -> Student:
    """A student with the hash of the hand-in, and the result that is known."""
    sha256, features, answers = read_hand_in(hand_in.path)
    student = Student(hand_in, sha256, features, answers=answers)
    take_result(store, student)
    return student


def take_result(store: Store, student: Student) -> None:
    """Give a student the result that counts: that of this grader and rubric, else the newest of another one."""
    own, other = store.read(student.sha256), None
    if own is None:
        other = store.read_other(student.sha256)
    student.result = other.result if other else own
    student.rubric = other.rubric if other else store.key.rubric if own else ""
    student.is_from_other_rubric = other is not None and other.rubric != store.key.rubric
    student.is_from_other_grader = other is not None and other.key["grader"] != store.key.grader


def write_reports(
    store: Store, students: list[Student], gradebook: Gradebook | None, arguments: argparse.Namespace
) -> None:
    """Derive all tables and pages from what is kept now."""
    for student in students:
        take_result(store, student)
    reports.write_all(arguments.out, students, gradebook, arguments.late_penalty or 0.0)


def choose_jobs(store: Store, students: list[Student], ids: str, again: str) -> list[Job]:
    """What to grade now: what has no result, and what is asked for again.

    Raises:
        GraderFault: for an ID that nobody has.
    """
    known = {student.id for student in students}
    wanted = split_ids(ids, known)
    words = split_ids(again, known)
    if unknown := words - known - {"failed", "changed", "all"} or wanted - known:
        raise GraderFault(f"nobody has the ID {min(unknown)!r}: the IDs are in class.csv, and come from the file names")
    chosen = [student for student in students if not wanted or student.id in wanted]
    left = find_left_to_regrade(store, chosen, words)
    found = [student for student in chosen if student.result is None or student.sha256 in left]
    jobs: dict[str, Job] = {}
    for one in found:
        path = one.hand_in.path
        jobs.setdefault(one.sha256, Job(one.sha256, path, path.name, left.get(one.sha256, 0)))
    return list(jobs.values())


def split_ids(text: str, known: set[str]) -> set[str]:
    """The IDs in a list with commas; one that holds a comma itself is known as it is."""
    if text.strip() in known:
        return {text.strip()}
    return {word.strip() for word in text.split(",") if word.strip()}


def run(supervisor: Supervisor, jobs: list[Job], kept: int, arguments: argparse.Namespace) -> bool:
    """Grade the jobs; returns whether Ctrl-C ended it early."""
    if arguments.cluster and jobs:
        from grader.classroom.cluster import run_cluster

        run_cluster(arguments.cluster, supervisor, jobs, arguments.jobs)
        return False
    return run_here(supervisor, jobs, kept, arguments.jobs)


def run_here(supervisor: Supervisor, jobs: list[Job], kept: int, count: int) -> bool:
    """Grade the jobs in processes of this machine; returns whether Ctrl-C ended it early.

    Raises:
        GraderFault: if no process can go on.
    """
    progress = Progress(len(jobs), kept, min(count, max(1, len(jobs))), sys.stdout)
    running = supervisor.start(jobs, count) if jobs else 0
    try:
        while running:
            event = supervisor.events.get()
            if event.job is None:
                running -= 1
                if event.text:
                    raise GraderFault(f"{event.text}; what was graded is kept: fix it, and the same line goes on")
            elif event.kind == "started":
                progress.begin(event.job.name)
            elif event.kind == "done" and (result := supervisor.store.read(event.job.sha256)) is not None:
                progress.finish(event.job.name, result)
    except KeyboardInterrupt as stop:
        print(f"\nstopped by {str(stop) or 'Ctrl-C'}: {KEPT}", file=sys.stderr)
        return True
    finally:
        supervisor.end()
    if jobs:
        print(progress.summary())
    return False


if __name__ == "__main__":
    sys.exit(interrupts.run(main, KEPT))
