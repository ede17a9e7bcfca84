"""A HomeworkTrainer on a few rows, made as train_model makes it, for tests that plant one fault in it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from homework.base_llm import BaseLLM
from homework.data import Dataset
from homework.sft import Collator, TokenizedDataset, format_example, training_arguments
from homework.training.recipe import DEFAULT_RECIPE
from homework.training.trainer import HomeworkTrainer


def few(split: str, count: int = 64) -> Dataset:
    """The first rows of a split."""
    dataset = Dataset(split)
    dataset.rows = dataset.rows[:count]
    return dataset


@contextlib.contextmanager
def open_trainer(llm: BaseLLM, model: Any, folder: Path, **changes: Any) -> Iterator[HomeworkTrainer]:
    """A Trainer of two steps, whose run is closed at the end; `changes` takes the place of its arguments, by name."""
    train = changes.get("train_data", few("train"))
    recipe, steps = changes.get("recipe", DEFAULT_RECIPE), changes.get("max_steps", 2)
    given = {
        "args": training_arguments(recipe, max_steps=steps),
        "data_collator": Collator(llm.pad_id),
        "train_dataset": TokenizedDataset(llm.tokenizer, train, format_example),
        "recipe": recipe,
        "train_data": train,
        "valid_data": few("valid"),
        "format_fn": format_example,
        "output": folder / "sft_model",
        "max_steps": steps,
    }
    (folder / "sft_model").mkdir(exist_ok=True)
    trainer = HomeworkTrainer(llm, model, **given | changes)
    with contextlib.closing(trainer.run):
        yield trainer
