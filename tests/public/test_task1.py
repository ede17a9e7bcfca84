"""Public checks of task 1, homework/base_llm.py: parse an answer, generate in batches.

python -m pytest tests/public/test_task1.py
"""

import math

import pytest

from homework.base_llm import BaseLLM, parse_answer

PROMPTS = ["How many g are in 6 kg?", "2 km", "How many seconds are there in 3 hours and a half, please?"]


@pytest.fixture(scope="module")
def llm() -> BaseLLM:
    """The bundled base model."""
    return BaseLLM()


@pytest.mark.parametrize(("text", "number"), [
    ("<answer>6000</answer>", 6000), ("so <answer> -1.5e3 </answer>.", -1500), ("<answer>1,234.5</answer>", 1234.5),
])  # fmt: skip
def test_parse_answer_reads_the_number_between_the_tags(text, number):
    assert parse_answer(text) == number


@pytest.mark.parametrize(
    "text", ["", "6000", "<answer></answer>", "<answer>six</answer>", "<answer>inf</answer>", "<answer>1</answer>" * 2]
)
def test_parse_answer_makes_no_number_up(text):
    assert math.isnan(parse_answer(text)), f"{text!r} holds no answer: NaN, never a number"


def test_format_prompt_gives_the_text_that_training_saw(llm):
    assert llm.format_prompt(PROMPTS[0]) == PROMPTS[0]


def test_a_batch_gives_what_single_prompts_give_in_their_order(llm):
    """Pad on the left and mask it: on the right, the model would go on writing after padding."""
    assert llm.batched_generate(PROMPTS) == [llm.generate(prompt) for prompt in PROMPTS]


def test_a_completion_holds_no_prompt(llm):
    assert not llm.generate(PROMPTS[0]).strip().startswith(PROMPTS[0])


def test_several_sequences_are_a_list_for_each_prompt(llm):
    texts = llm.batched_generate(PROMPTS, num_return_sequences=2, temperature=0.7)
    assert len(texts) == len(PROMPTS) and all(len(group) == 2 for group in texts)
    greedy = llm.batched_generate(PROMPTS[:1], num_return_sequences=2)
    assert greedy == [[llm.generate(PROMPTS[0])] * 2]


def test_answer_gives_one_float_for_each_question(llm):
    answers = llm.answer(*PROMPTS)
    assert len(answers) == len(PROMPTS) and all(isinstance(answer, float) for answer in answers)
