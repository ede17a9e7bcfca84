"""The label span: right on every row and tokenizer family, and every known wrong span is noticed.

python -m pytest tests/test_labels.py
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from homework.data import IGNORE_INDEX, Dataset, is_answer_valid
from homework.errors import HomeworkError
from homework.sft import TokenizedDataset, format_example, tokenize
from tests.label_property import broken_property

QUESTION, ANSWER = "How many min are in 2 hours?", "<answer>120</answer>"


@pytest.mark.parametrize("split", ["train", "valid"])
def test_property_holds_on_every_row(real_tokenizer, split):
    dataset = Dataset(split)
    rows = TokenizedDataset(real_tokenizer, dataset, format_example)
    assert len(rows) == 1000
    for index, row in enumerate(rows):
        question, answer = dataset[index]
        text = format_example(question, answer)["answer"]
        assert broken_property(real_tokenizer, question, text, row) is None
        assert is_answer_valid(float(text.removeprefix("<answer>").removesuffix("</answer>")), answer)
        assert 8 <= sum(label != IGNORE_INDEX for label in row["labels"]) <= 25


def test_the_space_belongs_to_the_answer(real_tokenizer):
    row = tokenize(real_tokenizer, QUESTION, ANSWER)
    span = [label for label in row["labels"] if label != IGNORE_INDEX]
    assert real_tokenizer.convert_ids_to_tokens(span)[0] == "Ġ<"


# --- the wrong spans of real submissions, each written as its author would ---


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


WRONG_SPANS = {
    a1_trailing_space: "the supervised text is 'answer>120</answer>'",
    a2_no_space_join: ("the prompt's ids are no prefix", "the row's text is 'How many min are in 2 hours?<answer>"),
    a3_tag_as_one_token: "nothing is supervised",
    a4_tag_search_falls_back: "the supervised text is ",
    a5_tag_in_the_prompt: "the prompt's ids are no prefix",
    a6_no_mask: "the supervised text is 'How many",
    a7_collator_rebuilds: "the labels are not the end of the ids",
    a8_no_eos: "the labels are not the end of the ids",
    a9_padded_on_the_left: "the prompt's ids are no prefix",
    a10_two_eos: "not exactly one EOS at the end",
}


@pytest.mark.parametrize("plant", WRONG_SPANS, ids=lambda plant: plant.__name__)
def test_property_notices_the_wrong_span(real_tokenizer, plant):
    complaint = broken_property(real_tokenizer, QUESTION, ANSWER, plant(real_tokenizer, QUESTION, ANSWER))
    assert complaint is not None and complaint.startswith(WRONG_SPANS[plant])


# --- other tokenizer families ---


def train_family(model, pre_tokenizer, decoder, trainer, post=None, normalizer=None) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoder
    if normalizer:
        tokenizer.normalizer = normalizer
    corpus = [f"{q} {format_example(q, a)['answer']}" for q, a in (Dataset("train")[i] for i in range(300))]
    tokenizer.train_from_iterator(corpus, trainer)
    if post:
        tokenizer.post_processor = post(tokenizer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


def add_bos(tokenizer: Tokenizer) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])


def make_family(name: str) -> PreTrainedTokenizerFast:
    special = ["<unk>", "<s>", "</s>"]
    space = pre_tokenizers.Metaspace(prepend_scheme="first"), decoders.Metaspace(prepend_scheme="first")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=name == "bytelevel-prefix"), decoders.ByteLevel()
    bpe = trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    unigram = trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>", show_progress=False)
    pieces = trainers.WordPieceTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    byte_bpe = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer = {
        "metaspace": lambda: train_family(models.BPE(unk_token="<unk>"), *space, bpe),
        "metaspace-bos": lambda: train_family(models.BPE(unk_token="<unk>"), *space, bpe, add_bos),
        "unigram-bos": lambda: train_family(models.Unigram(), *space, unigram, add_bos),
        "bytelevel-bos": lambda: train_family(models.BPE(), *bytes_, byte_bpe, add_bos),
        "bytelevel-prefix": lambda: train_family(models.BPE(), *bytes_, byte_bpe),
        "wordpiece": lambda: train_family(
            models.WordPiece(unk_token="<unk>"), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(), pieces
        ),
        "lowercase": lambda: train_family(models.BPE(), *bytes_, byte_bpe, normalizer=normalizers.Lowercase()),
    }[name]()
    tokenizer.name_or_path = name
    return tokenizer


FAMILIES = {
    name: make_family(name)
    for name in (
        "metaspace",
        "metaspace-bos",
        "unigram-bos",
        "bytelevel-bos",
        "bytelevel-prefix",
        "wordpiece",
        "lowercase",
    )
}


@pytest.mark.parametrize("name", ["metaspace", "metaspace-bos", "unigram-bos", "bytelevel-bos", "bytelevel-prefix"])
def test_families_are_right_on_an_ordinary_row(name):
    assert broken_property(FAMILIES[name], QUESTION, ANSWER, tokenize(FAMILIES[name], QUESTION, ANSWER)) is None


@pytest.mark.parametrize("name", ["wordpiece", "lowercase"])
def test_families_that_lose_text_are_refused_by_name(name):
    with pytest.raises(HomeworkError, match=f"tokenizer {name} turns .* choose another checkpoint"):
        tokenize(FAMILIES[name], "How many MB are in 2 GB?", ANSWER)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from([*FAMILIES, "bundled"]),
    question=st.text(min_size=1, max_size=40) | st.text("How many km²?< >\n", min_size=1, max_size=20),
    number=st.floats(allow_nan=False, allow_infinity=False),
)
def test_every_row_is_right_or_refused(name, question, number, bundled_tokenizer):
    tokenizer = FAMILIES.get(name, bundled_tokenizer)
    answer = format_example(question, number)["answer"]
    try:
        row = tokenize(tokenizer, question, answer)
    except HomeworkError:
        assert name != "bundled" or len(question) > 100 or "<|" in question
        return
    assert broken_property(tokenizer, question, answer, row) is None


def test_a_prompt_that_is_no_prefix_is_refused():
    """A tokenizer that puts EOS after every text makes the prompt end where the row goes on."""
    tokenizer = make_family("bytelevel-prefix")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.eos_token_id)]
    )
    with pytest.raises(HomeworkError, match="do not begin the ids of its row"):
        tokenize(tokenizer, QUESTION, ANSWER)


# --- rows that must stop the run, and the text of the answer ---


def test_a_row_too_long_is_named(bundled_tokenizer):
    data = [("How many g in 6 kg?", 6000.0), ("word " * 200, 1.0)]
    with pytest.raises(HomeworkError, match=r"row 1: \d+ tokens, but the model reads 128"):
        TokenizedDataset(bundled_tokenizer, data, format_example)


def test_a_question_that_holds_eos_is_refused(bundled_tokenizer):
    with pytest.raises(HomeworkError):
        tokenize(bundled_tokenizer, "How many g <|im_end|> in 6 kg?", ANSWER)


def test_labels_do_not_depend_on_the_padding_side(bundled_tokenizer):
    before = tokenize(bundled_tokenizer, QUESTION, ANSWER)
    bundled_tokenizer.padding_side = "left"
    try:
        assert tokenize(bundled_tokenizer, QUESTION, ANSWER) == before
    finally:
        bundled_tokenizer.padding_side = "right"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (6000.0, "6000"),
        (2.1336, "2.13"),
        ("2.5", "2.5"),
        (24e12, "2.4e13"),
        (-0.5, "-0.5"),
        (0, "0"),
        (1 / 3, "0.333"),
        (1.25e-13, "1.25e-13"),
        (999_999, "1e6"),
    ],
)
def test_format_example_writes_three_digits(number, text):
    assert format_example("q", number) == {"question": "q", "answer": f"<answer>{text}</answer>"}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), "six", None])
def test_format_example_refuses_what_is_no_number(number):
    with pytest.raises(HomeworkError, match="must be"):
        format_example("How many?", number)


@given(st.floats(-1e300, 1e300))
def test_the_written_answer_passes_the_rule_and_parses(number):
    from homework.base_llm import BaseLLM

    parsed = BaseLLM.parse_answer(None, format_example("q", number)["answer"])
    assert is_answer_valid(parsed, number)
