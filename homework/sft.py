"""Supervised fine-tuning: the labels, the training run, and the adapter that comes out of it.

    python -m homework.sft train                          # the bundled base model, under a minute on two cores
    python -m homework.sft train --max-steps 2            # a quick end-to-end run
    python -m homework.sft train --checkpoint HuggingFaceTB/SmolLM2-360M-Instruct
    python -m homework.sft test                           # score the adapter again

torch, transformers and peft are imported where they are used: they take seconds, and ``--help`` should not.
"""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homework.base_llm import BaseLLM
from homework.common.cli import Command, run
from homework.common.errors import HomeworkError, explain_error
from homework.common.zip_contents import ADAPTER_FOLDER_NAME, CODE
from homework.data import IGNORE_INDEX, Dataset, ListLike, Row, take_rows
from homework.guards.label_check import plain_row
from homework.reporting.results import report_accuracy, report_run
from homework.training.evaluation import take_reported
from homework.training.recipe import Recipe, choose_recipe
from homework.training.start import begin, default_output

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from homework.training.trainer import HomeworkArguments

ADAPTER_FOLDER = CODE / ADAPTER_FOLDER_NAME


def format_example(question: str, answer: float | str) -> dict[str, str]:
    """The training text of a row: three significant digits are enough for the 5 % rule, and quicker to learn than more.

    Example: ('How many g in 6 kg?', 6000.0) -> {'question': 'How many g in 6 kg?', 'answer': '<answer>6000</answer>'}
    """
    # BEGIN SOLUTION task 3: format_example
    # Hint: three significant digits; very large and very small numbers read better with an exponent, 1.5e7.
    digits = Decimal(f"{float(answer):.2e}").normalize()
    power = digits.adjusted()
    plain = digits == 0 or -5 < power < 6  # beyond, zeros are harder to count than an exponent is to read
    text = f"{digits:f}" if plain else f"{digits.scaleb(-power).normalize():f}e{power}"
    return {"question": question, "answer": f"<answer>{text}</answer>"}
    # END SOLUTION


def tokenize(tokenizer: "PreTrainedTokenizerBase", question: str, answer: str) -> Row:
    """One training row: the question as context, the answer and the one EOS as labels.

    The separating space belongs to the answer (' <' is one token in SmolLM2), so the mask ends where the question's own
    ids end: these are what the model gets at inference. Nothing is padded here; the collator does that.

        ids       Ġmin   ?      Ġ<   answer   >   1   2   0   </   answer   >   EOS
        labels    -100   -100   Ġ<   answer   >   1   2   0   </   answer   >   EOS

    Returns:
        `input_ids`, `attention_mask` and `labels`, lists of one length T.

    Raises:
        HomeworkError: if the row is longer than the model reads. All else is checked by homework/guards/.
    """
    # BEGIN SOLUTION task 3: tokenize
    # Hint: what does the separating space become a part of? Look with python -m homework.sft show.
    prompt = tokenizer(question)["input_ids"]
    ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
    if len(ids) > tokenizer.model_max_length:
        raise HomeworkError(f"{len(ids)} tokens, but the model reads {tokenizer.model_max_length}: {question!r:.80}")
    return {
        "input_ids": ids,
        "attention_mask": [1] * len(ids),
        "labels": [IGNORE_INDEX] * len(prompt) + ids[len(prompt) :],
    }
    # END SOLUTION


class TokenizedDataset:
    """The tokenized rows of `data`, made once; homework/guards/label_check.py checks them.

    Args:
        tokenizer: of the model to train.
        data: (question, answer) rows; later with the reasoning as a third.
        format_fn: turns a row into the keyword arguments of `tokenize`, as `format_example` does.

    Raises:
        HomeworkError: naming the first row that can't be tokenized.
    """

    def __init__(
        self, tokenizer: Any, data: ListLike[tuple[Any, ...]], format_fn: Callable[..., dict[str, str]]
    ) -> None:
        # BEGIN SOLUTION task 3: TokenizedDataset
        # Hint: plain_row makes lists of what a tokenizer returns; name the row that fails.
        self.rows: list[Row] = []
        for index, row in enumerate(data[i] for i in range(len(data))):
            try:
                self.rows.append(plain_row(tokenize(tokenizer, **format_fn(*row))))
            except Exception as error:  # whatever a rewritten tokenize raises, the row is what helps
                raise HomeworkError(f"row {index}: {explain_error(error)}") from error
        # END SOLUTION

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


class Collator:
    """Makes a batch of rows, padded on the right to the longest of them.

    Padding is masked by length, never by the pad id, which is EOS here and has to be learned. Labels are padded with
    -100, never rebuilt.

    Args:
        pad_id: fills `input_ids`.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[Row]) -> "dict[str, Tensor]":
        """A batch with `input_ids`, `attention_mask` and `labels`, each (B, T)."""
        import torch

        # BEGIN SOLUTION task 4: collate
        # Hint: each of the three fields is filled with another number.
        width = max(len(row["input_ids"]) for row in rows)
        fills = {"input_ids": self.pad_id, "attention_mask": 0, "labels": IGNORE_INDEX}
        return {
            name: torch.tensor([row[name] + [fill] * (width - len(row[name])) for row in rows])
            for name, fill in fills.items()
        }
        # END SOLUTION


def add_lora(model: "PreTrainedModel", recipe: Recipe, seed: int) -> "PeftModel":
    """Freeze the base model and put LoRA on all its linear layers, with first values that depend on the seed alone.

    The inputs of the layers require a gradient: without it, checkpointing of the re-entrant kind trains nothing.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    # BEGIN SOLUTION task 4: add_lora
    # Hint: a LoraConfig for a causal language model, on all linear layers, without dropout; then get_peft_model.
    set_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        target_modules="all-linear",
        lora_dropout=0.0,
    )
    adapted = get_peft_model(model, config)
    adapted.enable_input_require_grads()
    return adapted
    # END SOLUTION


def training_arguments(recipe: Recipe, **more: Any) -> "HomeworkArguments":
    """The Trainer's arguments for a recipe.

    Args:
        recipe: epochs, batch size and learning rate; the rate falls linearly to zero.
        more: other fields of transformers' TrainingArguments, as they are: seed and max_steps among them.
    """
    from homework.training.trainer import HomeworkArguments

    # BEGIN SOLUTION task 4: training_arguments
    # Hint: HomeworkArguments has the fields of transformers' TrainingArguments, and defaults that the guards rest on.
    return HomeworkArguments(
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        **more,
    )
    # END SOLUTION


def train_model(
    output_dir: str | None = None,
    *,
    checkpoint: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    micro_batch_size: int | None = None,
    learning_rate: float | None = None,
    rank: int | None = None,
    alpha: int | None = None,
    max_steps: int | None = None,
    seed: int = 0,
    gradient_checkpointing: bool = False,
    questions: int | None = None,
    run_dir: str | None = None,
    restart: bool = False,
    report_to: str = "none",
) -> None:
    """Fine-tune the base model with LoRA on data/train.json, save the adapter, and measure it on data/valid.json.

    What is left out comes from the recipe of the base model (homework/training/recipe.py). After an interruption, the
    same command continues at the last checkpoint.

    Args:
        output_dir: folder of the adapter; homework/sft_model, which the zip takes, or runs/quick with max_steps.
        checkpoint: folder or hub name of the base model; else HOMEWORK_CHECKPOINT, else the bundled model.
        epochs: passes over the training rows.
        batch_size: rows in an optimizer step.
        micro_batch_size: rows on the device at once, a divisor of batch_size; smaller needs less memory.
        learning_rate: the highest one; it decays linearly to zero.
        rank: rank of the LoRA matrices; the adapter's size grows with it.
        alpha: scale of the LoRA update, alpha / rank; it follows the rank if left out.
        max_steps: stop after so many optimizer steps; 2 is a quick end-to-end run.
        seed: of weights and order; the same seed gives the same adapter on a CPU.
        gradient_checkpointing: trade time for memory; transformers 5 calls it activation_checkpointing.
        questions: how many questions of valid to answer at the end; all, or 100 with max_steps.
        run_dir: folder of checkpoints, log.json and curve.png; a folder of its own under runs/ if left out.
        restart: begin anew, even if there is a checkpoint or a finished run of the same settings.
        report_to: a tracker to log to as well, tensorboard for one; it has to be installed.
    """
    from homework.training.trainer import HomeworkTrainer

    given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "rank": rank, "alpha": alpha}
    limits = {"max_steps": max_steps, "micro_batch_size": micro_batch_size}
    folder = output_dir or default_output(ADAPTER_FOLDER, max_steps)
    output = begin(folder, seed, questions=questions, **limits, **given)
    options: dict[str, Any] = {"output": output, "run_dir": run_dir, "restart": restart, "seed": seed, **limits}
    # BEGIN SOLUTION task 4: train_model
    # Hint: base model, rows, recipe, LoRA, arguments, Trainer; then train, save, report.
    # Hint: the Trainer also takes recipe, train_data, valid_data, format_fn, and **options.
    # Hint: its save takes no model but a function without arguments that loads what was saved.
    llm = BaseLLM(checkpoint)
    train, valid = Dataset("train"), Dataset("valid")
    rows = TokenizedDataset(llm.tokenizer, train, format_example)
    recipe = choose_recipe(llm.name, given)
    model = add_lora(llm.model, recipe, seed)
    flags = {"activation_checkpointing": gradient_checkpointing, "report_to": report_to}
    arguments = training_arguments(recipe, seed=seed, max_steps=max_steps or -1, **flags)
    data: dict[str, Any] = {"train_data": train, "valid_data": valid, "format_fn": format_example}
    trainer = HomeworkTrainer(llm, model, arguments, Collator(llm.pad_id), rows, recipe=recipe, **data, **options)
    trainer.train()
    trainer.save(partial(load, output, checkpoint))
    report_run(trainer, questions)
    # END SOLUTION


def load(folder: str | Path = ADAPTER_FOLDER, checkpoint: str | None = None) -> BaseLLM:
    """The base model with the trained adapter.

    Raises:
        HomeworkError: if the adapter is missing or was trained on another base; nothing is made up instead.
    """
    from homework.training import adapter

    # BEGIN SOLUTION task 4: load
    # Hint: training/adapter.py reads, checks and attaches; a fresh BaseLLM first; in evaluation mode last.
    config = adapter.read_adapter_config(Path(folder))
    llm = BaseLLM(checkpoint)
    adapter.check_base(config, llm.name)
    llm.model = adapter.attach_adapter(llm.model, Path(folder)).eval()
    return llm
    # END SOLUTION


def test_model(
    output_dir: str = str(ADAPTER_FOLDER),
    *,
    split: str = "valid",
    checkpoint: str | None = None,
    questions: int | None = None,
) -> None:
    """Score the saved adapter on the questions of a split.

    Args:
        output_dir: folder of the adapter.
        split: valid, whose facts are held out, or train.
        checkpoint: the base model that the adapter was trained on.
        questions: how many questions to answer; all by default.
    """
    dataset = Dataset(split)
    rows = take_reported(dataset, questions) if split == "valid" else take_rows(dataset, questions)
    report_accuracy(load(output_dir, checkpoint), rows, split)


def load_model(*, output_dir: str = str(ADAPTER_FOLDER), checkpoint: str | None = None) -> None:
    """Load the saved adapter as a grader would, and answer one question.

    Args:
        output_dir: folder of the adapter.
        checkpoint: the base model that the adapter was trained on.
    """
    question, correct = Dataset("valid")[0]
    print(f"{question} {load(output_dir, checkpoint).answer(question)[0]:g} (correct {correct:g})")


def show_labels(
    *, split: str = "train", first: int = 0, rows: int = 3, checkpoint: str | None = None, html: str | None = None
) -> None:
    """Show tokens and labels of some rows as the loss sees them, in the terminal and as an HTML page.

    Args:
        split: train or valid.
        first: index of the first row.
        rows: how many rows.
        checkpoint: the base model whose tokenizer is used.
        html: file of the page; runs/labels.html if left out.
    """
    from homework.reporting.label_view import show_rows

    show_rows(Dataset(split), range(first, first + rows), format_example, tokenize, checkpoint, html)


COMMANDS: dict[str, Command] = {"train": train_model, "test": test_model, "load": load_model, "show": show_labels}

if __name__ == "__main__":
    run(COMMANDS, "python -m homework.sft")
