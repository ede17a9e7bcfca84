"""Several processes: each row once in each epoch, and two processes give the adapter of one."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from homework.common.base_model import ROOT
from homework.common.errors import HomeworkError
from homework.common.files import read_json
from homework.training import distributed
from homework.training.batches import EpochSampler, MicroBatches
from homework.training.recipe import DEFAULT_RECIPE, check_batch
from homework.training.run_dir import LOG

STEPS = 32  # an epoch, with its short last batch
TORCHRUN = "torch.distributed.run --nproc-per-node 2 --master-port 29531"
ACCELERATE = (
    "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --main_process_port 29533 "
    "--mixed_precision no --dynamo_backend no"
)


def train(folder, launcher: str = "", steps: int = STEPS) -> tuple[list[float], torch.Tensor, str]:
    """Losses, adapter and output of a run on the CPU, of two processes where there is a launcher."""
    line = [sys.executable, *(["-m", *launcher.split()] if launcher else []), "-m", "homework.sft", "train"]
    line += ["--max-steps", str(steps), "--questions", "20"]
    line += ["--output-dir", str(folder / "sft_model"), "--run-dir", str(folder / "run")]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    losses = [entry["loss"] for entry in read_json(folder / "run" / LOG)["log"] if "loss" in entry]
    weights = load_file(folder / "sft_model" / "adapter_model.safetensors")
    return losses, torch.cat([weights[name].flatten() for name in sorted(weights)]), done.stdout


@pytest.mark.everything
def test_two_processes_train_the_adapter_of_one(tmp_path):
    (alone, one, _), (together, two, output) = train(tmp_path / "1"), train(tmp_path / "2", TORCHRUN)
    assert len(alone) == len(together) == STEPS
    assert max(abs(a - b) for a, b in zip(alone, together, strict=True)) <= 1e-4
    assert torch.nn.functional.cosine_similarity(one, two, dim=0) > 0.999
    assert output.count("adapter saved in") == 1  # by the first process, which proved it
    launched = train(tmp_path / "3", ACCELERATE, steps=2)[0]
    assert max(abs(a - b) for a, b in zip(alone, launched, strict=False)) <= 1e-4
    assert "x 2" in read_json(tmp_path / "3" / "run" / LOG)["settings"]["device"]


@pytest.mark.parametrize(
    ("rows", "batch", "micro", "world"), [(1000, 32, 4, 8), (1000, 32, 16, 2), (33, 8, 2, 1), (29, 8, 2, 2)]
)
def test_each_row_is_seen_once_by_one_process(rows, batch, micro, world):
    order = EpochSampler(list(range(rows)), batch, 0, lambda: 0)
    shares = [MicroBatches(order, batch, micro, rank, world) for rank in range(world)]
    assert sorted(row for share in shares for part in share for row in part) == list(range(rows))
    assert {len(list(share)) for share in shares} == {len(shares[0])}  # else one would wait for ever
    assert all(1 <= len(part) <= micro for share in shares for part in share)


def test_processes_that_would_train_apart_are_noticed(monkeypatch):
    """As happens where the Trainer does not know that it may use the CPU: each then trains an adapter of its own."""
    monkeypatch.setattr(distributed, "world", lambda: 2)
    with pytest.raises(HomeworkError, match="2 processes were launched, but the Trainer sees 1"):
        distributed.check_world(1)


def test_a_last_batch_that_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 8)
    with pytest.raises(HomeworkError, match="the last batch has fewer rows than there are processes, 8"):
        check_batch(DEFAULT_RECIPE, None, 32 * 4 + 7)
    assert check_batch(DEFAULT_RECIPE, None, 1000) == 4
