"""What a case is: a submission, and the checks that have to name what is wrong with it, if anything is.

`Variant` is one way to write a part of the plain solution; most mutators pick one, with numbers drawn at random.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from tests.submissions.recipe import Files, Maker
from tests.support import zips


class Case(NamedTuple):
    """A submission and its verdict.

    Args:
        files: of the submission, by their path in the package.
        words: what was done to the solution.
        failing: the checks that have to fail; none for a right submission.
        perhaps: checks that may fail too: whether they do hangs on what is drawn, or nobody can say what is right.
        pack: writes the zip.
    """

    files: Files
    words: str
    failing: frozenset[str] = frozenset()
    perhaps: frozenset[str] = frozenset()
    pack: zips.Maker = zips.good

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.failing


class Mutator(NamedTuple):
    """A maker of cases, and the checks that it concerns, which are run on each of them, separated by spaces."""

    make: Callable[[random.Random, Files], Case]
    asked: str

    @property
    def name(self) -> str:
        """That of its function."""
        return self.make.__name__


class Variant(NamedTuple):
    """One way to write something: its words, how it is made, and the checks that fail by it."""

    words: str
    make: Maker
    failing: str = ""
    perhaps: str = ""


def case_of(variant: Variant, files: Files) -> Case:
    """The case that a variant makes of the reference's files."""
    failing, perhaps = (frozenset(names.split()) for names in (variant.failing, variant.perhaps))
    return Case(variant.make(files), variant.words, failing, perhaps - failing)


def chance(rng: random.Random, share: float = 0.5) -> bool:
    """True with this probability."""
    return rng.random() < share
