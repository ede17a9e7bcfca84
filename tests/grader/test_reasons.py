"""Texts with a reason and texts without one: what a table of answers, or a wrong chain with a right answer, writes."""

import re

import pytest

from grader.checks import reasoning_weights
from grader.course import Course
from grader.equations import chain_key
from grader.harness.chains import chain, partial
from grader.harness.inputs import Inputs
from grader.reasons import diagnose_reason, most_frequent
from grader.reference import Answered
from grader.rubric import read_rubric
from grader.runner import credit_for
from grader.submission import Submission
from homework.base_llm import Completion
from homework.datagen import find_fault
from tests.support.rows import rest

ASKED = "Convert 47 ft to m."
RIGHT = "1 ft is 0.305 m. 47 * 0.305 = 12.2 + 2.135 = 14.34. <answer>14.34</answer>"
NOTHING = "a chain that does not lead from the number of the question to the answer"
REASONS = [
    RIGHT,
    f" {RIGHT}\n",
    "47 * 0.3048 = 14.33. <answer>14.33</answer>",
    "1 m is 3.281 ft. 47 / 3.281 = 14.32. <answer>14.32</answer>",
    "0.305 * 47 = 14.34. <answer>14.34</answer>",
    "47 x 12 = 564. 564 x 2.54 = 1433. 1433 / 100 = 14.33. <answer>14.33</answer>",
    "47 * 0.295 = 13.87. <answer>13.87</answer>",  # a wrong factor is a wrong answer, not a wrong chain
    "47 ft * 0.305 m/ft = 14.34 m. <answer>14.34</answer>",
    "2 * 47 * 0.1524 = 14.33. <answer>14.33</answer>",
    "47 * 3.048e-1 = 14.33. <answer>1.433e1</answer>",
    "47 * 12 = 564. 564 * 0.0254 = 14.33. <answer>14.33</answer>",
    "40 * 0.3048 = 12.19. 47 * 0.3048 = 14.33. 14.33 + 0 = 14.33. <answer>14.33</answer>",
    "47 * 0.3 = 14.1. 47 * 0.0048 = 0.2256. 14.1 + 0.2256 = 14.33. <answer>14.33</answer>",
    "1 * 47 * 0.3048 = 14.33. <answer>14.33</answer>",
    "14.33 = 47 * 0.3048. <answer>14.33</answer>",
    "50 * 0.3048 = 15.24. 47 / 3.281 = 14.32. <answer>14.32</answer>",
]
FAULTS = [
    (f"assistant {RIGHT}", "a role of the chat before the chain: the turn of the assistant is not open"),
    (f"1e999 * 2 = 14.34. {RIGHT}", "an equation that is wrong"),
    ("47 * 1e999 = 14.34 = 14.34. <answer>14.34</answer>", "an equation that is wrong"),
    ("1e200 * 1e200 = 14.34. 47 * 0.305 = 14.34. <answer>14.34</answer>", "an equation that is wrong"),
    (RIGHT.replace("12.2 +", "15.2 +"), "an equation that is wrong"),
    (RIGHT.replace("47 * 0.305 =", "47 * 0.375 ="), "an equation that is wrong"),
    ("7.3 + 7 = 14.3. <answer>14.3</answer>", NOTHING),
    ("14.33 * 1 = 14.33. <answer>14.33</answer>", NOTHING),
    ("14.33 / 1 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 1 = 47. 40 - 25.67 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 + 0 = 47. 15 - 0.67 = 14.33. <answer>14.33</answer>", NOTHING),
    ("2 * 7.165 = 14.33. <answer>14.33</answer>", NOTHING),
    ("46 * 0.3115 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 0 + 14.33 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 0 + 10 + 4.33 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 0.001 + 14.28 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 2 = 94. 14.33 + 0 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 / 0.305 = 154.1. 14.33 * 1 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 2 = 94. 94 * 0 + 14.33 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 2 = 94. 94 - 79.67 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 14.33 / 47 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 14.33 = 673.5. 673.5 / 47 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 14.33 / 47.3 = 14.24. <answer>14.3</answer>", NOTHING),
    ("47 * 0.3 = 14.1 = 14.16 = 14.22 = 14.28 = 14.33. <answer>14.33</answer>", "an equation that is wrong"),
    ("47 / 47 = 1. 1 * 14.33 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 0.02128 = 1. 14.33 * 1 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 14.33 / 4.7 = 143.3. 143.3 / 10 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 1.433 / 4.7 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 14.33 / 23.5 = 28.66. 28.66 / 2 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 / 4.7 = 10. 10 * 1.433 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 / 23.5 = 2. 2 * 7.165 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 / 4.69 = 10. 10 * 1.433 = 14.33. <answer>14.33</answer>", NOTHING),
    ("47 * 0.305 = 14.34. <answer>15.1</answer>", "another result in the tag than in the chain"),
    ("40 * 0.305 = 12.2. <answer>14.34</answer>", "another result in the tag than in the chain"),
    (f"{RIGHT} <answer>14.34</answer>", "no answer, or two"),
    (RIGHT.removesuffix("</answer>"), "no answer, or two"),
    ("47 * 0.305 = 14.34.", "no answer, or two"),
    ("", "no answer, or two"),
    (f"{RIGHT} So it is.", "text after the answer"),
    ("<answer>14.34</answer>", "no equation before the answer"),
    ("1 ft is 0.305 m, so it must be <answer>14.34</answer>", "no equation before the answer"),
    ("1 ft = 0.305 m = 14.34 m. <answer>14.34</answer>", "no equation before the answer"),
    ("47 / 0 = 14.33. <answer>14.33</answer>", "an equation that is wrong"),
    ("0 * 47 = 0. <answer>0</answer>", NOTHING),
]


@pytest.mark.parametrize("text", REASONS)
def test_a_chain_from_the_number_of_the_question_to_the_tag_is_a_reason(text):
    assert diagnose_reason(Answered(ASKED, text, 14.3256)) == ""


@pytest.mark.parametrize(("text", "fault"), FAULTS)
def test_a_text_without_one_is_named(text, fault):
    assert diagnose_reason(Answered(ASKED, text, 14.3256)) == fault


def test_numbers_are_read_as_a_question_writes_them():
    for question, text in {
        "How many m are 1,530 ft?": "1530 * 0.3048 = 466.3. <answer>466.3</answer>",
        "How many g are 0.305kg?": "0.305 * 1000 = 305. <answer>305</answer>",
        "Is 1 km 1000 m?": "1 * 1000 = 1000. <answer>1000</answer>",
        "How many m are 2e3 km?": "2000 * 1000 = 2000000. <answer>2e6</answer>",
        "How many in are 2.5 cm?": "2.5 / 2.54 = 0.9843. <answer>0.9843</answer>",
        "What is 46 ft in m?": "1 ft = 12 * 2.54 cm = 30.48 cm. 46 * 0.3048 = 14.02. <answer>14.02</answer>",
        "How many ft are 12 in?": "12 / 12 = 1. <answer>1</answer>",
        "How many in are 1000 cm?": "1000 / 2.54 = 393.7. <answer>393.7</answer>",
        "How many cm are 10 in?": "10 * 2.54 = 25.4. <answer>25.4</answer>",
        "How many cm are 100.2 in?": "100.2 * 2.54 = 254.5. <answer>254.5</answer>",
        "How many s are 125 min?": "125 * 60 = 7500. <answer>7500</answer>",
        "How many m are 125 cm?": "125 * 8 = 1000. 125 / 100 = 1.25. <answer>1.25</answer>",
        "How many g are 250 kg?": "250 * 1000 = 250000. <answer>250000</answer>",
        "How many ft are 24 in?": "24 / 12 = 2. <answer>2</answer>",
        "How many m are 1 ft?": "1 * 0.3048 = 0.3048. <answer>0.3048</answer>",
        "How many m are 1.002 ft?": "1.002 / 3.281 = 0.3054. <answer>0.3054</answer>",
    }.items():
        assert diagnose_reason(Answered(question, text, 1.0)) == "", question


def test_the_exponent_of_a_unit_is_no_number_of_the_question():
    assert (
        diagnose_reason(Answered("How many mm^3 are 46 ml?", "3 * 15333 = 46000. <answer>46000</answer>", 46000))
        == NOTHING
    )


def test_the_most_frequent_fault_is_told_with_its_first_text():
    written = [Answered(ASKED, text, 1.0) for text in ("one", "two ", "three")]
    assert most_frequent(["", "a", "a"], written) == ("a", "two") and most_frequent(["", "", ""], written) == ("", "")


# --- what a course gives for them ---


def measure(monkeypatch, texts: list[str], correct: float = 14.3256):
    """What the course measures where an adapter writes these texts."""
    monkeypatch.setattr(Course, "long", lambda _: [(ASKED, correct)] * len(texts))
    monkeypatch.setattr(Course, "base", type("Base", (), {"model": None}))
    monkeypatch.setattr("grader.reference.merge", lambda *_: None)
    monkeypatch.setattr("grader.reference.ask", lambda *_: [Answered(ASKED, text, correct) for text in texts])
    return Course(rubric=read_rubric("long")).measure_reasons(None)


@pytest.mark.parametrize("text", [text for text, fault in FAULTS if fault and "14.3" in text])
def test_right_answers_without_reasons_give_no_points_for_them(monkeypatch, text):
    found = measure(monkeypatch, [text] * 10)
    assert found.reasoned == 0 and found.fault and found.example == text.strip()
    assert credit_for(found.reasoned, read_rubric("long").bounds["reasons"]) == 0


def test_a_right_chain_to_a_wrong_answer_is_no_right_answer(monkeypatch):
    """5 % is enough for the accuracy of task 4, and 1 % is asked here."""
    found = measure(monkeypatch, ["47 * 0.295 = 13.87. <answer>13.87</answer>"] * 4)
    assert (found.long_accuracy, found.reasoned, found.fault) == (0, 0, "")


def test_right_answers_and_reasons_are_counted_apart(monkeypatch):
    bare = "<answer>14.33</answer>"
    found = measure(monkeypatch, [RIGHT, RIGHT, bare, "<answer>99</answer>"])
    assert (found.long_accuracy, found.reasoned, found.fault) == (0.75, 0.5, "no equation before the answer")
    assert "0.500 of the questions" in found.describe_reasons() and repr(bare) in found.describe_reasons()


def test_rows_that_were_too_long_are_said():
    given = []
    notes = ["left out 1 files that are no code: x", "left out rft.json: more than 1,000,000 bytes"]
    reasoning_weights.test_samples(Submission("x.zip", {}, notes, ""), lambda *one: given.append(one))
    reasoning_weights.test_samples(Submission("x.zip", {}, [], ""), lambda *one: given.append(one))
    assert given == [(1, notes[1], {}), (1, "there is no rft.json in the zip", {})]


# --- the texts that a scripted model writes ---


@pytest.mark.parametrize("sha", ["1", rest("2"), rest("3")])
def test_the_planted_texts_are_what_their_names_say(sha):
    """By the rule of the reference; and a sampling of five texts finds each different right chain."""
    inputs = Inputs(Course(rubric=read_rubric("long")), sha)
    questions = dict(inputs.train_rows)
    assert set(inputs.script) == set(questions) and len(questions) == 64
    for question, script in inputs.script.items():
        planted = inputs.planted[question]
        right = [text for text, fault in planted.items() if not fault]
        assert len(planted) == len(script) >= 9 and len(right) in (0, 3)
        for text, ended in script:
            assert bool(find_fault(Completion(text, ended), questions[question])) == bool(planted[text]), text
            assert not re.search(r"\de[+-]?0|\de\+", text), "numbers are those of the base model: 1.9e10"
        chains = {chain_key(text) for text, _ in script[:5] if text in right}
        assert len(chains) == 2 == len({chain_key(text) for text in right}) if right else not chains
        assert all(text.startswith("1 ") and not diagnose_reason(Answered(question, text, 1.0)) for text in right)
        assert inputs.greedy[question] == right[0] if right else inputs.greedy[question] in planted
    hopeless = [at for at, question in enumerate(questions) if "" not in inputs.planted[question].values()]
    assert len(hopeless) == 13 and any(at % 5 for at in hopeless)


def test_a_chain_that_is_computed_is_none_of_the_planted_ones():
    """The factors of the right ones are drawn: each was sampled."""
    for sha in "12":
        inputs = Inputs(Course(rubric=read_rubric("long")), sha)
        for fact, (question, _) in zip(inputs.train_facts, inputs.train_rows, strict=True):
            computed = {chain_key(make(fact, fact.answer)) for make in (chain, partial)}
            right = [text for text, fault in inputs.planted[question].items() if not fault]
            assert not computed & set(map(chain_key, right)), question
