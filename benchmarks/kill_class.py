"""Kills a class run again and again, fills its disk, replaces a zip: no result is lost, doubled or changed.

    python -m benchmarks.kill_class           # 200 good zips and every bad one; needs a trained homework/sft_model
    GRADER_RUBRIC=long python -m benchmarks.kill_class --good 11 --every 20 --kills 3   # thirty, of both kinds of fault

Under the long rubric it needs homework/rft_model and data/rft.json too, and the class holds the submissions of tasks 5
to 7. It prints what it saw as JSON; benchmarks/README.md has the figures. tests/classroom/ has a small one.
"""

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load, save

from grader.rubric import CONFIG, REASONING_FILES, REASONS, WEIGHTS, read_rubric
from homework.common import cli
from homework.common.base_model import ROOT
from tests.submissions import SUBMISSIONS
from tests.submissions.reasoning import ALL, Case
from tests.support import adapters, zips


class Run(NamedTuple):
    """How each submission is graded: hidden questions, whether its code is graded too, and processes."""

    questions: int
    with_code: bool = False
    jobs: int = 2


FINE = ("passed", "partial", "skipped")  # states of a check that has nothing against it
Snapshot = dict[str, tuple[int, float]]  # when a result was written, and its score, by path


def make_class(folder: Path, files: dict[str, bytes], good: int, every: int, with_code: bool) -> None:
    """Zips of a class: good ones, each with weights of its own, and one of each (or of every nth) kind of bad one."""
    folder.mkdir(parents=True)
    for index in range(good):
        zips.good(folder / f"{100_000 + index}.zip", variant(files, index))
    for index, make in enumerate([*adapters.BAD.values(), *adapters.FINE.values()][::every]):
        change = make[0] if isinstance(make, tuple) else make
        zips.good(folder / f"{200_000 + index}.zip", change(dict(files)))
    for index, (make, _) in enumerate([*zips.HOSTILE.values()][::every]):
        make(folder / f"{300_000 + index}.zip", files)
    for index, recipe in enumerate([*SUBMISSIONS.values()][::every] if with_code else []):
        zips.good(folder / f"{400_000 + index}.zip", recipe.make(dict(files)))
    for index, case in enumerate(reasoning_cases(every) if with_code else []):
        zips.good(folder / f"{500_000 + index}.zip", case.make(dict(files)))


def reasoning_cases(every: int) -> list[Case]:
    """Each nth submission of tasks 5 to 7, where the rubric grades these."""
    return ALL[::every] if "reasons" in read_rubric().points else []


def variant(files: dict[str, bytes], index: int) -> dict[str, bytes]:
    """The same adapter with a scale that is another one in the sixth digit: other bytes, the same answers."""
    weights = {name: tensor * (1 + 1e-6 * index) for name, tensor in load(files[WEIGHTS]).items()}
    return {**files, WEIGHTS: save(weights)}


def start(folder: Path, out: Path, run: Run, said: int = subprocess.PIPE) -> subprocess.Popen:
    """Begin a class run in a process of its own, whose words go where `said` says."""
    line = [sys.executable, "-m", "benchmarks.kill_class", "once", str(folder), str(out), *map(str, run)]
    return subprocess.Popen(line, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT, text=True)


def fill_disk(process: subprocess.Popen, out: Path, with_code: bool) -> None:
    """Let a run write no file of more than 500 bytes: a result fails half-way, as on a full disk.

    A sandbox that starts under that limit can't even prove itself: with code, the grading processes get it once they
    grade.
    """
    began = time.time()
    while with_code and not any(lock.stat().st_mtime > began for lock in out.glob("submissions/*/*/.lock")):
        assert process.poll() is None, "the run ended before it graded anything"
        time.sleep(0.02)
    for pid in [process.pid, *(children(process.pid) if with_code else ())]:
        with contextlib.suppress(OSError):  # one of a job may be gone meanwhile
            if pid == process.pid or b"grader.classroom.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (500, 500))


def once(folder: str, out: str, questions: str, with_code: str, jobs: str) -> int:
    """One class run, as `python -m grader.classroom FOLDER --out OUT --jobs N` with another number of questions."""
    from grader.check_list import check_names
    from grader.classroom.__main__ import main as grade_class
    from grader.course import Course

    course = Course(hidden_questions=int(questions), novel_questions=max(1, int(questions) // 3))
    checks = () if with_code == "True" else tuple(check_names("weights"))
    return grade_class([folder, "--out", out, "--jobs", jobs], course, checks)


def snapshot(out: Path) -> Snapshot:
    """All results that are kept now."""
    found = {}
    for path in (out / "submissions").glob("*/*/result.json"):
        checks = json.loads(path.read_text(encoding="utf-8"))["result"]["checks"]
        found[str(path)] = (path.stat().st_mtime_ns, sum(check["score"] for check in checks))
    return found


def children(pid: int) -> list[int]:
    """The processes that a process started, and those that they started: the sandboxes."""
    try:
        tasks = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    direct = [int(word) for text in tasks for word in text.split()]
    return direct + [one for child in direct for one in children(child)]


def kill_at_random(process: subprocess.Popen, out: Path, more: int, dice: random.Random) -> None:
    """SIGKILL a run, or one of its grading processes, once it has kept so many more results; nothing may live on."""
    before = len(snapshot(out))
    while process.poll() is None and len(snapshot(out)) < before + more:
        time.sleep(0.02)
    time.sleep(dice.random())
    workers = children(process.pid) if process.poll() is None else []
    if workers and dice.random() < 0.3:
        os.kill(workers[0], signal.SIGKILL)  # the supervisor goes on with a fresh one; it is killed a moment later
        time.sleep(dice.random())
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while any(is_alive(pid) for pid in workers):
        if time.monotonic() > deadline:
            raise AssertionError(f"processes of a killed run live on: {[pid for pid in workers if is_alive(pid)]}")
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether a process runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def torture(files: dict[str, bytes], work: Path, good: int, kills: int, run: Run, every: int = 1) -> dict[str, Any]:
    """Make a class, kill its run so many times, and prove what is left.

    Raises:
        AssertionError: if a result is lost, doubled or changed.
    """
    dice, folder, out = random.Random(0), work / "class", work / "results"
    make_class(folder, files, good, every, run.with_code)
    students = len(list(folder.iterdir()))
    seen: Snapshot = {}
    started = time.perf_counter()
    for index in range(kills):
        kill_at_random(start(folder, out, run), out, dice.randint(0, 2 * students // (kills + 1)), dice)
        seen = check_kept(seen, snapshot(out))
        if index == kills // 2:
            zips.good(folder / "100000.zip", variant(files, 10_000))
            full = start(folder, out, run)
            fill_disk(full, out, run.with_code)
            said = full.communicate()[0]
            assert full.returncode == 2 and "can't keep a result" in said, said
            seen = check_kept(seen, snapshot(out))
    before = len(seen)
    last = start(folder, out, run)
    said = last.communicate()[0]
    assert last.returncode == 0, said
    seen = check_kept(seen, snapshot(out))
    again = start(folder, out, run)
    repeated = again.communicate()[0]
    assert again.returncode == 0 and snapshot(out) == seen and "graded" not in repeated.partition("see ")[0], repeated
    return prove(folder, out, good, seen) | prove_verdicts(folder, out, every) | {
        "students": students, "kills": kills, "kept before the last run": before, **run._asdict(),
        "seconds": round(time.perf_counter() - started),
    }  # fmt: skip


def check_kept(before: Snapshot, now: Snapshot) -> Snapshot:
    """The results of now, after a proof that every former one is still the same file."""
    assert all(now.get(path) == value for path, value in before.items()), "a result was lost or written again"
    return now


def prove(folder: Path, out: Path, good: int, seen: Snapshot) -> dict[str, Any]:
    """Exactly one final result for each student, no good score changed, no scratch file left."""
    import csv

    from grader.classroom.students import read_hand_in

    rows = {row["ID"]: row for row in csv.DictReader((out / "class.csv").open(encoding="utf-8"))}
    assert set(rows) == {path.stem for path in folder.iterdir()} and all(row["final"] for row in rows.values())
    scores = Counter(rows[str(100_000 + index)]["final"] for index in range(good))
    assert len(scores) == 1, f"good submissions of the same answers differ: {scores}"
    shas = {read_hand_in(path)[0] for path in folder.iterdir()}
    results = Counter(Path(path).parts[-3] for path in seen)
    assert set(shas) <= set(results) and set(results.values()) == {1}
    assert not [path for path in out.rglob(".*") if path.is_file() and path.name != ".lock"]
    return {
        "results": len(results), "of former zips": len(set(results) - shas),
        "score of the good ones": scores.popitem()[0],
        "states": dict(Counter(row["state"] for row in rows.values())),
    }  # fmt: skip


def prove_verdicts(folder: Path, out: Path, every: int) -> dict[str, int]:
    """Every test submission that was in the class has its verdict, at the real time limits.

    A fault of tasks 1 to 4 may cost points in 5 to 7, which build upon them: their verdicts are about the former.
    """
    first, wrong, proved = set(read_rubric("short").points), [], 0
    for index, recipe in enumerate([*SUBMISSIONS.values()][::every]):
        if (failing := failing_checks(folder / f"{400_000 + index}.zip", out)) is not None:
            proved += 1
            wrong += (
                [f"{recipe.name}: {failing}"]
                if failing & first - set(recipe.perhaps.split()) != set(recipe.failing.split())
                else []
            )
    for index, case in enumerate(reasoning_cases(every)):
        if (failing := failing_checks(folder / f"{500_000 + index}.zip", out)) is not None:
            proved += 1
            due = set(case.checks.split()[-1:] if case.phrase else ())
            wrong += [f"{case.name}: {failing}"] if failing & set(case.checks.split()) != due else []
    assert not wrong, wrong
    return {"verdicts of the test submissions": proved}


def failing_checks(path: Path, out: Path) -> set[str] | None:
    """The checks that failed of a hand-in; None if it was not in the class."""
    from grader.classroom.students import read_hand_in

    if not path.exists():
        return None
    (kept,) = (out / "submissions" / read_hand_in(path)[0]).glob("*/result.json")
    checks = json.loads(kept.read_text(encoding="utf-8"))["result"]["checks"]
    return {check["name"] for check in checks if check["state"] not in FINE}


def read_homework() -> dict[str, bytes]:
    """What is handed in of homework/: its code, and the adapters and rows that the rubric grades."""
    home = ROOT / "homework"
    files = {path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*.py")}
    files |= {name: (home / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    if "reasons" in read_rubric().points:
        files |= {name: (home / name).read_bytes() for name in REASONING_FILES}
        files[REASONS] = (ROOT / "data" / REASONS).read_bytes()
    return files


def main(
    *, good: int = 200, every: int = 1, kills: int = 20, questions: int = 600, with_code: bool = True, jobs: int = 2
) -> None:
    """Torture a class run and print what was seen.

    Args:
        good: good zips, beside those of every bad kind.
        every: take each nth kind of bad one; 1 takes all.
        kills: SIGKILLs at random moments.
        questions: hidden questions for each; fewer is quicker.
        with_code: grade the code, too, not only the weights.
        jobs: grading processes.
    """
    with tempfile.TemporaryDirectory() as work:
        print(
            json.dumps(
                torture(read_homework(), Path(work), good, kills, Run(questions, with_code, jobs), every), indent=1
            )
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["once"]:
        sys.exit(once(*sys.argv[2:]))
    cli.run(main, "python -m benchmarks.kill_class")
