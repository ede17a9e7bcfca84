"""Which questions an accuracy is measured on, and how sure it is."""

import math
from typing import Any, Protocol

from homework.common.errors import HomeworkError
from homework.data import Dataset, ListLike, take_rows


class Rows(ListLike[tuple[Any, ...]], Protocol):
    """Rows of a split: (question, answer), or with the reasoning as a third."""

    split: str


PROBE = 50  # rows of each split that show the accuracy during training; those of valid are in no reported accuracy
LEAST_VALID = 20  # rows, below which an accuracy says nothing


def count_probes(valid: Dataset) -> int:
    """`PROBE`, or a quarter of valid where that is less.

    Example: 1,000 rows -> 50, 40 rows -> 10

    Raises:
        HomeworkError: if valid has too few rows for an accuracy.
    """
    if len(valid) < LEAST_VALID:
        raise HomeworkError(
            f"valid has {len(valid)} rows, too few for an accuracy: it takes {LEAST_VALID} and more in data/valid.json"
        )
    return min(PROBE, len(valid) // 4)


def take_probes(train: Rows, valid: Dataset) -> dict[str, list[tuple[str, float]]]:
    """The last questions of each split, `count_probes` of them, by the split's name; fewer than `PROBE` are said."""
    count = count_probes(valid)
    if count < PROBE:
        print(
            f"valid has {len(valid)} rows: {count} of them show how the training goes, not {PROBE}, and the accuracy "
            f"is that of the other {len(valid) - count}"
        )
    asked = [dict.fromkeys((question, answer) for question, answer, *_ in dataset) for dataset in (train, valid)]
    return {dataset.split: list(rows)[-count:] for dataset, rows in zip((train, valid), asked, strict=True)}


def take_reported(valid: Dataset, count: int | None) -> list[tuple[str, float]]:
    """The first `count` rows of valid without the probes, which a student has watched while choosing.

    Raises:
        HomeworkError: if valid has too few rows for an accuracy.
    """
    return take_rows(valid, count)[: len(valid) - count_probes(valid)]


def wilson_interval(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share measured on `count` questions (Wilson 1927): honest near 0 and 1.

    >>> [round(bound, 3) for bound in wilson_interval(0.95, 100)]
    [0.888, 0.978]
    """
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
