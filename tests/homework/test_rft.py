"""The training on reasons and its comparison: what is counted, and what is said where a model is missing."""

import copy
import json

import pytest

from homework import cot, rft, sft
from homework.base_llm import BaseLLM
from homework.common.errors import HomeworkError
from homework.data import Dataset, Sample
from homework.reporting import model_comparison
from homework.reporting.model_comparison import Share, count_groups, format_models
from homework.training import run_dir
from homework.training.trainer import HomeworkTrainer
from tests.support.rows import rest

ROWS = [
    (question, answer, f"1 * {answer:.12g} = {answer:.12g}. <answer>{answer:.12g}</answer>")
    for question, answer in list(Dataset("train"))[:64]
]


def test_right_answers_are_counted_by_quantity_and_digits_within_both_bounds():
    samples = [
        Sample("How many g in 6 kg?", 6000.0, 6000.0, True),
        Sample("How many g in 61 kg?", 62000.0, 61000.0, True),  # within 5 %, not within 1 %
        Sample("2 h in min?", float("nan"), 120.0, False),
    ]
    assert count_groups(samples) == {
        "all": Share(3, 2, 1),
        "1 digit": Share(2, 1, 1),
        "2 digits": Share(1, 1, 0),
        "mass": Share(2, 2, 1),
        "time": Share(1, 0, 0),
    }


def test_the_table_has_a_column_a_model():
    shares = {"all": Share(4, 3, 2), "mass": Share(4, 3, 2)}
    lines = format_models({"reasoning prompt": shares, "rft adapter": shares}).splitlines()
    assert lines[0].split("asked")[1].split("  ")[-1].strip() == "rft adapter"
    assert lines[1].split() == ["all", "4", "0.750", "(0.500)", "0.750", "(0.500)"]


def test_a_model_that_is_missing_is_left_out_and_said(monkeypatch, tmp_path, capsys, llm):
    def missing(folder, checkpoint):
        raise HomeworkError("no trained adapter: python -m homework.sft train")

    monkeypatch.setattr(run_dir, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(sft, "load", missing)
    monkeypatch.setattr(rft, "load", lambda folder, checkpoint: llm)
    monkeypatch.setattr(cot, "load", lambda checkpoint: llm)
    monkeypatch.setattr(model_comparison, "score", lambda model, rows: (type("R", (), {"samples": [
        Sample(question, answer, answer, True) for question, answer in rows]})(), []))  # fmt: skip
    rft.compare(questions=30)
    said = capsys.readouterr().out
    assert "sft adapter is left out: no trained adapter" in said and "reasoning prompt" in said
    assert (tmp_path / "runs" / "compare.png").stat().st_size > 1000


def test_nothing_to_compare_is_an_error(monkeypatch):
    def missing(*_):
        raise HomeworkError("nothing here")

    for module in (cot, sft, rft):
        monkeypatch.setattr(module, "load", missing)
    with pytest.raises(HomeworkError, match="there is no model to compare"):
        rft.compare(questions=1)


def test_a_load_of_task_4_in_any_form_serves_the_reasoning_too(monkeypatch, llm):
    """The contract of `load` is a folder and a checkpoint: whoever wrote it anew need not know of task 7."""
    monkeypatch.setattr(sft, "load", lambda folder, checkpoint=None: copy.copy(llm))
    loaded = rft.load("anywhere")
    assert loaded.max_new_tokens > cot.CHAIN_TOKENS > llm.max_new_tokens and loaded.model is llm.model


@pytest.fixture
def rows_file(tmp_path):
    path = tmp_path / "rft.json"
    path.write_text(json.dumps(ROWS))
    return path


def test_a_training_on_reasons_saves_an_adapter_of_its_own(rows_file, tmp_path, capsys, llm, monkeypatch):
    """Two steps, all guards on."""
    monkeypatch.setattr(run_dir, "RUNS", tmp_path / "runs")
    folder = tmp_path / "rft_model"
    rft.train_model(str(folder), data=str(rows_file), max_steps=2, questions=2)
    said = capsys.readouterr().out
    assert "rows with reasons: 64, of 64 questions" in said and "nearly every question has one chain alone" in said
    assert f"adapter saved in {folder}" in said
    (run,) = (tmp_path / "runs").glob("rft-*")
    assert (run / "log.json").is_file()
    loaded = rft.load(folder)
    assert isinstance(loaded, rft.ReasoningModel) and loaded.max_new_tokens > cot.CHAIN_TOKENS


class Short(BaseLLM):
    """A model whose cap is that of bare answers."""


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        ("cap", "generation stops after"),
        rest("masked", "row 0: "),
    ],
)
def test_a_fault_between_rows_and_model_stops_before_the_first_step(rows_file, tmp_path, monkeypatch, plant, words):
    monkeypatch.setattr(run_dir, "RUNS", tmp_path / "runs")
    if plant == "cap":
        monkeypatch.setattr(rft, "ReasoningModel", Short)
    else:
        monkeypatch.setattr(
            rft,
            "format_reasoning",
            lambda question, answer, reasoning: {"question": question, "answer": reasoning[:-9]},
        )
    with pytest.raises(HomeworkError, match=words):
        rft.train_model(str(tmp_path / "rft_model"), data=str(rows_file), max_steps=2, questions=2)


def test_a_load_of_the_wrong_class_is_named_and_the_adapter_kept(rows_file, tmp_path, monkeypatch):
    """The loss and the logits are right, and every chain would be cut."""
    monkeypatch.setattr(run_dir, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(rft, "load", sft.load)
    with pytest.raises(
        HomeworkError, match=r"load gives a model that stops after \d+ tokens, and the rows teach up to"
    ):
        rft.train_model(str(tmp_path / "rft_model"), data=str(rows_file), max_steps=1, questions=2)
    assert rft.load(tmp_path / "rft_model")


def test_saving_before_training_is_named(rows_file, tmp_path, monkeypatch):
    monkeypatch.setattr(run_dir, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(HomeworkTrainer, "train", lambda self: None)
    with pytest.raises(HomeworkError, match="train comes before save"):
        rft.train_model(str(tmp_path / "rft_model"), data=str(rows_file), max_steps=1, questions=2)


@pytest.mark.everything
def test_a_training_of_a_few_steps_says_so(rows_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_dir, "RUNS", tmp_path / "runs")
    rft.train_model(str(tmp_path / "rft_model"), data=str(rows_file), epochs=1, questions=2)
    assert "the training had 2 steps, which is few" in capsys.readouterr().out


def test_the_adapter_that_is_missing_is_made_by_its_own_task(tmp_path):
    with pytest.raises(HomeworkError, match=r"make it with python -m homework.rft train"):
        rft.load(tmp_path / "rft_model")
