"""The machinery under `homework.sft.train_model`: recipes, LoRA, batches and the Trainer.

python -m homework.sft train          # runs it
"""

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerState, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from homework import processes
from homework.callbacks import Curve as Curve
from homework.callbacks import Interrupted, Keeper, Progress, Stopper, prove_resume
from homework.checkpoint import BUNDLED_NAME
from homework.data import IGNORE_INDEX, Row
from homework.errors import HomeworkError, one_line
from homework.first_step import StepCount, check_trainable
from homework.memory import choose_micro_batch, settled
from homework.runs import LOG, Run, now, step_of, write_json
from homework.watchdog import WatchedTrainer


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters that are known to work for a base model."""

    epochs: int
    batch_size: int
    learning_rate: float
    rank: int
    alpha: int


# Bundled: 2 to 6 epochs at 1e-3 to 2e-3 all gave 0.956 to 0.962 on `valid`, one seed each. Others: what students of
# SmolLM2-360M-Instruct reached 0.66 to 0.71 with.
RECIPES = {BUNDLED_NAME: Recipe(epochs=4, batch_size=32, learning_rate=2e-3, rank=16, alpha=64)}
DEFAULT_RECIPE = Recipe(epochs=5, batch_size=32, learning_rate=8e-4, rank=8, alpha=32)


def choose_recipe(name: str, given: dict[str, Any]) -> Recipe:
    """The recipe of a base model with the values that the user gave; printed."""
    recipe = replace(
        RECIPES.get(name, DEFAULT_RECIPE), **{key: value for key, value in given.items() if value is not None}
    )
    values = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    print("recipe: " + ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in values.items()))
    return recipe


def check_values(**values: float | None) -> None:
    """Raise HomeworkError unless each value that is given is positive and finite."""
    for key, value in values.items():
        if value is not None and not 0 < value < float("inf"):
            raise HomeworkError(f"--{key.replace('_', '-')} must be positive, got {value}")


def check_batch(recipe: Recipe, micro_batch_size: int | None, rows: int) -> int:
    """The rows on the device at once.

    Raises:
        HomeworkError: unless they divide the batch among all processes, and the batch is no more than there are rows.
    """
    world = processes.world()
    micro = micro_batch_size or recipe.batch_size // world
    if micro < 1 or recipe.batch_size % (micro * world):
        among = f" among {world} processes" if world > 1 else ""
        raise HomeworkError(f"--micro-batch-size must divide the batch size {recipe.batch_size}{among}, got {micro}")
    if 0 < rows % recipe.batch_size < world:
        raise HomeworkError(f"the last batch has fewer rows than there are processes, {world}: change --batch-size")
    if recipe.batch_size > rows:
        raise HomeworkError(f"--batch-size {recipe.batch_size} is more than the {rows} training rows")
    return micro


def add_lora(model: PreTrainedModel, name: str, recipe: Recipe, seed: int) -> PeftModel:
    """Freeze the base and put LoRA on all its linear layers; `name` is what the adapter will call the base."""
    set_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=recipe.rank, lora_alpha=recipe.alpha, target_modules="all-linear", lora_dropout=0.0
    )
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = name
    # Without a gradient at the inputs, checkpointing would cut the adapters off. Harmless elsewhere, so always on.
    adapted.enable_input_require_grads()
    trainable, total = adapted.get_nb_trainable_parameters()
    print(f"LoRA: {trainable:,} trainable of {total:,} parameters, the base is frozen")
    return adapted


class Collator:
    """Pads rows on the right and asks the model for the logits of supervised positions only.

    Padding is masked by length, never by the pad id, which is EOS here and has to be learned. Labels are padded,
    never rebuilt. The head computes (B, K, V) logits with K = 10 to 16 instead of (B, T, V): same loss, less work.

    Args:
        pad_id: fills `input_ids`.
        multiple: T and K are multiples of it. On a GPU 8, so that few shapes occur: each is recorded once.
    """

    def __init__(self, pad_id: int, multiple: int | None = None) -> None:
        self.pad_id = pad_id
        self.multiple = multiple or (8 if torch.cuda.is_available() else 1)

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """A batch with `input_ids`, `attention_mask`, `labels` (B, T), `logits_to_keep`, `shift_labels` (B, K)."""
        # The logits at position t predict the token at t + 1.
        kept = [[t - 1 for t, label in enumerate(row["labels"]) if t and label != IGNORE_INDEX] for row in rows]
        targets = [[row["labels"][t + 1] for t in positions] for row, positions in zip(rows, kept, strict=True)]
        return {
            "input_ids": pad([row["input_ids"] for row in rows], self.pad_id, self.multiple),
            "attention_mask": pad([row["attention_mask"] for row in rows], 0, self.multiple),
            "labels": pad([row["labels"] for row in rows], IGNORE_INDEX, self.multiple),
            "logits_to_keep": pad(kept, 0, self.multiple),
            "shift_labels": pad(targets, IGNORE_INDEX, self.multiple),
        }


def pad(rows: Sequence[list[int]], value: int, multiple: int = 1) -> torch.Tensor:
    """Rows of different length as one tensor, filled on the right.  Example: [[1, 2], [3]], 0 -> [[1, 2], [3, 0]]"""
    width = -(-max(map(len, rows)) // multiple) * multiple
    return torch.tensor([row + [value] * (width - len(row)) for row in rows], dtype=torch.long)


class OneDeviceArguments(TrainingArguments):
    """Training arguments that see one GPU: DataParallel would only add copies of so small a model."""

    @property
    def n_gpu(self) -> int:
        return min(1, super().n_gpu)


def fit(
    model: PeftModel,
    rows: Sequence[Row],
    recipe: Recipe,
    collator: Collator,
    *,
    run: Run,
    callbacks: Sequence[TrainerCallback] = (),
    trainer_class: type[Trainer] = WatchedTrainer,
    max_steps: int | None = None,
    micro_batch_size: int | None = None,
    report_to: str = "none",
    **options: Any,
) -> list[dict]:
    """Train the adapter in place, going on from the newest whole checkpoint of `run`.

    Args:
        model: base and LoRA.
        rows: the tokenized training rows.
        recipe: the hyper-parameters.
        collator: makes batches of rows.
        run: where checkpoints and log go.
        callbacks: called beside those of this module.
        trainer_class: ResumableTrainer to go without the watchdog, as the benchmarks do.
        max_steps: stop after so many steps.
        micro_batch_size: rows on the device at once; chosen by its memory if left out.
        report_to: a tracker that transformers knows, tensorboard for one.
        options: more fields of transformers' TrainingArguments.

    Returns:
        The log: an entry for each optimizer step, and one for each measured accuracy.

    Raises:
        HomeworkError: if the watchdog stops the run, memory or disk is full, or a value does not fit.
        Interrupted: after Ctrl-C, with a checkpoint kept.
    """
    check_trainable(model, recipe.rank)
    check_batch(recipe, micro_batch_size, len(rows))
    share = recipe.batch_size // processes.world()
    micro = micro_batch_size or processes.first_decides(lambda: choose_micro_batch(model, rows, collator, share))
    checkpoint = processes.first_decides(run.newest_checkpoint)
    arguments = make_arguments(recipe, run.folder, micro, max_steps, report_to, **options)
    with Stopper() as stopper, settled():
        steps = StepCount(len(rows), recipe.batch_size, recipe.epochs, max_steps)
        if checkpoint and step_of(checkpoint) == steps.expected:
            return restore(model, checkpoint)
        beside = [steps, Progress(), *callbacks, Keeper(run, checkpoint), stopper]
        trainer = trainer_class(model, arguments, collator, rows, callbacks=beside)
        trainer.remove_callback(PrinterCallback)  # ours replaces it
        processes.check_world(trainer.args.world_size)
        try:
            train(trainer, checkpoint, micro)
        finally:
            if processes.is_first():
                write_log(run, trainer.state.log_history)
    step, last = trainer.state.global_step, trainer.state.max_steps
    if step < last or stopper.asked:
        raise Interrupted(
            f"stopped after step {step} of {last}, the former adapter is unchanged; the same command goes on from here"
        )
    return trainer.state.log_history


def restore(model: PeftModel, checkpoint: Path) -> list[dict]:
    """Take the weights and the log of a run's last checkpoint; the Trainer would go one step beyond the end."""
    print(f"all {step_of(checkpoint)} steps are in {checkpoint}: nothing is left but to save")
    set_peft_model_state_dict(model, load_file(checkpoint / "adapter_model.safetensors"))
    prove_resume(model, checkpoint)
    return TrainerState.load_from_json(str(checkpoint / "trainer_state.json")).log_history


def make_arguments(
    recipe: Recipe, folder: Path, micro: int, max_steps: int | None, report_to: str, **options: Any
) -> "OneDeviceArguments":
    """The Trainer's arguments for a recipe.

    Raises:
        HomeworkError: if the tracker `report_to` is unknown or not installed.
    """
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")  # transformers takes it from nowhere else
    return OneDeviceArguments(
        output_dir=str(folder),
        num_train_epochs=recipe.epochs,
        max_steps=max_steps or -1,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=recipe.batch_size // (micro * processes.world()),
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        remove_unused_columns=False,  # the collator needs every field
        label_names=["labels"],
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would print a NaN loss as 0.0
        include_num_input_tokens_seen="non_padding",
        save_strategy="no",  # the callbacks say when
        report_to=report_to,
        disable_tqdm=True,
        use_cpu=processes.world() > 1 and not torch.cuda.is_available(),  # else each process trains for itself
        ddp_find_unused_parameters=False,  # LoRA uses all of its weights in every step
        **options,
    )


def train(trainer: Trainer, checkpoint: Path | None, micro: int) -> None:
    """Run the trainer.

    Raises:
        HomeworkError: if the memory, or the disk of the checkpoints, is full, or a checkpoint can't be continued.
    """
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        way_out = f"--micro-batch-size {micro // 2}" if micro > 1 else "--gradient-checkpointing"
        raise HomeworkError(f"out of memory with {micro} rows at once: try {way_out}") from error
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise HomeworkError(
            f"can't write a checkpoint to {trainer.args.output_dir} ({reason}): free space, then the same command goes "
            "on from the last whole one"
        ) from error


def write_log(run: Run, history: list[dict]) -> None:
    """Write settings and log of a run as JSON, whatever ended it. A number that is not finite is written as text."""
    log = [{key: value if math.isfinite(value) else str(value) for key, value in entry.items()} for entry in history]
    with contextlib.suppress(OSError):  # a full disk has been reported; it must not hide what ended the run
        write_json(run.folder / LOG, {"written": now(), "settings": run.settings, "log": log})


def steps_of(log: Sequence[dict]) -> list[dict]:
    """The entries of optimizer steps: loss, grad_norm, learning_rate."""
    return [entry for entry in log if "loss" in entry]


def report_log(log: list[dict]) -> None:
    """Print how the loss went and whether every gradient norm was finite."""
    steps = steps_of(log)
    first, last = steps[0]["loss"], steps[-1]["loss"]
    norms = torch.tensor([entry["grad_norm"] for entry in steps])
    finite = int(torch.isfinite(norms).sum())
    print(
        f"loss {first:.3f} -> {last:.3f} ({last / first:.3f} of the first); "
        f"gradient norm finite in {finite} of {len(steps)} steps, {norms.min():.3f} to {norms.max():.3f}"
    )
