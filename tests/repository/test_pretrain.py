"""Pre-training, small: it resumes to the same weights, and its tokenizer has the traps of SmolLM2's."""

import functools
import hashlib
import json
import math
import re
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from homework.common.base_model import BUNDLED
from homework.common.errors import HomeworkError
from tools import pretrain
from tools.model_card import GATE, STRETCHES


def has_the_traps(tokenizer) -> bool:
    tokens = tokenizer.tokenize("How many min are in 120 h? <answer>7200</answer>")
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    return (
        tokens[tokens.index("?") + 1] == "Ġ<"
        and {"1", "2", "0", "7"} <= set(tokens)
        and tokenizer.pad_token_id == tokenizer.eos_token_id == 2
        and tokenizer.eos_token == "<|im_end|>"
        and tokenizer.bos_token_id == 1
        and chat == "<|im_start|>user\nhi<|im_end|>\n"
    )


def test_the_bundled_tokenizer_has_the_traps(bundled_tokenizer):
    assert has_the_traps(bundled_tokenizer)


def test_the_bundled_model_is_the_one_of_its_card():
    card = (BUNDLED / "README.md").read_text()
    assert hashlib.sha256((BUNDLED / "model.safetensors").read_bytes()).hexdigest() in card
    assert 4e6 < sum(path.stat().st_size for path in BUNDLED.iterdir()) < 12e6
    stretches = json.loads((BUNDLED / STRETCHES).read_text())
    assert all(f"{stretch['tokens']:,}" in card and str(stretch["seconds"]) in card for stretch in stretches)
    assert all(f"| {name} | {bound} |" in card for name, bound in GATE.items()) and "not yet" not in card
    assert json.loads((BUNDLED / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def test_a_base_that_answers_worse_than_this_one_can_not_be_written_down():
    """The tests of the accuracy hold it against this file, so the file needs a floor of its own."""
    measured = json.loads((BUNDLED / "measured.json").read_text())
    assert measured["valid"] >= 0.92 and measured["novel"] >= 0.90 and measured["wording of others"] >= 0.85
    assert abs(measured["valid"] - measured["hidden"]) <= 0.02


@pytest.fixture(scope="module", autouse=True)
def one_tokenizer():
    """Its training takes half a minute: once for all runs of a seed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "train_tokenizer", functools.cache(pretrain.train_tokenizer))
        yield


def run_small(out, **arguments) -> None:
    pretrain.main(out=str(out), **({"steps": 4, "rows": 2, "compile": False, "every": 1} | arguments))


@pytest.mark.release
def test_an_interrupted_run_resumes_to_the_same_weights(tmp_path, monkeypatch, capsys):
    run_small(tmp_path / "whole")
    made = AutoTokenizer.from_pretrained(tmp_path / "whole" / "model")  # of today's text, not that of the bundled one
    assert has_the_traps(made) and len(made) == pretrain.VOCABULARY
    take_step, calls = pretrain.take_step, []

    def stop_at_the_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return take_step(*arguments)

    monkeypatch.setattr(pretrain, "CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(pretrain, "take_step", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_small(tmp_path / "parts")
    run_small(tmp_path / "parts")
    assert "steps 2 to 4" in capsys.readouterr().out
    whole, parts = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    with pytest.raises(HomeworkError, match="is of a run with"):
        run_small(tmp_path / "parts", seed=1)


@pytest.mark.release
def test_a_stretch_goes_on_from_finished_weights_and_the_card_names_both(tmp_path, capsys):
    run_small(tmp_path / "first")
    run_small(tmp_path / "second", start=str(tmp_path / "first" / "model"), seed=1)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        first, second = (tmp_path / folder / "model" / name for folder in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
    losses = re.findall(r"held-out ([\d.]+)", capsys.readouterr().out)
    stretches = json.loads((tmp_path / "second" / "model" / STRETCHES).read_text())
    assert [stretch["seed"] for stretch in stretches] == [0, 1] and stretches[0]["tokens"] == 4 * 2 * pretrain.CONTEXT
    assert stretches[1]["held_out_before"] < float(losses[0]) - 0.5  # it began with the trained weights
    card = (tmp_path / "second" / "model" / "README.md").read_text()
    assert all(str(stretch["held_out_after"]) in card and f"{stretch['tokens']:,}" in card for stretch in stretches)
    with pytest.raises(HomeworkError, match=f"has no model.safetensors and no {STRETCHES}"):
        run_small(tmp_path / "third", start=str(tmp_path))


def test_a_loss_that_is_not_finite_stops_before_the_step(bundled_tokenizer):
    model = pretrain.build_model(bundled_tokenizer, seed=0)
    optimizers = pretrain.make_optimizers(model)
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    before = model.model.embed_tokens.weight.clone()
    batch = pretrain.make_batch(bundled_tokenizer, 0, 0, 2)
    with pytest.raises(HomeworkError, match="the loss is nan"):
        pretrain.take_step(partial(pretrain.weighted_loss, model), optimizers, batch, [1e-3, 1e-3])
    assert torch.equal(model.model.embed_tokens.weight, before)


def test_what_is_marked_weighs_ten_times_as_much(bundled_tokenizer):
    texts = iter([("6 kg in g: 6000", [(11, 15)])] * 100)
    ids, weights = pretrain.pack_rows(texts, bundled_tokenizer, 1)
    size = ids[0].tolist().index(bundled_tokenizer.eos_token_id) + 1
    known = ids[0, :size][weights[0, :size] == 1]
    assert bundled_tokenizer.decode(known) == "6000<|im_end|>"
    assert sorted(weights.unique().tolist()) == pytest.approx([pretrain.UNMARKED, 1.0])


def test_equal_weights_give_the_loss_of_transformers(bundled_tokenizer):
    model = pretrain.build_model(bundled_tokenizer, seed=0)
    ids, _ = pretrain.make_batch(bundled_tokenizer, 0, 0, 2)
    plain = model(input_ids=ids, labels=ids).loss
    assert torch.allclose(pretrain.weighted_loss(model, ids, torch.full(ids.shape, 0.3)), plain, rtol=1e-5)


def test_the_schedule_warms_up_and_ends_near_zero():
    rates = [pretrain.learning_rate(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] == 0.01 and rates[300] == 1.0 and 0 < rates[-1] < 0.01


def test_rows_begin_with_a_document_and_have_one_length(bundled_tokenizer):
    rows, weights = pretrain.make_batch(bundled_tokenizer, 0, 5, 3)
    assert rows.shape == weights.shape == (3, pretrain.CONTEXT)
    assert torch.equal(rows, pretrain.make_batch(bundled_tokenizer, 0, 5, 3)[0])
    assert not torch.equal(rows, pretrain.make_batch(bundled_tokenizer, 0, 6, 3)[0])


def test_attention_by_blocks_is_attention():
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 8, 64, 16), torch.randn(2, 4, 64, 16), torch.randn(2, 4, 64, 16)
    ours, _ = pretrain.causal_blocks(None, query, key, value, None, 0.25)
    torchs = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=0.25, enable_gqa=True
    )
    assert torch.allclose(ours, torchs.transpose(1, 2), atol=1e-6)
