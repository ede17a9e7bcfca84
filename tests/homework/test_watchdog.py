"""Each failure that would go on in silence, planted in a real run, and the line that stops it."""

import math
import tempfile
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from homework.base_llm import BaseLLM
from homework.common.errors import HomeworkError
from homework.data import IGNORE_INDEX, Dataset
from homework.guards import watchdog
from homework.sft import Collator, TokenizedDataset, add_lora, format_example, training_arguments
from homework.training import trainer
from homework.training.recipe import DEFAULT_RECIPE
from homework.training.run_dir import Run
from homework.training.trainer import HomeworkTrainer


@pytest.fixture
def model():
    return add_lora(BaseLLM().model, DEFAULT_RECIPE, seed=0)


@pytest.fixture
def rows(bundled_tokenizer):
    data = [Dataset("train")[index] for index in range(64)]
    return list(TokenizedDataset(bundled_tokenizer, data, format_example))


def fit(model, rows) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder, Run(Path(folder), {}) as run:
        arguments = training_arguments(DEFAULT_RECIPE, Path(folder), max_steps=2)
        kept = HomeworkTrainer(model, arguments, Collator(2), rows, run=run, recipe=DEFAULT_RECIPE, max_steps=2)
        kept.train()
        return kept.state.log_history


def adapter_of(model) -> list[torch.Tensor]:
    return [p.detach().clone() for name, p in model.named_parameters() if "lora_" in name]


def assert_stopped(model, rows, message: str) -> None:
    """The run stops with the message, and no optimizer step has touched the adapter."""
    before = adapter_of(model)
    with pytest.raises(HomeworkError, match=message):
        fit(model, rows)
    assert all(torch.equal(old, new) for old, new in zip(before, adapter_of(model), strict=True))


def test_a_healthy_run_is_left_alone(model, rows):
    assert len(trainer.steps_of(fit(model, rows))) == 2


def test_every_label_masked(model, rows):
    for row in rows:
        row["labels"] = [IGNORE_INDEX] * len(row["labels"])
    assert_stopped(model, rows, "stopped before step 1: every label of the batch is -100")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite(model, rows, value):
    with torch.no_grad():
        model.get_parameter("base_model.model.model.norm.weight")[0] = value
    assert_stopped(model, rows, r"the loss is nan with \d+ supervised tokens: the weight .*norm.weight is not finite")


def test_a_half_precision_base_that_overflows(model, rows, monkeypatch):
    """The log of a float16 base on a GPU, replayed: half precision itself is too slow to run here."""
    complaint = watchdog.diagnose_loss(math.nan, 377, torch.nn.Linear(2, 2).half())
    assert complaint == (
        "the loss is nan with 377 supervised tokens: the base model is in float16, whose range overflows: "
        "load it in float32 or bfloat16"
    )


def test_a_constant_in_place_of_the_loss(model, rows, monkeypatch):
    constant = lambda *_, **__: torch.tensor(0.01, requires_grad=True)  # noqa: E731
    monkeypatch.setattr(HomeworkTrainer, "compute_loss", constant)
    assert_stopped(model, rows, "the loss is 0.0100, but -log p of the supervised tokens is 0.99")
    monkeypatch.setattr(trainer, "diagnose_loss_by_hand", lambda *_: None)  # as at a later step
    assert_stopped(model, rows, "the gradient norm is exactly 0.0: the loss does not depend on the adapter")


def test_a_loss_of_exactly_zero(model, rows, monkeypatch):
    zero = lambda *_, **__: torch.tensor(0.0, requires_grad=True)  # noqa: E731
    monkeypatch.setattr(HomeworkTrainer, "compute_loss", zero)
    monkeypatch.setattr(trainer, "diagnose_loss_by_hand", lambda *_: None)  # as at a later step
    assert_stopped(model, rows, "the loss is exactly 0.0")


@pytest.mark.parametrize(("value", "message"), [(0.0, "exactly 0.0"), (math.nan, "the gradient norm is nan")])
def test_gradients_that_somebody_overwrites(model, rows, monkeypatch, value, message):
    training_step = HomeworkTrainer.training_step

    def overwrite(self, model, *arguments):
        loss = training_step(self, model, *arguments)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.fill_(value)
        return loss

    monkeypatch.setattr(HomeworkTrainer, "training_step", overwrite)
    assert_stopped(model, rows, message)


def test_a_matrix_that_does_not_move(model, rows, monkeypatch):
    class PutBack(TrainerCallback):
        def on_optimizer_step(self, args, state, control, model, **kwargs):
            next(p for name, p in model.named_parameters() if "lora_B" in name).data.zero_()

    monkeypatch.setattr(trainer, "Progress", PutBack)
    with pytest.raises(HomeworkError, match=r"stopped after step 1: 1 LoRA matrices did not move, first .*lora_B"):
        fit(model, rows)
