"""Micro-batches from memory: as large as fits, never larger, and measured without leaving anything behind.

python -m pytest tests/test_memory.py
"""

import gc

import pytest
import torch

from homework import memory, training


@pytest.fixture
def model(llm):
    return training.add_lora(llm.reload_model(), "base", training.DEFAULT_RECIPE, seed=0).train()


def test_the_whole_batch_where_it_fits_and_less_where_not(model, rows, monkeypatch, capsys):
    collate = training.Collator(2)
    assert memory.choose_micro_batch(model, rows, collate, 32) == 32
    longest = max(rows.rows, key=lambda row: len(row["input_ids"]))
    one = memory.PEAK * memory.kept_bytes(model, collate([longest]))
    monkeypatch.setattr(memory, "budget_of", lambda device: 9 * one)
    assert memory.choose_micro_batch(model, rows, collate, 32) == 8
    assert "micro-batches of 8 rows" in capsys.readouterr().out
    monkeypatch.setattr(memory, "budget_of", lambda device: 0)
    assert memory.choose_micro_batch(model, rows, collate, 32) == 1


def test_measuring_frees_what_it_kept(model, rows):
    gc.disable()  # what only the collector would free counts as left behind: it spoils the recording of graphs
    try:
        before = sum(torch.is_tensor(thing) for thing in gc.get_objects())
        memory.kept_bytes(model, training.Collator(2)(rows.rows[:2]))
        assert sum(torch.is_tensor(thing) for thing in gc.get_objects()) <= before
    finally:
        gc.enable()
