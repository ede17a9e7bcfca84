"""The renewal of what rests on the base model: it resumes, loses no figure, and its figures are those of the pages."""

import json
import re

import pytest

from grader import rubric
from grader.errors import GraderFault
from homework.common.errors import HomeworkError
from homework.common.files import fingerprint_file, read_json
from tools import renew
from tools.model_card import MEASURES


@pytest.fixture
def steps(tmp_path, monkeypatch) -> list[str]:
    """Three steps that only write down their names; the second fails the first time."""
    called: list[str] = []

    def step(name):
        def act():
            called.append(name)
            if name == "second" and called.count("second") == 1:
                raise HomeworkError("second ended with 1")

        return act

    monkeypatch.setattr(renew, "STATE", tmp_path / "runs" / "renew.json")
    monkeypatch.setattr(renew, "STEPS", {name: step(name) for name in ("first", "second", "third")})
    return called


def test_it_goes_on_where_it_stopped_and_begins_anew_for_another_base(steps, monkeypatch, capsys):
    with pytest.raises(HomeworkError, match="second ended"):
        renew.main()
    renew.main()
    assert steps == ["first", "second", "second", "third"]
    renew.main(list=True)
    assert capsys.readouterr().out.splitlines()[-3:] == ["first: done", "second: done", "third: done"]
    monkeypatch.setattr(renew, "fingerprint_file", lambda path: "another base")
    renew.main()
    assert steps[4:] == ["first", "second", "third"]


def test_the_hash_of_every_pinned_file_is_renewed(tmp_path, monkeypatch):
    text = (renew.ROOT / "grader" / "rubric.py").read_text()
    copy = tmp_path / "grader" / "rubric.py"
    copy.parent.mkdir()
    copy.write_text(re.sub(r'"[0-9a-f]{64}"', '"0"', text))
    monkeypatch.setattr(renew, "ROOT", tmp_path)
    renew.renew_hashes()
    assert copy.read_text() == text and '"chat_template.jinja": "' in text


def test_a_rubric_is_chosen_in_the_code_and_on_every_page_and_back(tmp_path, monkeypatch):
    paths = ("grader/rubric.py", "docs/grading.md", *renew.HANDOUTS)
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text((renew.ROOT / path).read_text())
    monkeypatch.setattr(renew, "ROOT", tmp_path)
    renew.main(rubric="long")
    assert 'CHOSEN = "long"' in (tmp_path / paths[0]).read_text()
    assert all("grades by the **long** one" in (tmp_path / path).read_text() for path in paths[1:])
    assert "one: tasks 1 to 7. 25 of the 100 points are" in (tmp_path / "README.md").read_text()
    renew.main(rubric=rubric.CHOSEN)
    assert all((tmp_path / path).read_text() == (rubric.ROOT / path).read_text() for path in paths)
    with pytest.raises(GraderFault, match="no rubric 'medium'"):
        renew.main(rubric="medium")


def test_bounds_change_nothing_else_of_their_rows(tmp_path):
    page, text = tmp_path / "grading.md", (renew.ROOT / "docs" / "grading.md").read_text()
    page.write_text(re.sub(r"nothing up to \d\.\d+, all from \d\.\d+", "nothing up to 0.01, all from 0.02", text))
    renew.renew_bounds(page)
    assert page.read_text() == text


def test_a_figure_without_a_place_is_an_error(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("reaches about 95 % of it\n")
    renew.substitute(page, r"about \d+ %", "about 96 %")
    assert page.read_text() == "reaches about 96 % of it\n"
    for pattern in ("gone", "e"):
        with pytest.raises(HomeworkError, match="there should be one"):
            renew.substitute(page, pattern, "x")


def test_the_sample_of_the_handout_is_cut_out_of_the_real_output(trained):
    shown = renew.sample_output(trained.output)
    assert shown.startswith("base model: data/base_model") and shown.splitlines()[-1].startswith("done in")
    assert shown.count("\nstep ") == 3 and "/tmp/" not in shown.split("picture")[0]
    with pytest.raises(HomeworkError, match="no line that begins with 'recipe:'"):
        renew.sample_output("base model: x\n")


def test_what_the_pages_say_is_what_was_measured():
    measured = json.loads((rubric.BASE / MEASURES).read_text())
    for name in renew.HANDOUTS:
        text = (renew.ROOT / name).read_text()
        assert renew.expected_table(measured) in text and f"reaches about {100 * measured['valid']:.0f} %" in text
    reasons, page = json.loads(renew.REASONING.read_text()), (renew.ROOT / "docs" / "reasoning.md").read_text()
    assert renew.reasoning_table(reasons) in page and renew.reasoning_sentence(reasons) in page
    logs = read_json(renew.CALIBRATION)["logs"]
    training = (renew.ROOT / "docs" / "training.md").read_text()
    for low, high in logs.values():
        assert f"| {low:.2g} to {high:.2g} |" in training
    assert {name: fingerprint_file(rubric.BASE / name) for name in rubric.BASE_SHA256} == rubric.BASE_SHA256
