"""Where no process can be forked, on macOS and Windows, a job takes its server along: the student's fault, not ours."""

import subprocess

import pytest

from grader.sandbox import host
from grader.sandbox.host import Sandbox
from grader.sandbox.job_output import read_lines
from grader.sandbox.tiers import Tier
from tests.support.rows import rest


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(host, "CAN_FORK", False)
    with Sandbox(Tier.NONE) as made:
        yield made


@pytest.mark.parametrize(("line", "ended", "seconds"), [
    rest("import os; os._exit(7)", "exit 7", 60), rest("while True: pass", "time", 4),
    rest("x = 1", "exit 0", 60),
])  # fmt: skip
def test_how_a_job_ended_is_told(alone, line, ended, seconds):
    code = {"homework/__init__.py": b"", "homework/sft.py": line.encode()}
    assert alone.run("agreeing", code, {"inputs.json": b"{}"}, seconds).ended == ended
    again = alone.run("agreeing", {"homework/__init__.py": b"", "homework/sft.py": b""}, {"inputs.json": b"{}"})
    assert [found["name"] for found in read_lines(again.files)] == ["import homework.sft", "answer"]
    assert not list(alone.jobs.iterdir())


def test_a_process_that_closed_its_output_and_is_not_over_yet_is_waited_for():
    with subprocess.Popen(["sh", "-c", "exec >&-; sleep 0.3; exit 7"], stdout=subprocess.PIPE) as ending:
        assert host.exit_code(ending) == 7
    with subprocess.Popen(["sleep", "5"]) as running:
        assert host.exit_code(running, seconds=0.1) is None
        running.kill()
