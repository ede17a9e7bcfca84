"""A class run through submitit, with its local and its debug executor: results, a dead task, a fault of ours."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from submitit.core.core import Job

from benchmarks import kill_class
from grader.check_list import check_names
from grader.classroom import __main__ as cli
from grader.classroom import cluster
from grader.classroom.jobs import WorkerConfig
from grader.classroom.store import Store, run_key
from grader.course import Course
from grader.errors import GraderFault
from tests.support import zips
from tests.support.rows import rest

SMALL, WEIGHTS = Course(hidden_questions=4, novel_questions=2), tuple(check_names("weights"))


def run(folder: Path, name: str) -> int:
    words = [str(folder), "--out", str(folder.parent / "out"), "--cluster", name, "--jobs", "2"]
    return cli.grade_class(cli.parse_arguments(words), SMALL, WEIGHTS)


@pytest.fixture
def folder(files, tmp_path) -> Path:
    (tmp_path / "class").mkdir()
    for index in range(3):
        zips.good(tmp_path / "class" / f"{index}.zip", kill_class.variant(files, index))
    return tmp_path / "class"


@pytest.mark.parametrize("name", ["debug", rest("local")])
def test_an_array_job_grades_the_class_once(folder, name, capsys):
    assert run(folder, name) == 0
    before = kill_class.snapshot(folder.parent / "out")
    assert len(before) == 3 and run(folder, name) == 0
    assert kill_class.snapshot(folder.parent / "out") == before
    assert f"3 submissions in 2 tasks of one array job, {name}" in capsys.readouterr().out
    pickles = (folder.parent / "out" / "cluster").glob("*result.pkl")
    assert all(path.stat().st_size < 2000 for path in pickles), "a task returns only a path"


def die(config: dict, jobs: list) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def fail(config: dict, jobs: list) -> str:
    raise GraderFault("can't keep a result (No space left on device)")


@pytest.mark.everything
@pytest.mark.parametrize(("task", "message"), [(die, "the machine died"), (fail, "the grader failed .*No space left")])
def test_a_dead_machine_is_told_apart_from_our_fault_and_neither_is_a_zero(folder, monkeypatch, task, message):
    monkeypatch.setattr(cluster, "grade_share", task)
    monkeypatch.setattr(Job, "_results_timeout_s", 1)  # how long a slow network drive may hide a result
    with pytest.raises(GraderFault, match=message):
        run(folder, "local")
    assert not kill_class.snapshot(folder.parent / "out")
    assert "not graded yet" in (folder.parent / "out" / "class.csv").read_text()


def test_a_task_of_another_grader_refuses(tmp_path):
    key = replace(run_key(SMALL, WEIGHTS), grader="another")
    config = WorkerConfig.of(Store(tmp_path, key), SMALL, WEIGHTS)
    assert WorkerConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(GraderFault, match="code has changed"):
        cluster.grade_share(config.to_json(), [])
    assert Store(tmp_path, run_key(SMALL)).read("0" * 64) is None
