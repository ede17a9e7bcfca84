"""The wrong label spans of real submissions, each written as its author would, and the words that must name it."""

from transformers import DataCollatorForLanguageModeling

from homework.data import IGNORE_INDEX
from homework.sft import tokenize


def make_row(ids: list[int], labels: list[int]) -> dict[str, list[int]]:
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def ids_of(tokenizer, text: str) -> list[int]:
    return list(tokenizer(text)["input_ids"])


def mask_first(ids: list[int], count: int) -> list[int]:
    return [IGNORE_INDEX] * count + ids[count:]


def a1_trailing_space(tokenizer, question, answer):
    ids = [*ids_of(tokenizer, f"{question} {answer}"), tokenizer.eos_token_id]
    return make_row(ids, mask_first(ids, len(ids_of(tokenizer, question + " "))))


def a2_no_space_join(tokenizer, question, answer):
    ids = [*ids_of(tokenizer, f"{question}{answer}"), tokenizer.eos_token_id]
    return make_row(ids, mask_first(ids, len(ids_of(tokenizer, question))))


def a3_tag_as_one_token(tokenizer, question, answer):
    ids = [*ids_of(tokenizer, f"{question} {answer}"), tokenizer.eos_token_id]
    tag = tokenizer.convert_tokens_to_ids("<answer>")
    return make_row(ids, mask_first(ids, ids.index(tag) if tag in ids else len(ids)))


def a4_tag_search_falls_back(tokenizer, question, answer):
    ids = [*ids_of(tokenizer, f"{question} {answer}"), tokenizer.eos_token_id]
    tag = ids_of(tokenizer, "<answer>")
    starts = [i for i in range(len(ids)) if ids[i : i + len(tag)] == tag]
    return make_row(ids, mask_first(ids, starts[0] if starts else len(ids) - 5))


def a5_tag_in_the_prompt(tokenizer, question, answer):
    ids = [*ids_of(tokenizer, f"Reply as <answer>number</answer>. {question} {answer}"), tokenizer.eos_token_id]
    return make_row(ids, mask_first(ids, ids.index(ids_of(tokenizer, " <")[0])))


def a6_no_mask(tokenizer, question, answer):
    ids = [*ids_of(tokenizer, f"{question} {answer}"), tokenizer.eos_token_id]
    return make_row(ids, list(ids))


def a7_collator_rebuilds(tokenizer, question, answer):
    row = tokenize(tokenizer, question, answer)
    batch = DataCollatorForLanguageModeling(tokenizer, mlm=False)([row])
    return {name: batch[name][0].tolist() for name in row}


def a8_no_eos(tokenizer, question, answer):
    row = tokenize(tokenizer, question, answer)
    row["labels"] = [IGNORE_INDEX if i == tokenizer.pad_token_id else i for i in row["labels"]]
    return row


def a9_padded_on_the_left(tokenizer, question, answer):
    ids = [*ids_of(tokenizer, f"{question} {answer}"), tokenizer.eos_token_id]
    ids = [tokenizer.pad_token_id] * (64 - len(ids)) + ids
    return make_row(ids, mask_first(ids, len(ids_of(tokenizer, question))))


def a10_two_eos(tokenizer, question, answer):
    row = tokenize(tokenizer, question, answer)
    return {
        name: [*row[name], 1 if name == "attention_mask" else tokenizer.eos_token_id]
        for name in ("input_ids", "attention_mask", "labels")
    }


def a10_newline_after_eos(tokenizer, question, answer):
    row = tokenize(tokenizer, question, answer)
    newline = ids_of(tokenizer, "\n")
    return make_row(row["input_ids"] + newline, row["labels"] + newline)


def a15_last_five_of_a_cut_row(tokenizer, question, answer):
    ids = ids_of(tokenizer, f"{question} {answer}")[:12]
    return make_row(ids, mask_first(ids, len(ids) - 5))


def pads_supervised(tokenizer, question, answer):
    ids = [*ids_of(tokenizer, f"{question} {answer}"), tokenizer.eos_token_id]
    pads = [tokenizer.pad_token_id] * (32 - len(ids))
    return {
        "input_ids": ids + pads,
        "attention_mask": [1] * len(ids) + [0] * len(pads),
        "labels": mask_first(ids, len(ids_of(tokenizer, question))) + pads,
    }


def tokenized_apart(tokenizer, question, answer):
    prompt = ids_of(tokenizer, question + " ")
    ids = [*prompt, *ids_of(tokenizer, answer), tokenizer.eos_token_id]
    return make_row(ids, mask_first(ids, len(prompt)))


def shifted_by_hand(tokenizer, question, answer):
    row = tokenize(tokenizer, question, answer)
    return {**row, "labels": [*row["labels"][1:], tokenizer.eos_token_id]}


WRONG_SPANS = {
    a1_trailing_space: "the first answer token 'Ġ<' is masked",
    a2_no_space_join: "question and answer are joined without a space",
    a3_tag_as_one_token: "every label is -100",
    a4_tag_search_falls_back: "the first ",
    a5_tag_in_the_prompt: "the supervised text begins inside the prompt",
    a6_no_mask: "of the question's",
    a7_collator_rebuilds: "the question is supervised and EOS is not: somebody rebuilt the labels",
    a8_no_eos: "EOS is masked, so the model never learns to stop",
    a9_padded_on_the_left: "padding stands before the question",
    a10_two_eos: "EOS stands in the row 2 times",
    a10_newline_after_eos: "after EOS the row goes on with '\\n'",
    a15_last_five_of_a_cut_row: "the row was cut after 12 of ",
    pads_supervised: "padding tokens are supervised",
    tokenized_apart: "are not those of its text",
    shifted_by_hand: "every label is the id of the token after it",
}
