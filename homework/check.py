"""Everything that can be known without training, in a few seconds, with the fix for what is wrong.

    python -m homework.check              # paste its output into a question to staff

A check is a function that returns what it found, or raises HomeworkError with the fix. What rests on a check that
failed is not run: the first [FAIL] is the one to fix. No torch is needed to be told that it is missing.
"""

import contextlib
import inspect
import io
import math
import os
import platform
import re
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from homework.common.base_model import ROOT, pick_device
from homework.common.cli import run
from homework.common.errors import HomeworkError, explain_error
from homework.common.zip_contents import ADAPTER_FOLDER_NAME, CODE, WEIGHTS, ZIP_LIMIT, list_files
from homework.data import Dataset, check_apart

Known = dict[str, Any]  # what earlier checks found out, by name


class NotYet(Exception):
    """There is nothing to check so far."""


def check_python(known: Known) -> str:
    """The version of Python."""
    if tuple(map(int, platform.python_version_tuple()[:2])) < (3, 11):
        raise HomeworkError(f"Python {platform.python_version()} is too old: make .venv with Python 3.11 or newer")
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def check_packages(known: Known) -> str:
    """Every line of requirements.txt against what is installed here."""
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        raise HomeworkError("packaging is missing: pip install -r requirements.txt, in .venv") from None
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found, wrong = [], []
    for wanted in (Requirement(text) for line in lines if (text := line.split("#")[0].strip())):
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
    return ", ".join(found)


def check_device(known: Known) -> str:
    """The device, and the dtype with its reason."""
    device, dtype, reason = pick_device()
    return f"{device} in {str(dtype).split('.')[-1]}: {reason}"


def check_data(known: Known) -> str:
    """Both splits: rows, and that none is in both."""
    train, valid = known["train"], known["valid"] = Dataset("train"), Dataset("valid")
    check_apart(train, valid)
    return f"{len(train)} rows of train, {len(valid)} of valid, none in both"


def check_base(known: Known) -> str:
    """The base model: whole, and finite."""
    import torch

    from homework.base_llm import BaseLLM

    llm = known["llm"] = BaseLLM(known["checkpoint"])
    for name, parameter in llm.model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise HomeworkError(f"the weight {name} of {llm.name} is not finite: fetch the checkpoint again")
    if any(parameter.dtype == torch.float16 for parameter in llm.model.parameters()):
        raise HomeworkError(f"{llm.name} is loaded in float16, which overflows to NaN: load it in float32 or bfloat16")
    count = sum(parameter.numel() for parameter in llm.model.parameters())
    return f"{llm.name}, {count / 1e6:.2f} million parameters, all finite"


def check_parsing(known: Known) -> str:
    """parse_answer, on texts that a model may write."""
    from homework.guards.inference_check import check_parser

    check_parser(known["llm"])
    return "parse_answer reads the number between the tags, and makes none up"


def check_generating(known: Known) -> str:
    """generate, batched_generate and answer, with a stub in the place of the model."""
    from homework.guards.inference_check import check_generation

    check_generation(known["llm"], known["train"])
    return "prompts reach the model, and its texts come back, as they are"


def check_scoring(known: Known) -> str:
    """is_answer_valid and the shares that are made of it."""
    from homework.guards.inference_check import check_metric

    check_metric()
    return "right is within 5 % of the correct answer; accuracy and answer rate are shares of all questions"


def check_labels(known: Known) -> str:
    """The labels of every row of train, by the check that training uses."""
    from homework.guards.labels import check_rows
    from homework.sft import TokenizedDataset, format_example
    from homework.training.batches import describe_rows

    tokenizer = known["llm"].tokenizer
    rows = known["rows"] = TokenizedDataset(tokenizer, known["train"], format_example)
    check_rows(tokenizer, known["train"], format_example, rows)
    return describe_rows(rows, batch_size=32)


def check_asking(known: Known) -> str:
    """That inference asks what training teaches."""
    from homework.guards.inference_check import check_lengths, check_prompt

    check_prompt(known["llm"], known["train"], known["rows"])
    check_lengths(known["llm"], known["valid"], "valid")
    return "inference asks what training teaches, and reads what it taught"


def check_batch(known: Known) -> str:
    """The collator, on rows of different length."""
    from homework.guards.watchdog import diagnose_batch
    from homework.sft import Collator

    rows = known["rows"]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))
    batch = Collator(known["llm"].pad_id)([rows[order[0]], rows[order[-1]]])
    if complaint := diagnose_batch(batch, rows):
        raise HomeworkError(complaint)
    return "ids, mask and labels of a batch are those of its rows, padded"


def check_lora(known: Known) -> str:
    """That LoRA is all that would be trained, and how large its file will be."""
    from homework.guards.watchdog import check_input_gradients, check_trainable
    from homework.sft import add_lora
    from homework.training.recipe import DEFAULT_RECIPE, RECIPES

    recipe = RECIPES.get(known["llm"].name, DEFAULT_RECIPE)
    model = known["model"] = add_lora(known["llm"].reload_model(), recipe, seed=0)
    check_trainable(model, recipe.rank)
    check_input_gradients(model)
    size = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return f"rank {recipe.rank} on all linear layers, the base is frozen; the adapter will take {size / 1e6:.1f} MB"


def check_training(known: Known) -> str:
    """training_arguments, and which Trainer train_model takes."""
    from homework.guards.watchdog import check_arguments
    from homework.sft import train_model, training_arguments
    from homework.training.recipe import DEFAULT_RECIPE

    arguments = training_arguments(DEFAULT_RECIPE, seed=1, max_steps=3)
    check_arguments(arguments, {"num_train_epochs": DEFAULT_RECIPE.epochs, "seed": 1, "max_steps": 3,
                                "learning_rate": DEFAULT_RECIPE.learning_rate})  # fmt: skip
    source = inspect.getsource(train_model)
    if (4, "train_model") in find_gaps(CODE):
        raise NotImplementedError(f"task {4}: train_model is not implemented yet")
    if "HomeworkTrainer(" not in source:
        return f"train_model goes without HomeworkTrainer, which is allowed; then nothing here {WATCHES}"
    return f"train_model takes HomeworkTrainer, which {WATCHES}"


def check_adapter(known: Known) -> str:
    """The saved adapter: present, valid, and of this base model."""
    from homework.training.adapter import attach_adapter, check_base, read_adapter_config

    folder = CODE / ADAPTER_FOLDER_NAME
    if not (folder / WEIGHTS).is_file():
        raise NotYet("none yet: python -m homework.sft train")
    check_base(read_adapter_config(folder), known["llm"].name)
    attach_adapter(known["llm"].reload_model(), folder)
    return f"finite, trained, and made for {known['llm'].name}"


def check_run(known: Known) -> str:
    """The log of the newest run: what it says of labels, precision and skipped steps."""
    from homework.common.files import read_json
    from homework.guards.watchdog import diagnose_log
    from homework.training.run_dir import LOG, RUNS

    logs = sorted(RUNS.glob(f"*/{LOG}"), key=lambda path: path.stat().st_mtime)
    content = read_json(logs[-1]) if logs else None
    if not content or not content.get("log"):
        raise NotYet("none yet: python -m homework.sft train")
    if complaint := diagnose_log(content["log"]):
        raise HomeworkError(f"{logs[-1].parent.name}: {complaint}")
    losses = [entry["loss"] for entry in content["log"] if "loss" in entry]
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


# name, check, and the checks that it rests on: what must be there, then task by task, then what there is already
CHECKS: tuple[tuple[str, Callable[[Known], str], tuple[str, ...]], ...] = (
    ("python", check_python, ()),
    ("packages", check_packages, ()),
    ("device", check_device, ("packages",)),
    ("data", check_data, ()),
    ("base model", check_base, ("packages",)),
    ("1 parser", check_parsing, ("base model",)),
    ("1 generation", check_generating, ("data", "1 parser")),
    ("2 metric", check_scoring, ()),
    ("3 labels", check_labels, ("data", "base model", "1 parser", "2 metric")),
    ("3 prompt", check_asking, ("1 generation", "3 labels")),
    ("4 batch", check_batch, ("3 labels",)),
    ("4 lora", check_lora, ("base model",)),
    ("4 training", check_training, ("packages",)),
    ("adapter", check_adapter, ("base model",)),
    ("last run", check_run, ("packages",)),
    ("zip", check_zip, ()),
)
WATCHES = (
    "stops at lost labels, gradients that are NaN or zero, a loss that is not that of the labels, and an adapter that "
    "does not load; it resumes after an interruption"
)
GAP = re.compile(r'raise NotImplementedError\("task (\d+): (\w+) is not implemented yet"\)')


def check(*, checkpoint: str | None = None) -> None:
    """Check all that can be known without training, task by task.

    Args:
        checkpoint: the base model; else HOMEWORK_CHECKPOINT, else the bundled model.
    """
    known: Known = {"checkpoint": checkpoint}
    failed: dict[str, str] = {}
    for name, function, needs in CHECKS:
        mark, text = judge(function, known, [need for need in needs if need in failed])
        if mark in ("FAIL", "----"):
            failed[name] = mark
        print(f"{paint(f'[{mark}]'):<6} {name:<12} {text}", flush=True)
    if gaps := find_gaps(CODE):
        print(f"gaps left: {len(gaps)}, the next one is task {gaps[0][0]}: {gaps[0][1]}")
    count = sum(mark == "FAIL" for mark in failed.values())
    if count:
        raise HomeworkError(f"{count} of {len(CHECKS)} checks failed: fix the first one")
    print("all that can be known without training is right")


def find_gaps(code: Path) -> list[tuple[int, str]]:
    """Task and name of each gap that is left in the files of a package, in the order of the tasks."""
    sources = [path.read_text(encoding="utf-8") for path in sorted(code.glob("*.py"))]
    found = [(int(task), name) for source in sources for task, name in GAP.findall(source)]
    return sorted(found, key=lambda gap: gap[0])


def judge(function: Callable[[Known], str], known: Known, missing: list[str]) -> tuple[str, str]:
    """The mark of a check and what it found: OK, FAIL, 'none' for nothing yet, '----' for not run."""
    if missing:
        return "----", f"not checked, because {missing[0]} failed"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # loading prints what the checks say themselves
            return " OK ", function(known)
    except NotYet as error:
        return "none", str(error)
    except Exception as error:  # the code that is checked is the student's
        return "FAIL", explain_error(error)


def paint(mark: str) -> str:
    """The mark, in green or red on a terminal."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return mark
    colour = {"[ OK ]": "32", "[FAIL]": "31"}.get(mark)
    return f"\033[{colour}m{mark}\033[0m" if colour else mark


if __name__ == "__main__":
    run(check, "python -m homework.check")
