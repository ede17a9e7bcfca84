"""Across the trust boundary between homework/ and grader/ nothing is shared, so each is held against the other."""

import ast
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

import grader.harness.label_diagnosis as graders
import homework
import homework.guards.label_diagnosis as students
from grader import adapter as graded
from grader import reference, rubric
from grader.adapter import Adapter, Config, expected_shapes, read_config, read_weights
from grader.course import Course
from grader.errors import GraderFault
from grader.harness import job_report
from grader.rubric import CONFIG, ROOT, WEIGHTS
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


@pytest.mark.parametrize("use_rslora", [False, True])
def test_lora_added_by_the_grader_is_that_of_peft(use_rslora):
    """Logits, and the gradients of lora_A and lora_B; the base gets none."""
    base, shape = reference.load_base().model, Config(3, 7.0, ("down_proj", "q_proj"), use_rslora)
    shapes = expected_shapes(shape, json.loads((rubric.BASE / "config.json").read_text()))
    weights = {name: torch.randn(size) / size[-1] ** 0.5 for name, size in shapes.items()}
    ids = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])
    ours = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    found = reference.with_lora(base, Adapter(*shape, ours))(input_ids=ids).logits
    settings = {"r": 3, "lora_alpha": 7, "target_modules": [*shape.targets], "use_rslora": use_rslora}
    peft_model = get_peft_model(reference.load_base().model, LoraConfig(task_type="CAUSAL_LM", **settings))
    set_peft_model_state_dict(peft_model, weights)
    wanted = peft_model(input_ids=ids).logits
    assert torch.allclose(found, wanted, atol=1e-4)
    found.square().mean().backward()
    wanted.square().mean().backward()
    theirs = {name.replace(".default", ""): tensor.grad for name, tensor in peft_model.named_parameters()}
    assert ours and all(torch.allclose(ours[name].grad, theirs[name], rtol=1e-2, atol=1e-4) for name in ours)
    assert all(tensor.grad is None for tensor in base.parameters())


@pytest.mark.parametrize(("layer", "size"), [("layers.99", 0), ("layers.0", 1)])
def test_an_adapter_that_does_not_fit_is_a_fault(layer, size):
    shape = Config(3, 7.0, ("q_proj",), False)
    shapes = expected_shapes(shape, json.loads((rubric.BASE / "config.json").read_text()))
    weights = {name.replace("layers.0", layer): torch.zeros(a + size, b) for name, (a, b) in shapes.items()}
    with pytest.raises(GraderFault, match="do not fit"):
        reference.add_lora(reference.load_base().model, Adapter(*shape, weights))


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
    assert watchdog.READ_PAST == graded.READ_PAST
    assert set(watchdog.HARMLESS) | {"auto_mapping"} == set(graded.HARMLESS)
    assert [True, *watchdog.HARMLESS["init_lora_weights"]] == graded.HARMLESS["init_lora_weights"]
