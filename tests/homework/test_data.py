"""The data files, the dataset and the metric."""

import hashlib
import json
import math

import pytest

from grader.own_questions import MARK
from grader.units import draw_questions, slice_of
from homework import data
from homework.common.errors import HomeworkError
from homework.data import BenchmarkResult, Dataset, benchmark, check_apart, is_answer_valid
from homework.training.evaluation import wilson_interval
from tools.make_data import ROWS, SEED, make_split


@pytest.mark.parametrize("split", ["train", "valid"])
def test_files_are_reproducible_to_the_byte(split, tmp_path):
    digest = make_split(split, tmp_path)
    content = (data.DATA_FOLDER / f"{split}.json").read_bytes()
    assert (tmp_path / f"{split}.json").read_bytes() == content
    assert hashlib.sha256(content).hexdigest() == digest
    assert digest in (data.DATA_FOLDER / "README.md").read_text()


def test_the_rows_have_the_name_that_notebooks_use():
    dataset = Dataset("valid")
    assert dataset.data == [dataset[index] for index in range(len(dataset))] and isinstance(dataset.data, list)


def test_no_fact_and_no_text_is_shared():
    questions = {split: draw_questions(split, ROWS, SEED) for split in ("train", "valid")}
    for split, drawn in questions.items():
        assert [question.text for question in drawn] == [text for text, _ in Dataset(split).rows]
        assert {slice_of(question.fact) for question in drawn} == {split}
    facts = {split: {question.fact.key for question in drawn} for split, drawn in questions.items()}
    texts = {split: {question.text.lower() for question in drawn} for split, drawn in questions.items()}
    assert len(facts["train"]) == len(facts["valid"]) == ROWS
    assert not facts["train"] & facts["valid"] and not texts["train"] & texts["valid"]


def test_values_are_as_people_ask():
    values = [question.fact.value for question in draw_questions("train", ROWS, SEED)]
    small = sum(value.is_integer() and value <= 20 for value in values) / ROWS
    wide = sum(value < 1 or value > 100 for value in values) / ROWS
    assert small > 0.4 and 0.2 < wide < 0.3


def test_an_unknown_split_is_named():
    with pytest.raises(HomeworkError, match=r"unknown split 'tset'.*train, valid"):
        Dataset("tset")


@pytest.mark.parametrize("split", ["../data/train", "/etc/passwd", ""])
def test_a_split_is_a_name_and_not_a_path(split):
    with pytest.raises(HomeworkError, match="unknown split"):
        Dataset(split)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "at least one row"),
        ("{}", "must be a list"),
        ("[[", "is not JSON"),
        ('[["q", 1], ["q"]]', r"row 1: expected \[question, answer\]"),
        ('[["\\ud800", 1]]', "row 0: the question holds half a character"),
        ("[" * 100_000, "is not JSON"),
        ('[["", 1]]', "row 0: the question must be a text"),
        ("[[3, 1]]", "row 0: the question must be a text"),
        ('[["q", NaN]]', "row 0: the answer must be a finite number, got nan"),
        ('[["q", Infinity]]', "row 0: the answer must be a finite number"),
        ('[["q", "6"]]', "row 0: the answer must be a finite number, got '6'"),
        ('[["q", true]]', "row 0: the answer must be a finite number"),
        (f'[["q", 1{"0" * 400}]]', "row 0: the answer must be a finite number"),
    ],
)
def test_a_corrupt_file_names_file_row_and_reason(tmp_path, content, message):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(HomeworkError, match=message) as caught:
        Dataset("train", tmp_path)
    assert "train.json" in str(caught.value)


@pytest.mark.parametrize(
    ("git", "mark", "tool", "fix"),
    [
        (True, False, False, r"git checkout data/train.json"),
        (False, False, False, r"take data/train.json again from where you have this folder"),
        (True, True, False, r"take data/train.json again from where you have this folder"),
        (True, True, True, r"python -m tools.import_data data/train.json data/valid.json"),
    ],
)
def test_an_error_names_git_only_where_git_has_the_courses_rows(tmp_path, monkeypatch, git, mark, tool, fix):
    folder = tmp_path / "data"
    for path, wanted in ((".git/HEAD", git), (f"data/{data.OWN_MARK}", mark), ("tools/import_data.py", tool)):
        if wanted:
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).touch()
    folder.mkdir(exist_ok=True)
    monkeypatch.setattr(data, "DATA_FOLDER", folder)
    for name, rows in (("train", [["a", 1], ["b", 2]]), ("valid", [["b", 2]])):
        (folder / f"{name}.json").write_text(json.dumps(rows))
    train, valid = (Dataset(name, folder) for name in ("train", "valid"))
    for check in (lambda: check_apart(train, valid), lambda: check_apart([train[0]] * 2, valid)):
        with pytest.raises(HomeworkError, match=fix) as caught:
            check()
        assert "git" not in str(caught.value) or (git and not mark and not tool)
    for content in ("[[", None):
        if content:
            (folder / "train.json").write_text(content)
        else:
            (folder / "train.json").unlink()
        with pytest.raises(HomeworkError, match="git checkout data/train" if git and not mark else "again from where"):
            Dataset("train", folder)


def test_the_mark_is_the_graders():
    assert data.OWN_MARK == MARK


@pytest.mark.parametrize(
    ("answer", "correct", "valid"),
    [
        (6000, 6000, True),
        (6300, 6000, True),
        (6301, 6000, False),
        (2.1, 2.0, True),  # 2.1 - 2.0 is more than 0.1 in binary
        (1.9, 2.0, True),
        (-2, 2, False),
        (-2.05, -2, True),
        (0, 0, True),
        (1e-9, 0, False),
        (math.nan, 2, False),
        (math.inf, 2, False),
    ],
)
def test_five_per_cent(answer, correct, valid):
    assert is_answer_valid(answer, correct) is valid


def test_benchmark_counts_answers_and_right_ones():
    class Stub:
        def answer(self, *questions: str) -> list[float]:
            return [6000.0, math.nan, 1.0][: len(questions)]

    rows = [["a", 6000.0], ["b", 2.0], ["c", 2.0]]
    result = BenchmarkResult.from_answers([tuple(row) for row in rows], Stub().answer("a", "b", "c"))
    assert (result.accuracy, result.answer_rate) == (1 / 3, 2 / 3)
    assert [sample.is_correct for sample in result.samples] == [True, False, False]
    assert len(benchmark(Stub(), Dataset("valid"), 2).samples) == 2


def test_an_empty_set_has_no_accuracy():
    with pytest.raises(HomeworkError, match="cannot score"):
        BenchmarkResult.from_answers([], [])


def test_wilson_interval_stays_within_bounds():
    assert wilson_interval(1.0, 10)[1] == 1.0 and wilson_interval(0.0, 10)[0] == 0.0
    # Brown, Cai and DasGupta (2001) tabulate the same formula.
    assert [round(bound, 3) for bound in wilson_interval(0.95, 100)] == [0.888, 0.978]


def test_the_foreign_questions_are_right_and_nobody_was_tuned_on_them():
    rows = json.loads((data.DATA_FOLDER.parent / "tests" / "foreign_questions.json").read_text(encoding="utf-8"))
    tuned = {text for text, _ in Dataset("train").rows + Dataset("valid").rows}
    assert len(rows) == 200 and len({text for text, _ in rows}) == 200
    assert all(math.isfinite(answer) and text not in tuned for text, answer in rows)
