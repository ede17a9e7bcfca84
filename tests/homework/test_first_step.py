"""The first step and the rehearsal: faults that the table of failures does not hold."""

import peft
import pytest
import torch

from homework.base_llm import BaseLLM
from homework.common.errors import HomeworkError
from homework.guards.watchdog import check_trainable, diagnose_batch, diagnose_log, diagnose_loss_by_hand
from homework.reporting.results import check_outcome
from homework.sft import Collator, add_lora, training_arguments
from homework.training.batches import select_supervised
from homework.training.evaluation import wilson_interval
from homework.training.recipe import DEFAULT_RECIPE, Recipe
from homework.training.run_dir import steps_of
from tests.support.trainers import few, open_trainer


@pytest.fixture
def model():
    return add_lora(BaseLLM().model, DEFAULT_RECIPE, seed=0)


# --- what is trained ---


def test_an_unfrozen_base_is_named(model):
    model.get_input_embeddings().weight.requires_grad_(True)
    with pytest.raises(HomeworkError, match=r"the base model is not frozen: 1 of its weights .*embed_tokens"):
        check_trainable(model, DEFAULT_RECIPE.rank)


def test_a_frozen_adapter_is_named(model):
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(
        HomeworkError, match=r"0 parameters would be trained, but LoRA of the recipe's rank, 8, has 137,216"
    ):
        check_trainable(model, DEFAULT_RECIPE.rank)


def test_some_target_modules_are_allowed_and_said(monkeypatch, capsys):
    config = peft.LoraConfig
    few = ["q_proj", "v_proj"]
    monkeypatch.setattr(peft, "LoraConfig", lambda **options: config(**{**options, "target_modules": few}))
    model = add_lora(BaseLLM().model, DEFAULT_RECIPE, seed=0)
    check_trainable(model, DEFAULT_RECIPE.rank)
    assert "LoRA is on some of the linear layers only" in capsys.readouterr().out
    with pytest.raises(HomeworkError, match="but LoRA of the recipe's rank, 4, has"):
        check_trainable(model, 4)


def test_no_model_at_all_is_named():
    with pytest.raises(HomeworkError, match=r"a NoneType without an adapter$"):
        check_trainable(None, 8)


# --- the first batch ---


@pytest.fixture
def batch(llm, rows) -> dict[str, torch.Tensor]:
    return select_supervised(Collator(llm.pad_id)([rows[index] for index in range(4)]))


def test_a_good_batch_passes(model, rows, batch):
    assert diagnose_batch(batch, rows) is None
    assert diagnose_loss_by_hand(model, batch, lambda model, inputs: model(**inputs).loss) is None
    assert model.training is False or model.training is True


def test_ids_of_no_row_are_named(rows, batch):
    batch["input_ids"][0, 0] += 1
    assert "ids that are in no checked row" in diagnose_batch(batch, rows)


def test_a_mask_made_by_ids_is_named(llm, rows, batch):
    batch["attention_mask"] = (batch["input_ids"] != llm.pad_id).long()
    assert diagnose_batch(batch, rows).startswith("the collator's attention_mask hides a token of a row, its EOS")


def test_supervised_padding_is_named(rows, batch):
    batch["labels"][batch["attention_mask"] == 0] = 2
    assert diagnose_batch(batch, rows).startswith("the collator gives padding the label 2, so it is learned")


def test_padding_that_the_mask_does_not_hide_is_named(rows, batch):
    batch["attention_mask"][:] = 1
    assert "attention_mask is 1 where padding stands" in diagnose_batch(batch, rows)


def test_padding_on_the_left_is_named(rows, batch):
    assert "pads on the left" in diagnose_batch({name: tensor.flip(1) for name, tensor in batch.items()}, flipped(rows))


def flipped(rows) -> list[dict[str, list[int]]]:
    return [{name: values[::-1] for name, values in row.items()} for row in rows]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda batch: None, "the collator returns None, not a dictionary of tensors"),
        (lambda batch: {**batch, "input_ids": batch["input_ids"].float()}, "input_ids is torch.float32, not a tensor"),
        (lambda batch: {**batch, "labels": batch["labels"].tolist()}, "labels is list, not a tensor of whole numbers"),
        (lambda batch: {"input_ids": batch["input_ids"]}, "returns input_ids without attention_mask, labels"),
    ],
)
def test_what_is_no_batch_is_named(rows, batch, spoil, message):
    assert message in diagnose_batch(spoil(batch), rows)


def test_a_collator_that_changes_the_checked_rows_is_named(llm, model, tmp_path):
    class Rebuilding(Collator):
        def __call__(self, rows):
            for row in rows:
                row["labels"][:] = row["input_ids"]
            return super().__call__(rows)

    with (
        open_trainer(llm, model, tmp_path, data_collator=Rebuilding(llm.pad_id)) as trainer,
        pytest.raises(HomeworkError, match="the labels that reach the model are not those of tokenize"),
    ):
        trainer.train()


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


# --- the run as a whole ---


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
        check_outcome(log)
    check_outcome(log[:5])  # a quick run proves nothing
    check_outcome([{"loss": 5.0 / step} for step in range(1, 40)] + [{"accuracy_train": 0.9}])


LEARNED = [{"loss": 5.0 / step} for step in range(1, 40)] + [{"accuracy_train": 0.9}]


def measured(accuracy: float, questions: int) -> dict:
    """A result as report_accuracy gives it."""
    return {"accuracy": accuracy, "interval": wilson_interval(accuracy, questions), "questions": questions}


@pytest.mark.parametrize(("accuracy", "questions", "right"), [(0.0, 950, 0), (0.04, 950, 38), (0.0, 20, 0)])
def test_an_adapter_that_answers_hardly_anything_is_an_error(accuracy, questions, right):
    with pytest.raises(HomeworkError, match=f"it answers {right} of {questions} questions of valid right: look at the"):
        check_outcome(LEARNED, measured(accuracy, questions))
    check_outcome(LEARNED[-10:], measured(accuracy, questions))  # few steps prove nothing


@pytest.mark.parametrize(("accuracy", "questions"), [(0.06, 950), (0.0, 1), (0.0, 10)])
def test_an_adapter_that_answers_more_or_was_hardly_asked_is_none(accuracy, questions):
    check_outcome(LEARNED, measured(accuracy, questions))


def test_a_float16_model_is_named(model):
    with pytest.raises(HomeworkError, match="the model is in float16"):
        check_trainable(model.half(), DEFAULT_RECIPE.rank)


def test_a_warm_up_that_begins_with_nothing_is_no_fault(llm, model, tmp_path):
    recipe = Recipe(epochs=1, batch_size=4, learning_rate=1e-3, rank=8, alpha=32)
    arguments = training_arguments(recipe, max_steps=3, warmup_steps=2)
    changes = {"recipe": recipe, "args": arguments, "max_steps": 3, "train_data": few("train", 8)}
    with open_trainer(llm, model, tmp_path, **changes) as trainer:
        trainer.train()
    assert [entry["learning_rate"] > 0 for entry in steps_of(trainer.state.log_history)] == [False, True, True]


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
