"""Public tests of task 1, homework/base_llm.py: parse an answer, generate in batches.

python -m pytest tests/public/test_task1.py
"""


def test_parse_answer(check):
    """The number between the tags, NaN where there is none: never a number that the model did not give."""
    check("parse_answer")


def test_format_prompt(check):
    """The question alone, with which the training row begins."""
    check("format_prompt")


def test_complete_batch(check):
    """Pad on the left and mask it; greedy, up to EOS; the text as the model wrote it, without the prompt."""
    check("complete_batch")


def test_batched_generate(check):
    """Each prompt its own text; with num_return_sequences a list a prompt; a temperature samples."""
    check("batched_generate")


def test_answer(check):
    """One number for each question, NaN where the model gave none."""
    check("answer")
