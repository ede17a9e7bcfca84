"""Everything that can be known without training, in a few seconds: what is wrong, where, and what to do.

    python -m homework.check              # paste its output into a question to staff
    python -m homework.check --hint       # the hint below each check that fails; --hint tokenize, --hint 3 for some

A check is a function that returns what it found, or raises HomeworkError. What rests on a check that
failed is not run: the first [FAIL] is the one to fix. No torch is needed to be told that it is missing.
"""

import contextlib
import copy
import inspect
import io
import math
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from homework.common.base_model import ROOT, pick_device
from homework.common.cli import UsageError, run, suggest
from homework.common.errors import HomeworkError, explain_error
from homework.common.zip_contents import (
    ADAPTER_FOLDER_NAME,
    CODE,
    REASONING_FOLDER_NAME,
    WEIGHTS,
    ZIP_LIMIT,
    list_files,
)
from homework.data import Dataset, check_apart

TRAINED = 4  # the last of the tasks that end in a trained adapter; those after it are another course's, or later


class Known:
    """What the checks look at, made when the first of them asks for it.

    Args:
        checkpoint: the base model; else HOMEWORK_CHECKPOINT, else the bundled model.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        self.checkpoint = checkpoint

    @cached_property
    def train(self) -> Dataset:
        """The training rows."""
        return Dataset("train")

    @cached_property
    def valid(self) -> Dataset:
        """The questions of the validation."""
        return Dataset("valid")

    @cached_property
    def llm(self) -> Any:
        """The base model."""
        from homework.base_llm import BaseLLM

        return BaseLLM(self.checkpoint)

    @cached_property
    def reasoner(self) -> Any:
        """The base model with the prompt that makes it reason."""
        from homework.cot import load

        return load(self.checkpoint)

    @cached_property
    def rows(self) -> Any:
        """The tokenized training rows."""
        from homework.sft import TokenizedDataset, format_example

        return TokenizedDataset(self.llm.tokenizer, self.train, format_example)


class Gap(NamedTuple):
    """A function that is still to be written, and the line that says so."""

    task: int
    name: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"task {self.task}: {self.name} is not implemented yet"

    def describe(self) -> str:
        """The same with its place."""
        return f"{self} ({self.file}, line {self.line})"


class NotYet(Exception):
    """There is nothing to check so far."""


def check_packages(known: Known) -> str:
    """Every line of requirements.txt for this system against what is installed here."""
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        raise HomeworkError("packaging is missing: pip install -r requirements.txt, in .venv") from None
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found, wrong = [], []
    for wanted in (Requirement(text) for line in lines if (text := line.split("#")[0].strip())):
        if wanted.marker and not wanted.marker.evaluate():
            continue  # for another system or Python
        try:
            installed = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        found.append(f"{wanted.name} {installed}")
        if not wanted.specifier.contains(installed, prereleases=True):
            wrong.append(f"{wanted.name} is {installed}, but {wanted.specifier} is needed")
    if wrong:
        raise HomeworkError(f"{'; '.join(wrong)}: pip install -r requirements.txt, in .venv (this is {sys.executable})")
    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{system}: {', '.join(found)}"


def check_device(known: Known) -> str:
    """The device, and the dtype with its reason."""
    device, dtype, reason = pick_device()
    return f"{device} in {str(dtype).split('.')[-1]}: {reason}"


def check_data(known: Known) -> str:
    """Both splits: rows, and that none is in both."""
    check_apart(known.train, known.valid)
    return f"{len(known.train)} rows of train, {len(known.valid)} of valid, none in both"


def check_base(known: Known) -> str:
    """The base model: whole, finite, and with room for the questions."""
    import torch

    from homework.guards.inference_check import check_context

    for name, parameter in known.llm.model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise HomeworkError(f"the weight {name} of {known.llm.name} is not finite: fetch the checkpoint again")
    if any(parameter.dtype == torch.float16 for parameter in known.llm.model.parameters()):
        raise HomeworkError(
            f"{known.llm.name} is loaded in float16, which overflows to NaN: load it in float32 or bfloat16"
        )
    data: tuple[Dataset, ...] = ()
    with contextlib.suppress(HomeworkError):  # data that can't be read is named by its own check
        data = known.train, known.valid
    check_context(known.llm, *data)
    count = sum(parameter.numel() for parameter in known.llm.model.parameters())
    return f"{known.llm.name}, {count / 1e6:.2f} million parameters, all finite"


# --- task 1 ---


def check_parse_answer(known: Known) -> str:
    """parse_answer, on texts that a model may write."""
    from homework.guards import inference_check

    inference_check.check_parse_answer(known.llm)
    return "reads the number between the tags, and makes none up"


def check_format_prompt(known: Known) -> str:
    """format_prompt: the raw question."""
    from homework.guards import inference_check

    inference_check.check_format_prompt(known.llm, known.train)
    return "gives the question alone"


def check_complete_batch(known: Known) -> str:
    """generate, with a stub in the place of the model."""
    from homework.guards import inference_check

    inference_check.check_generate(known.llm)
    return "generate gives the model's text as it is, without the prompt, up to EOS"


def check_batched_generate(known: Known) -> str:
    """batched_generate, greedy and sampled, with a stub in the place of the model."""
    from homework.guards import inference_check

    inference_check.check_batched_generate(known.llm)
    return "gives each prompt its own texts, as many as asked, at the temperature that is asked"


def check_answer(known: Known) -> str:
    """answer, with a stub in the place of the model."""
    from homework.guards import inference_check

    inference_check.check_answer(known.llm, known.train)
    return "gives one number for each question"


# --- task 2 ---


def check_is_answer_valid(known: Known) -> str:
    """is_answer_valid, on pairs of numbers."""
    from homework.guards import metric_check

    metric_check.check_is_answer_valid()
    return "right is within 5 % of the correct answer"


def check_from_answers(known: Known) -> str:
    """The shares of right and of given answers."""
    from homework.guards import metric_check

    metric_check.check_from_answers()
    return "accuracy and answer rate are shares of all questions"


def check_benchmark(known: Known) -> str:
    """benchmark, on answers that are known."""
    from homework.guards import metric_check

    metric_check.check_benchmark()
    return "asks the first questions, once each"


# --- task 3 ---


def check_format_example(known: Known) -> str:
    """The text of every row's answer."""
    from homework.base_llm import parse_answer
    from homework.guards.label_check import check_texts, count_digits, doubt_format
    from homework.sft import format_example

    check_texts(known.train, format_example)
    answers = [format_example(*row)["answer"] for row in known.train]
    digits = max(count_digits(parse_answer(answer)) for answer in answers)
    doubt = f"; but a small model learns badly {doubt}" if (doubt := doubt_format(answers)) else ""
    return f"{len(answers)} answers between the tags, of up to {digits} digits, each within 5 % of its number{doubt}"


def check_tokenize(known: Known) -> str:
    """The labels of every row."""
    from homework.guards.label_check import check_labels
    from homework.sft import format_example, tokenize

    # Its own gap is to be named before that of format_example.
    tokenize(known.llm.tokenizer, "How many g in 6 kg?", "<answer>6000</answer>")
    check_labels(known.llm.tokenizer, known.train, format_example, tokenize)
    return "in every row exactly the answer and the one EOS are supervised"


def check_tokenized_dataset(known: Known) -> str:
    """The rows of TokenizedDataset, by the check that training uses, and that inference asks what they teach."""
    from homework.guards.inference_check import check_batched_generate, check_lengths, check_prompt
    from homework.guards.label_check import check_rows
    from homework.sft import format_example
    from homework.training.batches import describe_rows

    check_rows(known.llm.tokenizer, known.train, format_example, known.rows)
    check_prompt(known.llm, known.train, known.rows)
    check_batched_generate(known.llm)  # once more: tokenize may have turned the side of the padding
    check_lengths(known.llm, known.valid, "valid")
    return describe_rows(known.rows, batch_size=32)


# --- task 4 ---


def check_collate(known: Known) -> str:
    """The collator, on two rows of different length whose last id is that of the padding, as EOS is here."""
    from homework.guards.watchdog import diagnose_batch
    from homework.sft import Collator

    pad = known.llm.pad_id
    ids = ([5, 6, 7, pad], [8, 9, pad])
    rows = [{"input_ids": row, "attention_mask": [1] * len(row), "labels": [-100, *row[1:]]} for row in ids]
    if complaint := diagnose_batch(Collator(pad)(copy.deepcopy(rows)), rows):
        raise HomeworkError(complaint)
    return "ids, mask and labels of a batch are those of its rows, padded on the right"


def check_add_lora(known: Known) -> str:
    """That LoRA is all that would be trained, and how large its file will be."""
    from homework.guards.watchdog import (
        check_alpha,
        check_input_gradients,
        check_seed,
        check_trainable,
        find_bare_layers,
    )
    from homework.sft import add_lora
    from homework.training.recipe import DEFAULT_RECIPE, RECIPES

    recipe = RECIPES.get(known.llm.name, DEFAULT_RECIPE)
    model = add_lora(known.llm.reload_model(), recipe, seed=0)
    check_trainable(model, recipe.rank)
    check_alpha(model, recipe.alpha)
    check_input_gradients(model)
    check_seed(model, add_lora(known.llm.reload_model(), recipe, seed=0))
    size = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    bare = find_bare_layers(model)
    layers = f"some linear layers, not on {', '.join(bare)}" if bare else "all linear layers"
    return f"rank {recipe.rank} on {layers}, the base is frozen; the adapter will take {size / 1e6:.1f} MB"


def check_training_arguments(known: Known) -> str:
    """training_arguments: recipe and flags reach the Trainer."""
    from homework.guards.watchdog import check_arguments
    from homework.sft import training_arguments
    from homework.training.recipe import Recipe

    # Numbers that nobody would set in the code.
    recipe = Recipe(epochs=7, batch_size=6, learning_rate=1.25e-3, rank=3, alpha=5)
    arguments = training_arguments(recipe, seed=1, max_steps=3)
    wanted = {"num_train_epochs": recipe.epochs, "per_device_train_batch_size": recipe.batch_size}
    check_arguments(arguments, {**wanted, "learning_rate": recipe.learning_rate, "seed": 1, "max_steps": 3})
    return "epochs, batch size and learning rate are the recipe's, all else is passed on"


def check_train_model(known: Known) -> str:
    """Which Trainer train_model takes."""
    from homework.sft import train_model

    return describe_trainer(train_model, "train_model")


def describe_trainer(train: Callable[..., None], gap: str) -> str:
    """Which Trainer a training takes; NotImplementedError if its gap is left."""
    for left in find_gaps(CODE):
        if left.name == gap:
            raise NotImplementedError(left)
    watched = "HomeworkTrainer(" in inspect.getsource(train)
    return f"takes HomeworkTrainer, which {WATCHES}" if watched else f"goes without HomeworkTrainer, which {WATCHES}"


def check_load(known: Known) -> str:
    """load, where there is no adapter; an error of another kind is a fault of its own."""
    from homework.sft import load

    with tempfile.TemporaryDirectory() as folder:
        try:
            load(Path(folder) / ADAPTER_FOLDER_NAME, known.checkpoint)
        except (NotImplementedError, NameError, TypeError, AttributeError, ImportError):
            raise
        except Exception:
            return "raises where there is no adapter"
    raise HomeworkError(
        "load of an empty folder gives a model, and an untrained one must never pass for a trained one"
        "\nadapter.read_adapter_config raises where a file is missing: call it, and catch nothing"
    )


# --- task 5 ---


def check_worked_example(known: Known) -> str:
    """The worked example: a right chain, about no question of valid."""
    from homework.cot import worked_example
    from homework.guards import reasoning_check

    reasoning_check.check_worked_example(worked_example(), known.valid)
    return "its equations hold, and the tag has their result"


def check_cot_prompt(known: Known) -> str:
    """The prompt that makes the model reason, by the tokenizer's chat template."""
    from homework.cot import CHAIN_TOKENS
    from homework.guards import reasoning_check

    reasoning_check.check_cot_prompt(known.reasoner, known.train, known.valid)
    room, _, _ = reasoning_check.find_room(known.reasoner, [*known.train, *known.valid])
    return (
        f"shows a right chain, asks the question once, and leaves {room} of the {CHAIN_TOKENS} tokens of a long chain"
    )


# --- task 6 ---


def check_find_fault(known: Known) -> str:
    """find_fault, on texts with one fault each, and on right ones."""
    from homework.datagen import find_fault
    from homework.guards import reasoning_check

    reasoning_check.check_find_fault(find_fault)
    return "keeps right chains, and sees each fault"


def check_select_rows(known: Known) -> str:
    """select_rows, on texts of which two differ in words alone."""
    from homework.datagen import select_rows
    from homework.guards import reasoning_check

    reasoning_check.check_select_rows(select_rows)
    return "keeps different chains, with the answer of the training row"


# --- task 7 ---


def check_format_reasoning(known: Known) -> str:
    """The labels of a row with reasons."""
    from homework.guards import reasoning_check
    from homework.guards.label_check import check_rows
    from homework.rft import format_reasoning
    from homework.sft import TokenizedDataset

    row = (reasoning_check.ASKED, reasoning_check.CORRECT, reasoning_check.RIGHT)
    text = format_reasoning(*row).get("answer")
    if text != row[2]:
        raise HomeworkError(
            f"format_reasoning gives an answer that ends in {str(text)[-60:]!r}: it is not the whole reasoning and "
            "nothing else\nit is the text that the model is to write"
        )
    check_rows(
        known.llm.tokenizer, [row], format_reasoning, TokenizedDataset(known.llm.tokenizer, [row], format_reasoning)
    )
    return "every token of the reasoning and EOS are supervised"


def check_train_reasoning(known: Known) -> str:
    """Which Trainer the training on reasons takes."""
    from homework.rft import train_model

    return describe_trainer(train_model, "train_reasoning")


# --- what is there already ---


def check_adapter(known: Known) -> str:
    """The saved adapter: present, valid, and of this base model."""
    return describe_adapter(known, ADAPTER_FOLDER_NAME, "python -m homework.sft train")


def check_reasons(known: Known) -> str:
    """The rows with reasons: right chains of questions of train."""
    from homework.datagen import OUTPUT, ReasonedDataset
    from homework.guards.reasoning_check import check_reasoned_rows

    if not OUTPUT.is_file():
        raise NotYet("none yet: python -m homework.datagen generate")
    rows = ReasonedDataset(OUTPUT)
    check_reasoned_rows(rows, known.train)
    return f"{len(rows)} chains that hold, of {len({row[0] for row in rows})} questions of {len(known.train)}"


def check_reasoning_adapter(known: Known) -> str:
    """The adapter that reasons: present, valid, and of this base model."""
    return describe_adapter(known, REASONING_FOLDER_NAME, "python -m homework.rft train")


def describe_adapter(known: Known, name: str, make: str) -> str:
    """That an adapter is sound."""
    from homework.training.adapter import attach_adapter, check_base, read_adapter_config

    folder = CODE / name
    if not (folder / WEIGHTS).is_file():
        raise NotYet(f"none yet: {make}")
    check_base(read_adapter_config(folder), known.llm.name)
    attach_adapter(known.llm.reload_model(), folder)
    return f"finite, trained, and made for {known.llm.name}"


def check_run(known: Known) -> str:
    """The log of the newest run: what it says of labels, precision and skipped steps."""
    from homework.common.files import read_json
    from homework.guards.watchdog import diagnose_log
    from homework.training.run_dir import LOG, RUNS, steps_of

    logs = sorted(RUNS.glob(f"*/{LOG}"), key=lambda path: path.stat().st_mtime)
    content = read_json(logs[-1]) if logs else None
    if not content or not content.get("log"):
        raise NotYet("none in runs/, where a loop or Trainer of your own leaves none either")
    if complaint := diagnose_log(content["log"]):
        raise HomeworkError(f"{logs[-1].parent.name}: {complaint}")
    losses = [entry["loss"] for entry in steps_of(content["log"])]
    return f"{logs[-1].parent.name}: loss {losses[0]:.3f} -> {losses[-1]:.3f} in {len(losses)} steps, all finite"


def check_zip(known: Known) -> str:
    """What the zip would hold, by size, and what it would leave out."""
    inside, left_out = list_files(CODE)
    total = sum(path.stat().st_size for path in inside)
    largest = ", ".join(f"{path.relative_to(CODE)} {kilobytes(path)}" for path in inside[:4])
    if total > ZIP_LIMIT:
        raise HomeworkError(f"{total / 1e6:.0f} MB of {ZIP_LIMIT / 1e6:.0f}: make the largest smaller: {largest}")
    rest = ", ".join(f"{path.relative_to(CODE)} {kilobytes(path)}" for path in left_out[:4])
    tail = f"; left out: {rest}{', ...' if len(left_out) > 4 else ''}" if left_out else ""
    return f"{len(inside)} files, {math.ceil(total / 1000):,} kB of {ZIP_LIMIT // 1000:,}: {largest}, ...{tail}"


def kilobytes(path: Path) -> str:
    """The size of a file.  Example: 891944 bytes -> '892 kB'"""
    return f"{math.ceil(path.stat().st_size / 1000):,} kB"


THERE = 8  # after the last task
# task, name, check, and the checks that it rests on; the name is that of the gap
CHECKS: tuple[tuple[int, str, Callable[[Known], str], tuple[str, ...]], ...] = (
    (0, "packages", check_packages, ()),
    (0, "device", check_device, ("packages",)),
    (0, "data", check_data, ()),
    (0, "base model", check_base, ("packages",)),
    (1, "parse_answer", check_parse_answer, ("base model",)),
    (1, "format_prompt", check_format_prompt, ("base model", "data")),
    (1, "complete_batch", check_complete_batch, ("base model",)),
    (1, "batched_generate", check_batched_generate, ("complete_batch",)),
    (1, "answer", check_answer, ("parse_answer", "format_prompt", "batched_generate")),
    (2, "is_answer_valid", check_is_answer_valid, ()),
    (2, "from_answers", check_from_answers, ("is_answer_valid",)),
    (2, "benchmark", check_benchmark, ("from_answers",)),
    (3, "format_example", check_format_example, ("parse_answer", "is_answer_valid", "data")),
    (3, "tokenize", check_tokenize, ("format_example", "base model")),
    (3, "TokenizedDataset", check_tokenized_dataset, ("tokenize", "answer")),
    (4, "collate", check_collate, ("base model",)),
    (4, "add_lora", check_add_lora, ("base model",)),
    (4, "training_arguments", check_training_arguments, ("packages",)),
    (4, "train_model", check_train_model, ()),
    (4, "load", check_load, ("base model",)),
    (5, "worked_example", check_worked_example, ("data",)),
    (5, "cot_prompt", check_cot_prompt, ("worked_example", "answer")),
    (6, "find_fault", check_find_fault, ("parse_answer", "is_answer_valid")),
    (6, "select_rows", check_select_rows, ()),
    (7, "format_reasoning", check_format_reasoning, ("tokenize",)),
    (7, "train_reasoning", check_train_reasoning, ()),
    (THERE, "adapter", check_adapter, ("base model", "load")),
    (THERE, "rft.json", check_reasons, ("data",)),
    (THERE, "rft adapter", check_reasoning_adapter, ("base model", "load")),
    (THERE, "last run", check_run, ("packages",)),
    (THERE, "zip", check_zip, ()),
)
HEADINGS = {**{task: f"task {task}" for task in range(1, THERE)}, THERE: "what is there already"}
WATCHES = (
    "resumes after an interruption, and stops at lost labels, gradients that are NaN or zero, a loss that is not that "
    "of the labels, and an adapter that does not load"
)
HINT = "\n       hint: {}"
GAP = re.compile(r'raise NotImplementedError\("task (\d+): (\w+) is not implemented yet"\)')


def check(*, hint: str | bool = False, checkpoint: str | None = None) -> None:
    """Check all that can be known without training, task by task.

    Args:
        hint: say what to do about what fails in a task; a gap's name or a task's number after it asks for these alone.
        checkpoint: the base model; else HOMEWORK_CHECKPOINT, else the bundled model.
    """
    known, failed, hinted = Known(checkpoint), set(), choose_hinted(hint)
    count, former, said, gaps = 0, 0, set(), find_gaps(CODE)
    for task, name, function, needs in CHECKS:
        if task != former:
            print(HEADINGS[task])
        former = task
        missing = [need for need in needs if need in failed]
        mark, text = judge(function, known, missing, name in hinted)
        if missing and (gap := next((gap for gap in gaps if gap.name == name), None)):
            mark, text = "gap ", gap.describe()
        if mark == "FAIL" and text in said:  # a file that does not compile fails each check that imports it
            mark, text = "----", "not checked, because it fails as above"
        said.add(text)
        count += mark == "FAIL"
        if mark in ("FAIL", "gap ", "----"):
            failed.add(name)
        print(f"{paint(f'[{mark}]'):<6} {name:<18} {text}", flush=True)
    left = f"gaps left: {len(gaps)}, the next one is task {gaps[0].task}: {gaps[0].name}" if gaps else ""
    if count:
        raise HomeworkError(f"{count} of {len(CHECKS)} checks failed: fix the first one{'; ' * bool(gaps)}{left}")
    if gaps and gaps[0].task > TRAINED:
        print(f"tasks 1 to {TRAINED} are right: python -m homework.sft train")
    if gaps:
        raise HomeworkError(left)
    print("all that can be known without training is right")


def choose_hinted(hint: str | bool) -> set[str]:
    """The names of the checks whose hints are asked for.

    Raises:
        UsageError: if there is no such check and no such task.
    """
    chosen = {name for task, name, _, _ in CHECKS if hint is True or hint in (name, str(task))}
    if hint and not chosen:
        did_you_mean = suggest(str(hint), [name for _, name, _, _ in CHECKS])
        raise UsageError(f"there is no gap or task {hint!r}{did_you_mean}: give a name of the list, or a number")
    return chosen


def run_check(name: str, known: Known) -> None:
    """Run one check by its name, as the public tests do; raises what it finds."""
    with contextlib.redirect_stdout(io.StringIO()):
        next(check for _, known_name, check, _ in CHECKS if known_name == name)(known)


def find_gaps(code: Path) -> list[Gap]:
    """Each gap that is left in the files of a package, in the order of the tasks."""
    sources = [(path.name, path.read_text(encoding="utf-8")) for path in sorted(code.glob("*.py"))]
    found = [
        Gap(int(match[1]), match[2], file, source.count("\n", 0, match.start()) + 1)
        for file, source in sources
        for match in GAP.finditer(source)
    ]
    return sorted(found, key=lambda gap: gap.task)


def judge(function: Callable[[Known], str], known: Known, missing: list[str], hinted: bool = False) -> tuple[str, str]:
    """The mark of a check and what it found: OK, FAIL, 'gap ', 'none' for nothing yet, '----' for not run.

    The hint stands on a line below, if it is asked for.
    """
    if missing:
        return "----", f"not checked, because {missing[0]} failed"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # loading prints what the checks say themselves
            return " OK ", function(known)
    except NotYet as error:
        return "none", str(error)
    except NotImplementedError as error:
        hint = HINT.format("the lines '# Hint:' stand above that line") if hinted else ""
        said = next((gap.describe() for gap in find_gaps(CODE) if str(gap) == str(error)), str(error))
        return "gap ", f"{said}{hint}"
    except Exception as error:  # the code that is checked is the student's
        hint = getattr(error, "hint", "") if hinted else ""
        return "FAIL", f"{error}{HINT.format(hint)}" if hint else explain_error(error)


def paint(mark: str) -> str:
    """The mark, in green or red on a terminal."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return mark
    colour = {"[ OK ]": "32", "[FAIL]": "31"}.get(mark)
    return f"\033[{colour}m{mark}\033[0m" if colour else mark


if __name__ == "__main__":
    run(check, "python -m homework.check")
