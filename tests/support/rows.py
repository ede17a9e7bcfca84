"""Rows of parametrised tests that the quick run leaves out."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest


def rest(*values: Any, **options: Any) -> Any:
    """A row like others of its table, which --everything runs: `rest(35, signal.SIGTERM)`."""
    return pytest.param(*values, **options, marks=pytest.mark.everything)


def every_fifth(values: Iterable[Any]) -> list[Any]:
    """The rows of a long table, of which CI runs the first, the sixth and so on, and --everything all."""
    marks = itertools.cycle((pytest.mark.everything, *[pytest.mark.release] * 4))
    return [pytest.param(value, marks=mark) for value, mark in zip(values, marks, strict=False)]
