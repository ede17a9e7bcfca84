"""An instructor's own rows: what is wrong with them is named, nothing is written unasked, the rest goes to a grade."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from grader import own_questions as questions
from grader.course import Course
from homework.common.base_model import ROOT
from homework.common.errors import HomeworkError
from homework.data import Dataset, check_apart
from tools import import_data, make_starter
from tools.import_data import MARK

TRAIN, VALID, HIDDEN = ([[f"What is {n} plus {n + 1}?", 2 * n + 1] for n in numbers]
                        for numbers in (range(100, 220), range(300, 340), range(400, 440)))  # fmt: skip
SPLITS = {"train": TRAIN, "valid": VALID, "hidden": HIDDEN}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder of data as it was before, beside the instructor's files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("train.json", "valid.json", "README.md"):
        (tmp_path / "data" / name).write_text(f"the former {name}")
    return tmp_path / "data"


def write(splits: dict) -> None:
    for name, rows in splits.items():
        Path(f"{name}.json").write_text(rows if isinstance(rows, str) else json.dumps(rows), encoding="utf-8")


def bring(splits: dict, **options: str) -> None:
    """Import the rows of a table into data/ of the working folder."""
    write(splits)
    hidden = "hidden.json" if "hidden" in splits else None
    import_data.main("train.json", "valid.json", hidden=hidden, out="data", **options)


def changed(name: str, *rows: list, at: int = 0) -> dict:
    """The three files, with rows more at a place of one of them."""
    return {**SPLITS, name: [*SPLITS[name][:at], *rows, *SPLITS[name][at:]]}


def is_untouched(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()} == {"train.json", "valid.json", "README.md"}
    return names and all(path.read_text() == f"the former {path.name}" for path in folder.iterdir())


def test_right_rows_are_written_with_readme_and_mark_and_the_former_files_are_kept(folder, monkeypatch):
    bring(SPLITS)
    train, valid = (Dataset(name, folder) for name in ("train", "valid"))
    assert [list(row) for row in train] == TRAIN and [list(row) for row in valid] == VALID
    check_apart(train, valid)
    readme = (folder / "README.md").read_text()
    for name in ("train", "valid"):
        assert hashlib.sha256((folder / f"{name}.json").read_bytes()).hexdigest() in readme
    assert "| 120 |" in readme and "| 40 |" in readme
    original = folder.with_name("data_original")
    assert {path.name: path.read_text() for path in original.iterdir()} == {
        name: f"the former {name}" for name in ("train.json", "valid.json", "README.md")
    }
    monkeypatch.setattr(questions, "DATA", folder)
    assert Course().source == "valid" and Course().scored() == [(text, float(answer)) for text, answer in VALID]


def test_nothing_hidden_and_nothing_kept_is_a_split_or_reaches_the_starter(folder):
    bring(SPLITS)
    for path in folder.rglob("*"):
        assert not any(question in path.read_text() for question, _ in HIDDEN), path
    with pytest.raises(HomeworkError, match=r"data has train, valid$"):
        Dataset("original", folder)
    shutil.copy("hidden.json", folder / "hidden.json")
    given = {path.as_posix() for path in make_starter.list_given(folder.parent)}
    assert given == {"data/train.json", "data/valid.json", "data/README.md", f"data/{MARK}"}


def test_the_same_rows_again_change_nothing_and_other_rows_keep_what_they_replace(folder, capsys):
    bring(SPLITS)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    bring(SPLITS)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert "holds these rows already" in capsys.readouterr().out and not folder.with_name("data_original_1").exists()
    bring({**SPLITS, "train": TRAIN[:50]})
    assert json.loads((folder.with_name("data_original_1") / "train.json").read_text()) == TRAIN
    assert (folder.with_name("data_original_1") / MARK).is_file() and len(Dataset("train", folder)) == 50


@pytest.mark.parametrize(("side", "train", "valid"), [("train", 118, 40), ("valid", 120, 38)])
def test_shared_questions_leave_the_side_that_is_named(folder, capsys, side, train, valid):
    shared = {**SPLITS, "valid": [*VALID[:38], *TRAIN[3:5]]}
    with pytest.raises(HomeworkError, match=r"2 rows are there twice: add --drop train or .* nothing is w"):
        bring(shared)
    said = capsys.readouterr().out
    assert "train.json, row 3 stands in valid.json, row 38, too: 'What is 103 plus 104?'" in said
    assert is_untouched(folder) and not folder.with_name("data_original").exists()
    bring(shared, drop=side)
    assert (len(Dataset("train", folder)), len(Dataset("valid", folder))) == (train, valid)
    check_apart(Dataset("train", folder), Dataset("valid", folder))


def test_repeated_rows_go_when_asked_and_the_first_stays(folder, capsys):
    repeated = changed("train", [" ".join(TRAIN[7][0].split(" ")).replace(" is", "  is"), TRAIN[7][1]], at=60)
    with pytest.raises(HomeworkError, match="1 rows are there twice"):
        bring(repeated)
    assert "train.json, row 60 repeats row 7: 'What  is 107" in capsys.readouterr().out and is_untouched(folder)
    bring(repeated, drop="valid")
    assert [list(row) for row in Dataset("train", folder)] == TRAIN


def test_a_hidden_question_leaves_what_students_get_whatever_side_is_named(folder):
    bring({**SPLITS, "train": [*TRAIN, HIDDEN[0]], "valid": [*VALID, HIDDEN[1]]}, drop="train")
    assert len(Dataset("train", folder)) == 120 and len(Dataset("valid", folder)) == 40


def test_another_answer_in_the_other_file_is_said(folder, capsys):
    bring({**SPLITS, "train": [*TRAIN, [VALID[0][0], 5]]}, drop="train")
    assert "row 120 stands in valid.json, row 0, too, with ANOTHER ANSWER" in capsys.readouterr().out


FAULTS = {
    "text for a number": (changed("train", ["Six?", "6"], at=4), "train.json, row 4: the answer must be a finite"),
    "NaN": (changed("valid", ["Six?", float("nan")], at=2), "valid.json, row 2: the answer must be a finite number"),
    "three cells": (changed("hidden", ["Six?", 6, 6], at=1), r"hidden.json, row 1: expected \[question, answer\]"),
    "no question": (changed("train", ["", 6]), "train.json, row 0: the question must be a text"),
    "too long": (changed("train", ["why " * 300, 6]), r"train.json, row 0: \d+ tokens, and the base model reads \d+"),
    "a tag": (changed("train", ["Is <answer>6</answer> six?", 6]), "row 0: it holds a tag or the end of a text"),
    "EOS": (changed("train", ["Is <|im_end|> six?", 6]), "row 0: it holds a tag or the end of a text"),
    "a space behind": (changed("valid", ["What is six? ", 6]), "valid.json, row 0: it begins or ends with a space"),
    "two answers": (changed("train", [TRAIN[5][0], 7]), r"different answers \(row 0: 7, row 6: 211\): 'What is 105"),
    "hidden twice": (changed("hidden", HIDDEN[5]), "hidden.json, row 6 repeats row 0"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_has_to_be_mended_by_hand_is_named_by_file_and_row(folder, capsys, fault):
    splits, said = FAULTS[fault]
    with pytest.raises(HomeworkError, match=r"^1 of these need a hand.*nothing is written"):
        bring(splits, drop="train")
    out = capsys.readouterr().out
    assert re.search(said, out), out
    assert is_untouched(folder) and not folder.with_name("data_original").exists()


STOPS = {
    "not JSON": ({**SPLITS, "train": "[["}, {}, "train.json is not JSON .*: correct it"),
    "no list": ({**SPLITS, "valid": "{}"}, {}, "valid.json must be a list"),
    "less than a batch": ({**SPLITS, "train": TRAIN[:31]}, {}, "train.json has 31 rows left, at least 32"),
    "too little to measure": ({**SPLITS, "valid": VALID[:19]}, {}, "valid.json has 19 rows left, at least 20"),
    "an unknown side": (SPLITS, {"drop": "hidden"}, "--drop takes train or valid, not 'hidden'"),
}


@pytest.mark.parametrize("stop", STOPS)
def test_what_can_not_be_imported_stops_it(folder, stop):
    splits, options, message = STOPS[stop]
    with pytest.raises(HomeworkError, match=message):
        bring(splits, **options)
    assert is_untouched(folder)


def test_a_missing_file_and_a_hidden_one_among_what_students_get_are_refused(folder, monkeypatch):
    write(SPLITS)
    with pytest.raises(HomeworkError, match=r"there is no file nowhere.json: name your valid questions"):
        import_data.main("train.json", "nowhere.json", out="data")
    monkeypatch.setattr(import_data, "ROOT", folder.parent)
    for place in ("data", "homework"):
        with pytest.raises(HomeworkError, match="lies where students get it: move it out"):
            import_data.main("train.json", "valid.json", hidden=f"{place}/hidden.json", out="data")
    assert is_untouched(folder)


def test_a_stop_in_between_is_no_silent_draw_of_other_questions(folder, monkeypatch):
    """The mark is written first: whatever is missing then, the grader misses it."""
    whole = import_data.write_whole

    def full(path, content):
        if path.name == "valid.json":
            raise OSError(28, "No space left on device")
        whole(path, content)

    monkeypatch.setattr(import_data, "write_whole", full)
    with pytest.raises(OSError, match="No space"):
        bring(SPLITS)
    monkeypatch.setattr(questions, "DATA", folder)
    with pytest.raises(questions.GraderFault, match="is not the one that"):
        Course().scored()


# --- the whole way ---


def run(root: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, "-m", *words], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.everything
def test_from_rows_to_a_grade_and_a_starter(tmp_path, monkeypatch):
    """In a copy of the repository without git, as an instructor goes: docs/staff.md."""
    root, rows = tmp_path / "repository", tmp_path / "rows"
    skipped = shutil.ignore_patterns(".git", "runs", "__pycache__", "sft_model", "data_original*", ".venv")
    shutil.copytree(ROOT, root, ignore=skipped)
    rows.mkdir()
    monkeypatch.chdir(rows)
    write({**SPLITS, "train": [*TRAIN, *VALID[:5]]})
    files = [str(rows / f"{name}.json") for name in SPLITS]
    run(root, "tools.import_data", *files[:2], "--hidden", files[2], "--drop", "train")
    trained = run(root, "homework.sft", "train", "--max-steps", "2", "--output-dir", "homework/sft_model")
    assert "valid has 40 rows: 10 of them show how the training goes" in trained and "on 30 questions" in trained
    line = ("grader", "homework", "--only", "accuracy", "--json", str(rows / "r.json"))
    assert questions.PUBLIC_NOTE in " ".join(run(root, *line).split())
    hidden = " ".join(run(root, *line, "--hidden", files[2]).split())
    assert (
        "on 40 hidden questions" in hidden and questions.PUBLIC_NOTE not in hidden and "no training text" not in hidden
    )
    assert json.loads((rows / "r.json").read_text())["extra_data"]["provenance"]["questions"] == "hidden"
    run(root, "tools.make_starter", str(tmp_path / "starter"))
    starter = [path for path in (tmp_path / "starter").rglob("*") if path.suffix in (".json", ".md", ".toml", ".py")]
    assert (tmp_path / "starter" / "data" / MARK) in starter
    assert not any(HIDDEN[0][0] in path.read_text(encoding="utf-8") for path in starter)
