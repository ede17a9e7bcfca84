"""What happens beside the steps: progress, accuracy on a few rows, checkpoints, and a stop that loses nothing."""

import copy
import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerCallback

from homework.base_llm import BaseLLM
from homework.common.errors import HomeworkError
from homework.data import benchmark
from homework.training import distributed
from homework.training.merged_lora import merged_lora
from homework.training.run_dir import Run, steps_of

PROBES = 4  # times in a run that accuracy is measured and a checkpoint kept
SAVE_SECONDS = 60  # a checkpoint at least so often, for runs of hours
Rows = Sequence[tuple[str, float]]


class Progress(TrainerCallback):
    """Prints loss, gradient norm, learning rate and speed about 20 times a run."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()
        self.first_step, self.first_token = state.global_step, state.num_input_tokens_seen

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" not in logs:
            return
        step, last = state.global_step, state.max_steps
        if step in (1, last) or step % max(1, last // 20) == 0:
            seconds = time.perf_counter() - self.started
            left = seconds / (step - self.first_step) * (last - step)
            speed = (state.num_input_tokens_seen - self.first_token) / seconds  # padding is no work done
            print(
                f"step {step:>4}/{last}  loss {logs['loss']:.4f}  grad norm {logs['grad_norm']:.3f}  "
                f"lr {logs['learning_rate']:.2e}  {speed:,.0f} tokens/s  {left:.0f} s to go",
                flush=True,
            )


def report_log(log: Sequence[dict]) -> None:
    """Print how the loss went and whether every gradient norm was finite."""
    steps = steps_of(log)
    first, last, norms = steps[0]["loss"], steps[-1]["loss"], [entry["grad_norm"] for entry in steps]
    print(
        f"loss {first:.3f} -> {last:.3f} ({last / first:.3f} of the first); gradient norm finite in "
        f"{sum(map(math.isfinite, norms))} of {len(steps)} steps, {min(norms):.3f} to {max(norms):.3f}"
    )


class AccuracyCallback(TrainerCallback):
    """Measures accuracy on a few fixed rows of each split, `PROBES` times a run, and keeps it in the log."""

    def __init__(self, llm: BaseLLM, probes: Mapping[str, Rows]) -> None:
        self.llm, self.probes = copy.copy(llm), probes

    def on_log(self, args: Any, state: Any, control: Any, model: nn.Module, logs: dict, **kwargs: Any) -> None:
        if "loss" not in logs or not is_probe_step(state.global_step, state.max_steps):
            return
        control.should_save = True
        if not distributed.is_first():
            return
        self.llm.model = model
        was_training = model.training
        model.eval()
        entry = {"step": state.global_step, **self.measure()}
        model.train(was_training)
        state.log_history.append(entry)
        shares = ", ".join(
            f"{entry[f'accuracy_{split}']:.2f} on {len(rows)} of {split}" for split, rows in self.probes.items()
        )
        print(f"step {state.global_step:>4}/{state.max_steps}  accuracy {shares}", flush=True)

    def measure(self) -> dict[str, float]:
        """The accuracy on each split; all questions are asked in one go, which takes half the time of two."""
        rows = [row for rows in self.probes.values() for row in rows]
        with merged_lora(self.llm.model):
            right = [sample.is_correct for sample in benchmark(self.llm, rows).samples]
        shares = {}
        for split, asked in self.probes.items():
            mine, right = right[: len(asked)], right[len(asked) :]
            shares[f"accuracy_{split}"] = sum(mine) / len(mine)
        return shares


def is_probe_step(step: int, last: int) -> bool:
    """Whether accuracy is measured after this step.  Example: of 128 steps, after 32, 64, 96 and 128; of 3, after 3"""
    return step == last or (last > PROBES**2 and step in {-(-last * part // PROBES) for part in range(1, PROBES + 1)})


class CheckpointCallback(TrainerCallback):
    """Keeps a checkpoint at least every minute, with its checksums, and checks that a resumed run has its weights."""

    def __init__(self, run: Run, resumed: Path | None) -> None:
        self.run, self.resumed = run, resumed
        self.saved = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        if self.resumed:
            check_resumed(model, self.resumed)
            print(f"resumed after step {state.global_step} of {state.max_steps} from {self.resumed}")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if distributed.any_asks(time.monotonic() - self.saved > SAVE_SECONDS):
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        distributed.wait_for_all()  # each has written its part
        if distributed.is_first():
            self.run.write_checksums(self.run.folder / f"checkpoint-{state.global_step}")
            for path in self.run.checkpoints()[2:]:
                shutil.rmtree(path)
        self.saved = time.monotonic()


def check_resumed(model: nn.Module, checkpoint: Path) -> None:
    """Raise HomeworkError unless the adapter in memory is the checkpoint's: peft only warns of keys that do not fit."""
    kept = load_file(checkpoint / "adapter_model.safetensors")
    ours = {name.replace(".default.", "."): p for name, p in model.named_parameters() if "lora_" in name}
    if set(kept) != set(ours) or any(not torch.equal(kept[name], ours[name].detach().cpu()) for name in kept):
        raise HomeworkError(f"{checkpoint} did not come back into the model: begin anew with --restart")


class Interrupted(KeyboardInterrupt):
    """The user stopped the training, and a checkpoint is kept."""


class InterruptCallback(TrainerCallback):
    """Turns Ctrl-C and SIGTERM into a checkpoint after the current step; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self.former: dict[int, Callable[..., Any] | int | None] = {}

    def __enter__(self) -> "InterruptCallback":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self.former[number] = signal.signal(number, self.ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def ask(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: the optimizer's step is finished first, because half a step is no state to resume."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("\nstopping after this step, to keep a checkpoint (Ctrl-C again: at once)", file=sys.stderr, flush=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.asked = distributed.any_asks(self.asked)
        if self.asked:
            control.should_save = control.should_training_stop = True
