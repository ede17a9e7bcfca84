"""What a class run shows while it runs: a table in place on a terminal, one line a submission elsewhere."""

import statistics
import time
from collections.abc import Callable
from typing import TextIO

from grader.report.text import one_line
from grader.result import Result

KINDS = ("graded", "refused", "failed")  # failed: the grader did


def kind_of(result: Result) -> str:
    """What a result counts as in the table."""
    return "failed" if result.is_fault else "refused" if result.is_refused else "graded"


class Progress:
    """The live table of one run.

    Args:
        total: submissions to grade now.
        kept: submissions that were graded before.
        jobs: processes.
        stream: where it is shown.
        clock: for tests.
    """

    def __init__(
        self, total: int, kept: int, jobs: int, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total, self.kept, self.jobs, self.stream, self.clock = total, kept, jobs, stream, clock
        self.started = clock()
        self.counts = dict.fromkeys(KINDS, 0)
        self.running: dict[str, float] = {}
        self.finished: list[float] = []  # when each was done
        self.seconds = self.generating = 0.0
        self.in_place = stream.isatty()
        self.height = 0

    def begin(self, name: str) -> None:
        """A submission is being graded."""
        self.running[name] = self.clock()
        self.draw()

    def finish(self, name: str, result: Result) -> None:
        """A submission is graded."""
        self.running.pop(name, None)
        self.finished.append(self.clock())
        self.counts[kind_of(result)] += 1
        self.seconds += result.seconds
        self.generating += float(result.measured.get("generating_seconds", 0.0))
        if not self.in_place:
            score = f" {result.score:g} of {result.points:g}" if kind_of(result) == "graded" else ""
            self.stream.write(
                f"{one_line(name, 60)}  {kind_of(result)}{score}; {self.left} left, {self.to_go()} to go\n"
            )
            self.stream.flush()
        self.draw()

    @property
    def left(self) -> int:
        """Submissions without a result, those under way included."""
        return self.total - len(self.finished)

    def to_go(self) -> str:
        """The time that the rest will take, by what each took so far.  Example: '3 min'"""
        if len(self.finished) < 2:
            return "?"
        gaps = [later - earlier for earlier, later in zip(self.finished, self.finished[1:], strict=False)]
        seconds = statistics.fmean(gaps[-50:]) * self.left
        return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"

    def lines(self) -> list[str]:
        """The table."""
        now, counts = self.clock(), self.counts
        done = f"done {counts['graded']}  failed {counts['failed']}  refused {counts['refused']}"
        rest = f"running {len(self.running)}  left {self.left}  to go {self.to_go()}  graded before {self.kept}"
        head = f"{done}  {rest}"
        return [head, *(f"  {now - since:4.0f} s  {one_line(name, 60)}" for name, since in self.running.items())]

    def draw(self) -> None:
        """Show the table in the place of the former one."""
        if self.in_place:
            up = f"\033[{self.height}A" if self.height else ""
            lines = [line[:118] for line in self.lines()]
            self.stream.write(f"{up}\033[J" + "\n".join(lines) + "\n")
            self.stream.flush()
            self.height = len(lines)

    def summary(self) -> str:
        """The last line: what was done, how fast, and how much of it the model took."""
        minutes = (self.clock() - self.started) / 60
        share = self.generating / self.seconds if self.seconds else 0.0
        done = f"graded {self.counts['graded']}, refused {self.counts['refused']}, failed {self.counts['failed']}"
        rate = f"{len(self.finished) / minutes:.1f} a minute with {self.jobs} jobs" if minutes else "at once"
        return f"{done}; graded before: {self.kept}; {rate}; {share:.0%} of the grading is the model generating"
