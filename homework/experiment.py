"""Mistakes to make on purpose: the training of a recipe with one thing changed, without the guards, side by side.

    python -m homework.experiment span             # what a wrong label span costs
    python -m homework.experiment rank             # LoRA with fewer parameters, and with more
    python -m homework.experiment learning-rate    # steps that are too small, and too large

Each training is a run of your own train_model in homework/sft.py; a variant spoils the labels of your rows, or takes
another number. Everything goes into runs/, and no adapter is saved.

torch, transformers and peft are imported where they are used: they take seconds, and ``--help`` should not.
"""

import contextlib
import copy
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from homework.base_llm import BaseLLM, score
from homework.common.cli import UsageError, run, suggest
from homework.common.errors import HomeworkError
from homework.common.files import fingerprint_file, read_json, write_json
from homework.common.zip_contents import ADAPTER_FOLDER_NAME, CODE
from homework.data import DATA_FOLDER, IGNORE_INDEX, Dataset, Row
from homework.reporting.comparison import MAX_SEEDS, draw_comparison, format_table, format_texts
from homework.sft import Collator, TokenizedDataset, format_example, train_model
from homework.training import run_dir
from homework.training.evaluation import take_reported
from homework.training.recipe import LIMITS, Recipe, choose_recipe

MEASURED, PICTURE = "measured-{questions}.json", "comparison.png"
LAST = 10  # steps at the end whose mean loss is shown: a single batch says little
# What decides a result beside the packages training/ and guards/: the functions that make and ask the model.
DECIDING = tuple(CODE / name for name in ("experiment.py", "sft.py", "base_llm.py", "data.py"))
Spoil = Callable[[Row, int], Row]  # a right row, and the length of the longest one -> the row to train on
Measured = dict[str, Any]


# --- the variants ---


def keep(row: Row, longest: int) -> Row:
    """Your labels as they are."""
    return row


def mask_first_token(row: Row, longest: int) -> Row:
    """One more token masked, the first of the answer."""
    first = next(t for t, label in enumerate(row["labels"]) if label != IGNORE_INDEX)
    return {**row, "labels": [*row["labels"][:first], IGNORE_INDEX, *row["labels"][first + 1 :]]}


def supervise_question(row: Row, longest: int) -> Row:
    """No mask at all."""
    return {**row, "labels": list(row["input_ids"])}


def supervise_padding(row: Row, longest: int) -> Row:
    """Padded to the longest row with the last token, which is EOS, and the padding supervised as well."""
    count, eos = longest - len(row["input_ids"]), row["input_ids"][-1]
    fills = {"input_ids": eos, "attention_mask": 0, "labels": eos}
    return {name: row[name] + [fill] * count for name, fill in fills.items()}


def mask_eos(row: Row, longest: int) -> Row:
    """EOS masked, as a mask by the pad id does where padding is EOS."""
    return {**row, "labels": [*row["labels"][:-1], IGNORE_INDEX]}


def mask_all(row: Row, longest: int) -> Row:
    """No label left."""
    return {**row, "labels": [IGNORE_INDEX] * len(row["labels"])}


SPANS: dict[str, Spoil] = {
    "exact: answer and EOS": keep,
    "first answer token masked": mask_first_token,
    "question supervised too": supervise_question,
    "padding supervised too": supervise_padding,
    "EOS masked": mask_eos,
    "all masked": mask_all,
}
RANKS = (1 / 16, 1 / 4, 1, 4)  # of the recipe's
RATES = (1 / 100, 1 / 10, 1, 10)


class Variant(NamedTuple):
    """One training of an experiment: its hyper-parameters, and what is done to each row."""

    recipe: Recipe
    spoil: Spoil = keep


def span_variants(recipe: Recipe) -> dict[str, Variant]:
    """The same recipe with each span."""
    return {name: Variant(recipe, spoil) for name, spoil in SPANS.items()}


def rank_variants(recipe: Recipe) -> dict[str, Variant]:
    """Other ranks; alpha follows, so that alpha / rank stays."""
    ranks = sorted({min(LIMITS["rank"], max(1, round(share * recipe.rank))) for share in RANKS})
    return {f"rank {rank}": Variant(recipe.at_rank(rank)) for rank in ranks}


def rate_variants(recipe: Recipe) -> dict[str, Variant]:
    """Other learning rates."""
    rates = [recipe.learning_rate * factor for factor in RATES]
    return {f"learning rate {rate:.0e}": Variant(replace(recipe, learning_rate=rate)) for rate in rates}


EXPERIMENTS: dict[str, Callable[[Recipe], dict[str, Variant]]] = {
    "span": span_variants,
    "rank": rank_variants,
    "learning-rate": rate_variants,
}


# --- one training ---


class Setup(NamedTuple):
    """What all trainings of an experiment share: model, rows, the questions to answer, and the experiment's folder."""

    llm: BaseLLM
    checkpoint: str | None
    base_weights: str
    rows: TokenizedDataset
    asked: list[tuple[str, float]]
    folder: Path


def prepare(name: str, checkpoint: str | None, questions: int | None) -> Setup:
    """Load the base model, and tokenize the rows with the student's own functions.

    Raises:
        HomeworkError: if the student's own labels, prompt or parser are wrong: nothing could be compared with them.
    """
    from homework.training.adapter import fingerprint_base
    from homework.training.trainer import check_rows_and_prompt

    folder = run_dir.RUNS / f"experiment-{name}"
    valid = Dataset("valid")
    asked = take_reported(valid, questions)
    llm, data = BaseLLM(checkpoint), Dataset("train")
    rows = TokenizedDataset(llm.tokenizer, data, format_example)
    check_rows_and_prompt(llm, rows, data, valid, format_example)
    folder.mkdir(parents=True, exist_ok=True)
    return Setup(llm, checkpoint, fingerprint_base(llm.model), rows, asked, folder)


def measure(setup: Setup, name: str, variant: Variant, seed: int, restart: bool) -> Measured:
    """What one training gives, or gave: kept in a folder of its own, and measured again only where something changed.

    A line is printed as soon as the result is there.

    Returns:
        `figures`, `losses` of all steps (None where not finite), `wrote` after the first question, and `settings`, all
        that decides the rest.
    """
    longest = max(len(row["input_ids"]) for row in setup.rows)
    rows = [variant.spoil(row, longest) for row in setup.rows]
    folder = setup.folder / f"seed-{seed}" / re.sub(r"\W+", "-", name)
    file = folder / MEASURED.format(questions=len(setup.asked))
    settings = describe(setup, variant, rows, seed)
    measured = kept = read_json(file)
    said, changed = "kept from before", differences((kept or {}).get("settings", {}), settings)
    if restart or changed:
        started = time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        with named_interrupt(f"{name}, seed {seed}"), quiet(folder / "output.txt"):
            llm, log = train(setup, variant, rows, seed, folder, restart)
            measured = {"settings": settings, **ask(llm, log, setup.asked)}
        said = f"{time.perf_counter() - started:.0f} s{f', because of other {changed}' if kept and changed else ''}"
        write_json(file, measured)
    assert measured is not None  # kept, or just made
    print(f"{name}, seed {seed}: accuracy {measured['figures']['accuracy']:.3f}, {said}", flush=True)
    return measured


def describe(setup: Setup, variant: Variant, rows: list[Row], seed: int) -> dict[str, Any]:
    """All that decides what a training gives."""
    llm = setup.llm
    return run_dir.describe(
        Collator(llm.pad_id),
        rows,
        **asdict(variant.recipe),
        seed=seed,
        questions=len(setup.asked),
        base_model=llm.name,
        base_weights=setup.base_weights,
        device=f"{llm.device} {llm.model.dtype}",
        files={path.name: fingerprint_file(path) for path in (*DECIDING, DATA_FOLDER / "valid.json")},
    )


def differences(former: dict[str, Any], now: dict[str, Any]) -> str:
    """The names of what is not as it was, of the files one by one.

    Example: {'seed': 1, 'files': {'sft.py': 'a'}}, {'seed': 1, 'files': {'sft.py': 'b'}} -> 'sft.py'
    """
    flat = [{**values, **values.get("files", {}), "files": None} for values in (former, now)]
    changed = [name for name in flat[0] | flat[1] if flat[0].get(name) != flat[1].get(name)]
    return ", ".join(name.replace("_", " ") for name in changed)


@contextlib.contextmanager
def named_interrupt(name: str) -> Iterator[None]:
    """Let Ctrl-C say which training was stopped, where the words of the training speak of an adapter."""
    try:
        yield
    except KeyboardInterrupt as stop:
        where = "after a whole step, which is kept" if str(stop) else "at once"
        raise KeyboardInterrupt(
            f"stopped in {name}, {where}; the same command goes on there, and keeps what is done"
        ) from stop


@contextlib.contextmanager
def quiet(path: Path) -> Iterator[None]:
    """Write what is printed into a file."""
    with path.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        yield


def train(
    setup: Setup, variant: Variant, rows: list[Row], seed: int, folder: Path, restart: bool
) -> tuple[BaseLLM, list[dict]]:
    """Run train_model on the rows of one variant, with the guards off; the trained model and the log.

    Raises:
        HomeworkError: if train_model trains without HomeworkTrainer: other rows can't be put in there.
    """
    from homework.training.unwatched import unwatched

    output = setup.folder / "adapter"  # it stays empty, but no second process can use it meanwhile
    flags: dict[str, Any] = {**asdict(variant.recipe), "checkpoint": setup.checkpoint, "seed": seed, "restart": restart}
    with unwatched(rows) as trained:
        train_model(str(output), run_dir=str(folder), **flags)
    if not trained:
        raise HomeworkError("train_model has not trained with HomeworkTrainer, and an experiment needs that")
    trainer = trained[0]
    trainer.run.restart()  # an interrupted training was gone on with; its checkpoint has done its work
    trainer.run.close()
    llm = copy.copy(trainer.llm)
    llm.model = trainer.model
    return llm, trainer.state.log_history


def ask(llm: BaseLLM, log: list[dict], questions: list[tuple[str, float]]) -> Measured:
    """What a trained model answers, and what the log of its training says."""
    import torch

    from homework.training.merged_lora import merged_lora

    llm.model.eval()
    is_finite = all(bool(torch.isfinite(parameter).all()) for parameter in llm.model.parameters())
    # peft refuses to merge weights that are not finite; the model still has to be asked.
    with merged_lora(llm.model) if is_finite else contextlib.nullcontext():
        result, completions = score(llm, questions)
    steps = run_dir.steps_of(log)
    losses = [finite(entry["loss"]) for entry in steps]
    figures = {
        "accuracy": result.accuracy,
        "answer_rate": result.answer_rate,
        "ended_by_eos": sum(completion.ended for completion in completions) / len(completions),
        "first_loss": losses[0],
        "last_loss": mean_loss(losses[-LAST:]),
        "last_grad_norm": finite(steps[-1]["grad_norm"]),
    }
    return {"figures": figures, "losses": losses, "wrote": completions[0].text}


def mean_loss(losses: list[float | None]) -> float | None:
    """The mean of losses; None where one of them is not finite."""
    return finite(sum(math.nan if loss is None else loss for loss in losses) / len(losses))


def finite(value: float) -> float | None:
    """The value, or None for what JSON can't write."""
    return value if math.isfinite(value) else None


# --- the command ---


def experiment(
    name: str,
    *,
    seeds: int = 1,
    checkpoint: str | None = None,
    questions: int | None = None,
    restart: bool = False,
    json: str | None = None,
) -> None:
    """Train the variants of an experiment with the guards off, and show them side by side, as a table and a picture.

    No adapter is saved: homework/sft_model stays as it is. Table, picture and the result of each training are kept in
    runs/experiment-NAME/, and the same command goes on after an interruption; what has changed since is trained again.
    Each training takes as long as python -m homework.sft train, six of them two minutes on two free cores.

    Args:
        name: span (labels on wrong tokens), rank (LoRA with fewer and more parameters) or learning-rate.
        seeds: how many trainings of each variant, with the seeds 0, 1, ...; three and more make an interval over them.
        checkpoint: folder or hub name of the base model; else HOMEWORK_CHECKPOINT, else the bundled model.
        questions: how many questions of valid to answer after each training; all by default.
        restart: train all variants again.
        json: a file for the figures of the table.
    """
    check_arguments(name, seeds, json)
    setup = prepare(name, checkpoint, questions)
    variants = EXPERIMENTS[name](choose_recipe(setup.llm.name, {}))
    print(
        f"{len(variants) * seeds} trainings with the guards off, into {setup.folder}; "
        f"{CODE.name}/{ADAPTER_FOLDER_NAME} stays as it is"
    )
    measured = measure_all(setup, variants, seeds, restart)
    report(setup, name, measured)
    if json:
        write_json(Path(json), figures_of(measured))


def check_arguments(name: str, seeds: int, json: str | None) -> None:
    """Raise UsageError or HomeworkError for a name, a number or a file that can't be."""
    if name not in EXPERIMENTS:
        raise UsageError(
            f"there is no experiment {name!r}{suggest(name, EXPERIMENTS)}: choose {', '.join(EXPERIMENTS)}"
        )
    if not 1 <= seeds <= MAX_SEEDS or seeds == 2:
        raise HomeworkError(f"--seeds must be 1, or 3 to {MAX_SEEDS}, which make an interval, got {seeds}")
    if json and not Path(json).absolute().parent.is_dir():
        raise HomeworkError(f"--json {json}: there is no folder {Path(json).parent}")


def measure_all(
    setup: Setup, variants: dict[str, Variant], seeds: int, restart: bool
) -> dict[str, dict[str, Measured]]:
    """The results of all trainings, by variant and seed; all variants with one seed come before the next seed."""
    measured: dict[str, dict[str, Measured]] = {name: {} for name in variants}
    for seed in range(seeds):
        for name, variant in variants.items():
            measured[name][str(seed)] = measure(setup, name, variant, seed, restart)
    return measured


def report(setup: Setup, name: str, measured: dict[str, dict[str, Measured]]) -> None:
    """Print the table and what the models wrote, and draw the picture."""
    figures, count = figures_of(measured), len(setup.asked)
    print(f"\n{format_table(figures, count, 'supervised' if name == 'span' else 'variant')}\n")
    question, correct = setup.asked[0]
    texts = {variant: runs["0"]["wrote"] for variant, runs in measured.items()}
    print(f"what they write after {question!r} (correct {correct:.4g}):\n{format_texts(texts)}")
    curves = {variant: [run["losses"] for run in runs.values()] for variant, runs in measured.items()}
    path = setup.folder / PICTURE
    draw_comparison(figures, curves, count, path, f"experiment {name}, {len(curves)} variants, guards off")
    print(f"picture in {path}, each training in a folder beside it")


def figures_of(measured: dict[str, dict[str, Measured]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """The figures by variant and seed."""
    return {name: {seed: result["figures"] for seed, result in results.items()} for name, results in measured.items()}


if __name__ == "__main__":
    run(experiment, "python -m homework.experiment")
