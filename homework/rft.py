"""Rejection-sampling fine-tuning: the same training, on the model's own right reasons.

    python -m homework.rft train                          # on data/rft.json, which homework.datagen has made
    python -m homework.rft test                           # score the adapter again
    python -m homework.rft compare                        # beside the reasoning prompt and the first adapter

torch, transformers and peft are imported where they are used: they take seconds, and ``--help`` should not.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from homework import cot, sft
from homework.base_llm import BaseLLM
from homework.common.cli import Command, run
from homework.common.errors import HomeworkError
from homework.common.zip_contents import CODE, REASONING_FOLDER_NAME
from homework.data import Dataset, take_rows
from homework.datagen import OUTPUT, ReasonedDataset
from homework.guards.reasoning_check import check_reasoned_rows
from homework.reporting.model_comparison import draw_models, format_models, judge_model
from homework.reporting.results import report_accuracy, report_run
from homework.sft import Collator, TokenizedDataset, add_lora, training_arguments
from homework.training.evaluation import take_reported
from homework.training.recipe import choose_recipe
from homework.training.start import begin, default_output

ADAPTER_FOLDER = CODE / REASONING_FOLDER_NAME


class ReasoningModel(BaseLLM):
    """A model that writes a chain after the raw question: the prompt of task 1, and more room for what is written."""

    max_new_tokens = cot.CHAIN_TOKENS + 4  # the space before the reasoning takes tokens, too


def format_reasoning(question: str, answer: float, reasoning: str) -> dict[str, str]:
    """The training text of a row: what the model is to write after the question is the reasoning with its answer.

    Returns:
        `question` and `answer`, as `format_example` does, so that `tokenize` makes the labels.
    """
    # BEGIN SOLUTION task 7: format_reasoning
    # Hint: every token of the reasoning is a label; python -m homework.datagen show has some.
    return {"question": question, "answer": reasoning}
    # END SOLUTION


def train_model(
    output_dir: str | None = None,
    *,
    data: str = str(OUTPUT),
    checkpoint: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    micro_batch_size: int | None = None,
    learning_rate: float | None = None,
    rank: int | None = None,
    alpha: int | None = None,
    max_steps: int | None = None,
    seed: int = 0,
    questions: int | None = None,
    run_dir: str | None = None,
    restart: bool = False,
) -> None:
    """Fine-tune the base model with LoRA on its own right reasons, save the adapter, and measure it on data/valid.json.

    What is left out comes from the recipe of the base model. After an interruption, the same command continues.

    Args:
        output_dir: folder of the adapter; homework/rft_model, which the zip takes, or runs/quick with max_steps.
        data: file of the rows [question, answer, reasoning].
        checkpoint: folder or hub name of the base model; else HOMEWORK_CHECKPOINT, else the bundled model.
        epochs: passes over the rows.
        batch_size: rows in an optimizer step.
        micro_batch_size: rows on the device at once, a divisor of batch_size; smaller needs less memory.
        learning_rate: the highest one; it decays linearly to zero.
        rank: rank of the LoRA matrices; the adapter's size grows with it.
        alpha: scale of the LoRA update, alpha / rank; it follows the rank if left out.
        max_steps: stop after so many optimizer steps; 2 is a quick end-to-end run.
        seed: of weights and order; the same seed gives the same adapter on a CPU.
        questions: how many questions of valid to answer at the end; all, or 100 with max_steps.
        run_dir: folder of checkpoints, log.json and curve.png; a folder of its own under runs/ if left out.
        restart: begin anew, even if there is a checkpoint or a finished run of the same settings.
    """
    from homework.training.trainer import HomeworkTrainer

    given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "rank": rank, "alpha": alpha}
    limits = {"max_steps": max_steps, "micro_batch_size": micro_batch_size}
    folder = output_dir or default_output(ADAPTER_FOLDER, max_steps)
    output = begin(folder, seed, questions=questions, **limits, **given)
    train, valid = read_rows(data), Dataset("valid")
    options: dict[str, Any] = {"output": output, "run_dir": run_dir, "restart": restart, "seed": seed, **limits}
    options |= {"name": "rft", "train_data": train, "valid_data": valid, "format_fn": format_reasoning}
    # BEGIN SOLUTION task 7: train_reasoning
    # Hint: as train_model of task 4, with a ReasoningModel, other rows and format_reasoning; **options holds the rest.
    llm = ReasoningModel(checkpoint)
    rows = TokenizedDataset(llm.tokenizer, train, format_reasoning)
    recipe = choose_recipe(llm.name, given)
    model = add_lora(llm.model, recipe, seed)
    arguments = training_arguments(recipe, seed=seed, max_steps=max_steps or -1)
    trainer = HomeworkTrainer(llm, model, arguments, Collator(llm.pad_id), rows, recipe=recipe, **options)
    trainer.train()
    trainer.save(partial(load, output, checkpoint))
    report_run(trainer, questions)
    # END SOLUTION


def read_rows(path: str) -> ReasonedDataset:
    """The rows of a file, every one a right chain of a question of train; how much of train they cover is said.

    Raises:
        HomeworkError: naming the first row that is not.
    """
    rows, train = ReasonedDataset(path), Dataset("train")
    try:
        check_reasoned_rows(rows, train)
    except HomeworkError as error:
        raise HomeworkError(f"{path}: {error}") from None
    asked = len({question for question, _, _ in rows})
    print(f"rows with reasons: {len(rows)}, of {asked} questions, {asked / len(train):.0%} of train")
    if len(rows) < 1.05 * asked:
        print("nearly every question has one chain alone: more of them teach more, see select_rows and --oversample")
    return rows


def load(folder: str | Path = ADAPTER_FOLDER, checkpoint: str | None = None) -> BaseLLM:
    """The base model with the adapter that reasons.

    Raises:
        HomeworkError: if the adapter is missing or was trained on another base.
    """
    llm = sft.load(folder, checkpoint)
    llm.__class__ = ReasoningModel  # the same model, with room to write a chain
    return llm


def test_model(
    output_dir: str = str(ADAPTER_FOLDER), *, checkpoint: str | None = None, questions: int | None = None
) -> None:
    """Score the saved adapter on the questions of valid.

    Args:
        output_dir: folder of the adapter.
        checkpoint: the base model that the adapter was trained on.
        questions: how many questions to answer; all by default.
    """
    report_accuracy(load(output_dir, checkpoint), take_reported(Dataset("valid"), questions), "valid")


def compare(
    *,
    checkpoint: str | None = None,
    questions: int | None = None,
    sft_dir: str = str(sft.ADAPTER_FOLDER),
    rft_dir: str = str(ADAPTER_FOLDER),
) -> None:
    """Ask the reasoning prompt and both adapters the same questions: a table and a picture, by value and quantity.

    Args:
        checkpoint: the base model that the adapters were trained on.
        questions: how many questions of valid to ask; all by default.
        sft_dir: folder of the adapter of task 4.
        rft_dir: folder of the adapter of task 7.
    """
    from homework.training.run_dir import RUNS

    rows = take_rows(take_reported(Dataset("valid"), None), questions)
    models: dict[str, Callable[[], BaseLLM]] = {
        "reasoning prompt": lambda: cot.load(checkpoint),
        "sft adapter": lambda: sft.load(sft_dir, checkpoint),
        "rft adapter": lambda: load(rft_dir, checkpoint),
    }
    judged = {}
    for name, make in models.items():
        try:
            llm = make()
        except HomeworkError as error:
            print(f"{name} is left out: {error}")
            continue
        judged[name] = judge_model(llm, rows)
    if not judged:
        raise HomeworkError("there is no model to compare: train one first")
    print(format_models(judged))
    RUNS.mkdir(exist_ok=True)
    draw_models(judged, RUNS / "compare.png")
    print(f"picture in {RUNS / 'compare.png'}")


COMMANDS: dict[str, Command] = {"train": train_model, "test": test_model, "compare": compare}

if __name__ == "__main__":
    run(COMMANDS, "python -m homework.rft")
