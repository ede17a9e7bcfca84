"""What is wrong with the labels of one row, and how to fix it: pure functions of the row and its tokenizer.

A complaint is the cause; where it is the student's to find out how to fix it, that is a second line, the hint.

A right row of `question answer<EOS>` is `prompt + span`: `prompt` are the question's own ids, which the model gets at
inference; `span` are the ids of space, answer and the one EOS. Exactly `span` is supervised. Padding may follow.

This file exists twice, byte for byte: for the training, in homework/, and for the grader, which never runs a student's
copy. A change to one is a change to both; a test compares them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

IGNORE_INDEX = -100  # the label that the loss skips
FIELDS = ("input_ids", "attention_mask", "labels")
Row = dict[str, list[int]]  # a tokenized row: each of FIELDS, of one length


class View(NamedTuple):
    """A row without its padding, beside what it should be."""

    tokenizer: Any
    question: str
    answer: str
    ids: list[int]
    labels: list[int]
    prompt: list[int]  # the ids of the question alone
    whole: list[int]  # the ids of the whole text, and EOS

    @property
    def start(self) -> int:
        """The first supervised position; the length of the row if there is none."""
        return next((t for t, label in enumerate(self.labels) if label != IGNORE_INDEX), len(self.labels))

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included."""
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def tokens(self, ids: Sequence[int]) -> str:
        """The tokens of ids, each in quotes.  Example: "'Ġ<' 'answer'" """
        return " ".join(map(repr, self.tokenizer.convert_ids_to_tokens(list(ids))))


def view_of(tokenizer: Any, question: str, answer: str, row: Row) -> View:
    """A row beside what it should be."""
    length = sum(row["attention_mask"])
    whole = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
    prompt = list(tokenizer(question)["input_ids"])
    return View(tokenizer, question, answer, row["input_ids"][:length], row["labels"][:length], prompt, whole)


def diagnose_labels(tokenizer: Any, question: str, answer: str, row: Row) -> str | None:
    """What is wrong with the labels of a row that `diagnose_shape` finds in order, or None."""
    complaint = diagnose_form(tokenizer, question, answer, row)
    if complaint is None or row["attention_mask"][0]:
        return complaint
    unpadded = without_left_padding(row)
    view = view_of(tokenizer, question, answer, unpadded)
    if view.start < len(view.prompt):  # the mask was counted from the padding on
        return complaint
    return diagnose_form(tokenizer, question, answer, unpadded)


def without_left_padding(row: Row) -> Row:
    """The row without padding on its left that is masked and not supervised: unusual, but right."""
    start = next((t for t, bit in enumerate(row["attention_mask"]) if bit), 0)
    if any(label != IGNORE_INDEX for label in row["labels"][:start]):
        return row
    return {field: row[field][start:] for field in FIELDS}


def diagnose_form(tokenizer: Any, question: str, answer: str, row: Row) -> str | None:
    """As `diagnose_labels`, of a row as it stands."""
    view = view_of(tokenizer, question, answer, row)
    checks = (diagnose_padding, diagnose_length, diagnose_eos, diagnose_question, diagnose_start, diagnose_text)
    return next((complaint for check in checks if (complaint := check(view, row))), None)


def diagnose_shape(tokenizer: Any, row: Row) -> str | None:
    """What is wrong with a row's fields, or None."""
    if tokenizer.eos_token_id is None:
        return "the tokenizer has no EOS token, without which an answer never ends: choose another checkpoint"
    lengths = {field: len(row[field]) for field in FIELDS}
    if len(set(lengths.values())) > 1:
        return "lengths differ: " + ", ".join(f"{field} {length}" for field, length in lengths.items())
    if not any(row["attention_mask"]):
        return "attention_mask is 0 everywhere, so the model would read nothing"
    return None


def diagnose_padding(view: View, row: Row) -> str | None:
    """Padding on the left, a mask that hides EOS, or supervised padding."""
    mask, length = row["attention_mask"], len(view.ids)
    pad_ids = {view.tokenizer.pad_token_id, view.tokenizer.eos_token_id}
    if list(mask) != [1] * length + [0] * (len(mask) - length) or (
        view.ids[0] in pad_ids and view.ids[:1] != view.prompt[:1]
    ):
        return (
            "padding stands before the question, so the mask covers the wrong tokens"
            "\ngeneration needs padding_side 'left', tokenize needs 'right', or better no padding (the collator pads)"
        )
    eos, hidden = view.tokenizer.eos_token_id, row["labels"][length:]
    if hidden and eos not in view.ids and row["input_ids"][length] == hidden[0] == eos:
        return "the attention_mask hides a token of the row, its EOS\nthe mask is made by length, not by ids"
    if supervised := sum(label != IGNORE_INDEX for label in hidden):
        question = "the question and " if view.start == 0 else ""
        return f"{question}{supervised} padding tokens are supervised\nall but the answer and its one EOS must be -100"
    return None


def diagnose_length(view: View, row: Row) -> str | None:
    """A row that was cut, or that has no label at all."""
    if len(view.ids) < len(view.whole) - 1 and view.ids == view.whole[: len(view.ids)]:
        return (
            f"the row was cut after {len(view.ids)} of {len(view.whole)} tokens, so its answer is not whole"
            "\nnever truncate, and never invent labels for what is lost"
        )
    if view.start == len(view.labels):
        return (
            "every label is -100, so nothing is learned\nmask only the first len(tokenizer(question)['input_ids']) "
            "tokens (<answer> is several tokens, so its id can't be searched)"
        )
    return None


def diagnose_eos(view: View, row: Row) -> str | None:
    """No EOS, a masked one, more than one, or tokens after it."""
    eos, ids = view.tokenizer.eos_token_id, view.ids
    if eos in view.prompt:
        if view.tokenizer.eos_token in view.question:
            return f"the question holds the EOS token: {view.question!r:.60}"
        return "the tokenizer appends EOS to every text, so each prompt looks finished: choose another checkpoint"
    if eos not in ids:
        return "EOS is missing at the end of the row: the model would never learn to stop\nappend eos_token_id, once"
    end = ids.index(eos) + 1
    if ids[end:] and {*ids[end:]} <= {eos, view.tokenizer.pad_token_id} and {*view.labels[end:]} == {IGNORE_INDEX}:
        return "attention_mask is 1 where padding stands\nthe mask is padded with 0"
    if ids.count(eos) > 1:
        if view.answer not in view.text(ids[: ids.index(eos)]):
            return (
                f"EOS stands before the answer: the row begins with {view.text(ids[: len(view.prompt)])!r:.60}, as a "
                "chat template does, but the prompt at inference is the question alone"
                "\nwrite question, space, answer and EOS, and nothing else"
            )
        return f"EOS stands in the row {ids.count(eos)} times\nappend it once, or let the tokenizer do it"
    if ids[-1] != eos:
        return f"after EOS the row goes on with {view.text(ids[ids.index(eos) + 1 :])!r:.40}\nEOS must be its end"
    shifted = list(zip(view.labels, ids[1:], strict=False))
    if view.start < len(shifted) and all(label in (IGNORE_INDEX, following) for label, following in shifted):
        return (
            "every label is the id of the token after it\nthe model shifts by one, not you; labels[t] is input_ids[t]"
        )
    if view.labels[-1] == IGNORE_INDEX:
        if view.start < len(view.prompt):
            return (
                "the question is supervised and EOS is not: somebody rebuilt the labels from input_ids, as "
                "DataCollatorForLanguageModeling does\nkeep those of tokenize"
            )
        return "EOS is masked, so the model never learns to stop\nmask padding by length, never by its id, EOS's own"
    return None


def diagnose_question(view: View, row: Row) -> str | None:
    """Supervised tokens of the question."""
    supervised = view.text([label for label in view.labels if label != IGNORE_INDEX])
    question = view.text(view.ids[: len(view.prompt)]) == view.text(view.prompt)
    if question and view.start < len(view.prompt):
        count = len(view.prompt) - view.start
        return f"{count} of the question's {len(view.prompt)} tokens are supervised\nmask all of them with -100"
    if not question and view.question in supervised:
        return (
            f"the supervised text begins inside the prompt: {supervised!r:.60}…: a tag in the prompt was taken for the "
            "answer's\nmask by the length of the prompt"
        )
    return None


def diagnose_start(view: View, row: Row) -> str | None:
    """A context that is not the prompt, or an answer whose first tokens are masked."""
    prompt, ids = view.prompt, view.ids
    joined = view.text(ids[:-1])
    if joined.endswith(f"{view.question}{view.answer}") and not joined.endswith(f" {view.answer}"):
        return (
            "question and answer are joined without a space, and tokens may merge across the joint "
            f"({view.tokens(ids[len(prompt) - 1 : len(prompt) + 1])})\nwrite f'{{question}} {{answer}}'"
        )
    if ids[: len(prompt)] != prompt:
        return (
            f"the row begins with {view.text(ids[: len(prompt)])!r:.60}, but the prompt at inference is "
            f"{view.text(prompt)!r:.60}\nits ids must begin the row's (does the tokenizer append EOS?)"
        )
    if ids != view.whole and view.text(ids) == view.text(view.whole):
        return (
            f"the row's ids {view.tokens(ids[len(prompt) :])} are not those of its text, "
            f"{view.tokens(view.whole[len(prompt) :])}\ntokenize question, space and answer as one text"
        )
    if view.start > len(prompt):
        masked = ids[len(prompt) : view.start]
        first = "the first answer token" if len(masked) == 1 else f"the first {len(masked)} answer tokens"
        return (
            f"{first} {view.tokens(masked)} {'is' if len(masked) == 1 else 'are'} masked, so nothing teaches the model "
            "to begin an answer\nits space belongs to the answer: mask len(tokenizer(question)['input_ids']) tokens"
        )
    return None


def diagnose_text(view: View, row: Row) -> str | None:
    """Labels that are not the row's own ids, and a tokenizer or a tokenize that changes the text."""
    span = view.labels[view.start :]
    if span != view.ids[view.start :]:
        at = next(t for t in range(view.start, len(view.ids)) if view.labels[t] != view.ids[t])
        return f"label {at} is {view.labels[at]}, not {view.ids[at]}, the id there\nthe model shifts by one, not you"
    name = view.tokenizer.name_or_path or type(view.tokenizer).__name__
    decode = {"clean_up_tokenization_spaces": False}
    pairs = (
        (view.answer, view.tokenizer.decode(span[:-1], skip_special_tokens=False, **decode)),
        (f"{view.question} {view.answer}", view.tokenizer.decode(view.ids[:-1], skip_special_tokens=True, **decode)),
    )
    for wanted, got in pairs:
        if got.removeprefix(" ") != wanted.removeprefix(" "):  # some families drop the first space
            if view.ids == view.whole and view.answer.startswith(" "):
                return f"the answer's text {view.answer!r:.60} begins with a space, and the row has one before it"
            if view.ids == view.whole:
                return f"tokenizer {name} turns {wanted!r:.120} into {got!r:.120}: choose another checkpoint"
            return f"the row says {got!r:.120}, not {wanted!r:.120}"
    return None
