"""Micro-batches from memory: as large as fits, never larger, and measured without leaving anything behind."""

import contextlib
import gc

import pytest
import torch

from homework.guards import reload_check
from homework.sft import Collator, add_lora, train_model
from homework.training import adapter, batches, callbacks, trainer
from homework.training.recipe import DEFAULT_RECIPE


@pytest.fixture
def model(llm):
    return add_lora(llm.reload_model(), DEFAULT_RECIPE, seed=0).train()


def supervised(rows):
    """A batch as the Trainer makes it."""
    return batches.select_supervised(Collator(2)(rows))


def test_the_whole_batch_where_it_fits_and_less_where_not(model, rows, monkeypatch, capsys):
    collate = supervised
    assert batches.choose_micro_batch(model, rows, collate, 32) == 32
    longest = max(rows.rows, key=lambda row: len(row["input_ids"]))
    one = batches.PEAK * batches.kept_bytes(model, collate([longest]))
    monkeypatch.setattr(batches, "budget_of", lambda device: 9 * one)
    assert batches.choose_micro_batch(model, rows, collate, 32) == 8
    assert "micro-batches of 8 rows" in capsys.readouterr().out
    monkeypatch.setattr(batches, "budget_of", lambda device: 0)
    assert batches.choose_micro_batch(model, rows, collate, 32) == 1


@contextlib.contextmanager
def nothing_left_behind():
    """No tensor that only the collector would free: the command line lets it rest, and it spoils recorded graphs."""
    with resting_collector():
        before = count_tensors()
        yield
        assert count_tensors() <= before


@contextlib.contextmanager
def resting_collector():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def count_tensors() -> int:
    return sum(torch.is_tensor(thing) for thing in gc.get_objects())


def test_measuring_frees_what_it_kept(model, rows):
    with nothing_left_behind():
        batches.kept_bytes(model, supervised(rows.rows[:2]))


def test_generation_frees_its_caches(llm):
    llm.answer("How many g in 6 kg?")
    with nothing_left_behind():
        llm.answer("How many g in 6 kg?", "What is 3 min in s?")
        llm.batched_generate(["How many g in 6 kg?"], 3, temperature=1.0)


def test_training_steps_free_what_they_made(tmp_path, monkeypatch):
    counts = []

    class Count(callbacks.Progress):
        def on_step_end(self, args, state, control, **kwargs):
            counts.append(count_tensors())

    monkeypatch.setattr(trainer, "Progress", Count)
    with resting_collector():
        train_model(output_dir=str(tmp_path / "a"), max_steps=6, questions=1)
    assert len(counts) == 6 and counts[-1] <= counts[2]


def test_a_circle_would_be_noticed():
    with pytest.raises(AssertionError), nothing_left_behind():
        circle = [torch.zeros(2)]
        circle.append(circle)
        del circle


def test_one_base_at_a_time_is_held_while_the_adapter_is_proved(model, llm, rows, tmp_path):
    torch.nn.init.normal_(next(p for name, p in model.named_parameters() if "lora_B" in name), std=0.02)
    model.peft_config["default"].base_model_name_or_path = llm.name
    held = []

    def fresh_base():
        held.append({p.device.type for p in model.parameters()})
        loaded.append(llm.reload_model())
        return loaded[-1]

    loaded: list[torch.nn.Module] = []
    trained = reload_check.capture_logits(model, supervised(rows.rows[:2]))
    adapter.save_adapter(model, tmp_path, fresh_base, trained)
    assert held == [{"meta"}], "the trained model was still there while the base was loaded again"
    assert {p.device.type for p in loaded[0].parameters()} == {"meta"}, "the proof's model is left behind"
    reload_check.check_same_logits(trained, adapter.attach_adapter(llm.reload_model(), tmp_path), "the file")
