"""The text that the bundled base model reads: prose that knows units, and never the homework's format.

Five kinds of document, drawn from ``grader/world.py`` (shares in `KINDS`): statements, questions answered in prose,
questions answered in markup, chains of conversion, and multiplication. What the text never holds is tested in
``tests/test_pretrain_text.py``: an ``<answer>`` tag, a phrasing of the homework, a fact of the `novel` slice.

    python -m tools.pretrain_text --count 20        # look at some documents
"""

import random
from collections.abc import Iterator

from grader.world import Fact, draw_fact, draw_value, format_number, slice_of, spell_unit
from homework.common.cli import run

# Shares of documents. A chain is twice as long as the others, so 0.07 of the documents is a tenth of the tokens.
KINDS = {"statement": 0.36, "prose": 0.29, "markup": 0.14, "chain": 0.07, "arithmetic": 0.14}

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
TAGS = (
    "value",
    "number",
    "result",
    "output",
    "amount",
    "b",
    "num",
    "solution",
    "final",
    "i",
    "td",
    "x",
    "total",
    "res",
)
NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()


def draw_wide_value(rng: random.Random) -> float:
    """A value from a wider spread than the homework's: spread values make a model compute, a few make it memorise."""
    kind = rng.random()
    if kind < 0.55:
        return draw_value(rng)
    if kind < 0.7:
        return float(rng.randint(2, 100))
    if kind < 0.8:
        return float(rng.randint(101, 999))
    if kind < 0.95:
        return rng.randint(1, 999) / rng.choice([10, 100])
    return float(rng.randint(1, 20) * rng.choice([50, 100, 500]))


def mirror(fact: Fact) -> Fact:
    """The same statement read backwards, as a text shows it.  Example: 7 ft in m -> 2.13 m in ft"""
    return Fact(fact.quantity, fact.target, fact.source, float(format_number(fact.answer)))


def may_stand(fact: Fact) -> bool:
    """Whether the text may state a fact: neither it nor its mirror is novel."""
    return "novel" not in (slice_of(fact), slice_of(mirror(fact)))


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


def fill(template: str, fact: Fact, rng: random.Random) -> str:
    """Fill {x}, {t}, {n} and {y} of a template, each unit spelled afresh."""
    source, target = spell_unit(fact.source, fact.value, rng), spell_unit(fact.target, fact.answer, rng)
    value, number = spell_value(fact.value, rng), format_number(fact.answer)
    glue = "" if source in fact.source.symbols and rng.random() < 0.15 else " "
    return template.format(x=f"{value}{glue}{source}", t=target, n=number, y=f"{number} {target}")


def draw_words(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(2, 7)))


def draw_wording(quantity: str, rng: random.Random) -> str:
    """A question as a template with {x} and {t}, composed from the tables: a few hundred thousand wordings."""
    if rng.random() < 0.55:
        parts = [rng.choice(ASKS)]
    else:
        scene = rng.choice(SCENES[quantity]).replace("{w}", " ".join(rng.choices(WORDS, k=rng.randint(1, 2))))
        parts = [scene, rng.choice(FOLLOW_UPS)]
    if rng.random() < 0.25:
        parts.insert(0, rng.choice(OPENERS).format(k=rng.randint(1, 20)))
    if rng.random() < 0.2:
        parts.insert(rng.choice([0, len(parts)]), draw_words(rng))
    if rng.random() < 0.1:
        parts.append(rng.choice(CLOSERS))
    if rng.random() < 0.7:
        parts = [part[0].upper() + part[1:] if rng.random() < 0.7 else part for part in parts]
    text = rng.choice([". ", ", ", ": ", "; ", " "]).join(parts)
    return text if text.endswith("?") else text + rng.choice(["?", "?", ".", ""])


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
    fact, tag = draw_text_fact(rng), rng.choice(TAGS)
    if rng.random() < 0.2:
        return fill(f"{{x}} {rng.choice(['is', '='])} <{tag}>{{y}}</{tag}>", fact, rng)
    lead = "{x} in {t}:" if rng.random() < 0.25 else draw_wording(fact.quantity, rng)
    return fill(f"{lead} <{tag}>{rng.choice(['{n}', '{n}', '{n}', '{y}'])}</{tag}>", fact, rng)


def make_chain(rng: random.Random) -> str:
    """A conversion by its factor.  Example: '6 kg in g: 1 kg is 1000 g, 6 * 1000 = 6000.'"""
    fact = draw_text_fact(rng)
    unit = fact._replace(value=1.0)
    factor = format_number(unit.answer)
    result = format_number(fact.value * float(factor))  # of the rounded factor, as the text computes it
    backwards = mirror(fact)._replace(value=float(result))
    if not may_stand(unit) or slice_of(backwards) == "novel":
        return make_chain(rng)
    source, target = spell_unit(fact.source, fact.value, rng), spell_unit(fact.target, 2, rng)
    value, end = f"{fact.value:.10g}", rng.choice([".", "", f" {target}."])
    return f"{value} {source} in {target}: 1 {source} is {factor} {target}, {value} * {factor} = {result}{end}"


def make_arithmetic(rng: random.Random) -> str:
    """A product or a quotient with a factor of the world, or with any three digits."""
    value, fact = draw_wide_value(rng), draw_fact(rng)
    factor = (
        fact._replace(value=1.0).answer if rng.random() < 0.6 else rng.randint(100, 999) * 10.0 ** rng.randint(-7, 5)
    )
    factor = float(format_number(factor))
    if rng.random() < 0.25:
        return f"{value:.10g} / {format_number(factor)} = {format_number(value / factor)}"
    return f"{value:.10g} * {format_number(factor)} = {format_number(value * factor)}"


def documents(rng: random.Random) -> Iterator[str]:
    """Documents without end; the same generator state gives the same ones."""
    makers = (make_statement, make_prose, make_markup, make_chain, make_arithmetic)
    while True:
        yield rng.choices(makers, weights=tuple(KINDS.values()))[0](rng)


def main(*, count: int = 20, seed: int = 0) -> None:
    """Print some documents.

    Args:
        count: how many.
        seed: another seed prints others.
    """
    stream = documents(random.Random(seed))
    for _ in range(count):
        print(next(stream))


if __name__ == "__main__":
    run(main, "python -m tools.pretrain_text")
