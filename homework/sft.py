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
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homework.cli import run
from homework.data import IGNORE_INDEX, Dataset, Row, score, take_rows, wilson_interval
from homework.errors import HomeworkError, explain_error
from homework.labels import prove_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from homework.base_llm import BaseLLM

ADAPTER_FOLDER = Path(__file__).resolve().parent / "sft_model"


def format_example(question: str, answer: float | str) -> dict[str, str]:
    """The training text of a row: three significant digits are enough for the 5 % rule, and quicker to learn than more.

    Example: ('How many g in 6 kg?', 6000.0) -> {'question': 'How many g in 6 kg?', 'answer': '<answer>6000</answer>'}

    Raises:
        HomeworkError: if the answer is not a finite number.
    """
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
    prompt = tokenizer(question)["input_ids"]
    ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
    if len(ids) > tokenizer.model_max_length:
        raise HomeworkError(f"{len(ids)} tokens, but the model reads {tokenizer.model_max_length}: {question!r:.80}")
    return {
        "input_ids": ids,
        "attention_mask": [1] * len(ids),
        "labels": [IGNORE_INDEX] * len(prompt) + ids[len(prompt) :],
    }


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
        self.rows: list[Row] = []
        for index, row in enumerate(data[i] for i in range(len(data))):
            try:
                self.rows.append(tokenize(tokenizer, **format_fn(*row)))
            except Exception as error:  # whatever a rewritten tokenize raises, the row is what helps
                raise HomeworkError(f"row {index}: {explain_error(error)}") from error

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
) -> None:
    """Fine-tune the base model with LoRA on data/train.json, save the adapter, and measure it on data/valid.json.

    What is left out comes from the recipe of the base model (homework/training.py).

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
    """
    started = time.perf_counter()
    from homework import adapter, training
    from homework.base_llm import BaseLLM

    given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "rank": rank, "alpha": alpha}
    training.check_values(**given, max_steps=max_steps, micro_batch_size=micro_batch_size, questions=questions)
    if not 0 <= seed < 2**32:
        raise HomeworkError(f"--seed must be within 0 to 4294967295, got {seed}")
    output = adapter.prepare_output(output_dir)
    train_rows, valid_rows = Dataset("train"), Dataset("valid")
    llm = BaseLLM(checkpoint)
    recipe = training.choose_recipe(llm.name, given)
    rows = TokenizedDataset(llm.tokenizer, train_rows, format_example)
    prove_rows(llm.tokenizer, train_rows, format_example, rows)
    report_rows(rows)
    model = training.add_lora(llm.model, llm.name, recipe, seed)
    training.fit(model, rows, recipe, llm.pad_id, seed, max_steps, micro_batch_size, gradient_checkpointing)
    probe = training.Collator(llm.pad_id)([rows[i] for i in range(min(4, len(rows)))])
    adapter.save_adapter(model, output, llm.reload_model, probe)
    print(f"adapter saved in {output} after {time.perf_counter() - started:.0f} s")
    count = questions if questions or not max_steps else 100
    report_accuracy(load(output, checkpoint), valid_rows, count)
    print(f"done in {time.perf_counter() - started:.0f} s")


def report_rows(rows: TokenizedDataset) -> None:
    """Print the lengths of the rows and of their label spans."""
    lengths = [len(row["input_ids"]) for row in rows]
    spans = [sum(label != IGNORE_INDEX for label in row["labels"]) for row in rows]
    equal = sum(len(row["labels"]) == len(row["input_ids"]) for row in rows)
    print(
        f"training rows: {len(rows)} of {min(lengths)} to {max(lengths)} tokens; "
        f"{min(spans)} to {max(spans)} of them supervised (mean {sum(spans) / len(spans):.1f}); "
        f"label length = input length in {equal} of {len(rows)} rows"
    )


def report_accuracy(llm: "BaseLLM", dataset: Dataset, count: int | None) -> None:
    """Print accuracy with its interval, answer rate, share ended by EOS, and ten mistakes."""
    rows = take_rows(dataset, count)
    result, completions = score(llm, rows)
    wrong = [
        (sample, text) for sample, (text, _) in zip(result.samples, completions, strict=True) if not sample.is_correct
    ]
    for sample, text in wrong[:10]:
        print(f"  wrong: {sample.question}  correct {sample.correct_answer:.3g}, model wrote {text.strip()!r}")
    low, high = wilson_interval(result.accuracy, len(rows))
    ended = sum(completion.ended for completion in completions) / len(completions)
    print(
        f"accuracy {result.accuracy:.3f} (95 % interval {low:.3f} to {high:.3f}), "
        f"answer rate {result.answer_rate:.3f}, ended by EOS {ended:.3f}, on {len(rows)} questions of {dataset.split}"
    )


def load(folder: str | Path = ADAPTER_FOLDER, checkpoint: str | None = None) -> "BaseLLM":
    """The base model with the trained adapter.

    Raises:
        HomeworkError: if the adapter is missing or was trained on another base; nothing is made up instead.
    """
    from homework import adapter
    from homework.base_llm import BaseLLM

    config = adapter.read_adapter_config(Path(folder))
    llm = BaseLLM(checkpoint)
    adapter.check_base(config, llm.name)
    llm.model = adapter.attach_adapter(llm.model, Path(folder)).eval()
    return llm


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
    report_accuracy(load(output_dir, checkpoint), dataset, questions)


def load_model(*, output_dir: str = str(ADAPTER_FOLDER), checkpoint: str | None = None) -> None:
    """Load the saved adapter as a grader would, and answer one question.

    Args:
        output_dir: folder of the adapter.
        checkpoint: the base model that the adapter was trained on.
    """
    question, correct = Dataset("valid")[0]
    print(f"{question} {load(output_dir, checkpoint).answer(question)[0]:g} (correct {correct:g})")


COMMANDS = {"train": train_model, "test": test_model, "load": load_model}

if __name__ == "__main__":
    run(COMMANDS, "python -m homework.sft")
