"""Public tests of task 7, homework/rft.py: the training on reasons.

python -m pytest tests/public/test_task7.py
"""

import json
from functools import partial

from homework.data import Dataset


def test_format_reasoning(check):
    """Every token of the reasoning, and EOS, is a label."""
    check("format_reasoning")


def test_train_reasoning(check, check_training, tmp_path):
    """Two steps on 64 rows: the adapter is saved, and all of its weights have moved."""
    check("train_reasoning")
    from homework.rft import train_model  # not above: a file that does not compile would stop all tests

    data = tmp_path / "rows.json"
    rows = [(q, a, f"1 * {a!r} = {a!r}. <answer>{a!r}</answer>") for q, a in list(Dataset("train"))[:64]]
    data.write_text(json.dumps(rows))
    check_training(partial(train_model, data=str(data)))
