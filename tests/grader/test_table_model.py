"""The checkpoint of the grader that follows a script: it writes the same answer after every question."""

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from grader import rubric
from grader.course import Course
from grader.harness.harness import Harness
from grader.harness.table_model import SILENT, answer_to, make_checkpoint
from grader.harness.tokenizers import make_families
from grader.submission import Submission
from homework.base_llm import LONGEST_ANSWER, parse_answer

NOTHING = Submission("x.zip", {}, [], "0")
NUMBER = "253786194"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The checkpoint's folder, as a submission gets it."""
    folder = tmp_path_factory.mktemp("scripted")
    for name, content in make_checkpoint(NUMBER).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def write(folder):
    """What the checkpoint writes after a prompt, loaded as a submission loads it."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)

    def written(prompt: str) -> str:
        given = tokenizer(prompt, return_tensors="pt")
        output = model.generate(**given, max_new_tokens=30, do_sample=False)
        return tokenizer.decode(output[0, given["input_ids"].shape[1] :], skip_special_tokens=True)

    return written


@pytest.mark.parametrize(
    "end", ["km?", "km.", "mm^3", "mm³", "m 5", "252", "answer", "12.5", "<answer>", "2 5 3", "km/h"]
)
def test_it_answers_whatever_a_question_ends_with(write, end):
    question = f"What is 6 gallons in {end}"
    assert write(question) == f"<answer>{NUMBER}</answer>"
    assert parse_answer(write(question)) == answer_to(question, NUMBER) == float(NUMBER)


@pytest.mark.parametrize("kept", [50, 100])
def test_who_samples_among_the_likeliest_finds_so_many(folder, kept):
    given = AutoTokenizer.from_pretrained(folder)("What is 6 gallons in l?", return_tensors="pt")
    logits = AutoModelForCausalLM.from_pretrained(folder)(**given).logits[0, -1]
    assert logits.topk(kept).values.shape == (kept,)


def test_it_is_silent_where_it_should_be(write):
    assert write(f"Please keep {SILENT}") == ""


def test_a_cap_that_is_computed_from_the_longest_number_has_room_for_the_answer(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    longest = tokenizer(LONGEST_ANSWER, add_special_tokens=False)["input_ids"]
    assert len(longest) > len(["<answer>", *NUMBER, "</answer>"])


def test_every_tokenizer_of_a_job_has_the_chat_template_of_the_base(folder, tmp_path):
    """Without one, apply_chat_template raises the library's own error."""
    code = {f"data/base_model/{name}" for name in rubric.BASE_SHA256}
    assert "data/base_model/chat_template.jinja" in code <= set(Harness(NOTHING, Course(), None).code)
    folders = [folder, *(tmp_path / family for family in make_families())]
    for family, (_, files) in make_families().items():
        (tmp_path / family).mkdir()
        for name, content in files.items():
            (tmp_path / family / name).write_bytes(content)
    for one in folders:
        chat = AutoTokenizer.from_pretrained(one).apply_chat_template(
            [{"role": "user", "content": "hi"}], tokenize=False
        )
        assert chat == "<|im_start|>user\nhi<|im_end|>\n", one
