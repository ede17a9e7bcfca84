"""Supervised fine-tuning: the labels, the training run, and the adapter that comes out of it.

    python -m homework.sft train                          # the bundled base model, under a minute on two cores
    python -m homework.sft train --max-steps 2            # a quick end-to-end run
    python -m homework.sft train --checkpoint HuggingFaceTB/SmolLM2-360M-Instruct
    python -m homework.sft test                           # score the adapter again

torch, transformers and peft are imported where they are used: they take seconds, and ``--help`` should not.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homework.cli import run
from homework.data import IGNORE_INDEX, Dataset, Row, check_apart, take_probes, take_reported, take_rows
from homework.errors import HomeworkError, explain_error
from homework.labels import plain_row, prove_rows
from homework.rehearsal import check_lengths, rehearse
from homework.report import describe_rows, finish, refuse_doubtful, report_accuracy, report_finished

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from homework.base_llm import BaseLLM

CODE = Path(__file__).resolve().parent
ADAPTER_FOLDER = CODE / "sft_model"


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
        HomeworkError: if the row is longer than the model reads. All else is proved by homework/labels.py.
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
    """The tokenized rows of `data`, made once; `homework.labels.prove_rows` proves them.

    Args:
        tokenizer: of the model to train.
        data: (question, answer) rows.
        format_fn: turns a row into the keyword arguments of `tokenize`, as `format_example` does.

    Raises:
        HomeworkError: naming the first row that can't be tokenized.
    """

    def __init__(self, tokenizer: Any, data: Sequence[tuple[str, float]], format_fn: Callable[..., dict]) -> None:
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

    What is left out comes from the recipe of the base model (homework/training.py). After an interruption, the same
    command continues at the last checkpoint.

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
    from homework import adapter, processes, proof, runs, sampling, training
    from homework.base_llm import BaseLLM

    processes.join()
    given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "rank": rank, "alpha": alpha}
    training.check_values(**given, max_steps=max_steps, micro_batch_size=micro_batch_size, questions=questions)
    if not 0 <= seed < 2**32:
        raise HomeworkError(f"--seed must be within 0 to 4294967295, got {seed}")
    output = adapter.prepare_output(output_dir)
    train_rows, valid_rows = Dataset("train"), Dataset("valid")
    check_apart(train_rows, valid_rows)
    llm = BaseLLM(checkpoint)
    recipe = training.choose_recipe(llm.name, given)
    training.check_batch(recipe, micro_batch_size, len(train_rows))
    rows = prepare_rows(llm, train_rows, recipe.batch_size)
    check_lengths(llm, valid_rows, "valid")
    options = {"max_steps": max_steps, "micro_batch_size": micro_batch_size, "seed": seed}
    options["activation_checkpointing"] = gradient_checkpointing
    base = {
        "base_model": llm.name,
        "base_weights": adapter.fingerprint_base(llm.model),
        "device": f"{llm.device} {llm.model.dtype} x {processes.world()}",
    }
    code = (train_model, training, sampling)
    settings = runs.describe(code, rows, **asdict(recipe), **options, **base, output_dir=str(output))
    with runs.open_run(settings, run_dir) as run:
        if restart:
            run.restart()
        if processes.first_decides(lambda: report_finished(run, output)):
            return
        model = training.add_lora(llm.model, llm.name, recipe, seed)
        adapter.foresee(model, output, run.folder, CODE)
        runs.announce_others(run)
        curve = training.Curve(llm, take_probes(train_rows, valid_rows))
        collator = training.Collator(llm.pad_id)
        log = training.fit(model, rows, recipe, collator, run=run, callbacks=[curve], report_to=report_to, **options)
        training.report_log(log)
        if not processes.is_first():
            return  # the first process has the same adapter; it saves, proves and scores it
        trained = proof.remember(model, collator([rows[i] for i in range(min(4, len(rows)))]))
        saved = adapter.save_adapter(model, output, llm.reload_model, trained)
        print(f"adapter saved in {output} after {time.perf_counter() - started:.0f} s")
        final = load(output, checkpoint)
        proof.prove_load(trained, final.model, output, saved)
        count = questions if questions or not max_steps else 100
        result = report_accuracy(final, take_reported(valid_rows, count), "valid")
        refuse_doubtful(log)  # before the run counts as finished, or the same command would call it a success
        finish(run, log, result, saved)
    print(f"done in {time.perf_counter() - started:.0f} s")


def prepare_rows(llm: "BaseLLM", data: Dataset, batch_size: int) -> TokenizedDataset:
    """The tokenized rows of `data`, with proved labels and a rehearsed prompt; printed."""
    rows = TokenizedDataset(llm.tokenizer, data, format_example)
    prove_rows(llm.tokenizer, data, format_example, rows)
    rehearse(llm, data, rows)
    print(describe_rows(rows, batch_size))
    return rows


def load(folder: str | Path = ADAPTER_FOLDER, checkpoint: str | None = None) -> "BaseLLM":
    """The base model with the trained adapter.

    Raises:
        HomeworkError: if the adapter is missing or was trained on another base; nothing is made up instead.
    """
    # BEGIN SOLUTION task 3: load
    # Hint: homework/adapter.py reads, checks and attaches; a fresh BaseLLM first; in evaluation mode last.
    from homework import adapter
    from homework.base_llm import BaseLLM

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
    from homework.show import show_rows

    show_rows(Dataset(split), range(first, first + rows), format_example, tokenize, checkpoint, html)


COMMANDS = {"train": train_model, "test": test_model, "load": load_model, "show": show_labels}

if __name__ == "__main__":
    run(COMMANDS, "python -m homework.sft")
