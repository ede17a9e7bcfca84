"""What right labels are, as a check of a finished row, independent of how the row was made."""

from homework.data import IGNORE_INDEX


def broken_property(tokenizer, question: str, answer: str, row: dict[str, list[int]]) -> str | None:
    """None if the row is right, else the property that it breaks.

    The prompt's ids (what the model gets at inference) are a prefix of the row's; exactly the ids after it are
    supervised; they decode to the answer, up to one leading space, and the row to question, space and answer; there is
    one EOS among them, at the end.
    """
    ids, labels, eos = row["input_ids"], row["labels"], tokenizer.eos_token_id
    prompt = list(tokenizer(question)["input_ids"])
    span = [label for label in labels if label != IGNORE_INDEX]
    if len(labels) != len(ids) or row["attention_mask"] != [1] * len(ids):
        return "labels, mask and ids differ in length, or padding is in the row"
    if not span:
        return "nothing is supervised"
    if ids[: len(prompt)] != prompt:
        return "the prompt's ids are no prefix"
    if labels != [IGNORE_INDEX] * (len(ids) - len(span)) + ids[len(ids) - len(span) :]:
        return "the labels are not the end of the ids"
    if span[-1] != eos or span.count(eos) != 1:
        return "not exactly one EOS at the end"
    text = tokenizer.decode(span[:-1], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if text.removeprefix(" ") != answer:
        return f"the supervised text is {text!r}"
    whole = tokenizer.decode(ids[:-1], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if whole.removeprefix(" ") != f"{question} {answer}".removeprefix(" "):
        return f"the row's text is {whole!r}"
    return None if len(ids) == len(prompt) + len(span) else "the span does not begin where the prompt ends"
