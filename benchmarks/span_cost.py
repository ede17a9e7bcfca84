"""What a wrong label span costs: the same training with six spans, five seeds each, without any of the guards.

    python -m benchmarks.span_cost            # ten minutes on two cores; writes benchmarks/span_cost.json
    python -m benchmarks.span_cost --table    # prints the table of the README from that file

Everything but the labels is the recipe of the bundled model. What the file holds already is not measured again.
"""

import json
import math
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.reference_run import reference_run
from homework.base_llm import score
from homework.common.cli import run
from homework.common.files import read_json, write_json
from homework.data import IGNORE_INDEX, Dataset, Row
from homework.training.evaluation import take_reported
from homework.training.trainer import steps_of

RESULTS = Path(__file__).with_suffix(".json")
STUDENT_T = {5: 2.776}  # 97.5 % quantile with 4 degrees of freedom


def keep(row: Row) -> Row:
    """The exact span: answer and EOS."""
    return row


def mask_first_token(row: Row) -> Row:
    """Mask one more token, as len(tokenizer(question + ' ')) does."""
    start = next(t for t, label in enumerate(row["labels"]) if label != IGNORE_INDEX)
    return {**row, "labels": [IGNORE_INDEX] * (start + 1) + row["labels"][start + 1 :]}


def supervise_question(row: Row) -> Row:
    """No mask at all."""
    return {**row, "labels": list(row["input_ids"])}


def supervise_padding(row: Row, width: int = 0) -> Row:
    """A row padded with EOS to a width, and the padding supervised as well."""
    count, eos = width - len(row["input_ids"]), row["input_ids"][-1]
    mask = row["attention_mask"] + [0] * count
    return {
        "input_ids": row["input_ids"] + [eos] * count,
        "attention_mask": mask,
        "labels": row["labels"] + [eos] * count,
    }


def mask_eos(row: Row) -> Row:
    """Every EOS masked, as a mask by the pad id does where pad is EOS."""
    return {**row, "labels": [*row["labels"][:-1], IGNORE_INDEX]}


def mask_all(row: Row) -> Row:
    """No label left."""
    return {**row, "labels": [IGNORE_INDEX] * len(row["labels"])}


SPANS: dict[str, Callable[[Row], Row]] = {
    "exact: answer and EOS": keep,
    "first answer token masked": mask_first_token,
    "question supervised too": supervise_question,
    "padding supervised too": supervise_padding,
    "EOS masked": mask_eos,
    "all masked": mask_all,
}


def measure(change: Callable[[Row], Row], seed: int) -> dict[str, float | None]:
    """Train and score one span with one seed: accuracy, answer rate, share ended by EOS, first and last loss."""
    with reference_run(seed) as setup:
        if change is supervise_padding:
            change = partial(change, width=max(len(row["input_ids"]) for row in setup.rows.rows))
        log = setup.train([change(row) for row in setup.rows.rows], seed=seed, watch=False)
        setup.llm.model = setup.model.eval()
        result, completions = score(setup.llm, take_reported(Dataset("valid"), None))
    losses = [entry["loss"] for entry in steps_of(log)]
    return {
        "accuracy": result.accuracy,
        "answer_rate": result.answer_rate,
        "ended_by_eos": sum(completion.ended for completion in completions) / len(completions),
        "first_loss": finite(losses[0]),
        "last_loss": finite(losses[-1]),
        "last_grad_norm": finite(steps_of(log)[-1]["grad_norm"]),
    }


def finite(value: float) -> float | None:
    """The value, or None for what JSON can't write."""
    return value if math.isfinite(value) else None


def format_table(results: dict[str, dict]) -> str:
    """The results as a Markdown table; the interval is Student's, over the seeds."""
    lines = [
        "| supervised | accuracy (95 % interval) | answer rate | ended by EOS | loss, first to last |",
        "|---|---|---|---|---|",
    ]
    for name in SPANS:
        runs = list(results[name].values())
        mean = {key: statistics.mean(run[key] for run in runs) for key in ("accuracy", "answer_rate", "ended_by_eos")}
        half = STUDENT_T[len(runs)] * statistics.stdev(run["accuracy"] for run in runs) / math.sqrt(len(runs))
        low, high = max(0.0, mean["accuracy"] - half), min(1.0, mean["accuracy"] + half)
        losses = [statistics.mean(run[key] for run in runs) if runs[0][key] is not None else math.nan for key in LOSSES]
        lines.append(
            f"| {name} | {mean['accuracy']:.3f} ({low:.3f} to {high:.3f}) | {mean['answer_rate']:.3f} "
            f"| {mean['ended_by_eos']:.3f} | {losses[0]:.2f} to {losses[1]:.3f} |"
        )
    return "\n".join(lines)


LOSSES = ("first_loss", "last_loss")


def main(*, table: bool = False, seeds: int = 5) -> None:
    """Measure what is not measured yet, then print the table.

    Args:
        table: only print the table.
        seeds: how many seeds of each span.
    """
    results = read_json(RESULTS) or {name: {} for name in SPANS}
    for seed in range(0 if table else seeds):
        for name, change in SPANS.items():
            if str(seed) not in results[name]:
                results[name][str(seed)] = measure(change, seed)
                write_json(RESULTS, results)
                print(f"seed {seed}, {name}: {json.dumps(results[name][str(seed)])}", flush=True)
    print(format_table(results))


if __name__ == "__main__":
    run(main, "python -m benchmarks.span_cost")
