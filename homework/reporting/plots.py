"""The plots of a run: loss, gradient norm, learning rate and accuracy over the steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from homework.training.evaluation import wilson_interval
from homework.training.run_dir import steps_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_run(log: Sequence[dict], probe_size: int, path: Path, title: str = "") -> None:
    """Draw a log as one PNG of 2 x 2 panels.

    Args:
        log: entries with `step` and either loss, grad_norm and learning_rate, or accuracy_SPLIT.
        probe_size: on how many questions each accuracy was measured, for its 95 % interval.
        path: of the PNG.
        title: of the whole picture.
    """
    # No pyplot: it keeps figures in a global list and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6))
    # Fixed: to let matplotlib find these margins takes longer than to draw.
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.08, top=0.88, hspace=0.36, wspace=0.17)
    figure.suptitle(title)
    panels = figure.subplots(2, 2)
    steps = steps_of(log)
    for panel, key, title, scale in (
        (panels[0, 0], "loss", "loss (nats a supervised token)", "log"),
        (panels[0, 1], "grad_norm", "gradient norm before clipping", "log"),
        (panels[1, 0], "learning_rate", "learning rate", "linear"),
    ):
        panel.plot([entry["step"] for entry in steps], [entry[key] for entry in steps], linewidth=1)
        panel.set(title=title, xlabel="step", yscale=scale)
        panel.grid(alpha=0.3)
    draw_accuracy(panels[1, 1], log, probe_size)
    figure.savefig(path, dpi=110)


def draw_accuracy(panel: "Axes", log: Sequence[dict], probe_size: int) -> None:
    """Draw the accuracy of each split with its 95 % interval; markers differ, so that colour is not the only sign."""
    for split, marker in (("train", "o-"), ("valid", "s--")):
        points = [(entry["step"], entry[f"accuracy_{split}"]) for entry in log if f"accuracy_{split}" in entry]
        if points:
            steps, shares = zip(*points, strict=True)
            low, high = zip(*(wilson_interval(share, probe_size) for share in shares), strict=True)
            panel.plot(steps, shares, marker, label=split, markersize=4)
            panel.fill_between(steps, low, high, alpha=0.15)
    panel.set(title=f"accuracy on {probe_size} questions, 95 % band", xlabel="step", ylim=(-0.02, 1.02))
    panel.grid(alpha=0.3)
    if panel.get_legend_handles_labels()[1]:
        panel.legend(loc="lower right")
