"""The seed of the questions: a public number, or the official one from the staff key."""

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from grader import rubric
from grader.errors import GraderFault

KEY_VARIABLE = "GRADER_KEY_FILE"
SHORTEST_KEY = 16  # bytes


@dataclass(frozen=True)
class Seed:
    """What the questions are drawn from; official if it comes from the staff key."""

    value: int | str = rubric.PUBLIC_SEED
    is_official: bool = False

    @property
    def label(self) -> str:
        """What may be written down of it: an official seed is secret."""
        return "official" if self.is_official else f"public {self.value}"


PUBLIC = Seed()


def official_seed(key: bytes) -> Seed:
    """The seed of the official questions, from the staff key alone: no zip can fish for lucky ones.

    Raises:
        GraderFault: if the key is too short to be secret.
    """
    if len(key.strip()) < SHORTEST_KEY:
        raise GraderFault(f"the staff key has {len(key.strip())} bytes: make one of at least {SHORTEST_KEY}")
    return Seed(hmac.new(key.strip(), rubric.ASSIGNMENT.encode(), hashlib.sha256).hexdigest(), is_official=True)


def read_key(path: str) -> bytes:
    """The staff key.

    Raises:
        GraderFault: if it can't be read; the public questions are never taken in its place.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise GraderFault(f"can't read the staff key {path} ({error.strerror})") from error


def choose_seed(number: int | None, key_file: str | None) -> Seed:
    """The public seed of that number, else the official one. The number wins, so that staff can replay a grading.

    Raises:
        GraderFault: if the key is missing or too short. An empty file name is a missing key too.
    """
    if number is not None:
        return Seed(number)
    return PUBLIC if key_file is None else official_seed(read_key(key_file))
