"""Zips and folders: hostile ones are refused in seconds and little memory, clumsy ones cleaned up and said."""

import random
import resource
import time
import zipfile

import pytest

from grader import rubric, submission
from grader.errors import Refusal
from grader.rubric import CONFIG, WEIGHTS
from grader.submission import open_submission
from tests.support import zips
from tests.support.zips import HOSTILE


@pytest.fixture(scope="session")
def files(files) -> dict[str, bytes]:
    """The adapter, and some code that must never run."""
    return {**files, "sft.py": b"raise SystemExit('it ran')", "__init__.py": b""}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_zip_is_refused(files, tmp_path, name):
    make, reason = HOSTILE[name]
    make(tmp_path / "x.zip", files)
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Refusal, match=reason) as caught:
        open_submission(tmp_path / "x.zip")
    assert time.perf_counter() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "kB"
    assert caught.value.details["do"], "every refusal says what to do"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.zip"], "nothing was written, nothing ran"


@pytest.mark.parametrize("top", ["homework/", "", "123456/homework/", "a/b/homework/"])
def test_a_parent_folder_is_taken_off(files, tmp_path, top):
    zips.good(tmp_path / "x.zip", files, top)
    opened = open_submission(tmp_path / "x.zip")
    assert opened.files == files
    assert any("not at the top" in note for note in opened.notes) == (top.count("/") > 1)


@pytest.mark.parametrize("top", ["", "123456/"])
def test_what_lies_beside_the_package_is_left_out_and_said(files, tmp_path, top):
    """An editor's settings, the data, or the whole of the repository: all have been handed in."""
    beside = [".vscode/settings.json", "data/train.json", "conftest.py", "old.zip", "homework_old/sft.py"]
    entries = [(f"{top}homework/{name}", content) for name, content in files.items()]
    entries.append((f"{top}homework/{rubric.ANSWERS}", b"1"))
    zips.write(tmp_path / "x.zip", [*entries, *((f"{top}{name}", b"x") for name in beside)])
    opened = open_submission(tmp_path / "x.zip")
    assert opened.files == files and opened.answers == b"1"
    assert any(f"left out 5 files beside {top}homework/: " in note for note in opened.notes)


@pytest.mark.parametrize("top", ["Homework/", "hw1/", "ID/hw1/", "sft_model_final/"])
@pytest.mark.parametrize("beside", ["data/rft.json", "settings.json", "README.md", "old/hw1/v2/sft.py"])
def test_a_homework_in_a_folder_of_another_name_is_found_by_what_it_holds(files, tmp_path, top, beside):
    entries = [(f"{top}{name}", content) for name, content in files.items()]
    zips.write(tmp_path / "x.zip", [*entries, (beside, b"x")])
    assert open_submission(tmp_path / "x.zip").files == files


@pytest.mark.parametrize("kept", [CONFIG, WEIGHTS, "sft.py"])
def test_an_adapter_or_a_task_shows_the_folder(files, tmp_path, kept):
    zips.write(tmp_path / "x.zip", [(f"hw1/{kept}", files[kept]), ("data/rft.json", b"[]")])
    assert open_submission(tmp_path / "x.zip").files == {kept: files[kept]}


@pytest.mark.parametrize("tops", [("a/homework", "b/homework"), ("hw1", "hw2")])
def test_of_two_packages_none_is_chosen_and_both_are_named(files, tmp_path, tops):
    zips.write(tmp_path / "x.zip", [(f"{top}/{name}", b"x") for top in tops for name in files])
    with pytest.raises(Refusal, match="more than one folder holds a homework") as caught:
        open_submission(tmp_path / "x.zip")
    assert caught.value.details["actual"] == ", ".join(tops)


def test_rubbish_of_systems_is_cleaned_up_and_said(files, tmp_path):
    rubbish = ["__MACOSX/homework/._sft.py", "homework/.DS_Store", "homework/__pycache__/sft.cpython-311.pyc"]
    entries = [(name, b"x") for name in rubbish] + [(f"homework/{name}", data) for name, data in files.items()]
    zips.write(tmp_path / "x.zip", [*entries, ("homework/notes.txt", b"x")])
    opened = open_submission(tmp_path / "x.zip")
    assert opened.files == files
    assert opened.notes == [
        "left out 3 files of the system (__MACOSX, .DS_Store, caches)",
        "left out 1 files that are no code: notes.txt",
    ]


def test_a_zip_by_tar_is_read_and_what_packs_well_beside_the_code_costs_nothing(files, tmp_path):
    entries = [("./", b""), *((f"./homework/{name}", content) for name, content in files.items())]
    zips.write(tmp_path / "x.zip", [*entries, ("./homework/train.log", b"step 1: loss 2.0\n" * 100_000)])
    assert open_submission(tmp_path / "x.zip").files == files
    zips.write(tmp_path / "x.zip", [*entries, ("././evil.py", b"")])
    with pytest.raises(Refusal, match="leaves the folder"):
        open_submission(tmp_path / "x.zip")


@pytest.mark.parametrize("top", ["homework/", "", "123456/homework/"])
def test_the_answers_stand_apart_and_are_in_no_hash(files, tmp_path, top):
    zips.good(tmp_path / "plain.zip", files)
    zips.good(tmp_path / "x.zip", {**files, rubric.ANSWERS: b"1. EOS"}, top)
    opened, plain = open_submission(tmp_path / "x.zip"), open_submission(tmp_path / "plain.zip")
    assert opened.answers == b"1. EOS" and opened.files == files and plain.answers == b""
    assert opened.sha256 == plain.sha256 and not any(rubric.ANSWERS in note for note in opened.notes)


def test_answers_elsewhere_are_left_out_and_said(files, tmp_path):
    entries = [(f"homework/{name}", content) for name, content in files.items()]
    zips.write(tmp_path / "x.zip", [*entries, ("ANSWERS.md", b"1"), ("homework/sft_model/ANSWERS.md", b"2")])
    opened = open_submission(tmp_path / "x.zip")
    assert opened.answers == b"" and opened.files == files
    assert opened.notes == ["left out 2 files that are no code: ANSWERS.md, ANSWERS.md"]


def test_long_answers_are_cut_and_cost_nothing(files, tmp_path):
    content = random.Random(0).randbytes(10_000_000)
    zips.good(tmp_path / "x.zip", {**files, rubric.ANSWERS: content})
    (tmp_path / "homework").mkdir()
    (tmp_path / "homework" / "sft.py").write_bytes(b"")
    (tmp_path / "homework" / rubric.ANSWERS).write_bytes(content)
    for name in ("x.zip", "homework"):
        assert open_submission(tmp_path / name).answers == content[: rubric.ANSWERS_BYTES + 1]


def test_long_reasons_are_left_out_and_said(files, tmp_path):
    """rft.json decides no score: its length costs nobody the points of the rest."""
    content = random.Random(0).randbytes(rubric.CODE_BYTES + 1)
    (tmp_path / "homework").mkdir()
    (tmp_path / "homework" / "sft.py").write_bytes(b"")
    for name in ("x.zip", "homework"):
        for length in (rubric.CODE_BYTES, rubric.CODE_BYTES + 1):
            zips.good(tmp_path / "x.zip", {**files, rubric.REASONS: content[:length]})
            (tmp_path / "homework" / rubric.REASONS).write_bytes(content[:length])
            opened = open_submission(tmp_path / name)
            assert (rubric.REASONS in opened.files) is (length == rubric.CODE_BYTES)
        assert opened.notes[-1] == "left out rft.json: more than 1,000,000 bytes" and "sft.py" in opened.files


def test_long_reasons_elsewhere_are_left_out_and_count(files, tmp_path, monkeypatch):
    """In another folder they are none of the homework's, and all together they are bounded as any files are."""
    content = random.Random(0).randbytes(rubric.CODE_BYTES + 1)
    entries = [(f"homework/{name}", content) for name, content in files.items()]
    zips.write(tmp_path / "x.zip", [*entries, ("homework/old/rft.json", content), ("homework/new/rft.json", content)])
    opened = open_submission(tmp_path / "x.zip")
    assert opened.files == files
    assert opened.notes == ["left out old/rft.json, new/rft.json: more than 1,000,000 bytes"]
    monkeypatch.setattr(rubric, "UNPACKED_BYTES", 2 * rubric.CODE_BYTES)
    with pytest.raises(Refusal, match="the submission is too large"):
        open_submission(tmp_path / "x.zip")


def test_answers_alone_are_no_homework(tmp_path):
    zips.good(tmp_path / "x.zip", {rubric.ANSWERS: b"1. EOS"})
    with pytest.raises(Refusal, match="holds no file of a homework"):
        open_submission(tmp_path / "x.zip")


def test_what_the_trainer_writes_beside_an_adapter_is_left_out_and_said(files, tmp_path):
    entries = [(f"homework/{name}", content) for name, content in files.items()]
    pickle = zips.canary_pickle(tmp_path / "canary")
    zips.write(tmp_path / "x.zip", [*entries, ("homework/sft_model/training_args.bin", pickle)])
    opened = open_submission(tmp_path / "x.zip")
    assert opened.files == files and not (tmp_path / "canary").exists()
    assert opened.notes == ["left out 1 files that are no code: training_args.bin"]


def test_files_beside_the_folder_do_not_hide_it(files, tmp_path):
    entries = [(f"homework/{name}", content) for name, content in files.items()]
    picture = random.Random(0).randbytes(2_000_000)
    zips.write(tmp_path / "x.zip", [*entries, ("notes.txt", b"x"), ("homework/plot.png", picture)])
    opened = open_submission(tmp_path / "x.zip")
    assert opened.files == files and opened.notes == ["left out 2 files that are no code: notes.txt, plot.png"]


def test_a_name_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "homework").mkdir()
    try:
        (tmp_path / "homework" / "a\udcff.py").write_bytes(b"")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(Refusal, match="is no UTF-8"):
        open_submission(tmp_path / "homework")


def test_folder_and_zip_are_one_submission(files, tmp_path):
    for name, content in files.items():
        path = tmp_path / "homework" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    zips.good(tmp_path / "x.zip", files)
    assert open_submission(tmp_path / "homework").sha256 == open_submission(tmp_path / "x.zip").sha256


def test_a_link_in_a_folder_is_refused(tmp_path):
    (tmp_path / "homework").mkdir()
    (tmp_path / "homework" / "link.py").symlink_to("/etc/passwd")
    with pytest.raises(Refusal, match="is a link"):
        open_submission(tmp_path / "homework")


def test_pickled_weights_in_a_folder_are_refused(tmp_path):
    (tmp_path / "homework" / "sft_model").mkdir(parents=True)
    (tmp_path / "homework" / "sft_model" / "adapter_model.bin").write_bytes(zips.canary_pickle(tmp_path / "canary"))
    with pytest.raises(Refusal, match="is a pickle or may be one"):
        open_submission(tmp_path / "homework")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["nothing", "link"])
def test_what_is_not_there_is_named(tmp_path, name):
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(Refusal, match="there is no submission at"):
        open_submission(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "said"), [("inner.zip", "is an archive inside"), ("pytorch_model.bin", "is a pickle or may be one")]
)
def test_what_is_refused_by_its_name_is_not_called_too_large(tmp_path, name, said):
    content = random.Random(0).randbytes(rubric.CODE_BYTES + 1)
    zips.good(tmp_path / "x.zip", {"sft.py": b"", name: content})
    (tmp_path / "homework").mkdir()
    (tmp_path / "homework" / "sft.py").write_bytes(b"")
    (tmp_path / "homework" / name).write_bytes(content)
    for path in ("x.zip", "homework"):
        with pytest.raises(Refusal, match=said):
            open_submission(tmp_path / path)


@pytest.mark.parametrize("top", ["homework/", ""])
def test_a_module_may_have_the_name_of_a_library(files, tmp_path, top):
    """Beside the others it is homework.tokenizers; a test submission proves that nothing imports it otherwise."""
    named = {"tokenizers.py": b"", "grader.py": b"", "conftest.py": b"", "numpy/__init__.py": b""}
    zips.good(tmp_path / "x.zip", {**files, **named}, top)
    assert open_submission(tmp_path / "x.zip").files == {**files, **named}


def test_an_empty_folder_is_no_homework(tmp_path):
    with pytest.raises(Refusal, match="holds no file of a homework"):
        open_submission(tmp_path)


def test_a_zip_above_the_limit_is_not_even_opened(files, tmp_path, monkeypatch):
    monkeypatch.setattr(rubric, "ZIP_BYTES", 1000)
    monkeypatch.setattr(submission, "check_directory", lambda _: pytest.fail("opened"))
    zips.good(tmp_path / "x.zip", files)
    with pytest.raises(Refusal, match="the zip is too large"):
        open_submission(tmp_path / "x.zip")


def test_the_makers_make_what_they_say(files, tmp_path):
    """A plain zip through the same writer is accepted, so that it is the attack that is refused."""
    zips.with_extra("homework/more.py")(tmp_path / "x.zip", files)
    assert set(open_submission(tmp_path / "x.zip").files) == {*files, "more.py"}
    assert {CONFIG, WEIGHTS} <= set(files) and zipfile.is_zipfile(tmp_path / "x.zip")
