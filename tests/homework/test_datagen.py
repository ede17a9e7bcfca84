"""Rejection sampling: how texts are drawn, recorded and judged, and that an interruption loses none."""

import json
import math
import re

import pytest
import torch

from homework import cot, datagen
from homework.base_llm import Completion
from homework.common.errors import HomeworkError
from homework.common.files import write_rows
from homework.data import Dataset
from homework.guards.reasoning_check import RIGHT
from homework.reporting.sampling_report import Judged, format_acceptance, judge_texts, name_length, pass_at
from homework.training import run_dir, sampling
from homework.training.sampling import RECORD, SampleRecord, draw_noise, sample, sample_round

QUESTIONS = [question for question, _ in list(Dataset("train"))[:6]]


@pytest.fixture(scope="module")
def reasoner(llm) -> cot.CoTModel:
    model = cot.CoTModel.__new__(cot.CoTModel)
    model.__dict__ |= llm.__dict__
    return model


def prompts_of(llm, questions) -> dict[int, str]:
    return dict(enumerate(map(llm.format_prompt, questions)))


# --- how texts are drawn ---


def test_nearly_greedy_samples_are_what_generate_writes(reasoner):
    """Shared prefix, padding behind it, positions and ended rows: the same texts as by transformers' own generation."""
    rows = [reasoner.encode_prompt(reasoner.format_prompt(question)) for question in QUESTIONS]
    noise = torch.full((len(rows), 2, reasoner.max_new_tokens), 0.5)  # the middle of the one token that is left
    texts = sample(rows, reasoner, 1e-3, noise)
    greedy = reasoner.complete([reasoner.format_prompt(question) for question in QUESTIONS])
    assert [group[0] for group in texts] == [group[1] for group in texts] == greedy
    assert len({len(row) for row in rows}) > 1, "rows of different length"


def test_prompts_that_share_nothing_are_read_too(reasoner):
    rows = [reasoner.encode_prompt(prompt) for prompt in ("6 kg in g:", "So, how many m are there in 2 km? ")]
    texts = sample(rows, reasoner, 1e-3, torch.full((2, 1, 12), 0.5))
    singly = [sample([row], reasoner, 1e-3, torch.full((1, 1, 12), 0.5))[0] for row in rows]
    assert texts == singly


def test_tokens_are_drawn_by_their_probabilities(reasoner, monkeypatch):
    """Equally spaced noise takes each token as often as its probability says."""
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25] + [1e-9] * 5]))
    monkeypatch.setattr(sampling, "forward", lambda *_: pytest.fail("one token is enough"))
    count = 400
    noise = ((torch.arange(count) + 0.5) / count)[:, None]
    written = sampling.write_texts(reasoner, None, logits.expand(count, -1), None, 1.0, noise)
    drawn = [ids[0] for ids in written]
    assert [drawn.count(token) for token in range(3)] == [200, 100, 100]


def test_the_noise_of_a_question_depends_on_no_other():
    assert torch.equal(draw_noise((0, 1, 5), 3, 4), draw_noise((0, 1, 5), 3, 4))
    assert not torch.equal(draw_noise((0, 1, 5), 3, 4), draw_noise((0, 1, 6), 3, 4))
    assert not torch.equal(draw_noise((0, 1, 5), 3, 4), draw_noise((1, 1, 5), 3, 4))
    assert draw_noise((0, 1, 5), 3, 4).shape == (3, 4)


def test_full_memory_is_one_line(reasoner, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(sampling, "sample", fail)
    with pytest.raises(HomeworkError, match="a smaller --oversample, and what is sampled so far is kept"):
        sampling.sample_or_explain([[1]], reasoner, 1.0, torch.zeros(1, 2, 3))


# --- the record ---


def test_an_interruption_loses_no_text_and_changes_none(reasoner, tmp_path, monkeypatch):
    """Killed in the middle of a line, and in the middle of the round: the same texts as without."""
    monkeypatch.setattr(sampling, "CPU_SLOTS", 1)  # one question a chunk
    prompts = prompts_of(reasoner, QUESTIONS[:3])
    whole = tmp_path / "whole"
    whole.mkdir()
    sample_round(reasoner, prompts, 0, 2, 0.8, 7, SampleRecord(whole))
    lines = (whole / RECORD).read_text().split()
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / RECORD).write_text("\n".join((whole / RECORD).read_text().splitlines()[:2]) + '\n[0, 1, [["1 ft')
    sample_round(reasoner, prompts, 0, 2, 0.8, 7, SampleRecord(killed))
    texts = [[SampleRecord(folder).texts_of(index) for index in prompts] for folder in (whole, killed)]
    assert lines and texts[0] == texts[1] and all(len(group) == 2 for group in texts[0])


def test_a_log_is_told_how_far_it_is(reasoner, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sampling, "CPU_SLOTS", 1)  # one question a chunk
    monkeypatch.setattr(sampling, "TOLD_EVERY", -1)
    sample_round(reasoner, prompts_of(reasoner, QUESTIONS[:2]), 0, 1, 0.8, 0, SampleRecord(tmp_path))
    assert re.fullmatch(r"  1 of 2, \d+ s to go\n  2 of 2, 0 s to go\n", capsys.readouterr().out)


def test_what_is_recorded_is_not_sampled_again(reasoner, tmp_path, monkeypatch):
    record = SampleRecord(tmp_path)
    record.add(0, {0: [Completion("a", True)], 1: [Completion("b", False)]})
    monkeypatch.setattr(sampling, "sample", lambda *_: pytest.fail("sampled again"))
    sample_round(reasoner, prompts_of(reasoner, QUESTIONS[:2]), 0, 1, 0.8, 0, SampleRecord(tmp_path))
    assert SampleRecord(tmp_path).texts_of(1) == [Completion("b", False)]


def test_rounds_add_up_in_their_order(tmp_path):
    record = SampleRecord(tmp_path)
    record.add(1, {4: [Completion("later", True)]})
    record.add(0, {4: [Completion("first", True)]})
    assert [text.text for text in SampleRecord(tmp_path).texts_of(4)] == ["first", "later"]


def test_a_full_disk_is_one_line(tmp_path):
    record = SampleRecord(tmp_path)
    record.path = tmp_path / "no" / "such" / "folder"
    with pytest.raises(HomeworkError, match="free space, then the same command goes on"):
        record.add(0, {0: [Completion("a", True)]})


# --- from the questions to the file ---


@pytest.fixture
def scripted(reasoner, monkeypatch, tmp_path):
    """`scripted(texts_of)`: generate_dataset with the texts of a function in place of the model's; returns the rows."""
    monkeypatch.setattr(run_dir, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(cot, "load", lambda checkpoint: reasoner)

    def generate(write, questions: int = 20, **options) -> list:
        asked = dict(enumerate(Dataset("train")))

        def fake(llm, prompts, number, count, temperature, seed, record):
            record.add(number, {index: [write(*asked[index], k) for k in range(count)] for index in prompts})

        monkeypatch.setattr(sampling, "sample_round", fake)
        path = tmp_path / "rft.json"
        datagen.generate_dataset(str(path), questions=questions, **options)
        return json.loads(path.read_text())

    return generate


def chain(question: str, correct: float, k: int) -> Completion:
    """A right text, another chain for each k."""
    first, second = (k + 2) * correct, k + 2
    return Completion(f"{first:.12g} / {second} = {correct:.12g}. <answer>{correct:.12g}</answer>", True)


def test_rows_hold_the_answers_of_train_and_as_many_chains_as_asked(scripted, capsys):
    rows = scripted(chain, most=3)
    assert [row[:2] for row in rows[::3]] == [list(row) for row in list(Dataset("train"))[:20]]
    assert len(rows) == 60
    said = capsys.readouterr().out
    assert "round 1 of 3: 10 texts for each of 20 questions" in said
    assert "kept 20 of 20 questions (1.00) with 10.00 different chains each, of which select_rows took 3.00" in said
    assert "60 rows; pass@1 1.00, pass@10 1.00" in said


def test_a_question_without_a_right_text_is_sampled_again_twice_as_often(scripted, capsys):
    hard = Dataset("train")[0][0]
    asked = []

    def write(question, correct, k):
        asked.append(question)
        return Completion("1", True) if question == hard else chain(question, correct, k)

    rows = scripted(write)
    assert asked.count(hard) == 10 + 20 + 20 and asked.count(Dataset("train")[1][0]) == 10
    assert hard not in {row[0] for row in rows}
    assert "round 2 of 3: 20 texts for each of 1 questions" in capsys.readouterr().out


def test_a_former_rule_leaves_no_trace(scripted, monkeypatch):
    """A rule that kept nothing has sampled three rounds: with the right one, the file is that of a fresh record."""
    fresh = scripted(chain, most=20)
    with monkeypatch.context() as patch, pytest.raises(HomeworkError, match="of what is refused: never"):
        patch.setattr(datagen, "check_task", lambda *_: None)
        patch.setattr(datagen, "find_fault", lambda completion, correct: "never")
        scripted(chain, seed=1)
    assert scripted(chain, most=20, seed=1) == fresh


def test_a_file_of_something_else_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(cot, "load", lambda checkpoint: pytest.fail("the base was loaded"))
    path = tmp_path / "train.json"
    path.write_text('[["6 kg in g?", 6000.0]]')
    with pytest.raises(HomeworkError, match="holds something else than rows with reasons"):
        datagen.generate_dataset(str(path))
    assert path.read_text() == '[["6 kg in g?", 6000.0]]'


def test_too_few_right_texts_stop_with_the_cause_and_write_nothing(scripted, tmp_path):
    def cut(question, correct, k):
        return chain(question, correct, k)._replace(ended=question in QUESTIONS)

    with pytest.raises(HomeworkError, match=r"only 30% of the questions .* nothing is written. 100% .* cut; look with"):
        scripted(cut)
    assert not (tmp_path / "rft.json").exists()


def test_texts_that_are_all_the_same_are_named(scripted):
    with pytest.raises(HomeworkError, match="all texts of a question are the same"):
        scripted(lambda question, correct, k: chain(question, correct, 0))


def test_a_selection_of_what_nobody_sampled_is_named(scripted, monkeypatch):
    """The checks of the selection pass, and it still makes a row up where the real questions are asked."""
    honest = datagen.select_rows

    def invent(question, correct, texts, most):
        rows = honest(question, correct, texts, most)
        return rows if question.startswith("Convert 47") else [(question, correct, RIGHT)]

    monkeypatch.setattr(datagen, "select_rows", invent)
    with pytest.raises(HomeworkError, match="no accepted sample"):
        scripted(chain)


def test_show_says_what_the_rule_says_of_each_text(scripted, capsys):
    scripted(lambda question, correct, k: chain(question, correct, k // 2) if k else Completion("so", True))
    capsys.readouterr()
    datagen.show(rows=1)
    said = capsys.readouterr().out
    assert " 1 x 'so'" in said and "no answer" in said
    assert said.count("  kept ") == 4 and said.count("  not selected ") == 1, "as in the file: four chains"
    datagen.show(rows=1, most=5)
    assert capsys.readouterr().out.count("  kept ") == 5
    datagen.show(rows=1, fault="no answer")
    assert "  kept " not in capsys.readouterr().out


def test_show_without_samples_says_how_to_make_them(monkeypatch, tmp_path):
    monkeypatch.setattr(run_dir, "RUNS", tmp_path)
    with pytest.raises(HomeworkError, match="generate --questions 60"):
        datagen.show()


@pytest.mark.parametrize("options", [{"rows": 0}, {"first": -1}, {"first": 5000}])
def test_show_of_no_question_is_refused(scripted, options):
    scripted(chain)
    with pytest.raises(HomeworkError, match="--rows must be at least 1, and --first within 0 to 999"):
        datagen.show(**options)


def test_rows_are_written_a_row_a_line_and_never_half(tmp_path):
    path = tmp_path / "rft.json"
    write_rows(path, [("a", 1.0, "b"), ("c", 2.0, "d")])
    assert len(path.read_text().splitlines()) == 4 and len(json.loads(path.read_text())) == 2
    with pytest.raises(ValueError, match="Out of range"):
        write_rows(path, [("a", math.nan, "b")])
    assert len(json.loads(path.read_text())) == 2 and list(tmp_path.iterdir()) == [path]


# --- what is said of it ---


def test_pass_at_k_is_the_chance_of_a_right_one_among_k():
    one = Judged("6 kg in g?", ["a"] * 4, [None, "x", "x", "x"])
    none = Judged("6 kg in g?", ["a"] * 4, ["x"] * 4)
    assert pass_at([one], 1, 4) == 0.25 and pass_at([one], 2, 4) == 0.5 and pass_at([one], 4, 4) == 1.0
    assert pass_at([one, none], 4, 4) == 0.5
    assert pass_at([one._replace(faults=["x", None])], 1, 1) == 0.0, "only the first round counts"
    assert pass_at([one._replace(faults=[None, "x"])], 4, 4) == 1.0, "two texts, of a sampling that stops early"


def test_the_table_counts_by_quantity_digits_and_length_and_names_what_is_hard():
    easy = [Judged(f"How many g in {k} kg?", [RIGHT, "no"], [None, "no answer"]) for k in range(1, 10)]
    hard = [Judged(f"How many m/s in 1.{k}3 km/h?", ["no", "no"], ["no answer"] * 2) for k in range(10, 20)]
    table = format_acceptance(easy + hard, 2, 9)
    lines = {line.split()[0]: line.split() for line in table.splitlines()}
    assert lines["mass"][1:] == ["9", "9", "1.00"] and lines["speed"][1:] == ["10", "0", "0.00"]
    assert "few are kept of: speed (0 of 10)" in table and "few are kept of: mass" not in table
    assert "refused of 38 samples: no answer 76%" in table


def test_a_text_of_each_length_has_a_group():
    assert [name_length(n) for n in (0, 39, 40, 99, 100, 5000)] == [
        "0 to 39 characters", "0 to 39 characters", "40 to 59 characters", "80 to 99 characters",
        "100 characters or more", "100 characters or more",
    ]  # fmt: skip


def test_judging_asks_the_rule_about_every_text():
    judged = judge_texts([("6 kg in g?", 6000.0)], [[Completion("a", True)] * 2], lambda c, correct: str(correct))
    assert judged == [Judged("6 kg in g?", ["a", "a"], ["6000.0", "6000.0"])]
