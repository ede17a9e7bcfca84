"""The inference check: faults between question and answer that the table of failures does not hold."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from homework import sft
from homework.base_llm import BaseLLM
from homework.common.errors import HomeworkError
from homework.guards.inference_check import check_answering, check_lengths, check_prompt
from homework.guards.metric_check import check_metric
from homework.sft import TokenizedDataset, format_example
from tests.submissions.unusual import OWN_DECODING
from tests.support import plants


def test_a_good_homework_passes(llm, data, rows):
    check_metric()
    check_answering(llm, data)
    check_prompt(llm, data, rows)


def as_flat_list(self, prompts, num_return_sequences=None, temperature=0):
    return [text for text, _ in self.complete(list(prompts) * (num_return_sequences or 1))]


def raise_error(self, *prompts):
    raise KeyError("prompt")


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("batched_generate", as_flat_list, r"num_return_sequences=1 gives 2 texts, not \[1, 1\]"),
        ("answer", raise_error, r"failed with KeyError: 'prompt' \(test_inference_check.py, line \d+\)"),
        (
            "answer",
            lambda self, *questions: [self.generate(questions[0]) and 1.5],
            "answer gives 1 answers to 3 questions",
        ),
    ],
)
def test_other_faults_of_the_prompt_are_named(monkeypatch, llm, data, name, method, message):
    monkeypatch.setattr(BaseLLM, name, method)
    with pytest.raises(HomeworkError, match=message):
        check_answering(llm, data)


def padded_right(original):
    def complete_batch(self, rows, *rest):
        width = max(map(len, rows))
        return original(self, [row + [self.tokenizer.eos_token_id] * (width - len(row)) for row in rows], *rest)

    return complete_batch


def seen(original):
    def complete_batch(self, rows, *rest):
        width = max(map(len, rows))
        return original(self, [[self.tokenizer.eos_token_id] * (width - len(row)) + row for row in rows], *rest)

    return complete_batch


def always_cold(original):
    return lambda self, rows, cap, temperature: original(self, rows, cap, 0)


def cold_alone(original):
    def batched_generate(self, prompts, num_return_sequences=None, temperature=0):
        return original(self, prompts, num_return_sequences, temperature if num_return_sequences else 0)

    return batched_generate


def only_texts(original):
    return lambda self, *given: [text for text, _ in original(self, *given)]


def always_ended(original):
    return lambda self, *given: [one._replace(ended=True) for one in original(self, *given)]


def nothing(original):
    return lambda self, *given, **named: original(self, *given, **named) and None


def answered_alone(original):
    return lambda self, *questions: [number for number in original(self, *questions) if number == number]


def raising(original):
    return lambda self, text: float(re.findall(r"<answer>(.*)</answer>", text)[0])


def out_of_order(original):
    return lambda self, prompts, *rest: original(self, sorted(prompts, key=len), *rest)


def greedy_no_more(**wrong):
    def make(original):
        from transformers import GenerationConfig

        def complete_batch(self, rows, cap, temperature):
            with pytest.MonkeyPatch.context() as patch:
                init = GenerationConfig.__init__
                patch.setattr(GenerationConfig, "__init__", lambda it, **given: init(it, **{**given, **wrong}))
                return original(self, rows, cap, temperature)

        return complete_batch

    return make


def rounding(original):
    return lambda self, *questions: [round(number, 2) for number in original(self, *questions)]


def cutting(original):
    return lambda self, prompt: original(self, prompt)[:14]


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("complete_batch", padded_right, "shorter prompts of a batch end in padding, and the model goes on after it"),
        ("complete_batch", seen, "the model sees the padding of shorter prompts as if it were text"),
        ("complete_batch", greedy_no_more(max_new_tokens=8), r"cap=9 lets the model write \[8\] tokens"),
        (
            "complete_batch",
            greedy_no_more(max_new_tokens=None, max_length=9),
            r"cap=9 lets the model write \[\d\] tokens",
        ),
        ("complete_batch", always_cold, "complete_batch at temperature 0.25 is greedy"),
        ("complete_batch", only_texts, r"complete_batch returns \[' <answer>12</answer>.*, not a list of Completion"),
        ("complete_batch", always_ended, "the model wrote no EOS in each of 2 rows, but complete_batch returns"),
        ("complete_batch", nothing, "complete_batch returns None, not a list of Completion"),
        ("batched_generate", nothing, "batched_generate of 3 prompts returns None, not a list of texts"),
        ("batched_generate", cold_alone, "batched_generate at temperature 0.25 is greedy"),
        ("answer", nothing, "answer of 3 questions returns None, not a list of numbers"),
        ("answer", answered_alone, "answer gives 0 answers to 3 questions"),
        ("format_prompt", nothing, r"format_prompt\(.*\) gives None, and the training row begins otherwise"),
        ("parse_answer", raising, r"parse_answer\('42'\) raises IndexError: list index out of range \(.*line \d+\)"),
        ("complete", out_of_order, "batched_generate mixes up its prompts"),
        ("complete_batch", greedy_no_more(do_sample=True), "generation samples where temperature is 0"),
        ("complete_batch", greedy_no_more(repetition_penalty=1.5), "a repetition_penalty of 1.5"),
        ("complete_batch", greedy_no_more(min_new_tokens=10), "a min_new_tokens of 10, but an answer ends where"),
        ("complete_batch", greedy_no_more(num_beams=4), "a num_beams of 4, but greedy decoding"),
        ("complete_batch", greedy_no_more(eos_token_id=31), "generation stops at token 31, but training taught EOS"),
        ("answer", rounding, "answer mixes up or changes its answers"),
        ("encode_prompt", cutting, "a batch of prompts of different length reaches the model wrongly"),
    ],
)
def test_decoding_that_loses_the_answer_is_named(monkeypatch, llm, data, name, make, message):
    monkeypatch.setattr(BaseLLM, name, make(getattr(BaseLLM, name)))
    with pytest.raises(HomeworkError, match=message):
        check_answering(llm, data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (plants.mixed_samples, r"batched_generate with num_return_sequences=3 mixes up its prompts: .*lists hold \[\["),
        (plants.always_greedy, "batched_generate at temperature 0.25 is greedy$"),
        (plants.fixed_temperature, "batched_generate at temperature 0.25 gives the model the temperature 0.7$"),
    ],
)
def test_samples_that_are_not_those_asked_for_are_named(monkeypatch, llm, data, make, message):
    monkeypatch.setattr(BaseLLM, "batched_generate", make(BaseLLM.batched_generate))
    with pytest.raises(HomeworkError, match=message):
        check_answering(llm, data)


def test_tokens_that_the_model_does_not_know_are_named(data):
    llm = BaseLLM()
    llm.tokenizer.add_tokens(["<answer>"])
    rows = TokenizedDataset(llm.tokenizer, data, format_example)
    with pytest.raises(HomeworkError, match="gives '<answer>' the id 1024, but the model knows 1024 ids"):
        check_prompt(llm, data, rows)


def test_rows_that_are_longer_than_the_model_reads_are_named(monkeypatch, llm, data, rows):
    lengths = [len(row["input_ids"]) for row in rows]
    first = lengths.index(max(lengths))
    monkeypatch.setattr(llm.model.config, "max_position_embeddings", max(lengths))
    check_prompt(llm, data, rows)  # the longest row just fits
    monkeypatch.setattr(llm.model.config, "max_position_embeddings", max(lengths) - 1)
    with pytest.raises(HomeworkError, match=rf"row {first} has {max(lengths)} tokens, but the model reads \d+: drop"):
        check_prompt(llm, data, rows)


def test_a_question_of_valid_that_is_too_long_is_named_before_training(llm):
    with pytest.raises(HomeworkError, match=r"valid, row 1: \d+ tokens, but the model reads 1 to 255"):
        check_lengths(llm, [("short?", 1.0), ("word " * 200, 1.0)], "valid")


def test_code_that_asks_the_model_for_more_is_no_fault(monkeypatch, llm, data, rows):
    original = BaseLLM.complete_batch

    def complete_batch(self, *arguments):
        self.model.eval()
        assert next(self.model.parameters()).device.type == self.model.device.type
        return original(self, *arguments)

    monkeypatch.setattr(BaseLLM, "complete_batch", complete_batch)
    check_answering(llm, data)
    check_prompt(llm, data, rows)


def own_decoding(edit: Callable[[str], str] = str) -> Callable[..., Any]:
    """The decoding loop of a test submission, edited, as a function."""
    made: dict[str, Any] = {}
    exec(edit(OWN_DECODING), made)
    return made["complete_batch"]


def beside_padding(self, batch, cap, temperature):
    """Pads on the right, and lets the model see it."""
    width, eos = max(map(len, batch)), self.tokenizer.eos_token_id
    ids = torch.tensor([[*row, *[eos] * (width - len(row))] for row in batch])
    for _ in range(cap):
        ids = torch.cat([ids, self.model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return [self.decode_completion(row[width:].tolist()) for row in ids]


@pytest.mark.parametrize(
    "loop",
    [
        beside_padding,
        own_decoding(lambda text: text.replace("ids[len(row) :]", "ids")),  # the prompt as well
        own_decoding(lambda text: text.replace("len(row) + cap", "len(row) + 1")),
        own_decoding(lambda text: text.replace("argmax", "argmin")),
        own_decoding(lambda text: text.replace("in rows:", "in rows[::-1]:")),
    ],
    ids=["beside padding", "echo", "one token", "least likely", "out of order"],
)
def test_a_decoding_loop_of_ones_own_that_writes_other_texts_is_named(monkeypatch, llm, data, loop):
    monkeypatch.setattr(BaseLLM, "complete_batch", loop)
    with pytest.raises(HomeworkError, match=r"complete_batch with cap=9 gives .* but the model's generate"):
        check_answering(llm, data)


def test_a_decoding_loop_of_ones_own_has_to_give_completions(monkeypatch, llm, data):
    right = own_decoding()
    monkeypatch.setattr(BaseLLM, "complete_batch", lambda *given: [one.text for one in right(*given)])
    with pytest.raises(HomeworkError, match=r"complete_batch of 3 rows returns .* not a Completion for each"):
        check_answering(llm, data)


def with_cache(self, batch, cap, temperature):
    """Pads on the left, keeps what was computed, and cuts blanks off."""
    width, eos = max(map(len, batch)), self.tokenizer.eos_token_id
    ids = torch.tensor([[eos] * (width - len(row)) + row for row in batch])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
    written, cache, step = [], None, ids
    for _ in range(cap):
        out = self.model(input_ids=step, attention_mask=mask, past_key_values=cache, use_cache=True)
        step, cache = out.logits[:, -1:].argmax(-1), out.past_key_values
        mask = torch.cat([mask, torch.ones_like(step)], dim=1)
        written.append(step)
    found = [self.decode_completion(row) for row in torch.cat(written, dim=1).tolist()]
    return [one._replace(text=one.text.strip()) for one in found]


@pytest.mark.parametrize("loop", [own_decoding(), with_cache], ids=["row by row", "with a cache"])
def test_a_right_decoding_loop_of_ones_own_is_no_fault_and_trains(monkeypatch, llm, data, rows, loop):
    monkeypatch.setattr(BaseLLM, "complete_batch", loop)
    check_answering(llm, data)
    check_prompt(llm, data, rows)
    monkeypatch.setattr(BaseLLM, "parse_answer", lambda self, text: 0.0)
    with pytest.raises(HomeworkError, match="parse_answer"):
        check_answering(llm, data)


@pytest.mark.parametrize("metric", [lambda *_: True, lambda a, b, tolerance=0.05: a - b <= tolerance * b])
def test_a_metric_that_flatters_is_named(monkeypatch, metric):
    monkeypatch.setattr("homework.guards.metric_check.is_answer_valid", metric)
    with pytest.raises(HomeworkError, match="is_answer_valid"):
        check_metric()


def test_training_on_valid_is_named(monkeypatch, tmp_path):
    dataset = sft.Dataset
    monkeypatch.setattr(sft, "Dataset", lambda split: dataset("valid"))
    with pytest.raises(HomeworkError, match="1000 questions are in train and in valid"):
        sft.train_model(output_dir=str(tmp_path / "a"))


def test_a_cap_that_cuts_answers_is_named(monkeypatch, llm, data, rows):
    monkeypatch.setattr("homework.base_llm.LONGEST_ANSWER", " <answer>")
    with pytest.raises(HomeworkError, match=r"generation stops after \d tokens, but answer and EOS take up to 1\d"):
        check_prompt(llm, data, rows)
