"""Loading, generating and parsing."""

import json
import math
import random
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import homework
from homework import base_llm
from homework.base_llm import BaseLLM, Completion, plan_batches
from homework.common.base_model import BUNDLED, pick_device
from homework.common.errors import HomeworkError
from homework.data import Dataset


@pytest.fixture(scope="module")
def llm() -> BaseLLM:
    return BaseLLM()


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    """Questions of many lengths, out of order."""
    questions = [Dataset("valid")[index][0] for index in range(40)]
    return random.Random(0).sample(questions, k=40)


# --- parsing ---


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("<answer>6000</answer>", 6000.0),
        (" <answer>1,234.5</answer> and more", 1234.5),
        ("<answer>1e-3</answer>", 0.001),
        ("<answer> -2 </answer>", -2.0),
        ("<answer>+.5</answer>", 0.5),
        ("<answer>1,234,567</answer>", 1234567.0),
    ],
)
def test_parse_reads_numbers(llm, text, number):
    assert llm.parse_answer(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "6000",
        "<answer></answer>",
        "<answer>inf</answer>",
        "<answer>nan</answer>",
        "<answer>1_000</answer>",
        "<answer>٣</answer>",
        "<answer>1,23</answer>",
        "<answer>5 km</answer>",
        "<answer>e5</answer>",
        "<answer>.</answer>",
        "<answer>+</answer>",
        "<answer>1e999</answer>",
        "<answer>0x10</answer>",
        "<answer>5",
        "5</answer>",
        "<answer>5</answer><answer>6</answer>",
        "<answer><answer>5</answer>",
    ],
)
def test_parse_gives_nan_and_never_a_number(llm, text):
    assert math.isnan(llm.parse_answer(text))


@given(st.text())
def test_parse_always_gives_a_float(text):
    value = BaseLLM.parse_answer(None, f"<answer>{text}</answer>")
    assert isinstance(value, float) and not math.isinf(value)


# --- generation ---


def test_a_batch_answers_as_one_by_one(llm, prompts):
    assert llm.batched_generate(prompts) == [llm.generate(prompt) for prompt in prompts]


def test_order_is_restored_over_many_batches(llm, prompts, monkeypatch):
    whole = llm.batched_generate(prompts)
    monkeypatch.setattr(base_llm, "plan_batches", lambda lengths, cap, budget: plan_batches(lengths, cap, budget=150))
    assert llm.batched_generate(prompts) == whole


def test_generation_leaves_the_tokenizer_as_it_was(llm, prompts):
    before = (llm.tokenizer.padding_side, llm.tokenizer.backend_tokenizer.to_str())
    llm.batched_generate(prompts[:5])
    assert (llm.tokenizer.padding_side, llm.tokenizer.backend_tokenizer.to_str()) == before


def test_the_prompt_is_not_echoed(llm):
    assert "6 kg" not in llm.generate("How many g are in 6 kg?")


@pytest.mark.parametrize("temperature", [0, 0.7])
@pytest.mark.parametrize("count", [1, 3])
def test_sequences_are_nested(llm, prompts, count, temperature):
    answers = llm.batched_generate(prompts[:4], num_return_sequences=count, temperature=temperature)
    assert [len(texts) for texts in answers] == [count] * 4
    assert all(isinstance(text, str) for texts in answers for text in texts)


def test_greedy_sequences_are_copies_and_sampled_ones_differ(llm, prompts):
    torch.manual_seed(0)
    (greedy,) = llm.batched_generate(prompts[:1], num_return_sequences=5)
    (sampled,) = llm.batched_generate(prompts[:1], num_return_sequences=20, temperature=2.0)
    assert greedy == [llm.generate(prompts[0])] * 5 and len(set(sampled)) > 5


def test_nothing_asked_nothing_answered(llm):
    assert llm.batched_generate([]) == [] and llm.answer() == []


@pytest.mark.parametrize("prompt", ["", "word " * 300])
def test_a_prompt_that_cannot_be_read_whole_is_refused(llm, prompt):
    with pytest.raises(HomeworkError, match="but the model reads 1 to 255"):
        llm.generate(prompt)


@pytest.mark.parametrize("arguments", [{"temperature": -1}, {"temperature": math.nan}, {"num_return_sequences": 0}])
def test_senseless_sampling_is_refused(llm, arguments):
    with pytest.raises(HomeworkError, match="must be"):
        llm.batched_generate(["How many?"], **arguments)


def test_what_is_no_list_of_texts_is_refused(llm):
    with pytest.raises(HomeworkError, match="must be a list of texts"):
        llm.batched_generate("How many g are in 6 kg?")
    with pytest.raises(HomeworkError, match="a prompt must be a text"):
        llm.answer(["How many g are in 6 kg?"])


def test_the_base_alone_answers_nothing(llm):
    result = homework.benchmark(llm, Dataset("valid"), 100)
    assert result.accuracy < 0.02 and len(result.samples) == 100


@given(st.lists(st.integers(1, 60)), st.integers(1, 40), st.integers(1, 400))
def test_batches_hold_every_row_once_within_the_budget(lengths, cap, budget):
    batches = plan_batches(lengths, cap, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * (max(lengths[i] for i in batch) + cap) <= budget


def test_sampled_sequences_stay_with_their_prompt(llm, monkeypatch):
    monkeypatch.setattr(llm, "complete", lambda prompts, _: [base_llm.Completion(prompt, True) for prompt in prompts])
    assert llm.batched_generate(["a", "b"], 2, temperature=1) == [["a", "a"], ["b", "b"]]


# --- checkpoints ---


def test_the_choice_is_argument_then_variable_then_bundled(tiny_checkpoint, monkeypatch, capsys):
    monkeypatch.setenv("HOMEWORK_CHECKPOINT", str(tiny_checkpoint))
    assert BaseLLM().name == "tiny-llama" and BaseLLM(BUNDLED).name == "data/base_model"
    monkeypatch.delenv("HOMEWORK_CHECKPOINT")
    assert BaseLLM(checkpoint=str(tiny_checkpoint)).name == "tiny-llama"
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("base model: tiny-llama (from HOMEWORK_CHECKPOINT) on ")
    assert printed[1].startswith("base model: data/base_model (given)")
    assert printed[2].startswith("base model: tiny-llama (given)")


def test_the_modules_checkpoint_is_what_is_loaded_without_an_argument(tiny_checkpoint, monkeypatch):
    assert base_llm.checkpoint == str(BUNDLED)
    monkeypatch.setenv("HOMEWORK_CHECKPOINT", str(tiny_checkpoint))
    assert BaseLLM(base_llm.checkpoint).name == BaseLLM().name == "tiny-llama"
    with pytest.raises(AttributeError, match=r"'homework.base_llm' has no attribute 'checkpiont'"):
        _ = base_llm.checkpiont


def damage(folder, how: str) -> None:
    if how == "no weights":
        (folder / "model.safetensors").unlink()
    elif how == "only a pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif how == "an adapter":
        (folder / "config.json").rename(folder / "adapter_config.json")
    elif how == "half the weights":
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    elif how == "a weight missing":
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "model.safetensors")
        weights.pop("model.norm.weight")
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    elif how == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    else:
        (folder / "config.json").write_text(json.dumps({"model_type": "no-such"}))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no weights", "can't read the weights of .*fetch it again"),
        (
            "only a pickle",
            "they are in .bin files only; pickles can run code and are never loaded: choose",
        ),
        ("an adapter", "copy is an adapter, not a base model: the checkpoint is the base that it was trained on"),
        ("half the weights", "can't read the weights of .*fetch it again"),
        ("a weight missing", "lacks 1 weights, first model.norm.weight"),
        ("no tokenizer", "has no tokenizer"),
        ("unknown model type", "can't read the (tokenizer|weights) of"),
    ],
)
def test_a_damaged_checkpoint_is_refused(tiny_checkpoint, tmp_path, how, message):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, folder)
    damage(folder, how)
    with pytest.raises(HomeworkError, match=message):
        BaseLLM(folder)


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "nowhere", "a/b/c"])
def test_a_missing_folder_is_not_taken_for_a_hub_name(name):
    with pytest.raises(HomeworkError, match="there is no checkpoint folder"):
        BaseLLM(name)


def test_a_hub_name_without_network_is_refused_at_once(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HomeworkError, match="can't reach the model hub for nobody/nothing"):
        BaseLLM("nobody/nothing")


# --- device ---


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_uses_bfloat16_only_where_it_is_native(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    device, dtype, reason = pick_device()
    assert (device, dtype) == ("cuda", expected) and "bfloat16" in reason


def test_a_cpu_uses_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device()[:2] == ("cpu", torch.float32)


def test_a_long_cap_stops_where_the_model_stops_to_read(llm, monkeypatch):
    """Else transformers warns and writes on, past the positions that the model has learned."""
    caps = []
    monkeypatch.setattr(BaseLLM, "max_new_tokens", 1000)
    monkeypatch.setattr(BaseLLM, "complete_batch", lambda self, rows, cap, temperature: caps.append(
        (max(map(len, rows)), cap)) or [Completion("", True)] * len(rows))  # fmt: skip
    llm.complete(["6 kg in g?", "How many apples are in a basket, and how many in two?"])
    assert caps and all(longest + cap == llm.context == 256 for longest, cap in caps)
