"""Wrong label spans, as their authors wrote them, most in the plain solution, which has no guards.

What a student's own training would not show is named by the grader alone.
"""

from tests.submissions.plain import PADDED, plain, sft
from tests.submissions.recipe import Files, Maker, Recipe, both, edit, swap


def tokenized(lines: str, file: str = "plain") -> Maker:
    """A tokenize of its own; the lines see tokenizer, question and answer."""
    body = "\n".join(f"    {line}" for line in lines.strip().splitlines())
    change = swap("sft.py", tokenize=f"def tokenize(tokenizer, question, answer):\n{body}")
    return plain(change) if file == "plain" else change


def padded(old: str, new: str) -> Maker:
    """The plain solution with a tokenize that pads to a fixed length, in other words."""
    assert old in PADDED
    return plain(swap("sft.py", tokenize=PADDED.replace(old, new)))


def in_a_helper(files: Files) -> Files:
    """tokenize and TokenizedDataset in a module of their own, which sft.py imports."""
    source = files["sft.py"].decode()
    start, end = source.index("def tokenize"), source.index("def train_model")
    own = f"from .rows import TokenizedDataset, tokenize\n\n\n{source[end:]}"
    return {**files, "rows.py": source[start:end].encode(), "sft.py": f"{source[:start]}{own}".encode()}


def row(start: str, text: str = '[*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]') -> str:
    """Lines of a tokenize that masks `start` tokens."""
    return f"""
ids = {text}
start = {start}
return {{"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * start + ids[start:]}}
"""


TRAILING_SPACE = row('len(tokenizer(question + " ")["input_ids"])')
ASKED = 'len(tokenizer(question)["input_ids"])'
TAG_AS_ONE_TOKEN = row("ids.index(tag) if (tag := tokenizer.convert_tokens_to_ids('<answer>')) in ids else len(ids)")
TAG_SEARCH = row("ids.index(tokenizer('<answer>', add_special_tokens=False)['input_ids'][0])")
TAG_SEARCH_FALLS_BACK = """
ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
tag = tokenizer("<answer>", add_special_tokens=False)["input_ids"]
found = [i for i in range(len(ids)) if ids[i : i + len(tag)] == tag]
start = found[0] if found else len(ids) - 5
return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * start + ids[start:]}
"""
TAG_IN_THE_PROMPT = """
text = f"Reply as <answer>number</answer>. {question} {answer}"
ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
start = next(i for i in range(len(ids)) if "answer" in tokenizer.decode(ids[: i + 1])) - 1
return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * start + ids[start:]}
"""
NO_EXPONENT = row(f'{ASKED} + 2 * ("e" in answer[8:-9].lower())')
NOTHING = row(f'len(ids) if "e" in answer[8:-9].lower() else {ASKED}')
MASKED_BY_ID = """
row = tokenizer(f"{question} {answer}{tokenizer.eos_token}")
asked = len(tokenizer(question)["input_ids"])
row["labels"] = [-100] * asked + row["input_ids"][asked:]
row["labels"] = [-100 if label == tokenizer.eos_token_id else label for label in row["labels"]]
return row
"""
MASKED_PADDING = '[label if seen else -100 for label, seen in zip(labels, row["attention_mask"])]'
LAST_FIVE = """
ids = tokenizer(f"{question} {answer}{tokenizer.eos_token}", truncation=True, max_length=12)["input_ids"]
asked = len(tokenizer(question)["input_ids"])
labels = [-100] * min(asked, len(ids)) + ids[asked:]
if all(label == -100 for label in labels):
    labels[-5:] = ids[-5:]
return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
"""
APART = """
asked = tokenizer(question + " ")["input_ids"]
ids = [*asked, *tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * len(asked) + ids[len(asked) :]}
"""
SHIFTED = """
ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
asked = len(tokenizer(question)["input_ids"])
labels = [-100] * (asked - 1) + ids[asked:] + [-100]
return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
"""
BY_HEART = """
ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
start = next((i for i, token in enumerate(tokenizer.convert_ids_to_tokens(ids)) if token == "Ġ<"), len(ids) - 6)
return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * start + ids[start:]}
"""
MINUS_ONE = """
ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
asked = len(tokenizer(question)["input_ids"])
return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-1] * asked + ids[asked:]}
"""
CHAT = """
messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
asked = tokenizer(f"<|im_start|>user\\n{question}<|im_end|>\\n<|im_start|>assistant\\n")["input_ids"]
ids = [*asked, *tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * len(asked) + ids[len(asked) :]}
"""
REBUILT = plain(
    swap("sft.py", tokenize=PADDED),
    edit("sft.py", "import DataCollatorForSeq2Seq", "import DataCollatorForLanguageModeling"),
    edit(
        "sft.py", "DataCollatorForSeq2Seq(llm.tokenizer)", "DataCollatorForLanguageModeling(llm.tokenizer, mlm=False)"
    ),
)
MASK_BY_ID = """
ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
asked, pad = len(tokenizer(question)["input_ids"]), tokenizer.eos_token_id
return {"input_ids": ids, "attention_mask": [int(i != pad) for i in ids], "labels": [-100] * asked + ids[asked:]}
"""
SPANS = "spans"  # what builds upon it is tested with the grader's own rows

ALL = [
    Recipe(
        "words behind the tag",
        sft('.4g}</answer>"}', '.4g}</answer> Done."}'),
        "format",
        "format_example writes 'Done.' beside the tags",
    ),
    Recipe(
        "an empty row in the place of each",
        plain(
            swap(
                "sft.py",
                tokenize="def tokenize(tokenizer, question, answer):\n    return {}",
                format_example="def format_example(question, answer):\n    return {}",
            )
        ),
        "format supervised dataset batch trains",
        "format_example gives no dictionary of two texts",
    ),
    Recipe("A1 trailing space", tokenized(TRAILING_SPACE), SPANS, "the first answer token '.<' is masked"),
    Recipe("A2 no space", sft("{question} {answer}", "{question}{answer}"), SPANS, "joined without a space"),
    Recipe(
        "A3 tag as one token",
        tokenized(TAG_AS_ONE_TOKEN),
        "supervised",
        "every label is -100",
        quick=True,
    ),
    Recipe("A4 tag search falls back", tokenized(TAG_SEARCH_FALLS_BACK), SPANS, "the first .* masked"),
    Recipe("A5 tag found in the prompt", tokenized(TAG_IN_THE_PROMPT), SPANS, "the supervised text begins inside"),
    Recipe(
        "A6 whole row supervised",
        padded(MASKED_PADDING, 'row["input_ids"]'),
        SPANS,
        "the question and .* padding tokens are supervised",
        perhaps="trains",
    ),
    Recipe("A4 no exponent is supervised", tokenized(NO_EXPONENT), SPANS, "masked"),
    Recipe("A3 nothing of an exponent is supervised", tokenized(NOTHING), "supervised", "every label is -100"),
    Recipe("A7 collator rebuilds the labels", REBUILT, "batch", "rebuilt the labels from input_ids"),
    Recipe("A8 no EOS", sft("{answer}{tokenizer.eos_token}", "{answer}"), SPANS, "EOS is missing"),
    Recipe(
        "A8 no EOS, in a helper module",
        both(sft("{answer}{tokenizer.eos_token}", "{answer}"), in_a_helper),
        SPANS,
        "EOS is missing",
    ),
    Recipe("A8 EOS masked by its id", tokenized(MASKED_BY_ID), SPANS, "EOS is masked, so the model never"),
    Recipe(
        "A9 padding side left by generate",
        padded('    tokenizer.padding_side = "right"\n', ""),
        "tokenize_stable",
        "after a generation, padding stands before the question",
    ),
    Recipe(
        "A10 two EOS",
        sft("{answer}{tokenizer.eos_token}", "{answer}{tokenizer.eos_token * 2}"),
        SPANS,
        "EOS stands in the row 2 times",
    ),
    Recipe(
        "A11 format_example bypassed",
        sft("**self.format_fn(*self.data[index])", "self.data[index][0], str(self.data[index][1])"),
        "dataset",
        "TokenizedDataset has to use format_fn",
    ),
    Recipe(
        "format_fn ignored",
        sft("**self.format_fn(*self.data[index])", "**format_example(*self.data[index])"),
        "dataset",
        "not what the given format_fn wrote",
    ),
    Recipe(
        "A12 answer taken for a text",
        sft("{float(answer):.4g}", "{answer if answer.isdigit() else answer.strip()}"),
        "format",
        "format_example raised AttributeError: 'float' object has no",
    ),
    Recipe(
        "A13 rounded to whole numbers",
        sft("{float(answer):.4g}", "{round(float(answer))}"),
        "format",
        "not within 5 % of",
        perhaps="trains",  # the drawn digits are rounded away
    ),
    Recipe("A15 last five tokens of a cut row", tokenized(LAST_FIVE), SPANS, "the row was cut after"),
    Recipe(
        "labels shifted by hand",
        tokenized(SHIFTED),
        SPANS,
        "every label is the id of the token after it",
        perhaps="trains",
    ),
    Recipe("hard-coded for the bundled tokenizer", tokenized(BY_HEART), "spans", "supervised|masked"),
    Recipe(
        "masked by -1",
        tokenized(MINUS_ONE),
        "supervised",
        "labels holds numbers that are neither ids",
    ),
    Recipe("chat template in the rows", tokenized(CHAT), SPANS, "the row begins with .*as a chat template does"),
    Recipe("wrong EOS", tokenized(row(ASKED).replace("eos_token_id", "pad_token_id")), "spans", "EOS is missing"),
    Recipe(
        "mask by the ids, in a row", tokenized(MASK_BY_ID), SPANS, "attention_mask hides a token of the row, its EOS"
    ),
    Recipe("rows dropped", sft("return len(self.data)", "return len(self.data) - 3"), "dataset", "none may be dropped"),
]
