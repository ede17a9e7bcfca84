"""Late days and extensions: the rule in COURSE.md, what it takes off once, where it is shown, what is an error."""

import csv
import io
import re
from pathlib import Path

import pytest

from grader.classroom import gradebook, overrides, pages
from grader.classroom.lateness import Lateness, Rule, read_rule
from grader.classroom.overrides import apply_overrides, read_overrides
from grader.classroom.platforms import HandIn
from grader.classroom.students import Student
from grader.errors import GraderFault
from grader.result import CheckResult, Result, State

RULE = Rule(10, 50)
HEAD = "ID,points,added,days_late,extension_days,reason"


def student(score: float = 80, late: bool = False, state: State = State.PARTIAL) -> Student:
    check = CheckResult("accuracy", "It answers.", 100, 0.0 if state is State.FAULT else score, state)
    return Student(HandIn("1", Path("1.zip"), late), "0", None, Result("x", "0", (check,)))


def decide(tmp_path: Path, line: str, one: Student, head: str = HEAD) -> Student:
    """The student after a line of an overrides file."""
    (tmp_path / "o.csv").write_text(f"{head}\n{line}\n")
    apply_overrides([one], read_overrides(tmp_path / "o.csv"))
    return one


def csv_row(one: Student, percent: float = 0) -> dict[str, str]:
    return next(csv.DictReader(io.StringIO(gradebook.class_table([one], percent))))


# --- the rule ---


def test_the_page_of_the_course_says_the_rule():
    assert read_rule() == RULE


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("| late | 2.5 points for each started day, 20 at most |", Rule(2.5, 20)),
        ("| late | 0 points for each started day, 0 at most; see POLICY.md |", Rule(0, 0)),
    ],
)
def test_an_instructor_sets_another_rule(tmp_path, text, rule):
    (tmp_path / "COURSE.md").write_text(f"| a | b |\n{text}\n")
    assert read_rule(tmp_path / "COURSE.md") == rule


@pytest.mark.parametrize(
    "text",
    [
        "| late | see POLICY.md |",
        "| late | ten points for each started day, 50 at most |",
        "| late | -10 points for each started day, 50 at most |",
        "| late | nan points for each started day, 50 at most |",
        "| late | 10 points for each started day |",
        "| late | 10 points for each started day, 50 at most |\n" * 2,
        "",
    ],
)
def test_a_page_without_one_clear_rule_is_an_error(tmp_path, text):
    (tmp_path / "COURSE.md").write_text(text)
    with pytest.raises(GraderFault, match=r"COURSE.md needs one row like this: \| late \| 10 points"):
        read_rule(tmp_path / "COURSE.md")


def test_a_page_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(GraderFault, match=r"can't read .*COURSE.md"):
        read_rule(tmp_path / "COURSE.md")


@pytest.mark.parametrize(
    ("days", "extension", "started", "points"),
    [(0, 0, 0, 0), (0.01, 0, 1, 10), (1, 0, 1, 10), (2.2, 1, 2, 20), (2.7, 1.7, 1, 10), (2, 3, 0, 0), (9, 0, 9, 50)],
)
def test_each_started_day_after_the_extension_costs(days, extension, started, points):
    late = Lateness(days, extension, RULE)
    assert (late.started, late.points) == (started, points)


# --- what comes off ---


@pytest.mark.parametrize(
    ("line", "score", "penalty", "final"),
    [
        ("1,,,2,,", 80, 20, 60),
        ("1,,,3.5,2,ill", 80, 20, 60),
        ("1,,,1,2,ill", 80, 0, 80),
        ("1,,,30,,", 80, 50, 30),
        ("1,,,3,,", 12.5, 12.5, 0),  # never negative
        ("1,,,3,,", 0, 0, 0),
        ("1,,5,2,,answers", 80, 20, 65),  # what is added is not reduced
        ("1,,5,3,,answers", 12.5, 12.5, 5),
        ("1,70,,2,,regrade request", 80, 0, 70),  # points that staff set stand
        ("1,70,5,2,,both", 80, 0, 75),
        ("1,0,,2,,no own work", 80, 0, 0),
    ],
)
def test_the_penalty_comes_off_once_and_what_staff_give_stands(tmp_path, line, score, penalty, final):
    one = decide(tmp_path, line, student(score, late=True))
    for percent in (0, 10):  # never both rules
        assert (one.raw, one.penalty(percent), one.final(percent)) == (score, penalty, final)
        assert one.after_penalty(percent) == score - penalty


def test_days_of_zero_take_the_platforms_word_back(tmp_path):
    one = decide(tmp_path, "1,,,0,,", student(late=True))
    assert one.final(10) == 80 and one.penalty_reason(10) == ""


def test_without_days_nothing_comes_off_and_no_rule_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(overrides, "read_rule", lambda: pytest.fail("read the rule"))
    for head, line in (("ID,points,reason", "1,,"), ("ID,points,added,reason", "1,,4,why"), (HEAD, "1,,4,,2,why")):
        one = student() if line == "1,," else decide(tmp_path, line, student(), head)
        assert one.penalty(0) == 0 and csv_row(one)["penalty"] == csv_row(one)["days late"] == ""


def test_a_fault_of_ours_has_no_score_however_late(tmp_path):
    one = decide(tmp_path, "1,,,2,,", student(state=State.FAULT))
    assert one.penalty(0) == 0 and one.final(0) is one.after_penalty(0) is None
    row = csv_row(one)
    assert (row["raw"], row["after penalty"], row["final"], row["days late"]) == ("", "", "", "2")


# --- where it is shown ---


def test_page_tables_and_canvas_show_before_after_and_why(tmp_path):
    one, why = decide(tmp_path, "1,,5,3.5,2,ill until Monday", student()), "late by 3.5 days, 2 of extension"
    reason = f"{why}: 2 started days of 10 points"
    page = pages.student_page(one, 0)
    rows = re.findall(r"<tr><td>([^<]*)</td><td class=n>([^<]*)</td></tr>", page)
    assert rows == [
        ("by the grader", "80"), (reason, "-20"), ("after the penalty", "60"),
        ("added by the staff: ill until Monday", "5"), ("counts, of 100", "65"),
    ]  # fmt: skip
    row = csv_row(one)
    names = ("raw", "days late", "extension days", "penalty", "penalty reason", "after penalty", "added", "final")
    assert [row[name] for name in names] == ["80", "3.5", "2", "20", reason, "60", "5", "65"]
    table = pages.everybody([one], 0)
    assert f"<td class=n>80</td><td class=n>20</td><td class=n>60</td><td class=n>65</td><td>{reason}</td>" in table
    book = gradebook.Gradebook([["Student", "ID", "Homework (1)"], ["Doe", "1", ""]], 2, ",")
    assert gradebook.fill(book, [one], 0)[0].endswith("Doe,1,65\n")


@pytest.mark.parametrize(
    ("line", "score", "said"),
    [
        ("1,,,1,,", 80, "late by 1 day: 1 started day of 10 points"),
        ("1,,,9,,", 80, "late by 9 days: 9 started days of 10 points, 50 at most"),
        ("1,,,2,,", 5, "late by 2 days: 2 started days of 10 points; no more than the score comes off"),
        ("1,7,,2,,why", 5, "late by 2 days: 2 started days of 10 points; nothing comes off points that staff set"),
    ],
)
def test_the_reason_says_what_was_computed(tmp_path, line, score, said):
    one = decide(tmp_path, line, student(score))
    assert one.penalty_reason(0) == csv_row(one)["penalty reason"] == said and said in pages.student_page(one, 0)


def test_an_extension_alone_is_shown_with_its_reason(tmp_path):
    page = pages.student_page(decide(tmp_path, "1,,,1,2,ill until Monday", student()), 0)
    assert "the staff: ill until Monday" in page and "1 day, 2 of extension: 0 started days" in page


def test_a_percentage_is_shown_in_the_same_places():
    one = student(late=True)
    row, page = csv_row(one, 10), pages.student_page(one, 10)
    assert (row["penalty"], row["penalty reason"], row["after penalty"]) == ("8", "late, 10 %", "72")
    assert "<td>late, 10 %</td><td class=n>-8</td>" in page and "<td>after the penalty</td><td class=n>72</td>" in page


# --- what is an error ---


@pytest.mark.parametrize("column", ["days_late", "extension_days"])
@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-1", "+1", "-0.5", "two", "1e1", "1_0", "2 days", "367", "٢"])
def test_what_is_no_number_of_days_names_file_line_and_column(tmp_path, column, text):
    days = {"days_late": "1", "extension_days": "1", column: text}
    line = f"2,5,,,,fine\n1,,,{days['days_late']},{days['extension_days']},why"
    with pytest.raises(GraderFault, match=re.escape(f"o.csv, line 3, column {column}: {text!r} is no number of days")):
        decide(tmp_path, line, student())


def test_an_empty_row_of_a_spreadsheet_is_none(tmp_path):
    assert decide(tmp_path, ",,,,,\n1,,4.5,,,answers\n , ,,,,\n", student()).added == 4.5


@pytest.mark.parametrize("line", ["1,,,,,why", "1,,,,2,", "1,5,,2,,", "1,,5,2,,", ",,,2,,"])
def test_what_staff_decide_needs_a_reason_and_somebody(tmp_path, line):
    with pytest.raises(GraderFault, match=r"o.csv, line 2: needs an ID"):
        decide(tmp_path, line, student())


@pytest.mark.parametrize("head", [
    "ID,days_late,reason", "ID,points,late_days,reason", "ID,points,days_late,days_late,reason", "ID,points,days_late",
])  # fmt: skip
def test_a_column_that_is_misspelt_missing_or_twice_is_an_error(tmp_path, head):
    with pytest.raises(GraderFault, match=r"its first line must be ID,points,reason.* may hold added, days_late"):
        decide(tmp_path, "1,,2,why", student(), head)


def test_an_extension_of_who_came_late_needs_the_days(tmp_path):
    with pytest.raises(GraderFault, match="give '1' an extension, who came late: say days_late as well"):
        decide(tmp_path, "1,,,,2,ill", student(late=True))
    assert decide(tmp_path, "1,,,,2,ill", student()).final(10) == 80
