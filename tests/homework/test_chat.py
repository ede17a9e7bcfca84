"""Talking to a model: which tokens are marked, who answers, and how a session ends."""

import copy
import io
import math
import re
import sys
from types import SimpleNamespace

import pytest
import torch

from homework import chat
from homework.base_llm import BaseLLM, Completion
from homework.chat import Reply, Token, ask, render_reply, show_token, token_probabilities, token_texts
from homework.common.errors import HomeworkError
from homework.common.zip_contents import ADAPTER_FILES, CONFIG

QUESTION = "How many m are 2 km?"
TEXT = " <answer>2000</answer>"


class Planted:
    """Writes `ids` after every prompt, each with its planted probability; all else is the real model's."""

    def __init__(self, real, ids: list[int], probabilities: list[float]) -> None:
        self.real, self.ids, self.probabilities = real, ids, probabilities
        self.asked: list[list[int]] = []

    def __getattr__(self, name):
        return getattr(self.real, name)

    def generate(self, input_ids, **_):
        self.asked += input_ids.tolist()
        return torch.cat([input_ids, torch.tensor([self.ids] * len(input_ids))], dim=1)

    def __call__(self, input_ids):
        logits = torch.full((*input_ids.shape, self.real.config.vocab_size), -1e9)
        logits[..., 0] = 0.0  # where nothing is planted, no written token has any probability
        first = len(self.asked[-1])
        for t in range(first, input_ids.shape[1]):
            probability = self.probabilities[t - first]
            logits[0, t - 1, 0] = math.log(1 - probability)
            logits[0, t - 1, self.ids[t - first]] = math.log(probability)
        return SimpleNamespace(logits=logits)


@pytest.fixture
def plant(llm):
    """`plant([0.9, …])`: a model that writes TEXT, EOS and two more EOS as padding, with these probabilities."""

    def planted(probabilities: list[float]) -> BaseLLM:
        eos = llm.tokenizer.eos_token_id
        ids = [*llm.tokenizer(TEXT, add_special_tokens=False)["input_ids"], eos, eos, eos]
        stubbed = copy.copy(llm)
        stubbed.model = Planted(llm.model, ids, probabilities)
        return stubbed

    return planted


@pytest.fixture
def session(command, llm, monkeypatch, tmp_path):
    """`session("--seed 1", "question\\n") -> (exit code, stdout, stderr)`: the command, questions in a pipe."""
    monkeypatch.setattr(chat, "BaseLLM", lambda checkpoint: llm)
    monkeypatch.setattr(chat, "ADAPTER_FOLDER", tmp_path / "sft_model")

    def call(line: str, questions: str):
        monkeypatch.setattr(sys, "stdin", io.StringIO(questions))
        return command(chat.chat, line)

    return call


@pytest.fixture
def terminal(command, session, monkeypatch):
    """`terminal(["question", EOFError])`: the same, typed line by line; an exception is what a key raises."""

    def call(lines: list):
        typed = iter(lines)

        def answer_prompt(prompt: str) -> str:
            print(prompt, end="")
            line = next(typed)
            if isinstance(line, str):
                return line
            raise line

        monkeypatch.setattr("builtins.input", answer_prompt)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        return command(chat.chat, "")

    return call


# --- probabilities and marks ---


def test_the_probability_of_a_token_stands_one_position_before_it():
    """T = 4, V = 3; the prompt is two tokens."""
    logits = torch.tensor([[9.0, 0, 0], [math.log(2), 0, 0], [0, 0, math.log(6)], [0, 9, 0]])
    assert token_probabilities(logits, [1, 2, 0, 2], 2) == pytest.approx([2 / 4, 6 / 8])
    assert token_probabilities(logits, [1, 2, 0, 2], 4) == []


def test_exactly_the_unsure_tokens_are_marked(plant):
    #       Ġ<    answer  >    2     0     0    0     </   answer  >    EOS
    sure = [0.99, 0.99, 0.99, 0.31, 0.51, 0.9, 0.02, 0.9, 0.9, 0.9, 0.499]
    (reply,) = ask(plant([*sure, 0.1, 0.1]), QUESTION)
    assert [token.probability for token in reply.tokens] == pytest.approx(sure, rel=1e-3)
    assert render_reply(reply, colour=False).splitlines() == [
        "   <answer>[2|0.31]00[0|0.02]</answer>[<|im_end|>|0.50]",
        "    answer 2000; ended by itself (EOS)",
    ]
    assert render_reply(reply, colour=True).splitlines()[0].count("\033[7;33m") == 3


def test_what_is_no_probability_is_marked_too():
    assert show_token(Token("2", math.nan), colour=False) == "[2|nan]"
    assert show_token(Token("2", 0.5), colour=False) == "2"


def test_a_text_that_did_not_end_says_so():
    reply = Reply([Token("two\n", 0.9), Token("kilo\n", 0.1)], math.nan, ended=False)
    assert render_reply(reply, colour=False).splitlines() == [
        "  two",
        "  [kilo\\n|0.10]",
        "    no answer can be read; cut at the cap of 2 tokens",
    ]


def test_a_model_does_not_control_the_terminal():
    assert show_token(Token("\033[2J\rµ", 0.9), colour=True) == "\\x1b[2J\\rµ"


def test_a_character_of_several_tokens_stands_at_its_last_one(bundled_tokenizer):
    ids = bundled_tokenizer("2 €", add_special_tokens=False)["input_ids"]
    texts = token_texts(bundled_tokenizer, ids)
    assert texts[-3:] == ["", "", "€"] and "".join(texts) == "2 €"
    assert token_texts(bundled_tokenizer, ids[:-1])[-1] == "\ufffd", "half a character at the end is not hidden"


def test_the_probabilities_are_those_of_generation(llm):
    prompt = torch.tensor([llm.encode_prompt(QUESTION)])
    more = {"max_new_tokens": llm.max_new_tokens, "do_sample": False, "eos_token_id": 2, "pad_token_id": 2}
    output = llm.model.generate(prompt, output_scores=True, return_dict_in_generate=True, **more)
    written = output.sequences[0, prompt.shape[1] :]
    expected = [scores[0].softmax(-1)[token].item() for scores, token in zip(output.scores, written, strict=True)]
    (reply,) = ask(llm, QUESTION)
    assert [token.probability for token in reply.tokens] == pytest.approx(expected, abs=1e-4)
    assert "".join(token.text for token in reply.tokens).startswith(llm.generate(QUESTION))


def test_another_class_is_asked_in_its_own_way(plant):
    class Verbose(BaseLLM):
        def format_prompt(self, question: str) -> str:
            return f"Q: {question} A:"

        def parse_answer(self, text: str) -> float:
            return 7.0 if text == TEXT else math.nan

    llm = plant([0.9] * 13)
    llm.__class__ = Verbose
    assert [reply.answer for reply in ask(llm, QUESTION, 0.7, samples=2)] == [7.0, 7.0]
    assert llm.model.asked == [llm.tokenizer(f"Q: {QUESTION} A:")["input_ids"]] * 2


def test_generation_past_the_model_is_named(llm, monkeypatch):
    monkeypatch.setattr(BaseLLM, "complete_batch", lambda self, rows, *_: [Completion("x", True)] * len(rows))
    with pytest.raises(HomeworkError, match=r"1 texts, but self.model.generate wrote 0: see complete_batch"):
        ask(llm, QUESTION)


# --- sessions ---


def test_a_pipe_is_answered_line_by_line_without_a_prompt_sign(session, llm):
    code, out, err = session("", f"{QUESTION}\n\n   \n 6 kg in g? \nquit\nnever asked\n")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1] == "[token|0.31] marks a token that the model gave a probability below 0.5"
    assert [line for line in lines[2:] if not line.startswith("  ")] == [QUESTION, "6 kg in g?"]
    assert sum("; ended by itself" in line or "; cut at the cap" in line for line in lines) == 2
    assert chat.PROMPT not in out and "\033" not in out


def test_nothing_asked_nothing_answered(session):
    code, out, err = session("", "")
    assert (code, err) == (0, "") and len(out.splitlines()) == 2


def test_a_seed_gives_the_same_samples(session):
    first, again, other = (session(f"--temperature 2 --samples 3 --seed {seed}", QUESTION)[1] for seed in (5, 5, 6))
    assert first == again != other
    *texts, rest = re.split(
        r"^    (?:answer|no answer).*\n", first, flags=re.MULTILINE
    )  # a text may have several lines
    assert len(set(texts)) == len(texts) == 3 and not rest


def test_a_question_that_is_too_long_does_not_end_the_session(session):
    code, out, err = session("", f"{'word ' * 300}\n{QUESTION}\n")
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.startswith("  not asked: ")]
    assert "but the model reads 1 to 255" in line
    assert out.index(line) < out.index(QUESTION) < out.index("    ", out.index(QUESTION))


def test_a_terminal_has_a_prompt_sign_and_ctrl_d_ends(terminal):
    code, out, _ = terminal([QUESTION, "", EOFError()])
    assert code == 0 and out.count(chat.PROMPT) == 3 and "Ctrl-D ends" in out and QUESTION not in out


def test_ctrl_c_at_the_prompt_leaves(terminal):
    code, _, err = terminal([KeyboardInterrupt()])
    assert (code, err) == (130, "stopped\n")


@pytest.fixture
def press_ctrl_c_once(monkeypatch):
    """The first answer of the test is interrupted."""
    keys, complete = [KeyboardInterrupt], BaseLLM.complete

    def interrupted(self, *arguments):
        if keys:
            raise keys.pop()
        return complete(self, *arguments)

    monkeypatch.setattr(BaseLLM, "complete", interrupted)


def test_ctrl_c_stops_an_answer_and_not_the_session(terminal, press_ctrl_c_once):
    code, out, _ = terminal([QUESTION, QUESTION, "quit"])
    before, after = out.split("\n  stopped\n")
    assert code == 0 and "EOS" not in before and "; " in after


def test_ctrl_c_ends_a_pipe(session, press_ctrl_c_once):
    code, _, err = session("", f"{QUESTION}\n{QUESTION}\n")
    assert (code, err) == (130, "stopped\n")


@pytest.mark.parametrize(("variable", "mark"), [({}, "\033[7;33mtoken\033[0m"), ({"NO_COLOR": "1"}, "[token|0.31]")])
def test_colours_are_for_terminals_that_want_them(terminal, monkeypatch, variable, mark):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert mark in terminal([EOFError()])[1]


# --- who is asked ---


def test_without_an_adapter_the_base_is_asked_and_said_so(session, tmp_path):
    first = session("", "")[1].splitlines()[0]
    assert first == f"asking the base model: there is no adapter in {tmp_path / 'sft_model'}"


@pytest.fixture
def adapter_folder(tmp_path, llm, monkeypatch):
    """A folder with the names of an adapter's files, and what `load` was called with."""
    loaded = []
    monkeypatch.setattr(chat, "load", lambda *given: loaded.append(given) or llm)
    folder = tmp_path / "sft_model"
    folder.mkdir()
    for name in ADAPTER_FILES:
        (folder / name).touch()
    return folder, loaded


def test_an_adapter_is_asked_and_said_so(session, adapter_folder):
    folder, loaded = adapter_folder
    assert session("--checkpoint some/base", "")[1].splitlines()[0] == f"asking the adapter in {folder}"
    assert loaded == [(folder, "some/base")]


def test_the_base_is_asked_on_request_although_there_is_an_adapter(session, adapter_folder):
    assert session("--base", "")[1].splitlines()[0] == "asking the base model (--base)"
    assert adapter_folder[1] == []


def test_half_an_adapter_is_an_error_and_not_the_base(session, tmp_path):
    (tmp_path / "sft_model").mkdir()
    (tmp_path / "sft_model" / CONFIG).write_text("{}")
    code, _, err = session("", QUESTION)
    assert code == 1 and "no trained adapter: " in err and "adapter_model.safetensors is missing" in err


def test_an_adapter_that_is_named_and_not_there_is_an_error(session, tmp_path):
    code, _, err = session(f"--adapter {tmp_path / 'nowhere'}", QUESTION)
    assert code == 1 and err.startswith("error: no trained adapter: ") and len(err.splitlines()) == 1


def test_a_trained_adapter_answers(session, trained):
    code, out, _ = session(f"--adapter {trained.folder}", QUESTION)
    assert code == 0 and out.startswith(f"asking the adapter in {trained.folder}\nbase model: data/base_model")
    assert "    answer " in out and "; ended by itself (EOS)" in out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--base --adapter x", "--base and --adapter exclude each other"),
        ("--base --cot", "--base and --cot exclude each other"),
        ("--rft --cot", "--cot and --rft exclude each other"),
        ("--temperature -1", "temperature must be 0 or within 0.01 to 100, got -1.0"),
        ("--samples 0 --temperature 1", "--samples must be at least 1, got 0"),
        ("--samples 3", "greedy texts are all the same"),
    ],
)
def test_senseless_flags_are_refused_before_anything_is_loaded(session, line, message):
    code, out, err = session(line, QUESTION)
    assert code == 1 and err.startswith("error: ") and message in err and out == ""


@pytest.mark.parametrize("name", ["format_prompt", "complete_batch", "parse_answer"])
def test_a_gap_is_one_line(session, monkeypatch, name):
    def gap(*_):
        raise NotImplementedError(f"task 1: {name} is not implemented yet")

    monkeypatch.setattr(BaseLLM, name, gap)
    code, _, err = session("", QUESTION)
    assert code == 1 and err.startswith(f"error: NotImplementedError: task 1: {name} is not implemented yet")
    assert "Traceback" not in err
