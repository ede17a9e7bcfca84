"""The training that every benchmark varies: the recipe of the bundled model, quiet, in a folder that is thrown away.

python -m benchmarks.guard_cost           # uses it
"""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from peft import PeftModel

from homework.base_llm import BaseLLM
from homework.data import Dataset
from homework.runs import Run
from homework.sft import TokenizedDataset, format_example
from homework.training import Recipe, add_lora, choose_recipe


class Setup(NamedTuple):
    """What `homework.training.fit` needs."""

    llm: BaseLLM
    model: PeftModel
    rows: TokenizedDataset
    recipe: Recipe
    run: Run


@contextlib.contextmanager
def reference_run(seed: int) -> Iterator[Setup]:
    """A base model with fresh LoRA, the training rows and a folder; nothing is printed meanwhile."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        tempfile.TemporaryDirectory() as folder,
        Run(Path(folder), {}) as run,
    ):
        llm = BaseLLM("data/base_model")
        recipe = choose_recipe(llm.name, {})
        rows = TokenizedDataset(llm.tokenizer, Dataset("train"), format_example)
        yield Setup(llm, add_lora(llm.model, llm.name, recipe, seed), rows, recipe, run)
