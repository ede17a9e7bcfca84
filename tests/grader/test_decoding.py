"""A wrong call of generate is told by its texts alone, with its cause; right ones, and texts of no model, are none."""

import re

import pytest
import torch
from transformers import GenerationConfig

from grader.checks.answering import refuse_more
from grader.course import Course
from grader.errors import Refusal
from grader.harness import decoding
from grader.reference import ROUNDING, Base, complete, is_greedy, largest_gap
from grader.units import draw_questions
from tests.support.rows import rest


@pytest.fixture(scope="module")
def base() -> Base:
    return Course().base


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    return [question.text for question in draw_questions("train", 6, "decoding")]


@pytest.fixture(scope="module")
def written(base, prompts) -> list[str]:
    """What the base writes, as the grader has it."""
    return [complete(base, base.model, [base.tokenizer(prompt)["input_ids"]], 64)[0] for prompt in prompts]


def generate(base: Base, prompts: list[str], **options) -> list[str]:
    """What a submission's generate gives, with options of its own."""
    torch.manual_seed(0)
    eos, texts = base.tokenizer.eos_token_id, []
    for prompt in prompts:
        ids = torch.tensor([base.tokenizer(prompt)["input_ids"]])
        settings = {"max_new_tokens": 50, "do_sample": False, "eos_token_id": eos, "pad_token_id": eos, **options}
        new = base.model.generate(input_ids=ids, generation_config=GenerationConfig(**settings))[0, ids.shape[1] :]
        texts.append(base.tokenizer.decode(new, skip_special_tokens=True))
    return texts


OTHERS = "gives other tokens than the most likely ones after"


@pytest.mark.everything
@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"do_sample": True}, OTHERS),
        ({"num_beams": 4}, OTHERS),
        ({"no_repeat_ngram_size": 2}, OTHERS),
        ({"repetition_penalty": 1.2}, r"a repetition_penalty of about 1\.(15|2)$"),
        ({"repetition_penalty": 2.0}, f"a repetition_penalty of about 2|{OTHERS}"),
    ],
)
def test_an_option_that_changes_the_tokens_is_named(base, prompts, written, options, cause):
    fault = decoding.find_fault(base, prompts, generate(base, prompts, **options), written, twice=[])
    assert fault is not None and re.search(cause, fault.cause), fault


def test_two_texts_for_one_prompt_are_luck(base, prompts, written):
    texts = generate(base, prompts, do_sample=True)
    fault = decoding.find_fault(base, prompts, texts, written, twice=[("1 m", "1 m"), ("2 m", "3 m")])
    assert fault is not None and fault.cause == "samples at temperature 0: asked twice, it gives '2 m' and '3 m'"


@pytest.mark.parametrize(("times", "words"), [(1, "its prompt: the model"), rest(2, "its prompt twice: the model")])
def test_a_chat_template_around_the_prompt_is_named(base, prompts, written, times, words):
    asked = prompts
    for _ in range(times):
        asked = [decoding.as_chat(base, prompt) for prompt in asked]
    fault = decoding.find_fault(base, prompts, generate(base, asked), written, twice=[])
    assert fault is not None and f"puts the chat template around {words}" in fault.cause


def test_right_texts_and_changed_ones_are_no_fault_of_the_call(base, prompts, written):
    right = generate(base, prompts)
    stripped, tagged = [text.strip() for text in right], [f"<answer>{text}" for text in right]
    for texts in (right, stripped, tagged, ["xq zj"] * 6, [""] * 6):
        assert decoding.find_fault(base, prompts, texts, written, twice=[]) is None


def test_a_cap_ends_all_texts_alike_and_a_cut_does_not(base, written):
    ids = [base.tokenizer(text, add_special_tokens=False)["input_ids"][:5] for text in written]
    capped = [base.tokenizer.decode(row) for row in ids]
    assert decoding.begin_alike(capped, written) and decoding.end_alike(base, capped, written)
    halves = [text[: len(text) // 2] for text in (written[0] * 2, "a short one")]
    assert decoding.begin_alike(halves, [written[0] * 2, "a short one"])
    assert not decoding.end_alike(base, halves, [written[0] * 2, "a short one"])


def test_a_cap_ends_texts_alike_whose_first_space_was_cut_off(base):
    """Alone, `cubic` has more tokens than ` cubic`: three at the beginning of a text."""
    wanted = [" cubic millimetres into cups?\n1.85e-5", "\n1 mm is 0.00109 yards. 89 * 0.00109 = 0.0982 + 0.00981"]
    rows = [base.tokenizer(text, add_special_tokens=False)["input_ids"][:8] for text in wanted]
    capped = [base.tokenizer.decode(row).strip() for row in rows]
    assert decoding.end_alike(base, capped, wanted)
    assert not decoding.end_alike(base, [capped[0], capped[1][:-5]], wanted)


def test_a_short_text_is_one_of_the_model_where_it_ends_as_the_model_ends_it(base):
    asked = [question.text for question in draw_questions("train", 40, "short")]
    texts = [complete(base, base.model, [base.tokenizer(prompt)["input_ids"]], 32)[0] for prompt in asked]
    prompt, short = next(
        pair for pair in zip(asked, texts, strict=True) if 3 < len(pair[1].strip()) < decoding.SHORTEST
    )
    assert decoding.is_written(base, prompt, short.strip(), "what it writes by other rounding")
    assert not decoding.is_written(base, prompt, short.strip()[:-2], "what it writes by other rounding")
    assert not decoding.is_written(base, prompt, " ", "what it writes by other rounding")


def test_a_text_of_the_base_in_bfloat16_is_greedy_though_float32_is_sure_of_another(base):
    prompt = "19.6 cm to ft if you can What quantity of inches per second is the same as 0.5 mi/h?"
    written = "\n1 mile per hour is 17.6 inches per second. 0.5 * 17.6 = 8.8.\n8.8"
    assert largest_gap(base, prompt, written) > ROUNDING and is_greedy(base, prompt, written)
    assert not is_greedy(base, prompt, written.replace("8.8", "9.9"))


def test_a_text_that_goes_on_where_its_end_is_hardly_likelier_is_no_fault(base, prompts, written):
    refuse_more(Course(), "0.0215 yard is how many mi?", " 12.5 yards", " 12.5", " yards")  # 0.14 below EOS, in logits
    with pytest.raises(Refusal, match="generate goes on with ' yards' where the model ends"):
        refuse_more(Course(), prompts[0], f"{written[0]} yards", written[0], " yards")
    with pytest.raises(Refusal, match=r"generate goes on with .<\|im_end\|>. where the model ends"):
        refuse_more(Course(), prompts[0], f"{written[0]}<|im_end|>", written[0], "<|im_end|>")
