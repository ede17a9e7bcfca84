"""Which questions an accuracy is measured on, and how sure it is."""

import math

from homework.common.errors import HomeworkError
from homework.data import Dataset, take_rows

PROBE = 50  # rows of each split that show the accuracy during training; those of valid are in no reported accuracy


def take_probes(train: Dataset, valid: Dataset) -> dict[str, list[tuple[str, float]]]:
    """The last `PROBE` rows of each split, by the split's name."""
    return {dataset.split: take_rows(dataset, None)[-PROBE:] for dataset in (train, valid)}


def take_reported(valid: Dataset, count: int | None) -> list[tuple[str, float]]:
    """The first `count` rows of valid without the probes, which a student has watched while choosing.

    Raises:
        HomeworkError: if there are hardly more rows than probes.
    """
    if len(valid) < 2 * PROBE:
        raise HomeworkError(f"valid has {len(valid)} rows, too few for an accuracy: git checkout data/valid.json")
    return take_rows(valid, count)[: len(valid) - PROBE]


def wilson_interval(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share measured on `count` questions (Wilson 1927): honest near 0 and 1.

    >>> [round(bound, 3) for bound in wilson_interval(0.95, 100)]
    [0.888, 0.978]
    """
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
