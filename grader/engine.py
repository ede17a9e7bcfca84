"""Runs the checks: pytest collects and runs them, the plugin here turns outcomes into scores.

A check is a plain pytest test with its points beside it, and its docstring is the line that the student sees:

    @points(rubric.SOUND, needs="configured")
    def test_sound(adapter):
        \"\"\"The adapter is whole, finite and trained.\"\"\"

Fixtures carry what checks share. Nothing but grader/checks is collected: no conftest, no plugin and no setting of the
working folder or of the machine is used.
"""

import contextlib
import io
import math
import os
import re
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grader import rubric
from grader.errors import GraderFault, Refusal
from grader.result import CheckResult, State

CHECKS = Path(__file__).parent / "checks"
# In the order of the report: what counts most, then the student's tasks.
FILES = tuple(CHECKS / f"{name}.py" for name in ("weights", "answering", "labels", "training", "loading"))


class TimeLimit(BaseException):
    """A check took longer than the rubric allows."""


def points(number: float, needs: str = "") -> Callable:
    """The points of a check, and the checks by name, separated by spaces, that have to pass before it can run."""
    return pytest.mark.points(number, needs)


def credit_for(accuracy: float) -> float:
    """The share of the points: 0 at `rubric.ZERO`, 1 at `rubric.FULL`, a straight line between.

    Raises:
        GraderFault: if the accuracy is no share. Clamping would make a zero of NaN.
    """
    if not 0 <= accuracy <= 1:  # written so that NaN fails
        raise GraderFault(f"an accuracy of {accuracy} was measured")
    return min(1.0, max(0.0, (accuracy - rubric.ZERO) / (rubric.FULL - rubric.ZERO)))


class Scores:
    """The pytest plugin: hands out what is graded, and keeps one result for each check, in their order.

    Args:
        shared: values that the fixtures give to the checks, by fixture name.
    """

    def __init__(self, shared: dict[str, Any], only: tuple[str, ...]) -> None:
        self.shared, self.only = shared, only
        self.results: dict[str, CheckResult] = {}
        self.credit: float | None = None
        self.detail = ""

    @pytest.fixture(scope="session")
    def submission(self) -> Any:
        """The files that were handed in."""
        return self.shared["submission"]

    @pytest.fixture(scope="session")
    def course(self) -> Any:
        """The course's side: base model and questions."""
        return self.shared["course"]

    @pytest.fixture(scope="session")
    def code(self) -> Any:
        """What the submission's code does in the sandbox."""
        from grader.behaviour.behaviour import Behaviour

        if self.shared.get("sandbox") is None:
            raise GraderFault("no sandbox was given: a submission's code runs nowhere else")
        return Behaviour(self.shared["submission"], self.shared["course"], self.shared["sandbox"])

    @pytest.fixture
    def give(self) -> Callable[[float, str], None]:
        """Give a share of the points, 0 to 1, and say what was found."""

        def give(share: float, detail: str) -> None:
            if not 0 <= share <= 1:
                raise GraderFault(f"a share of {share} was given")
            self.credit, self.detail = share, detail

        return give

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        names = [name_of(item) for item in items]
        if unknown := set(self.only) - set(names):
            raise pytest.UsageError(f"there is no check {', '.join(sorted(unknown))}: choose among {', '.join(names)}")
        wanted = set(self.only) or set(names)
        for item in reversed(items):  # what a wanted check needs runs too
            if name_of(item) in wanted:
                wanted |= set(marked(item)[1].split())
        items[:] = [item for item in items if name_of(item) in wanted]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.credit, self.detail = None, ""
        with deadline(rubric.CHECK_SECONDS):
            return (yield)

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        for need in marked(item)[1].split():
            if self.results[need].state is not State.PASSED:
                pytest.skip(f"because the check {need!r} did not pass")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Iterator[Any]:
        report = yield
        name = name_of(item)
        if name not in self.results and (call.when == "call" or call.excinfo):
            self.results[name] = self.judge(item, call)
            if tell := self.shared.get("tell"):
                tell(self.results[name])
        return report

    def judge(self, item: pytest.Item, call: pytest.CallInfo) -> CheckResult:
        """The result of a check by how it ended."""
        number, _ = marked(item)
        title = (item.function.__doc__ or name_of(item)).strip().splitlines()[0]
        base = {"name": name_of(item), "title": title, "points": number, "score": 0.0}
        error = call.excinfo.value if call.excinfo else None
        if error is None:
            share = 1.0 if self.credit is None else self.credit
            state = State.PASSED if share == 1 else State.PARTIAL if share else State.FAILED
            cause = "" if share else "too little for any of its points"
            return CheckResult(
                **{**base, "score": round(share * number, 2)}, state=state, cause=cause, detail=self.detail
            )
        if isinstance(error, Refusal):
            return CheckResult(**base, state=error.state, **error.said)
        if isinstance(error, pytest.skip.Exception):
            return CheckResult(**base, state=State.SKIPPED, cause=str(error.msg))
        if isinstance(error, TimeLimit):  # the sandbox has stopped the submission's code long before: this is ours
            limit = f"the grader took more than {rubric.CHECK_SECONDS} s: this is no zero"
            return CheckResult(**base, state=State.FAULT, cause=limit, do="ask the staff to grade it again")
        text = "".join(traceback.format_exception(error))
        cause = f"the grader failed ({type(error).__name__}): this is no zero, ask the staff to grade it again"
        return CheckResult(**base, state=State.FAULT, cause=cause, traceback=text)


def check_names(file: str = "") -> list[str]:
    """The names of all checks, or of those in one file, in the order in which they run."""
    return [
        name
        for path in FILES
        if not file or path.stem == file
        for name in re.findall(r"^def test_(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def name_of(item: pytest.Item) -> str:
    """The name of a check.  Example: test_sound -> 'sound'"""
    return item.name.removeprefix("test_")


def marked(item: pytest.Item) -> tuple[float, str]:
    """The points of a check and the names of those that it needs."""
    mark = item.get_closest_marker("points")
    if mark is None or not math.isfinite(mark.args[0]) or mark.args[0] < 0:
        raise GraderFault(f"the check {item.name} has no points")
    return mark.args


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise TimeLimit after so many seconds, where signals can be had."""

    def stop(*_: object) -> None:
        raise TimeLimit

    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def run_checks(shared: dict[str, Any], only: tuple[str, ...] = ()) -> tuple[CheckResult, ...]:
    """Run the checks on what is shared with them.

    Raises:
        GraderFault: if pytest ran none of them: an empty set never passes.
    """
    plugin, output = Scores(shared, only), io.StringIO()
    options = [
        "-c",
        str(CHECKS / "pytest.ini"),
        "--rootdir",
        str(CHECKS),
        "--noconftest",
        "-p",
        "no:cacheprovider",
        "-q",
    ]
    with alone(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = pytest.main([*options, *map(str, FILES)], plugins=[plugin])
    if code == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if code == pytest.ExitCode.USAGE_ERROR:
        raise GraderFault(output.getvalue().strip().splitlines()[-1].removeprefix("ERROR: "))
    if not plugin.results or code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise GraderFault(f"the checks did not run: {output.getvalue()[-2000:]}")
    return tuple(plugin.results.values())


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """An environment from which pytest takes no option and no plugin."""
    names = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")
    former = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
        os.environ.update(former)
