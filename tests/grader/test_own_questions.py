"""An instructor's own questions in the grader: the hidden file, the public ones of valid, and what reports say."""

import csv
import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest

from grader import __main__, autograder
from grader import own_questions as questions
from grader.check_list import check_names
from grader.classroom import __main__ as cli
from grader.classroom import gradebook, pages, reports
from grader.classroom.jobs import WorkerConfig
from grader.classroom.platforms import HandIn
from grader.classroom.run_settings import RunSettings, keep_settings, read_settings, refuse_dropped
from grader.classroom.store import Store, run_key
from grader.classroom.students import Student
from grader.classroom.supervisor import environment
from grader.course import Course
from grader.errors import GraderFault
from grader.grade import grade
from grader.own_questions import BOUNDS_NOTE, CALIBRATION, MARK, PUBLIC_NOTE, SEED_NOTE, read_hidden
from grader.report import console, gradescope, html
from grader.result import Result
from grader.rubric import read_rubric
from grader.sandbox.host import Sandbox
from grader.seed import PUBLIC, official_seed
from homework.common.errors import HomeworkError
from tests.support import zips
from tools import calibrate, make_autograder

WEIGHTS = tuple(check_names("weights"))
HIDDEN = (("How many kg are in 4 t?", 4000.0), ("Which year came before 1970?", 1969.0))


@pytest.fixture
def hidden(tmp_path) -> Path:
    """The staff's file."""
    (tmp_path / "hidden.json").write_text(json.dumps(HIDDEN))
    return tmp_path / "hidden.json"


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A folder of data whose questions are the instructor's own."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, start in (("train", 100), ("valid", 200)):
        rows = [[f"What is {n} plus 1?", n + 1] for n in range(start, start + 20)]
        (folder / f"{name}.json").write_text(json.dumps(rows))
    digest = hashlib.sha256((folder / "valid.json").read_bytes()).hexdigest()
    (folder / MARK).write_text(f'[sha256]\ntrain = "0"\nvalid = "{digest}"\n')
    monkeypatch.setattr(questions, "DATA", folder)
    return folder


def test_the_hidden_file_comes_first_then_valid_then_the_draw(own, hidden):
    course = Course(hidden=read_hidden(str(hidden)))
    assert (course.source, course.label, course.notes) == ("hidden", "the hidden file", [BOUNDS_NOTE])
    assert course.scored() == list(HIDDEN)
    assert Course().source == "valid" and len(Course().scored()) == 20
    assert Course().notes == [PUBLIC_NOTE, BOUNDS_NOTE]
    assert "answers public" in Course().label
    (own / MARK).unlink()
    drawn = Course(hidden_questions=3)
    assert drawn.source == "drawn" and drawn.scored() == drawn.draw("hidden", 3) and drawn.label == PUBLIC.label


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't read the questions in .*hidden.json"),
        ("[[", "can't read the questions"),
        ("[]", "holds no questions"),
        ('{"a": 1}', "holds no questions"),
        ('[["a", 1], ["b", "2"]]', r"row 1: expected \[question, number\]"),
        ('[["a", NaN]]', "row 0: expected"),
        ('[["a", true]]', "row 0: expected"),
        ('[["", 1]]', "row 0: expected"),
        ('[["a", 1], ["b", 2], [" a", 1]]', "row 2 stands in an earlier row too"),
        ('[["a", 1], ["What is 105 plus 1?", 106]]', "row 1 stands in data/train.json too"),
        ('[["What is  205 plus 1?", 106]]', "row 0 stands in data/valid.json too"),
    ],
)
def test_a_hidden_file_that_can_not_be_asked_is_refused(own, tmp_path, content, message):
    if content:
        (tmp_path / "hidden.json").write_text(content)
    with pytest.raises(GraderFault, match=message):
        read_hidden(str(tmp_path / "hidden.json"))


def test_no_command_takes_other_questions_in_the_place_of_a_missing_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "require_isolation", lambda *_: "no code is run")
    words = ["--hidden", str(tmp_path / "nowhere.json")]
    assert __main__.main(["x.zip", *words]) == 2
    assert cli.main([str(tmp_path), "--out", str(tmp_path / "out"), *words]) == 2
    assert make_autograder.main([str(tmp_path / "a.zip"), *words]) == 1
    assert capsys.readouterr().err.count("error: can't read the questions") == 3
    assert not (tmp_path / "a.zip").exists() and not (tmp_path / "out").exists()


def test_an_empty_name_is_a_missing_file(monkeypatch, capsys):
    monkeypatch.setenv(questions.HIDDEN_VARIABLE, "")
    assert __main__.main(["x.zip"]) == 2 and "can't read the questions" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["valid changed", "valid gone", "no TOML", "no hash"])
def test_data_that_are_not_what_was_imported_are_our_fault_and_no_zero(own, files, tmp_path, fault):
    if fault == "valid gone":
        (own / "valid.json").unlink()
    else:
        name, content = {
            "valid changed": ("valid.json", '[["a", 1]]'),
            "no TOML": (MARK, "["),
            "no hash": (MARK, "[sha256]"),
        }[fault]
        (own / name).write_text(content)
    zips.good(tmp_path / "x.zip", files)
    result = grade(tmp_path / "x.zip", Course(), None, WEIGHTS)
    assert result.is_fault and MARK in result.checks[0].cause, result


def renders(result: Result) -> list[str]:
    """All reports of a result and the class's, as one line each."""
    student = Student(HandIn("1", Path("1.zip")), result.sha256, result=result)
    made = (console.render(result), html.render(result), gradescope.render(result), pages.student_page(student, 0.0))
    return [" ".join(text.split()) for text in (*made, pages.class_page([student], [], 0.0))]


def test_every_report_says_where_the_answers_are_public_and_none_shows_a_question(own, hidden, files, tmp_path):
    zips.good(tmp_path / "x.zip", files)
    public = grade(tmp_path / "x.zip", Course(), None, WEIGHTS)
    assert not public.is_fault and public.measured["questions"] == 20 and public.measured["source"] == "valid"
    assert all(PUBLIC_NOTE in text for text in renders(public))
    assert "questions of data/valid.json, whose answers are public, answer rate" in public.checks[-1].detail
    secret = grade(tmp_path / "x.zip", Course(hidden=read_hidden(str(hidden))), None, WEIGHTS)
    assert secret.measured["questions"] == 2 and secret.measured["public"] == public.measured["accuracy"]
    for text in renders(secret):
        assert PUBLIC_NOTE not in text and not any(question in text for question, _ in HIDDEN)
    assert "on 2 hidden questions" in secret.checks[-1].detail
    for result in (public, secret):
        assert result.measured["novel"] is None and "no training text" not in result.checks[-1].detail


def test_the_class_table_and_the_last_lines_say_it_too(tmp_path):
    for source, said in (("valid", "answers public"), ("hidden", "the hidden file"), ("drawn", "drawn")):
        result = Result("x", "0", (), provenance={"questions": source})
        student = Student(HandIn("1", Path("1.zip")), "0", result=result)
        (row,) = csv.DictReader(io.StringIO(gradebook.class_table([student], 0.0)))
        assert said in row["questions"]
        assert (PUBLIC_NOTE in reports.describe(tmp_path, [student], None)) is (source == "valid")


def test_a_class_without_a_key_is_told_on_every_page_that_its_questions_are_public(tmp_path):
    for seed in ("public 2026", "official"):
        result = Result("x", "0", (), provenance={"questions": "drawn", "seed": seed})
        student = Student(HandIn("1", Path("1.zip")), "0", result=result)
        pages_of_it = pages.student_page(student, 0.0), pages.class_page([student], [], 0.0)
        told = [*pages_of_it, reports.describe(tmp_path, [student], None)]
        assert all((SEED_NOTE in " ".join(text.split())) is (seed != "official") for text in told)
        (row,) = csv.DictReader(io.StringIO(gradebook.class_table([student], 0.0)))
        assert row["questions"] == ("drawn" if seed == "official" else "drawn, public")


def test_the_hidden_questions_travel_to_every_process_and_are_a_part_of_the_key(own, tmp_path):
    course, other = Course(hidden=HIDDEN), Course(hidden=HIDDEN[:1])
    assert len({run_key(one).seed for one in (course, other, Course(), Course(hidden_questions=5))}) == 4
    config = WorkerConfig.of(Store(tmp_path, run_key(course)), course, ())
    received = WorkerConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert received == config and received.open()[0].hidden == HIDDEN
    before = run_key(Course())
    rows = json.loads((own / "valid.json").read_text())[:10]
    (own / "valid.json").write_text(json.dumps(rows))
    digest = hashlib.sha256((own / "valid.json").read_bytes()).hexdigest()
    (own / MARK).write_text(f'[sha256]\nvalid = "{digest}"\n')
    assert run_key(Course()) != before, "other public questions are another grade"


def test_no_process_of_a_class_is_told_where_the_file_lies(monkeypatch):
    monkeypatch.setenv(questions.HIDDEN_VARIABLE, "hidden.json")
    assert questions.HIDDEN_VARIABLE not in environment()


def test_a_later_line_without_the_hidden_file_is_refused(tmp_path):
    keep_settings(tmp_path, RunSettings(False, None, None, True))
    with pytest.raises(GraderFault, match="was graded with --hidden, and this line has none"):
        refuse_dropped(tmp_path, RunSettings(False, None, None))
    refuse_dropped(tmp_path, RunSettings(False, None, None, True))
    path = tmp_path / "run_settings.json"
    path.write_text('{"official": false, "overrides": null, "late_penalty": null}')
    assert read_settings(path) == RunSettings(False, None, None), "written by an earlier version"
    path.write_text("[]")
    with pytest.raises(GraderFault, match="which says what the tables rest on"):
        read_settings(path)


@pytest.mark.everything
def test_a_class_is_graded_on_the_hidden_file(own, hidden, files, tmp_path, capsys):
    (tmp_path / "hand-ins").mkdir()
    zips.good(tmp_path / "hand-ins" / "1.zip", files)
    words = [str(tmp_path / "hand-ins"), "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert cli.grade_class(cli.parse_arguments([*words, "--hidden", str(hidden)]), None, WEIGHTS) == 0
    (path,) = (tmp_path / "out" / "submissions").glob("*/*/result.json")
    assert json.loads(path.read_text())["result"]["measured"]["questions"] == 2
    assert "questions: the hidden file" in capsys.readouterr().out
    with pytest.raises(GraderFault, match="was graded with --hidden"):
        cli.grade_class(cli.parse_arguments(words), None, WEIGHTS)


def test_code_runs_beside_hidden_questions_in_a_sandbox_only(hidden, monkeypatch):
    asked = []

    def open_sandbox(wanted: str, required: bool) -> None:
        asked.append(required)
        raise GraderFault("none here")

    monkeypatch.setattr(Sandbox, "open", open_sandbox)
    assert __main__.main(["x.zip"]) == 2 and __main__.main(["x.zip", "--hidden", str(hidden)]) == 2
    assert asked == [False, True]


@pytest.mark.parametrize("words", [[], ["--public", "--hidden", "h.json"], ["--public", "--key-file", "k"]])
def test_the_autograder_is_told_once_which_questions_it_asks(words, capsys):
    with pytest.raises(SystemExit) as stop:
        autograder.parse_arguments(["/autograder", *words])
    assert stop.value.code == 2 and "say which questions are asked" in capsys.readouterr().err


def test_the_autograder_takes_the_hidden_file_with_it_and_to_its_process(hidden, tmp_path, monkeypatch):
    (tmp_path / "key").write_bytes(b"a staff key of twenty-odd bytes")
    words = ["--key-file", str(tmp_path / "key"), "--hidden", str(hidden)]
    assert make_autograder.main([str(tmp_path / "a.zip"), *words]) == 0
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.read("hidden.json") == hidden.read_bytes()
        assert b"--key-file staff.key --hidden hidden.json\n" in archive.read("run_autograder")
        assert b"for secret in staff.key hidden.json" in archive.read("setup.sh")
    seen = []

    def start(line: list[str], **_: object) -> None:
        seen.extend(line)
        raise OSError("seen")

    monkeypatch.setattr(autograder.subprocess, "Popen", start)
    with pytest.raises(OSError, match="seen"):
        autograder.run_child(autograder.parse_arguments(["/autograder", *words]), tmp_path, 1.0)
    assert seen[-4:] == words and "--public" not in seen


# --- the calibration ---


def test_the_bounds_rest_on_what_was_measured():
    result = {"mean": 0.8, "highest_full": 0.757, "base_alone": 0.0}
    assert calibrate.choose_bounds(result) == (0.5, 0.75) == calibrate.choose_bounds(result, 0.5)
    for wrong in ({"highest_full": 0.04, "base_alone": 0.05}, {"highest_full": -0.2, "base_alone": 0.0}):
        with pytest.raises(HomeworkError, match=r"nothing is written: the trainings reach 0\.80, of which"):
            calibrate.choose_bounds(result | wrong)
    with pytest.raises(HomeworkError, match="no bounds fit"):
        calibrate.choose_bounds(result | {"highest_full": 0.4}, 0.5)


def test_bounds_of_other_questions_are_told_until_they_are_calibrated(own, tmp_path, monkeypatch):
    assert BOUNDS_NOTE in Course().notes
    for content, said in (({"valid": questions.hash_public()}, False), ({"valid": "0"}, True), ({}, True)):
        monkeypatch.setattr(questions, "CALIBRATION", tmp_path / "calibration.json")
        questions.CALIBRATION.write_text(json.dumps(content))
        assert (BOUNDS_NOTE in Course().notes) is said
    questions.CALIBRATION.write_text("{")
    with pytest.raises(GraderFault, match="can't read calibration"):
        Course().notes  # noqa: B018


def test_a_calibration_that_fails_writes_nothing(own, monkeypatch):
    before = CALIBRATION.read_bytes(), read_rubric("short").bounds
    monkeypatch.setattr(calibrate, "train", lambda *_: (None, []))
    monkeypatch.setattr(calibrate, "measure", lambda *_: [0.1])
    monkeypatch.setattr(calibrate, "measure_base", lambda *_: 0.2)
    monkeypatch.setattr(calibrate, "summarise_logs", lambda _: {})
    with pytest.raises(HomeworkError, match="nothing is written"):
        calibrate.main()
    assert before == (CALIBRATION.read_bytes(), read_rubric("short").bounds)


def test_the_calibration_asks_the_instructors_questions_once_for_each_training(own, monkeypatch):
    asked = []

    def ask(base: object, model: object, rows: list) -> list:
        asked.append(len(rows))
        return [type("Answered", (), {"is_right": index % 2})() for index in range(len(rows))]

    monkeypatch.setattr(calibrate.reference, "ask", ask)
    monkeypatch.setattr(calibrate.reference, "merge", lambda *_: None)
    monkeypatch.setattr(calibrate.reference, "load_base", type("Base", (), {"model": None}))
    assert calibrate.measure(None, 4) == [0.5] and calibrate.measure(None, 4, HIDDEN) == [0.5]
    assert calibrate.measure_base(HIDDEN) == 0.5 and asked == [20, 2, 2]
    found = calibrate.summarise([[0.5], [0.5]], 0.0, 20)
    assert found["questions"] == 20 and found["draw_noise"] == pytest.approx((0.25 / 20) ** 0.5)
    with pytest.raises(HomeworkError, match="--seeds must be at least 2"):
        calibrate.main(seeds=1)


def test_an_official_key_does_not_make_public_answers_secret(own):
    course = Course(official_seed(b"a staff key of twenty-odd bytes"))
    assert course.source == "valid" and PUBLIC_NOTE in course.notes
