"""A rubric that changes in mid-term: kept results are named, none is graded again unasked, tables take both kinds."""

import csv
import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from grader import provenance, rubric
from grader.check_list import check_names
from grader.classroom import __main__ as cli
from grader.classroom import gradebook, pages, reports, store, supervisor
from grader.classroom.platforms import HandIn
from grader.classroom.store import hash_all, run_key
from grader.classroom.students import Student
from grader.course import Course
from grader.provenance import describe_value, hash_rubric
from grader.result import CheckResult, Result, State
from grader.rubric import read_rubric
from grader.seed import Seed

SMALL, WEIGHTS = Course(hidden_questions=6, novel_questions=2), tuple(check_names("weights"))
WORTH = {**SMALL.rubric.weights, "accuracy": 59, "configured": 5}
OTHER = replace(SMALL, rubric=SMALL.rubric._replace(weights=WORTH))  # after a change of the points
CHANGED = "--regrade changed"
BOTH = "graded under another rubric, 2 of {} students, all kept; --regrade changed renews them: 1, 2"


def run(folder: Path, *words: str, course: Course = SMALL) -> int:
    line = [str(folder), "--out", str(folder.parent / "out"), "--jobs", "1", *words]
    return cli.grade_class(cli.parse_arguments(line), course, WEIGHTS)


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder.parent / "out" / "class.csv").open(encoding="utf-8") as file:
        return {row["ID"]: row for row in csv.DictReader(file)}


def results(folder: Path) -> dict[Path, int]:
    """When each result was written."""
    return {path: path.stat().st_mtime_ns for path in (folder.parent / "out" / "submissions").glob("*/*/result.json")}


@pytest.fixture
def graded(tmp_path, monkeypatch, capsys) -> Path:
    """Two students, graded by the worker of the tests."""
    monkeypatch.setattr(supervisor, "WORKER", "tests.support.fake_worker")
    folder = tmp_path / "hand-ins"
    folder.mkdir()
    for name in "12":
        (folder / f"{name}.zip").write_text(name)
    assert run(folder) == 0 and CHANGED not in capsys.readouterr().out
    return folder


# --- one change, then the other ---


def test_another_rubric_is_said_and_regrades_nobody(graded, monkeypatch, capsys):
    before = results(graded)
    monkeypatch.setattr(supervisor, "Worker", lambda *_: pytest.fail("graded unasked"))
    assert run(graded, course=OTHER) == 0
    assert results(graded) == before and BOTH.format(2) in capsys.readouterr().out
    assert "graded under another rubric, 2 of 2: 1, 2" in (graded.parent / "out" / "class.html").read_text()
    page, row = (graded.parent / "out" / "students" / "1.html").read_text(), table(graded)["1"]
    former = json.loads(next(iter(before)).read_text())["key"]["rubric"]
    assert pages.RUBRIC_NOTE.format(former) in page and row["rubric"] == f"{former} (another one)"
    assert row["final"] == "2", "it counts until there is another one"


def test_regrade_changed_renews_exactly_those(graded, capsys):
    (graded / "3.zip").write_text("3")
    assert run(graded, course=OTHER) == 0 and BOTH.format(3) in capsys.readouterr().out, "3 has the new rubric"
    before = results(graded)
    assert len(before) == 3
    assert run(graded, "--regrade", "changed", course=OTHER) == 0
    out, now = capsys.readouterr().out, results(graded)
    assert "3 students, 2 to grade" in out and CHANGED not in out
    assert len(now) == 5 and all(now[path] == time for path, time in before.items()), "the former ones stay beside"
    assert {row["rubric"] for row in table(graded).values()} == {run_key(OTHER, WEIGHTS).rubric}
    assert "another rubric" not in (graded.parent / "out" / "students" / "1.html").read_text()
    assert run(graded, "--regrade", "changed", course=OTHER) == 0 and results(graded) == now, (
        "nothing has changed since"
    )


def test_a_rubric_that_comes_back_brings_its_results_back(graded, capsys):
    before = results(graded)
    assert run(graded, "--regrade", "changed", course=OTHER) == 0
    assert len(results(graded)) == 4
    capsys.readouterr()
    assert run(graded) == 0 and CHANGED not in capsys.readouterr().out
    assert {path: time for path, time in results(graded).items() if path in before} == before


def test_other_numbers_of_questions_are_another_rubric(graded, capsys):
    before, more = results(graded), Course(hidden_questions=7, novel_questions=2)
    assert run(graded, course=more) == 0 and results(graded) == before
    assert BOTH.format(2) in capsys.readouterr().out
    assert run(graded, "--regrade", "changed", course=more) == 0 and len(results(graded)) == 4
    assert CHANGED not in capsys.readouterr().out


def test_the_other_rubric_of_the_course_is_another_one(graded, capsys):
    before, longer = results(graded), replace(SMALL, rubric=read_rubric("long"))
    assert run(graded, course=longer) == 0 and results(graded) == before
    assert BOTH.format(2) in capsys.readouterr().out


def test_other_code_with_the_same_rubric_is_another_version_only(graded, monkeypatch, capsys):
    monkeypatch.setattr(store, "hash_grader", lambda: "another")
    assert run(graded) == 0
    out = capsys.readouterr().out
    assert "graded by another version of the grader, 2 of 2 students" in out and "another rubric" not in out
    assert run(graded, "--regrade", "1,changed", "--only", "1") == 0
    said = "graded by another version of the grader, 1 of 2 students, kept; --regrade changed renews: 2"
    assert said in capsys.readouterr().out


def test_a_result_that_names_no_rubric_is_kept_and_said(graded, monkeypatch, capsys):
    """As the version before wrote it: fewer fields in the key, and another folder."""
    (path,) = (path for path in results(graded) if json.loads(path.read_text())["result"]["submission"] == "1.zip")
    content = json.loads(path.read_text())
    names = ("submission", "grader", "assignment", "seed")
    content["key"] = {name: content["key"][name] for name in names}
    former = path.parent.with_name(hash_all(*(content["key"][name] for name in names[1:]))[:16]) / path.name
    former.parent.mkdir()
    former.write_text(json.dumps(content))
    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(supervisor, "Worker", lambda *_: pytest.fail("graded unasked"))
        assert run(graded) == 0
    assert "graded under another rubric, 1 of 2 students, kept; --regrade changed renews: 1" in capsys.readouterr().out
    assert table(graded)["1"]["rubric"] == "not recorded (another one)"
    assert run(graded, "--regrade", "changed") == 0 and path.exists()
    assert CHANGED not in capsys.readouterr().out


def test_another_seed_is_another_grade_whatever_the_rubric(graded):
    assert run(graded, "--seed", "8", course=replace(OTHER, seed=Seed(8))) == 0 and len(results(graded)) == 4


# --- the hash of a rubric ---

RUBRIC = SMALL.rubric


@pytest.mark.parametrize("name", ["MAX_RANK", "CHECK_SECONDS", "RELATIVE_TOLERANCE", "PUBLIC_SEED"])
def test_each_limit_of_the_rubric_is_in_its_hash(monkeypatch, name):
    before = hash_rubric(RUBRIC)
    monkeypatch.setattr(rubric, name, getattr(rubric, name) + 1)
    assert hash_rubric(RUBRIC) != before


@pytest.mark.parametrize("other", [
    OTHER.rubric, read_rubric("long"), RUBRIC._replace(bounds={"accuracy": (0.5, 0.9)}),
    RUBRIC._replace(code={**RUBRIC.code, "new": 0}),
])  # fmt: skip
def test_points_bounds_and_checks_are_in_its_hash(other):
    assert hash_rubric(other) != hash_rubric(RUBRIC) != hash_rubric(RUBRIC, 600)


def test_what_decides_no_score_is_not_in_its_hash(monkeypatch):
    before = hash_rubric(RUBRIC)
    for name in ("VERSION", "CHOSEN"):
        monkeypatch.setattr(rubric, name, "other")
    assert hash_rubric(RUBRIC._replace(title="other")) == before


def test_the_hash_is_the_same_wherever_the_repository_lies(tmp_path, monkeypatch):
    assert describe_value({"b", "a"}) == ["a", "b"], "a set has another order in each process"
    before = hash_rubric(RUBRIC)
    for name in ("ROOT", "BASE", "RUBRICS"):
        monkeypatch.setattr(rubric, name, tmp_path / getattr(rubric, name).relative_to(provenance.GRADER.parent))
    assert hash_rubric(RUBRIC) == before


def test_the_key_on_disk_says_the_rubric(graded):
    for path in results(graded):
        assert json.loads(path.read_text())["key"].items() >= asdict(run_key(SMALL, WEIGHTS)).items()
    assert len(run_key(SMALL, WEIGHTS).rubric) == 8


# --- results of different sets of checks in one table ---


def test_a_class_run_shows_the_checks_of_both_rubrics(graded, monkeypatch):
    monkeypatch.setenv("FAKE_CHECKS", "parser answer adapter_present")
    (graded / "0.zip").write_text("0")
    assert run(graded, course=OTHER) == 0
    rows = table(graded)
    names = ("adapter_present", "parser", "answer")
    assert [[rows[one][name] for name in names] for one in "012"] == [["2"] * 3, ["2", "", ""], ["2", "", ""]]
    assert [rows[one]["points"] for one in "012"] == ["6", "2", "2"]


def graded_with(student_id: str, names: list[str]) -> Student:
    """A student whose n-th check has n points."""
    checks = tuple(CheckResult(name, name, 99, float(at), State.PASSED) for at, name in enumerate(names, 1))
    return Student(HandIn(student_id, Path(f"{student_id}.zip")), "0", None, Result("x", "0", checks))


def test_columns_are_the_union_in_the_rubrics_order_and_none_is_shifted(monkeypatch):
    new = [f"new{number}" for number in range(30)]
    old = ["renamed", *new[4:24:2], *new[5:25:2], "gone"]  # 22 of them, in another order, two that are no more
    monkeypatch.setattr(gradebook, "check_names", lambda: new)
    for order in (1, -1):
        students = [graded_with("1", old), graded_with("2", new), graded_with("3", ["submission"])][::order]
        head, *lines = csv.reader(io.StringIO(gradebook.class_table(students, 0)))
        start, end = head.index("points") + 1, head.index("share right")
        assert head[start : start + 30] == new and set(head[start + 30 : end]) == {"renamed", "gone", "submission"}
        assert all(len(line) == len(head) == len(set(head)) for line in lines)
        rows = {line[0]: dict(zip(head[start:end], line[start:end], strict=True)) for line in lines}
        for student_id, names in (("1", old), ("2", new), ("3", ["submission"])):
            filled = {name: score for name, score in rows[student_id].items() if score}
            assert filled == {name: str(at) for at, name in enumerate(names, 1)}


def test_the_pages_count_each_check_among_those_who_have_it(monkeypatch):
    monkeypatch.setattr(gradebook, "check_names", lambda: ["first", "second", "third"])
    students = [graded_with("1", ["third", "first"]), graded_with("2", ["first", "second", "third"])]
    chart = pages.pass_rates(students)
    assert chart.index("first") < chart.index("second") < chart.index("third")
    assert chart.count("2 of 2") == 2 and chart.count("1 of 1") == 1
    page = pages.student_page(students[0], 0)
    assert page.index(">third<") < page.index(">first<") and "second" not in page


def test_file_names_write_nothing_but_their_own_line(tmp_path):
    student = graded_with("1", ["parser"])
    named = student.hand_in._replace(path=Path("a\x1b[2J.zip"), older=("b\nall is well",))
    student.hand_in = named
    assert "1: a?[2J.zip counts, not b all is well\n" in reports.describe(tmp_path, [student], None)


def test_points_that_canvas_does_not_count_in_are_said(tmp_path):
    book = gradebook.Gradebook([["Student", "ID", "Homework (1)"]], 2, ",")
    students = [graded_with("1", ["parser"]), graded_with("2", ["parser"])]
    assert "before you upload" not in reports.describe(tmp_path, students, book)
    students[0].is_from_other_rubric = True
    said = f"of another number of points than Canvas's {rubric.ALL_POINTS}: --regrade changed before you upload: 1\n"
    assert said in reports.describe(tmp_path, students, book)


def test_an_accuracy_is_not_drawn_between_the_bounds_of_another_rubric():
    one = graded_with("1", ["accuracy"])
    one.result.measured.update(accuracy=0.7, low=0.6, high=0.8)
    assert "0.700" in pages.student_page(one, 0)
    one.is_from_other_rubric = True
    assert "0.700" not in pages.student_page(one, 0)
