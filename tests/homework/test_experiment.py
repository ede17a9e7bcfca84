"""Mistakes on purpose: each wrong span is one that the guards refuse, trained without them, away from the adapter."""

import functools
import json
import math
import re

import pytest
import torch

from homework import experiment, sft
from homework.base_llm import BaseLLM
from homework.common.base_model import BUNDLED_NAME
from homework.common.errors import HomeworkError
from homework.common.zip_contents import CODE
from homework.data import Dataset
from homework.guards.label_check import diagnose_row
from homework.reporting.comparison import draw_comparison, format_table, format_texts, interval_of
from homework.training.recipe import RECIPES, Recipe
from homework.training.trainer import HomeworkTrainer, check_rows_and_prompt
from tests.support.bundled import card_accuracy
from tests.support.wrong_spans import a1_trailing_space

EXACT, MASKED = "exact: answer and EOS", "all masked"
RECIPE = Recipe(epochs=1, batch_size=500, learning_rate=2e-3, rank=4, alpha=16)


@pytest.fixture
def quick(command, monkeypatch, tiny_checkpoint):
    """`quick("span") -> (exit code, stdout, stderr)`: two variants, two steps each, on a one-layer model."""
    monkeypatch.setattr(experiment, "SPANS", {name: experiment.SPANS[name] for name in (EXACT, MASKED)})
    monkeypatch.setattr(experiment, "choose_recipe", lambda name, given: RECIPE)
    return lambda words, questions=5: command(
        experiment.experiment, f"{words} --checkpoint {tiny_checkpoint} --questions {questions}"
    )


@pytest.fixture
def trainings(monkeypatch) -> list[Recipe]:
    """The recipes of the trainings that ran."""
    ran: list[Recipe] = []
    train = experiment.train

    def spy(setup, variant, *rest):
        ran.append(variant.recipe)
        return train(setup, variant, *rest)

    monkeypatch.setattr(experiment, "train", spy)
    return ran


def stamps() -> dict:
    """When each file of the package was written."""
    return {path: path.stat().st_mtime_ns for path in CODE.rglob("*") if "__pycache__" not in path.parts}


# --- the variants ---


@pytest.mark.parametrize("name", experiment.SPANS)
def test_every_span_but_the_exact_one_is_one_that_the_guards_refuse(bundled_tokenizer, name):
    for question, answer in (Dataset("train")[index] for index in (0, 1)):
        example = sft.format_example(question, answer)
        row = sft.tokenize(bundled_tokenizer, **example)
        before = json.dumps(row)
        spoiled = experiment.SPANS[name](row, len(row["input_ids"]) + 3)
        assert (diagnose_row(bundled_tokenizer, example, answer, spoiled) is None) == (name == EXACT)
        assert json.dumps(row) == before, "the student's row stays as it is"


def test_each_span_spoils_what_its_name_says():
    row = {"input_ids": [5, 6, 7, 8, 2], "attention_mask": [1] * 5, "labels": [-100, -100, 7, 8, 2]}
    labels = {name: spoil(row, 7)["labels"] for name, spoil in experiment.SPANS.items()}
    assert labels == {
        EXACT: [-100, -100, 7, 8, 2],
        "first answer token masked": [-100, -100, -100, 8, 2],
        "question supervised too": [5, 6, 7, 8, 2],
        "padding supervised too": [-100, -100, 7, 8, 2, 2, 2],
        "EOS masked": [-100, -100, 7, 8, -100],
        MASKED: [-100] * 5,
    }
    padded = experiment.supervise_padding(row, 7)
    assert padded["input_ids"] == [5, 6, 7, 8, 2, 2, 2] and padded["attention_mask"] == [1] * 5 + [0] * 2


def test_ranks_and_rates_lie_around_the_recipe():
    recipe = RECIPES[BUNDLED_NAME]
    ranks = [variant.recipe for variant in experiment.rank_variants(recipe).values()]
    assert [one.rank for one in ranks] == [1, 4, 16, 64] and recipe in ranks
    assert {one.alpha / one.rank for one in ranks} == {recipe.alpha / recipe.rank}
    rates = experiment.rate_variants(recipe)
    assert list(rates) == [f"learning rate {rate}" for rate in ("2e-05", "2e-04", "2e-03", "2e-02")]
    assert rates["learning rate 2e-03"].recipe == recipe


# --- the command ---


def test_a_table_and_a_picture_come_out_and_the_package_is_not_touched(quick, runs_folder, tmp_path):
    before = stamps()
    code, out, err = quick(f"span --json {tmp_path / 'figures.json'}")
    assert code == 0, err
    assert stamps() == before, "homework/sft_model above all"
    assert re.search(rf"^\| {EXACT} +\| \d\.\d+ \(0\.000 to \d\.\d+\) ", out, re.MULTILINE)
    assert re.search(rf"^\| {MASKED} .*\| nan to nan", out, re.MULTILINE), "it was trained: the guards are off"
    assert re.search(rf"^  {EXACT}  '.*'", out, re.MULTILINE), "what it wrote"
    assert "tokens/s" not in out and out.count(", seed 0: accuracy") == 2, "a line a variant"
    assert (runs_folder / "experiment-span" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert not list(runs_folder.rglob("adapter_*"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures) == [EXACT, MASKED] and figures[MASKED]["0"]["last_grad_norm"] == 0.0


def test_the_guards_would_have_stopped_it(quick, monkeypatch):
    """The negative control of the test above: the same variants, watched."""

    init = HomeworkTrainer.__init__

    @functools.wraps(init)
    def watched(self, **options):
        init(self, **{**options, "watch": True})
        self.watch = False  # the rows have been looked at; what is not saved is not reported

    monkeypatch.setattr(HomeworkTrainer, "__init__", watched)
    code, _, err = quick("span")
    assert code == 1 and "every label is -100" in err


@pytest.mark.everything
def test_it_goes_on_where_it_stopped_and_trains_again_what_changed(quick, trainings, monkeypatch):
    ask = experiment.ask

    def stop(*given):
        if len(trainings) == 2:
            raise KeyboardInterrupt
        return ask(*given)

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "ask", stop)
        code, _, err = quick("span")
    assert code == 130 and f"stopped in {MASKED}, seed 0, at once; the same command goes on there" in err
    assert len(trainings) == 2
    code, out, _ = quick("span")
    assert code == 0 and len(trainings) == 3 and out.count("kept from before") == 1
    assert quick("span", questions=4)[0] == 0 and len(trainings) == 5, "another number of questions has its own results"
    trainings[3:] = []
    assert quick("span")[0] == 0 and len(trainings) == 3, "all is kept"
    code, out, _ = quick("span --restart")
    assert code == 0 and len(trainings) == 5 and "because" not in out
    monkeypatch.setattr(
        experiment, "format_example", lambda question, answer: sft.format_example(question, answer * 1.01)
    )
    code, out, _ = quick("span")
    assert code == 0 and len(trainings) == 7 and out.count(" s, because of other training rows\n") == 2, "other labels"


@pytest.mark.everything
def test_three_seeds_are_three_trainings_a_variant(quick, trainings, monkeypatch):
    monkeypatch.setattr(experiment, "RATES", (0.5, 1))
    code, out, _ = quick("learning-rate --seeds 3")
    assert code == 0 and out.count("seed 2: accuracy") == 2 and "| accuracy, mean of 3 seeds (95 % interval) |" in out
    assert [recipe.learning_rate for recipe in trainings] == [1e-3, 2e-3] * 3


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("spam", 2, "there is no experiment 'spam' (did you mean span?): choose span, rank, learning-rate"),
        ("", 2, "missing argument NAME"),
        ("span --seed 3", 2, "unknown option --seed (did you mean --seeds?)"),
        ("span --seeds 0", 1, "--seeds must be 1, or 3 to 10, which make an interval, got 0"),
        ("span --seeds 2", 1, "--seeds must be 1, or 3 to 10, which make an interval, got 2"),
        ("span --questions 0", 1, "the number of questions must be at least 1, got 0"),
        ("span --json no/where.json", 1, "there is no folder no"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_runs(command, monkeypatch, words, code, message):
    monkeypatch.setattr(experiment, "BaseLLM", lambda checkpoint: pytest.fail("loaded a model"))
    ended, _, err = command(experiment.experiment, words)
    assert ended == code and message in err


def test_a_training_that_is_not_the_homeworks_is_named(quick, monkeypatch):
    monkeypatch.setattr(experiment, "train_model", lambda *_, **__: None)
    code, _, err = quick("span")
    assert code == 1 and "train_model has not trained with HomeworkTrainer" in err


def test_the_starter_does_not_show_how_task_4_makes_its_trainer():
    """Its train_model is a gap, so no file that is given may hold the call."""
    for path in set(CODE.rglob("*.py")) - {CODE / "sft.py", CODE / "rft.py"}:
        assert not re.search(r"= HomeworkTrainer\(", path.read_text()), path


def test_wrong_labels_of_ones_own_are_named_first(quick, trainings, monkeypatch):
    monkeypatch.setattr(sft, "tokenize", a1_trailing_space)
    code, _, err = quick("span")
    assert code == 1 and "row 0: the first answer token" in err and not trainings


def test_a_model_that_is_not_finite_is_asked_all_the_same(tiny_checkpoint):
    llm = BaseLLM(tiny_checkpoint)
    llm.model = sft.add_lora(llm.model, RECIPE, seed=0)
    with torch.no_grad():
        next(p for name, p in llm.model.named_parameters() if "lora_B" in name).fill_(math.nan)
    log = [{"loss": math.nan, "grad_norm": math.inf}]
    measured = experiment.ask(llm, log, [Dataset("valid")[0]])
    assert measured["losses"] == [None] and measured["figures"]["accuracy"] == 0.0
    json.dumps(measured, allow_nan=False)


@pytest.mark.everything
def test_the_exact_span_reaches_what_the_recipe_does_and_the_masked_one_nothing(command, monkeypatch):
    names = (EXACT, "first answer token masked")
    monkeypatch.setattr(experiment, "SPANS", {name: experiment.SPANS[name] for name in names})
    code, out, err = command(experiment.experiment, "span")
    assert code == 0, err
    reached = [float(re.search(rf"^{name}, seed 0: accuracy ([\d.]+)", out, re.MULTILINE)[1]) for name in names]
    assert abs(reached[0] - card_accuracy("valid")) < 0.05 and reached[1] < 0.02


# --- table and picture ---


def run_of(accuracy: float, loss: float | None = 1.0) -> dict[str, float | None]:
    return {"accuracy": accuracy, "answer_rate": 1.0, "ended_by_eos": 0.5, "first_loss": 2.0, "last_loss": loss}


def test_what_changed_since_a_training_is_named():
    former = {"seed": 0, "training_rows": "a", "files": {"sft.py": "a", "data.py": "a"}}
    assert not experiment.differences(former, former)
    now = {"seed": 1, "training_rows": "a", "files": {"sft.py": "b", "data.py": "a"}}
    assert experiment.differences(former, now) == "seed, sft.py"
    assert experiment.differences({}, former) and experiment.differences(former, {"seed": 0, "training_rows": "a"})


def test_the_loss_at_the_end_is_a_mean_unless_one_is_no_number():
    assert experiment.mean_loss([1.0, 3.0]) == 2.0 and experiment.mean_loss([1.0, None]) is None


def test_the_interval_is_students_over_seeds_and_wilsons_over_questions():
    assert interval_of({"0": run_of(0.7), "1": run_of(0.8), "2": run_of(0.9)}, 100) == pytest.approx(
        (0.8 - 4.303 * 0.1 / math.sqrt(3), 1.0)
    )
    assert interval_of({"0": run_of(0.95)}, 100) == pytest.approx((0.888, 0.978), abs=1e-3)


def test_the_table_is_markdown_in_line():
    lines = format_table(
        {"a": {"0": run_of(0.7)}, "longer name": {"0": run_of(0.8, None)}}, 100, "variant"
    ).splitlines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert lines[3].startswith("| longer name | 0.800 (0.711 to 0.867)") and "2.00 to nan" in lines[3]


def test_a_text_of_a_model_does_not_control_the_terminal():
    assert format_texts({"a": "\x1b[2J\n", "bc": "x" * 70}) == rf"  a   '\x1b[2J\n'{chr(10)}  bc  '{'x' * 60}' ..."


def test_a_picture_of_curves_without_a_number_is_drawn(tmp_path):
    results = {"a": {"0": run_of(0.7), "1": run_of(0.8), "2": run_of(0.8)}, "b": {"0": run_of(0.0, None)}}
    draw_comparison(
        results, {"a": [[2.0, 1.0], [2.0, 0.5], [2.0, 0.6]], "b": [[None, None]]}, 100, tmp_path / "x.png", "title"
    )
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_the_students_own_rows_pass_the_guards_once(llm):
    """The negative control of the first check: right rows are not refused."""
    train, valid = Dataset("train"), Dataset("valid")
    rows = sft.TokenizedDataset(llm.tokenizer, train, sft.format_example)
    check_rows_and_prompt(llm, rows, train, valid, sft.format_example)
    with pytest.raises(HomeworkError):
        check_rows_and_prompt(llm, list(rows)[1:], train, valid, sft.format_example)
