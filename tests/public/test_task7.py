"""Public tests of task 7, homework/rft.py: the training on reasons.

python -m pytest tests/public/test_task7.py
"""

import json

import pytest
from safetensors.torch import load_file

from homework.common.errors import explain_error
from homework.data import Dataset
from homework.rft import train_model


def test_format_reasoning(check):
    """Every token of the reasoning, and EOS, is a label."""
    check("format_reasoning")


def test_train_reasoning(check, tmp_path):
    """Two steps on 64 rows: the adapter is saved, and all of its weights have moved."""
    check("train_reasoning")
    folder, data, complaint = tmp_path / "rft_model", tmp_path / "rows.json", ""
    rows = [(q, a, f"1 * {a!r} = {a!r}. <answer>{a!r}</answer>") for q, a in list(Dataset("train"))[:64]]
    data.write_text(json.dumps(rows))
    try:
        train_model(str(folder), data=str(data), max_steps=2, questions=1, run_dir=str(tmp_path / "run"))
        weights = load_file(folder / "adapter_model.safetensors")
        still = [name for name, tensor in weights.items() if "lora_B" in name and not tensor.any()]
        complaint = f"{len(still)} LoRA matrices have not moved, first {still[0]}" if still else ""
    except Exception as error:
        complaint = explain_error(error)
    if complaint:
        pytest.fail(complaint, pytrace=False)
