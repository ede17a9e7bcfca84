"""Across the trust boundary between homework/ and grader/ nothing is shared, so both are held against each other here.

python -m pytest tests/test_grader_agrees.py
"""

import inspect
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import homework
from grader import reference, rubric
from grader.adapter import CONFIG, WEIGHTS, read_config, read_weights
from grader.course import Course
from grader.harness import spans
from homework import adapter, base_llm, data, labels
from homework.checkpoint import BUNDLED, BUNDLED_NAME


def test_both_give_the_same_answers_to_the_last(trained):
    """All 1,000 questions of valid."""
    valid = homework.Dataset("valid")
    theirs = homework.benchmark(homework.load_sft(trained.folder), valid, 1000)
    course, files = Course(), {f"sft_model/{path.name}": path.read_bytes() for path in trained.folder.iterdir()}
    ours = read_weights(files[WEIGHTS], read_config(files[CONFIG]), course.base_config)
    answered = reference.ask(course.base, reference.merge(course.base.model, ours), valid.rows)
    assert len(answered) == len(theirs.samples) == 1000
    for one, sample in zip(answered, theirs.samples, strict=True):
        same = one.number == sample.answer or (math.isnan(one.number) and math.isnan(sample.answer))
        assert same and one.is_right == sample.is_correct, one.question


@given(st.text() | st.from_regex(r" ?<answer>[-+0-9.,e ]{0,12}</answer>?.{0,5}"))
def test_both_parse_alike(text):
    ours, theirs = reference.parse(text), base_llm.parse_answer(text)
    assert ours == theirs or (math.isnan(ours) and math.isnan(theirs))


@given(st.floats(allow_nan=True), st.floats(allow_nan=False, allow_infinity=False))
def test_both_have_one_metric(number, correct):
    assert reference.is_right(number, correct) == data.is_answer_valid(number, correct)


@pytest.mark.parametrize(("share", "count"), [(0.0, 5), (0.5, 100), (0.95, 600), (1.0, 1)])
def test_both_have_one_interval(share, count):
    assert reference.interval(share, count) == data.wilson_interval(share, count)


def test_both_mean_the_same_base_model():
    assert (rubric.BASE, rubric.BASE_NAME) == (BUNDLED, BUNDLED_NAME)
    model = reference.load_base().model
    assert reference.fingerprint(model) == adapter.fingerprint_base(model)


def test_the_grader_reads_every_field_that_the_homework_writes(trained):
    config = json.loads((trained.folder / "adapter_config.json").read_text())
    assert read_config(json.dumps(config).encode()).rank == config["r"]


def test_both_say_the_same_of_a_wrong_span():
    """The proof of labels is written twice; what a student reads is the same, whoever says it."""
    names = ["View", *(name for name in dir(labels) if name.startswith("diagnose_") and name != "diagnose_row")]
    for name in (name for name in names if name != "diagnose_value"):
        assert inspect.getsource(getattr(spans, name)) == inspect.getsource(getattr(labels, name)), name
    assert len(names) > 6 and spans.IGNORE_INDEX == data.IGNORE_INDEX
