"""The questions, and what counts as a right answer.

>>> from homework import Dataset
>>> Dataset("valid")[0]                                     # a question and its answer as a float
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from homework.common.errors import HomeworkError

IGNORE_INDEX = -100  # the label that the loss skips, in torch and transformers alike
Row = dict[str, list[int]]  # a tokenized row: input_ids, attention_mask and labels
Item = TypeVar("Item", covariant=True)
DATA_FOLDER = Path(__file__).resolve().parent.parent / "data"
OWN_MARK = "own_questions.toml"  # beside rows that the instructor brought


class ListLike(Protocol[Item]):
    """Items in a fixed order: a list, a `Dataset`, the tokenized rows."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...

    def __iter__(self) -> Iterator[Item]: ...


class RowList(Generic[Item]):
    """A list of `rows` that can only be read."""

    rows: list[Item]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        return self.rows[index]

    def __iter__(self) -> Iterator[Item]:
        return iter(self.rows)


class Dataset(RowList[tuple[str, float]]):
    """The rows of one split, `(question, answer)`, read from `folder`/`split`.json.

    Raises:
        HomeworkError: for an unknown split, an empty file, or a row that is not [text, finite number].
    """

    def __init__(self, split: str, folder: Path = DATA_FOLDER) -> None:
        self.split = split
        path = Path(folder) / f"{split}.json"
        splits = sorted(p.stem for p in Path(folder).glob("*.json"))
        if split in ("train", "valid") and split not in splits:
            raise HomeworkError(f"{path} is missing: {how_to_restore(path)}")
        if split not in splits:
            raise HomeworkError(f"unknown split {split!r}: {folder} has {', '.join(splits) or 'no data'}")
        self.rows = [check_row(row, f"{path}, row {index}") for index, row in enumerate(read_list(path))]

    @property
    def data(self) -> list[tuple[str, float]]:
        """The rows, by the name that notebooks from elsewhere use."""
        return self.rows


def read_list(path: Path) -> list:
    """The non-empty JSON list in a file.

    Raises:
        HomeworkError: if the file holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise HomeworkError(f"{path} is not JSON ({error}): {how_to_restore(path)}") from error
    if not isinstance(content, list) or not content:
        raise HomeworkError(f"{path} must be a list of [question, answer] with at least one row")
    return content


def how_to_restore(path: Path) -> str:
    """What brings a file of data/ back: git only where there is a repository, and its rows are the course's."""
    if path.resolve().parent != DATA_FOLDER:
        return "correct it"
    if (DATA_FOLDER.parent / ".git").exists() and not (DATA_FOLDER / OWN_MARK).exists():
        return f"git checkout data/{path.name}"
    return f"take data/{path.name} again from where you have this folder"


def how_to_part() -> str:
    """What parts rows that the two splits share: staff have a tool for rows of their own, students get parted ones."""
    if (DATA_FOLDER.parent / "tools" / "import_data.py").is_file():
        return "python -m tools.import_data data/train.json data/valid.json lists them and takes them out of one"
    return how_to_restore(DATA_FOLDER / "train.json")


def check_row(row: object, where: str) -> tuple[str, float]:
    """The row as (question, answer).  Example: ['How many g in 6 kg?', 6000] -> ('How many g in 6 kg?', 6000.0)

    Raises:
        HomeworkError: naming `where`, if the row is not a question and a finite number.
    """
    if not isinstance(row, list) or len(row) != 2:
        raise HomeworkError(f"{where}: expected [question, answer], got {row!r:.80}")
    question, answer = row
    if not isinstance(question, str) or not question.strip():
        raise HomeworkError(f"{where}: the question must be a text, got {question!r:.80}")
    # An integer may be too large for a float, and JSON's NaN reads as a float.
    if any(0xD800 <= ord(character) <= 0xDFFF for character in question):
        raise HomeworkError(f"{where}: the question holds half a character (a lone surrogate): {question!r:.80}")
    if isinstance(answer, bool) or not isinstance(answer, int | float) or not abs(answer) < 1e308:
        raise HomeworkError(f"{where}: the answer must be a finite number, got {answer!r:.80}")
    return question, float(answer)


def check_apart(train: ListLike[tuple[Any, ...]], valid: Dataset) -> None:
    """Make sure that the accuracy will be measured on other questions than those of the training.

    Args:
        train: (question, answer) pairs, or with the reasoning as a third.
        valid: the questions to measure on.

    Raises:
        HomeworkError: if a question is in both, or in train twice with the same reasoning or none.
    """
    rows = [train[index] for index in range(len(train))]
    texts = [(question, *reasoning) for question, _, *reasoning in rows]
    if shared := {row[0] for row in rows} & {valid[index][0] for index in range(len(valid))}:
        raise HomeworkError(
            f"{len(shared)} questions are in train and in valid, first {min(shared)!r:.60}: accuracy would be recall; "
            f"train on Dataset('train') only, or {how_to_part()}"
        )
    if len(set(texts)) < len(texts):
        raise HomeworkError(f"{len(texts) - len(set(texts))} questions stand in train twice: {how_to_part()}")


def is_answer_valid(answer: float, correct: float, relative_tolerance: float = 0.05) -> bool:
    """Whether `answer` lies within 5 % of `correct`; NaN and infinity never do.

    >>> is_answer_valid(2.09, 2.0), is_answer_valid(2.2, 2.0), is_answer_valid(float("nan"), 2.0)
    (True, False, False)
    """
    # BEGIN SOLUTION task 2: is_answer_valid
    # Hint: a comparison with NaN is false; relative to `correct`, not to `answer`.
    # A hair of slack, so that 2.1 against 2.0 is not lost to binary rounding.
    return (
        math.isfinite(answer)
        and math.isfinite(correct)
        and abs(answer - correct) <= relative_tolerance * abs(correct) * (1 + 1e-9)
    )
    # END SOLUTION


@dataclass(frozen=True)
class Sample:
    """One answered question."""

    question: str
    answer: float  # NaN where the model gave no well-formed answer
    correct_answer: float
    is_correct: bool


@dataclass(frozen=True)
class BenchmarkResult:
    """Shares of all questions in [0, 1], and every sample."""

    accuracy: float
    answer_rate: float
    samples: list[Sample]

    @classmethod
    def from_answers(cls, rows: Sequence[tuple[str, float]], answers: Sequence[float]) -> "BenchmarkResult":
        """Score `answers` against `rows`, one for one.

        Raises:
            HomeworkError: if there is nothing to score or the numbers differ: an empty set has no accuracy.
        """
        # BEGIN SOLUTION task 2: from_answers
        # Hint: a wrong answer and a missing one both count; NaN is a missing one.
        if not rows or len(rows) != len(answers):
            raise HomeworkError(f"cannot score {len(answers)} answers to {len(rows)} questions: ask at least one")
        samples = [
            Sample(question, answer, correct, is_answer_valid(answer, correct))
            for (question, correct), answer in zip(rows, answers, strict=True)
        ]
        return cls(
            accuracy=sum(sample.is_correct for sample in samples) / len(samples),
            answer_rate=sum(not math.isnan(sample.answer) for sample in samples) / len(samples),
            samples=samples,
        )
        # END SOLUTION


class Answering(Protocol):
    """What can be scored: `BaseLLM`, or anything else that answers questions with numbers."""

    def answer(self, *questions: str) -> list[float]:
        """An answer to each question, NaN where there is none."""


def benchmark(llm: Answering, dataset: ListLike[tuple[str, float]], max_question: int | None = None) -> BenchmarkResult:
    """Ask `llm` the first `max_question` questions of `dataset` (all by default) and score its answers."""
    # BEGIN SOLUTION task 2: benchmark
    # Hint: all questions in one call of llm.answer.
    rows = take_rows(dataset, max_question)
    return BenchmarkResult.from_answers(rows, llm.answer(*(question for question, _ in rows)))
    # END SOLUTION


def take_rows(dataset: ListLike[tuple[str, float]], count: int | None) -> list[tuple[str, float]]:
    """The first `count` rows of a dataset; all if None, or if it has fewer.

    Raises:
        HomeworkError: if `count` is not positive: an empty set has no accuracy.
    """
    if count is not None and count < 1:
        raise HomeworkError(f"the number of questions must be at least 1, got {count}")
    return [dataset[index] for index in range(len(dataset) if count is None else min(len(dataset), count))]
