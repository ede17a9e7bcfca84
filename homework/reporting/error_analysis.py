"""Wrong answers grouped by quantity and by kind: what the model gets wrong, not only how often.

| kind                | the answer is                                                      |
|---------------------|--------------------------------------------------------------------|
| no answer           | NaN: no well-formed pair of tags                                   |
| inverse factor      | multiplied where it should be divided, or the other way round      |
| wrong power of ten  | right but for a factor of 10, 100, 0.1, ...                        |
| wrong digits        | anything else                                                      |
"""

import math
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache

from homework.data import Sample, is_answer_valid

KINDS = ("no answer", "inverse factor", "wrong power of ten", "wrong digits")
# How units are written, singular and plural; a test holds the table against grader/units.py.
UNITS = {
    "length": "mm, cm, m, km, in, ft, yd, yds, mi, millimetre, millimeter, centimetre, centimeter, metre, meter, "
    "kilometre, kilometer, inch, inches, foot, feet, yard, mile",
    "mass": "mg, g, kg, lb, lbs, oz, milligram, gram, gramme, kilogram, kilo, kilogramme, tonne, ton, metric ton, "
    "pound, ounce",
    "time": "s, sec, secs, min, mins, h, hr, hrs, wk, wks, yr, yrs, second, minute, hour, day, week, month, year, "
    "decade, century, centuries",
    "volume": "ml, mL, cc, cm^3, l, L, m^3, mm^3, fl oz, pt, qt, gal, millilitre, milliliter, litre, liter, cubic "
    "centimetre, cubic centimeter, cubic metre, cubic meter, cubic millimetre, cubic millimeter, fluid "
    "ounce, cup, pint, quart, gallon",
    "speed": "m/s, km/h, kmh, kph, km/hr, mph, mi/h, ft/s, in/s, metre per second, metres per second, meter per "
    "second, meters per second, kilometre per hour, kilometres per hour, kilometer per hour, kilometers "
    "per hour, mile per hour, miles per hour, foot per second, feet per second, inch per second, inches "
    "per second",
    "storage": "B, kB, KB, MB, M, GB, G, TB, T, bit, byte, kilobyte, megabyte, gigabyte, terabyte",
}
NUMBER = r"(?<![\w^.])(\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?)"


@cache
def make_patterns() -> tuple[re.Pattern[str], re.Pattern[str], dict[str, str]]:
    """Patterns for `number unit` and for a unit, and the quantity of each; the longest name wins ('m/s' before 'm').

    An `in` before another unit is no inch: '6 in kg'.
    """
    quantities = {unit: quantity for quantity, names in UNITS.items() for unit in names.split(", ")}
    names = "|".join(re.escape(unit) for unit in sorted(quantities, key=len, reverse=True))
    unit = rf"({names})(?:s|es)?(?![\w/^])"
    amount = rf"{NUMBER} ?(?!in (?:{names})(?:s|es)?(?![\w/^])){unit}"
    return re.compile(amount), re.compile(rf"(?<![\w/^']){unit}"), quantities


def read_question(question: str) -> tuple[str, float]:
    """The quantity of a question and the value that it converts; ('other', nan) where there is no number or no unit.

    Questions about anything else than units are 'other', too.

    Where no unit follows a number, the first number counts, and the quantity that most units of the question are of.
    Example: 'How many g are in 6 kg?' -> ('mass', 6.0), 'kg to g: 6' -> ('mass', 6.0)
    """
    amount, unit, quantities = make_patterns()
    if found := amount.search(question):
        return quantities[found[2]], read_number(found[1])
    votes = Counter(quantities[name] for name in unit.findall(question) if name != "in")
    number = re.search(NUMBER, question)
    return (votes.most_common(1)[0][0], read_number(number[1])) if votes and number else ("other", math.nan)


def read_number(text: str) -> float:
    """Example: '1,500' -> 1500.0"""
    return float(text.replace(",", ""))


def kind_of(sample: Sample, value: float) -> str:
    """The kind of a wrong answer; `value` is the number that the question converts.

    Example, 6 kg in g: nan 'no answer', 0.006 'inverse factor', 600 'wrong power of ten', 6500 'wrong digits'
    """
    if math.isnan(sample.answer):
        return "no answer"
    # correct = value * factor, so the inverse is value / factor = value * value / correct
    if sample.correct_answer and is_answer_valid(sample.answer, value * value / sample.correct_answer):
        return "inverse factor"
    ratio = sample.answer / sample.correct_answer if sample.correct_answer else 0.0
    if 0 < ratio < math.inf and is_answer_valid(ratio, 10.0 ** round(math.log10(ratio))):
        return "wrong power of ten"
    return "wrong digits"


def count_mistakes(samples: Iterable[Sample]) -> dict[str, Counter]:
    """For each quantity, how many were `asked`, and how many went wrong in which way."""
    counts: dict[str, Counter] = {}
    for sample in samples:
        quantity, value = read_question(sample.question)
        count = counts.setdefault(quantity, Counter())
        count["asked"] += 1
        if not sample.is_correct:
            count[kind_of(sample, value)] += 1
    return counts


def format_mistakes(counts: dict[str, Counter]) -> str:
    """The counts as a table of text, the quantity with the largest share of mistakes first."""
    lines = ["  quantity    asked  wrong   of these: no answer  inverse   power of ten  digits"]
    wrong = {quantity: sum(count[kind] for kind in KINDS) for quantity, count in counts.items()}
    for quantity in sorted(counts, key=lambda name: -wrong[name] / counts[name]["asked"]):
        count = counts[quantity]
        cells = "".join(f"{count[kind]:>{width}}" for kind, width in zip(KINDS, (21, 9, 15, 8), strict=True))
        lines.append(f"  {quantity:<10}{count['asked']:>7}{wrong[quantity]:>7}{cells}")
    return "\n".join(lines)
