"""Each failure that would go on in silence, planted in a real run, and the line that stops it."""

import math

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

from homework.common.errors import HomeworkError
from homework.data import IGNORE_INDEX
from homework.guards import watchdog
from homework.sft import Collator, TokenizedDataset, add_lora, format_example, training_arguments
from homework.training import run_dir, trainer
from homework.training.recipe import DEFAULT_RECIPE
from homework.training.trainer import HomeworkTrainer
from tests.support.trainers import few, open_trainer


@pytest.fixture
def model(llm):
    return add_lora(llm.reload_model(), DEFAULT_RECIPE, seed=0)


@pytest.fixture
def fit(llm, model, tmp_path):
    """Train two steps, with other arguments of the Trainer by name; the log."""

    def train(**changes) -> list[dict]:
        with open_trainer(llm, model, tmp_path, **changes) as kept:
            kept.train()
        return kept.state.log_history

    return train


def adapter_of(model) -> list[torch.Tensor]:
    return [p.detach().clone() for name, p in model.named_parameters() if "lora_" in name]


@pytest.fixture
def assert_stopped(fit, model):
    """The run stops with the message, and no optimizer step has touched the adapter."""

    def check(message: str, **changes) -> None:
        before = adapter_of(model)
        with pytest.raises(HomeworkError, match=message):
            fit(**changes)
        assert all(torch.equal(old, new) for old, new in zip(before, adapter_of(model), strict=True))

    return check


def test_a_healthy_run_is_left_alone(fit):
    assert len(run_dir.steps_of(fit())) == 2


def test_every_label_masked(assert_stopped):
    class Masking(Collator):
        def __call__(self, rows):
            batch = super().__call__(rows)
            return {**batch, "labels": torch.full_like(batch["labels"], IGNORE_INDEX)}

    message = "stopped before step 1: every label of the batch is -100"
    assert_stopped(message, data_collator=Masking(2))


def test_every_label_masked_in_the_rows_is_named_earlier(assert_stopped, llm):
    rows = [
        {**row, "labels": [IGNORE_INDEX] * len(row["labels"])}
        for row in TokenizedDataset(llm.tokenizer, few("train"), format_example)
    ]
    assert_stopped("row 0: every label is -100", train_dataset=rows)


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [("num_train_epochs", 7, "7 .* say 5"), ("learning_rate", 1e-5, "1e-05 .* say 0.0008"),
     ("max_steps", -1, "-1 .* say 2"), ("per_device_train_batch_size", 8, "8 .* say 32")],
)  # fmt: skip
def test_a_flag_that_is_ignored(assert_stopped, field, value, shown):
    arguments = training_arguments(DEFAULT_RECIPE, max_steps=2)
    setattr(arguments, field, value)
    assert_stopped(f"{field} is {shown}", args=arguments)


def test_steps_without_a_limit_are_no_ignored_flag(llm, model, tmp_path):
    with open_trainer(llm, model, tmp_path, max_steps=None, args=training_arguments(DEFAULT_RECIPE)) as kept:
        assert kept.last_step == DEFAULT_RECIPE.epochs * 2


def test_plain_arguments(assert_stopped, tmp_path):
    plain = TrainingArguments(str(tmp_path), num_train_epochs=5, learning_rate=8e-4, max_steps=2,
                              per_device_train_batch_size=32)  # fmt: skip
    assert_stopped("training_arguments gives TrainingArguments: take HomeworkArguments", args=plain)


def test_no_collator_and_rows_that_are_not_tokenized(assert_stopped):
    assert_stopped("the Trainer's data_collator is None: a Collator", data_collator=None)
    assert_stopped(r"row 0 is \(.*, which is not tokenized", train_dataset=few("train"))


def test_inputs_without_a_gradient(assert_stopped, model):
    model.disable_input_require_grads()
    assert_stopped("the inputs of the layers require no gradient, so re-entrant checkpointing would")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite(assert_stopped, model, value):
    with torch.no_grad():
        model.get_parameter("base_model.model.model.norm.weight")[0] = value
    assert_stopped(r"the loss is nan with \d+ supervised tokens: the weight .*norm.weight is not finite")


def test_a_half_precision_base_that_overflows():
    """The log of a float16 base on a GPU, replayed: half precision itself is too slow to run here."""
    complaint = watchdog.diagnose_loss(math.nan, 377, torch.nn.Linear(2, 2).half())
    assert complaint == (
        "the loss is nan with 377 supervised tokens: the base model is in float16, whose range overflows: "
        "load it in float32 or bfloat16"
    )


def test_a_constant_in_place_of_the_loss(assert_stopped, monkeypatch):
    constant = lambda *_, **__: torch.tensor(0.01, requires_grad=True)  # noqa: E731
    monkeypatch.setattr(HomeworkTrainer, "compute_loss", constant)
    assert_stopped(r"the loss is 0.0100, but -log p of the supervised tokens is [01]\.\d\d")
    monkeypatch.setattr(trainer, "diagnose_loss_by_hand", lambda *_: None)  # as at a later step
    assert_stopped("the gradient norm is exactly 0.0: the loss does not depend on the adapter")


def test_a_loss_of_exactly_zero(assert_stopped, monkeypatch):
    zero = lambda *_, **__: torch.tensor(0.0, requires_grad=True)  # noqa: E731
    monkeypatch.setattr(HomeworkTrainer, "compute_loss", zero)
    monkeypatch.setattr(trainer, "diagnose_loss_by_hand", lambda *_: None)  # as at a later step
    assert_stopped("the loss is exactly 0.0")


@pytest.mark.parametrize(("value", "message"), [(0.0, "exactly 0.0"), (math.nan, "the gradient norm is nan")])
def test_gradients_that_somebody_overwrites(assert_stopped, monkeypatch, value, message):
    training_step = HomeworkTrainer.training_step

    def overwrite(self, model, *arguments):
        loss = training_step(self, model, *arguments)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.fill_(value)
        return loss

    monkeypatch.setattr(HomeworkTrainer, "training_step", overwrite)
    assert_stopped(message)


def test_a_matrix_that_does_not_move(fit, monkeypatch):
    class PutBack(TrainerCallback):
        def on_optimizer_step(self, args, state, control, model, **kwargs):
            next(p for name, p in model.named_parameters() if "lora_B" in name).data.zero_()

    monkeypatch.setattr(trainer, "Progress", PutBack)
    with pytest.raises(HomeworkError, match=r"stopped after step 1: 1 LoRA matrices did not move, first .*lora_B"):
        fit()
