"""Who handed in what, what staff decided, and the tables: IDs from file names, overrides, Canvas, formulas."""

import csv
import io
import os
from pathlib import Path

import pytest

from grader import rubric
from grader.classroom import gradebook
from grader.classroom.overrides import Override, apply_overrides, read_overrides
from grader.classroom.pages import file_name, student_page
from grader.classroom.platforms import HandIn, collect
from grader.classroom.students import Student, decode_answers
from grader.errors import GraderFault
from grader.result import CheckResult, Result, State


def put(folder: Path, *names: str) -> None:
    for age, name in enumerate(names):
        (folder / name).write_bytes(name.encode())
        os.utime(folder / name, (1000 + age, 1000 + age))


@pytest.mark.parametrize(
    ("name", "student", "late"),
    [
        ("123456.zip", "123456", False),
        ("jane-doe_1.zip", "jane-doe_1", False),
        ("doejane_4711_98765_homework.zip", "4711", False),
        ("doejane_LATE_4711_98765_homework-2.zip", "4711", True),
        ("Jane Doe_4711_assignsubmission_file_homework.zip", "4711", False),
        ("Jane Doe_4711_assignsubmission_file.zip", "4711", False),
        ("submission_98765.zip", "98765", False),
        (" 55 .zip", "55", False),
        ("roe_6001_777_readme.html", "6001", False),
        ("6003.json", "6003", False),
        ("my homework, final.zip", "my homework, final", False),
        ("homework.rar", "homework", False),
    ],
)
def test_the_id_comes_from_the_name(tmp_path, name, student, late):
    put(tmp_path, name)
    (found,) = collect(tmp_path)
    assert (found.student, found.late, found.path.name) == (student, late, name)


def test_folders_of_moodle_with_a_dot_in_the_name_stay_apart(tmp_path):
    for name in ("John Q. Public_5001_assignsubmission_file_", "John Q. Smith_5002_assignsubmission_file"):
        (tmp_path / name).mkdir()
    assert [one.student for one in collect(tmp_path)] == ["5001", "5002"]


@pytest.mark.parametrize("is_folder", [True, False])
def test_text_typed_into_moodle_is_no_student_of_its_own(tmp_path, is_folder):
    put(tmp_path, "Jim Poe_8813_assignsubmission_file_hw.zip")
    text = tmp_path / f"Jim Poe_8813_assignsubmission_onlinetext_{'' if is_folder else 'onlinetext.html'}"
    text.mkdir() if is_folder else text.touch()
    (found,) = collect(tmp_path)
    assert (found.student, found.path.suffix, found.older) == ("8813", ".zip", (text.name,))


def test_the_results_folder_is_no_student(tmp_path):
    put(tmp_path, "1.zip")
    (tmp_path / "results").mkdir()
    assert [one.student for one in collect(tmp_path, tmp_path / "results")] == ["1"]
    assert [one.student for one in collect(tmp_path)] == ["1", "results"]


def test_a_link_that_leads_nowhere_is_a_hand_in_beside_the_others(tmp_path):
    (tmp_path / "1.zip").write_bytes(b"")
    (tmp_path / "9.zip").symlink_to(tmp_path / "nowhere")
    assert [one.student for one in collect(tmp_path)] == ["1", "9"]


@pytest.mark.parametrize(
    ("names", "newest"),
    [
        (("doe_1_200_a.zip", "doe_1_100_b.zip"), "doe_1_200_a.zip"),  # Canvas numbers what comes in
        (("7 (2).zip", "7.zip", "7 (10).zip", "7 (9).zip"), "7 (10).zip"),
        (("doe_1_300_notes.pdf", "doe_1_100_b.zip"), "doe_1_100_b.zip"),  # a zip before what is none
    ],
)
def test_of_several_the_newest_counts_and_the_others_are_named(tmp_path, names, newest):
    put(tmp_path, *names)
    (found,) = collect(tmp_path)
    assert found.path.name == newest and set(found.older) == set(names) - {newest}


@pytest.mark.parametrize(
    ("names", "newest"),
    [
        (("123.zip", "readme.txt", "report.pdf"), "123.zip"),
        (("old.zip", "new.zip"), "new.zip"),
        (("7 (2).zip", "7.zip", "__MACOSX"), "7 (2).zip"),
        (("7.zip", "sft.py"), ""),
    ],
)
def test_of_a_folder_the_newest_zip_counts_unless_a_homework_lies_beside_it(tmp_path, names, newest):
    folder = tmp_path / "Jim Poe_8813_assignsubmission_file_"
    folder.mkdir()
    put(folder, *names)
    (found,) = collect(tmp_path)
    assert found.path == folder / newest
    left = {*names} - {newest, "__MACOSX"} if newest else ()
    assert {*found.older} == {f"{folder.name}/{name}" for name in left}


def test_gradescopes_export_gives_sid_and_name(tmp_path):
    for number in (11, 12):
        put(tmp_path, f"submission_{number}.zip")
    (tmp_path / "submission_13").mkdir()
    put(tmp_path / "submission_13", "homework.zip")
    text = 'submission_13:\n  :submitters:\n  - :name: Jane Doe\n    :sid: "0042"\n  :score: 1.0\n'
    (tmp_path / "submission_metadata.yml").write_text(text)
    found = {one.student: one for one in collect(tmp_path)}
    assert set(found) == {"11", "12", "0042"} and found["0042"].name == "Jane Doe"
    assert found["0042"].path.name == "homework.zip", "a folder with one zip in it is that zip"
    group = text.replace("  :score", '  - :name: Bob\n    :sid: "0043"\n  :score')
    (tmp_path / "submission_metadata.yml").write_text(group)
    assert {one.student for one in collect(tmp_path)} == {"11", "12", "0042", "0043"}, "each one of a group"
    (tmp_path / "submission_metadata.yml").write_text("a: [")
    with pytest.raises(GraderFault, match="is no export of Gradescope"):
        collect(tmp_path)


@pytest.mark.parametrize(
    ("sid", "student"), [("0012346", "0012346"), ("1_000", "1_000"), ("", "11"), ("null", "11"), ("'42'", "42")]
)
def test_an_id_of_gradescope_is_a_text_even_without_quotes(tmp_path, sid, student):
    (tmp_path / "submission_11").mkdir()
    text = f"submission_11:\n  :submitters:\n  - :name: Jane Doe\n    :sid: {sid}\n  :score: 1.0\n"
    (tmp_path / "submission_metadata.yml").write_text(text)
    (found,) = collect(tmp_path)
    assert (found.student, found.name) == (student, "Jane Doe")


def test_what_is_no_hand_in_is_left_out_and_an_empty_folder_is_an_error(tmp_path):
    put(tmp_path, ".DS_Store", "export.csv", "submission_metadata.md")
    with pytest.raises(GraderFault, match="holds no hand-in"):
        collect(tmp_path)
    with pytest.raises(GraderFault, match="can't read the folder"):
        collect(tmp_path / "nowhere")


# --- students, overrides ---


def student(student_id: str = "1", score: float = 6, late: bool = False, state: State = State.PARTIAL) -> Student:
    check = CheckResult("accuracy", "It answers.", 10, 0.0 if state is State.FAULT else score, state, cause="=SUM(A1)")
    return Student(HandIn(student_id, Path(f"{student_id}.zip"), late), "0", None, Result("x", "0", (check,)))


def test_lateness_and_overrides_stand_beside_the_raw_score():
    one = student(late=True)
    assert (one.raw, one.penalty(10), one.final(10)) == (6, 0.6, 5.4)
    apply_overrides([one], {"1": Override(9.0, 0.0, "regrade request")})
    assert (one.raw, one.final(10)) == (6, 9.0)


def test_points_for_the_answers_come_on_top_of_what_counts(tmp_path):
    (tmp_path / "o.csv").write_text(
        'ID,points,added,reason\n1,,4.5,"answers: 4.5, of 5"\n2,9,1,both\n3,,2,answers\n4,3,,set\n'
    )
    students = [student("1", late=True), student("2"), student("3", state=State.FAULT), student("4")]
    apply_overrides(students, read_overrides(tmp_path / "o.csv"))
    assert [one.final(10) for one in students] == [9.9, 10.0, None, 3.0], "no score stays none"
    row = next(csv.DictReader(io.StringIO(gradebook.class_table(students, 10))))
    assert (row["raw"], row["override"], row["added"], row["final"]) == ("6", "", "4.5", "9.9")
    assert row["override reason"] == "answers: 4.5, of 5"
    assert "added by the staff: answers: 4.5, of 5" in student_page(students[0], 10)


def test_a_fault_of_ours_has_no_score_and_is_no_zero():
    one = student(state=State.FAULT)
    assert (one.raw, one.final(0), one.state) == (None, None, "grader error")
    (row,) = list(csv.DictReader(io.StringIO(gradebook.class_table([one], 0))))
    assert row["raw"] == row["final"] == row["accuracy"] == ""


@pytest.mark.parametrize(
    "line",
    ["1,5,", ",5,why", "1,,why", "1,+5,why",
     "1,nan,why", "1,inf,why", "1,-1,why", "1,five,why", "1,5,why\n1,6,why", "1", "1,700,why",
     "1,70,5,why", '1,5,"why\n2,3,y', '1,"5\r\n",why'],
)  # fmt: skip
def test_an_override_needs_id_points_and_reason(tmp_path, line):
    (tmp_path / "o.csv").write_text(f"ID,points,reason\n{line}\n")
    with pytest.raises(GraderFault, match=r"o.csv, line [23]"):
        read_overrides(tmp_path / "o.csv")


@pytest.mark.parametrize(
    "line", ["1,,,why", "1,,-1,why", "1,,+1,why", "1,,101,why", "1,5,x,why", "1,,5,", "1,5,1,2,why"]
)
def test_points_on_top_are_as_strict(tmp_path, line):
    (tmp_path / "o.csv").write_text(f"ID,points,added,reason\n{line}\n")
    with pytest.raises(GraderFault, match=r"o.csv, line 2"):
        read_overrides(tmp_path / "o.csv")


@pytest.mark.parametrize("head", ["", "1,70,why\n", "ID;points;reason\n", "id,points,reason\n"])
def test_overrides_without_their_first_line_are_an_error(tmp_path, head):
    (tmp_path / "o.csv").write_text(f"{head}1,5,why\n" if head else "")
    with pytest.raises(GraderFault, match=r"o.csv: its first line must be ID,points,reason"):
        read_overrides(tmp_path / "o.csv")


def test_an_id_is_known_as_class_csv_writes_it(tmp_path):
    (tmp_path / "o.csv").write_text(f"ID,points,reason\n{gradebook.safe('=7')},5,why\n")
    assert read_overrides(tmp_path / "o.csv") == {"=7": Override(5.0, 0.0, "why")}


def test_an_override_of_nobody_is_an_error():
    with pytest.raises(GraderFault, match="nobody with this ID"):
        apply_overrides([student()], {"2": Override(1.0, 0.0, "why")})


# --- the answers in words ---


def test_answers_are_text_and_nothing_else_on_the_page():
    one = student()
    one.answers = decode_answers(
        b"\xef\xbb\xbf# 1\r\n<script>alert(1)</script> & <img src=x>\x1b[2J \xe2\x80\xae\r\n\xff\xfe\tend"
    )
    page = student_page(one, 0)
    assert "# 1\n&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;img src=x&gt;?[2J ?\n\ufffd\ufffd  end</pre>" in page
    assert "<script" not in page and "<img" not in page and "\x1b" not in page and "\u202e" not in page


def test_answers_that_go_on_and_on_are_cut_and_said():
    one = student()
    one.answers = decode_answers(b"<" * (rubric.ANSWERS_BYTES + 1))
    page = student_page(one, 0)
    assert page.count("&lt;") == rubric.ANSWERS_BYTES and "… cut after 100,000 bytes</pre>" in page
    assert "cut after" not in decode_answers(b"<" * rubric.ANSWERS_BYTES)


def test_a_page_says_that_there_are_no_answers():
    assert "There is none in what could be read" in student_page(student(), 0)


# --- tables ---


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", " =1", "\t=1", "\r=1", "\n=1",
                                  "＝1", "＠SUM(A1)"])  # fmt: skip
def test_no_cell_is_a_formula(text):
    (row,) = csv.reader(io.StringIO(gradebook.to_csv([[text, "ok"]])))
    assert row[0].startswith(("'", "?")), row


def test_no_cell_is_a_formula_where_a_semicolon_parts_cells():
    assert gradebook.safe("y;=HYPERLINK(1).zip") == "y;'=HYPERLINK(1).zip"
    assert gradebook.safe("late; -10 by mail") == "late; -10 by mail"
    assert gradebook.safe("a;-2+cmd|' /C calc'!A0") == "a;'-2+cmd|' /C calc'!A0"


def test_numbers_stay_numbers():
    assert gradebook.to_csv([[-3.5, "-3.5", 70.0, None, "0042"]]) == "-3.5,-3.5,70,,0042\n"


EXPORT = (
    "Student,ID,SIS User ID,SIS Login ID,Section,Homework 3 (1234),Final (9)\n"
    "    Points Possible,,,,,100,10\n"
    '"Doe, Jane",1,u1,@jdoe,A,55,\n"=Roe",2,1,rroe,A,,7\n"Poe",3,,,A,12,\n"Moe",5,,,A,EX,\n'
)


def test_canvas_gets_one_column_filled_and_the_rest_left_alone(tmp_path):
    (tmp_path / "export.csv").write_text(EXPORT)
    book = gradebook.open_gradebook(tmp_path / "export.csv", "Homework 3")
    text, missing = gradebook.fill(
        book, [student("1"), student("2", 7), student("3", state=State.FAULT), student("4")], 0
    )
    head, possible, *rows = csv.reader(io.StringIO(text))
    assert head[5] == "Homework 3 (1234)" and possible[5] == "100" and missing == ["4"]
    # A fault of ours, and who handed in nothing: an empty cell would take the grade in Canvas away.
    assert [row[5] for row in rows] == ["6", "7", "12", "EX"] and rows[1][6] == "7" and rows[1][0] == "'=Roe"
    assert rows[0][3] == "@jdoe", "what Canvas knows a student by"


def test_the_sis_id_of_one_is_no_other_students_number(tmp_path):
    (tmp_path / "export.csv").write_text(EXPORT)
    book = gradebook.open_gradebook(tmp_path / "export.csv", "Homework 3")
    for ids, scores in ((("1", "3"), ["6", "", "6", "EX"]), (("u1", "1"), ["6", "6", "12", "EX"])):
        rows = list(csv.reader(io.StringIO(gradebook.fill(book, [student(one) for one in ids], 0)[0])))[2:]
        assert [row[5] for row in rows] == scores, ids


def test_an_export_with_semicolons_stays_one(tmp_path):
    (tmp_path / "export.csv").write_text("Student;ID;Homework 3 (1234)\nDoe, Jane;1;55\n")
    book = gradebook.open_gradebook(tmp_path / "export.csv", "")
    assert gradebook.fill(book, [student("1")], 0)[0] == "Student;ID;Homework 3 (1234)\nDoe, Jane;1;6\n"


@pytest.mark.parametrize(("text", "column", "message"), [
    (EXPORT, "", "which column"), (EXPORT, "Homework 4", "which column"), ("a,b\n1,2\n", "", "no gradebook of Canvas"),
    ("", "", "no gradebook of Canvas"), (EXPORT, "ID", "which column"), (EXPORT, "Final", "is worth 10 points"),
])  # fmt: skip
def test_an_unclear_export_is_an_error(tmp_path, text, column, message):
    (tmp_path / "export.csv").write_text(text)
    with pytest.raises(GraderFault, match=message):
        gradebook.open_gradebook(tmp_path / "export.csv", column)


def test_a_page_has_a_harmless_name_of_its_own():
    names = [file_name(name) for name in ("123456", "../evil", "a/b", "a_b", "A_b", "", "x" * 500, "ä")]
    assert names[0] == "123456.html" and len(set(map(str.lower, names))) == len(names)
    assert all("/" not in name and not name.startswith(".") and len(name) < 100 for name in names)
