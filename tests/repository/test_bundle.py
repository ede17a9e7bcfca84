"""The zip that is handed in: by allow-list, the same bytes every time, graded before it gets its name."""

import json
import re
import shutil
import zipfile

import pytest

import bundle
from grader.check_list import check_names
from grader.course import Course
from grader.grade import grade
from grader.rubric import CONFIG, WEIGHTS
from homework.common import zip_contents
from homework.common.base_model import ROOT


@pytest.fixture
def homework(trained, tmp_path, monkeypatch):
    """A finished homework in a folder of its own, and few questions."""
    folder = tmp_path / "homework"
    shutil.copytree(ROOT / "homework", folder, ignore=shutil.ignore_patterns("*_model", "__pycache__"))
    shutil.copytree(trained.folder, folder / "sft_model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("grader.course.Course", lambda: Course(hidden_questions=20, novel_questions=5))
    return folder


@pytest.mark.everything
def test_the_zip_holds_code_and_adapter_and_says_its_score(homework, capsys):
    (homework / "notes.txt").write_text("mine")
    (homework / "sft_model" / "optimizer.json").write_text("{}")
    (homework / "sft_model" / "training_args.bin").write_bytes(b"a pickle of the Trainer's")
    assert bundle.main(["homework", "123456"]) == 0
    names = zipfile.ZipFile("123456.zip").namelist()
    assert {f"homework/{CONFIG}", f"homework/{WEIGHTS}", "homework/sft.py"} <= set(names)
    assert not any("notes" in name or "optimizer" in name for name in names)
    answers = zipfile.ZipFile("123456.zip").read("homework/ANSWERS.md")
    assert answers == (ROOT / "homework" / "ANSWERS.md").read_bytes()
    out = capsys.readouterr().out
    assert re.search(r"hand in 123456.zip: [\d,]+ bytes, \d+(\.\d+)? of 100 points by the short rubric; the", out)
    assert "left out: sft_model/optimizer.json" in out and "sft_model/adapter_model.safetensors" in out


@pytest.fixture
def weights_alone(monkeypatch):
    """The zip is graded without its code, where only the adapter decides."""
    checks = tuple(check_names("weights"))
    monkeypatch.setattr("grader.grade.grade", lambda path, course, _, name: grade(path, course, None, checks, name))


def test_the_same_files_give_the_same_bytes(homework, weights_alone):
    assert bundle.main(["homework", "a"]) == 0
    (homework / "sft.py").touch()
    assert bundle.main(["homework", "b"]) == 0
    assert (homework.parent / "a.zip").read_bytes() == (homework.parent / "b.zip").read_bytes()


def test_the_adapter_that_reasons_and_its_rows_are_taken_too(homework, weights_alone, capsys):
    """They decide no score yet, so that a zip without them is as good."""
    shutil.copytree(homework / "sft_model", homework / "rft_model")
    data = homework.parent / "data"
    data.mkdir()
    (data / "rft.json").write_text('[["6 kg in g?", 6000.0, "6 * 1000 = 6000. <answer>6000</answer>"]]')
    assert bundle.main(["homework", "a"]) == 0
    names = set(zipfile.ZipFile("a.zip").namelist())
    assert {f"homework/rft_model/{name}" for name in zip_contents.ADAPTER_FILES} | {"homework/rft.json"} <= names
    (data / "rft.json").write_text(" " * 1_000_001)
    capsys.readouterr()
    assert bundle.main(["homework", "b"]) == 0
    assert "left out: rft.json, 1,000,001 bytes are more than 1,000,000" in capsys.readouterr().out
    assert "homework/rft.json" not in zipfile.ZipFile("b.zip").namelist()


def remove_weights(homework):
    (homework / WEIGHTS).unlink()


def rename_code(homework):
    (homework / "sft.py").rename(homework / "sft_old.py")


def other_rank(homework):
    config = json.loads((homework / CONFIG).read_text())
    (homework / CONFIG).write_text(json.dumps({**config, "r": 4096}))


def cut_weights(homework):
    (homework / WEIGHTS).write_bytes((homework / WEIGHTS).read_bytes()[:-8])


def write_on_and_on(homework):
    (homework / "ANSWERS.md").write_bytes(b"x" * 10_000_000)


def save_otherwise(homework):
    (homework / "ANSWERS.md").write_text("1. µ", encoding="latin-1")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_weights, "lacks sft_model/adapter_model.safetensors"),
        (rename_code, "lacks sft.py"),
        (other_rank, "was not written"),
        (cut_weights, "was not written"),
        (write_on_and_on, "ANSWERS.md is too long"),
        (save_otherwise, "ANSWERS.md is not UTF-8 at byte 3"),
    ],
)
def test_what_cannot_be_handed_in_is_refused_and_leaves_the_former_zip(homework, weights_alone, capsys, spoil, message):
    (homework.parent / "1.zip").write_bytes(b"the former one")
    spoil(homework)
    assert bundle.main(["homework", "1"]) == 1
    assert message in capsys.readouterr().err
    assert (homework.parent / "1.zip").read_bytes() == b"the former one"
    assert sorted(path.name for path in homework.parent.iterdir()) == ["1.zip", "homework"]


def test_without_answers_the_zip_is_made_and_says_so(homework, weights_alone, capsys):
    assert bundle.main(["homework", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    wanted = "but 5 of 5 questions in ANSWERS.md, which staff read, have no answer yet; bundle again when that is done"
    assert last == wanted


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "ANSWERS.md is missing, with your answers: take it again"),
        ({"answers.md.txt": b"1."}, "ANSWERS.md is missing, with your answers: rename answers.md.txt"),
        ({"ANSWERS.md": b""}, "ANSWERS.md is empty: take its questions again"),
        ({"ANSWERS.md": b"## 1. A\n\nYour answer:\n\n## 2. B\n\nYour answer:\r\nEOS\r\n"}, "1 of 2 questions"),
        ({"ANSWERS.md": b"## 1. A\n\nYour answer:\nit\n\n## 2. B\n\nYour answer:\n\nEOS\n"}, ""),
        ({"ANSWERS.md": b"## 1. A\n\nYour answer: EOS\n\n## 2. B\n\nYour answer:\n"}, "1 of 2 questions"),
        ({"ANSWERS.md": b"in a form of my own"}, ""),
    ],
)
def test_what_the_answers_lack_is_named(tmp_path, files, said):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    found = bundle.describe_answers(tmp_path, files.get("ANSWERS.md", b""))
    assert found.startswith(said) and bool(found) == bool(said)


@pytest.mark.parametrize("words", [["homeworkk", "1"], ["homework", "../1"], ["homework"], ["homework", "1", "--fast"]])
def test_wrong_arguments_are_refused(homework, capsys, words):
    try:
        assert bundle.main(words) == 1
    except SystemExit as stop:
        assert stop.code == 2
    assert capsys.readouterr().err and not list(homework.parent.glob("*.zip"))


def test_check_and_bundle_agree_on_what_goes_into_the_zip(homework):
    (homework / "notes.txt").write_text("x")
    (homework / "sft_model" / "ANSWERS.md").write_text("x")
    inside, _ = zip_contents.list_files(homework)
    for path in homework.rglob("*"):
        if path.is_file():
            assert (path in inside) == bundle.is_wanted(path.relative_to(homework).as_posix()), path
    assert zip_contents.ZIP_LIMIT == bundle.rubric.ZIP_BYTES
