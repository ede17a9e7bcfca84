"""What a test run leaves out, and how many processes share it; the fixtures stand in tests/support/fixtures.py.

python -m pytest                    # the quick run: every part once
python -m pytest --everything       # every row of every table, every kill, the notebook, several processes
python -m pytest --rest             # what the quick run leaves out, but for the tests of a release: CI has half an hour
"""

import os
from typing import Any

import pytest

MARK, RELEASE = "everything", "release"
PROCESSES = 2
LEFT_OUT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("how much is tested")
    group.addoption("--everything", action="store_true", help="the tests that take long as well")
    group.addoption("--rest", action="store_true", help="what a run without a flag leaves out, for CI")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads its options
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Share a run that names no file among processes of one thread each; `-n 0` keeps it in one."""
    options = config.option
    is_whole = config.args_source is config.ArgsSource.TESTPATHS
    is_open = getattr(options, "numprocesses", 0) is None and not hasattr(config, "workerinput")
    if is_whole and is_open and not (options.usepdb or options.collectonly):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        options.numprocesses, options.dist = PROCESSES, "worksteal"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARK}: takes long, or is one more row of a table: left out without a flag")
    config.addinivalue_line("markers", f"{RELEASE}: run by --everything alone, before a release")
    if getattr(config.option, "dist", "no") == "no" or hasattr(config, "workerinput"):
        # Not in the process that only hands tests out: it would import torch for nothing, for seconds.
        config.pluginmanager.import_plugin("tests.support.fixtures")


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    options = config.option
    if options.everything and not options.rest:
        return
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        is_rest, is_for_release = (item.get_closest_marker(mark) is not None for mark in (MARK, RELEASE))
        (kept if is_rest == options.rest and not is_for_release else left_out).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)
    config.stash[LEFT_OUT] = len(left_out)
    if hasattr(config, "workerinput"):
        getattr(config, "workeroutput")[MARK] = len(left_out)  # noqa: B009 (of pytest-xdist alone)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Each process of pytest-xdist collects all tests, so each leaves out as many."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get(MARK, 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if (count := config.stash.get(LEFT_OUT, 0)) and not config.option.rest:
        terminalreporter.write_line(f"{count} tests were left out: python -m pytest --everything runs them too")
