"""The failure table: what goes wrong in real submissions, which guard notices, and the first line the student reads.

Each failure is planted in the student's code, then the student's command is run to its end. A letter is a family: A labels,
B numerics, C the adapter, D prompt and parsing, E a failure that is hidden.
"""

import importlib
import re
from typing import NamedTuple

import pytest

from homework import check, sft
from tests.support import plants, wrong_spans
from tests.support.plants import TRAIN, Context, Plant, with_method, with_tokenize
from tests.support.rows import rest


class Failure(NamedTuple):
    """A failure, how it is planted, the function that notices it, and the first line, as a pattern."""

    id: str
    plant: Plant
    guard: str
    line: str
    quick: bool = False  # one of each family


FAILURES = (
    Failure("A1 space masked", with_tokenize(wrong_spans.a1_trailing_space), "guards.label_diagnosis.diagnose_start",
            r"row 0: the first answer token 'Ġ<' is masked, so nothing teaches the model to begin an answer; for a hint: python -m homework.check --hint$", quick=True),
    Failure("A2 no space", with_tokenize(wrong_spans.a2_no_space_join), "guards.label_diagnosis.diagnose_start",
            r"row 0: question and answer are joined without a space"),
    Failure("A3 nothing supervised", with_tokenize(wrong_spans.a3_tag_as_one_token), "guards.label_diagnosis.diagnose_length",
            r"row 0: every label is -100, so nothing is learned; for a hint"),
    Failure("A4 tag not found", with_tokenize(wrong_spans.a4_tag_search_falls_back), "guards.label_diagnosis.diagnose_start",
            r"row 0: the first 8 answer tokens 'Ġ<' 'answer' '>' .* are masked"),
    Failure("A4 search raises", with_tokenize(lambda tokenizer, question, answer: [1, 2].index(44)), "sft.TokenizedDataset",
            r"row 0: ValueError: 44 is not in list \(.*line \d+\)"),
    Failure("A5 tag in the prompt", with_tokenize(wrong_spans.a5_tag_in_the_prompt), "guards.label_diagnosis.diagnose_question",
            r"row 0: the supervised text begins inside the prompt: .*a tag in the prompt was taken for the answer's"),
    Failure("A6 no mask", with_tokenize(wrong_spans.a6_no_mask), "guards.label_diagnosis.diagnose_question",
            r"row 0: 18 of the question's 18 tokens are supervised"),
    Failure("A6 padding too", with_tokenize(wrong_spans.pads_supervised), "guards.label_diagnosis.diagnose_padding",
            r"row 0: \d+ padding tokens are supervised"),
    Failure("A7 collator rebuilds", plants.rebuilding_collator, "guards.watchdog.diagnose_batch",
            r"stopped before step 1: the labels that reach the model are not those of tokenize: the collator rebuilds", quick=True),
    Failure("A8 EOS masked", with_tokenize(wrong_spans.a8_no_eos), "guards.label_diagnosis.diagnose_eos",
            r"row 0: EOS is masked, so the model never learns to stop; for a hint"),
    Failure("A9 padding on the left", with_tokenize(plants.padded_left), "guards.label_diagnosis.diagnose_padding",
            r"row 0: padding stands before the question, so the mask covers the wrong tokens; for a hint"),
    Failure("A10 two EOS", with_tokenize(wrong_spans.a10_two_eos), "guards.label_diagnosis.diagnose_eos",
            r"row 0: EOS stands in the row 2 times"),
    Failure("A10 newline", with_tokenize(wrong_spans.a10_newline_after_eos), "guards.label_diagnosis.diagnose_eos",
            r"row 0: after EOS the row goes on with '\\n'"),
    Failure("A15 invented labels", with_tokenize(plants.truncated), "guards.label_diagnosis.diagnose_length",
            r"row 0: the row was cut after 12 of 31 tokens, so its answer is not whole; for a hint"),
    Failure("B1 not finite", plants.nan_weight, "guards.watchdog.diagnose_loss",
            r"stopped before step 1: the loss is nan with \d+ supervised tokens: the weight .*norm.weight is not finite", quick=True),
    Failure("B2 scaler skips", plants.recorded_scaler_log, "guards.watchdog.diagnose_log",
            r"last run +sft-recorded: 32 of 60 steps were skipped by a float16 gradient scaler .*learning rate stays at 0.002"),
    Failure("B3 gradients zeroed", plants.zeroed_gradients, "guards.watchdog.diagnose_gradient",
            r"stopped before step 1: the gradient norm is exactly 0.0: .*gradients set to zero"),
    Failure("B4 NaN replaced", plants.constant_for_nan, "guards.watchdog.diagnose_loss_by_hand",
            r"stopped before step 1: the loss is given as 0.01, but the model's logits make it nan: somebody replaces a NaN"),
    Failure("B7 no input gradients", plants.cut_off_inputs, "guards.watchdog.check_input_gradients",
            r"the inputs of the layers require no gradient, so re-entrant .* train nothing; for a hint"),
    Failure("B7 unnoticed", plants.unnoticed_inputs, "training.trainer.HomeworkTrainer",
            r"stopped before step 1: no gradient reaches the adapter: checkpointing needs enable_input_require_grads"),
    Failure("B7 logits detached", plants.detached_logits, "training.trainer.HomeworkTrainer",
            r"stopped before step 1: no gradient reaches the adapter: .*nothing may detach the logits"),
    Failure("B8 plain arguments", plants.plain_arguments, "training.trainer.check_model",
            r"training_arguments gives TrainingArguments: take HomeworkArguments, which has the same fields"),
    Failure("C1 load overwrites", plants.load_that_writes, "guards.reload_check.check_load",
            r"load\(\) has changed the adapter in .*: it must only read", quick=True),
    Failure("C2 made-up adapter", plants.untrained_adapter, "training.adapter.check_weights",
            r"the adapter in .* is untrained \(every lora_B is zero\)"),
    Failure("C3 base in its place", plants.load_that_falls_back, "guards.reload_check.check_load",
            r"load\(\) is the base model, without the adapter: it gives other logits than the trained model"),
    Failure("C4 adapter thrown away", plants.adapter_thrown_away, "guards.watchdog.check_trainable",
            r"the model to train is a LlamaForCausalLM without an adapter; for a hint"),
    Failure("C3 bare model", plants.load_of_a_bare_model, "training.trainer.HomeworkTrainer",
            r"load\(\) gives a PeftModel.*, not a BaseLLM with the adapter"),
    Failure("C3 another folder", plants.load_of_another_folder, "training.trainer.HomeworkTrainer",
            r"the adapter is saved in .*, but load\(\), which has to read that very folder, fails: no trained adapter: .*elsewhere"),
    Failure("C3 load called", plants.load_called_too_early, "training.trainer.HomeworkTrainer",
            r"trainer.save is given <.*BaseLLM.*>, not a function that loads what was saved"),
    Failure("C5 saved elsewhere", plants.saved_elsewhere, "training.adapter.read_adapter_config",
            r"no trained adapter: .* is missing \(a training has left .*checkpoint-9: trainer.save writes the adapter"),
    Failure("C6 another is saved", plants.other_model_saved, "training.adapter.save_adapter",
            r"the model to save is untrained \(every lora_B is zero\): save the one that was trained"),
    Failure("C7 wrong base", plants.other_base, "training.adapter.check_base",
            r"the adapter was trained on data/base_model, but the base model is tiny-llama"),
    Failure("C11 flag ignored", plants.with_arguments(max_steps=-1), "guards.watchdog.check_arguments",
            r"max_steps is -1 in the arguments, but recipe and flags say 2: .*; for a hint"),
    Failure("C11 seed ignored", plants.with_arguments(seed=42), "training.trainer.check_model",
            r"seed is 42 in the arguments, but recipe and flags say 0: .*; for a hint"),
    Failure("C11 no number", plants.with_arguments(max_steps=None), "guards.watchdog.check_arguments",
            "max_steps is None in the arguments, but recipe and flags say"),
    Failure("C11 epochs ignored", plants.with_recipe(epochs=5), "guards.watchdog.check_arguments",
            r"num_train_epochs is 5 in the arguments, but recipe and flags say 2: .*; for a hint"),
    Failure("C11 rate ignored", plants.with_recipe(learning_rate=1.0), "guards.watchdog.check_arguments",
            r"learning_rate is 1 in the arguments, but recipe and flags say 0.002: .*; for a hint"),
    Failure("C12 rank too high", lambda context: TRAIN + " --rank 65", "training.start.check_flags",
            r"--rank must be 64 or less, or the grader refuses the adapter; got 65"),
    Failure("C11 flag misspelt", lambda context: TRAIN + " --num-epochs 10", "common.cli.read_flag",
            r"unknown option --num-epochs \(did you mean --epochs\?\)"),
    Failure("D1 other prompt", with_method("format_prompt", plants.ask_otherwise), "guards.inference_check.diagnose_raw_prompt",
            r"format_prompt\(.*\) gives .* Answer:., and the training row begins otherwise; for a hint", quick=True),
    Failure("D2 tag in the prompt", with_method("format_prompt", plants.ask_with_the_tag), "guards.inference_check.diagnose_raw_prompt",
            r"the prompt at inference holds '<answer>', which is in no training prompt and not in the text"),
    Failure("D3 formatted twice", with_method("complete", plants.format_twice), "guards.inference_check.diagnose_generate",
            r"generate\('How many apples .*gives the model 'Convert: How many apples .*, not its prompt; for a hint"),
    Failure("D4 echo", with_method("complete", plants.echo), "guards.inference_check.diagnose_generate",
            r"generate returns the prompt as well"),
    Failure("D5 any number", with_method("parse_answer", plants.any_number), "guards.inference_check.diagnose_parser",
            r"parse_answer\('42'\) is 42.0, not nan; for a hint"),
    Failure("D5 None", with_method("parse_answer", lambda _: lambda self, text: None), "guards.inference_check.diagnose_parser",
            r"parse_answer\('42'\) returns None, not a float; for a hint"),
    Failure("D6 tag injected", with_method("complete", plants.prepend_tag), "guards.inference_check.diagnose_generate",
            r"the model wrote ' a dozen apples', but generate returns '<answer> a dozen apples'"),
    Failure("D7 samples mixed up", with_method("batched_generate", plants.mixed_samples), "guards.inference_check.diagnose_shapes",
            r"batched_generate with num_return_sequences=3 mixes up its prompts: the model wrote"),
    Failure("D8 always greedy", with_method("batched_generate", plants.always_greedy), "guards.inference_check.diagnose_sampling",
            r"batched_generate at temperature 0.25 is greedy; for a hint"),
    Failure("D8 temperature ignored", with_method("batched_generate", plants.fixed_temperature), "guards.inference_check.diagnose_sampling",
            r"batched_generate at temperature 0.25 gives the model the temperature 0.7; for a hint"),
    Failure("E2 zero for nothing", with_method("parse_answer", plants.zero_for_nothing), "guards.inference_check.diagnose_parser",
            r"parse_answer\('42'\) is 0.0, not nan; for a hint", quick=True),
)  # fmt: skip


def first_line(command, context: Context, words: str) -> str:
    """The first line that a student reads as an error, from a command line that fails."""
    program, *rest = words.format(out=context.folder / "sft_model").split()
    code, out, err = command(sft.COMMANDS if program == "sft" else check.check, " ".join(rest))
    assert code in (1, 2), out + err
    assert "Traceback" not in out + err
    lines = [line for line in out.splitlines() if line.startswith("[FAIL] ")] + err.splitlines()
    return next(line for line in lines if line.startswith(("[FAIL] ", "error: "))).split(" ", 1)[1]


ROWS = [(pytest.param if failure.quick else rest)(failure, id=failure.id) for failure in FAILURES]


@pytest.mark.parametrize("failure", ROWS)
def test_the_first_line_names_the_true_cause(failure, monkeypatch, tmp_path, trained, tiny_checkpoint, command):
    context = Context(monkeypatch, tmp_path, trained.folder, tiny_checkpoint)
    line = first_line(command, context, failure.plant(context))
    assert re.match(failure.line, line), line
    assert len(line) < 500, "one screen"


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.id)
def test_the_guard_exists(failure):
    module, _, name = failure.guard.rpartition(".")
    assert hasattr(importlib.import_module(f"homework.{module}"), name)


def test_the_quick_run_has_one_of_each_family():
    assert {failure.id[0] for failure in FAILURES if failure.quick} == {failure.id[0] for failure in FAILURES}


def test_without_the_plant_the_same_command_succeeds(command, tmp_path):
    code, out, err = command(sft.COMMANDS, TRAIN.removeprefix("sft ").format(out=tmp_path / "sft_model"))
    assert code == 0, err
    assert "adapter saved" in out
