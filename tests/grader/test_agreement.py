"""Across the trust boundary between homework/ and grader/ nothing is shared, so each is held against the other."""

import ast
import json
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import grader.harness.label_diagnosis as graders
import homework
import homework.guards.label_diagnosis as students
from grader import adapter as graded
from grader import reference, rubric
from grader.adapter import CONFIG, WEIGHTS, read_config, read_weights
from grader.course import Course
from grader.harness import job_report
from grader.rubric import ROOT
from homework import base_llm, data
from homework.common import errors
from homework.common.base_model import BUNDLED, BUNDLED_NAME
from homework.data import take_rows
from homework.guards import watchdog
from homework.training import adapter
from homework.training.evaluation import wilson_interval
from homework.training.recipe import DEFAULT_RECIPE, LIMITS, RECIPES
from tests.support.rows import rest


@pytest.mark.parametrize("count", [100, rest(1000)])
def test_both_give_the_same_answers_to_the_last(trained, count):
    """Of the 1,000 questions of valid; all of them with --everything."""
    valid = homework.Dataset("valid")
    theirs = homework.benchmark(homework.load_sft(trained.folder), valid, count)
    course, files = Course(), {f"sft_model/{path.name}": path.read_bytes() for path in trained.folder.iterdir()}
    ours = read_weights(files[WEIGHTS], read_config(files[CONFIG]), course.base_config)
    answered = reference.ask(course.base, reference.merge(course.base.model, ours), take_rows(valid, count))
    assert len(answered) == len(theirs.samples) == count
    for one, sample in zip(answered, theirs.samples, strict=True):
        same = one.number == sample.answer or (math.isnan(one.number) and math.isnan(sample.answer))
        assert same and one.is_right == sample.is_correct, one.question


@given(st.text() | st.from_regex(r" ?<answer>[-+0-9.,e ]{0,12}</answer>?.{0,5}"))
def test_both_parse_alike(text):
    ours, theirs = reference.Answered("", text, 1.0).number, base_llm.parse_answer(text)
    assert ours == theirs or (math.isnan(ours) and math.isnan(theirs))


@given(st.floats(allow_nan=True), st.floats(allow_nan=False, allow_infinity=False))
def test_both_have_one_metric(number, correct):
    ours = reference.Answered("", f"<answer>{number!r}</answer>", correct)
    assert ours.is_right == data.is_answer_valid(ours.number, correct)
    assert ours.number == number or not math.isfinite(number)


@pytest.mark.parametrize(("share", "count"), [(0.0, 5), (0.5, 100), (0.95, 600), (1.0, 1)])
def test_both_have_one_interval(share, count):
    assert reference.interval(share, count) == wilson_interval(share, count)


def test_both_mean_the_same_base_model():
    assert (rubric.BASE, rubric.BASE_NAME) == (BUNDLED, BUNDLED_NAME)
    model = reference.load_base().model
    assert reference.fingerprint(model) == adapter.fingerprint_base(model)


def test_both_have_the_same_limits_of_lora():
    assert LIMITS == {"rank": rubric.MAX_RANK, "alpha": rubric.MAX_ALPHA}
    for recipe in (*RECIPES.values(), DEFAULT_RECIPE):  # alpha follows the rank
        assert rubric.MAX_RANK * recipe.alpha // recipe.rank <= rubric.MAX_ALPHA


def test_the_grader_reads_every_field_that_the_homework_writes(trained):
    config = json.loads((trained.folder / "adapter_config.json").read_text())
    assert read_config(json.dumps(config).encode()).rank == config["r"]


def test_both_say_the_same_of_a_wrong_span():
    """The diagnosis of labels is there twice; what a student reads is the same, whoever says it."""
    assert Path(students.__file__).read_bytes() == Path(graders.__file__).read_bytes()
    assert (ROOT / "homework/common/equations.py").read_bytes() == (ROOT / "grader/equations.py").read_bytes()
    assert students.IGNORE_INDEX == data.IGNORE_INDEX


def test_the_diagnosis_of_labels_stands_on_its_own():
    """Else its bytes could not be the same on both sides."""
    tree = ast.parse(Path(students.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules <= sys.stdlib_module_names | {"collections.abc"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))


def test_both_name_what_transformers_took_away_alike():
    assert job_report.REMOVED == errors.REMOVED
    messages = [f"got an unexpected keyword argument '{name}'" for name in (*errors.REMOVED, "epohcs")]
    said = [errors.name_successor(message) for message in (*messages, "it requires tensorboard")]
    assert said == [job_report.name_successor(message) for message in (*messages, "it requires tensorboard")]
    assert said[-2] == "" and all(said[:-2]) and said[-1]


def test_both_take_the_same_fields_of_a_lora_config():
    """What the grader refuses is refused before the training, and by the same table on each side."""
    assert watchdog.CHOSEN == graded.CHOSEN and graded.SAID | {"auto_mapping"} == watchdog.SAID
    assert set(watchdog.HARMLESS) | {"auto_mapping"} == set(graded.HARMLESS)
    assert [True, *watchdog.HARMLESS["init_lora_weights"]] == graded.HARMLESS["init_lora_weights"]
