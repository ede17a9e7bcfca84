"""Says in one line what is not implemented yet, in place of a traceback for each check, and lists it at the end.

python -m pytest tests/public
"""

from collections.abc import Iterator
from typing import Any

import pytest

MISSING = pytest.StashKey[set[str]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[Any]:
    report = yield
    if call.excinfo and isinstance(call.excinfo.value, NotImplementedError):
        report.longrepr = str(call.excinfo.value)
        item.config.stash.setdefault(MISSING, set()).add(report.longrepr)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest's own summary, so that this comes last
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Iterator[None]:
    yield
    for line in sorted(config.stash.get(MISSING, ())):
        terminalreporter.write_line(line)
