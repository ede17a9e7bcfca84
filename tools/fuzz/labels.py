"""Mutators of the rows: which tokens are supervised, how rows are padded, how numbers are written, which rows there are."""

import random

from tests.submissions.labels import row, tokenized
from tests.submissions.plain import sft
from tests.submissions.recipe import Files, Maker, both, edit
from tools.fuzz.cases import Case, Mutator, Variant, case_of, chance

ROW = """
ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
start = len(tokenizer(question)["input_ids"])
mask, labels = [1] * len(ids), [-100] * start + ids[start:]
CHANGE
return {"input_ids": ids, "attention_mask": mask, "labels": labels}
"""
PAD = "pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id"
# Each is true of some of the rows that a submission is asked for, and false of others.
SOME_ROWS = (
    "len(ids) % 2",
    "len(question) % 2",
    "len(answer) % 2 == 0",
    "ids[-2] % 2",
    "len(question) % 3 == 0",
)
LABELS = "supervised spans dataset"


def with_change(rng: random.Random, lines: str, some: bool = True) -> tuple[Maker, str]:
    """A right tokenize with lines of its own before its end, on all rows or on some; and on which."""
    where = rng.choice(SOME_ROWS) if some and chance(rng, 0.3) else ""
    if where:
        lines = f"if {where}:\n" + "\n".join(f"    {line}" for line in lines.splitlines())
    file = rng.choice(("plain", "reference"))
    return tokenized(ROW.replace("CHANGE", lines), file), f", {file}" + (f", where {where}" if where else "")


def mask_shifted(rng: random.Random, files: Files) -> Case:
    """The span of the labels begins some tokens too early or too late; by none, it is right."""
    by = rng.choice((0, 0, *range(-6, 5), 200))
    lines = f"start = max(0, min(len(ids), start + {by}))\nlabels = [-100] * start + ids[start:]"
    make, where = with_change(rng, lines)
    failing = "supervised" if by == 200 else "spans" if by else ""
    perhaps = "supervised" if by > 1 else ""  # an answer of one digit has three tokens in one of the families
    return case_of(Variant(f"labels begin {by:+d} tokens from where they should{where}", make, failing, perhaps), files)


def token_dropped(rng: random.Random, files: Files) -> Case:
    """One token is masked, supervised, unseen, doubled or left out."""
    place = rng.choice(
        (
            f"{rng.randrange(9)} % start",
            f"min(start + {rng.randrange(6)}, len(ids) - 2)",
            f"len(ids) - {rng.randrange(2, 5)}",
        )
    )
    in_answer = "% start" not in place
    lines = rng.choice((
        "labels[at] = -100" if in_answer else "labels[at] = ids[at]",
        "del ids[at], mask[at], labels[at]",
        "mask[at] = 0",
        "ids.insert(at, ids[at]); mask.insert(at, 1); labels.insert(at, labels[at])",
        "pass",
    ))  # fmt: skip
    make, where = with_change(rng, f"at = {place}\n{lines}")
    failing = "" if lines == "pass" else "spans"
    return case_of(Variant(f"at = {place}: {lines}{where}", make, failing), files)


def label_value(rng: random.Random, files: Files) -> Case:
    """A label, or an id, is another one than it should be; or the labels are copied in some other way."""
    at, by = f"min(start + {rng.randrange(7)}, len(ids) - 2)", rng.randrange(1, 400)  # answers may be short
    lines, failing = rng.choice((
        (f"labels[{at}] = (labels[{at}] + {by}) % 500", "spans"),
        (f"ids[{at}] = labels[{at}] = (ids[{at}] + {by}) % 500", "spans"),
        (f"ids[{at}] = (ids[{at}] + {by}) % 500", "spans"),
        (f"labels[{at}] = len(tokenizer) + {by}", "supervised"),
        (f"labels[{at}] = -{rng.choice((1, 2, 99, 101, 1000))}", "supervised"),
        (f"labels[{at}] = float(labels[{at}])", "supervised"),
        (f"labels[{at}] = None", "supervised"),
        (f"labels[{at}], labels[{at} + 1] = labels[{at} + 1], labels[{at}]", ""),
        (f"labels[-{rng.randrange(1, 4)}:] = [ids[start]] * {rng.randrange(4, 7)}", "spans"),
        ("labels = [label for label in labels]", ""),
        ("labels = [-100 if i < start else token for i, token in enumerate(ids)]", ""),
        ("labels = ids.copy(); labels[:start] = [-100] * start", ""),
    ))  # fmt: skip
    make, where = with_change(rng, lines)
    perhaps = "spans" if "], labels[" in lines else ""  # two equal neighbours are the same the other way round
    return case_of(Variant(f"{lines}{where}", make, failing, perhaps), files)


def padding(rng: random.Random, files: Files) -> Case:
    """Rows that are padded: on either side, to a length or a multiple, with right or wrong mask and labels."""
    side, fill = rng.choice(("right", "left")), rng.choice(("pad", "pad", "tokenizer.eos_token_id", "0"))
    length = rng.choice((128, 144, 150, 160))
    count = rng.choice((f"max(0, {length} - len(ids))", f"-len(ids) % {rng.choice((8, 16, 32, 64))}"))
    bit, label = rng.choice((0, 0, 0, 1)), rng.choice(("-100", "-100", "-100", fill))
    add = "values + [fill] * missing" if side == "right" else "[fill] * missing + values"
    lines = (
        f"{PAD}\nmissing = {count}\nadd = lambda values, fill: {add}\n"
        f"ids, mask, labels = add(ids, {fill}), add(mask, {bit}), add(labels, {label})"
    )
    is_wrong = label != "-100" or (bit and side == "left")
    # Padding behind the answer that is seen and not supervised changes no loss.
    perhaps = "spans dataset batch" if bit and not is_wrong else ""
    words = f"padded on the {side} by {count} of {fill}, mask {bit}, labels {label}"
    make = tokenized(ROW.replace("CHANGE", lines))
    return case_of(Variant(words, make, "spans" if is_wrong else "", perhaps), files)


def rounding(rng: random.Random, files: Files) -> Case:
    """How format_example writes numbers: right as long as each is one number within 5 %."""
    digits, decimals = rng.randrange(2, 10), rng.randrange(5)
    x = "float(answer)"
    forms = (
        (f"{{{x}:.{digits}g}}", ""), (f"{{{x}:.{digits}e}}", ""), (f"{{{x}:,.{digits}g}}", ""), (f"{{{x}!r}}", ""),
        (f" {{{x}:.{digits}g}} ", ""), (f"{{{x}:+.{digits}g}}", ""), (f"{{{x}:.{digits}G}}", ""),
        (f"{{float(f'{{{x}:.{digits}g}}')}}", ""), (f"{{__import__('numpy').float64(answer):.{digits}g}}", ""),
        (f"{{{x}:.1g}}", "format"), (f"{{round({x}, {decimals})}}", "format"), (f"{{{x}:.{decimals}f}}", "format"),
        (f"{{int({x})}}", "format"), (f"{{{x}:.{digits}g}} units", "format"), (f"about {{{x}:.{digits}g}}", "format"),
        (f"{{{x} * {rng.choice((0.5, 0.9, 1.1, 2, 10, -1))}:.{digits}g}}", "format"),
        (f"{{{x}:.{digits}g}}</answer><answer>{{{x}:.{digits}g}}", "format"), (f"{{{x}:.{digits}%}}", "format"),
        (f"{{str({x}).replace('.', ',')}}", "format"), (f"{{{x}:012.{digits}g}}", ""),
    )  # fmt: skip
    form, failing = rng.choice(forms)
    old, new = '"<answer>{float(answer):.4g}</answer>"', f'"""<answer>{form}</answer>"""'
    words, perhaps = f"numbers as {form}", "trains" if failing else ""  # the drawn digits may be rounded away
    return case_of(Variant(words, sft(old, new), failing, perhaps), files)


GET = "tokenize(self.tokenizer, **self.format_fn(*self.data[index]))"
LENGTH = "return len(self.data)"
KEPT = "self.tokenizer, self.data, self.format_fn = tokenizer, data, format_fn"


def rows(rng: random.Random, files: Files) -> Case:
    """TokenizedDataset: the rows at once or one by one, as lists or tensors; or others than those of the data."""
    few, unit = rng.randrange(1, 60), rng.randrange(2, 9)
    eager = both(
        sft(KEPT, f"{KEPT}\n        self.rows = [self.make(i) for i in range(len(data))]"),
        edit("sft.py", "def __getitem__(self, index):", "def make(self, index):"),
        edit("sft.py", "def train_model(", GETTER),
    )
    variants = (
        Variant("rows made at once", eager),
        Variant("a torch Dataset", both(sft("class TokenizedDataset:", "class TokenizedDataset(torch.utils.data.Dataset):"),
                                        edit("sft.py", "from pathlib", "import torch\nfrom pathlib"))),
        Variant("rows as dict", sft(GET, f"dict({GET})")),
        Variant("rows as tensors", both(sft(f"return {GET}", f"return {{k: torch.tensor(v) for k, v in {GET}.items()}}"),
                                        edit("sft.py", "from pathlib", "import torch\nfrom pathlib"))),
        Variant(f"the first {few} rows only", sft(LENGTH, f"return {few}"), "dataset", "trains batch"),
        Variant(f"without the last {few} rows", sft(LENGTH, f"{LENGTH} - {few}"), "dataset", "trains batch"),
        Variant(f"each row {unit} times", both(sft(LENGTH, f"return {unit} * len(self.data)"),
                edit("sft.py", "self.data[index]", "self.data[index % len(self.data)]")), "dataset"),
        Variant(f"rows turned by {unit}", sft("self.data[index]", f"self.data[index - {unit}]"), "dataset"),
        Variant("question and answer exchanged", sft("row = tokenizer(", "question, answer = answer, question\n    row = tokenizer("),
                "spans", "supervised"),
        Variant("format_fn is not used", sft("**self.format_fn(*self.data[index])", "*map(str, self.data[index])"), "dataset",
                "batch trains gradients"),
        Variant(f"numbers times {unit}", sft("*self.data[index]", f"self.data[index][0], {unit} * self.data[index][1]"), "",
                "dataset batch trains gradients"),
    )  # fmt: skip
    return case_of(rng.choice(variants), files)


GETTER = """def get(self, index):
    return self.rows[index]


TokenizedDataset.__getitem__ = get


def train_model("""


def tokenizer_state(rng: random.Random, files: Files) -> Case:
    """What tokenize and generation do to the tokenizer that they share."""
    left = 'self.tokenizer.padding_side = "left"'
    side = rng.choice(("right", "left"))
    turned = row('len(tokenizer(question)["input_ids"])')
    device = "        self.device = self.model.device\n"
    stays = both(
        tokenized(f'tokenizer.padding_side = "{side}"{turned}'),
        edit("base_llm.py", f"        {left}\n", ""),
        edit("base_llm.py", device, f"{device}        {left}\n"),
    )
    pads = f'row = tokenizer(f"{{question}} {{answer}}{{tokenizer.eos_token}}", padding="max_length", max_length={rng.choice((96, 128))})'
    padded = tokenized(f"""
tokenizer.pad_token = tokenizer.eos_token
{pads}
asked = len(tokenizer(question)["input_ids"])
labels = [-100] * asked + row["input_ids"][asked:]
row["labels"] = [label if seen else -100 for label, seen in zip(labels, row["attention_mask"])]
return row
""")
    variants = (
        Variant(f"padding side set once, turned to the {side} by tokenize", stays, "tokenize_stable" if side == "right" else ""),
        Variant(f"padding side set in tokenize to the {side}, and in generation",
                tokenized(f'tokenizer.padding_side = "{side}"{turned}')),
        Variant("padded to a length on the side that a generation left", padded, "tokenize_stable", "batch trains"),
        Variant("truncation side set", tokenized(f'tokenizer.truncation_side = "{side}"{turned}')),
    )  # fmt: skip
    return case_of(rng.choice(variants), files)


ALL = (
    Mutator(mask_shifted, LABELS), Mutator(token_dropped, LABELS), Mutator(label_value, LABELS),
    Mutator(padding, f"{LABELS} batch"), Mutator(rounding, "format batch"),
    Mutator(rows, "spans dataset batch"), Mutator(tokenizer_state, "spans tokenize_stable"),
)  # fmt: skip
