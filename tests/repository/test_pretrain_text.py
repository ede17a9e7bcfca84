"""What the pre-training text holds, and what it must never hold: ten thousand documents here, more by COUNT.

COUNT=1000000 python -m pytest tests/repository/test_pretrain_text.py      # once, after a change of the text
"""

import itertools
import math
import os
import random
import re
from collections import Counter

import pytest

from grader.units import HELD_OUT_PHRASINGS, PHRASINGS, QUANTITIES, Fact, draw_questions, format_number, slice_of
from tools import pretrain_text
from tools.pretrain_text import documents, draw_wording

COUNT = int(os.environ.get("COUNT", "10000"))


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(itertools.islice(documents(random.Random("test")), COUNT))


def words_of(text: str) -> str:
    """Lower case, without punctuation, so that 'Convert {x} to {t}.' is found in 'ok, convert {x} to {t}?'"""
    return f" {' '.join(re.sub(r'[^a-z{}]+', ' ', text.lower()).split())} "


PHRASING_WORDS = {
    words_of(phrasing) for table in (PHRASINGS, HELD_OUT_PHRASINGS) for group in table.values() for phrasing in group
}


def phrasing_in(wording: str) -> str | None:
    words = words_of(wording)
    return next((phrasing for phrasing in PHRASING_WORDS if phrasing in words), None)


def test_no_wording_contains_a_phrasing_of_the_homework():
    rng = random.Random("wording")
    composed = [draw_wording(rng.choice(list(QUANTITIES)), rng) for _ in range(COUNT)]
    fixed = [*pretrain_text.STATEMENTS, *pretrain_text.ANSWERS, *pretrain_text.CUES, "{x} in {t}:"]
    assert [wording for wording in composed + fixed if phrasing_in(wording)] == []


def test_a_phrasing_of_the_homework_would_be_found():
    assert phrasing_in("ok, How many {t} are there per {x}. 6000") and phrasing_in("Convert {x} to {t}!")


def test_there_is_markup_but_no_answer_tag(texts):
    assert not any(re.search(r"<\W*answer", text, re.IGNORECASE) for text in texts)
    assert sum(bool(re.search(r"<(\w+)>.*</\1>", text)) for text in texts) > 0.1 * COUNT


def test_the_bare_word_answer_is_among_the_repeated_pieces():
    rng = random.Random("repeats")
    assert sum("answer" in pretrain_text.make_repeat(rng) for _ in range(200)) > 40


def test_kinds_have_their_shares_of_tokens(bundled_tokenizer):
    rng, counts = random.Random("shares"), {}
    for kind, share in pretrain_text.KINDS.items():
        made = [pretrain_text.MAKERS[kind](rng) for _ in range(200)]
        counts[kind] = share * sum(len(bundled_tokenizer(text)["input_ids"]) + 1 for text in made)
    shares = {kind: count / sum(counts.values()) for kind, count in counts.items()}
    expected = {"sheet": 0.38, "chain": 0.13, "repeat": 0.14, "prose": 0.12, "arithmetic": 0.10, "tags": 0.07}
    assert {kind: shares[kind] for kind in expected} == pytest.approx(expected, abs=0.04)


def test_kinds_are_drawn_by_their_shares(monkeypatch):
    monkeypatch.setattr(pretrain_text, "MAKERS", {kind: lambda _, kind=kind: kind for kind in pretrain_text.KINDS})
    drawn = Counter(itertools.islice(pretrain_text.documents(random.Random("draw")), 5000))
    total = sum(pretrain_text.KINDS.values())
    wanted = {kind: share / total for kind, share in pretrain_text.KINDS.items()}
    assert {kind: drawn[kind] / 5000 for kind in wanted} == pytest.approx(wanted, abs=0.03)


def test_marks_are_gone_from_the_text_and_their_spans_are_kept():
    known, unknown = pretrain_text.KNOWN, pretrain_text.UNKNOWN
    assert pretrain_text.split_marks(f"1 + 1 = {known}2{unknown}") == ("1 + 1 = 2", [(8, 9)])
    assert pretrain_text.split_marks(f"{known}a{known}b{unknown}{unknown}c") == ("abc", [(0, 1), (1, 2)])


def test_every_number_of_an_answer_is_marked_and_no_question(texts):
    rng = random.Random("marks")
    for _ in range(500):
        text, spans = pretrain_text.split_marks(pretrain_text.make_prose(rng))
        marked = [text[start:end] for start, end in spans]
        assert len(marked) == 1 and re.fullmatch(r"[\d.]+(e-?\d+)?", marked[0]), (text, marked)
        text, spans = pretrain_text.split_marks(pretrain_text.make_arithmetic(rng))
        assert [text[start:end] for start, end in spans] == [line.split(" = ", 1)[1] for line in text.splitlines()]
    assert not any(pretrain_text.KNOWN in text or pretrain_text.UNKNOWN in text for text in texts)


# --- chains: their equations hold ---


def is_near(left: str, right: str) -> bool:
    """Whether two sides of an equation are equal within 0.15 %, half a unit of the fourth digit and a little."""
    first, second = (evaluate(side) for side in (left, right))
    return abs(first - second) <= 0.0015 * abs(second)


def evaluate(side: str) -> float:
    return sum(math.prod(float(factor) for factor in term.split("*")) for term in side.split(" + "))


@pytest.mark.parametrize(
    ("value", "factor", "text"),
    [
        (46, "0.305", "46 * 0.305 = 12.2 + 1.83 = 14.03"),
        (6, "1000", "6 * 1000 = 6000"),
        (47.2, "60", "47.2 * 60 = 2832"),
        (4.72, "24", "4.72 * 24 = 96 + 16.8 + 0.48 = 112.8 + 0.48 = 113.3"),
        (5040, "2.2", "5040 * 2.2 = 11000 + 88 = 11090"),
        (123456, "3", "123456 * 3 = 123500 * 3 = 370500"),
    ],
)
def test_a_product_is_written_by_its_partial_products(value, factor, text):
    assert pretrain_text.multiply(value, factor) == text


def test_every_equation_of_the_chains_holds():
    rng = random.Random("equations")
    for _ in range(COUNT):
        value = pretrain_text.draw_wide_value(rng)
        chain = pretrain_text.multiply(value, format_number(10 ** rng.uniform(-12, 12)))
        sides = chain.split(" = ")
        assert len(sides) >= 2 and all(is_near(left, right) for left, right in itertools.pairwise(sides)), chain


def test_a_wrong_equation_would_be_found():
    assert is_near("47 * 0.305", "12.2 + 2.135") and not is_near("47 * 0.305", "12.3 + 2.135")


# --- no novel fact: read back from the text, not from what made it ---

NAMES = {
    name: (quantity, unit)
    for quantity, units in QUANTITIES.items()
    for unit in units
    for name in [n for pair in unit.words for n in pair.split("/")] + list(unit.symbols)
}
AMOUNT = re.compile(
    r"(?<![\w.])(\d[\d,]*(?:\.\d+)?(?:e-?\d+)?) ?("
    + "|".join(re.escape(name) for name in sorted(NAMES, key=len, reverse=True))
    + r")(?![\w/^])(?! units of| all\b)"  # '12 in units of cups' and '12 in all' are no inches
)


def novel_fact_in(text: str) -> str | None:
    """The key of a novel fact that two amounts of a text state, if any."""
    amounts = [(float(number.replace(",", "")), *NAMES[name]) for number, name in AMOUNT.findall(text)]
    for (value, quantity, source), (shown, other, target) in itertools.permutations(amounts, 2):
        fact = Fact(quantity, source, target, value)
        if quantity != other or source == target or slice_of(fact) != "novel":
            continue
        if abs(fact.answer - shown) <= 0.006 * abs(shown):
            return fact.key
    return None


def test_no_text_states_a_novel_fact(texts):
    assert sum(len(AMOUNT.findall(text)) >= 2 for text in texts) > 0.3 * COUNT
    assert [text for text in texts if novel_fact_in(text)] == []


def test_a_novel_fact_would_be_found():
    for question in draw_questions("novel", 50, "planted"):
        fact = question.fact
        source, target = fact.source.words[0].split("/")[0], fact.target.words[0].split("/")[0]
        assert novel_fact_in(f"{fact.value:g} {source} is {format_number(fact.answer)} {target}.") == fact.key
