"""Runs the checks of `python -m homework.check`, and says what they say: one line, no traceback.

python -m pytest tests/public                    # all tasks
python -m pytest tests/public/test_task3.py      # one of them
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from homework.check import Known, run_check
from homework.common.errors import explain_error

MISSING = pytest.StashKey[set[str]]()


@pytest.fixture(scope="session")
def known() -> Known:
    """Base model, data and rows, made once."""
    return Known()


@pytest.fixture
def check(known: Known, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`check("tokenize")` runs the check of that name."""

    def one(name: str) -> None:
        complaint = None
        try:
            run_check(name, known)
        except NotImplementedError as error:
            complaint = str(error)
            request.config.stash.setdefault(MISSING, set()).add(complaint)
        except Exception as error:  # the code that is checked is the student's
            complaint = explain_error(error)
        if complaint is not None:
            pytest.fail(complaint, pytrace=False)

    return one


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest's own summary, so that this comes last
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Iterator[None]:
    yield
    for line in sorted(config.stash.get(MISSING, ())):
        terminalreporter.write_line(line)
