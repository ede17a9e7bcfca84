"""Public checks of task 4, homework/sft.py: batches, LoRA, the Trainer's arguments, a short training, loading.

python -m pytest tests/public/test_task4.py
"""

import pytest
import torch

from homework.base_llm import BaseLLM
from homework.common.errors import HomeworkError
from homework.data import IGNORE_INDEX
from homework.guards.watchdog import check_input_gradients, check_trainable
from homework.sft import Collator, add_lora, load, train_model, training_arguments
from homework.training.recipe import Recipe

RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=1e-3, rank=4, alpha=8)
SHORT = {"input_ids": [5, 6, 2], "attention_mask": [1, 1, 1], "labels": [IGNORE_INDEX, 6, 2]}
LONG = {"input_ids": [7, 8, 9, 10, 2], "attention_mask": [1] * 5, "labels": [IGNORE_INDEX, IGNORE_INDEX, 9, 10, 2]}


@pytest.fixture(scope="module")
def model():
    """The bundled base model with your LoRA."""
    return add_lora(BaseLLM().model, RECIPE, seed=0)


def test_a_batch_is_padded_on_the_right_and_keeps_its_labels():
    batch = Collator(pad_id=2)([SHORT, LONG])
    assert batch["input_ids"].tolist() == [[5, 6, 2, 2, 2], LONG["input_ids"]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5], "padding is masked by length, not by its id"
    assert batch["labels"].tolist() == [[IGNORE_INDEX, 6, 2, IGNORE_INDEX, IGNORE_INDEX], LONG["labels"]]


def test_lora_is_all_that_is_trained(model):
    check_trainable(model, RECIPE.rank)
    check_input_gradients(model)
    assert model.peft_config["default"].lora_alpha == RECIPE.alpha


def test_the_same_seed_gives_the_same_first_weights(model):
    again = add_lora(BaseLLM().model, RECIPE, seed=0)
    pairs = zip(model.named_parameters(), again.named_parameters(), strict=True)
    assert all(torch.equal(one, other) for (name, one), (_, other) in pairs if "lora_" in name)


def test_the_arguments_are_those_of_the_recipe_and_the_flags():
    arguments = training_arguments(RECIPE, seed=7, max_steps=5)
    assert (arguments.num_train_epochs, arguments.per_device_train_batch_size) == (3, 16)
    assert (arguments.learning_rate, arguments.seed, arguments.max_steps) == (1e-3, 7, 5)


def test_two_steps_leave_an_adapter_that_loads(tmp_path):
    train_model(output_dir=str(tmp_path / "sft_model"), run_dir=str(tmp_path / "run"), max_steps=2, questions=5)
    llm = load(tmp_path / "sft_model")
    assert any("lora_B" in name and bool(weight.any()) for name, weight in llm.model.named_parameters())


def test_a_missing_adapter_is_an_error_and_nothing_is_made_up(tmp_path):
    with pytest.raises(HomeworkError, match="no trained adapter"):
        load(tmp_path / "sft_model")
