"""Interrupted runs: what is kept, what is continued, and when a run begins anew."""

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import cache

import pytest
from filelock import FileLock

from homework import sft
from homework.common import files
from homework.common.errors import HomeworkError
from homework.data import Dataset
from homework.training import run_dir, trainer
from homework.training.adapter import ADAPTER_FILES, WEIGHTS, describe_model
from homework.training.callbacks import CheckpointCallback, is_probe_step
from homework.training.evaluation import take_probes, take_reported
from homework.training.recipe import DEFAULT_RECIPE
from homework.training.run_dir import Run
from homework.training.trainer import HomeworkTrainer
from tests.support.rows import rest
from tests.support.trainers import open_trainer

STEPS, MANY = 10, 40


def line(folder, more: str = "", steps: int = STEPS) -> str:
    return f"train --max-steps {steps} --questions 5 --output-dir {folder / 'a'} --run-dir {folder / 'run'} {more}"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Callable[[int], bytes]:
    """`uninterrupted(steps)`: the adapter of the same run, never interrupted."""

    @cache
    def train(steps: int) -> bytes:
        folder = tmp_path_factory.mktemp("whole")
        sft.train_model(max_steps=steps, questions=5, output_dir=str(folder / "a"), run_dir=str(folder / "run"))
        return (folder / "a" / WEIGHTS).read_bytes()

    return train


@contextlib.contextmanager
def interrupted(step: int, number: int = signal.SIGINT, times: int = 1):
    """Let a signal arrive in the middle of a step."""
    training_step = HomeworkTrainer.training_step

    def signalled(self, *arguments):
        if self.state.global_step + 1 == step:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return training_step(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HomeworkTrainer, "training_step", signalled)
        yield


@pytest.mark.parametrize(("step", "steps", "number"), [(7, STEPS, signal.SIGINT), rest(35, MANY, signal.SIGTERM)])
def test_an_interrupted_run_gives_the_same_bytes(command, tmp_path, uninterrupted, step, steps, number):
    """Step 35 lies in the second epoch, whose order of rows must not depend on what happened before."""
    with interrupted(step, number):
        code, out, err = command(sft.COMMANDS, line(tmp_path, steps=steps))
    assert code == 130 and f"stopped after step {step} of {steps}" in err
    assert "the same command goes on from here" in err
    assert (tmp_path / "run" / f"checkpoint-{step}").is_dir() and not list((tmp_path / "a").iterdir())
    code, out, err = command(sft.COMMANDS, line(tmp_path, steps=steps))
    assert code == 0 and f"resumed after step {step} of {steps}" in out, err
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == uninterrupted(steps)
    log = json.loads((tmp_path / "run" / run_dir.LOG).read_text())["log"]
    assert [entry["step"] for entry in run_dir.steps_of(log)] == list(range(1, steps + 1))


def test_a_second_ctrl_c_stops_at_once(command, tmp_path):
    with interrupted(3, times=2):
        code, _, err = command(sft.COMMANDS, line(tmp_path))
    assert code == 130 and "stopped at once" in err
    assert not list((tmp_path / "run").glob("checkpoint-*"))


@pytest.mark.everything
def test_a_half_written_checkpoint_is_skipped(command, tmp_path, uninterrupted):
    with interrupted(25):
        assert command(sft.COMMANDS, line(tmp_path, steps=MANY))[0] == 130
    newest = tmp_path / "run" / "checkpoint-25"
    (newest / "optimizer.pt").write_bytes((newest / "optimizer.pt").read_bytes()[:1000])
    code, out, _ = command(sft.COMMANDS, line(tmp_path, steps=MANY))
    assert code == 0 and "skipped checkpoint-25, which is half-written" in out and "resumed after step 20" in out
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == uninterrupted(MANY)


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of a finished run of the recipe, and its command line."""
    shutil.copytree(trained.run, tmp_path / "run")
    return f"train --output-dir {trained.folder} --run-dir {tmp_path / 'run'}"


def begin(*_):
    raise HomeworkError("training began")


def test_a_finished_run_says_so_and_trains_nothing(command, finished, trained, monkeypatch):
    monkeypatch.setattr(HomeworkTrainer, "train_to_the_end", begin)
    before = [(path.name, path.stat().st_mtime_ns) for path in sorted(trained.folder.iterdir())]
    code, out, err = command(sft.COMMANDS, finished)
    assert code == 0 and "this run is finished: accuracy 0." in out and "add --restart" in out, err
    assert "step " not in out and "adapter saved" not in out
    assert [(path.name, path.stat().st_mtime_ns) for path in sorted(trained.folder.iterdir())] == before


def test_a_finished_run_whose_adapter_is_gone_trains_again(command, finished, tmp_path, monkeypatch):
    result = json.loads((tmp_path / "run" / run_dir.RESULT).read_text())
    (tmp_path / "run" / run_dir.RESULT).write_text(json.dumps({**result, "adapter_sha256": "another"}))
    monkeypatch.setattr(HomeworkTrainer, "train_to_the_end", begin)
    code, out, err = command(sft.COMMANDS, finished)
    assert code == 1 and "no longer holds its adapter: training again" in out and "training began" in err


@pytest.mark.everything
def test_a_run_that_learned_nothing_is_never_a_finished_one(command, tmp_path):
    """Twice the same command: the second may not call it a success."""
    flags = f"--max-steps 24 --questions 5 --output-dir {tmp_path / 'a'} --run-dir {tmp_path / 'run'}"
    for _ in range(2):
        code, out, err = command(sft.COMMANDS, f"train --learning-rate 1e-12 {flags}")
        assert code == 1 and "nothing was learned" in err and "this run is finished" not in out


def test_restart_begins_anew(command, finished, monkeypatch):
    monkeypatch.setattr(HomeworkTrainer, "train_to_the_end", begin)
    assert "training began" in command(sft.COMMANDS, finished + " --restart")[2]


def test_other_flags_begin_anew_and_say_so(command, tmp_path):
    own = f"train --max-steps 10 --questions 5 --output-dir {tmp_path / 'a'}"
    with interrupted(3):
        assert command(sft.COMMANDS, own)[0] == 130
    with interrupted(2):
        code, out, _ = command(sft.COMMANDS, own + " --seed 1 --rank 8")
    assert code == 130 and "starting anew: " in out and "rank 16, now 8, alpha 64, now 32, seed 0, now 1" in out
    assert len(list(run_dir.RUNS.glob("*/checkpoint-3"))) == 1, "the other run keeps its checkpoint"


def test_a_run_dir_of_other_flags_begins_anew(tmp_path, capsys):
    with closing(run_dir.open_run({"seed": 0}, str(tmp_path))):
        (tmp_path / "checkpoint-3").mkdir()
    with closing(run_dir.open_run({"seed": 1}, str(tmp_path))) as run:
        assert run.checkpoints() == []
    assert "holds another run (seed 0, now 1): starting anew" in capsys.readouterr().out


def test_a_run_of_unknown_settings_is_not_continued(tmp_path, capsys):
    (tmp_path / "settings.json").write_text("{")
    (tmp_path / "checkpoint-3").mkdir()
    with closing(run_dir.open_run({"seed": 1}, str(tmp_path))) as run:
        assert run.checkpoints() == []
    assert "starting anew" in capsys.readouterr().out


def test_what_decides_the_result_is_in_the_key(monkeypatch):
    row, collator = {"input_ids": [1], "attention_mask": [1], "labels": [1]}, sft.Collator(2)
    before = run_dir.describe(collator, [row], seed=0)
    assert run_dir.describe(sft.Collator(2), [row], seed=0) == before
    assert run_dir.describe(collator, [row], seed=1) != before
    assert run_dir.describe(collator, [{**row, "labels": [-100]}], seed=0) != before

    class Collator(sft.Collator):
        """Another one."""

    def collate(rows):
        return collator(rows)

    others = [run_dir.describe(other, [row], seed=0)["code"] for other in (Collator(2), collate, lambda rows: {})]
    assert len({before["code"], *others}) == 4


def test_what_the_students_functions_give_is_in_the_key(llm, tmp_path):
    """Not their text: whoever renames a variable need not train again."""

    def lora(recipe=DEFAULT_RECIPE, seed=0):
        return describe_model(llm, sft.add_lora(llm.reload_model(), recipe, seed))

    def arguments(**more):
        return trainer.describe_arguments(sft.training_arguments(DEFAULT_RECIPE, max_steps=2, **more))

    assert lora() == lora() and arguments(output_dir="x", run_name="x", report_to="tensorboard") == arguments()
    assert lora() not in (lora(replace(DEFAULT_RECIPE, alpha=16)), lora(seed=1))
    assert arguments() not in (arguments(weight_decay=0.1), arguments(max_grad_norm=0.5), arguments(seed=1))
    model = sft.add_lora(llm.reload_model(), DEFAULT_RECIPE, seed=0)
    with open_trainer(llm, model, tmp_path) as opened:
        assert (lora() | arguments()).items() <= opened.run.settings.items()


@pytest.mark.parametrize("package", ["torch", "transformers", "peft"])
def test_another_version_is_another_run(monkeypatch, package):
    before, version = run_dir.describe(None, []), run_dir.version
    monkeypatch.setattr(run_dir, "version", lambda name: "0.1" if name == package else version(name))
    assert run_dir.describe(None, []) != before


@pytest.mark.parametrize(
    "name", ["training/trainer.py", "training/batches.py", "training/_cuda_graphs.py", "guards/watchdog.py", "new.py"]
)
def test_an_edit_of_the_code_that_trains_is_another_run(monkeypatch, tmp_path, name):
    """Clipping, micro-batches, graphs: each decides what a resumed run would give."""
    assert [folder.name for folder in run_dir.DECIDING] == ["training", "guards"]
    for folder in run_dir.DECIDING:
        shutil.copytree(folder, tmp_path / folder.name)
    monkeypatch.setattr(run_dir, "DECIDING", (tmp_path / "training", tmp_path / "guards"))
    before = run_dir.describe(None, [])
    edited = tmp_path / (name if "/" in name else f"training/{name}")
    edited.write_text((edited.read_text() if edited.exists() else "") + "LIMIT = 1\n")
    assert run_dir.describe(None, []) != before


def test_two_processes_do_not_share_a_run(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(HomeworkError, match="the same training runs already"):
        Run(tmp_path, {})


def test_two_trainings_do_not_write_one_adapter(command, llm, tmp_path):
    """They have other settings, so each has a run folder of its own."""
    own = f"train --max-steps 1 --questions 1 --output-dir {tmp_path / 'sft_model'}"
    model = sft.add_lora(llm.reload_model(), DEFAULT_RECIPE, seed=0)
    with open_trainer(llm, model, tmp_path):
        code, out, err = command(sft.COMMANDS, own)
        assert code == 1 and f"another training is about to write {tmp_path / 'sft_model'}: wait for it" in err
        assert "step " not in out and len(list(run_dir.RUNS.glob("sft-*"))) == 2
    code, out, err = command(sft.COMMANDS, own)
    assert code == 0 and "adapter saved" in out, err
    assert sorted(path.name for path in (tmp_path / "sft_model").iterdir()) == sorted(ADAPTER_FILES)


@pytest.mark.parametrize(("name", "where"), [("train_to_the_end", HomeworkTrainer), ("check_disk_space", trainer)])
def test_a_run_that_fails_lets_go_of_its_folders(command, tmp_path, monkeypatch, name, where):
    monkeypatch.setattr(where, name, begin)
    own = f"train --max-steps 1 --questions 1 --output-dir {tmp_path / 'sft_model'}"
    for _ in range(2):
        assert "training began" in command(sft.COMMANDS, own)[2]
        assert not list((tmp_path / "sft_model").iterdir()), "a lock is left, and held until the collector comes"


def test_a_run_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeworkError, match=r"can't write to .*choose another --run-dir"):
        Run(tmp_path / "file", {})


def test_json_is_written_whole_or_not_at_all(tmp_path):
    files.write_json(tmp_path / "x.json", {"loss": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert files.read_json(tmp_path / "x.json") == {"loss": 1.0}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    (tmp_path / "x.json").write_text("{")
    assert files.read_json(tmp_path / "x.json") is None


def test_a_log_of_bad_numbers_can_still_be_read(tmp_path):
    with closing(Run(tmp_path, {})) as run:
        trainer.write_log(run, [{"step": 1, "loss": float("nan")}])
    assert json.loads((tmp_path / run_dir.LOG).read_text())["log"] == [{"step": 1, "loss": "nan"}]


def test_a_checkpoint_that_does_not_come_back_is_noticed(tmp_path, monkeypatch, command):
    with interrupted(3):
        assert command(sft.COMMANDS, line(tmp_path))[0] == 130
    monkeypatch.setattr(HomeworkTrainer, "_load_from_checkpoint", lambda *_: None)
    code, _, err = command(sft.COMMANDS, line(tmp_path))
    assert code == 1 and "did not come back into the model: begin anew with --restart" in err


def test_accuracy_is_measured_four_times_on_rows_of_their_own():
    assert [step for step in range(1, 129) if is_probe_step(step, 128)] == [32, 64, 96, 128]
    assert [step for step in range(1, 4) if is_probe_step(step, 3)] == [3]
    valid = Dataset("valid")
    probes = {question for question, _ in take_probes(Dataset("train"), valid)["valid"]}
    assert len(probes) == 50 and not probes & {question for question, _ in take_reported(valid, None)}


def test_long_runs_keep_a_checkpoint_every_minute(tmp_path, monkeypatch):
    class Control:
        should_save = False

    with closing(Run(tmp_path, {})) as run:
        keeper = CheckpointCallback(run, None)
        keeper.on_step_end(None, None, Control)
        assert not Control.should_save
        keeper.saved -= 61
        keeper.on_step_end(None, None, Control)
    assert Control.should_save


def test_tensorboard_is_one_flag_away(command, tmp_path):
    pytest.importorskip("tensorboard")
    code, _, err = command(sft.COMMANDS, line(tmp_path, "--report-to tensorboard", steps=2))
    assert code == 0, err
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_an_unknown_tracker_is_named(command, tmp_path):
    code, _, err = command(sft.COMMANDS, line(tmp_path, "--report-to tensorbord"))
    assert code == 1 and "tensorbord" in err and "Traceback" not in err
