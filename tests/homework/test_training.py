"""The training run: its loss, its adapter, its accuracy, and what stops it."""

import json
import os
import re
import secrets
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel, Trainer

from grader.units import draw_questions
from homework import sft
from homework.base_llm import BaseLLM
from homework.common.base_model import BUNDLED_NAME, ROOT
from homework.common.errors import HomeworkError
from homework.data import BenchmarkResult, Dataset
from homework.guards.watchdog import find_bare_layers, lora_formula
from homework.sft import Collator, TokenizedDataset, add_lora, format_example, load, train_model
from homework.training import run_dir
from homework.training.adapter import ADAPTER_FILES, prepare_output
from homework.training.batches import select_supervised
from homework.training.recipe import DEFAULT_RECIPE, choose_recipe
from homework.training.start import default_output
from homework.training.trainer import HomeworkArguments
from tests.support.bundled import bundled_steps, card_accuracy

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def rows(bundled_tokenizer):
    return TokenizedDataset(bundled_tokenizer, [Dataset("train")[index] for index in range(64)], format_example)


@pytest.fixture
def lora_model():
    """The bundled model with LoRA whose B is not zero, so that every adapter weight has a gradient."""
    model = add_lora(BaseLLM().model, DEFAULT_RECIPE, seed=0)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.train()


def supervised(rows) -> dict[str, torch.Tensor]:
    """A batch as the Trainer makes it."""
    return select_supervised(Collator(pad_id=2)(rows))


def gradients(model) -> torch.Tensor:
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    model.zero_grad()
    return flat


# --- the loss ---


def test_supervised_logits_give_the_dense_loss_and_gradients(lora_model, rows):
    batch = supervised(rows[:32])
    assert next(iter(batch)) == "input_ids" and batch["labels"].shape == batch["input_ids"].shape
    assert batch["logits_to_keep"].shape == batch["shift_labels"].shape
    lean = lora_model(**batch)
    lean.loss.backward()
    lean_gradients = gradients(lora_model)
    dense = lora_model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")})
    dense.loss.backward()
    assert lean.logits.shape[1] < dense.logits.shape[1] / 2
    assert lean.loss.item() == pytest.approx(dense.loss.item(), rel=1e-6)
    torch.testing.assert_close(lean_gradients, gradients(lora_model), rtol=1e-4, atol=1e-6)


def test_the_loss_is_the_mean_negative_log_probability_of_the_labels(lora_model, rows):
    row = rows[0]
    batch = supervised([row])
    logits = lora_model(input_ids=torch.tensor([row["input_ids"]])).logits.log_softmax(-1)[0]
    by_hand = [-logits[t - 1, label].item() for t, label in enumerate(row["labels"]) if label != -100]
    assert lora_model(**batch).loss.item() == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-5)


def test_padding_changes_nothing_and_keeps_the_learned_eos(rows):
    batch = supervised(rows[:8])
    for index, row in enumerate(rows[:8]):
        length = len(row["labels"])
        assert batch["labels"][index].tolist() == row["labels"] + [-100] * (batch["labels"].shape[1] - length)
        assert batch["attention_mask"][index].sum() == length
        assert batch["labels"][index, length - 1] == 2  # EOS, though it is the pad id too


def test_a_wrong_collator_would_be_noticed(lora_model, rows):
    """The negative control of the equality above: positions that are off by one give another loss."""
    batch = supervised(rows[:32])
    right = lora_model(**batch).loss.item()
    batch["logits_to_keep"] = (batch["logits_to_keep"] + 1).clamp(max=batch["input_ids"].shape[1] - 1)
    assert abs(lora_model(**batch).loss.item() - right) > 0.1


# --- the run ---


def quick(folder, **arguments) -> dict[str, torch.Tensor]:
    train_model(output_dir=str(folder), questions=1, **({"max_steps": 3} | arguments))
    return load_file(folder / WEIGHTS)


@pytest.mark.everything
def test_the_same_seed_gives_the_same_adapter(tmp_path):
    quick(tmp_path / "a", seed=7)
    quick(tmp_path / "b", seed=7)
    quick(tmp_path / "c", seed=8)
    first, again, other = ((tmp_path / name / WEIGHTS).read_bytes() for name in "abc")
    assert first == again != other


@pytest.mark.everything
def test_micro_batches_give_the_adapter_of_the_whole_batch(tmp_path):
    whole, parts = quick(tmp_path / "a"), quick(tmp_path / "b", micro_batch_size=8)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-2, atol=2e-4)


def test_gradient_checkpointing_still_moves_every_lora_b(tmp_path):
    weights = quick(tmp_path / "a", gradient_checkpointing=True, max_steps=1)
    assert all(tensor.any() for name, tensor in weights.items() if "lora_B" in name)


def tiny_gpt2(folder: Path, tokenizer, positions: int) -> str:
    """A GPT-2 of random weights: its linear layers are transformers' Conv1D, its positions are learned."""
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": positions, "vocab_size": len(tokenizer)}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_gpt2_trains_and_its_layers_count(tmp_path, bundled_tokenizer, capsys):
    base = tiny_gpt2(tmp_path / "gpt2", bundled_tokenizer, positions=256)
    weights = quick(tmp_path / "a", checkpoint=base, max_steps=1)
    assert all(tensor.any() for name, tensor in weights.items() if "lora_B" in name)
    model = add_lora(BaseLLM(base).model, DEFAULT_RECIPE, seed=0)
    assert lora_formula(model, rank=2) == 2 * (32 + 96 + 32 + 32 + 32 + 128 + 128 + 32)
    assert "adapter saved" in capsys.readouterr().out and not find_bare_layers(model)


def test_a_base_with_too_few_positions_is_named_before_training(tmp_path, bundled_tokenizer):
    base = tiny_gpt2(tmp_path / "short", bundled_tokenizer, positions=32)
    with pytest.raises(HomeworkError, match=r"short reads 32 tokens, but a question of the data has \d\d, without its"):
        quick(tmp_path / "a", checkpoint=base)


def test_inputs_require_gradients_on_every_device():
    model = add_lora(BaseLLM().model, DEFAULT_RECIPE, seed=0)
    assert model.get_input_embeddings()(torch.tensor([[5]])).requires_grad


def test_flags_reach_the_run(tmp_path, capsys):
    quick(tmp_path / "a", rank=4, alpha=8, max_steps=2)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert "step    2/2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "alpha"), [({}, 64), ({"rank": 4}, 16), ({"rank": 4, "alpha": 64}, 64), ({"alpha": 8}, 8)]
)
def test_alpha_follows_the_rank_unless_given(given, alpha, capsys):
    recipe = choose_recipe(BUNDLED_NAME, {"rank": None, "alpha": None, "epochs": None, **given})
    assert (recipe.rank, recipe.alpha) == (given.get("rank", 16), alpha)
    assert capsys.readouterr().out.endswith(f"rank {recipe.rank}, alpha {alpha}\n")


def test_a_rank_alone_sets_the_adapters_alpha(tmp_path):
    quick(tmp_path / "a", rank=4, max_steps=1)
    assert json.loads((tmp_path / "a" / "adapter_config.json").read_text())["lora_alpha"] == 16


def test_a_quick_run_leaves_the_trained_adapter_alone(tmp_path, monkeypatch, capsys):
    trained = tmp_path / "homework" / "sft_model"
    trained.mkdir(parents=True)
    for name in ADAPTER_FILES:
        (trained / name).write_text("of an hour's training")
    monkeypatch.setattr(sft, "ADAPTER_FOLDER", trained)
    train_model(max_steps=1, questions=1)
    assert {path.name: path.read_text() for path in trained.iterdir()} == dict.fromkeys(
        ADAPTER_FILES, "of an hour's training"
    )
    assert sorted(path.name for path in (run_dir.RUNS / "quick").iterdir()) == sorted(ADAPTER_FILES)
    out = capsys.readouterr().out
    assert f"a quick run: its adapter goes to {run_dir.RUNS / 'quick'}, and sft_model stays as it is" in out
    assert default_output(trained, None) == trained


def test_one_device_even_where_two_are_seen(tmp_path):
    arguments = HomeworkArguments(output_dir=str(tmp_path))
    arguments._n_gpu = 2
    assert arguments.n_gpu == 1 and arguments.train_batch_size == arguments.per_device_train_batch_size


def test_the_output_shows_what_a_healthy_run_shows(trained):
    first, last, share = map(float, re.search(r"loss ([\d.]+) -> ([\d.]+) \(([\d.]+) of", trained.output).groups())
    assert first > 1 and 0 < last < first / 10 and share < 0.1
    assert f"gradient norm finite in {bundled_steps()} of {bundled_steps()} steps" in trained.output
    shortest, longest = map(int, re.search(r"; (\d+) to (\d+) of them supervised", trained.output).groups())
    assert 8 <= shortest <= longest <= 25
    assert "label length = input length in 1000 of 1000 rows" in trained.output
    assert "on 950 questions of valid" in trained.output


# --- the accuracy ---


def accuracy(llm: BaseLLM, rows: list[tuple[str, float]]) -> float:
    return BenchmarkResult.from_answers(rows, llm.answer(*(question for question, _ in rows))).accuracy


# Three standard deviations of a share near 0.8 on so many questions, and of the seed.
NOISE = {1000: 0.045, 200: 0.09}


@pytest.mark.everything
def test_accuracy_is_that_of_the_model_card_where_nobody_tuned(trained):
    llm, seed = load(trained.folder), secrets.token_hex(8)
    sets = {
        name: [(question.text, question.fact.answer) for question in draw_questions(name, 1000, seed)]
        for name in ("hidden", "novel")
    }
    foreign = json.loads((ROOT / "tests" / "foreign_questions.json").read_text(encoding="utf-8"))
    sets |= {"valid": Dataset("valid").rows, "wording of others": [tuple(row) for row in foreign]}
    for name, rows in sets.items():
        assert accuracy(llm, rows) >= card_accuracy(name) - NOISE[len(rows)], f"{name}, seed {seed}"


# --- what stops a run before it wastes time ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "--epochs must be positive"),
        ({"learning_rate": -1.0}, "--learning-rate must be positive"),
        ({"rank": 0}, "--rank must be positive"),
        ({"rank": 65}, "--rank must be 64 or less, or the grader refuses the adapter; got 65"),
        ({"alpha": 2000}, "--alpha must be 1024 or less, or the grader refuses the adapter; got 2000"),
        ({"micro_batch_size": 5}, "--micro-batch-size must divide the batch size 32"),
        ({"max_steps": 0}, "--max-steps must be positive"),
        ({"questions": 0}, "--questions must be positive"),
        ({"seed": -1}, "--seed must be within 0"),
        ({"batch_size": 5000}, "a batch of 5000 rows is more than the 1000 training rows: lower --batch-size"),
        ({"learning_rate": float("nan")}, "--learning-rate must be positive"),
        ({"checkpoint": "/no/such"}, "there is no checkpoint folder"),
    ],
)
def test_senseless_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(HomeworkError, match=message):
        train_model(output_dir=str(tmp_path / "a"), **arguments)
    assert not list(tmp_path.glob("a/*"))


@pytest.mark.parametrize("arguments", [{"rank": 65}, {"alpha": 2000}, {"epochs": 0}, {"seed": -1}])
def test_senseless_numbers_are_refused_before_the_base_is_loaded(tmp_path, monkeypatch, arguments):
    monkeypatch.setattr(sft, "BaseLLM", lambda checkpoint: pytest.fail("the base model was loaded"))
    with pytest.raises(HomeworkError, match=f"--{next(iter(arguments))} must be "):
        train_model(output_dir=str(tmp_path / "a"), **arguments)
    assert not (tmp_path / "a").exists()


def test_an_output_that_cannot_be_written_stops_the_run_first(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path, tmp_path / "file", tmp_path / "file" / "below", "/proc/adapter"):
        with pytest.raises(HomeworkError, match=r"can't write to .*: correct that, or choose another --output-dir"):
            train_model(output_dir=str(folder))


def test_what_peft_writes_beside_an_adapter_is_no_foreign_file(tmp_path):
    (tmp_path / "README.md").write_text("library_name: peft")
    assert prepare_output(tmp_path) == tmp_path
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(HomeworkError, match=r"it holds notes\.md, which is no part of an adapter"):
        prepare_output(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write to a read-only folder")
def test_a_read_only_folder_stops_the_run_first(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(HomeworkError, match="Permission denied"):
        train_model(output_dir=str(tmp_path / "a"))


@pytest.mark.parametrize(("micro", "way_out"), [(8, "--micro-batch-size 4"), (1, "--gradient-checkpointing")])
def test_running_out_of_memory_names_the_way_out(tmp_path, monkeypatch, micro, way_out):
    def run_out(self, resume_from_checkpoint):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "train", run_out)
    with pytest.raises(HomeworkError, match=f"out of memory with {micro} rows at once: try {way_out}"):
        train_model(output_dir=str(tmp_path / "a"), micro_batch_size=micro)
