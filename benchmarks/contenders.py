"""One training in a process of its own: this homework's, the course's former recipe, or TRL's.

    python -m benchmarks.contenders ours data/base_model FOLDER

benchmarks/training.py starts these; a process of its own makes peak memory and the seconds of the whole process honest.
All see the same rows, labels, rank, alpha, epochs, batch size, learning rate and precision.
"""

import atexit
import gc
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from homework.common.cli import run
from homework.common.errors import HomeworkError
from homework.common.files import write_json
from homework.data import IGNORE_INDEX, Dataset, Row
from homework.sft import TokenizedDataset, format_example, tokenize, train_model

COLLECTOR = gc.get_threshold()
PADDED = 128  # what the course's recipe pads every row to


class Job(NamedTuple):
    """What every contender trains."""

    base: str
    output: Path
    epochs: int | None
    max_steps: int | None
    seed: int


class Trained(NamedTuple):
    """The log of a training, and the seconds of it in which accuracy was measured."""

    log: list[dict]
    probe_seconds: float = 0.0


def train_ours(job: Job) -> Trained:
    """The command of the handout, with every guard, the probes of accuracy and the proof by reloading."""
    from homework.training.callbacks import AccuracyCallback
    from homework.training.trainer import HomeworkTrainer

    kept: list[dict] = []
    seconds: list[float] = []
    train, measure = HomeworkTrainer.train, AccuracyCallback.measure

    def train_and_keep(self: Any) -> Any:
        output = train(self)
        kept.extend(self.state.log_history)
        return output

    def measure_and_time(self: Any) -> dict[str, float]:
        started = time.perf_counter()
        shares = measure(self)
        seconds.append(time.perf_counter() - started)
        return shares

    HomeworkTrainer.train, AccuracyCallback.measure = train_and_keep, measure_and_time
    options = {"epochs": job.epochs, "max_steps": job.max_steps, "seed": job.seed, "checkpoint": job.base}
    train_model(output_dir=str(job.output / "sft_model"), run_dir=str(job.output / "run"), questions=1, **options)
    return Trained(kept, sum(seconds))


def prepare(job: Job) -> tuple[Any, Any, dict[str, Any]]:
    """Base model and recipe as the homework has them, and the arguments that every Trainer gets."""
    from homework.base_llm import BaseLLM
    from homework.training.recipe import choose_recipe

    llm = BaseLLM(job.base)
    recipe = choose_recipe(llm.name, {"epochs": job.epochs})
    arguments = {
        "output_dir": str(job.output),
        "num_train_epochs": recipe.epochs,
        "max_steps": job.max_steps or -1,
        "per_device_train_batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "save_strategy": "no",
        "report_to": "none",
        "seed": job.seed,
        "disable_tqdm": True,
        "include_num_input_tokens_seen": "non_padding",
    }
    return llm, recipe, arguments


def lora_config(recipe: Any) -> Any:
    """The LoRA of the homework."""
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", r=recipe.rank, lora_alpha=recipe.alpha, target_modules="all-linear")


class PaddedRows:
    """The rows of the course's recipe: tokenized again in every epoch, and padded to 128."""

    def __init__(self, tokenizer: Any, data: Dataset, pad_id: int) -> None:
        self.tokenizer, self.data, self.pad_id = tokenizer, data, pad_id

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Row:
        row = tokenize(self.tokenizer, **format_example(*self.data[index]))
        fills = {"input_ids": self.pad_id, "attention_mask": 0, "labels": IGNORE_INDEX}
        return {name: values + [fills[name]] * (PADDED - len(values)) for name, values in row.items()}


def train_course(job: Job) -> Trained:
    """The recipe that this course handed out: padded to 128, gradient checkpointing, tokenized on the fly."""
    from peft import get_peft_model
    from transformers import Trainer, TrainingArguments, default_data_collator

    llm, recipe, arguments = prepare(job)
    model = get_peft_model(llm.model, lora_config(recipe))
    model.enable_input_require_grads()
    rows = PaddedRows(llm.tokenizer, Dataset("train"), llm.pad_id)
    settings = TrainingArguments(**arguments, activation_checkpointing=True, label_names=["labels"])
    trainer = Trainer(model, settings, default_data_collator, rows)
    return finish(trainer, job)


def train_trl(job: Job, **options: Any) -> Trained:
    """TRL's SFTTrainer on prompts and completions, at its defaults but for the precision, which all share."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    llm, recipe, arguments = prepare(job)
    data = Dataset("train")
    examples = [format_example(*data[index]) for index in range(len(data))]
    columns = {"prompt": [e["question"] for e in examples], "completion": [f" {e['answer']}" for e in examples]}
    settings = SFTConfig(**arguments, bf16=llm.device == "cuda", **options)
    trainer = SFTTrainer(
        llm.model,
        settings,
        train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=llm.tokenizer,
        peft_config=lora_config(recipe),
    )
    check_same_rows(trainer, TokenizedDataset(llm.tokenizer, data, format_example))
    return finish(trainer, job)


def check_same_rows(trainer: Any, rows: TokenizedDataset) -> None:
    """Stop unless the batches hold our labels: other tokens would compare with nothing."""
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(len(rows))])
    for index, row in enumerate(rows.rows):
        length = len(row["labels"])
        if batch["input_ids"][index, :length].tolist() != row["input_ids"]:
            raise HomeworkError(f"row {index} has other tokens than ours")
        if batch["labels"][index, :length].tolist() != row["labels"]:
            raise HomeworkError(f"row {index} has other labels than ours")


def train_trl_best(job: Job) -> Trained:
    """TRL at its best here: nothing is computed twice, and batches hold rows of similar length."""
    return train_trl(job, activation_checkpointing=False, train_sampling_strategy="group_by_length")


def finish(trainer: Any, job: Job) -> Trained:
    """Train, and save the adapter."""
    trainer.train()
    trainer.model.save_pretrained(job.output / "sft_model")
    return Trained(trainer.state.log_history)


CONTENDERS: dict[str, Callable[[Job], Trained]] = {
    "ours": train_ours,
    "course": train_course,
    "trl": train_trl,
    "trl-best": train_trl_best,
}


def peak_bytes() -> int:
    """The most memory that this process had: of the GPU where it trained on one."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(
    name: str, base: str, folder: str, *, epochs: int | None = None, max_steps: int | None = None, seed: int = 0
) -> None:
    """Train one contender, save its adapter, and write what was measured.

    Args:
        name: ours, course, trl or trl-best.
        base: folder of the base model.
        folder: where result.json and sft_model go.
        epochs: passes over the rows; the recipe's if left out.
        max_steps: stop after so many steps.
        seed: of weights and order.
    """
    if name != "ours":  # what homework/common/runtime.py does for the homework's command is no part of theirs
        gc.set_threshold(*COLLECTOR)
        atexit.unregister(gc.freeze)
    trained = CONTENDERS[name](Job(base, Path(folder), epochs, max_steps, seed))
    last = next(entry for entry in reversed(trained.log) if "train_runtime" in entry)
    seconds = last["train_runtime"] - trained.probe_seconds
    tokens = trained.log[-1]["num_input_tokens_seen"]
    result = {
        "train_seconds": seconds,
        "probe_seconds": trained.probe_seconds,
        "peak_bytes": peak_bytes(),
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
    }
    write_json(Path(folder) / "result.json", result)


if __name__ == "__main__":
    run(main, "python -m benchmarks.contenders")
