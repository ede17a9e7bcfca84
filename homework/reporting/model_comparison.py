"""Several models on the same questions, by quantity and by digits of the value: where reasoning pays, and where not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from homework.base_llm import BaseLLM, score
from homework.data import Sample, is_answer_valid
from homework.reporting.error_analysis import read_question
from homework.reporting.sampling_report import count_digits
from homework.training.evaluation import wilson_interval

STRICT = 0.01  # within which a computed answer lies, beside the 5 % of the homework


class Share(NamedTuple):
    """Right answers of so many questions, within 5 % and within 1 %."""

    asked: int
    right: int
    strict: int


def judge_model(llm: BaseLLM, rows: Sequence[tuple[str, float]]) -> dict[str, Share]:
    """The right answers of a model, of all questions and by group."""
    from homework.training.merged_lora import merged_lora

    with merged_lora(llm.model):
        return count_groups(score(llm, rows)[0].samples)


def count_groups(samples: Sequence[Sample]) -> dict[str, Share]:
    """All samples, those of each quantity, and those of each number of digits of the value."""
    groups: dict[str, list[Sample]] = {"all": list(samples)}
    for sample in samples:
        quantity, value = read_question(sample.question)
        for name in (quantity, count_digits(value)):
            groups.setdefault(name, []).append(sample)
    return {name: count_right(groups[name]) for name in sorted(groups, key=lambda name: (name != "all", name))}


def count_right(samples: Sequence[Sample]) -> Share:
    """How many samples are right."""
    strict = sum(is_answer_valid(sample.answer, sample.correct_answer, STRICT) for sample in samples)
    return Share(len(samples), sum(sample.is_correct for sample in samples), strict)


def format_models(judged: Mapping[str, Mapping[str, Share]]) -> str:
    """A table of text: a line a group, for each model the share within 5 % and within 1 %."""
    names, groups = list(judged), next(iter(judged.values()))
    lines = ["right within 5 % (within 1 %)".ljust(30) + "asked" + "".join(f"{name:>20}" for name in names)]
    for group, first in groups.items():
        cells = (judged[name][group] for name in names)
        shares = "".join(f"{share.right / share.asked:>12.3f} ({share.strict / share.asked:.3f})" for share in cells)
        lines.append(f"  {group:<28}{first.asked:>5}{shares}")
    return "\n".join(lines)


def draw_models(judged: Mapping[str, Mapping[str, Share]], path: Path) -> None:
    """Draw a bar a model in each group, within 1 %, with its 95 % interval, as one PNG."""
    # No pyplot: it keeps figures in a global list and looks for a screen.
    from matplotlib.figure import Figure

    groups = list(next(iter(judged.values())))
    figure = Figure(figsize=(11, 5))
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.28, top=0.9)
    panel = figure.subplots()
    width = 0.8 / len(judged)
    for place, (name, shares) in enumerate(judged.items()):
        at = [index + place * width for index in range(len(groups))]
        right = [shares[group].strict / shares[group].asked for group in groups]
        panel.bar(at, right, width, label=name, hatch=("", "//", "..")[place % 3], alpha=0.7)
        for x, group in zip(at, groups, strict=True):
            panel.plot(
                [x, x],
                wilson_interval(shares[group].strict / shares[group].asked, shares[group].asked),
                "k",
                linewidth=1,
            )
    panel.set(title="right within 1 %, with 95 % intervals", ylim=(0, 1.05))
    panel.set_xticks([index + 0.4 - width / 2 for index in range(len(groups))], groups, rotation=30, ha="right")
    panel.grid(alpha=0.3, axis="y")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=len(judged))
    figure.savefig(path, dpi=110)
