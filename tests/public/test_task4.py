"""Public tests of task 4, homework/sft.py: collator, LoRA, arguments, training and loading.

python -m pytest tests/public/test_task4.py
"""

import pytest
from safetensors.torch import load_file

from homework.common.errors import explain_error
from homework.sft import load, train_model


def test_collate(check):
    """Rows of different length as one batch, padded on the right; padding is masked, labels are kept."""
    check("collate")


def test_add_lora(check):
    """The base is frozen, LoRA on all linear layers is trained, gradients reach it with checkpointing too."""
    check("add_lora")


def test_training_arguments(check):
    """The recipe's numbers and the flags reach the Trainer."""
    check("training_arguments")


def test_train_model(check, tmp_path):
    """Two steps: the adapter is saved, its weights have moved, and load gives it back."""
    check("train_model")
    folder = tmp_path / "sft_model"
    try:
        train_model(str(folder), max_steps=2, questions=1, run_dir=str(tmp_path / "run"))
    except Exception as error:
        pytest.fail(explain_error(error), pytrace=False)
    weights = load_file(folder / "adapter_model.safetensors")
    still = [name for name, tensor in weights.items() if "lora_B" in name and not tensor.any()]
    assert not still, f"{len(still)} LoRA matrices did not move, first {still[0]}"
    assert type(load(folder)).__name__ == "BaseLLM"


def test_load(check):
    """Raises where there is no adapter: an untrained model must never pass for a trained one."""
    check("load")
