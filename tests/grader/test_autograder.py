"""The autograder in the platform's own layout: full points, a hang, a death, no start; always a valid results.json."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from grader import autograder, rubric
from tests.support import zips
from tools import make_autograder

STATES = {"after_published", "visible", "hidden", "after_due_date"}


@pytest.fixture(scope="module")
def platform(tmp_path_factory) -> Path:
    """A folder as /autograder is after the upload: source/ unpacked, run_autograder beside it, an empty submission."""
    root = tmp_path_factory.mktemp("platform") / "autograder"
    assert make_autograder.main([str(root.parent / "autograder.zip"), "--public"]) == 0
    with zipfile.ZipFile(root.parent / "autograder.zip") as archive:
        archive.extractall(root / "source")
    shutil.copy(root / "source" / "run_autograder", root / "run_autograder")
    (root / "run_autograder").chmod(0o755)
    for name in ("submission", "results"):
        (root / name).mkdir()
    (root / "submission_metadata.json").write_text('{"id": 1, "users": [{"id": 7}], "assignment": {}}')
    return root


def hand_in(root: Path, files: dict[str, bytes]) -> None:
    """Unpack a zip as the platform does."""
    shutil.rmtree(root / "submission")
    zips.good(root / "x.zip", files)
    with zipfile.ZipFile(root / "x.zip") as archive:
        archive.extractall(root / "submission")


def start(root: Path, **environment: str) -> str:
    """Run run_autograder as the platform does, and give what it printed."""
    (root / "results" / "results.json").unlink(missing_ok=True)
    known = {**os.environ, "PYTHON": sys.executable, **environment}
    done = subprocess.run(
        [str(root / "run_autograder")], cwd=root, env=known, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def results(root: Path) -> dict:
    """results.json, held against the platform's specification."""
    content = json.loads((root / "results" / "results.json").read_text(encoding="utf-8"))
    assert isinstance(content["output"], str) and isinstance(content["tests"], list)
    for test in content["tests"]:
        assert isinstance(test["name"], str) and test.get("visibility", "visible") in STATES
        assert test.get("score", 0) <= test.get("max_score", rubric.ALL_POINTS)
    return content


@pytest.mark.everything
def test_the_reference_gets_the_same_full_score_twice(platform, reference_files):
    hand_in(platform, reference_files)
    found = []
    for _ in range(2):
        said = start(platform)
        assert "peak memory" in said
        found.append(results(platform))
    assert [one["score"] for one in found] == [rubric.ALL_POINTS] * 2
    assert [one["tests"] for one in found] == [found[0]["tests"]] * 2


@pytest.mark.everything
def test_a_submission_that_hangs_ends_in_time_with_the_partial_score(platform, reference_files, monkeypatch):
    """The time is up in the first check of the code: the points of the weights count."""
    hanging = reference_files | {"__init__.py": b"while True:\n    pass\n"}
    hand_in(platform, hanging)
    monkeypatch.setattr(autograder, "SPARE_SECONDS", 0)
    started = time.perf_counter()
    done = {"adapter_present", "configured", "weights_valid", "accuracy"}
    watched = follow(monkeypatch, done)
    assert autograder.main([str(platform), "--minutes", "5", "--public"]) == 0
    content = results(platform)
    assert watched and content["score"] == sum(rubric.read_rubric().weights.values())
    assert content["output"].startswith("PARTIAL: the time was up") and time.perf_counter() - started < 300


def follow(monkeypatch, done: set[str]) -> list[str]:
    """Let the time be up as soon as these checks are done, however slow this machine is."""
    seen: list[str] = []
    clock, offset = time.monotonic, [0.0]

    def look(pid: int) -> int:
        child = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"--child" not in child:
            return 0  # not started yet
        folder = Path(child[child.index(b"--child") + 1].decode())
        if (folder / "checks.jsonl").exists():
            names = {json.loads(line)["name"] for line in (folder / "checks.jsonl").read_text().splitlines()}
            if done <= names:
                seen.append("up")
                offset[0] = 1e6
        return 0

    monkeypatch.setattr(autograder, "memory", look)
    monkeypatch.setattr(autograder.time, "monotonic", lambda: clock() + offset[0])
    return seen


@pytest.mark.parametrize("lines", [[], ["{"], ['{"name": "x"}']])
def test_without_a_whole_check_there_is_no_score_and_no_zero(tmp_path, lines):
    (tmp_path / "checks.jsonl").write_text("\n".join(lines))
    for ended in ("the time was up", "the grading process died (-9)"):
        content = autograder.report(tmp_path, ended)
        assert "score" not in content and content["output"].startswith("NO SCORE")


def test_checks_before_a_death_are_no_score(tmp_path):
    check = {"name": "adapter_present", "title": "It is there.", "points": 2, "score": 2.0, "state": "passed"}
    (tmp_path / "checks.jsonl").write_text(json.dumps(check) + "\n")
    assert "score" not in autograder.report(tmp_path, "the grading process died (-9)")
    partial = autograder.report(tmp_path, "the time was up")
    assert partial["score"] == 2 and partial["tests"][0]["max_score"] == 2
    (tmp_path / "checks.jsonl").write_text(json.dumps({**check, "score": 0.0, "state": "grader error"}) + "\n")
    assert "score" not in autograder.report(tmp_path, "the time was up")


def test_a_broken_installation_leaves_a_valid_file_too(platform):
    start(platform, PYTHON="/bin/false")
    content = results(platform)
    assert "score" not in content and "NO SCORE: the autograder did not start" in content["output"]


def test_what_was_handed_in_is_found(tmp_path):
    (tmp_path / "homework").mkdir()
    assert autograder.find_submission(tmp_path) == tmp_path / "homework"
    (tmp_path / "notes.txt").touch()
    assert autograder.find_submission(tmp_path) == tmp_path
    (tmp_path / "1.zip").touch()
    assert autograder.find_submission(tmp_path) == tmp_path / "1.zip", "beside a readme, too"
    (tmp_path / "homework" / "sft.py").touch()
    assert autograder.find_submission(tmp_path) == tmp_path


def test_the_zip_is_the_same_each_time_and_holds_no_homework(tmp_path, capsys):
    (tmp_path / "key").write_bytes(b"a staff key of twenty-odd bytes")
    words = ["--key-file", str(tmp_path / "key"), "--minutes", "20", "--index", "https://wheels.example/cpu"]
    for name in ("a.zip", "b.zip"):
        assert make_autograder.main([str(tmp_path / name), *words]) == 0
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
        assert b"--extra-index-url https://wheels.example/cpu" in archive.read("setup.sh")
        assert b"--minutes 20 --key-file staff.key" in archive.read("run_autograder")
    assert {"setup.sh", "run_autograder", "staff.key", "data/base_model/model.safetensors"} <= set(names)
    assert not [name for name in names if name.startswith(("homework", "tools", "tests")) or "classroom" in name]
    assert "memory at least" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--public", "--minutes", "1"], ["--public", "--index", "x; rm -rf /"]])
def test_an_autograder_without_questions_or_with_odd_settings_is_refused(tmp_path, words, capsys):
    with pytest.raises(SystemExit) as stop:
        make_autograder.main([str(tmp_path / "a.zip"), *words])
    assert stop.value.code == 2 and capsys.readouterr().err


def test_a_short_or_missing_key_is_refused(tmp_path, capsys):
    (tmp_path / "key").write_bytes(b"short")
    for key in ("key", "nowhere"):
        assert make_autograder.main([str(tmp_path / "a.zip"), "--key-file", str(tmp_path / key)]) == 1
    assert "key" in capsys.readouterr().err and not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("source", ["exit 1", "exit 0"])
def test_an_ubuntu_without_a_released_python_is_refused_in_one_line(platform, tmp_path, source):
    """Ubuntu 22.04 has Python 3.10, and of 3.11 a release candidate alone: torch does not run on that."""
    for name, line in {"apt-get": "exit 0", "python3": "exit 1", "python3.11": "exit 1"}.items():
        plant_command(tmp_path / name, line)
    plant_command(tmp_path / "add-apt-repository", source)
    done = set_up(platform, tmp_path)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: this Ubuntu has no released Python")


def test_a_released_python_of_the_platform_is_taken(platform, tmp_path):
    plant_command(tmp_path / "apt-get", "exit 0")
    plant_command(tmp_path / "python3", f'exec {sys.executable} "$@"')
    done = set_up(platform, tmp_path)
    assert done.returncode and "released Python" not in done.stderr, "it goes on to the platform's own folder"


def plant_command(path: Path, line: str) -> None:
    """A command that runs one line of shell."""
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def set_up(platform: Path, commands: Path) -> subprocess.CompletedProcess:
    """Run setup.sh with these commands before the machine's own; /autograder is not there, so it never installs."""
    known = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}
    line = ["bash", str(platform / "source" / "setup.sh")]
    return subprocess.run(line, env=known, capture_output=True, text=True, check=False)
