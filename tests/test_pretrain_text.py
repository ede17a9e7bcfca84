"""What the pre-training text holds, and what it must never hold.

python -m pytest tests/test_pretrain_text.py
"""

import itertools
import random
import re

import pytest

from grader.world import HELD_OUT_PHRASINGS, PHRASINGS, QUANTITIES, Fact, draw_questions, format_number, slice_of
from tools import pretrain_text
from tools.pretrain_text import documents, draw_wording

COUNT = 20_000


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
    fixed = [*pretrain_text.STATEMENTS, *pretrain_text.ANSWERS, "{x} in {t}:"]
    assert [wording for wording in composed + fixed if phrasing_in(wording)] == []


def test_a_phrasing_of_the_homework_would_be_found():
    assert phrasing_in("ok, How many {t} are there per {x}. 6000") and phrasing_in("Convert {x} to {t}!")


def test_there_is_markup_but_no_answer_tag(texts):
    assert not any(re.search(r"</?\s*answer\s*>", text, re.IGNORECASE) for text in texts)
    assert sum(bool(re.search(r"<(\w+)>.*</\1>", text)) for text in texts) > 0.1 * COUNT


def test_kinds_have_their_shares(texts):
    chains = [text for text in texts if re.search(r": 1 .* is .*, .* \* .* = ", text)]
    assert 0.07 < sum(map(len, chains)) / sum(map(len, texts)) < 0.15
    products = [text for text in texts if re.fullmatch(r"[\d.e-]+ [*/] [\d.e-]+ = [\d.e-]+", text)]
    assert 0.1 < len(products) / COUNT < 0.18


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
    + r")(?![\w/^])"
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
