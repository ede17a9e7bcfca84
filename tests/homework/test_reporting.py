"""What is said about rows and results: lengths, mistakes by quantity and kind, the picture."""

import json
import math
from contextlib import closing
from types import SimpleNamespace

import pytest
import torch

from grader.units import QUANTITIES, draw_questions
from homework import sft
from homework.common.errors import HomeworkError
from homework.data import Dataset, Sample
from homework.reporting.error_analysis import UNITS, count_mistakes, format_mistakes, kind_of, read_question
from homework.reporting.plots import draw_run
from homework.reporting.results import find_unlikely_tokens, report_run
from homework.sft import TokenizedDataset, format_example, load
from homework.training.batches import describe_rows
from homework.training.evaluation import take_probes, take_reported
from homework.training.run_dir import LOG, RESULT, Run


def sample(question: str, answer: float, correct: float) -> Sample:
    return Sample(question, answer, correct, False)


@pytest.mark.parametrize("slice_name", ["train", "valid", "hidden", "novel"])
def test_quantity_and_value_are_read_from_any_question(slice_name):
    for question in draw_questions(slice_name, 1500, 7):
        quantity, value = read_question(question.text)
        assert quantity == question.fact.quantity, question.text
        assert value == pytest.approx(question.fact.value, rel=0.01), question.text


def test_the_units_are_those_of_the_world():
    for quantity, units in QUANTITIES.items():
        singulars = {form.split("/")[0] for unit in units for form in unit.words}
        symbols = {symbol for unit in units for symbol in unit.symbols}
        assert singulars | symbols <= set(UNITS[quantity].split(", ")), quantity
    assert set(UNITS) == set(QUANTITIES)


@pytest.mark.parametrize(
    ("question", "answer", "correct", "kind"),
    [
        ("How many g are in 6 kg?", math.nan, 6000, "no answer"),
        ("How many g are in 6 kg?", 0.006, 6000, "inverse factor"),
        ("How many g are in 6 kg?", 600, 6000, "wrong power of ten"),
        ("How many g are in 6 kg?", 6.0e7, 6000, "wrong power of ten"),
        ("How many g are in 6 kg?", 6500, 6000, "wrong digits"),
        ("How many g are in 6 kg?", -6000, 6000, "wrong digits"),
        ("3 ft in m?", 9.84, 0.9144, "inverse factor"),
        ("0 kg in g?", 5, 0.0, "wrong digits"),
        ("no number", 5, 1.0, "wrong digits"),
        ("How many moons does Mars have?", 5, 2, "wrong digits"),
        ("What is 2 to the power of 1000?", 1e308, 1e-300, "wrong digits"),  # their ratio is infinite
    ],
)
def test_kinds_of_mistakes(question, answer, correct, kind):
    assert kind_of(sample(question, answer, correct), read_question(question)[1]) == kind


def test_the_table_counts_and_fits_the_terminal():
    samples = [
        Sample("How many g are in 6 kg?", 6000, 6000, True),
        sample("How many g are in 6 kg?", 600, 6000),
        sample("3 ft in m?", math.nan, 0.9144),
        sample("what?", 1.0, 2.0),
    ]
    counts = count_mistakes(samples)
    assert counts["mass"] == {"asked": 2, "wrong power of ten": 1}
    table = format_mistakes(counts)
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["length", "other", "mass"]
    assert max(map(len, table.splitlines())) <= 80


def test_few_rows_of_valid_have_fewer_probes_and_are_said(tmp_path, capsys):
    for split, count in (("train", 120), ("valid", 40)):
        (tmp_path / f"{split}.json").write_text(json.dumps([[f"{split} {index}?", index] for index in range(count)]))
    train, valid = (Dataset(split, tmp_path) for split in ("train", "valid"))
    probes, reported = take_probes(train, valid), take_reported(valid, None)
    assert [len(rows) for rows in probes.values()] == [10, 10] and len(reported) == 30
    assert sorted(probes["valid"] + reported) == sorted(valid.rows)
    assert "valid has 40 rows: 10 of them show how the training goes, not 50" in capsys.readouterr().out
    take_probes(train, Dataset("valid"))
    assert not capsys.readouterr().out, "as many as ever are not worth a word"
    (tmp_path / "valid.json").write_text(json.dumps(valid.rows[:19]))
    for take in (lambda few: take_probes(train, few), lambda few: take_reported(few, None)):
        with pytest.raises(HomeworkError, match="valid has 19 rows, too few for an accuracy: it takes 20"):
            take(Dataset("valid", tmp_path))


def test_rows_are_described():
    rows = [
        {"input_ids": [1] * 4, "attention_mask": [1] * 4, "labels": [-100, -100, 1, 1]},
        {"input_ids": [1] * 8, "attention_mask": [1] * 6 + [0] * 2, "labels": [-100] * 4 + [1, 1] + [-100] * 2},
    ]
    text = describe_rows(rows, batch_size=2)
    assert "2 of 4 to 6 tokens; 2 to 2 of them supervised (mean 2.0, 40% of all)" in text
    assert text.endswith("in 2 of 2 rows\n  padding 16.7% at best, 17% if all were padded to the longest")


def test_the_picture_is_drawn_from_a_log(trained, tmp_path):
    assert (trained.run / "curve.png").read_bytes().startswith(b"\x89PNG")
    step = {"step": 1, "loss": 5.0, "grad_norm": 1.0, "learning_rate": 1e-3}
    draw_run([step], 50, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


class WrongAnswers(Dataset):
    """Questions of a kind that the model was never taught: all answers are seven times as large."""

    def __getitem__(self, index):
        question, answer = super().__getitem__(index)
        return question, 7 * answer


@pytest.fixture
def finish(trained, tmp_path):
    """Report a training, on questions of a dataset, as train_model does at its end; the folder of its run."""

    def report(valid: Dataset, is_cut: bool):
        run = Run(tmp_path / "run", {})
        log = json.loads((trained.run / LOG).read_text())["log"]
        probes = take_probes(Dataset("train"), Dataset("valid"))
        given = {"loaded": load(trained.folder), "run": run, "state": SimpleNamespace(log_history=log)}
        given["train_dataset"] = TokenizedDataset(given["loaded"].tokenizer, [Dataset("train")[0]], format_example)
        with closing(run):
            report_run(
                SimpleNamespace(**given, valid_data=valid, is_cut=is_cut, probes=probes, output=trained.folder), 60
            )
        return run

    return report


def test_a_report_of_what_was_never_saved_is_an_error():
    """Else the command would end as a success, and there would be no adapter."""
    trainer = SimpleNamespace(loaded=None, watch=True, is_finished=False)
    with pytest.raises(HomeworkError, match=r"reports before trainer\.save has saved anything"):
        report_run(trainer)
    for name, value in (("watch", False), ("is_finished", True)):
        report_run(SimpleNamespace(**{**vars(trainer), name: value}))


def test_a_whole_training_that_answers_hardly_anything_is_no_success(finish, tmp_path, capsys):
    message = (
        r"the adapter is saved, but it answers \d of 60 questions of valid right: .*mistakes above.*sft show.*base"
    )
    with pytest.raises(HomeworkError, match=message):
        finish(WrongAnswers("valid"), is_cut=False)
    assert not (tmp_path / "run" / RESULT).exists(), "or the same command would call it finished"
    assert "  wrong: " in capsys.readouterr().out
    assert finish(WrongAnswers("valid"), is_cut=True).result["accuracy"] < 0.05  # a quick run proves nothing
    assert finish(Dataset("valid"), is_cut=False).result["accuracy"] > 0.5


@pytest.mark.everything
def test_the_command_says_so_too(command, monkeypatch, tmp_path):
    monkeypatch.setattr(sft, "Dataset", lambda split: (WrongAnswers if split == "valid" else Dataset)(split))
    code, out, err = command(sft.COMMANDS, f"train --questions 60 --output-dir {tmp_path / 'a'} --epochs 1")
    assert code == 1 and "of 60 questions of valid right" in err and "adapter saved" in out and "done in" not in out


class Constant(torch.nn.Module):
    """Gives every token of a vocabulary of 8 the same chance but one, which has none."""

    def __init__(self, never: int) -> None:
        super().__init__()
        self.never = never

    def forward(self, input_ids, attention_mask):
        logits = torch.zeros(*input_ids.shape, 8)
        logits[..., self.never] = -30.0
        return SimpleNamespace(logits=logits)


def test_a_token_that_the_model_never_writes_is_found_where_it_stands_often():
    tokenizer = SimpleNamespace(decode=lambda ids: "abcdefgh"[ids[0]])
    llm = SimpleNamespace(model=Constant(never=5), tokenizer=tokenizer, device="cpu")
    row = {"input_ids": [1, 2, 5, 3], "attention_mask": [1] * 4, "labels": [-100, -100, 5, 3]}
    other = {"input_ids": [1, 2, 4, 3], "attention_mask": [1] * 4, "labels": [-100, -100, 4, 3]}
    assert find_unlikely_tokens(llm, [row] * 2 + [other] * 5) == {}  # twice is chance
    assert list(find_unlikely_tokens(llm, [row] * 3 + [other] * 5)) == ["f"]
