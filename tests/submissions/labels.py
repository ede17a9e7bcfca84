"""A of failures.md: wrong label spans, as their authors wrote them."""

from tests.submissions.recipe import Recipe, swap

TRAILING_SPACE = """
def tokenize(tokenizer, question, answer):
    ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
    masked = len(tokenizer(question + " ")["input_ids"])
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * masked + ids[masked:]}
"""
TAG_AS_ONE_TOKEN = """
def tokenize(tokenizer, question, answer):
    ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
    tag = tokenizer.convert_tokens_to_ids("<answer>")
    start = ids.index(tag) if tag in ids else len(ids)
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * start + ids[start:]}
"""

ALL = [
    Recipe(
        "A1 masked one token too many", swap("sft.py", tokenize=TRAILING_SPACE), "spans dataset batch gradients trains",
        "the first answer token '.<' is masked",
    ),
    Recipe(
        "A3 tag as one token", swap("sft.py", tokenize=TAG_AS_ONE_TOKEN),
        "supervised dataset batch gradients trains", "every label is -100",
    ),
]  # fmt: skip
