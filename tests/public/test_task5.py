"""Public tests of task 5, homework/cot.py: a prompt that makes the base model reason.

python -m pytest tests/public/test_task5.py
"""


def test_worked_example(check):
    """A chain whose equations hold; its question is none of valid."""
    check("worked_example")


def test_cot_prompt(check):
    """The chat template, the example, the question, and the open turn of the assistant."""
    check("cot_prompt")
