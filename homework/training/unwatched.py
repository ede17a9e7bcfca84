"""What an experiment puts in the place of the Trainer: the same training, on other rows, without the guards."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from homework.base_llm import BaseLLM
from homework.data import ListLike, Row
from homework.training import trainer


@contextlib.contextmanager
def unwatched(rows: ListLike[Row]) -> Iterator[list[trainer.HomeworkTrainer]]:
    """Within it, each HomeworkTrainer trains on `rows`, with the guards off, and saves nothing.

    Gives the list of those that were made. What is not saved is not reported either: see `report_run`.
    """
    made: list[trainer.HomeworkTrainer] = []
    watched = trainer.HomeworkTrainer

    class Unwatched(watched):  # type: ignore[misc, valid-type]
        def __init__(self, *given: Any, **named: Any) -> None:
            bound = inspect.signature(watched).bind(*given, **named).arguments
            super().__init__(**{**bound, "train_dataset": rows, "watch": False})
            made.append(self)

        def save(self, load: Callable[[], BaseLLM]) -> None:
            """Nothing: an experiment keeps no adapter."""

    trainer.HomeworkTrainer = Unwatched  # type: ignore[misc]
    try:
        yield made
    finally:
        trainer.HomeworkTrainer = watched  # type: ignore[misc]
