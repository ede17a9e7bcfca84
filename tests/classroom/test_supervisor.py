"""The supervisor and the results folder: death, hanging, a full disk and doubles cost no result, and are told apart."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from grader import files
from grader.classroom import session, store, supervisor, worker
from grader.classroom.jobs import Job
from grader.classroom.progress import Progress
from grader.classroom.store import Store, run_key
from grader.classroom.students import read_hand_in
from grader.classroom.supervisor import Supervisor
from grader.course import Course
from grader.errors import GraderFault
from grader.result import CheckResult, Result, State
from grader.seed import Seed

GOOD = Result("x.zip", "0", (CheckResult("adapter_present", "It is there.", 2, 2.0, State.PASSED),), ("a note",), 1.5)


@pytest.fixture
def kept(tmp_path) -> Store:
    """An empty results folder."""
    return Store(tmp_path / "results", run_key(Course()))


def supervise_jobs(kept: Store, *names: str, count: int = 2) -> tuple[list[str], list[str]]:
    """Run jobs; the names of those that were told as done, and what stopped the threads."""
    (kept.root).mkdir(exist_ok=True)
    running_jobs = Supervisor(kept, Course())
    running = running_jobs.start([Job(f"{index:064}", Path(name), name) for index, name in enumerate(names)], count)
    done, texts = [], []
    while running:
        event = running_jobs.events.get(timeout=120)
        done += [event.job.name] if event.kind == "done" else []
        if event.kind == "stopped":
            running -= 1
            texts += [event.text] if event.text else []
    running_jobs.end()
    assert not running_jobs.workers
    return sorted(done), texts


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(supervisor, "WORKER", "tests.support.fake_worker")


@pytest.mark.everything
def test_death_costs_one_more_try_and_then_a_fault_of_ours(kept, fake):
    names = ("good", "flaky", "dies", "fine")
    assert supervise_jobs(kept, *names) == (sorted(names), [])
    results = [kept.read(f"{index:064}") for index in range(4)]
    assert [result.is_fault for result in results] == [False, False, True, False]
    assert "died (exit code 7)" in results[2].checks[0].cause and results[0].score == 2


def test_no_folder_of_a_sandbox_outlives_a_run(kept, fake, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert supervise_jobs(kept, "good", "fine") == (["fine", "good"], [])
    assert list(tmp_path.iterdir()) == [kept.root]


def test_what_takes_too_long_is_ended_and_a_fault_of_ours(kept, fake, monkeypatch):
    monkeypatch.setattr(supervisor, "SUBMISSION_SECONDS", 0.5)
    assert supervise_jobs(kept, "hangs", "good", count=1)[0] == ["good", "hangs"]
    result = kept.read(f"{0:064}")
    assert result.is_fault and "it took too long" in result.checks[0].cause and not kept.read(f"{1:064}").is_fault


def test_a_full_disk_stops_the_run_and_is_no_fault_of_a_student(kept, fake):
    done, texts = supervise_jobs(kept, "good", "full", "fine", count=1)
    assert done == ["good"] and "No space left on device" in texts[0]
    assert kept.read(f"{1:064}") is None and kept.read(f"{2:064}") is None


def test_a_process_that_cannot_start_is_said(kept, monkeypatch):
    monkeypatch.setattr(supervisor, "WORKER", "tests.support.no_such_worker")
    done, texts = supervise_jobs(kept, "good", count=1)
    assert not done and "did not start (exit code 1)" in texts[0]


def test_the_key_does_not_reach_the_processes(monkeypatch):
    monkeypatch.setenv("GRADER_KEY_FILE", "/secret")
    assert "GRADER_KEY_FILE" not in supervisor.environment()


# --- one grading process ---


class OneResult:
    """A session that counts."""

    def __init__(self) -> None:
        self.count = 0

    def grade_one(self, path: Path, name: str) -> Result:
        self.count += 1
        return GOOD


def test_what_is_graded_is_not_graded_again(kept):
    one, job = OneResult(), Job("a" * 64, Path("x.zip"), "x.zip")
    assert [worker.serve(one, kept, job)["state"] for _ in range(2)] == ["done", "done"]
    assert one.count == 1 and kept.read("a" * 64) == GOOD


def test_what_another_run_is_grading_is_left_to_it(kept):
    from filelock import FileLock

    job = Job("a" * 64, Path("x.zip"), "x.zip")
    kept.path(job.sha256).parent.mkdir(parents=True)
    with FileLock(kept.path(job.sha256).with_name(".lock")):
        assert worker.serve(OneResult(), kept, job) == {"state": "busy"}


def test_a_base_model_that_grading_changed_ends_the_process(monkeypatch):
    course = Course(hidden_questions=2, novel_questions=2)

    def spoil(*_, **__) -> Result:
        next(course.base.model.parameters()).data[0, 0] += 1
        return GOOD

    with session.Session(course, ("weights_valid",)) as one:
        monkeypatch.setattr(session, "grade", spoil)
        with pytest.raises(GraderFault, match="changed the base model"):
            one.grade_one(Path("x.zip"), "x.zip")


# --- the results folder ---


def test_a_full_disk_leaves_the_former_file_and_no_other(tmp_path, monkeypatch):
    files.write_whole(tmp_path / "r.json", "former")

    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_whole(tmp_path / "r.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"] and (tmp_path / "r.json").read_text() == "former"


def test_what_a_killed_process_left_half_written_is_removed_and_that_of_a_live_one_kept(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = (f".1.html-{dead.pid}", f".2.html-{os.getpid()}", ".lock", "3.html-4")
    for name in names:
        (tmp_path / name).touch()
    files.remove_left(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])


@pytest.mark.parametrize("spoil", [
    lambda text: text[:-20], lambda text: "", lambda text: "[]",
    lambda text: text.replace('"schema": 2', '"schema": 1'),
    lambda text: text.replace('"score": 2.0', '"score": 3.0'), lambda text: text.replace('"passed"', '"great"'),
    lambda text: text.replace('"submission": "aaa', '"submission": "baa'),
    lambda text: text.replace('"a note"', "3"), lambda text: text.replace('"cause": ""', '"cause": 5'),
    lambda text: text.replace('"seconds": 1.5', '"seconds": "none"'),
])  # fmt: skip
def test_what_is_no_whole_result_of_this_key_is_none(kept, spoil):
    path = kept.write("a" * 64, GOOD)
    assert kept.read("a" * 64) == GOOD
    spoiled = spoil(path.read_text())
    assert spoiled != path.read_text()
    path.write_text(spoiled)
    assert kept.read("a" * 64) is None


def test_seed_questions_assignment_and_grader_are_in_the_key(tmp_path, monkeypatch):
    keys = [
        run_key(course).short for course in (Course(), Course(Seed(7)), Course(Seed("7")), Course(hidden_questions=9))
    ]
    monkeypatch.setattr(store, "hash_grader", lambda: "another")
    assert len({*keys, run_key(Course()).short}) == 5
    secret = "0123456789abcdef" * 4
    assert secret not in json.dumps(run_key(Course(Seed(secret))).__dict__)


def test_another_grader_keeps_a_result_and_says_so(kept, monkeypatch):
    kept.write("a" * 64, GOOD)
    monkeypatch.setattr(store, "hash_grader", lambda: "another")
    newer = Store(kept.root, run_key(Course()))
    assert newer.read("a" * 64) is None and newer.read_other("a" * 64).result == GOOD
    assert Store(kept.root, run_key(Course(Seed(7)))).read_other("a" * 64) is None, "another seed is another grade"


def test_a_link_in_a_folder_is_not_followed(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "link").symlink_to("/")
    sha256, features, answers = read_hand_in(tmp_path / "one")
    assert len(sha256) == 64 and features is None and answers == ""


def test_links_in_the_place_of_zips_share_no_result(tmp_path):
    """Each is told by its own name."""
    for name in ("1.zip", "2.zip"):
        (tmp_path / name).symlink_to("/nowhere")
    assert read_hand_in(tmp_path / "1.zip")[0] != read_hand_in(tmp_path / "2.zip")[0]


# --- the table ---


class Terminal:
    """A stream that says it is a terminal, or not."""

    def __init__(self, terminal: bool) -> None:
        self.terminal, self.text = terminal, ""

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("terminal", [True, False])
def test_the_table_counts_and_says_what_the_model_takes(terminal):
    now = iter(range(0, 1000, 10))
    stream = Terminal(terminal)
    progress = Progress(4, 7, 2, stream, lambda: float(next(now)))
    for name in "abc":
        progress.begin(name)
        check = CheckResult("x", "x", 1, 0.0, State.FAULT if name == "c" else State.FAILED)
        progress.finish(name, Result(name, "0", (check,), seconds=4.0, measured={"generating_seconds": 3.0}))
    assert progress.lines()[0].startswith("done 2  failed 1  refused 0  running 0  left 1  to go ")
    assert (
        "75% of the grading is the model generating" in progress.summary() and "graded before: 7" in progress.summary()
    )
    assert ("\033[" in stream.text) == terminal
