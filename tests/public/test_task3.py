"""Public tests of task 3, homework/sft.py: the text of a row, and its labels.

python -m pytest tests/public/test_task3.py
"""


def test_format_example(check):
    """The answer between the tags, within 5 % of the row's number."""
    check("format_example")


def test_tokenize(check):
    """Exactly the answer and the one EOS are supervised. To look: python -m homework.sft show"""
    check("tokenize")


def test_TokenizedDataset(check):
    """Every row of the data, formatted and tokenized; inference asks what the rows teach."""
    check("TokenizedDataset")
