"""A class run as staff start it: kills, a full disk and a replaced zip in small, then every option once.

benchmarks/kill_class.py does the same at full size.
"""

import csv
import json
import shutil
from pathlib import Path

import pytest

from benchmarks import kill_class
from grader import __main__, rubric
from grader.check_list import check_names, needs_sandbox
from grader.classroom import __main__ as cli
from grader.classroom import session, supervisor
from grader.classroom.store import Store, run_key
from grader.course import Course
from grader.errors import GraderFault
from tests.support import zips

SMALL, WEIGHTS = Course(hidden_questions=6, novel_questions=2), tuple(check_names("weights"))


def run(folder: Path, *words: str) -> int:
    return cli.grade_class(
        cli.parse_arguments([str(folder), "--out", str(folder.parent / "out"), *words]), SMALL, WEIGHTS
    )


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder.parent / "out" / "class.csv").open(encoding="utf-8") as file:
        return {row["ID"]: row for row in csv.DictReader(file)}


def written(folder: Path) -> dict[str, int]:
    """When each result was written."""
    return {path: time for path, (time, _) in kill_class.snapshot(folder.parent / "out").items()}


@pytest.fixture(scope="module")
def small(files, tmp_path_factory) -> Path:
    """Three students, one of them refused, graded once."""
    folder = tmp_path_factory.mktemp("class") / "hand-ins"
    folder.mkdir()
    zips.good(folder / "doe_1_100_homework.zip", files)
    zips.good(folder / "roe_LATE_2_101_homework.zip", kill_class.variant(files, 1))
    zips.HOSTILE["slip"][0](folder / "poe_3_102_homework.zip", files)
    assert run(folder, "--jobs", "1") == 0
    return folder


@pytest.fixture
def graded_class(small, tmp_path) -> Path:
    """A copy of it."""
    shutil.copytree(small.parent, tmp_path / "copy", copy_function=shutil.copy2)
    return tmp_path / "copy" / "hand-ins"


@pytest.mark.everything
def test_killed_again_and_again_every_student_has_one_result(files, tmp_path):
    seen = kill_class.torture(files, tmp_path, good=6, kills=2, run=kill_class.Run(4), every=10)
    assert seen["results"] == seen["students"] + 1 and seen["of former zips"] == 1
    assert set(seen["states"]) == {"graded", "refused"}


def test_what_is_graded_is_not_graded_again_and_the_tables_are_made_anew(graded_class, monkeypatch, capsys):
    monkeypatch.setattr(supervisor, "Worker", lambda *_: pytest.fail("started a process"))
    before = written(graded_class)
    (graded_class.parent / "out" / "class.csv").unlink()
    (graded_class / "overrides.csv").write_text("ID,points,reason\n3,5,the platform cut the zip\n")
    words = ("--overrides", str(graded_class / "overrides.csv"), "--late-penalty", "10")
    assert run(graded_class, *words) == 0 and written(graded_class) == before
    rows = table(graded_class)
    assert rows["3"]["raw"] == "0" and rows["3"]["final"] == "5" and rows["3"]["state"] == "refused"
    assert (
        float(rows["2"]["final"]) == pytest.approx(0.9 * float(rows["2"]["raw"]), abs=0.005)
        and rows["1"]["penalty"] == ""
    )
    assert "class.html" in capsys.readouterr().out


def test_only_grades_one_and_names_who_is_left(graded_class, files, capsys):
    for index in (4, 5):
        zips.good(graded_class / f"moe_{index}_10{index}_homework.zip", kill_class.variant(files, index))
    assert run(graded_class, "--only", "4") == 0
    assert "not graded yet (no score yet): 5" in capsys.readouterr().out
    assert table(graded_class)["4"]["state"] == "graded" and table(graded_class)["5"]["final"] == ""


@pytest.mark.everything
def test_regrade_keeps_the_former_result_beside(graded_class):
    before = written(graded_class)
    (graded_class.parent / "out" / "regrade.txt").write_bytes(b"\xff")  # damaged: it begins anew
    assert run(graded_class, "--regrade", "1", "--jobs", "1") == 0
    changed = [path for path, time in written(graded_class).items() if before[path] != time]
    (new,) = map(Path, changed)
    assert json.loads((new.parent / "former.json").read_text()) != json.loads(new.read_text())
    assert run(graded_class, "--regrade", "1", "--jobs", "1") == 0, "asked another time, it is graded another time"
    assert (new.parent / "former-1.json").exists(), "each result that ever counted is kept"
    assert run(graded_class, "--regrade", "failed,changed") == 0, "none failed, nothing changed"


@pytest.mark.everything
def test_an_interrupted_regrade_keeps_every_grade_and_repeats_none(graded_class, monkeypatch):
    before, rows = written(graded_class), table(graded_class)
    finish = cli.Progress.finish

    def interrupt(self, *given):
        finish(self, *given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cli.Progress, "finish", interrupt)
        assert run(graded_class, "--regrade", "all", "--jobs", "1") == 130
    now = written(graded_class)
    assert len(now) == 3 and 1 <= sum(now[path] != before[path] for path in before) < 3
    assert {key: row["final"] for key, row in table(graded_class).items()} == {
        key: row["final"] for key, row in rows.items()
    }
    assert run(graded_class, "--regrade", "all", "--jobs", "1") == 0
    last = written(graded_class)
    assert all(last[path] != before[path] for path in before), "the rest was graded again"
    assert all(last[path] == now[path] for path in before if now[path] != before[path]), "and nothing twice"
    assert not (graded_class.parent / "out" / "regrade.txt").exists()


def test_a_line_that_would_lose_what_the_tables_rest_on_is_refused(graded_class):
    (graded_class / "overrides.csv").write_text("ID,points,reason\n3,5,the platform cut the zip\n")
    words = ["--overrides", str(graded_class / "overrides.csv"), "--late-penalty", "10"]
    assert run(graded_class, *words) == 0
    with pytest.raises(GraderFault, match=r"made with --overrides .*overrides.csv: add it again"):
        run(graded_class, "--only", "1")
    with pytest.raises(GraderFault, match="made with --late-penalty 10"):
        run(graded_class, *words[:2])
    assert table(graded_class)["3"]["final"] == "5"
    assert run(graded_class, *words[:2], "--late-penalty", "0") == 0 and table(graded_class)["2"]["penalty"] == ""
    settings = graded_class.parent / "out" / "run_settings.json"
    damaged = settings.read_text().replace('"late_penalty": 0.0', '"late_penalty": "ten"')
    for content in ("{", damaged):
        settings.write_text(content)
        with pytest.raises(GraderFault, match="which says what the tables rest on"):
            run(graded_class, *words)


def test_a_folder_in_the_place_of_a_table_is_named(graded_class, capsys):
    out = graded_class.parent / "out"
    (out / "class.csv").unlink()
    (out / "class.csv").mkdir()
    assert cli.main([str(graded_class), "--out", str(out)], SMALL, WEIGHTS) == 2
    assert f"directory: {out / 'class.csv'}; what was graded is kept" in capsys.readouterr().err


@pytest.mark.everything
def test_public_questions_never_take_the_place_of_official_grades(graded_class, tmp_path, monkeypatch, capsys):
    (tmp_path / "staff.key").write_text("a key of the staff, long enough to be one, 0123456789abcdef")
    assert run(graded_class, "--key-file", str(tmp_path / "staff.key")) == 0
    before = table(graded_class)
    with pytest.raises(GraderFault, match="holds official grades, and this line has no key"):
        run(graded_class, "--only", "1", "--regrade", "1")
    assert table(graded_class) == before


@pytest.mark.everything
def test_graded_before_counts_those_that_were(graded_class, files, capsys):
    shutil.copy2(graded_class / "doe_1_100_homework.zip", graded_class / "twin_9_109_homework.zip")
    for index in (4, 5):
        zips.good(graded_class / f"moe_{index}_10{index}_homework.zip", kill_class.variant(files, index))
    assert run(graded_class, "--only", "4") == 0
    assert "graded before: 4" in capsys.readouterr().out, "5 was not, and a twin was"


def test_an_id_with_a_comma_is_one(graded_class, monkeypatch):
    assert cli.split_ids(" a,b ", {"a,b"}) == {"a,b"} and cli.split_ids("1, 2,", {"1", "2"}) == {"1", "2"}


@pytest.mark.everything
def test_a_newer_zip_of_a_student_is_graded_and_the_older_named(graded_class, files, capsys):
    zips.good(graded_class / "poe_3_200_homework-1.zip", kill_class.variant(files, 3))
    assert run(graded_class) == 0
    row = table(graded_class)["3"]
    assert row["state"] == "graded" and row["older files"] == "poe_3_102_homework.zip"
    assert "poe_3_200_homework-1.zip counts, not poe_3_102_homework.zip" in capsys.readouterr().out


def test_ctrl_c_keeps_what_is_graded(graded_class, files, monkeypatch, capsys):
    zips.good(graded_class / "moe_4_104_homework.zip", kill_class.variant(files, 4))
    before = written(graded_class)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.Progress, "begin", interrupt)
    assert run(graded_class) == 130
    assert "the same line goes on" in capsys.readouterr().err
    assert written(graded_class) == before and table(graded_class)["4"]["state"] == "not graded yet"


@pytest.mark.parametrize("words", [("--only", "9"), ("--regrade", "nobody"), ("--overrides", "nowhere.csv")])
def test_an_unknown_id_or_file_is_an_error_before_anything_runs(graded_class, words, monkeypatch):
    monkeypatch.setattr(cli, "run", lambda *_: pytest.fail("ran"))
    with pytest.raises(GraderFault, match=r"nobody has the ID|can't read the overrides"):
        run(graded_class, *words)


def test_without_isolation_a_class_run_does_not_begin(graded_class, monkeypatch, capsys):
    def refuse(*_) -> None:
        raise GraderFault("this machine can't keep code of students in")

    monkeypatch.setattr(cli, "require_isolation", refuse)
    monkeypatch.setattr(cli, "collect", lambda *_: pytest.fail("began"))
    assert cli.main([str(graded_class), "--out", str(graded_class.parent / "out")]) == 2
    assert "can't keep code of students in" in capsys.readouterr().err
    assert session.require_isolation(WEIGHTS) == "no code is run" and needs_sandbox(())


@pytest.mark.parametrize("words", [
    ["x", "--out", "o", "--jobs", "0"], ["x", "--out", "o", "--late-penalty", "101"],
    ["x", "--out", "o", "--joobs", "1"],
    ["x", "--out", "o", "--late-penalty", "nan"],
])  # fmt: skip
def test_wrong_arguments_are_refused(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2 and capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--out", "results", "--jobs", "2"]])
def test_the_command_for_one_submission_refuses_a_folder_of_zips_and_names_the_other(tmp_path, capsys, words):
    (tmp_path / "1.zip").touch()
    with pytest.raises(SystemExit) as stop:
        __main__.main([str(tmp_path), *words])
    said = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and len(said) == 1
    assert f"python -m grader.classroom {tmp_path} --out RESULTS grades a class" in said[0]
    (tmp_path / "sft.py").touch()
    assert __main__.parse_arguments([str(tmp_path)]).submission == tmp_path, "a homework in which a zip was forgotten"
    with pytest.raises(SystemExit):
        __main__.main(["x.zip", "--out=results"])
    assert "unrecognized arguments: --out=results" in capsys.readouterr().err


def test_results_in_the_former_format_are_refused_in_one_line(graded_class, monkeypatch):
    monkeypatch.setattr(cli, "run", lambda *_: pytest.fail("ran"))
    out = graded_class.parent / "out"
    table_before, path = (out / "class.csv").read_bytes(), next((out / "submissions").glob("*/*/result.json"))
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 1'))
    with pytest.raises(GraderFault, match=r"holds results in format 1, .*take another --out"):
        run(graded_class)
    shutil.rmtree(out / "submissions")
    (out / "terms.json").write_text('{"official": true}')
    with pytest.raises(GraderFault, match="holds results in format 1"):
        run(graded_class)
    assert (out / "class.csv").read_bytes() == table_before, "nothing was written"


def test_the_same_files_in_another_zip_are_the_same_submission(graded_class, files, capsys):
    before = written(graded_class)
    zips.good(graded_class / "doe_1_200_homework-1.zip", dict(reversed(files.items())), top="")
    assert run(graded_class) == 0 and written(graded_class) == before
    row = table(graded_class)["1"]
    assert row["file"] == "doe_1_200_homework-1.zip" and row["older files"] == "doe_1_100_homework.zip"


def test_new_answers_stand_on_the_page_and_keep_the_grade(graded_class, files, monkeypatch):
    monkeypatch.setattr(supervisor, "Worker", lambda *_: pytest.fail("started a process"))
    before, page = written(graded_class), graded_class.parent / "out" / "students" / "1.html"
    assert "There is none in what could be read" in page.read_text(encoding="utf-8")
    zips.good(graded_class / "doe_1_200_homework-1.zip", {**files, rubric.ANSWERS: "1. <b>EOS</b> µ".encode()})
    assert run(graded_class) == 0 and written(graded_class) == before
    assert "<pre class=words>1. &lt;b&gt;EOS&lt;/b&gt; µ</pre>" in page.read_text(encoding="utf-8")


def test_the_pages_say_what_staff_need_and_load_nothing(graded_class):
    out = graded_class.parent / "out"
    page = (out / "class.html").read_text(encoding="utf-8")
    assert "3 students: 2 graded, 1 refused" in page and "leaves the folder" in page and "<svg" in page
    for path in (out / "class.html", *(out / "students").iterdir()):
        text = path.read_text(encoding="utf-8")
        assert "default-src 'none'" in text and "<script" not in text and "http" not in text.replace("http-equiv", "")
    questions = [text for text, _ in SMALL.draw("hidden", 6)]
    assert not any(question in path.read_text() for path in (out / "students").iterdir() for question in questions)


def test_the_result_on_disk_says_where_it_comes_from(graded_class):
    store = Store(graded_class.parent / "out", run_key(SMALL, WEIGHTS))
    path = next((graded_class.parent / "out" / "submissions").glob("*/*/result.json"))
    content = json.loads(path.read_text())
    assert content["key"]["seed"] == store.key.seed and content["key"]["submission"] == path.parts[-3]
    assert content["result"]["provenance"]["versions"]["torch"]
