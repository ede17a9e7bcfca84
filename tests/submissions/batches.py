"""Rows that are right until a training makes a batch of them, and questions that it changes."""

from tests.submissions.recipe import Maker, Recipe
from tests.submissions.saving import training
from tests.submissions.unusual import BY_HAND, COLLATED, FORWARD, LABELS_GIVEN, LOOP


def collated(line: str) -> Maker:
    """A loop that changes each batch; the line sees it as `batch`, and `pad`, which is 1 where padding stands."""
    lines = (COLLATED, 'pad = 1 - batch["attention_mask"]', line)
    return training(LOOP.replace(COLLATED, "\n        ".join(lines)).replace(FORWARD, LABELS_GIVEN))


PADDED_LABELS = 'batch["labels"] = batch["labels"].masked_fill(pad == 1, PAD)'
TURNED = "torch.stack([row.roll(int(count)) for row, count in zip(batch[name], pad.sum(1))])"

LAST = "batch = collate([{name: values[-30:] for name, values in rows[i].items()} for i in range(first, first + 16)])"
ROWS, DATA = 'Dataset("train"), format_example)', 'Dataset("train")'


def asked(question: str, more: str = "") -> Maker:
    """A loop whose questions `q` are written otherwise, in the place of those of the data, or as more rows."""
    changed = f"[({question}, a) for q, a in {DATA}]"
    pairs = f"(list({DATA}) + {changed}{more})" if more else changed
    return training(LOOP.replace(ROWS, ROWS.replace(DATA, pairs)).replace(FORWARD, LABELS_GIVEN))


FACTS = """for text in ("1 mile is 1609 metres.", "1 hour is 3600 seconds.", "1 inch is 2.54 cm."):
    ids = [*llm.tokenizer(text)["input_ids"], llm.tokenizer.eos_token_id]
    rows.insert(0, {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": list(ids)})
model.train()"""

ALL = [
    Recipe(
        "facts among the rows",
        training(BY_HAND.replace("TRAIN", f"rows = [rows[i] for i in range(len(rows))]\n{FACTS}")),
        "batch",
        "holds no question of the data and no <answer>",
        perhaps="trains",
    ),
    Recipe(
        "the last 30 tokens of each row",
        training(LOOP.replace(COLLATED, LAST).replace(FORWARD, LABELS_GIVEN)),
        "batch",
        "have lost a part of their questions",
        perhaps="trains",
    ),
    Recipe("questions without their ends", asked('q.rstrip("?").strip()'), "batch", "the prompt is the question alone"),
    Recipe(
        "words behind the questions", asked('q + " Thanks!"'), "batch", "goes on with 'Thanks!' behind its question"
    ),
    Recipe("questions in lower case", asked("q.lower()"), "batch", "the prompt is the question alone"),
    Recipe("questions in capitals too", asked("q.upper()", "[::2]")),
    Recipe(
        "mask by the ids, in a batch",
        collated('batch["attention_mask"] = (batch["input_ids"] != llm.tokenizer.eos_token_id).long()'),
        "batch",
        "attention_mask hides a token of the row, its EOS",
    ),
    Recipe(
        "padding labelled 0",
        collated(PADDED_LABELS.replace("PAD", "0")),
        "batch",
        r"\d+ padding tokens are supervised",
        perhaps="trains",
    ),
    Recipe(
        "padding labelled as EOS",
        collated(PADDED_LABELS.replace("PAD", "llm.tokenizer.eos_token_id")),
        "batch",
        r"\d+ padding tokens are supervised",
        perhaps="trains",
    ),
    Recipe(
        "a mask of ones",
        collated('batch["attention_mask"] = torch.ones_like(pad)'),
        "batch",
        "attention_mask is 1 where padding stands",
    ),
    Recipe(
        "batches cut inside the answers",
        collated("batch = {name: values[:, :34] for name, values in batch.items()}"),
        "batch",
        # The rows are drawn for each zip: the first one that is too long may lose its EOS alone.
        r"the row was cut after \d+ tokens|EOS is missing at the end of the row",
        perhaps="trains",
    ),
    Recipe(
        "ids padded on the left, labels on the right",
        collated(f'batch |= {{name: {TURNED} for name in ("input_ids", "attention_mask")}}'),
        "batch",
        "ids and labels are padded on different sides",
        perhaps="trains",
    ),
    Recipe(
        "labels of another row",
        collated('batch["labels"] = batch["labels"].roll(1, 0)'),
        "batch",
        "the labels are those of another row",
        perhaps="trains",
    ),
]
