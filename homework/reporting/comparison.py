"""Trainings side by side: a table, what their models write, and a picture of losses and accuracies."""

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from homework.training.evaluation import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# 97.5 % quantiles of Student's distribution, by the number of seeds: one more than the degrees of freedom.
STUDENT_T = {3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
MAX_SEEDS = max(STUDENT_T)
SHARES = {"accuracy": "accuracy", "answer_rate": "answer rate", "ended_by_eos": "ended by EOS"}
DASHES = ("-", "--", "-.", ":", (0, (1, 4)), (0, (6, 1, 1, 1, 1, 1)))
Figures = Mapping[str, float | None]
Runs = Mapping[str, Figures]  # the figures of one variant, by seed
Curve = Sequence[float | None]


def format_table(results: Mapping[str, Runs], questions: int, head: str) -> str:
    """The figures of each variant as a Markdown table whose columns stand in line, means over the seeds.

    Args:
        results: `SHARES`, first_loss and last_loss, of ten steps (None where not finite), by variant and seed.
        questions: how many were answered, for the interval of a single seed.
        head: of the column of the variants.
    """
    count = len(next(iter(results.values())))
    over = "" if count == 1 else f", mean of {count} seeds"
    first, *others = SHARES.values()
    rows = [[head, f"{first}{over} (95 % interval)", *others, "loss, first step to last ten"]]
    for name, runs in results.items():
        accuracy, answer_rate, ended = (f"{mean_of(runs, share):.3f}" for share in SHARES)
        low, high = interval_of(runs, questions)
        losses = f"{mean_of(runs, 'first_loss'):.2f} to {mean_of(runs, 'last_loss'):.3f}"
        rows.append([name, f"{accuracy} ({low:.3f} to {high:.3f})", answer_rate, ended, losses])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)


def values_of(runs: Runs, key: str) -> list[float]:
    """A figure of each seed; NaN where it is not finite."""
    return [math.nan if (value := run[key]) is None else value for run in runs.values()]


def mean_of(runs: Runs, key: str) -> float:
    """The mean of a figure over the seeds; NaN if one of them is not finite."""
    return statistics.fmean(values_of(runs, key))


def interval_of(runs: Runs, questions: int) -> tuple[float, float]:
    """The 95 % interval of the accuracy: Student's over the seeds, Wilson's over the questions where there is one."""
    mean = mean_of(runs, "accuracy")
    if len(runs) == 1:
        return wilson_interval(mean, questions)
    half = STUDENT_T[len(runs)] * statistics.stdev(values_of(runs, "accuracy")) / math.sqrt(len(runs))
    return max(0.0, mean - half), min(1.0, mean + half)


def format_texts(texts: Mapping[str, str]) -> str:
    """What each variant writes, a line each, at most 60 characters of it, quoted so that no character acts."""
    width = max(map(len, texts))
    return "\n".join(
        f"  {name.ljust(width)}  {text[:60]!r}{' ...' if text[60:] else ''}" for name, text in texts.items()
    )


def draw_comparison(
    results: Mapping[str, Runs], curves: Mapping[str, Sequence[Curve]], questions: int, path: Path, title: str
) -> None:
    """Draw the losses over the steps and the accuracies beside each other, as one PNG.

    Args:
        results: as in `format_table`.
        curves: the losses of all steps by variant, one curve a seed.
        questions: as in `format_table`.
        path: of the PNG.
        title: of the whole picture.
    """
    # No pyplot: it keeps figures in a global list and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 6))
    figure.suptitle(title)
    left, middle = (figure.add_axes((x, 0.25, width, 0.63)) for x, width in ((0.05, 0.33), (0.52, 0.27)))
    right = figure.add_axes((0.81, 0.25, 0.17, 0.63), sharey=middle)
    draw_losses(left, curves)
    draw_accuracies(middle, results, questions)
    draw_texts(right, results)
    figure.savefig(path, dpi=110)


def draw_losses(panel: "Axes", curves: Mapping[str, Sequence[Curve]]) -> None:
    """Draw a curve a seed; the dashes differ too, so that colour is not the only sign."""
    for index, ((name, runs), dashes) in enumerate(zip(curves.items(), cycle(DASHES), strict=False)):
        is_drawn = any(loss is not None for losses in runs for loss in losses)
        for seed, losses in enumerate(runs):
            values = [math.nan if loss is None else loss for loss in losses]
            label = "_" if seed else name if is_drawn else f"{name} (its loss is nan)"
            panel.plot(
                range(1, len(values) + 1), values, linestyle=dashes, color=f"C{index}", linewidth=1.2, label=label
            )
    panel.set(title="loss (nats a supervised token)", xlabel="step", yscale="log")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


def draw_accuracies(panel: "Axes", results: Mapping[str, Runs], questions: int) -> None:
    """Draw a bar a variant, in the colour of its curve, with its 95 % interval and its number."""
    for index, (name, runs) in enumerate(results.items()):
        mean, (low, high) = mean_of(runs, "accuracy"), interval_of(runs, questions)
        panel.barh(name, mean, color=f"C{index}", alpha=0.6)
        panel.plot([low, high], [name, name], color="black", linewidth=1.5)
        panel.text(high + 0.01, index, f"{mean:.3f}", va="center", fontsize="small")
    panel.set(title=f"accuracy on {questions} questions, 95 % interval", xlim=(0, 1.1))
    panel.invert_yaxis()
    panel.grid(alpha=0.3, axis="x")


def draw_texts(panel: "Axes", results: Mapping[str, Runs]) -> None:
    """Draw two marks a variant: how many texts hold an answer, and how many end by EOS."""
    for key, mark in (("answer_rate", "o"), ("ended_by_eos", "|")):
        values = [mean_of(runs, key) for runs in results.values()]
        panel.plot(values, list(results), mark, color="black", fillstyle="none", markersize=11, label=SHARES[key])
    panel.set(title="share of the texts", xlim=(-0.05, 1.05))
    panel.tick_params(labelleft=False)
    panel.grid(alpha=0.3, axis="x")
    panel.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
