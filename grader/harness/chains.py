"""Chains of equations for a fact, right ones and ones with a fault: what a scripted model samples.

They are about facts that are drawn anew for each submission, in the shape that the base model writes. The factors of
the right ones are drawn too, as a model rounds: who computes a chain that nobody sampled finds another one.
"""

import math
import random

from grader.units import Fact, format_number

CUT = "no end: it was cut"
OFF = 1.013  # times what is right, or its part: where two numbers may differ by one percent or by half of it
LEAST_OFF, MOST_OFF = 0.001, 0.008  # of a factor: its answer is within 1 %, and never that of the exact factor
WORDS = ("So", "Then", "Thus", "Hence", "That gives", "In all")  # before a product


def write(number: float, digits: int = 4) -> str:
    """A number as the base model writes it: a rule that reads no other way is right.  Example: 1.9e10 -> '1.9e10'"""
    return format_number(number, digits)


def chain(fact: Fact, answer: float) -> str:
    """One product from the value of a fact to an answer, with four digits.

    Example: 46 ft in m, 14.02 -> '1 foot is 0.3048 meter. 46 * 0.3048 = 14.02. <answer>14.02</answer>'
    """
    return f"1 {fact.source.name} is {write(answer / fact.value)} {fact.target.name}. {product(fact, answer)}"


def product(fact: Fact, answer: float) -> str:
    """The product and the tag of a chain."""
    return f"{write(fact.value, 10)} * {write(answer / fact.value)} = {write(answer)}. <answer>{write(answer)}</answer>"


def partial(fact: Fact, answer: float, total: float = 0.0) -> str:
    """The same chain by two products, that of the factor's first digit and the rest.

    Example: 46 ft in m, 14.03 -> '1 foot is 0.305 meter. 46 * 0.305 = 13.8 + 0.23 = 14.03. <answer>14.03</answer>'

    Args:
        fact: that was asked.
        answer: in the tag, and as the last side.
        total: of the two products, if it is another one.
    """
    first = fact.value * leading(0.999 * answer / fact.value)
    return chain(fact, answer).replace(" = ", f" = {write(first)} + {write((total or answer) - first)} = ", 1)


def with_wrong_product(fact: Fact, answer: float) -> str:
    """The same chain by another factor in its first product alone; its parts and their sum are those of the right one.

    Example: 46 ft in m, 14.03 -> '1 foot is 0.305 meter. 46 * 0.309 = 13.8 + 0.23 = 14.03. <answer>14.03</answer>'
    """
    factor = answer / fact.value
    return partial(fact, answer).replace(f" * {write(factor)} = ", f" * {write(OFF * factor)} = ", 1)


def leading(number: float) -> float:
    """The first digit of a positive number, and noughts.  Example: 0.305 -> 0.3"""
    unit = 10.0 ** math.floor(math.log10(number))
    return math.floor(number / unit) * unit


def right_texts(fact: Fact, rng: random.Random) -> list[str]:
    """Two different right chains to one answer, and the first one again in other words."""
    answer = rounded_answer(fact, rng)
    again = chain(fact, answer).replace(product(fact, answer), f"{rng.choice(WORDS)} {product(fact, answer)}")
    return [chain(fact, answer), partial(fact, answer), again]


def rounded_answer(fact: Fact, rng: random.Random) -> float:
    """An answer within 1 %, as a rounded factor makes it: the one of a right text, and of most wrong ones."""
    return fact.answer * (1 + rng.choice((-1, 1)) * rng.uniform(LEAST_OFF, MOST_OFF))


def wrong_texts(fact: Fact, other: Fact, right: str, rng: random.Random) -> dict[str, str]:
    """A text for each fault, by the words that name it; what its answer is tells none of them from a right one.

    Args:
        fact: that was asked.
        other: another one.
        right: a right text: what goes on after it, or is cut, began so.
        rng: draws the answer, and after how many right equations a wrong one stands.
    """
    answer = rounded_answer(fact, rng)
    written, _, bare = product(fact, answer).partition("<answer>")
    bare, amid = f"<answer>{bare}", f"= {write(answer / OFF)} = {write(answer)}"
    wrong = written.replace(f"= {write(answer)}", f"= {write(OFF * answer)}")
    elsewhere = other.answer if abs(other.answer - answer) > 0.1 * answer else 2 * other.answer
    return {
        "an answer that is wrong": chain(fact, 1.4 * answer),
        "an answer that is 1 to 2 % too high, which a wrong factor makes": chain(fact, OFF * fact.answer),
        "an answer that is 1 to 2 % too low, which a wrong factor makes": chain(fact, fact.answer / OFF),
        "a wrong equation": f"{wrong}{written}{bare}",
        "a wrong equation behind a right one": f"{written * rng.randint(1, 4)}{wrong}{written}{bare}",
        "a wrong side amid an equation": written.replace(f"= {write(answer)}", amid) + bare,
        "a wrong product before a right sum": with_wrong_product(fact, answer),
        "a wrong sum": partial(fact, answer, OFF * answer),
        "another result in the tag than in its chain": product(fact, answer / OFF).partition("<answer>")[0] + bare,
        "no equation before the answer": bare,
        CUT: right.removesuffix("</answer>"),
        "two answers": f"{right} {bare}",
        "text after the answer": f"{right} That is all.",
        "the chain of another question": chain(other, elsewhere),
    }
