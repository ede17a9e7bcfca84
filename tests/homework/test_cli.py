"""The strict command line."""

import re
import subprocess
import sys
import time

import pytest

from homework.common import cli
from homework.common.base_model import ROOT
from homework.common.errors import HomeworkError, name_successor
from tests.support.rows import rest


def train(*, epochs: int = 1, rate: float | None = None, name: str = "x", quick: bool = False) -> None:
    """Train something.

    Args:
        epochs: passes over the rows.
    """
    print(f"ran {epochs!r} {rate!r} {name!r} {quick!r}")


def bundle(folder: str, student: str) -> None:
    """Bundle something."""
    print(f"bundled {folder!r} {student!r}")


def fail_by_name() -> None:
    """Fail."""
    raise HomeworkError("row 3 is wrong: mend it")


def fill_the_disk() -> None:
    """Fail."""
    raise OSError(28, "No space left on device", "runs/log.json")


def press_ctrl_c() -> None:
    """Fail."""
    raise KeyboardInterrupt


def press_ctrl_c_while_importing() -> None:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as stop:  # as transformers has it
        raise ModuleNotFoundError("Could not import module 'LlamaForCausalLM'") from stop


COMMANDS = {"train": train, "bundle": bundle, "fail": fail_by_name, "fill": fill_the_disk, "stop": press_ctrl_c,
            "early": press_ctrl_c_while_importing}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("train", "ran 1 None 'x' False"),
        ("train --epochs 3 --rate=1e-3 --quick", "ran 3 0.001 'x' True"),
        ("train --name 1e5 --quick=no", "ran 1 None '1e5' False"),
        ("train --name=[1] --rate -2", "ran 1 -2.0 '[1]' False"),
        ("train --quick false --epochs 2", "ran 2 None 'x' False"),
        ("bundle homework 1e5", "bundled 'homework' '1e5'"),
        ("bundle homework 007", "bundled 'homework' '007'"),
    ],
)
def test_good_lines_run_with_the_types_of_the_signature(command, line, printed):
    code, out, err = command(COMMANDS, line)
    assert (code, out.strip(), err) == (0, printed, "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --epohcs 10", "unknown option --epohcs (did you mean --epochs?)"),
        ("train junk", "unexpected argument 'junk'"),
        ("train --epochs ten", "--epochs takes a whole number, not 'ten'"),
        ("train --epochs 1.5", "--epochs takes a whole number"),
        ("train --rate nan", "--rate takes a finite number, not 'nan'"),
        ("train --quick=maybe", "--quick takes yes or no"),
        ("train --epochs", "--epochs needs a value"),
        ("train --name --quick", "--name needs a value"),
        ("train --name=", "--name needs a value"),
        ("train --epochs 1 --epochs 2", "--epochs is given twice"),
        ("bundle homework", "missing argument STUDENT"),
        ("bundle homework a b", "unexpected argument 'b'"),
        ("trian", "there is no command 'trian' (did you mean train?)"),
    ],
)
def test_bad_lines_stop_before_anything_runs(command, line, message):
    code, out, err = command(COMMANDS, line)
    assert code == 2 and message in err and "--help" in err and "ran" not in out
    assert "Traceback" not in err and len(err.splitlines()) <= 2


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("fail", 1, "error: row 3 is wrong: mend it"),
        ("fill", 1, "error: No space left on device: runs/log.json"),
        ("stop", 130, "stopped at once"),
        ("early", 130, "stopped at once"),
    ],
)
def test_failures_are_one_line_and_a_code(command, line, code, message):
    assert command(COMMANDS, line)[0] == code
    err = command(COMMANDS, line)[2]
    assert err.startswith(message) and len(err.splitlines()) == 1


def loosely(**kwargs: str) -> None:
    """Swallow whatever is given."""


def lacking() -> None:
    """Need a package."""
    raise ModuleNotFoundError("No module named 'fire'", name="fire")


def broken() -> None:
    """Hold a student's bug."""
    [].index(44)


def wrapped() -> None:
    """Name a row, and hide the bug behind it."""
    try:
        broken()
    except ValueError as error:
        raise HomeworkError("row 3: it broke") from error


@pytest.mark.parametrize(
    ("function", "line", "message"),
    [
        (loosely, "--epohcs 1", "error: loosely takes **kwargs, which would swallow misspelt flags: name each"),
        (lacking, "", "lacks fire: activate .venv, or pip install -r requirements.txt"),
        (broken, "", "error: ValueError: 44 is not in list (test_cli.py, line "),
        (wrapped, "", "error: row 3: it broke"),
    ],
)
def test_a_students_own_bug_is_one_line_too(command, monkeypatch, function, line, message):
    code, _, err = command(function, line)
    assert code == 1 and message in err and "Traceback" not in err
    if function is wrapped:
        monkeypatch.setenv("HOMEWORK_DEBUG", "1")
        assert "[].index(44)" in command(function, line)[2]


def test_a_flag_may_take_a_value_or_stand_alone(command):
    def look(*, hint: str | bool = False, seed: int = 0) -> None:
        """Look."""
        print(repr(hint), seed)

    for line, printed in (("", "False 0"), ("--hint", "True 0"), ("--hint --seed 1", "True 1"), ("--hint 3", "'3' 0")):
        assert command(look, line)[1].strip() == printed


def test_an_abbreviation_finds_its_flag(command):
    def train(*, learning_rate: float = 1.0) -> None:
        """Train."""

    assert "(did you mean --learning-rate?)" in command(train, "--lr 1e-3")[2]


def test_help_names_the_options_that_exist(command):
    code, out, _ = command(COMMANDS, "train --help")
    assert code == 0 and "--epochs=EPOCHS" in out and "passes over the rows" in out and "-e," not in out


def test_a_long_command_says_how_long(command, monkeypatch):
    assert "done in" not in command(COMMANDS, "train")[1]
    monkeypatch.setattr(cli, "LONG", -1)
    assert command(COMMANDS, "train")[1].splitlines()[-1] == "done in 0 s"
    assert "done in" not in "".join(command(COMMANDS, "fail")[1:]), "it did not come to its end"


def test_no_command_lists_them(command):
    code, out, _ = command(COMMANDS, "")
    assert code == 2 and "bundle" in out and "Train something." in out


@pytest.mark.parametrize("module", ["homework.sft train", rest("homework.base_llm test"), rest("homework.chat")])
def test_help_takes_less_than_a_second(module):
    def seconds() -> float:
        started = time.perf_counter()
        line = [sys.executable, "-m", *module.split(), "--help"]
        out = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
        assert "FLAGS" in out.stdout
        return time.perf_counter() - started

    assert min(seconds() for _ in range(3)) < 1


def test_output_that_nobody_reads_to_its_end_is_no_error():
    line = [sys.executable, "-m", "homework.sft", "show", "--rows", "400"]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 1


COMMAND_LINES = (
    "-m homework.sft train", "-m homework.base_llm test", "-m homework.check", "-m homework.chat",
    "-m homework.cot test", "-m homework.datagen generate", "-m homework.rft train", "-m homework.experiment span",
    "-m grader homework", "-m grader.classroom hand-ins", "bundle.py homework 1",
)  # fmt: skip


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_python_without_the_packages_is_told_so(line):
    done = subprocess.run([sys.executable, "-S", *line.split()], cwd=ROOT, capture_output=True, text=True, check=False)
    said = rf"error: this Python \({re.escape(sys.executable)}\) lacks [\w, ]+: activate .venv, or pip install -r .*\n"
    assert done.returncode == (1 if "homework." in line else 2) and re.fullmatch(said, done.stderr), done.stderr


@pytest.mark.parametrize("package", ["homework", "grader"])
def test_an_old_python_is_told_before_it_reads_what_it_cant_read(package):
    code = f"import sys; sys.version_info, sys.version = (3, 10, 18), '3.10.18 (main)'; import {package}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    said = "error: Python 3.10.18 is too old: make .venv with Python 3.11 or newer\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_the_homeworks_trainer_is_not_told_the_arguments_of_transformers():
    message = "{}.__init__() got an unexpected keyword argument 'tokenizer'"
    assert "instead: processing_class" in name_successor(message.format("Trainer"))
    assert "those of llm" in name_successor(message.format("HomeworkTrainer"))
