"""The units: quantities, their units and factors, phrasings of a question, and which facts are held out.

Plain tables and pure functions that import nothing of ours, so that the grader can draw questions from them and
``tools/`` can make data and pre-training text with them. Students never need this module.

    python -m tools.make_data        # writes data/train.json and data/valid.json from here

What a name means here, where people differ (``tests/grader/test_units.py`` holds every factor against pint):

| name                   | here         | why, and what else it could mean                                       |
|------------------------|--------------|------------------------------------------------------------------------|
| ton, tonne             | 1000 kg      | the metric ton; the US short ton (pint's own ``ton``) is 907 kg        |
| kB, KB, MB, GB, TB     | powers of 10 | SI prefixes; the binary ones are written KiB, MiB, ...                 |
| B, M, G, T of storage  | byte, MB, GB | as phones and download pages write them; B is never the bel, M the     |
|                        | and TB       | molar, G the gauss or T the tesla: the quantity is storage             |
| cup, pint, quart,      | US customary | the imperial pint is a fifth larger                                    |
| gallon, fluid ounce    |              |                                                                        |
| ounce, pound           | avoirdupois  | the everyday ones; the troy ounce of gold is a tenth heavier           |
| month, year            | mean ones    | a year is 365.25 days and a month a twelfth of it                      |
| decade                 | ten years    | pint's own ``decade`` is a logarithmic unit                            |
| m                      | metre        | minutes are written min                                                |
"""

import hashlib
import math
import random
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

SLICE_SHARES = {"train": 60, "valid": 15, "hidden": 15, "novel": 10}  # per cent of all facts


class Unit(NamedTuple):
    """A unit, its size in the quantity's base unit, and every way in which a question may write it."""

    name: str  # canonical: what the hash sees, so that ml, cc and cm^3 are one unit
    factor: float
    words: tuple[str, ...]  # "singular/plural", or one form for both
    symbols: tuple[str, ...] = ()


class Fact(NamedTuple):
    """One point of the universe: `value` of `source` expressed in `target`."""

    quantity: str
    source: Unit
    target: Unit
    value: float

    @property
    def answer(self) -> float:
        """The exact answer.  Example: 6 kg in g -> 6000.0"""
        return self.value * self.source.factor / self.target.factor

    @property
    def key(self) -> str:
        """The canonical text of the fact.  Example: 'mass:kilogram>gram:6'"""
        return f"{self.quantity}:{self.source.name}>{self.target.name}:{self.value:.10g}"


class Question(NamedTuple):
    """A fact in somebody's words."""

    text: str
    fact: Fact


QUANTITIES: dict[str, tuple[Unit, ...]] = {
    "length": (  # base: metre
        Unit("millimetre", 1e-3, ("millimetre/millimetres", "millimeter/millimeters"), ("mm",)),
        Unit("centimetre", 1e-2, ("centimetre/centimetres", "centimeter/centimeters"), ("cm",)),
        Unit("metre", 1.0, ("metre/metres", "meter/meters"), ("m",)),
        Unit("kilometre", 1e3, ("kilometre/kilometres", "kilometer/kilometers"), ("km",)),
        Unit("inch", 0.0254, ("inch/inches",), ("in",)),
        Unit("foot", 0.3048, ("foot/feet",), ("ft",)),
        Unit("yard", 0.9144, ("yard/yards",), ("yd", "yds")),
        Unit("mile", 1609.344, ("mile/miles",), ("mi",)),
    ),
    "mass": (  # base: kilogram
        Unit("milligram", 1e-6, ("milligram/milligrams",), ("mg",)),
        Unit("gram", 1e-3, ("gram/grams", "gramme/grammes"), ("g",)),
        Unit("kilogram", 1.0, ("kilogram/kilograms", "kilo/kilos", "kilogramme/kilogrammes"), ("kg",)),
        Unit("tonne", 1e3, ("tonne/tonnes", "ton/tons", "metric ton/metric tons")),
        Unit("pound", 0.45359237, ("pound/pounds",), ("lb", "lbs")),
        Unit("ounce", 0.028349523125, ("ounce/ounces",), ("oz",)),
    ),
    "time": (  # base: second
        Unit("second", 1.0, ("second/seconds",), ("s", "sec", "secs")),
        Unit("minute", 60.0, ("minute/minutes",), ("min", "mins")),
        Unit("hour", 3600.0, ("hour/hours",), ("h", "hr", "hrs")),
        Unit("day", 86400.0, ("day/days",)),
        Unit("week", 604800.0, ("week/weeks",), ("wk", "wks")),
        Unit("month", 365.25 * 86400 / 12, ("month/months",)),
        Unit("year", 365.25 * 86400, ("year/years",), ("yr", "yrs")),
        Unit("decade", 3652.5 * 86400, ("decade/decades",)),
        Unit("century", 36525.0 * 86400, ("century/centuries",)),
    ),
    "volume": (  # base: litre; US gallon = 231 cubic inches
        Unit("millilitre", 1e-3, ("millilitre/millilitres", "milliliter/milliliters", "cubic centimetre/cubic centimetres",
                                  "cubic centimeter/cubic centimeters"), ("ml", "mL", "cc", "cm^3")),
        Unit("litre", 1.0, ("litre/litres", "liter/liters"), ("l", "L")),
        Unit("cubic metre", 1e3, ("cubic metre/cubic metres", "cubic meter/cubic meters"), ("m^3",)),
        Unit("cubic millimetre", 1e-6, ("cubic millimetre/cubic millimetres", "cubic millimeter/cubic millimeters"),
             ("mm^3",)),
        Unit("fluid ounce", 3.785411784 / 128, ("fluid ounce/fluid ounces",), ("fl oz",)),
        Unit("cup", 3.785411784 / 16, ("cup/cups",)),
        Unit("pint", 3.785411784 / 8, ("pint/pints",), ("pt",)),
        Unit("quart", 3.785411784 / 4, ("quart/quarts",), ("qt",)),
        Unit("gallon", 3.785411784, ("gallon/gallons",), ("gal",)),
    ),
    "speed": (  # base: metre per second
        Unit("metre per second", 1.0, ("metre per second/metres per second", "meter per second/meters per second"),
             ("m/s",)),
        Unit("kilometre per hour", 1 / 3.6, ("kilometre per hour/kilometres per hour",
                                             "kilometer per hour/kilometers per hour"), ("km/h", "kmh", "kph", "km/hr")),
        Unit("mile per hour", 0.44704, ("mile per hour/miles per hour",), ("mph", "mi/h")),
        Unit("foot per second", 0.3048, ("foot per second/feet per second",), ("ft/s",)),
        Unit("inch per second", 0.0254, ("inch per second/inches per second",), ("in/s",)),
    ),
    "storage": (  # base: byte
        Unit("bit", 0.125, ("bit/bits",)),
        Unit("byte", 1.0, ("byte/bytes",), ("B",)),
        Unit("kilobyte", 1e3, ("kilobyte/kilobytes",), ("kB", "KB")),
        Unit("megabyte", 1e6, ("megabyte/megabytes",), ("MB", "M")),
        Unit("gigabyte", 1e9, ("gigabyte/gigabytes",), ("GB", "G")),
        Unit("terabyte", 1e12, ("terabyte/terabytes",), ("TB", "T")),
    ),
}  # fmt: skip

# {x} is the value with its unit ("6 kg"), {t} the unit that is asked for ("grams"). Where value and unit stand apart,
# {v} is the value ("6") and {s} its unit ("kg").
# "any" fits every quantity; the others are little scenes of one quantity.
PHRASINGS: dict[str, tuple[str, ...]] = {
    "any": (
        "How many {t} are there per {x}?", "How many {t} are in {x}?", "How many {t} is {x}?", "How many {t} in {x}?",
        "How many {t} does {x} equal?", "How many {t} do I get from {x}?", "How many {t} go into {x}?",
        "How much is {x} in {t}?", "How much would {x} be in {t}?", "How do I write {x} in {t}?",
        "What is {x} in {t}?", "What's {x} in {t}?", "what is {x} expressed in {t}", "What does {x} come to in {t}?",
        "What is the value of {x} in {t}?", "What is the measurement of {x} when converted into {t}?",
        "What is the equivalent of {x} in {t}?", "What number of {t} corresponds to {x}?",
        "What quantity of {t} is the same as {x}?", "What do you get when you convert {x} to {t}?",
        "Convert {x} to {t}.", "Convert {x} into {t}, please.", "convert {x} to {t}", "Please convert {x} to {t}.",
        "Can you convert {x} to {t}?", "Could you turn {x} into {t} for me?", "Change {x} to {t}.", "Express {x} in {t}.",
        "Express {x} as a quantity of {t}.", "Give {x} in {t}.", "Give me the number of {t} in {x}.",
        "Tell me how many {t} there are in {x}.", "Tell me what {x} is in {t}.", "Calculate {x} in {t}.",
        "Work out how many {t} equal {x}.", "Find the number of {t} equal to {x}.", "Rewrite {x} using {t}.",
        "State {x} in {t}.", "Kindly give {x} in {t}.", "{x} to {t} if you can", "Need {x} in {t}", "{x} is how many {t}?",
        "{x} equals how many {t}?", "{x} makes up how many {t}?", "{x} corresponds to how many {t}?", "If you have {x}, how many {t} do you have?",
        "If something measures {x}, what does it measure in {t}?", "I have {x}. How many {t} is that?",
        "I need {x} in {t}.", "I would like to know how many {t} {x} makes.", "We were told {x}; what is that in {t}?",
        "The label says {x}. What is this in {t}?", "In {t}, how much is {x}?", "In {t}, what is {x}?",
        "Expressed in {t}, what is {x}?", "Do you know how many {t} make up {x}?", "A quick one: {x} in {t}?",
        "My form has a field in {t}, and I have {x}. What goes there?", "They gave me {x}; in {t} that would be what?",
        "The answer has to be in {t}: {x}.", "I only understand {t}. How much is {x}?", "What number in {t} stands for {x}?",
        "Our old book says {x}, the new one uses {t}. Which number is in the new one?", "Fill in: {x} is ___ {t}.",
        "{t} are what I need. I was given {x}.", "Is there a way to say {x} in {t}?", "Could someone tell me {x} in {t}",
        "The sign reads {x}, and a tourist asks for {t}. What do you answer?", "Compare: {x}, and how many {t}?",
        "How many {t} if the number is {v} and the unit is {s}?", "Convert from {s} to {t}: {v}", "Convert {s} to {t}: {v}.",
        "{s} to {t}, the value is {v}", "From {s} into {t}: {v}?", "Change the unit from {s} to {t} for the value {v}.",
        "The value is {v}. Its unit is {s}. What is it in {t}?", "I have the number {v} in {s}. What number is it in {t}?",
        "{v} is a value in {s}; give it in {t}.", "A value in {s} is {v}. What is the value in {t}?",
        "In {s} it says {v}. How many {t} is that?", "If the amount in {s} is {v}, what is the amount in {t}?",
        "Which number of {t} do you get for {v} when you start from {s}?", "Unit conversion, {s} to {t}. Value: {v}.",
        "Value: {v}. Unit: {s}. New unit: {t}.", "I counted in {s} and got {v}. What would I get in {t}?",
        "Our gauge is in {s}, theirs in {t}. Ours shows {v}; what does theirs show?", "{v} (unit: {s}) in {t}?",
        "What is the number {v}, counted in {s}, when counted in {t}?", "How do I go from {s} to {t} with {v}?",
        "With {v} as the number of {s}, what is the number of {t}?", "I know the {s}: {v}. I want the {t}.",
        "There are {v} units of {s}. How many units of {t} are there?", "{v} units of {s} make how many units of {t}?",
        "Please fill the column {t}; the column {s} holds {v}.", "Table: {s} {v}, {t} ?",
        "The {s} field reads {v}; the {t} field is empty. What goes there?", "{s} = {v}, so {t} = what?",
        "My instrument gives {v} but in {s}, not in {t}. Correct it.", "For {v}, go from {s} to {t}.",
        "Given in {s}: {v}. Asked in {t}: ?", "It is {v} when you use {s}. What is it when you use {t}?",
        "Say the figure is {v} and it is in {s}. What is the figure in {t}?", "How would {v} in {s} look in {t}?",
        "Take {v} as {s} and report it as {t}.", "she wrote {v} under {s}, what comes under {t}",
    ),
    "length": ("How long is {x} in {t}?", "A board is {x} long. What is its length in {t}?", "My street is {x} long. Give that in {t}.",
               "We want to know in {t} how far it is, the map says {x}."),
    "mass": ("How heavy is {x} in {t}?", "A parcel weighs {x}. What is its weight in {t}?", "The dog weighs {x}; how many {t} is that?",
             "On the scale it is {x}, the vet writes {t}: what does the vet write?"),
    "time": ("How long is {x} in {t}?", "The trip takes {x}. How many {t} is that?", "We waited for {x}. What is that in {t}?",
             "It has been {x} since we met, how many {t} are those?"),
    "volume": ("A recipe asks for {x} of milk. How many {t} is that?", "The bottle holds {x}. How much is it in {t}?",
               "I poured {x} into the pot, but the book counts {t}. What is that?"),
    "speed": ("How fast is {x} in {t}?", "A cyclist rides at {x}. What is the speed in {t}?",
              "The wind blows at {x}; my app shows {t}. What does it show?"),
    "storage": ("A file takes {x}. How many {t} is that?", "The disk stores {x}. Give its size in {t}.",
                "There are {x} free on my phone. Say it in {t}."),
}  # fmt: skip

# Now and then people are polite, before or after.
OPENERS = ("Hi, ", "Hello! ", "Quick question: ", "Please help me: ", "Sorry to ask: ", "For my homework: ", "Hmm, ")
CLOSERS = (" Thanks!", " thanks", " please", ", please", " Thank you.", " I'm curious.", " help")

# Met only in `valid`, `hidden` and `novel`: the wording is held out too.
HELD_OUT_PHRASINGS: dict[str, tuple[str, ...]] = {
    "any": (
        "How does {x} measure up in terms of {t}?", "What would {x} amount to in {t}?", "Translate {x} into {t}.",
        "By how many {t} can {x} be replaced?", "Given {x}, find the amount in {t}.", "Switch {x} over to {t}.",
        "I measured {x} but my form wants {t}. What do I enter?", "Show {x} as {t}.", "Rendered in {t}, {x} reads what?",
        "Counting in {t}, how many make {x}?", "My notes say {x}. My teacher wants {t}. What do I write?",
        "Which number of {t} equals {x}?", "Suppose {x} were given in {t}: which number would it be?",
        "Between us, {x} makes what in {t}?", "I was promised {x}. In {t}, what did they promise?",
        "Let {x} be known. Determine the value in {t}.", "One list has {x}, the other wants {t}; what belongs in it?",
        "Number: {v}; from: {s}; to: {t}.", "What becomes of {v} if I swap {s} for {t}?",
        "A chart in {s} shows {v}. Where would it stand on a chart in {t}?", "Moving from {s} to {t}, what happens to {v}?",
        "The dial counts {s} and stops at {v}. What would one for {t} show?", "{t} wanted, {s} given, and the number is {v}.",
        "Somebody noted {v} and forgot to say it was {s}; what is it in {t}?", "{v} of the unit {s}: state it in the unit {t}.",
        "My answer in {s} was {v}, but they ask for {t}. What is right?",
    ),
    "length": ("A fence stretches over {x}. How many {t} of fence is that?",),
    "mass": ("My suitcase is {x}. What would a scale in {t} show?",),
    "time": ("The film lasts {x}. How many {t} do we sit there?",),
    "volume": ("The tank takes {x} of water. How many {t} fit in?",),
    "speed": ("The train does {x}. What does a display in {t} read?",),
    "storage": ("My backup needs {x}. How many {t} of space is that?",),
}  # fmt: skip


def slice_of(fact: Fact) -> str:
    """The slice that owns a fact: 'train', 'valid', 'hidden' or 'novel', by a hash that never changes.

    A value of 1 is the definition of the factor itself. Whoever teaches conversion has to state it, so it can't be
    kept out of the pre-training text and is never `novel`.
    """
    point = int.from_bytes(hashlib.sha256(fact.key.encode()).digest()[:8], "big") % 100
    for name, share in SLICE_SHARES.items():
        if point < share:
            return "train" if name == "novel" and fact.value == 1 else name
        point -= share
    raise AssertionError("the shares do not add up to 100")


def format_number(number: float, digits: int = 3, exponent_mark: str = "e") -> str:
    """So many significant digits, plain where that is short.  Example: 6000.0 -> '6000', 2.1336 -> '2.13', 24e12 -> '2.4e13'"""
    rounded = Decimal(f"{number:.{digits - 1}e}").normalize()
    exponent = rounded.adjusted()
    if number == 0 or -5 < exponent < 6:
        return f"{rounded:f}"
    mark = exponent_mark.rstrip("+") if exponent < 0 else exponent_mark
    return f"{rounded.scaleb(-exponent).normalize():f}{mark}{exponent}"


def is_long(fact: Fact) -> bool:
    """Whether the value has three or four significant digits, 0.001 to 999,999: questions on which reasoning pays.

    A filter on questions, not a slice. Example: 0.305, 47.2 and 1,530 are long; 6, 47 and 123,000,000 are not.
    """
    digits = len(Decimal(f"{fact.value:.10g}").normalize().as_tuple().digits)
    return digits in (3, 4) and 0.001 <= fact.value <= 999_999


def draw_wide_value(rng: random.Random) -> float:
    """0.001 to 0.999 or 101 to 999,999, as often in each power of ten, with one to four significant digits."""
    low, high = rng.choice([(0.001, 0.999), (101.0, 999_999.0)])
    value = math.exp(rng.uniform(math.log(low), math.log(high)))
    return min(max(float(f"{value:.{rng.randint(1, 4)}g}"), low), high)


def draw_value(rng: random.Random) -> float:
    """As people ask: mostly integers 1 to 20, some to 100, some decimals; a quarter below 1 or above 100."""
    kind = rng.random()
    if kind < 0.25:
        return draw_wide_value(rng)
    if kind < 0.7:
        return float(rng.randint(1, 20))
    if kind < 0.85:
        return float(rng.randint(21, 100))
    return rng.choice([rng.randint(1, 99) / 10, rng.randint(1, 40) / 4, rng.randint(101, 999) / 10])


def draw_fact(rng: random.Random) -> Fact:
    """Any fact of the universe: a quantity, two different units of it, a value."""
    quantity = rng.choice(list(QUANTITIES))
    source, target = rng.sample(QUANTITIES[quantity], 2)
    return Fact(quantity, source, target, draw_value(rng))


def spell_unit(unit: Unit, value: float, rng: random.Random) -> str:
    """One of the unit's names, in the number that the value asks for (mostly: people are sloppy)."""
    if unit.symbols and rng.random() < 0.4:
        return rng.choice(unit.symbols)
    singular, _, plural = rng.choice(unit.words).partition("/")
    one = (value == 1) != (rng.random() < 0.15)
    return singular if one else plural or singular


def spell_value(value: float, rng: random.Random) -> str:
    """The digits, thousands with a comma now and then.  Example: 1500.0 -> '1500' or '1,500'"""
    return f"{value:,.10g}" if value >= 1000 and rng.random() < 0.4 else f"{value:.10g}"


def spell_amount(fact: Fact, rng: random.Random) -> dict[str, str]:
    """The value {v}, its unit {s}, and both together {x}.  Example: '6', 'kg', and '6 kg' or now and then '6kg'"""
    value, unit = spell_value(fact.value, rng), spell_unit(fact.source, fact.value, rng)
    glued = unit in fact.source.symbols and rng.random() < 0.1
    return {"v": value, "s": unit, "x": f"{value}{'' if glued else ' '}{unit}"}


def phrasings_for(quantity: str, held_out: bool) -> tuple[str, ...]:
    """The phrasings that fit a quantity, with those of `HELD_OUT_PHRASINGS` or without."""
    known = PHRASINGS["any"] + PHRASINGS[quantity]
    return known + HELD_OUT_PHRASINGS["any"] + HELD_OUT_PHRASINGS[quantity] if held_out else known


def ask(fact: Fact, rng: random.Random) -> Question:
    """Put a fact into words; wording that is held out is never used for a fact of the train slice."""
    phrasing = rng.choice(phrasings_for(fact.quantity, held_out=slice_of(fact) != "train"))
    opener = rng.choice(OPENERS) if rng.random() < 0.1 else ""
    closer = rng.choice(CLOSERS) if rng.random() < 0.1 else ""
    amount, target = spell_amount(fact, rng), spell_unit(fact.target, 2, rng)
    return Question(f"{opener}{phrasing.format(**amount, t=target)}{closer}", fact)


def draw_questions(
    slice_name: str, count: int, seed: int | str, accept: Callable[[Fact], bool] = lambda _: True
) -> list[Question]:
    """`count` questions of one slice about as many different facts: the same seed gives the same questions.

    Args:
        slice_name: of the slice.
        count: how many.
        seed: of the draw.
        accept: which facts are asked about; all, if left out.

    Raises:
        ValueError: for a slice that does not exist, or more questions than it has facts.
    """
    if slice_name not in SLICE_SHARES:
        raise ValueError(f"unknown slice {slice_name!r}: choose one of {', '.join(SLICE_SHARES)}")
    rng = random.Random(f"{slice_name}:{seed}")
    facts: dict[str, Fact] = {}
    for _ in range(1000 * (count + 1)):
        if len(facts) == count:
            break
        fact = draw_fact(rng)
        if slice_of(fact) == slice_name and accept(fact):
            facts.setdefault(fact.key, fact)
    if not 0 < len(facts) == count:
        raise ValueError(f"can't draw {count} questions of {slice_name}: found {len(facts)}")
    return [ask(fact, rng) for fact in facts.values()]
