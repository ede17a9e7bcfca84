"""What goes wrong with reasons in real hand-ins, one row a fault: each is planted, and named where it is met first."""

import copy
import json
import re
import shutil
from collections.abc import Callable

import pytest
from transformers import AutoTokenizer

from homework import cot, datagen, rft
from homework.base_llm import BaseLLM, Completion, parse_answer
from homework.common.equations import find_equations
from homework.common.errors import HomeworkError
from homework.data import Dataset, is_answer_valid
from homework.guards import reasoning_check
from homework.guards.reasoning_check import RIGHT
from homework.training import adapter

Plant = Callable[..., None]


@pytest.fixture(scope="module")
def reasoner(llm) -> cot.CoTModel:
    """The base with the prompt of the solution."""
    model = cot.CoTModel.__new__(cot.CoTModel)
    model.__dict__ |= llm.__dict__
    return model


def check_prompt(reasoner: BaseLLM, write: Callable[[BaseLLM, str], str], **attributes) -> None:
    """The check of the prompt with another `format_prompt`."""
    changed = copy.copy(reasoner)
    changed.__class__ = type("Changed", (cot.CoTModel,), {"format_prompt": write, **attributes})
    reasoning_check.check_cot_prompt(changed, Dataset("train"), Dataset("valid"))


def chat(llm: BaseLLM, *turns: str, opened: bool = True) -> str:
    """Turns of user and assistant by the chat template."""
    roles = ("user", "assistant") * len(turns)
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    return llm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opened)


def showing(answer: str, asked: str = "Convert 46 ft to m.", **options) -> Callable[[BaseLLM, str], str]:
    """A prompt with another worked example."""
    return lambda llm, question: chat(llm, asked, answer, question, **options)


def known_question(llm: BaseLLM, question: str) -> str:
    """A prompt whose example is a question of valid."""
    return chat(llm, Dataset("valid")[3][0], RIGHT, question)


def formatted_twice(llm: BaseLLM, question: str) -> str:
    """The template within the template."""
    return chat(llm, chat(llm, "Convert 47 ft to m.", RIGHT, question))


class FormatsAgain(cot.CoTModel):
    """batched_generate formats as well, as answer has done."""

    def batched_generate(self, prompts, num_return_sequences=None, temperature=0):
        return super().batched_generate([chat(self, prompt) for prompt in prompts], num_return_sequences, temperature)


class HidesEnds(cot.CoTModel):
    """complete_batch makes its mask by the ids, where EOS is the padding's too."""

    def complete_batch(self, rows, cap, temperature):
        model, generate = self.model, self.model.generate
        model.generate = lambda *, attention_mask, input_ids, **more: generate(
            input_ids=input_ids, attention_mask=(input_ids != self.pad_id).long(), **more
        )
        return super().complete_batch(rows, cap, temperature)


def format_again(reasoner: BaseLLM) -> None:
    changed = copy.copy(reasoner)
    changed.__class__ = FormatsAgain
    reasoning_check.check_cot_prompt(changed, Dataset("train"), Dataset("valid"))


PROMPTS = {
    "a wrong worked example": (showing("1 ft is 0.305 m. 7000 * 8 = 54000. <answer>54000</answer>"), "54000 is wrong"),
    "an example whose tag holds another number": (
        showing(RIGHT.replace("<answer>14.34", "<answer>15")), "the tag holds 15"),
    "an example without a chain": (showing("<answer>14.34</answer>"), "an answer and no equation before it"),
    "an example without the tag": (showing("47 * 0.305 = 14.34"), "shows no <answer>"),
    "a question of valid in the prompt": (known_question, "a question of valid"),
    "no turn for the assistant": (showing(RIGHT, opened=False), "that of the assistant not open"),
    "the question alone": (lambda llm, question: question, "after the question the prompt goes on"),
    "no question": (lambda llm, question: chat(llm, RIGHT), "holds the question once"),
    "a prompt that leaves no room": (
        showing("so. " * 60 + RIGHT), r"\d+ of them the longest question, leaves -?\d+ to write"),
    "a template within the template": (formatted_twice, "after the question the prompt goes on"),
}  # fmt: skip


def in_another_style(llm: BaseLLM, question: str) -> str:
    """A system message that names the tag, and shows it, before the example."""
    system = {
        "role": "system",
        "content": "Think in steps. Write <answer>NUMBER</answer>, such as <answer>42</answer>.",
    }
    turns = zip(("user", "assistant", "user"), ("Convert 47 ft to m.", RIGHT, question), strict=True)
    messages = [system, *({"role": role, "content": text} for role, text in turns)]
    return llm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def test_a_prompt_in_another_style_is_right_too(reasoner):
    check_prompt(reasoner, in_another_style)


@pytest.mark.parametrize("name", PROMPTS)
def test_a_wrong_prompt_is_named(reasoner, name):
    write, words = PROMPTS[name]
    with pytest.raises(HomeworkError, match=words):
        check_prompt(reasoner, write)


def test_the_prompt_of_the_solution_is_right(reasoner):
    check_prompt(reasoner, cot.CoTModel.format_prompt)
    reasoning_check.check_worked_example(cot.worked_example(), Dataset("valid"))


def test_a_mask_by_ids_that_hides_the_ends_of_turns_is_named(reasoner):
    changed = copy.copy(reasoner)
    changed.__class__ = HidesEnds
    with pytest.raises(HomeworkError, match="complete_batch hides the EOS tokens of the prompt"):
        reasoning_check.check_cot_prompt(changed, Dataset("train"), Dataset("valid"))


def test_a_prompt_that_is_formatted_twice_on_its_way_is_named(reasoner):
    with pytest.raises(HomeworkError, match="formatted twice"):
        format_again(reasoner)


def test_a_cap_for_bare_answers_is_named(reasoner):
    with pytest.raises(HomeworkError, match="max_new_tokens is 25"):
        check_prompt(reasoner, cot.CoTModel.format_prompt, max_new_tokens=25)


def test_a_tokenizer_without_a_chat_template_is_named(reasoner):
    changed = copy.copy(reasoner)
    changed.tokenizer = copy.copy(reasoner.tokenizer)
    changed.tokenizer.chat_template = None
    with pytest.raises(HomeworkError, match="has no chat template"):
        reasoning_check.render_chat(changed, [])


def test_a_base_without_a_chat_template_is_named_when_it_is_loaded(monkeypatch, tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "plain")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    (folder / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(folder)
    with pytest.raises(HomeworkError, match="plain has no chat template: choose an instruct model"):
        cot.load(folder)


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (("Convert 46 ft to m.", "1 ft is 0.305 m. <answer>14</answer>"), "no equation"),
        ((Dataset("valid")[0][0], RIGHT), "a question of valid"),
        (("Convert 50 ft to m.", RIGHT), "computes with no number of its question"),
        ("Convert 46 ft to m.", "not two texts"),
    ],
)
def test_a_wrong_worked_example_is_named(example, words):
    with pytest.raises(HomeworkError, match=words):
        reasoning_check.check_worked_example(example, Dataset("valid"))


# --- the rule ---


def rule(*without: str) -> Callable[[Completion, float], str | None]:
    """A rule like the solution's, without some of its parts."""

    def find_fault(completion: Completion, correct: float) -> str | None:
        text, equations = completion.text, find_equations(completion.text)
        answer = parse_answer(text if "pair" not in without else f"{text.split('</answer>')[0]}</answer>")
        tolerance = 0.05 if "1 %" in without else 0.01
        faults = {
            "EOS": not completion.ended,
            "pair": answer != answer,
            "end": not text.endswith("</answer>"),
            "equation": not equations,
            "holds": not all(equation.holds() for equation in equations),
            "result": bool(equations) and not is_answer_valid(answer, equations[-1].result, 0.005),
            "right": not is_answer_valid(answer, correct, tolerance),
        }
        return next((name for name, is_fault in faults.items() if is_fault and name not in without), None)

    return find_fault


RULES = {
    "truncated texts": (("EOS",), "cut at the cap"),
    "a lenient parser": (("pair", "end"), "no closing tag|two answers"),
    "text after the answer": (("end",), "goes on after the answer"),
    "bare answers": (("equation",), "no equation"),
    "wrong arithmetic": (("holds",), "wrong by 2 %"),
    "the tag holds another result": (("result",), "another result"),
    "5 % in place of 1 %": (("1 %",), "which a wrong factor makes"),
    "any answer": (("right",), "is wrong"),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_lacks_a_part_is_named(name):
    without, words = RULES[name]
    with pytest.raises(HomeworkError, match=words):
        reasoning_check.check_find_fault(rule(*without))


def test_the_whole_rule_passes_and_one_that_refuses_all_does_not():
    reasoning_check.check_find_fault(rule())
    reasoning_check.check_find_fault(datagen.find_fault)
    with pytest.raises(HomeworkError, match="it is right"):
        reasoning_check.check_find_fault(lambda completion, correct: "no")
    with pytest.MonkeyPatch.context() as patch:
        for module in (datagen, reasoning_check):
            patch.setattr(
                module, "is_answer_valid", lambda answer, correct, tolerance=0.05: is_answer_valid(answer, correct)
            )
        with pytest.raises(HomeworkError, match=r"is_answer_valid \(task 2\) ignores its relative_tolerance"):
            reasoning_check.check_find_fault(datagen.find_fault)
    with pytest.raises(HomeworkError, match="a few words, or None"):
        reasoning_check.check_find_fault(lambda completion, correct: rule()(completion, correct) is not None or None)


def test_a_rule_that_reads_an_exponent_as_a_unit_is_named():
    def find_fault(completion: Completion, correct: float) -> str | None:
        read = re.sub(r"(?<=\d)[eE][+-]?\d+", "", completion.text.partition("<answer>")[0])
        is_wrong = not all(equation.holds() for equation in find_equations(read))
        return "wrong equation" if is_wrong else rule()(completion, correct)

    with pytest.raises(HomeworkError, match=r"3.05e-1.*wrong equation; it is right"):
        reasoning_check.check_find_fault(find_fault)


# --- the selection ---


SELECTIONS = {
    "the first text alone": (lambda q, a, texts, most: [(q, a, text) for text in texts[:1]], "gives 1 rows of 4 texts"),
    "all texts": (lambda q, a, texts, most: [(q, a, text) for text in texts][:most], "one chain twice"),
    "the model's answer as label": (
        lambda q, a, texts, most: [(q, parse_answer(text), text) for text in texts[:1]],
        "train has 14.3256"),
    "a chain that nobody sampled": (
        lambda q, a, texts, most: [(q, a, f"1 * {a} = {a}. <answer>{a}</answer>")], "no accepted sample"),
    "no row for a missing text": (lambda q, a, texts, most: [(q, a, texts[0])], "gives 1 rows of 4 texts"),
    "another question": (lambda q, a, texts, most: [("so", a, text) for text in texts[:1]], "a row about"),
    "nothing returned": (lambda q, a, texts, most: None, "select_rows gives None: it must be a list of rows"),
    "pairs": (lambda q, a, texts, most: [(q, text) for text in texts[:1]], "a row is"),
}  # fmt: skip


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_wrong_selection_is_named(name):
    select_rows, words = SELECTIONS[name]
    with pytest.raises(HomeworkError, match=words):
        reasoning_check.check_select_rows(select_rows)


def test_the_selection_of_the_solution_passes():
    reasoning_check.check_select_rows(datagen.select_rows)
    reasoning_check.check_selected([("so?", 14.33, RIGHT)], "so?", 14.33, [f" {RIGHT}"])  # stripped, as a row has to be


# --- the rows ---


def spoil(reasoning: str | None = None, question: str | None = None, answer: float | None = None) -> list:
    """A row about the first question of train, one of its parts replaced."""
    asked, correct = Dataset("train")[0]
    right = f"1 * {correct:.10g} = {correct:.10g}. <answer>{correct:.10g}</answer>"
    return [question or asked, correct if answer is None else answer, (reasoning or "{right}").format(right=right)]


ROWS = {
    "role text": (spoil("assistant\n{right}"), "a role of the chat"),
    "a truncated row": (spoil("1 * 5 = 5. <answer>5"), "no answer can be read"),
    "text after the answer": (spoil("{right} so"), "goes on after the answer"),
    "a bare answer": (spoil("<answer>19000000000</answer>"), "no equation"),
    "a wrong equation": (spoil("2 * 3 = 7. <answer>7</answer>"), "the equation 2\\*3=7 is wrong"),
    "an answer 3 % off": (spoil("1.03 * 19000000000 = 19570000000. <answer>19570000000</answer>"), "not within 1 %"),
    "the model's answer as label": (spoil(answer=1.9e10 * 1.01), "the model's own is no label"),
    "a question of valid": (spoil(question=Dataset("valid")[0][0]), "no question of train"),
    "a space at its start": (spoil(" {right}"), "begins or ends with white space"),
    "a pair": (["How many g in 6 kg?", 6000.0], "expected \\[question, answer, reasoning\\]"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_wrong_row_stops_the_training_before_it_begins(tmp_path, name):
    row, words = ROWS[name]
    path = tmp_path / "rft.json"
    path.write_text(json.dumps([row]))
    with pytest.raises(HomeworkError, match=words):
        rft.read_rows(str(path))


def test_a_row_that_stands_twice_is_named(tmp_path):
    path = tmp_path / "rft.json"
    path.write_text(json.dumps([spoil(), spoil()]))
    with pytest.raises(HomeworkError, match=r"row 1 of .* the same row stands before it"):
        rft.read_rows(str(path))


def test_right_rows_pass_and_few_chains_are_said(tmp_path, capsys):
    path = tmp_path / "rft.json"
    path.write_text(json.dumps([spoil()]))
    assert len(rft.read_rows(str(path))) == 1
    assert "rows with reasons: 1, of 1 questions, 0% of train" in capsys.readouterr().out


def test_no_rows_say_how_to_make_them(tmp_path):
    with pytest.raises(HomeworkError, match=r"homework.datagen generate"):
        rft.read_rows(str(tmp_path / "rft.json"))


# --- the sampling ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0}, "nearly the same"),
        ({"temperature": 0.2}, "nearly the same"),
        ({"temperature": 9}, "nearly all wrong"),
        ({"oversample": 1}, "--oversample must be at least 2"),
        ({"most": 0}, "--most 1"),
        ({"output_json": "/nowhere/rft.json"}, "give a file .json in a folder that exists"),
        ({"output_json": "rft.txt"}, "give a file .json"),
    ],
)
def test_senseless_sampling_is_refused_before_anything_is_loaded(monkeypatch, options, words):
    monkeypatch.setattr(cot, "load", lambda checkpoint: pytest.fail("the base was loaded"))
    with pytest.raises(HomeworkError, match=words):
        datagen.generate_dataset(**options)


def test_two_adapters_that_are_too_large_together_are_refused_before_the_first_step(tmp_path, monkeypatch, llm):
    """Each would fit the zip alone: found before the training, not when the zip is made."""
    from homework.sft import add_lora
    from homework.training.recipe import DEFAULT_RECIPE

    model = add_lora(llm.reload_model(), DEFAULT_RECIPE, seed=0)
    code = tmp_path / "homework"
    (code / "sft_model").mkdir(parents=True)
    (code / "sft_model" / "adapter_model.safetensors").write_bytes(b"0" * 2_000_000)
    monkeypatch.setattr(adapter, "CODE", code)
    monkeypatch.setattr(adapter, "ZIP_LIMIT", 2_100_000)
    with pytest.raises(HomeworkError, match="both adapters and the code"):
        adapter.check_disk_space(model, tmp_path, tmp_path, "rft")
    adapter.check_disk_space(model, tmp_path, tmp_path, "sft")  # that one takes the place of the first
