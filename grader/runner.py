"""Runs the checks: pytest collects and runs them, the plugin here turns outcomes into scores.

A check is a plain pytest test, and its docstring is the line that the student sees; its points stand in the rubric:

    @needs("batch")
    def test_trains(code, course):
        \"\"\"train_model saves an adapter whose loss is lower.\"\"\"

A check that is not in the rubric of the course does not run. Fixtures carry what checks share. Nothing but
grader/checks is collected: no conftest, no plugin and no setting of the working folder or of the machine is used.
"""

import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch

from grader import rubric
from grader.adapter import Adapter, Config, read_config, read_weights
from grader.check_list import CHECKS, FILES, refuse_unknown
from grader.course import Course, MeasuredReasons
from grader.errors import GraderFault, Refusal
from grader.harness.harness import Harness
from grader.result import CheckResult, State
from grader.rubric import CONFIG, REASONING_FILES, WEIGHTS
from grader.sandbox.host import Sandbox
from grader.submission import Submission

# No report of pytest's own: what a check found is in its result, and our streams stay as they are.
OPTIONS = (
    "-c", str(CHECKS / "pytest.ini"), "--rootdir", str(CHECKS), "--noconftest", "-p", "no:cacheprovider",
    "-p", "no:terminal",
)  # fmt: skip


class TimeLimit(BaseException):
    """A check took longer than the rubric allows."""


class CheckRun(NamedTuple):
    """One result for each check that ran, in their order, and the figures that they measured."""

    checks: tuple[CheckResult, ...]
    measured: dict[str, Any]


def needs(names: str) -> Callable:
    """The checks by name, separated by spaces, that have to pass before a check can run."""
    return pytest.mark.needs(names)


def credit_for(share: float, bounds: tuple[float, float]) -> float:
    """The share of the points: 0 at the lower bound, 1 at the upper one, a straight line between.

    Raises:
        GraderFault: if what was measured is no share. Clamping would make a zero of NaN.
    """
    if not 0 <= share <= 1:  # written so that NaN fails
        raise GraderFault(f"a share of {share} was measured")
    return min(1.0, max(0.0, (share - bounds[0]) / (bounds[1] - bounds[0])))


class ScoringPlugin:
    """The pytest plugin: the fixtures of the checks, and one result for each check, in their order.

    Args:
        submission: what is graded.
        course: base model and questions.
        sandbox: where the submission's code runs; None if no check of the code is wanted.
        checks: names of the checks to run; all if empty.
        tell: called with each result as soon as it is known.
    """

    def __init__(
        self, submission: Submission, course: Course, sandbox: Sandbox | None, checks: tuple[str, ...],
        tell: Callable[[CheckResult], None] | None,
    ) -> None:  # fmt: skip
        self.given, self.checks, self.tell = (submission, course), checks, tell
        self.harness = Harness(submission, course, sandbox) if sandbox else None
        self.points = course.rubric.points
        self.results: dict[str, CheckResult] = {}
        self.measured: dict[str, Any] = {}
        self.errors: list[str] = []
        self.credit: float | None = None
        self.detail = ""

    @pytest.fixture(scope="session")
    def submission(self) -> Submission:
        """The files that were handed in."""
        return self.given[0]

    @pytest.fixture(scope="session")
    def course(self) -> Course:
        """The course's side: base model and questions."""
        return self.given[1]

    @pytest.fixture(scope="session")
    def config(self, submission: Submission) -> Config:
        """The validated configuration of the submitted adapter."""
        return read_config(submission.files[CONFIG])

    @pytest.fixture(scope="session")
    def adapter(self, submission: Submission, config: Config, course: Course) -> Adapter:
        """The validated adapter, read once for all checks."""
        return read_weights(submission.files[WEIGHTS], config, course.base_config)

    @pytest.fixture(scope="session")
    def reasoning_adapter(self, submission: Submission, course: Course) -> Adapter:
        """The validated adapter that reasons."""
        for name in REASONING_FILES:
            if name not in submission.files:
                raise Refusal(f"the submission lacks {name}", expected=" and ".join(REASONING_FILES),
                              do="train with python -m homework.rft train, then bundle again")  # fmt: skip
        config, weights = (submission.files[name] for name in REASONING_FILES)
        return read_weights(weights, read_config(config), course.base_config)

    @pytest.fixture(scope="session")
    def reasons(self, course: Course, reasoning_adapter: Adapter) -> MeasuredReasons:
        """What that adapter writes on long questions."""
        return course.measure_reasons(reasoning_adapter)

    @pytest.fixture(scope="session")
    def code(self) -> Harness:
        """What the submission's code does in the sandbox."""
        if self.harness is None:
            raise GraderFault("no sandbox was given: a submission's code runs nowhere else")
        return self.harness

    @pytest.fixture
    def give(self) -> Callable[..., None]:
        """Give a share of the points, 0 to 1, and say what was found, with the figures behind it."""

        def give(share: float, detail: str, measured: dict[str, Any]) -> None:
            if not 0 <= share <= 1:
                raise GraderFault(f"a share of {share} was given")
            self.credit, self.detail = share, detail
            self.measured |= measured

        return give

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(report.longreprtext)

    def pytest_internalerror(self, excrepr: object) -> None:
        self.errors.append(str(excrepr))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        wanted = set(self.checks) or set(self.points)
        for item in reversed(items):  # what a wanted check needs runs too
            if name_of(item) in wanted:
                wanted |= set(needs_of(item))
        items[:] = [item for item in items if name_of(item) in wanted]
        if self.harness and torch.get_num_threads() > 1:  # of a class, each process has one core
            self.harness.run_ahead(dict.fromkeys(item.path.stem for item in items))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.credit, self.detail = None, ""
        with deadline(rubric.CHECK_SECONDS):
            return (yield)

    @pytest.hookimpl(tryfirst=True)  # before the fixtures are made: a failed check's adapter is not read again
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        for need in needs_of(item):
            if self.results[need].state is not State.PASSED:
                pytest.skip(f"because the check {need!r} did not pass")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef, request: Any) -> Iterator[Any]:
        """Keep what took too long as the end of its fixture, which pytest does for an Exception alone.

        The next check that rests on it then ends by the same cause, without waiting once more.
        """
        try:
            return (yield)
        except TimeLimit as error:
            fixturedef.cached_result = (None, fixturedef.cache_key(request), (error, error.__traceback__))
            raise

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Iterator[Any]:
        report = yield
        name = name_of(item)
        if name not in self.results and (call.when == "call" or call.excinfo):
            self.results[name] = self.judge(item, call)
            if self.tell:
                self.tell(self.results[name])
        return report

    def judge(self, item: pytest.Item, call: pytest.CallInfo) -> CheckResult:
        """The result of a check by how it ended."""
        name = name_of(item)
        number = self.points[name]
        docstring = getattr(item, "function").__doc__ or name  # noqa: B009 (an Item in general has no function)
        title = docstring.strip().splitlines()[0]
        if call.excinfo is None:
            share = 1.0 if self.credit is None else self.credit
            state = State.PASSED if share == 1 else State.PARTIAL if share else State.FAILED
            cause = "" if share else "too little for any of its points"
            return CheckResult(name, title, number, round(share * number, 2), state, cause, detail=self.detail)
        state, details = explain_failure(call.excinfo.value)
        return CheckResult(name, title, number, 0.0, state, **details)


def explain_failure(error: BaseException) -> tuple[State, dict[str, str]]:
    """The state of a check that raised, and the fields of its result that say why."""
    if isinstance(error, Refusal):
        return error.state, error.details
    if isinstance(error, pytest.skip.Exception):
        return State.SKIPPED, {"cause": str(error.msg)}
    if isinstance(error, TimeLimit):  # the sandbox has stopped the submission's code long before: this is ours
        limit = f"the grader took more than {rubric.CHECK_SECONDS} s: this is no zero"
        return State.FAULT, {"cause": limit, "do": "ask the staff to grade it again"}
    cause = f"the grader failed ({type(error).__name__}): this is no zero, ask the staff to grade it again"
    return State.FAULT, {"cause": cause, "traceback": "".join(traceback.format_exception(error))}


def name_of(item: pytest.Item) -> str:
    """The name of a check.  Example: test_trains -> 'trains'"""
    return item.name.removeprefix("test_")


def needs_of(item: pytest.Item) -> list[str]:
    """The names of the checks that have to pass before a check can run."""
    mark = item.get_closest_marker("needs")
    return mark.args[0].split() if mark else []


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


def run_checks(
    submission: Submission, course: Course, sandbox: Sandbox | None = None, checks: tuple[str, ...] = (),
    tell: Callable[[CheckResult], None] | None = None,
) -> CheckRun:  # fmt: skip
    """Run the checks on a submission; the arguments are those of `ScoringPlugin`.

    Raises:
        GraderFault: for an unknown check, or if pytest ran none of them: an empty set never passes.
    """
    refuse_unknown(checks, course.rubric)
    plugin = ScoringPlugin(submission, course, sandbox, checks, tell)
    try:
        with clean_pytest_env():
            code = pytest.main([*OPTIONS, *map(str, FILES)], plugins=[plugin])
    finally:
        if plugin.harness:
            plugin.harness.close()
    if code == pytest.ExitCode.INTERRUPTED and not plugin.errors:
        raise KeyboardInterrupt
    if not plugin.results or code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise GraderFault(f"the checks did not run: {' '.join(plugin.errors)[-2000:]}")
    return CheckRun(tuple(plugin.results.values()), plugin.measured)


@contextlib.contextmanager
def clean_pytest_env() -> Iterator[None]:
    """An environment from which pytest takes no option and no plugin."""
    names = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")
    former = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
        os.environ.update(former)
