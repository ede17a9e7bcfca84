"""The machinery under `homework.sft.train_model`: recipes, LoRA, batches and the Trainer.

python -m homework.sft train          # runs it
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from homework.checkpoint import BUNDLED_NAME
from homework.data import IGNORE_INDEX, Row
from homework.errors import HomeworkError
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
    print(f"LoRA: {trainable:,} trainable of {total:,} parameters")
    return adapted


class Collator:
    """Pads rows on the right and asks the model for the logits of supervised positions only.

    Padding is masked by length, never by the pad id, which is EOS here and has to be learned. Labels are padded,
    never rebuilt. The head computes (B, K, V) logits with K = 10 to 16 instead of (B, T, V): same loss, less work.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """A batch with `input_ids`, `attention_mask`, `labels` (B, T), `logits_to_keep`, `shift_labels` (B, K)."""
        # The logits at position t predict the token at t + 1.
        kept = [[t - 1 for t, label in enumerate(row["labels"]) if t and label != IGNORE_INDEX] for row in rows]
        targets = [[row["labels"][t + 1] for t in positions] for row, positions in zip(rows, kept, strict=True)]
        return {
            "input_ids": pad([row["input_ids"] for row in rows], self.pad_id),
            "attention_mask": pad([row["attention_mask"] for row in rows], 0),
            "labels": pad([row["labels"] for row in rows], IGNORE_INDEX),
            "logits_to_keep": pad(kept, 0),
            "shift_labels": pad(targets, IGNORE_INDEX),
        }


def pad(rows: Sequence[list[int]], value: int) -> torch.Tensor:
    """Rows of different length as one tensor, filled on the right.  Example: [[1, 2], [3]], 0 -> [[1, 2], [3, 0]]"""
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows], dtype=torch.long)


class OneDeviceArguments(TrainingArguments):
    """Training arguments that see one GPU: DataParallel would only add copies of so small a model."""

    @property
    def n_gpu(self) -> int:
        return min(1, super().n_gpu)


class Progress(TrainerCallback):
    """Prints loss, gradient norm and learning rate about 20 times a run."""

    def __init__(self) -> None:
        self.started = time.perf_counter()

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if "loss" not in logs:
            return
        step, last = state.global_step, state.max_steps
        if step == 1 or step == last or step % max(1, last // 20) == 0:
            seconds = time.perf_counter() - self.started
            print(
                f"step {step:>4}/{last}  loss {logs['loss']:.4f}  grad norm {logs['grad_norm']:.3f}  "
                f"lr {logs['learning_rate']:.2e}  {seconds:.0f} s, {seconds / step * (last - step):.0f} s to go",
                flush=True,
            )


def fit(
    model: PeftModel,
    rows: Sequence[Row],
    recipe: Recipe,
    pad_id: int,
    seed: int,
    max_steps: int | None,
    micro_batch_size: int | None,
    gradient_checkpointing: bool,
) -> list[dict]:
    """Train the adapter in place and return the log, one entry for each optimizer step."""
    micro = micro_batch_size or recipe.batch_size
    if micro < 1 or recipe.batch_size % micro:
        raise HomeworkError(f"--micro-batch-size must divide the batch size {recipe.batch_size}, got {micro}")
    if recipe.batch_size > len(rows):
        raise HomeworkError(f"--batch-size {recipe.batch_size} is more than the {len(rows)} training rows")
    with tempfile.TemporaryDirectory() as scratch:
        arguments = OneDeviceArguments(
            output_dir=scratch,
            seed=seed,
            num_train_epochs=recipe.epochs,
            max_steps=max_steps or -1,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=recipe.batch_size // micro,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="linear",
            optim="adamw_torch_fused",
            train_sampling_strategy="group_by_length",
            activation_checkpointing=gradient_checkpointing,
            remove_unused_columns=False,  # the collator needs every field
            label_names=["labels"],
            logging_steps=1,
            logging_nan_inf_filter=False,  # it would print a NaN loss as 0.0
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        trainer = WatchedTrainer(model, arguments, Collator(pad_id), rows, callbacks=[Progress()])
        trainer.remove_callback(PrinterCallback)  # ours replaces it
        try:
            trainer.train()
        except torch.OutOfMemoryError as error:
            way_out = f"--micro-batch-size {micro // 2}" if micro > 1 else "--gradient-checkpointing"
            raise HomeworkError(f"out of memory with {micro} rows at once: try {way_out}") from error
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    report_log(log)
    return log


def report_log(log: list[dict]) -> None:
    """Print how the loss went and whether every gradient norm was finite."""
    first, last = log[0]["loss"], log[-1]["loss"]
    norms = torch.tensor([entry["grad_norm"] for entry in log])
    finite = int(torch.isfinite(norms).sum())
    print(
        f"loss {first:.3f} -> {last:.3f} ({last / first:.3f} of the first); "
        f"gradient norm finite in {finite} of {len(log)} steps, {norms.min():.3f} to {norms.max():.3f}"
    )
