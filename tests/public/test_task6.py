"""Public tests of task 6, homework/datagen.py: what is accepted of the samples, and what is kept.

python -m pytest tests/public/test_task6.py
"""


def test_find_fault(check):
    """Right chains are kept; each planted fault is seen."""
    check("find_fault")


def test_select_rows(check):
    """Different chains of a question, with the true answer."""
    check("select_rows")
