"""The rubrics: which one is read, what is refused in a file, and the bounds that the calibration writes."""

import re
import shutil

import pytest

from grader import __main__, rubric
from grader.check_list import refuse_unknown
from grader.course import Course
from grader.errors import GraderFault
from grader.rubric import VARIABLE, read_rubric, write_bounds
from homework.common.errors import HomeworkError
from tools import calibrate

LONG_ALONE = set(read_rubric("long").points) - set(read_rubric("short").points)
FULL = {"highest_full": 0.957, "base_alone": 0.0}


@pytest.fixture
def rubrics(tmp_path, monkeypatch):
    """A copy of the rubrics, to write in."""
    folder = shutil.copytree(rubric.RUBRICS, tmp_path / "rubrics")
    for module in (rubric, calibrate):
        monkeypatch.setattr(module, "RUBRICS", folder)
    return folder


def test_the_course_s_rubric_is_read_unless_another_one_is_named(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_rubric().name == rubric.CHOSEN == Course().rubric.name
    monkeypatch.setenv(VARIABLE, "long")
    assert read_rubric().name == "long" == Course().rubric.name and read_rubric("short").name == "short"
    monkeypatch.setenv(VARIABLE, "lnog")
    with pytest.raises(GraderFault, match="there is no rubric 'lnog': choose among long, short"):
        read_rubric()


@pytest.mark.parametrize("name", ["../short", "SHORT", "short.toml", "x" * 1000])
def test_a_name_without_a_file_is_refused(name):
    with pytest.raises(GraderFault, match="there is no rubric"):
        read_rubric(name)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("parser = 2\n", "parser = 3\n", "the points of short.toml must sum to 100"),
        ("parser = 2\ngenerate = 2\n", "parser = 5\ngenerate = -1\n", "the points of short.toml must sum to 100"),
        ("[0.50, 0.91]", "[0.91, 0.50]", "the lower one first"),
        ("[0.50, 0.91]", "[0.91, 0.91]", "the lower one first"),
        ("[0.50, 0.91]", "[50, 91]", "two shares each"),
        ("[0.50, 0.91]", "[0.50, nan]", "two shares each"),
    ],
)
def test_a_fault_in_a_file_is_a_fault_of_ours(rubrics, old, new, said):
    path = rubrics / "short.toml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(GraderFault, match=said):
        read_rubric("short")
    assert read_rubric("long").bounds["accuracy"] == (0.50, 0.91), "the other one is as it was"


def test_a_check_of_another_rubric_is_refused():
    refuse_unknown(tuple(LONG_ALONE), read_rubric("long"))
    with pytest.raises(GraderFault, match="there is no check 'prompt' in the rubric short: choose among adapter"):
        refuse_unknown(("prompt",), read_rubric("short"))


def test_the_command_line_names_a_rubric(tmp_path, capsys, monkeypatch):
    """It is refused before anything is opened."""
    monkeypatch.delenv(VARIABLE, raising=False)
    line = [str(tmp_path / "1.zip"), "--only", "samples"]
    assert __main__.main(line) == 2 and "no check 'samples' in the rubric short" in capsys.readouterr().err
    assert __main__.main([*line, "--rubric", "middle"]) == 2 and "no rubric 'middle'" in capsys.readouterr().err
    assert __main__.main([*line, "--rubric", "long"]) == 2
    assert "1.zip" in capsys.readouterr().out, "only the zip is missing"


def test_bounds_are_written_where_a_rubric_has_them(rubrics):
    before = (rubrics / "long.toml").read_text()
    write_bounds("long", "reasons", (0.333, 0.666))
    assert read_rubric("long").bounds["reasons"] == (0.33, 0.67)
    assert (rubrics / "long.toml").read_text() == re.sub(r"(?m)^reasons = \[.*$", "reasons = [0.33, 0.67]", before)
    with pytest.raises(GraderFault, match=r"short.toml has no bounds of reasons"):
        write_bounds("short", "reasons", (0.3, 0.6))


# --- what the calibration makes of figures ---


def measured(full: float, base: float = 0.0) -> dict[str, float]:
    """Figures of one check."""
    return {"mean": full, "highest_full": full, "base_alone": base}


def test_the_lower_bound_of_the_reasoned_answers_is_what_is_reached_without_reasons():
    found = {"reasoning_accuracy": measured(0.799, 0.701), "reasons": measured(0.75), "prompt": measured(0.606)}
    chosen = calibrate.choose_reasoning_bounds(found)
    assert chosen == {"reasoning_accuracy": (0.71, 0.79), "reasons": (0.5, 0.75), "prompt": (0.4, 0.6)}
    with pytest.raises(HomeworkError, match="no bounds fit"):
        calibrate.choose_reasoning_bounds({"reasoning_accuracy": measured(0.70, 0.701)})


def test_the_bounds_go_into_each_rubric_that_has_the_check(rubrics, capsys):
    before = (rubrics / "short.toml").read_text()
    reasoning = {"reasoning_accuracy": measured(0.9, 0.6), "reasons": measured(0.6), "prompt": measured(0.3)}
    calibrate.put_bounds({"accuracy": (0.5, 0.95)} | calibrate.choose_reasoning_bounds(reasoning))
    assert read_rubric("short").bounds == {"accuracy": (0.5, 0.95)}
    wanted = {"accuracy": (0.5, 0.95), "reasoning_accuracy": (0.6, 0.9), "reasons": (0.4, 0.6), "prompt": (0.2, 0.3)}
    assert read_rubric("long").bounds == wanted
    assert "reasons: nothing up to 0.40, all from 0.60" in capsys.readouterr().out
    assert (rubrics / "short.toml").read_text() == before.replace("0.91", "0.95"), "nothing else is written"


def test_without_figures_of_the_reasons_their_bounds_stay(rubrics):
    before = read_rubric("long").bounds
    calibrate.put_bounds({"accuracy": (0.63, 0.95)})
    assert read_rubric("long").bounds == {**before, "accuracy": (0.63, 0.95)}
