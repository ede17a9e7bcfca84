"""`python -m homework.check`: each check passes on a good clone and fails, with its fix, on a planted fault."""

import itertools
import json
import math
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from transformers import PreTrainedModel

from homework import check, cot, data, datagen, rft, sft
from homework.base_llm import BaseLLM
from homework.common import base_model, zip_contents
from homework.common.base_model import BUNDLED, ROOT
from homework.guards import watchdog
from homework.sft import add_lora
from homework.training import run_dir
from homework.training.recipe import DEFAULT_RECIPE
from tests.public.conftest import takes_given_trainer
from tests.support import plants
from tests.support.bundled import bundled_steps
from tests.support.rows import rest
from tests.support.wrong_spans import a1_trailing_space
from tools import make_starter


@pytest.fixture
def verdicts(command):
    """Run the check and give exit code, the line of each check by its name, and stderr."""

    def call(words: str = ""):
        code, out, err = command(check.check, words)
        return code, {line[7:25].strip(): line for line in out.splitlines() if line.startswith("[")}, err

    return call


NOT_YET = ["adapter", "rft.json", "rft adapter", "last run"]  # of a fresh clone


@pytest.fixture(autouse=True)
def student_folder(tmp_path, monkeypatch):
    """A package folder of the student's with nothing trained in it."""
    folder = tmp_path / "homework"
    shutil.copytree(ROOT / "homework", folder, ignore=shutil.ignore_patterns("*_model", "__pycache__"))
    monkeypatch.setattr(check, "CODE", folder)
    monkeypatch.setattr(datagen, "OUTPUT", tmp_path / "rft.json")
    return folder


def test_a_good_clone_passes(verdicts):
    code, lines, _ = verdicts()
    assert code == 0
    assert [name for name, line in lines.items() if not line.startswith("[ OK ]")] == NOT_YET
    assert "1000 of 1000 rows" in lines["TokenizedDataset"] and "none yet" in lines["adapter"]


def seconds_of(*words: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, check=False)
    return time.perf_counter() - started


@pytest.mark.everything
def test_it_takes_little_more_than_loading_the_model():
    """On two free cores loading takes 3 s and the check 4 s. The ratio is asserted: a busy machine slows both."""
    load = ("-c", "from homework.base_llm import BaseLLM; BaseLLM()")
    ratios = []
    while len(ratios) < 4 and min(ratios, default=9) >= 1.6:
        ratios.append(seconds_of("-m", "homework.check") / seconds_of(*load))
    assert min(ratios) < 1.6, ratios


def test_an_adapter_and_a_run_are_looked_at(verdicts, trained, student_folder):
    shutil.copytree(trained.folder, student_folder / "sft_model")
    (student_folder / "sft_model" / "checkpoint-8").mkdir()
    (student_folder / "sft_model" / "checkpoint-8" / "optimizer.pt").write_bytes(b"x" * 5000)
    shutil.copytree(trained.run, run_dir.RUNS / "sft-x")
    code, lines, _ = verdicts()
    assert code == 0, lines["adapter"]
    assert "finite, trained, and made for data/base_model" in lines["adapter"]
    assert re.search(rf"loss \d\.\d+ .* in {bundled_steps()} steps, all finite", lines["last run"])
    size = math.ceil((trained.folder / "adapter_model.safetensors").stat().st_size / 1000)
    assert f"sft_model/adapter_model.safetensors {size:,} kB" in lines["zip"]
    assert "left out: sft_model/checkpoint-8/optimizer.pt 5 kB" in lines["zip"]


def fault_package(patch, folder):
    (folder / "requirements.txt").write_text(
        'torch==1.0  # old\nno-such-package>=2\nof-another-system>=1 ; sys_platform == "amiga"\n'
    )
    patch.setattr(check, "ROOT", folder)


def fault_split(patch, folder):
    rows = json.loads((ROOT / "data" / "valid.json").read_text())
    patched = folder / "data"
    patched.mkdir()
    (patched / "train.json").write_text(json.dumps(rows[:40]))
    (patched / "valid.json").write_text(json.dumps(rows[30:60]))
    patch.setattr(data.Dataset.__init__, "__defaults__", (patched,))


def fault_weight(patch, folder):
    load_model = base_model.load_model

    def broken(*arguments):
        model = load_model(*arguments)
        with torch.no_grad():
            model.model.norm.weight[0] = float("inf")
        return model

    patch.setattr("homework.base_llm.load_model", broken)


def fault_float16(patch, folder):
    patch.setattr("homework.base_llm.pick_device", lambda: ("cpu", torch.float16, "for speed"))


def fault_parser(patch, folder):
    patch.setattr("homework.base_llm.BaseLLM.parse_answer", lambda self, text: 0.0)


def fault_generation(patch, folder):
    patch.setattr(BaseLLM, "batched_generate", plants.fixed_temperature(BaseLLM.batched_generate))


def fault_metric(patch, folder):
    patch.setattr("homework.guards.metric_check.is_answer_valid", lambda answer, correct: True)


def fault_texts(patch, folder):
    patch.setattr(BaseLLM, "complete", plants.echo(BaseLLM.complete))


def fault_answer(patch, folder):
    patch.setattr(BaseLLM, "answer", lambda self, *questions: [self.generate(questions[0]) and 1.5])


def fault_shares(patch, folder):
    wrong = data.BenchmarkResult(1.0, 1.0, [])
    patch.setattr(data.BenchmarkResult, "from_answers", classmethod(lambda cls, rows, answers: wrong))


def fault_one_by_one(patch, folder):
    patch.setattr(
        "homework.guards.metric_check.benchmark",
        lambda llm, rows, count: data.BenchmarkResult.from_answers(rows, [llm.answer(row[0]) for row in rows]),
    )


def fault_benchmark(patch, folder):
    patch.setattr("homework.guards.metric_check.benchmark", lambda llm, rows, count: data.benchmark(llm, rows))


def fault_format(patch, folder):
    patch.setattr(sft, "format_example", lambda question, answer: {"question": question, "answer": f"{answer:.3g}"})


def fault_space(patch, folder):
    example = sft.format_example
    patch.setattr(sft, "format_example", lambda *row: {"question": row[0], "answer": " " + example(*row)["answer"]})


def fault_digits(patch, folder):
    """No fault that costs an answer, but a student can see it."""
    patch.setattr(sft, "format_example", lambda q, number: {"question": q, "answer": f"<answer>{number!r}</answer>"})


def fault_list(patch, folder):
    patch.setattr(
        "homework.guards.metric_check.benchmark", lambda llm, rows, count: llm.answer([row[0] for row in rows])
    )


def fault_counts(patch, folder):
    def from_answers(cls, rows, answers):
        count = len(rows)
        samples = [data.Sample(q, a, c, data.is_answer_valid(a, c)) for (q, c), a in zip(rows, answers)]  # noqa: B905
        right, given = sum(s.is_correct for s in samples), sum(s.answer == s.answer for s in samples)
        return cls(right / count, given / count, samples)

    patch.setattr(data.BenchmarkResult, "from_answers", classmethod(from_answers))


def fault_rows(patch, folder):
    patch.setattr(sft.TokenizedDataset, "__len__", lambda self: len(self.rows) - 3)


def fault_load(patch, folder):
    patch.setattr(sft, "load", lambda folder, checkpoint=None: BaseLLM(checkpoint))


def fault_name(patch, folder):
    patch.setattr(sft, "load", lambda folder, checkpoint=None: read_config(folder))  # noqa: F821


def fault_seed(patch, folder):
    add_lora = sft.add_lora
    seeds = itertools.count()
    patch.setattr(sft, "add_lora", lambda model, recipe, seed: add_lora(model, recipe, next(seeds)))


def fault_batch(patch, folder):
    class Collator(sft.Collator):
        def __call__(self, rows):
            batch = super().__call__(rows)
            return {**batch, "labels": batch["input_ids"]}

    patch.setattr(sft, "Collator", Collator)


def fault_rows_of_a_batch(patch, folder):
    class Collator(sft.Collator):
        def __call__(self, rows):
            for row in rows:
                row["labels"] = row["input_ids"]
            return super().__call__(rows)

    patch.setattr(sft, "Collator", Collator)


def fault_layers(patch, folder):
    patch.setattr("peft.LoraConfig", plants.with_options(target_modules=["q_proj", "lm_head"]))


def fault_alpha(patch, folder):
    patch.setattr("peft.LoraConfig", plants.with_options(lora_alpha=16))


def fault_accumulation(patch, folder):
    arguments = sft.training_arguments
    patch.setattr(
        sft, "training_arguments", lambda *given, **more: arguments(*given, **more, gradient_accumulation_steps=4)
    )


def fault_half(patch, folder):
    arguments = sft.training_arguments
    patch.setattr(sft, "training_arguments", lambda *given, **more: arguments(*given, **more, fp16=True))


def fault_smoothing(patch, folder):
    arguments = sft.training_arguments
    more = {"label_smoothing_factor": 0.1}
    patch.setattr(sft, "training_arguments", lambda *given, **others: arguments(*given, **others, **more))


def fault_config(patch, folder):
    patch.setattr("peft.LoraConfig", plants.with_options(bias="all"))


def fault_inputs(patch, folder):
    patch.setattr(PreTrainedModel, "enable_input_require_grads", lambda self: None)


def fault_rate(patch, folder):
    arguments = sft.training_arguments
    patch.setattr(sft, "training_arguments", lambda recipe, **more: arguments(replace(recipe, learning_rate=1), **more))


def fault_steps(patch, folder):
    arguments = sft.training_arguments
    patch.setattr(sft, "training_arguments", lambda recipe, **more: arguments(recipe, **more | {"max_steps": -1}))


def fault_gap(patch, folder):
    path = folder / "sft.py"
    path.write_text(make_starter.strip(path.read_text(), "sft.py"))


def fault_labels(patch, folder):
    patch.setattr("homework.sft.tokenize", lambda tokenizer, question, answer: {"input_ids": [1]})


def fault_span(patch, folder):
    patch.setattr("homework.sft.tokenize", a1_trailing_space)


def fault_prompt(patch, folder):
    patch.setattr("homework.base_llm.BaseLLM.format_prompt", lambda self, question: question + " ")


def fault_lora(patch, folder):
    patch.setattr(watchdog, "lora_formula", lambda *_: 1)


def fault_adapter(patch, folder):
    (folder / "sft_model").mkdir()
    for name in zip_contents.ADAPTER_FILES:
        (folder / "sft_model" / name).write_text("{}")


def fault_example(patch, folder):
    patch.setattr(cot, "worked_example", lambda: ("Convert 46 ft to m.", "46 * 0.3 = 14.8. <answer>14.8</answer>"))


def fault_chat(patch, folder):
    patch.setattr(cot.CoTModel, "format_prompt", lambda self, question: question)


def fault_rule(patch, folder):
    patch.setattr(datagen, "find_fault", lambda completion, correct: None)


def fault_selection(patch, folder):
    patch.setattr(datagen, "select_rows", lambda question, correct, texts, most: [(question, correct, texts[0])])


def fault_reasoning(patch, folder):
    patch.setattr(rft, "format_reasoning", lambda question, answer, reasoning: sft.format_example(question, answer))


def fault_reasons(patch, folder):
    (folder / "rows.json").write_text(json.dumps([["How many g in 6 kg?", 6000.0, "<answer>6000</answer>"]]))
    patch.setattr(datagen, "OUTPUT", folder / "rows.json")


def fault_reasoning_adapter(patch, folder):
    fault_adapter(patch, folder)
    (folder / "sft_model").rename(folder / "rft_model")


def fault_run(patch, folder):
    (run_dir.RUNS / "sft-x").mkdir(parents=True)
    entry = {"step": 1, "loss": 0.0, "grad_norm": 0.0, "learning_rate": 1e-3}
    (run_dir.RUNS / "sft-x" / run_dir.LOG).write_text(json.dumps({"log": [entry]}))


def fault_size(patch, folder):
    patch.setattr(check, "ZIP_LIMIT", 10_000)


FAULTS = {
    fault_package: (
        "packages",
        "torch is .*, but ==1.0 is needed; no-such-package is missing: pip install -r requirements",
    ),
    fault_split: ("data", "10 questions are in train and in valid.*accuracy would be recall"),
    fault_weight: ("base model", "the weight model.norm.weight of data/base_model is not finite: fetch"),
    fault_float16: ("base model", "is loaded in float16, which overflows to NaN"),
    fault_parser: ("parse_answer", r"parse_answer\('42'\) is 0.0, not nan"),
    fault_prompt: ("format_prompt", "gives .*, and the training row begins otherwise"),
    fault_texts: ("complete_batch", "generate returns the prompt as well"),
    fault_generation: ("batched_generate", "at temperature 0.25 gives the model the temperature 0.7"),
    fault_answer: ("answer", "answer gives 1 answers to 3 questions"),
    fault_metric: ("is_answer_valid", r"is_answer_valid\(2.104, 2.0\) is True, not False"),
    fault_shares: ("from_answers", "the accuracy is 1, not 0.5"),
    fault_benchmark: ("benchmark", "benchmark of 2 of 256 questions asks 256, "),
    fault_counts: ("from_answers", "from_answers of 4 questions and 3 answers gives BenchmarkResult"),
    fault_one_by_one: (
        "benchmark",
        r"benchmark fails with TypeError.*answer takes any number of questions and gives a",
    ),
    fault_list: ("benchmark", r"benchmark asks \['2 km in m\?', .*, which is no question"),
    fault_space: ("format_example", "row 0: format_example writes ' ' beside the tags"),
    fault_format: ("format_example", "row 0: parse_answer finds no number in the answer"),
    fault_labels: ("tokenize", "tokenize must return a dictionary with input_ids, attention_mask, labels"),
    fault_span: ("tokenize", "row 0: the first answer token 'Ġ<' is masked, so nothing teaches the model to begin"),
    fault_rows: ("TokenizedDataset", "997 tokenized rows for 1000 rows of data: none may be dropped"),
    fault_batch: ("collate", "the labels that reach the model are not those of tokenize: the collator rebuilds them"),
    fault_rows_of_a_batch: ("collate", "the labels that reach the model are not those of tokenize"),
    fault_layers: ("add_lora", r"LoRA is on the output layer \(lm_head\) or the embeddings, which the grader refuses"),
    fault_alpha: ("add_lora", "the LoraConfig has lora_alpha 16, but recipe and flags say 64"),
    fault_accumulation: (
        "training_arguments",
        "gradient_accumulation_steps is 4 in the arguments, but recipe and flags say 1",
    ),
    fault_half: ("training_arguments", "training_arguments sets fp16, whose range overflows to NaN"),
    fault_smoothing: ("training_arguments", "sets label_smoothing_factor, which needs the logits of all positions"),
    fault_config: ("add_lora", "add_lora sets bias to 'all', which the grader refuses"),
    fault_lora: ("add_lora", "parameters would be trained, but LoRA of the recipe's rank, 16, has 1 on these layers"),
    fault_inputs: ("add_lora", "the inputs of the layers require no gradient"),
    fault_rate: ("training_arguments", "learning_rate is 1 in the arguments, but recipe and flags say 0.00125"),
    fault_steps: ("training_arguments", "max_steps is -1 in the arguments, but recipe and flags say 3"),
    fault_load: ("load", "load of an empty folder gives a model"),
    fault_name: ("load", r"NameError: name 'read_config' is not defined \(test_check.py, line \d+\)"),
    fault_seed: ("add_lora", "add_lora gives other first values each time with the same seed"),
    fault_adapter: ("adapter", "the adapter was trained on None, but the base model is data/base_model"),
    fault_example: ("worked_example", "the equation 46.0.3=14.8 is wrong"),
    fault_chat: ("cot_prompt", "after the question the prompt goes on with ''"),
    fault_rule: ("find_fault", "find_fault keeps .* but it was cut at the cap"),
    fault_selection: ("select_rows", "gives 1 rows of 4 texts with 2 different chains"),
    fault_reasoning: ("format_reasoning", "it is not the whole reasoning"),
    fault_reasons: ("rft.json", "row 0 of the rows with reasons: .* is no question of train"),
    fault_reasoning_adapter: ("rft adapter", "the adapter was trained on None"),
    fault_run: ("last run", "sft-x: loss was 0.0 at step 1: every label was -100"),
    fault_size: ("zip", "MB of 0: make the largest smaller: "),
}


def needed_by(name: str) -> tuple[tuple, ...]:
    """A check and those that it waits for: the whole list takes a second more."""
    kept = {name}
    for _, one, _, needs in reversed(check.CHECKS):
        kept |= {*needs} if one in kept else set()
    return tuple(found for found in check.CHECKS if found[1] in kept)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_check_fails_with_its_fix(verdicts, monkeypatch, student_folder, fault):
    name, message = FAULTS[fault]
    fault(monkeypatch, student_folder)
    monkeypatch.setattr(check, "CHECKS", needed_by(name))
    code, lines, err = verdicts()
    assert code == 1 and "checks failed: fix the first one" in err
    assert lines[name].startswith("[FAIL]")
    assert re.search(message, lines[name]), lines[name]


# What the student is to find out: not in the line of a check, but below it where `--hint` asks for it.
CURES = {
    fault_parser: "no answer must be NaN, never a number",
    fault_prompt: "the prompt is the question alone",
    fault_texts: "decode only the ids after the prompt's",
    fault_generation: "pass it on",
    fault_answer: "one for each, NaN where there is none",
    fault_metric: "a finite number whose distance is at most 5 %",
    fault_shares: "wrong and missing answers count among all",
    fault_benchmark: "take_rows gives the first ones",
    fault_format: "must write one plain number between <answer> and </answer>",
    fault_span: "its space belongs to the answer: .*; to look: python -m homework.sft show --first 0",
    fault_batch: "pad the labels with -100 and keep them",
    fault_lora: "take the recipe's rank",
    fault_inputs: "has to call enable_input_require_grads",
    fault_rate: "pass on what is given, and set no number in the code",
    fault_load: "read_adapter_config raises where a file is missing",
}


@pytest.mark.parametrize("fault", [*list(CURES)[:1], *(rest(fault) for fault in list(CURES)[1:])])
def test_the_cure_of_a_gap_stands_in_the_hint_alone(verdicts, command, monkeypatch, student_folder, fault):
    fault(monkeypatch, student_folder)
    _, lines, err = verdicts()
    failed = next(line for line in lines.values() if line.startswith("[FAIL]"))
    assert failed.endswith("; for a hint: python -m homework.check --hint")
    assert not re.search(CURES[fault], " ".join(lines.values()) + err)
    for words in ("--hint", f"--hint {failed[7:25].strip()}"):
        out = command(check.check, words)[1]
        assert re.search(rf"\[FAIL\].*\n +hint: .*{CURES[fault]}", out), out
        assert "for a hint" not in out


def test_a_hint_can_be_asked_of_one_task_or_gap(command, monkeypatch, student_folder):
    fault_gap(monkeypatch, student_folder)
    fault_parser(monkeypatch, student_folder)
    assert command(check.check, "")[1].count("hint: ") == 1, "the line that names --hint"
    for words, hints in (("--hint 1", 1), ("--hint parse_answer", 1), ("--hint 2", 0), ("--hint train_model", 1)):
        assert command(check.check, words)[1].count("\n       hint: ") == hints, words
    out = command(check.check, "--hint train_model")[1]
    assert "train_model is not implemented yet" in out and "hint: the lines '# Hint:' stand above that line" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--hint tokenise", r"no gap or task 'tokenise' \(did you mean tokenize\?\)"),
        ("--hint 9", "no gap or task '9': give"),
    ],
)
def test_a_hint_that_there_cannot_be_is_refused_before_anything_runs(command, words, said):
    code, out, err = command(check.check, words)
    assert code == 2 and not out and re.search(said, err)


def test_the_digits_of_the_answers_are_said(verdicts, monkeypatch, student_folder):
    assert "between the tags, of up to 3 digits, each within 5 %" in verdicts()[1]["format_example"]
    fault_digits(monkeypatch, student_folder)
    assert re.search(r"of up to 1\d digits, .* but a small model learns badly", verdicts()[1]["format_example"])


def test_what_rests_on_a_failed_check_is_not_run(verdicts, monkeypatch, student_folder):
    fault_weight(monkeypatch, student_folder)
    _, lines, err = verdicts()
    assert lines["parse_answer"].startswith("[----]") and "because base model failed" in lines["parse_answer"]
    assert lines["zip"].startswith("[ OK ]") and err.startswith(f"error: 1 of {len(check.CHECKS)} checks failed")


def test_a_file_that_does_not_compile_is_one_failure_with_its_line(verdicts, monkeypatch):
    def broken(known):
        compile("return", "cot.py", "exec")

    monkeypatch.setattr(check, "CHECKS", tuple((5, name, broken, ()) for name in ("worked_example", "cot_prompt")))
    code, lines, err = verdicts()
    assert lines["worked_example"].endswith(" SyntaxError: 'return' outside function (cot.py, line 1)")
    assert lines["cot_prompt"].startswith("[----]") and lines["cot_prompt"].endswith("it fails as above")
    assert code == 1 and "1 of 2 checks failed" in err


def test_the_gaps_that_are_left_are_counted_and_no_failure(verdicts, monkeypatch, student_folder):
    assert "gaps left" not in verdicts()[2]
    fault_gap(monkeypatch, student_folder)
    code, lines, err = verdicts()
    count = (student_folder / "sft.py").read_text().count("raise NotImplementedError")
    assert code == 1 and count >= 7 and f"error: gaps left: {count}, the next one is task 3: format_example" in err
    assert re.match(
        r"\[gap \] train_model +task 4: train_model is not implemented yet \(sft.py, line \d+\)$", lines["train_model"]
    )


def test_a_training_without_the_given_trainer_is_said_and_allowed(verdicts, monkeypatch):
    watches = "HomeworkTrainer, which resumes after an interruption, and stops at lost labels"
    assert f"takes {watches}" in verdicts()[1]["train_model"]
    monkeypatch.setattr(sft, "train_model", lambda output_dir=None: None)
    code, lines, _ = verdicts()
    assert code == 0 and f"goes without {watches}" in lines["train_model"]


def test_the_public_tests_want_no_report_of_a_training_without_the_given_trainer():
    assert takes_given_trainer(sft.train_model) and takes_given_trainer(partial(rft.train_model, data="rows.json"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inspect.getsource", lambda module: "for batch in batches: ...")
        assert not takes_given_trainer(partial(sft.train_model, seed=1))


def test_every_check_has_a_planted_fault():
    planted = {name for name, _ in FAULTS.values()}
    free = {"device", "train_model", "train_reasoning"}  # nothing to be wrong about; a gap or not, and which Trainer
    assert planted | free == {name for _, name, _, _ in check.CHECKS}


def test_an_unknown_checkpoint_is_a_failed_check(verdicts):
    _, lines, _ = verdicts("--checkpoint no/where/at-all")
    assert lines["base model"].startswith("[FAIL]") and "there is no checkpoint folder" in lines["base model"]


def test_only_code_and_the_adapter_go_into_the_zip(tmp_path):
    folder = tmp_path / "package"
    for name in ("sft.py", "sub/more.py", "sft_model/adapter_config.json", "sft_model/README.md", "notes.txt", "x.zip"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    inside, left_out = zip_contents.list_files(folder)
    wanted = {"sft.py", "sub/more.py", "sft_model/adapter_config.json"}
    assert {path.relative_to(folder).as_posix() for path in inside} == wanted
    assert {path.name for path in left_out} == {"README.md", "notes.txt", "x.zip"}


def test_the_formula_of_lora():
    model = add_lora(BaseLLM(BUNDLED).model, DEFAULT_RECIPE, seed=0)
    config = model.config
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    head = hidden // config.num_attention_heads
    queries, keys = head * config.num_attention_heads, head * config.num_key_value_heads
    layer = 2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + inner)
    assert watchdog.lora_formula(model, 8) == 8 * layers * layer == model.get_nb_trainable_parameters()[0]
