"""What rejection sampling accepted: by quantity, digits of the value, length of the text, and number of samples.

pass@k is the chance that at least one of k samples of a question is right: of n samples with c right ones it is
1 - C(n - c, k) / C(n, k), the unbiased estimate of Chen et al. 2021 (https://arxiv.org/abs/2107.03374).
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from homework.base_llm import Completion
from homework.common.equations import chain_key
from homework.reporting.error_analysis import read_question

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LENGTHS = (40, 60, 80, 100)  # characters: bounds of the groups of texts
HARD = 0.5  # a group whose share is below half of the whole is named


class Judged(NamedTuple):
    """A question with its samples and what the rule said of each; None for an accepted one."""

    question: str
    texts: list[str]
    faults: list[str | None]

    @property
    def accepted(self) -> list[str]:
        """The texts in which the rule saw no fault."""
        return [text for text, fault in zip(self.texts, self.faults, strict=True) if fault is None]

    @property
    def chains(self) -> int:
        """How many different chains were accepted."""
        return len(set(map(chain_key, self.accepted)))

    @property
    def is_kept(self) -> bool:
        """Whether any sample was accepted."""
        return None in self.faults


def judge_texts(
    asked: Sequence[tuple[str, float]],
    texts: Sequence[Sequence[Completion]],
    find_fault: Callable[[Completion, float], str | None],
) -> list[Judged]:
    """Every sample of every question, judged by the rule."""
    return [
        Judged(question, [text.text for text in sampled], [find_fault(text, correct) for text in sampled])
        for (question, correct), sampled in zip(asked, texts, strict=True)
    ]


def pass_at(judged: Sequence[Judged], k: int, samples: int) -> float:
    """The mean of pass@k over the questions, from the first `samples` texts of each; of fewer than k, all count.

    Example: 1 of 4 texts is right -> pass@1 is 0.25, pass@2 is 0.5
    """
    total = 0.0
    for item in judged:
        faults = item.faults[:samples]
        drawn = min(k, len(faults))
        total += 1 - math.comb(len(faults) - faults.count(None), drawn) / math.comb(len(faults), drawn)
    return total / len(judged)


def count_digits(value: float) -> str:
    """The significant digits of a question's value.  Example: 0.305 -> '3 digits'"""
    if math.isnan(value):
        return "no number"
    digits = min(5, len(Decimal(f"{value:.10g}").normalize().as_tuple().digits))
    return f"{digits} digit{'s' * (digits > 1)}{' or more' * (digits == 5)}"


def group_by(judged: Sequence[Judged], key: Callable[[str, float], str]) -> dict[str, list[Judged]]:
    """The questions by a key of their quantity and value, in the order of the keys."""
    groups: dict[str, list[Judged]] = {}
    for item in judged:
        groups.setdefault(key(*read_question(item.question)), []).append(item)
    return dict(sorted(groups.items()))


def kept_by_group(judged: Sequence[Judged]) -> dict[str, tuple[int, int]]:
    """For each quantity and each number of digits, the questions with an accepted text and all of them."""
    groups = group_by(judged, lambda quantity, _: quantity) | group_by(judged, lambda _, value: count_digits(value))
    return {name: (sum(item.is_kept for item in group), len(group)) for name, group in groups.items()}


def accepted_by_length(judged: Sequence[Judged]) -> dict[str, tuple[int, int]]:
    """For each group of text lengths, the accepted samples and all of them."""
    counts: dict[str, list[int]] = {name: [0, 0] for name in map(name_length, (0, *LENGTHS))}
    for item in judged:
        for text, fault in zip(item.texts, item.faults, strict=True):
            count = counts[name_length(len(text))]
            count[0] += fault is None
            count[1] += 1
    return {name: (right, total) for name, (right, total) in counts.items() if total}


def name_length(characters: int) -> str:
    """The group of a text's length.  Example: 45 -> '40 to 59 characters'"""
    bounds = [0, *LENGTHS, 0]
    group = sum(characters >= bound for bound in LENGTHS)
    low, high = bounds[group], bounds[group + 1]
    return f"{low} to {high - 1} characters" if high else f"{low} characters or more"


def format_acceptance(judged: Sequence[Judged], samples: int, rows: int) -> str:
    """What was accepted, as a table of text."""
    kept = sum(item.is_kept for item in judged)
    chains = sum(item.chains for item in judged)
    faults = Counter(fault for item in judged for fault in item.faults)
    total = sum(faults.values())
    lines = ["  group                       asked   kept   share"]
    lines += [f"  {name:<26}{of:>7}{right:>7}{right / of:>8.2f}" for name, (right, of) in kept_by_group(judged).items()]
    lines += ["  samples by their length       all  right   share"]
    lines += [
        f"  {name:<26}{of:>7}{right:>7}{right / of:>8.2f}" for name, (right, of) in accepted_by_length(judged).items()
    ]
    refused = ", ".join(f"{fault} {count / total:.0%}" for fault, count in faults.most_common() if fault)
    lines += [
        f"refused of {total} samples: {refused or 'none'}",
        f"kept {kept} of {len(judged)} questions ({kept / len(judged):.2f}) with {chains / max(1, kept):.2f} different "
        f"chains each, of which select_rows took {rows / max(1, kept):.2f}: {rows} rows; "
        f"pass@1 {pass_at(judged, 1, samples):.2f}, pass@{samples} "
        f"{pass_at(judged, samples, samples):.2f} by the first {samples} texts of each question",
        *(f"few are kept of: {name} ({right} of {of})" for name, right, of in hard_groups(judged, kept / len(judged))),
    ]
    return "\n".join(lines)


def hard_groups(judged: Sequence[Judged], share: float) -> list[tuple[str, int, int]]:
    """The groups of ten questions and more of which less than half of the whole's share was kept."""
    groups = kept_by_group(judged).items()
    return [(name, right, of) for name, (right, of) in groups if of >= 10 and right / of < HARD * share]


def draw_acceptance(judged: Sequence[Judged], samples: int, path: Path) -> None:
    """Draw the shares that were kept, and pass@k over k, as one PNG."""
    # No pyplot: it keeps figures in a global list and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5))
    figure.subplots_adjust(left=0.19, right=0.98, bottom=0.12, top=0.9, wspace=0.35)
    left, right = figure.subplots(1, 2)
    draw_shares(left, {**kept_by_group(judged), **accepted_by_length(judged)})
    steps = range(1, samples + 1)
    right.plot(steps, [pass_at(judged, k, samples) for k in steps], "o-", markersize=4)
    right.set(title="questions with a right text among k samples", xlabel="k", ylabel="pass@k", ylim=(0, 1.02))
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def draw_shares(panel: "Axes", shares: dict[str, tuple[int, int]]) -> None:
    """Draw a bar a group, with its number."""
    for index, (name, (right, of)) in enumerate(shares.items()):
        panel.barh(name, right / of, color="C0" if "characters" not in name else "C1", alpha=0.6)
        panel.text(right / of + 0.01, index, f"{right / of:.2f}", va="center", fontsize="small")
    panel.set(title="questions that are kept; right samples by length", xlabel="share", xlim=(0, 1.12))
    panel.invert_yaxis()
    panel.grid(alpha=0.3, axis="x")
