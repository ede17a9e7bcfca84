"""Rows of parametrised tests that the quick run leaves out."""

from typing import Any

import pytest


def rest(*values: Any, **options: Any) -> Any:
    """A row like others of its table, which --everything runs: `rest(35, signal.SIGTERM)`."""
    return pytest.param(*values, **options, marks=pytest.mark.everything)
