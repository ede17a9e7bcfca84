"""The first step and the rehearsal: faults that the table of failures does not hold.

python -m pytest tests/test_first_step.py
"""

import pytest
import torch

from homework import sft, training
from homework.base_llm import BaseLLM
from homework.data import Dataset
from homework.errors import HomeworkError
from homework.first_step import check_trainable, diagnose_batch, diagnose_loss_by_hand
from homework.rehearsal import rehearse
from homework.report import refuse_doubtful
from homework.runs import Run
from homework.sft import TokenizedDataset, format_example
from homework.watchdog import diagnose_log


@pytest.fixture(scope="module")
def llm() -> BaseLLM:
    return BaseLLM()


@pytest.fixture
def model():
    return training.add_lora(BaseLLM().model, "base", training.DEFAULT_RECIPE, seed=0)


@pytest.fixture(scope="module")
def data() -> list[tuple[str, float]]:
    return [Dataset("train")[index] for index in range(8)]


@pytest.fixture(scope="module")
def rows(llm, data) -> TokenizedDataset:
    return TokenizedDataset(llm.tokenizer, data, format_example)


# --- what is trained ---


def test_an_unfrozen_base_is_named(model):
    model.get_input_embeddings().weight.requires_grad_(True)
    with pytest.raises(HomeworkError, match=r"the base model is not frozen: 1 of its weights .*embed_tokens"):
        check_trainable(model, training.DEFAULT_RECIPE.rank)


def test_a_frozen_adapter_is_named(model):
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(HomeworkError, match=r"0 parameters would be trained, but LoRA of rank 8 .* has 110,592"):
        check_trainable(model, training.DEFAULT_RECIPE.rank)


def test_too_few_target_modules_are_named(monkeypatch):
    config = training.LoraConfig
    few = ["q_proj", "v_proj"]
    monkeypatch.setattr(training, "LoraConfig", lambda **options: config(**{**options, "target_modules": few}))
    model = training.add_lora(BaseLLM().model, "base", training.DEFAULT_RECIPE, seed=0)
    with pytest.raises(HomeworkError, match="target_modules must be 'all-linear'"):
        check_trainable(model, training.DEFAULT_RECIPE.rank)


def test_no_model_at_all_is_named():
    with pytest.raises(HomeworkError, match=r"a NoneType without an adapter: .*require_grads returns None"):
        check_trainable(None, 8)


# --- the first batch ---


@pytest.fixture
def batch(llm, rows) -> dict[str, torch.Tensor]:
    return training.Collator(llm.pad_id)([rows[index] for index in range(4)])


def test_a_good_batch_passes(model, rows, batch):
    assert diagnose_batch(batch, rows) is None
    assert diagnose_loss_by_hand(model, batch, lambda model, inputs: model(**inputs).loss) is None
    assert model.training is False or model.training is True


def test_ids_of_no_row_are_named(rows, batch):
    batch["input_ids"][0, 0] += 1
    assert "ids that are in no proved row" in diagnose_batch(batch, rows)


def test_supervised_padding_is_named(rows, batch):
    batch["labels"][batch["attention_mask"] == 0] = 2
    assert "the collator rebuilds them" in diagnose_batch(batch, rows)


@pytest.mark.parametrize("wrong", ["shifted twice", "mean over all", "constant"])
def test_a_loss_that_is_not_that_of_the_labels_is_named(model, batch, wrong):
    def compute_loss(model, inputs):
        if wrong == "constant":
            return torch.tensor(3.0)
        loss = model(**inputs).loss
        if wrong == "mean over all":
            return loss * (inputs["labels"] != -100).float().mean()
        labels = torch.roll(inputs["labels"], -1, dims=1)
        return model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels).loss

    assert "somebody replaced the loss" in diagnose_loss_by_hand(model, batch, compute_loss)


# --- the way from question to answer ---


def test_a_good_homework_passes_the_rehearsal(llm, data, rows):
    rehearse(llm, data, rows)


def as_flat_list(self, prompts, num_return_sequences=None, temperature=0):
    return [text for text, _ in self.complete(list(prompts) * (num_return_sequences or 1))]


def raise_error(self, *prompts):
    raise KeyError("prompt")


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("batched_generate", as_flat_list, r"num_return_sequences=1 gives lists of .*, not \[1, 1\]"),
        ("answer", raise_error, r"failed with KeyError: 'prompt' \(test_first_step.py, line \d+\)"),
        (
            "answer",
            lambda self, *questions: [self.generate(questions[0]) and 1.5],
            "answer gives 1 answers to 3 questions",
        ),
    ],
)
def test_other_faults_of_the_prompt_are_named(monkeypatch, llm, data, rows, name, method, message):
    monkeypatch.setattr(BaseLLM, name, method)
    with pytest.raises(HomeworkError, match=message):
        rehearse(llm, data, rows)


def padded_right(original):
    def complete_batch(self, rows, *rest):
        width = max(map(len, rows))
        return original(self, [row + [self.tokenizer.eos_token_id] * (width - len(row)) for row in rows], *rest)

    return complete_batch


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
        ("complete_batch", padded_right, "a batch of prompts of different length reaches the model wrongly"),
        ("complete", out_of_order, "answer mixes up or changes its answers"),
        ("complete_batch", greedy_no_more(do_sample=True), "generation samples where temperature is 0"),
        ("complete_batch", greedy_no_more(repetition_penalty=1.5), "a repetition_penalty of 1.5"),
        ("complete_batch", greedy_no_more(eos_token_id=31), "generation stops at token 31, but training taught EOS"),
        ("answer", rounding, "answer mixes up or changes its answers"),
        ("encode_prompt", cutting, "a batch of prompts of different length reaches the model wrongly"),
    ],
)
def test_decoding_that_loses_the_answer_is_named(monkeypatch, llm, data, rows, name, make, message):
    monkeypatch.setattr(BaseLLM, name, make(getattr(BaseLLM, name)))
    with pytest.raises(HomeworkError, match=message):
        rehearse(llm, data, rows)


def test_code_that_asks_the_model_for_more_is_no_fault(monkeypatch, llm, data, rows):
    original = BaseLLM.complete_batch

    def complete_batch(self, *arguments):
        self.model.eval()
        assert next(self.model.parameters()).device.type == self.model.device.type
        return original(self, *arguments)

    monkeypatch.setattr(BaseLLM, "complete_batch", complete_batch)
    rehearse(llm, data, rows)


@pytest.mark.parametrize("metric", [lambda *_: True, lambda a, b, tolerance=0.05: a - b <= tolerance * b])
def test_a_metric_that_flatters_is_named(monkeypatch, llm, data, rows, metric):
    monkeypatch.setattr("homework.rehearsal.is_answer_valid", metric)
    with pytest.raises(HomeworkError, match="is_answer_valid"):
        rehearse(llm, data, rows)


@pytest.mark.parametrize(
    ("losses", "answered", "message"),
    [
        ([5.0] * 30, 0.0, "nothing was learned: the loss was 5.00 and is 5.00"),
        (
            [5.0, *[0.01] * 30],
            0.1,
            "only 10% of their questions are answered: the fault lies between",
        ),
    ],
)
def test_a_saved_adapter_that_cannot_be_right_is_an_error(losses, answered, message):
    log = [{"step": step, "loss": loss} for step, loss in enumerate(losses)] + [
        {"step": 31, "accuracy_train": answered}
    ]
    with pytest.raises(HomeworkError, match=message):
        refuse_doubtful(log)
    refuse_doubtful(log[:5])  # a quick run proves nothing
    refuse_doubtful([{"loss": 5.0 / step} for step in range(1, 40)] + [{"accuracy_train": 0.9}])


def test_a_float16_model_is_named(model):
    with pytest.raises(HomeworkError, match="the model is in float16"):
        check_trainable(model.half(), training.DEFAULT_RECIPE.rank)


def test_a_warm_up_that_begins_with_nothing_is_no_fault(model, rows, tmp_path):
    recipe = training.Recipe(epochs=1, batch_size=4, learning_rate=1e-3, rank=8, alpha=32)
    with Run(tmp_path, {}) as run:
        training.fit(model, rows, recipe, training.Collator(2), run=run, max_steps=3, warmup_steps=2)


def test_training_on_valid_is_named(monkeypatch, tmp_path):
    dataset = sft.Dataset
    monkeypatch.setattr(sft, "Dataset", lambda split: dataset("valid"))
    with pytest.raises(HomeworkError, match="1000 questions are in train and in valid"):
        sft.train_model(output_dir=str(tmp_path / "a"))


def test_a_cap_that_cuts_answers_is_named(monkeypatch, llm, data, rows):
    monkeypatch.setattr("homework.base_llm.LONGEST_ANSWER", " <answer>")
    with pytest.raises(HomeworkError, match=r"generation stops after \d tokens, but answer and EOS take up to 1\d"):
        rehearse(llm, data, rows)


# --- recorded logs ---


def entry(step: int, loss: float, norm: float, rate: float) -> dict:
    return {"step": step, "loss": loss, "grad_norm": norm, "learning_rate": rate}


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ([entry(1, 0.0, 0.0, 2e-3)], "every label was -100"),
        ([entry(1, float("nan"), 0.0, 2e-3)], "every label was -100"),
        ([entry(1, float("nan"), float("nan"), 2e-3)], "not finite, most likely in float16"),
        ([entry(1, 0.01, 0.0, 2e-3)], "the loss was a constant, or the gradients were set to zero"),
        ([entry(1, 0.0, 1.0, 2e-3)], "the loss was not that of the labels"),
        ([entry(1, 2.0, float("nan"), 2e-3), entry(2, 2.1, 1.0, 2e-3)], "1 of 2 steps were skipped by a float16"),
        ([entry(10, 2.0, float("nan"), 2e-3), entry(20, 1.4, 1.0, 1.99e-3)], "falls from 0.002 to 0.00199 only"),
        (
            [entry(1, 0.0, float("nan"), 2e-3), entry(2, 0.0, float("nan"), 1.9e-3)],
            "not finite, most likely in float16",
        ),
        ([{**entry(1, 2.0, 1.0, 2e-3), "grad_norm": "nan"}], "not finite, most likely in float16"),
    ],
)
def test_a_log_is_read_as_in_the_fingerprint_table(log, message):
    assert message in diagnose_log(log)


def test_a_healthy_log_passes():
    constant = [entry(step, 1.0 / step, 0.5, 1e-3) for step in range(1, 9)]  # a constant rate is no skipped step
    assert diagnose_log(constant) is None and diagnose_log([]) is None
