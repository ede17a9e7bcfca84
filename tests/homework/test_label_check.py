"""The label span: right on every row and tokenizer family, and every known wrong span is noticed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BatchEncoding, PreTrainedTokenizerFast

from homework.common.errors import HomeworkError
from homework.data import IGNORE_INDEX, Dataset, is_answer_valid
from homework.guards.label_check import check_rows, check_texts, diagnose_row, doubt_format, plain_row
from homework.sft import TokenizedDataset, format_example, tokenize
from tests.support.wrong_spans import WRONG_SPANS, ids_of, pads_supervised

QUESTION, ANSWER, CORRECT = "How many min are in 2 hours?", "<answer>120</answer>", 120.0


def diagnose(tokenizer, row, question: str = QUESTION, answer: str = ANSWER, correct: float = CORRECT) -> str | None:
    return diagnose_row(tokenizer, {"question": question, "answer": answer}, correct, row)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_property_holds_on_every_row(real_tokenizer, split):
    dataset = Dataset(split)
    rows = TokenizedDataset(real_tokenizer, dataset, format_example)
    assert len(rows) == 1000
    for index, row in enumerate(rows):
        question, answer = dataset[index]
        example = format_example(question, answer)
        assert diagnose_row(real_tokenizer, example, answer, row) is None
        assert 8 <= sum(label != IGNORE_INDEX for label in row["labels"]) <= 25


def test_the_space_belongs_to_the_answer(real_tokenizer):
    row = tokenize(real_tokenizer, QUESTION, ANSWER)
    span = [label for label in row["labels"] if label != IGNORE_INDEX]
    assert real_tokenizer.convert_ids_to_tokens(span)[0] == "Ġ<"


@pytest.mark.parametrize("plant", WRONG_SPANS, ids=lambda plant: plant.__name__)
def test_each_wrong_span_is_named(real_tokenizer, plant):
    complaint = diagnose(real_tokenizer, plant(real_tokenizer, QUESTION, ANSWER))
    assert complaint is not None and WRONG_SPANS[plant] in complaint


def test_padding_on_the_right_is_allowed(real_tokenizer):
    row = pads_supervised(real_tokenizer, QUESTION, ANSWER)
    length = sum(row["attention_mask"])
    row["labels"] = row["labels"][:length] + [IGNORE_INDEX] * (len(row["labels"]) - length)
    assert diagnose(real_tokenizer, row) is None


def test_a_mask_that_does_not_end_where_the_row_does_is_named(real_tokenizer):
    row = tokenize(real_tokenizer, QUESTION, ANSWER)
    hides = row | {"attention_mask": [*row["attention_mask"][:-1], 0]}
    assert "hides a token of the row, its EOS" in diagnose(real_tokenizer, hides)
    fills = {"input_ids": real_tokenizer.eos_token_id, "attention_mask": 1, "labels": IGNORE_INDEX}
    shows = {name: [*row[name], fill, fill] for name, fill in fills.items()}
    assert "attention_mask is 1 where padding stands" in diagnose(real_tokenizer, shows)


def padded_left(tokenizer, masked: int) -> dict[str, list[int]]:
    """A row behind 40 tokens of padding, whose mask was counted from its first token, padding included."""
    row = tokenize(tokenizer, QUESTION, ANSWER)
    ids = [tokenizer.pad_token_id] * 40 + row["input_ids"]
    seen = [0] * 40 + row["attention_mask"]
    labels = [
        token if bit and at >= masked else IGNORE_INDEX for at, (token, bit) in enumerate(zip(ids, seen, strict=True))
    ]
    return {"input_ids": ids, "attention_mask": seen, "labels": labels}


def test_padding_on_the_left_is_allowed_where_the_mask_is_right(real_tokenizer):
    asked = len(ids_of(real_tokenizer, QUESTION))
    right = padded_left(real_tokenizer, 40 + asked)
    assert diagnose(real_tokenizer, right) is None
    no_end = right | {"labels": [*right["labels"][:-1], IGNORE_INDEX]}
    assert "EOS is masked" in diagnose(real_tokenizer, no_end)
    for masked in (asked, 40 + asked - 1):
        assert "padding stands before the question" in diagnose(real_tokenizer, padded_left(real_tokenizer, masked))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("120.0", "parse_answer finds no number in the answer '120.0'"),
        ("<answer>100</answer>", "is not within 5 % of 120: format_example rounds too much"),
    ],
)
def test_the_text_of_the_answer_is_proved_too(bundled_tokenizer, answer, message):
    assert message in diagnose(bundled_tokenizer, tokenize(bundled_tokenizer, QUESTION, answer), answer=answer)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ("6000 0.00123 1.9e10 1.5e-7 -3 0", ""),
        ("6000 6e+03", "numbers such as 6e+03: it writes 6000 better"),
        ("1.2E-4", "numbers such as 1.2E-4: it writes 0.00012 better"),
        ("1 0.3333333333", "numbers of up to 10 digits"),
    ],
)
def test_right_numbers_that_are_hard_to_write_are_doubted(numbers, said):
    found = doubt_format([f"<answer>{number}</answer>" for number in numbers.split()])
    assert found.startswith(said) and bool(found) == bool(said)


def test_the_reference_writes_no_doubtful_numbers():
    assert not doubt_format([format_example(*row)["answer"] for row in Dataset("train")])


def test_rows_of_any_type_become_lists(bundled_tokenizer):
    row = tokenize(bundled_tokenizer, QUESTION, ANSWER)
    tensors = BatchEncoding({name: torch.tensor(values) for name, values in row.items()})
    assert plain_row(tensors) == row
    with pytest.raises(HomeworkError, match="must return flat lists of ids, not a batch"):
        plain_row({name: [values, values] for name, values in row.items()})
    with pytest.raises(HomeworkError, match="must return a dictionary with input_ids"):
        plain_row(None)


@pytest.mark.parametrize(("field", "message"), [("attention_mask", "is 0 everywhere"), ("labels", "lengths differ")])
def test_fields_that_cannot_be_are_named(bundled_tokenizer, field, message):
    row = tokenize(bundled_tokenizer, QUESTION, ANSWER)
    row[field] = [0] * len(row[field]) if field == "attention_mask" else row[field][1:]
    assert message in diagnose(bundled_tokenizer, row)


def test_check_rows_counts_and_names_the_row(bundled_tokenizer):
    data = [Dataset("train")[index] for index in range(5)]
    rows = TokenizedDataset(bundled_tokenizer, data, format_example)
    check_rows(bundled_tokenizer, data, format_example, rows)
    tensors = [{name: torch.tensor(values) for name, values in row.items()} for row in rows]
    check_rows(bundled_tokenizer, data, format_example, tensors)
    with pytest.raises(HomeworkError, match="4 tokenized rows for 5 rows of data"):
        check_rows(bundled_tokenizer, data, format_example, rows.rows[:4])
    rows[3]["labels"][-1] = IGNORE_INDEX
    with pytest.raises(HomeworkError, match="row 3: EOS is masked"):
        check_rows(bundled_tokenizer, data, format_example, rows)


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
    assert diagnose(FAMILIES[name], tokenize(FAMILIES[name], QUESTION, ANSWER)) is None


@pytest.mark.parametrize("name", ["wordpiece", "lowercase"])
def test_families_that_lose_text_are_refused_by_name(name):
    question = "How many MB are in 2 GB?"
    complaint = diagnose(FAMILIES[name], tokenize(FAMILIES[name], question, ANSWER), question)
    assert complaint.startswith(f"tokenizer {name} turns ") and complaint.endswith("choose another checkpoint")


def test_a_space_before_the_answer_is_no_fault_of_the_tokenizer():
    family = FAMILIES["bytelevel-bos"]
    complaint = diagnose(family, tokenize(family, QUESTION, f" {ANSWER}"), answer=f" {ANSWER}")
    assert complaint.startswith("the answer's text ' <answer>") and "begins with a space" in complaint


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from([*FAMILIES, "bundled"]),
    question=st.text(min_size=1, max_size=40) | st.text("How many km²?< >\n", min_size=1, max_size=20),
    number=st.floats(-1e308, 1e308),  # the data's own bound
)
def test_every_row_is_right_or_named(name, question, number, bundled_tokenizer):
    """The independent half: what the proof passes has the property, recomputed here without the proof's code."""
    tokenizer = FAMILIES.get(name, bundled_tokenizer)
    example = format_example(question, number)
    try:
        row = tokenize(tokenizer, **example)
    except HomeworkError:
        assert len(question) > 100 or name == "bundled"
        return
    complaint = diagnose_row(tokenizer, example, number, row)
    if complaint is None:
        span = [label for label in row["labels"] if label != IGNORE_INDEX]
        assert row["input_ids"] == ids_of(tokenizer, question) + span
        assert span.index(tokenizer.eos_token_id) == len(span) - 1
        assert tokenizer.decode(span[:-1]).removeprefix(" ") == example["answer"]
    elif name == "bundled":
        assert "<|" in question, complaint


def test_a_tokenizer_that_appends_eos_is_refused():
    tokenizer = make_family("bytelevel-prefix")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.eos_token_id)]
    )
    complaint = diagnose(tokenizer, tokenize(tokenizer, QUESTION, ANSWER))
    assert complaint.startswith("the tokenizer appends EOS to every text")


# --- rows that must stop the run, and the text of the answer ---


def test_a_row_too_long_is_named(bundled_tokenizer):
    limit = bundled_tokenizer.model_max_length
    data = [("How many g in 6 kg?", 6000.0), ("word " * limit, 1.0)]
    with pytest.raises(HomeworkError, match=rf"row 1: \d+ tokens, but the model reads {limit}"):
        TokenizedDataset(bundled_tokenizer, data, format_example)


def test_a_question_that_holds_eos_is_refused(bundled_tokenizer):
    question = "How many g <|im_end|> in 6 kg?"
    complaint = diagnose(bundled_tokenizer, tokenize(bundled_tokenizer, question, ANSWER), question)
    assert complaint.startswith("the question holds the EOS token")


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


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_text_for_what_is_no_finite_number_is_refused(number):
    with pytest.raises((HomeworkError, OverflowError, ValueError)):
        check_texts([("How many?", number)], format_example)


@given(st.floats(-1e300, 1e300))
def test_the_written_answer_passes_the_rule_and_parses(number):
    from homework.base_llm import BaseLLM

    parsed = BaseLLM.parse_answer(None, format_example("q", number)["answer"])
    assert is_answer_valid(parsed, number)
