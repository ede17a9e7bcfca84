"""The training that every benchmark varies: the recipe of the bundled model, quiet, in a folder that is thrown away."""

import contextlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from peft import PeftModel

from homework.base_llm import BaseLLM
from homework.data import Dataset, Row
from homework.sft import Collator, TokenizedDataset, add_lora, format_example, training_arguments
from homework.training.callbacks import AccuracyCallback
from homework.training.recipe import Recipe, choose_recipe
from homework.training.trainer import HomeworkTrainer


class Setup(NamedTuple):
    """A base model with fresh LoRA, the training rows, the recipe and a folder."""

    llm: BaseLLM
    model: PeftModel
    rows: TokenizedDataset
    recipe: Recipe
    folder: Path

    def make_trainer(
        self, rows: Sequence[Row] | None = None, *, max_steps: int | None = None, seed: int = 0, watch: bool = True
    ) -> HomeworkTrainer:
        """A Trainer, for other rows where they are given, without guards where `watch` is False."""
        trainer = HomeworkTrainer(
            self.llm,
            self.model,
            training_arguments(self.recipe, seed=seed, max_steps=max_steps or -1),
            Collator(self.llm.pad_id),
            self.rows if rows is None else rows,
            recipe=self.recipe,
            train_data=Dataset("train"),
            valid_data=Dataset("valid"),
            format_fn=format_example,
            output=self.folder / "sft_model",
            run_dir=str(self.folder / "run"),
            max_steps=max_steps,
            watch=watch,
        )
        trainer.remove_callback(AccuracyCallback)  # the training alone is measured
        return trainer

    def train(self, rows: Sequence[Row] | None = None, **options: Any) -> list[dict]:
        """Train as `make_trainer` says; returns the log."""
        trainer = self.make_trainer(rows, **options)
        with contextlib.closing(trainer.run):
            trainer.train()
        return trainer.state.log_history


@contextlib.contextmanager
def reference_run(seed: int) -> Iterator[Setup]:
    """A base model with fresh LoRA, the training rows and a folder; nothing is printed meanwhile."""
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sft_model").mkdir()
        llm = BaseLLM("data/base_model")
        recipe = choose_recipe(llm.name, {})
        rows = TokenizedDataset(llm.tokenizer, Dataset("train"), format_example)
        yield Setup(llm, add_lora(llm.model, recipe, seed), rows, recipe, Path(folder))
