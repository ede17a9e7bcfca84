"""The report for a terminal: 80 columns, readable without colour."""

import textwrap

from grader.report.text import headline, one_line, plain
from grader.result import CheckResult, Result, State

COLOURS = {State.PASSED: "32", State.PARTIAL: "33", State.SKIPPED: "2"}
WIDTH = 80


def render(result: Result, colour: bool = False, show_traceback: bool = False) -> str:
    """The result as text.

    Args:
        result: what to show.
        colour: whether the terminal takes colours.
        show_traceback: also show what the staff asked for: the traceback of a fault of ours.
    """
    lines = [f"grading {one_line(result.submission)}"]
    for note in result.notes:
        lines += wrap(f"note: {plain(note)}", "  ")
    lines.append("")
    for check in result.checks:
        lines += render_check(check, colour)
        if show_traceback and check.traceback:
            lines += [plain(line) for line in check.traceback.splitlines()]
    lines += ["", *wrap(headline(result), "")]
    return "\n".join(lines)


def render_check(check: CheckResult, colour: bool) -> list[str]:
    """One check: its state and points, then the cause first, what was expected and found, and what to do."""
    state = f"[{check.state}]".ljust(15)
    shown = f"\033[{COLOURS.get(check.state, '31')}m{state}\033[0m" if colour else state
    score = f"{check.score:g}/{check.points:g}"
    title, *rest = wrap(f"{check.name}: {check.title}", "", WIDTH - 15 - 9)
    lines = [f"{shown}{title.ljust(WIDTH - 15 - 9)}{score:>9}", *(" " * 15 + line for line in rest)]
    for label, text in (("", check.cause), ("expected: ", check.expected), ("actual:   ", check.actual),
                        ("do: ", check.do), ("", check.detail)):  # fmt: skip
        if text:
            lines += wrap(label + plain(text), " " * 15)
    return lines + [(" " * 15 + line)[:WIDTH] for line in plain(check.shown).splitlines()]


def wrap(text: str, indent: str, width: int = WIDTH) -> list[str]:
    """A text as lines that fit."""
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent) or [""]
