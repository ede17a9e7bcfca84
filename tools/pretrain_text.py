"""The text that the bundled base model reads: it knows units, computes, and follows an example.

Eight kinds of document, drawn from ``grader/units.py`` (shares in `KINDS`). **Sheets** hold two to four questions answered
in one format that is drawn at random, directly or by a chain of equations, so that the format of an answer has to be
read from the example before it. **Repeats** are pieces at random, then the same pieces again: without them a model of
this size did not begin to copy within 16 million tokens. What the text never holds is tested in
``tests/repository/test_pretrain_text.py``: an ``<answer>`` tag, a phrasing of the homework, a fact of the `novel` slice.

Most tokens of such a text are drawn at random, and nothing can be learned from them. What can be known from what stands
before it, numbers, equations and second copies, is **marked**, and counts ten times as much in the loss.

    python -m tools.pretrain_text --count 20        # look at some documents
"""

import itertools
import random
import re
import string
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from grader.units import (
    HELD_OUT_PHRASINGS,
    PHRASINGS,
    QUANTITIES,
    Fact,
    Unit,
    draw_fact,
    draw_value,
    format_number,
    slice_of,
    spell_unit,
)
from homework.common.cli import run

# {x} is the value with its unit, {t} the asked unit, {n} the answer's number, {y} the answer with its unit.
STATEMENTS = (
    "{x} is {y}.", "{x} = {y}", "{x} equals {y}.", "{x} are {y}.", "{x} makes {y}.", "{x} ({y})", "{x}, or {y}",
    "{x} is the same as {y}.", "{x} comes to {y}.", "There are {n} {t} in {x}.", "In {t}, {x} is {n}.",
    "{y} is what {x} amounts to.", "You get {y} out of {x}.", "{x} corresponds to {y}.", "{x} converted to {t} is {n}.",
    "{x} in {t} is {n}.", "{x}: {y}", "{n} is the number of {t} in {x}.", "{x} works out to {y}.", "{x} gives {y}.",
)  # fmt: skip

ASKS = (
    "how many {t} make {x}", "how many {t} would {x} be", "how many {t} will {x} give", "number of {t} in {x}",
    "how many {t} can you get out of {x}", "what amount of {t} is {x}", "{x} makes how many {t}", "{x} into {t}",
    "{x} would be what in {t}", "{x} converted to {t}", "{x}: {t}", "{t} for {x}", "{t} from {x}", "from {x} to {t}",
    "{x} becomes how many {t}", "to how many {t} does {x} come", "turn {x} into {t}", "put {x} into {t}",
    "swap {x} for {t}", "get me {x} in {t}", "compute {x} in {t}", "figure out {x} in {t}", "{x} as {t}",
    "determine how many {t} are contained in {x}", "the number of {t} that {x} holds", "{t} in {x}",
    "what would you call {x} in {t}", "what is {x} if you use {t}", "what is {x} when measured in {t}",
    "what does {x} look like in {t}", "in terms of {t}, {x} is what", "using {t}, what is {x}",
    "measured in {t}, {x} is how much", "as {t}, {x} would be", "{x} is the same as how many {t}",
    "{x} is equivalent to how many {t}", "what is the {t} equivalent of {x}", "what is the {t} value for {x}",
    "{x} amounts to how many {t}", "what is the conversion of {x} to {t}", "do the conversion from {x} to {t}",
    "{x}, how many {t} would that be", "suppose we have {x}; how many {t}", "say it is {x}. how many {t}",
    "imagine {x}. what is the number in {t}", "replace {x} with {t}", "i want {t} instead of {x}",
    "i have got {x} but need {t}", "write down {x} in {t}", "report {x} in {t}", "restate {x} in {t}",
    "we need the figure for {x} in {t}", "if it is {x}, then it is how many {t}", "for {x}, what is the count in {t}",
    "someone said {x}, but i think in {t}", "what should i enter in {t} for {x}", "{x} comes out at how many {t}",
    "how big is {x} in {t}", "what number goes with {x} in {t}", "{x}? i need {t}", "{t} please: {x}", "{t}? {x}",
    "how many {t} equal {x}", "how many {t} does it take to make {x}", "how many {t} fit in {x}", "want {x} in {t}",
    "would you go from {x} to {t}", "the {t} in {x}", "{x} when changed to {t}", "what are {x} worth in {t}",
)  # fmt: skip

SCENES = {
    "length": ("the {w} is {x} long", "a {w} that measures {x}", "we walked {x} to the {w}", "it is {x} away", "her {w} is {x} tall",
               "the {w} was {x} wide", "they drove {x}", "i ran {x} today", "the gap is {x}", "a distance of {x}"),
    "mass": ("the {w} weighs {x}", "a {w} of {x}", "i bought {x} of {w}", "his {w} has a mass of {x}", "we carried {x} of {w}",
             "my {w} is {x} on the scale", "the load is {x}", "a weight of {x}"),
    "time": ("the {w} took {x}", "we stayed for {x}", "it lasts {x}", "the {w} is {x} old", "she worked on it for {x}", "in {x} it ends",
             "a period of {x}", "the {w} runs for {x}"),
    "volume": ("the {w} holds {x}", "i drank {x} of {w}", "pour {x} of {w}", "we used {x} of {w}", "a {w} with {x} inside", "add {x}",
               "there is {x} left", "a volume of {x}"),
    "speed": ("the {w} moves at {x}", "she runs at {x}", "the limit is {x}", "a wind of {x}", "he drove {x}", "the {w} flies at {x}",
              "it goes {x}", "a speed of {x}"),
    "storage": ("the {w} is {x}", "my phone has {x} free", "the download is {x}", "a {w} of {x}", "we sent {x}", "the image needs {x}",
                "it uses {x} of memory", "a size of {x}"),
}  # fmt: skip
FOLLOW_UPS = (
    "how many {t} is it", "what would it be in {t}", "and in {t}", "in {t} please", "what is the figure in {t}",
    "can you say that in {t}", "i only know {t}", "i think in {t}", "what does that make in {t}", "how many {t} are that",
    "give it to me in {t}", "what is that in {t}", "how many {t}", "convert that to {t}", "so how many {t}", "in {t}?",
    "could i have that in {t}", "the answer should be in {t}", "use {t}", "how much is it in {t}", "{t}?", "now in {t}",
    "wanted in {t}", "needed in {t}", "looked for in {t}", "which number of {t}", "what number of {t} is right", "which {t} belong there",
)  # fmt: skip
OPENERS = (
    "hey", "hello", "please", "quick question", "i wonder", "question", "ok", "so", "problem {k}", "exercise {k}", "can you help",
    "help me out", "let me know", "for school", "for my homework", "do you happen to know", "just checking", "next one", "q{k}",
    "tell me", "could you say", "i forgot", "remind me", "any idea", "excuse me", "hi there", "now", "well",
)  # fmt: skip
CLOSERS = (
    "thanks",
    "please",
    "thank you",
    "roughly",
    "exactly",
    "i forgot",
    "a number is enough",
    "be brief",
    "if you know",
    "today",
)

# Value and unit apart: {v} is the value alone and {s} its unit. A source and an asking clause come in either order.
SOURCES = (
    "the number is {v}, the unit {s}", "in {s} it is {v}", "{v} is the figure in {s}", "it says {v}, counted in {s}",
    "{s} reading: {v}", "the {s} count is {v}", "amount {v}, unit {s}", "number of {s}: {v}", "{v} on the {s} scale",
    "it came to {v} when we measured in {s}", "the display is set to {s} and shows {v}", "we have {v} of the unit {s}",
    "{v} was the result, and we use {s}", "{s}: {v}", "{v} ({s})", "{v} [{s}]", "{s} = {v}", "the {w} has {v} as its number of {s}",
    "for the {w} they count {s}, {v} in all", "{v} it says on the {w}, {s} of course", "the {w} is listed in {s} as {v}",
    "{v} units of {s}", "{v} of the {w}'s {s}", "a total of {v} when counted as {s}", "my {w} reads {v} and is marked in {s}",
    "my {w} only knows {s} and gives {v}", "{s} are used here, and there are {v} of them", "of {s} we have {v}", "{s}, {v} of them",
    "they use {s} and wrote {v}", "in the column for {s} stands {v}", "the value in {s} of the {w} is {v}", "{v} in units of {s}",
    "there is a {v} under {s}", "the {s} number is {v}", "written in {s}, the {w} has {v}", "i typed {v} with {s} as the unit",
    "input {v}, measured in {s}", "{v} is how many {s} the {w} has", "as many as {v} whole {s}", "{v} full {s}", "{v} long {s}",
    "a {v}-{s} {w}", "the {v}-{s} {w}", "{v} or so {s}", "{v} more {s}", "{v} of these {s}", "the {w} needs {v} entire {s}",
    "known in {s}: {v}", "stated in {s}: {v}", "noted in {s}: {v}", "the amount in {s} is {v}", "i count in {s} and got {v}",
    "the {w} shows {v} in {s}", "typed in {s}: {v}", "kept in {s}: {v}", "it reads {v}, in {s}", "the {w} has the figure {v} in {s}",
    "{v} was written in {s}", "taken in {s}: {v}", "the size in {s}: {v}", "start at {v} {s}", "the {w} begins at {v} in {s}",
)  # fmt: skip
APART = (
    "{w} ({s}): {v}\n{w} ({t}):", "{w} in {s}: {v} / {w} in {t}: ...", "{w} ({s}) {v}, {w} ({t}) ?", "{s} = {v}, {t} = ?", "{t} = ?, {s} = {v}",
    "under {s} stands {v}, under {t} nothing", "{s} and {t}: the first is {v}", "{s} {v}, {t} ?", "two columns, {s} and {t}; {v} is in the first",
    "{t}: ?\n{s}: {v}", "size in {s}: {v}. size in {t}:", "{w} has {s} {v} and {t}", "{s}: {v}; {t}:", "{v} | {s} | {t}", "{s};{t};{v}",
    "{s} -> {t}, {v}", "{s} > {t}: {v}", "{s}/{t}: {v}", "{v}, {s} -> {t}", "{v}: {s} to {t}", "{s} | {t}\n{v} | ?", "{t} <- {s}: {v}",
    "{s} into {t}, number {v}", "the unit goes from {s} to {t}, the number is {v}", "{v}, from {s} to {t}", "{v} from {s} to {t}",
    "source {s}, target {t}, input {v}", "input {v}, source {s}, target {t}", "old unit {s}, new unit {t}, old number {v}",
    "if {s} become {t}, then {v} becomes", "{v} as {s}; as {t}", "{s} were asked as {t}: {v}", "a {s} to {t} conversion of {v}",
    "i want to go to {t} from {s}, starting at {v}", "{t} instead of {s}: {v}", "{v} is in {s} but should be in {t}",
    "do {s} to {t} for {v}", "use a {s} to {t} table for {v}", "{s}-to-{t} of {v}", "{t} per {v} {s}", "exchange {s} for {t} at {v}",
    "a {w} in {s} shows {v}; another in {t} shows", "how much in {t} is a {w} of {v} when {v} counts {s}", "{v} {s} = ? {t}",
    "{v} but in {s}, when {t} are needed", "the {w} gives {v} in {s} where {t} would be right", "{v} in {s}, not yet in {t}",
    "a {s} number, {v}, has to become a {t} number", "first {v} {s}, then how many {t}", "the {s} side says {v}, the {t} side is blank",
    "{v} {s} -> {t}", "{v} {s} => {t}", "{v} {s} ?{t}", "{v}{s} in {t}", "? {t} = {v} {s}", "{t}? {v} {s}", "{v} {s}, {t}",
)  # fmt: skip
# The asked unit first, or both units named before the amount; a closer without a unit ends such a question.
WANTS = (
    "{t}, not {s}", "i only think in {t}", "my {w} knows only {t}", "they use {t} here", "{t} is what i am used to", "we do not use {s} but {t}",
    "the {w} is marked in {t}", "the {w} wants {t}", "for the {w} i need {t}", "{t} are asked", "it must be {t}", "the {w} is stuck on {t}",
    "my {w} says nothing about {t}", "the other {w} counts {t}", "{t} please", "in {t} if you can", "i promised {t}", "no {s}, only {t}",
)  # fmt: skip
ENDINGS = (
    "so how many", "what do i write", "what is it", "and the number", "so", "how much", "what would you say", "what now", "the number please",
    "what should it say", "tell me", "can you do it", "how many then", "what is the right number", "fill it in", "how many is that then",
)  # fmt: skip
# A question composed from a verb or an opening, a noun and a preposition.
VERBS = (
    "transform recast re-express reformulate render map bring rework redo present print display estimate approximate name specify "
    "list enter note record supply provide produce return output send deliver quote indicate mention describe deduce derive obtain "
    "evaluate solve check count measure read answer explain predict confirm write repeat shift move scale adjust"
).split()  # fmt: skip
LEADS = (
    "what would be", "what's", "what is", "do you know", "can you tell me", "i need", "i want", "please find", "find", "we are looking for",
    "tell us", "i am after", "could you work out", "how do i get", "help me find", "my task is to find", "i am asked for", "they ask for",
    "it would help to know", "someone wants", "the teacher wants", "let us find", "is it easy to get", "where do i read", "guess",
)  # fmt: skip
NOUNS = "value figure number equivalent amount count size reading measure total quantity result".split()
MAKES = (
    "make", "equal", "match", "fit in", "fill", "come from", "are there in", "are the same as", "would equal", "do you see in", "belong to",
    "can replace", "stand for", "are as much as", "add up to", "cover", "result from", "correspond with", "is", "are contained in", "have",
)  # fmt: skip
PREPOSITIONS = "in into to as using with by for".split()

# Common words for noise around a question, so that a stranger's wording meets trained embeddings.
WORDS = (
    "the a an my your our their his her this that these those some any every one each of to in for with from on at by about into over "
    "and or but so because if when while then there here it is was are were be been has have had do does did can could will would "
    "should may might must not no yes very really only just still also again soon now today yesterday tomorrow morning evening night "
    "man woman child boy girl friend teacher student doctor driver farmer baker nurse sister brother mother father uncle aunt cousin "
    "dog cat horse bird fish cow whale elephant mouse snake tree flower grass river lake sea ocean mountain hill road street bridge "
    "house room door window wall floor roof garden kitchen table chair bed lamp box bag bottle glass plate spoon knife bowl jar tank "
    "pool car bus train plane boat ship bike truck engine wheel rope wire cable pipe board stick stone brick sand wood paper book page "
    "letter pen phone computer laptop disk drive file photo video movie song game app message email server backup memory card bread "
    "cheese milk water juice coffee tea soup rice sugar salt flour butter meat apple orange potato tomato egg cake recipe meal lunch "
    "dinner breakfast run walk race trip flight journey holiday project lesson class exam job work meeting party story history war "
    "king city town village country island world school shop market office factory hospital museum park beach forest field farm "
    "new old big small long short tall wide narrow heavy light fast slow full empty hot cold good bad nice great little whole half "
    "red blue green black white wooden metal plastic bought sold found made took gave sent used needs wants says told asked knows "
    "think thinks heard read wrote weighs holds lasts runs drives moves measures contains fills carries covers stretches travels "
    "exactly about roughly almost nearly around total amount length weight height width distance speed size time duration volume "
    "space capacity mass figure value number unit units scale metric imperial american british european sign label chart list note"
).split()  # fmt: skip

ANSWERS = (
    "{n}", "{y}", "{y}.", "It is {y}.", "That is {y}.", "The answer is {y}.", "The answer is {n}.", "About {y}.", "{x} is {y}.",
    "answer: {n}", "Answer: {y}", "= {n}", "That makes {y}.", "{n} {t}", "This is {n} {t}.", "You get {n}.",
)  # fmt: skip
# Around what can be known: code points for private use, which no text of ours holds. They are gone before tokenizing.
KNOWN, UNKNOWN = "\ue000", "\ue001"
NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()

CUES = ("{x} in {t}", "{x} to {t}", "{x}, {t}", "{x} = {t}")  # for a question, in a third of the sheets
# Around the number of a sheet's answers: {n} is the number, {t} its unit, {a} and {b} what a tag is made of.
WRAPPERS = (
    "<{a}>{n}</{a}>", "<{a}>{n}</{a}>", "<{a}>{n}</{a}>", "<{a}>{n}</{a}>", "<{a}> {n} </{a}>", "<{a} {b}>{n}</{a}>", "[{a}]{n}[/{a}]",
    "{n}", "{n} {t}", "{a}: {n}", "= {n}", "#### {n}", "**{n}**", "({n})", "{a} {n} {b}", "[{n}]", "{{{n}}}", "{a} = {n} {t}",
)  # fmt: skip
FACTORS = (
    "1 {s} is {f} {t}",
    "1 {s} is {f} {t}",
    "1 {s} is {f} {t}",
    "1 {s} = {f} {t}",
    "one {s} is {f} {t}",
    "each {s} has {f} {t}",
)
SPEAKERS = (
    ("Q: ", "A: "), ("Question: ", "Answer: "), ("User: ", "Bot: "), ("in: ", "out: "), ("", ""), ("", ""), ("- ", "  "), ("> ", ""),
    ("Problem: ", "Solution: "), ("Input: ", "Output: "), ("? ", "! "), ("ask ", "say "),
)  # fmt: skip
LAST_FIRST = 0.3  # of the products begin with the last digit
LABELS = (
    *WORDS,
    "answer",
    "value",
    "number",
    "result",
    "output",
    "final",
    "solution",
    "total",
    "num",
    "td",
    "x",
    "b",
    "i",
    "res",
)
ANSWER_TAG = re.compile(r"<\W*answer", re.IGNORECASE)


class Format(NamedTuple):
    """How every answer of one document is written."""

    chain: bool
    factor: str  # of a chain, from FACTORS
    wrapper: str  # from WRAPPERS, its tag filled in
    digits: int  # of the number in the wrapper
    exponent_mark: str
    joint: str  # between a chain and the wrapped number
    times: str


def words_of(text: str) -> str:
    """Lower case without punctuation, so that 'Convert {x} to {t}.' is found in 'ok, convert {x} to {t}?'"""
    return f" {' '.join(re.sub(r'[^a-z{}]+', ' ', text.lower()).split())} "


KNOWN_WORDS = tuple(
    {words_of(phrasing) for table in (PHRASINGS, HELD_OUT_PHRASINGS) for group in table.values() for phrasing in group}
)


def is_of_homework(wording: str) -> bool:
    """Whether a wording contains a phrasing of the homework, which the model must not have read with its answer."""
    words = words_of(wording)
    return any(phrasing in words for phrasing in KNOWN_WORDS)


def draw_wide_value(rng: random.Random) -> float:
    """A value from a wider spread than the homework's: spread values make a model compute, a few make it memorise."""
    if rng.random() < 0.5:
        return draw_value(rng)
    digits = rng.choices((1, 2, 3, 4, 5, 6), weights=(12, 30, 34, 20, 3, 1))[0]
    value = float(f"{10 ** rng.uniform(-3, 6):.{digits}g}")
    return min(max(value, 0.001), 999_999.0)


def mirror(fact: Fact, digits: int = 3) -> Fact:
    """The same statement read backwards, as a text shows it.  Example: 7 ft in m -> 2.13 m in ft"""
    return Fact(fact.quantity, fact.target, fact.source, float(format_number(fact.answer, digits)))


def may_stand(fact: Fact, digits: int = 3) -> bool:
    """Whether the text may state a fact: neither it nor its mirror is novel."""
    return "novel" not in (slice_of(fact), slice_of(mirror(fact, digits)))


def draw_text_fact(rng: random.Random) -> Fact:
    while True:
        fact = draw_fact(rng)._replace(value=draw_wide_value(rng))
        if may_stand(fact):
            return fact


def spell_value(value: float, rng: random.Random) -> str:
    """Digits; now and then a word, a comma or a needless decimal.  Example: 7.0 -> '7', 'seven' or '7.0', 2500.0 -> '2,500'"""
    if value in range(1, 21) and rng.random() < 0.04:
        return NUMBER_WORDS[int(value)]
    if value >= 1000 and rng.random() < 0.3:
        return f"{value:,.10g}"
    if value % 1 == 0 and rng.random() < 0.02:
        return f"{value:.1f}"
    return f"{value:.10g}"


def mark(text: str) -> str:
    """The text as one that can be known from what stands before it."""
    return f"{KNOWN}{text}{UNKNOWN}"


def fill(template: str, fact: Fact, rng: random.Random) -> str:
    """Fill {x} or {v} and {s}, {t}, {n} and {y} of a template, each unit spelled afresh; a number after {x} is marked."""
    source, target = spell_unit(fact.source, fact.value, rng), spell_unit(fact.target, fact.answer, rng)
    value, number = spell_value(fact.value, rng), format_number(fact.answer)
    if fact.quantity == "storage" and rng.random() < 0.05:  # as people type: mb, gb
        source, target = (name.lower() if len(name) == 2 else name for name in (source, target))
    glue = "" if source in fact.source.symbols and rng.random() < 0.15 else " "
    if template.find("{x}") < max(template.find("{n}"), template.find("{y}")):
        number = mark(number)
    return template.format(x=f"{value}{glue}{source}", v=value, s=source, t=target, n=number, y=f"{number} {target}")


def draw_words(rng: random.Random, most: int = 7) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(2, most)))


def draw_asking(rng: random.Random) -> str:
    """A question about {x} in {t} from a list, or composed."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(ASKS)
    lead, noun, preposition = rng.choice(LEADS), rng.choice(NOUNS), rng.choice(PREPOSITIONS)
    if kind < 0.55:
        return f"{rng.choice(VERBS)} {{x}} {preposition} {{t}}"
    if kind < 0.65:
        return f"{lead} the {{t}} {noun} {rng.choice(['of', 'for', 'from', 'behind'])} {{x}}"
    if kind < 0.75:
        return f"{lead} the {noun} {preposition} {{t}} {rng.choice(['of', 'for', 'that is', 'with'])} {{x}}"
    if kind < 0.85:
        return f"{lead} {{x}} {preposition} {{t}}"
    if kind < 0.95:
        return f"{rng.choice([lead, ''])} how many {{t}} {rng.choice(MAKES)} {{x}}".strip()
    return f"{preposition} {{t}} {lead} {{x}}"


def join_parts(parts: list[str], rng: random.Random, turn: float = 0.25) -> str:
    """Clauses as one question; in the other order with probability `turn`."""
    parts = parts[::-1] if rng.random() < turn else parts
    return rng.choice([". ", ", ", ": ", "; ", " "]).join(parts)


def draw_apart(rng: random.Random) -> str:
    """A question in which the value {v} and its unit {s} do not stand side by side, or stand alone."""
    if rng.random() < 0.4:
        return rng.choice(APART)
    return join_parts([rng.choice(SOURCES), rng.choice(FOLLOW_UPS)], rng)


def draw_core(quantity: str, rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.5:
        return draw_asking(rng)
    if kind < 0.75:
        return draw_apart(rng)
    scene = rng.choice(SCENES[quantity])
    if kind < 0.9:
        return join_parts([scene, rng.choice(FOLLOW_UPS)], rng)
    parts = [rng.choice(WANTS), scene if rng.random() < 0.7 else "{x}"]
    return join_parts(parts if rng.random() < 0.5 else [*parts, rng.choice(ENDINGS)], rng, turn=0.0)


def draw_wording(quantity: str, rng: random.Random) -> str:
    """A question as a template, composed from the tables: millions of wordings, none of them the homework's."""
    while True:
        parts = [draw_core(quantity, rng)]
        if rng.random() < 0.25:
            parts.insert(0, rng.choice(OPENERS).format(k=rng.randint(1, 20)))
        if rng.random() < 0.25:
            parts.insert(rng.choice([0, len(parts)]), draw_words(rng, rng.choice([7, 14])))
        if rng.random() < 0.1:
            parts.append(rng.choice(CLOSERS))
        if rng.random() < 0.7:
            parts = [part[0].upper() + part[1:] if rng.random() < 0.7 else part for part in parts]
        text = rng.choice([". ", ", ", ": ", "; ", " ", "\n"]).join(parts)
        while "{w}" in text:
            text = text.replace("{w}", " ".join(rng.choices(WORDS, k=rng.randint(1, 2))), 1)
        text = text if text.endswith("?") else text + rng.choice(["?", "?", ".", ""])
        if not is_of_homework(text):
            return text


# --- what a text must not state, and chains ---

Amount = tuple[float, Unit]


def states_novel(quantity: str, amounts: list[Amount]) -> bool:
    """Whether any two amounts of a text, in either order, are a fact of the novel slice, by design or by chance."""
    for (value, source), (shown, target) in itertools.permutations(amounts, 2):
        answer = value * source.factor / target.factor
        near = source is not target and abs(answer - shown) <= 0.007 * abs(shown)
        if near and slice_of(Fact(quantity, source, target, value)) == "novel":
            return True
    return False


def find_factor(source: Unit, target: Unit, quantity: str) -> str | None:
    """The factor as a chain states it, three digits; more where three, read backwards, would be a novel fact; else None."""
    for digits in (3, 4, 5):
        text = format_number(source.factor / target.factor, digits)
        if not states_novel(quantity, [(1.0, source), (float(text), target)]):
            return text
    return None


def multiply(value: float, factor: str, mark: str = "e", times: str = "*", last_first: bool = False) -> str:
    """A product by one partial product for each digit of the value, added one by one, four significant digits.

    Powers of ten only move the point, so nothing is split where one side has one digit. The digits are taken from left
    to right, or the last one first: with one order alone, all samples of a question would be the same chain.
    Example: (46, '0.305') -> '46 * 0.305 = 12.2 + 1.83 = 14.03', (6, '1000') -> '6 * 1000 = 6000',
    (4.72, '24') -> '4.72 * 24 = 96 + 16.8 + 0.48 = 112.8 + 0.48 = 113.3'
    """
    shown = f"{value:.10g}"
    short = float(f"{value:.4g}")  # five digits and more are rounded first
    sign, digits, exponent = Decimal(repr(short)).normalize().as_tuple()
    number = float(factor)
    steps = [] if short == value else [f"{short:.10g} {times} {factor}"]
    terms = [
        float(f"{float(Decimal((sign, (d,), exponent + len(digits) - 1 - i))) * number:.4g}")
        for i, d in enumerate(digits)
        if d
    ]
    terms = terms[::-1] if last_first else terms
    if len(Decimal(factor).normalize().as_tuple().digits) == 1:
        terms = [short * number]
    while terms:
        steps.append(" + ".join(format_number(term, 4, mark) for term in terms))
        terms = [float(f"{sum(terms[:2]):.4g}"), *terms[2:]] if len(terms) > 1 else []
    return " = ".join([f"{shown} {times} {factor}", *steps])


def draw_tag(rng: random.Random) -> str:
    """What stands between brackets: a word, or letters at random; never `answer`."""
    if rng.random() < 0.5:
        return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 6)))
    word = rng.choice([label for label in (rng.choice(LABELS), rng.choice(LABELS)) if label != "answer"] or ["x"])
    return rng.choice([word, word, word, word.capitalize(), word.upper(), f"{word}_{rng.choice(WORDS)}"])


def draw_format(rng: random.Random, chain: bool) -> Format:
    """How the answers of one document are written."""
    tag, other, wrapper = draw_tag(rng), draw_tag(rng), rng.choice(WRAPPERS)
    if "<" not in wrapper and rng.random() < 0.25:  # a token that is never copied as a tag is never copied as a tag
        tag = "answer"
    wrapper = wrapper.replace("{a}", tag).replace("{b}", other)
    mark = rng.choices(("e", "e+", "E"), weights=(70, 15, 15))[0]
    digits = 4 if chain and rng.random() < 0.75 else 3
    joint = rng.choice([". ", ". ", ". ", " ", ", so ", "; ", ".\n", " -> "])
    times = rng.choices(("*", "x", "×"), weights=(86, 7, 7))[0]
    return Format(chain, rng.choice(FACTORS), wrapper, digits, mark, joint, times)


def write_answer(fact: Fact, form: Format, rng: random.Random) -> tuple[str, list[Amount]] | None:
    """An answer in a format, with the amounts that it states; None where a chain may not be written."""
    source, target = spell_unit(fact.source, 1, rng), spell_unit(fact.target, 2, rng)
    if not form.chain:
        number = format_number(fact.answer, form.digits, form.exponent_mark)
        return form.wrapper.format(n=mark(number), t=target), [(float(number), fact.target)]
    factor = find_factor(fact.source, fact.target, fact.quantity)
    if factor is None:
        return None
    factor = format_number(float(factor), 5, form.exponent_mark)
    lead = form.factor.format(s=source, f=factor, t=target)
    product = multiply(fact.value, factor, form.exponent_mark, form.times, rng.random() < LAST_FIRST)
    result = float(product.rsplit(" = ", 1)[1])
    number = format_number(result, form.digits, form.exponent_mark)
    chain = mark(f"{lead}. {product}")
    text = f"{chain}{form.joint}{form.wrapper.format(n=mark(number), t=target)}"
    return text, [(1.0, fact.source), (float(factor), fact.target), (result, fact.target), (float(number), fact.target)]


# --- the kinds of document ---


def make_statement(rng: random.Random) -> str:
    return fill(rng.choice(STATEMENTS), draw_text_fact(rng), rng)


def make_prose(rng: random.Random) -> str:
    """A question and its answer in plain words, now and then as a chat."""
    fact = draw_text_fact(rng)
    question = fill(draw_wording(fact.quantity, rng), fact, rng)
    question = question[0].upper() + question[1:] if rng.random() < 0.3 else question
    answer = fill(rng.choice(ANSWERS), fact, rng)
    if rng.random() < 0.08:
        return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}"
    if rng.random() < 0.15:
        return f"Question: {question}\nAnswer: {answer}"
    return f"{question}{rng.choice([' ', ' ', chr(10)])}{answer}"


def make_markup(rng: random.Random) -> str:
    """A number in tags other than the homework's, so that `<`, `</` and `>` have trained embeddings."""
    fact, tag = draw_text_fact(rng), draw_tag(rng)
    lead = "{x} in {t}:" if rng.random() < 0.25 else draw_wording(fact.quantity, rng)
    return fill(f"{lead} <{tag}>{rng.choice(['{n}', '{n}', '{n}', '{y}'])}{mark(f'</{tag}>')}", fact, rng)


def draw_item(rng: random.Random, form: Format, pair: Fact | None, cue: bool) -> tuple[str, str, str, list[Amount]]:
    """Quantity, question, answer and amounts of one item of a sheet; about the units of `pair` if there is one."""
    while True:
        fact = draw_text_fact(rng)
        if pair:
            fact = pair._replace(value=fact.value)
        written = write_answer(fact, form, rng) if may_stand(fact, form.digits) else None
        if written is None:
            continue
        template = rng.choice(CUES) if cue else draw_wording(fact.quantity, rng)
        amounts = [(fact.value, fact.source), *written[1]]
        if not states_novel(fact.quantity, amounts):
            return fact.quantity, fill(template, fact, rng), written[0], amounts


def draw_items(rng: random.Random, form: Format, count: int) -> list[tuple[str, str]]:
    """`count` questions with their answers, which together state no novel fact either."""
    pair = draw_text_fact(rng) if rng.random() < 0.12 else None
    if pair and find_factor(pair.source, pair.target, pair.quantity) is None:
        pair = None  # no chain about it may stand
    cue = rng.random() < 0.35
    items: list[tuple[str, str]] = []
    stated: dict[str, list[Amount]] = {quantity: [] for quantity in QUANTITIES}
    while len(items) < count:
        quantity, question, answer, amounts = draw_item(rng, form, pair, cue)
        if not states_novel(quantity, stated[quantity] + amounts):
            stated[quantity] += amounts
            items.append(
                (question, mark(answer) if items else answer)
            )  # the first shows the format, the others follow it
    return items


def make_sheet(rng: random.Random) -> str:
    """Two to four items in one format: plain, with labels, or as a chat whose turns each end in EOS."""
    form = draw_format(rng, chain=rng.random() < 0.4)
    items = draw_items(rng, form, rng.randint(2, 3) if form.chain else rng.randint(2, 4))
    if rng.random() < 0.5:
        return write_chat(rng, items)
    ask, reply = rng.choice(SPEAKERS)
    between, after = rng.choice(["\n", "\n", " ", " -> "]), rng.choice(["\n", "\n\n"])
    return after.join(f"{ask}{question}{between}{reply}{answer}" for question, answer in items)


def write_chat(rng: random.Random, items: list[tuple[str, str]]) -> str:
    """A chat by the template of the tokenizer, half of them behind a system turn of words at random."""
    turns = [f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}" for question, answer in items]
    end = mark("<|im_end|>") + "\n"
    if rng.random() < 0.5:
        system = rng.choice([". ", " ", ", "]).join(draw_words(rng, 12) for _ in range(rng.choice([1, 1, 1, 2, 3])))
        turns.insert(0, f"<|im_start|>system\n{system}{rng.choice(['', '.'])}")
    return end.join(turns)


def make_chain(rng: random.Random) -> str:
    """One conversion by its factor.  Example: '46 ft in m: 1 ft is 0.305 m. 46 * 0.305 = 12.2 + 1.83 = 14.03.'"""
    form = draw_format(rng, chain=True)
    _, question, answer, _ = draw_item(rng, form, None, cue=rng.random() < 0.5)
    if rng.random() < 0.3:
        return write_chat(rng, [(question, answer)])
    return f"{question}{rng.choice([': ', chr(10), ' '])}{answer}"


def make_arithmetic(rng: random.Random) -> str:
    """One to four lines of one kind: products with one digit, wide products, sums as in chains, quotients."""
    kind, exponent = rng.random(), rng.choices(("e", "e+", "E"), weights=(70, 15, 15))[0]
    lines = []
    for _ in range(rng.randint(1, 4)):
        value, fact = draw_wide_value(rng), draw_fact(rng)
        exact = (
            fact._replace(value=1.0).answer
            if rng.random() < 0.6
            else rng.randint(100, 999) * 10.0 ** rng.randint(-7, 5)
        )
        factor = format_number(exact, 3, exponent)
        if kind < 0.27:
            digit = rng.randint(2, 9) * 10.0 ** rng.randint(-3, 3)
            lines.append(f"{digit:.10g} * {factor} = {format_number(digit * float(factor), 4, exponent)}")
        elif kind < 0.62:
            lines.append(f"{value:.10g} * {factor} = {format_number(value * float(factor), 3, exponent)}")
        elif kind < 0.78:
            lines.append(multiply(value, factor, exponent))
        elif kind < 0.87:
            lines.append(f"{value:.10g} / {factor} = {format_number(value / float(factor), 3, exponent)}")
        else:
            first, second = (float(f"{10 ** rng.uniform(-1, 3):.4g}") for _ in range(2))
            second *= 10.0 ** rng.randint(-2, 0)
            terms = [float(f"{first:.4g}"), float(f"{second:.4g}")]
            lines.append(
                f"{format_number(terms[0], 4)} + {format_number(terms[1], 4)} = {format_number(sum(terms), 4)}"
            )
    return "\n".join(f"{left} = {mark(right)}" for left, right in (line.split(" = ", 1) for line in lines))


def draw_piece(rng: random.Random) -> str:
    """A word, letters, a number, a tag or punctuation; `answer` among them, since a token never copied is never copied."""
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(LABELS)
    if kind < 0.4:
        return "answer"
    if kind < 0.5:
        return "".join(rng.choices(string.ascii_letters, k=rng.randint(1, 6)))
    if kind < 0.7:
        return format_number(10 ** rng.uniform(-4, 7), rng.randint(1, 4))
    if kind < 0.85:
        tag = draw_tag(rng)
        return rng.choice([f"<{tag}>", f"</{tag}>", f"<{tag}>{rng.randint(0, 999)}</{tag}>"])
    return rng.choice([".", ",", ":", "?", "=", "(", ")", "[", "]", "/", "-", "*", "+", "<", ">", "->", "#", "\n"])


def make_repeat(rng: random.Random) -> str:
    """Pieces at random, then the same again, twice or three times."""
    while True:
        joint = rng.choice([" ", " ", " ", "", "\n"])
        line = joint.join(draw_piece(rng) for _ in range(rng.randint(3, 18)))
        between, copies = rng.choice([" ", "\n", "\n\n", ". "]), rng.randint(2, 3)
        if not ANSWER_TAG.search(between.join([line] * 2)):
            return between.join([line, *[mark(line)] * (copies - 1)])


def make_tags(rng: random.Random) -> str:
    """Short copies of a tag around other content each time."""
    tag = draw_tag(rng)
    lead = rng.random() < 0.6
    rows = []
    for _ in range(rng.randint(3, 6)):
        content = (
            format_number(10 ** rng.uniform(-3, 6), rng.randint(1, 4)) if rng.random() < 0.8 else rng.choice(WORDS)
        )
        rows.append(
            f"{draw_words(rng, 4)}{rng.choice([' ', ': '])}<{tag}>{content}</{tag}>"
            if lead
            else f"<{tag}>{content}</{tag}>"
        )
    return rng.choice([" ", "\n", ", "]).join(rows)


MAKERS = {
    "sheet": make_sheet,
    "chain": make_chain,
    "repeat": make_repeat,
    "prose": make_prose,
    "arithmetic": make_arithmetic,
    "tags": make_tags,
    "statement": make_statement,
    "markup": make_markup,
}
# Shares of documents; tests/repository/test_pretrain_text.py holds the shares of tokens that follow.
KINDS = {
    "sheet": 0.17, "chain": 0.11, "repeat": 0.10, "prose": 0.25, "arithmetic": 0.13, "tags": 0.06, "statement": 0.12, "markup": 0.06,
}  # fmt: skip


def marked_documents(rng: random.Random) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Documents without end, each with the spans of characters that are marked; the same state gives the same ones."""
    names, weights = tuple(KINDS), tuple(KINDS.values())
    while True:
        yield split_marks(MAKERS[rng.choices(names, weights=weights)[0]](rng))


def split_marks(marked: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without its marks, and the marked spans.  Example: '1 + 1 = <2>' with marks for <> -> ('1 + 1 = 2', [(8, 9)])"""
    text, spans, depth = "", [], 0
    for piece in re.split(f"([{KNOWN}{UNKNOWN}])", marked):
        if piece in (KNOWN, UNKNOWN):
            depth += 1 if piece == KNOWN else -1
            continue
        if depth and piece:
            spans.append((len(text), len(text) + len(piece)))
        text += piece
    return text, spans


def documents(rng: random.Random) -> Iterator[str]:
    """The same documents without marks."""
    return (text for text, _ in marked_documents(rng))


def main(*, count: int = 20, seed: int = 0) -> None:
    """Print some documents.

    Args:
        count: how many.
        seed: another seed prints others.
    """
    stream = documents(random.Random(seed))
    for _ in range(count):
        print(next(stream), end="\n---\n")


if __name__ == "__main__":
    run(main, "python -m tools.pretrain_text")
