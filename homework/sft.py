"""Supervised fine-tuning: the labels, the training run, and the adapter that comes out of it.

    python -m homework.sft train                          # the bundled base model, under a minute on two cores
    python -m homework.sft train --max-steps 2            # a quick end-to-end run
    python -m homework.sft train --checkpoint HuggingFaceTB/SmolLM2-360M-Instruct
    python -m homework.sft test                           # score the adapter again

torch, transformers and peft are imported where they are used: they take seconds, and ``--help`` should not.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from homework.base_llm import BaseLLM
from homework.common.cli import Command, run
from homework.common.errors import HomeworkError, explain_error
from homework.common.zip_contents import ADAPTER_FOLDER_NAME, CODE
from homework.data import IGNORE_INDEX, Dataset, ListLike, Row, check_apart, take_rows
from homework.guards.inference_check import check_inference, check_lengths
from homework.guards.labels import check_rows, plain_row
from homework.reporting.evaluation import take_probes, take_reported
from homework.reporting.results import describe_rows, report_accuracy, report_finished, report_log, report_run
from homework.training import distributed
from homework.training.recipe import Recipe, check_batch, check_flags, choose_recipe
from homework.training.run_dir import describe, open_run, warn_other_runs

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from homework.training.run_dir import Run
    from homework.training.trainer import HomeworkArguments

ADAPTER_FOLDER = CODE / ADAPTER_FOLDER_NAME


def format_example(question: str, answer: float | str) -> dict[str, str]:
    """The training text of a row: three significant digits are enough for the 5 % rule, and quicker to learn than more.

    Example: ('How many g in 6 kg?', 6000.0) -> {'question': 'How many g in 6 kg?', 'answer': '<answer>6000</answer>'}

    Raises:
        HomeworkError: if the answer is not a finite number.
    """
    # BEGIN SOLUTION task 3: format_example
    # Hint: three significant digits; very large and very small numbers read better with an exponent, 1.5e7.
    try:
        number = float(answer)
    except (TypeError, ValueError, OverflowError):
        raise HomeworkError(f"the answer to {question!r:.80} must be a number, got {answer!r:.80}") from None
    if not math.isfinite(number):
        raise HomeworkError(f"the answer to {question!r:.80} must be finite, got {number}")
    digits = Decimal(f"{number:.2e}").normalize()
    power = digits.adjusted()
    plain = number == 0 or -5 < power < 6  # beyond, zeros are harder to count than an exponent is to read
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
    """The tokenized rows of `data`, made once; homework/guards/labels.py checks them.

    Args:
        tokenizer: of the model to train.
        data: (question, answer) rows.
        format_fn: turns a row into the keyword arguments of `tokenize`, as `format_example` does.

    Raises:
        HomeworkError: naming the first row that can't be tokenized.
    """

    def __init__(
        self, tokenizer: Any, data: ListLike[tuple[str, float]], format_fn: Callable[..., dict[str, str]]
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

        width = max(len(row["input_ids"]) for row in rows)
        fills = {"input_ids": self.pad_id, "attention_mask": 0, "labels": IGNORE_INDEX}
        return {
            name: torch.tensor([row[name] + [fill] * (width - len(row[name])) for row in rows])
            for name, fill in fills.items()
        }


def add_lora(model: "PreTrainedModel", name: str, recipe: Recipe, seed: int) -> "PeftModel":
    """Freeze the base and put LoRA on all its linear layers; `name` is what the adapter will call the base."""
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

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


def training_arguments(recipe: Recipe, folder: Path, max_steps: int | None = None, **more: Any) -> "HomeworkArguments":
    """The Trainer's arguments for a recipe.

    Args:
        recipe: the hyper-parameters.
        folder: of the checkpoints.
        max_steps: stop after so many optimizer steps; None for all epochs.
        more: other fields of transformers' TrainingArguments, seed for one.
    """
    from homework.training.trainer import HomeworkArguments

    return HomeworkArguments(
        output_dir=str(folder),
        num_train_epochs=recipe.epochs,
        max_steps=max_steps or -1,
        per_device_train_batch_size=recipe.batch_size,  # the Trainer divides it where it does not fit
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        **more,
    )


class Asked(NamedTuple):
    """The questions, with their answers, that an adapter is measured on."""

    probes: dict[str, list[tuple[str, float]]]  # a few of each split, asked during the training
    reported: list[tuple[str, float]]  # for the accuracy at the end


def train_model(
    *,
    output_dir: str = str(ADAPTER_FOLDER),
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
        output_dir: folder of the adapter; the zip takes it from homework/sft_model.
        checkpoint: folder or hub name of the base model; else HOMEWORK_CHECKPOINT, else the bundled model.
        epochs: passes over the training rows.
        batch_size: rows in an optimizer step.
        micro_batch_size: rows on the device at once, a divisor of batch_size; smaller needs less memory.
        learning_rate: the highest one; it decays linearly to zero.
        rank: rank of the LoRA matrices; the adapter's size grows with it.
        alpha: scale of the LoRA update, alpha / rank.
        max_steps: stop after so many optimizer steps; 2 is a quick end-to-end run.
        seed: of weights and order; the same seed gives the same adapter on a CPU.
        gradient_checkpointing: trade time for memory; off unless the GPU is too small.
        questions: how many questions of valid to answer at the end; all, or 100 with max_steps.
        run_dir: folder of checkpoints, log.json and curve.png; a folder of its own under runs/ if left out.
        restart: begin anew, even if there is a checkpoint or a finished run of the same settings.
        report_to: a tracker to log to as well, tensorboard for one; it has to be installed.
    """
    started = time.perf_counter()
    from homework.training.adapter import describe_base, prepare_output

    distributed.join()
    given: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    given |= {"rank": rank, "alpha": alpha}
    options: dict[str, Any] = {"max_steps": max_steps, "micro_batch_size": micro_batch_size, "seed": seed}
    check_flags(**given, **options, questions=questions)
    options["activation_checkpointing"] = gradient_checkpointing
    output = prepare_output(output_dir)
    train, valid = Dataset("train"), Dataset("valid")
    check_apart(train, valid)
    llm = BaseLLM(checkpoint)
    recipe = choose_recipe(llm.name, given)
    check_batch(recipe, micro_batch_size, len(train))
    rows = prepare_rows(llm, train, recipe.batch_size)
    check_lengths(llm, valid, "valid")
    asked = Asked(take_probes(train, valid), take_reported(valid, questions if questions or not max_steps else 100))
    settings = {**asdict(recipe), **options, **describe_base(llm), "output_dir": str(output)}
    code = (train_model, fine_tune, training_arguments, add_lora, Collator)  # what decides the result, of this file
    with open_run(describe(code, rows, **settings), run_dir, restart=restart) as run:
        fine_tune(llm, rows, recipe, run, output, partial(load, output, checkpoint), asked, report_to, **options)
    print(f"done in {time.perf_counter() - started:.0f} s")


def fine_tune(
    llm: BaseLLM,
    rows: ListLike[Row],
    recipe: Recipe,
    run: "Run",
    output: Path,
    load_saved: Callable[[], BaseLLM],
    asked: Asked,
    report_to: str = "none",
    *,
    seed: int = 0,
    max_steps: int | None = None,
    micro_batch_size: int | None = None,
    **more: Any,
) -> None:
    """Train an adapter on tokenized rows, save it, and report its accuracy: what every task that trains shares.

    Args:
        llm: the base model.
        rows: with labels that are checked.
        recipe: the hyper-parameters.
        run: where checkpoints and log go, and whether there is anything left to do.
        output: the adapter's folder.
        load_saved: gives the base model with the adapter that was saved there.
        asked: the questions of its accuracy.
        report_to: a tracker that transformers knows.
        seed: of weights and order.
        max_steps: stop after so many optimizer steps.
        micro_batch_size: rows on the device at once.
        more: other fields of transformers' TrainingArguments.
    """
    from homework.training.adapter import check_disk_space
    from homework.training.callbacks import AccuracyCallback
    from homework.training.trainer import HomeworkTrainer

    if distributed.first_decides(lambda: report_finished(run, output)):
        return
    model = add_lora(llm.model, llm.name, recipe, seed)
    check_disk_space(model, output, run.folder)
    warn_other_runs(run)
    arguments = training_arguments(recipe, run.folder, max_steps, seed=seed, report_to=report_to, **more)
    limits: dict[str, Any] = {"max_steps": max_steps, "micro_batch_size": micro_batch_size}
    probes = AccuracyCallback(llm, asked.probes)
    trainer = HomeworkTrainer(
        model, arguments, Collator(llm.pad_id), rows, run=run, recipe=recipe, callbacks=[probes], **limits
    )
    trainer.train()
    report_log(trainer.state.log_history)
    final = trainer.save(output, llm.reload_model, load_saved)
    if final is not None:
        report_run(run, trainer.state.log_history, final, asked.reported, output)


def prepare_rows(llm: BaseLLM, data: Dataset, batch_size: int) -> TokenizedDataset:
    """The tokenized rows of `data`, with checked labels and a checked inference; printed."""
    rows = TokenizedDataset(llm.tokenizer, data, format_example)
    check_rows(llm.tokenizer, data, format_example, rows)
    check_inference(llm, data, rows)
    print(describe_rows(rows, batch_size))
    return rows


def load(folder: str | Path = ADAPTER_FOLDER, checkpoint: str | None = None) -> BaseLLM:
    """The base model with the trained adapter.

    Raises:
        HomeworkError: if the adapter is missing or was trained on another base; nothing is made up instead.
    """
    # BEGIN SOLUTION task 3: load
    # Hint: training/adapter.py reads, checks and attaches; a fresh BaseLLM first; in evaluation mode last.
    from homework.training import adapter

    config = adapter.read_adapter_config(Path(folder))
    llm = BaseLLM(checkpoint)
    adapter.check_base(config, llm.name)
    llm.model = adapter.attach_adapter(llm.model, Path(folder)).eval()
    return llm
    # END SOLUTION


def test_model(
    *,
    split: str = "valid",
    output_dir: str = str(ADAPTER_FOLDER),
    checkpoint: str | None = None,
    questions: int | None = None,
) -> None:
    """Score the saved adapter on the questions of a split.

    Args:
        split: valid, whose facts are held out, or train.
        output_dir: folder of the adapter.
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
