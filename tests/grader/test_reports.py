"""The reports and the command line of the grader: readable, harmless, and without anything hidden."""

import json

import pytest

from grader import __main__
from grader.course import Course
from grader.report import console, gradescope, html
from grader.result import CheckResult, Result, State
from tests.support import zips

# --- reports ---

HOSTILE = "</script><b>\x1b[31mred\x00\u202etxt<img src=x onerror=alert(1)>"


@pytest.fixture
def hostile() -> Result:
    check = CheckResult(
        "weights_valid", "Its weights.", 4, 0.0, State.FAILED, cause=HOSTILE, expected="=1+1", actual=HOSTILE, do="x"
    )
    return Result(HOSTILE, "0", (check,), (HOSTILE,))


def test_escapes_and_markup_of_a_submission_are_neutralised(hostile):
    text = console.render(hostile)
    assert "\x1b" not in text and "\x00" not in text and "\u202e" not in text
    page = html.render(hostile)
    assert "<img" not in page and "</script>" not in page and "\x1b" not in page and "default-src 'none'" in page
    assert "\\u001b" not in gradescope.render(hostile)


def test_the_console_fits_80_columns_without_colour(graded, hostile):
    for result in (graded, hostile):
        lines = console.render(result).splitlines()
        assert max(map(len, lines)) <= 80
        assert "\x1b[" in console.render(result, colour=True)


def test_the_gradescope_report_follows_its_schema(graded):
    content = json.loads(gradescope.render(graded))
    assert content["score"] == 100 and content["output_format"] == "text"
    assert sum(test["max_score"] for test in content["tests"]) == 100
    assert {test["status"] for test in content["tests"]} == {"passed"}
    assert content["extra_data"]["measured"]["questions"] == 600


def test_nothing_hidden_is_shown(graded):
    questions = [text for text, _ in Course().draw("hidden", 600)]
    for report in (console.render(graded), gradescope.render(graded), html.render(graded)):
        assert not any(question in report for question in questions)


# --- the command line ---


def test_a_refused_zip_exits_with_2_and_writes_its_report(tmp_path, capsys):
    zips.bomb(tmp_path / "x.zip", {})
    assert __main__.main([str(tmp_path / "x.zip"), "--json", str(tmp_path / "r.json")]) == 2
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["score"] == 0 and content["extra_data"]["states"] == {"submission": "refused"}
    assert "as a bomb does" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "words", [["x.zip", "--onyl", "weights_valid"], ["x.zip", "--only", "sonud"], [], ["x.zip", "--seed", "a"]]
)
def test_wrong_arguments_are_refused_before_anything_runs(words, monkeypatch, capsys):
    monkeypatch.setattr("grader.grade.grade", lambda *_: pytest.fail("ran"))
    try:
        assert __main__.main(words) == 2
    except SystemExit as stop:
        assert stop.code == 2
    assert capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_said(tmp_path, files, capsys, monkeypatch):
    zips.good(tmp_path / "x.zip", files)
    words = [str(tmp_path / "x.zip"), "--only", "adapter_present", "--json", str(tmp_path / "no" / "r.json")]
    assert __main__.main(words) == 2
    said = capsys.readouterr()
    assert "can't write" in said.err and "2 of 2 points" in said.out, "the grade is not lost with the file"
    (tmp_path / "folder").mkdir()
    assert __main__.main([*words[:-1], str(tmp_path / "folder")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "x.zip"]
