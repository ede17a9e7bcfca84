"""Chains of equations for a fact, right ones and ones with a fault: what a scripted model samples.

They are about facts that are drawn anew for each submission, in the shape that the base model writes.
"""

from grader.world import Fact, format_number

CUT = "no end: it was cut"


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


def right_texts(fact: Fact) -> list[str]:
    """Two different right chains, and the first one again in other words."""
    answer, factor = fact.answer, fact.answer / fact.value
    half = f"{write(2 * fact.value, 10)} * {write(factor / 2)} = {write(answer)}. <answer>{write(answer)}</answer>"
    return [chain(fact, answer), half, f"So {product(fact, answer)}"]


def wrong_texts(fact: Fact, other: Fact) -> dict[str, str]:
    """A text for each fault, by the words that name it.

    Args:
        fact: that was asked.
        other: another one.
    """
    answer = fact.answer
    right, wrong = chain(fact, answer), product(fact, answer).replace(f"= {write(answer)}", f"= {write(1.3 * answer)}")
    elsewhere = other.answer if abs(other.answer - answer) > 0.1 * answer else 2 * other.answer
    bare = f"<answer>{write(answer)}</answer>"
    return {
        "an answer that is wrong": chain(fact, 1.4 * answer),
        "an answer that is wrong by 3 %, which a wrong factor makes": chain(fact, 1.03 * answer),
        "a wrong equation": f"{wrong.partition(' <')[0]} {product(fact, answer)}",
        "another result in the tag than in its chain": product(fact, 0.9 * answer).partition("<answer>")[0] + bare,
        "no equation before the answer": bare,
        CUT: right[: right.index("<answer>") + 9],
        "two answers": f"{right} {bare}",
        "text after the answer": f"{right} That is all.",
        "the chain of another question": chain(other, elsewhere),
    }
