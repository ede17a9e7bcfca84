"""What the code checks ask a test submission: the same, whatever else in the homework has changed."""

import contextlib
from collections.abc import Iterator

import pytest

from grader.harness.inputs import Inputs


@contextlib.contextmanager
def drawn_for(name: str) -> Iterator[None]:
    """Draw inputs from the name of a test submission, where the grader draws them from the hash of its files.

    Any change of the homework changes that hash. Each submission would be asked other questions then, and one in some
    hundreds would show its fault in other words. `python -m tools.fuzz --seed N` is what looks at other questions.
    """
    draw = Inputs.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inputs, "__init__", lambda inputs, course, _: draw(inputs, course, name))
        yield
